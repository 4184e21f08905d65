"""The processes of a run as one group: what they agree on, and what is told when one of them has ended."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from trainer.config.run import TrainConfig
from trainer.distributed.launch import Launch
from trainer.errors import LostProcessError, TrainingError
from trainer.fault_message import fault_message
from trainer.run_dir import RunDir
from trainer.stopping import StopRequest

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(minutes=10)  # for a process that lives but does not answer
SECONDS_TO_ANSWER = 3.0  # of the others, when one is missing
# How Gloo and NCCL, the store and torch around them begin or call what they say when a process is missing.
_OF_THE_GROUP = re.compile(
    r"gloo|nccl|TCPStore|Connection (closed|reset|refused)|Broken pipe|timed? ?out", re.IGNORECASE
)
_TIMED_OUT = re.compile(r"timed? ?out", re.IGNORECASE)


class Ranks:
    """The group of processes. `same` to `leave` wait for all of them to call the same method."""

    def __init__(self, launch: Launch, device: str, store: Any) -> None:
        self.rank, self.count = launch.rank, launch.count
        self.device = device
        self._store = store
        self._names = [f"the process of rank {rank}" for rank in range(launch.count)]

    def same(self, value: Value) -> Value:
        """What the first process has."""
        held = [value]
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]

    def gathered(self, value: Value) -> list[Value]:
        """What each process has, in the order of their ranks."""
        held: list[Any] = [None] * self.count
        dist.all_gather_object(held, value)
        return held

    def largest(self, number: int) -> int:
        held = torch.tensor(number)
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return int(held)

    def summed(self, numbers: list[float]) -> list[float]:
        """The sum over the processes of each number."""
        held = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(held)
        return [float(total) for total in held]

    def check_same(self, name: str, value: Any) -> None:
        """Raises ValueError where not all processes have an equal value."""
        held = self.gathered(value)
        for rank, other in enumerate(held):
            if other != held[0]:
                raise ValueError(
                    f"the processes of torchrun do not have the same {name}: rank 0 {held[0]}, rank {rank} {other}; on "
                    "several machines data, weights and run directories have to lie in a folder that all of them see"
                )

    def introduce(self) -> None:
        """Let all know which process is which."""
        self._names = self.gathered(f"rank {self.rank} (process {os.getpid()} on {platform.node()})")

    def leave(self) -> None:
        """Dissolve the group: each process goes on by itself."""
        dist.destroy_process_group()

    def note_end(self, why: str) -> None:
        """Leave word for those that will miss this process; none where it ends because it misses another."""
        with suppress(RuntimeError):  # the store may be gone too
            self._store.set(self._key(self.rank), why)

    def described_loss(self, error: RuntimeError) -> LostProcessError:
        """What to raise after an exchange that failed: which process is missing, and why as far as it left word."""
        self.note_end("")
        words, until = self._words(), time.perf_counter() + SECONDS_TO_ANSWER
        # Those that live and miss another one come to say so; who ends by its own fault has said so before.
        while not any(words.values()) and len(words) < self.count - 1 and time.perf_counter() < until:
            time.sleep(0.05)
            words = self._words()
        tells = self.rank == min(rank for rank, word in words.items() if not word)
        for rank, word in words.items():
            if word:
                return LostProcessError(f"{self._names[rank]} has ended: {word}", tells=tells)
        silent = " and ".join(self._names[rank] for rank in range(self.count) if rank not in words)
        if _TIMED_OUT.search(str(error)):
            told = f"gave no answer in {LONGEST_WAIT.seconds // 60} minutes"
        else:
            told = "has ended without a word, as by kill -9 or where the system is out of memory"
        return LostProcessError(f"{silent or 'another process of the run'} {told}", tells=tells)

    def _words(self) -> dict[int, str]:
        """Of the processes that have left word, or none but that they miss another; this one among them."""
        words = {self.rank: ""}
        with suppress(RuntimeError):
            for rank in range(self.count):
                if self._store.check([self._key(rank)]):
                    words[rank] = self._store.get(self._key(rank)).decode()
        return words

    def _key(self, rank: int) -> str:
        return f"trainer/ended/{rank}"


@contextmanager
def joined(launch: Launch, config: TrainConfig, run_dir: RunDir, request: StopRequest) -> Iterator[Ranks]:
    """Form the group; from then on a request to stop is one of all processes.

    Raises:
        ValueError: a machine has fewer GPUs than processes.
        TrainingError: the processes do not find each other, or another one has ended.
    """
    device = own_device(config.device, launch)
    backend = "gloo"
    if device != "cpu":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"  # what is agreed on is agreed on beside the GPUs
    store = _store()
    ranks = Ranks(launch, device, store)
    try:
        dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.count, timeout=LONGEST_WAIT)
        ranks.introduce()
        run_dir.home = Path(ranks.same(str(run_dir.home)))
        request.agree = ranks.largest
        yield ranks
        if dist.is_initialized():
            ranks.leave()
    except Exception as error:
        if (
            isinstance(error, RuntimeError)
            and not isinstance(error, TrainingError)
            and _OF_THE_GROUP.search(str(error))
        ):
            request.ignore()  # torchrun's own, who also has seen it
            raise ranks.described_loss(error) from error
        ranks.note_end(fault_message(error))
        raise


def _store() -> Any:  # torch names the type of its stores nowhere in public
    address = ":".join(os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT"))
    try:
        return next(rendezvous("env://", timeout=LONGEST_WAIT))[0]
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the processes do not find each other at {address} ({str(error).splitlines()[0]}); let torchrun set "
            "MASTER_ADDR and MASTER_PORT, and see that no firewall lies between the machines"
        ) from None


def own_device(asked: str, launch: Launch) -> str:
    """cpu, or the GPU that is this process's own.

    Raises:
        ValueError: there are fewer GPUs than processes.
    """
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return "cpu"
    found = torch.cuda.device_count()
    if found < launch.local_count:
        raise ValueError(
            f"device={asked}: torchrun started {launch.local_count} processes on {platform.node()}, and torch finds "
            f"{found} CUDA devices there; give torchrun --nproc-per-node={max(found, 1)}, or device=cpu"
        )
    return f"cuda:{launch.local_rank}"
