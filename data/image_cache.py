"""Images at the size of the network's input, decoded once as long as there is room for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from data.errors import DataError
from data.geometry import Affine, Fit, compose, fit_image, pad_image, resize_image, translation, warp_image


class ResizedImages:
    """The images of records, fitted into `input_size` (height, width), mode `fit` (letterbox or stretch).

    Up to `cache_gb` of them stay in memory as they are after the fit, before padding and augmentation.
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
    ) -> None:
        self.image_names = image_names
        self.sizes = sizes
        self.read = read
        self.input_size = input_size
        self.mode = fit
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = cache_gb * 2**30
        self._cached_bytes = 0

    def fit(self, index: int) -> Fit:
        return fit_image(tuple(self.sizes[index]), self.input_size, self.mode)

    def plain(self, index: int) -> np.ndarray:
        """(H, W) or (H, W, 3) uint8, the image on the black canvas of the input."""
        fit = self.fit(index)
        return pad_image(self._resized(index, fit), fit, self.input_size)

    def moved(self, index: int, affine: Affine) -> np.ndarray:
        """The same, seen through `affine` (input px -> input px)."""
        fit = self.fit(index)
        from_resized = compose(affine, translation(fit.pad_left, fit.pad_top))
        return warp_image(self._resized(index, fit), from_resized, self.input_size)

    def _resized(self, index: int, fit: Fit) -> np.ndarray:
        if index in self._cache:
            return self._cache[index]
        image = self.read(index)
        if image.shape[1::-1] != tuple(self.sizes[index]):
            width, height = self.sizes[index]
            raise DataError(
                f"{self.image_names[index]}: {image.shape[1]} x {image.shape[0]} px, but {width} x {height} "
                "when the run began. Don't change images while a run reads them."
            )
        resized = resize_image(image, fit)
        worker = get_worker_info()  # workers share no memory, so each has its part of the room
        if self._cached_bytes + resized.nbytes <= self._cache_bytes / (worker.num_workers if worker else 1):
            self._cache[index] = resized
            self._cached_bytes += resized.nbytes
        return resized


def as_rgb_tensor(image: np.ndarray) -> Tensor:
    """(3, H, W) uint8 of a gray or RGB image."""
    rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
