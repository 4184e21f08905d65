"""Which images belong to marked points: by the stem of a file, and by the names that files give; and their sizes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

from data.errors import DataError, did_you_mean, quoted
from data.formats.marked_images import MarkedImages
from data.image_paths import ImageFinder
from data.images import read_size

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp"})


class ImagesByStem:
    """The images of a folder and the folders in it, by the path, or else by the mere name, of a file of points."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_path: dict[str, list[str]] = {}
        self.by_stem: dict[str, list[str]] = {}
        for parent, folders, files in os.walk(folder):
            folders.sort()
            for file in sorted(files):
                if Path(file).suffix.lower() in SUFFIXES:
                    name = Path(parent, file).relative_to(folder).as_posix()
                    self.by_path.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)
                    self.by_stem.setdefault(Path(file).stem, []).append(name)

    def find(self, stems: list[str], path: Path) -> list[str]:
        """Names below the folder; `stems`: paths without their endings. Raises DataError for none or several."""
        names, faults = [], []
        for stem in stems:
            found = self.by_path.get(stem) or self.by_stem.get(PurePosixPath(stem).name) or [""]
            if found == [""]:
                faults.append(f"no image belongs to {stem}")
            elif len(found) > 1:
                faults.append(f"{stem} may belong to {found[0]} or {found[1]}")
            names.append(found[0])
        if faults:
            advice = f"Looked for {stems[0]}.png, .jpg, .bmp, ... in {self.folder}; name the folder: images=DIR."
            raise DataError.listing(path, faults, advice)
        return names


def images_folder(source: Path, images: Path | None) -> Path:
    """Where images are looked for by their stems: the folder that was named, or that of the points."""
    return images or (source if source.is_dir() else source.parent)


def check_folder(images: Path | None) -> None:
    if images is not None and not images.is_dir():
        what = "is a file, expected a folder" if images.exists() else f"no such folder{did_you_mean(images)}"
        raise DataError(f"images={images}: {what}. Name the folder that the images lie in.")


def with_sizes(marked: MarkedImages, images: Path | None) -> MarkedImages:
    """The sizes of images that the source does not tell, read from those that are found; in a folder that was named,
    images are held against the sizes that the source tells.

    Raises:
        DataError: an image can't be read, or has another size than the source says.
    """
    if images is None and None not in marked.sizes:
        return marked
    beside = marked.path / "images.csv" if marked.path.is_dir() else marked.path
    finder = ImageFinder(beside, images, allow_outside_root=True)
    sizes, faults = [], []
    for place, name, told in zip(marked.places, marked.image_names, marked.sizes, strict=True):
        file = finder.locate(name)
        size = told if file is None else read_size(file)
        if told is not None and size is not None and told != size:
            faults.append(
                f"{place}: {quoted(name)} has {told[0]}x{told[1]} px there, but {file} has {size[0]}x{size[1]}"
            )
        sizes.append(size)
    if faults:
        raise DataError.listing(marked.path, faults, "Name the folder of the images that were marked (images=DIR).")
    return replace(marked, sizes=sizes)
