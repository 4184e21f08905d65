"""Reading each image of the data once: size, kind, contents, and a thumbnail to compare it by."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.errors import DataError
from data.images import FORMATS, read_image, read_size
from trainer.inspection.subject import Subject

THUMB = 32  # px, both sides
MOST_THREADS = 8
# Modes of Pillow in words; what the network is given is 8 bits, gray or RGB, in any case.
MODES = {
    "1": "gray 1 bit",
    "L": "gray 8 bit",
    "LA": "gray 8 bit with alpha",
    "La": "gray 8 bit with alpha",
    "I": "gray 32 bit",
    "F": "gray float",
    "P": "palette",
    "PA": "palette with alpha",
    "RGB": "RGB",
    "RGBA": "RGB with alpha",
    "RGBa": "RGB with alpha",
}


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image; `fault` says why there is no more. Without its pixels, what needs them is None."""

    fault: str | None
    width: int = 0  # upright, px
    height: int = 0
    mode: str = ""
    format: str = ""
    num_bytes: int = 0
    content: bytes | None = None  # digest of the file
    pixels: bytes | None = None  # digest of what the network's input is made of
    colour: bool = False  # three channels
    low: int | None = None  # least and greatest value of any pixel
    high: int | None = None
    thumbnail: np.ndarray | None = None  # (THUMB, THUMB) uint8 gray


def image_facts(subject: Subject, *, pixels: bool) -> list[ImageFacts | None]:
    """The facts of each row's image, None where there is no file. `pixels`: decode it, else the header must do."""
    rows = [row for row in range(len(subject)) if subject.paths is None or subject.paths[row] is not None]
    facts: list[ImageFacts | None] = [None] * len(subject)

    def look(row: int) -> ImageFacts:
        if subject.drawn is not None:
            return _of_pixels(subject.drawn(row), ImageFacts(None, format="drawn"))
        assert subject.paths is not None
        path = subject.paths[row]
        assert path is not None
        return _facts(path, pixels=pixels)

    # Decoders let go of Python's lock, so threads read as many images at a time as there are cores for this process;
    # more than a few at a time would fill the memory with large images.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(MOST_THREADS, cores)) as threads, _bar("reading images", len(rows)) as advance:
        for row, one in zip(rows, threads.map(look, rows), strict=True):
            facts[row] = one
            advance()
    return facts


def _facts(path: Path, *, pixels: bool) -> ImageFacts:
    try:
        if not pixels:
            width, height = read_size(path)
            with Image.open(path, formats=FORMATS) as image:
                return ImageFacts(None, width, height, _mode(image), image.format or "", path.stat().st_size)
        decoded = read_image(path)
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            header = ImageFacts(None, mode=_mode(image), format=image.format or "", num_bytes=len(content))
        return _of_pixels(decoded, header, hashlib.blake2b(content, digest_size=16).digest())
    except (DataError, OSError) as error:
        return ImageFacts(str(error).removeprefix(f"{path}: "))


def _mode(image: Image.Image) -> str:
    """In words."""
    return MODES.get(image.mode, "gray 16 bit" if image.mode.startswith("I;") else image.mode)


def _of_pixels(pixels: np.ndarray, header: ImageFacts, content: bytes | None = None) -> ImageFacts:
    height, width = pixels.shape[:2]
    colour = pixels.ndim == 3
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if colour else pixels
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return ImageFacts(
        None,
        width,
        height,
        header.mode or ("RGB" if colour else "gray 8 bit"),
        header.format,
        header.num_bytes or pixels.nbytes,
        content,
        digest.digest(),
        colour,
        int(pixels.min()),
        int(pixels.max()),
        cv2.resize(gray, (THUMB, THUMB), interpolation=cv2.INTER_AREA),
    )


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar that goes away when all is read; nothing where the output is not a terminal."""
    if not sys.stdout.isatty():
        yield lambda: None
        return
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
