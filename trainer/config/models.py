"""Which network (group `model`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.config.checks import check_choice, check_not_negative, check_positive

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from models.backbone import FeatureLevel
    from models.classifiers import LabelModel
    from models.landmarks import LandmarkModel


@dataclass(kw_only=True)
class ModelConfig:
    kind: str
    backbone: str
    weights: str
    dropout: float

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout={self.dropout} must lie in 0 to 1 (1 excluded)")


@dataclass(kw_only=True)
class LandmarkModelConfig(ModelConfig, ABC):
    refinement: bool
    refinement_weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("model.refinement_weight", self.refinement_weight)

    @abstractmethod
    def build(self, *, mean_shape: np.ndarray, input_size: tuple[int, int], heatmap_loss: str) -> LandmarkModel:
        """The network for landmarks whose mean shape, (K, 2) in input px, is known; `input_size` is (height, width)."""


@dataclass(kw_only=True)
class HeatmapModelConfig(LandmarkModelConfig, ABC):
    """Heatmaps, whatever decodes the feature maps."""

    stride: int
    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("model.width", self.width)
        if self.stride not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"model.stride={self.stride} is not one of 1, 2, 4, 8, 16, 32")

    @abstractmethod
    def build_decoder(self, levels: Sequence[FeatureLevel]) -> nn.Module:
        """A module that makes of the feature maps, finest first, one map (N, width, H / stride, W / stride)."""

    def build(self, *, mean_shape: np.ndarray, input_size: tuple[int, int], heatmap_loss: str) -> LandmarkModel:
        from models.landmarks import build_heatmap_model

        return build_heatmap_model(
            backbone=self.backbone,
            weights=self.weights,
            num_landmarks=len(mean_shape),
            input_size=input_size,
            decoder=self.build_decoder,
            stride=self.stride,
            width=self.width,
            dropout=self.dropout,
            activation="sigmoid" if heatmap_loss == "mse" else "softmax",
            refinement=self.refinement,
        )


@dataclass(kw_only=True)
class HeatmapConfig(HeatmapModelConfig):
    decoder: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("model.decoder", self.decoder, ("fpn", "unet"))

    def build_decoder(self, levels: Sequence[FeatureLevel]) -> nn.Module:
        from models.decoders import DECODERS

        return DECODERS[self.decoder](levels, stride=self.stride, width=self.width)


@dataclass(kw_only=True)
class CoordinatesConfig(LandmarkModelConfig):
    hidden: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("model.hidden", self.hidden)

    def build(self, *, mean_shape: np.ndarray, input_size: tuple[int, int], heatmap_loss: str) -> LandmarkModel:
        from models.landmarks import build_coordinate_model

        return build_coordinate_model(
            backbone=self.backbone,
            weights=self.weights,
            mean_shape=mean_shape,
            input_size=input_size,
            hidden=self.hidden,
            dropout=self.dropout,
            refinement=self.refinement,
        )


@dataclass(kw_only=True)
class LabelModelConfig(ModelConfig, ABC):
    @abstractmethod
    def build(self, *, input_size: tuple[int, int], num_outputs: int, num_covariates: int) -> LabelModel:
        """The network for classes or numbers; `input_size` is (height, width)."""


@dataclass(kw_only=True)
class ClassifierConfig(LabelModelConfig):
    def build(self, *, input_size: tuple[int, int], num_outputs: int, num_covariates: int) -> LabelModel:
        from models.classifiers import build_label_model

        return build_label_model(
            backbone=self.backbone,
            weights=self.weights,
            input_size=input_size,
            num_outputs=num_outputs,
            num_covariates=num_covariates,
            head="pooled",
            hidden=0,
            embedding=0,
            dropout=self.dropout,
        )


@dataclass(kw_only=True)
class CovariateConfig(LabelModelConfig):
    hidden: int
    embedding: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("model.hidden", self.hidden)
        check_positive("model.embedding", self.embedding)

    def build(self, *, input_size: tuple[int, int], num_outputs: int, num_covariates: int) -> LabelModel:
        from models.classifiers import build_label_model

        return build_label_model(
            backbone=self.backbone,
            weights=self.weights,
            input_size=input_size,
            num_outputs=num_outputs,
            num_covariates=num_covariates,
            head="attention" if self.kind == "attention_covariate" else "covariate",
            hidden=self.hidden,
            embedding=self.embedding,
            dropout=self.dropout,
        )
