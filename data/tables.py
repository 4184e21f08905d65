"""CSV tables of landmark points, turned into typed columns; every fault names file, line and column."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data.errors import MAX_LISTED, DataError, did_you_mean, enumerated, quoted

# Where several of these columns exist, the first name listed here is taken.
IMAGE_COLUMNS = ("image", "file", "filename", "path", "image_path")
SPLIT_COLUMNS = ("split", "set")
GROUP_COLUMNS = ("group", "patient", "patient_id")
SPACING_COLUMNS = ("pixel_spacing_mm",)
SPLIT_WORDS = {"train": "train", "dev": "val", "val": "val", "valid": "val", "validation": "val", "test": "test"}
MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "null", "none"})
POINT_SPELLINGS = "x0,y0,x1,y1,... (counted from 0 or 1) or <name>_x,<name>_y"
OUTSIDE_TOLERANCE_PX = 1.0
NUMBERED = re.compile(r"([xy])([0-9]{1,6})", re.IGNORECASE)
NAMED = re.compile(r"(.+)_([xy])", re.IGNORECASE)


@dataclass(frozen=True)
class LandmarkTable:
    """One row per image, in the order of the file."""

    path: Path
    images: list[Path]  # absolute
    image_names: list[str]  # as written in the table
    points: np.ndarray  # (N, K, 2) float64, original px, NaN = missing
    landmark_names: list[str]  # K
    pixel_spacing_mm: np.ndarray  # (N,) float64, NaN = unknown
    split: list[str] | None  # train | val | test per row; None: the table has no split column
    group: list[str] | None  # patient per row
    rows: list[int]  # line in the file, the first line is 1


class _Cells(NamedTuple):
    path: Path
    header: list[str]
    header_line: int
    rows: list[list[str]]
    lines: list[int]
    decimal_comma: bool

    def column(self, names: Iterable[str]) -> int | None:
        lowered = [name.lower() for name in self.header]
        return next((lowered.index(name) for name in names if name in lowered), None)

    def at(self, row: int, column: int) -> str:
        return f"line {self.lines[row]}, column {self.header[column]}"


def read_landmark_table(
    path: Path | str,
    *,
    root: Path | str | None = None,
    pixel_spacing_mm: float | None = None,
    landmark_names_file: Path | str | None = None,
) -> LandmarkTable:
    """Reads a table of images and landmark points; raises `DataError` for every fault in it.

    Images are looked for under `root`, or else beside the table and in its folder `images`.
    `pixel_spacing_mm` (mm per px) is used for the rows that do not state their own.
    Numbered points take their names from `landmark_names_file`, or from a `landmark_names.txt` beside the table.
    """
    path = Path(path)
    if pixel_spacing_mm is not None and not 0 < pixel_spacing_mm < np.inf:
        raise DataError(f"pixel_spacing_mm={pixel_spacing_mm} must be a positive number of mm per pixel")
    cells = _read_cells(path)
    image_column = cells.column(IMAGE_COLUMNS)
    if image_column is None:
        found = f"line {cells.header_line} has no image column, only {enumerated(cells.header)}"
        raise DataError.listing(
            path, [found], f"Name the column with the file names one of {enumerated(IMAGE_COLUMNS)}."
        )
    names, columns, numbered = _point_columns(cells)
    points = _read_points(cells, columns)
    beside = path.parent / "landmark_names.txt"
    if landmark_names_file is not None or (numbered and beside.is_file()):
        names = _read_landmark_names(beside if landmark_names_file is None else Path(landmark_names_file), len(names))
    spacing_mm = _read_spacing(cells, pixel_spacing_mm)
    split, group = _read_split(cells), _read_words(cells, GROUP_COLUMNS, "Give every row its group.")
    if split is not None and group is not None:
        _check_groups_apart(cells, split, group)
    image_names = _read_words(cells, IMAGE_COLUMNS, "Give every row an image, or delete the row.") or []
    images = _find_images(cells, image_column, image_names, None if root is None else Path(root))
    return LandmarkTable(path, images, image_names, points, names, spacing_mm, split, group, cells.lines)


def check_points_inside(table: LandmarkTable, sizes: np.ndarray) -> None:
    """Raises `DataError` for rows whose visible points all lie more than 1 px outside the image.

    sizes: (N, 2) width and height in px.
    """

    def inside(points: np.ndarray) -> np.ndarray:
        limit = np.asarray(sizes)[:, None, :] - 1 + OUTSIDE_TOLERANCE_PX
        return np.all((points >= -OUTSIDE_TOLERANCE_PX) & (points <= limit), axis=-1)

    visible = ~np.isnan(table.points).any(axis=-1)
    outside = visible.any(axis=1) & ~(visible & inside(table.points)).any(axis=1)
    swapped = (inside(table.points[..., ::-1]) | ~visible).all(axis=1)
    faults = [
        f"line {table.rows[i]}: no point of {table.image_names[i]} lies inside its {sizes[i][0]}x{sizes[i][1]} px"
        + (" (x and y swapped?)" if swapped[i] else "")
        for i in np.flatnonzero(outside)
    ]
    if faults:
        raise DataError.listing(table.path, faults, "Points are x, y in pixels of the image file; mend the row.")


def read_flip_pairs(path: Path | str, num_landmarks: int) -> list[tuple[int, int]]:
    """Reads lines `i j`: landmarks (from 0) that trade places when the image is mirrored; `#` starts a comment."""
    path = Path(path)
    pairs: list[tuple[int, int]] = []
    faults: list[str] = []
    used: dict[int, int] = {}
    for line, text in enumerate(_read_text(path).split("\n"), start=1):
        words = text.split("#")[0].replace(",", " ").split()
        if not words:
            continue
        if len(words) != 2 or not all(re.fullmatch("-?[0-9]{1,9}", word) for word in words):
            faults.append(f"line {line} is {quoted(text.strip())}, expected two numbers such as 0 16")
            continue
        pair = (int(words[0]), int(words[1]))
        if pair[0] == pair[1]:
            faults.append(f"line {line} pairs landmark {pair[0]} with itself")
        elif not all(0 <= index < num_landmarks for index in pair):
            faults.append(f"line {line} is {pair[0]} {pair[1]}, expected indices from 0 to {num_landmarks - 1}")
        elif again := [index for index in pair if index in used]:
            faults.append(f"line {line} uses landmark {again[0]} again, first on line {used[again[0]]}")
        else:
            used |= dict.fromkeys(pair, line)
            pairs.append(pair)
    if faults:
        raise DataError.listing(
            path, faults, "Write one pair i j a line, each landmark once; leave out those in the middle."
        )
    return pairs


def _read_text(path: Path) -> str:
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


def _read_cells(path: Path) -> _Cells:
    text = _read_text(path)
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
    cells = _Cells(path, records[0], lines[0], records[1:], lines[1:], delimiter != ",")
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


def _point_columns(cells: _Cells) -> tuple[list[str], list[int], bool]:
    """K landmark names, their 2K columns in the order x, y, x, y..., and whether the names are mere numbers."""
    head = f"line {cells.header_line}"
    numbered: dict[int, dict[str, int]] = {}
    named: dict[str, dict[str, int]] = {}
    for column, name in enumerate(cells.header):
        if match := NUMBERED.fullmatch(name):
            axis, letter = numbered.setdefault(int(match[2]), {}), match[1].lower()
            if letter in axis:
                both = f"{head} has columns {cells.header[axis[letter]]} and {name} for the same number"
                raise DataError.listing(cells.path, [both], "Rename or delete one.")
            axis[letter] = column
        elif match := NAMED.fullmatch(name):
            named.setdefault(match[1], {})[match[2].lower()] = column
    if not numbered and not named:
        found = f"{head} has no point columns, only {enumerated(cells.header)}"
        raise DataError.listing(cells.path, [found], f"Spell them {POINT_SPELLINGS}.")
    if numbered and named:
        one, other = (
            cells.header[min(kind.values())] for kind in (numbered[min(numbered)], next(iter(named.values())))
        )
        mixed = f"{head} has point columns of both spellings, such as {one} and {other}"
        advice = f"Spell all points one way, {POINT_SPELLINGS}; rename other columns."
        raise DataError.listing(cells.path, [mixed], advice)
    axes = [numbered[index] for index in sorted(numbered)] or list(named.values())
    lone = [cells.header[column] for axis in axes if len(axis) == 1 for column in axis.values()]
    if lone:
        faults = [f"{head} has column {name} without its {'y' if _is_x(name) else 'x'}" for name in lone]
        raise DataError.listing(cells.path, faults, "Every point needs two columns, x and y.")
    start = 1 if numbered and min(numbered) == 1 else 0
    for expected, index in enumerate(sorted(numbered), start=start):
        if index != expected:
            gap = f"{head} has columns x{index},y{index} and no x{expected},y{expected}"
            raise DataError.listing(cells.path, [gap], "Number the points without a gap, from 0 or 1.")
    columns = [axis[letter] for axis in axes for letter in ("x", "y")]
    return list(named) or [str(index) for index in range(len(axes))], columns, bool(numbered)


def _is_x(name: str) -> bool:
    return (name[0] if NUMBERED.fullmatch(name) else name[-1]).lower() == "x"


def _read_numbers(cells: _Cells, columns: list[int]) -> np.ndarray:
    """(N, len(columns)) float64, NaN where the cell is empty; raises `DataError` for words and infinities."""
    texts = [row[column] for row in cells.rows for column in columns]
    if cells.decimal_comma:
        texts = [text.replace(",", ".") for text in texts]
    numbers = np.asarray(pd.to_numeric(np.array(texts, dtype=object), errors="coerce"), dtype=np.float64)
    suspects = np.flatnonzero(~np.isfinite(numbers)).tolist()
    if bad := [i for i in suspects if texts[i].lower() not in MISSING]:
        places = [divmod(i, len(columns)) for i in bad]
        faults = [f"{cells.at(i, columns[j])} is {quoted(cells.rows[i][columns[j]])}" for i, j in places]
        raise DataError.listing(
            cells.path, faults, "Write a finite number such as 12.5; leave the cell empty if missing."
        )
    return numbers.reshape(len(cells.rows), len(columns))


def _read_points(cells: _Cells, columns: list[int]) -> np.ndarray:
    points = _read_numbers(cells, columns).reshape(len(cells.rows), -1, 2)
    missing = np.isnan(points)
    half = np.argwhere(missing[..., 0] != missing[..., 1]).tolist()
    if half:
        empty = [(i, columns[2 * k + int(missing[i, k, 1])], columns[2 * k + int(missing[i, k, 0])]) for i, k in half]
        faults = [f"{cells.at(i, column)} is empty where {cells.header[other]} is not" for i, column, other in empty]
        raise DataError.listing(cells.path, faults, "Give both x and y, or leave both empty if the point is missing.")
    return points


def _read_spacing(cells: _Cells, default_mm: float | None) -> np.ndarray:
    column = cells.column(SPACING_COLUMNS)
    spacing_mm = np.full(len(cells.rows), np.nan) if column is None else _read_numbers(cells, [column])[:, 0]
    if column is not None and (bad := np.flatnonzero(spacing_mm <= 0).tolist()):
        faults = [f"{cells.at(i, column)} is {quoted(cells.rows[i][column])}" for i in bad]
        raise DataError.listing(cells.path, faults, "Spacing is mm per pixel and above 0; leave it empty if unknown.")
    return spacing_mm if default_mm is None else np.where(np.isnan(spacing_mm), default_mm, spacing_mm)


def _read_words(cells: _Cells, names: Iterable[str], advice: str) -> list[str] | None:
    column = cells.column(names)
    if column is None:
        return None
    words = [row[column] for row in cells.rows]
    if faults := [f"{cells.at(i, column)} is empty" for i, word in enumerate(words) if not word]:
        raise DataError.listing(cells.path, faults, advice)
    return words


def _read_split(cells: _Cells) -> list[str] | None:
    column = cells.column(SPLIT_COLUMNS)
    if column is None:
        return None
    words = [row[column] for row in cells.rows]
    faults = [f"{cells.at(i, column)} is {quoted(w)}" for i, w in enumerate(words) if w.lower() not in SPLIT_WORDS]
    if faults:
        raise DataError.listing(cells.path, faults, f"Write one of {enumerated(SPLIT_WORDS)}.")
    return [SPLIT_WORDS[word.lower()] for word in words]


def _check_groups_apart(cells: _Cells, split: list[str], group: list[str]) -> None:
    first: dict[str, int] = {}
    faults: dict[str, str] = {}
    for i, name in enumerate(group):
        j = first.setdefault(name, i)
        if split[i] != split[j]:
            where = f"line {cells.lines[j]} ({split[j]}) and line {cells.lines[i]} ({split[i]})"
            faults.setdefault(name, f"group {quoted(name)} is on both sides of the split, {where}")
    if faults:
        raise DataError.listing(cells.path, list(faults.values()), "Keep all rows of a group in one split.")


def _find_images(cells: _Cells, column: int, names: list[str], root: Path | None) -> list[Path]:
    folders = [cells.path.parent, cells.path.parent / "images"] if root is None else [root]
    places = [os.path.abspath(folder) for folder in folders]
    images: list[Path] = []
    lost: list[int] = []
    for i, name in enumerate(names):
        candidates = [os.path.normpath(os.path.join(place, name)) for place in places]
        found = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
        if found is None:
            lost.append(i)
        images.append(Path(found or candidates[0]))
    if lost:
        # Only what is shown is searched for near names: a wrong root loses every row.
        hints = {
            i: next(filter(None, (did_you_mean(Path(p, names[i])) for p in places)), "") for i in lost[:MAX_LISTED]
        }
        faults = [f"{cells.at(i, column)}: image {quoted(names[i])} not found{hints.get(i, '')}" for i in lost]
        looked = [place if os.path.isdir(place) else f"{place} (no such folder)" for place in places]
        raise DataError.listing(
            cells.path, faults, f"Looked in {enumerated(looked)}; mend the name or name the image folder."
        )
    first: dict[Path, int] = {}
    faults = []
    for i, image in enumerate(images):
        if (j := first.setdefault(image, i)) != i:
            faults.append(f"{cells.at(i, column)}: image {quoted(names[i])} is already on line {cells.lines[j]}")
    if faults:
        raise DataError.listing(cells.path, faults, "Keep one row per image.")
    return images


def _read_landmark_names(path: Path, num_landmarks: int) -> list[str]:
    """Lines `sella` or `0 sella`; with numbers, they must count up from 0 or 1."""
    lines = [(i, text.strip()) for i, text in enumerate(_read_text(path).split("\n"), start=1) if text.strip()]
    names = [text for _, text in lines]
    counted = [re.fullmatch(r"([0-9]{1,6})[\s,]+(.+)", text) for text in names]
    matches = [match for match in counted if match is not None]
    if lines and len(matches) == len(lines):
        start = 1 if int(matches[0][1]) == 1 else 0
        names = [match[2] for match in matches]
        wrong = [i for i, match in enumerate(matches) if int(match[1]) != start + i]
        if wrong:
            faults = [f"line {lines[i][0]} is {quoted(lines[i][1])}, expected number {start + i}" for i in wrong]
            raise DataError.listing(path, faults, "Number the names without a gap, from 0 or 1.")
    if len(names) != num_landmarks:
        fault = f"holds {len(names)} names where the table has {num_landmarks} landmarks"
        raise DataError.listing(path, [fault], "Write one name a line, one for each point.")
    if repeated := [i for i, name in enumerate(names) if name in names[:i]]:
        faults = [f"line {lines[i][0]} repeats the name {quoted(names[i])}" for i in repeated]
        raise DataError.listing(path, faults, "Give every landmark its own name.")
    return names
