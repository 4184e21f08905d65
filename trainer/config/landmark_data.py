"""What all data with landmarks can be told, whatever they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config.checks import check_choice, check_fraction

if TYPE_CHECKING:
    from data.records import LandmarkRecords


@dataclass(kw_only=True)
class LandmarkData(ABC):
    """Data that can have landmarks. The split is that of `splits_file` if it exists, else made and written there."""

    region: str
    region_margin: float
    annotator: str

    def check_landmark_keys(self) -> None:
        check_choice("data.region", self.region, ("full", "landmarks"))
        check_fraction("data.region_margin", self.region_margin)
        if not self.annotator:
            raise ValueError("data.annotator= is empty; give mean, random, or the name of an annotator")

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where files that belong to the data lie."""

    @abstractmethod
    def landmark_records(self, splits_file: Path) -> LandmarkRecords:
        """The images with their landmarks, whole."""
