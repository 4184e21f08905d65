"""Trunks give the map that timm's own classifier pools, of convolutional nets and transformers alike."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.timm_import import timm
from models.trunk import Trunk

HEIGHT, WIDTH = 96, 64
DATA = Path(os.environ.get("TRAINER_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
REFERENCE = DATA.parent / "weights" / "tf_efficientnet_lite0.safetensors"


def images(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


def normalised(trunk: Trunk) -> Tensor:
    return (images().float() - trunk.mean) / trunk.std


@pytest.mark.parametrize(
    ("name", "channels", "stride"),
    [
        ("test_resnet", 96, 32),
        ("test_efficientnet", 256, 32),
        ("test_convnext", 64, 32),
        ("tf_efficientnet_lite0", 1280, 32),  # the pyramid ends with 320
        ("test_vit", 64, 16),  # tokens, a class token first
        ("mixer_s32_224", 512, 32),  # tokens alone
    ],
)
def test_the_map_has_the_declared_shape_for_an_oblong_input(name: str, channels: int, stride: int) -> None:
    trunk = Trunk(name, "none", (HEIGHT, WIDTH)).eval()
    with torch.no_grad():
        features = trunk(images())
    assert (trunk.channels, trunk.map_size) == (channels, (HEIGHT // stride, WIDTH // stride))
    assert features.shape == (2, channels, *trunk.map_size)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_the_pooled_map_is_what_timms_classifier_is_given(name: str) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(name).eval()
    trunk = Trunk(name, "none", (HEIGHT, WIDTH)).eval()
    trunk.net.load_state_dict({key: whole.state_dict()[key] for key in trunk.net.state_dict()})
    with torch.no_grad():
        expected = whole.get_classifier()(trunk(images()).mean(dim=(2, 3)))
        torch.testing.assert_close(expected, whole(normalised(trunk)))


def test_patches_of_a_transformer_keep_their_place() -> None:
    trunk = Trunk("test_vit", "none", (HEIGHT, WIDTH)).eval()
    with torch.no_grad():
        tokens = trunk.net.forward_features(normalised(trunk))
        features = trunk(images())
    columns = WIDTH // 16
    for row, column in ((0, 0), (0, 3), (4, 1), (5, 3)):
        torch.testing.assert_close(features[:, :, row, column], tokens[:, 1 + row * columns + column])


def test_channels_that_come_last_are_put_first() -> None:
    trunk = Trunk("swin_tiny_patch4_window7_224", "none", (HEIGHT, WIDTH)).eval()
    with torch.no_grad():
        last = trunk.net(normalised(trunk))
        features = trunk(images())
    assert features.shape == (2, trunk.channels, HEIGHT // 32, WIDTH // 32)
    for row, column in ((0, 1), (2, 0)):
        torch.testing.assert_close(features[:, :, row, column], last[:, row, column])


def test_models_that_can_not_do_without_pooling_give_one_cell() -> None:
    trunk = Trunk("efficientvit_b0", "none", (64, 64)).eval()
    assert trunk.map_size == (1, 1)
    assert trunk(images(64, 64)).shape == (2, trunk.channels, 1, 1)


@pytest.mark.parametrize("name", ["test_vit", "levit_128s"])
def test_transformers_refuse_an_input_that_cuts_patches(name: str) -> None:
    with pytest.raises(ValueError, match=r"data\.input_height=90 data\.input_width=64 \(patches of 16 px must fill it"):
        Trunk(name, "none", (90, 64))


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"^model\.backbone=resnet81 is not a timm model; nearest: .*\bresnet18\b"):
        Trunk("resnet81", "none", (64, 64))


def test_building_leaves_batch_norm_in_training_and_as_it_was() -> None:
    trunk = Trunk("test_resnet", "none", (64, 64))
    norms = [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.training and not norm.running_mean.any() for norm in norms)
    assert norms


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_a_whole_models_file_fills_all_of_the_trunk(tmp_path: Path, name: str) -> None:
    torch.manual_seed(1)
    state = (
        timm.create_model(name, img_size=(64, 64)).state_dict()
        if "vit" in name
        else timm.create_model(name).state_dict()
    )
    save_file(state, tmp_path / "whole.safetensors")
    filled = Trunk(name, str(tmp_path / "whole.safetensors"), (64, 64)).net.state_dict()
    assert filled
    assert all(torch.equal(tensor, state[key]) for key, tensor in filled.items())


@pytest.mark.real_data
def test_bundled_weights_give_the_features_of_the_reference_file() -> None:
    if not REFERENCE.is_file():
        pytest.skip(f"no reference weights at {REFERENCE}")
    whole = timm.create_model("tf_efficientnet_lite0", checkpoint_path=str(REFERENCE)).eval()
    trunk = Trunk("tf_efficientnet_lite0", "bundled", (HEIGHT, WIDTH)).eval()
    with torch.no_grad():
        features = trunk(images())
        assert torch.equal(features, whole.forward_features(normalised(trunk)))
    assert features.std() > 0.1
