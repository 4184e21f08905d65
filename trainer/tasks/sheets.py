"""Sheets of sample images: which are shown, and the panels they are drawn into."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.atomic import written_atomically

WIDTH_IN, DPI = 8.0, 150
MAX_SHOWN_PX = 1200  # of an image's longer side; more would not be seen


def choose_samples(means: np.ndarray, count: int) -> dict[str, list[int]]:
    """Rows of the mean errors (N,) for the sheets best, median and worst; worst begins with the greatest.

    Of fewer than 3 * `count` finite ones each is chosen once: a third per sheet, what is left to best, then to worst.
    """
    order = [int(row) for row in np.argsort(means, kind="stable") if np.isfinite(means[row])]
    best, worst, median = (min(count, (len(order) + more) // 3) for more in (2, 1, 0))
    start = best + (len(order) - best - median - worst) // 2
    return {
        "best": order[:best],
        "median": order[start : start + median],
        "worst": order[::-1][:worst],
    }


def shortened(name: str, length: int) -> str:
    """The name, with its middle left out if it is longer than `length`."""
    return name if len(name) <= length else f"{name[: (length - 1) // 2]}…{name[-(length // 2) :]}"


def signed(value: float) -> str:
    """A difference with three digits, its sign as matplotlib draws it."""
    return f"{value:+.3g}".replace("-", "−")


def panels_for_images(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels for images, at most three beside each other."""
    columns = count if count <= 3 else 2 if count == 4 else 3
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(max(WIDTH_IN, 3.6 * columns), 5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in panels[count:]:
        unused.remove()
    return figure, list(panels[:count])


def show_image(axes: Axes, image: np.ndarray) -> None:
    """The image (H, W) or (H, W, 3) uint8 without ticks and frame, in its own px: integers are pixel centres."""
    height, width = image.shape[:2]
    shrink = MAX_SHOWN_PX / max(height, width)
    if shrink < 1:
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    extent, smooth = (-0.5, width - 0.5, height - 0.5, -0.5), "bicubic" if shrink > 2 else "auto"
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="equal", interpolation=smooth)
    axes.set(xticks=[], yticks=[], facecolor="#e5e7eb")
    for spine in axes.spines.values():
        spine.set_visible(False)


def fit_height(figure: Figure, panels: list[Axes], *, extra_in: float) -> None:
    """Make the figure as tall as its images, their titles and what is `extra_in` each row need."""
    spec = panels[0].get_subplotspec()
    assert spec is not None
    rows, columns = spec.get_gridspec().get_geometry()
    shapes = [abs(np.diff(axes.get_ylim())[0] / np.diff(axes.get_xlim())[0]) for axes in panels]
    width = figure.get_figwidth()
    panel_height = min(max(shapes), 1.6) * min(width / columns, 4.5)
    figure.set_size_inches(width, rows * (panel_height + extra_in) + 0.4)


def write(figure: Figure, path: Path) -> None:
    with written_atomically(path) as aside:
        figure.savefig(aside, dpi=DPI, format="png")
