"""Going on with a run: the checkpoint that it goes on from, and what is told about it."""

from __future__ import annotations

import logging
from typing import Any

from trainer import checkpoint
from trainer.config.run import TrainConfig
from trainer.environment import describe_environment
from trainer.run_dir import RunDir

log = logging.getLogger(__name__)


def find_checkpoint(config: TrainConfig, run_dir: RunDir) -> dict[str, Any] | None:
    """Where a resumed run goes on: its newest readable checkpoint. None for a fresh run, or one that has none yet.

    Raises:
        ValueError: a fresh run was asked for where there is one, or no checkpoint can be read.
    """
    if config.resume is None:
        if run_dir.config.exists():
            raise ValueError(f"{run_dir.path} already holds a run; go on with it by resume={run_dir.path}")
        if run_dir.splits.exists():
            raise ValueError(f"{run_dir.splits} is there, of another run; take it away, or choose another folder")
        return None
    return checkpoint.load(RunDir(run_dir.home))


def tell_resume(run_dir: RunDir, saved: dict[str, Any] | None) -> None:
    """Say from where the run goes on, and warn where sums come out otherwise than they did."""
    if saved is None:
        log.info("%s has no checkpoint yet: it starts from the beginning", run_dir.path)
        return
    log.info("resumed %s after update %d (%s)", run_dir.path, saved["iteration"], saved["phase"])
    was, now = run_dir.read_environment(), describe_environment([])
    was.setdefault("processes", 1)  # runs of before were by one
    differing = {key: (was[key], now[key]) for key in ("threads", "devices", "processes") if was[key] != now[key]}
    if was["versions"]["torch"] != now["versions"]["torch"]:
        differing["torch"] = (was["versions"]["torch"], now["versions"]["torch"])
    if differing:
        told = ", ".join(f"{key}: was {before}, now {after}" for key, (before, after) in differing.items())
        log.warning("the run goes on, but not to the last bit as if it had not been stopped (%s)", told)
