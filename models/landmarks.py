"""Landmark models: a backbone and a head that says where K points lie in the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbone import Backbone, FeatureLevel, try_out
from models.decoders import DECODERS
from models.frozen import needed, nothing_of, pooled
from models.heatmaps import expected_distance, local_expectation, parabola_peak, to_cells, to_pixels
from models.precision import full_precision

# Cells around a map's peak that are looked at: while training the whole peak (4 sigma of the default target), so that
# the expectation is unbiased; to decode only its top, which is exact for any radius and least disturbed by the tails.
EXPECTATION_RADIUS, TOP_RADIUS = 6, 2

DecoderBuilder = Callable[[Sequence[FeatureLevel]], nn.Module]


@dataclass
class LandmarkOutput:
    """points: (N, K, 2) input px, the model's answer; coarse: the same before refinement, None without it;
    log_heatmaps: (N, K, h, w), None for models without maps."""

    points: Tensor
    coarse: Tensor | None = None
    log_heatmaps: Tensor | None = None
    stride: int = 1

    @property
    def spread(self) -> Tensor | None:
        """How far the maps expect the landmarks to lie from the answer: (N, K) input px, None for models without."""
        if self.log_heatmaps is None:
            return None
        return self.stride * expected_distance(self.log_heatmaps, to_cells(self.points.float(), self.stride))


class HeatmapHead(nn.Module):
    """One map per landmark. `activation` says what a map is: softmax (a distribution over cells, left as logits) or
    sigmoid (a height from 0 to 1, as its logarithm)."""

    def __init__(
        self, decoder: nn.Module, *, num_landmarks: int, width: int, stride: int, dropout: float, activation: str
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.dropout = nn.Dropout2d(dropout)
        self.maps = nn.Conv2d(width, num_landmarks, 1)
        self.stride = stride
        self.sigmoid = activation == "sigmoid"
        nn.init.normal_(self.maps.weight, std=0.01)
        assert self.maps.bias is not None
        nn.init.constant_(self.maps.bias, -4.0 if self.sigmoid else 0.0)

    def forward(self, features: list[Tensor]) -> LandmarkOutput:
        decoded = self.dropout(self.decoder(features))
        with full_precision(decoded):
            maps = self.maps(decoded.float())
        log_heatmaps = F.logsigmoid(maps) if self.sigmoid else maps
        if self.training:
            cells = local_expectation(log_heatmaps, EXPECTATION_RADIUS)
        else:
            cells = parabola_peak(log_heatmaps, TOP_RADIUS)
        return LandmarkOutput(
            to_pixels(cells, self.stride),
            log_heatmaps=log_heatmaps,
            stride=self.stride,
        )

    def needed(self, features: list[Tensor]) -> list[Tensor]:
        """The levels that the decoder merges."""
        used = getattr(self.decoder, "used", range(len(features)))
        return [level if index in used else nothing_of(level) for index, level in enumerate(features)]


class CoordinateHead(nn.Module):
    """Pooled features of the coarsest map to displacements from the mean shape."""

    mean_shape: Tensor

    def __init__(
        self, channels: int, *, mean_shape: Tensor, input_size: tuple[int, int], hidden: int, dropout: float
    ) -> None:
        super().__init__()
        last = nn.Linear(hidden, 2 * len(mean_shape))
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(dropout), last)
        self.register_buffer("mean_shape", mean_shape.float())
        self.scale = max(input_size)

    def forward(self, features: list[Tensor]) -> LandmarkOutput:
        with full_precision(features[-1]):
            displacement = self.layers(features[-1].float().mean(dim=(2, 3))).unflatten(1, (-1, 2))
        return LandmarkOutput(self.mean_shape + self.scale * displacement)

    def needed(self, features: list[Tensor]) -> list[Tensor]:
        """The mean of the last level, which is all that a refinement looks at too."""
        return [*(nothing_of(level) for level in features[:-1]), pooled(features[-1])]


class Refinement(nn.Module):
    """A small MLP that corrects coordinates, given all of them and the pooled coarsest features. Starts as identity."""

    def __init__(self, channels: int, *, num_landmarks: int, input_size: tuple[int, int], hidden: int = 128) -> None:
        super().__init__()
        last = nn.Linear(hidden, 2 * num_landmarks)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(channels + 2 * num_landmarks, hidden), nn.ReLU(), last)
        self.scale = max(input_size)

    def forward(self, points: Tensor, features: list[Tensor]) -> Tensor:
        with full_precision(features[-1]):
            pooled = features[-1].float().mean(dim=(2, 3))
            correction = self.layers(torch.cat([pooled, points.flatten(1) / self.scale], dim=1))
        return points + self.scale * correction.unflatten(1, (-1, 2))


class LandmarkHead(nn.Module):
    """A head with, on demand, a refinement after it."""

    def __init__(self, head: nn.Module, refinement: Refinement | None) -> None:
        super().__init__()
        self.first = head
        self.refinement = refinement

    def forward(self, features: list[Tensor]) -> LandmarkOutput:
        output: LandmarkOutput = self.first(features)
        if self.refinement is not None:
            output.coarse = output.points
            output.points = self.refinement(output.points, features)
        return output

    def needed(self, features: list[Tensor]) -> list[Tensor]:
        return needed(self.first, features)


class LandmarkModel(nn.Module):
    """(N, 3, H, W) uint8 images, or what `features` gave for them, to a LandmarkOutput. `backbone` and `head` are the
    two groups of the optimizer."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def features(self, images: Tensor) -> list[Tensor]:
        """What the head needs of the images."""
        return needed(self.head, self.backbone(images))

    def forward(self, images: Tensor | list[Tensor]) -> LandmarkOutput:
        output: LandmarkOutput = self.head(images if isinstance(images, list) else self.backbone(images))
        return output


def build_heatmap_model(
    *,
    backbone: str,
    weights: str,
    num_landmarks: int,
    input_size: tuple[int, int],
    decoder: str | DecoderBuilder,
    stride: int,
    width: int,
    dropout: float,
    activation: str,
    refinement: bool,
) -> LandmarkModel:
    """Raises ValueError where a decoder of a user's own gives other maps than `width` and `stride` say."""
    body = Backbone(backbone, weights, input_size)
    if isinstance(decoder, str):
        decode: nn.Module = DECODERS[decoder](body.levels, stride=stride, width=width)
    else:
        decode = decoder(body.levels)
        _check_maps(decode, try_out(body, input_size), (width, input_size[0] // stride, input_size[1] // stride))
    head = HeatmapHead(
        decode,
        num_landmarks=num_landmarks,
        width=width,
        stride=stride,
        dropout=dropout,
        activation=activation,
    )
    return LandmarkModel(body, LandmarkHead(head, build_refinement(body, num_landmarks, input_size, refinement)))


def build_coordinate_model(
    *,
    backbone: str,
    weights: str,
    mean_shape: np.ndarray,
    input_size: tuple[int, int],
    hidden: int,
    dropout: float,
    refinement: bool,
) -> LandmarkModel:
    body = Backbone(backbone, weights, input_size)
    head = CoordinateHead(
        body.levels[-1].channels,
        mean_shape=torch.from_numpy(mean_shape),
        input_size=input_size,
        hidden=hidden,
        dropout=dropout,
    )
    return LandmarkModel(body, LandmarkHead(head, build_refinement(body, len(mean_shape), input_size, refinement)))


def _check_maps(decoder: nn.Module, features: list[Tensor], expected: tuple[int, ...]) -> None:
    decoder.eval()
    with torch.no_grad():
        maps = decoder(features)
    decoder.train()
    if tuple(maps.shape[1:]) != expected:
        raise ValueError(
            f"{type(decoder).__name__} gives maps of shape {tuple(maps.shape[1:])}, expected {expected}: "
            "model.width, then the input's height and width by model.stride"
        )


def build_refinement(
    body: Backbone, num_landmarks: int, input_size: tuple[int, int], wanted: bool
) -> Refinement | None:
    if not wanted:
        return None
    return Refinement(body.levels[-1].channels, num_landmarks=num_landmarks, input_size=input_size)
