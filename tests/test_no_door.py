"""No file that is read can run code: a malicious pickle in the place of each, and the sources that read them."""

import ast
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, TINY_LABELS
from faults import run_main
from omegaconf import OmegaConf

from data.errors import DataError
from models.weights import read_state_file
from trainer import checkpoint
from trainer.mapping import check_mapping
from trainer.range_test.cache import SweepCache
from trainer.range_test.storage import Stored
from trainer.run_dir import RunDir

ROOT = Path(__file__).parents[1]


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def bare(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def zipped(content: Any, path: Path) -> None:
    torch.save({"model": content, "state_dict": content}, path)


def legacy(content: Any, path: Path) -> None:
    torch.save({"model": content, "state_dict": content}, path, _use_new_zipfile_serialization=False)


WRITERS = [bare, zipped, legacy]
Writer = Callable[[Any, Path], None]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """What a malicious file would make; the test fails if it is there."""
    path = tmp_path / "made by a file that was read"
    yield path
    assert not path.exists()


@pytest.fixture
def copied(tiny_run: RunDir, tmp_path: Path) -> RunDir:
    """A copy of a finished run, to be spoiled."""
    shutil.copytree(tiny_run.path, tmp_path / "run")
    return RunDir(tmp_path / "run")


def told(*arguments: str, folder: Path, code: int) -> str:
    """The one line that the command ends with."""
    ended = run_main(*arguments, folder=folder)
    assert ended.code == code, (ended.code, ended.err)
    assert "Traceback" not in ended.err + ended.out
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    return ended.err


@pytest.mark.parametrize("write", WRITERS)
def test_a_malicious_file_would_run_if_it_were_unpickled(write: Writer, tmp_path: Path) -> None:
    write(Malicious(tmp_path / "made"), tmp_path / "file")
    if write is bare:
        pickle.loads((tmp_path / "file").read_bytes())
    else:
        torch.load(tmp_path / "file", weights_only=False)
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("write", WRITERS)
def test_checkpoints_run_nothing(write: Writer, copied: RunDir, target: Path, tmp_path: Path) -> None:
    for path in (copied.last_checkpoint, copied.previous_checkpoint):
        write(Malicious(target), path)
    assert "no checkpoint can be read" in told(f"resume={copied.path}", folder=tmp_path, code=2)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.ckpt", "w.safetensors", "w"])
def test_weights_run_nothing_whatever_the_file_is_called(
    name: str, write: Writer, target: Path, tmp_path: Path
) -> None:
    write(Malicious(target), tmp_path / name)
    with pytest.raises(ValueError, match=rf"^model\.weights={tmp_path / name} [^\n]+$"):
        read_state_file(tmp_path / name)


def test_weights_named_on_the_command_line_run_nothing(target: Path, tmp_path: Path) -> None:
    zipped(Malicious(target), tmp_path / "w.pt")
    given = (*(text for text in TINY if not text.startswith("model.weights")), "model.weights=w.pt")
    assert "holds more than tensors, and loading it could run code" in told(*given, folder=tmp_path, code=2)


@pytest.mark.parametrize("write", WRITERS)
def test_the_best_weights_run_nothing(write: Writer, copied: RunDir, target: Path) -> None:
    write(Malicious(target), copied.best_weights)
    with pytest.raises(ValueError, match="weights that this run needs"):
        checkpoint.load_weights(copied.best_weights, torch.nn.Linear(1, 1))


@pytest.mark.parametrize("write", WRITERS)
def test_what_range_tests_keep_runs_nothing(write: Writer, target: Path, tmp_path: Path) -> None:
    write(Malicious(target), tmp_path / "key.json")
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        SweepCache(tmp_path).load("key")
    stored = Stored({"weight": torch.zeros(2)}, tmp_path / "copies")
    (copy,) = (tmp_path / "copies").iterdir()
    write(Malicious(target), copy)
    with pytest.raises(pickle.UnpicklingError):
        stored.read()
    stored.close()


def test_the_meaning_of_labels_runs_nothing(target: Path, tmp_path: Path) -> None:
    bare(Malicious(target), tmp_path / "labels.json")
    with pytest.raises(DataError, match=r"labels\.json: can't be read"):
        check_mapping(tmp_path / "labels.json", {"classes": ["a"]})


@pytest.mark.parametrize("name", ["table.csv", "0.png"])
def test_tables_and_images_run_nothing(name: str, target: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("image,label\n0.png,a\n1.png,b\n", encoding="utf-8")
    bare(Malicious(target), tmp_path / name)
    given = ("task=classification", "data=csv", "data.table=table.csv", "model.weights=none")
    assert name in told(*given, folder=tmp_path, code=3)


YAML_TAGS = (
    "!!python/object/apply:pathlib.Path.touch [{target}]",
    "!!python/object/new:pathlib.Path ['{target}']",
    "!!python/name:os.system",
)


@pytest.mark.parametrize("tag", YAML_TAGS)
def test_a_runs_config_runs_nothing(tag: str, copied: RunDir, target: Path, tmp_path: Path) -> None:
    with copied.config.open("a", encoding="utf-8") as file:
        file.write("more: " + tag.format(target=target) + "\n")
    told(f"resume={copied.path}", folder=tmp_path, code=2)


def test_what_was_typed_for_a_run_runs_nothing_when_it_goes_on(copied: RunDir, target: Path, tmp_path: Path) -> None:
    environment = json.loads(copied.environment.read_text(encoding="utf-8"))
    called = f"{{_target_: pathlib.Path.touch, self: {target}}}"
    environment["overrides"] += [f"+hydra.callbacks.more={called}", f"hydra.launcher={called}"]
    copied.environment.write_text(json.dumps(environment), encoding="utf-8")
    ended = run_main(f"resume={copied.path}", "data.workers=1", folder=tmp_path)
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "value", ["__import__('pathlib').Path('made').touch()", "${oc.eval:1}", "$(touch made)", "`touch made`"]
)
def test_a_config_value_is_never_evaluated(value: str, tmp_path: Path) -> None:
    quoted = '"' + value.replace('"', '\\"') + '"'
    given = [text for text in TINY_LABELS if not text.startswith("model.backbone")]
    told(*given, f"model.backbone={quoted}", folder=tmp_path, code=2)
    assert not (tmp_path / "made").exists()


def test_a_target_in_a_config_is_an_unknown_key(copied: RunDir, target: Path, tmp_path: Path) -> None:
    config = OmegaConf.load(copied.config)
    config.optimizer._target_ = "pathlib.Path.touch"
    OmegaConf.save(config, copied.config)
    told(f"resume={copied.path}", folder=tmp_path, code=2)


FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_CALLS = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "dill.load", "joblib.load", "pd.read_pickle",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "hydra.utils.instantiate", "hydra.utils.call",
    "hydra.utils.get_class", "hydra.utils.get_method", "instantiate", "os.system", "os.popen", "subprocess.run",
    "subprocess.Popen", "shelve.open",
}  # fmt: skip


def doors(source: str) -> list[str]:
    """Calls in a source that could run what a file or a config says."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        options = {option.arg: ast.unparse(option.value) for option in call.keywords}
        if (
            (isinstance(call.func, ast.Name) and name in FORBIDDEN_NAMES)
            or name in FORBIDDEN_CALLS
            or (name == "torch.load" and options.get("weights_only") != "True")
            or (name.endswith(("np.load", "numpy.load")) and options.get("allow_pickle", "False") != "False")
            or (name.endswith("import_module") and not isinstance(call.args[0], ast.Constant))
        ):
            found.append(f"line {call.lineno}: {ast.unparse(call)}")
    return found


# Modules that are imported by a name which no file or config gives: one of a table in the source, or the script that
# the user started, in the processes of its own sweep.
NAMED_IN_SOURCE = {
    "trainer/__init__.py": ["import_module(module)"],
    "trainer/launching.py": ["importlib.import_module(module)"],
    "trainer/own_script.py": [
        "importlib.import_module(script)",
        "importlib.import_module('trainer.__main__' if verb is None else f'trainer.{verb}')",
    ],
}


def test_no_source_calls_what_could_run_a_file() -> None:
    sources = [path for room in ("trainer", "models", "data") for path in (ROOT / room).rglob("*.py")]
    assert len(sources) > 50
    found = {str(path.relative_to(ROOT)): doors(path.read_text(encoding="utf-8")) for path in sources}
    calls = {path: [call.partition(": ")[2] for call in calls] for path, calls in found.items() if calls}
    assert calls == NAMED_IN_SOURCE


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "exec(text)",
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=Loader)",
        "importlib.import_module(config.kind)",
    ],
)
def test_the_search_of_the_sources_finds_a_door(source: str) -> None:
    assert len(doors(source)) == 1
    assert doors("model.eval(); re.compile('x'); torch.load(path, weights_only=True); import_module('torch')") == []
