"""Affine maps between image pixels and input pixels. Integer coordinates are pixel centres.

An affine is a (2, 3) float64 array that maps column vectors (x, y, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Affine = np.ndarray


@dataclass(frozen=True)
class Fit:
    """How an image is laid into the network's input: resized to `width` x `height`, then padded on the left and top."""

    width: int
    height: int
    pad_left: int
    pad_top: int
    resize: Affine  # image px -> resized px

    @property
    def affine(self) -> Affine:
        """Image px -> input px."""
        return compose(translation(self.pad_left, self.pad_top), self.resize)


def fit_image(size: tuple[int, int], input_size: tuple[int, int], mode: str) -> Fit:
    """The fit of an image of `size` (width, height) into `input_size` (height, width), mode letterbox or stretch."""
    (width, height), (input_height, input_width) = size, input_size
    fitted_width, fitted_height = input_width, input_height
    if mode == "letterbox":
        scale = min(input_width / width, input_height / height)
        fitted_width = min(input_width, max(1, round(width * scale)))
        fitted_height = min(input_height, max(1, round(height * scale)))
    scale_x, scale_y = fitted_width / width, fitted_height / height
    # Pixel edges scale by s; with centres at integers that is x -> (x + 0.5) s - 0.5.
    resize = np.array([[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5]])
    return Fit(
        fitted_width, fitted_height, (input_width - fitted_width) // 2, (input_height - fitted_height) // 2, resize
    )


def identity() -> Affine:
    return np.array([[1.0, 0, 0], [0, 1.0, 0]])


def translation(dx: float, dy: float) -> Affine:
    return np.array([[1.0, 0, dx], [0, 1.0, dy]])


def around(centre: tuple[float, float], linear: np.ndarray) -> Affine:
    """The (2, 2) map `linear` about a fixed point."""
    fixed = np.asarray(centre, dtype=np.float64)
    return np.column_stack([linear, fixed - linear @ fixed])


def mirror(width: int) -> Affine:
    """Left-right mirror of an image `width` px wide: x -> width - 1 - x."""
    return np.array([[-1.0, 0, width - 1], [0, 1.0, 0]])


def compose(second: Affine, first: Affine) -> Affine:
    """The affine that applies `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def invert(affine: Affine) -> Affine:
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def apply(affine: Affine, points: np.ndarray) -> np.ndarray:
    """Map (..., 2) points; NaN stays NaN."""
    return points @ affine[:, :2].T + affine[:, 2]


def resize_image(image: np.ndarray, fit: Fit) -> np.ndarray:
    """`image` (H, W) or (H, W, 3) at the fit's size: averaged along axes that shrink (no aliasing), else linear."""
    height, width = image.shape[:2]
    least = (min(fit.width, width), min(fit.height, height))
    # In two goes, because OpenCV averages, and keeps positions, only where neither axis grows.
    if least != (width, height):
        image = cv2.resize(image, least, interpolation=cv2.INTER_AREA)
    if least != (fit.width, fit.height):
        image = cv2.resize(image, (fit.width, fit.height), interpolation=cv2.INTER_LINEAR)
    return image


def warp_image(image: np.ndarray, affine: Affine, input_size: tuple[int, int]) -> np.ndarray:
    """`image` seen through `affine` (its px -> input px), bilinear, black outside; (H, W) or (H, W, 3)."""
    height, width = input_size
    return cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def pad_image(image: np.ndarray, fit: Fit, input_size: tuple[int, int]) -> np.ndarray:
    """A resized image on the black canvas of the input."""
    canvas = np.zeros((*input_size, *image.shape[2:]), image.dtype)
    canvas[fit.pad_top : fit.pad_top + fit.height, fit.pad_left : fit.pad_left + fit.width] = image
    return canvas
