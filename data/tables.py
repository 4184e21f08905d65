"""Tables of landmark points, and the lists of names and flip pairs beside them; every fault names file and line."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.annotators import Annotator, read_marks
from data.cells import Cells, read_cells, read_numbers, read_text
from data.errors import DataError, cut, one_line, quoted
from data.image_rows import read_image_rows, require_image_column

SPACING_COLUMNS = ("pixel_spacing_mm",)
OUTSIDE_TOLERANCE_PX = 1.0
LARGEST_SPACING_MM = 1e6
FAR_OUTSIDE = 100  # image sizes; no crop leaves a landmark so far away

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LandmarkTable:
    """One row per image, in the order of the file."""

    path: Path
    images: Sequence[Path]  # absolute
    image_names: list[str]  # as written in the table
    points: np.ndarray  # (N, K, 2) float64, original px, NaN = missing
    landmark_names: list[str]  # K
    pixel_spacing_mm: np.ndarray  # (N,) float64, NaN = unknown
    split: list[str] | None  # train | val | test per row; None: the table has no split column
    group: list[str] | None  # patient per row
    rows: list[int]  # line in the file, the first line is 1
    annotators: list[Annotator] = field(default_factory=list)  # who marked the points, whose mean `points` then are


def read_landmark_table(
    path: Path | str,
    *,
    root: Path | str | None = None,
    allow_outside_root: bool = False,
    group_pattern: str | None = None,
    pixel_spacing_mm: float | None = None,
    more_tables: Sequence[Path | str] = (),
) -> LandmarkTable:
    """Reads a table of images and landmark points; raises `DataError` for every fault in it.

    Images are looked for under `root`, or else beside the table and in its folder `images`, and may not lie outside
    unless `allow_outside_root`.
    `group_pattern` cuts out of each image name what those that belong together share (see data.groups).
    `pixel_spacing_mm` (mm per px) is used for the rows that do not state their own.
    `more_tables` hold the points of further annotators for the same images (see data.annotators).
    Numbered points take their names from a `landmark_names.txt` beside the table.
    """
    path = Path(path)
    if pixel_spacing_mm is not None and not 0 < pixel_spacing_mm < np.inf:
        raise DataError(f"pixel_spacing_mm={pixel_spacing_mm} must be a positive number of mm per pixel")
    cells = read_cells(path)
    require_image_column(cells)
    marks = read_marks(cells, [Path(table) for table in more_tables])
    names = marks.landmark_names
    beside = path.parent / "landmark_names.txt"
    if marks.numbered and beside.is_file():
        names = read_landmark_names(beside, len(names))
    spacing_mm = read_spacing(cells, pixel_spacing_mm)
    rows = read_image_rows(cells, root, allow_outside_root=allow_outside_root, group_pattern=group_pattern)
    return LandmarkTable(
        path,
        rows.images,
        rows.image_names,
        marks.points,
        names,
        spacing_mm,
        rows.split,
        rows.group,
        cells.lines,
        marks.annotators,
    )


def check_points_inside(table: LandmarkTable, sizes: np.ndarray) -> None:
    """Raises `DataError` for rows whose visible points all lie more than 1 px outside the image, and for points that
    lie more than a hundred image sizes outside; other points outside are told of.

    sizes: (N, 2) width and height in px.
    """
    sizes = np.asarray(sizes)

    def inside(points: np.ndarray, beyond: float = 0.0) -> np.ndarray:
        """(N, K) bool: within the frame, or up to `beyond` times the image's size from it."""
        margin = OUTSIDE_TOLERANCE_PX + beyond * sizes[:, None, :]
        return np.all((points >= -margin) & (points <= sizes[:, None, :] - 1 + margin), axis=-1)

    visible = ~np.isnan(table.points).any(axis=-1)
    framed = inside(table.points)
    if (framed | ~visible).all():
        return
    outside = visible.any(axis=1) & ~(visible & framed).any(axis=1)
    swapped = (inside(table.points[..., ::-1]) | ~visible).all(axis=1)
    faults = [
        f"line {table.rows[i]}: no point of {table.image_names[i]} lies inside its {sizes[i][0]}x{sizes[i][1]} px"
        + (" (x and y swapped?)" if swapped[i] else "")
        for i in np.flatnonzero(outside)
    ]
    far = visible & ~inside(table.points, beyond=FAR_OUTSIDE)
    faults += [
        f"line {table.rows[i]}: landmark {cut(table.landmark_names[k])} is at {_shown(table.points[i, k])}, far "
        f"outside the {sizes[i][0]}x{sizes[i][1]} px of {table.image_names[i]}"
        for i, k in np.argwhere(far & ~outside[:, None]).tolist()
    ]
    if faults:
        raise DataError.listing(table.path, faults, "Points are x, y in pixels of the image file; mend the row.")
    beside = np.argwhere(visible & ~framed)
    if len(beside):
        i, k = beside[0].tolist()
        log.warning(
            "%s: %d points lie outside their image, the first on line %d: landmark %s at %s. If they stand for missing "
            "ones, leave both cells empty",
            *(
                table.path,
                len(beside),
                table.rows[i],
                one_line(cut(table.landmark_names[k])),
                _shown(table.points[i, k]),
            ),
        )


def check_landmarks_trained(table: LandmarkTable, splits: np.ndarray) -> None:
    """Raises `DataError` for landmarks that no training image has, and where no validation image has any.

    splits: (N,) of train, val or test.
    """
    visible = ~np.isnan(table.points).any(axis=-1)
    train, val = visible[splits == "train"], visible[splits == "val"]
    if not visible.any():
        raise DataError(f"{table.path}: no image has a landmark, all cells are empty. Fill in the points.")
    faults = []
    for k in np.flatnonzero(~train.any(axis=0)).tolist():
        fault = f"landmark {cut(table.landmark_names[k])} is missing in all {len(train)} training images"
        if len(elsewhere := np.flatnonzero(visible[:, k])):
            fault += f" (line {table.rows[elsewhere[0]]} has it, in {splits[elsewhere[0]]})"
        faults.append(fault)
    if faults:
        advice = "Fill in its points, delete its columns, or change the split (data.split_seed, data.val_fraction)."
        raise DataError.listing(table.path, faults, advice)
    if len(val) and not val.any():
        raise DataError(
            f"{table.path}: none of the {len(val)} validation images has a landmark, so nothing can be judged by them. "
            "Fill in their points, change the split (data.split_seed), or train without (data.val_fraction=0)."
        )


def _shown(point: np.ndarray) -> str:
    return f"({point[0]:g}, {point[1]:g})"


def read_flip_pairs(path: Path | str, num_landmarks: int) -> list[tuple[int, int]]:
    """Reads lines `i j`: landmarks (from 0) that trade places when the image is mirrored; `#` starts a comment."""
    path = Path(path)
    pairs: list[tuple[int, int]] = []
    faults: list[str] = []
    used: dict[int, int] = {}
    for line, text in enumerate(read_text(path).split("\n"), start=1):
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
    if not pairs:
        raise DataError(
            f"{path}: no pairs in it. Write one pair i j a line; where no landmark changes sides in a mirror, set "
            "data.augmentation.flip_pairs=none."
        )
    return pairs


def read_spacing(cells: Cells, default_mm: float | None) -> np.ndarray:
    """(N,) mm per px of a table's rows, `default_mm` for those that don't say, NaN = unknown."""
    column = cells.column(SPACING_COLUMNS)
    spacing_mm = np.full(len(cells.rows), np.nan) if column is None else read_numbers(cells, [column])[:, 0]
    wrong = (spacing_mm <= 0) | (spacing_mm > LARGEST_SPACING_MM)
    if column is not None and (bad := np.flatnonzero(wrong).tolist()):
        faults = [f"{cells.at(i, column)} is {quoted(cells.rows[i][column])}" for i in bad]
        raise DataError.listing(
            cells.path, faults, "Spacing is mm per pixel, above 0 and at most a kilometre; leave it empty if unknown."
        )
    return spacing_mm if default_mm is None else np.where(np.isnan(spacing_mm), default_mm, spacing_mm)


def read_landmark_names(path: Path, num_landmarks: int) -> list[str]:
    """Lines `sella` or `0 sella`; with numbers, they must count up from 0 or 1."""
    lines = [(i, text.strip()) for i, text in enumerate(read_text(path).split("\n"), start=1) if text.strip()]
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
