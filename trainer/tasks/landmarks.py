"""The landmark task: predictions in original pixels, metrics, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from data.annotators import between_annotators
from data.datasets import mean_shape, to_original
from data.geometry import WHOLE, Region
from data.records import LandmarkRecords
from models.landmarks import LandmarkOutput
from trainer.config.checks import check_landmarks_exist
from trainer.tasks.intervals import bootstrap_interval
from trainer.tasks.landmark_calibration import landmark_certainty
from trainer.tasks.landmark_losses import LandmarkLoss
from trainer.tasks.landmark_metrics import landmark_metrics, landmark_sums, per_landmark_table
from trainer.tasks.landmark_pictures import plot_landmark_errors, write_overlays
from trainer.tasks.landmark_tables import landmark_details, prediction_table
from trainer.tasks.task import Certainty, Column, Curves, DetailTable, Predictions, Task
from trainer.tasks.verdicts import verdict_of_errors

SMALLEST_SPREAD_PX = 1e-3  # of the input; so that an error is never divided by zero


class LandmarkTask(Task[LandmarkRecords]):
    """Points in an image. Missing landmarks count nowhere."""

    inputs = ("image",)
    baseline_name = "mean shape, untrained"
    float_format = "%.4f"

    def __init__(
        self,
        *,
        landmark_names: list[str],
        in_mm: bool,
        validates: bool,
        loss: LandmarkLoss,
        sdr_thresholds: Sequence[float],
        nme: str | None,
        nme_landmarks: Sequence[int] | None,
        monitor: str | None,
        num_overlays: int,
        region: Region = WHOLE,
    ) -> None:
        check_landmarks_exist("task.nme_landmarks", nme_landmarks or (), len(landmark_names))
        self.landmark_names = landmark_names
        self.landmark_loss = loss
        self.sdr_thresholds = sdr_thresholds
        self.nme = nme
        self.nme_landmarks = nme_landmarks
        self.num_overlays = num_overlays
        self.region = region
        self.unit = "mm" if in_mm else "px"
        if monitor is not None and not validates:
            raise ValueError(f"task.monitor={monitor} needs a validation split; without one the training loss decides")
        self.monitor = (monitor or f"mre_{self.unit}") if validates else "train_loss"
        if validates and self.monitor not in self.validation_columns:
            known = ", ".join(self.validation_columns)
            raise ValueError(f"task.monitor={self.monitor} is not a metric of this run: {known}")

    @property
    def metric_names(self) -> tuple[str, ...]:
        return tuple(self.metrics(_one_perfect_prediction(len(self.landmark_names), self.unit == "mm")))

    @property
    def validation_columns(self) -> tuple[str, ...]:
        """What an evaluation adds to a row of metrics.csv."""
        return ("val_loss", *self.metric_names)

    @property
    def mapping(self) -> dict[str, Any]:
        """Under a region: left, top, right and bottom as shares of an image's width and height."""
        region = self.region
        return {} if region == WHOLE else {"region": [region.left, region.top, region.right, region.bottom]}

    @property
    def columns(self) -> list[Column]:
        return [
            Column(f"mre_{self.unit}", f"MRE ({self.unit})", "distance"),
            Column(f"median_{self.unit}", "median", "distance"),
            *self._success_columns,
            *([Column("nme", "NME", "number")] if "nme" in self.metric_names else []),
        ]

    @property
    def _success_columns(self) -> list[Column]:
        return [
            Column(f"sdr_{threshold:g}{self.unit}", f"≤ {threshold:g} {self.unit}", "percent")
            for threshold in self.sdr_thresholds
        ]

    @property
    def curves(self) -> Curves:
        lines = {f"mre_{self.unit}": "mean radial error", f"median_{self.unit}": "median radial error"}
        return Curves("radial error", self.unit, lines, shares=False)

    def summary(self, measured: dict[str, float]) -> str:
        """A line about an evaluation for a person who waits."""
        parts = [f"loss {measured['train_loss']:.4f}"]
        if "val_loss" in measured:
            parts.append(f"val loss {measured['val_loss']:.4f}")
            parts.append(f"MRE {measured[f'mre_{self.unit}']:.2f} {self.unit}")
            parts += [
                f"{name} {measured[name]:.4g}"
                for name in (self.monitor, "nme")
                if name in measured and "mre" not in name
            ]
        return "  ".join(parts)

    @property
    def monitor_mode(self) -> str:
        return "max" if self.monitor.startswith("sdr") else "min"

    def loss(self, output: LandmarkOutput, batch: dict[str, Tensor]) -> Tensor:
        return self.landmark_loss(output, batch["points"], batch["visible"])

    def loss_terms(self, output: LandmarkOutput, batch: dict[str, Tensor]) -> Tensor:
        return self.landmark_loss.counted(output, batch["points"], batch["visible"]).sum()

    def answers(self, output: LandmarkOutput, batch: dict[str, Tensor]) -> Predictions:
        """index (N,), points (N, K, 2) and spread (N, K), both in original px.

        spread: how far from the points the model expects the truth to lie; one input px of models that can't tell.
        """
        points = output.points.float().cpu().numpy().astype(np.float64)
        expected = output.spread
        spread = np.ones(points.shape[:2]) if expected is None else expected.cpu().numpy().astype(np.float64)
        affine = batch["affine"].cpu().numpy()
        shrink = np.sqrt(np.abs(np.linalg.det(affine[:, :, :2])))[:, None]  # input px per original px
        return {
            "index": batch["index"].cpu().numpy(),
            "points": to_original(points, affine),
            "spread": np.maximum(spread, SMALLEST_SPREAD_PX) / shrink,
        }

    def predictions(self, output: LandmarkOutput, batch: dict[str, Tensor]) -> Predictions:
        """The answers with truth (N, K, 2) in original px and spacing_mm (N,)."""
        truth, spacing_mm = (batch[name].cpu().numpy() for name in ("truth", "spacing_mm"))
        return {**self.answers(output, batch), "truth": truth, "spacing_mm": spacing_mm}

    def metrics(self, predictions: Predictions) -> dict[str, float]:
        return landmark_metrics(*_measured(predictions), **self._measures)

    def intervals(self, predictions: Predictions) -> dict[str, tuple[float, float]]:
        sums = landmark_sums(*_measured(predictions), **self._measures)
        return {name: bootstrap_interval(totals, counts) for name, (totals, counts) in sums.items()}

    @property
    def _measures(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "sdr_thresholds": self.sdr_thresholds,
            "nme": self.nme,
            "nme_landmarks": self.nme_landmarks,
        }

    def averaged(self, views: Sequence[Predictions]) -> Predictions:
        """Mean points, each view weighing 1 / spread^2: one that moved a landmark out of the frame, or took another
        for it, knows less. The spread of the mean is that within the views and, beside it, of the points between."""
        points, spread = np.stack([view["points"] for view in views]), np.stack([view["spread"] for view in views])
        weights = 1 / np.square(spread)
        weights /= weights.sum(axis=0)
        mean = (weights[..., None] * points).sum(axis=0)
        apart = np.square(points - mean).sum(axis=-1)
        return {**views[0], "points": mean, "spread": np.sqrt((weights * (np.square(spread) + apart)).sum(axis=0))}

    def certainty(self, judged: Mapping[str, Predictions]) -> Certainty | None:
        """Adds to the predictions the radius (N, K), in original px, of circles that hold the truth in 90 %."""
        return landmark_certainty(judged, self.landmark_names, self.unit) if "val" in judged else None

    def prior(self, records: LandmarkRecords) -> dict[str, Any]:
        """The mean training landmarks (K, 2) as shares of image width and height."""
        return {"mean_shape": mean_shape(records).tolist()}

    def baseline(self, records: LandmarkRecords, split: str, prior: Mapping[str, Any] | None = None) -> Predictions:
        """The training split's mean landmarks, stretched to each image."""
        indices = records.indices(split)
        shape = np.array((prior or self.prior(records))["mean_shape"])
        return {
            "index": indices,
            "points": shape * records.sizes[indices, None, :] - 0.5,
            "truth": records.points[indices],
            "spacing_mm": records.pixel_spacing_mm[indices],
        }

    def references(self, records: LandmarkRecords, split: str) -> dict[str, Predictions]:
        """The points of one annotator held against those of another."""
        names, apart = records.annotator_names, _annotators_apart(records, records.indices(split))
        if apart is None:
            return {}
        return {f"{names[0]} against {names[1]}" if len(names) == 2 else f"{len(names)} annotators, in pairs": apart}

    def verdict(self, baseline: dict[str, float], best: dict[str, float]) -> str:
        key = f"mre_{self.unit}"
        return verdict_of_errors(
            best[key],
            baseline[key],
            name="mean radial error",
            unit=self.unit,
            baseline_name="the mean shape",
            number_format=".2f",
        )

    def table(self, predictions: Predictions, records: LandmarkRecords, split: str) -> pd.DataFrame:
        return prediction_table(predictions, records.image_names, self.landmark_names, split=split, unit=self.unit)

    def per_landmark(self, predictions: Predictions) -> pd.DataFrame:
        return per_landmark_table(
            *_measured(predictions), self.landmark_names, unit=self.unit, sdr_thresholds=self.sdr_thresholds
        )

    def details(self, predictions: Predictions, records: LandmarkRecords) -> list[DetailTable]:
        return [
            landmark_details(
                predictions,
                self.landmark_names,
                unit=self.unit,
                success_columns=self._success_columns,
                sdr_thresholds=self.sdr_thresholds,
                apart=_annotators_apart(records, predictions["index"]),
            )
        ]

    def pictures(self, folder: Path, predictions: Predictions, records: LandmarkRecords) -> dict[str, Path]:
        errors = folder / "landmark_errors.png"
        plot_landmark_errors(errors, self.per_landmark(predictions), unit=self.unit)
        overlays = write_overlays(
            folder, records.read, predictions, records.image_names, unit=self.unit, count=self.num_overlays
        )
        captions = {f"{path.stem.removeprefix('overlays_').capitalize()} samples": path for path in overlays}
        return {"Error per landmark": errors, **captions}


def _annotators_apart(records: LandmarkRecords, indices: np.ndarray) -> Predictions | None:
    """Each annotator's points as a prediction of another's on these images; None where there is one annotator."""
    if records.annotations is None or len(records.annotations) < 2:
        return None
    index, points, truth = between_annotators(records.annotations, indices)
    return {"index": index, "points": points, "truth": truth, "spacing_mm": records.pixel_spacing_mm[index]}


def _measured(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What metrics are computed from."""
    return predictions["points"], predictions["truth"], predictions["spacing_mm"]


def _one_perfect_prediction(num_landmarks: int, in_mm: bool) -> dict[str, np.ndarray]:
    """The smallest input that yields every metric's name."""
    points = np.arange(2.0 * num_landmarks).reshape(1, num_landmarks, 2)
    return {"points": points, "truth": points, "spacing_mm": np.array([1.0 if in_mm else np.nan])}
