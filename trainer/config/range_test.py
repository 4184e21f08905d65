"""The learning-rate range test before each phase (group `range_test`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.config.checks import check_choice, check_fraction, check_not_negative, check_positive
from trainer.config.phases import PHASE_NAMES

if TYPE_CHECKING:
    from trainer.range_test.finding import Judgement
    from trainer.range_test.stopping import StopRule

FEWEST_POINTS = 8  # that a curve needs to be judged
SIGNALS = ("train_loss", "val_loss", "metric")
RULES = ("steepest", "valley", "slide", "minimum")


@dataclass(kw_only=True)
class RangeTestConfig:
    kind: str
    phases: list[str]
    min_lr: float
    max_lr: float
    num_steps: int
    mode: str
    repeats: int
    signal: str
    val_images: int | None
    diverge_threshold: float | None
    spike_threshold: float | None
    smoothing: str
    smooth: float
    smooth_window: float
    suggest: str
    skip_start: int
    skip_end: int
    max_interval_decades: float
    safety: float
    cache_dir: str | None
    cache: bool

    def __post_init__(self) -> None:
        check_choice("range_test.kind", self.kind, ("off", "on", "only"))
        for phase in self.phases:
            check_choice("range_test.phases", phase, PHASE_NAMES)
        if self.kind != "off" and not self.phases:
            raise ValueError(
                f"range_test.phases=[] leaves nothing to test; range_test=off does without, got {self.kind}"
            )
        check_positive("range_test.min_lr", self.min_lr)
        if self.min_lr >= self.max_lr:
            raise ValueError(f"range_test.min_lr={self.min_lr} must be below range_test.max_lr={self.max_lr}")
        if not math.isfinite(self.max_lr):
            raise ValueError(f"range_test.max_lr={self.max_lr} must be a finite number")
        check_choice("range_test.mode", self.mode, ("exp", "linear"))
        check_choice("range_test.signal", self.signal, SIGNALS)
        check_positive("range_test.repeats", self.repeats)
        check_positive("range_test.val_images", self.val_images)
        for name in ("diverge_threshold", "spike_threshold"):
            value = getattr(self, name)
            if value is not None and not value > 1:
                raise ValueError(f"range_test.{name}={value} must be above 1; null turns this stop off")
        check_choice("range_test.smoothing", self.smoothing, ("savgol", "ema", "none"))
        for name in ("smooth", "smooth_window"):
            check_fraction(f"range_test.{name}", getattr(self, name))
            check_positive(f"range_test.{name}", getattr(self, name))
        check_choice("range_test.suggest", self.suggest, RULES)
        for name in ("skip_start", "skip_end"):
            check_not_negative(f"range_test.{name}", getattr(self, name))
        if self.num_steps != 0 and self.num_steps < self.fewest_steps:
            raise ValueError(
                f"range_test.num_steps={self.num_steps} leaves too little beside range_test.skip_start and skip_end, "
                f"{self.skip_start} and {self.skip_end}: at least {self.fewest_steps}, or 0 for a whole epoch"
            )
        for name in ("max_interval_decades", "safety"):
            check_positive(f"range_test.{name}", getattr(self, name))

    @property
    def fewest_steps(self) -> int:
        """From which a rate can be suggested."""
        return self.skip_start + self.skip_end + FEWEST_POINTS

    def tests(self, phase: str) -> bool:
        return self.kind != "off" and phase in self.phases

    def stop_rule(self) -> StopRule:
        """A new one, for one sweep."""
        from trainer.range_test.stopping import StopRule

        return StopRule(
            diverge_threshold=self.diverge_threshold, spike_threshold=self.spike_threshold, smooth=self.smooth
        )

    def judgement(self, monitor_mode: str) -> Judgement:
        from trainer.range_test.finding import Judgement
        from trainer.range_test.smoothing import Smoother

        return Judgement(
            smoother=Smoother(self.smoothing, self.smooth, self.smooth_window),
            rule=self.suggest,
            skip_start=self.skip_start,
            skip_end=self.skip_end,
            max_interval_decades=self.max_interval_decades,
            higher_is_better=self.signal == "metric" and monitor_mode == "max",
        )
