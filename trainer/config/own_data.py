"""What data of a user's own have to say: which samples there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config.checks import check_choice
from trainer.config.data import DataConfig, LabelData
from trainer.config.landmark_data import LandmarkData

if TYPE_CHECKING:
    from data.label_records import LabelRecords
    from data.records import LandmarkRecords
    from data.samples import Sample, Splitting


@dataclass(kw_only=True)
class OwnData(DataConfig, LandmarkData, LabelData, ABC):
    """Data from anywhere, with landmarks, labels or both. Everything after reading is as for any other data: the split,
    groups that stay together, the fit into the input, augmentation, millimetres."""

    covariates: list[str]
    missing_covariate: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_landmark_keys()
        check_choice("data.missing_covariate", self.missing_covariate, ("error", "category"))

    @abstractmethod
    def read_samples(self) -> Iterable[Sample]:
        """One trainer.Sample for each image, always in the same order.

        Raises data.errors.DataError, with a message for the person at the keyboard, where the source has a fault.
        """

    @property
    def folder(self) -> Path:
        """Where flip_pairs is looked for, if not here."""
        return Path()

    @property
    def target_name(self) -> str:
        """What is learnt, for axes of pictures; a unit at its end, as of age_months, is told apart."""
        return "label"

    @property
    def covariate_names(self) -> list[str]:
        return self.covariates

    def landmark_records(self, splits_file: Path) -> LandmarkRecords:
        from data.samples import landmark_records_of

        records = landmark_records_of(self.read_samples(), f"data={self.kind}", self._splitting(splits_file))
        return self.with_disk_cache(records)

    def label_records(self, splits_file: Path, *, numeric: bool) -> LabelRecords:
        from data.samples import label_records_of

        records = label_records_of(
            self.read_samples(),
            f"data={self.kind}",
            self._splitting(splits_file),
            numeric=numeric,
            covariates=self.covariates,
            missing_covariate=self.missing_covariate,
        )
        return self.with_disk_cache(records)

    def _splitting(self, file: Path) -> Splitting:
        from data.samples import Splitting

        return Splitting(
            val_fraction=self.val_fraction, test_fraction=self.test_fraction, seed=self.split_seed, file=file
        )
