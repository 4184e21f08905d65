"""Text files to cells, and columns of cells to numbers and words; every fault names file, line and column."""

from __future__ import annotations

import csv
import gc
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.errors import DataError, cut, did_you_mean, enumerated, nearest, quoted
from data.file_kinds import kind_of, require_regular_file
from data.numbers import advice_on, as_numbers, decimal_mark
from data.plain_rows import BLANKS, DELIMITERS, Once, PlainRows, plain_rows

EXCEL_DELIMITER = re.compile(r"sep=(.)", re.IGNORECASE)  # a first line of Excel's own
SAVE_AS_TEXT = "Save the file as UTF-8 (CSV UTF-8 in Excel)."
MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "null", "none"})


class Cells(NamedTuple):
    """A table as text: N rows, each with one cell per column."""

    path: Path
    header: list[str]
    header_line: int
    rows: list[list[str]] | PlainRows
    lines: list[int]  # line in the file where each row begins, the first line is 1
    decimal_marks: list[str]  # before the decimals of each column: "," or "."; "" where no cell tells

    def column(self, names: Iterable[str]) -> int | None:
        """The column with the first of these (lower case) names that the header has."""
        lowered = [name.lower() for name in self.header]
        return next((lowered.index(name) for name in names if name in lowered), None)

    def decimal_comma_in(self, columns: Iterable[int]) -> bool:
        """Whether the numbers of these columns, which are read together, have decimal commas.

        A column that is not read has no say: its 11,12 may be a list, its 3.0 a version.
        """
        marks = {self.decimal_marks[column] for column in columns}
        return "," in marks and "." not in marks

    def words(self, column: int) -> list[str]:
        """The cells of a column."""
        return self.rows.column(column) if isinstance(self.rows, PlainRows) else [row[column] for row in self.rows]

    def at(self, row: int, column: int) -> str:
        return f"line {self.lines[row]}, column {cut(self.header[column])}"


def read_text(path: Path) -> str:
    """The UTF-8 text of a file, with or without a byte order mark, its line ends turned into newlines."""
    try:
        require_regular_file(path, "a text file")
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: file not found{did_you_mean(path)}. Check the path.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path and who may read it.") from None
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(path, content, error.start)) from None
    if "\0" in text and (kind := kind_of(content)) is not None:
        raise DataError(f"{path} is {kind.name}, expected text. {kind.advice or SAVE_AS_TEXT}")
    if text.count("\0") > len(text) / 4:
        raise DataError(f"{path}: line 1 is not UTF-8 text but, by its zero bytes, UTF-16. {SAVE_AS_TEXT}")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _not_utf8(path: Path, content: bytes, start: int) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"{path}: line 1 is not UTF-8 text but UTF-16, Excel's Unicode Text. {SAVE_AS_TEXT}"
    if (kind := kind_of(content)) is not None:
        return f"{path}: line 1 is not UTF-8 text: the file is {kind.name}. {kind.advice or SAVE_AS_TEXT}"
    before = content[:start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    line = before.count(b"\n")
    shown = re.split(rb"\r\n|\r|\n", content)[line].decode("cp1252", errors="replace")
    return f"{path}: line {line + 1} is not UTF-8 text (as Windows-1252 it is {quoted(shown)}). {SAVE_AS_TEXT}"


def read_cells(path: Path) -> Cells:
    """A table separated by commas, semicolons, tabs or bars.

    Numbers may have decimal commas; where commas separate the columns too, those are quoted ("12,5"), and the columns
    that are read together decide (see `Cells.decimal_comma_in`).
    """
    text = read_text(path)
    start = len(text) - len(text.lstrip())
    if start == len(text):
        raise DataError(f"{path} is empty, expected a header line and a row per image. Save the table again.")
    start = text.rfind("\n", 0, start) + 1
    end = text.find("\n", start)
    head = text[start:] if end < 0 else text[start:end]
    if told := EXCEL_DELIMITER.fullmatch(head.strip(" ")):
        delimiter = told[1]
        text = text[:start] + text[start + len(head) :]
    else:
        delimiter = max(DELIMITERS, key=head.count)
    records, starts = plain_rows(text, delimiter) or _read_records(path, text, delimiter)
    if len(records) < 2:
        raise DataError(f"{path} has a header and no rows. Add a row per image.")
    header, rows = records[0], records[1:]
    _check_shape(path, header, rows, starts, delimiter)
    if delimiter != ",":
        marks = [","] * len(header)
    elif isinstance(rows, PlainRows):  # no cell has a comma
        marks = ["."] * len(header)
    else:
        marks = [decimal_mark(row[column] for row in rows) for column in range(len(header))]
    return Cells(path, header, starts[0], rows, starts[1:], marks)


def _read_records(path: Path, text: str, delimiter: str) -> tuple[list[list[str]], list[int]]:
    """Rows of stripped cells, without empty rows, and the line that each begins on."""
    records: list[list[str]] = []
    starts: list[int] = []
    start = 1
    try:
        # Not StringIO, which would take four bytes for each letter of a large table.
        lines = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline="\n")
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        once = Once()
        has_blanks = not text.isascii() or any(blank in text for blank in BLANKS)
        with _no_collections():
            for record in reader:
                stripped = [cell.strip() for cell in record] if has_blanks else record
                if any(stripped):  # spreadsheets leave rows of bare separators behind
                    records.append(once(stripped))
                    starts.append(start)
                start = reader.line_num + 1
    except (csv.Error, TypeError, ValueError) as error:
        raise DataError(f"{path}: line {start} is not valid CSV ({error}). Check its quotes.") from None
    return records, starts


@contextmanager
def _no_collections() -> Iterator[None]:
    """Keeps Python from searching ever more rows, again and again, for what nobody holds."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_shape(
    path: Path, header: list[str], rows: list[list[str]] | PlainRows, starts: list[int], delimiter: str
) -> None:
    faults = []
    if not isinstance(rows, PlainRows):  # which are of one length
        faults = [
            f"line {line} has {len(row)} cells where the header has {len(header)}"
            for row, line in zip(rows, starts[1:], strict=True)
            if len(row) != len(header)
        ]
    if faults:
        advice = "Give every row one cell per column."
        if len(header) == 1:
            advice += f" The header is {quoted(header[0])}: is that the line with the names of the columns?"
        elif delimiter == "," and len(faults) == len(rows):
            advice += " Numbers with decimal commas need quotes, or semicolons between the columns."
        raise DataError.listing(path, faults, advice)
    lowered = [name.lower() for name in header if name]
    if repeated := [name for name in dict.fromkeys(lowered) if lowered.count(name) > 1]:
        faults = [f"line {starts[0]} has column {cut(name)} twice" for name in repeated]
        raise DataError.listing(path, faults, "Rename or delete one.")


def missing_column(cells: Cells, kind: str, wanted: Iterable[str]) -> str:
    """That a table has no column of a kind, with what it has and what may have gone wrong."""
    found = f"line {cells.header_line} has no {kind} column, only {enumerated(cells.header)}"
    if len(cells.header) == 1 and " " in cells.header[0]:
        return f"{found}; blanks do not separate columns"
    if np.isfinite(as_numbers(cells.header, decimal_comma=False)).any():
        return f"{found}; is the header line missing?"
    return found + next(filter(None, (nearest(name.lower(), list(wanted)) for name in cells.header)), "")


def read_numbers(cells: Cells, columns: list[int]) -> np.ndarray:
    """(N, len(columns)) float64, NaN where the cell is empty; raises `DataError` for words and infinities."""
    if isinstance(cells.rows, PlainRows) and (plain := cells.rows.numbers(columns)) is not None:
        return plain
    texts = [row[column] for row in cells.rows for column in columns]
    numbers = as_numbers(texts, decimal_comma=cells.decimal_comma_in(columns))
    suspects = np.flatnonzero(~np.isfinite(numbers)).tolist()
    if bad := [i for i in suspects if texts[i].lower() not in MISSING]:
        places = [divmod(i, len(columns)) for i in bad]
        faults = [f"{cells.at(i, columns[j])} is {quoted(cells.rows[i][columns[j]])}" for i, j in places]
        advice = "Write a finite number such as 12.5; leave the cell empty if missing."
        raise DataError.listing(cells.path, faults, advice_on([texts[i] for i in bad], advice))
    return numbers.reshape(len(cells.rows), len(columns))


def read_words(cells: Cells, names: Iterable[str], advice: str) -> list[str] | None:
    """The column with one of these names, None where there is none; an empty cell is a `DataError` with the advice."""
    column = cells.column(names)
    if column is None:
        return None
    words = cells.words(column)
    if "" in words:
        faults = [f"{cells.at(i, column)} is empty" for i, word in enumerate(words) if not word]
        raise DataError.listing(cells.path, faults, advice)
    return words
