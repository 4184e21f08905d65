"""The images of records as files, which can be read whole, reduced, or as the bytes that they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.disk_cache import DiskCache
from data.errors import DataError
from data.images import Picture, Size, decode_image, read_content


class ImageReader(ABC):
    """Reads images of records by their index; called, it gives the whole image, (H, W) or (H, W, 3) uint8.

    disk: where what is made of them is kept beyond the run.
    """

    disk: DiskCache | None

    def __call__(self, index: int) -> np.ndarray:
        return self.decoded(index, self.content(index)).pixels

    @abstractmethod
    def kept_in(self, disk: DiskCache) -> ImageReader:
        """The same with such a place."""

    @abstractmethod
    def content(self, index: int) -> bytes | None:
        """The bytes of the image's file; None where it is no file."""

    @abstractmethod
    def decoded(self, index: int, content: bytes | None, least: Callable[[Size], Size] | None = None) -> Picture:
        """The image of such content, reduced as far as `least` permits (see `decode_image`)."""


@dataclass(frozen=True)
class ImageFiles(ImageReader):
    """Raises DataError for a file that can't be read; it names the table and the line of the row, where there are."""

    paths: Sequence[Path]
    table: Path | None = None
    lines: Sequence[int] = ()
    disk: DiskCache | None = None

    def kept_in(self, disk: DiskCache) -> ImageFiles:
        return replace(self, disk=disk)

    def content(self, index: int) -> bytes:
        with self._told(index):
            return read_content(self.paths[index])

    def decoded(self, index: int, content: bytes | None, least: Callable[[Size], Size] | None = None) -> Picture:
        assert content is not None
        with self._told(index):
            return decode_image(self.paths[index], content, least)

    @contextmanager
    def _told(self, index: int) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            if self.table is None:
                raise
            raise DataError(f"{self.table}: line {self.lines[index]}, column image: {error}") from None
