"""What every schedule answers about each update of a phase."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


class Schedule(ABC):
    """The rate, and where wanted the momentum, of each update of a phase. `step` counts its updates from 0."""

    @abstractmethod
    def lr_at(self, step: int) -> float:
        """The rate that update `step` uses."""

    @abstractmethod
    def momentum_at(self, step: int) -> float | None:
        """The momentum (Adam: beta1) that update `step` uses; None leaves the optimizer's own alone."""

    @abstractmethod
    def cycle_at(self, step: int) -> int:
        """The cycle that update `step` lies in, counted from 0; always 0 where there are no cycles."""

    @abstractmethod
    def after(self, monitors: Sequence[float]) -> Schedule:
        """The schedule in force after further epochs with these validation results, oldest first."""


def between(start: float, end: float, share: float) -> float:
    """The value at `share` (0 to 1) of the way; unlike start + (end - start) * share it meets both ends exactly."""
    return start * (1.0 - share) + end * share
