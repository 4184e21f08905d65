"""Sweeps: cut ones go on, failing jobs are told and leave the others alone, directories are never shared."""

import copy
import json
import math
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import hydra
import numpy as np
import pytest
from conftest import TINY, start_command
from faults import Ended, run_main
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from test_command import TELL_TORCH

from benchmarks.killed_runs import differences
from trainer.config.store import read_config
from trainer.errors import TrainingError
from trainer.output_dirs import new_folder, register_output_dirs
from trainer.run_dir import RunDir
from trainer.sweep import BEGUN, FAILED, FINISHED, JobRecord, Outcome, find_sweep, shown_state, sweep_command
from trainer.sweep_jobs import Job, launch_jobs

DOCS = Path(__file__).parents[1] / "docs" / "sweeps.md"
SHORT = (
    *(text for text in TINY if not text.startswith(("phases", "scheduler"))),
    "phases=finetune_only",
    "pictures=false",
)
ONE_EPOCH = (*SHORT, "phases.finetune.epochs=1")
NAME = "landmarks_heatmap_test_efficientnet"


def sweep_of(folder: Path) -> Path:
    (record,) = folder.glob("multirun/*/*/multirun.yaml")
    return record.parent


def job_of(sweep: Path, number: int) -> RunDir:
    (path,) = sweep.glob(f"{number}_*")
    return RunDir(path)


def outcome_of(sweep: Path, number: int) -> Outcome:
    outcome = JobRecord(job_of(sweep, number).path).read()
    assert outcome is not None
    return outcome


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listed(ended: Ended) -> list[str]:
    """The list that ends a sweep: the state of each job."""
    rows = ended.out.split("\nmultirun/")[-1].splitlines()[1:] if "\nmultirun/" in ended.out else []
    return [re.split(r"\s{2,}", row.strip())[-1] for row in rows]


def wait_for_updates(sweeps: str, job: int, count: int, folder: Path) -> None:
    for _ in range(12000):
        for history in folder.glob(f"{sweeps}/{job}_*/lr_history.csv"):
            if len(history.read_text().splitlines()) > count:
                return
        time.sleep(0.01)
    raise AssertionError("the job made no updates")


def test_a_sweep_killed_in_its_second_job_goes_on_and_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = (
        "-m",
        "seed=1,2",
        *SHORT,
        "scheduler=onecycle",
        "phases.finetune.epochs=2",
        "checkpoint.every_steps=1",
    )
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir(), whole.mkdir()
    process = start_command(*settings, folder=cut)
    wait_for_updates("multirun/*/*", 1, 4, cut)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    sweep = sweep_of(cut)
    assert outcome_of(sweep, 0).state == FINISHED
    assert outcome_of(sweep, 1).state == BEGUN
    before = content(job_of(sweep, 0).path)

    resumed = run_main(*settings, "sweep.resume=true", folder=cut)
    uninterrupted = run_main(*settings, folder=whole)
    assert (resumed.code, uninterrupted.code) == (0, 0), resumed.err + uninterrupted.err
    assert content(job_of(sweep, 0).path) == before
    assert f"0_{NAME}_onecycle is finished already\n" in resumed.out
    assert f"resumed {job_of(sweep, 1).path} after update" in resumed.out
    assert listed(resumed) == listed(uninterrupted)
    assert sweep_of(cut) == sweep
    for number in range(2):
        one, other = job_of(sweep, number), job_of(sweep_of(whole), number)
        assert differences(one, other) == []
        assert outcome_of(sweep, number) == outcome_of(sweep_of(whole), number)
        assert one.config.read_bytes() == other.config.read_bytes()
        assert "sweep.resume" not in one.environment.read_text()

    # What is left to do of a finished sweep is nothing, for which torch is not needed.
    again = subprocess.run(
        [sys.executable, "-c", TELL_TORCH, *settings, "sweep.resume=true"],
        cwd=cut, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert again.stderr.strip().endswith("heavy: []")
    assert again.stdout.count("is finished already") == 2


class Killed(Launcher):
    """Tells of each job that its process died, as a launcher does."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None: ...

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        ended = [JobReturn(overrides=given, status=JobStatus.FAILED) for given in job_overrides]
        for returned in ended:
            returned.return_value = TrainingError("its process was killed")
        return ended


def test_a_failure_that_only_the_launcher_saw_is_kept_in_the_folder_of_the_job(tmp_path: Path) -> None:
    jobs = [Job(number, [f"seed={number}", "sweep.resume=true"], str(number)) for number in range(3)]
    JobRecord(tmp_path / "1").note_begun(["seed=1"])
    JobRecord(tmp_path / "2").note_finished(["seed=2"], 1.5)
    launch_jobs(Killed(), jobs, tmp_path)
    seen = [JobRecord(tmp_path / str(number)).read() for number in range(3)]
    assert [outcome and (outcome.state, outcome.reason, outcome.exit_code) for outcome in seen] == [
        (FAILED, "its process was killed", 4),
        (FAILED, "its process was killed", 4),
        (FINISHED, None, None),
    ]
    assert [outcome and outcome.overrides for outcome in seen] == [["seed=0"], ["seed=1"], ["seed=2"]]


def test_a_sweep_stopped_by_sigterm_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    typed = ("-m", *SHORT, "seed=1,2", "phases.finetune.epochs=3", "hydra.sweep.dir='sweeps é/a=1 [b]'")
    process = start_command(*typed, folder=tmp_path)
    wait_for_updates("sweeps é/a=1 [[]b]", 0, 1, tmp_path)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    told = err.strip().splitlines()[-1]
    assert told.startswith("stopped by SIGTERM; go on with: python -m trainer -m ")
    command = shlex.split(told.partition("go on with: ")[2])
    assert command[3:] == [*typed, "sweep.resume=true"]
    assert [row.split()[-1] for row in out.splitlines()[-2:]] == ["cut", "waiting"]
    sweep = tmp_path / "sweeps é" / "a=1 [b]"
    saved = job_of(sweep, 0).lr_history.read_text()

    other = run_main(*command[3:], "max_steps=3", folder=tmp_path)
    assert other.code == 2
    assert "was started with other overrides; give them in their order: " in other.err
    resumed = run_main(*command[3:], folder=tmp_path)
    assert resumed.code == 0, resumed.err
    assert [row.split()[-2] for row in resumed.out.splitlines()[-2:]] == ["finished", "finished"]
    assert job_of(sweep, 0).lr_history.read_text().startswith(saved)


def write_points(table: Path) -> None:
    rows = ["image,x0,y0"]
    for index in range(8):
        noise = np.random.default_rng(index).integers(0, 255, (64, 64), np.uint8)
        cv2.imwrite(str(table.parent / f"{index}.png"), noise)
        rows.append(f"{index}.png,20,30")
    table.write_text("\n".join(rows))


def test_a_failing_job_leaves_the_others_alone_and_is_run_again_once_mended(tmp_path: Path) -> None:
    write_points(tmp_path / "points.csv")
    settings = [text for text in ONE_EPOCH if not text.startswith(("data.num", "data.height", "data.width"))]
    tables, schedulers = "data.table=absent.csv,points.csv", "scheduler=constant,nonsense"
    ended = run_main("-m", "data=csv", tables, schedulers, "seed=1,-1", *settings, folder=tmp_path)
    sweep = sweep_of(tmp_path)
    assert ended.code == 3
    assert [place for place, state in enumerate(listed(ended)) if not state.startswith("failed: ")] == [4]
    assert listed(ended)[4].startswith("finished ")
    assert ended.err.startswith(f"error: 7 of 8 jobs failed, first {sweep.relative_to(tmp_path)}/0_{NAME}_constant: ")
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.out + ended.err
    left_out = (
        "job 1 is left out: seed=-1 must lie in 0 to 9223372036854775807\n"
        "job 2 is left out: scheduler=nonsense is not one of"
    )
    assert left_out in ended.out.split("Launching")[0]

    reasons = {number: outcome_of(sweep, number) for number in range(8) if number != 4}
    assert {number: outcome.exit_code for number, outcome in reasons.items()} == {
        0: 3,
        1: 2,
        2: 2,
        3: 2,
        5: 2,
        6: 2,
        7: 2,
    }
    assert {outcome.state for outcome in reasons.values()} == {FAILED}
    assert "absent.csv" in str(reasons[0].reason)
    assert reasons[2].overrides[1:4] == ["data.table=absent.csv", "scheduler=nonsense", "seed=1"]
    assert {path.name for path in job_of(sweep, 1).path.iterdir()} == {"job.json"}
    assert job_of(sweep, 2).path.name == "2_refused"

    (tmp_path / "absent.csv").write_text((tmp_path / "points.csv").read_text())
    command = shlex.split(ended.err.partition("run what is left with: ")[2])
    again = run_main(*command[3:], folder=tmp_path)
    assert again.code == 2
    assert [place for place, state in enumerate(listed(again)) if state.startswith("finished ")] == [0, 4]
    assert outcome_of(sweep, 0).state == FINISHED
    assert job_of(sweep, 0).results.exists()


def test_a_job_that_failed_while_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    settings = ("-m", "scheduler.max_lr=1e30", *SHORT, "phases.finetune.epochs=2")
    ended = run_main(*settings, folder=tmp_path)
    sweep = sweep_of(tmp_path)
    assert ended.code == 4, ended.out
    assert [state.split()[0] for state in listed(ended)] == ["failed:"]
    assert "error" in (job_of(sweep, 0).path / "train.log").read_text().lower()
    again = run_main(*settings, "sweep.resume=true", folder=tmp_path)
    assert (again.code, listed(again)) == (4, listed(ended))
    assert re.search("resumed .* after update [1-9]", again.out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "scheduler=nonsense", "seed=1,2"], "scheduler=nonsense is not one of clr, "),
        (["-m", "seed=-1,-2"], "seed=-1 must lie in 0 to 9223372036854775807"),
        (["-m", "seed=1,2", "resume=outputs/some"], "resume=outputs/some goes on with one run; leave out -m"),
        (["-m", "seed=1,2", "sweep.resume=true"], "was started with seed=1,2; there is none at all"),
        (["-m", "seed=1,2", "sweep.resume=true", "hydra.sweep.dir=nowhere"], "nowhere is not the directory of a sweep"),
        (["sweep.resume=true"], "sweep.resume=true goes on with a sweep and needs -m"),
    ],
)
def test_an_impossible_sweep_is_told_and_leaves_nothing(arguments: list[str], said: str, tmp_path: Path) -> None:
    ended = run_main(*arguments, folder=tmp_path)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.startswith("error: ")
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    assert not (tmp_path / "multirun").exists()


def record(folder: Path, *overrides: str) -> None:
    folder.mkdir(parents=True)
    tasks = "".join(f"\n    - {json.dumps(text)}" for text in overrides)
    (folder / "multirun.yaml").write_text(f"hydra:\n  overrides:\n    hydra: []\n    task:{tasks}\n")


def test_the_newest_sweep_of_the_same_overrides_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, overrides in {
        "2026-01-01/10-00-00_2": ("seed=1,2",),
        "2026-01-01/10-00-00_10": ("seed=1,2", "sweep.resume=true"),
        "2026-01-01/09-59-59": ("seed=1,2",),
        "2026-01-02/00-00-00": ("seed=2,1",),
    }.items():
        record(tmp_path / "multirun" / name, *overrides)
    (tmp_path / "multirun" / "2026-01-03" / "00-00-00").mkdir(parents=True)
    (tmp_path / "multirun" / "2026-01-03" / "00-00-00" / "multirun.yaml").write_text("hydra: [half")
    assert find_sweep(["seed=1,2"]) == Path("multirun/2026-01-01/10-00-00_10")
    with pytest.raises(ValueError, match=r"multirun/2026-01-02/00-00-00: seed=2,1; .*10-00-00_10: seed=1,2") as told:
        find_sweep(["seed=3"])
    assert "2026-01-03/00-00-00: its multirun.yaml can't be read" in str(told.value)


def test_a_sweep_is_not_gone_on_with_from_another_folder_nor_started_over_itself(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    settings = ("-m", "seed=1", *ONE_EPOCH, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert run_main(*settings, folder=tmp_path / "here").code == 0
    before = content(tmp_path / "sweep")
    twice = run_main(*settings, folder=tmp_path / "here")
    assert (twice.code, twice.err.count("\n")) == (2, 1)
    assert "already holds a sweep; go on with it by sweep.resume=true" in twice.err
    elsewhere = run_main(*settings, "sweep.resume=true", folder=tmp_path / "there")
    assert elsewhere.code == 2
    assert f"was started in {tmp_path / 'here'}; go on with it from there" in elsewhere.err
    assert content(tmp_path / "sweep") == before

    # A job of it alone, which the sweep keeps an account of.
    job = job_of(tmp_path / "sweep", 0)
    finished = outcome_of(tmp_path / "sweep", 0)
    JobRecord(job.path).note_failure(finished.overrides, "a full disk", 4)
    assert run_main(f"resume={job.path}", folder=tmp_path / "there").code == 0
    assert outcome_of(tmp_path / "sweep", 0) == finished


def test_a_sweep_that_a_living_process_works_on_is_refused(tmp_path: Path) -> None:
    hold = "import sys; from pathlib import Path; from trainer.run_dir import RunDir\n"
    hold += "from trainer.run_lock import locked\n"
    hold += "with locked(RunDir(Path('sweep'))): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    ended = run_main("-m", "seed=1,2", "hydra.sweep.dir=sweep", folder=tmp_path)
    holder.communicate()
    assert ended.code == 2
    assert f"sweep is in use by process {holder.pid} on " in ended.err


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["-m", "seed=1,2"], "python -m trainer -m seed=1,2 sweep.resume=true"),
        (["seed=1,2", "-m"], "python -m trainer seed=1,2 sweep.resume=true -m"),
        (["-m", "sweep.resume=True", "a=b c"], "python -m trainer -m 'a=b c' sweep.resume=true"),
        (["--multirun"], "python -m trainer sweep.resume=true --multirun"),
    ],
)
def test_the_command_that_goes_on_is_the_one_typed_with_one_key_more(typed: list[str], told: str) -> None:
    assert sweep_command(typed) == told


def test_what_a_job_came_to_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = JobRecord(tmp_path)
    assert record.read() is None
    record.note_begun(["seed=1"])
    assert shown_state(record.read()) == "cut"
    record.note_finished(["seed=1"], 0.1 + 0.2)
    assert record.read() == Outcome(state=FINISHED, overrides=["seed=1"], value=0.1 + 0.2)
    record.note_finished(["seed=1"], math.nan)  # of a range test alone
    assert shown_state(record.read()) == "finished"
    record.path.write_text("{")
    with pytest.raises(ValueError, match=r"job\.json is damaged"):
        record.read()


def test_folders_asked_for_at_once_are_never_the_same(tmp_path: Path) -> None:
    start, got = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        got.append(new_folder(tmp_path / "day" / "name", claim=True))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.name for path in got} == {"name", *(f"name_{number}" for number in range(2, 9))}
    assert new_folder(tmp_path / "day" / "name", claim=False) == tmp_path / "day" / "name_9"
    assert not (tmp_path / "day" / "name_9").exists()


def test_a_folder_is_chosen_once_for_a_config_and_those_made_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    register_output_dirs()
    name = "hydra.run.dir='${run_dir:${resume},${hydra.mode},one}'"
    with hydra.initialize_config_module("conf", version_base="1.3"):
        shown = hydra.compose("config", overrides=[name], return_hydra_config=True)
        first, second = (
            hydra.compose("config", overrides=[name, "hydra.mode=RUN"], return_hydra_config=True) for _ in range(2)
        )
    assert [shown.hydra.run.dir for _ in range(2)] == ["outputs/one"] * 2
    assert not (tmp_path / "outputs").exists()
    assert [first.hydra.run.dir, copy.deepcopy(first).hydra.run.dir, first.hydra.run.dir] == ["outputs/one"] * 3
    assert second.hydra.run.dir == "outputs/one_2"


def test_two_runs_started_at_once_under_one_name_get_a_folder_each(tmp_path: Path) -> None:
    settings = (*SHORT, "hydra.run.dir='${run_dir:${resume},${hydra.mode},one}'")
    processes = [start_command(*settings, f"seed={seed}", folder=tmp_path) for seed in (1, 2)]
    runs = [RunDir(tmp_path / "outputs" / name) for name in ("one", "one_2")]
    for _ in range(12000):
        if all(run.config.exists() for run in runs) or any(process.poll() is not None for process in processes):
            break
        time.sleep(0.01)
    for process in processes:
        process.kill()
        process.communicate()
    assert {read_config(run.config).seed for run in runs} == {1, 2}
    assert len(list((tmp_path / "outputs").iterdir())) == 2


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    commands = re.findall(r"^    python -m trainer (.+)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        tiny = () if command.startswith("resume=") else ONE_EPOCH
        arguments = shlex.split(command.replace("tf_efficientnet_lite0", "test_efficientnet"))
        ended = run_main(*arguments, *tiny, folder=tmp_path)
        assert ended.code == 0, ended.err
        assert ended.out.count("is finished already") == (2 if "sweep.resume=true" in arguments else 0)
    for sweep in (sweep_of(tmp_path), tmp_path / "sweeps" / "seeds"):
        assert [outcome_of(sweep, number).state for number in range(2)] == [FINISHED] * 2
