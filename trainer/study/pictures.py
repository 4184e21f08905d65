"""Pictures of a study: the values of its trials in their order, and over each key that it searched."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from data.atomic import written_atomically
from trainer.comparison.pictures import set_log_if_wide
from trainer.plots import DPI, GRAY, RED, WIDTH_IN

BLUE, GREEN = "#0072b2", "#00795a"
MOST_SLICES = 12  # keys that are drawn
WIDEST_NAME = 24  # letters of a choice on an axis


def draw_study(folder: Path, study: Study) -> list[Path]:
    """The files. A pruned trial is drawn at the best that it was at."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    values = [_value(trial, _better(study)) for trial in trials]
    files = [folder / "values.png", folder / "slices.png"]
    _draw_values(files[0], trials, values, study)
    _draw_slices(files[1], trials, values, study)
    return files


def _value(trial: FrozenTrial, better: Callable[..., float]) -> float:
    if trial.state is TrialState.COMPLETE:
        assert trial.value is not None
        return trial.value
    reported = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
    return better(reported) if reported else math.nan


def _draw_values(path: Path, trials: Sequence[FrozenTrial], values: Sequence[float], study: Study) -> None:
    figure = Figure(figsize=(WIDTH_IN, 3.8), layout="constrained")
    axes = figure.subplots()
    _look(axes)
    numbers, heights = np.array([trial.number for trial in trials]), np.array(values)
    pruned = _pruned(trials)
    best = list(accumulate(heights[~pruned], _better(study)))
    axes.step(
        [*numbers[~pruned], numbers[-1]],
        [*best, best[-1]],
        where="post",
        color=GREEN,
        linewidth=1.5,
        label="best so far",
    )
    axes.plot(numbers[~pruned], heights[~pruned], "o", color=BLUE, markersize=6, label="finished")
    if pruned.any():
        axes.plot(numbers[pruned], heights[pruned], "x", color=GRAY, markersize=6, label="pruned, best until then")
    _mark_best(axes, study.best_trial.number, study.best_value)
    set_log_if_wide(axes, heights)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.set_ylabel(_value_label(study))
    _finish(figure, path)


def _draw_slices(path: Path, trials: Sequence[FrozenTrial], values: Sequence[float], study: Study) -> None:
    """A panel per key, all with the same values."""
    spreads = dict(list(trials[0].distributions.items())[:MOST_SLICES])
    columns = min(3, len(spreads))
    rows = -(-len(spreads) // columns)
    figure = Figure(figsize=(WIDTH_IN, 0.9 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    pruned, heights = _pruned(trials), np.array(values)
    for axes, (name, spread) in zip(panels.flat, spreads.items(), strict=False):
        _look(axes)
        places = np.array([_place(spread, trial.params[name]) for trial in trials])
        axes.plot(places[~pruned], heights[~pruned], "o", color=BLUE, alpha=0.75, markersize=5.5, label="finished")
        if pruned.any():
            axes.plot(places[pruned], heights[pruned], "x", color=GRAY, markersize=5.5, label="pruned, best until then")
        _mark_best(axes, _place(spread, study.best_params[name]), study.best_value)
        _set_scale(axes, spread)
        axes.set_xlabel("\n".join(textwrap.wrap(name, 28)) or name, parse_math=False)
    for axes in panels.flat[len(spreads) :]:
        axes.set_visible(False)
    set_log_if_wide(panels[0, 0], heights)
    figure.supylabel(_value_label(study), fontsize=10)
    _finish(figure, path)


def _place(spread: BaseDistribution, value: float | str) -> float:
    """On the axis; choices stand side by side."""
    return float(spread.choices.index(value) if isinstance(spread, CategoricalDistribution) else value)


def _set_scale(axes: Axes, spread: BaseDistribution) -> None:
    if isinstance(spread, CategoricalDistribution):
        names = [textwrap.shorten(str(choice), WIDEST_NAME, placeholder="…") for choice in spread.choices]
        turned = sum(map(len, names)) > 24
        axes.set_xticks(range(len(names)), names, rotation=30 if turned else 0, ha="right" if turned else "center")
        axes.set_xlim(-0.5, len(names) - 0.5)
        for label in axes.get_xticklabels():
            label.set_parse_math(False)
        return
    assert isinstance(spread, FloatDistribution | IntDistribution)
    if spread.log:
        axes.set_xscale("log")
    elif isinstance(spread, IntDistribution):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))


def _mark_best(axes: Axes, place: float, value: float) -> None:
    axes.plot(
        [place], [value], "o", color="none", markeredgecolor=RED, markeredgewidth=1.6, markersize=11, label="best"
    )


def _better(study: Study) -> Callable[..., float]:
    return min if study.direction is StudyDirection.MINIMIZE else max


def _pruned(trials: Sequence[FrozenTrial]) -> np.ndarray:
    return np.array([trial.state is TrialState.PRUNED for trial in trials])


def _value_label(study: Study) -> str:
    better = "lower" if study.direction is StudyDirection.MINIMIZE else "higher"
    return f"value ({better} is better)"


def _look(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#d8dbe0", linewidth=0.7)


def _finish(figure: Figure, path: Path) -> None:
    """One legend above the panels; the file."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(entries.values(), list(entries), loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    with written_atomically(path) as aside:
        figure.savefig(aside, dpi=DPI, format="png")
