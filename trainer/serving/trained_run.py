"""A finished run, read from its folder: what its network takes and gives, and which weights it ended with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.geometry import WHOLE, Region
from data.known_covariates import known_covariates
from data.known_records import Known
from trainer.command_line import override, resume_command
from trainer.config.augmentation import AugmentationConfig
from trainer.config.checks import check_positive
from trainer.config.run import TrainConfig
from trainer.config.store import read_config, to_train_config
from trainer.config.tasks import LandmarkTaskConfig
from trainer.parts import check_parts_known
from trainer.run_dir import RunDir
from trainer.tasks.landmark_calibration import Calibration


@dataclass(frozen=True)
class TrainedRun:
    """What its files say."""

    run_dir: RunDir
    config: TrainConfig
    results: dict[str, Any]  # results.json
    weights: str  # what results.json calls those that the run ended with
    metrics: dict[str, float]  # that the run itself ended with
    known: Known
    calibration: Calibration | None  # of landmarks, where there were images to calibrate on

    @property
    def is_of_landmarks(self) -> bool:
        return bool(self.known.landmark_names)

    @property
    def moves(self) -> AugmentationConfig:
        """What the views of an image are drawn by."""
        settings = self.config.data.augmentation
        return settings.without_mirrors if self.is_of_landmarks else settings

    def check_views(self, tta: int) -> None:
        """Raises ValueError where the run has no `tta` views of an image."""
        check_positive("tta", tta)
        if tta > 1 and not self.moves.moves:
            raise ValueError(f"tta={tta} needs views, but the run was trained without any (data/augmentation=none)")


def read_run(path: Path, verb: str = "predict") -> TrainedRun:
    """`verb`: what it is read for, to tell how to do that with the run's own parts.

    Raises ValueError where the folder holds no run, or one that has not ended, or a file of it is damaged.
    """
    run_dir = RunDir(path)
    if not run_dir.config.is_file():
        what = "has no config.yaml" if path.is_dir() else "is not a folder"
        raise ValueError(f"run={path} is not a run directory: it {what}; name the folder that training printed")
    saved = read_config(run_dir.config)
    if run_dir.environment.is_file():
        check_parts_known(saved, run_dir.read_environment(), f"{verb} {override('run', str(path))} ...")
    config = to_train_config(saved, run_dir.config)
    results = _read_results(run_dir)
    made = _count_updates(run_dir)
    try:
        went_on = made is not None and made > results["updates"]
        weights = str(results["taken"]["weights"])
        metrics = dict(results["metrics"][results["split"]])
        known = _known(config, results)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(run_dir.results, f"{type(error).__name__}: {error}") from None
    if went_on:
        raise ValueError(
            f"run={path} is not finished: it went on to update {made} after results.json was written; {_go_on(run_dir)}"
        )
    calibration = _read_calibration(run_dir, known)
    here = RunDir(path.absolute())  # it is read again later, also where own data have this process go to their folder
    return TrainedRun(here, config, results, weights, metrics, known, calibration)


def _read_results(run_dir: RunDir) -> dict[str, Any]:
    if not run_dir.results.is_file():
        raise ValueError(f"run={run_dir.path} is not finished: it has no results.json; {_go_on(run_dir)}")
    results = _read_json(run_dir.results)
    if "taken" not in results:
        if "updates" not in results and "range_test" in results:
            raise ValueError(f"run={run_dir.path} holds range tests alone, no trained network; name a run that trained")
        raise _damaged(run_dir.results, "it lacks taken")
    return results


def _go_on(run_dir: RunDir) -> str:
    return f"go on with it: {resume_command(run_dir.path)}"


def _count_updates(run_dir: RunDir) -> int | None:
    """Rows of lr_history.csv; None without that file."""
    if not run_dir.lr_history.is_file():
        return None
    with run_dir.lr_history.open("rb") as file:
        return sum(1 for _ in file) - 1


def _known(config: TrainConfig, results: dict[str, Any]) -> Known:
    mapping = results.get("mapping", {})
    if isinstance(config.task, LandmarkTaskConfig):
        names = [str(row["landmark"]) for row in results["details"][0]["rows"]]
        return Known(names, Region(*map(float, mapping["region"])) if "region" in mapping else WHOLE)
    scale = mapping.get("target")
    return Known(
        [],
        class_names=[str(name) for name in mapping["classes"]] if scale is None else None,
        target_scale=None if scale is None else (float(scale["mean"]), float(scale["std"])),
        covariates=known_covariates(mapping["covariates"], getattr(config.data, "missing_covariate", "error")),
    )


def _read_calibration(run_dir: RunDir, known: Known) -> Calibration | None:
    if not run_dir.calibration.is_file():
        return None
    written = _read_json(run_dir.calibration)
    try:
        calibration = Calibration.from_json(written)
    except (KeyError, TypeError) as error:
        raise _damaged(run_dir.calibration, f"{type(error).__name__}: {error}") from None
    if list(calibration.landmark_names) != known.landmark_names:
        raise _damaged(run_dir.calibration, "it is of other landmarks")
    return calibration


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(value, dict):
        raise _damaged(path, "it is no JSON object")
    return value


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is not as a run wrote it ({reason}); put it back, or train anew")
