"""What a tracker is, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Point:
    """A row of lr_history.csv (an update), or of metrics.csv (an epoch).

    `position`: its place among the rows of both files, in the order in which a run writes them. `iteration`: the
    update; of an epoch, the one that follows it, so the number of updates until then.
    """

    position: int
    iteration: int
    ends_epoch: bool
    values: Mapping[str, float]


@dataclass(frozen=True)
class Beginning:
    """What is known when a run begins or goes on: its settings, each under its full key, and the updates that it
    has made."""

    settings: Mapping[str, str | int | float | bool | None]
    num_updates: int


@dataclass(frozen=True)
class Ending:
    """What a run, or a part of it, came to. Only a finished run has pictures and results."""

    status: str  # finished, stopped or failed
    exit_code: int
    num_updates: int
    pictures: Mapping[str, Path]  # by name
    results: Mapping[str, float]
    verdict: str


class Tracker(Protocol):
    """Calls come from one thread, in this order: open, lacks and log in turn, close. Any of them may raise anything."""

    name: str

    def begin(self, beginning: Beginning) -> str:
        """Begin, or go on with what an earlier part of the run began; says where it is."""

    def lacks(self, point: Point) -> bool:
        """Whether a point is still to be logged, so that each is there once in the end."""

    def log(self, points: Sequence[Point]) -> None:
        """Once this returns, the points are kept, whatever happens to this process."""

    def close(self, ending: Ending) -> None:
        """Add the results, and leave nothing that is not written or sent."""
