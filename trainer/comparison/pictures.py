"""Pictures of a comparison: values of all seeds, learning curves with bands, learning rates side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from data.atomic import written_atomically
from trainer.comparison.settings import Setting
from trainer.comparison.statistics import Comparison

WIDTH_IN, DPI = 8.0, 150
MOST_DRAWN = 8  # settings; of more, the best
GRAY = "#6b7280"
GROUP_COLORS = {"head": "#0072b2", "backbone": "#d55e00"}
# Colours that the colour-blind tell apart (Okabe and Ito), and dashes for who prints in gray.
LOOKS = (
    ("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"), ("#56b4e9", "-"), ("#e69f00", "--"),
    ("#444444", "-."), ("#7a5195", ":"),
)  # fmt: skip
LOG_RATIO = 4  # of the largest to the smallest value of a curve, from which its axis is logarithmic


def draw_pictures(folder: Path, comparison: Comparison) -> dict[str, Path]:
    """Captions and files."""
    drawn = comparison.summaries[:MOST_DRAWN]
    which = "" if len(drawn) == len(comparison.summaries) else f" (the best {MOST_DRAWN} settings)"
    pictures = {
        f"{comparison.monitor} of every run; the bar is the mean{which}": folder / "values.png",
        f"{comparison.monitor} while training: mean over seeds, band from the lowest to the highest{which}": (
            folder / "curves.png"
        ),
        f"Learning rates of the first seed of each setting{which}": folder / "learning_rates.png",
    }
    values, curves, rates = pictures.values()
    settings = [summary.setting for summary in drawn]
    _plot_values(values, settings, comparison)
    _plot_curves(curves, settings, comparison)
    _plot_rates(rates, settings)
    return pictures


def mean_curve(setting: Setting) -> pd.DataFrame:
    """mean, lowest and highest value after so many updates (the index), where every run of the setting has one."""
    curves = [run.epochs.set_index("iteration")["value"] for run in setting.runs.values()]
    together = pd.concat(curves, axis=1, join="inner").dropna()
    return pd.DataFrame(
        {"mean": together.mean(axis=1), "lowest": together.min(axis=1), "highest": together.max(axis=1)}
    )


def _plot_values(path: Path, settings: Sequence[Setting], comparison: Comparison) -> None:
    figure, axes = _figure(0.9 + 0.55 * len(settings))
    for row, (setting, (color, _)) in enumerate(zip(settings, LOOKS, strict=False)):
        values = [run.value for run in setting.runs.values()]
        axes.plot(values, [row] * len(values), "o", color=color, alpha=0.65, markersize=8)
        axes.plot([np.mean(values)] * 2, [row - 0.28, row + 0.28], color="black", linewidth=2)
    axes.set_yticks(range(len(settings)), [_wrapped(setting.name, 34) for setting in settings], parse_math=False)
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.grid(axis="x", color="#d8dbe0", linewidth=0.7)
    better = "higher" if comparison.higher_is_better else "lower"
    axes.set_xlabel(f"{comparison.monitor} ({better} is better)", parse_math=False)
    _write(figure, path)


def _plot_curves(path: Path, settings: Sequence[Setting], comparison: Comparison) -> None:
    figure, axes = _figure(4.4)
    drawn = [np.array([comparison.target])]
    for setting, (color, dashes) in zip(settings, LOOKS, strict=False):
        curve = mean_curve(setting)
        marker = "o" if len(curve) <= 2 else ""
        axes.plot(curve.index, curve["mean"], dashes, color=color, label=setting.name, linewidth=1.8, marker=marker)
        if len(setting.runs) > 1:
            axes.fill_between(curve.index, curve["lowest"], curve["highest"], color=color, alpha=0.15, linewidth=0)
        drawn += [curve["lowest"].to_numpy(), curve["highest"].to_numpy()]
    axes.axhline(comparison.target, color=GRAY, linewidth=1, linestyle=(0, (1, 3)), label="target")
    set_log_if_wide(axes, np.concatenate(drawn))
    axes.grid(axis="y", color="#d8dbe0", linewidth=0.7)
    axes.set_xlabel("updates")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylabel(comparison.monitor, parse_math=False)
    legend = figure.legend(loc="outside upper left", ncols=1, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _write(figure, path)


def _plot_rates(path: Path, settings: Sequence[Setting]) -> None:
    """A panel per setting, all on the same axes, so that rates and lengths are seen to be equal or not."""
    columns = min(3, len(settings))
    rows = -(-len(settings) // columns)
    figure = Figure(figsize=(WIDTH_IN, 0.6 + 2.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    labelled: dict[str, Line2D] = {}
    for axes, setting in zip(panels.flat, settings, strict=False):
        history = next(iter(setting.runs.values())).rates()
        for group, color in GROUP_COLORS.items():
            rates = history[f"lr_{group}"]
            if rates.notna().any():
                (line,) = axes.plot(history["iteration"], rates, color=color, linewidth=1.2)
                labelled.setdefault(group, line)
        axes.set_title(_wrapped(setting.name, 30), fontsize=9, loc="left", parse_math=False)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#d8dbe0", linewidth=0.7)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(bottom=0)
    for axes in panels.flat[len(settings) :]:
        axes.set_visible(False)
    figure.supxlabel("updates", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    figure.legend(labelled.values(), list(labelled), loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    _write(figure, path)


def _figure(height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def set_log_if_wide(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis with readable ticks, where the positive values span more than LOG_RATIO."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() > LOG_RATIO * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _wrapped(name: str, width: int) -> str:
    return "\n".join(textwrap.wrap(name, width)) or name


def _write(figure: Figure, path: Path) -> None:
    with written_atomically(path) as aside:
        figure.savefig(aside, dpi=DPI, format="png")
