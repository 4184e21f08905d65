"""New images with their truth, read under what a finished run knows: its landmarks, classes and covariates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data.cells import Cells, read_cells
from data.covariates import Covariates
from data.errors import DataError, enumerated, nearest, quoted
from data.geometry import WHOLE, Region
from data.image_files import ImageFiles
from data.image_folder import read_image_folder
from data.image_rows import read_image_rows, read_sizes
from data.known_covariates import encode_known, with_rows
from data.label_records import PHANTOM_CLASS, PHANTOM_NUMBER, LabelRecords, phantom_table
from data.labels import Labels, known_classes_of, read_known_labels
from data.phantom import LANDMARK_NAMES, draw_phantoms
from data.records import LandmarkRecords, read_checked_table, read_drawn

NEW = "new"  # the split of images that say none

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What a finished run has learnt of its data."""

    landmark_names: list[str]  # empty for labels
    region: Region = WHOLE
    class_names: list[str] | None = None  # None for numbers
    target_scale: tuple[float, float] | None = None  # mean and std of numbers
    covariates: Covariates | None = None  # of no image


@dataclass(frozen=True)
class Phantoms:
    """Which radiographs are drawn; see draw_phantom."""

    num_images: int
    seed: int
    height: int
    width: int
    missing_fraction: float
    trouble: float


def landmarks_of_table(
    table: Path,
    known: Known,
    *,
    root: Path | None,
    allow_outside_root: bool,
    pixel_spacing_mm: float | None,
    more_tables: Sequence[Path],
) -> LandmarkRecords:
    """The rows of a table with the run's landmarks, in the run's order; raises DataError for every fault in it."""
    rows, sizes = read_checked_table(
        table,
        root=root,
        allow_outside_root=allow_outside_root,
        pixel_spacing_mm=pixel_spacing_mm,
        more_tables=more_tables,
    )
    order = _order(rows.path, rows.landmark_names, known.landmark_names)
    annotations = np.stack([each.points[:, order] for each in rows.annotators]) if rows.annotators else None
    return LandmarkRecords(
        image_names=rows.image_names,
        landmark_names=known.landmark_names,
        points=rows.points[:, order],
        sizes=sizes,
        pixel_spacing_mm=rows.pixel_spacing_mm,
        splits=_splits(rows.split, len(sizes)),
        read=ImageFiles(rows.images, rows.path, rows.rows),
        region=known.region,
        annotator_names=[each.name for each in rows.annotators],
        annotations=annotations,
    )


def landmarks_of_phantoms(drawn: Phantoms, known: Known) -> LandmarkRecords:
    phantoms = draw_phantoms(
        drawn.num_images,
        seed=drawn.seed,
        height=drawn.height,
        width=drawn.width,
        missing_fraction=drawn.missing_fraction,
        trouble=drawn.trouble,
    )
    order = _order(Path("phantom"), list(LANDMARK_NAMES), known.landmark_names)
    return LandmarkRecords(
        image_names=[f"phantom_{index:05d}" for index in range(drawn.num_images)],
        landmark_names=known.landmark_names,
        points=np.stack([phantom.points for phantom in phantoms])[:, order],
        sizes=np.tile([drawn.width, drawn.height], (drawn.num_images, 1)),
        pixel_spacing_mm=np.array([phantom.pixel_spacing_mm for phantom in phantoms]),
        splits=_splits(None, drawn.num_images),
        read=partial(read_drawn, phantoms),
        region=known.region,
    )


def labels_of_table(
    table: Path, known: Known, *, root: Path | None, allow_outside_root: bool, label: str | None
) -> LabelRecords:
    """The rows of a table with an image and a label column; see csv_label_records."""
    cells = read_cells(table)
    assert known.covariates is not None
    labels = read_known_labels(cells, label, class_names=known.class_names, covariates=known.covariates.names)
    rows = read_image_rows(cells, root, allow_outside_root=allow_outside_root)
    covariates = encode_known(cells, known.covariates)
    return LabelRecords(
        image_names=rows.image_names,
        targets=labels.targets,
        class_names=labels.class_names,
        covariates=covariates,
        sizes=read_sizes(cells.path, cells.lines, rows.images),
        splits=_splits(rows.split, len(rows.images)),
        read=ImageFiles(rows.images, cells.path, cells.lines),
        target_scale=known.target_scale,
    )


def labels_of_folder(root: Path, known: Known) -> LabelRecords:
    """Images in one folder per class; see folder_records."""
    tree = read_image_folder(root, numeric=known.class_names is None)
    labels = tree.labels
    if known.class_names is not None:
        labels = known_classes_of(root, tree.image_names, labels.words or [], known.class_names)
    assert known.covariates is not None
    return LabelRecords(
        image_names=tree.image_names,
        targets=labels.targets,
        class_names=labels.class_names,
        covariates=with_rows(known.covariates, [], np.zeros((len(tree.images), 0), np.float32)),
        sizes=tree.sizes,
        splits=_splits(tree.split, len(tree.images)),
        read=ImageFiles(tree.images),
        target_scale=known.target_scale,
    )


def labels_of_phantoms(drawn: Phantoms, known: Known) -> LabelRecords:
    phantoms = draw_phantoms(
        drawn.num_images, seed=drawn.seed, height=drawn.height, width=drawn.width, trouble=drawn.trouble
    )
    cells: Cells = phantom_table(phantoms)
    column = PHANTOM_NUMBER if known.class_names is None else PHANTOM_CLASS
    assert known.covariates is not None
    labels: Labels = read_known_labels(cells, column, class_names=known.class_names, covariates=known.covariates.names)
    return LabelRecords(
        image_names=[row[0] for row in cells.rows],
        targets=labels.targets,
        class_names=labels.class_names,
        covariates=encode_known(cells, known.covariates),
        sizes=np.tile([drawn.width, drawn.height], (drawn.num_images, 1)),
        splits=_splits(None, drawn.num_images),
        read=partial(read_drawn, phantoms),
        target_scale=known.target_scale,
    )


def _splits(given: list[str] | None, num_rows: int) -> np.ndarray:
    return np.array([NEW] * num_rows if given is None else given, dtype="<U5")


def _order(source: Path, names: list[str], wanted: list[str]) -> list[int]:
    """Where in a table each landmark of the run stands: by its name or, where one of the two has mere numbers for
    names, by its place; raises DataError where it has others."""
    told = f"The model finds {len(wanted)} landmarks: {enumerated(wanted)}."
    if names != wanted and (_numbered(names) or _numbered(wanted)):
        if len(names) != len(wanted):
            raise DataError.listing(source, [f"it has {len(names)} landmarks, {enumerated(names)}"], told)
        log.info("%s: landmarks are matched by their order: %s is %s, ...", source, names[0], wanted[0])
        return list(range(len(wanted)))
    if faults := [f"it has no landmark {quoted(name)}{nearest(name, names)}" for name in wanted if name not in names]:
        raise DataError.listing(source, faults, f"{told} Leave the cells of a landmark that was not marked empty.")
    if extra := [name for name in names if name not in wanted]:
        log.warning("%s: landmarks that the model does not know are left out: %s", source, enumerated(extra))
    return [names.index(name) for name in wanted]


def _numbered(names: list[str]) -> bool:
    return names == [str(number) for number in range(len(names))]
