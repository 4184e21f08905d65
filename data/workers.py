"""Processes that read samples: what each of them reads, which signals it lives through, and how its end is told."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any
from weakref import WeakSet

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from data.errors import DataError

Key = tuple[int, ...]  # epoch, index of the record and, from the second time in an epoch on, how often it came before

END_SECONDS = 5.0
OPEN = "With data.workers=0 the fault shows in the open"
ADVICE = {
    signal.SIGKILL: "So the system ends what takes too much memory: try fewer data.workers or a smaller data.cache_gb",
    signal.SIGBUS: "Shared memory may be full: give /dev/shm more room (docker run --shm-size=2g), or try fewer "
    "data.workers or a smaller data.batch_size",
    signal.SIGSEGV: "The file may crash its decoder: save it again, or leave it out",
}


class ReadingError(RuntimeError):
    """Samples can't be read, for a reason that is not known to lie in the data. The message says which file was being
    read, what happened, and what to try."""


class WatchedDataset(Dataset[tuple[Key, Any]]):
    """The samples of another data set beside their keys. A worker process notes each record before it reads it.

    `image_names` are those of the records; without them records are told by their number.
    """

    def __init__(self, dataset: Dataset[Any], workers: int, image_names: Sequence[str] | None) -> None:
        self.dataset = dataset
        self.workers = workers
        self.image_names = image_names
        # Of each worker its process id and 1 + the index of the record; negative once that has been read.
        self._notes = RawArray("q", 2 * workers)

    def __getitem__(self, key: Key) -> tuple[Key, Any]:
        worker, record = get_worker_info(), key[1] + 1
        if worker is not None:
            self._notes[2 * worker.id : 2 * worker.id + 2] = os.getpid(), record
        try:
            sample = self.dataset[key]
        except DataError:
            raise
        except Exception as error:  # whatever it is, the person at the keyboard has to know the file
            told = f"{self._name(record)}: reading it failed ({_described(error)}). {_advice(error)}"
            raise ReadingError(told) from error
        if worker is not None:
            self._notes[2 * worker.id + 1] = -record
        return key, sample

    def doing(self, process: int) -> str:
        """What the worker with this process id was at, as the end of a sentence."""
        notes = list(self._notes)
        record = dict(zip(notes[::2], notes[1::2], strict=True)).get(process, 0)
        if not record:
            return "before it read anything"
        return f"while it read {self._name(record)}" if record > 0 else f"after it had read {self._name(-record)}"

    def _name(self, record: int) -> str:
        return f"image {record - 1}" if self.image_names is None else self.image_names[record - 1]


def watched_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a loader over a WatchedDataset. What a worker raised comes without the traceback that torch wraps
    it in.

    Raises:
        DataError: a fault in the data.
        ReadingError: a worker process has ended or can't be started, or a sample could not be made of sound data.
    """
    watched = loader.dataset
    assert isinstance(watched, WatchedDataset)
    others = set(multiprocessing.active_children())
    try:
        with _handlers_kept():
            batches = iter(loader)
    except OSError as error:
        raise ReadingError(
            f"data.workers={watched.workers}: the processes can't be started ({error.strerror}); try fewer"
        ) from error
    workers = [process for process in multiprocessing.active_children() if process not in others]
    _STARTED.update(workers)
    try:
        yield from batches
    except (DataError, ReadingError) as error:
        if not workers:
            raise
        kind = f"{type(error).__module__}.{type(error).__qualname__}: "
        raise type(error)(str(error).rsplit(kind, 1)[-1].strip()) from None
    except (RuntimeError, OSError, EOFError) as error:
        if not isinstance(error, RuntimeError):  # the way to a worker broke off, as it does a moment before its end
            with suppress(RuntimeError):  # of torch's own handler, where another loader has set it: a worker has ended
                wait([process.sentinel for process in workers], END_SECONDS)
            for process in workers:
                process.join(1)
        if ended := [process for process in workers if process.exitcode is not None]:
            raise ReadingError(" ".join(_told(process, watched) for process in ended) + f" {OPEN}") from error
        if "/torch_" in str(error):  # the name of a block of shared memory, in which batches come over
            reason = str(error).strip().splitlines()[-1]
            raise ReadingError(
                f"a worker process has no shared memory for its batch ({reason}). {ADVICE[signal.SIGBUS]}"
            ) from error
        raise
    finally:
        if workers:  # which live as long as their iterator, and that as long as the traceback of an exception
            batches._shutdown_workers()  # type: ignore[attr-defined]  # of the iterator over processes alone


def prepare_worker(worker: int) -> None:
    """What a worker process does before it reads."""
    # Each worker is one core's work; pools of threads inside it would fight over the same cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Ctrl-C and a cluster's notice go to every process of the run, but the main process alone decides what follows, and
    # may still need batches. So the first SIGTERM is let pass; the second, perhaps Python's at exit, ends the worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _let_pass)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def _let_pass(signum: int, frame: object) -> None:
    signal.signal(signum, signal.SIG_DFL)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Starts worker processes so that no signal comes before they are prepared for it, and the death of one is told
    where its batch is waited for: torch would have it raised wherever the main process is."""
    held = {signal.SIGINT, signal.SIGTERM}
    before = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if threading.current_thread() is threading.main_thread():  # in another one torch leaves handlers alone
            signal.signal(signal.SIGCHLD, before)


_STARTED: WeakSet[BaseProcess] = WeakSet()


@atexit.register
def _kill_what_hangs() -> None:
    # Python asks worker processes to end and then waits for them, for ever if one is caught in a decoder.
    for process in list(_STARTED):
        if process.is_alive():
            process.kill()


def _told(process: BaseProcess, watched: WatchedDataset) -> str:
    assert process.exitcode is not None
    assert process.pid is not None
    killed_by = signal.Signals(-process.exitcode) if process.exitcode < 0 else None
    how = f"exit code {process.exitcode}" if killed_by is None else killed_by.name
    advice = "" if killed_by not in ADVICE else f" {ADVICE[killed_by]}."
    return f"a process of data.workers={watched.workers} ended ({how}) {watched.doing(process.pid)}.{advice}"


def _described(error: Exception) -> str:
    """The kind of an error, the first line of what it says, and where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = next(iter(str(error).strip().splitlines()), "")
    kind = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"{kind}, at {Path(frame.filename).name}:{frame.lineno}"


def _advice(error: Exception) -> str:
    no_memory = isinstance(error, MemoryError) or getattr(error, "code", None) == cv2.Error.StsNoMem
    if no_memory:
        return "Memory has run out: try fewer data.workers, a smaller data.cache_gb or smaller images"
    return "Save the file again, or leave it out"
