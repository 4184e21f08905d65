"""Image folders: one folder per class, in a folder per split or all in one tree."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from data.errors import DataError, did_you_mean, enumerated, one_line, quoted
from data.image_rows import SPLIT_WORDS
from data.images import read_size
from data.labels import Labels, classes_of, numbers_of

OUTPUT_FOLDERS = ("outputs", "multirun", "predictions", "evaluations")  # of the working folder
# Of the folder of a run, a check, predictions and an evaluation.
OUTPUT_FILES = (
    ("config.yaml", "environment.json"),
    ("check.json",),
    ("predict.json",),
    ("metrics.csv", "results.json"),
)
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".gif", ".webp"})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFolder:
    """N images, in the order of their names."""

    images: list[Path]
    image_names: list[str]  # relative to the root, with / between folders
    labels: Labels
    split: list[str] | None  # train | val | test per image; None: the tree has no split folders
    sizes: np.ndarray  # (N, 2) width, height


def read_image_folder(root: Path | str, *, numeric: bool) -> ImageFolder:
    """The images under `root` in `<class>/` or `train/<class>/`, also those in deeper folders.

    Left out are hidden folders and what this program has written: `outputs`, `multirun`, `predictions` and
    `evaluations` in the working folder, and any folder that holds a run, a check, predictions or an evaluation.
    Raises DataError for a tree of another shape, for images that are there twice and for those that can't be read.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file, expected a folder" if root.exists() else f"no such folder{did_you_mean(root)}"
        raise DataError(f"{root}: {what}. Name the folder that holds a folder of images for each class.")
    by_split = _has_split_folders(root)
    names, skipped, empty = list_images(root)
    if empty:
        log.warning("%s: folders without any file: %s", root, one_line(enumerated(empty)))
    if skipped:
        log.warning("%s: skipped %d files that are no images, such as %s", root, len(skipped), one_line(skipped[0]))
    layout = "<split>/<class>/<image>" if by_split else "<class>/<image>"
    depth = 2 if by_split else 1
    if faults := [f"{quoted(name)} lies in no class folder" for name in names if name.count("/") < depth]:
        raise DataError.listing(root, faults, f"Images belong into {layout}.")
    if not names:
        others = f", only {len(skipped)} other files such as {skipped[0]}" if skipped else ""
        raise DataError(f"{root}: no images in it ({enumerated(sorted(SUFFIXES))}){others}. Put them into {layout}.")
    parts = [name.split("/") for name in names]
    split = [SPLIT_WORDS[part[0].lower()] for part in parts] if by_split else None
    if split is not None and "train" not in split:
        raise DataError(f"{root}: no images in {root / 'train'}. Put the training images into train/<class>/<image>.")
    images = [Path(os.path.abspath(root / name)) for name in names]
    _check_files(root, names, images)
    words = [part[depth - 1] for part in parts]
    if (
        not by_split
        and len(set(words)) == 1
        and len(deeper := {part[depth] for part in parts if len(part) > depth + 1}) > 1
    ):
        raise DataError(
            f"{root}: all {len(words)} images are in {words[0]}, whose folders {enumerated(sorted(deeper))} may be the "
            f"classes. If so, set data.root={root / words[0]}; otherwise add a folder for a second class."
        )
    if numeric:
        labels = Labels(root, names, numbers_of(root, names, words, decimal_comma=False), None)
    else:
        labels = classes_of(root, names, words, origin="data.root, which holds the class folders")
    return ImageFolder(images, names, labels, split, _read_sizes(root, images))


def _has_split_folders(root: Path) -> bool:
    """Whether the folders in `root` are splits; a class may be called train too, if it holds images itself."""
    folders = _folders_in(root)
    splits = [name for name in folders if name.lower() in SPLIT_WORDS]
    if not any(_folders_in(root / name) for name in splits):
        if splits and len(splits) == len(folders):
            raise DataError(
                f"{root}: {enumerated(splits)} hold no class folders. Images belong into <split>/<class>/<image>."
            )
        return False
    if strangers := [name for name in folders if name not in splits]:
        raise DataError(
            f"{root}: folder {enumerated(strangers)} beside {enumerated(splits)}. Name split folders one of "
            f"{enumerated(SPLIT_WORDS)}, and put class folders into them."
        )
    return True


def _folders_in(folder: Path) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        _refuse(error)
    return [name for name in names if os.path.isdir(folder / name) and not is_left_out(str(folder / name))]


def is_left_out(folder: str) -> bool:
    """Whether a folder is hidden, or written by this program."""
    place, name = os.path.split(folder)
    if name.startswith(".") or (name in OUTPUT_FOLDERS and os.path.realpath(place) == os.path.realpath(os.curdir)):
        return True
    return any(all(os.path.isfile(os.path.join(folder, file)) for file in files) for files in OUTPUT_FILES)


def list_images(root: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of the images under `root`, of the other files and of empty folders.

    Raises DataError where a folder with images is there twice, by a link.
    """
    images: list[str] = []
    others: list[str] = []
    empty: list[str] = []
    # The real folders on the way to each place: a link back to one of them, or above it, would never end.
    ways = {str(root): [os.path.join(os.path.realpath(root), "")]}
    # Each real folder is walked once: folders that link to each other have more ways between them than can be walked.
    walked: dict[str, str] = {}
    again: list[tuple[str, str]] = []
    for place, folders, files in os.walk(root, onerror=_refuse, followlinks=True):
        way = ways.pop(place)
        kept = []
        for name in sorted(folders):
            folder = os.path.join(place, name)
            real = os.path.join(os.path.realpath(folder), "")
            if is_left_out(folder) or any(passed.startswith(real) for passed in way):
                continue
            inner = Path(folder).relative_to(root).as_posix()
            if real in walked:
                again.append((walked[real], inner))
                continue
            walked[real] = inner
            kept.append(name)
            ways[folder] = [*way, real]
        folders[:] = kept
        if not folders and not files and Path(place) != root:
            empty.append(Path(place).relative_to(root).as_posix())
        for file in files:
            name = Path(place, file).relative_to(root).as_posix()
            is_image = not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES
            (images if is_image else others).append(name)
    _refuse_twice(
        root,
        [
            (image, second + image.removeprefix(first))
            for first, second in again
            for image in images
            if image.startswith(f"{first}/")
        ],
    )
    return sorted(images), sorted(others), sorted(empty)


def _refuse_twice(root: Path, twice: list[tuple[str, str]]) -> None:
    """Raises DataError for pairs of names that are one file."""
    if twice:
        pairs = sorted((max(pair), min(pair)) for pair in twice)
        raise DataError.listing(
            root, [f"{quoted(a)} and {quoted(b)} are one file" for a, b in pairs], "Keep one of them."
        )


def _check_files(root: Path, names: list[str], images: list[Path]) -> None:
    """Raises DataError for file names that can't be written down, and for a file that is there twice, by a link."""
    if faults := [quoted(name) for name in names if not _is_utf8(name)]:
        raise DataError.listing(root, faults, "These file names are not UTF-8. Rename them.")
    first: dict[str, str] = {}
    twice = []
    for name, image in zip(names, images, strict=True):
        if (other := first.setdefault(os.path.realpath(image), name)) != name:
            twice.append((other, name))
    _refuse_twice(root, twice)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from None


def _read_sizes(root: Path, images: list[Path]) -> np.ndarray:
    sizes, faults = [], []
    for path in images:
        try:
            sizes.append(read_size(path))
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError.listing(root, faults, "Replace these images or take them out.")
    return np.array(sizes)
