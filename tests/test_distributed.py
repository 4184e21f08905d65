"""Runs by two processes, as torchrun starts them, held against runs by one."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Command
from conftest import TINY, run_in_process
from faults import ANYTHING, Fault, promised
from safetensors.torch import load_file
from stopped_runs import start_or_resume

from benchmarks.killed_runs import differences
from trainer.command_line import resume_command
from trainer.run_dir import RunDir
from trainer.stopping import Stopped, StopRequest

ROOT = Path(__file__).parents[1]
# Batches of 3, of which one process has 1 image and the other 2; dropout can't be the same and is off.
SETTINGS = (
    *(text for text in TINY if not text.startswith(("data.batch_size", "phases.finetune.epochs"))),
    "phases.finetune.epochs=6",
    "data.batch_size=3",
    "accumulation=2",
    "model.dropout=0",
    "optimizer=sgd",  # others divide by the gradients, small ones and their last digits too
    "ema_decay=0.9",
    "range_test=on",
    "range_test.phases=[finetune]",
    "range_test.num_steps=24",
    "range_test.skip_start=2",
    "range_test.skip_end=2",
    "range_test.max_lr=1",
    "scheduler.base_lr=1e-4",
    "scheduler.max_lr=3e-3",
    "checkpoint.every_steps=2",
    "pictures=false",
)
TORCHRUN = {
    "WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}
FROZEN_UPDATES, ALL_UPDATES = 4, 16
Process = subprocess.Popen[str]


def start(*arguments: str, folder: Path) -> Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINER_")}
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            "-m",
            "trainer",
            *arguments,
        ],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def ended(process: Process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


def process_of_rank(rank: int, torchrun: int) -> int:
    """The id of a process that torchrun started."""
    for child in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text(encoding="utf-8").split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in variables:
            return int(child)
    raise AssertionError(f"torchrun has no process of rank {rank}")


def wait_for_updates(count: int, process: Process, run_dir: RunDir) -> None:
    """Until the history has more rows than `count`."""
    while process.poll() is None:
        if run_dir.lr_history.exists() and run_dir.lr_history.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.002)
    raise AssertionError(f"it ended before: {process.communicate()}")


def assert_equal_but_for_rounding(one: RunDir, other: RunDir) -> None:
    """Two runs that saw the same images in the same order, summed in other portions."""
    here, there = pd.read_csv(one.lr_history), pd.read_csv(other.lr_history)
    measured = ["loss", "grad_norm"]
    pd.testing.assert_frame_equal(here.drop(columns=measured), there.drop(columns=measured))
    np.testing.assert_allclose(here[measured], there[measured], rtol=1e-3)
    here, there = (pd.read_csv(each.metrics).drop(columns="seconds") for each in (one, other))
    pd.testing.assert_frame_equal(here, there, rtol=1e-2)
    here, there = pd.read_csv(one.predictions), pd.read_csv(other.predictions)
    assert list(here["image"]) == list(there["image"])
    pd.testing.assert_frame_equal(here, there, rtol=1e-3, atol=0.05)
    assert one.splits.read_bytes() == other.splits.read_bytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    path = tmp_path_factory.mktemp("alone") / "run"
    run_in_process(path, *SETTINGS, tiny=())
    return RunDir(path)


def start_ranks(*arguments: str, folder: Path) -> list[Command]:
    """What torchrun makes of a command, without the seconds in which its processes import torch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        Command(
            *arguments,
            folder=folder,
            variables={**TORCHRUN, "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]


def ended_ranks(ranks: list[Command]) -> tuple[int, str, str]:
    """Exit code, output and errors of all processes, one after the other."""
    told = [rank.communicate() for rank in ranks]
    codes = [rank.returncode or 0 for rank in ranks]
    return max(codes, key=abs), "".join(out for out, _ in told), "".join(err for _, err in told)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, str, str]:
    """A run by two processes that nothing stopped, and what they said."""
    folder = tmp_path_factory.mktemp("together")
    code, out, err = ended_ranks(start_ranks(*SETTINGS, "hydra.run.dir=run", folder=folder))
    assert code == 0, err
    return RunDir(folder / "run"), out, err


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, int, str, str]:
    """A run whose second process was killed; its id, and what the first one said."""
    folder = tmp_path_factory.mktemp("killed")
    process, run_dir = start(*SETTINGS, "hydra.run.dir=run", folder=folder), RunDir(folder / "run")
    wait_for_updates(FROZEN_UPDATES, process, run_dir)
    pid = process_of_rank(1, process.pid)
    os.kill(pid, signal.SIGKILL)
    code, _, err = ended(process)
    assert code != 0
    return run_dir, pid, err, (run_dir.path / "train.log").read_text(encoding="utf-8")


def test_two_processes_train_as_one(alone: RunDir, together: tuple[RunDir, str, str]) -> None:
    run_dir, _, _ = together
    assert_equal_but_for_rounding(run_dir, alone)
    curves = [pd.read_csv(each.range_test("finetune") / "range_test.csv")["loss"] for each in (run_dir, alone)]
    assert len(curves[0]) == len(curves[1])
    np.testing.assert_allclose(curves[0][:12], curves[1][:12], rtol=1e-3)  # later ones grow from rounding errors
    weights = [load_file(each.best_weights) for each in (run_dir, alone)]
    assert weights[0].keys() == weights[1].keys()


def test_one_process_writes_and_speaks(alone: RunDir, together: tuple[RunDir, str, str]) -> None:
    run_dir, out, err = together
    files = [{str(file.relative_to(each.path)) for file in each.path.rglob("*")} for each in (run_dir, alone)]
    assert files[0] - {"train.log", ".lock"} == files[1] - {"train.log", ".lock"}
    assert out.count("finetune 6/6") == 1
    assert "Warning" not in err
    assert "error" not in err.lower()


def test_a_killed_process_is_told_of_by_the_other(killed: tuple[RunDir, int, str, str]) -> None:
    run_dir, pid, err, log = killed
    told = f"rank 1 (process {pid} on "
    assert err.count(told) == 1, err
    said = next(line for line in err.splitlines() if told in line)
    message = promised()["one of several processes is killed"][1]
    pattern = "error: " + ".*".join(re.escape(part) for part in message.split(ANYTHING))
    assert re.fullmatch(pattern, said), said
    assert said.endswith(f"torchrun --nproc-per-node=2 -m trainer resume={run_dir.path}")
    assert said in log


def test_one_process_goes_on_where_two_were(
    alone: RunDir, killed: tuple[RunDir, int, str, str], tmp_path: Path
) -> None:
    run_dir = RunDir(tmp_path / "run")
    shutil.copytree(killed[0].path, run_dir.path)
    assert start_or_resume(run_dir.path, *SETTINGS)
    assert_equal_but_for_rounding(run_dir, alone)


def test_two_processes_stop_at_one_update_and_go_on_bit_for_bit(
    together: tuple[RunDir, str, str], killed: tuple[RunDir, int, str, str], tmp_path: Path
) -> None:
    run_dir = RunDir(tmp_path / "run")
    shutil.copytree(killed[0].path, run_dir.path)
    process = start(f"resume={run_dir.path}", folder=tmp_path)
    wait_for_updates(FROZEN_UPDATES + 1, process, run_dir)
    os.kill(process_of_rank(1, process.pid), signal.SIGTERM)
    _, _, err = ended(process)
    command = f"torchrun --nproc-per-node=2 -m trainer resume={run_dir.path}"
    assert err.count(f"stopped by SIGTERM; go on with: {command}") == 1, err
    assert "error:" not in err
    assert "saved after update" in (run_dir.path / "train.log").read_text(encoding="utf-8")
    assert len(pd.read_csv(run_dir.lr_history)) < ALL_UPDATES
    code, _, err = ended_ranks(start_ranks(f"resume={run_dir.path}", folder=tmp_path))
    assert code == 0, err
    assert differences(run_dir, together[0]) == []


FAULTS = [
    (
        {"WORLD_SIZE": "2", "RANK": "0"},
        Fault(
            "WORLD_SIZE is set, but not by torchrun",
            2,
            "WORLD_SIZE=2 is set in the environment, but not LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT: "
            "start several processes by torchrun --nproc-per-node=N -m trainer ..., or unset WORLD_SIZE for one",
            lambda _: TINY,
        ),
    ),
    (
        {**TORCHRUN, "WORLD_SIZE": "two"},
        Fault(
            "WORLD_SIZE is no number",
            2,
            "the environment has WORLD_SIZE=two RANK=0 LOCAL_RANK=0 LOCAL_WORLD_SIZE=2, expected whole numbers: start "
            "several processes by torchrun --nproc-per-node=N -m trainer ..., or unset WORLD_SIZE for one",
            lambda _: TINY,
        ),
    ),
    (
        TORCHRUN,
        Fault(
            "a sweep under torchrun",
            2,
            "-m does not go with torchrun (here 2 processes): run the sweep by python -m trainer -m ..., or each of "
            "its jobs by a torchrun of its own",
            lambda _: ("-m", *TINY, "seed=1,2"),
        ),
    ),
    (
        TORCHRUN,
        Fault(
            "a batch smaller than the processes",
            2,
            "data.batch_size=1 is shared by the 2 processes of torchrun, and each needs an image of it: give "
            "data.batch_size=2 or more, or start fewer processes",
            lambda _: (*TINY, "data.batch_size=1"),
        ),
    ),
    (
        TORCHRUN,
        Fault(
            "one GPU for several processes",
            2,
            "device=cuda:1 does not go with torchrun (here 2 processes), under which each process takes a GPU of its "
            "own: give device=cuda, device=cpu or device=auto",
            lambda _: (*TINY, "device=cuda:1"),
        ),
    ),
]


@pytest.mark.parametrize(("environment", "fault"), FAULTS, ids=lambda value: getattr(value, "name", ""))
def test_the_mistake_is_told_as_promised(
    environment: dict[str, str], fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fault.check(tmp_path)


def test_the_page_promises_what_is_tested_here() -> None:
    assert {fault.name: (fault.code, fault.message) for _, fault in FAULTS}.items() <= promised().items()


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ({}, "python -m trainer resume=runs/a"),
        ({"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, "python -m trainer resume=runs/a"),
        (TORCHRUN, "torchrun --nproc-per-node=2 -m trainer resume=runs/a"),
        ({**TORCHRUN, "WORLD_SIZE": "6"}, "torchrun --nnodes=3 --nproc-per-node=2 -m trainer resume=runs/a"),
    ],
)
def test_the_command_that_goes_on_is_the_kind_that_was_typed(
    environment: dict[str, str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resume_command(Path("runs/a")) == command


@pytest.mark.parametrize("others", [0, signal.SIGINT, signal.SIGTERM])
def test_a_process_stops_when_another_one_was_asked_to(others: int) -> None:
    request = StopRequest()
    agree: Callable[[int], int] = lambda own: max(own, others)  # noqa: E731
    request.agree = agree
    if not others:
        request.check()
        return
    with pytest.raises(Stopped) as stopped:
        request.check()
    assert (stopped.value.exit_code, stopped.value.at_once) == (128 + others, False)
