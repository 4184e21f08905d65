"""The landmark task: losses on heatmaps and coordinates, predictions in original pixels, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data.annotators import between_annotators
from data.datasets import mean_shape, to_original
from data.geometry import WHOLE, Region
from data.records import LandmarkRecords
from models.heatmaps import gaussian_heatmaps, heatmap_cross_entropy, heatmap_squared_error
from models.landmarks import LandmarkOutput
from trainer.config.checks import check_landmarks_exist
from trainer.tasks.landmark_losses import PointLoss
from trainer.tasks.landmark_metrics import image_means, landmark_metrics, per_landmark_table, radial_errors
from trainer.tasks.landmark_pictures import plot_landmark_errors, write_overlays
from trainer.tasks.task import Column, Curves, DetailTable, Predictions, Task
from trainer.tasks.verdicts import verdict_of_errors


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
        heatmap_loss: str,
        heatmap_weight: float,
        sigma: float,
        point_loss: PointLoss,
        points_weight: float,
        refinement_weight: float,
        sdr_thresholds: Sequence[float],
        nme: str | None,
        nme_landmarks: Sequence[int] | None,
        monitor: str | None,
        num_overlays: int,
        region: Region = WHOLE,
    ) -> None:
        check_landmarks_exist("task.nme_landmarks", nme_landmarks or (), len(landmark_names))
        self.landmark_names = landmark_names
        self.heatmap_loss = heatmap_cross_entropy if heatmap_loss == "cross_entropy" else heatmap_squared_error
        self.heatmap_weight = heatmap_weight
        self.sigma = sigma
        self.point_loss = point_loss
        self.points_weight = points_weight
        self.refinement_weight = refinement_weight
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
        """Mean over the landmarks that are there; of those that augmentation moved out of the frame none for models
        with heatmaps, which have no cell for them."""
        target, visible = batch["points"], batch["visible"]
        coarse = output.points if output.coarse is None else output.coarse
        total = output.points.new_zeros(())
        if output.log_heatmaps is not None:
            height, width = output.log_heatmaps.shape[-2:]
            visible = visible & self._near_frame(target, (height, width), output.stride)
            if self.heatmap_weight:
                targets = gaussian_heatmaps(target, (height, width), output.stride, self.sigma)
                losses = self.heatmap_loss(output.log_heatmaps, targets)
                total = total + self.heatmap_weight * _mean_where(losses, visible)
        if self.points_weight:
            total = total + self.points_weight * _mean_where(self.point_loss(coarse, target), visible)
        if output.coarse is not None and self.refinement_weight:
            total = total + self.refinement_weight * _mean_where(self.point_loss(output.points, target), visible)
        return total

    def _near_frame(self, points: Tensor, size: tuple[int, int], stride: int) -> Tensor:
        """Whether (N, K, 2) points lie in the frame or within one sigma of it, where a map still shows their flank."""
        margin = self.sigma * stride
        limit = points.new_tensor([size[1] * stride - 1.0, size[0] * stride - 1.0])
        return ((points >= -margin) & (points <= limit + margin)).all(dim=-1)

    def predictions(self, output: LandmarkOutput, batch: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """index (N,), points and truth (N, K, 2) in original px, spacing_mm (N,)."""
        points = output.points.float().cpu().numpy().astype(np.float64)
        return {
            "index": batch["index"].cpu().numpy(),
            "points": to_original(points, batch["affine"].cpu().numpy()),
            "truth": batch["truth"].cpu().numpy(),
            "spacing_mm": batch["spacing_mm"].cpu().numpy(),
        }

    def metrics(self, predictions: dict[str, np.ndarray]) -> dict[str, float]:
        return landmark_metrics(
            predictions["points"],
            predictions["truth"],
            predictions["spacing_mm"],
            unit=self.unit,
            sdr_thresholds=self.sdr_thresholds,
            nme=self.nme,
            nme_landmarks=self.nme_landmarks,
        )

    def averaged(self, views: Sequence[Predictions]) -> Predictions:
        return {**views[0], "points": np.mean([view["points"] for view in views], axis=0)}

    def baseline(self, records: LandmarkRecords, split: str) -> Predictions:
        """The training split's mean landmarks, stretched to each image."""
        indices = records.indices(split)
        return {
            "index": indices,
            "points": mean_shape(records) * records.sizes[indices, None, :] - 0.5,
            "truth": records.points[indices],
            "spacing_mm": records.pixel_spacing_mm[indices],
        }

    def references(self, records: LandmarkRecords, split: str) -> dict[str, Predictions]:
        """The points of one annotator held against those of another."""
        names = records.annotator_names
        if records.annotations is None or len(names) < 2:
            return {}
        index, points, truth = between_annotators(records.annotations, records.indices(split))
        spacing_mm = records.pixel_spacing_mm[index]
        told = f"{names[0]} against {names[1]}" if len(names) == 2 else f"{len(names)} annotators, in pairs"
        return {told: {"index": index, "points": points, "truth": truth, "spacing_mm": spacing_mm}}

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
        """Predicted coordinates in original px, errors per landmark and their mean."""
        errors = radial_errors(predictions["points"], predictions["truth"])
        if self.unit == "mm":
            errors = errors * predictions["spacing_mm"][:, None]
        columns: dict[str, object] = {
            "image": [records.image_names[index] for index in predictions["index"]],
            "split": split,
            f"mre_{self.unit}": image_means(errors),
        }
        for landmark, name in enumerate(self.landmark_names):
            columns[f"{name}_x"] = predictions["points"][:, landmark, 0]
            columns[f"{name}_y"] = predictions["points"][:, landmark, 1]
            columns[f"{name}_error_{self.unit}"] = errors[:, landmark]
        return pd.DataFrame(columns)

    def per_landmark(self, predictions: Predictions) -> pd.DataFrame:
        return per_landmark_table(
            predictions["points"],
            predictions["truth"],
            predictions["spacing_mm"],
            self.landmark_names,
            unit=self.unit,
            sdr_thresholds=self.sdr_thresholds,
        )

    def details(self, predictions: Predictions, records: LandmarkRecords) -> list[DetailTable]:
        columns = [
            Column("landmark", "landmark", "text"),
            Column("count", "images", "number"),
            Column(f"mre_{self.unit}", f"MRE ({self.unit})", "distance"),
            Column(f"median_{self.unit}", "median", "distance"),
            Column(f"p95_{self.unit}", "95th percentile", "distance"),
            *self._success_columns,
        ]
        rows = self.per_landmark(predictions)
        if records.annotations is not None and len(records.annotations) > 1:
            index, points, truth = between_annotators(records.annotations, predictions["index"])
            apart = {"points": points, "truth": truth, "spacing_mm": records.pixel_spacing_mm[index]}
            rows["annotators"] = self.per_landmark(apart)[f"mre_{self.unit}"]
            columns.insert(3, Column("annotators", "annotators apart", "distance"))
        return [DetailTable("Every landmark", columns, rows)]

    def pictures(self, folder: Path, predictions: Predictions, records: LandmarkRecords) -> dict[str, Path]:
        errors = folder / "landmark_errors.png"
        plot_landmark_errors(errors, self.per_landmark(predictions), unit=self.unit)
        overlays = write_overlays(
            folder, records.read, predictions, records.image_names, unit=self.unit, count=self.num_overlays
        )
        captions = {f"{path.stem.removeprefix('overlays_').capitalize()} samples": path for path in overlays}
        return {"Error per landmark": errors, **captions}


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


def _one_perfect_prediction(num_landmarks: int, in_mm: bool) -> dict[str, np.ndarray]:
    """The smallest input that yields every metric's name."""
    points = np.arange(2.0 * num_landmarks).reshape(1, num_landmarks, 2)
    return {"points": points, "truth": points, "spacing_mm": np.array([1.0 if in_mm else np.nan])}
