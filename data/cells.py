"""Text files to cells, and columns of cells to numbers and words; every fault names file, line and column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data.errors import DataError, did_you_mean, quoted

MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "null", "none"})


class Cells(NamedTuple):
    """A table as text: N rows, each with one cell per column."""

    path: Path
    header: list[str]
    header_line: int
    rows: list[list[str]]
    lines: list[int]  # line in the file where each row begins, the first line is 1
    decimal_comma: bool

    def column(self, names: Iterable[str]) -> int | None:
        """The column with the first of these (lower case) names that the header has."""
        lowered = [name.lower() for name in self.header]
        return next((lowered.index(name) for name in names if name in lowered), None)

    def at(self, row: int, column: int) -> str:
        return f"line {self.lines[row]}, column {self.header[column]}"


def read_text(path: Path) -> str:
    """The UTF-8 text of a file, with or without a byte order mark, its line ends turned into newlines."""
    if path.is_dir():
        raise DataError(f"{path} is a folder, expected a file. Name the file inside it.")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: file not found{did_you_mean(path)}. Check the path.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line} is not UTF-8 text. Save the file as UTF-8 (CSV UTF-8 in Excel)."
        ) from None


def read_cells(path: Path) -> Cells:
    """A table separated by commas, semicolons or tabs; with the last two, numbers may have decimal commas."""
    text = read_text(path)
    first = next((line for line in text.split("\n") if line.strip()), "")
    if not first:
        raise DataError(f"{path} is empty, expected a header line and a row per image. Save the table again.")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    records: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for record in reader:
            stripped = [cell.strip() for cell in record]
            if any(stripped):  # spreadsheets leave rows of bare separators behind
                records.append(stripped)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}: line {start} is not valid CSV ({error}). Check its quotes.") from None
    if len(records) < 2:
        raise DataError(f"{path} has a header and no rows. Add a row per image.")
    cells = Cells(path, records[0], lines[0], records[1:], lines[1:], delimiter != ",")
    width = len(cells.header)
    faults = [
        f"line {line} has {len(row)} cells where the header has {width}"
        for row, line in zip(cells.rows, cells.lines, strict=True)
        if len(row) != width
    ]
    if faults:
        raise DataError.listing(path, faults, "Give every row one cell per column.")
    lowered = [name.lower() for name in cells.header if name]
    if repeated := [name for name in dict.fromkeys(lowered) if lowered.count(name) > 1]:
        faults = [f"line {cells.header_line} has column {name} twice" for name in repeated]
        raise DataError.listing(path, faults, "Rename or delete one.")
    return cells


def read_numbers(cells: Cells, columns: list[int]) -> np.ndarray:
    """(N, len(columns)) float64, NaN where the cell is empty; raises `DataError` for words and infinities."""
    texts = [row[column] for row in cells.rows for column in columns]
    numbers = as_numbers(texts, decimal_comma=cells.decimal_comma)
    suspects = np.flatnonzero(~np.isfinite(numbers)).tolist()
    if bad := [i for i in suspects if texts[i].lower() not in MISSING]:
        places = [divmod(i, len(columns)) for i in bad]
        faults = [f"{cells.at(i, columns[j])} is {quoted(cells.rows[i][columns[j]])}" for i, j in places]
        raise DataError.listing(
            cells.path, faults, "Write a finite number such as 12.5; leave the cell empty if missing."
        )
    return numbers.reshape(len(cells.rows), len(columns))


def as_numbers(texts: list[str], *, decimal_comma: bool) -> np.ndarray:
    """(N,) float64, NaN where a text is no number."""
    if decimal_comma:
        texts = [text.replace(",", ".") for text in texts]
    return np.asarray(pd.to_numeric(np.array(texts, dtype=object), errors="coerce"), dtype=np.float64)


def read_words(cells: Cells, names: Iterable[str], advice: str) -> list[str] | None:
    """The column with one of these names, None where there is none; an empty cell is a `DataError` with the advice."""
    column = cells.column(names)
    if column is None:
        return None
    words = [row[column] for row in cells.rows]
    if faults := [f"{cells.at(i, column)} is empty" for i, word in enumerate(words) if not word]:
        raise DataError.listing(cells.path, faults, advice)
    return words
