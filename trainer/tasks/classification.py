"""The classification task: cross-entropy, probabilities per class, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from data.label_records import LabelRecords
from models.classifiers import LabelOutput
from models.precision import widened
from trainer.config.own_tasks import OwnClasses
from trainer.tasks.intervals import bootstrap_interval
from trainer.tasks.label_metrics import classification_metrics, confusion, per_class_table
from trainer.tasks.label_pictures import plot_confusion, plot_reliability
from trainer.tasks.label_samples import class_samples
from trainer.tasks.labels import (
    SampleSheets,
    averaged_views,
    checked_monitor,
    covariate_columns,
    covariate_mapping,
    finite_rows,
)
from trainer.tasks.own_metrics import own_columns, own_values
from trainer.tasks.task import Certainty, Column, Curves, DetailTable, Predictions, Task
from trainer.tasks.verdicts import verdict_of_shares


class ClassificationTask(Task[LabelRecords]):
    """One class per image."""

    inputs = ("image", "covariates")
    baseline_name = "most frequent class"
    float_format = "%.4f"

    def __init__(
        self,
        *,
        records: LabelRecords,
        validates: bool,
        label_smoothing: float,
        class_weights: str | Sequence[float] | None,
        top_k: int,
        monitor: str | None,
        sheets: SampleSheets,
        own: OwnClasses | None = None,
    ) -> None:
        assert records.class_names is not None
        self.class_names = records.class_names
        self.label_smoothing = label_smoothing
        counts = np.bincount(records.targets[records.indices("train")], minlength=len(self.class_names))
        self.class_weights = loss_weights(class_weights, self.class_names, counts)
        self.top_k = top_k
        self.sheets = sheets
        self.own = own
        self.covariates = covariate_mapping(records.covariates)
        self.monitor = checked_monitor(
            monitor, self._own_names[0] if self._own_names else "macro_f1", validates, self.validation_columns
        )

    @property
    def mapping(self) -> dict[str, Any]:
        return {"classes": self.class_names, "covariates": self.covariates}

    @property
    def monitor_mode(self) -> str:
        if self.own is not None and self.monitor in self._own_names:
            return "max" if self.monitor in self.own.higher_is_better else "min"
        return "min" if self.monitor in ("train_loss", "val_loss", "ece") else "max"

    @property
    def _own_names(self) -> list[str]:
        """The metrics of a user's own task."""
        perfect, classes = np.eye(len(self.class_names)), np.arange(len(self.class_names))
        return [] if self.own is None else list(self.own.metrics(perfect, classes))

    @property
    def validation_columns(self) -> tuple[str, ...]:
        perfect, classes = np.eye(len(self.class_names)), np.arange(len(self.class_names))
        return ("val_loss", *self.metrics({"probabilities": perfect, "target": classes}))

    @property
    def columns(self) -> list[Column]:
        top = f"top_{self.top_k}"
        return [
            *own_columns(self._own_names),
            Column("accuracy", "accuracy", "percent"),
            Column("balanced_accuracy", "balanced", "percent"),
            Column("macro_f1", "macro F1", "score"),
            Column("auroc", "AUROC", "score"),
            *([Column(top, f"top {self.top_k}", "percent")] if top in self.validation_columns else []),
            Column("ece", "ECE", "score"),
        ]

    @property
    def curves(self) -> Curves:
        lines = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
        return Curves("accuracy", "", lines, shares=True)

    def loss(self, output: LabelOutput, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy, times the weight of the true class; of mixed images that of both classes in their shares."""
        losses = self._losses(output.values, batch["target"])
        if "share" in batch:
            others = self._losses(output.values, batch["other_target"])
            losses = batch["share"] * losses + (1 - batch["share"]) * others
        return losses.mean()

    def loss_terms(self, output: LabelOutput, batch: dict[str, Tensor]) -> Tensor:
        return batch["target"].new_tensor(len(batch["target"]))

    def _losses(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.own is not None:
            return self.own.losses(logits.float(), target)
        losses = F.cross_entropy(widened(logits), target, reduction="none", label_smoothing=self.label_smoothing)
        return losses * self.class_weights.to(logits.device)[target]

    def answers(self, output: LabelOutput, batch: dict[str, Tensor]) -> Predictions:
        """index (N,), probabilities (N, C); attention (N, h, w) of models that have it."""
        found = {
            "index": batch["index"].cpu().numpy(),
            "probabilities": self._probabilities(output.values.float()).cpu().numpy().astype(np.float64),
        }
        return found if output.attention is None else {**found, "attention": output.attention.float().cpu().numpy()}

    def _probabilities(self, values: Tensor) -> Tensor:
        return values.softmax(dim=1) if self.own is None else self.own.probabilities(values)

    def predictions(self, output: LabelOutput, batch: dict[str, Tensor]) -> Predictions:
        """The answers with target (N,), a class."""
        return {**self.answers(output, batch), "target": batch["target"].cpu().numpy()}

    def averaged(self, views: Sequence[Predictions]) -> Predictions:
        return averaged_views(views, "probabilities")

    def metrics(self, predictions: Predictions) -> dict[str, float]:
        def usual(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
            return classification_metrics(probabilities, targets, self.class_names, self.top_k)

        own = None if self.own is None else self.own.metrics
        return own_values(own, predictions["probabilities"], predictions["target"], usual)

    def intervals(self, predictions: Predictions) -> dict[str, tuple[float, float]]:
        probabilities = predictions["probabilities"]
        right = (probabilities.argmax(axis=1) == predictions["target"]).astype(np.float64)
        right[~np.isfinite(probabilities).all(axis=1)] = np.nan
        return {"accuracy": bootstrap_interval(right, np.ones(len(right)))}

    def certainty(self, judged: Mapping[str, Predictions]) -> Certainty | None:
        """Nothing beyond the probabilities themselves, whose calibration is among the metrics."""
        return None

    def summary(self, measured: dict[str, float]) -> str:
        parts = [f"loss {measured['train_loss']:.4f}"]
        if "val_loss" in measured:
            parts.append(f"val loss {measured['val_loss']:.4f}")
            parts.append(f"accuracy {100 * measured['accuracy']:.1f} %")
            if self.monitor not in ("accuracy", "val_loss"):
                parts.append(f"{self.monitor} {measured[self.monitor]:.3f}")
        return "  ".join(parts)

    def prior(self, records: LabelRecords) -> dict[str, Any]:
        counts = np.bincount(records.targets[records.indices("train")], minlength=len(self.class_names))
        return {"class_shares": (counts / counts.sum()).tolist()}

    def baseline(self, records: LabelRecords, split: str, prior: Mapping[str, Any] | None = None) -> Predictions:
        """The share of each class in the training split, whatever the image."""
        indices = records.indices(split)
        shares = np.array((prior or self.prior(records))["class_shares"])
        return {
            "index": indices,
            "target": records.targets[indices],
            "probabilities": np.tile(shares, (len(indices), 1)),
        }

    def references(self, records: LabelRecords, split: str) -> dict[str, Predictions]:
        return {}

    def verdict(self, baseline: dict[str, float], best: dict[str, float]) -> str:
        """By accuracy, or where balancing gave some of that away, by balanced accuracy."""
        key = "accuracy" if best["accuracy"] > baseline["accuracy"] else "balanced_accuracy"
        name, baseline_name = key.replace("_", " "), "always naming the most frequent class"
        return verdict_of_shares(best[key], baseline[key], name=name, baseline_name=baseline_name)

    def table(self, predictions: Predictions, records: LabelRecords, split: str) -> pd.DataFrame:
        """True and most probable class (none where probabilities are not finite), that of each class, covariates."""
        probabilities, names = predictions["probabilities"], np.array(self.class_names, dtype=object)
        columns: dict[str, Any] = {
            "image": [records.image_names[index] for index in predictions["index"]],
            "split": split,
            "target": names[predictions["target"]],
            "prediction": np.where(np.isfinite(probabilities).all(axis=1), names[probabilities.argmax(axis=1)], None),
            **{f"p_{name}": probabilities[:, number] for number, name in enumerate(self.class_names)},
        }
        return pd.DataFrame(columns | covariate_columns(records.covariates, predictions["index"], columns))

    def details(self, predictions: Predictions, records: LabelRecords) -> list[DetailTable]:
        columns = [
            Column("class", "class", "text"),
            Column("images", "images", "number"),
            Column("precision", "precision", "percent"),
            Column("recall", "recall", "percent"),
            Column("f1", "F1", "score"),
            Column("auroc", "AUROC", "score"),
        ]
        predictions = finite_rows(predictions)
        rows = per_class_table(predictions["probabilities"], predictions["target"], self.class_names)
        return [DetailTable("Every class", columns, rows)]

    def pictures(self, folder: Path, predictions: Predictions, records: LabelRecords) -> dict[str, Path]:
        predictions = finite_rows(predictions)
        probabilities, targets = predictions["probabilities"], predictions["target"]
        matrix, reliability = folder / "confusion.png", folder / "reliability.png"
        plot_confusion(matrix, confusion(probabilities, targets, len(self.class_names)), self.class_names)
        plot_reliability(reliability, probabilities, targets)
        samples = class_samples(predictions["index"], probabilities, targets, self.class_names)
        sheets = self.sheets.write(folder, predictions, records, samples)
        return {"Confusion matrix": matrix, "Reliability of the probabilities": reliability, **sheets}


def loss_weights(asked: str | Sequence[float] | None, class_names: Sequence[str], counts: np.ndarray) -> Tensor:
    """Weights (C,) float32 of the loss per class, of mean 1 over training images; `counts` (C,) says how many each has.

    balanced: the same total weight for every class.
    """
    if asked is None:
        return torch.ones(len(class_names))
    weights = 1 / counts if isinstance(asked, str) else np.array(asked, dtype=np.float64)
    if len(weights) != len(class_names):
        raise ValueError(
            f"task.loss.class_weights={list(asked)} has {len(weights)} numbers, but there are {len(class_names)} "
            f"classes: {', '.join(class_names)}"
        )
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()
