"""Where images and landmarks come from, how they are split, fitted and augmented (group `data`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config.checks import check_choice, check_fraction, check_not_negative, check_positive

if TYPE_CHECKING:
    from data.augmentation import Augmentation
    from data.records import LandmarkRecords


@dataclass(kw_only=True)
class AugmentationConfig:
    rotate_degrees: float
    scale: float
    shift: float
    shear_degrees: float
    flip: float
    flip_pairs: str | None
    brightness: float
    contrast: float
    gamma: float
    clahe: float
    noise: float
    dropout_holes: int
    dropout_size: float

    def __post_init__(self) -> None:
        for name in ("rotate_degrees", "shear_degrees", "gamma", "dropout_holes"):
            check_not_negative(f"data.augmentation.{name}", getattr(self, name))
        for name in ("scale", "shift", "flip", "brightness", "contrast", "clahe", "noise", "dropout_size"):
            check_fraction(f"data.augmentation.{name}", getattr(self, name))
        if self.scale >= 1:
            raise ValueError(f"data.augmentation.scale={self.scale} must be below 1")
        if self.shear_degrees > 45:
            raise ValueError(f"data.augmentation.shear_degrees={self.shear_degrees} must be at most 45")
        if self.gamma > 5:
            raise ValueError(f"data.augmentation.gamma={self.gamma} must be at most 5")
        if self.flip > 0 and self.flip_pairs is None:
            raise ValueError(
                f"data.augmentation.flip={self.flip} needs data.augmentation.flip_pairs: a file with a line `i j` for "
                "each pair of landmarks that change sides in a mirror (or `none` if no landmark does)"
            )

    def build(self, num_landmarks: int, beside: Path) -> Augmentation:
        """The augmentation of images with `num_landmarks`; flip pairs are looked for here, then in `beside`."""
        from data.augmentation import Augmentation
        from data.tables import read_flip_pairs

        flip_pairs: list[tuple[int, int]] = []
        if self.flip > 0 and self.flip_pairs not in (None, "none"):
            path = Path(str(self.flip_pairs))
            flip_pairs = read_flip_pairs(path if path.exists() else beside / path, num_landmarks)
        return Augmentation(
            rotate_degrees=self.rotate_degrees,
            scale=self.scale,
            shift=self.shift,
            shear_degrees=self.shear_degrees,
            flip=self.flip,
            flip_pairs=flip_pairs,
            brightness=self.brightness,
            contrast=self.contrast,
            gamma=self.gamma,
            clahe=self.clahe,
            noise=self.noise,
            dropout_holes=self.dropout_holes,
            dropout_size=self.dropout_size,
        )


@dataclass(kw_only=True)
class DataConfig(ABC):
    kind: str
    input_height: int
    input_width: int
    fit: str
    batch_size: int
    workers: int
    cache_gb: float
    val_fraction: float
    test_fraction: float
    split_seed: int
    augmentation: AugmentationConfig

    def __post_init__(self) -> None:
        for name in ("input_height", "input_width"):
            value = getattr(self, name)
            if value < 32:
                raise ValueError(f"data.{name}={value} must be at least 32 px")
        check_choice("data.fit", self.fit, ("letterbox", "stretch"))
        check_positive("data.batch_size", self.batch_size)
        check_not_negative("data.workers", self.workers)
        check_not_negative("data.cache_gb", self.cache_gb)
        check_fraction("data.val_fraction", self.val_fraction)
        check_fraction("data.test_fraction", self.test_fraction)
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"data.val_fraction={self.val_fraction} and data.test_fraction={self.test_fraction} "
                "leave nothing to train on"
            )

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the network sees, px."""
        return self.input_height, self.input_width

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where files that belong to the data lie."""

    @abstractmethod
    def build(self, splits_file: Path) -> LandmarkRecords:
        """Read what is to be learnt; the split is that of `splits_file` if it exists, else made and written there."""


@dataclass(kw_only=True)
class PhantomConfig(DataConfig):
    num_images: int
    seed: int
    height: int
    width: int
    missing_fraction: float
    trouble: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_images < 2:
            raise ValueError(f"data.num_images={self.num_images} must be at least 2")
        for name in ("height", "width"):
            value = getattr(self, name)
            if value < 64:
                raise ValueError(f"data.{name}={value} must be at least 64 px")
        check_fraction("data.missing_fraction", self.missing_fraction)
        check_not_negative("data.trouble", self.trouble)

    @property
    def folder(self) -> Path:
        return Path()

    def build(self, splits_file: Path) -> LandmarkRecords:
        from data.records import phantom_records

        return phantom_records(
            num_images=self.num_images,
            seed=self.seed,
            height=self.height,
            width=self.width,
            missing_fraction=self.missing_fraction,
            trouble=self.trouble,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            splits_file=splits_file,
        )


@dataclass(kw_only=True)
class CsvConfig(DataConfig):
    table: str
    root: str | None
    pixel_spacing_mm: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("data.pixel_spacing_mm", self.pixel_spacing_mm)

    @property
    def folder(self) -> Path:
        return Path(self.table).parent

    def build(self, splits_file: Path) -> LandmarkRecords:
        from data.records import csv_records

        return csv_records(
            table=Path(self.table),
            root=None if self.root is None else Path(self.root),
            pixel_spacing_mm=self.pixel_spacing_mm,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            splits_file=splits_file,
        )
