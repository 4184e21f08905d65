"""Which columns of a table hold landmark points, in either spelling, and the points in them."""

from __future__ import annotations

import re

import numpy as np

from data.cells import Cells, read_numbers
from data.errors import DataError, enumerated

POINT_SPELLINGS = "x0,y0,x1,y1,... (counted from 0 or 1) or <name>_x,<name>_y"
NUMBERED = re.compile(r"([xy])([0-9]{1,6})", re.IGNORECASE)
NAMED = re.compile(r"(.+)_([xy])", re.IGNORECASE)


def point_columns(cells: Cells) -> tuple[list[str], list[int], bool]:
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


def read_points(cells: Cells, columns: list[int]) -> np.ndarray:
    """(N, K, 2) from 2K columns in the order x, y, x, y..., NaN = missing."""
    points = read_numbers(cells, columns).reshape(len(cells.rows), -1, 2)
    missing = np.isnan(points)
    half = np.argwhere(missing[..., 0] != missing[..., 1]).tolist()
    if half:
        empty = [(i, columns[2 * k + int(missing[i, k, 1])], columns[2 * k + int(missing[i, k, 0])]) for i, k in half]
        faults = [f"{cells.at(i, column)} is empty where {cells.header[other]} is not" for i, column, other in empty]
        raise DataError.listing(cells.path, faults, "Give both x and y, or leave both empty if the point is missing.")
    return points
