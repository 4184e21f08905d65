"""Images to predict: of a file, a folder, a pattern, a table, a list, or arrays, each with a name."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.cells import Cells, read_cells
from data.errors import DataError, did_you_mean
from data.image_folder import list_images
from data.image_paths import ImageFinder
from data.image_rows import require_image_column
from data.images import Picture, Size, decode_image, read_content
from data.tables import read_spacing

TABLES = (".csv", ".tsv", ".txt")
Images = str | Path | np.ndarray | Sequence[str | Path | np.ndarray]


@dataclass(frozen=True)
class ImageList:
    """N images, which are read one by one."""

    names: list[str]
    sources: list[Path | np.ndarray | None]  # None where `faults` says why
    spacing_mm: np.ndarray  # (N,) mm per px, NaN = unknown
    cells: Cells | None = None  # of the table that names them
    faults: dict[int, str] = field(default_factory=dict)  # of images that can't even be looked for

    def __len__(self) -> int:
        return len(self.names)

    @property
    def in_mm(self) -> bool:
        """Whether every image says how large its pixels are."""
        return bool(np.isfinite(self.spacing_mm).all())

    def read(self, index: int) -> np.ndarray:
        """(H, W) or (H, W, 3) uint8; raises DataError where that is impossible."""
        return self.read_reduced(index, None).pixels

    def read_reduced(self, index: int, least: Callable[[Size], Size] | None) -> Picture:
        """The same, reduced as far as `least` permits (see `decode_image`)."""
        source = self.sources[index]
        if source is None or index in self.faults:
            raise DataError(self.faults[index])
        if isinstance(source, Path):
            return decode_image(source, read_content(source), least)
        check_array(self.names[index], source)
        return Picture(source, (source.shape[1], source.shape[0]))


def list_of_images(
    images: Images,
    *,
    root: Path | None = None,
    allow_outside_root: bool = False,
    pixel_spacing_mm: float | None = None,
) -> ImageList:
    """What `images` stands for: an image, a folder with all images below it, a pattern such as xrays/*.png, a table
    (.csv, .tsv, .txt) with an image column, or a list of paths and of arrays (H, W) or (H, W, 3) uint8 RGB.

    `root`: the folder that the images of a table lie in (see ImageFinder). `pixel_spacing_mm` (mm per px) is for the
    images that do not state their own, which only a table can.
    Raises DataError where there is no such file, or no image in it.
    """
    if isinstance(images, np.ndarray):
        return _plain(["array_0"], [images], pixel_spacing_mm)
    if not isinstance(images, str | Path):
        given = list(images)
        if not given:
            raise DataError("there is no image in the list. Give one path or array, or more.")
        named = [f"array_{i}" if isinstance(one, np.ndarray) else str(one) for i, one in enumerate(given)]
        return _plain(named, [one if isinstance(one, np.ndarray) else Path(one) for one in given], pixel_spacing_mm)
    path = Path(images)
    if path.is_dir():
        return _plain(*_in_folder(path), pixel_spacing_mm)
    if path.suffix.lower() in TABLES:
        return _in_table(path, root, allow_outside_root, pixel_spacing_mm)
    if path.exists() or os.path.islink(path):
        return _plain([str(images)], [path], pixel_spacing_mm)
    found = sorted(name for name in glob.glob(str(images), recursive=True) if os.path.isfile(name))
    if not found:
        what = "no file matches the pattern" if glob.has_magic(str(images)) else f"not found{did_you_mean(path)}"
        raise DataError(f"{images}: {what}. Name an image, a folder, a pattern such as xrays/*.png, or a table (.csv).")
    return _plain(found, [Path(name) for name in found], pixel_spacing_mm)


def check_array(name: str, image: np.ndarray) -> None:
    """Raises DataError for what is no image."""
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not shaped or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(f"{name} is {image.dtype} of shape {image.shape}, expected uint8 (H, W) or (H, W, 3) RGB.")


def _plain(names: list[str], sources: Sequence[Path | np.ndarray | None], pixel_spacing_mm: float | None) -> ImageList:
    spacing_mm = np.nan if pixel_spacing_mm is None else pixel_spacing_mm
    return ImageList(names, list(sources), np.full(len(names), spacing_mm))


def _in_folder(folder: Path) -> tuple[list[str], list[Path]]:
    names, others, _ = list_images(folder)
    if not names:
        only = f", only {len(others)} other files such as {others[0]}" if others else ""
        raise DataError(f"{folder}: no images in it{only}. Name the folder that holds them.")
    return names, [folder / name for name in names]


def _in_table(path: Path, root: Path | None, allow_outside_root: bool, pixel_spacing_mm: float | None) -> ImageList:
    """Rows whose image is missing are faults of these images, not of the table."""
    cells = read_cells(path)
    column = require_image_column(cells)
    try:
        finder = ImageFinder(path, root, allow_outside_root=allow_outside_root)
    except DataError as error:
        raise DataError(_of_options(error)) from None
    names = cells.words(column)
    sources: list[Path | np.ndarray | None] = [finder.locate(name) for name in names]
    faults = {}
    for row, source in enumerate(sources):
        if source is not None:
            continue
        try:
            if not names[row]:
                raise DataError.listing(path, [f"{cells.at(row, column)} is empty"], "Name an image.")
            finder.find([cells.at(row, column)].__getitem__, [names[row]])
        except DataError as error:
            faults[row] = _of_options(error)
    spacing_mm = read_spacing(cells, pixel_spacing_mm)
    named = [name or f"line {line}" for name, line in zip(names, cells.lines, strict=True)]
    return ImageList(named, sources, spacing_mm, cells, faults)


def _of_options(error: DataError) -> str:
    """Its message with the options as they are called here, where there is no group `data`."""
    return str(error).replace("data.root", "root").replace("data.allow_outside_root", "allow_outside_root")
