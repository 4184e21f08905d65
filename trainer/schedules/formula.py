"""A schedule by formulas of a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer.schedules.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class FormulaSchedule(Schedule):
    """Asks one formula each for rate, momentum and cycle; raises ValueError for a rate or momentum that is none."""

    name: str
    rate: Callable[[int], float]
    momentum: Callable[[int], float | None]
    cycle: Callable[[int], int]

    def lr_at(self, step: int) -> float:
        rate = float(self.rate(step))
        if not (math.isfinite(rate) and rate >= 0):
            raise ValueError(f"scheduler={self.name} gives {rate} at step {step} of the phase; a rate is 0 or more")
        return rate

    def momentum_at(self, step: int) -> float | None:
        momentum = self.momentum(step)
        if momentum is not None and not 0 <= momentum < 1:
            raise ValueError(
                f"scheduler={self.name} gives the momentum {momentum} at step {step} of the phase; it lies in 0 to 1 "
                "(1 excluded)"
            )
        return momentum

    def cycle_at(self, step: int) -> int:
        return int(self.cycle(step))

    def after(self, monitors: Sequence[float]) -> Schedule:
        return self
