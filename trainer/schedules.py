"""Learning rates as pure functions of the step within one phase: nothing about a schedule is saved but the step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

from trainer.config.checks import check_choice, check_not_negative, check_positive

# Reductions smaller than this are left out, as by torch's ReduceLROnPlateau (its `eps`).
SMALLEST_REDUCTION = 1e-8


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
        _check_bounds("base_lr", self.base_lr, "max_lr", self.max_lr)
        _check_count("scheduler.step_size", self.step_size, "iterations")
        check_choice("scheduler.mode", self.mode, ("triangular", "triangular2", "exp_range"))
        if not 0 < self.gamma <= 1:
            raise ValueError(f"scheduler.gamma={self.gamma} must lie above 0 and not above 1")
        if self.decay_base and self.mode != "exp_range":
            raise ValueError(f"scheduler.decay_base=true needs scheduler.mode=exp_range, not {self.mode}")
        _check_momenta(self.base_momentum, self.max_momentum)

    def lr_at(self, step: int) -> float:
        if self.decay_base:
            return _between(self.base_lr, self.max_lr, self._triangle(step)) * self._scale(step)
        return _between(self.base_lr, self.max_lr, self._triangle(step) * self._scale(step))

    def momentum_at(self, step: int) -> float | None:
        if self.base_momentum is None or self.max_momentum is None:
            return None
        return _between(self.max_momentum, self.base_momentum, self._triangle(step) * self._scale(step))

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
        _check_count("total_steps", self.total_steps, "updates in the phase")
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
        _check_momenta(self.base_momentum, self.max_momentum)

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
        return _between(corners[stretch], corners[stretch + 1], share)

    def _stretch_ends(self) -> tuple[float, ...]:
        """The steps, not always whole, at which the stretches end: torch's definition."""
        rise = self.pct_start * self.total_steps
        if self.three_phase:
            return (rise - 1, 2 * rise - 2, self.total_steps - 1)
        return (rise - 1, self.total_steps - 1)


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
        _check_bounds("min_lr", self.min_lr, "max_lr", self.max_lr)
        _check_count("total_steps", self.total_steps, "updates in the phase")
        if not 0 <= self.warmup_steps < self.total_steps:
            raise ValueError(
                f"scheduler.warmup_epochs is {self.warmup_steps} updates, but the phase has only {self.total_steps}"
            )

    def lr_at(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.max_lr * (step + 1) / (self.warmup_steps + 1)
        share = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return _between(self.max_lr, self.min_lr, (1.0 - math.cos(math.pi * share)) / 2.0)

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


def _between(start: float, end: float, share: float) -> float:
    """The value at `share` (0 to 1) of the way; unlike start + (end - start) * share it meets both ends exactly."""
    return start * (1.0 - share) + end * share


def _check_count(key: str, count: int, unit: str) -> None:
    if not (isinstance(count, int) and count >= 1):
        raise ValueError(f"{key}={count} must be a whole number of {unit}, at least 1")


def _check_bounds(lower_key: str, lower: float, upper_key: str, upper: float) -> None:
    check_not_negative(f"scheduler.{lower_key}", lower)
    check_positive(f"scheduler.{upper_key}", upper)
    if lower >= upper:
        raise ValueError(f"scheduler.{lower_key}={lower} must be below scheduler.{upper_key}={upper}")


def _check_momenta(base: float | None, top: float | None) -> None:
    """Both or neither, in order, and below 1, where momentum never forgets."""
    both = f"scheduler.base_momentum={base} and scheduler.max_momentum={top}"
    if (base is None) != (top is None):
        raise ValueError(f"{both} must be given together")
    if base is not None and top is not None and not 0 <= base <= top < 1:
        raise ValueError(f"{both} must lie in 0 to 1 (1 excluded), the base not above the maximum")
