"""Settings that are timed in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from trainer.tuning.memory import forget_peak, peak_bytes

MOST_ROUNDS = 9


@dataclass
class Timed:
    """One setting: `images` per update, the seconds of its updates (infinite where memory did not suffice), and the
    peak of memory. `overrides`: what makes a run take it."""

    name: str
    overrides: dict[str, str]
    images: int
    seconds: list[float] = field(default_factory=list)
    peak: int | None = None

    @property
    def median(self) -> float:
        """Seconds per update; NaN where there was no time for one."""
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def images_per_second(self) -> float:
        return self.images / self.median


def time_in_turns(
    settings: Sequence[Timed], seconds: Callable[[Timed], float], device: torch.device, until: float
) -> None:
    """Fill in what `seconds` measures of each setting: once to warm up and for the peak of memory, then in rounds while
    there is time, on time.perf_counter's clock; of each setting that is reached at all at least one."""
    fit: list[Timed] = []
    for setting in settings:
        if fit and time.perf_counter() > until:
            break
        forget_peak(device)
        warming = seconds(setting)
        setting.peak = peak_bytes(device)
        if math.isinf(warming):
            setting.seconds = [warming]
        else:
            fit.append(setting)
    for _ in range(MOST_ROUNDS):
        for setting in fit:
            setting.seconds.append(seconds(setting))
        if time.perf_counter() > until:
            break


def fastest(settings: Sequence[Timed], least_gain: float) -> Timed:
    """The one with the most images per second; the first, unless another one gains by more than noise does."""
    timed = [setting for setting in settings if setting.seconds]
    if not timed:
        return settings[0]
    best = max(timed, key=lambda setting: setting.images_per_second)
    return best if best.images_per_second * (1 - least_gain) > settings[0].images_per_second else settings[0]
