"""Signals that ask a run to stop, taken where its state is whole."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")
STDERR = 2
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Stopped(KeyboardInterrupt):
    """A signal ended the run. `at_once`: anywhere; otherwise where the state is whole and can be saved."""

    def __init__(self, signum: int, *, at_once: bool) -> None:
        super().__init__(NAMES[signal.Signals(signum)])
        self.exit_code = 128 + signum  # as a shell counts
        self.at_once = at_once


class StopRequest:
    """What was asked by SIGTERM or Ctrl-C; without `listening`, nothing ever is.

    While the run is `patient`, the first signal waits for the next `check`; any other acts at once.
    """

    def __init__(self) -> None:
        self._signum: int | None = None
        self._patient = False

    def check(self) -> None:
        """Raises Stopped where it was asked for."""
        if self._signum is not None:
            raise Stopped(self._signum, at_once=False)

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
                signal.signal(number, handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        first, self._signum = self._signum is None, signum  # known also if the exception is lost, as in a __del__
        if not (first and self._patient):
            raise Stopped(signum, at_once=True)
        name = NAMES[signal.Signals(signum)]
        told = f"\n{name}: saving after this update; {name} again leaves at once\n"
        with suppress(OSError):  # whoever read it may be gone
            os.write(STDERR, told.encode())  # print may be what the signal interrupted
