"""What every format of landmarks holds: images, named landmarks, and the points that one or several people marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data.annotators import mean_points
from data.errors import DataError, cut, enumerated, quoted

DECIMALS = 6  # of px, in formats whose coordinates are computed from ours


@dataclass(frozen=True)
class MarkedImages:
    """N images, K landmarks, and A people who marked them, of whom one may be nameless."""

    path: Path  # what was read
    image_names: list[str]
    places: list[str]  # where in `path` each image stands, for messages
    landmark_names: list[str]  # mere numbers from 0 where the format has no names
    points: np.ndarray  # (A, N, K, 2) px, integers are pixel centres, NaN = missing
    annotators: list[str] = field(default_factory=list)  # A names; empty: one set of points, nobody named
    sizes: list[tuple[int, int] | None] = field(default_factory=list)  # (N) width, height, where the format says it
    spacing_mm: list[float | None] = field(default_factory=list)  # (N) mm per px
    split: list[str] | None = None
    group: list[str] | None = None
    notes: list[str] = field(default_factory=list)  # what was left out in reading

    def __post_init__(self) -> None:
        count = len(self.image_names)
        if not self.sizes:
            object.__setattr__(self, "sizes", [None] * count)
        if not self.spacing_mm:
            object.__setattr__(self, "spacing_mm", [None] * count)

    @property
    def numbered(self) -> bool:
        """Whether the landmarks have numbers in the place of names."""
        return self.landmark_names == numbers(len(self.landmark_names))

    @property
    def visible(self) -> np.ndarray:
        """(A, N, K) bool."""
        found: np.ndarray = np.isfinite(self.points).all(axis=-1)
        return found


def numbers(count: int) -> list[str]:
    return [str(index) for index in range(count)]


def from_first_pixel(points: np.ndarray, first_pixel: float) -> np.ndarray:
    """Points of a format in which the centre of the first pixel is at (first_pixel, first_pixel), as ours."""
    return points if first_pixel == 0 else np.round(points - first_pixel, DECIMALS)


def decimal(number: float) -> str:
    """A coordinate as text: up to 6 decimals, none for a whole number."""
    text = f"{number:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def of_every_image(key: str, values: Sequence[str | None], notes: list[str]) -> list[str] | None:
    """(N) values of a column, or None where an image lacks its own, which our tables can't have; that is noted."""
    found = [value for value in values if value is not None]
    if len(found) == len(values):
        return found
    if found:
        notes.append(f"{key} of {len(found)} images, which the other {len(values) - len(found)} lack")
    return None


def checked(marked: MarkedImages) -> MarkedImages:
    """The same; raises DataError where nothing is marked, an image has no name, or two have the same."""
    first: dict[str, int] = {}
    faults = []
    for i, name in enumerate(marked.image_names):
        if not name.strip():
            faults.append(f"{marked.places[i]} has no image name")
        elif (j := first.setdefault(name, i)) != i:
            faults.append(f"{marked.places[i]}: image {quoted(name)} is already at {marked.places[j]}")
    if faults:
        raise DataError.listing(marked.path, faults, "Keep one entry per image, with the name of its file.")
    texts = [*marked.image_names, *marked.landmark_names, *marked.annotators]
    if broken := [text for text in texts if any("\ud800" <= letter <= "\udfff" for letter in text)]:
        raise DataError(f"{marked.path}: the name {quoted(broken[0])} has half a letter (a surrogate). Rename it.")
    if not marked.image_names or not marked.landmark_names:
        raise DataError(f"{marked.path} holds no landmarks. Name a file or folder with marked points.")
    return marked


def by_one(marked: MarkedImages, annotator: str | None) -> MarkedImages:
    """The points of one annotator, or the mean of all, as those of nobody in particular.

    Raises:
        ValueError: there is no such annotator.
    """
    if annotator is None:
        return marked
    if not marked.annotators:
        raise ValueError(f"annotator={annotator} needs landmarks by several annotators; {marked.path} has those of one")
    if annotator == "mean":
        return replace(marked, points=mean_points(list(marked.points))[None], annotators=[])
    if annotator not in marked.annotators:
        raise ValueError(f"annotator={annotator} is not one of mean, {enumerated(marked.annotators)}")
    return replace(marked, points=marked.points[[marked.annotators.index(annotator)]], annotators=[])


def renamed(marked: MarkedImages, names: Sequence[str], names_file: Path) -> MarkedImages:
    """Numbered landmarks under the names of a file, or named ones in its order; what it has beyond them is missing.

    Raises:
        DataError: too few or too many names for the numbers, or a landmark that the file does not name.
    """
    old = marked.landmark_names
    if marked.numbered:
        if len(names) != len(old):
            raise DataError(
                f"{names_file} holds {len(names)} names where {marked.path} has {len(old)} landmarks. "
                "Write one name a line, one for each point."
            )
        return replace(marked, landmark_names=list(names))
    if unknown := [name for name in old if name not in names]:
        raise DataError(
            f"{marked.path} has landmarks that {names_file} does not name: {enumerated(unknown)}. Add them to it."
        )
    points = np.full((*marked.points.shape[:2], len(names), 2), np.nan)
    points[:, :, [list(names).index(name) for name in old]] = marked.points
    return replace(marked, landmark_names=list(names), points=points)


def require_one(marked: MarkedImages, form: str) -> np.ndarray:
    """(N, K, 2) points for a format that holds those of one person; raises ValueError where there are several."""
    if marked.annotators:
        raise ValueError(
            f"format={form} holds the points of one, and there are those of {enumerated(marked.annotators)}; add "
            f"annotator=mean, or annotator={cut(marked.annotators[0])}"
        )
    points: np.ndarray = marked.points[0]
    return points


def require_all_visible(marked: MarkedImages, told: str) -> None:
    """Raises DataError for missing landmarks, in a format that has no way to say so."""
    faults = [
        f"{marked.places[i]}: {quoted(marked.image_names[i])} lacks landmark {cut(marked.landmark_names[k])}"
        for _, i, k in np.argwhere(~marked.visible).tolist()
    ]
    if faults:
        advice = f"{told} can't say that a landmark is missing; take the images out, or write another format (coco)."
        raise DataError.listing(marked.path, faults, advice)


def required_sizes(marked: MarkedImages, form: str) -> list[tuple[int, int]]:
    """(N) width and height; raises DataError where they are not known."""
    faults = [
        f"{place}: the size of {quoted(name)} is not known"
        for place, name, size in zip(marked.places, marked.image_names, marked.sizes, strict=True)
        if size is None
    ]
    if faults:
        advice = f"format={form} holds the sizes of images; name the folder that they lie in: images=DIR."
        raise DataError.listing(marked.path, faults, advice)
    return [size for size in marked.sizes if size is not None]
