"""Trunks: any timm model up to its classifier, as one feature map. Pyramids end earlier and lack its trained end."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from models.backbone import (
    as_maps,
    check_name,
    check_patches,
    create_own,
    normalisation_of,
    refused_inputs_explained,
    register_normalisation,
    size_options,
    try_out,
)
from models.frozen import gradients_where_trained
from models.own_backbones import OWN_BACKBONES
from models.timm_import import timm
from models.weights import load_weights


class Trunk(nn.Module):
    """(N, 3, H, W) uint8 images to the map (N, C, h, w) that timm's classifier pools; mean and std are the model's own.

    It includes what the weights have learnt before the classifier: convolutions that widen the last map (lite0: 320 to
    1280 channels) and norms. Those that pool before such layers (MobileNetV3, ConvNeXt) have them applied to each cell,
    and what then is pooled differs from timm's. Models that can't do without pooling give a map of one cell.
    """

    mean: Tensor
    std: Tensor
    net: nn.Module

    def __init__(self, name: str, weights: str, input_size: tuple[int, int]) -> None:
        super().__init__()
        check_name(name)
        if name in OWN_BACKBONES:
            self.net, levels = create_own(name, weights, input_size)
            self.channels_are_last, self.prefix_tokens = False, 0
            register_normalisation(self, normalisation_of(self.net))
            last = as_maps(try_out(self.net, input_size))[-1]
            self.channels, self.map_size = levels[-1].channels, (last.shape[2], last.shape[3])
            return
        net = _create(name, weights, input_size)
        self.net = net
        self.channels_are_last = getattr(net, "output_fmt", "NCHW") == "NHWC"
        self.prefix_tokens = _prefix_tokens(net)
        register_normalisation(self, net.pretrained_cfg)
        with torch.no_grad(), refused_inputs_explained(name, input_size):
            shape = self._as_map(try_out(net, input_size), input_size).shape
        self.channels, self.map_size = shape[1], (shape[2], shape[3])

    def forward(self, images: Tensor) -> Tensor:
        normalised = (images.float() - self.mean) / self.std
        with gradients_where_trained(self, images):
            features = self.net(normalised)
        return self._as_map(features, (images.shape[-2], images.shape[-1]))

    def _as_map(self, features: Any, input_size: tuple[int, int]) -> Tensor:
        if not isinstance(features, Tensor):  # the maps of a user's own backbone
            last: Tensor = features[-1]
            return last
        if features.dim() == 2:
            return features[:, :, None, None]
        if features.dim() == 3:
            tokens = features if features.shape[1] == 1 else features[:, self.prefix_tokens :]
            return tokens.transpose(1, 2).unflatten(2, _grid(tokens.shape[1], input_size))
        return features.permute(0, 3, 1, 2) if self.channels_are_last else features


def _create(name: str, weights: str, input_size: tuple[int, int]) -> Any:
    """Raises ValueError where the model can't take such an input or the weights don't fit."""
    options = {"num_classes": 0, **size_options(name, input_size)}
    with refused_inputs_explained(name, input_size):
        net: Any = timm.create_model(name, pretrained=False, **options)
        # Not an option of create_model: some transformers would then put their last norm elsewhere than their weights.
        with suppress(AssertionError):  # of models that can't do without pooling
            net.reset_classifier(0, global_pool="")
        check_patches(name, input_size, [level["reduction"] for level in getattr(net, "feature_info", [])])
        try_out(net, input_size)
    load_weights(net, name, weights, options)
    return net


def _prefix_tokens(net: Any) -> int:
    """Class and register tokens before those of the patches."""
    declared = getattr(net, "num_prefix_tokens", None)
    return int(getattr(net, "cls_token", None) is not None) if declared is None else int(declared)


def _grid(num_tokens: int, input_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the patches, whose grid has the shape of the input."""
    rows = max(1, round(math.sqrt(num_tokens * input_size[0] / input_size[1])))
    if num_tokens % rows:
        raise ValueError(f"its {num_tokens} tokens form no grid")
    return rows, num_tokens // rows
