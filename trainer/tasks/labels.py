"""What the tasks that give an image a label share: monitors, covariates in tables, averages of views."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.covariates import Covariates
from data.geometry import Affine, fit_image
from data.label_records import LabelRecords
from trainer.tasks.label_samples import Samples, write_samples
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


def finite_rows(predictions: Predictions) -> Predictions:
    """The images of which all that was predicted is finite: pictures and tables of parts leave the others out."""
    finite = np.ones(len(predictions["index"]), bool)
    for values in predictions.values():
        finite &= np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return predictions if finite.all() else {key: values[finite] for key, values in predictions.items()}


def averaged_views(views: Sequence[Predictions], key: str) -> Predictions:
    """The first, plain view with the mean of `key` over all of them; its attention is that of the plain image."""
    return {**views[0], key: np.mean([view[key] for view in views], axis=0)}


@dataclass(frozen=True)
class SampleSheets:
    """Pictures of `count` images each, of which the network saw an input of `input_size` (height, width)."""

    count: int
    input_size: tuple[int, int]
    fit: str

    def write(self, folder: Path, predictions: Predictions, records: LabelRecords, samples: Samples) -> dict[str, Path]:
        """Captions and files of the sheets of the best, the median and the worst samples."""

        def affine_of(index: int) -> Affine:
            return fit_image(tuple(records.sizes[index]), self.input_size, self.fit).affine

        attention = predictions.get("attention")
        sheets = write_samples(
            folder,
            records.read,
            records.image_names,
            samples,
            count=self.count,
            attention=attention,
            affine_of=None if attention is None else affine_of,
            input_size=None if attention is None else self.input_size,
        )
        return {f"{path.stem.removeprefix('samples_').capitalize()} samples": path for path in sheets}
