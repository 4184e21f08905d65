"""The one exception for faults in the user's data, and the wording its messages share."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

MAX_LISTED = 5


class DataError(ValueError):
    """A fault in the user's data. The message says file, line, column, what was expected and what to do."""

    @classmethod
    def listing(cls, path: Path, faults: Sequence[str], advice: str) -> Self:
        """One message for all faults of a kind in one file: the first five, how many more, and what to do."""
        shown = "; ".join(faults[:MAX_LISTED])
        more = f"; and {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
        return cls(f"{path}: {shown}{more}. {advice}")


def did_you_mean(path: Path) -> str:
    """' (did you mean ...?)' when the folder of `path` holds a file with a name like it, else ''."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, 10_000)]  # difflib is slow in a huge folder
    except (OSError, ValueError):
        return ""
    return nearest(path.name, names)


def nearest(name: str, names: Sequence[str]) -> str:
    """' (did you mean ...?)' when one of `names` is like `name`, else ''."""
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def quoted(text: str) -> str:
    """The text of a cell as a message shows it: in quotes, cut at 40 characters."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def enumerated(names: Iterable[str]) -> str:
    """The first twelve names, and how many there are if there are more."""
    names = list(names)
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
