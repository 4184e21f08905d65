"""Our own tables (csv): image, split, group, spacing and points, as `data=csv` reads them and a run predicts them."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from pathlib import Path

import numpy as np

from data.annotators import read_marks
from data.cells import read_cells
from data.errors import DataError, enumerated
from data.formats.asked import Asked
from data.formats.marked_images import MarkedImages, from_first_pixel, numbers
from data.groups import GROUP_COLUMNS
from data.image_rows import SPLIT_COLUMNS, require_image_column
from data.tables import SPACING_COLUMNS, read_spacing


def read(path: Path, asked: Asked) -> MarkedImages:
    """A table of landmarks, or predictions.csv; images need not be there."""
    cells = read_cells(path)
    images = cells.words(require_image_column(cells))
    marks = read_marks(cells)
    points = np.stack([each.points for each in marks.annotators]) if marks.annotators else marks.points[None]
    spacing_mm = read_spacing(cells, None).tolist()

    def words(names: tuple[str, ...]) -> list[str] | None:
        column = cells.column(names)
        return None if column is None else cells.words(column)

    return MarkedImages(
        path,
        images,
        [f"line {line}" for line in cells.lines],
        marks.landmark_names,
        from_first_pixel(points, asked.first_pixel),
        [each.name for each in marks.annotators],
        spacing_mm=[None if math.isnan(value) else value for value in spacing_mm],
        split=words(SPLIT_COLUMNS),
        group=words(GROUP_COLUMNS),
    )


def render(marked: MarkedImages, to: Path, image_prefix: str) -> dict[Path, str]:
    """The table, with every digit of the points.

    Raises:
        DataError: names that can't be columns of a table that reads back the same.
    """
    columns: list[tuple[str, list[str]]] = [("image", marked.image_names)]
    if marked.split is not None:
        columns.append(("split", marked.split))
    if marked.group is not None:
        columns.append(("group", marked.group))
    if any(value is not None for value in marked.spacing_mm):
        columns.append((SPACING_COLUMNS[0], ["" if value is None else _exact(value) for value in marked.spacing_mm]))
    for k, name in enumerate(marked.landmark_names):
        for layer, annotator in enumerate(marked.annotators or [""]):
            for axis, letter in enumerate("xy"):
                head = f"{letter}{k}" if marked.numbered else f"{name}_{letter}"
                cells = [_exact(value) for value in marked.points[layer, :, k, axis].tolist()]
                columns.append((f"{head}_{annotator}" if annotator else head, cells))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    writer.writerows(zip(*(cells for _, cells in columns), strict=True))
    text = out.getvalue()
    _check_reads_back(text, marked, to)
    return {to: text}


def _exact(value: float) -> str:
    if math.isnan(value):
        return ""
    return repr(value).removesuffix(".0")


def _check_reads_back(text: str, marked: MarkedImages, to: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "table.csv")
        copy.write_text(text, encoding="utf-8")
        try:
            again: MarkedImages | None = read(copy, Asked(first_pixel=0))
        except DataError:
            again = None
    if again is not None and _same(again, marked):
        return
    names = enumerated(marked.annotators + ([] if marked.numbered else marked.landmark_names) + marked.image_names)
    raise DataError(
        f"{to}: these names can't stand in a table that reads back the same: {names}. Rename landmarks (names=FILE), "
        f"annotators or images so that they differ by more than case, begin and end "
        "with a letter or digit, and hold no ; | or line end."
    )


def _same(one: MarkedImages, other: MarkedImages) -> bool:
    keys = ("image_names", "landmark_names", "annotators", "spacing_mm", "split", "group")
    names_agree = one.landmark_names == (numbers(len(other.landmark_names)) if other.numbered else other.landmark_names)
    return (
        names_agree
        and all(getattr(one, key) == getattr(other, key) for key in keys if key != "landmark_names")
        and np.array_equal(one.points, other.points, equal_nan=True)
    )
