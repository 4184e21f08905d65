"""What the sweepers share: a job and its config, the directory they run in, and what is told once they have ended."""

from __future__ import annotations

import copy
import io
import sys
from abc import ABC
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict

from trainer.config.run import TrainConfig
from trainer.config.store import to_train_config
from trainer.exit_codes import FAULTS, exit_code
from trainer.fault_message import fault_message
from trainer.launching import job_launcher
from trainer.run_dir import RunDir, write_text
from trainer.run_lock import RunInUseError, locked
from trainer.stopping import StopRequest
from trainer.sweep import (
    BEGUN,
    FAILED,
    FINISHED,
    JobRecord,
    Outcome,
    check_started_by,
    shown_state,
    typed_for,
    without_resume,
)
from trainer.sweep_table import RECORD, write_sweep_table


class JobSweeper(Sweeper, ABC):
    """A sweeper whose launcher is chosen by trainer.launching."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context: HydraContext = hydra_context
        self.config: DictConfig = config
        self.launcher: Launcher = job_launcher(hydra_context=hydra_context, task_function=task_function, config=config)


class JobsFailedError(RuntimeError):
    """Jobs of a sweep failed; the others went on. `exit_code` is that of the first."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Job:
    number: int
    overrides: list[str]
    folder: str  # within the sweep's
    fault: Exception | None = None  # that it ended with, in this process

    def outcome(self, sweep: Path) -> Outcome | None:
        if self.fault is None:
            return JobRecord(sweep / self.folder).read()
        return Outcome(
            state=FAILED, overrides=self.overrides, reason=reason_of(self.fault), exit_code=exit_code(self.fault)
        )


@contextmanager
def opened_sweep(config: DictConfig) -> Iterator[Path]:
    """Hold the directory of the sweep: a new one, into which its record is written, or that which is resumed.

    Raises:
        ValueError: it is that of another sweep, or in use.
    """
    sweep = Path(config.hydra.sweep.dir)
    if config.sweep.resume:
        check_started_by(sweep, typed_for(config.hydra.overrides))
    elif (sweep / RECORD).exists():
        raise ValueError(f"{sweep} already holds a sweep; go on with it by sweep.resume=true, or choose another folder")
    with locked(RunDir(sweep)), StopRequest().listening():
        if not config.sweep.resume:
            write_text(sweep / RECORD, OmegaConf.to_yaml(config))
        yield sweep


def check_is_sweep(config: DictConfig) -> None:
    """Raises ValueError where going on with a single run was asked for."""
    if config.resume is not None:
        raise ValueError(f"resume={config.resume} goes on with one run; leave out -m")


def given_params(params: Any) -> list[str]:
    """hydra.sweeper.params as overrides; raises ValueError where it holds no keys."""
    if params is not None and not isinstance(params, Mapping):
        raise ValueError(
            f"hydra.sweeper.params={params}: expected keys with their values, such as '{{seed: \"1,2,3\"}}'"
        )
    return [f"{key}={values}" for key, values in (params or {}).items()]


def compose_job(loader: ConfigLoader, config: DictConfig, number: int, overrides: list[str]) -> Job:
    """The job with its folder, or with the fault of its config."""
    job = Job(number, overrides, f"{number}_refused")
    try:
        composed = loader.load_sweep_config(config, list(overrides))
        job.folder = _folder_of(composed, number)
        typed_config(composed)
    except FAULTS as error:
        job.fault = error
    return job


def typed_config(composed: DictConfig) -> TrainConfig:
    """Of the config of a job, which has a node `hydra`; raises one of FAULTS where it is not sound."""
    kept = copy.deepcopy(composed)
    with flag_override(kept, ["struct", "readonly"], [False, False]):
        del kept["hydra"]
    return to_train_config(kept)


def note_refusals(sweep: Path, jobs: Sequence[Job]) -> None:
    """Leave the reason in the folder of each job that can't run, and take away that of an earlier time."""
    for job in jobs:
        refused = JobRecord(sweep / f"{job.number}_refused")
        if job.fault is None:
            refused.remove()
            continue
        reason = reason_of(job.fault)
        record = JobRecord(sweep / job.folder)
        before = record.read()
        if before is None or before.state != FINISHED:
            record.note_failure(job.overrides, reason, exit_code(job.fault))
        print(f"job {job.number} is left out: {reason}", flush=True)


def launch_jobs(launcher: Launcher, jobs: Sequence[Job], sweep: Path, max_batch_size: int | None = None) -> None:
    """Launch the sound ones, in stretches without a gap, because a launcher counts the jobs itself.

    `max_batch_size`: of a stretch. What a job ended with becomes its fault.
    """
    stretches: list[list[Job]] = []
    for job in jobs:
        if job.fault is not None:
            continue
        last = stretches[-1] if stretches else []
        if last and last[-1].number == job.number - 1 and len(last) != max_batch_size:
            last.append(job)
        else:
            stretches.append([job])
    for stretch in stretches:
        ended = launcher.launch([job.overrides for job in stretch], initial_job_idx=stretch[0].number)
        for job, returned in zip(stretch, ended, strict=True):
            job.fault = _fault_of(returned)
            _note_unseen(sweep, job)


def sum_up(sweep: Path, jobs: Sequence[Job]) -> None:
    """Complete sweep.csv, and write the page of the sweep where a job has ended since the last time.

    Whatever goes wrong here is told, and ends nothing: the jobs are what counts.
    """
    try:
        write_sweep_table(sweep)
        ended = [job for job in jobs if (found := job.outcome(sweep)) is not None and found.state != BEGUN]
        page = sweep / "compare.html"
        if not ended or (page.exists() and all(_written(sweep, job) < _modified(page) for job in ended)):
            return
        from trainer.comparison.compare import sum_up_sweep  # imports pandas and matplotlib

        sum_up_sweep(sweep)
    except Exception as error:
        print(f"the jobs are not compared: {reason_of(error)}", flush=True)


def print_list(sweep: Path, jobs: Sequence[Job], outcomes: Sequence[Outcome | None]) -> None:
    """A line per job: folder, overrides in which the jobs differ, what it came to."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set(jobs[0].overrides)
    rows = [(job.folder, " ".join(text for text in job.overrides if text not in common)) for job in jobs]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    counts = Counter(shown_state(outcome).split()[0].rstrip(":") for outcome in outcomes)
    told = ", ".join(f"{number} {state}" for state, number in counts.items())
    print(f"\n{sweep}: {told}")
    for (folder, overrides), outcome in zip(rows, outcomes, strict=True):
        print(f"  {folder:{widths[0]}}  {overrides:{widths[1]}}  {shown_state(outcome)}")
    sys.stdout.flush()


def raise_failures(sweep: Path, jobs: Sequence[Job], outcomes: Sequence[Outcome | None]) -> None:
    """Raises JobsFailedError where jobs failed; what is no fault of the user's is raised as it is."""
    for job in jobs:
        if job.fault is not None and not isinstance(job.fault, FAULTS):
            raise job.fault
    failed = [(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True) if _has_failed(outcome)]
    if failed:
        job, first = failed[0]
        assert first is not None
        assert first.exit_code is not None
        told = f"{len(failed)} of {len(jobs)} jobs failed, first {sweep / job.folder}: {first.reason}"
        raise JobsFailedError(told, first.exit_code)


def reason_of(fault: Exception) -> str:
    text = fault_message(fault) if isinstance(fault, FAULTS) else f"{type(fault).__name__}: {fault}"
    return " ".join(text.split())


def _fault_of(returned: JobReturn) -> Exception | None:
    if returned.status is not JobStatus.FAILED:
        return None
    try:
        with redirect_stderr(io.StringIO()):  # Hydra announces there what the list will tell
            _ = returned.return_value
    except Exception as error:
        return error
    return None


def _note_unseen(sweep: Path, job: Job) -> None:
    """Leave the failure in the job's folder where only the launcher saw it, as of a process that was killed."""
    if job.fault is None or isinstance(job.fault, RunInUseError):
        return
    run_dir, record = RunDir(sweep / job.folder), JobRecord(sweep / job.folder)
    with suppress(ValueError):  # a damaged record, of which the job has told
        before = record.read()
        unseen = not run_dir.config.exists() if before is None else before.state == BEGUN
        of_another = before is not None and before.overrides != without_resume(job.overrides)
        if unseen and not of_another:
            record.note_failure(without_resume(job.overrides), reason_of(job.fault), exit_code(job.fault))


def _folder_of(composed: DictConfig, number: int) -> str:
    """The name of the job's folder, which only a launcher would give it."""
    hydra_config = HydraConfig.instance()
    before = hydra_config.cfg
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
    hydra_config.set_config(composed)  # where ${hydra:...} looks
    try:
        return str(composed.hydra.sweep.subdir)
    finally:
        hydra_config.cfg = before


def _has_failed(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.state == FAILED


def _written(sweep: Path, job: Job) -> float:
    return _modified(JobRecord(sweep / job.folder).path)


def _modified(path: Path) -> float:
    return path.stat().st_mtime
