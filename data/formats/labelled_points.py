"""Formats in which each point carries the name of its landmark: from such points to tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.errors import DataError, quoted
from data.formats.marked_images import MarkedImages, from_first_pixel, numbers, of_every_image

Point = tuple[float, float]


@dataclass
class LabelledImage:
    """One image, and for each person who marked it the points by landmark."""

    name: str
    place: str
    marks: dict[str, dict[str, Point]] = field(default_factory=dict)  # annotator -> landmark -> x, y
    size: tuple[int, int] | None = None
    spacing_mm: float | None = None
    split: str | None = None
    group: str | None = None

    def mark(self, path: Path, annotator: str, landmark: str, point: Point) -> None:
        """Raises DataError for a landmark that is there already."""
        own = self.marks.setdefault(annotator, {})
        if landmark in own:
            raise DataError(
                f"{path}: {self.place}: landmark {quoted(landmark)} of {quoted(self.name)} is marked twice. "
                "Delete one; landmarks need labels of their own."
            )
        own[landmark] = point


def table_of(
    path: Path, images: Sequence[LabelledImage], known: Sequence[str], *, first_pixel: float, notes: list[str]
) -> MarkedImages:
    """Landmarks in the order of `known`, then as they first occur; numbers count upwards.

    People are told apart where one image was marked by several.
    """
    names = list(dict.fromkeys([*known, *(name for image in images for own in image.marks.values() for name in own)]))
    if set(names) == set(numbers(len(names))):
        names = numbers(len(names))
    several = any(len(image.marks) > 1 for image in images)
    annotators = list(dict.fromkeys(name for image in images for name in image.marks)) if several else []
    points = np.full((max(1, len(annotators)), len(images), len(names), 2), np.nan)
    column = {name: k for k, name in enumerate(names)}
    for i, image in enumerate(images):
        for annotator, own in image.marks.items():
            layer = annotators.index(annotator) if several else 0
            for name, point in own.items():
                points[layer, i, column[name]] = point
    return MarkedImages(
        path,
        [image.name for image in images],
        [image.place for image in images],
        names,
        from_first_pixel(points, first_pixel),
        annotators,
        [image.size for image in images],
        [image.spacing_mm for image in images],
        of_every_image("split", [image.split for image in images], notes),
        of_every_image("group", [image.group for image in images], notes),
        notes,
    )
