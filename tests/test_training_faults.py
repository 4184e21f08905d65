"""What goes wrong while a run trains or writes down what it came to: told in a line, with nothing lost."""

import ast
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import TINY
from faults import ANYTHING, Fault, promised, run_main
from safetensors.torch import load_file

from trainer.plots import plot_loss, plot_metrics
from trainer.run_dir import RunDir
from trainer.tasks.task import Curves

ROOT = Path(__file__).parents[1]


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """The system refuses to write more, as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def trained_but_not_judged(tiny_run: RunDir, folder: Path) -> RunDir:
    """A run as it is after its last update: what it came to is not written yet."""
    shutil.copytree(tiny_run.path, folder)
    run_dir = RunDir(folder)
    saved = torch.load(run_dir.last_checkpoint, weights_only=True)
    torch.save({**saved, "finished": False}, run_dir.last_checkpoint)
    for file in (run_dir.predictions, run_dir.results, run_dir.report, *run_dir.plots.iterdir()):
        file.unlink()
    return run_dir


def keeps(name: str, said: str) -> bool:
    """Whether a message is the one that docs/faults.md promises."""
    message = promised()[name][1]
    return re.fullmatch(".*".join(re.escape(part) for part in message.split(ANYTHING)), said) is not None


@pytest.mark.parametrize("file", ["config.yaml", "loss.png|learning_rates.png|schedule.png", "report.html"])
def test_a_full_disk_is_told_with_the_file_and_the_run_goes_on_once_there_is_room(
    file: str, tiny_run: RunDir, tmp_path: Path
) -> None:
    largest = max(picture.stat().st_size for picture in tiny_run.plots.iterdir())  # the report holds all of them
    size = {"config.yaml": 2_000, "report.html": largest + 1_000}.get(file, 30_000)
    run_dir = trained_but_not_judged(tiny_run, tmp_path / "run")
    before = {path: path.read_bytes() for path in (run_dir.last_checkpoint, run_dir.best_weights, run_dir.lr_history)}
    with no_file_longer_than(size):
        ended = run_main(f"resume={run_dir.path}", folder=tmp_path)
    assert ended.code == 4, ended.err
    assert re.fullmatch(rf"error: \[Errno 27\] File too large: '[^']*/({file})'[^\n]*\n", ended.err), ended.err
    assert keeps("disk full while a picture, the report or predictions.csv is written", ended.err[len("error: ") : -1])
    assert {path: path.read_bytes() for path in before} == before
    assert not [path for path in run_dir.path.rglob(".*") if path.suffix]  # nothing half written
    if "report" in file:
        assert pd.read_json(run_dir.results, typ="series")["updates"] == 12  # the numbers come before what shows them
    ended = run_main(f"resume={run_dir.path}", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert run_dir.predictions.read_bytes() == tiny_run.predictions.read_bytes()
    assert run_dir.report.is_file()


FAULTS = [
    Fault(
        "weights that hold code",
        2,
        "model.weights=w.pt holds more than tensors, and loading it could run code; save its state_dict alone",
        lambda folder: save_a_module(folder / "w.pt"),
    ),
]


def save_a_module(path: Path) -> list[str]:
    torch.save(torch.nn.Linear(2, 2), path)
    return [*(text for text in TINY if not text.startswith("model.weights")), f"model.weights={path.name}"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    fault.check(tmp_path)


def test_the_page_promises_what_is_tested_here() -> None:
    rows = promised()
    assert {fault.name: (fault.code, fault.message) for fault in FAULTS}.items() <= rows.items()


def test_another_clock_zone_language_hash_seed_and_home_change_nothing(tiny_run: RunDir, tmp_path: Path) -> None:
    foreign = {
        "LC_ALL": "C",
        "LANG": "C",
        "LC_NUMERIC": "de_DE.UTF-8",
        "TZ": "Asia/Kathmandu",
        "PYTHONHASHSEED": "7",
        "TERM": "dumb",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    home = tmp_path / "no home"
    home.write_text("a file, in which nothing can be kept")
    ended = subprocess.run(
        [sys.executable, "-m", "trainer", *TINY, "hydra.run.dir=run"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **foreign},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    run_dir = RunDir(tmp_path / "run")
    assert run_dir.lr_history.read_bytes() == tiny_run.lr_history.read_bytes()
    assert run_dir.predictions.read_bytes() == tiny_run.predictions.read_bytes()
    here, there = (pd.read_csv(each.metrics, dtype=str).drop(columns="seconds") for each in (tiny_run, run_dir))
    pd.testing.assert_frame_equal(here, there)
    best, same = load_file(tiny_run.best_weights), load_file(run_dir.best_weights)
    assert all(best[key].equal(same[key]) for key in best)


WALL_CLOCKS = re.compile(r"\b(time\.time(_ns)?|datetime\.(now|today|utcnow)|date\.today|time\.(localtime|strftime))\(")


def test_durations_come_from_a_clock_that_never_jumps() -> None:
    found = {
        path.name
        for room in ("trainer", "models", "data")
        for path in (ROOT / room).rglob("*.py")
        if WALL_CLOCKS.search(path.read_text(encoding="utf-8"))
    }
    # They say when a run was started, a tracker told, a setting timed, and compare the dates of files.
    assert found == {"environment.py", "mlflow.py", "precision.py", "disk_cache.py"}


def test_text_files_are_utf_8_whatever_the_locale() -> None:
    """Every open, read_text and write_text names an encoding or is binary."""
    bare = []
    for path in (path for room in ("trainer", "models", "data") for path in (ROOT / room).rglob("*.py")):
        for call in (
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("open", "read_text", "write_text"):
                text = ast.unparse(call)
                ours = text.startswith(("Image.open", "os.open", "read_text(", "write_text("))
                if not ours and "encoding=" not in text and not re.search(r"['\"][rwax]b\+?['\"]", text):
                    bare.append(f"{path}: {text}")
    assert bare == []


@pytest.mark.parametrize("value", [1e308, -1e308, float("inf"), float("nan")])
def test_values_that_can_not_be_drawn_end_no_run(value: float, tmp_path: Path) -> None:
    updates = {"iteration": range(4), "phase": "frozen", "lr_head": 1e-3, "lr_backbone": float("nan"), "skipped": 0}
    history = pd.DataFrame({**updates, "loss": value})
    assert plot_loss(tmp_path / "loss.png", history).axes
    metrics = pd.DataFrame(
        {"epoch": range(1, 5), "phase": "frozen", "train_loss": value, "val_loss": 1.0, "mae": value}
    )
    curves = Curves("absolute error", "", {"mae": "mean absolute error"}, shares=False)
    drawn = plot_metrics(tmp_path / "metrics.png", metrics, curves=curves, baseline=("mean", value), best_epoch=1)
    assert drawn.axes
