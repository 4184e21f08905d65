"""Formats with a file of points per image, beside it or in a folder per annotator (isbi, pts)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from data.errors import DataError, quoted
from data.formats.asked import Asked
from data.formats.image_names import ImagesByStem, images_folder
from data.formats.marked_images import MarkedImages, from_first_pixel, numbers, require_all_visible

ReadPoints = Callable[[Path], np.ndarray]


def read_points_of(
    source: Path, asked: Asked, files: dict[str, dict[str, Path]], read: ReadPoints, notes: list[str]
) -> MarkedImages:
    """`files`: annotator ("" for nobody in particular) -> path without ending, below `source` -> file of points.

    Raises:
        DataError: files with different numbers of points, or points without an image.
    """
    stems = sorted({stem for own in files.values() for stem in own}, key=_by_number)
    if not stems:
        raise DataError(f"{source} holds no files of points. Name the folder that they lie in.")
    found = {(name, stem): read(file) for name, own in files.items() for stem, file in own.items()}
    counts = {key: len(points) for key, points in found.items()}
    usual = max(counts.values(), key=list(counts.values()).count)
    faults = [
        f"{files[name][stem].relative_to(source) if source.is_dir() else stem} has {count} points, others {usual}"
        for (name, stem), count in counts.items()
        if count != usual
    ]
    if faults:
        raise DataError.listing(source, faults, "All files need the same points; mend these or take them out.")
    points = np.full((len(files), len(stems), usual, 2), np.nan)
    for layer, name in enumerate(files):
        for i, stem in enumerate(stems):
            if (name, stem) in found:
                points[layer, i] = found[name, stem]
    images = ImagesByStem(images_folder(source, asked.images)).find(stems, source)
    return MarkedImages(
        source,
        images,
        stems,
        numbers(usual),
        from_first_pixel(points, asked.first_pixel),
        list(files) if "" not in files else [],
        notes=notes,
    )


def files_below(folder: Path, ending: str) -> dict[str, Path]:
    """Path without ending -> file, for every file with this ending in the folder and the folders in it."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ending and path.is_file())
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def render_files(marked: MarkedImages, to: Path, ending: str, text: Callable[[np.ndarray], str]) -> dict[Path, str]:
    """A file per image, in a folder for each annotator where there are several.

    Raises:
        DataError: a missing landmark, or images whose names differ in their endings alone.
    """
    if not marked.annotators:
        require_all_visible(marked, f"{ending} files")
    rendered: dict[Path, str] = {}
    taken: dict[Path, str] = {}
    seen = marked.visible
    for layer, annotator in enumerate(marked.annotators or [""]):
        for i, name in enumerate(marked.image_names):
            relative = PurePosixPath(annotator, name.replace("\\", "/"))
            if relative.is_absolute() or ".." in relative.parts or "/" in annotator or not relative.name:
                raise DataError(f"{marked.path}: {marked.places[i]}: image {quoted(name)} lies outside of its folder.")
            file = to / relative.with_suffix(ending)
            if file in taken:
                both = f"{marked.places[i]}: images {quoted(taken[file])} and {quoted(name)} would share {file.name}"
                raise DataError.listing(marked.path, [both], "Rename one of them.")
            taken[file] = name
            visible = seen[layer, i]
            if visible.all():
                rendered[file] = text(marked.points[layer, i])
            elif visible.any():  # an image that an annotator left out has no file
                k = int(np.argmin(visible))
                fault = f"{marked.places[i]}: {quoted(name)} lacks landmark {marked.landmark_names[k]} by {annotator}"
                raise DataError.listing(marked.path, [fault], f"{ending} files can't say so; write another format.")
    return rendered


def _by_number(stem: str) -> tuple[str, int, str]:
    """9 before 10, in each folder."""
    path = PurePosixPath(stem)
    return str(path.parent), int(path.name) if path.name.isascii() and path.name.isdigit() else -1, path.name
