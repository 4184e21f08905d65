"""Rates that a smoothed range-test curve suggests, by four published rules; all take (S,) rising rates and values of
which lower is better. Values may be negative. A rule that finds nothing gives None."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np

SLIDE_SHARE = 0.15  # of the steps: the length of the interval that slides
SLIDE_THRESHOLD = 0.005  # of the whole improvement per step: slopes that are called equal


def suggest(lrs: np.ndarray, smoothed: np.ndarray) -> dict[str, float | None]:
    """The answer of every rule in RULES."""
    return {name: rule(lrs, smoothed) if len(lrs) > 2 else None for name, rule in RULES.items()}


def steepest(lrs: np.ndarray, smoothed: np.ndarray) -> float | None:
    """Where the loss falls fastest: the least slope of log loss (of the loss itself, where one is not positive) over
    log rate, among the points before the minimum. Smith's advice in the form that fastai and Lightning gave it."""
    end = int(np.argmin(smoothed)) + 1
    if end < 3:
        return None
    slopes = np.gradient(_log_where_positive(smoothed), np.log(lrs))[:end]
    fastest = int(np.argmin(slopes))
    return float(lrs[fastest]) if slopes[fastest] < 0 else None


def valley(lrs: np.ndarray, smoothed: np.ndarray) -> float | None:
    """The middle of the longest stretch of ever lower losses, rises in between left out: of the longest decreasing
    subsequence, halfway between its first and its last rung (fastai's `valley`, its default)."""
    chain = longest_decrease(smoothed)
    if len(chain) < 3:
        return None
    return float(lrs[(chain[0] + chain[-1]) // 2])


def slide(lrs: np.ndarray, smoothed: np.ndarray) -> float | None:
    """An interval slides down from the highest rate until the loss has nearly the same slope at both its ends; its
    lower end is taken (Andrew Chang's interval slide rule, `slide` in fastai). Losses are divided by the whole
    improvement first, so that their unit does not matter, and the interval is a share of the steps."""
    improvement = float(smoothed[0] - smoothed.min())
    width = max(2, round(SLIDE_SHARE * len(lrs)))
    if improvement <= 0 or len(lrs) <= width:
        return None
    slopes = np.gradient(smoothed / improvement)
    for right in range(len(lrs) - 1, width - 1, -1):
        if abs(slopes[right] - slopes[right - width]) <= SLIDE_THRESHOLD and slopes[right - width] < 0:
            return float(lrs[right - width])
    return None


def minimum(lrs: np.ndarray, smoothed: np.ndarray) -> float | None:
    """A tenth of the rate where the loss is least, for at that rate it is about to rise (fastai's `minimum`)."""
    least = int(np.argmin(smoothed))
    return float(lrs[least]) / 10 if least > 0 else None


RULES: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
    "steepest": steepest,
    "valley": valley,
    "slide": slide,
    "minimum": minimum,
}


def longest_decrease(values: np.ndarray) -> list[int]:
    """Indices of the longest strictly decreasing subsequence (patience sorting, S log S)."""
    ends: list[float] = []  # least last negated value of a chain of each length
    at: list[int] = []
    before = np.full(len(values), -1)
    for i, value in enumerate(values):
        length = bisect_left(ends, -value)
        ends[length : length + 1] = [-float(value)]
        at[length : length + 1] = [i]
        before[i] = at[length - 1] if length else -1
    chain = [at[-1]] if at else []
    while chain and before[chain[-1]] >= 0:
        chain.append(int(before[chain[-1]]))
    return chain[::-1]


def _log_where_positive(values: np.ndarray) -> np.ndarray:
    return np.log(values) if (values > 0).all() else values
