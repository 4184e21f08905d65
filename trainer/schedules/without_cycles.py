"""Rates without cycles that are known in advance: a warm-up and half a cosine, and a constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config.checks import check_positive
from trainer.schedules.checks import check_bounds, check_count
from trainer.schedules.schedule import Schedule, between


@dataclass(frozen=True, kw_only=True)
class CosineSchedule(Schedule):
    """A linear warm-up, then half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, no restarts).

    Equal to torch's LinearLR (from 1 / (warmup_steps + 1)) followed by CosineAnnealingLR: update `warmup_steps` uses
    max_lr, and min_lr is reached at `total_steps`, right after the last update. Beyond that it holds min_lr.

    Raises ValueError for bounds in the wrong order, and for a warm-up that leaves nothing of the phase.
    """

    max_lr: float
    min_lr: float
    total_steps: int
    warmup_steps: int

    def __post_init__(self) -> None:
        check_bounds("min_lr", self.min_lr, "max_lr", self.max_lr)
        check_count("total_steps", self.total_steps, "updates in the phase")
        if not 0 <= self.warmup_steps < self.total_steps:
            raise ValueError(
                f"scheduler.warmup_epochs is {self.warmup_steps} updates, but the phase has only {self.total_steps}"
            )

    def lr_at(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.max_lr * (step + 1) / (self.warmup_steps + 1)
        share = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return between(self.max_lr, self.min_lr, (1.0 - math.cos(math.pi * share)) / 2.0)

    def momentum_at(self, step: int) -> float | None:
        return None

    def cycle_at(self, step: int) -> int:
        return 0

    def after(self, monitors: Sequence[float]) -> Schedule:
        return self


@dataclass(frozen=True, kw_only=True)
class ConstantSchedule(Schedule):
    """The same rate for every update. Raises ValueError if it is not a positive number."""

    lr: float

    def __post_init__(self) -> None:
        check_positive("scheduler.lr", self.lr)

    def lr_at(self, step: int) -> float:
        return self.lr

    def momentum_at(self, step: int) -> float | None:
        return None

    def cycle_at(self, step: int) -> int:
        return 0

    def after(self, monitors: Sequence[float]) -> Schedule:
        return self
