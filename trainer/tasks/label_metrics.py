"""How good predicted classes and numbers are: by torchmetrics, and NaN where a metric has nothing to go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import models.timm_import  # noqa: F401  # torchmetrics imports torchvision too

# isort: split
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score
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
    calibration error in 15 bins (Naeini et al. 2015).
    """
    num_classes = len(class_names)
    names = ["accuracy", "balanced_accuracy", "macro_f1", "auroc", *([f"top_{top_k}"] if num_classes > top_k else [])]
    if not len(targets):
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
    counts: np.ndarray = multiclass_confusion_matrix(*_tensors(probabilities, targets), num_classes).numpy()
    return counts


def per_class_table(probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """A row per class: images, precision (NaN where it is never predicted), recall (NaN where it doesn't occur), f1
    (NaN where neither), auroc against the rest (NaN where all or none of the images are of the class)."""
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
    """mae, rmse and median_error (of the absolute errors) in the target's unit; r2, NaN where all targets are equal."""
    if not len(targets):
        return dict.fromkeys(("mae", "rmse", "r2", "median_error"), float("nan"))
    ours, true = torch.from_numpy(predicted.astype(np.float64)), torch.from_numpy(targets.astype(np.float64))
    differ = bool((true != true[0]).any())
    return {
        "mae": float(mean_absolute_error(ours, true)),
        "rmse": float(mean_squared_error(ours, true, squared=False)),
        "r2": float(r2_score(ours, true)) if differ else float("nan"),
        "median_error": float(np.median(np.abs(predicted - targets))),
    }


def by_group(predicted: np.ndarray, targets: np.ndarray, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """A row per category of each categorical covariate, 2 before 10: covariate, group, count, mae, rmse and bias
    (mean of prediction minus target) in the target's unit. `groups`: covariate to the category of each image."""
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
                    "mae": measured["mae"],
                    "rmse": measured["rmse"],
                    "bias": float((predicted - targets)[of_group].mean()),
                }
            )
    return pd.DataFrame(rows, columns=["covariate", "group", "count", "mae", "rmse", "bias"])


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
