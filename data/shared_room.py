"""Arrays in memory that a process shares with the worker processes that it starts."""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import tempfile
import weakref
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

# Linux: a room larger than what is put into it costs nothing. Named by mmap from Python 3.13 on.
NOT_RESERVED = 0x4000 if sys.platform == "linux" else 0
CHANNELS = 4  # a word is CHANNELS times the place of an array and, beside it, how many channels that has; 0 is none


class SharedRoom:
    """Images by number, (H, W) or (H, W, 3) uint8: what one of the processes puts in, all of them find.

    What is put in stays. Once there are `num_bytes` of them, nothing more is kept. Pages take memory when an image is
    written to them. A process that is not forked from its parent (macOS) has a room of its own, a part as large.

    Raises:
        OSError: the system gives no such memory.
    """

    def __init__(self, count: int, num_bytes: int) -> None:
        self.count = count
        self.num_bytes = num_bytes
        self._is_whole = True
        self._open()

    def __getstate__(self) -> tuple[int, int]:
        return self.count, self.num_bytes

    def __setstate__(self, state: tuple[int, int]) -> None:
        self.count, self.num_bytes = state
        self._is_whole = False
        self._open()

    def get(self, number: int, size: tuple[int, int]) -> np.ndarray | None:
        """The image of this number and `size` (height, width), which is not to be written to; None: it is not kept."""
        place, channels = divmod(int(self._words[number]), CHANNELS)
        if not channels:
            return None
        shape = size if channels == 1 else (*size, channels)
        found: np.ndarray = np.ndarray(shape, np.uint8, self._map, place)
        found.flags.writeable = False
        return found

    @property
    def used_bytes(self) -> int:
        """Of the images that were put in, by whatever process."""
        return int(self._words[-1])

    def put(self, number: int, image: np.ndarray) -> None:
        """Keeps a copy, where there is room."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)  # which the system unlocks if this process is killed
        try:
            used = int(self._words[-1])
            if self._words[number] or used + image.nbytes > self._limit:
                return
            place = self._first + used
            self._words[-1] = used + image.nbytes
            np.ndarray(image.shape, np.uint8, self._map, place)[...] = image
            # Last, so that nobody finds an image that is not written yet.
            self._words[number] = place * CHANNELS + (1 if image.ndim == 2 else image.shape[2])
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    @property
    def _limit(self) -> float:
        worker = get_worker_info()
        return self.num_bytes if self._is_whole or worker is None else self.num_bytes / worker.num_workers

    def _open(self) -> None:
        # A word for each image, one for the bytes that are used, then the images.
        self._first = 8 * (self.count + 1)
        self._map = mmap.mmap(-1, self._first + self.num_bytes, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | NOT_RESERVED)
        self._words: np.ndarray[Any, np.dtype[np.int64]] = np.ndarray(self.count + 1, np.int64, self._map)
        self._lock = _nameless_file()
        weakref.finalize(self, os.close, self._lock)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("images")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
