"""Cyclical learning rates, and how many cycles fit into a phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config.checks import check_choice, check_positive
from trainer.schedules.checks import check_bounds, check_count, check_momenta
from trainer.schedules.schedule import Schedule, between


@dataclass(frozen=True, kw_only=True)
class CyclicalSchedule(Schedule):
    """Cyclical learning rates (Smith 2017, arXiv:1506.01186, section 3.1), equal to torch's CyclicLR.

    The rate rises from base_lr to max_lr in `step_size` iterations and falls back in as many. The height of the cycles
    stays (`triangular`), halves with each cycle (`triangular2`), or falls by gamma^step (`exp_range`).

    The paper lets both bounds of exp_range fall by gamma^step: that is `decay_base=True`. Keras' CLR and torch hold
    the lower bound, which is `decay_base=False`. Momentum, if its bounds are given, runs against the rate.

    Raises ValueError for bounds, momenta, a mode or a step size that make no cycle.
    """

    base_lr: float
    max_lr: float
    step_size: int
    mode: str = "triangular"
    gamma: float = 1.0
    decay_base: bool = False
    base_momentum: float | None = None
    max_momentum: float | None = None

    def __post_init__(self) -> None:
        check_bounds("base_lr", self.base_lr, "max_lr", self.max_lr)
        check_count("scheduler.step_size", self.step_size, "iterations")
        check_choice("scheduler.mode", self.mode, ("triangular", "triangular2", "exp_range"))
        if not 0 < self.gamma <= 1:
            raise ValueError(f"scheduler.gamma={self.gamma} must lie above 0 and not above 1")
        if self.decay_base and self.mode != "exp_range":
            raise ValueError(f"scheduler.decay_base=true needs scheduler.mode=exp_range, not {self.mode}")
        check_momenta(self.base_momentum, self.max_momentum)

    def lr_at(self, step: int) -> float:
        if self.decay_base:
            return between(self.base_lr, self.max_lr, self._triangle(step)) * self._scale(step)
        return between(self.base_lr, self.max_lr, self._triangle(step) * self._scale(step))

    def momentum_at(self, step: int) -> float | None:
        if self.base_momentum is None or self.max_momentum is None:
            return None
        return between(self.max_momentum, self.base_momentum, self._triangle(step) * self._scale(step))

    def cycle_at(self, step: int) -> int:
        return step // (2 * self.step_size)

    def after(self, monitors: Sequence[float]) -> Schedule:
        return self

    def _triangle(self, step: int) -> float:
        """Height above the lower bound, 0 to 1: the paper's max(0, 1 - |step / step_size - 2 * cycle + 1|).

        The position within the cycle is taken in integers, so no rounding grows with the step.
        """
        position = step % (2 * self.step_size)
        return (position if position <= self.step_size else 2 * self.step_size - position) / self.step_size

    def _scale(self, step: int) -> float:
        """Share of the full height that is left at `step`."""
        if self.mode == "triangular2":
            # 1 / 2^cycle would overflow beyond cycle 1,023; this goes to 0.
            return math.ldexp(1.0, -self.cycle_at(step))
        if self.mode == "exp_range":
            return self.gamma**step
        return 1.0


def whole_cycles(total_steps: int, step_size: float) -> float:
    """How many cycles of 2 * `step_size` iterations `total_steps` updates make; a whole number if they end with one."""
    return total_steps / (2 * step_size)


def fit_cycles(total_steps: int, *, step_size: float | None, cycles: int | None) -> int:
    """The step size (iterations, at least 1) with which whole cycles fit into `total_steps` updates.

    So many `cycles` are fitted, or as many as a `step_size` (iterations) comes nearest to: one of the two is given.
    The remainder, fewer than 2 * cycles updates, is the caller's to trim. Without trimming the phase ends that far
    into one more cycle. A phase of fewer than 2 * cycles updates holds fewer cycles than were asked for.

    Raises ValueError unless exactly one of the two is given, and above 0.
    """
    check_positive("scheduler.step_size", step_size)
    check_positive("scheduler.cycles", cycles)
    if step_size is not None and cycles is None:
        cycles = max(1, round(whole_cycles(total_steps, step_size)))
    elif step_size is not None or cycles is None:
        raise ValueError(f"one of scheduler.step_size={step_size} and scheduler.cycles={cycles} must be given")
    return max(1, total_steps // (2 * cycles))
