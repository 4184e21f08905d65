"""The command line as a person meets it: help, faults, other folders, sweeps."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from commands import run_module
from conftest import TINY, run_command
from faults import run_main
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

from trainer.help import help_text
from trainer.importing import collecting_no_garbage

CONF = Path(__file__).parents[1] / "conf"
TELL_TORCH = """
import atexit, runpy, sys
HEAVY = {"torch", "timm", "numpy", "pandas", "cv2"}
atexit.register(lambda: print("heavy:", sorted(HEAVY & set(sys.modules)), file=sys.stderr))
sys.argv = ["trainer", *sys.argv[1:]]
runpy.run_module("trainer", run_name="__main__", alter_sys=True)
"""

TELL_GARBAGE = """
import atexit, gc, runpy, sys
seen = []

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "hydra":
            seen.append(gc.isenabled())

sys.meta_path.insert(0, Finder)
atexit.register(
    lambda: print(f"collects while hydra is imported: {seen[0]}, in the end: {gc.isenabled()}", file=sys.stderr)
)
sys.argv = ["trainer", *sys.argv[1:]]
runpy.run_module("trainer", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--cfg", "job"], ["--cfg", "all", "--resolve"], ["-sc", "query=bash"]]
)
def test_help_config_and_completion_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    line = "trainer scheduler=cl"
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    told = subprocess.run(
        [sys.executable, "-c", TELL_TORCH, *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "scheduler=clr" in told.stdout if "-sc" in arguments else "max_steps" in told.stdout
    assert told.stderr.strip().endswith("heavy: []")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", ["trainer", "trainer.check", "trainer.compare", "trainer.evaluate", "trainer.predict"]
)
def test_what_matplotlib_says_of_its_fonts_is_not_told(command: str, tmp_path: Path) -> None:
    shown = run_module("--cfg", "hydra", "--package", "hydra.job_logging", folder=tmp_path, module=command).stdout
    configured = OmegaConf.to_container(OmegaConf.create(shown))
    assert configured["loggers"]["matplotlib"] == {"level": "WARNING"}


def test_help_names_every_group_and_choice() -> None:
    shown = run_command("--help", folder=CONF).stdout
    for path in CONF.glob("*/**/*.yaml"):
        group = str(path.parent.relative_to(CONF))
        row = next(line for line in shown.splitlines() if line.strip().startswith(group + " "))
        assert path.stem in row.replace("|", " ").split()


@pytest.mark.parametrize(
    ("overrides", "code", "said"),
    [
        (["scheduler=nonsense"], 2, "scheduler=nonsense is not one of clr, "),
        (
            ["experiment=hymenoptera", "task=regression"],
            2,
            "Key 'label_smoothing' not in 'RegressionLossConfig' (task.loss.label_smoothing)\n",
        ),
        (["data=csv", "data.table=absent.csv"], 3, "absent.csv"),
    ],
)
def test_a_users_mistake_is_one_message_and_a_code_without_traceback(
    overrides: list[str], code: int, said: str, tmp_path: Path
) -> None:
    ended = run_command(*overrides, folder=tmp_path)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr


def test_a_sweep_leaves_a_run_directory_per_job_named_by_what_it_ran(tmp_path: Path) -> None:
    for shadow in ("data", "models", "conf"):  # a user's folders of these names must not hide the packages
        (tmp_path / shadow).mkdir()
    tiny = [text for text in TINY if not text.startswith(("scheduler.", "phases.frozen"))]
    ended = run_command("-m", "scheduler=clr,constant", *tiny, "phases.frozen.epochs=0", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    jobs = sorted((tmp_path / "multirun").glob("*/*/*/results.json"))
    assert [path.parent.name for path in jobs] == [
        "0_landmarks_heatmap_test_efficientnet_clr",
        "1_landmarks_heatmap_test_efficientnet_constant",
    ]
    assert [json.loads(path.read_text())["config"]["scheduler"]["kind"] for path in jobs] == ["clr", "constant"]
    assert "\x1b" not in ended.stdout  # a log file gets plain lines


def test_help_alone_answers_before_hydra_is_imported(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", TELL_TORCH.replace('{"torch"', '{"hydra", "omegaconf", "torch"'), "--help"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert told.stderr.strip().endswith("heavy: []")
    assert told.stdout == run_command("--help", folder=tmp_path).stdout  # by way of Hydra's parser


def test_help_shows_own_parts_wherever_their_script_lies() -> None:
    assert "scheduler=mine (/a$b/c.py:1)" in help_text("config", "scheduler=mine (/a$b/c.py:1)")


def test_garbage_is_collected_again_once_the_command_is_imported(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", TELL_GARBAGE, "--cfg", "job"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert told.stderr.strip() == "collects while hydra is imported: False, in the end: True"


def test_imports_of_a_run_collect_no_garbage_and_change_nothing_else() -> None:
    assert gc.isenabled()
    with collecting_no_garbage():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with collecting_no_garbage():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_hydra_composes_a_run_once(tmp_path: Path) -> None:
    composed = []
    whole = Hydra.compose_config

    def counted(self: Hydra, *given: Any, **named: Any) -> Any:
        composed.append(named)
        return whole(self, *given, **named)

    with mock.patch.object(Hydra, "compose_config", counted):
        assert run_main("seed=-1", folder=tmp_path).code == 2
    assert len(composed) == 1


def test_no_config_of_ours_sets_the_mode_that_hydra_would_look_for() -> None:
    for path in CONF.glob("**/*.yaml"):
        loaded = OmegaConf.load(path)
        assert OmegaConf.select(loaded, "hydra.mode") is None, path


def test_the_mode_of_hydra_is_still_taken_from_the_command_line(tmp_path: Path) -> None:
    ended = run_command("hydra.mode=MULTIRUN", "seed=-1,-2", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: seed=-1 must lie in 0 to ")  # not that the value is ambiguous


def test_a_run_does_not_import_what_only_range_tests_or_several_processes_need(tmp_path: Path) -> None:
    """Without WORLD_SIZE, of the modules for several processes only the one that looks for it is read."""
    program = (
        "import sys, trainer.__main__, trainer.train, trainer.config.tasks; print('scipy.signal' in sys.modules, "
        "[name for name in sys.modules if name.startswith('trainer.distributed.')])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK")}
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == "False ['trainer.distributed.launch']"
