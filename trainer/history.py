"""CSV logs that survive a kill: one row per update (LRHistory), one per evaluation (metrics.csv)."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.atomic import faults_naming, written_atomically
from trainer.loop import StepRecord
from trainer.optimizers import GROUPS

LR_COLUMNS = (
    "iteration", "epoch", "phase", "phase_step", "cycle", *(f"lr_{group}" for group in GROUPS), "momentum", "loss",
    "grad_norm", "skipped",
)  # fmt: skip
METRIC_COLUMNS = ("epoch", "phase", "phase_epoch", "iteration", "train_loss", "seconds")
SECONDS_HELD = 0.1  # that a row of an update may wait for others, which are given to the system with it


class CsvLog:
    """Rows appended one by one, each given to the system at once. On resume, rows from after the checkpoint are cut off
    first."""

    def __init__(self, path: Path, columns: tuple[str, ...], keep_rows: int) -> None:
        """Continue a log with its first `keep_rows` rows; 0 begins it anew. A torn last row is never kept.

        Raises:
            ValueError: the file has fewer whole rows.
        """
        self.columns = columns
        self._path = path
        kept: list[bytes] = []
        if keep_rows > 0:
            whole = path.read_bytes().split(b"\n")[1:-1] if path.exists() else []  # without header and torn row
            if len(whole) < keep_rows:
                raise ValueError(
                    f"{path} has {len(whole)} rows, but the checkpoint was written after {keep_rows}; put the file "
                    "back as it was, or start a new run"
                )
            kept = whole[:keep_rows]
        with written_atomically(path) as aside:
            aside.write_bytes(_line(columns) + b"".join(row + b"\n" for row in kept))
        # Without a buffer: what a full disk refuses would stay in it, and be refused again when the file is closed.
        self._file = path.open("ab", buffering=0)

    def append(self, row: dict[str, Any]) -> None:
        """Raises OSError naming the file, where the disk is full."""
        assert set(row) == set(self.columns), (sorted(row), sorted(self.columns))
        self.write(_line([row[column] for column in self.columns]))

    def write(self, line: bytes) -> None:
        """`append` of a line as it is to stand in the file."""
        left = memoryview(line)
        with faults_naming(self._path):
            while left:
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """On disk, before a checkpoint counts on the rows."""
        with faults_naming(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Logs:
    history: LRHistory
    metrics: CsvLog

    def sync(self) -> None:
        self.history.sync()
        self.metrics.sync()

    def close(self) -> None:
        self.history.close()
        self.metrics.close()


class LRHistory:
    """lr_history.csv: the learning rates that each update really used.

    A row waits for the next update until a tenth of a second has passed, and is given to the system with those that
    came meanwhile: a call for each is a part of what a small model's update costs beyond itself. A process that is
    killed loses the rows that wait, of updates that a resume makes again.
    """

    def __init__(self, path: Path, keep_rows: int) -> None:
        self._log = CsvLog(path, LR_COLUMNS, keep_rows)
        self._held: list[str] = []
        self._given_at = time.perf_counter()

    def append(self, record: StepRecord, *, phase: str, epoch: int) -> None:
        """`epoch` counts from 1 over the run. A group that the phase does not train has an empty rate.

        Raises OSError naming the file, where the disk is full.
        """
        values = (
            record.iteration, epoch, phase, record.phase_step, record.cycle,
            *(record.rates.get(group, "") for group in GROUPS), record.momentum, record.loss, record.grad_norm,
            int(record.skipped),
        )  # fmt: skip
        # Numbers and names of phases, which need no quotes; csv.writer takes twice as long at each update.
        self._held.append(",".join(map(str, values)) + "\n")
        if time.perf_counter() - self._given_at >= SECONDS_HELD:
            self.give()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """However the block ends, whoever reads the file then sees all rows."""
        try:
            yield
        finally:
            self.give()

    def give(self) -> None:
        """All rows to the system."""
        held, self._held = self._held, []  # what a full disk refuses is not offered again
        if held:
            self._log.write("".join(held).encode())
        self._given_at = time.perf_counter()

    def sync(self) -> None:
        self.give()
        self._log.sync()

    def close(self) -> None:
        try:
            self.give()
        finally:
            self._log.close()


def _line(values: Any) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode()
