"""Optimizers with named groups: backbone and head, each with and without weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn, optim

GROUPS = ("backbone", "head")
FUSED_ON = ("cpu", "cuda")


def parameter_groups(backbone: nn.Module, head: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that have gradients, by the part they belong to and whether they are decayed.

    Norms and biases, the parameters of one dimension, are not.
    """
    groups = []
    for name, module in (("backbone", backbone), ("head", head)):
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for decay, parameters in (
            (weight_decay, [parameter for parameter in trained if parameter.ndim > 1]),
            (0.0, [parameter for parameter in trained if parameter.ndim <= 1]),
        ):
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "name": name})
    return groups


def built(family: type[optim.Optimizer], groups: list[dict[str, Any]], **settings: Any) -> optim.Optimizer:
    """An optimizer of this family; in one kernel per update where torch has it for the device.

    Such a kernel takes parameters, gradients and its own state for rows of numbers in memory, and would pair the wrong
    ones, without a word, where their layouts differ. So state that is loaded is laid out as its parameters are.
    """
    fused = all(parameter.device.type in FUSED_ON for group in groups for parameter in group["params"])
    optimizer = family(groups, lr=0.0, fused=fused, **settings)  # type: ignore[call-arg]  # of these families
    optimizer.register_load_state_dict_post_hook(_lay_out_as_parameters)
    return optimizer


def _lay_out_as_parameters(optimizer: optim.Optimizer) -> None:
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            alike = isinstance(value, torch.Tensor) and value.shape == parameter.shape
            if alike and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def set_rates(
    optimizer: optim.Optimizer, lr: float, backbone_lr_ratio: float, momentum: float | None
) -> dict[str, float]:
    """Give the head `lr` and the backbone `lr * backbone_lr_ratio`; returns the rate of each group that is trained.

    `momentum`, where not None, becomes SGD's momentum or Adam's first beta.
    """
    used = {}
    for group in optimizer.param_groups:
        group["lr"] = lr * backbone_lr_ratio if group["name"] == "backbone" else lr
        used[group["name"]] = group["lr"]
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif momentum is not None:
            group["momentum"] = momentum
    return used


def momentum_of(optimizer: optim.Optimizer) -> float:
    group = optimizer.param_groups[0]
    return float(group["betas"][0] if "betas" in group else group["momentum"])


@torch.no_grad()
def gradient_norm(optimizer: optim.Optimizer, clip_norm: float | None) -> float:
    """The norm of all gradients; they are scaled down to `clip_norm` where that is smaller."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0.0
    # What torch.nn.utils.get_total_norm computes, without its sorting by device, which takes longer than the norm.
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    found = norm.item()
    # torch scales by min(1, clip_norm / (norm + 1e-6)), and reads and writes all gradients also where that is 1.
    if clip_norm is not None and found > 0.99 * clip_norm - 1e-6:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return found
