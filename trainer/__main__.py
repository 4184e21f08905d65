"""`python -m trainer key=value ...`: Hydra composes the config, the rest is train(). torch waits until it is needed."""

from __future__ import annotations

import gc
import io
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from trainer.command_line import SCRIPT
from trainer.help import asks_for_nothing_else, help_text

if __name__ == "__main__" and SCRIPT not in os.environ and asks_for_nothing_else(sys.argv[1:]):
    print(help_text("config"))  # before Hydra is imported, which takes longer than all else of it
    sys.exit()

if __name__ == "__main__":
    gc.disable()  # while it imports, see importing.py

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trainer.arguments import asks_for_help, check_arguments
from trainer.command_line import override, resume_command, without_resume_of
from trainer.composing import compose_once, parse_fast
from trainer.config.changes import check_resumable
from trainer.config.store import read_config, register_schemas, to_train_config
from trainer.distributed.launch import (
    borrow,
    check_arguments_of_several,
    check_config_of_several,
    keep_quiet,
    launched,
    may_tell,
)
from trainer.exit_codes import FAULTS, TRAINING_FAULTS, exit_code
from trainer.fault_message import fault_message
from trainer.grid_sweeper import register_sweeper
from trainer.importing import collecting_no_garbage
from trainer.launched_job import forget_plugin_configs
from trainer.output_dirs import register_output_dirs
from trainer.own_script import load_parts
from trainer.parts import check_parts_known, place_in_own, told_parts
from trainer.run_dir import RunDir
from trainer.run_lock import RunInUseError, locked
from trainer.stopping import Pruned, Stopped, StopRequest
from trainer.study.pruning import study_of_job
from trainer.sweep import FINISHED, JobRecord, sweep_command, without_resume
from trainer.sweep_jobs import JobsFailedError

log = logging.getLogger(__name__)

RENAMED = "channels_last="  # memory_format, in what was typed for runs of before


register_output_dirs()
register_sweeper()
register_schemas()
forget_plugin_configs()
compose_once()
parse_fast()
load_parts()
OmegaConf.register_new_resolver("own_parts", told_parts, replace=True)


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")
def run(composed: DictConfig) -> float | None:
    """One job: a run of its own, or one of a sweep. Returns what an optimizing sweeper is to minimise."""
    run_dir = RunDir(Path(HydraConfig.get().runtime.output_dir))
    launch = launched()
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return _run_in_sweep(composed, run_dir)
    overrides = _typed_overrides()
    request = StopRequest()
    try:
        with request.listening(), locked(run_dir):
            if composed.sweep.resume:
                raise ValueError(
                    "sweep.resume=true goes on with a sweep and needs -m; a single run goes on with resume=DIR"
                )
            if composed.resume is not None:
                if launch is not None and launch.rank > 0:
                    borrow(run_dir, Path(composed.resume))
                composed = _resumed_config(run_dir, overrides)
            elif HydraConfig.get().sweeper.get("settings"):
                raise ValueError("what was given is a sweep of several settings; add -m")
            value = _train(composed, run_dir, overrides, request)
            job = JobRecord(run_dir.path)
            if (outcome := job.read()) is not None:  # the run was begun in a sweep
                job.note_finished(outcome.overrides, value)
            return value
    except RunInUseError as error:  # nothing to note: the log is that of the process in it
        fail(error)
    except FAULTS as error:
        message = fault_message(error)
        if isinstance(error, TRAINING_FAULTS) and run_dir.config.exists():
            message += f"; go on with: {resume_command(run_dir.home)}"
        fail(error, message, run_dir)
    except Stopped as stopped:
        if launch is not None and launch.rank > 0:
            pass  # the first process says it
        elif not run_dir.config.exists():
            print(f"\nstopped by {stopped} before training began", file=sys.stderr)
        elif stopped.at_once and not run_dir.has_checkpoint:
            print(f"\nstopped by {stopped} before the first checkpoint", file=sys.stderr)
        else:
            print(f"\nstopped by {stopped}; go on with: {resume_command(run_dir.path)}", file=sys.stderr)
        sys.exit(stopped.exit_code)


def _run_in_sweep(composed: DictConfig, run_dir: RunDir) -> float:
    """A job of a sweep. What it comes to is kept in its folder; what it raises, Hydra keeps while the other jobs run.

    Under sweep.resume a job that is finished is left alone, and one that was begun goes on as a run that is resumed.
    """
    resume, composed.sweep.resume = composed.sweep.resume, False  # says what to do with the job, not what the job is
    overrides = without_resume(_typed_overrides())
    job = JobRecord(run_dir.path)
    before = job.read()
    begun = run_dir.config.exists()
    if composed.resume is not None:
        raise ValueError(f"resume={composed.resume} goes on with one run; leave out -m")
    if begun and not resume:
        raise ValueError(f"{run_dir.path} already holds a run; go on with the sweep by sweep.resume=true")
    if begun and before is not None and before.overrides != overrides:
        raise ValueError(f"{run_dir.path} was begun with other overrides: {' '.join(before.overrides)}")
    if before is not None and before.state == FINISHED:
        print(f"{run_dir.path.name} is finished already", flush=True)
        return math.nan if before.value is None else before.value
    request = StopRequest()
    try:
        with request.listening(), locked(run_dir):
            job.note_begun(overrides)
            request.pruning = study_of_job(HydraConfig.get())
            if begun:
                value = _train(_resumed_config(run_dir, []), run_dir, [], request)
            else:
                value = _train(composed, run_dir, overrides, request)
            job.note_finished(overrides, value)
            return value
    except Pruned as pruned:
        log.info("%s is %s; its weights and its checkpoint are kept", run_dir.path.name, pruned)
        job.note_pruned(overrides, pruned.value)
        return pruned.value
    except RunInUseError:
        raise
    except FAULTS as error:
        message = fault_message(error)
        job.note_failure(overrides, message, exit_code(error))
        log.error("%s: %s", run_dir.path.name, message)
        raise


def _typed_overrides() -> list[str]:
    """What was typed for this job, ${...} as they stand."""
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return [str(text) for text in overrides]


def _train(composed: DictConfig, run_dir: RunDir, overrides: list[str], request: StopRequest) -> float:
    begun = time.perf_counter()
    config = to_train_config(composed)
    launch = launched()
    if launch is not None:
        check_config_of_several(config, launch)
    with collecting_no_garbage():
        from trainer.train import train  # imports torch, which --help and a wrong key must not wait for

    if launch is None:
        return train(config, run_dir, composed, overrides, request, begun=begun)
    from trainer.distributed.ranks import joined
    from trainer.distributed.sharing import Sharing

    with joined(launch, config, run_dir, request) as ranks:
        return train(config, run_dir, composed, overrides, request, Sharing(ranks, config.seed), begun)


def _resumed_config(run_dir: RunDir, typed: list[str]) -> DictConfig:
    """The config the run was started with, under the overrides that it may be resumed with."""
    saved = asked = read_config(run_dir.config)
    environment = run_dir.read_environment()
    check_parts_known(saved, environment, override("resume", str(run_dir.home)))
    if os.path.isdir(environment["folder"]):
        os.chdir(environment["folder"])  # relative paths mean what they meant when the run began
    overrides = without_resume_of(typed)
    if overrides:
        # Runs of before these keys, or under other defaults of theirs, go on as they began.
        kept = [
            f"phases.frozen.cache.views={saved.phases.frozen.cache.views}",
            f"precision={saved.precision}",
            f"memory_format={saved.memory_format}",
        ]
        given = [text for text in environment["overrides"] if not text.startswith(RENAMED)]
        asked = hydra.compose("config", overrides=[*kept, *given, *overrides])
        to_train_config(asked)
        check_resumable(saved, asked)
    asked.resume = str(run_dir.home)
    return asked


def main() -> None:
    """Runs, and turns each fault of the user's into one message and an exit code."""
    prepare()
    try:
        check_arguments(sys.argv[1:])
        if asks_for_help(sys.argv[1:]):
            print(help_text("config", told_parts()))
            return
        launch = launched()
        if launch is not None:
            check_arguments_of_several(sys.argv[1:], launch)
            if launch.rank > 0:
                keep_quiet(launch.rank)
        run()
    except FAULTS as error:
        fail(error)
    except JobsFailedError as error:
        print(f"error: {error}; once mended, run what is left with: {sweep_command(sys.argv[1:])}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Stopped as stopped:  # a sweep; a run has told of it
        print(f"\nstopped by {stopped}; go on with: {sweep_command(sys.argv[1:])}", file=sys.stderr)
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C before training began", file=sys.stderr)
        sys.exit(130)


def prepare() -> None:
    """What each command of the trainer sets in its process before it reads its arguments."""
    # Let exceptions through to main; Hydra would print them its own way and exit 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    logging.raiseExceptions = False  # a log on a full disk must not bury the run's own message under tracebacks
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal can't show must not end a run


def fail(error: Exception, message: str | None = None, run_dir: RunDir | None = None) -> NoReturn:
    """Tell a fault, in the log of the run too, and end with its exit code."""
    if may_tell(error):
        message = place_in_own(error) + (message or fault_message(error))
        if run_dir is not None:
            run_dir.note_fault(message)
        print(f"error: {message}", file=sys.stderr)
    sys.exit(exit_code(error))


if __name__ == "__main__":
    gc.enable()
    main()
