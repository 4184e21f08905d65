"""A decoded picture to the pixels that the network's input is made of, by whoever reads it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from data.geometry import Fit, Region, fit_image, resize_image, resize_reduced
from data.images import Picture, Size


def least_size(input_size: tuple[int, int], fit: str, region: Region) -> Callable[[Size], Size]:
    """What `decode_image` has to leave of an image of a size, so that `region` of it can be fitted into `input_size`
    (height, width), mode `fit`."""

    def of(size: Size) -> Size:
        fitted = fit_image(size, input_size, fit, region)
        return fitted.width, fitted.height

    return of


def fitted(picture: Picture, fit: Fit, part: tuple[slice, slice]) -> np.ndarray:
    """A part (rows, columns) of the picture at the fit's size, (h, w) where it has no colour, else (h, w, 3)."""
    pixels = _without_empty_colour(picture.pixels)
    if picture.factor == 1:
        return resize_image(pixels, fit, part)
    return resize_reduced(pixels, fit, part, picture.factor)


def _without_empty_colour(pixels: np.ndarray) -> np.ndarray:
    """X-rays are often stored in three equal channels: one holds all of it, for a third of the work and room."""
    if pixels.ndim == 2:
        return pixels
    row = pixels[len(pixels) // 2]
    if (row != row[:, :1]).any():  # photos are known by a row
        return pixels
    first = cv2.extractChannel(pixels, 0)
    same = all(np.array_equal(first, cv2.extractChannel(pixels, channel)) for channel in (1, 2))
    return first if same else pixels
