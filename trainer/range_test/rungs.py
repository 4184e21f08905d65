"""The rates that a range test climbs through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.config.checks import check_choice
from trainer.schedules import Schedule

MODES = ("exp", "linear")


def rungs(min_lr: float, max_lr: float, num_steps: int, mode: str) -> np.ndarray:
    """(num_steps,) rates: the first is `min_lr`, the last `max_lr`, and all steps between them are equal factors (exp)
    or equal differences (linear). Raises ValueError for bounds in the wrong order and fewer than 2 steps."""
    check_choice("mode", mode, MODES)
    if not 0 < min_lr < max_lr < np.inf:
        raise ValueError(f"a range test climbs from min_lr={min_lr} to max_lr={max_lr}: 0 < min_lr < max_lr is needed")
    if num_steps < 2:
        raise ValueError(f"num_steps={num_steps} must be at least 2, the two ends")
    rates = np.geomspace(min_lr, max_lr, num_steps) if mode == "exp" else np.linspace(min_lr, max_lr, num_steps)
    rates[[0, -1]] = min_lr, max_lr
    return rates


@dataclass(frozen=True)
class RungSchedule(Schedule):
    """Update i uses rung i. Momentum is left to the optimizer."""

    rates: np.ndarray

    def lr_at(self, step: int) -> float:
        return float(self.rates[step])

    def momentum_at(self, step: int) -> float | None:
        return None

    def cycle_at(self, step: int) -> int:
        return 0

    def after(self, monitors: Sequence[float]) -> Schedule:
        return self
