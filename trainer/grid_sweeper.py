"""The sweep over every combination: Hydra's sweeper, but that a job which fails leaves the others alone, and that
settings with keys of their own can be swept over."""

from __future__ import annotations

import copy
import io
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict

from trainer.config.store import to_train_config
from trainer.exit_codes import FAULTS, exit_code
from trainer.fault_message import fault_message
from trainer.launching import job_launcher
from trainer.run_dir import RunDir, write_text
from trainer.run_lock import locked
from trainer.stopping import StopRequest
from trainer.sweep import (
    FAILED,
    FINISHED,
    JobRecord,
    Outcome,
    check_started_by,
    shown_state,
    typed_for,
)
from trainer.sweep_settings import checked_settings, middle_rate, with_settings
from trainer.sweep_table import RECORD, write_sweep_table

PLUGIN_MODULE = "hydra_plugins.trainer"  # as conf/hydra/sweeper/grid.yaml names this one


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
            state=FAILED, overrides=self.overrides, reason=_reason(self.fault), exit_code=exit_code(self.fault)
        )


class GridSweeper(Sweeper):
    """Every combination of the values given is a job; how many run at once is the launcher's business.

    What a job came to is on disk when it ends (trainer.sweep); a list of all jobs ends the sweep, however it ends.
    """

    def __init__(
        self, max_batch_size: int | None, params: dict[str, str] | None, settings: list[list[str]] | None
    ) -> None:
        self.max_batch_size = max_batch_size
        self.params = params or {}
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context: HydraContext = hydra_context
        self.config: DictConfig = config
        self.launcher: Launcher = job_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs, or those of them that are left.

        Raises:
            ValueError: the sweep as a whole is impossible; nothing was made.
            JobsFailedError: jobs failed.
        """
        if self.config.resume is not None:
            raise ValueError(f"resume={self.config.resume} goes on with one run; leave out -m")
        jobs = self._compose([*(f"{key}={values}" for key, values in self.params.items()), *arguments])
        if all(job.fault is not None for job in jobs):
            assert jobs[0].fault is not None
            raise jobs[0].fault
        sweep = Path(self.config.hydra.sweep.dir)
        if self.config.sweep.resume:
            check_started_by(sweep, typed_for(self.config.hydra.overrides))
        elif (sweep / RECORD).exists():
            raise ValueError(
                f"{sweep} already holds a sweep; go on with it by sweep.resume=true, or choose another folder"
            )
        with locked(RunDir(sweep)), StopRequest().listening():
            if not self.config.sweep.resume:
                write_text(sweep / RECORD, OmegaConf.to_yaml(self.config))
            self._note_refusals(sweep, jobs)
            try:
                self._launch(jobs)
                _sum_up(sweep, jobs)
            finally:
                outcomes = [job.outcome(sweep) for job in jobs]
                _print_list(sweep, jobs, outcomes)
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

    def _compose(self, arguments: list[str]) -> list[Job]:
        """The jobs, each with its folder, or with the fault of its config."""
        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
        (combinations,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        settings = checked_settings(self.settings)
        jobs = []
        for number, combination in enumerate(with_settings(settings, combinations, self.config)):
            job = Job(number, combination, f"{number}_refused")
            try:
                composed = loader.load_sweep_config(self.config, list(combination))
                job.folder = _folder_of(composed, number)
                to_train_config(_without_hydra(composed))
            except FAULTS as error:
                job.fault = error
            jobs.append(job)
        return jobs

    def _note_refusals(self, sweep: Path, jobs: list[Job]) -> None:
        """Leave the reason in the folder of each job that can't run, and take away that of an earlier time."""
        for job in jobs:
            refused = JobRecord(sweep / f"{job.number}_refused")
            if job.fault is None:
                refused.remove()
                continue
            reason = _reason(job.fault)
            record = JobRecord(sweep / job.folder)
            before = record.read()
            if before is None or before.state != FINISHED:
                record.note_failure(job.overrides, reason, exit_code(job.fault))
            print(f"job {job.number} is left out: {reason}", flush=True)

    def _launch(self, jobs: list[Job]) -> None:
        """Launch in stretches without a gap, because a launcher counts the jobs itself."""
        stretches: list[list[Job]] = []
        for job in jobs:
            if job.fault is not None:
                continue
            last = stretches[-1] if stretches else []
            if last and last[-1].number == job.number - 1 and len(last) != self.max_batch_size:
                last.append(job)
            else:
                stretches.append([job])
        for stretch in stretches:
            ended = self.launcher.launch([job.overrides for job in stretch], initial_job_idx=stretch[0].number)
            for job, returned in zip(stretch, ended, strict=True):
                job.fault = _fault_of(returned)


def _sum_up(sweep: Path, jobs: Sequence[Job]) -> None:
    """Complete sweep.csv, and compare the jobs where two or more came to a number and one did so since the last time.

    Whatever goes wrong here is told, and ends nothing: the jobs are what counts.
    """
    try:
        write_sweep_table(sweep)
        finished = [job for job in jobs if (ended := job.outcome(sweep)) is not None and ended.value is not None]
        page = sweep / "compare.html"
        if len(finished) < 2 or (page.exists() and all(_written(sweep, job) < _modified(page) for job in finished)):
            return
        from trainer.comparison.compare import compare_runs  # imports pandas and matplotlib

        compare_runs([sweep], sweep, target=None)
    except Exception as error:
        print(f"the jobs are not compared: {_reason(error)}", flush=True)


def _written(sweep: Path, job: Job) -> float:
    return _modified(JobRecord(sweep / job.folder).path)


def _modified(path: Path) -> float:
    return path.stat().st_mtime


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


def _without_hydra(composed: DictConfig) -> DictConfig:
    kept = copy.deepcopy(composed)
    with flag_override(kept, ["struct", "readonly"], [False, False]):
        del kept["hydra"]
    return kept


def _fault_of(returned: JobReturn) -> Exception | None:
    if returned.status is not JobStatus.FAILED:
        return None
    try:
        with redirect_stderr(io.StringIO()):  # Hydra announces there what the list will tell
            _ = returned.return_value
    except Exception as error:
        return error
    return None


def _reason(fault: Exception) -> str:
    text = fault_message(fault) if isinstance(fault, FAULTS) else f"{type(fault).__name__}: {fault}"
    return " ".join(text.split())


def _has_failed(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.state == FAILED


def _print_list(sweep: Path, jobs: list[Job], outcomes: Sequence[Outcome | None]) -> None:
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


def register_sweeper() -> None:
    """Make the sweeper known to Hydra, which takes plugins from the package hydra_plugins alone.

    With it the resolver of a rate between two, for settings that are to be compared with cycles.
    """
    OmegaConf.register_new_resolver("middle_rate", middle_rate, replace=True)
    plugins = Plugins.instance()  # looks through that package first, where it is installed
    package, name = PLUGIN_MODULE.split(".")
    sys.modules.setdefault(package, ModuleType(package))
    sys.modules[PLUGIN_MODULE] = sys.modules[__name__]
    setattr(sys.modules[package], name, sys.modules[__name__])
    GridSweeper.__module__ = PLUGIN_MODULE
    plugins.register(GridSweeper)
