"""Tasks that give each image a class or a number (group `task`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.checks import check_absent, check_choice, check_not_negative, check_positive
from trainer.config.data import LabelData
from trainer.config.landmark_data import LandmarkData
from trainer.config.models import CovariateConfig, LabelModelConfig
from trainer.config.tasks import TaskConfig

if TYPE_CHECKING:
    from torch import nn

    from trainer.config.run import TrainConfig
    from trainer.run_data import RunData
    from trainer.tasks.task import Task

UNITS = ("days", "weeks", "months", "years", "hours", "minutes", "mm", "cm", "m", "g", "kg", "percent")
LANDMARK_KEYS = ("pixel_spacing_mm", "missing_fraction", "more_tables")  # of data


@dataclass(kw_only=True)
class ClassificationLossConfig:
    label_smoothing: float
    class_weights: Any  # None, balanced, or a list of numbers, which Hydra's schemas can't say

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"task.loss.label_smoothing={self.label_smoothing} must lie in 0 to 1 (1 excluded)")
        weights = self.class_weights
        if weights is None or weights == "balanced":
            return
        if not isinstance(weights, list) or not weights or not all(_is_weight(weight) for weight in weights):
            raise ValueError(
                f"task.loss.class_weights={weights} must be null, balanced, or a list of a number above 0 per class"
            )


@dataclass(kw_only=True)
class ClassificationTaskConfig(TaskConfig):
    loss: ClassificationLossConfig
    top_k: int
    num_samples: int

    def __post_init__(self) -> None:
        if self.top_k < 2:
            raise ValueError(f"task.top_k={self.top_k} must be at least 2; accuracy is top 1")
        check_not_negative("task.num_samples", self.num_samples)

    def check(self, config: TrainConfig) -> None:
        _check_labels(config, self.kind)
        if config.data.balance and self.loss.class_weights is not None:
            raise ValueError(
                f"data.balance=true and task.loss.class_weights={self.loss.class_weights} balance the classes twice; "
                "choose one"
            )

    def build_data(self, config: TrainConfig, splits_file: Path) -> RunData:
        return _label_data(config, splits_file, numeric=False, label_noise=0.0)

    def build_model(self, config: TrainConfig, data: RunData) -> nn.Module:
        return _label_model(config, data, num_outputs=len(data.records.class_names))

    def build(self, config: TrainConfig, data: RunData) -> Task[Any]:
        from trainer.tasks.classification import ClassificationTask
        from trainer.tasks.labels import SampleSheets

        return ClassificationTask(
            records=data.records,
            validates=data.validates,
            label_smoothing=self.loss.label_smoothing,
            class_weights=self.loss.class_weights,
            top_k=self.top_k,
            monitor=self.monitor,
            sheets=SampleSheets(self.num_samples, config.data.input_size, config.data.fit),
        )


@dataclass(kw_only=True)
class RegressionLossConfig:
    kind: str
    width: float

    def __post_init__(self) -> None:
        check_choice("task.loss.kind", self.kind, ("l1", "huber", "smooth_l1"))
        check_positive("task.loss.width", self.width)


@dataclass(kw_only=True)
class RegressionTaskConfig(TaskConfig):
    loss: RegressionLossConfig
    label_noise: float
    unit: str | None
    num_samples: int

    def __post_init__(self) -> None:
        check_not_negative("task.label_noise", self.label_noise)
        check_not_negative("task.num_samples", self.num_samples)

    def check(self, config: TrainConfig) -> None:
        _check_labels(config, self.kind)
        if config.data.balance:
            raise ValueError("data.balance=true balances classes, task=regression has none; leave it out")

    def build_data(self, config: TrainConfig, splits_file: Path) -> RunData:
        return _label_data(config, splits_file, numeric=True, label_noise=self.label_noise)

    def build_model(self, config: TrainConfig, data: RunData) -> nn.Module:
        return _label_model(config, data, num_outputs=1)

    def build(self, config: TrainConfig, data: RunData) -> Task[Any]:
        from trainer.tasks.labels import SampleSheets
        from trainer.tasks.regression import RegressionTask

        assert isinstance(config.data, LabelData)
        name, unit = _name_and_unit(config.data.target_name)
        return RegressionTask(
            records=data.records,
            validates=data.validates,
            loss=self.loss.kind,
            width=self.loss.width,
            target_name=name,
            unit=(unit if self.unit is None else self.unit),
            monitor=self.monitor,
            sheets=SampleSheets(self.num_samples, config.data.input_size, config.data.fit),
        )


def _name_and_unit(column: str) -> tuple[str, str]:
    """`boneage_months` as boneage and months; without a unit at its end, the column and nothing."""
    name, _, unit = column.rpartition("_")
    return (name, unit) if name and unit in UNITS else (column, "")


def _is_weight(weight: object) -> bool:
    if isinstance(weight, bool):  # an int to Python
        return False
    return isinstance(weight, int | float) and math.isfinite(weight) and weight > 0


def _check_labels(config: TrainConfig, task: str) -> None:
    data, model = config.data, config.model
    if not isinstance(data, LabelData):
        raise ValueError(f"data={data.kind} has no labels for task={task}")
    if not isinstance(model, LabelModelConfig):
        raise ValueError(
            f"model={model.kind} does not fit task={task}; choose model=classifier, covariate or attention_covariate"
        )
    check_absent("data", data, LANDMARK_KEYS, f"task={task}", "task=landmarks")
    if isinstance(data, LandmarkData):
        for key, usual in (("region", "full"), ("annotator", "mean")):
            if (value := getattr(data, key)) != usual:
                raise ValueError(f"data.{key}={value} does not fit task={task}, it is for task=landmarks; leave it out")
    check_absent("data.augmentation", data.augmentation, ["flip_pairs"], f"task={task}", "task=landmarks")
    if isinstance(model, CovariateConfig) and model.kind == "covariate" and not hasattr(data, "covariates"):
        raise ValueError(
            f"model=covariate needs covariates, and data={data.kind} has none; choose model=classifier, or data=csv"
        )
    if isinstance(model, CovariateConfig) and model.kind == "covariate" and not data.covariate_names:
        raise ValueError(
            f"model=covariate needs data.covariates, such as data.covariates=[sex], got {data.covariate_names}; "
            "model=classifier does without"
        )
    if len(set(data.covariate_names)) < len(data.covariate_names):
        raise ValueError(f"data.covariates={data.covariate_names} names a covariate twice; name each once")
    if config.predict.tta > 1 and not data.augmentation.moves:
        raise ValueError(
            f"predict.tta={config.predict.tta} averages views that data.augmentation turns, scales, shifts or mirrors, "
            "but all of that is 0"
        )


def _label_data(config: TrainConfig, splits_file: Path, *, numeric: bool, label_noise: float) -> RunData:
    from data.label_datasets import LabelDataset, ViewsDataset
    from data.loaders import balancing_weights
    from data.mixup import MixupCollate
    from trainer.run_data import run_data

    settings = config.data
    assert isinstance(settings, LabelData)
    records = settings.label_records(splits_file, numeric=numeric)
    train, plain = (
        LabelDataset(
            records,
            input_size=settings.input_size,
            fit=settings.fit,
            augmentation=augmentation,
            seed=config.seed,
            cache_gb=settings.cache_gb / 2,
            label_noise=noise,
        )
        for augmentation, noise in ((settings.augmentation.build([]), label_noise), (None, 0.0))
    )
    return run_data(
        config,
        records,
        train=train,
        plain=plain,
        views=ViewsDataset(plain, settings.augmentation.build_moves()),
        weights=balancing_weights(records.targets[records.indices("train")]) if settings.balance else None,
        collate=MixupCollate(config.seed, settings.mixup) if settings.mixup else None,
    )


def _label_model(config: TrainConfig, data: RunData, *, num_outputs: int) -> nn.Module:
    from torch.nn.modules.batchnorm import _BatchNorm

    from trainer.growth import MULTIPLE, check_sizes, smallest_size

    assert isinstance(config.model, LabelModelConfig)
    input_size = config.data.input_size
    model = config.model.build(
        input_size=input_size,
        num_outputs=num_outputs,
        num_covariates=data.records.covariates.encoded.shape[1],
    )
    check_sizes(config, model.backbone)
    smallest = smallest_size(config)
    images = min(config.data.batch_size, len(data.records.indices("train")))
    normed = any(isinstance(module, _BatchNorm) for module in model.modules())
    if images == 1 and normed and (model.backbone.map_size == (1, 1) or max(smallest) <= MULTIPLE):
        raise ValueError(
            f"data.batch_size={images} with an input of {smallest[0]} x {smallest[1]} px leaves batch norm a "
            "single value; train on at least 2 images at a time, or on a larger input"
        )
    return model
