"""What labels there are to learn: class or number, covariates and split of each image, with a way to read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data.cells import Cells, read_cells
from data.covariates import Covariates, no_covariates, read_covariates
from data.errors import DataError, enumerated
from data.image_files import ImageFiles
from data.image_folder import read_image_folder
from data.image_rows import read_image_rows, read_sizes
from data.labels import Labels, check_classes_trained, check_numbers_vary, read_labels
from data.phantom import GROWTH_STAGES, PhantomSample, draw_phantoms
from data.records import read_drawn
from data.splits import keep_splits, written_or_drawn_splits

PHANTOM_CLASS, PHANTOM_NUMBER = "growth_stage", "age_months"  # columns


@dataclass(frozen=True)
class LabelRecords:
    """N images with a class or a number each."""

    image_names: list[str]
    targets: np.ndarray  # (N,) int64 class index, or float64 number
    class_names: list[str] | None  # None for numbers
    covariates: Covariates
    sizes: np.ndarray  # (N, 2) width, height
    splits: np.ndarray  # (N,) train, val or test
    read: Callable[[int], np.ndarray]  # index -> (H, W) or (H, W, 3) uint8
    target_scale: tuple[float, float] | None = None  # mean and std that a model knows already; None: as trained here

    def indices(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.splits == split)

    @property
    def target_mean(self) -> float:
        """Mean of the training numbers."""
        if self.target_scale is not None:
            return self.target_scale[0]
        return float(self.targets[self.indices("train")].mean())

    @property
    def target_std(self) -> float:
        """Standard deviation of the training numbers, above 0."""
        if self.target_scale is not None:
            return self.target_scale[1]
        return float(self.targets[self.indices("train")].std())


def csv_label_records(
    *,
    table: Path,
    root: Path | None,
    allow_outside_root: bool = False,
    group_pattern: str | None = None,
    label: str | None,
    numeric: bool,
    covariates: list[str],
    missing_covariate: str,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    splits_file: Path,
) -> LabelRecords:
    """The rows of a table with an image and a label column; raises DataError for every fault in them.

    label: its column; None: the first column named label, class, target or category. numeric: numbers, else classes.
    missing_covariate: what an empty cell, or a word no training row has, is: `error` or `category` (see Covariates).
    Without split and group columns, each class gives its share to every split.
    """
    cells = read_cells(table)
    labels = read_labels(cells, label, numeric=numeric, covariates=covariates)
    rows = read_image_rows(cells, root, allow_outside_root=allow_outside_root, group_pattern=group_pattern)
    splits = written_or_drawn_splits(
        splits_file,
        rows.image_names,
        split=rows.split,
        group=rows.group,
        strata=labels.words,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=split_seed,
    )
    check_trained(labels, splits, origin="data.label")
    read = read_covariates(cells, covariates, splits == "train", missing_covariate)
    sizes = read_sizes(cells.path, cells.lines, rows.images)
    keep_splits(splits_file, rows.image_names, splits)
    return LabelRecords(
        image_names=rows.image_names,
        targets=labels.targets,
        class_names=labels.class_names,
        covariates=read,
        sizes=sizes,
        splits=splits,
        read=ImageFiles(rows.images, cells.path, cells.lines),
    )


def folder_records(
    *,
    root: Path,
    numeric: bool,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    splits_file: Path,
) -> LabelRecords:
    """Images in one folder per class: `<class>/*`, or `train/<class>/*` with `val` and `test` beside it.

    numeric: the names of the folders are numbers. Raises DataError for every fault in the tree.
    """
    tree = read_image_folder(root, numeric=numeric)
    splits = written_or_drawn_splits(
        splits_file,
        tree.image_names,
        split=tree.split,
        group=None,
        strata=tree.labels.words,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=split_seed,
    )
    check_trained(tree.labels, splits, origin="the names of the class folders")
    keep_splits(splits_file, tree.image_names, splits)
    return LabelRecords(
        image_names=tree.image_names,
        targets=tree.labels.targets,
        class_names=tree.labels.class_names,
        covariates=no_covariates(len(tree.image_names)),
        sizes=tree.sizes,
        splits=splits,
        read=ImageFiles(tree.images),
    )


def phantom_label_records(
    *,
    num_images: int,
    seed: int,
    height: int,
    width: int,
    trouble: float,
    numeric: bool,
    covariates: list[str],
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    splits_file: Path,
) -> LabelRecords:
    """Radiographs drawn when they are first read, with growth_stage or (numeric) age_months as label, and sex."""
    phantoms = draw_phantoms(num_images, seed=seed, height=height, width=width, trouble=trouble)
    table = phantom_table(phantoms)
    names = [row[0] for row in table.rows]
    label = PHANTOM_NUMBER if numeric else PHANTOM_CLASS
    offered = [name for name in table.header[1:] if name != label]
    if unknown := [name for name in covariates if name.strip().lower() not in offered]:
        raise DataError(
            f"data.covariates names {enumerated(unknown)}; of phantoms whose {label} is learnt there is only "
            f"{enumerated(offered)}."
        )
    labels = read_labels(
        table, label, numeric=numeric, covariates=covariates, class_order=GROWTH_STAGES, origin="data.num_images"
    )
    splits = written_or_drawn_splits(
        splits_file,
        names,
        split=None,
        group=None,
        strata=labels.words,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=split_seed,
    )
    check_trained(labels, splits, origin="data.num_images")
    advice = "Draw more images (data.num_images), or take another data.split_seed."
    read = read_covariates(table, covariates, splits == "train", "error", advice=advice)
    keep_splits(splits_file, names, splits)
    return LabelRecords(
        image_names=names,
        targets=labels.targets,
        class_names=labels.class_names,
        covariates=read,
        sizes=np.tile([width, height], (num_images, 1)),
        splits=splits,
        read=partial(read_drawn, phantoms),
    )


def phantom_table(phantoms: Sequence[PhantomSample]) -> Cells:
    """What is known of drawn radiographs, as the cells of a table."""
    return Cells(
        path=Path("phantom"),
        header=["image", PHANTOM_CLASS, PHANTOM_NUMBER, "sex"],
        header_line=1,
        rows=[
            [f"phantom_{index:05d}", drawn.growth_stage, f"{drawn.age_months:g}", drawn.sex]
            for index, drawn in enumerate(phantoms)
        ],
        lines=list(range(2, len(phantoms) + 2)),
        decimal_marks=["."] * 4,
    )


def check_trained(labels: Labels, splits: np.ndarray, *, origin: str) -> None:
    """Raises DataError where the training split has nothing to learn from."""
    if labels.class_names is None:
        check_numbers_vary(labels, splits, origin=origin)
    else:
        check_classes_trained(labels, splits)
