"""XML files as a tree that knows its lines; nothing in them is expanded or fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from data.cells import read_text
from data.errors import DataError

DECLARATION = re.compile(r"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str) -> list[Element]:
        return [child for child in self.children if child.tag == tag]

    def descend(self, tag: str) -> Iterator[Element]:
        """Every element of this name below this one, in the order of the file."""
        waiting = list(reversed(self.children))
        while waiting:
            element = waiting.pop()
            if element.tag == tag:
                yield element
            waiting.extend(reversed(element.children))

    def require(self, path: Path, name: str) -> str:
        """An attribute; raises DataError where it is missing."""
        if name not in self.attributes:
            raise DataError(f"{path}: line {self.line}: <{self.tag}> has no {name}. Export the file again.")
        return self.attributes[name]


def read_xml(path: Path) -> Element:
    """The root element; raises DataError for what is no XML, and for a document type, which may expand for ever."""
    text = read_text(path)
    if found := DECLARATION.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise DataError(
            f"{path}: line {line} declares a document type or an entity ({found[0]}), which files of annotations don't "
            "have and which may be an attack. Export the file again from its program."
        )
    top = Element("", {}, 0)
    stack = [top]

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def end(tag: str) -> None:
        stack.pop()

    def characters(data: str) -> None:
        stack[-1].text += data

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    try:
        parser.Parse(text.encode("utf-8", errors="surrogatepass"), True)
    except expat.ExpatError as error:
        said = expat.errors.messages[error.code] if error.code in expat.errors.messages else str(error)
        raise DataError(f"{path}: line {error.lineno} is not valid XML ({said}). Export the file again.") from None
    return top.children[0]
