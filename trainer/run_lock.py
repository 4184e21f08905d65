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

OF_ANOTHER = (BlockingIOError, PermissionError)  # a lock that another process has


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
    with run_dir.lock.open("a+", encoding="utf-8") as file:
        refused = False
        try:
            fault = _take(file)
            refused = isinstance(fault, OF_ANOTHER)
            if refused:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunInUseError(f"{run_dir.path} is in use by {holder}; wait until it ends, or stop it")
            if fault is not None:
                log.warning(
                    "%s can't be locked here (%s): let no two processes train in it", run_dir.path, fault.strerror
                )
            with suppress(OSError):  # a full disk: who holds the lock is told, but is not what locks
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}\n")
                file.flush()
            yield
        finally:
            # A stop may have come before the lock was taken; to take it again changes nothing.
            if not refused and not isinstance(_take(file), OF_ANOTHER):
                if was_empty and not run_dir.config.exists():
                    run_dir.remove()
                else:
                    with suppress(OSError):
                        file.truncate(0)


def _take(file: TextIO) -> OSError | None:
    """Lock the file, which may be this process's already; what stands against it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error
    return None
