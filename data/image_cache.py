"""Images at the size of the network's input, decoded once in a run as long as there is room for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from data.disk_cache import FilesOnDisk
from data.errors import DataError
from data.fitting import fitted, least_size
from data.geometry import WHOLE, Affine, Fit, Region, compose, fit_image, pad_image, translation, warp_image
from data.image_files import ImageReader
from data.images import Picture
from data.shared_room import SharedRoom

log = logging.getLogger(__name__)


class ResizedImages:
    """The images of records, or a region of each, fitted into `input_size` (height, width), mode `fit` (letterbox or
    stretch).

    Up to `cache_gb` of them stay in memory, which worker processes share, as they are after the fit, before padding and
    augmentation. `reserve` (x, y) is how many input px beside the input `moved` may show: what the image holds there is
    kept too.
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
        self.cache_gb = cache_gb
        self._room = self._empty_room()
        self._on_disk: FilesOnDisk | None = None
        if isinstance(read, ImageReader) and read.disk is not None:
            self._on_disk = FilesOnDisk(read.disk, read.content, len(image_names))

    def at(self, input_size: tuple[int, int], reserve: tuple[int, int] = (0, 0)) -> ResizedImages:
        """The same at another input size. What this one keeps makes room for what that one will."""
        self._room = self._empty_room()
        return ResizedImages(
            image_names=self.image_names,
            sizes=self.sizes,
            read=self.read,
            input_size=input_size,
            fit=self.mode,
            cache_gb=self.cache_gb,
            region=self.region,
            reserve=reserve,
        )

    def fit(self, index: int) -> Fit:
        return fit_image(tuple(self.sizes[index]), self.input_size, self.mode, self.region)

    @property
    def kept_bytes(self) -> int:
        """Of the images that are kept in memory."""
        return 0 if self._room is None else self._room.used_bytes

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
        rows, columns = part
        if self._room is not None:
            kept = self._room.get(index, (rows.stop - rows.start, columns.stop - columns.start))
            if kept is not None:
                return kept
        resized = self._made(index, fit, part)
        if self._room is not None:
            self._room.put(index, resized)
        return resized

    def _made(self, index: int, fit: Fit, part: tuple[slice, slice]) -> np.ndarray:
        read = self.read
        if not isinstance(read, ImageReader):
            pixels = read(index)
            return self._fitted(index, Picture(pixels, (pixels.shape[1], pixels.shape[0])), fit, part)

        def made(content: bytes | None) -> np.ndarray:
            least = least_size(self.input_size, self.mode, self.region)
            return self._fitted(index, read.decoded(index, content, least), fit, part)

        if self._on_disk is None:
            return made(read.content(index))
        (width, height), (rows, columns) = self.sizes[index].tolist(), part
        shape = (width, height, fit.width, fit.height, rows.start, rows.stop, columns.start, columns.stop)
        return self._on_disk.image(index, repr(shape).encode(), made)

    def _fitted(self, index: int, picture: Picture, fit: Fit, part: tuple[slice, slice]) -> np.ndarray:
        if picture.size != tuple(self.sizes[index]):
            (width, height), before = picture.size, self.sizes[index]
            raise DataError(
                f"{self.image_names[index]}: {width} x {height} px, but {before[0]} x {before[1]} when the run began. "
                "Don't change images while a run reads them."
            )
        return fitted(picture, fit, part)

    def _empty_room(self) -> SharedRoom | None:
        (height, width), (beside, above) = self.input_size, self.reserve
        most = 3 * (height + 2 * above) * (width + 2 * beside) * len(self.image_names)
        num_bytes = min(int(self.cache_gb * 2**30), most)
        try:
            return SharedRoom(len(self.image_names), num_bytes) if num_bytes else None
        except OSError as error:
            log.warning("images are decoded anew each epoch: no memory for data.cache_gb (%s)", error.strerror)
            return None


def as_rgb_tensor(image: np.ndarray) -> Tensor:
    """(3, H, W) uint8 of a gray or RGB image."""
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    if image.ndim == 2:
        planes[:] = image
    else:
        for channel, plane in enumerate(planes):
            cv2.extractChannel(image, channel, plane)
    return torch.from_numpy(planes)
