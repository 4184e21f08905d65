"""Affine maps between image pixels and input pixels. Integer coordinates are pixel centres.

An affine is a (2, 3) float64 array that maps column vectors (x, y, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Affine = np.ndarray


@dataclass(frozen=True)
class Region:
    """A box in shares of an image's width and height, whose edges are 0 and 1."""

    left: float
    top: float
    right: float
    bottom: float


WHOLE = Region(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Fit:
    """How an image is laid into the network's input: resized to `width` x `height`, then placed with its first pixel at
    (`left`, `top`), which is negative where the input shows a part of the image only."""

    width: int
    height: int
    left: int
    top: int
    resize: Affine  # image px -> resized px

    @property
    def affine(self) -> Affine:
        """Image px -> input px."""
        return compose(translation(self.left, self.top), self.resize)

    def part(self, input_size: tuple[int, int], reserve: tuple[int, int] = (0, 0)) -> tuple[slice, slice]:
        """Rows and columns of the resized image that lie in the input, or less than `reserve` (x, y) px beside it."""
        (height, width), (beside, above) = input_size, reserve
        rows = slice(max(0, -self.top - above), min(self.height, height - self.top + above))
        return rows, slice(max(0, -self.left - beside), min(self.width, width - self.left + beside))


def fit_image(size: tuple[int, int], input_size: tuple[int, int], mode: str, region: Region = WHOLE) -> Fit:
    """The fit of an image of `size` (width, height), or of a region of it, into `input_size` (height, width).

    mode: letterbox or stretch. The region fills the input as far as its shape permits, to the nearest pixel, and what
    the image holds beside it fills the rest.
    """
    (width, height), (input_height, input_width) = size, input_size
    scale_x = input_width / (width * (region.right - region.left))
    scale_y = input_height / (height * (region.bottom - region.top))
    if mode == "letterbox":
        scale_x = scale_y = min(scale_x, scale_y)
    fitted_width, fitted_height = max(1, round(width * scale_x)), max(1, round(height * scale_y))
    scale_x, scale_y = fitted_width / width, fitted_height / height
    # Pixel edges scale by s; with centres at integers that is x -> (x + 0.5) s - 0.5.
    resize = np.array([[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5]])
    left = _place(fitted_width, input_width, region.left + region.right)
    top = _place(fitted_height, input_height, region.top + region.bottom)
    return Fit(fitted_width, fitted_height, left, top, resize)


def _place(length: int, room: int, ends: float) -> int:
    """Where an axis of the resized image begins in the input: in the middle, or where it is longer than the input so
    that the region, whose ends sum to `ends`, is in the middle, and the image does not end before the input does."""
    if length <= room:
        return (room - length) // 2
    return min(0, max(room - length, round((room - ends * length) / 2)))


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


def resize_image(image: np.ndarray, fit: Fit, part: tuple[slice, slice]) -> np.ndarray:
    """A part (rows, columns) of `image`, (H, W) or (H, W, 3), at the fit's size: averaged along axes that shrink
    (no aliasing), else linear."""
    height, width = image.shape[:2]
    least = (min(fit.width, width), min(fit.height, height))
    # In two goes, because OpenCV averages, and keeps positions, only where neither axis grows.
    if least != (width, height):
        image = cv2.resize(image, least, interpolation=cv2.INTER_AREA)
    rows, columns = part
    size = (columns.stop - columns.start, rows.stop - rows.start)
    if least == (fit.width, fit.height):
        return image if size == least else image[part].copy()  # not a view, which would keep all of it in memory
    if size == (fit.width, fit.height):
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    # The part alone: a small region makes the whole of a large image larger still.
    scale_x, scale_y = fit.width / least[0], fit.height / least[1]
    grow = np.array([[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5]])
    affine = compose(translation(-columns.start, -rows.start), grow)
    return cv2.warpAffine(image, affine, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def resize_reduced(image: np.ndarray, fit: Fit, part: tuple[slice, slice], factor: int) -> np.ndarray:
    """The same of an image that was reduced: a pixel of `image` is the mean of `factor` x `factor` px of the whole, but
    for the last column and row, which may hold fewer. It has to be larger than the fit along both axes."""
    # By scales: resized to a size, OpenCV would take the last column for a whole one, and shift all.
    scale_x, scale_y = factor * fit.resize[0, 0], factor * fit.resize[1, 1]
    return cv2.resize(image, None, fx=scale_x, fy=scale_y, interpolation=cv2.INTER_AREA)[part].copy()


def warp_image(image: np.ndarray, affine: Affine, input_size: tuple[int, int]) -> np.ndarray:
    """`image` seen through `affine` (its px -> input px), bicubic, black outside; (H, W) or (H, W, 3)."""
    height, width = input_size
    # Bilinear would blur what is trained on (a fifth less fine detail in X-rays), and not what is evaluated.
    return cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)


def pad_image(image: np.ndarray, corner: tuple[int, int], input_size: tuple[int, int]) -> np.ndarray:
    """`image`, with its first pixel at `corner` (x, y), on the black canvas of the input."""
    (left, top), (height, width) = corner, image.shape[:2]
    rows = slice(max(0, top), min(input_size[0], top + height))
    columns = slice(max(0, left), min(input_size[1], left + width))
    canvas = np.zeros((*input_size, *image.shape[2:]), image.dtype)
    canvas[rows, columns] = image[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return canvas
