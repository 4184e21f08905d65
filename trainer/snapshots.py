"""Snapshots at the ends of cycles, where the rate is lowest: their mean weights, and their ensemble.

Loshchilov and Hutter 2017 (arXiv:1608.03983) take the weights at the minima of a cyclical rate, Huang et al. 2017
(arXiv:1704.00109) average the predictions of several, Izmailov et al. 2018 (arXiv:1803.05407) the weights themselves,
with the statistics of batch norm estimated anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.device import Compute
from trainer.loop import Batch
from trainer.schedules import Schedule


def ends_cycle(schedule: Schedule, step: int) -> bool:
    """Whether update `step` (from 0) of a phase is the last of a cycle."""
    return schedule.cycle_at(step + 1) > schedule.cycle_at(step)


def mean_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights in safetensors files; counters are those of the last file."""
    members = [load_file(file) for file in files]
    return {
        key: torch.stack([member[key].double() for member in members]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in members[-1].items()
    }


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Iterable[Batch], inputs: Sequence[str], compute: Compute) -> None:
    """Give batch norm the statistics of these batches under the model's weights.

    Of the modules that are in training mode only: what is kept in training stays as it is. All batches weigh the same.
    Modes are put back as they were; dropout is off meanwhile.
    """
    modes = [module.training for module in model.modules()]
    estimated = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in estimated]
    model.eval()
    for norm in estimated:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    for cpu_batch in batches:
        batch = compute.send(cpu_batch)
        with compute.autocast():
            model(*(batch[name] for name in inputs))
    for norm, momentum in zip(estimated, momenta, strict=True):
        norm.momentum = momentum
    for module, training in zip(model.modules(), modes, strict=True):
        module.training = training
