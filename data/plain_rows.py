"""Plain tables, without quotes and blanks around cells: split in bulk, numbers of whole columns read at once."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from typing import SupportsIndex, overload

import numpy as np

DELIMITERS = ",;\t|"
BLANKS = ' \t\v\f\x1c\x1d\x1e\x1f"'  # of ASCII; an end of a line is in a cell only where that is quoted


class PlainRows(Sequence[list[str]]):
    """Rows of stripped cells, kept as lines: as lists of cells, a million of them take a gigabyte."""

    def __init__(self, lines: list[str], delimiter: str) -> None:
        self.lines = lines
        self.delimiter = delimiter

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, place: SupportsIndex) -> list[str]: ...
    @overload
    def __getitem__(self, place: slice) -> PlainRows: ...
    def __getitem__(self, place: SupportsIndex | slice) -> list[str] | PlainRows:
        if isinstance(place, slice):
            return PlainRows(self.lines[place], self.delimiter)
        return self.lines[place].split(self.delimiter)

    def __iter__(self) -> Iterator[list[str]]:
        return (line.split(self.delimiter) for line in self.lines)

    def column(self, number: int) -> list[str]:
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
