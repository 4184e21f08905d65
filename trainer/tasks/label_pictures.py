"""Charts of predicted classes and numbers: PNGs, 8 in wide at 150 dpi. Each function also returns its figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator, PercentFormatter

from data.labels import natural_order
from trainer.tasks.label_metrics import CALIBRATION_BINS
from trainer.tasks.sheets import WIDTH_IN, shortened, signed, write

MAX_PERCENTS, MAX_COUNTS = 12, 40  # classes; cells of more have no room for percents, or for numbers at all
MAX_COLOURED = 8  # groups; more colours can't be told apart
LETTER_IN = 0.067  # mean width of a letter in a legend
GROUP_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c5e3c", "#6b7280")
GRAY, RED, SKY, NAVY = "#6b7280", "#c1121f", "#9cc5e3", "#003452"


def plot_confusion(path: Path, counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """The counts (C, C) of `confusion`, rows the truth, over the percent of their row.

    More than 12 classes show the percent as colour alone, more than 40 the counts neither.
    """
    number, dense = len(class_names), len(class_names) > MAX_PERCENTS
    totals = counts.sum(axis=1)
    share = counts / np.maximum(totals, 1)[:, None]
    names = [shortened(name, 26) for name in class_names]
    letters = max(len(name) for name in names)
    tilted = dense or letters * number > 50
    size = float(np.clip(220 / number, 4.5, 8)) if dense else 9.5 if number <= 8 else 8
    below_in = 0.6 + (0.012 if dense else 0.009) * size * letters if tilted else 0.7
    figure = Figure(figsize=(WIDTH_IN, float(np.clip(0.75 * number, 2.0, 5.8)) + below_in), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row, column in np.ndindex(counts.shape) if number <= MAX_COUNTS else ():
        count, color = counts[row, column], "white" if share[row, column] > 0.55 else "black"
        if dense and not count:
            continue
        text = f"{count:,}" if dense or not totals[row] else f"{count:,}\n{100 * share[row, column]:.0f} %"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color if count else GRAY)
    rows = [f"{name}  ({total:,})" for name, total in zip(names, totals, strict=True)]
    axes.set_yticks(range(number), rows, fontsize=size, parse_math=False)
    axes.set_xticks(range(number), names, fontsize=size, parse_math=False)
    if tilted:
        for label in axes.get_xticklabels():
            label.set(rotation=90 if dense else 35, ha="right", rotation_mode="anchor", va="center" if dense else "top")
    axes.tick_params(length=0)
    axes.set(xlabel="predicted class", ylabel="true class (images)")
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(number + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(number + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.5 if dense else 1.5)
    axes.tick_params(which="minor", length=0)
    bar = figure.colorbar(drawn, ax=axes, format=PercentFormatter(decimals=0, symbol=" %"), aspect=30)
    bar.set_label("of the true class")
    bar.outline.set_visible(False)
    write(figure, path)
    return figure


def plot_reliability(path: Path, probabilities: np.ndarray, targets: np.ndarray) -> Figure:
    """How often the most probable class is right, by its probability in 15 bins, and how many images are in each."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    places = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    counts = np.bincount(places, minlength=CALIBRATION_BINS)
    filled = counts > 0
    accuracy, mean_confidence = (
        np.bincount(places, weights=values, minlength=CALIBRATION_BINS)[filled] / counts[filled]
        for values in (right, confidence)
    )
    error = float((counts[filled] * np.abs(accuracy - mean_confidence)).sum() / max(len(targets), 1))
    figure = Figure(figsize=(WIDTH_IN, 6.4), layout="constrained")
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    width = 1 / CALIBRATION_BINS
    top.bar(
        edges[:-1][filled], accuracy, width, align="edge", color=SKY, edgecolor="white", label="share that is right"
    )
    top.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=(0, (6, 4)), label="perfectly calibrated")
    label = f"mean probability of a bin (calibration error {100 * error:.1f} %)"
    top.plot(mean_confidence, accuracy, "o", color=NAVY, markersize=4.5, label=label)
    top.set(ylim=(0, 1.03), ylabel="accuracy")
    drawn = bottom.bar(edges[:-1], counts, width, align="edge", color=GRAY, edgecolor="white")
    bottom.bar_label(drawn, labels=[f"{count:,}" if count else "" for count in counts], fontsize=8, padding=1)
    bottom.set(xlim=(0, 1), ylabel="images", xlabel="probability of the predicted class")
    bottom.margins(y=0.2)
    bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes in (top, bottom):
        _tidy(axes)
    top.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    bottom.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    _legend(figure, loc="outside upper left", ncols=3)
    write(figure, path)
    return figure


def plot_predicted_against_true(
    path: Path,
    predicted: np.ndarray,
    targets: np.ndarray,
    *,
    name: str,
    unit: str,
    groups: Sequence[str] | None = None,
) -> Figure:
    """Predictions (N,) over the truth, with the line where both are equal; `groups` (N,) colour the images.

    `name`: what is predicted; `unit`: of it, empty for none.
    """
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    _scatter(
        axes, targets, predicted, groups, lambda rows: f"\n MAE {np.abs(predicted - targets)[rows].mean():.3g} {unit}"
    )
    both = np.concatenate([predicted, targets])
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color="black", linewidth=1, linestyle=(0, (6, 4)), label="prediction = truth")
    axes.set(xlim=limits, ylim=limits, aspect="equal", anchor="NW")
    axes.set_xlabel(f"true {_with_unit(name, unit)}", parse_math=False)
    axes.set_ylabel(f"predicted {_with_unit(name, unit)}", parse_math=False)
    _tidy(axes)
    axes.grid(axis="x", color="#d8dbe0", linewidth=0.7)
    _legend(figure, loc="outside right upper", labelspacing=0.8)
    square_in = WIDTH_IN - 1.3 - LETTER_IN * _letters(axes)
    figure.set_size_inches(WIDTH_IN, square_in + 0.6)
    write(figure, path)
    return figure


def plot_bland_altman(
    path: Path,
    predicted: np.ndarray,
    targets: np.ndarray,
    *,
    name: str,
    unit: str,
    groups: Sequence[str] | None = None,
) -> Figure:
    """Prediction minus truth (N,) over their mean, with the bias and the limits of agreement: bias ± 1.96 standard
    deviations, between which 95 % of normal differences lie (Bland and Altman 1986, Lancet 327)."""
    differences, means = predicted - targets, (predicted + targets) / 2
    figure = Figure(figsize=(WIDTH_IN, 5.0), layout="constrained")
    axes = figure.subplots()
    _scatter(axes, means, differences, groups, lambda rows: f" bias {signed(differences[rows].mean())} {unit}")
    axes.axhline(0, color="black", linewidth=0.8)
    bias, spread = limits_of_agreement(differences)
    lines = [(bias, "bias", "-")]
    lines += [(bias + sign * spread, f"{'upper' if sign > 0 else 'lower'} limit", "--") for sign in (1, -1)]
    for height, label, style in lines if np.isfinite(spread) else []:
        axes.axhline(height, color=RED, linewidth=1.2, linestyle=style)
        text = f"{label}\n{signed(height)} {unit}"
        axes.annotate(
            text, (1, height), (5, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            color=RED, fontsize=8.5, annotation_clip=False, parse_math=False,
        )  # fmt: skip
    axes.set_xlabel(f"mean of predicted and true {_with_unit(name, unit)}", parse_math=False)
    axes.set_ylabel("prediction − truth" + (f" ({unit})" if unit else ""), parse_math=False)
    _tidy(axes)
    if len(targets):
        _legend(figure, loc="outside upper left", ncols=int(WIDTH_IN / (0.5 + LETTER_IN * _letters(axes))))
    write(figure, path)
    return figure


def limits_of_agreement(differences: np.ndarray) -> tuple[float, float]:
    """The mean of the differences, and 1.96 of their sample standard deviations; NaN for fewer than two."""
    if len(differences) < 2:
        return (float(differences.mean()) if len(differences) else float("nan")), float("nan")
    return float(differences.mean()), 1.96 * float(differences.std(ddof=1))


def _scatter(
    axes: Axes, x: np.ndarray, y: np.ndarray, groups: Sequence[str] | None, say: Callable[[np.ndarray], str]
) -> None:
    """Points by group; the legend has what `say` tells of the rows (N,) bool of each group."""
    column = np.asarray(groups if groups is not None else ["all"] * len(x))
    names = sorted(set(column.tolist()), key=natural_order)
    if len(names) > MAX_COLOURED:
        column, names = np.full(len(x), "all"), ["all"]
    colours = {group: GROUP_COLOURS[place] for place, group in enumerate(names)}
    order = np.random.default_rng(0).permutation(len(x))  # so that no group hides another
    faint = float(np.clip(20 / max(len(x), 1) ** 0.5, 0.03, 0.85))
    axes.scatter(x[order], y[order], s=16, c=[colours[group] for group in column[order]], alpha=faint, linewidths=0)
    for group in names:
        rows = column == group
        title = "all" if len(names) == 1 else shortened(group, 24)
        label = f"{title} ({rows.sum():,}):{say(rows)}".rstrip()
        # matplotlib leaves labels that begin with an underscore out of legends.
        axes.plot([], [], "o", color=colours[group], markersize=5, label=f" {label}")


def _legend(figure: Figure, **options: Any) -> Legend:
    legend = figure.legend(frameon=False, fontsize=9, **options)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend


def _letters(axes: Axes) -> int:
    """Of the longest line in the legend of the axes."""
    labels = axes.get_legend_handles_labels()[1]
    return max((len(line) for label in labels for line in label.splitlines()), default=0)


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit and unit not in name else name


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#d8dbe0", linewidth=0.7)
