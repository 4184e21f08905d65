"""Tables as far as they can be read: a fault in one cell is noted, and the rest of the table is gone on with."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.annotator_columns import by_annotator, suffixed_columns
from data.annotators import mean_points
from data.cells import MISSING, Cells, read_cells, read_numbers
from data.errors import MAX_LISTED, DataError, did_you_mean, enumerated, nearest, quoted
from data.image_paths import ImageFinder
from data.image_rows import SPLIT_COLUMNS, read_image_rows, require_image_column
from data.labels import LABEL_COLUMNS, NO_LABEL, read_labels
from data.numbers import LARGEST, as_numbers
from data.point_columns import point_columns, read_points
from data.tables import LARGEST_SPACING_MM, SPACING_COLUMNS
from trainer.config.data import CsvConfig
from trainer.inspection.findings import Findings, Place, counted
from trainer.inspection.split_reading import told_groups, told_splits
from trainer.inspection.subject import Subject


def table_subject(data: CsvConfig, task: str, findings: Findings) -> Subject:
    """The rows of a table for a task: landmarks, classification or regression.

    Raises DataError where there is no table to look into: no file, no text, no rows, rows of different length.
    """
    cells = read_cells(Path(data.table))
    names, paths = _images(cells, data, findings)
    subject = Subject(
        source=cells.path,
        names=names,
        lines=cells.lines,
        paths=paths,
        splits=told_splits(cells, findings),
        splits_given=cells.column(SPLIT_COLUMNS) is not None,
        groups=told_groups(cells, names, data.group_pattern, findings),
        cells=cells,
    )
    if task == "landmarks":
        _add_points(subject, cells, findings)
        _add_spacing(subject, cells, data.pixel_spacing_mm, findings)
    else:
        _add_labels(subject, cells, data, findings, numeric=task == "regression")
        _add_covariates(subject, cells, data.covariates, findings)
    return subject


def _images(cells: Cells, data: CsvConfig, findings: Findings) -> tuple[list[str], list[Path | None]]:
    """Names as written and where the files are, None where there is none that may be read."""
    try:
        column = require_image_column(cells)
    except DataError as error:
        findings.add("error", "no-image-column", _without_path(error, cells.path))
        return [""] * len(cells.rows), [None] * len(cells.rows)
    root = None if data.root is None else Path(data.root)
    names = cells.words(column)
    try:
        return names, list(read_image_rows(cells, root, allow_outside_root=data.allow_outside_root).images)
    except DataError:  # of an image, a split or a group: what is told is looked for below, row by row
        pass
    try:
        finder = ImageFinder(cells.path, root, allow_outside_root=data.allow_outside_root)
    except DataError as error:  # the root
        fault, _, advice = str(error).rstrip(".").rpartition(". ")
        what = f"{counted(len(names), 'image')} of {len(names)} not found: {fault}"
        findings.add("error", "missing-image", what, advice=f"{advice}.")
        return names, [None] * len(names)
    paths = [finder.locate(name) for name in names]
    anywhere = ImageFinder(cells.path, root, allow_outside_root=True)
    elsewhere = {row: anywhere.locate(names[row]) for row, path in enumerate(paths) if path is None}
    if outside := [row for row, path in elsewhere.items() if path is not None]:
        findings.add(
            "error",
            "image-outside-root",
            f"{counted(len(outside), 'image')} of {len(names)} outside the image root",
            places=[
                Place(row, cells.lines[row], names[row], f"is {os.path.realpath(str(elsewhere[row]))}")
                for row in outside
            ],
            advice=f"The image root is {finder.root}; keep the images in it, name another data.root, or set "
            "data.allow_outside_root=true.",
        )
    if lost := [row for row, path in elsewhere.items() if path is None]:
        told: list[Place] = []
        for row in lost:  # only what is shown is searched for near names: a wrong root loses every row
            near = (did_you_mean(Path(folder, names[row])) for folder in finder.folders if len(told) < MAX_LISTED)
            detail = f"not found{next(filter(None, near), '')}" if names[row] else "no name in the image column"
            told.append(Place(row, cells.lines[row], names[row] or None, detail))
        findings.add(
            "error",
            "missing-image",
            f"{counted(len(lost), 'image')} of {len(names)} not found in the image root",
            places=told,
            advice=f"Looked in {enumerated(finder.folders)}; mend the names, or set data.root.",
        )
    return names, paths


def _add_points(subject: Subject, cells: Cells, findings: Findings) -> None:
    try:
        names, columns, numbered = _columns_of_points(cells)
    except DataError as error:
        findings.add("error", "point-columns", _without_path(error, cells.path))
        return
    listed = cells.path.parent / "landmark_names.txt"
    if numbered and listed.is_file():
        lines = listed.read_text(encoding="utf-8-sig", errors="replace").split("\n")
        given = [re.sub(r"^[0-9]+[\s,]+", "", line.strip()) for line in lines if line.strip()]
        if len(given) == len(names):
            names = given
    subject.landmark_names = names
    subject.points = np.full((len(cells.rows), len(names), 2), np.nan)
    rows, points = _rows_that_read(
        cells,
        lambda part: mean_points([read_points(part, own) for own in columns]),
        "unreadable-points",
        "points that cannot be read",
        findings,
    )
    if points is not None:
        subject.points[rows] = points
    subject.unread = set(range(len(subject))) - set(rows)


def _columns_of_points(cells: Cells) -> tuple[list[str], list[list[int]], bool]:
    """K landmark names, the 2K columns of each annotator or of the one there is, and whether the names are numbers."""
    if suffixed := suffixed_columns(cells):
        names, numbered, by_name = by_annotator(cells, suffixed)
        return names, list(by_name.values()), numbered
    names, columns, numbered = point_columns(cells)
    return names, [columns], numbered


def _add_spacing(subject: Subject, cells: Cells, default_mm: float | None, findings: Findings) -> None:
    column = cells.column(SPACING_COLUMNS)
    spacing_mm = np.full(len(cells.rows), np.nan)
    if column is not None:
        rows, values = _rows_that_read(
            cells,
            lambda part: read_numbers(part, [column])[:, 0],
            "unreadable-spacing",
            "a pixel spacing that cannot be read",
            findings,
        )
        if values is not None:
            spacing_mm[rows] = values
    if default_mm is not None:
        spacing_mm = np.where(np.isnan(spacing_mm), default_mm, spacing_mm)
    if bad := np.flatnonzero((spacing_mm <= 0) | (spacing_mm > LARGEST_SPACING_MM)).tolist():
        findings.add(
            "error",
            "impossible-spacing",
            f"{counted(len(bad), 'row')} with a pixel spacing that is not above 0 and at most a kilometre",
            places=[subject.place(row, f"{spacing_mm[row]:g} mm/px") for row in bad],
            advice="Spacing is mm per pixel; leave the cell empty if it is unknown.",
        )
        spacing_mm[bad] = np.nan
    subject.spacing_mm = spacing_mm


def _add_labels(subject: Subject, cells: Cells, data: CsvConfig, findings: Findings, *, numeric: bool) -> None:
    try:  # without rows, it is the choice of the column that is judged
        read_labels(_part(cells, []), data.label, numeric=numeric, covariates=data.covariates)
    except DataError as error:
        findings.add("error", "no-label-column", _without_path(error, cells.path))
        return
    column = cells.column(LABEL_COLUMNS if data.label is None else [data.label.strip().lower()])
    assert column is not None
    subject.target_name = cells.header[column]
    words = cells.words(column)
    missing = {row for row, word in enumerate(words) if word.lower() in NO_LABEL}
    if missing:
        findings.add(
            "error",
            "missing-label",
            f"{counted(len(missing), 'row')} without a label",
            places=[subject.place(row, f"column {subject.target_name} is empty") for row in sorted(missing)],
            advice="Give every row its label, or delete the row.",
        )
    if not numeric:
        subject.classes = ["" if word.lower() in NO_LABEL else word for word in words]
        return
    numbers = as_numbers(words, decimal_comma=cells.decimal_comma_in([column]))
    subject.numbers = np.where(np.abs(numbers) <= LARGEST, numbers, np.nan)
    bad = [row for row in np.flatnonzero(np.isnan(subject.numbers)).tolist() if row not in missing]
    if bad:
        findings.add(
            "error",
            "label-no-number",
            f"{counted(len(bad), 'label')} of {len(words)} that are no number, or beyond {LARGEST:g}",
            places=[subject.place(row, quoted(words[row])) for row in bad],
            advice="Regression needs a finite number such as 12.5; task=classification learns words.",
        )


def _add_covariates(subject: Subject, cells: Cells, names: list[str], findings: Findings) -> None:
    subject.covariates = {}
    for name in names:
        column = cells.column([name.strip().lower()])
        if column is None:
            findings.add(
                "error",
                "no-covariate-column",
                f"{cells.path.name}: line {cells.header_line} has no column {quoted(name)}"
                f"{nearest(name, cells.header)}, only {enumerated(cells.header)}",
                advice="Mend data.covariates.",
            )
            continue
        words = cells.words(column)
        subject.covariates[cells.header[column]] = ["" if word.lower() in MISSING else word for word in words]


def _rows_that_read(
    cells: Cells, read: Callable[[Cells], np.ndarray], kind: str, what: str, findings: Findings
) -> tuple[list[int], np.ndarray | None]:
    """The rows that `read` takes and what it makes of them; each way in which it refuses the others is a finding."""
    everything = list(range(len(cells.rows)))
    try:
        return everything, read(cells)
    except DataError:
        pass
    refused: dict[str, list[Place]] = {}  # the advice tells the kinds of fault apart
    values: np.ndarray | None = None
    good = _readable(cells, read, everything, [], refused)
    while good:
        try:
            values = read(_part(cells, good))
            break
        except DataError as error:  # each can be read, but not all in one table: 1.200 is no number beside 12,5
            odd = next(
                row for row in good if re.search(rf"\bline {cells.lines[row]}\b", _without_path(error, cells.path))
            )
        against = (row for row in good if _fault(cells, read, odd, [row]))
        beside = next(([row] for row in against), [row for row in good if row != odd])
        good = _readable(cells, read, good, beside, refused)
    for advice, places in refused.items():
        findings.add("error", kind, f"{counted(len(places), 'row')} with {what}", places=places, advice=f"{advice}.")
    return good, values


def _readable(
    cells: Cells,
    read: Callable[[Cells], np.ndarray],
    rows: list[int],
    beside: list[int],
    refused: dict[str, list[Place]],
) -> list[int]:
    """Those of `rows` that `read` takes in one table with the rows `beside`; the others are `refused`."""
    faults = {row: _fault(cells, read, row, beside) for row in rows}
    for row, fault in faults.items():
        if fault is not None:
            refused.setdefault(fault[1], []).append(Place(row, cells.lines[row], None, fault[0]))
    return [row for row, fault in faults.items() if fault is None]


def _fault(cells: Cells, read: Callable[[Cells], np.ndarray], row: int, beside: list[int]) -> tuple[str, str] | None:
    """What `read` says against a row in one table with the rows `beside`, and its advice; None if it takes the row."""
    line = f"line {cells.lines[row]}, "
    try:
        read(_part(cells, [row, *beside]))
    except DataError as error:
        fault, _, advice = _without_path(error, cells.path).rpartition(". ")
        if fault.startswith(line):
            return fault.replace(line, ""), advice
    return None


def _part(cells: Cells, rows: list[int]) -> Cells:
    return cells._replace(rows=[cells.rows[row] for row in rows], lines=[cells.lines[row] for row in rows])


def _without_path(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").rstrip(".")
