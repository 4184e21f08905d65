"""From an image to the network's input, one image at a time, as the data sets of a run do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data.fitting import fitted, least_size
from data.geometry import WHOLE, Affine, Fit, Region, compose, fit_image, pad_image, translation, warp_image
from data.images import Picture, Size


@dataclass(frozen=True)
class Preprocessing:
    """`region` of an image fitted into `input_size` (height, width), mode `fit` (letterbox or stretch)."""

    input_size: tuple[int, int]
    fit: str
    region: Region = WHOLE

    @property
    def least(self) -> Callable[[Size], Size]:
        """What `decode_image` has to leave of an image, so that its views lose nothing."""
        return least_size(self.input_size, self.fit, self.region)

    def views(
        self, image: np.ndarray | Picture, moves: Sequence[Affine] = (), reserve: tuple[int, int] = (0, 0)
    ) -> tuple[np.ndarray, np.ndarray]:
        """The input of an image, then one for each of `moves` (input px -> input px).

        image: (H, W) or (H, W, 3) uint8, or what `least` permits of it;
        reserve: px (x, y) beside the input that the moves may look at (Augmentation.reach).

        Returns:
            V = 1 + len(moves) views (V, 3, height, width) uint8 RGB, and their affines (V, 2, 3), image px -> input px.
        """
        picture = image if isinstance(image, Picture) else Picture(image, (image.shape[1], image.shape[0]))
        fit = fit_image(picture.size, self.input_size, self.fit, self.region)
        part, corner = self._part(picture, fit, (0, 0))
        views = [pad_image(part, corner, self.input_size)]
        if moves:
            part, corner = self._part(picture, fit, reserve)
            views += [warp_image(part, compose(move, translation(*corner)), self.input_size) for move in moves]
        affines = [fit.affine, *(compose(move, fit.affine) for move in moves)]
        return np.stack([_as_rgb(view) for view in views]), np.stack(affines)

    def _part(self, picture: Picture, fit: Fit, reserve: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
        """What of the resized image lies in the input or its reserve, and where in the input its corner (x, y) is."""
        rows, columns = fit.part(self.input_size, reserve)
        return fitted(picture, fit, (rows, columns)), (fit.left + columns.start, fit.top + rows.start)


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """(3, H, W) of a gray or RGB image."""
    return np.broadcast_to(image, (3, *image.shape)) if image.ndim == 2 else image.transpose(2, 0, 1)
