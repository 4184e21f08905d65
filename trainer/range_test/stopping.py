"""When a range test need not climb on."""

from __future__ import annotations

import math
import statistics
from collections import deque

from trainer.range_test.smoothing import Average

NON_FINITE, DIVERGED, SPIKE = "non-finite", "diverged", "spike"
_BEFORE_SPIKE, _REMEMBERED = 10, 50  # steps from one loss to the next that show their usual scatter; at most so many


class StopRule:
    """Sees the losses one by one and says after each whether, and why, to stop.

    A loss that is not finite stops at once. `diverge_threshold` t stops once the smoothed loss exceeds its best by
    (t - 1) times that best's size; for positive losses, once it exceeds t times the best. A best near 0 is taken as a
    tenth of the improvement so far, so that a small loss may wobble. `spike_threshold` s stops at a single loss above
    all before it that lies more than s times the usual scatter above the smoothed loss. None switches a rule off.
    `smooth` is the weight of the newest loss in the average.
    """

    def __init__(self, *, diverge_threshold: float | None, spike_threshold: float | None, smooth: float) -> None:
        self._diverge, self._spike = diverge_threshold, spike_threshold
        self._average = Average(smooth)
        self._steps: deque[float] = deque(maxlen=_REMEMBERED)
        self._highest = -math.inf
        self._last = self._first = self._best = self._smoothed = math.nan

    def see(self, loss: float) -> str | None:
        """The reason to stop after this loss (non-finite, diverged, spike), or None."""
        if not math.isfinite(loss):
            return NON_FINITE
        spiked = self._is_spike(loss)
        self._smoothed = self._average.add(loss)
        if math.isnan(self._first):
            self._first = self._best = loss
        else:
            self._steps.append(abs(loss - self._last))
        self._last, self._highest = loss, max(self._highest, loss)
        if spiked:
            return SPIKE
        if self._diverge is not None:
            size = max(abs(self._best), (self._first - self._best) / 10)
            if self._smoothed - self._best > (self._diverge - 1) * size:
                return DIVERGED
        self._best = min(self._best, self._smoothed)
        return None

    def _is_spike(self, loss: float) -> bool:
        if self._spike is None or len(self._steps) < _BEFORE_SPIKE or loss <= self._highest:
            return False
        return loss - self._smoothed > self._spike * statistics.median(self._steps) > 0
