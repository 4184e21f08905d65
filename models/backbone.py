"""Backbones: any timm model that offers features, with the normalisation its weights were trained under."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.frozen import gradients_where_trained
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
        register_normalisation(self, net.pretrained_cfg)

    def forward(self, images: Tensor) -> list[Tensor]:
        normalised = (images.float() - self.mean) / self.std
        with gradients_where_trained(self, images):
            features: list[Tensor] = self.net(normalised)
        return [level.permute(0, 3, 1, 2) for level in features] if self.channels_are_last else features


def check_name(name: str) -> None:
    """Raises ValueError with the nearest names where timm knows no such model, with the tags where no such tag."""
    architecture, dot, _ = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture.lower(), timm.list_models(), n=4, cutoff=0.5)
        raise ValueError(f"model.backbone={name} is not a timm model; nearest: {', '.join(near) or 'none'}")
    if dot and name not in (tagged := timm.list_models(f"{architecture}.*", pretrained=True)):
        choices = ", ".join([architecture, *tagged])
        raise ValueError(f"model.backbone={name} has a tag that timm does not know; choose one of {choices}")


def register_normalisation(module: nn.Module, pretrained: dict[str, Any]) -> None:
    """Give the module the buffers mean and std, (1, 3, 1, 1) of values from 0 to 255, that the weights came with."""
    for key in ("mean", "std"):
        value = torch.tensor(pretrained[key], dtype=torch.float32)
        module.register_buffer(key, value.view(1, 3, 1, 1) * 255, persistent=True)


def create_features(name: str, weights: str, input_size: tuple[int, int]) -> Any:
    """The timm model as a feature pyramid, filled with `weights` (none, bundled, hub or a file).

    Transformers are built for the input's (height, width); timm resamples position embeddings that it loads itself.

    Raises:
        ValueError: the model can't take such an input, or would cut off a part of the last patches.
    """
    options = {"features_only": True, **size_options(name, input_size)}
    with refused_inputs_explained(name, input_size):
        net: Any = timm.create_model(name, pretrained=False, **options)
        check_patches(name, input_size, net.feature_info.reduction())
        try_out(net, input_size)
    load_weights(net, name, weights, options)
    return net


def size_options(name: str, input_size: tuple[int, int]) -> dict[str, Any]:
    """What timm must know of the input before it creates the model."""
    return {"img_size": input_size} if timm.get_pretrained_cfg(name).fixed_input_size else {}


def check_patches(name: str, input_size: tuple[int, int], reductions: list[int]) -> None:
    """Raises ValueError where a transformer would cut off a part of the last patches."""
    height, width = input_size
    patch = min(reductions, default=1)
    if size_options(name, input_size) and (height % patch or width % patch):
        raise ValueError(f"patches of {patch} px must fill it")


@contextmanager
def refused_inputs_explained(name: str, input_size: tuple[int, int]) -> Iterator[None]:
    """Turns what timm and torch raise for an input that the model can't take into a ValueError for people."""
    try:
        yield
    except (RuntimeError, AssertionError, AttributeError, NotImplementedError, ValueError) as error:
        height, width = input_size
        raise ValueError(
            f"model.backbone={name} gives no feature maps for data.input_height={height} data.input_width={width} "
            f"({first_line(error)}); try multiples of 32, a larger or square input, or another model"
        ) from error


def try_out(net: nn.Module, input_size: tuple[int, int]) -> Any:
    """What the net answers to an input of this size; raises what it raises. In eval, so that statistics and random
    numbers stay."""
    net.eval()
    with torch.no_grad():
        answer = net(torch.zeros(1, 3, *input_size))
    net.train()
    return answer
