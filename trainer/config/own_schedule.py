"""What a schedule of a user's own has to say: the rate of each update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from trainer.config.schedules import SchedulerConfig

if TYPE_CHECKING:
    from trainer.schedules import Schedule


@dataclass(kw_only=True)
class OwnSchedule(SchedulerConfig, ABC):
    """A schedule by a formula. `step` counts the updates of a phase from 0, `total_steps` is how many there are.

    What is asked depends on these numbers and the options alone: nothing else is kept, so a run that was cut goes on
    with the same rates. A field called lr, base_lr or max_lr with the type Rate can be left to a range test.
    """

    @abstractmethod
    def lr_at(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """The rate of the head in update `step`."""

    def momentum_at(self, step: int, total_steps: int, steps_per_epoch: int) -> float | None:
        """The momentum (Adam: beta1) of update `step`; None leaves the optimizer's own alone."""
        return None

    def cycle_at(self, step: int, total_steps: int, steps_per_epoch: int) -> int:
        """The cycle that update `step` lies in, counted from 0."""
        return 0

    def check(self) -> None:
        """Raises ValueError for options that don't fit; rates are numbers here."""

    def _check(self) -> None:
        self.check()

    def build(self, *, total_steps: int, steps_per_epoch: int, monitor_mode: str, shortened: bool = False) -> Schedule:
        from trainer.schedules.formula import FormulaSchedule

        length = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        return FormulaSchedule(
            name=self.kind,
            rate=partial(self.lr_at, **length),
            momentum=partial(self.momentum_at, **length),
            cycle=partial(self.cycle_at, **length),
        )
