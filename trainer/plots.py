"""Pictures of learning rates, losses and errors that could go into a paper: PNGs, 8 in wide at 150 dpi.

Each function writes its picture, and returns it to be shown in a notebook.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from data.atomic import written_atomically
from trainer.tasks.task import Curves

if TYPE_CHECKING:
    from trainer.phases import Phase

WIDTH_IN, DPI = 8.0, 150
MAX_POINTS = 4000  # of a line: a picture is 1,200 px wide
MAX_CYCLE_MARKS = 40
LARGEST = 1e100  # value that is drawn: matplotlib finds no ticks for much larger ones, and would end the run
MAX_MARKERS = 50  # a longer line is drawn without a marker at each of its points
GROUP_COLORS = {"head": "#0072b2", "backbone": "#d55e00"}
PHASE_COLORS = {"frozen": "#e4ebf3", "finetune": "#fcf3e3"}
GRAY, RED, GREEN, BLUE = "#6b7280", "#c1121f", "#00795a", "#3a86c8"
CURVE_LOOKS = ((GREEN, "-"), (BLUE, "--"), ("#b5179e", "-."))


class RateLine(NamedTuple):
    group: str
    iterations: np.ndarray
    rates: np.ndarray


def plot_schedule(path: Path, phases: Sequence[Phase]) -> Figure:
    """The rates that are planned for every update, before the first is made."""
    figure, (axes,) = _panels(3.6)
    edges = _planned_edges(phases, {})
    planned = _planned_lines(phases, edges)
    _draw_rates(axes, planned, "{}", linewidth=1.5)
    _mark_plan(axes, planned, phases, edges)
    return _finish(figure, path)


def plot_learning_rates(path: Path, phases: Sequence[Phase], history: pd.DataFrame) -> Figure:
    """The rates that were planned, and those that lr_history.csv says were used."""
    figure, (axes,) = _panels(3.8)
    edges = _planned_edges(phases, {name: int(rows["iteration"].min()) for name, rows in history.groupby("phase")})
    used, planned = _used_lines(history), _planned_lines(phases, edges)
    _draw_rates(axes, used, "{}, used", linewidth=4.5, alpha=0.45)
    _draw_rates(axes, planned, "planned", linewidth=0.8, color="black")
    _mark_plan(axes, used + planned, phases, edges)
    return _finish(figure, path)


def plot_loss(path: Path, history: pd.DataFrame) -> Figure:
    """The loss of every update in lr_history.csv, above the rates it used."""
    figure, (top, bottom) = _panels(5.2, height_ratios=(5, 3))
    skipped = history["skipped"] != 0
    valid = history[(history["loss"].abs() < LARGEST) & ~skipped]
    iterations, loss = valid["iteration"].to_numpy(), valid["loss"].to_numpy(float)
    window = int(np.clip(len(loss) // 40, 3, 100))
    for values, label, color, width in (
        (loss, "loss of each update", "#979ea8", 0.8),
        (debiased_ema(loss, beta=1 - 1 / window), f"moving average (about {window})", "black", 1.5),
    ):
        kept, marker = thinned(values, MAX_POINTS), "o" if len(values) == 1 else ""
        top.plot(iterations[kept], values[kept], label=label, color=color, linewidth=width, marker=marker)
    if skipped.any():
        places, heights = history.loc[skipped, "iteration"], np.full(skipped.sum(), 0.96)
        label, on_top = f"skipped update ({len(places):,})", top.get_xaxis_transform()
        top.plot(places, heights, "x", color=RED, markersize=5, label=label, transform=on_top)
    _set_log_if_wide(top, loss, ratio=20)
    used = _used_lines(history)
    _draw_rates(bottom, used, "rate of the {}", linewidth=1.3)
    _set_rate_scale(bottom, used)
    top.set_ylabel("training loss")
    bottom.set_xlabel("iteration")
    _mark_phases([top, bottom], *_phases_of(history, "iteration"))
    return _finish(figure, path)


def plot_metrics(
    path: Path,
    metrics: pd.DataFrame,
    *,
    curves: Curves,
    baseline: tuple[str, float] | None,
    best_epoch: int | None,
) -> Figure:
    """Losses and a task's metrics after every epoch in metrics.csv; `baseline`: what it is called, and its metric."""
    validated = bool(curves.lines.keys() & set(metrics.columns))
    figure, panels = _panels(5.6, height_ratios=(1, 1)) if validated else _panels(3.4)
    marker = "o" if len(metrics) <= MAX_MARKERS else ""
    for panel, column, label, color, style in (
        (0, "train_loss", "training loss", GRAY, "-"),
        (0, "val_loss", "validation loss", GREEN, "-"),
        *((1, *line, *look) for line, look in zip(curves.lines.items(), CURVE_LOOKS, strict=False)),
    ):
        if column in metrics:
            x, y = metrics["epoch"], metrics[column].where(metrics[column].abs() < LARGEST)
            panels[panel].plot(x, y, style, color=color, label=label, marker=marker, markersize=3.5)
    if validated and baseline is not None and abs(baseline[1]) < LARGEST:
        panels[1].axhline(baseline[1], color="black", linewidth=1, linestyle="--", label=baseline[0])
    named = f"{curves.axis} ({curves.unit})" if curves.unit else curves.axis
    for axes, name in zip(panels, ("loss", named), strict=False):
        # On a log axis a baseline far above the errors leaves them their room.
        drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
        if name != "loss" and curves.shares:
            axes.set_ylim(0, 1)
        elif not _set_log_if_wide(axes, drawn, ratio=10) and name != "loss":
            axes.set_ylim(bottom=0)
        axes.set_ylabel(name, parse_math=False)
        if best_epoch is not None:
            label = f"best (epoch {best_epoch})" if axes is panels[-1] else ""
            axes.axvline(best_epoch, color=RED, linewidth=1.2, linestyle=":", label=label)
    panels[-1].set_xlabel("epoch")
    _mark_phases(panels, *_phases_of(metrics, "epoch"))
    return _finish(figure, path)


@contextmanager
def boxes_for_missing_letters() -> Iterator[None]:
    """Names in a script that the font lacks are drawn as boxes, without a warning for each letter of each picture."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def debiased_ema(values: np.ndarray, *, beta: float) -> np.ndarray:
    """Moving average without a pull to 0 at its start: y_t = sum_i beta^(t-i) x_i / sum_i beta^(t-i) over i <= t."""
    return np.asarray(pd.Series(values).ewm(alpha=1 - beta, adjust=True).mean(), dtype=float)


def thinned(values: np.ndarray, limit: int) -> np.ndarray:
    """Indices of at most `limit` (4 or more) values that draw the same line: ends and extremes of each stretch."""
    if len(values) <= limit:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), limit // 4 + 1).astype(int)
    parts = [(start, values[start:end]) for start, end in pairwise(edges)]
    return np.unique([start + np.array([0, part.argmin(), part.argmax(), len(part) - 1]) for start, part in parts])


def _panels(height_in: float, *, height_ratios: tuple[int, ...] = (1,)) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    panels = figure.subplots(len(height_ratios), sharex=True, squeeze=False, height_ratios=height_ratios)[:, 0]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color="#d8dbe0", linewidth=0.7)
    return figure, list(panels)


def _finish(figure: Figure, path: Path) -> Figure:
    """Give all panels one legend above them, out of the way of the data, and write the file."""
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    entries = {label: handle for pair in found for handle, label in zip(*pair, strict=True)}  # once for all its lines
    columns = len(entries) if len(entries) <= 4 else 3
    legend = figure.legend(
        entries.values(), entries, loc="outside upper left", ncols=columns, frameon=False, fontsize=9
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a unit is anything, also what is no formula
    with written_atomically(path) as aside:
        figure.savefig(aside, dpi=DPI, format="png")
    return figure


def _planned_edges(phases: Sequence[Phase], begun: dict[Any, int]) -> list[int]:
    """Where phases start, and the last ends; one that has `begun` earlier than planned cut the one before it short."""
    edges = [0]
    for phase, following in pairwise(phases):
        edges.append(begun.get(following.name, edges[-1] + phase.total_steps))
    return [*edges, edges[-1] + phases[-1].total_steps]


def _planned_lines(phases: Sequence[Phase], edges: list[int]) -> list[RateLine]:
    lines = []
    for phase, (start, end) in zip(phases, pairwise(edges), strict=True):
        assert phase.schedule is not None
        head = np.array([phase.schedule.lr_at(step) for step in range(end - start)])
        kept = thinned(head, max(4, MAX_POINTS * len(head) // edges[-1]))
        lines.append(RateLine("head", start + kept, head[kept]))
        if not phase.frozen:
            lines.append(RateLine("backbone", start + kept, head[kept] * phase.backbone_lr_ratio))
    return lines


def _used_lines(history: pd.DataFrame) -> list[RateLine]:
    lines = []
    for group in GROUP_COLORS:
        for _, rows in history.dropna(subset=f"lr_{group}").groupby("phase", sort=False):
            rates = rows[f"lr_{group}"].to_numpy(float)
            kept = thinned(rates, MAX_POINTS)
            lines.append(RateLine(group, rows["iteration"].to_numpy()[kept], rates[kept]))
    return lines


def _draw_rates(axes: Axes, lines: list[RateLine], label: str, **style: Any) -> None:
    for line in lines:
        color, marker = GROUP_COLORS[line.group], "o" if len(line.rates) == 1 else ""
        defaults = {"color": color, "marker": marker, "label": label.format(line.group)}
        axes.plot(line.iterations, line.rates, **(defaults | style))


def _set_rate_scale(axes: Axes, lines: list[RateLine]) -> None:
    """A linear axis, on which triangles look like triangles, unless one of the lines would lie flat on its floor."""
    axes.set_ylabel("learning rate")
    if lines and max(line.rates.max() for line in lines) > 100 * min(np.median(line.rates) for line in lines) > 0:
        axes.set_yscale("log", nonpositive="mask")
        return
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))


def _set_log_if_wide(axes: Axes, values: np.ndarray, *, ratio: float) -> bool:
    """A log axis with plain numbers where the values span more than `ratio`; says whether it is one."""
    finite = values[np.isfinite(values)]
    wide = bool(len(finite) and finite.min() > 0 and finite.max() > ratio * finite.min())
    if wide:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if finite.max() < 1000 * finite.min() else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    return wide


def _mark_plan(axes: Axes, lines: list[RateLine], phases: Sequence[Phase], edges: list[int]) -> None:
    """Scale the axes to the lines; mark phases, and cycles unless they are too many."""
    marks: list[int] = []
    for phase, (start, end) in zip(phases, pairwise(edges), strict=True):
        assert phase.schedule is not None
        cycles = [phase.schedule.cycle_at(step) for step in range(end - start)]
        marks += (start + 1 + np.flatnonzero(np.diff(cycles))).tolist()
    for mark in marks if len(marks) <= MAX_CYCLE_MARKS else []:
        label = "cycle boundary" if mark == marks[0] else ""
        axes.axvline(mark, color=GRAY, linewidth=0.8, linestyle=":", label=label, zorder=1)
    per_epoch = {phase.steps_per_epoch for phase in phases}
    axes.set_xlabel(f"iteration ({per_epoch.pop():,} per epoch)" if len(per_epoch) == 1 else "iteration")
    _set_rate_scale(axes, lines)
    _mark_phases([axes], [phase.name for phase in phases], edges)


def _phases_of(table: pd.DataFrame, x: str) -> tuple[list[str], list[int]]:
    """Names and edges of the phases in a log with a column `x` of iterations or epochs."""
    starts = table.groupby("phase", sort=False)[x].min()
    return list(starts.index), [*starts, table[x].max() + 1] if len(starts) else [0, 1]


def _mark_phases(panels: list[Axes], names: list[str], edges: list[int]) -> None:
    """Shade the phases; the x axis ends where they end. A name begins where its phase does if there is room for it."""
    first, last = edges[0] - 0.5, edges[-1] - 0.5
    room = 0.1 * (last - first)
    place = first - room
    for name, (start, end) in zip(names, pairwise(edges), strict=False):
        for axes in panels:
            axes.axvspan(start - 0.5, end - 0.5, color=PHASE_COLORS[name], linewidth=0, zorder=0)
        place = max(start - 0.5, place + room)
        side, x = ("right", last) if place > last - room else ("left", place)
        panels[0].text(x, 1.02, name, ha=side, transform=panels[0].get_xaxis_transform(), fontsize=9, color=GRAY)
    panels[0].set_xlim(first, last)
    panels[0].xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
