"""Tasks that give each image a class or a number (group `task`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.checks import check_choice, check_not_negative, check_positive
from trainer.config.data import LabelData
from trainer.config.label_task import LabelTaskConfig, check_labels, check_unbalanced, label_data, name_and_unit

if TYPE_CHECKING:
    from trainer.config.run import TrainConfig
    from trainer.run_data import RunData
    from trainer.tasks.task import Task


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
class ClassificationTaskConfig(LabelTaskConfig):
    loss: ClassificationLossConfig
    top_k: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k < 2:
            raise ValueError(f"task.top_k={self.top_k} must be at least 2; accuracy is top 1")

    @property
    def numeric(self) -> bool:
        return False

    def num_outputs(self, num_classes: int) -> int:
        return num_classes

    def check(self, config: TrainConfig) -> None:
        check_labels(config, self.kind)
        if config.data.balance and self.loss.class_weights is not None:
            raise ValueError(
                f"data.balance=true and task.loss.class_weights={self.loss.class_weights} balance the classes twice; "
                "choose one"
            )

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
class RegressionTaskConfig(LabelTaskConfig):
    loss: RegressionLossConfig
    label_noise: float
    unit: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("task.label_noise", self.label_noise)

    @property
    def numeric(self) -> bool:
        return True

    def num_outputs(self, num_classes: int) -> int:
        return 1

    def check(self, config: TrainConfig) -> None:
        check_labels(config, self.kind)
        check_unbalanced(config)

    def build_data(self, config: TrainConfig, splits_file: Path) -> RunData:
        return label_data(config, splits_file, numeric=True, label_noise=self.label_noise)

    def build(self, config: TrainConfig, data: RunData) -> Task[Any]:
        from trainer.tasks.labels import SampleSheets
        from trainer.tasks.regression import RegressionTask

        assert isinstance(config.data, LabelData)
        name, unit = name_and_unit(config.data.target_name)
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


def _is_weight(weight: object) -> bool:
    if isinstance(weight, bool):  # an int to Python
        return False
    return isinstance(weight, int | float) and math.isfinite(weight) and weight > 0
