"""The commands and the Python of README.md and docs/*.md, read out of their code blocks."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What may stand before a command: a variable of the environment, a scheduler of jobs.
BEFORE = re.compile(r"^(?:(?:exec|srun|nohup|time|[A-Z_]+=\S+)\s+)+")


@dataclass(frozen=True)
class Documented:
    """A command as it is typed: `program` is a module such as trainer.predict, or a script."""

    line: str
    program: str
    arguments: tuple[str, ...]
    launcher: tuple[str, ...] = ()  # of torchrun, its options


def blocks(page: Path) -> list[str]:
    """The code blocks of a page, indented or fenced, in their order, with what indents them taken away."""
    found: list[list[str]] = []
    fence, within, blank_before = "", False, True
    for line in page.read_text(encoding="utf-8").splitlines():
        opened = re.match(r"^\s*(```+|~~~+)", line)
        if opened and not fence:
            fence, within = opened[1], False
            found.append([])
        elif fence:
            if line.strip() == fence:
                fence = ""
            else:
                found[-1].append(line)
        elif line.startswith("    ") and (within or blank_before):
            if not within:
                found.append([])
            within = True
            found[-1].append(line[4:])
        elif line.strip():
            within = False
        elif within:
            found[-1].append("")
        blank_before = not line.strip()
    return ["\n".join(block).strip("\n") for block in found]


def commands_in(block: str) -> list[Documented]:
    """Raises ValueError for a line that begins like a command of ours and can't be read as one."""
    if is_python(block):
        return []
    found = []
    for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
        for part in line.strip().split(" && "):
            command = _command(BEFORE.sub("", part.strip()))
            if command is not None:
                found.append(command)
    return found


def is_python(block: str) -> bool:
    """Whether it is Python that does something: a listing of names, or a word, does not."""
    try:
        tree = ast.parse(block)
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Call | ast.Import | ast.ImportFrom) for node in ast.walk(tree))


def _command(line: str) -> Documented | None:
    first = line.split(" ")[0] if line else ""
    if first not in ("python", "torchrun", "trainer", "python3") or line == "trainer":
        return None
    words = shlex.split(line, comments=True)
    if first == "trainer":
        return Documented(line, "trainer", tuple(words[1:]))
    if first == "torchrun":
        place = words.index("-m")
        return Documented(line, words[place + 1], tuple(words[place + 2 :]), tuple(words[1:place]))
    if len(words) > 2 and words[1] == "-m":
        return Documented(line, words[2], tuple(words[3:]))
    return Documented(line, words[1], tuple(words[2:]))
