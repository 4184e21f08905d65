"""Sweeps whose jobs run in processes of their own: joblib, submitit (this machine, SLURM), Ray."""

import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import joblib
import pandas as pd
import pytest
from conftest import TINY
from faults import Ended, Fault, promised, run_main
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from test_sweep import job_of, outcome_of

import trainer.__main__  # noqa: F401  # registers what configs refer to
from data.errors import DataError
from trainer.command_line import SCRIPT
from trainer.config.store import read_config
from trainer.exit_codes import exit_code
from trainer.fault_message import fault_message
from trainer.labelled_lines import labelled_output
from trainer.launched_job import STOP, JobBugError, JobStoppedError, LaunchedJob, _portable, _requeued_once_saved
from trainer.launcher_machine import cores
from trainer.launching import job_launcher
from trainer.run_lock import RunInUseError
from trainer.stopping import Stopped, StopRequest
from trainer.sweep import FAILED, FINISHED

ROOT = Path(__file__).parents[1]
SHORT = (*(text for text in TINY if not text.startswith(("phases", "scheduler"))), "phases=finetune_only")
ONE_EPOCH = (*SHORT, "phases.finetune.epochs=1", "hydra.sweep.dir=sweep")
EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}


def launch(*arguments: str, folder: Path) -> Ended:
    """A sweep in processes that find the package where this one found it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        return run_main("-m", *arguments, folder=folder)


def states(folder: Path, count: int) -> list[str]:
    return [outcome_of(folder / "sweep", number).state for number in range(count)]


def composed(*overrides: str) -> DictConfig:
    with hydra.initialize_config_module("conf", version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)


def test_a_sweep_by_joblib_has_its_failed_job_told_and_run_again_by_itself(tmp_path: Path) -> None:
    settings = ("hydra/launcher=joblib", "scheduler.max_lr=1e30,1e-3", *ONE_EPOCH, "phases.finetune.epochs=2")
    ended = launch(*settings, folder=tmp_path)
    assert ended.code == 4, ended.err
    assert states(tmp_path, 2) == [FAILED, FINISHED]
    failed, finished = (job_of(tmp_path / "sweep", number) for number in range(2))
    reason = outcome_of(tmp_path / "sweep", 0).reason
    assert reason is not None
    assert ended.err.startswith(f"error: 1 of 2 jobs failed, first sweep/{failed.path.name}: {reason}; once mended, ")
    assert (ended.err.count("\n"), "Traceback" in ended.out + ended.err) == (1, False)
    assert reason in (failed.path / "train.log").read_text()
    assert pd.read_csv(tmp_path / "sweep" / "sweep.csv")["status"].tolist() == [FAILED, FINISHED]
    shared = max(cores() // 2, 1) if not os.environ.get("OMP_NUM_THREADS") else int(os.environ["OMP_NUM_THREADS"])
    assert json.loads(finished.environment.read_text())["threads"] == shared
    assert not read_config(finished.config).sweep.resume

    # In this process, one job after the other: what the sweep was launched by is not what it is.
    before = finished.results.read_bytes()
    again = run_main("-m", *settings[1:], "sweep.resume=true", folder=tmp_path)
    assert (again.code, states(tmp_path, 2)) == (4, [FAILED, FINISHED]), again.err
    assert f"{finished.path.name} is finished already\n" in again.out
    assert finished.results.read_bytes() == before


def test_a_sweep_by_submitit_on_this_machine_tells_where_its_output_is(tmp_path: Path) -> None:
    ended = launch("hydra/launcher=submitit_local", "seed=1", *ONE_EPOCH, folder=tmp_path)
    assert ended.code == 0, ended.err
    assert states(tmp_path, 1) == [FINISHED]
    told = re.search(r"^what the jobs print: (.+)$", ended.out, re.MULTILINE)
    assert told is not None
    (log,) = tmp_path.glob(told[1])
    assert "everything is in" in log.read_text()


def test_a_sweep_by_ray_starts_it_here_and_finishes(tmp_path: Path) -> None:
    import ray

    try:
        ended = launch("hydra/launcher=ray", "seed=1", *ONE_EPOCH, folder=tmp_path)
    finally:
        ray.shutdown()
    assert ended.code == 0, ended.err
    assert states(tmp_path, 1) == [FINISHED]


@pytest.mark.parametrize("name", EXTRAS)
def test_a_launcher_is_configured_by_ours_without_a_word_of_hydra(name: str, recwarn: pytest.WarningsRecorder) -> None:
    assert f"{name}.yaml" not in ConfigStore.instance().repo["hydra"]["launcher"]
    config = composed(f"hydra/launcher={name}")
    assert config.hydra.launcher._target_ in Plugins.instance().class_name_to_class
    assert [str(warning.message) for warning in recwarn if "ConfigStore" in str(warning.message)] == []


@pytest.mark.parametrize(("name", "extra"), EXTRAS.items())
def test_a_launcher_that_is_not_installed_is_told_with_what_to_type(
    name: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = composed(f"hydra/launcher={name}").hydra.launcher._target_
    monkeypatch.delitem(Plugins.instance().class_name_to_class, target)
    ended = run_main("-m", f"hydra/launcher={name}", "seed=1,2", folder=tmp_path)
    code, message = promised()["a launcher that is not installed"]
    assert (ended.code, code) == (2, 2)
    expected = re.escape(message).replace("…", ".+")
    assert re.fullmatch(f"error: {expected}\n", ended.err)
    assert f'pip install "trainer[{extra}]"' in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        (("hydra/launcher=submitit_slurm",), "SLURM where there is none"),
        (("hydra/launcher=joblib", "hydra.launcher.n_jobs=0"), "no jobs at once"),
        (("hydra.sweeper.max_batch_size=0",), "no jobs handed to a launcher"),
    ],
)
def test_what_a_launcher_can_not_do_is_told(arguments: tuple[str, ...], row: str, tmp_path: Path) -> None:
    ended = run_main("-m", *arguments, "seed=1,2", folder=tmp_path)
    assert (ended.code, ended.err) == (promised()[row][0], f"error: {promised()[row][1]}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_option_of_the_wrong_type_is_told_in_one_line(tmp_path: Path) -> None:
    name = "an option of a launcher of the wrong type"
    arguments = ["-m", "hydra/launcher=joblib", "hydra.launcher.batch_size=x", "seed=1,2", *ONE_EPOCH]
    Fault(name, *promised()[name], lambda folder: arguments).check(tmp_path)


def test_a_job_in_the_process_of_the_sweep_stops_as_a_part_of_it(tmp_path: Path) -> None:
    (tmp_path / STOP).touch()  # between two jobs
    group = os.getpgrp()
    with pytest.raises(JobStoppedError):
        job(tmp_path, os.getpid())(composed())
    assert os.getpgrp() == group


def launcher_of(*overrides: str) -> Any:
    config = composed(*overrides)
    with open_dict(config):
        config.hydra.sweep.dir = "sweep"
    loader = ConfigLoaderImpl(ConfigSearchPathImpl())
    return job_launcher(hydra_context=HydraContext(loader, Callbacks()), task_function=lambda _: None, config=config)


def test_joblib_with_one_job_at_once_is_no_launcher_of_processes() -> None:
    found = launcher_of("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    assert type(found).__name__ == "BasicLauncher"  # Hydra imports its plugins a second time


@pytest.mark.parametrize("count", [-1, 3])
@pytest.mark.skipif(cores() == 1, reason="one job per core is one at once")
def test_joblib_is_given_a_number_of_jobs_that_it_takes(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SCRIPT, "/a/script.py")
    plugin: Any = launcher_of("hydra/launcher=joblib", f"hydra.launcher.n_jobs={count}")._instantiated()
    assert plugin.joblib["n_jobs"] == (cores() if count == -1 else count)
    assert joblib.Parallel(**plugin.joblib, backend="threading")(joblib.delayed(abs)(n) for n in range(5)) == [
        *range(5)
    ]
    assert plugin.task_function.environment[SCRIPT] == "/a/script.py"
    assert plugin.task_function.sweeper == os.getpid()


@pytest.mark.parametrize(("address", "elsewhere"), [("null", False), ("local", False), ("auto", True)])
def test_jobs_of_a_cluster_do_not_look_for_the_process_of_the_sweep(address: str, elsewhere: bool) -> None:
    launcher = launcher_of("hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}")
    assert launcher._may_be_elsewhere(launcher._options) is elsewhere


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ValueError("a key"), 2),
        (RunInUseError("in use"), 2),
        (DataError("a file"), 3),
        (OSError(28, "No space left"), 4),
    ],
)
def test_a_fault_reaches_the_sweep_with_its_message_and_exit_code(fault: Exception, code: int) -> None:
    arrived = pickle.loads(pickle.dumps(_portable(fault)))
    assert (fault_message(arrived), exit_code(arrived)) == (fault_message(fault), code)
    assert isinstance(arrived, RunInUseError) == isinstance(fault, RunInUseError)


def test_a_bug_in_a_job_reaches_the_sweep_with_its_traceback() -> None:
    try:
        _ = {}["absent"]
    except KeyError as error:
        arrived = pickle.loads(pickle.dumps(_portable(error)))
    assert isinstance(arrived, JobBugError)
    assert (str(arrived), exit_code(arrived)) == ("KeyError: 'absent'", 1)
    assert "in test_a_bug_in_a_job_reaches_the_sweep_with_its_traceback" in arrived.__notes__[0]


def job(sweep: Path, sweeper: int | None) -> LaunchedJob:
    return LaunchedJob(sweep=str(sweep), sweeper=sweeper, environment={}, labelled=False)


def train(launched: LaunchedJob, meanwhile: Callable[[], object]) -> None:
    """What a job does: look now and then whether it was asked to stop."""
    request = StopRequest()
    with request.listening(), launched._told_to_stop(os.getppid()), request.patient():
        meanwhile()
        while request._signum is None:
            signal.sigtimedwait([], 0.01)


def test_a_job_stops_once_the_file_of_its_sweep_is_there(tmp_path: Path) -> None:
    launched = pickle.loads(pickle.dumps(job(tmp_path, os.getpid())))
    with pytest.raises(Stopped) as stopped:
        train(launched, (tmp_path / STOP).touch)
    assert (stopped.value.exit_code, stopped.value.at_once) == (143, False)
    with pytest.raises(Stopped) as before, launched._told_to_stop(os.getppid()):
        raise AssertionError("a job begins though its sweep is to stop")
    assert before.value.at_once


def test_a_job_stops_when_its_sweep_was_killed(tmp_path: Path) -> None:
    sweeper = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)

    def kill() -> None:
        sweeper.kill()
        sweeper.communicate()

    with pytest.raises(Stopped) as stopped:
        train(job(tmp_path, sweeper.pid), kill)
    assert not stopped.value.at_once
    with job(tmp_path, None)._told_to_stop(os.getppid()):  # of a cluster: it goes on without
        pass


def test_a_job_that_a_cluster_asks_for_its_place_saves_before_it_is_put_back_into_the_queue() -> None:
    told: list[str] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: told.append("requeued"))  # as submitit does

    def job() -> None:
        request = StopRequest()
        with request.listening(), _requeued_once_saved():
            try:
                with request.patient():
                    signal.raise_signal(signal.SIGUSR2)
                    told.append("update ended")
            finally:
                told.append("saved")

    try:
        with pytest.raises(Stopped):
            job()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert told == ["update ended", "saved", "requeued"]


def test_a_stopped_job_can_travel() -> None:
    assert pickle.loads(pickle.dumps(JobStoppedError(15))).signum == 15


def test_lines_of_a_job_are_whole_and_labelled(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(handler)
    try:
        with labelled_output("[7] "):
            print("one\ntwo", end="")
            logging.getLogger().warning("three")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().out == "[7] one\n[7] twothree\n"


SBATCH = """#!/bin/sh
cp "$1" "$FAKE/submitted.sh"
echo "Submitted batch job 4242"
exit 1
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of SLURM that keep what is submitted and refuse it."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("sbatch", "srun", "sacct"):
        (folder / name).write_text(SBATCH)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_what_is_submitted_to_slurm_is_an_array_of_the_jobs_with_what_was_asked_for(
    cluster: Path, tmp_path: Path
) -> None:
    options = ("partition=gpu", "gpus_per_node=1", "timeout_min=30", "mem_gb=8", "setup=['module load cuda']")
    launcher = ["hydra/launcher=submitit_slurm", *(f"hydra.launcher.{text}" for text in options)]
    ended = run_main("-m", *launcher, "seed=1,2,3", *ONE_EPOCH, folder=tmp_path)
    assert (ended.code, ended.err.count("\n"), "Traceback" in ended.err) == (4, 1, False), ended.err
    text = (cluster / "submitted.sh").read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.+)$", text, re.MULTILINE))
    expected = {"array": "0-2%3", "partition": "gpu", "gpus-per-node": "1", "time": "30", "mem": "8GB"}
    assert {key: asked[key] for key in expected} == expected
    assert (asked["cpus-per-task"], asked["signal"], asked["job-name"]) == ("4", "USR2@120", "trainer")
    assert "module load cuda" in text.splitlines()
    assert "submitit.core._submit" in text
