"""One process at a time in a run directory."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest
from conftest import TINY
from faults import run_main
from stopped_runs import StopAt, start_or_resume

from trainer.run_dir import RunDir
from trainer.run_lock import RunInUseError, locked
from trainer.stopping import Stopped, StopRequest

HOLDER = """
import os, sys
from pathlib import Path
from trainer.run_dir import RunDir
from trainer.run_lock import locked

with locked(RunDir(Path(sys.argv[1]))):
    worker = os.fork()
    if worker > 0:
        print(worker, flush=True)
    os.read(0, 1)  # the worker lives on when its parent is killed
"""


def hold(folder: Path) -> "tuple[subprocess.Popen[str], int]":
    """A process that holds the folder, and the id of its worker."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    return holder, int(holder.stdout.readline())


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_second_process_is_refused_and_told_of_the_first_which_a_kill_makes_way_for(tmp_path: Path) -> None:
    start_or_resume(tmp_path / "run", *TINY, request=StopAt(2))
    holder, worker = hold(tmp_path / "run")
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    ended = run_main(f"resume={tmp_path / 'run'}", folder=tmp_path)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert f"{tmp_path / 'run'} is in use by process {holder.pid} on " in ended.err
    assert {path: path.read_bytes() for path in files} == files
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert is_alive(worker)
    with locked(RunDir(tmp_path / "run")):
        pass
    holder.communicate()  # closes what the worker reads


def test_the_folder_is_free_again_when_the_block_ends(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()  # of a run that has begun
    for _ in range(2):
        with locked(RunDir(tmp_path)):
            assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()
    assert (tmp_path / ".lock").read_text() == ""


def test_a_stop_while_the_lock_is_taken_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = fcntl.lockf

    def stopped_while_taking(file: TextIO, how: int) -> None:
        monkeypatch.setattr(fcntl, "lockf", take)
        os.kill(os.getpid(), signal.SIGTERM)
        take(file, how)

    monkeypatch.setattr(fcntl, "lockf", stopped_while_taking)
    with pytest.raises(Stopped), StopRequest().listening(), locked(RunDir(tmp_path / "run")):
        pass
    assert not (tmp_path / "run").exists()


def test_what_is_told_of_a_holder_that_left_no_word(tmp_path: Path) -> None:
    holder, _ = hold(tmp_path)
    (tmp_path / ".lock").write_text("")
    with pytest.raises(RunInUseError, match="in use by another process"), locked(RunDir(tmp_path)):
        pass
    holder.kill()
    holder.communicate()


def test_a_run_that_does_not_begin_takes_nothing_away_that_was_there(tmp_path: Path) -> None:
    for name in ("splits.csv", "train.log", "letter.txt"):
        (tmp_path / name).write_text("mine")
    ended = run_main("device=cuda:99", "hydra.run.dir=.", folder=tmp_path)
    assert ended.code == 2
    assert {
        path.name: path.read_text() for path in tmp_path.iterdir() if path.name in ("splits.csv", "letter.txt")
    } == {
        "splits.csv": "mine",
        "letter.txt": "mine",
    }
    assert (tmp_path / "train.log").read_text().startswith("mine")


def test_a_run_that_does_not_begin_leaves_no_folder(tmp_path: Path) -> None:
    assert run_main("device=cuda:99", "hydra.run.dir=outputs/run", folder=tmp_path).code == 2
    assert not (tmp_path / "outputs" / "run").exists()


def test_the_split_of_another_run_is_not_taken_for_a_fresh_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "splits.csv").write_text("image,split\nphantom_00000,test\n")
    with pytest.raises(ValueError, match=r"splits\.csv is there, of another run"):
        start_or_resume(tmp_path / "run", *TINY)


def test_what_a_killed_process_left_half_written_is_taken_away(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    halves = [folder / ".some.png.17.png" for folder in (tmp_path, run_dir.plots, run_dir.range_test("frozen"))]
    for half in halves:
        half.parent.mkdir(parents=True, exist_ok=True)
        half.touch()
    run_dir.create()
    assert not any(half.exists() for half in halves)
