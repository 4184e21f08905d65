"""Where images, landmarks and labels come from, how they are split, fitted and augmented (group `data`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.augmentation import AugmentationConfig
from trainer.config.checks import check_choice, check_fraction, check_not_negative, check_pattern, check_positive
from trainer.config.landmark_data import LandmarkData

if TYPE_CHECKING:
    from data.label_records import LabelRecords
    from data.records import LandmarkRecords


@dataclass(kw_only=True)
class DataConfig:
    kind: str
    input_height: int
    input_width: int
    fit: str
    batch_size: int
    workers: int | None
    cache_gb: float
    disk_cache_gb: float
    disk_cache_dir: str | None
    val_fraction: float
    test_fraction: float
    split_seed: int
    balance: bool
    mixup: float
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
        check_not_negative("data.disk_cache_gb", self.disk_cache_gb)
        check_not_negative("data.mixup", self.mixup)
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

    def with_disk_cache(self, records: Any) -> Any:
        """Records whose images are kept beyond the run, where that is asked for and they are read from files."""
        from data.disk_cache import DiskCache, default_folder
        from data.image_files import ImageReader

        if self.disk_cache_gb == 0 or not isinstance(records.read, ImageReader):
            return records
        folder = default_folder() if self.disk_cache_dir is None else Path(self.disk_cache_dir).expanduser()
        return replace(records, read=records.read.kept_in(DiskCache(folder, self.disk_cache_gb)))


class LabelData(ABC):
    """Data that can have a label and covariates per image. The split is that of `splits_file` if it exists, else made
    and written there."""

    @property
    @abstractmethod
    def target_name(self) -> str:
        """What is learnt, for axes of pictures."""

    @property
    @abstractmethod
    def covariate_names(self) -> list[str]:
        """The covariates that the network is to see."""

    @abstractmethod
    def label_records(self, splits_file: Path, *, numeric: bool) -> LabelRecords:
        """The images with a class, or a number, each."""


@dataclass(kw_only=True)
class PhantomConfig(DataConfig, LandmarkData, LabelData):
    num_images: int
    seed: int
    height: int
    width: int
    missing_fraction: float
    trouble: float
    covariates: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_landmark_keys()
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

    @property
    def target_name(self) -> str:
        return "age_months"

    @property
    def covariate_names(self) -> list[str]:
        return self.covariates

    def landmark_records(self, splits_file: Path) -> LandmarkRecords:
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

    def label_records(self, splits_file: Path, *, numeric: bool) -> LabelRecords:
        from data.label_records import phantom_label_records

        return phantom_label_records(
            num_images=self.num_images,
            seed=self.seed,
            height=self.height,
            width=self.width,
            trouble=self.trouble,
            numeric=numeric,
            covariates=self.covariates,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            splits_file=splits_file,
        )


@dataclass(kw_only=True)
class CsvConfig(DataConfig, LandmarkData, LabelData):
    table: str
    root: str | None
    allow_outside_root: bool
    group_pattern: str | None
    pixel_spacing_mm: float | None
    more_tables: list[str]
    label: str | None
    covariates: list[str]
    missing_covariate: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_landmark_keys()
        check_positive("data.pixel_spacing_mm", self.pixel_spacing_mm)
        check_pattern("data.group_pattern", self.group_pattern)
        check_choice("data.missing_covariate", self.missing_covariate, ("error", "category"))

    @property
    def folder(self) -> Path:
        return Path(self.table).parent

    @property
    def target_name(self) -> str:
        return self.label or "target"

    @property
    def covariate_names(self) -> list[str]:
        return self.covariates

    def landmark_records(self, splits_file: Path) -> LandmarkRecords:
        from data.records import csv_records

        records = csv_records(
            table=Path(self.table),
            root=None if self.root is None else Path(self.root),
            allow_outside_root=self.allow_outside_root,
            group_pattern=self.group_pattern,
            pixel_spacing_mm=self.pixel_spacing_mm,
            more_tables=[Path(table) for table in self.more_tables],
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            splits_file=splits_file,
        )
        return self.with_disk_cache(records)

    def label_records(self, splits_file: Path, *, numeric: bool) -> LabelRecords:
        from data.label_records import csv_label_records

        records = csv_label_records(
            table=Path(self.table),
            root=None if self.root is None else Path(self.root),
            allow_outside_root=self.allow_outside_root,
            group_pattern=self.group_pattern,
            label=self.label,
            numeric=numeric,
            covariates=self.covariates,
            missing_covariate=self.missing_covariate,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            splits_file=splits_file,
        )
        return self.with_disk_cache(records)


@dataclass(kw_only=True)
class ImageFolderConfig(DataConfig, LabelData):
    root: str

    @property
    def target_name(self) -> str:
        return "target"

    @property
    def covariate_names(self) -> list[str]:
        return []

    def label_records(self, splits_file: Path, *, numeric: bool) -> LabelRecords:
        from data.label_records import folder_records

        records = folder_records(
            root=Path(self.root),
            numeric=numeric,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            splits_file=splits_file,
        )
        return self.with_disk_cache(records)
