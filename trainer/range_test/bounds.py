"""The bounds of a cycle, read off a range test (Smith 2017, arXiv:1506.01186, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

START_SHARE = 0.1  # of the first steps: where the loss is still what it was before training
BEGUN, DONE = 0.1, 0.9  # shares of the improvement between which the rate is at work
RAGGED, RAGGED_SHARE = 4.0, 0.2  # a scatter so many times the usual one, and above this share of the improvement
FLAT_WINDOW = 0.2  # of the steps: those averaged to tell an improvement from chance
FLAT_NOISE = 5.5  # over the root of the values averaged: below so many scatters, noise alone stays in 99 of 100
FLAT_SHARE = 0.01  # improvements below this share of the loss are no use


@dataclass(frozen=True)
class Bounds:
    """`base_lr`: where the signal starts to improve; None where it does so from the first rung on. `max_lr`: halfway,
    on a log axis, between where it stops improving or turns ragged and where it has risen above its start; the last
    rung, where it never does. `still_improving` says that it did none of these before the last rung.

    The paper leaves open which of these is meant. Alone, the first is too low a bound and the last too high: trained
    with a tenth and ten times either, some phases end better (docs/range_test.md).
    """

    base_lr: float | None
    max_lr: float
    still_improving: bool


def find_bounds(lrs: np.ndarray, raw: np.ndarray, smoothed: np.ndarray) -> Bounds:
    """(S,) rates and values, lower is better, of a curve that is not flat."""
    level = start_level(smoothed)
    least = int(np.argmin(smoothed))
    improvement = level - float(smoothed[least])
    gained = (level - smoothed[: least + 1]) / improvement
    begun = int(np.flatnonzero(gained <= BEGUN)[-1]) if (gained <= BEGUN).any() else -1
    done = begun + 1 + int(np.flatnonzero(gained[begun + 1 :] >= DONE)[0])
    ragged = first_ragged(raw, begun + 1, RAGGED_SHARE * improvement)
    stops = done if ragged is None else min(done, ragged)
    above = np.flatnonzero(smoothed[least:] > level)
    rises = least + int(above[0]) if len(above) else len(lrs) - 1
    return Bounds(
        base_lr=float(lrs[begun]) if begun >= 0 else None,
        max_lr=float(np.sqrt(lrs[stops] * lrs[rises])),
        still_improving=least == len(lrs) - 1 and stops == done,
    )


def start_level(smoothed: np.ndarray) -> float:
    """The signal before the rate did anything: the median over the first steps."""
    return float(np.median(smoothed[: max(3, round(START_SHARE * len(smoothed)))]))


def is_flat(values: np.ndarray, smoothed: np.ndarray) -> bool:
    """Whether the improvement is no larger than scatter and rounding explain: that of means over a fifth of the
    steps on the median of the first fifth, or that of the smoothed curve on its first level, where bounds are read."""
    window = max(3, round(FLAT_WINDOW * len(values)))
    means = np.convolve(values, np.full(window, 1 / window), "valid")
    level, least = float(np.median(values[:window])), float(means.min())
    chance = max(FLAT_SHARE * max(abs(level), abs(least)), FLAT_NOISE / window**0.5 * scatter(values, means))
    return min(level - least, start_level(smoothed) - float(smoothed.min())) <= chance


def first_ragged(raw: np.ndarray, start: int, least: float) -> int | None:
    """The first step from `start` on around which the values scatter by more than `least` and several times as wide as
    they did before."""
    departures = _departures(raw)
    for step in range(max(start, 10), len(raw) - 2):
        local = np.median(departures[step - 1 : step + 2])
        if local > max(RAGGED * np.median(departures[: step - 1]), least):
            return step
    return None


def scatter(values: np.ndarray, means: np.ndarray) -> float:
    """The standard deviation of normal noise on a smooth curve, from median departures: from the middle between two
    neighbours, or from the running means where these are less. The first is too large for losses that swing to and fro
    as a few batches come round, the second where the curve bends."""
    start = (len(values) - len(means)) // 2
    around = np.abs(values[start : start + len(means)] - means)
    return float(1.4826 * min(np.median(_departures(values)) / np.sqrt(1.5), np.median(around)))


def _departures(values: np.ndarray) -> np.ndarray:
    """(S - 2,): of values 1 to S - 2."""
    return np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2)
