"""Pictures of predicted landmarks: errors per landmark as bars, and images with prediction and truth drawn in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from trainer.tasks.landmark_calibration import LEVEL
from trainer.tasks.landmark_metrics import radial_errors
from trainer.tasks.sheets import WIDTH_IN, choose_samples, fit_height, panels_for_images, shortened, show_image, write

MAX_NUMBERED = 30  # landmarks; the numbers of more would hide the image
TRUTH, PREDICTION, CIRCLE = "#2bd94f", "#ff5a1f", "#ff9a6b"
GRAY, NAVY, SKY = "#6b7280", "#003452", "#9cc5e3"


def plot_landmark_errors(path: Path, table: pd.DataFrame, *, unit: str) -> Figure:
    """Mean, median and 95th percentile of the radial error (px or mm) of each landmark, the worst on top.

    `table`: as made by per_landmark_table. The picture grows with the number of landmarks.
    """
    rows = table.sort_values(f"mre_{unit}", na_position="first", kind="stable")  # the first row is at the bottom
    mean, p95 = rows[f"mre_{unit}"].to_numpy(float), rows[f"p95_{unit}"].to_numpy(float)
    places, counts, present = np.arange(len(rows)), rows["count"].to_numpy(), np.isfinite(mean)
    figure = Figure(figsize=(WIDTH_IN, 1.3 + 0.21 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.barh(places, mean, height=0.72, color=SKY, label="mean")
    axes.plot(rows[f"median_{unit}"], places, "D", color=NAVY, markersize=4, label="median")
    axes.hlines(places, np.minimum(mean, p95), p95, color=GRAY, linewidth=1)
    axes.plot(p95, places, "|", color=GRAY, markersize=7, markeredgewidth=1.5, label="95th percentile")
    if present.any():
        overall = np.average(mean[present], weights=counts[present])
        label = f"mean of all ({overall:.2f} {unit})"
        axes.axvline(overall, color="black", linewidth=1, linestyle=(0, (6, 4)), label=label)
    names = [shortened(str(name), 32) for name in rows["landmark"]]
    if len(set(counts)) > 1:
        names = [f"{name}  (n={count})" for name, count in zip(names, counts, strict=True)]
    axes.set_yticks(places, names, fontsize=8.5, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=f"radial error ({unit})", xlim=(0, None), ylim=(-0.7, len(rows) - 0.3))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#d8dbe0", linewidth=0.7)
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    write(figure, path)
    return figure


def write_overlays(
    folder: Path,
    read: Callable[[int], np.ndarray],
    predictions: dict[str, np.ndarray],
    image_names: Sequence[str],
    *,
    unit: str,
    count: int,
) -> list[Path]:
    """One sheet each of the `count` images with the least, the median and the greatest mean error (mm or px).

    predictions: index (N,) of the images, as `read` and `image_names` know them; points and truth (N, K, 2) in px;
    spacing_mm (N,); and radius (N, K) px where circles are to be drawn. Images without an error in the unit (no
    landmark, or no spacing) are left out. No image is shown twice; a sheet for which none is left is not written.
    """
    errors = radial_errors(predictions["points"], predictions["truth"])
    if unit == "mm":
        errors = errors * predictions["spacing_mm"][:, None]
    means = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in errors])
    paths = []
    for kind, rows in choose_samples(means, count).items():
        path = folder / f"overlays_{kind}.png"
        if not rows:
            path.unlink(missing_ok=True)  # of an earlier part of the run
            continue
        figure, panels = panels_for_images(len(rows))
        for axes, row in zip(panels, rows, strict=True):
            index = int(predictions["index"][row])
            title = f"{shortened(Path(image_names[index]).name, 30)}\nMRE {means[row]:.2f} {unit}"
            radii = predictions["radius"][row] if "radius" in predictions else None
            _draw(axes, read(index), predictions["points"][row], predictions["truth"][row], title, radii)
        _finish(figure, panels)
        write(figure, path)
        paths.append(path)
    return paths


def draw_overlay(
    image: np.ndarray,
    points: np.ndarray,
    truth: np.ndarray | None,
    *,
    title: str,
    names: Sequence[str] | None = None,
    radii: np.ndarray | None = None,
) -> Figure:
    """The image (H, W) or (H, W, 3) uint8 with predicted and true landmarks, (K, 2) px each; NaN is not drawn, nor is a
    truth that is None.

    `radii` (K,) px: of the circles around predictions that hold the truth in 90 %. Up to 30 landmarks are numbered,
    from 0; `names` explain the numbers, where they are more than these.
    """
    figure, (axes,) = panels_for_images(1)
    _draw(axes, image, points, truth, title, radii)
    _finish(figure, [axes])
    tells_more = any(name != str(number) for number, name in enumerate(names or ()))
    if names is not None and tells_more and len(points) <= MAX_NUMBERED:
        key = "\n".join(f"{number}  {shortened(name, 28)}" for number, name in enumerate(names))
        axes.text(1.03, 1, key, va="top", fontsize=8, linespacing=1.5, transform=axes.transAxes, parse_math=False)
    return figure


def _draw(
    axes: Axes, image: np.ndarray, points: np.ndarray, truth: np.ndarray | None, title: str, radii: np.ndarray | None
) -> None:
    height, width = image.shape[:2]
    show_image(axes, image)
    size = 1.0 if len(points) <= MAX_NUMBERED else 0.7
    if truth is not None:
        joined = np.stack([truth, points], axis=1)
        for ends in joined[np.isfinite(joined).all(axis=(1, 2))]:
            axes.plot(*ends.T, color="#ffd23f", linewidth=1)
        axes.plot(*truth.T, "o", color=TRUTH, fillstyle="none", markersize=7 * size, markeredgewidth=1.4, label="truth")
    axes.plot(*points.T, "o", color=PREDICTION, markersize=4 * size, markeredgewidth=0, label="prediction")
    if radii is not None:
        _draw_circles(axes, points, radii)
    if len(points) <= MAX_NUMBERED:
        for number, (x, y) in enumerate(points):
            if np.isfinite([x, y]).all():
                text = axes.annotate(str(number), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=6.5)
                text.set(color="white", path_effects=[withStroke(linewidth=1.5, foreground="black")])
    # Landmarks outside the frame are shown as far as a fifth of it.
    both = points if truth is None else np.concatenate([points, truth])
    for axis, size_px in enumerate((width, height)):
        present = both[np.isfinite(both[:, axis]), axis]
        low = min([-0.5, *present - 0.02 * size_px])
        high = max([size_px - 0.5, *present + 0.02 * size_px])
        low, high = max(low, -0.2 * size_px), min(high, 1.2 * size_px)
        axes.set_xlim(low, high) if axis == 0 else axes.set_ylim(high, low)
    axes.set_title(title, fontsize=9, parse_math=False)


def _draw_circles(axes: Axes, points: np.ndarray, radii: np.ndarray) -> None:
    thin = 0.7 if len(points) <= MAX_NUMBERED else 0.4
    drawn = np.isfinite(points).all(axis=1) & np.isfinite(radii)
    for point, radius in zip(points[drawn], radii[drawn], strict=True):
        axes.add_patch(Circle(tuple(point), radius, fill=False, edgecolor=CIRCLE, linewidth=thin))
    if drawn.any():
        label = f"holds the truth in {100 * LEVEL:g} %"
        axes.plot([], [], "o", color=CIRCLE, fillstyle="none", markersize=10, markeredgewidth=thin, label=label)


def _finish(figure: Figure, panels: list[Axes]) -> None:
    """Make the figure as tall as its images and their titles need, and add the legend."""
    fit_height(figure, panels, extra_in=0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
