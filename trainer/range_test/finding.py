"""What a range test found: the curve, the suggested rates, the bounds of the cycle, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.config.range_test import FEWEST_POINTS
from trainer.range_test.bounds import find_bounds, is_flat
from trainer.range_test.smoothing import Smoother
from trainer.range_test.stopping import NON_FINITE
from trainer.range_test.suggestions import suggest

FALLBACK_RATIO = 4.0  # max_lr / base_lr where no start of the improvement is seen (Smith 2017, section 3.3: 3 or 4)


@dataclass(frozen=True)
class Sweep:
    """One climb, as far as it went: (S,) rates, training losses, and what the validation split said after each update
    (None where it was not asked)."""

    lrs: np.ndarray
    losses: np.ndarray
    metrics: np.ndarray | None
    stop: str | None  # why it ended before the last rung


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How curves are turned into rates."""

    smoother: Smoother
    rule: str  # of trainer.range_test.suggestions.RULES, the one that is chosen
    skip_start: int  # points at the ends that suggestions don't see
    skip_end: int
    max_interval_decades: float  # a wider spread over the repeats means that nothing is suggested
    higher_is_better: bool = False  # of the metric


@dataclass(frozen=True)
class Rates:
    """A rate for constant schedules and the bounds of a cycle; None where the test found none to rely on."""

    lr: float | None
    base_lr: float | None
    max_lr: float | None
    still_improving: bool = False  # at the last rung, so that max_lr may lie beyond it


@dataclass(frozen=True, kw_only=True)
class Finding:
    """lrs, values, smoothed: (S,), over the repeats the median of what was judged; low and high: (S,) its range."""

    lrs: np.ndarray
    values: np.ndarray
    smoothed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    higher_is_better: bool
    usable: int  # points that were judged: none from the first non-finite one on
    sweeps: list[Sweep]
    suggestions: dict[str, float | None]
    rates: Rates
    intervals: dict[str, tuple[float, float] | None]  # of lr, base_lr and max_lr over the repeats; None for one repeat
    verdict: str  # in a sentence

    @property
    def stop(self) -> str | None:
        """Why, and where, the repeat that ended first did so before the last rung."""
        sweep = min(self.sweeps, key=lambda one: len(one.lrs))
        return sweep.stop and f"{sweep.stop} at step {len(sweep.lrs) - 1}, rate {sweep.lrs[-1]:.3g}"


def judge(sweeps: Sequence[Sweep], judgement: Judgement) -> Finding:
    """Put repeats together and read the rates off their median curve."""
    length = min(len(sweep.lrs) for sweep in sweeps)
    curves = np.stack([_signal(sweep, judgement)[:length] for sweep in sweeps])
    lrs, values = sweeps[0].lrs[:length], np.median(curves, axis=0)
    usable = min(_usable(sweep, judgement) for sweep in sweeps)
    smoothed = np.full(length, math.nan)
    smoothed[:usable] = judgement.smoother(values[:usable])
    suggestions, rates, reason = _read_off(lrs[:usable], values[:usable], smoothed[:usable], judgement)
    intervals: dict[str, tuple[float, float] | None] = dict.fromkeys(("lr", "base_lr", "max_lr"))
    if len(sweeps) > 1:
        single = [_read_off_one(sweep, judgement) for sweep in sweeps]
        intervals = {name: _interval([getattr(one, name) for one in single]) for name in intervals}
        rates, reason = _without_unsure(rates, intervals, len(sweeps), judgement.max_interval_decades, reason)
    sign = -1.0 if judgement.higher_is_better else 1.0
    bands = (sign * curves).min(axis=0), (sign * curves).max(axis=0)
    return Finding(
        lrs=lrs,
        values=sign * values,
        smoothed=sign * smoothed,
        low=bands[0],
        high=bands[1],
        higher_is_better=judgement.higher_is_better,
        usable=usable,
        sweeps=list(sweeps),
        suggestions=suggestions,
        rates=rates,
        intervals=intervals,
        verdict=reason or _describe(rates, judgement.rule, intervals["max_lr"], len(sweeps)),
    )


def decades(interval: tuple[float, float]) -> float:
    return math.log10(interval[1] / interval[0]) if interval[0] > 0 else math.inf


def _signal(sweep: Sweep, judgement: Judgement) -> np.ndarray:
    """What is judged, lower is better."""
    if sweep.metrics is None:
        return sweep.losses
    return -sweep.metrics if judgement.higher_is_better else sweep.metrics


def _usable(sweep: Sweep, judgement: Judgement) -> int:
    """Points before the first non-finite one, and before the update whose rate led to it."""
    finite = np.isfinite(_signal(sweep, judgement)) & np.isfinite(sweep.losses)
    if finite.all() and sweep.stop != NON_FINITE:
        return len(finite)
    first = len(finite) - 1 if finite.all() else int(np.argmin(finite))
    return max(0, first - 1)


def _read_off_one(sweep: Sweep, judgement: Judgement) -> Rates:
    usable = _usable(sweep, judgement)
    values = _signal(sweep, judgement)[:usable]
    return _read_off(sweep.lrs[:usable], values, judgement.smoother(values), judgement)[1]


def _read_off(
    lrs: np.ndarray, values: np.ndarray, smoothed: np.ndarray, judgement: Judgement
) -> tuple[dict[str, float | None], Rates, str]:
    """Every rule's suggestion, the chosen rates, and why there are none (empty where there are)."""
    end = len(lrs) - judgement.skip_end
    seen = slice(judgement.skip_start, end)
    if end - judgement.skip_start < FEWEST_POINTS:
        nothing = f"only {max(0, end - judgement.skip_start)} points are left to judge, too few to suggest a rate"
        return suggest(lrs[:0], smoothed[:0]), Rates(None, None, None), nothing
    suggestions = suggest(lrs[seen], smoothed[seen])
    if is_flat(values, smoothed):
        return suggestions, Rates(None, None, None), "the curve is flat: no rate improved it by more than chance does"
    bounds = find_bounds(lrs, values, smoothed)
    base_lr = bounds.base_lr
    if base_lr is None or base_lr >= bounds.max_lr:
        base_lr = bounds.max_lr / FALLBACK_RATIO
    rates = Rates(suggestions[judgement.rule], base_lr, bounds.max_lr, bounds.still_improving)
    return suggestions, rates, ""


def _interval(values: Sequence[float | None]) -> tuple[float, float]:
    """The range; from 0 to infinity, so as wide as can be, where a repeat found nothing."""
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if len(known) == len(values) else (0.0, math.inf)


def _without_unsure(
    rates: Rates, intervals: dict[str, tuple[float, float] | None], repeats: int, limit: float, reason: str
) -> tuple[Rates, str]:
    """The rates without those on which the repeats disagree; an unsure base_lr makes way for a share of max_lr."""
    wide = [name for name, interval in intervals.items() if interval is not None and decades(interval) > limit]
    if not wide or reason:
        return rates, reason
    told = ", ".join(f"{name} {_span(intervals[name])}" for name in wide)
    reason = f"the {repeats} repeats disagree by more than {limit:g} decades ({told})"
    lr = None if "lr" in wide else rates.lr
    if "max_lr" in wide or rates.max_lr is None:
        return Rates(lr, None, None), f"{reason}: no bounds are suggested"
    base_lr = rates.base_lr
    if "base_lr" in wide:
        base_lr = rates.max_lr / FALLBACK_RATIO
        reason += f": base_lr is max_lr / {FALLBACK_RATIO:g} instead"
    if "lr" in wide:
        reason += ": no constant rate is suggested"
    kept = Rates(lr, base_lr, rates.max_lr, rates.still_improving)
    return kept, f"{reason}; bounds {base_lr:.3g} to {rates.max_lr:.3g}"


def _span(interval: tuple[float, float] | None) -> str:
    assert interval is not None
    return f"{interval[0]:.2g} to {interval[1]:.2g}" if math.isfinite(interval[1]) else "not found by all"


def _describe(rates: Rates, rule: str, interval: tuple[float, float] | None, repeats: int) -> str:
    chosen = f"suggested rate {rates.lr:.3g} ({rule})" if rates.lr is not None else f"rule {rule} finds no rate"
    further = "; it still improves at the last rung, so a higher range_test.max_lr may show more"
    sure = "" if interval is None else f" (max_lr within {decades(interval):.2f} decades in {repeats} repeats)"
    return f"{chosen}, bounds {rates.base_lr:.3g} to {rates.max_lr:.3g}{sure}{further if rates.still_improving else ''}"
