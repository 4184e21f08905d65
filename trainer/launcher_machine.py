"""What a launcher is told of the machine that the jobs of a sweep share: cores, GPUs, and Ray where it begins here."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from trainer.stopping import NAMES

DEVICES = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"  # torch has so many too


def shared_machine(options: Mapping[str, Any], jobs_at_once: int) -> dict[str, str | None]:
    """Threads of each job, and the GPUs that submitit and Ray would hide where none are asked for."""
    given = os.environ.get(THREADS, "")
    threads = given if given.isdigit() else str(max(cores() // jobs_at_once, 1))
    print(f"{jobs_at_once} jobs at once, {threads} of {cores()} threads each", flush=True)
    asked = options.get("gpus_per_node") or (options.get("ray") or {}).get("remote", {}).get("num_gpus")
    return {THREADS: threads} | ({} if asked else {DEVICES: os.environ.get(DEVICES)})


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_count(given: Any) -> int:
    """Jobs at once, at most; below 0 as joblib counts: -1 is one per core."""
    if isinstance(given, bool) or not isinstance(given, int) or given == 0:
        raise ValueError(f"hydra.launcher.n_jobs={given} must be a number of jobs at once, or -1 for one per core")
    return given if given > 0 else max(cores() + 1 + given, 1)


def start_ray(options: dict[str, Any], slots: int) -> None:
    """Start Ray, or join the cluster at ray.init.address, unless that has been done.

    Before the plugin would, because Ray takes the signals of the process that starts it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: other processes would come first
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # lines that look alike, as those of epochs, would be left out
    ray = importlib.import_module("ray")
    options["remote"] = {name: value for name, value in options["remote"].items() if value is not None}
    if ray.is_initialized():
        return
    given = {name: value for name, value in options["init"].items() if value is not None}
    if "address" not in given:
        given = {"address": "local", "num_cpus": slots, **given}
    handlers = {number: signal.getsignal(number) for number in NAMES}
    ray.init(**given)
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
