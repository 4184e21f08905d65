"""Backbones: any timm model that offers features, with the normalisation its weights were trained under."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.timm_import import timm
from models.weights import load_weights


@dataclass(frozen=True)
class FeatureLevel:
    """One map of the pyramid: `channels` at 1/`stride` of the input."""

    channels: int
    stride: int


class Backbone(nn.Module):
    """(N, 3, H, W) uint8 images to feature maps, finest first. Mean and std are the model's own."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: str, input_size: tuple[int, int]) -> None:
        super().__init__()
        check_name(name)
        self.net = create_features(name, weights, input_size)
        self.levels = [
            FeatureLevel(channels, stride)
            for channels, stride in zip(
                self.net.feature_info.channels(), self.net.feature_info.reduction(), strict=True
            )
        ]
        pretrained = self.net.pretrained_cfg
        for key in ("mean", "std"):
            value = torch.tensor(pretrained[key], dtype=torch.float32)
            self.register_buffer(key, value.view(1, 3, 1, 1) * 255, persistent=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        normalised = (images.float() - self.mean) / self.std
        features: list[Tensor] = self.net(normalised)
        return features


def check_name(name: str) -> None:
    """Raises ValueError with the nearest names where timm knows no such model."""
    if timm.is_model(name.split(".")[0]):
        return
    near = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
    raise ValueError(f"model.backbone={name} is not a timm model; nearest: {', '.join(near) or 'none'}")


def create_features(name: str, weights: str, input_size: tuple[int, int]) -> nn.Module:
    """The timm model as a feature pyramid, filled with `weights` (none, bundled, hub or a file).

    Transformers are built for the input's (height, width); timm resamples position embeddings that it loads itself.
    """
    pretrained = timm.get_pretrained_cfg(name)
    options = {"img_size": input_size} if pretrained is not None and pretrained.fixed_input_size else {}
    try:
        net: nn.Module = timm.create_model(name, pretrained=False, features_only=True, **options)
    except (RuntimeError, AssertionError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"model.backbone={name} offers no feature maps ({error}); choose another timm model") from error
    load_weights(net, name, weights, options)
    return net
