"""From an image to the network's input, one image at a time, as the data sets of a run do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.geometry import WHOLE, Affine, Region, compose, fit_image, pad_image, resize_image, translation, warp_image


@dataclass(frozen=True)
class Preprocessing:
    """`region` of an image fitted into `input_size` (height, width), mode `fit` (letterbox or stretch)."""

    input_size: tuple[int, int]
    fit: str
    region: Region = WHOLE

    def views(self, image: np.ndarray, moves: Sequence[Affine] = ()) -> tuple[np.ndarray, Affine]:
        """The input of an image (H, W) or (H, W, 3) uint8, then one for each of `moves` (input px -> input px).

        Returns:
            (1 + len(moves), 3, height, width) uint8 RGB, and the affine of the first, image px -> input px.
        """
        fit = fit_image((image.shape[1], image.shape[0]), self.input_size, self.fit, self.region)
        rows, columns = fit.part(self.input_size)
        part = resize_image(image, fit, (rows, columns))
        corner = (fit.left + columns.start, fit.top + rows.start)
        views = [pad_image(part, corner, self.input_size)]
        views += [warp_image(part, compose(move, translation(*corner)), self.input_size) for move in moves]
        return np.stack([_as_rgb(view) for view in views]), fit.affine


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """(3, H, W) of a gray or RGB image."""
    return np.broadcast_to(image, (3, *image.shape)) if image.ndim == 2 else image.transpose(2, 0, 1)
