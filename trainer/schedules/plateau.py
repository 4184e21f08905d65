"""A rate that falls where validation results no longer improve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

from trainer.config.checks import check_choice, check_not_negative, check_positive
from trainer.schedules.schedule import Schedule

# Reductions smaller than this are left out, as by torch's ReduceLROnPlateau (its `eps`).
SMALLEST_REDUCTION = 1e-8


@dataclass(frozen=True, kw_only=True)
class PlateauSchedule(Schedule):
    """A rate that is multiplied by `factor` after more than `patience` epochs in a row without a better result.

    Equal to torch's ReduceLROnPlateau (threshold_mode="rel", cooldown=0), also in that NaN is never better, and that
    a threshold relative to a negative result asks for less than an equal one. `best` and `bad_epochs` are what is
    known of the epochs so far, so that after(a).after(b) is after(a + b).

    Raises ValueError for rates in the wrong order, a factor outside 0 to 1 and a negative patience or threshold.
    """

    lr: float
    factor: float
    patience: int
    threshold: float
    min_lr: float
    mode: str = "min"
    best: float | None = None
    bad_epochs: int = 0

    def __post_init__(self) -> None:
        check_positive("scheduler.lr", self.lr)
        check_not_negative("scheduler.min_lr", self.min_lr)
        if self.min_lr > self.lr:
            raise ValueError(f"scheduler.min_lr={self.min_lr} must not be above scheduler.lr={self.lr}")
        if not 0 < self.factor < 1:
            raise ValueError(f"scheduler.factor={self.factor} must lie between 0 and 1, neither of them included")
        check_not_negative("scheduler.patience", self.patience)
        check_not_negative("scheduler.threshold", self.threshold)
        check_choice("monitor mode", self.mode, ("min", "max"))

    def lr_at(self, step: int) -> float:
        return self.lr

    def momentum_at(self, step: int) -> float | None:
        return None

    def cycle_at(self, step: int) -> int:
        return 0

    def after(self, monitors: Sequence[float]) -> PlateauSchedule:
        return reduce(PlateauSchedule._after_epoch, monitors, self)

    def _after_epoch(self, monitor: float) -> PlateauSchedule:
        if self._is_better(monitor):
            return replace(self, best=monitor, bad_epochs=0)
        if self.bad_epochs < self.patience:
            return replace(self, bad_epochs=self.bad_epochs + 1)
        reduced = max(self.lr * self.factor, self.min_lr)
        return replace(self, lr=reduced if self.lr - reduced > SMALLEST_REDUCTION else self.lr, bad_epochs=0)

    def _is_better(self, monitor: float) -> bool:
        if self.mode == "min":
            return monitor < (math.inf if self.best is None else self.best) * (1.0 - self.threshold)
        return monitor > (-math.inf if self.best is None else self.best) * (1.0 + self.threshold)
