"""Images at the size of a network's input in files, found again by later runs, under a budget."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import mmap
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL

DIGEST_BYTES = 16
HEADER = struct.Struct("<4sIIII")  # MAGIC, CRC-32 of the pixels, height, width, channels (0 for gray without an axis)
MAGIC = b"img1"
# What else lies in the folder is not ours to count or to clear.
FOLDER, ENTRY, HALF_WRITTEN = (re.compile(name) for name in ("[0-9a-f]{2}", "[0-9a-f]{30}", "[.][0-9a-f]{16}"))
SPARE = 0.05  # of the budget: so much is made free at once, and written before the folder is measured again
STALE_SECONDS = 3600  # after which a half-written file has nobody who writes it
# What else decides on the pixels.
DECODERS = f"{MAGIC!r} {cv2.__version__} {PIL.__version__}".encode()

log = logging.getLogger(__name__)


def default_folder() -> Path:
    """In the user's cache folder (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "trainer" / "images"


class DiskCache:
    """Images (H, W) or (H, W, 3) uint8 in files of `folder`, `max_gb` of them; several processes may share it.

    A file is whole or not there; one that is broken all the same counts as not there. Where the budget is used up, the
    images that were not asked for since this cache was made leave, the one that was not asked for longest first; where
    that is none of them, nothing more is kept: a run that is larger than the budget would push out what it needs next.
    A disk that is full, or can't be written, is told once.

    Raises:
        ValueError: the folder can't be made or read.
    """

    def __init__(self, folder: Path, max_gb: float) -> None:
        self.folder = folder
        self.max_bytes = int(max_gb * 2**30)
        self._began = time.time()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # X-rays are nobody else's business
            used = sum(entry.num_bytes for entry in self._entries())
        except OSError as error:
            raise ValueError(
                f"data.disk_cache_dir={folder} can't be used ({error.strerror}); name a folder that you may write to, "
                "or leave it off with data.disk_cache_gb=0"
            ) from None
        # Shared with worker processes: bytes used, bytes written since they were counted, whether nothing more is kept.
        self._state = np.frombuffer(mmap.mmap(-1, 24), np.int64)
        self._state[0] = used

    def __getstate__(self) -> tuple[Path, int]:
        return self.folder, self.max_bytes

    def __setstate__(self, state: tuple[Path, int]) -> None:
        self.__init__(state[0], state[1] / 2**30)  # type: ignore[misc]  # of a process that is not a fork

    def get(self, key: bytes) -> np.ndarray | None:
        """The image that was put there; None: there is none."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):  # of another user, or not to be written to: of use all the same
            os.utime(path)
        if len(content) < HEADER.size:
            return None
        magic, checksum, height, width, channels = HEADER.unpack_from(content)
        pixels = memoryview(content)[HEADER.size :]
        shape = (height, width, channels) if channels else (height, width)
        if magic != MAGIC or len(pixels) != np.prod(shape, dtype=np.int64) or zlib.crc32(pixels) != checksum:
            return None
        return np.frombuffer(pixels, np.uint8).reshape(shape)

    def put(self, key: bytes, image: np.ndarray) -> None:
        size = HEADER.size + image.nbytes
        if self._state[2] or not self._has_room(size):
            return
        path = self._path(key)
        aside = path.with_name(f".{os.urandom(8).hex()}")  # process ids are not unique: containers, machines
        pixels = np.ascontiguousarray(image).data
        channels = image.shape[2] if image.ndim == 3 else 0
        try:
            path.parent.mkdir(exist_ok=True)
            with aside.open("wb") as file:
                file.write(HEADER.pack(MAGIC, zlib.crc32(pixels), *image.shape[:2], channels))
                file.write(pixels)
            aside.replace(path)
        except OSError as error:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            self._give_up(error)
            return
        self._state[:2] += size

    def _path(self, key: bytes) -> Path:
        return self.folder / key.hex()[:2] / key.hex()[2:]

    def _give_up(self, error: OSError) -> None:
        self._state[2] = 1
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        log.warning(
            "%s: %s (%s); images are no more kept there. data.disk_cache_gb=0 does without",
            *(self.folder, "the disk is full" if full else "can't be written to", error.strerror),
        )

    def _has_room(self, size: int) -> bool:
        """Whether an image fits, perhaps once others have left."""
        used, written = self._state[:2].tolist()
        if written < SPARE * self.max_bytes and used + size <= self.max_bytes:
            return True
        try:
            with (self.folder / ".lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # one measures and clears at a time
                self._clear(size)
        except OSError as error:
            self._give_up(error)
            return False
        if self._state[0] + size <= self.max_bytes:
            return True
        self._state[2] = 1  # all that is there is of use to this run
        return False

    def _clear(self, size: int) -> None:
        entries = sorted(self._entries(), key=lambda entry: entry.used_at)
        used = sum(entry.num_bytes for entry in entries)
        if used + size > self.max_bytes:
            for entry in entries:
                if entry.used_at >= self._began or used + size <= (1 - SPARE) * self.max_bytes:
                    break
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)
                used -= entry.num_bytes
        self._state[:2] = used, 0

    def _entries(self) -> Iterator[_Entry]:
        """Of all files; those that were left half-written go."""
        for folder in os.scandir(self.folder):
            if not FOLDER.fullmatch(folder.name) or not folder.is_dir():
                continue
            for file in os.scandir(folder):
                with suppress(FileNotFoundError):  # another process has just cleared it
                    told = file.stat()
                    if ENTRY.fullmatch(file.name):
                        yield _Entry(file.path, told.st_size, told.st_mtime)
                    elif HALF_WRITTEN.fullmatch(file.name) and told.st_mtime < time.time() - STALE_SECONDS:
                        os.unlink(file.path)


@dataclass(frozen=True)
class _Entry:
    path: str
    num_bytes: int
    used_at: float


class FilesOnDisk:
    """What is made of the files of records, found in a disk cache by the content of the file.

    content: the bytes of the file of a record, None where it has none; they are read once, by one of the processes.
    """

    def __init__(self, disk: DiskCache, content: Callable[[int], bytes | None], count: int) -> None:
        self.disk = disk
        self.content = content
        self._open(count)

    def __getstate__(self) -> tuple[DiskCache, Callable[[int], bytes | None], int]:
        return self.disk, self.content, len(self._digests)

    def __setstate__(self, state: tuple[DiskCache, Callable[[int], bytes | None], int]) -> None:
        self.disk, self.content, size = state
        self._open(size)

    def image(self, index: int, recipe: bytes, make: Callable[[bytes | None], np.ndarray]) -> np.ndarray:
        """What `make` makes of the content of a file; `recipe` tells apart what else decides on the pixels."""
        known = self._digests[index].tobytes()
        if any(known) and (kept := self.disk.get(_digest(known, recipe, DECODERS))) is not None:
            return kept
        content = self.content(index)
        if content is None:
            return make(None)
        known = _digest(content)
        self._digests[index] = np.frombuffer(known, np.uint8)
        key = _digest(known, recipe, DECODERS)
        kept = self.disk.get(key)
        if kept is None:
            kept = make(content)
            self.disk.put(key, kept)
        return kept

    def _open(self, size: int) -> None:
        # Zero where a file was not read yet; shared with worker processes.
        self._digests = np.frombuffer(mmap.mmap(-1, DIGEST_BYTES * max(1, size)), np.uint8).reshape(-1, DIGEST_BYTES)


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=DIGEST_BYTES).digest()
