"""`python -m trainer key=value ...`: Hydra composes the config, the rest is train(). torch waits until it is needed."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.errors import DataError
from trainer.command_line import resume_command
from trainer.config.changes import check_resumable
from trainer.config.store import read_config, register_schemas, to_train_config
from trainer.errors import TrainingError
from trainer.fault_message import fault_message
from trainer.run_dir import RunDir
from trainer.run_lock import RunInUseError, locked
from trainer.stopping import Stopped, StopRequest

EXIT_CONFIG, EXIT_DATA, EXIT_TRAINING = 2, 3, 4
TRAINING_FAULTS = (TrainingError, OSError)
FAULTS = (ValueError, *TRAINING_FAULTS, HydraException, OmegaConfBaseException)

log = logging.getLogger(__name__)


def _run_dir(resume: str | None, fresh: str) -> str:
    """The resolver behind hydra.run.dir: the run to go on with, or a new folder under outputs/."""
    if resume is None:
        return f"outputs/{fresh}"
    RunDir(Path(resume)).check_exists()
    return resume


OmegaConf.register_new_resolver("run_dir", _run_dir)
register_schemas()


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")
def run(composed: DictConfig) -> float | None:
    """One job: a run of its own, or one of a sweep. Returns what an optimizing sweeper is to minimise."""
    run_dir = RunDir(Path(HydraConfig.get().runtime.output_dir))
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    request = StopRequest()
    try:
        with request.listening(), locked(run_dir):
            if composed.resume is not None:
                if in_sweep:
                    raise ValueError(f"resume={composed.resume} goes on with one run; leave out -m")
                composed = _resumed_config(composed, run_dir)
            config = to_train_config(composed)
            from trainer.train import train  # imports torch, which --help and a wrong key must not wait for

            return train(config, run_dir, composed, list(HydraConfig.get().overrides.task), request)
    except RunInUseError as error:  # nothing to note: the log is that of the process in it
        _fail(error)
    except FAULTS as error:
        message = fault_message(error)
        if isinstance(error, TRAINING_FAULTS) and run_dir.last_checkpoint.exists():
            message += f"; go on with: {resume_command(run_dir.path)}"
        run_dir.note_fault(message)
        if in_sweep:
            log.error("%s: %s", run_dir.path.name, message)
            raise  # Hydra runs the sweep's other jobs first
        _fail(error, message)
    except Stopped as stopped:
        if not run_dir.config.exists():
            run_dir.note_fault("")
            print(f"\nstopped by {stopped} before training began", file=sys.stderr)
        elif stopped.at_once and not run_dir.last_checkpoint.exists():
            print(f"\nstopped by {stopped} before the first checkpoint", file=sys.stderr)
        else:
            print(f"\nstopped by {stopped}; go on with: {resume_command(run_dir.path)}", file=sys.stderr)
        sys.exit(stopped.exit_code)


def _resumed_config(composed: DictConfig, run_dir: RunDir) -> DictConfig:
    """The config the run was started with, under the overrides that it may be resumed with."""
    saved = asked = read_config(run_dir.config)
    environment = run_dir.read_environment()
    if os.path.isdir(environment["folder"]):
        os.chdir(environment["folder"])  # relative paths mean what they meant when the run began
    overrides = [text for text in HydraConfig.get().overrides.task if not text.startswith("resume=")]
    if overrides:
        asked = hydra.compose("config", overrides=[*environment["overrides"], *overrides])
        to_train_config(asked)
        for key, (was, now) in check_resumable(saved, asked).items():
            log.info("resumed with %s=%s (was %s)", key, now, was)
    asked.resume = str(run_dir.path)
    return asked


def main() -> None:
    """Runs, and turns each fault of the user's into one message and an exit code."""
    # Let exceptions through to here; Hydra would print them its own way and exit 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    logging.raiseExceptions = False  # a log on a full disk must not bury the run's own message under tracebacks
    try:
        run()
    except FAULTS as error:
        _fail(error)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C before training began", file=sys.stderr)
        sys.exit(130)


def _fail(error: Exception, message: str | None = None) -> NoReturn:
    if isinstance(error, DataError):
        code = EXIT_DATA
    elif isinstance(error, TRAINING_FAULTS):
        code = EXIT_TRAINING
    else:
        code = EXIT_CONFIG
    print(f"error: {message or fault_message(error)}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
