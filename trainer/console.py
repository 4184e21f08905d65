"""Where tables for people go: a terminal, or a file that has no width of its own."""

from __future__ import annotations

from rich.console import Console

FILE_WIDTH = 120  # letters


def console() -> Console:
    """Where the table goes, with units as they are written, `[m]` too. A file has no width of its own, and a table is
    cut at the 80 letters that rich assumes."""
    told = Console(markup=False, emoji=False)
    return told if told.is_terminal else Console(markup=False, emoji=False, width=max(FILE_WIDTH, told.width))
