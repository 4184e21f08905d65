"""Where a run is tracked beside its CSVs (group `tracker`)."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config.checks import check_choice

if TYPE_CHECKING:
    from trainer.run_dir import RunDir
    from trainer.trackers.tracker import Tracker

MLFLOW_FOLDER = "mlruns"  # where MLflow itself looks for runs


@dataclass(kw_only=True)
class TrackerConfig(ABC):
    kind: str

    @abstractmethod
    def check_usable(self) -> None:
        """Raises ValueError where the tracker's package is not installed, or lacks what it needs to be used at all."""

    @abstractmethod
    def build(self, run_dir: RunDir) -> Tracker | None:
        """Raises whatever the tracker's package does; None where the CSVs suffice."""


@dataclass(kw_only=True)
class CsvTrackerConfig(TrackerConfig):
    def check_usable(self) -> None:
        pass

    def build(self, run_dir: RunDir) -> None:
        return None


@dataclass(kw_only=True)
class TensorBoardConfig(TrackerConfig):
    images: bool

    def check_usable(self) -> None:
        _check_installed(self.kind)

    def build(self, run_dir: RunDir) -> Tracker:
        from trainer.trackers.tensorboard import TensorBoardTracker

        return TensorBoardTracker(run_dir, images=self.images)


@dataclass(kw_only=True)
class MlflowConfig(TrackerConfig):
    tracking_uri: str | None
    experiment: str
    run_name: str | None
    images: bool

    def check_usable(self) -> None:
        _check_installed(self.kind)

    def build(self, run_dir: RunDir) -> Tracker:
        from trainer.trackers.mlflow import MlflowTracker

        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or MLFLOW_FOLDER
        if "://" not in uri and not uri.startswith(("file:", "databricks")):
            uri = str(Path(uri).absolute())
        return MlflowTracker(
            run_dir, uri, experiment=self.experiment, run_name=self.run_name or run_dir.path.name, images=self.images
        )


@dataclass(kw_only=True)
class WandbConfig(TrackerConfig):
    mode: str
    project: str
    run_name: str | None
    images: bool

    def __post_init__(self) -> None:
        check_choice("tracker.mode", self.mode, ("offline", "online"))

    def check_usable(self) -> None:
        _check_installed(self.kind)
        if self.mode == "online":
            from trainer.trackers.wandb import check_logged_in

            check_logged_in()

    def build(self, run_dir: RunDir) -> Tracker:
        from trainer.trackers.wandb import WandbTracker

        return WandbTracker(
            run_dir,
            online=self.mode == "online",
            project=self.project,
            run_name=self.run_name or run_dir.path.name,
            images=self.images,
        )


def _check_installed(package: str) -> None:
    found = find_spec(package)
    if found is None or found.origin is None:  # without origin: a folder of that name where the command was typed
        raise ValueError(f'tracker={package} needs a package that is not installed: pip install "trainer[{package}]"')
