"""What a person sees while images are predicted: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from trainer.progress import clock

LINE_SECONDS = 15.0  # between two lines where the output is not a terminal

log = logging.getLogger(__name__)


@contextmanager
def image_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Gives a function that is to be told how many images are done since it was told last."""
    begun = time.perf_counter()
    done, told_at = 0, begun

    def left() -> str:
        return clock((time.perf_counter() - begun) / max(done, 1) * (total - done))

    if not sys.stdout.isatty():

        def tell(count: int) -> None:
            nonlocal done, told_at
            done += count
            if time.perf_counter() - told_at >= LINE_SECONDS and done < total:
                told_at = time.perf_counter()
                log.info("%d of %d images, %s left", done, total, left())

        yield tell
        return
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]} left"))
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=total, left="")

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.update(task, advance=count, left=left())

        yield advance
