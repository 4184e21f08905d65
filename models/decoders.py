"""From a backbone's feature pyramid to one map at a given stride."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbone import FeatureLevel


class FeaturePyramid(nn.Module):
    """Lateral 1x1 convolutions, summed from coarse to fine (Lin et al. 2017, arXiv:1612.03144)."""

    def __init__(self, levels: Sequence[FeatureLevel], *, stride: int, width: int) -> None:
        super().__init__()
        self.used, growth = _levels_for(levels, stride)
        self.laterals = nn.ModuleList(nn.Conv2d(levels[index].channels, width, 1) for index in reversed(self.used))
        self.smooth = nn.ModuleList(_convolution(width, width) for _ in self.used)
        self.grow = _growth(width, growth)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        coarse_to_fine = list(zip(self.laterals, self.smooth, reversed(self.used), strict=True))
        merged: Tensor | None = None
        for lateral, smooth, index in coarse_to_fine:
            level = lateral(features[index])
            merged = smooth(level if merged is None else level + _like(merged, level))
        assert merged is not None
        grown: Tensor = self.grow(merged)
        return grown


class UDecoder(nn.Module):
    """Concatenation with each finer level, then two convolutions (Ronneberger et al. 2015, arXiv:1505.04597)."""

    def __init__(self, levels: Sequence[FeatureLevel], *, stride: int, width: int) -> None:
        super().__init__()
        self.used, growth = _levels_for(levels, stride)
        coarse_to_fine = [levels[index] for index in reversed(self.used)]
        self.deepest = _convolution(coarse_to_fine[0].channels, width)
        self.merges = nn.ModuleList(
            nn.Sequential(_convolution(width + level.channels, width), _convolution(width, width))
            for level in coarse_to_fine[1:]
        )
        self.grow = _growth(width, growth)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        coarse_to_fine = [features[index] for index in reversed(self.used)]
        merged: Tensor = self.deepest(coarse_to_fine[0])
        for merge, level in zip(self.merges, coarse_to_fine[1:], strict=True):
            merged = merge(torch.cat([_like(merged, level), level], dim=1))
        grown: Tensor = self.grow(merged)
        return grown


DECODERS = {"fpn": FeaturePyramid, "unet": UDecoder}


def _levels_for(levels: Sequence[FeatureLevel], stride: int) -> tuple[list[int], int]:
    """The levels to merge, finest first and one per stride, and by how much the result must still grow.

    Raises:
        ValueError: the backbone's maps are all finer than the stride.
    """
    deepest_of_stride = {level.stride: index for index, level in enumerate(levels)}
    used = [index for level_stride, index in sorted(deepest_of_stride.items()) if level_stride >= stride]
    if not used:
        raise ValueError(
            f"model.stride={stride} is coarser than the backbone's coarsest map ({max(deepest_of_stride)})"
        )
    finest = levels[used[0]].stride
    if finest % stride:
        raise ValueError(f"model.stride={stride} can't be made from the backbone's strides {sorted(deepest_of_stride)}")
    return used, finest // stride


def _growth(width: int, factor: int) -> nn.Module:
    """Doublings, and one step by the odd rest (7 for patches of 14 px at stride 2)."""
    steps: list[nn.Module] = []
    while factor > 1:
        step = 2 if factor % 2 == 0 else factor
        steps += [nn.Upsample(scale_factor=step, mode="bilinear"), _convolution(width, width)]
        factor //= step
    return nn.Sequential(*steps)


def _convolution(channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def _like(coarse: Tensor, fine: Tensor) -> Tensor:
    return F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
