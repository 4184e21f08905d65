"""Gradients of grouped convolutions under bfloat16 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

Pair = int | Sequence[int]


class GroupedGradientsInFloat32(TorchFunctionMode):
    """While it is on, grouped convolutions under bfloat16's autocast give what they give without it, and their
    gradients are computed in float32: on a CPU those in bfloat16 take up to twenty times as long (strides, 5 x 5)."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (_conv2d if func is torch.conv2d else func)(*args, **(kwargs or {}))


def _conv2d(
    input: Tensor,  # torch's own names, for they may come as keywords
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    trained = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
    rounded = _rounds_to_bfloat16() and input.dtype in (torch.float32, torch.bfloat16)
    if groups == 1 or not (trained and rounded and input.dim() == 4) or isinstance(padding, str):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    options = (_pair(stride), _pair(padding), _pair(dilation), groups)
    output: Tensor = _Grouped.apply(input.bfloat16(), weight, bias, options)
    return output


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, options: Any) -> Tensor:
        rounded = weight.bfloat16()
        ctx.save_for_backward(images, rounded)  # what autocast saves, so that checkpointing finds the same
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.options = options
        return torch.conv2d(images, rounded, None if bias is None else bias.bfloat16(), *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        of_images, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient.float(),
            images.float(),
            weight.float(),
            ctx.bias_sizes,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            list(ctx.needs_input_grad[:3]),
        )
        return of_images, of_weight, of_bias, None


def _rounds_to_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _pair(value: Pair) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
