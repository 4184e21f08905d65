"""Labelled samples for the network. What a sample is depends on its key and the seed alone."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.augmentation import Augmentation
from data.image_cache import ResizedImages, as_rgb_tensor
from data.label_records import LabelRecords
from data.loaders import Key

NO_POINTS = np.empty((0, 2))
NOISE_STREAM = 1  # numbers for the label, apart from those for the image


class LabelDataset(Dataset[dict[str, Tensor]]):
    """Maps (epoch, index), or (epoch, index, repeat) where an epoch shows an image again, to a sample.

    image: (3, H, W) uint8; target: int64 class or float32 number in its own unit; covariates: (D,) float32;
    index: int64. label_noise: standard deviation, in the target's unit, of what is added to a number.
    """

    def __init__(
        self,
        records: LabelRecords,
        *,
        input_size: tuple[int, int],
        fit: str,
        augmentation: Augmentation | None,
        seed: int,
        cache_gb: float,
        label_noise: float = 0.0,
    ) -> None:
        if label_noise and records.class_names is not None:
            raise ValueError(f"label_noise={label_noise} is for numbers, but the labels are classes")
        self.records = records
        self.images = ResizedImages(
            image_names=records.image_names,
            sizes=records.sizes,
            read=records.read,
            input_size=input_size,
            fit=fit,
            cache_gb=cache_gb,
        )
        self.input_size = input_size
        self.augmentation = augmentation
        self.seed = seed
        self.label_noise = label_noise

    def at(self, input_size: tuple[int, int]) -> LabelDataset:
        """The same samples at another input size; the images kept at this one make room for those."""
        other = copy(self)
        other.input_size = input_size
        other.images = self.images.at(input_size)
        return other

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        epoch, index, *repeat = key
        image = self.images.plain(index) if self.augmentation is None else self._view(self.augmentation, key)
        target = self.records.targets[index]
        if self.label_noise:
            rng = np.random.default_rng([self.seed, epoch, index, *(repeat or [0]), NOISE_STREAM])
            target = target + self.label_noise * rng.standard_normal()
        return self._sample(index, image, target)

    def view(self, augmentation: Augmentation, key: tuple[int, int]) -> dict[str, Tensor]:
        """The sample of (view, index) with its true target: view 0 as it is, each other one at random in its way."""
        view, index = key
        image = self._view(augmentation, key) if view else self.images.plain(index)
        return self._sample(index, image, self.records.targets[index])

    def _view(self, augmentation: Augmentation, key: Key) -> np.ndarray:
        rng = np.random.default_rng([self.seed, *key])
        affine, _ = augmentation.random_affine(rng, self.input_size)
        return augmentation.change_intensity(rng, self.images.moved(key[1], affine), NO_POINTS)

    def _sample(self, index: int, image: np.ndarray, target: np.number) -> dict[str, Tensor]:
        kind = torch.float32 if self.records.class_names is None else torch.int64
        return {
            "image": as_rgb_tensor(image),
            "target": torch.tensor(target, dtype=kind),
            "covariates": torch.from_numpy(self.records.covariates.encoded[index]),
            "index": torch.tensor(index),
        }


class ViewsDataset(Dataset[dict[str, Tensor]]):
    """Several views of each image, to average predictions over: maps (view, index) to a sample.

    View 0 is the image as it is; each other view is always the same random one. `dataset` lends its images and cache;
    `augmentation` should only move images, as noise and holes take something away.
    """

    def __init__(self, dataset: LabelDataset, augmentation: Augmentation) -> None:
        self.dataset = dataset
        self.augmentation = augmentation

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        return self.dataset.view(self.augmentation, key)
