"""Plain tables, without quotes and blanks around cells: split in bulk, numbers of whole columns read at once."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from typing import SupportsIndex, overload

import numpy as np

MOST_SEEN = 50_000
DELIMITERS = ",;\t|"
BLANKS = ' \t\v\f\x1c\x1d\x1e\x1f"'  # of ASCII; an end of a line is in a cell only where that is quoted


class PlainRows(Sequence[list[str]]):
    """Rows of stripped cells, kept as lines until someone goes through them: as lists of cells, a million of them take
    a gigabyte."""

    def __init__(self, lines: list[str], delimiter: str) -> None:
        self.lines = lines
        self.delimiter = delimiter
        self._rows: list[list[str]] | None = None

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, place: SupportsIndex) -> list[str]: ...
    @overload
    def __getitem__(self, place: slice) -> PlainRows: ...
    def __getitem__(self, place: SupportsIndex | slice) -> list[str] | PlainRows:
        if isinstance(place, slice):
            return PlainRows(self.lines[place], self.delimiter)
        return self.lines[place].split(self.delimiter) if self._rows is None else self._rows[place]

    def __iter__(self) -> Iterator[list[str]]:
        if self._rows is None:  # who wants the cells of one column here comes again for the next one
            once = Once()
            self._rows = [once(line.split(self.delimiter)) for line in self.lines]
        return iter(self._rows)

    def column(self, number: int) -> list[str]:
        if self._rows is not None:
            return [row[number] for row in self._rows]
        return [line.split(self.delimiter, number + 1)[number] for line in self.lines]

    def numbers(self, columns: list[int]) -> np.ndarray | None:
        """(N, len(columns)) float64, NaN where a cell is empty; None where one holds anything but a finite number with
        a decimal point."""
        end = self.delimiter
        empty, nan = 2 * end, f"{end}nan{end}"
        # Twice, because of two empty cells beside each other the second is not seen in the first turn.
        filled = (f"{end}{line}{end}".replace(empty, nan).replace(empty, nan)[1:-1] for line in self.lines)
        for lines in (self.lines, filled):
            try:
                numbers = np.loadtxt(lines, delimiter=end, comments=None, usecols=columns, ndmin=2)
            except ValueError:  # of an empty cell, or of what is no number
                continue
            odd = ~np.isfinite(numbers)
            for i in np.flatnonzero(odd.any(axis=1)).tolist():
                row = self[i]
                if any(row[column] for column in itertools.compress(columns, odd[i])):
                    return None
            return numbers
        return None


class Once:
    """Gives back the cells of row after row, of those that come again, as pixels and words do, always the first."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def __call__(self, cells: list[str]) -> list[str]:
        same = self._seen.setdefault if len(self._seen) < MOST_SEEN else self._seen.get
        return [same(cell, cell) for cell in cells]


def plain_rows(text: str, delimiter: str) -> tuple[PlainRows, list[int]] | None:
    """The rows of a table, its header first, and the line that each begins on; None where that takes more than to split
    it: quotes, blanks at the ends of cells, rows of unequal length or without a word."""
    odd = [letter for letter in BLANKS + "\0" if letter not in (" ", delimiter)]
    if not text.isascii():
        odd += [letter for letter in set(text) - {" ", "\n", delimiter} if letter.isspace()]
    if " " in text:
        odd += [f" {delimiter}", f"{delimiter} ", " \n", "\n "]
    body = text.strip("\n")
    if delimiter not in DELIMITERS or any(each in text for each in odd) or body != body.strip(" "):
        return None
    lines = body.split("\n")
    ends, longest = lines[0].count(delimiter), csv.field_size_limit()
    if any(line.count(delimiter) != ends or not ends < len(line) <= longest for line in lines):
        return None
    first = 1 + len(text) - len(text.lstrip("\n"))
    return PlainRows(lines, delimiter), list(range(first, first + len(lines)))
