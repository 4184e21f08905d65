"""Decoders: the size of their map, for every stride and for maps of odd sizes, and the flow of gradients."""

import pytest
import torch
from torch import Tensor

from models.backbone import FeatureLevel
from models.decoders import DECODERS

PYRAMID = [FeatureLevel(channels, stride) for channels, stride in [(3, 2), (4, 4), (5, 8), (6, 16), (7, 32)]]
WIDTH = 8


def features_of(levels: list[FeatureLevel], height: int, width: int) -> list[Tensor]:
    """Maps as convolutions with padding make them: sizes rounded up."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, level.channels, -(-height // level.stride), -(-width // level.stride), generator=generator)
        for level in levels
    ]


@pytest.mark.parametrize("size", [(96, 64), (95, 63), (101, 77)])
@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("kind", DECODERS)
def test_map_has_a_cell_for_each_stride_of_pixels_also_for_odd_sizes(
    kind: str, stride: int, size: tuple[int, int]
) -> None:
    decoder = DECODERS[kind](PYRAMID, stride=stride, width=WIDTH)
    decoded = decoder(features_of(PYRAMID, *size))
    assert decoded.shape == (2, WIDTH, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize(
    ("levels", "stride", "size"),
    [
        (PYRAMID, 1, (96, 64)),
        (PYRAMID[1:], 2, (96, 64)),
        ([FeatureLevel(6, 16)] * 3, 4, (96, 64)),  # a transformer: all maps at its patch
        ([FeatureLevel(6, 14)] * 3, 2, (112, 84)),  # 7 is no power of two
        ([FeatureLevel(6, 14)] * 3, 1, (112, 84)),
    ],
)
@pytest.mark.parametrize("kind", DECODERS)
def test_map_grows_beyond_the_finest_level(
    kind: str, levels: list[FeatureLevel], stride: int, size: tuple[int, int]
) -> None:
    decoded = DECODERS[kind](levels, stride=stride, width=WIDTH)(features_of(levels, *size))
    assert decoded.shape == (2, WIDTH, size[0] // stride, size[1] // stride)


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("kind", DECODERS)
def test_gradient_reaches_every_parameter_and_every_level_in_use(kind: str, stride: int) -> None:
    decoder = DECODERS[kind](PYRAMID, stride=stride, width=WIDTH)
    features = [feature.requires_grad_() for feature in features_of(PYRAMID, 128, 128)]
    decoder(features).square().sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    in_use = [feature.grad is not None and bool(feature.grad.abs().sum() > 0) for feature in features]
    assert in_use == [level.stride >= stride for level in PYRAMID]


@pytest.mark.parametrize("kind", DECODERS)
def test_a_stride_coarser_than_the_coarsest_map_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^model\.stride=32 is coarser than the backbone's coarsest map \(16\)"):
        DECODERS[kind](PYRAMID[:4], stride=32, width=WIDTH)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_stride_that_does_not_divide_the_patch_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^model\.stride=4 can't be made from the backbone's strides \[14\]"):
        DECODERS[kind]([FeatureLevel(6, 14)], stride=4, width=WIDTH)
