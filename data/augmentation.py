"""Random views of a training image: one affine for image and landmarks, then changes of intensity."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from data.geometry import Affine, apply, around, compose, identity, mirror, translation

WHITE = 255


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Magnitudes are the largest change, both ways; the draws are a function of the generator that is passed in."""

    rotate_degrees: float
    scale: float
    shift: float  # of the input size
    shear_degrees: float
    flip: float  # probability
    flip_pairs: list[tuple[int, int]]
    brightness: float
    contrast: float
    gamma: float
    clahe: float  # probability
    noise: float
    dropout_holes: int
    dropout_size: float  # of the input size
    local: tuple[Any, ...] = field(init=False)  # changes after which a level is not the same everywhere

    def __post_init__(self) -> None:
        steps = []
        if self.clahe or self.noise:
            os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the net for a newer version
            import albumentations as A  # here, because it takes as long as some hundred images

            if self.clahe:
                steps.append(A.CLAHE(p=self.clahe))
            if self.noise:
                steps.append(A.GaussNoise(std_range=(0.0, self.noise), p=1.0))
        object.__setattr__(self, "local", tuple(steps))

    def random_affine(self, rng: np.random.Generator, input_size: tuple[int, int]) -> tuple[Affine, bool]:
        """Input px -> input px, and whether it mirrors."""
        height, width = input_size
        angle, shear = np.deg2rad(rng.uniform(-1, 1, 2) * (self.rotate_degrees, self.shear_degrees))
        scale = 1 + rng.uniform(-self.scale, self.scale)
        dx, dy = rng.uniform(-self.shift, self.shift, 2) * (width, height)
        flipped = bool(rng.random() < self.flip)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = scale * rotation @ np.array([[1.0, np.tan(shear)], [0, 1.0]])
        affine = compose(translation(dx, dy), around(((width - 1) / 2, (height - 1) / 2), linear))
        return compose(affine, mirror(width) if flipped else identity()), flipped

    def reach(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """How many px (x, y) beside the input the views that move farthest look at."""
        half_height, half_width = (input_size[0] - 1) / 2, (input_size[1] - 1) / 2
        beside, above = half_width + self.shift * input_size[1], half_height + self.shift * input_size[0]
        # A corner of the view turned back, sheared back, scaled back.
        across, down = _turned(beside, above, self.rotate_degrees), _turned(above, beside, self.rotate_degrees)
        across += np.tan(np.deg2rad(self.shear_degrees)) * down
        zoom = 1 - self.scale
        return _pixels_read(across / zoom - half_width), _pixels_read(down / zoom - half_height)

    def swap_sides(self, points: np.ndarray) -> np.ndarray:
        """Landmarks (K, 2) of a mirrored image under the names they have there: left and right change places."""
        order = np.arange(len(points))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return points[order]

    def change_intensity(self, rng: np.random.Generator, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """`image` (H, W) or (H, W, 3) uint8 after exposure changes and holes; holes spare the landmarks (K, 2)."""
        if self.brightness or self.contrast or self.gamma:
            image = cv2.LUT(image, self._random_levels(rng))
        for step in self.local:
            step.set_random_seed(int(rng.integers(2**31)))  # each its own, else all would draw the same numbers
            image = step(image=image)["image"]
        if self.dropout_holes:
            image = self._punch_holes(rng, image.copy(), points)
        return image

    def _random_levels(self, rng: np.random.Generator) -> np.ndarray:
        brightness, contrast = rng.uniform(-1, 1, 2) * (self.brightness, self.contrast)
        return levels(brightness, contrast, rng.uniform(1 / (1 + self.gamma), 1 + self.gamma))

    def _punch_holes(self, rng: np.random.Generator, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        for _ in range(rng.integers(self.dropout_holes + 1)):
            size = rng.uniform(0.2, 1, 2) * self.dropout_size * (width, height)
            corner = rng.uniform(0, (width, height) - size)
            first, end = corner.astype(int), (corner + size).astype(int)  # pixels (x, y) from `first` to `end` - 1
            # A landmark needs the pixels around it whole, those to both sides of its position.
            if not np.any(np.all((points >= first - 1) & (points <= end), axis=1)):
                image[first[1] : end[1], first[0] : end[0]] = rng.integers(256)
        return image


def levels(brightness: float, contrast: float, exponent: float) -> np.ndarray:
    """(256,) uint8: what each gray level becomes under albumentations' RandomBrightnessContrast and, after it,
    RandomGamma; brightness as a share of white."""
    adjusted = np.clip(np.arange(WHITE + 1) * (1 + contrast) + brightness * WHITE, 0, WHITE)
    whole = np.floor(adjusted)  # as there, where an image of whole levels lies between the two
    return np.rint((whole / WHITE) ** exponent * WHITE).astype(np.uint8)


def _turned(along: float, across: float, degrees: float) -> float:
    """The greatest `along` of a corner (along, across) that is turned by up to `degrees`."""
    angle = min(np.deg2rad(degrees), math.atan2(across, along))
    return float(along * np.cos(angle) + across * np.sin(angle))


def _pixels_read(distance: float) -> int:
    """How far beside an edge bicubic interpolation reads for a position `distance` px beside it."""
    return math.ceil(distance) + 1 if distance > 0 else 0


def augmented_points(affine: Affine, points: np.ndarray, augmentation: Augmentation, flipped: bool) -> np.ndarray:
    moved = apply(affine, points)
    return augmentation.swap_sides(moved) if flipped else moved
