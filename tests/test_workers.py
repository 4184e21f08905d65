"""Worker processes: real ones, killed by real signals, and told with the file that they were reading."""

import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from test_training_faults import keeps
from torch import Tensor
from torch.utils.data import Dataset

from data.errors import DataError
from data.loaders import FixedOrder, build_loader
from data.workers import ReadingError, watched_batches

ROOT = Path(__file__).parents[1]
NAMES = [f"scans/{index:02d}.png" for index in range(40)]


class Numbers(Dataset[Tensor]):
    """The number of each record; `at` one of them something happens first."""

    def __init__(self, at: int = -1, happens: Callable[[], Any] = int) -> None:
        self.at, self.happens = at, happens

    def __getitem__(self, key: tuple[int, ...]) -> Tensor:
        if key[1] == self.at:
            self.happens()
        return torch.tensor(key[1])


def numbers(dataset: Dataset[Any], *, workers: int, count: int = 8) -> Iterator[Any]:
    loader = build_loader(dataset, FixedOrder(np.arange(count), 2), workers=workers, image_names=NAMES)
    return watched_batches(loader)


BEFORE: set[int | None] = set()  # processes that another test's run has left to the garbage collector


@pytest.fixture(autouse=True)
def _own_children_only() -> None:
    BEFORE.clear()
    BEFORE.update(process.pid for process in multiprocessing.active_children())


def children() -> list[int]:
    found = {process.pid for process in multiprocessing.active_children()} - BEFORE
    return sorted(number for number in found if number is not None)


def kill_itself(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("happens", "how", "row"),
    [
        (kill_itself(signal.SIGKILL), "SIGKILL", "a loader process is killed while it reads"),
        (kill_itself(signal.SIGSEGV), "SIGSEGV", "a file crashes its decoder"),
        (kill_itself(signal.SIGBUS), "SIGBUS", "shared memory is too small for the loader"),
        (lambda: os._exit(3), "exit code 3", None),
        (lambda: sys.exit(0), "exit code 0", None),
    ],
    ids=["SIGKILL", "SIGSEGV", "SIGBUS", "exit", "clean exit"],
)
def test_the_file_that_ends_a_worker_is_named_with_the_signal(
    happens: Callable[[], None], how: str, row: str | None
) -> None:
    with pytest.raises(ReadingError, match=r"^[^\n]+$") as told:
        list(numbers(Numbers(5, happens), workers=2))
    assert str(told.value).startswith(f"a process of data.workers=2 ended ({how}) while it read scans/05.png.")
    assert row is None or keeps(row, str(told.value))
    assert str(told.value).endswith("With data.workers=0 the fault shows in the open")
    assert children() == []


def test_a_worker_that_is_killed_from_outside_is_told_with_the_file_it_was_reading() -> None:
    receiving, sending = os.pipe()

    def say_and_stay() -> None:
        os.write(sending, f"{os.getpid()}\n".encode())
        while True:
            signal.pause()

    def kill_who_says() -> None:
        with os.fdopen(receiving) as file:
            os.kill(int(file.readline()), signal.SIGKILL)

    killer = threading.Thread(target=kill_who_says)
    killer.start()
    with pytest.raises(ReadingError, match=r"\(SIGKILL\) while it read scans/06\.png\. So the system ends"):
        list(numbers(Numbers(6, say_and_stay), workers=2))
    killer.join()
    os.close(sending)


def test_a_worker_that_is_killed_between_two_files_is_told_with_the_one_before() -> None:
    batches = numbers(Numbers(), workers=1, count=40)
    next(batches)
    (worker,) = children()
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(ReadingError, match=r"\(SIGKILL\) (after it had|while it) read scans/\d\d\.png\."):
        list(batches)


def test_ctrl_c_and_the_first_sigterm_leave_workers_at_work_and_the_second_ends_them() -> None:
    batches = numbers(Numbers(), workers=2, count=40)
    seen = [next(batches)]
    for worker in children():
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
    seen += [next(batches) for _ in range(12)]
    assert torch.cat(seen).tolist() == list(range(26))
    assert len(children()) == 2
    for worker in children():
        os.kill(worker, signal.SIGTERM)
    with pytest.raises(ReadingError) as told:
        list(batches)
    assert "ended (SIGTERM)" in str(told.value)


def test_signals_that_come_while_workers_start_end_none_of_them() -> None:
    # The mask that holds them back is inherited, so it is as if they came before the worker could set its handlers.
    got = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.signal(number, lambda number, frame: got.setdefault(number, os.getpid()))
        try:
            dataset = Numbers()
            loader = build_loader(dataset, FixedOrder(np.arange(8), 2), workers=2)
            start = multiprocessing.process.BaseProcess.start

            def start_and_signal(process: Any, number: int = number, start: Any = start) -> None:
                start(process)
                os.kill(process.pid, number)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(multiprocessing.process.BaseProcess, "start", start_and_signal)
                assert torch.cat(list(watched_batches(loader))).tolist() == list(range(8))
        finally:
            signal.signal(number, handler)
    assert got == {}  # and none came to the main process


def test_handlers_and_mask_of_the_main_process_are_as_before() -> None:
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in watched], signal.pthread_sigmask(signal.SIG_BLOCK, [])
    batches = numbers(Numbers(), workers=2)
    next(batches)
    assert ([signal.getsignal(number) for number in watched], signal.pthread_sigmask(signal.SIG_BLOCK, [])) == before


class Threads(Dataset[tuple[int, int]]):
    def __getitem__(self, key: tuple[int, ...]) -> tuple[int, int]:
        return cv2.getNumThreads(), torch.get_num_threads()


def test_a_worker_is_one_cores_work() -> None:
    assert [pair.tolist() for pair in next(numbers(Threads(), workers=1))] == [[1, 1], [1, 1]]


def too_large() -> None:
    np.empty(1 << 55, np.uint8)


def resize_nothing() -> None:
    cv2.resize(np.empty((0, 0), np.uint8), (3, 3))


def misspell() -> None:
    {}["sella"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("happens", "said", "row"),
    [
        (too_large, "MemoryError: Unable to allocate 32.0 PiB", "memory runs out while an image is read"),
        (resize_nothing, "error: OpenCV", None),
        (misspell, "KeyError: 'sella'", "a sound image breaks what reads it"),
    ],
    ids=["memory", "opencv", "key"],
)
def test_whatever_goes_wrong_with_a_sample_is_told_in_a_line_with_its_file(
    happens: Callable[[], None], said: str, row: str | None, workers: int
) -> None:
    with pytest.raises(ReadingError, match=r"^[^\n]*, at test_workers\.py:\d+\)[^\n]*$") as told:
        list(numbers(Numbers(3, happens), workers=workers))
    assert str(told.value).startswith(f"scans/03.png: reading it failed ({said}")
    assert row is None or keeps(row, str(told.value))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_of_the_data_stays_what_it_is(workers: int) -> None:
    def refuse() -> None:
        raise DataError("scans/03.png: the file is empty (0 bytes). Copy or export it again.")

    with pytest.raises(DataError, match=r"^scans/03\.png: the file is empty \(0 bytes\)\. Copy or export it again\.$"):
        list(numbers(Numbers(3, refuse), workers=workers))


class LargeInSmallMemory(Dataset[Tensor]):
    """Samples of 1 MB from a worker that may write 100 kB, into shared memory too."""

    def __getitem__(self, key: tuple[int, ...]) -> Tensor:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        return torch.zeros(1_000_000, dtype=torch.uint8)


def test_shared_memory_that_is_full_is_told_with_what_to_do() -> None:
    with pytest.raises(ReadingError, match=r"^a worker process has no shared memory for its batch \([^\n]+/dev/shm"):
        list(numbers(LargeInSmallMemory(), workers=1))


def test_processes_that_can_not_be_started_are_told() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    batches = numbers(Numbers(), workers=2)
    gc.collect()  # what is freed later would give its files back to the workers
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 3, limits[1]))
    try:
        with pytest.raises(ReadingError) as told:
            next(batches)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert keeps("loader processes can't be started", str(told.value))


LEAVE_WORKERS_HANGING = """
import signal, sys
import numpy as np, torch
from torch.utils.data import Dataset
from data.loaders import FixedOrder, build_loader
from data.workers import watched_batches

class Hanging(Dataset):
    def __getitem__(self, key):
        while key[1] in (2, 3):  # in the other worker
            {hang}
        return torch.tensor(key[1])

batches = watched_batches(build_loader(Hanging(), FixedOrder(np.arange(8), 2), workers=2))
print(next(batches).tolist(), flush=True)
sys.exit(4)
"""


@pytest.mark.parametrize("hang", ["signal.pause()", "sum(range(10**15))"], ids=["waiting", "in C code"])
def test_workers_that_hang_do_not_keep_the_command_from_ending(hang: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAVE_WORKERS_HANGING.format(hang=hang)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (4, "[0, 1]\n", "")
