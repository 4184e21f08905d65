"""Mixup: training on weighted means of two samples (Zhang et al., ICLR 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from data.loaders import Key

MIXUP_STREAM = 2  # random numbers apart from those of single samples


def mixed(batch: dict[str, Tensor], rng: np.random.Generator, alpha: float) -> dict[str, Tensor]:
    """A batch of N whose images and covariates are means of two samples with one weight, drawn from Beta(alpha, alpha).

    Adds other_target (N,) and share (N,) float32, the weight of `target` in the image.
    """
    share = float(rng.beta(alpha, alpha))
    other = torch.from_numpy(rng.permutation(len(batch["image"])))
    images, covariates = batch["image"].float(), batch["covariates"]
    return {
        **batch,
        "image": torch.lerp(images[other], images, share).round().to(torch.uint8),
        "covariates": torch.lerp(covariates[other], covariates, share),
        "other_target": batch["target"][other],
        "share": torch.full((len(other),), share),
    }


@dataclass(frozen=True)
class MixupCollate:
    """Samples to a mixed batch; the mix is a function of the seed and the keys of the samples. alpha is above 0."""

    seed: int
    alpha: float

    def __call__(self, keys: Sequence[Key], samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        # Keys have two or three numbers; their count makes different lists of keys different seeds.
        words = [word for key in keys for word in (len(key), *key)]
        rng = np.random.default_rng([self.seed, MIXUP_STREAM, *words])
        return mixed(default_collate(samples), rng, self.alpha)
