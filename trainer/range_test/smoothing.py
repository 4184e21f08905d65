"""Smoothing of the values that a range test measured. All of them are kept as they were beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def ema(values: np.ndarray, weight: float) -> np.ndarray:
    """Moving average in which the newest value has `weight` (0 to 1, 1 changes nothing), without a pull to 0 at its
    start: y_t = sum_i (1 - weight)^(t - i) x_i / sum_i (1 - weight)^(t - i) over i <= t, so a constant stays constant.

    It looks back alone, and so trails the values by about 1 / weight steps.
    """
    smoothed = np.empty(len(values))
    average = Average(weight)
    for i, value in enumerate(values):
        smoothed[i] = average.add(float(value))
    return smoothed


class Average:
    """`ema`, value by value."""

    def __init__(self, weight: float) -> None:
        if not 0 < weight <= 1:
            raise ValueError(f"the weight of the newest value, {weight}, must lie above 0 and at most at 1")
        self._keep = 1.0 - weight
        self._total = self._count = 0.0

    def add(self, value: float) -> float:
        self._total = self._keep * self._total + value
        self._count = self._keep * self._count + 1.0
        return self._total / self._count


def savgol(values: np.ndarray, window: int) -> np.ndarray:
    """Savitzky and Golay 1964: the middle of a parabola fitted to `window` values around each; the ends lie on the
    first and the last parabola. It looks both ways, and so shifts nothing. Under 4 values come back as they are."""
    window = min(window, len(values) - (len(values) + 1) % 2)  # odd, and no longer than the values
    window -= (window + 1) % 2
    if window <= 3:
        return np.array(values, dtype=float)
    from scipy.signal import savgol_filter  # takes most of a second, which a run without a range test need not wait

    return np.asarray(savgol_filter(values, window, polyorder=2, mode="interp"), dtype=float)


@dataclass(frozen=True)
class Smoother:
    """`kind`: ema, savgol or none. `weight` of the newest value in the ema; `window`: share of the values that one
    parabola of savgol is fitted to."""

    kind: str
    weight: float
    window: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(S,) smoothed, (S,) as it was where kind is none. Positive values are smoothed as logarithms by savgol, whose
        parabolas would swing below 0 beside a steep rise."""
        if self.kind == "none" or not len(values):
            return np.array(values, dtype=float)
        if self.kind == "ema":
            return ema(values, self.weight)
        window = round(self.window * len(values))
        return np.exp(savgol(np.log(values), window)) if (values > 0).all() else savgol(values, window)
