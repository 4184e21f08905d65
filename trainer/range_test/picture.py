"""The picture that explains a range test: the loss over the rate, what is too low, good and too high, and the slope."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from data.atomic import written_atomically
from trainer.range_test.finding import Finding

WIDTH_IN, DPI = 8.0, 150
ZONES = (("too low", "#fdf3c8", "#8a6d00"), ("good", "#dcf3e0", "#1b7a3a"), ("too high", "#fbdedb", "#b3261e"))
RAW, LINE, CHOSEN = "#8b93a1", "#1f2937", "#b3261e"
HEADROOM = 0.35  # of the improvement: what a diverging loss is shown above the first, under the names of the zones
TITLE_WIDTH = 100  # letters


def plot_range_test(path: Path | None, finding: Finding, *, title: str, metric: str = "") -> Figure:
    """Write the picture to `path` (none: only return it). `metric` names what the validation split measured, which is
    then what was judged."""
    measured = finding.sweeps[0].metrics is not None
    ratios = (5, 3, 3) if measured else (5, 3)
    figure = Figure(figsize=(WIDTH_IN, 7.6 if measured else 5.8), layout="constrained")
    panels: list[Axes] = list(figure.subplots(len(ratios), sharex=True, height_ratios=ratios))
    judged, slopes = panels[0], panels[1]
    _draw_signal(judged, finding)
    judged.set_ylabel(metric if measured else "training loss")
    _draw_slopes(slopes, finding)
    slopes.set_ylabel("change per step")
    if measured:
        losses = [sweep.losses[: len(finding.lrs)] for sweep in finding.sweeps]
        panels[2].plot(finding.lrs, np.median(losses, axis=0), ".-", color=RAW, markersize=3, linewidth=0.8)
        panels[2].set_ylabel("training loss")
        _limit(panels[2], np.median(losses, axis=0))
    for axes in panels:
        _shade(axes, finding, named=axes is judged)
        axes.spines[["top", "right"]].set_visible(False)
    _scale_rates(panels[-1], finding.lrs)
    judged.set_title(_titled(title, finding), loc="left", fontsize=10)
    figure.legend(*judged.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    if path is not None:
        with written_atomically(path) as aside:
            figure.savefig(aside, dpi=DPI, format="png")
    return figure


def _draw_signal(axes: Axes, finding: Finding) -> None:
    repeats = len(finding.sweeps)
    label = f"median of {repeats} repeats" if repeats > 1 else "each step"
    axes.plot(finding.lrs, finding.values, "o", color=RAW, markersize=2.5, label=label)
    if repeats > 1:
        axes.fill_between(
            finding.lrs, finding.low, finding.high, color=RAW, alpha=0.25, linewidth=0, label="all repeats"
        )
    axes.plot(finding.lrs, finding.smoothed, color=LINE, linewidth=1.8, label="smoothed")
    _limit(axes, finding.values, higher_is_better=finding.higher_is_better)
    rate = finding.rates.lr
    if rate is not None:
        height = float(np.interp(np.log(rate), np.log(finding.lrs), _filled(finding.smoothed)))
        axes.plot([rate], [height], "D", color=CHOSEN, markersize=6, zorder=4, label=f"suggested rate {rate:.2e}")


def _draw_slopes(axes: Axes, finding: Finding) -> None:
    """What each step changes in the smoothed signal, on an axis that shows small and large changes of either sign."""
    smoothed = finding.smoothed[: finding.usable]
    if len(smoothed) < 3:
        return
    slopes = np.gradient(smoothed)
    lrs = finding.lrs[: finding.usable]
    axes.axhline(0, color=RAW, linewidth=0.8)
    axes.plot(lrs, slopes, color=LINE, linewidth=1.2)
    steepest = finding.suggestions["steepest"]  # in terms of the log loss
    if steepest is not None and finding.rates.max_lr is not None:
        place = int(np.argmin(np.abs(np.log(lrs / steepest))))
        axes.plot([lrs[place]], [slopes[place]], "v", color=CHOSEN, markersize=7, zorder=4)
        axes.annotate(
            f"steepest {steepest:.1e}",
            (lrs[place], slopes[place]),
            xytext=(-8, -2) if place > 0.7 * len(lrs) else (8, -2),
            ha="right" if place > 0.7 * len(lrs) else "left",
            textcoords="offset points",
            fontsize=9,
            color=CHOSEN,
        )
    size = np.abs(slopes)
    threshold = float(np.quantile(size, 0.5)) or float(size.max()) or 1.0
    axes.set_yscale("symlog", linthresh=threshold)
    ticks = 10.0 ** np.arange(np.ceil(np.log10(threshold)), np.floor(np.log10(max(size.max(), threshold * 10))) + 1)
    ticks = ticks[:: max(1, len(ticks) // 2)]
    axes.set_yticks([*-ticks[::-1][(ticks[::-1] <= -slopes.min())], 0, *ticks[ticks <= max(slopes.max(), 0)]])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _shade(axes: Axes, finding: Finding, *, named: bool) -> None:
    """Yellow below base_lr, green up to max_lr, red above; each zone named once, each bound with its rate."""
    rates = finding.rates
    if rates.base_lr is None or rates.max_lr is None:
        return
    low, high = float(finding.lrs[0]), float(finding.lrs[-1])
    edges = (low, max(low, rates.base_lr), min(high, rates.max_lr), high)
    for (name, color, text), start, end in zip(ZONES, edges[:-1], edges[1:], strict=True):
        axes.axvspan(start, end, color=color, linewidth=0, zorder=0)
        if named and np.log(end / start) > 0.06 * np.log(high / low):
            middle = float(np.sqrt(start * end))
            axes.text(
                middle, 0.97, name, ha="center", va="top", color=text, fontsize=9, transform=axes.get_xaxis_transform()
            )
    for label, rate, side, height in (("base_lr", rates.base_lr, "left", 0.03), ("max_lr", rates.max_lr, "right", 0.1)):
        axes.axvline(rate, color=ZONES[1][2], linewidth=1.0, linestyle="--", zorder=1)
        if named:
            text, place = f" {label} {rate:.1e} ", axes.get_xaxis_transform()
            axes.text(rate, height, text, ha=side, va="bottom", color=ZONES[1][2], fontsize=9, transform=place)


def _limit(axes: Axes, values: np.ndarray, *, higher_is_better: bool = False) -> None:
    """Show the part in which something is learnt: a loss that explodes would flatten it."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return
    first = float(np.median(finite[: max(3, len(finite) // 10)]))
    best, worst = (finite.max(), finite.min()) if higher_is_better else (finite.min(), finite.max())
    reach = float(abs(best - first)) or max(abs(first), 1e-12) * 0.1
    side = 1.0 if higher_is_better else -1.0
    scattered = 3 * float(np.median(np.abs(finite - np.median(finite))))
    shown = min(abs(float(worst) - first), max(HEADROOM * reach, scattered))
    ends = (float(best) + side * 0.15 * reach, first - side * max(shown, 0.2 * reach))
    axes.set_ylim(min(ends), max(ends))


def _scale_rates(axes: Axes, lrs: np.ndarray) -> None:
    even = np.allclose(np.diff(lrs), np.diff(lrs)[:1]) if len(lrs) > 2 else False
    if not even:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(lrs[0], lrs[-1])
    axes.set_xlabel("learning rate of the head")


def _titled(title: str, finding: Finding) -> str:
    stopped = f"stopped early: {finding.stop}" if finding.stop else ""
    lines = textwrap.wrap(f"{title}: {finding.verdict}", TITLE_WIDTH)
    return "\n".join([*lines, *filter(None, [stopped])])


def _filled(smoothed: np.ndarray) -> np.ndarray:
    """Without the NaN at the end, where nothing was judged."""
    known = smoothed[np.isfinite(smoothed)]
    return np.concatenate([known, np.full(len(smoothed) - len(known), known[-1])])
