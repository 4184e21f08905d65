"""Runs in this process that are stopped on purpose: at the n-th place where a run looks whether it was asked to."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from conftest import compose
from omegaconf import DictConfig

from trainer.config.store import to_train_config
from trainer.run_dir import RunDir
from trainer.stopping import Stopped, StopRequest
from trainer.train import train

MOST_PARTS = 40


class StopAt(StopRequest):
    """Asks to stop at the n-th check: there is one after each update, before each batch of an evaluation, after each
    step of a range test, and at the end of training."""

    def __init__(self, check: int) -> None:
        super().__init__()
        self._left = check

    def check(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Stopped(signal.SIGTERM, at_once=False)


class StopOnceThere(StopRequest):
    """Asks to stop at the first check after a file has been written."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def check(self) -> None:
        if self._file.exists():
            raise Stopped(signal.SIGTERM, at_once=False)


def start_or_resume(path: Path, *settings: str, request: StopRequest | None = None) -> bool:
    """Whether the run in `path` came to its end."""
    return _run(path, compose(*settings), list(settings), request)


def run_in_parts(path: Path, settings: Sequence[str], checks: Sequence[int], workers: Sequence[int] = (0,)) -> int:
    """Run to the end, part by part; the first ends at the first of `checks`, and so on in turn. How many parts it took.

    A part may have another number of workers than the one before it.
    """
    composed = compose(*settings)
    for part in range(MOST_PARTS):
        composed.data.workers = workers[part % len(workers)]
        if _run(path, composed, list(settings), StopAt(checks[part % len(checks)])):
            return part + 1
    raise AssertionError(f"not at its end after {MOST_PARTS} parts: {checks} are too few checks to get on")


def _run(path: Path, composed: DictConfig, overrides: list[str], request: StopRequest | None) -> bool:
    composed.resume = str(path) if (path / "config.yaml").exists() else None
    try:
        train(to_train_config(composed), RunDir(path), composed, overrides, request)
    except Stopped:
        return False
    return True
