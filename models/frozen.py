"""Backbones that are not trained: no graph is built under them, and what a head needs of their maps can be kept."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def gradients_where_trained(backbone: nn.Module, images: Tensor) -> AbstractContextManager[Any]:
    """No gradients where neither the backbone's parameters nor the images ask for any."""
    if not torch.is_grad_enabled() or images.requires_grad:
        return nullcontext()
    return nullcontext() if any(weight.requires_grad for weight in backbone.parameters()) else torch.no_grad()


def needed(head: nn.Module, features: list[Tensor]) -> list[Tensor]:
    """The maps in the form that takes the least room and changes no bit of what the head makes of them; the maps
    themselves where the head does not say."""
    reduce = getattr(head, "needed", None)
    kept: list[Tensor] = features if reduce is None else reduce(features)
    return kept


def pooled(features: Tensor) -> Tensor:
    """The mean over a map (N, C, h, w), as a map of one cell (N, C, 1, 1) float32, whose mean is itself."""
    return features.float().mean(dim=(2, 3), keepdim=True)


def nothing_of(features: Tensor) -> Tensor:
    """(N, 0), in the place of a map that is not looked at."""
    return features.new_empty(len(features), 0)
