"""What ends a run before its plan does: signals, taken where its state is whole, and the study of a sweep."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol, TypeVar

Item = TypeVar("Item")
STDERR = 2
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Stopped(KeyboardInterrupt):
    """A signal ended the run. `at_once`: anywhere; otherwise where the state is whole and can be saved."""

    def __init__(self, signum: int, *, at_once: bool) -> None:
        super().__init__(NAMES[signal.Signals(signum)])
        self.exit_code = 128 + signum  # as a shell counts
        self.at_once = at_once


class Pruned(Exception):  # noqa: N818, which is how the run ends, and no error
    """The study of a sweep has seen enough of the run. `value`: the best of the monitored metric so far."""

    def __init__(self, epoch: int, value: float) -> None:
        super().__init__(f"pruned after epoch {epoch}, at {value:.6g}")
        self.value = value


class Pruning(Protocol):
    """The study of a sweep, as one of its runs knows it."""

    def report(self, epoch: int, value: float, mode: str) -> bool:
        """Take in the validation after an epoch (counted from 1 over the run); whether the run is not worth the rest.

        Raises:
            ValueError: the study looks for the other end of the metric than `mode` (min or max).
        """


class StopRequest:
    """What was asked by SIGTERM or Ctrl-C; without `listening`, nothing ever is.

    While the run is `patient`, the first signal waits for the next `check`; any other acts at once.
    """

    def __init__(self) -> None:
        self.agree: Callable[[int], int] | None = None  # of several processes: the largest number that one of them has
        self.pruning: Pruning | None = None  # of a run in a study
        self._signum: int | None = None
        self._patient = False
        self._ignoring = False

    def check(self) -> None:
        """Raises Stopped where it was asked for; of several processes in all, if it was in one."""
        signum = self._signum or 0
        if self.agree is not None:
            signum = self.agree(signum)
        if signum:
            raise Stopped(signum, at_once=False)

    def ignore(self) -> None:
        """From here on signals change nothing: the process is about to tell why it ends."""
        self._ignoring = True

    def checked(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, with a check before each."""
        for item in items:
            self.check()
            yield item

    @contextmanager
    def patient(self) -> Iterator[None]:
        self._patient = True
        try:
            yield
        finally:
            self._patient = False
        self.check()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals of this process; Python gives them to its main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in NAMES}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self._ignoring else handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self._ignoring:
            return
        first, self._signum = self._signum is None, signum  # known also if the exception is lost, as in a __del__
        if not (first and self._patient):
            raise Stopped(signum, at_once=True)
        if self.agree is not None:  # torchrun says it once for all
            return
        name = NAMES[signal.Signals(signum)]
        told = f"\n{name}: saving after this update; {name} again leaves at once\n"
        with suppress(OSError):  # whoever read it may be gone
            os.write(STDERR, told.encode())  # print may be what the signal interrupted
