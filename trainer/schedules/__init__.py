"""Learning rates as pure functions of the step within one phase: nothing about a schedule is saved but the step."""

from trainer.schedules.cyclical import CyclicalSchedule, fit_cycles, whole_cycles
from trainer.schedules.one_cycle import OneCycleSchedule
from trainer.schedules.plateau import PlateauSchedule
from trainer.schedules.schedule import Schedule
from trainer.schedules.without_cycles import ConstantSchedule, CosineSchedule

__all__ = [
    "ConstantSchedule",
    "CosineSchedule",
    "CyclicalSchedule",
    "OneCycleSchedule",
    "PlateauSchedule",
    "Schedule",
    "fit_cycles",
    "whole_cycles",
]
