"""What heads of a user's own have to build: a decoder of heatmaps, points, or the outputs of a label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.config.models import HeatmapModelConfig, LabelModelConfig, LandmarkModelConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from models.backbone import FeatureLevel
    from models.classifiers import LabelModel
    from models.landmarks import LandmarkModel

OwnDecoder = HeatmapModelConfig  # its build_decoder() is all that it lacks


@dataclass(kw_only=True)
class OwnPoints(LandmarkModelConfig, ABC):
    """Landmarks without heatmaps: points right from the feature maps."""

    @abstractmethod
    def build_head(
        self, levels: Sequence[FeatureLevel], mean_shape: np.ndarray, input_size: tuple[int, int]
    ) -> nn.Module:
        """A module that makes of the list of feature maps, finest first, the points (N, K, 2), x and y in input px.

        `levels`: channels and stride of each map; `mean_shape`: (K, 2) of the training landmarks in input px;
        `input_size`: (height, width).
        """

    def build(self, *, mean_shape: np.ndarray, input_size: tuple[int, int], heatmap_loss: str) -> LandmarkModel:
        from models.own_heads import build_points_model

        return build_points_model(
            backbone=self.backbone,
            weights=self.weights,
            num_landmarks=len(mean_shape),
            input_size=input_size,
            build_head=lambda levels: self.build_head(levels, mean_shape, input_size),
            refinement=self.refinement,
        )


@dataclass(kw_only=True)
class OwnLabelHead(LabelModelConfig, ABC):
    """A class or a number from the last feature map."""

    @abstractmethod
    def build_head(self, channels: int, num_outputs: int, num_covariates: int) -> nn.Module:
        """A module that makes of a map (N, channels, h, w) and covariates (N, num_covariates) the outputs
        (N, num_outputs): logits of classes, or the number as (number - mean) / std of the training images."""

    def build(self, *, input_size: tuple[int, int], num_outputs: int, num_covariates: int) -> LabelModel:
        from models.own_heads import build_own_label_model

        return build_own_label_model(
            backbone=self.backbone,
            weights=self.weights,
            input_size=input_size,
            num_outputs=num_outputs,
            num_covariates=num_covariates,
            build_head=self.build_head,
        )
