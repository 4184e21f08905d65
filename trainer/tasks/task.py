"""What a task is to the rest of the program: loop, phases, outcome and report know nothing else of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

Records = TypeVar("Records")
Predictions = dict[str, np.ndarray]  # "index" (N,) of the records, and what the task says of each


@dataclass(frozen=True)
class Column:
    """A column of a table for people. `style`: distance (2 places), score (3), percent (of a share), number, text."""

    key: str
    heading: str
    style: str


@dataclass(frozen=True)
class DetailTable:
    """What was measured part by part: per landmark, class or group."""

    title: str
    columns: list[Column]  # the first names the part
    rows: pd.DataFrame


@dataclass(frozen=True)
class Curves:
    """Validation metrics that are drawn over the epochs, on one axis."""

    axis: str  # what they are
    unit: str  # empty for none
    lines: dict[str, str]  # column of metrics.csv -> what it is called; the first is compared with the baseline
    shares: bool  # they lie between 0 and 1


@dataclass(frozen=True)
class Certainty:
    """How sure predictions are, as a split says that was not trained on."""

    predictions: dict[str, Predictions]  # of each split, with what was found
    calibration: dict[str, Any]  # as JSON: what says the same of the predictions of other images
    findings: dict[str, Any]  # as JSON: whether it can be trusted


class Task(ABC, Generic[Records]):
    """What is learnt and how it is judged."""

    inputs: tuple[str, ...]  # of the model, as they are called in a batch
    monitor: str  # the metric that chooses the best epoch
    baseline_name: str  # of what a run has to beat
    float_format: str  # of numbers in predictions.csv

    @property
    @abstractmethod
    def monitor_mode(self) -> str:
        """Whether the better monitored value is the lower (min) or the higher one (max)."""

    @property
    @abstractmethod
    def mapping(self) -> dict[str, Any]:
        """What the numbers that the model takes and gives mean, as JSON; it can't change within a run."""

    @property
    @abstractmethod
    def validation_columns(self) -> tuple[str, ...]:
        """What an evaluation adds to a row of metrics.csv: val_loss and the metrics."""

    @property
    @abstractmethod
    def columns(self) -> list[Column]:
        """The metrics of the table that a run ends with, the most telling first."""

    @property
    @abstractmethod
    def curves(self) -> Curves:
        """The metrics that are drawn over the epochs."""

    @abstractmethod
    def loss(self, output: Any, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch."""

    @abstractmethod
    def loss_terms(self, output: Any, batch: dict[str, Tensor]) -> Tensor:
        """How many terms that mean is over: what it weighs beside those of the batch's other parts."""

    @abstractmethod
    def answers(self, output: Any, batch: dict[str, Tensor]) -> Predictions:
        """What the model says of each sample of a batch, in the units of the data; no truth is needed."""

    @abstractmethod
    def predictions(self, output: Any, batch: dict[str, Tensor]) -> Predictions:
        """The answers, with the truth."""

    @abstractmethod
    def averaged(self, views: Sequence[Predictions]) -> Predictions:
        """One prediction from those of several views of the same records; the first view is the plain one."""

    @abstractmethod
    def metrics(self, predictions: Predictions) -> dict[str, float]:
        """Every metric, in the order of `validation_columns`."""

    @abstractmethod
    def intervals(self, predictions: Predictions) -> dict[str, tuple[float, float]]:
        """95 % intervals of metrics that are means, from drawing images anew; NaN below two images."""

    @abstractmethod
    def certainty(self, judged: Mapping[str, Predictions]) -> Certainty | None:
        """How sure the predictions of each split are; None where there is no validation split or nothing to say."""

    @abstractmethod
    def summary(self, measured: dict[str, float]) -> str:
        """A line about an evaluation for a person who waits."""

    @abstractmethod
    def prior(self, records: Records) -> dict[str, Any]:
        """What the training split says without a look at any image, as JSON."""

    @abstractmethod
    def baseline(self, records: Records, split: str, prior: Mapping[str, Any] | None = None) -> Predictions:
        """What the training split alone predicts: that of `prior`, or of the records themselves."""

    @abstractmethod
    def references(self, records: Records, split: str) -> dict[str, Predictions]:
        """What else the model is to be held against, by name: how far people are apart."""

    @abstractmethod
    def verdict(self, baseline: dict[str, float], best: dict[str, float]) -> str:
        """A sentence that compares the metrics of the best weights with those of the baseline."""

    @abstractmethod
    def table(self, predictions: Predictions, records: Records, split: str) -> pd.DataFrame:
        """The rows of predictions.csv: image, split, and what the task says of each."""

    @abstractmethod
    def details(self, predictions: Predictions, records: Records) -> list[DetailTable]:
        """What was measured part by part."""

    @abstractmethod
    def pictures(self, folder: Path, predictions: Predictions, records: Records) -> dict[str, Path]:
        """Draw the predictions into `folder`; captions and files, in the order they are shown."""
