"""The pictures of LRFinder: loss over rate."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.atomic import written_atomically
from trainer.lr_finder.record import Record
from trainer.range_test.finding import Finding
from trainer.range_test.picture import ZONES

_GRAY, _RED, _BLUE = "#6b7280", "#c1121f", "#0072b2"
_NO_SCREEN = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")


def draw_plain(
    ax: Axes, history: dict[str, list[float]], suggestion: float | None, skip_start: int, skip_end: int
) -> None:
    """The moving average as `history` has it, and the suggestion on it."""
    shown = slice(skip_start, max(len(history["lr"]) - skip_end, 0))
    lrs, losses = history["lr"][shown], history["loss"][shown]
    ax.plot(lrs, losses, color=_BLUE)
    if suggestion is not None:
        _mark(ax, suggestion, np.array(lrs), np.array(losses), "suggestion")
        ax.legend()


def draw_explained(
    ax: Axes, record: Record, rule: str, suggestion: float | None, skip_start: int, skip_end: int, annotate: bool
) -> None:
    """Losses as measured and smoothed and the suggestion; with `annotate` also the zones too low, good, too high."""
    finding = record.finding(rule, skip_start, skip_end)
    shown = slice(skip_start, max(len(record) - skip_end, 0))
    lrs, values, smoothed = finding.lrs[shown], finding.values[shown], finding.smoothed[shown]
    ax.plot(lrs, values, ".", color=_GRAY, alpha=0.45, markersize=4, label="measured")
    ax.plot(lrs, smoothed, color=_BLUE, linewidth=1.8, label="smoothed")
    if suggestion is not None:
        label = f"suggestion {suggestion:.2e} ({rule})" if annotate else "suggestion"
        ax.axvline(suggestion, color=_RED, linestyle="--", linewidth=1.2)
        _mark(ax, suggestion, finding.lrs, finding.smoothed, label)
    if annotate:
        _draw_zones(ax, finding, lrs)
    _limit_losses(ax, values, smoothed)
    ax.legend(fontsize=9)


def finish(ax: Axes, show_lr: float | None, log_lr: bool, path: str | Path | None, show: bool) -> None:
    """Mark a rate and name the axes; save the figure, or show it on a screen or in a notebook. Where there is neither,
    pyplot lets go of it."""
    if show_lr is not None:
        ax.axvline(show_lr, color=_RED)
    if log_lr:
        ax.set_xscale("log")
    ax.set_xlabel("Learning rate")
    ax.set_ylabel("Loss")
    on_screen = mpl.get_backend().lower() not in _NO_SCREEN
    if path is not None:
        with written_atomically(Path(path)) as aside:
            _figure(ax).savefig(aside, dpi=150)
    elif show and on_screen:
        plt.show()
    if show and not on_screen:
        plt.close(_figure(ax))


def new_axes() -> Axes:
    return plt.subplots(figsize=(8, 4.5), layout="constrained")[1]


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None, "axes that were removed from their figure"
    return figure


def _draw_zones(ax: Axes, finding: Finding, lrs: np.ndarray) -> None:
    if finding.rates.base_lr is None or finding.rates.max_lr is None or not len(lrs):
        ax.set_title(finding.verdict, fontsize=10, color=_GRAY)
        return
    inside = np.clip([finding.rates.base_lr, finding.rates.max_lr], lrs[0], lrs[-1])
    edges = [lrs[0], *inside, lrs[-1]]
    for (name, color, _), left, right in zip(ZONES, edges, edges[1:], strict=False):
        if right > left:
            ax.axvspan(left, right, color=color, linewidth=0, zorder=0, label=name)


def _limit_losses(ax: Axes, values: np.ndarray, smoothed: np.ndarray) -> None:
    """Single high losses at the end must not squeeze the curve."""
    curve = smoothed[np.isfinite(smoothed)]
    if not len(curve):
        return
    top, bottom = max(curve[0], np.median(values)), min(curve.min(), np.quantile(values, 0.02))
    room = float(top - bottom) or 1.0
    ax.set_ylim(bottom - 0.1 * room, top + 0.6 * room)


def _mark(ax: Axes, rate: float, lrs: np.ndarray, losses: np.ndarray, label: str) -> None:
    """A point at the rate on the curve."""
    finite = np.isfinite(losses)
    height = np.interp(np.log(rate), np.log(lrs[finite]), losses[finite])
    ax.scatter(rate, height, s=75, color=_RED, zorder=3, label=label)
