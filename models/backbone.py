"""Backbones: any timm model that offers features, with the normalisation its weights were trained under."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.frozen import gradients_where_trained
from models.own_backbones import OWN_BACKBONES
from models.timm_import import timm
from models.weights import first_line, load_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROUND = 128  # px


@dataclass(frozen=True)
class FeatureLevel:
    """One map of the pyramid: `channels` at 1/`stride` of the input."""

    channels: int
    stride: int


class Backbone(nn.Module):
    """(N, 3, H, W) uint8 images to feature maps, finest first. Mean and std are the model's own."""

    mean: Tensor
    std: Tensor
    net: nn.Module

    def __init__(self, name: str, weights: str, input_size: tuple[int, int]) -> None:
        super().__init__()
        check_name(name)
        if name in OWN_BACKBONES:
            self.net, self.levels = create_own(name, weights, input_size)
            self.channels_are_last = False
            register_normalisation(self, normalisation_of(self.net))
            return
        net = create_features(name, weights, input_size)
        self.net = net
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
            features = as_maps(self.net(normalised))
        return [level.permute(0, 3, 1, 2) for level in features] if self.channels_are_last else features


def check_name(name: str) -> None:
    """Raises ValueError with the nearest names where timm knows no such model, with the tags where no such tag."""
    if name in OWN_BACKBONES:
        return
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


def create_own(name: str, weights: str, input_size: tuple[int, int]) -> tuple[nn.Module, list[FeatureLevel]]:
    """A user's own backbone, filled with `weights` (none or a file), and its levels as they show when it is tried out.

    Raises:
        ValueError: it gives no feature maps for such an input, or the weights are of another model.
    """
    net = OWN_BACKBONES[name]()
    if not isinstance(net, nn.Module):
        raise ValueError(f"model.backbone={name} makes a {type(net).__name__}, expected an nn.Module")
    with refused_inputs_explained(name, input_size):
        levels = _levels(net, input_size)
    load_weights(net, name, weights, {})
    return net, levels


def as_maps(answer: Any) -> list[Tensor]:
    """What a backbone answers, as the list of its feature maps; raises ValueError where it is none."""
    maps = [answer] if isinstance(answer, Tensor) else list(answer)
    if not maps or not all(isinstance(level, Tensor) and level.dim() == 4 for level in maps):
        shapes = [tuple(getattr(level, "shape", ())) for level in maps]
        raise ValueError(f"it must give feature maps (N, C, h, w), finest first, but gives {shapes}")
    return maps


def normalisation_of(net: nn.Module) -> dict[str, Any]:
    """mean and std, shares of the full range: the module's own attributes, else those of ImageNet."""
    return {"mean": getattr(net, "mean", IMAGENET_MEAN), "std": getattr(net, "std", IMAGENET_STD)}


def _levels(net: nn.Module, input_size: tuple[int, int]) -> list[FeatureLevel]:
    """Strides show without rounding where they divide the input, so one of round sides is tried first."""
    given = as_maps(try_out(net, input_size))
    size, maps = input_size, given
    with suppress(RuntimeError, ValueError, AssertionError):  # of a net that takes this one size alone
        round_size = (ROUND * -(-input_size[0] // ROUND), ROUND * -(-input_size[1] // ROUND))
        size, maps = round_size, as_maps(try_out(net, round_size))
    if any(fine.shape[2] < coarse.shape[2] for fine, coarse in pairwise(given)):
        raise ValueError(f"its maps must come finest first, but have heights {[level.shape[2] for level in given]}")
    return [FeatureLevel(level.shape[1], round(size[0] / level.shape[2])) for level in maps]


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
