"""What a study searches, in Hydra's grammar of overrides: each key that was given several values, or an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

MOST_EXAMPLES = 24
DECADES = 100  # of an interval's ends, from which a logarithmic scale is advised


@dataclass(frozen=True)
class Dimension:
    """A key that a study chooses the value of."""

    key: str  # as it is typed, with + where it has one
    distribution: BaseDistribution

    @property
    def name(self) -> str:
        return self.key.lstrip("+")

    def override(self, value: Any) -> str:
        """key=value, with all digits; a step of a range has no more than its own."""
        if isinstance(value, float):
            stepped = isinstance(self.distribution, FloatDistribution) and self.distribution.step is not None
            return f"{self.key}={_without_rounding(value) if stepped else value!r}"
        return f"{self.key}={value}"

    @property
    def examples(self) -> list[Any]:
        """All of a choice; of an interval its middle."""
        spread = self.distribution
        if isinstance(spread, CategoricalDistribution):
            return list(spread.choices)
        assert isinstance(spread, FloatDistribution | IntDistribution)
        if isinstance(spread, IntDistribution):
            return [spread.low + (spread.high - spread.low) // spread.step // 2 * spread.step]
        if spread.step is not None:
            return [spread.low]
        return [math.sqrt(spread.low * spread.high) if spread.log else (spread.low + spread.high) / 2]


@dataclass(frozen=True)
class Space:
    """The overrides of a job, in the order in which they were typed: fixed, or chosen by the study."""

    parts: Sequence[str | Dimension]

    @property
    def dimensions(self) -> list[Dimension]:
        return [part for part in self.parts if isinstance(part, Dimension)]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {part.name: part.distribution for part in self.dimensions}

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Of the job that a trial stands for."""
        return [part if isinstance(part, str) else part.override(params[part.name]) for part in self.parts]

    def examples(self) -> list[dict[str, Any]]:
        """A few points: first so many that each choice comes in one, then choices in other company."""
        values = [part.examples for part in self.dimensions]
        each = [tuple(some[place % len(some)] for some in values) for place in range(max(map(len, values)))]
        points = dict.fromkeys([*each, *islice(product(*values), MOST_EXAMPLES)])
        return [dict(zip(self.distributions, point, strict=True)) for point in islice(points, MOST_EXAMPLES)]

    def advice(self, n_trials: int) -> list[str]:
        """What of the space may not be meant."""
        told = []
        for part in self.dimensions:
            spread = part.distribution
            if isinstance(spread, FloatDistribution) and not spread.log and 0 < DECADES * spread.low <= spread.high:
                decades, ends = math.log10(spread.high / spread.low), f"{spread.low:g},{spread.high:g}"
                told.append(
                    f"{part.name} spans {decades:.1f} decades, of which a study sees the highest alone; "
                    f"search it by its logarithm: '{part.key}=tag(log,interval({ends}))'"
                )
            if part.name == "seed":
                told.append("seed is searched as well: the best trial is then that of the luckiest seed")
        points = math.prod(_number_of_values(part.distribution) for part in self.dimensions)
        if points < n_trials:
            told.append(f"there are {points} combinations of the values given, fewer than the {n_trials} trials")
        return told


def read_space(overrides: Sequence[Override]) -> Space:
    """Of one key that is given twice, the last counts.

    Raises:
        ValueError: no key has several values, or those of a key are of no kind that a study knows; names it.
    """
    parts: dict[str, str | Dimension] = {}
    for override in overrides:
        assert override.input_line is not None
        key = override.get_key_element()
        swept = override.is_sweep_override()
        parts[key.lstrip("+~")] = Dimension(key, _distribution(override)) if swept else override.input_line
    space = Space(list(parts.values()))
    if not space.dimensions:
        raise ValueError(
            "hydra/sweeper=optuna has nothing to search: give a key several values or an interval, such as "
            "'scheduler.max_lr=tag(log,interval(1e-4,1e-1))'"
        )
    return space


def _distribution(override: Override) -> BaseDistribution:
    """Raises ValueError, naming the key."""
    value = override.value()
    tags = sorted(value.tags) if isinstance(value, ChoiceSweep | RangeSweep | IntervalSweep) else []
    for tag in tags:
        if tag != "log":
            raise ValueError(f"{override.input_line}: a study knows no tag {tag}; log is the one that it knows")
    if isinstance(value, IntervalSweep):
        return _interval(override, value, "log" in tags)
    if getattr(value, "shuffle", False):
        raise ValueError(f"{override.input_line}: the sampler chooses the order; leave out shuffle")
    if isinstance(value, RangeSweep):
        return _range(override, value, "log" in tags)
    if tags:
        raise ValueError(
            f"{override.input_line}: single values have no logarithm; tag(log,...) is of an interval or a range"
        )
    choices = list(dict.fromkeys(override.sweep_string_iterator()))
    if not choices:
        raise ValueError(f"{override.input_line} gives no value")
    return CategoricalDistribution(choices)


def _interval(override: Override, value: IntervalSweep, log: bool) -> BaseDistribution:
    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{override.input_line}: an interval begins below its end, and both are finite")
    _check_log(override, low, log)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _range(override: Override, value: RangeSweep, log: bool) -> BaseDistribution:
    """The values that Hydra makes of it; its end is not one of them."""
    values = sorted(value.range())
    if not values:
        raise ValueError(f"{override.input_line} gives no value")
    step = abs(value.step)
    whole = all(isinstance(number, int) for number in values)
    if log and not (whole and step == 1):
        raise ValueError(
            f"{override.input_line}: the logarithm of a range takes whole numbers in steps of 1; give an interval"
        )
    _check_log(override, values[0], log)
    if whole:
        return IntDistribution(int(values[0]), int(values[-1]), log=log, step=int(step))
    low, high, step = (_without_rounding(number) for number in (values[0], values[-1], step))
    return FloatDistribution(low, high, step=step)


def _without_rounding(number: float) -> float:
    """As it is meant: of 0.1 + 0.2 the 0.3."""
    return float(f"{number:.12g}")


def _check_log(override: Override, low: float, log: bool) -> None:
    if log and low <= 0:
        raise ValueError(f"{override.input_line}: {low:g} has no logarithm; begin above 0, or leave out the tag log")


def _number_of_values(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    assert isinstance(distribution, FloatDistribution)
    return (
        math.inf if distribution.step is None else round((distribution.high - distribution.low) / distribution.step) + 1
    )
