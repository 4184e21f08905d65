"""What a range test of LRFinder measured, and what is read off it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from data.atomic import written_atomically
from trainer.config.range_test import FEWEST_POINTS
from trainer.range_test.finding import Finding, Judgement, Sweep, judge
from trainer.range_test.smoothing import Average, Smoother
from trainer.range_test.stopping import NON_FINITE, StopRule
from trainer.range_test.suggestions import RULES

SUGGEST = "minimum"  # of the rules the nearest to what trains best, on the models and data tried
EXHAUSTED = "train_loader ended"


class Record:
    """One entry per update in each list; a loss that is not finite is in none.

    Attributes:
        history: "lr", the rate of the first parameter group, and "loss", the moving average in which the newest loss
            has the weight `smooth_f`. It trails the losses by 1 / smooth_f updates, in the usual test by more than a
            decade of rates; so suggestions are read off another smooth curve, which looks both ways.
        raw_losses: as they were measured.
        group_lrs: the rates of all parameter groups.
        stop_reason, stop_lr: why the test ended before its last rate, and at which; else None.
    """

    def __init__(self, smooth_f: float) -> None:
        self.history: dict[str, list[float]] = {"lr": [], "loss": []}
        self.raw_losses: list[float] = []
        self.group_lrs: list[list[float]] = []
        self.stop_reason: str | None = None
        self.stop_lr: float | None = None
        self._smooth_f = smooth_f
        self._average = Average(smooth_f or 1.0)

    def __len__(self) -> int:
        return len(self.raw_losses)

    def follow(self, steps: Iterable[tuple[list[float], float]], rule: StopRule, planned: int) -> None:
        """Take in the rates and the loss of each step until the rule says to stop."""
        for rates, loss in steps:
            self.stop_reason = rule.see(loss)
            if self.stop_reason != NON_FINITE:
                self._add(rates, loss)
            if self.stop_reason is not None:
                self.stop_lr = rates[0]
                return
        if len(self) < planned:
            self.stop_reason = EXHAUSTED

    def _add(self, rates: list[float], loss: float) -> None:
        self.history["lr"].append(rates[0])
        self.history["loss"].append(self._average.add(loss))
        self.raw_losses.append(loss)
        self.group_lrs.append(rates)

    def why_stopped(self) -> str:
        """In brackets, to follow upon a sentence; empty for a test that went to its end."""
        if self.stop_reason is None:
            return ""
        what = {NON_FINITE: "the loss was not finite", "diverged": "the loss diverged", "spike": "the loss jumped up"}
        place = "" if self.stop_lr is None else f" at the rate {self.stop_lr:.3g}"
        return f" (it stopped as {what.get(self.stop_reason, self.stop_reason)}{place})"

    def finding(self, rule: str, skip_start: int, skip_end: int) -> Finding:
        """Of a test too short to skip that much, a tenth and a twentieth is skipped. Raises ValueError for an unknown
        rule, and RuntimeError where nothing was measured."""
        if rule not in RULES:
            raise ValueError(f"method={rule!r} is not one of {', '.join(RULES)}")
        count = len(self)
        if count == 0:
            raise RuntimeError(f"there is no range test to look at{self.why_stopped()}; call range_test first")
        if count < skip_start + skip_end + FEWEST_POINTS:
            skip_start, skip_end = count // 10, count // 20
        return judge([self._sweep()], self._judgement(rule, skip_start, skip_end))

    def suggestion(self, rule: str, skip_start: int, skip_end: int) -> float | None:
        """None, with a warning, where the loss falls by no more than chance explains or the rule finds nothing."""
        finding = self.finding(rule, skip_start, skip_end)
        if finding.rates.lr is None:
            warnings.warn(
                f"no rate is suggested: {finding.verdict}{self.why_stopped()}; test a wider range, more rates or "
                "larger batches",
                stacklevel=4,
            )
        return finding.rates.lr

    def write_csv(self, given: bool | str | Path, picture: str | Path | None) -> None:
        """To the path that is given, or for True beside the picture, or without one to lr_finder.csv here."""
        path = Path(picture or "lr_finder").with_suffix(".csv") if isinstance(given, bool) else Path(given)
        table = pd.DataFrame({"lr": self.history["lr"], "loss": self.raw_losses, "smoothed": self.history["loss"]})
        with written_atomically(path) as aside:
            table.to_csv(aside, index_label="step")

    def _sweep(self) -> Sweep:
        """The point that is not finite is told by its reason alone: the update before it made the weights so."""
        return Sweep(np.array(self.history["lr"]), np.array(self.raw_losses), None, self.stop_reason)

    def _judgement(self, rule: str, skip_start: int, skip_end: int) -> Judgement:
        weight = self._smooth_f or 1.0
        smoother = Smoother("savgol" if self._smooth_f else "none", weight, min(1.0, 1 / (weight * len(self))))
        return Judgement(
            smoother=smoother, rule=rule, skip_start=skip_start, skip_end=skip_end, max_interval_decades=math.inf
        )
