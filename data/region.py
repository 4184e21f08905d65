"""The region of the images that the training landmarks span, so that it alone is fitted into the network's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.errors import DataError
from data.geometry import Region, apply, fit_image
from data.records import LandmarkRecords

LEAST_PX = 8.0  # a smaller region is no place to look for landmarks in
LONE_SHARE = 0.1  # of the region's length: where one image alone reaches so much farther, its landmarks may be wrong
FEWEST_IMAGES = 20  # among fewer, one that reaches so much farther is nothing to wonder at


def landmark_region(records: LandmarkRecords, margin: float) -> Region:
    """The box that the landmarks of the training images span, with a margin on all sides, cut off at the image's edges.

    It spans every landmark: one that is marked in a wrong place makes the region too large, which costs resolution,
    while a box without the outermost would hide true landmarks from the network. `margin` is a share of the region's
    larger side in an image of median size.

    Raises:
        DataError: the training landmarks span too little.
    """
    lowest, highest = _farthest(records)
    size = median_size(records)
    low, high = lowest.min(axis=0), highest.max(axis=0)
    spanned = np.where(np.isfinite(low), (high - low) * size, 0.0)  # infinite where no image has a landmark
    beside = margin * spanned.max() / size
    low, high = np.clip(low - beside, 0, 1), np.clip(high + beside, 0, 1)
    sides = np.where(low < high, (high - low) * size, 0.0)
    if sides.min() < LEAST_PX:
        raise DataError(
            f"data.region=landmarks: with its margin the region of the training landmarks has {sides[0]:.0f} x "
            f"{sides[1]:.0f} px in an image of {size[0]:.0f} x {size[1]:.0f} px, expected at least "
            f"{LEAST_PX:.0f} x {LEAST_PX:.0f}. Mend the landmarks, or choose data.region=full."
        )
    return Region(*low.tolist(), *high.tolist())


def median_size(records: LandmarkRecords) -> np.ndarray:
    """Width and height (2,) in px that half of the training images have at least."""
    size: np.ndarray = np.median(records.sizes[records.indices("train")], axis=0)
    return size


@dataclass(frozen=True)
class Stretch:
    """A training image whose landmarks alone make the box of all longer, by `share` of its length."""

    image_name: str
    side: str  # left, right, top or bottom
    share: float


def lone_stretches(records: LandmarkRecords) -> list[Stretch]:
    """Where one image of many alone makes the landmarks' box longer by more than a tenth."""
    names = [records.image_names[index] for index in records.indices("train")]
    if len(names) < FEWEST_IMAGES:
        return []
    lowest, highest = _farthest(records)
    length = highest.max(axis=0) - lowest.min(axis=0)
    found = []
    for side, reach, whole in (
        ("left", -lowest[:, 0], length[0]),
        ("right", highest[:, 0], length[0]),
        ("top", -lowest[:, 1], length[1]),
        ("bottom", highest[:, 1], length[1]),
    ):
        first, second = np.argsort(-reach)[:2]
        share = (reach[first] - reach[second]) / whole
        if LONE_SHARE < share < 1:
            found.append(Stretch(names[first], side, float(share)))
    return found


@dataclass(frozen=True)
class Outside:
    """How many of a split's landmarks the network does not see whole."""

    landmarks: int
    outside_region: int
    outside_input: int


def count_outside(
    records: LandmarkRecords, split: str, region: Region, input_size: tuple[int, int], fit: str
) -> Outside:
    """The input shows more than the region where the shapes of the two differ."""
    indices = records.indices(split)
    shares = _shares(records, split)
    present = np.isfinite(shares).all(axis=2)
    low, high = np.array([region.left, region.top]), np.array([region.right, region.bottom])
    beside = present & ~((shares >= low) & (shares <= high)).all(axis=2)
    limit = np.array(input_size[::-1]) - 0.5
    unseen = 0
    for index, lies_beside in zip(indices, beside, strict=True):
        affine = fit_image(tuple(records.sizes[index]), input_size, fit, region).affine
        points = apply(affine, records.points[index, lies_beside])
        unseen += int((~((points >= -0.5) & (points <= limit)).all(axis=1)).sum())
    return Outside(int(present.sum()), int(beside.sum()), unseen)


def _shares(records: LandmarkRecords, split: str) -> np.ndarray:
    """Landmarks (n, K, 2) as shares of the width and height of their images."""
    indices = records.indices(split)
    shares: np.ndarray = (records.points[indices] + 0.5) / records.sizes[indices, None, :]
    return shares


def _farthest(records: LandmarkRecords) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest x and y, (n, 2) shares each, of the landmarks of each training image; infinite for none."""
    shares = _shares(records, "train")
    missing = np.isnan(shares)
    return np.where(missing, np.inf, shares).min(axis=1), np.where(missing, -np.inf, shares).max(axis=1)
