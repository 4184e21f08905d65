"""Columns that hold the points of several annotators, such as x0_a,y0_a,x0_b,y0_b or sella_x_a,sella_y_a."""

from __future__ import annotations

import re
from dataclasses import dataclass

from data.cells import Cells
from data.errors import DataError, enumerated
from data.point_columns import NAMED, NUMBERED

SUFFIXED_NUMBER = re.compile(r"([xy])([0-9]{1,6})_(.+)", re.IGNORECASE)
SUFFIXED_NAME = re.compile(r"(.+)_([xy])_(.+)", re.IGNORECASE)


@dataclass(frozen=True)
class Suffixed:
    column: int
    landmark: str  # number or name
    axis: str  # x or y
    annotator: str


def suffixed_columns(cells: Cells) -> list[Suffixed]:
    """Columns such as x0_a or sella_x_a. Beside plain points they are none of ours, unless for the same landmark."""
    plain: set[str] = set()
    numbers: list[Suffixed] = []
    words: list[Suffixed] = []
    for column, name in enumerate(cells.header):
        if match := NUMBERED.fullmatch(name):
            plain.add(str(int(match[2])))
        elif match := NAMED.fullmatch(name):
            plain.add(match[1])
        elif match := SUFFIXED_NUMBER.fullmatch(name):
            numbers.append(Suffixed(column, str(int(match[2])), match[1].lower(), match[3]))
        elif match := SUFFIXED_NAME.fullmatch(name):
            words.append(Suffixed(column, match[1], match[2].lower(), match[3]))
    found = numbers or words
    if not plain:
        return found
    if both := [each for each in found if each.landmark in plain]:
        names = enumerated(cells.header[each.column] for each in both)
        fault = f"line {cells.header_line} has columns of annotators, {names}, beside plain ones of the same landmarks"
        raise DataError.listing(cells.path, [fault], "Delete the plain ones, which the annotators' mean replaces.")
    return []


def by_annotator(cells: Cells, suffixed: list[Suffixed]) -> tuple[list[str], bool, dict[str, list[int]]]:
    """K landmark names, whether they are numbers, and each annotator's 2K columns in the order x, y, x, y..."""
    head = f"line {cells.header_line}"
    numbered = SUFFIXED_NUMBER.fullmatch(cells.header[suffixed[0].column]) is not None
    found: dict[tuple[str, str, str], int] = {}
    faults = []
    for each in suffixed:
        place = (each.annotator, each.landmark, each.axis)
        if place in found:
            faults.append(
                f"{head} has columns {cells.header[found[place]]} and {cells.header[each.column]} for the same"
            )
        found[place] = each.column
    if faults:
        raise DataError.listing(cells.path, faults, "Rename or delete one.")

    landmarks = list(dict.fromkeys(each.landmark for each in suffixed))
    if numbered:
        numbers = [int(landmark) for landmark in landmarks]
        landmarks = [str(number) for number in range(1 if min(numbers) == 1 else 0, max(numbers) + 1)]
    annotators = list(dict.fromkeys(each.annotator for each in suffixed))
    wanted = [(annotator, landmark, axis) for annotator in annotators for landmark in landmarks for axis in "xy"]
    if lacking := [place for place in wanted if place not in found]:
        example = cells.header[suffixed[0].column]
        faults = [f"{head} has no column {_spelt(*place, numbered)}" for place in lacking]
        advice = f"Columns such as {example} need x and y of each landmark by each annotator; cells may be empty."
        raise DataError.listing(cells.path, faults, advice)
    points = [(landmark, axis) for landmark in landmarks for axis in "xy"]
    columns = {annotator: [found[annotator, *point] for point in points] for annotator in annotators}
    names = [str(index) for index in range(len(landmarks))] if numbered else landmarks
    return names, numbered, columns


def _spelt(annotator: str, landmark: str, axis: str, numbered: bool) -> str:
    return f"{axis}{landmark}_{annotator}" if numbered else f"{landmark}_{axis}_{annotator}"
