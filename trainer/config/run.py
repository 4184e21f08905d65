"""TrainConfig: everything that `python -m trainer` is told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainer.config.checks import check_choice, check_positive
from trainer.config.data import DataConfig
from trainer.config.models import ModelConfig
from trainer.config.phases import PHASE_NAMES, OptimizerConfig, PhasesConfig
from trainer.config.range_test import RangeTestConfig
from trainer.config.schedules import ClrConfig, CosineConfig, SchedulerConfig
from trainer.config.tasks import TaskConfig
from trainer.config.trackers import TrackerConfig


@dataclass(kw_only=True)
class PredictConfig:
    tta: int

    def __post_init__(self) -> None:
        check_positive("predict.tta", self.tta)


@dataclass(kw_only=True)
class CheckpointConfig:
    every_steps: int | None
    every_minutes: float | None

    def __post_init__(self) -> None:
        check_positive("checkpoint.every_steps", self.every_steps)
        check_positive("checkpoint.every_minutes", self.every_minutes)


@dataclass(kw_only=True)
class SweepConfig:
    resume: bool


@dataclass(kw_only=True)
class TrainConfig:
    task: TaskConfig
    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    range_test: RangeTestConfig
    phases: PhasesConfig
    tracker: TrackerConfig
    predict: PredictConfig
    checkpoint: CheckpointConfig
    seed: int
    device: str
    precision: str
    memory_format: str
    compile: bool
    accumulation: int
    clip_norm: float | None
    ema_decay: float | None
    early_stopping_epochs: int | None
    on_nonfinite: str
    max_skipped: int
    snapshots: bool
    pictures: bool
    profile: bool
    max_steps: int | None
    max_minutes: float | None
    resume: str | None
    sweep: SweepConfig

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", self.device):
            raise ValueError(f"device={self.device} is not one of auto, cpu, mps, cuda, cuda:0, cuda:1, ...")
        check_choice("precision", self.precision, ("auto", "fp32", "bf16", "fp16"))
        check_choice("memory_format", self.memory_format, ("auto", "channels_last", "contiguous"))
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("precision=fp16 does not train on device=cpu; use precision=bf16 or fp32")
        check_choice("on_nonfinite", self.on_nonfinite, ("stop", "skip"))
        for name in ("accumulation", "clip_norm", "early_stopping_epochs", "max_skipped", "max_steps", "max_minutes"):
            check_positive(name, getattr(self, name))
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay} must lie between 0 and 1; null turns the average off")
        self._check_combinations()
        self._check_range_test()

    @property
    def phase_names(self) -> list[str]:
        """The phases that train."""
        return [name for name in PHASE_NAMES if getattr(self.phases, name).epochs > 0]

    @property
    def last_phase(self) -> str:
        """The phase that the run ends with, or, with range_test=only, ends before training."""
        if self.range_test.kind != "only":
            return self.phase_names[-1]
        return [name for name in self.phase_names if self.range_test.tests(name)][-1]

    @property
    def _last_scheduler(self) -> SchedulerConfig:
        scheduler: SchedulerConfig = getattr(self.phases, self.phase_names[-1]).scheduler
        return scheduler

    def _check_range_test(self) -> None:
        """A rate that is to be found has to be looked for, and what is looked for there."""
        test, trained = self.range_test, self.phase_names
        if test.kind != "off" and not any(test.tests(name) for name in trained):
            raise ValueError(
                f"range_test.phases={test.phases} names no phase that trains; "
                f"give range_test.phases=[{','.join(trained)}], or epochs to {' and '.join(test.phases)}"
            )
        for name in trained[: trained.index(self.last_phase) + 1]:
            keys = getattr(self.phases, name).scheduler.auto_keys
            wanted = f"range_test.phases=[{','.join(trained)}]" if test.kind != "off" else "range_test=on"
            if keys and not test.tests(name):
                raise ValueError(
                    f"phases.{name}.scheduler.{keys[0]}=auto needs a range test of this phase "
                    f"(range_test={test.kind}, range_test.phases={test.phases}): give numbers for "
                    f"{' and '.join(f'phases.{name}.scheduler.{key}' for key in keys)}, or test it: {wanted}"
                )

    def _check_combinations(self) -> None:
        if self.snapshots and self.phase_names and not isinstance(self._last_scheduler, ClrConfig):
            raise ValueError(
                f"snapshots=true needs the cycles of scheduler=clr in phase {self.phase_names[-1]}, not "
                f"scheduler={self._last_scheduler.kind}"
            )
        if self.max_steps is not None and self.max_steps < len(self.phase_names):
            raise ValueError(
                f"max_steps={self.max_steps} is less than an update for each of the {len(self.phase_names)} phases"
            )
        for name in PHASE_NAMES:
            phase = getattr(self.phases, name)
            if isinstance(phase.scheduler, CosineConfig) and 0 < phase.epochs <= phase.scheduler.warmup_epochs:
                raise ValueError(
                    f"phases.{name}.epochs={phase.epochs} leaves nothing after "
                    f"scheduler.warmup_epochs={phase.scheduler.warmup_epochs}"
                )
        self.task.check(self)
