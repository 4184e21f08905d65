"""SIGTERM and Ctrl-C: the update is finished, all is saved, and the command that goes on is told."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from commands import Command
from conftest import TINY, start_command
from stopped_runs import start_or_resume

from benchmarks.killed_runs import differences
from trainer import checkpoint
from trainer.run_dir import RunDir
from trainer.stopping import Stopped, StopRequest

STOPS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]

SMALL = (*TINY, "pictures=false")


def wait_until(process: Command, seen: Callable[[], bool]) -> None:
    while not seen():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def has_made_updates(folder: Path, count: int) -> Callable[[], bool]:
    def seen() -> bool:
        histories = list(folder.glob("outputs/*/*/lr_history.csv"))
        return bool(histories) and histories[0].read_bytes().count(b"\n") > count

    return seen


def run_of(folder: Path) -> RunDir:
    (path,) = folder.glob("outputs/*/*")
    return RunDir(path)


def paste(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def test_sigterm_saves_and_tells_a_command_that_goes_on_as_it_is_pasted(tiny_run: RunDir, tmp_path: Path) -> None:
    folder = tmp_path / "my runs, ä=1 [b] it's"
    folder.mkdir()
    process = start_command(*SMALL, "checkpoint.every_minutes=1000", folder=folder)
    wait_until(process, has_made_updates(folder, 3))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    told = re.search(r"^stopped by SIGTERM; go on with: (.+)$", err, re.MULTILINE)
    assert told is not None, err
    ended = paste(told[1], tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert differences(run_of(folder), tiny_run) == []


def test_a_second_ctrl_c_leaves_at_once_with_the_checkpoint_whole(tiny_run: RunDir, tmp_path: Path) -> None:
    process = start_command(*SMALL, "checkpoint.every_steps=1", folder=tmp_path)
    wait_until(process, has_made_updates(tmp_path, 3))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # where it arrives together with the first, the system makes one of them
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped by Ctrl-C; go on with: python -m trainer" in err
    run_dir = run_of(tmp_path)
    saved = checkpoint.load(run_dir)
    assert saved is not None
    assert saved["iteration"] >= 1
    assert start_or_resume(run_dir.path, *SMALL)
    assert differences(run_dir, tiny_run) == []


def test_a_stop_while_torch_is_imported_leaves_no_run_directory(tmp_path: Path) -> None:
    process = start_command(*SMALL, folder=tmp_path)
    wait_until(process, lambda: any(lock.read_text() for lock in tmp_path.glob("outputs/*/*/.lock")))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert "stopped by SIGTERM before training began" in err
    assert list(tmp_path.glob("outputs/*/*")) == []


def test_a_stop_of_the_whole_process_group_with_workers_is_survived(tiny_run: RunDir, tmp_path: Path) -> None:
    """As a cluster sends it: to the workers too."""
    process = start_command(*SMALL, "data.workers=2", folder=tmp_path)  # in a session of its own
    wait_until(process, has_made_updates(tmp_path, 4))
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert start_or_resume(run_of(tmp_path).path, *SMALL)
    assert differences(run_of(tmp_path), tiny_run) == []


@pytest.mark.parametrize(("signum", "code"), STOPS)
def test_a_patient_run_is_stopped_at_its_next_check_and_by_a_second_signal_at_once(
    signum: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    request = StopRequest()
    before = signal.getsignal(signum)
    with request.listening(), suppress(Stopped), request.patient():
        os.kill(os.getpid(), signum)
        with pytest.raises(Stopped) as checked:
            request.check()
        with pytest.raises(Stopped) as stopped:
            os.kill(os.getpid(), signum)
    assert (checked.value.at_once, stopped.value.at_once) == (False, True)
    assert {checked.value.exit_code, stopped.value.exit_code} == {code}
    assert signal.getsignal(signum) is before
    name = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
    assert capfd.readouterr().err == f"\n{name}: saving after this update; {name} again leaves at once\n"


def test_a_run_that_is_not_patient_is_stopped_at_once() -> None:
    request = StopRequest()
    with pytest.raises(Stopped) as stopped, request.listening():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.at_once


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_got_lost_in_a_finalizer_is_found_by_the_next_check() -> None:
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):  # Python looks for signals between its own steps
                pass

    request = StopRequest()
    with request.listening():
        try:
            Finalized()
        except Stopped:
            return
        with pytest.raises(Stopped):
            request.check()


def test_no_items_are_given_once_a_stop_was_asked_for() -> None:
    request, given = StopRequest(), []

    def take_items() -> None:
        with request.listening(), request.patient():
            for item in request.checked(range(10)):
                given.append(item)
                if item == 3:
                    os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        take_items()
    assert given == [0, 1, 2, 3]


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    handlers = []

    def listen() -> None:
        with StopRequest().listening():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert handlers == [before]
