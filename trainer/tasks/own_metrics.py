"""Metrics that a user's own task adds to those of the task it is like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.tasks.task import Column

Measure = Callable[[np.ndarray, np.ndarray], dict[str, float]]  # of predictions and targets
LOSSES = ("train_loss", "val_loss")  # columns of metrics.csv, as metrics are


def own_values(measure: Measure | None, predicted: np.ndarray, targets: np.ndarray, usual: Measure) -> dict[str, float]:
    """Own metrics, then the usual ones; own ones are NaN where a prediction is not finite or there is no image.

    Raises ValueError for an own one under the name of a usual one.
    """
    if measure is None:
        return usual(predicted, targets)
    if len(targets) and np.isfinite(predicted).all():
        own = {name: float(value) for name, value in measure(predicted, targets).items()}
    else:
        shape = (2, *predicted.shape[1:])
        own = dict.fromkeys(measure(np.full(shape, 1 / np.prod(shape[1:])), np.arange(2).astype(targets.dtype)), np.nan)
    known = usual(predicted, targets)
    if taken := [name for name in own if name in known or name in LOSSES]:
        raise ValueError(f"metrics() of the task gives {taken[0]}, which is one of trainer's own; choose another name")
    return {**own, **known}


def own_columns(names: list[str]) -> list[Column]:
    return [Column(name, name.replace("_", " "), "score") for name in names]
