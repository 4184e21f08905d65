"""What all tasks share that give each image a class or a number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config.checks import check_absent, check_not_negative
from trainer.config.data import LabelData
from trainer.config.landmark_data import LandmarkData
from trainer.config.models import CovariateConfig, LabelModelConfig
from trainer.config.tasks import TaskConfig

if TYPE_CHECKING:
    from torch import nn

    from trainer.config.run import TrainConfig
    from trainer.run_data import RunData

UNITS = ("days", "weeks", "months", "years", "hours", "minutes", "mm", "cm", "m", "g", "kg", "percent")
LANDMARK_KEYS = ("pixel_spacing_mm", "missing_fraction", "more_tables")  # of data


@dataclass(kw_only=True)
class LabelTaskConfig(TaskConfig, ABC):
    """A class or a number for each image."""

    num_samples: int

    def __post_init__(self) -> None:
        check_not_negative("task.num_samples", self.num_samples)

    @property
    @abstractmethod
    def numeric(self) -> bool:
        """Whether labels are numbers, not classes."""

    @abstractmethod
    def num_outputs(self, num_classes: int) -> int:
        """How many values the model gives for an image; of numbers `num_classes` is 0."""

    def build_data(self, config: TrainConfig, splits_file: Path) -> RunData:
        return label_data(config, splits_file, numeric=self.numeric, label_noise=0.0)

    def build_model(self, config: TrainConfig, data: RunData) -> nn.Module:
        return _label_model(config, data, num_outputs=self.num_outputs(len(data.records.class_names or ())))


def name_and_unit(column: str) -> tuple[str, str]:
    """`boneage_months` as boneage and months; without a unit at its end, the column and nothing."""
    name, _, unit = column.rpartition("_")
    return (name, unit) if name and unit in UNITS else (column, "")


def check_unbalanced(config: TrainConfig) -> None:
    if config.data.balance:
        raise ValueError(f"data.balance=true balances classes, task={config.task.kind} has none; leave it out")


def check_labels(config: TrainConfig, task: str) -> None:
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


def label_data(config: TrainConfig, splits_file: Path, *, numeric: bool, label_noise: float) -> RunData:
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
