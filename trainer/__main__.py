"""`python -m trainer key=value ...`: Hydra composes the config, the rest is train(). torch waits until it is needed."""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from data.errors import DataError
from trainer.config.changes import check_resumable
from trainer.config.store import read_config, register_schemas, to_train_config
from trainer.errors import TrainingError
from trainer.run_dir import RunDir

EXIT_CONFIG, EXIT_DATA, EXIT_TRAINING = 2, 3, 4
FAULTS = (ValueError, TrainingError, OSError, HydraException, OmegaConfBaseException)

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
    try:
        if composed.resume is not None:
            if in_sweep:
                raise ValueError(f"resume={composed.resume} goes on with one run; leave out -m")
            composed = _resumed_config(composed, run_dir)
        config = to_train_config(composed)
        from trainer.train import train  # imports torch, which --help and a wrong key must not wait for

        return train(config, run_dir, composed, overrides=list(HydraConfig.get().overrides.task))
    except FAULTS as error:
        run_dir.note_fault(_message(error))
        if in_sweep:
            log.error("%s: %s", run_dir.path.name, _message(error))
            raise  # Hydra runs the sweep's other jobs first
        _fail(error)


def _resumed_config(composed: DictConfig, run_dir: RunDir) -> DictConfig:
    """The config the run was started with, under the overrides that it may be resumed with."""
    saved = asked = read_config(run_dir.config)
    overrides = [text for text in HydraConfig.get().overrides.task if not text.startswith("resume=")]
    if overrides:
        started_with = run_dir.read_environment()["overrides"]
        asked = hydra.compose("config", overrides=[*started_with, *overrides])
        to_train_config(asked)
        for key, (was, now) in check_resumable(saved, asked).items():
            log.info("resumed with %s=%s (was %s)", key, now, was)
    asked.resume = str(run_dir.path)
    return asked


def main() -> None:
    """Runs, and turns each fault of the user's into one message and an exit code."""
    os.environ["HYDRA_FULL_ERROR"] = (
        "1"  # let exceptions through to here; Hydra would print them its own way and exit 1
    )
    try:
        run()
    except FAULTS as error:
        _fail(error)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C; the last checkpoint is kept", file=sys.stderr)
        sys.exit(130)


def _fail(error: Exception) -> NoReturn:
    if isinstance(error, DataError):
        code = EXIT_DATA
    elif isinstance(error, TrainingError | OSError):
        code = EXIT_TRAINING
    else:
        code = EXIT_CONFIG
    print(f"error: {_message(error)}", file=sys.stderr)
    sys.exit(code)


def _message(error: Exception) -> str:
    """What to tell. Hydra and OmegaConf say what they did, and put the reason into the cause or the lines below."""
    text = str(error)
    if isinstance(error, InterpolationResolutionError):
        return text.splitlines()[0].removeprefix("ValueError raised while resolving interpolation: ")
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return text
    shown = text.split("\nTo append")[0].split("Config search path")[0].strip().rstrip(".")
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        shown += f": {str(cause).splitlines()[0]}"
        error = cause
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and is_dataclass(error.object_type):
        shown = f"{shown.splitlines()[0]}; its keys: {', '.join(field.name for field in fields(error.object_type))}"
    if wrong := re.match(r"Error merging override (?P<key>[^=]+)=(?P<value>.*?): .* is not a ListConfig", shown):
        shown = f"{shown.rstrip('.')}; write {wrong['key']}=[{wrong['value']}]"
    told, _, where = shown.partition("full_key: ")  # of a recipe that meets another task, in lines
    key = f" ({where.splitlines()[0]})" if where else ""
    return " ".join(told.split()) + key if key else shown


if __name__ == "__main__":
    main()
