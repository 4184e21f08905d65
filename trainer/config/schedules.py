"""The learning-rate schedules a phase can be governed by (group `scheduler`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from trainer.config.checks import check_choice, check_not_negative, check_positive

if TYPE_CHECKING:
    from trainer.schedules import Schedule

Rate = Any  # a number, or AUTO
AUTO = "auto"  # a rate that a range test is to find
RATE_KEYS = ("base_lr", "max_lr", "lr")  # of all kinds of schedules
_STAND_INS = {"base_lr": 1e-30, "max_lr": 1e30, "lr": 1.0}  # to check the other options while rates are unknown


def default_lr(number: float, of_landmarks: float, *, task: str, range_test: str) -> float | str:
    """The rate of a scheduler that the command line gives none: `auto` where a range test will find one."""
    if range_test != "off":
        return AUTO
    return of_landmarks if task == "landmarks" else number


@dataclass(kw_only=True)
class SchedulerConfig(ABC):
    kind: str

    def __post_init__(self) -> None:
        for key in RATE_KEYS:
            value = getattr(self, key, AUTO)
            if value == AUTO:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"scheduler.{key}={value} must be a number, or auto for what the range test finds")
            setattr(self, key, float(value))
        self.with_rates({key: _STAND_INS[key] for key in self.auto_keys})._check()

    @property
    def auto_keys(self) -> list[str]:
        """The rates that a range test is to find."""
        return [field.name for field in fields(self) if field.name in RATE_KEYS and getattr(self, field.name) == AUTO]

    def with_rates(self, rates: dict[str, float]) -> Self:
        """The same with these rates in the place of `auto`."""
        changes: dict[str, Any] = dict(rates)
        return replace(self, **changes) if changes else self

    @abstractmethod
    def _check(self) -> None:
        """Raises ValueError for options that don't fit, all rates being numbers."""

    @abstractmethod
    def build(self, *, total_steps: int, steps_per_epoch: int, monitor_mode: str, shortened: bool = False) -> Schedule:
        """The schedule of a phase of `total_steps` updates; `shortened` says that a budget cut the phase to them."""

    def usable_steps(self, total_steps: int, steps_per_epoch: int, shortened: bool = False) -> int:
        """How many of `total_steps` updates to make, so that cycles which were fitted into the phase end with it."""
        return total_steps

    @property
    def depends_on_length(self) -> bool:
        """Whether early rates depend on how long the phase is; then a phase that has begun can't be extended."""
        return True


@dataclass(kw_only=True)
class ClrConfig(SchedulerConfig):
    mode: str
    base_lr: Rate
    max_lr: Rate
    step_size: int | None
    step_size_epochs: float | None
    cycles: int | None
    gamma: float
    decay_base: bool
    cycle_momentum: bool
    base_momentum: float
    max_momentum: float

    def _check(self) -> None:
        check_positive("scheduler.step_size", self.step_size)
        check_positive("scheduler.step_size_epochs", self.step_size_epochs)
        check_positive("scheduler.cycles", self.cycles)
        if self.step_size is not None and self.step_size_epochs is not None:
            raise ValueError(
                f"scheduler.step_size={self.step_size} and scheduler.step_size_epochs={self.step_size_epochs} "
                "say the same thing twice; set one of them to null"
            )
        if self.step_size is None and self.step_size_epochs is None and self.cycles is None:
            raise ValueError("scheduler.cycles=null needs scheduler.step_size or scheduler.step_size_epochs")
        self._schedule(step_size=self.step_size or 1)  # which checks rates, mode, gamma and momenta

    def build(self, *, total_steps: int, steps_per_epoch: int, monitor_mode: str, shortened: bool = False) -> Schedule:
        return self._schedule(self._half_cycle(total_steps, steps_per_epoch, shortened))

    def usable_steps(self, total_steps: int, steps_per_epoch: int, shortened: bool = False) -> int:
        if self._given_step_size(steps_per_epoch) is not None and not shortened:
            return total_steps
        whole_cycle = 2 * self._half_cycle(total_steps, steps_per_epoch, shortened)
        return total_steps // whole_cycle * whole_cycle or total_steps

    @property
    def depends_on_length(self) -> bool:
        return self.step_size is None and self.step_size_epochs is None

    def _given_step_size(self, steps_per_epoch: int) -> int | None:
        if self.step_size_epochs is not None:
            return max(1, round(self.step_size_epochs * steps_per_epoch))
        return self.step_size

    def _half_cycle(self, total_steps: int, steps_per_epoch: int, shortened: bool) -> int:
        """Iterations in half a cycle."""
        from trainer.schedules import fit_cycles

        step_size = self._given_step_size(steps_per_epoch)
        if step_size is not None and not shortened:
            return step_size
        return fit_cycles(total_steps, step_size=step_size, cycles=self.cycles if step_size is None else None)

    def _schedule(self, step_size: int) -> Schedule:
        from trainer.schedules import CyclicalSchedule

        return CyclicalSchedule(
            base_lr=self.base_lr,
            max_lr=self.max_lr,
            step_size=step_size,
            mode=self.mode,
            gamma=self.gamma,
            decay_base=self.decay_base,
            base_momentum=self.base_momentum if self.cycle_momentum else None,
            max_momentum=self.max_momentum if self.cycle_momentum else None,
        )


@dataclass(kw_only=True)
class OneCycleConfig(SchedulerConfig):
    max_lr: Rate
    pct_start: float
    div_factor: float
    final_div_factor: float
    anneal: str
    three_phase: bool
    cycle_momentum: bool
    base_momentum: float
    max_momentum: float

    def _check(self) -> None:
        self.build(total_steps=100, steps_per_epoch=1, monitor_mode="min")

    def build(self, *, total_steps: int, steps_per_epoch: int, monitor_mode: str, shortened: bool = False) -> Schedule:
        from trainer.schedules import OneCycleSchedule

        return OneCycleSchedule(
            max_lr=self.max_lr,
            total_steps=total_steps,
            pct_start=self.pct_start,
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            anneal=self.anneal,
            three_phase=self.three_phase,
            base_momentum=self.base_momentum if self.cycle_momentum else None,
            max_momentum=self.max_momentum if self.cycle_momentum else None,
        )


@dataclass(kw_only=True)
class CosineConfig(SchedulerConfig):
    max_lr: Rate
    min_lr: float
    warmup_epochs: float

    def _check(self) -> None:
        check_not_negative("scheduler.warmup_epochs", self.warmup_epochs)
        self.build(total_steps=round(self.warmup_epochs) + 1, steps_per_epoch=1, monitor_mode="min")

    def build(self, *, total_steps: int, steps_per_epoch: int, monitor_mode: str, shortened: bool = False) -> Schedule:
        from trainer.schedules import CosineSchedule

        warmup_steps = round(self.warmup_epochs * steps_per_epoch)
        if shortened:
            warmup_steps = min(warmup_steps, total_steps // 3)
        return CosineSchedule(
            max_lr=self.max_lr, min_lr=self.min_lr, total_steps=total_steps, warmup_steps=warmup_steps
        )


@dataclass(kw_only=True)
class ConstantConfig(SchedulerConfig):
    lr: Rate

    def _check(self) -> None:
        self.build(total_steps=1, steps_per_epoch=1, monitor_mode="min")

    def build(self, *, total_steps: int, steps_per_epoch: int, monitor_mode: str, shortened: bool = False) -> Schedule:
        from trainer.schedules import ConstantSchedule

        return ConstantSchedule(lr=self.lr)

    @property
    def depends_on_length(self) -> bool:
        return False


@dataclass(kw_only=True)
class PlateauConfig(SchedulerConfig):
    lr: Rate
    factor: float
    patience: int
    threshold: float
    min_lr: float

    def _check(self) -> None:
        self.build(total_steps=1, steps_per_epoch=1, monitor_mode="min")

    def build(self, *, total_steps: int, steps_per_epoch: int, monitor_mode: str, shortened: bool = False) -> Schedule:
        from trainer.schedules import PlateauSchedule

        check_choice("monitor mode", monitor_mode, ("min", "max"))
        return PlateauSchedule(
            lr=self.lr,
            factor=self.factor,
            patience=self.patience,
            threshold=self.threshold,
            min_lr=self.min_lr,
            mode=monitor_mode,
        )

    @property
    def depends_on_length(self) -> bool:
        return False
