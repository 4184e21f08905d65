"""Grouped convolutions under bf16 on a CPU: the answers of autocast, gradients computed in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from trainer.device import Compute

BF16 = Compute(torch.device("cpu"), "bf16", "channels_last")
LAYERS = {
    "depthwise": {"groups": 8},
    "strided 5 x 5": {"groups": 8, "kernel_size": 5, "stride": 2, "padding": 2},
    "pairs of channels, dilated, with a bias": {"groups": 4, "bias": True, "dilation": 2, "padding": (2, 1)},
}


def layer(**options: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, 16, **({"kernel_size": 3, "bias": False} | options))


class GradientDtypes(TorchDispatchMode):
    """The dtypes in which gradients of convolutions are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.seen.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


def gradients(convolution: nn.Conv2d, images: Tensor, towards: Tensor, compute: Compute) -> list[Tensor]:
    """The output, and the gradients of images and parameters."""
    images = images.clone().requires_grad_()
    parameters = list(convolution.parameters())
    with compute.autocast():
        output = convolution(images)
    found = torch.autograd.grad(output, [images, *parameters], towards.to(output.dtype))
    assert [one.dtype for one in found] == [torch.float32] * len(found)
    return [output.detach(), *found]


@pytest.mark.parametrize("options", LAYERS.values(), ids=list(LAYERS))
def test_gradients_are_those_of_double_precision_from_the_rounded_numbers(options: dict[str, Any]) -> None:
    convolution = layer(**options)
    images = torch.randn(3, 8, 13, 11).bfloat16().float()
    with torch.no_grad():
        for parameter in convolution.parameters():
            parameter.copy_(parameter.bfloat16())
        towards = torch.randn_like(convolution(images)).bfloat16().float()

    found = gradients(convolution, images, towards, BF16)

    exact = images.double().requires_grad_()
    twin = layer(**options).double()
    twin.load_state_dict(convolution.state_dict())
    wanted = torch.autograd.grad(twin(exact), [exact, *twin.parameters()], towards.double())
    torch.testing.assert_close(found[1].double(), wanted[0], rtol=2**-8, atol=1e-5)  # it goes on as bfloat16
    for one, other in zip(found[2:], wanted[1:], strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", LAYERS.values(), ids=list(LAYERS))
def test_answers_are_those_of_autocast_to_the_bit(options: dict[str, Any]) -> None:
    convolution, images = layer(**options), torch.randn(3, 8, 13, 11)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = convolution(images)
    with BF16.autocast():
        found = convolution(images)
        with torch.no_grad():
            unlearnt = convolution(images)
    assert torch.equal(found, wanted)
    assert torch.equal(unlearnt, wanted)


@pytest.mark.parametrize(
    ("groups", "precision", "wanted"),
    [(8, "bf16", torch.float32), (1, "bf16", torch.bfloat16), (8, "fp32", torch.float32)],
)
def test_gradients_of_grouped_convolutions_alone_are_computed_in_float32(
    groups: int, precision: str, wanted: torch.dtype
) -> None:
    convolution, images = layer(groups=groups), torch.randn(3, 8, 13, 11, requires_grad=True)
    with Compute(torch.device("cpu"), precision, "channels_last").autocast():
        output = convolution(images)
    with GradientDtypes() as gradients_in:
        output.sum().backward()
    assert gradients_in.seen == [wanted]


def test_where_autocast_is_off_within_it_nothing_is_rounded() -> None:
    convolution, images = layer(groups=8), torch.randn(3, 8, 13, 11, requires_grad=True)
    with BF16.autocast(), torch.autocast("cpu", enabled=False):
        found = convolution(images)
    assert torch.equal(found, convolution(images))


def test_gradients_are_the_same_where_the_forward_pass_is_made_again_for_them() -> None:
    convolution, images = layer(groups=8), torch.randn(3, 8, 13, 11, requires_grad=True)
    found = []
    for again in (False, True):
        with BF16.autocast():
            output = checkpoint(convolution, images, use_reentrant=False) if again else convolution(images)
        found.append(torch.autograd.grad(output.sum(), [images, convolution.weight]))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(("dtype", "shape"), [(torch.float64, (3, 8, 13, 11)), (torch.float32, (8, 13, 11))])
def test_what_autocast_does_not_round_and_images_without_a_batch_are_left_to_torch(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    convolution, images = layer(groups=8).to(dtype), torch.randn(shape, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = convolution(images)
    with BF16.autocast():
        found = convolution(images)
    assert torch.equal(found, wanted)
    assert found.dtype == wanted.dtype
    found.sum().backward()
    assert images.grad is not None


def test_a_frozen_layer_passes_on_gradients_and_gets_none() -> None:
    convolution, images = layer(groups=8).requires_grad_(False), torch.randn(3, 8, 13, 11, requires_grad=True)
    with BF16.autocast():
        convolution(images).sum().backward()
    assert images.grad is not None
    assert convolution.weight.grad is None
