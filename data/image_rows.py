"""What tables of landmarks and of labels share: the image, split and group of each row, and reading its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.cells import Cells, missing_column, read_words
from data.errors import DataError, enumerated, nearest, quoted
from data.file_listings import FileList
from data.groups import read_groups
from data.image_paths import ImageFinder
from data.images import read_size

# Where several of these columns exist, the first name listed here is taken.
IMAGE_COLUMNS = ("image", "file", "filename", "path", "image_path")
SPLIT_COLUMNS = ("split", "set")
SPLIT_WORDS = {"train": "train", "dev": "val", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class ImageRows:
    """One row per image, in the order of the file."""

    images: FileList  # absolute
    image_names: list[str]  # as written in the table
    split: list[str] | None  # train | val | test per row; None: the table has no split column
    group: list[str] | None  # patient per row


def read_image_rows(
    cells: Cells, root: Path | str | None, *, allow_outside_root: bool = False, group_pattern: str | None = None
) -> ImageRows:
    """The images of a table, looked for under `root`, or else beside the table and in its folder `images`.

    `group_pattern` cuts the group out of each image name (see `read_groups`).
    Raises `DataError` for images that are not there, there twice or (see `ImageFinder`) outside the root, and for
    groups on both sides of the split.
    """
    image_column = require_image_column(cells)
    image_names = read_words(cells, IMAGE_COLUMNS, "Give every row an image, or delete the row.") or []
    split, group = _read_split(cells), read_groups(cells, image_names, group_pattern)
    if split is not None and group is not None:
        check_groups_apart(cells.path, cells.lines, split, group)
    finder = ImageFinder(cells.path, None if root is None else Path(root), allow_outside_root=allow_outside_root)
    images, real = finder.find(lambda row: cells.at(row, image_column), image_names)
    _check_images_differ(cells, image_column, image_names, images, real, split)
    return ImageRows(images, image_names, split, group)


def require_image_column(cells: Cells) -> int:
    image_column = cells.column(IMAGE_COLUMNS)
    if image_column is None:
        found = missing_column(cells, "image", IMAGE_COLUMNS)
        advice = f"Name the column with the file names one of {enumerated(IMAGE_COLUMNS)}."
        raise DataError.listing(cells.path, [found], advice)
    return image_column


def read_sizes(table: Path, lines: list[int], images: Sequence[Path]) -> np.ndarray:
    """(N, 2) width and height of the images of a table; raises DataError naming the lines that can't be read."""
    sizes: list[int] = []
    faults = []
    names: Sequence[str | Path] = images.names if isinstance(images, FileList) else images
    for line, path in zip(lines, names, strict=True):
        try:
            sizes += read_size(path)
        except DataError as error:
            faults.append(f"line {line}, column image: {error}")
    if faults:
        raise DataError.listing(table, faults, "Replace these images or take their rows out.")
    return np.array(sizes).reshape(-1, 2)


def _read_split(cells: Cells) -> list[str] | None:
    column = cells.column(SPLIT_COLUMNS)
    if column is None:
        return None
    words = cells.words(column)
    faults = [
        f"{cells.at(i, column)} is {quoted(word)}{nearest(word.lower(), list(SPLIT_WORDS))}"
        for i, word in enumerate(words)
        if word.lower() not in SPLIT_WORDS
    ]
    if faults:
        raise DataError.listing(cells.path, faults, f"Write one of {enumerated(SPLIT_WORDS)}.")
    return [SPLIT_WORDS[word.lower()] for word in words]


def check_groups_apart(path: Path, lines: list[int], split: list[str], group: list[str]) -> None:
    """Raises DataError for groups with rows in more than one split."""
    first: dict[str, int] = {}
    faults: dict[str, str] = {}
    for i, name in enumerate(group):
        j = first.setdefault(name, i)
        if split[i] != split[j]:
            where = f"line {lines[j]} ({split[j]}) and line {lines[i]} ({split[i]})"
            faults.setdefault(name, f"group {quoted(name)} is on both sides of the split, {where}")
    if faults:
        raise DataError.listing(path, list(faults.values()), "Keep all rows of a group in one split.")


def _check_images_differ(
    cells: Cells, column: int, names: list[str], images: FileList, real: list[str], split: list[str] | None
) -> None:
    """Raises DataError for a file that two rows name, be it in two spellings or by way of a link."""
    if len(set(real)) == len(real):
        return
    first: dict[str, int] = {}
    faults = []
    for i, lies_at in enumerate(real):
        if (j := first.setdefault(lies_at, i)) == i:
            continue
        at, seen = cells.at(i, column), f"already on line {cells.lines[j]}"
        if split is not None and split[i] != split[j]:
            seen += f", there in {split[j]} and here in {split[i]}"
        elif images[j] != images[i]:
            seen += f" as {quoted(names[j])}"
        faults.append(f"{at}: image {quoted(names[i])} is {seen}")
    if faults:
        raise DataError.listing(cells.path, faults, "Keep one row per image.")
