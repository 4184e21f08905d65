"""Batch norm over a batch that several processes share, with the statistics of all of it, on any device."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_PARAMETERS = inspect.signature(F.batch_norm)


class WholeBatchNorm(TorchFunctionMode):
    """While it is entered, batch norm in training has the statistics of the parts of all `count` processes.

    Whatever the module that asks for it: torch's own for this (SyncBatchNorm) stands in for torch's modules alone, and
    not on a CPU.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.batch_norm:
            given = _PARAMETERS.bind(*args, **(kwargs or {}))
            given.apply_defaults()
            if given.arguments.pop("training"):
                return whole_batch_norm(**given.arguments, count=self._count)
        return func(*args, **(kwargs or {}))


def whole_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    count: int,
) -> Tensor:
    """(N, C, ...) to the same shape. Every process has to call it; N may differ between them.

    Means and variances of the parts are put together as in Chan, Golub and LeVeque 1983 (The American Statistician 37,
    equation 2.1), which loses no digits where the mean is large.
    """
    with torch.no_grad():
        var, mean = torch.var_mean(input.float(), _all_but_channels(input), correction=0)
        size = mean.new_tensor([input.numel() / input.shape[1]])
        own = torch.cat([mean, var, size]).double()
        parts = [torch.empty_like(own) for _ in range(count)]
        dist.all_gather(parts, own)
        together = torch.stack(parts)
        means, variances, sizes = together[:, : len(mean)], together[:, len(mean) : -1], together[:, -1:]
        total = sizes.sum()
        shares = sizes / total
        whole_mean = (shares * means).sum(dim=0)
        whole_var = (shares * (variances + (means - whole_mean).square())).sum(dim=0)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(whole_mean.to(running_mean.dtype), momentum)
            running_var.lerp_((whole_var * total / (total - 1)).to(running_var.dtype), momentum)
        scale = (whole_var + eps).rsqrt().float()
    normalised: Tensor = _Normalised.apply(input, whole_mean.float(), scale, total.float())
    if weight is not None:
        normalised = normalised * _along_channels(weight, input)
    if bias is not None:
        normalised = normalised + _along_channels(bias, input)
    return normalised.to(input.dtype)


class _Normalised(torch.autograd.Function):
    """(input - mean) * scale, float32, whose mean and scale depend on the inputs of all processes."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, mean: Tensor, scale: Tensor, total: Tensor) -> Tensor:
        ctx.save_for_backward(input, mean, scale, total)
        return (input.float() - _along_channels(mean, input)) * _along_channels(scale, input)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        input, mean, scale, total = ctx.saved_tensors
        (gradient,) = gradients
        axes = _all_but_channels(input)
        normalised = (input.float() - _along_channels(mean, input)) * _along_channels(scale, input)
        sums = torch.stack([gradient.sum(axes), (gradient * normalised).sum(axes)])
        dist.all_reduce(sums)
        level, slope = (_along_channels(of, input) for of in sums / total)
        through = _along_channels(scale, input) * (gradient - level - normalised * slope)
        return through.to(input.dtype), None, None, None


def _all_but_channels(values: Tensor) -> list[int]:
    return [0, *range(2, values.dim())]


def _along_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.dim() - 2))
