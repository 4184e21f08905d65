"""Losses of predicted coordinates and heatmaps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.heatmaps import gaussian_heatmaps, heatmap_cross_entropy, heatmap_squared_error
from models.landmarks import LandmarkOutput
from models.precision import widened


@dataclass(frozen=True)
class PointLoss:
    """A loss of coordinate differences in input px, per landmark: mean over x and y."""

    kind: str  # l1, smooth_l1, wing
    wing_width: float
    wing_curvature: float

    def __call__(self, points: Tensor, target: Tensor) -> Tensor:
        """(N, K, 2) and (N, K, 2) to (N, K)."""
        if self.kind == "l1":
            return (points - target).abs().mean(dim=-1)
        if self.kind == "smooth_l1":
            return F.smooth_l1_loss(points, target, reduction="none").mean(dim=-1)
        return self._wing((points - target).abs()).mean(dim=-1)

    def _wing(self, distance: Tensor) -> Tensor:
        """Feng et al. 2018 (arXiv:1711.06753), equation 5: w ln(1 + d / epsilon) below w, d - C above."""
        width, curvature = self.wing_width, self.wing_curvature
        offset = width - width * math.log(1 + width / curvature)
        return torch.where(distance < width, width * torch.log1p(distance / curvature), distance - offset)


@dataclass(frozen=True, kw_only=True)
class LandmarkLoss:
    """The loss of a model's answer: of its maps, of its coordinates, and of these after refinement."""

    heatmap: str  # cross_entropy, mse
    heatmap_weight: float
    sigma: float  # of the target Gaussian, in cells
    points: PointLoss
    points_weight: float
    refinement_weight: float

    def __call__(self, output: LandmarkOutput, target: Tensor, visible: Tensor) -> Tensor:
        """Mean over the landmarks (N, K, 2) that are `visible` (N, K); of those that augmentation moved out of the
        frame none for models with heatmaps, which have no cell for them."""
        points = widened(output.points)
        coarse = points if output.coarse is None else widened(output.coarse)
        visible = self.counted(output, target, visible)
        total = points.new_zeros(())
        if output.log_heatmaps is not None and self.heatmap_weight:
            height, width = output.log_heatmaps.shape[-2:]
            targets = gaussian_heatmaps(target, (height, width), output.stride, self.sigma)
            of_maps = heatmap_cross_entropy if self.heatmap == "cross_entropy" else heatmap_squared_error
            total = total + self.heatmap_weight * _mean_where(of_maps(widened(output.log_heatmaps), targets), visible)
        if self.points_weight:
            total = total + self.points_weight * _mean_where(self.points(coarse, target), visible)
        if output.coarse is not None and self.refinement_weight:
            total = total + self.refinement_weight * _mean_where(self.points(points, target), visible)
        return total

    def counted(self, output: LandmarkOutput, target: Tensor, visible: Tensor) -> Tensor:
        """(N, K) bool: the landmarks that the mean is over."""
        if output.log_heatmaps is None:
            return visible
        height, width = output.log_heatmaps.shape[-2:]
        return visible & self._near_frame(target, (height, width), output.stride)

    def _near_frame(self, points: Tensor, size: tuple[int, int], stride: int) -> Tensor:
        """Whether (N, K, 2) points lie in the frame or within one sigma of it, where a map still shows their flank."""
        margin = self.sigma * stride
        limit = points.new_tensor([size[1] * stride - 1.0, size[0] * stride - 1.0])
        return ((points >= -margin) & (points <= limit + margin)).all(dim=-1)


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)
