"""How good predicted classes and numbers are: by torchmetrics, and NaN where a metric has nothing to go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import models.timm_import  # noqa: F401  # torchmetrics imports torchvision too

# isort: split
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional import mean_absolute_error, mean_squared_error
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from data.labels import natural_order

CALIBRATION_BINS = 15


def classification_metrics(
    probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str], top_k: int
) -> dict[str, float]:
    """Metrics of probabilities (N, C) for classes (N,), all from 0 to 1.

    accuracy; balanced_accuracy: mean recall of the classes that occur; macro_f1: mean F1 of the classes that occur or
    are predicted; auroc: mean over the classes that occur of each against the rest, NaN where a single one does;
    top_<k>: share of images whose class is among the k most probable, with more than k classes; ece: expected
    calibration error in 15 bins (Naeini et al. 2015). All NaN where a probability is not finite.
    """
    num_classes = len(class_names)
    names = ["accuracy", "balanced_accuracy", "macro_f1", "auroc", *([f"top_{top_k}"] if num_classes > top_k else [])]
    if not len(targets) or not np.isfinite(probabilities).all():
        return dict.fromkeys([*names, "ece"], float("nan"))
    scores, classes = _tensors(probabilities, targets)
    recalls = multiclass_recall(scores, classes, num_classes, average="none").numpy()
    occurs = np.bincount(targets, minlength=num_classes) > 0
    values = [
        multiclass_accuracy(scores, classes, num_classes, average="micro"),
        recalls[occurs].mean(),
        multiclass_f1_score(scores, classes, num_classes, average="macro"),
        _mean_of_finite(_aurocs(scores, classes)),
    ]
    if num_classes > top_k:
        values.append(multiclass_accuracy(scores, classes, num_classes, top_k=top_k, average="micro"))
    values.append(multiclass_calibration_error(scores, classes, num_classes, n_bins=CALIBRATION_BINS, norm="l1"))
    return {name: float(value) for name, value in zip([*names, "ece"], values, strict=True)}


def confusion(probabilities: np.ndarray, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (C, C): rows are the true classes, columns the most probable ones."""
    if not len(targets):
        return np.zeros((num_classes, num_classes), int)
    counts: np.ndarray = multiclass_confusion_matrix(*_tensors(probabilities, targets), num_classes).numpy()
    return counts


def per_class_table(probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """A row per class: images, precision (NaN where it is never predicted), recall (NaN where it doesn't occur), f1
    (NaN where neither), auroc against the rest (NaN where all or none of the images are of the class)."""
    if not len(targets):
        measured = dict.fromkeys(("precision", "recall", "f1", "auroc"), np.nan)
        return pd.DataFrame({"class": list(class_names), "images": 0, **measured})
    scores, classes = _tensors(probabilities, targets)
    num_classes = len(class_names)
    counts = confusion(probabilities, targets, num_classes)
    images, predicted = counts.sum(axis=1), counts.sum(axis=0)
    precision, recall, f1 = (
        metric(scores, classes, num_classes, average="none").double().numpy()
        for metric in (multiclass_precision, multiclass_recall, multiclass_f1_score)
    )
    return pd.DataFrame(
        {
            "class": list(class_names),
            "images": images,
            "precision": np.where(predicted > 0, precision, np.nan),
            "recall": np.where(images > 0, recall, np.nan),
            "f1": np.where(images + predicted > 0, f1, np.nan),
            "auroc": _aurocs(scores, classes),
        }
    )


def regression_metrics(predicted: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """mae, rmse and median_error (of the absolute errors) in the target's unit; r2, NaN where all targets are equal.

    All NaN where a prediction is not finite.
    """
    if not len(targets) or not np.isfinite(predicted).all():
        return dict.fromkeys(("mae", "rmse", "r2", "median_error"), float("nan"))
    predicted, targets = predicted.astype(np.float64), targets.astype(np.float64)
    ours, true = torch.from_numpy(predicted), torch.from_numpy(targets)
    return {
        "mae": float(mean_absolute_error(ours, true)),
        "rmse": float(mean_squared_error(ours, true, squared=False)),
        "r2": _r2(predicted, targets),
        "median_error": float(np.median(np.abs(predicted - targets))),
    }


def by_group(predicted: np.ndarray, targets: np.ndarray, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """A row per category of each categorical covariate, 2 before 10: covariate, group, count, the regression metrics,
    bias (mean of prediction minus target, in the target's unit). `groups`: covariate to the category of each image."""
    rows = []
    for covariate, categories in groups.items():
        column = np.asarray(categories)
        for group in sorted(set(categories), key=natural_order):
            of_group = column == group
            measured = regression_metrics(predicted[of_group], targets[of_group])
            rows.append(
                {
                    "covariate": covariate,
                    "group": group,
                    "count": int(of_group.sum()),
                    **measured,
                    "bias": float((predicted - targets)[of_group].mean()),
                }
            )
    return pd.DataFrame(rows, columns=["covariate", "group", "count", "mae", "rmse", "r2", "median_error", "bias"])


def _r2(predicted: np.ndarray, targets: np.ndarray) -> float:
    """1 - SSE / SST. torchmetrics gives 1 where SST is below 1e-4, in whatever unit that is."""
    if (targets == targets[0]).all():
        return float("nan")
    spread = targets - targets.mean()
    return float(1 - ((predicted - targets) ** 2).sum() / (spread**2).sum())


def _tensors(probabilities: np.ndarray, targets: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(probabilities.astype(np.float64)), torch.from_numpy(targets.astype(np.int64))


def _aurocs(scores: Tensor, classes: Tensor) -> np.ndarray:
    """Area under the ROC curve (C,) of each class against the rest; NaN where all or none of the images are of it."""
    areas = np.full(scores.shape[1], np.nan)
    for number in range(scores.shape[1]):
        is_class = (classes == number).long()
        if 0 < is_class.sum() < len(classes):
            areas[number] = binary_auroc(scores[:, number], is_class)
    return areas


def _mean_of_finite(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(present.mean()) if len(present) else float("nan")
