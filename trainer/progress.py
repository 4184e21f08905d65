"""What a person sees while a run trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

if TYPE_CHECKING:
    from trainer.loop import StepRecord

SHOWN_EVERY = 0.25  # seconds; what nobody can read is not drawn


class EpochProgress:
    """Counts the updates of one epoch; the time left is that of the whole run."""

    def __init__(self, bar: Progress | None, steps: int, steps_after: int) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("", total=steps, rate="", loss="", left="")
        self._steps, self._steps_after = steps, steps_after
        self._begun = time.perf_counter()
        self._shown = -math.inf
        self._done = 0

    def advance(self, record: StepRecord) -> None:
        self._done += 1
        if self._bar is None or self._task is None:
            return
        now = time.perf_counter()
        if now - self._shown < SHOWN_EVERY and self._done < self._steps:
            return
        self._shown = now
        left = (now - self._begun) / self._done * (self._steps - self._done + self._steps_after)
        self._bar.update(
            self._task,
            completed=self._done,
            rate=f"{record.rates['head']:.2e}",
            loss=f"{record.loss:.4f}",
            left=clock(left),
        )


@contextmanager
def epoch_progress(title: str, steps: int, steps_after: int) -> Iterator[EpochProgress]:
    """A bar that goes away when the epoch ends and its line is printed; nothing where the output is not a terminal."""
    if not sys.stdout.isatty():
        yield EpochProgress(None, steps, steps_after)
        return
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("lr {task.fields[rate]}  loss {task.fields[loss]}  {task.fields[left]} left"),
    )
    with Progress(*columns, transient=True, refresh_per_second=1 / SHOWN_EVERY) as bar:
        yield EpochProgress(bar, steps, steps_after)


def clock(seconds: float) -> str:
    """12s, 3:05 or 1:02:03."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{rest}s"
