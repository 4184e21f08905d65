"""What the tasks that give an image a label share: monitors, covariates in tables, averages of views."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from data.covariates import Covariates
from trainer.tasks.task import Predictions


def checked_monitor(asked: str | None, usual: str, validates: bool, validation_columns: Sequence[str]) -> str:
    """The metric that chooses the best epoch; raises ValueError for one that this run doesn't measure."""
    if not validates:
        if asked is not None:
            raise ValueError(f"task.monitor={asked} needs a validation split; without one the training loss decides")
        return "train_loss"
    monitor = asked or usual
    if monitor not in validation_columns:
        raise ValueError(f"task.monitor={monitor} is not a metric of this run: {', '.join(validation_columns)}")
    return monitor


def covariate_mapping(covariates: Covariates) -> list[dict[str, Any]]:
    """What the encoded columns mean, as JSON: categories in their order, or mean and std of numbers."""
    return [
        {"name": name, "mean": float(mean), "std": float(std)}
        if categories is None
        else {"name": name, "categories": categories}
        for name, categories, mean, std in zip(
            covariates.names, covariates.categories, covariates.mean, covariates.std, strict=True
        )
    ]


def covariate_columns(covariates: Covariates, indices: np.ndarray, taken: Container[str]) -> dict[str, list[str]]:
    """The covariates of these records under their names, but for names that other columns of a table have taken."""
    return {
        f"covariate_{name}" if name in taken else name: [values[index] for index in indices]
        for name, values in zip(covariates.names, covariates.values, strict=True)
    }


def group_columns(covariates: Covariates, indices: np.ndarray) -> dict[str, list[str]]:
    """The categorical covariates of these records, by name."""
    return {
        name: [values[index] for index in indices]
        for name, categories, values in zip(covariates.names, covariates.categories, covariates.values, strict=True)
        if categories is not None
    }


def averaged_views(views: Sequence[Predictions], key: str) -> Predictions:
    """The first, plain view with the mean of `key` over all of them; its attention is that of the plain image."""
    return {**views[0], key: np.mean([view[key] for view in views], axis=0)}
