"""Landmarks that several people marked, in suffixed columns of one table or in a table each, and their mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.annotator_columns import by_annotator, suffixed_columns
from data.cells import Cells, read_cells, read_words
from data.errors import DataError, enumerated, quoted
from data.image_rows import IMAGE_COLUMNS, require_image_column
from data.point_columns import point_columns, read_points

if TYPE_CHECKING:
    from data.records import LandmarkRecords


@dataclass(frozen=True)
class Annotator:
    """Who marked points (N, K, 2), NaN = missing, and the line of each image in the table that holds them."""

    name: str
    path: Path
    lines: list[int]
    points: np.ndarray


@dataclass(frozen=True)
class Marks:
    """points: (N, K, 2), with several annotators the mean of those who marked the landmark; annotators: empty where
    the table does not tell them apart."""

    landmark_names: list[str]
    numbered: bool  # the names are mere numbers
    points: np.ndarray
    annotators: list[Annotator]


def read_marks(cells: Cells, more_tables: Sequence[Path] = ()) -> Marks:
    """The points of a table, and of tables of further annotators for the same images; raises DataError for faults."""
    suffixed = suffixed_columns(cells)
    if suffixed and more_tables:
        fault = (
            f"line {cells.header_line} has columns of several annotators, such as {cells.header[suffixed[0].column]}"
        )
        raise DataError.listing(cells.path, [fault], "Give such columns, or data.more_tables, but not both.")
    if suffixed:
        names, numbered, columns = by_annotator(cells, suffixed)
        _refuse_choices(cells.path, columns)
        annotators = [
            Annotator(name, cells.path, cells.lines, read_points(cells, own)) for name, own in columns.items()
        ]
        return Marks(names, numbered, mean_points([each.points for each in annotators]), annotators)
    names, own, numbered = point_columns(cells)
    points = read_points(cells, own)
    if not more_tables:
        return Marks(names, numbered, points, [])
    called = _table_names([cells.path, *more_tables])
    for name, path in zip(called, [cells.path, *more_tables], strict=True):
        _refuse_choices(path, [name])
    annotators = [Annotator(called[0], cells.path, cells.lines, points)]
    for name, path in zip(called[1:], more_tables, strict=True):
        annotators.append(_matched(name, read_cells(path), cells, names, numbered))
    return Marks(names, numbered, mean_points([each.points for each in annotators]), annotators)


def mean_points(annotations: Sequence[np.ndarray]) -> np.ndarray:
    """(A, N, K, 2) to (N, K, 2): the mean over the annotators who marked a landmark, NaN where none did."""
    stacked = np.stack(annotations)
    marked = np.isfinite(stacked).all(axis=3, keepdims=True)
    total, count = np.where(marked, stacked, 0.0).sum(axis=0), marked.sum(axis=0)
    mean: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def check_annotator(records: LandmarkRecords, annotator: str) -> None:
    """Raises ValueError where training can't have the points of this annotator (or mean, or random)."""
    if annotator == "mean":
        return
    if records.annotations is None:
        raise ValueError(
            f"data.annotator={annotator} needs landmarks by several annotators: columns such as x0_a,y0_a,x0_b,y0_b, "
            "or data.more_tables"
        )
    if annotator == "random":
        return
    if annotator not in records.annotator_names:
        raise ValueError(
            f"data.annotator={annotator} is not one of mean, random, {enumerated(records.annotator_names)}"
        )
    own = records.annotations[records.annotator_names.index(annotator), records.indices("train")]
    lacking = np.flatnonzero(~np.isfinite(own).all(axis=2).any(axis=0))
    if len(lacking):
        names = enumerated(records.landmark_names[k] for k in lacking)
        raise ValueError(
            f"data.annotator={annotator} marked landmark(s) {names} in no training image; choose mean or another"
        )


def between_annotators(annotations: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of annotators on these images: image indices (P,), and the points (P, K, 2) of the one and the other,
    for annotations (A, N, K, 2)."""
    pairs = list(combinations(range(len(annotations)), 2))
    one = np.concatenate([annotations[first, indices] for first, _ in pairs])
    other = np.concatenate([annotations[second, indices] for _, second in pairs])
    return np.tile(indices, len(pairs)), one, other


def _refuse_choices(path: Path, names: Iterable[str]) -> None:
    """Raises DataError for an annotator that data.annotator could not choose."""
    if not {"mean", "random"}.isdisjoint(names):
        raise DataError(f"{path}: annotators can't be called mean or random; rename the column or file")


def _table_names(paths: list[Path]) -> list[str]:
    """Annotators are called like their files, or like folder and file where files are called alike."""
    for names in ([path.stem for path in paths], [f"{path.absolute().parent.name}/{path.stem}" for path in paths]):
        if len(set(names)) == len(names):
            return names
    raise DataError(
        f"data.more_tables: annotators are called like their tables, and {enumerated(names)} are not all different. "
        "Rename the files."
    )


def _matched(name: str, other: Cells, cells: Cells, landmarks: list[str], numbered: bool) -> Annotator:
    """The points of another table in the order of this one's images and landmarks."""
    require_image_column(other)
    order = _landmark_order(other, cells.path, landmarks, numbered)
    _, columns, _ = point_columns(other)
    points = read_points(other, columns)[:, order]
    rows = _rows_by_image(other)
    advice = "Keep one row per image."
    wanted = read_words(cells, IMAGE_COLUMNS, advice) or []
    missing = [
        f"no row for {quoted(image)} (line {line} of {cells.path.name})"
        for image, line in zip(wanted, cells.lines, strict=True)
        if image not in rows
    ]
    if missing:
        raise DataError.listing(other.path, missing, "Add the rows; leave what was not marked empty.")
    if extra := [image for image in rows if image not in set(wanted)]:
        faults = [f"line {other.lines[rows[image]]}: {quoted(image)} is not in {cells.path}" for image in extra]
        raise DataError.listing(other.path, faults, "Take these rows out, or add their images there.")
    taken = [rows[image] for image in wanted]
    return Annotator(name, other.path, [other.lines[row] for row in taken], points[taken])


def _rows_by_image(cells: Cells) -> dict[str, int]:
    images = read_words(cells, IMAGE_COLUMNS, "Give every row an image, or delete the row.") or []
    rows: dict[str, int] = {}
    faults = []
    for row, image in enumerate(images):
        if (first := rows.setdefault(image, row)) != row:
            faults.append(f"line {cells.lines[row]}: {quoted(image)} is already on line {cells.lines[first]}")
    if faults:
        raise DataError.listing(cells.path, faults, "Keep one row per image.")
    return rows


def _landmark_order(other: Cells, path: Path, landmarks: list[str], numbered: bool) -> list[int]:
    """Where in the other table each landmark stands; raises DataError where it has others."""
    head = f"line {other.header_line}"
    names, _, other_numbered = point_columns(other)
    advice = "All annotators mark the same landmarks."
    if numbered != other_numbered:
        spelt = ("<name>_x,<name>_y", "x0,y0 and so on")
        fault = f"{head} spells points {spelt[other_numbered]} where {path} spells them {spelt[numbered]}"
        raise DataError.listing(other.path, [fault], advice)
    if numbered:
        if len(names) != len(landmarks):
            fault = f"{head} has {len(names)} landmarks where {path} has {len(landmarks)}"
            raise DataError.listing(other.path, [fault], advice)
        return list(range(len(names)))
    faults = [f"{head} has no landmark {quoted(name)}, which {path} has" for name in landmarks if name not in names]
    faults += [f"{head} has a landmark {quoted(name)} that {path} has not" for name in names if name not in landmarks]
    if faults:
        raise DataError.listing(other.path, faults, advice)
    return [names.index(name) for name in landmarks]
