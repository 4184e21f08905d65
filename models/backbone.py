"""Backbones: any timm model that offers features, with the normalisation its weights were trained under."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.timm_import import timm
from models.weights import first_line, load_weights


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
        net = create_features(name, weights, input_size)
        self.net: nn.Module = net
        # Swin and its kin keep the channels last.
        self.channels_are_last = getattr(net, "output_fmt", "NCHW") == "NHWC"
        self.levels = [
            FeatureLevel(channels, stride)
            for channels, stride in zip(net.feature_info.channels(), net.feature_info.reduction(), strict=True)
        ]
        for key in ("mean", "std"):
            value = torch.tensor(net.pretrained_cfg[key], dtype=torch.float32)
            self.register_buffer(key, value.view(1, 3, 1, 1) * 255, persistent=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        normalised = (images.float() - self.mean) / self.std
        features: list[Tensor] = self.net(normalised)
        return [level.permute(0, 3, 1, 2) for level in features] if self.channels_are_last else features


def check_name(name: str) -> None:
    """Raises ValueError with the nearest names where timm knows no such model, with the tags where no such tag."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture.lower(), timm.list_models(), n=4, cutoff=0.5)
        raise ValueError(f"model.backbone={name} is not a timm model; nearest: {', '.join(near) or 'none'}")
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if tag and name not in tagged:
        choices = ", ".join([architecture, *tagged])
        raise ValueError(f"model.backbone={name} has a tag that timm does not know; choose one of {choices}")


def create_features(name: str, weights: str, input_size: tuple[int, int]) -> Any:
    """The timm model as a feature pyramid, filled with `weights` (none, bundled, hub or a file).

    Transformers are built for the input's (height, width); timm resamples position embeddings that it loads itself.
    """
    options = {"img_size": input_size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    try:
        net = timm.create_model(name, pretrained=False, features_only=True, **options)
    except (RuntimeError, AssertionError, AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"model.backbone={name} offers no feature maps ({first_line(error)}); choose another timm model"
        ) from error
    check_input_size(net, name, input_size, in_whole_patches=bool(options))
    load_weights(net, name, weights, options)
    return net


def check_input_size(net: Any, name: str, input_size: tuple[int, int], *, in_whole_patches: bool) -> None:
    """Raises ValueError where the net would cut off a part of the input's last patches, or can't take the input."""
    height, width = input_size
    given = f"data.input_height={height} data.input_width={width}"
    patch = min(net.feature_info.reduction())
    if in_whole_patches and (height % patch or width % patch):
        raise ValueError(f"{given} must be multiples of {patch}, the patch of model.backbone={name}")
    net.eval()  # a look without traces: no batch-norm statistics, no random numbers
    try:
        with torch.no_grad():
            net(torch.zeros(1, 3, height, width))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(
            f"{given} don't suit model.backbone={name} ({first_line(error)}); "
            "try multiples of 32, a larger input, or another model"
        ) from error
    net.train()
