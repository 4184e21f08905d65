"""What tasks of a user's own have to say: a loss, what the outputs of a model mean, and what to measure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from trainer.config.data import LabelData
from trainer.config.label_task import LabelTaskConfig, check_labels, check_unbalanced, name_and_unit

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from trainer.config.run import TrainConfig
    from trainer.run_data import RunData
    from trainer.tasks.task import Task

TOP_K = 3


class Scale(NamedTuple):
    """Of the training numbers, in their own unit."""

    mean: float
    std: float


@dataclass(kw_only=True)
class OwnClasses(LabelTaskConfig, ABC):
    """A class for each image, learnt and told in a way of its own: an order of the classes, costs of confusions.

    Tables, pictures and the metrics of task=classification come with it. `metrics` of its own come first in each table,
    and the first of them chooses the best epoch, unless task.monitor names another.
    """

    higher_is_better: ClassVar[tuple[str, ...]] = ()  # of the own metrics; of all others the lower value is better

    @abstractmethod
    def losses(self, values: Tensor, target: Tensor) -> Tensor:
        """(N,) of the model's outputs (N, O) and the true classes (N,) int64."""

    @abstractmethod
    def probabilities(self, values: Tensor) -> Tensor:
        """(N, C) of the outputs (N, O)."""

    def metrics(self, probabilities: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Of (N, C) and the true classes (N,); always the same names."""
        return {}

    def num_outputs(self, num_classes: int) -> int:
        """O."""
        return num_classes

    @property
    def numeric(self) -> bool:
        return False

    def check(self, config: TrainConfig) -> None:
        check_labels(config, self.kind)

    def build(self, config: TrainConfig, data: RunData) -> Task[Any]:
        from trainer.tasks.classification import ClassificationTask
        from trainer.tasks.labels import SampleSheets

        return ClassificationTask(
            records=data.records,
            validates=data.validates,
            label_smoothing=0.0,
            class_weights=None,
            top_k=TOP_K,
            monitor=self.monitor,
            sheets=SampleSheets(self.num_samples, config.data.input_size, config.data.fit),
            own=self,
        )


@dataclass(kw_only=True)
class OwnNumbers(LabelTaskConfig, ABC):
    """A number for each image, learnt in a way of its own: a count, a quantile, a number with bounds.

    Tables, pictures and the metrics of task=regression come with it; for `metrics` see OwnClasses.
    """

    higher_is_better: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def losses(self, values: Tensor, target: Tensor, scale: Scale) -> Tensor:
        """(N,) of the model's outputs (N, O) and the true numbers (N,) in their own unit."""

    @abstractmethod
    def numbers(self, values: Tensor, scale: Scale) -> Tensor:
        """(N,) in the unit of the target, of the outputs (N, O)."""

    def metrics(self, predicted: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Of (N,) and (N,); always the same names."""
        return {}

    def num_outputs(self, num_classes: int) -> int:
        """O."""
        return 1

    @property
    def numeric(self) -> bool:
        return True

    def check(self, config: TrainConfig) -> None:
        check_labels(config, self.kind)
        check_unbalanced(config)

    def build(self, config: TrainConfig, data: RunData) -> Task[Any]:
        from trainer.tasks.labels import SampleSheets
        from trainer.tasks.regression import RegressionTask

        assert isinstance(config.data, LabelData)
        name, unit = name_and_unit(config.data.target_name)
        return RegressionTask(
            records=data.records,
            validates=data.validates,
            loss="l1",
            width=1.0,
            target_name=name,
            unit=unit,
            monitor=self.monitor,
            sheets=SampleSheets(self.num_samples, config.data.input_size, config.data.fit),
            own=self,
        )
