"""Images at the size of the network's input, decoded once as long as there is room for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from data.errors import DataError
from data.fitting import fitted, least_size
from data.geometry import WHOLE, Affine, Fit, Region, compose, fit_image, pad_image, translation, warp_image
from data.image_files import ImageReader
from data.images import Picture


class ResizedImages:
    """The images of records, or a region of each, fitted into `input_size` (height, width), mode `fit` (letterbox or
    stretch).

    Up to `cache_gb` of them stay in memory as they are after the fit, before padding and augmentation. `reserve` (x, y)
    is how many input px beside the input `moved` may show: what the image holds there is kept too.
    """

    def __init__(
        self,
        *,
        image_names: Sequence[str],
        sizes: np.ndarray,
        read: Callable[[int], np.ndarray],
        input_size: tuple[int, int],
        fit: str,
        cache_gb: float,
        region: Region = WHOLE,
        reserve: tuple[int, int] = (0, 0),
    ) -> None:
        self.image_names = image_names
        self.sizes = sizes
        self.read = read
        self.input_size = input_size
        self.mode = fit
        self.region = region
        self.reserve = reserve
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = cache_gb * 2**30
        self._cached_bytes = 0

    def at(self, input_size: tuple[int, int], reserve: tuple[int, int] = (0, 0)) -> ResizedImages:
        """The same at another input size. What this one keeps makes room for what that one will."""
        self._cache, self._cached_bytes = {}, 0
        return ResizedImages(
            image_names=self.image_names,
            sizes=self.sizes,
            read=self.read,
            input_size=input_size,
            fit=self.mode,
            cache_gb=self._cache_bytes / 2**30,
            region=self.region,
            reserve=reserve,
        )

    def fit(self, index: int) -> Fit:
        return fit_image(tuple(self.sizes[index]), self.input_size, self.mode, self.region)

    def plain(self, index: int) -> np.ndarray:
        """(H, W) or (H, W, 3) uint8, the image on the black canvas of the input."""
        part, corner = self._part(index)
        return pad_image(part, corner, self.input_size)

    def moved(self, index: int, affine: Affine) -> np.ndarray:
        """The same, seen through `affine` (input px -> input px)."""
        part, corner = self._part(index)
        return warp_image(part, compose(affine, translation(*corner)), self.input_size)

    def _part(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        """What is kept of the resized image, and where in the input its first pixel lies (x, y)."""
        fit = self.fit(index)
        rows, columns = fit.part(self.input_size, self.reserve)
        return self._resized(index, fit, (rows, columns)), (fit.left + columns.start, fit.top + rows.start)

    def _resized(self, index: int, fit: Fit, part: tuple[slice, slice]) -> np.ndarray:
        if index in self._cache:
            return self._cache[index]
        picture = self._read(index)
        if picture.size != tuple(self.sizes[index]):
            (width, height), before = picture.size, self.sizes[index]
            raise DataError(
                f"{self.image_names[index]}: {width} x {height} px, but {before[0]} x {before[1]} when the run began. "
                "Don't change images while a run reads them."
            )
        resized = fitted(picture, fit, part)
        worker = get_worker_info()  # workers share no memory, so each has its part of the room
        if self._cached_bytes + resized.nbytes <= self._cache_bytes / (worker.num_workers if worker else 1):
            self._cache[index] = resized
            self._cached_bytes += resized.nbytes
        return resized

    def _read(self, index: int) -> Picture:
        if isinstance(self.read, ImageReader):
            least = least_size(self.input_size, self.mode, self.region)
            return self.read.decoded(index, self.read.content(index), least)
        pixels = self.read(index)
        return Picture(pixels, (pixels.shape[1], pixels.shape[0]))


def as_rgb_tensor(image: np.ndarray) -> Tensor:
    """(3, H, W) uint8 of a gray or RGB image."""
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    if image.ndim == 2:
        planes[:] = image
    else:
        for channel, plane in enumerate(planes):
            cv2.extractChannel(image, channel, plane)
    return torch.from_numpy(planes)
