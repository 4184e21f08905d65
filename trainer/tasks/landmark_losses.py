"""Losses of predicted coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


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
