"""How many processes read for one that trains, where nobody says it."""

from __future__ import annotations

import os
from dataclasses import dataclass

MOST = 4  # read more than 500 images a second at 512 px
SHARED_MEMORY = "/dev/shm"
BATCHES_PER_WORKER = 3  # two that wait and one that is made


@dataclass(frozen=True)
class WorkerCount:
    workers: int
    why: str


def suited_workers(*, on_gpu: bool, cores: int, shared_bytes: int | None, batch_bytes: int) -> WorkerCount:
    """None where no CUDA device trains, as they would take the cores that do; beside one all cores but one, up to 4, as
    far as there is shared memory for their batches.

    cores: of each process that trains. shared_bytes: that are free, None where that is no question.
    """
    if not on_gpu:
        return WorkerCount(0, "no CUDA device trains")
    by_cores = min(MOST, cores - 1) if cores > 2 else 0
    if shared_bytes is None:
        return WorkerCount(by_cores, f"{cores} cores")
    by_memory = shared_bytes // (2 * BATCHES_PER_WORKER * max(1, batch_bytes))  # a half is for others
    if by_memory < by_cores:
        return WorkerCount(by_memory, f"{SHARED_MEMORY} has {shared_bytes / 1e6:.0f} MB free")
    return WorkerCount(by_cores, f"{cores} cores")


def usable_cores() -> int:
    """Cores for each of the processes that torchrun has started here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cores // max(1, int(processes) if processes.isdigit() else 1))


def free_shared_bytes() -> int | None:
    """None where there is no such place."""
    try:
        told = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return told.f_bavail * told.f_frsize
