"""The points of a run, read from lr_history.csv and metrics.csv while they grow."""

from __future__ import annotations

import csv
from collections import deque
from pathlib import Path

from trainer.config.phases import PHASE_NAMES
from trainer.optimizers import GROUPS
from trainer.run_dir import RunDir
from trainer.trackers.tracker import Point

CHUNK = 1 << 16  # bytes that are read at a time: a few hundred rows
UPDATE, EPOCH = "update/loss", "epoch/number"  # each update and each epoch has this value, as its last one
OF_UPDATES = {
    **{f"lr_{group}": f"lr/{group}" for group in GROUPS},
    "momentum": "update/momentum",
    "grad_norm": "update/grad_norm",
    "loss": UPDATE,
}


class Points:
    """What the two files hold that was not read yet. They are only ever added to, and may end in a torn row."""

    def __init__(self, run_dir: RunDir) -> None:
        self._updates, self._epochs = _Rows(run_dir.lr_history), _Rows(run_dir.metrics)
        self._waiting: deque[dict[str, str]] = deque()  # epochs whose updates are not read yet
        self._position = 0
        self._num_updates = 0

    def read(self) -> list[Point]:
        """The next points, a few hundred at most; empty where there are none for now."""
        updates = self._updates.read()
        # Read after the updates: whatever epoch ended before one of these, its row is there now.
        while rows := self._epochs.read():
            self._waiting.extend(rows)
        points: list[Point] = []
        for row in updates:
            points += self._ended()
            points.append(self._point(self._num_updates, _update_values(row), ends_epoch=False))
            self._num_updates += 1
        return points + self._ended()

    def _ended(self) -> list[Point]:
        """The epochs that have ended by the update that was read last."""
        points = []
        while self._waiting and int(self._waiting[0]["iteration"]) <= self._num_updates:
            values = _epoch_values(self._waiting.popleft())
            points.append(self._point(self._num_updates, values, ends_epoch=True))
        return points

    def _point(self, iteration: int, values: dict[str, float], *, ends_epoch: bool) -> Point:
        self._position += 1
        return Point(self._position - 1, iteration, ends_epoch, values)


class _Rows:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._columns: list[str] = []

    def read(self) -> list[dict[str, str]]:
        """The next whole rows."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read(CHUNK).rpartition(b"\n")[0]
        self._offset += len(whole) + 1 if whole else 0
        lines = list(csv.reader(whole.decode().splitlines()))
        if lines and not self._columns:
            self._columns = lines.pop(0)
        return [dict(zip(self._columns, line, strict=True)) for line in lines]


def _update_values(row: dict[str, str]) -> dict[str, float]:
    """A group that the phase does not train has no rate."""
    return {name: float(row[column]) for column, name in OF_UPDATES.items() if row[column]}


def _epoch_values(row: dict[str, str]) -> dict[str, float]:
    told = {
        column: text for column, text in row.items() if column not in ("epoch", "phase", "phase_epoch", "iteration")
    }
    return {
        **{f"epoch/{column}": float(text) for column, text in told.items() if text},
        "epoch/phase": PHASE_NAMES.index(row["phase"]) + 1,
        EPOCH: float(row["epoch"]),
    }
