"""Backbones: names, normalisation and the shapes of the pyramid, for convolutional nets and transformers."""

import pytest
import torch
from torch import Tensor, nn

from models.backbone import Backbone, check_name
from models.timm_import import timm

HEIGHT, WIDTH = 96, 64


def images(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("test_resnet", [2, 4, 8, 16, 32]),
        ("test_convnext", [4, 8, 16, 32]),
        ("test_vit", [16, 16, 16]),
        ("vit_tiny_patch16_224", [16, 16, 16]),
        ("tf_efficientnet_lite0", [2, 4, 8, 16, 32]),
        ("swin_tiny_patch4_window7_224", [4, 8, 16, 32]),  # keeps its channels last
    ],
)
def test_maps_have_the_declared_channels_and_strides_for_an_oblong_input(name: str, strides: list[int]) -> None:
    backbone = Backbone(name, "none", (HEIGHT, WIDTH)).eval()
    assert [level.stride for level in backbone.levels] == strides
    with torch.no_grad():
        features = backbone(images())
    expected = [(2, level.channels, HEIGHT // level.stride, WIDTH // level.stride) for level in backbone.levels]
    assert [tuple(feature.shape) for feature in features] == expected


def test_odd_inputs_give_maps_that_cover_the_frame() -> None:
    backbone = Backbone("test_resnet", "none", (95, 63)).eval()
    for level, feature in zip(backbone.levels, backbone(images(95, 63)), strict=True):
        assert feature.shape[-2:] == (-(-95 // level.stride), -(-63 // level.stride))


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "test_resnet", "test_vit", "vit_tiny_patch16_224.augreg_in21k"]
)
def test_images_are_normalised_by_the_models_own_mean_and_std(name: str) -> None:
    backbone = Backbone(name, "none", (HEIGHT, WIDTH)).eval()
    own = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(value, dtype=torch.float64).view(1, 3, 1, 1) for value in (own.mean, own.std))
    expected = (images().double() / 255 - mean) / std
    seen: list[Tensor] = []
    backbone.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone(images())
    torch.testing.assert_close(seen[0].double(), expected, atol=1e-6, rtol=1e-6)


def test_lite0_is_normalised_by_one_half_not_by_the_mean_of_imagenet() -> None:
    backbone = Backbone("tf_efficientnet_lite0", "none", (64, 64))
    assert backbone.mean.flatten().tolist() == backbone.std.flatten().tolist() == [127.5] * 3


def test_trying_the_input_out_leaves_batch_norm_and_random_numbers_alone() -> None:
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", "none", (64, 64))
    after = torch.rand(1)
    torch.manual_seed(0)
    plain = timm.create_model("test_resnet", features_only=True)
    assert torch.equal(after, torch.rand(1))
    assert all(module.training for module in backbone.modules())
    for key, tensor in plain.state_dict().items():
        assert torch.equal(backbone.net.state_dict()[key], tensor), key
    assert any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "tf_efficientnet_lite0.in1k"])
def test_names_with_and_without_a_tag_are_known(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet81", "resnet18"), ("ResNet18", "resnet18"), ("efficientnet-lite0", "efficientnet_lite0"), ("@", "none")],
)
def test_unknown_names_are_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.backbone={name} is not a timm model; nearest: .*\b{nearest}\b"):
        check_name(name)


def test_unknown_tags_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^model\.backbone=resnet18\.a9_in1k has a tag .*\bresnet18\.a1_in1k\b"):
        check_name("resnet18.a9_in1k")


@pytest.mark.parametrize("size", [(90, 64), (96, 72)])
def test_transformers_refuse_an_input_that_is_no_multiple_of_their_patch(size: tuple[int, int]) -> None:
    message = rf"data\.input_height={size[0]} data\.input_width={size[1]} \(patches of 16 px must fill it\)"
    with pytest.raises(ValueError, match=message):
        Backbone("test_vit", "none", size)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nest_tiny", "square inputs"), ("inception_v4", "Kernel size"), ("efficientformer_l1", "size of")],
)
def test_models_without_maps_for_an_input_are_refused_in_one_line_before_training(name: str, reason: str) -> None:
    message = (
        rf"^model\.backbone={name} gives no feature maps for data\.input_height=96 data\.input_width=64 \(.*{reason}"
    )
    with pytest.raises(ValueError, match=message) as error:
        Backbone(name, "none", (HEIGHT, WIDTH))
    assert "\n" not in str(error.value)
