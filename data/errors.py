"""The one exception for faults in the user's data, and the wording its messages share."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

MAX_LISTED = 5
MAX_SHOWN = 40  # letters of a name or a cell


class DataError(ValueError):
    """A fault in the user's data. The message says file, line, column, what was expected and what to do.

    It is one line, whatever is in the names and cells that it shows.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))

    @classmethod
    def listing(cls, path: Path, faults: Sequence[str], advice: str) -> Self:
        """One message for all faults of a kind in one file: the first five, how many more, and what to do."""
        shown = "; ".join(fault.rstrip(".") for fault in faults[:MAX_LISTED])
        more = f"; and {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
        end = "" if shown.endswith("?") and not more else "."
        return cls(f"{path}: {shown}{more}{end} {advice}")


def did_you_mean(path: Path) -> str:
    """' (did you mean ...?)' when the folder of `path` holds a file with a name like it, else ''."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, 10_000)]  # difflib is slow in a huge folder
    except (OSError, ValueError):
        return ""
    without_suffix = [name for name in names if os.path.splitext(name)[0].casefold() == path.name.casefold()]
    if without_suffix:
        return f" (did you mean {without_suffix[0]}?)"
    return nearest(path.name, names)


def nearest(name: str, names: Sequence[str]) -> str:
    """' (did you mean ...?)' when another one of `names` is like `name`, else ''."""
    names = [other for other in names if other != name]
    alike = [other for other in names if other.casefold() == name.casefold()]
    near = alike or difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def quoted(text: str) -> str:
    """The text of a cell as a message shows it: in quotes, cut at 40 characters."""
    return repr(cut(text))


def cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def enumerated(names: Iterable[str]) -> str:
    """The first twelve names, each cut at 40 characters, and how many there are if there are more."""
    names = list(names)
    return ", ".join(map(cut, names[:12])) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")


def one_line(message: str) -> str:
    """`message` with line ends as spaces, and what no terminal shows, or obeys, spelt out."""
    spaced = message.strip().replace("\r\n", " ").replace("\n", " ").replace("\r", " ")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in spaced)
