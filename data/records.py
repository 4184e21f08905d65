"""What there is to learn: image names, landmarks, pixel spacing and splits, with a way to read each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from data.geometry import WHOLE, Region
from data.image_files import ImageFiles
from data.image_rows import read_sizes
from data.phantom import LANDMARK_NAMES, PhantomSample, draw_phantoms
from data.splits import keep_splits, written_or_drawn_splits
from data.tables import LandmarkTable, check_landmarks_trained, check_points_inside, read_landmark_table


@dataclass(frozen=True)
class LandmarkRecords:
    """N images with K landmarks each."""

    image_names: list[str]
    landmark_names: list[str]
    points: np.ndarray  # (N, K, 2) original px, NaN = missing
    sizes: np.ndarray  # (N, 2) width, height
    pixel_spacing_mm: np.ndarray  # (N,), NaN = unknown
    splits: np.ndarray  # (N,) train, val or test
    read: Callable[[int], np.ndarray]  # index -> (H, W) or (H, W, 3) uint8
    region: Region = WHOLE  # of each image, what is fitted into the network's input
    annotator_names: list[str] = field(default_factory=list)  # A, where the data tell several apart
    annotations: np.ndarray | None = None  # (A, N, K, 2) what each of them marked; `points` are their mean

    @property
    def in_mm(self) -> bool:
        """Whether every image says how large its pixels are."""
        return bool(np.isfinite(self.pixel_spacing_mm).all())

    def indices(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.splits == split)


def csv_records(
    *,
    table: Path,
    root: Path | None,
    allow_outside_root: bool = False,
    group_pattern: str | None = None,
    pixel_spacing_mm: float | None,
    more_tables: Sequence[Path] = (),
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    splits_file: Path,
) -> LandmarkRecords:
    """The rows of a table; raises DataError for every fault in it (see data.tables)."""
    rows, sizes = read_checked_table(
        table,
        root=root,
        allow_outside_root=allow_outside_root,
        group_pattern=group_pattern,
        pixel_spacing_mm=pixel_spacing_mm,
        more_tables=more_tables,
    )
    splits = written_or_drawn_splits(
        splits_file,
        rows.image_names,
        split=rows.split,
        group=rows.group,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=split_seed,
    )
    check_landmarks_trained(rows, splits)
    keep_splits(splits_file, rows.image_names, splits)
    return LandmarkRecords(
        image_names=rows.image_names,
        landmark_names=rows.landmark_names,
        points=rows.points,
        sizes=sizes,
        pixel_spacing_mm=rows.pixel_spacing_mm,
        splits=splits,
        read=ImageFiles(rows.images, rows.path, rows.rows),
        annotator_names=[each.name for each in rows.annotators],
        annotations=np.stack([each.points for each in rows.annotators]) if rows.annotators else None,
    )


def read_checked_table(
    table: Path,
    *,
    root: Path | None,
    allow_outside_root: bool,
    group_pattern: str | None = None,
    pixel_spacing_mm: float | None,
    more_tables: Sequence[Path],
) -> tuple[LandmarkTable, np.ndarray]:
    """The rows of a table, and the sizes (N, 2) of their images, in which the points lie; raises DataError."""
    rows = read_landmark_table(
        table,
        root=root,
        allow_outside_root=allow_outside_root,
        group_pattern=group_pattern,
        pixel_spacing_mm=pixel_spacing_mm,
        more_tables=more_tables,
    )
    sizes = read_sizes(rows.path, rows.rows, rows.images)
    by_annotator = [replace(rows, path=each.path, rows=each.lines, points=each.points) for each in rows.annotators]
    for marked in by_annotator or [rows]:
        check_points_inside(marked, sizes)
    return rows, sizes


def phantom_records(
    *,
    num_images: int,
    seed: int,
    height: int,
    width: int,
    missing_fraction: float,
    trouble: float,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    splits_file: Path,
) -> LandmarkRecords:
    """Radiographs, each drawn when it is first read and kept by the process that read it: 1 byte per pixel."""
    phantoms = draw_phantoms(
        num_images, seed=seed, height=height, width=width, missing_fraction=missing_fraction, trouble=trouble
    )
    names = [f"phantom_{index:05d}" for index in range(num_images)]
    splits = written_or_drawn_splits(
        splits_file,
        names,
        split=None,
        group=None,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=split_seed,
    )
    keep_splits(splits_file, names, splits)
    return LandmarkRecords(
        image_names=names,
        landmark_names=list(LANDMARK_NAMES),
        points=np.stack([phantom.points for phantom in phantoms]),
        sizes=np.tile([width, height], (num_images, 1)),
        pixel_spacing_mm=np.array([phantom.pixel_spacing_mm for phantom in phantoms]),
        splits=splits,
        read=partial(read_drawn, phantoms),
    )


def read_drawn(phantoms: Sequence[PhantomSample], index: int) -> np.ndarray:
    return phantoms[index].image
