"""Samples for the network. What a sample is depends on (seed, epoch, index) alone, so not on workers or on resumes."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.augmentation import Augmentation, augmented_points
from data.geometry import apply, compose, fit_image, invert
from data.image_cache import ResizedImages, as_rgb_tensor
from data.loaders import Key
from data.records import LandmarkRecords

ANNOTATOR_STREAM = 3  # random numbers apart from those for views


class LandmarkDataset(Dataset[dict[str, Tensor]]):
    """Maps (epoch, index) to a sample.

    image: (3, H, W) uint8; points: (K, 2) float32 input px, 0 where missing; visible: (K,) bool;
    affine: (2, 3) float64 original px -> input px; truth: (K, 2) float64 original px, NaN where missing;
    spacing_mm: float64; index: int64.
    annotator: whose landmarks `points` are: mean, a name of the records', or random, one of them for each epoch and
    image. What that one did not mark is missing. The truth is always the mean.
    """

    def __init__(
        self,
        records: LandmarkRecords,
        *,
        input_size: tuple[int, int],
        fit: str,
        augmentation: Augmentation | None,
        seed: int,
        cache_gb: float,
        annotator: str = "mean",
    ) -> None:
        self.records = records
        self.annotator = annotator
        self.images = ResizedImages(
            image_names=records.image_names,
            sizes=records.sizes,
            read=records.read,
            input_size=input_size,
            fit=fit,
            cache_gb=cache_gb,
            region=records.region,
            reserve=(0, 0) if augmentation is None else augmentation.reach(input_size),
        )
        self.input_size = input_size
        self.augmentation = augmentation
        self.seed = seed

    def at(self, input_size: tuple[int, int]) -> LandmarkDataset:
        """The same samples at another input size; the images kept at this one make room for those."""
        other = copy(self)
        other.input_size = input_size
        reserve = (0, 0) if self.augmentation is None else self.augmentation.reach(input_size)
        other.images = self.images.at(input_size, reserve)
        return other

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        epoch, index = key[:2]
        affine = self.images.fit(index).affine
        truth, marked = self.records.points[index], self._marked(epoch, index)
        if self.augmentation is None:
            image = self.images.plain(index)
            points = apply(affine, marked)
        else:
            rng = np.random.default_rng([self.seed, epoch, index])
            random, flipped = self.augmentation.random_affine(rng, self.input_size)
            affine = compose(random, affine)
            points = augmented_points(affine, marked, self.augmentation, flipped)
            image = self.augmentation.change_intensity(rng, self.images.moved(index, random), points)
        visible = np.isfinite(points).all(axis=1)
        return {
            "image": as_rgb_tensor(image),
            "points": torch.from_numpy(np.where(visible[:, None], points, 0).astype(np.float32)),
            "visible": torch.from_numpy(visible),
            "affine": torch.from_numpy(affine),
            "truth": torch.from_numpy(truth),
            "spacing_mm": torch.tensor(self.records.pixel_spacing_mm[index], dtype=torch.float64),
            "index": torch.tensor(index),
        }

    def _marked(self, epoch: int, index: int) -> np.ndarray:
        """Landmarks (K, 2) in original px of the annotator that the sample is to have."""
        annotations, names = self.records.annotations, self.records.annotator_names
        if self.annotator == "mean" or annotations is None:
            return self.records.points[index]
        if self.annotator != "random":
            chosen = names.index(self.annotator)
        else:
            chosen = int(np.random.default_rng([self.seed, epoch, index, ANNOTATOR_STREAM]).integers(len(names)))
        marked: np.ndarray = annotations[chosen, index]
        return marked


def mean_shape(records: LandmarkRecords) -> np.ndarray:
    """Mean training landmarks as shares of image width and height, (K, 2); the centre for one that no image has."""
    train = records.indices("train")
    shares = (records.points[train] + 0.5) / records.sizes[train, None, :]
    return _mean_of_present(shares, otherwise=np.array([0.5, 0.5]))


def mean_shape_in_input(records: LandmarkRecords, input_size: tuple[int, int], fit: str) -> np.ndarray:
    """The mean training landmarks where they lie in the network's input, (K, 2) input px."""
    train = records.indices("train")
    points = records.points[train]
    moved = np.empty_like(points)
    sizes = records.sizes[train].astype(np.int64)
    # As one number each: pairs take numpy ten times as long to sort.
    _, first, which = np.unique(sizes[:, 0] << 32 | sizes[:, 1], return_index=True, return_inverse=True)
    for number, size in enumerate(sizes[first]):
        same = which == number
        moved[same] = apply(fit_image(tuple(size), input_size, fit, records.region).affine, points[same])
    return _mean_of_present(moved, otherwise=np.array([(input_size[1] - 1) / 2, (input_size[0] - 1) / 2]))


def _mean_of_present(points: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Mean (K, 2) over the images of (N, K, 2), without the missing; `otherwise` (2,) where all are."""
    present = np.isfinite(points).all(axis=2, keepdims=True)
    total, count = np.where(present, points, 0).sum(axis=0), present.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), otherwise)


def to_original(points: np.ndarray, affines: np.ndarray) -> np.ndarray:
    """Map (N, K, 2) input px back through the (N, 2, 3) affines of their samples."""
    return np.stack([apply(invert(affine), sample) for affine, sample in zip(affines, points, strict=True)])
