"""Models around a head of a user's own, which is tried out as soon as it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.backbone import Backbone, FeatureLevel, try_out
from models.classifiers import LabelModel, LabelOutput
from models.landmarks import LandmarkHead, LandmarkModel, LandmarkOutput, build_refinement
from models.precision import full_precision
from models.trunk import Trunk


class PointsHead(nn.Module):
    """Points (N, K, 2) in input px as a LandmarkOutput."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own

    def forward(self, features: list[Tensor]) -> LandmarkOutput:
        with full_precision(features[-1]):
            return LandmarkOutput(self.own([level.float() for level in features]))


class OutputsHead(nn.Module):
    """Outputs (N, O) as a LabelOutput."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own

    def forward(self, features: Tensor, covariates: Tensor) -> LabelOutput:
        with full_precision(features):
            return LabelOutput(self.own(features.float(), covariates.float()))


def build_points_model(
    *,
    backbone: str,
    weights: str,
    num_landmarks: int,
    input_size: tuple[int, int],
    build_head: Callable[[Sequence[FeatureLevel]], nn.Module],
    refinement: bool,
) -> LandmarkModel:
    """Raises ValueError where the head's answer is not (1, K, 2) for one image."""
    body = Backbone(backbone, weights, input_size)
    own = build_head(body.levels)
    _check_answer(own, (try_out(body, input_size),), (1, num_landmarks, 2), "the points (images, landmarks, x and y)")
    refining = build_refinement(body, num_landmarks, input_size, refinement)
    return LandmarkModel(body, LandmarkHead(PointsHead(own), refining))


def build_own_label_model(
    *,
    backbone: str,
    weights: str,
    input_size: tuple[int, int],
    num_outputs: int,
    num_covariates: int,
    build_head: Callable[[int, int, int], nn.Module],
) -> LabelModel:
    """Raises ValueError where the head's answer is not (1, num_outputs) for one image."""
    trunk = Trunk(backbone, weights, input_size)
    own = build_head(trunk.channels, num_outputs, num_covariates)
    given = (try_out(trunk, input_size), torch.zeros(1, num_covariates))
    _check_answer(own, given, (1, num_outputs), "(images, outputs)")
    return LabelModel(trunk, OutputsHead(own))


def _check_answer(own: nn.Module, given: tuple[object, ...], expected: tuple[int, ...], what: str) -> None:
    own.eval()
    with torch.no_grad():
        answer = own(*given)
    own.train()
    if tuple(answer.shape) != expected:
        raise ValueError(f"{type(own).__name__} gives {tuple(answer.shape)} for one image, expected {expected}: {what}")
