"""Sheets of images with their true and predicted labels, and what the model looked at drawn over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from data.geometry import Affine, apply, invert
from trainer.tasks.sheets import choose_samples, fit_height, panels_for_images, shortened, show_image, signed, write

RIGHT, WRONG, PLAIN = "#00795a", "#c1121f", "#111827"
# Times the mean. What is looked at no more than that stays as it is; what is looked at a little more stays faint.
UNSEEN, LEAST_STRONG = 1.0, 1.2
SMOOTH = 16  # points drawn for a cell, along each axis


@dataclass(frozen=True)
class Samples:
    """Judged images: `index` (N,) of the records, `error` (N,) which ranks them, a caption and its colour of each."""

    index: np.ndarray
    error: np.ndarray
    captions: list[str]
    colours: list[str]


def class_samples(
    index: np.ndarray, probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str]
) -> Samples:
    """Images ranked by how improbable the model finds their class; probabilities (N, C), targets (N,)."""
    predicted = probabilities.argmax(axis=1)
    of_truth = probabilities[np.arange(len(targets)), targets]
    names = [shortened(name, 30) for name in class_names]
    captions = []
    for row, (guess, truth) in enumerate(zip(predicted, targets, strict=True)):
        sure = f"{100 * probabilities[row, guess]:.0f} %"
        if guess == truth:
            captions.append(f"{names[truth]} ({sure}), right")
        else:
            captions.append(f"predicted {names[guess]} ({sure})\ntrue {names[truth]} ({100 * of_truth[row]:.0f} %)")
    colours = [RIGHT if guess == truth else WRONG for guess, truth in zip(predicted, targets, strict=True)]
    return Samples(index, 1 - of_truth, captions, colours)


def number_samples(index: np.ndarray, predicted: np.ndarray, targets: np.ndarray, unit: str) -> Samples:
    """Images ranked by the absolute error; predicted and targets (N,) in `unit`, which may be empty."""
    errors = predicted - targets
    captions = [
        f"true {truth:.4g}, predicted {guess:.4g}\nerror {signed(error)} {unit}".rstrip()
        for guess, truth, error in zip(predicted, targets, errors, strict=True)
    ]
    return Samples(index, np.abs(errors), captions, [PLAIN] * len(errors))


def write_samples(
    folder: Path,
    read: Callable[[int], np.ndarray],
    image_names: Sequence[str],
    samples: Samples,
    *,
    count: int,
    attention: np.ndarray | None = None,
    affine_of: Callable[[int], Affine] | None = None,
    input_size: tuple[int, int] | None = None,
) -> list[Path]:
    """One sheet each, samples_<best, median, worst>.png, of `count` images; none is shown twice.

    attention: (N, h, w), which sums to 1 over an image and covers the input of `input_size` (height, width);
    affine_of: the map of a record's image px to input px. All three or none. A sheet without images is not written.
    """
    scale = None if attention is None or not len(attention) else attention_scale(attention)
    paths = []
    for kind, rows in choose_samples(samples.error, count).items():
        path = folder / f"samples_{kind}.png"
        if not rows:
            path.unlink(missing_ok=True)  # of an earlier part of the run
            continue
        figure, panels = panels_for_images(len(rows))
        for axes, row in zip(panels, rows, strict=True):
            index = int(samples.index[row])
            show_image(axes, read(index))
            axes.set_anchor("N")
            name = shortened(Path(image_names[index]).name, 34)
            title = f"{name}\n{samples.captions[row]}"
            axes.set_title(title, fontsize=9, color=samples.colours[row], parse_math=False)
            if attention is not None and scale is not None:
                assert affine_of is not None
                assert input_size is not None
                draw_attention(axes, attention[row], scale, affine_of(index), input_size)
        fit_height(figure, panels, extra_in=0.65)
        if scale is not None:
            _explain(figure, panels, scale)
        write(figure, path)
        paths.append(path)
    return paths


def draw_attention(
    axes: Axes, attention: np.ndarray, scale: Normalize, affine: Affine, input_size: tuple[int, int]
) -> None:
    """Lay the map (h, w) over the image that the axes show, where the input of `input_size` (height, width) was."""
    height, width = input_size
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    (left, top), (right, bottom) = apply(invert(affine), corners)
    limits = axes.get_xlim(), axes.get_ylim()
    size = (SMOOTH * attention.shape[1], SMOOTH * attention.shape[0])
    smooth = cv2.resize(attention * attention.size, size, interpolation=cv2.INTER_CUBIC)
    extent = (left, right, bottom, top)
    axes.imshow(smooth, cmap=_colours(), norm=scale, extent=extent, aspect="equal", interpolation="bilinear")
    axes.set(xlim=limits[0], ylim=limits[1])


def attention_scale(attention: np.ndarray) -> Normalize:
    """From the mean to the strongest cell of a typical image: one scale for all sheets."""
    strongest = attention.max(axis=(1, 2)) * attention[0].size
    return Normalize(UNSEEN, max(LEAST_STRONG, float(np.median(strongest))), clip=True)


def _colours() -> ListedColormap:
    """From clear over yellow to red."""
    steps = np.linspace(0, 1, 256)
    return ListedColormap(np.column_stack([np.ones(256), 0.9 * (1 - steps), np.zeros(256), 0.5 * steps]))


def _explain(figure: Figure, panels: list[Axes], scale: Normalize) -> None:
    shades = ScalarMappable(scale, _colours())
    bar = figure.colorbar(shades, ax=panels, location="bottom", aspect=50, shrink=0.6, pad=0.02, panchor=False)
    bar.set_label("attention, times the mean of the image", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_facecolor("#6b7280")  # of an image on which clear and faint can be told apart
