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
    """Columns such as x0_a or sella_x_a. Beside plain points they are none of ours, unless for all those landmarks."""
    plain: set[str] = set()  # in lower case
    numbers: list[Suffixed] = []
    words: list[Suffixed] = []
    for column, name in enumerate(cells.header):
        if match := NUMBERED.fullmatch(name):
            plain.add(str(int(match[2])))
        elif match := NAMED.fullmatch(name):
            plain.add(match[1].lower())
        elif match := SUFFIXED_NUMBER.fullmatch(name):
            numbers.append(Suffixed(column, str(int(match[2])), match[1].lower(), match[3]))
        elif match := SUFFIXED_NAME.fullmatch(name):
            words.append(Suffixed(column, match[1], match[2].lower(), match[3]))
    if plain:
        _refuse_beside(cells, plain, numbers + words)
        return []
    by_number = {each.annotator.lower(): each for each in reversed(numbers)}
    for each in words:
        if other := by_number.get(each.annotator.lower()):
            one, another = cells.header[other.column], cells.header[each.column]
            fault = f"line {cells.header_line} has columns of annotators in both spellings, such as {one} and {another}"
            raise DataError.listing(cells.path, [fault], "Spell all points one way; rename other columns.")
    return numbers or words


def _refuse_beside(cells: Cells, plain: set[str], suffixed: list[Suffixed]) -> None:
    """Raises DataError where some suffix has all plain landmarks; x0_std alone beside x0,y0,x1,y1 is no annotator's."""
    both: dict[str, list[Suffixed]] = {}
    for each in suffixed:
        if each.landmark.lower() in plain:
            both.setdefault(each.annotator, []).append(each)
    whole = [
        each
        for marked in both.values()
        if len({(each.landmark.lower(), each.axis) for each in marked}) == 2 * len(plain)
        for each in marked
    ]
    if whole:
        names = enumerated(cells.header[each.column] for each in sorted(whole, key=lambda each: each.column))
        fault = f"line {cells.header_line} has columns of annotators, {names}, beside plain ones of the same landmarks"
        advice = "Delete the plain ones if these are annotators (their mean replaces them); else rename these columns."
        raise DataError.listing(cells.path, [fault], advice)


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
        numbers = sorted(int(landmark) for landmark in landmarks)
        for expected, number in enumerate(numbers, start=1 if numbers[0] == 1 else 0):
            if number != expected:
                gap = f"{head} has columns of annotators for landmark {number} and none for landmark {expected}"
                raise DataError.listing(cells.path, [gap], "Number the points without a gap, from 0 or 1.")
        landmarks = [str(number) for number in numbers]
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
