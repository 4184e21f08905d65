"""One process at a time in a run directory."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from trainer.run_dir import RunDir

log = logging.getLogger(__name__)


class RunInUseError(ValueError):
    """Another process trains in the run directory."""


@contextmanager
def locked(run_dir: RunDir) -> Iterator[None]:
    """Hold the run directory. The lock goes with the process, however it ends, and its workers don't inherit it.

    Where the directory was empty and no run began in it, it is taken away in the end.

    Raises:
        RunInUseError: a living process holds it.
    """
    run_dir.path.mkdir(parents=True, exist_ok=True)
    was_empty = not any(path != run_dir.lock for path in run_dir.path.iterdir())
    try:
        with run_dir.lock.open("a+", encoding="utf-8") as file:
            if not _take(file, run_dir):
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunInUseError(f"{run_dir.path} is in use by {holder}; wait until it ends, or stop it")
            with suppress(OSError):  # a full disk: who holds the lock is told, but is not what locks
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}\n")
                file.flush()
            try:
                yield
            finally:
                with suppress(OSError):
                    file.truncate(0)
    finally:
        if was_empty and not run_dir.config.exists():  # also where a stop came before the lock was taken
            with run_dir.lock.open("a+", encoding="utf-8") as file:
                if _take(file, run_dir):
                    run_dir.remove()


def _take(file: TextIO, run_dir: RunDir) -> bool:
    """Lock the file, which may be this process's already; False where another process has."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        log.warning("%s can't be locked here (%s): let no two processes train in it", run_dir.path, error.strerror)
    return True
