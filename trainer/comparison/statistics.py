"""What the runs of each setting came to, and how far the settings are apart beyond what seeds alone do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from trainer.comparison.runs import Run
from trainer.comparison.settings import Setting

CONFIDENCE = 0.95
FEWEST_PAIRS = 3  # of two, a 95 % interval is 12.7 times as wide as their standard error: it says nothing
ROUNDING = 1e-9  # of a value: what means and differences of equal numbers may be apart


@dataclass(frozen=True)
class Reached:
    """When the runs of a setting reached the target; a run that did not is in none of the means."""

    runs: int
    updates: float  # mean; NaN where none did
    seconds: float


@dataclass(frozen=True)
class Advantage:
    """How much better the best setting is than this one, over the seeds that both have; above 0 is better."""

    pairs: int
    mean: float  # NaN without a pair
    interval: tuple[float, float] | None  # 95 %; None below FEWEST_PAIRS, and where all differences are equal
    beyond_chance: bool | None  # None where it can't be told


@dataclass(frozen=True)
class Summary:
    setting: Setting
    mean: float
    sd: float  # of a sample; NaN of one run
    lowest: float
    highest: float
    updates: float
    seconds: float
    reached: Reached
    behind: Advantage | None  # None of the best


@dataclass(frozen=True)
class Comparison:
    monitor: str
    higher_is_better: bool
    split: str
    target: float
    summaries: list[Summary]  # the best mean first
    confidence: float  # of the intervals that decide whether a difference is beyond chance


def compare(settings: Sequence[Setting], target: float | None) -> Comparison:
    """`target`: of the monitored metric; None for the mean of the worst setting, which each setting can reach."""
    first = next(iter(settings[0].runs.values()))
    sign = -1 if first.higher_is_better else 1
    ordered = sorted(settings, key=lambda setting: sign * _mean(setting))
    goal = _mean(ordered[-1]) if target is None else target
    # The best is chosen after all were seen, so that any of all pairs may have come out as the best and another.
    confidence = 1 - (1 - CONFIDENCE) / max(1, math.comb(len(ordered), 2))
    summaries = []
    for setting in ordered:
        values = np.array([run.value for run in setting.runs.values()])
        summaries.append(
            Summary(
                setting=setting,
                mean=float(values.mean()),
                sd=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
                lowest=float(values.min()),
                highest=float(values.max()),
                updates=float(np.mean([run.updates for run in setting.runs.values()])),
                seconds=float(np.mean([run.seconds for run in setting.runs.values()])),
                reached=_reached(list(setting.runs.values()), goal),
                behind=None if setting is ordered[0] else _advantage(ordered[0], setting, sign, confidence),
            )
        )
    return Comparison(first.monitor, first.higher_is_better, first.split, goal, summaries, confidence)


def t_interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Of the mean of two or more values: mean -+ t(n - 1) sd / sqrt(n)."""
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _advantage(best: Setting, other: Setting, sign: int, confidence: float) -> Advantage:
    seeds = sorted(best.runs.keys() & other.runs.keys())
    values = np.array([(other.runs[seed].value, best.runs[seed].value) for seed in seeds]).reshape(-1, 2)
    differences = sign * (values[:, 0] - values[:, 1])
    # Equal differences would make an interval without a width: no proof, but steps of the metric larger than chance.
    if len(differences) < FEWEST_PAIRS or np.ptp(differences) <= ROUNDING * np.abs(values).max():
        return Advantage(len(differences), float(differences.mean()) if len(differences) else math.nan, None, None)
    low, high = t_interval(differences, confidence)
    return Advantage(
        pairs=len(differences),
        mean=float(differences.mean()),
        interval=t_interval(differences, CONFIDENCE),
        beyond_chance=not low <= 0 <= high,
    )


def _reached(runs: Sequence[Run], target: float) -> Reached:
    when = []
    slack = ROUNDING * abs(target)  # a mean of equal values may lie beyond them
    for run in runs:
        values = run.epochs["value"]
        there = values >= target - slack if run.higher_is_better else values <= target + slack
        if there.any():
            when.append(run.epochs.loc[there, ["iteration", "elapsed"]].to_numpy(float)[0])
    if not when:
        return Reached(0, math.nan, math.nan)
    updates, seconds = np.mean(when, axis=0)
    return Reached(len(when), float(updates), float(seconds))


def _mean(setting: Setting) -> float:
    return float(np.mean([run.value for run in setting.runs.values()]))
