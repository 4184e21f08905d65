"""From an image to the network's input, one image at a time, as the data sets of a run do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.geometry import (
    WHOLE,
    Affine,
    Fit,
    Region,
    compose,
    fit_image,
    pad_image,
    resize_image,
    translation,
    warp_image,
)


@dataclass(frozen=True)
class Preprocessing:
    """`region` of an image fitted into `input_size` (height, width), mode `fit` (letterbox or stretch)."""

    input_size: tuple[int, int]
    fit: str
    region: Region = WHOLE

    def views(
        self, image: np.ndarray, moves: Sequence[Affine] = (), reserve: tuple[int, int] = (0, 0)
    ) -> tuple[np.ndarray, np.ndarray]:
        """The input of an image (H, W) or (H, W, 3) uint8, then one for each of `moves` (input px -> input px).

        reserve: px (x, y) beside the input that the moves may look at (Augmentation.reach).

        Returns:
            V = 1 + len(moves) views (V, 3, height, width) uint8 RGB, and their affines (V, 2, 3), image px -> input px.
        """
        fit = fit_image((image.shape[1], image.shape[0]), self.input_size, self.fit, self.region)
        part, corner = self._part(image, fit, (0, 0))
        views = [pad_image(part, corner, self.input_size)]
        if moves:
            part, corner = self._part(image, fit, reserve)
            views += [warp_image(part, compose(move, translation(*corner)), self.input_size) for move in moves]
        affines = [fit.affine, *(compose(move, fit.affine) for move in moves)]
        return np.stack([_as_rgb(view) for view in views]), np.stack(affines)

    def _part(self, image: np.ndarray, fit: Fit, reserve: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
        """What of the resized image lies in the input or its reserve, and where in the input its corner (x, y) is."""
        rows, columns = fit.part(self.input_size, reserve)
        return resize_image(image, fit, (rows, columns)), (fit.left + columns.start, fit.top + rows.start)


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """(3, H, W) of a gray or RGB image."""
    return np.broadcast_to(image, (3, *image.shape)) if image.ndim == 2 else image.transpose(2, 0, 1)
