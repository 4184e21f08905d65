"""Runs of `python -m trainer` that are killed on purpose: starting, aiming, killing, and comparing what they leave."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from trainer.__main__ import main
from trainer.run_dir import RunDir

POLL_SECONDS = 0.0003
GIVE_UP_SECONDS = 600


@dataclass(frozen=True)
class Aim:
    """When to kill: `count` more rows of lr_history.csv or metrics.csv after the part has begun to train, or as many
    checkpoints half written; then `delay` seconds. `begun` is the moment it has accepted its config, `started` that of
    its process."""

    at: str  # started, begun, update, evaluation, saving
    count: int
    delay: float


def start(arguments: Sequence[str], folder: Path, *, forked: bool) -> int:
    """The id of a new process, and of its session, that runs the command in `folder`.

    `forked`: it takes over this process's imports, and nothing of a run: none was made here.
    """
    parent_sees, child_says = os.pipe()
    if (child := os.fork()) > 0:
        os.close(child_says)
        os.read(parent_sees, 1)  # the session is there
        os.close(parent_sees)
        return child
    code = 70
    try:
        os.setsid()
        os.close(parent_sees)
        os.close(child_says)
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, sys.stdout.fileno())
        os.dup2(output, sys.stderr.fileno())
        os.chdir(folder)
        if not forked:
            os.execv(sys.executable, [sys.executable, "-m", "trainer", *arguments])
        sys.argv = ["trainer", *arguments]
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except Exception:  # told, and never let out: the caller's frames, which the fork has too, must not run twice
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(child: int, *, with_workers: bool) -> None:
    (os.killpg if with_workers else os.kill)(child, signal.SIGKILL)
    os.waitpid(child, 0)


class Watch:
    """What a part of a run does to its files, seen from outside. Made before the part starts."""

    def __init__(self, run_dir: RunDir, updates_per_epoch: int) -> None:
        self.run_dir = run_dir
        self.updates_per_epoch = updates_per_epoch
        self._before = {path: _identity(path) for path in (run_dir.config, run_dir.lr_history, run_dir.metrics)}

    def is_new(self, path: Path) -> bool:
        """The part has written it anew, as it does with logs and config when it begins."""
        return _identity(path) not in (None, self._before[path])

    def hit(self, child: int, aim: Aim) -> int | None:
        """Wait for the moment; the exit code if the process ended before it."""
        deadline = time.perf_counter() + aim.delay if aim.at == "started" else None
        reached, first, seen = self._counter(aim), None, 0
        given_up = time.perf_counter() + GIVE_UP_SECONDS
        while deadline is None or time.perf_counter() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if deadline is None and (now := reached()) is not None:
                first = now if first is None else first
                seen = now - first
                if seen >= aim.count:
                    deadline = time.perf_counter() + aim.delay
            if time.perf_counter() > given_up:
                raise TimeoutError(f"{aim} was not reached in {GIVE_UP_SECONDS} s; see output.txt beside the run")
            time.sleep(POLL_SECONDS)
        return None

    def _counter(self, aim: Aim) -> Callable[[], int | None]:
        run_dir = self.run_dir
        if aim.at in ("update", "evaluation"):
            path = run_dir.lr_history if aim.at == "update" else run_dir.metrics
            return lambda: rows(path) if self.is_new(path) else None
        if aim.at == "saving":
            aside: set[str] = set()

            def half_written() -> int:
                for path in run_dir.last_checkpoint.parent.glob(".last.*"):
                    aside.add(str(path.stat().st_ino) if path.exists() else path.name)
                return len(aside)

            return lambda: half_written() if self.is_new(run_dir.lr_history) else None
        return lambda: 0 if self.is_new(run_dir.config) else None

    def where(self, planned: dict[str, int], tests: bool) -> str:
        """Where a kill hit, read off the files that were left. `planned`: updates of each phase."""
        run_dir, per_epoch = self.run_dir, self.updates_per_epoch
        if not run_dir.config.exists() or not self.is_new(run_dir.config):
            return "starting"
        if not self.is_new(run_dir.lr_history) or not self.is_new(run_dir.metrics):
            return "starting"
        if any(run_dir.last_checkpoint.parent.glob(".*.*.*")) or (
            run_dir.previous_checkpoint.exists() and not run_dir.last_checkpoint.exists()
        ):
            return "saving"
        made, judged = rows(run_dir.lr_history), rows(run_dir.metrics)
        if made == sum(planned.values()) and judged * per_epoch >= made:
            return "outcome"
        phase = "frozen" if made < planned["frozen"] or judged * per_epoch < planned["frozen"] else "finetune"
        in_phase = made - (planned["frozen"] if phase == "finetune" else 0)
        if tests and in_phase == 0 and not (run_dir.range_test(phase) / "range_test.json").exists():
            return f"range test ({phase})"
        if made == 0 or not run_dir.last_checkpoint.exists():
            return "before the first checkpoint"
        if made % per_epoch == 0 and judged * per_epoch < made:
            return f"validation ({phase})"
        return f"update ({phase})"


def differences(one: RunDir, other: RunDir) -> list[str]:
    """The files in which two runs differ, timings aside."""
    found = [
        path.name
        for path, expected in (
            (one.lr_history, other.lr_history),
            (one.predictions, other.predictions),
            (one.splits, other.splits),
        )
        if path.read_bytes() != expected.read_bytes()
    ]
    metrics, expected = (pd.read_csv(run.metrics).drop(columns="seconds") for run in (one, other))
    found += ["metrics.csv"] if not metrics.equals(expected) else []
    kept = {path.name for run in (one, other) for path in run.best_weights.parent.glob("*.safetensors")}
    for name in sorted(kept):
        files = [run.best_weights.with_name(name) for run in (one, other)]
        if not all(file.exists() for file in files) or not _same(*map(load_file, files)):
            found.append(name)
    last, expected = (torch.load(run.last_checkpoint, weights_only=True) for run in (one, other))
    for key in last.keys() | expected.keys():
        if key not in ("seconds", "epoch_seconds") and not _same(last.get(key), expected.get(key)):
            found.append(f"last.pt: {key}")
    for phase in ("frozen", "finetune"):
        curves = [run.range_test(phase) / "range_test.csv" for run in (one, other)]
        if any(path.exists() for path in curves) and curves[0].read_bytes() != curves[1].read_bytes():
            found.append(f"range test ({phase})")
    results, expected = (json.loads(run.results.read_text(encoding="utf-8")) for run in (one, other))
    for key in ("metrics", "phases", "best", "updates", "learning_rates", "headline", "details"):
        found += [f"results.json: {key}"] if results[key] != expected[key] else []
    return found


def random_aim(rng: random.Random, *, updates: int, seconds: float, delay: float) -> Aim:
    """Mostly one of so many updates; else an evaluation, a checkpoint half written, the beginning, or any moment of the
    seconds that a run takes."""
    at = rng.choices(("update", "evaluation", "saving", "begun", "started"), (55, 15, 10, 8, 12))[0]
    most = {"update": updates, "evaluation": 1, "saving": 3}.get(at, 0)
    longest = {"update": delay, "evaluation": 4 * delay, "saving": 0.002, "begun": 0.3, "started": seconds}[at]
    return Aim(at, rng.randint(0, most), rng.uniform(0, longest))


def rows(path: Path) -> int:
    """Whole rows below the header."""
    try:
        return max(0, path.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


def _identity(path: Path) -> tuple[int, int] | None:
    """Of a file, not of its name: it changes when another takes its place."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns if path.suffix == ".yaml" else 0


def _same(one: Any, other: Any) -> bool:
    """Bit for bit, NaN equal to NaN."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bool(torch.equal(_bits(one), _bits(other)))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)
