"""Where tables for people go: a terminal, or a file that has no width of its own."""

from __future__ import annotations

from rich.console import Console

FILE_WIDTH = 120  # letters


def console(*, highlight: bool = True) -> Console:
    """Where the table goes, with units as they are written, `[m]` too. A file has no width of its own, and a table is
    cut at the 80 letters that rich assumes. `highlight`: colour numbers and paths."""
    told = Console(markup=False, emoji=False, highlight=highlight)
    if not told.is_terminal:
        told.width = max(FILE_WIDTH, told.width)
    return told
