"""One cycle that spans a whole phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config.checks import check_choice, check_positive
from trainer.schedules.checks import check_count, check_momenta
from trainer.schedules.schedule import Schedule, between


@dataclass(frozen=True, kw_only=True)
class OneCycleSchedule(Schedule):
    """One cycle over the whole phase (Smith and Topin 2018, arXiv:1708.07120), equal to torch's OneCycleLR.

    The rate goes from max_lr / div_factor up to max_lr in the first `pct_start` (a share, 0 to 1) of `total_steps`,
    then down to max_lr / div_factor / final_div_factor. With `three_phase` it first falls back to where it came from
    in as many steps as it rose. Beyond the last step it holds its last value, so that an end point can be drawn.

    Raises ValueError for values that make no cycle.
    """

    max_lr: float
    total_steps: int
    pct_start: float
    div_factor: float
    final_div_factor: float
    anneal: str = "cos"
    three_phase: bool = False
    base_momentum: float | None = None
    max_momentum: float | None = None

    def __post_init__(self) -> None:
        check_positive("scheduler.max_lr", self.max_lr)
        check_count("total_steps", self.total_steps, "updates in the phase")
        check_choice("scheduler.anneal", self.anneal, ("cos", "linear"))
        if not 0 < self.pct_start < 1:
            raise ValueError(f"scheduler.pct_start={self.pct_start} must lie between 0 and 1, neither of them included")
        if self.three_phase and self.pct_start > 0.5:
            raise ValueError(
                f"scheduler.pct_start={self.pct_start} must not be above 0.5 with scheduler.three_phase=true, "
                "which falls for as long as it rises"
            )
        for key in ("div_factor", "final_div_factor"):
            if not 1 <= getattr(self, key) < math.inf:
                raise ValueError(f"scheduler.{key}={getattr(self, key)} must be a finite number, at least 1")
        check_momenta(self.base_momentum, self.max_momentum)

    def lr_at(self, step: int) -> float:
        first = self.max_lr / self.div_factor
        last = first / self.final_div_factor
        corners = (first, self.max_lr, first, last) if self.three_phase else (first, self.max_lr, last)
        return self._along(corners, step)

    def momentum_at(self, step: int) -> float | None:
        base, top = self.base_momentum, self.max_momentum
        if base is None or top is None:
            return None
        return self._along((top, base, top, top) if self.three_phase else (top, base, top), step)

    def cycle_at(self, step: int) -> int:
        return 0

    def after(self, monitors: Sequence[float]) -> Schedule:
        return self

    def _along(self, corners: tuple[float, ...], step: int) -> float:
        """The value at `step` of the curve through `corners`, one more than there are stretches."""
        step = min(step, self.total_steps - 1)
        ends = self._stretch_ends()
        stretch = next(index for index, end in enumerate(ends) if step <= end)
        start, end = (ends[stretch - 1] if stretch else 0.0), ends[stretch]
        # A rise of no length (pct_start * total_steps = 1) starts at its top.
        share = (step - start) / (end - start) if end > start else 1.0
        if self.anneal == "cos":
            share = (1.0 - math.cos(math.pi * share)) / 2.0
        return between(corners[stretch], corners[stretch + 1], share)

    def _stretch_ends(self) -> tuple[float, ...]:
        """The steps, not always whole, at which the stretches end: torch's definition."""
        rise = self.pct_start * self.total_steps
        if self.three_phase:
            return (rise - 1, 2 * rise - 2, self.total_steps - 1)
        return (rise - 1, self.total_steps - 1)
