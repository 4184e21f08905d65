"""The regression task: losses of standardised numbers, predictions and metrics in the target's own unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from torch.nn import functional as F

from data.label_records import LabelRecords
from models.classifiers import LabelOutput
from models.precision import widened
from trainer.config.own_tasks import OwnNumbers, Scale
from trainer.tasks.intervals import bootstrap_interval
from trainer.tasks.label_metrics import by_group, regression_metrics
from trainer.tasks.label_pictures import plot_bland_altman, plot_predicted_against_true
from trainer.tasks.label_samples import number_samples
from trainer.tasks.labels import (
    SampleSheets,
    averaged_views,
    checked_monitor,
    covariate_columns,
    covariate_mapping,
    finite_rows,
    group_columns,
)
from trainer.tasks.own_metrics import own_columns, own_values
from trainer.tasks.task import Certainty, Column, Curves, DetailTable, Predictions, Task
from trainer.tasks.verdicts import verdict_of_errors


class RegressionTask(Task[LabelRecords]):
    """One number per image. The model gives it as (number - mean) / std of the training split."""

    inputs = ("image", "covariates")
    baseline_name = "training mean"
    float_format = "%.8g"  # targets may be tiny or large

    def __init__(
        self,
        *,
        records: LabelRecords,
        validates: bool,
        loss: str,
        width: float,
        target_name: str,
        unit: str,
        monitor: str | None,
        sheets: SampleSheets,
        own: OwnNumbers | None = None,
    ) -> None:
        self.targets = records.targets  # float64, while a batch has float32
        self.mean, self.std = records.target_mean, records.target_std
        self.loss_kind = loss
        self.width = width
        self.target_name = target_name
        self.unit = unit
        self.sheets = sheets
        self.own = own
        self.covariates = covariate_mapping(records.covariates)
        self.monitor = checked_monitor(
            monitor, self._own_names[0] if self._own_names else "mae", validates, self.validation_columns
        )

    @property
    def mapping(self) -> dict[str, Any]:
        return {"target": {"mean": self.mean, "std": self.std}, "covariates": self.covariates}

    @property
    def monitor_mode(self) -> str:
        if self.own is not None and self.monitor in self._own_names:
            return "max" if self.monitor in self.own.higher_is_better else "min"
        return "max" if self.monitor == "r2" else "min"

    @property
    def _own_names(self) -> list[str]:
        """The metrics of a user's own task."""
        some = np.array([0.0, 1.0])
        return [] if self.own is None else list(self.own.metrics(some, some))

    @property
    def validation_columns(self) -> tuple[str, ...]:
        return ("val_loss", *self.metrics({"prediction": np.array([0.0, 1.0]), "target": np.array([0.0, 1.0])}))

    @property
    def columns(self) -> list[Column]:
        suffix = f" ({self.unit})" if self.unit else ""
        return [
            *own_columns(self._own_names),
            Column("mae", f"MAE{suffix}", "number"),
            Column("rmse", "RMSE", "number"),
            Column("median_error", "median error", "number"),
            Column("r2", "R²", "score"),
        ]

    @property
    def curves(self) -> Curves:
        lines = {"mae": "mean absolute error", "median_error": "median absolute error"}
        return Curves("absolute error", self.unit, lines, shares=False)

    def loss_terms(self, output: LabelOutput, batch: dict[str, Tensor]) -> Tensor:
        return batch["target"].new_tensor(len(batch["target"]))

    def loss(self, output: LabelOutput, batch: dict[str, Tensor]) -> Tensor:
        """Of standardised numbers; the target of a mixed image is mixed likewise."""
        target = batch["target"]
        if "share" in batch:
            target = batch["share"] * target + (1 - batch["share"]) * batch["other_target"]
        if self.own is not None:
            return self.own.losses(output.values.float(), target, Scale(self.mean, self.std)).mean()
        wanted, given = (target - self.mean) / self.std, widened(output.values[:, 0])
        if self.loss_kind == "l1":
            return F.l1_loss(given, wanted)
        if self.loss_kind == "huber":
            return F.huber_loss(given, wanted, delta=self.width)
        return F.smooth_l1_loss(given, wanted, beta=self.width)

    def answers(self, output: LabelOutput, batch: dict[str, Tensor]) -> Predictions:
        """index and prediction (N,) in the target's unit; attention (N, h, w) of models that have it."""
        found = {"index": batch["index"].cpu().numpy(), "prediction": self._numbers(output.values.float())}
        return found if output.attention is None else {**found, "attention": output.attention.float().cpu().numpy()}

    def _numbers(self, values: Tensor) -> np.ndarray:
        if self.own is not None:
            return self.own.numbers(values, Scale(self.mean, self.std)).cpu().numpy().astype(np.float64)
        return values[:, 0].cpu().numpy().astype(np.float64) * self.std + self.mean

    def predictions(self, output: LabelOutput, batch: dict[str, Tensor]) -> Predictions:
        """The answers with the true target (N,)."""
        found = self.answers(output, batch)
        return {**found, "target": self.targets[found["index"]]}

    def averaged(self, views: Sequence[Predictions]) -> Predictions:
        return averaged_views(views, "prediction")

    def metrics(self, predictions: Predictions) -> dict[str, float]:
        own = None if self.own is None else self.own.metrics
        return own_values(own, predictions["prediction"], predictions["target"], regression_metrics)

    def intervals(self, predictions: Predictions) -> dict[str, tuple[float, float]]:
        errors = np.abs(predictions["prediction"] - predictions["target"])
        return {"mae": bootstrap_interval(errors, np.ones(len(errors)))}

    def certainty(self, judged: Mapping[str, Predictions]) -> Certainty | None:
        """Nothing: the model gives a number and no more."""
        return None

    def summary(self, measured: dict[str, float]) -> str:
        parts = [f"loss {measured['train_loss']:.4f}"]
        if "val_loss" in measured:
            parts.append(f"val loss {measured['val_loss']:.4f}")
            parts.append(f"MAE {measured['mae']:.4g} {self.unit}".rstrip())
            parts.append(f"R² {measured['r2']:.3f}")
        return "  ".join(parts)

    def prior(self, records: LabelRecords) -> dict[str, Any]:
        return {"mean": self.mean}

    def baseline(self, records: LabelRecords, split: str, prior: Mapping[str, Any] | None = None) -> Predictions:
        """The mean of the training split, whatever the image."""
        indices = records.indices(split)
        return {
            "index": indices,
            "target": records.targets[indices],
            "prediction": np.full(len(indices), (prior or self.prior(records))["mean"]),
        }

    def references(self, records: LabelRecords, split: str) -> dict[str, Predictions]:
        return {}

    def verdict(self, baseline: dict[str, float], best: dict[str, float]) -> str:
        return verdict_of_errors(
            best["mae"],
            baseline["mae"],
            name="mean absolute error",
            unit=self.unit,
            baseline_name="the training mean",
            number_format=".4g",
        )

    def table(self, predictions: Predictions, records: LabelRecords, split: str) -> pd.DataFrame:
        """True and predicted number, prediction minus truth, covariates."""
        columns: dict[str, Any] = {
            "image": [records.image_names[index] for index in predictions["index"]],
            "split": split,
            "target": predictions["target"],
            "prediction": predictions["prediction"],
            "error": predictions["prediction"] - predictions["target"],
        }
        return pd.DataFrame(columns | covariate_columns(records.covariates, predictions["index"], columns))

    def details(self, predictions: Predictions, records: LabelRecords) -> list[DetailTable]:
        """Per category of each categorical covariate."""
        predictions = finite_rows(predictions)
        groups = group_columns(records.covariates, predictions["index"])
        table = by_group(predictions["prediction"], predictions["target"], groups)
        suffix = f" ({self.unit})" if self.unit else ""
        columns = [
            Column("group", "group", "text"),
            Column("count", "images", "number"),
            Column("mae", f"MAE{suffix}", "number"),
            Column("rmse", "RMSE", "number"),
            Column("median_error", "median error", "number"),
            Column("r2", "R²", "score"),
            Column("bias", "bias", "number"),
        ]
        return [
            DetailTable(f"Every {covariate}", columns, rows)
            for covariate, rows in table.groupby("covariate", sort=False)
        ]

    def pictures(self, folder: Path, predictions: Predictions, records: LabelRecords) -> dict[str, Path]:
        predictions = finite_rows(predictions)
        predicted, targets = predictions["prediction"], predictions["target"]
        agreement, difference = folder / "predicted_against_true.png", folder / "bland_altman.png"
        groups = next(iter(group_columns(records.covariates, predictions["index"]).values()), None)
        plot_predicted_against_true(agreement, predicted, targets, name=self.target_name, unit=self.unit, groups=groups)
        plot_bland_altman(difference, predicted, targets, name=self.target_name, unit=self.unit, groups=groups)
        samples = number_samples(predictions["index"], predicted, targets, self.unit)
        sheets = self.sheets.write(folder, predictions, records, samples)
        return {"Predicted against true": agreement, "Differences (Bland and Altman)": difference, **sheets}
