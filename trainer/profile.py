"""profile=true: where the time of a run goes. Every second belongs to one part of one phase, so they sum up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

START_UP, RANGE_TEST, OTHER = "start-up", "range test", "other"
AFTER = "after training"  # what is not of a phase, and no start-up
_OF_UPDATES = ("data wait", "forward", "backward", "optimizer", "evaluation")
PARTS = (START_UP, RANGE_TEST, "features", *_OF_UPDATES, "checkpoint", "plots", OTHER)
# What is done in these is theirs, but for features, checkpoints and plots.
_WHOLE = (START_UP, RANGE_TEST)
_NOTHING = nullcontext()


class NoStopwatch:
    """profile=false: measures nothing, at no cost."""

    seconds: dict[str, dict[str, float]] | None = None
    since_update = 0

    def enter(self, phase: str) -> None:
        pass

    def part(self, name: str) -> AbstractContextManager[None]:
        return _NOTHING

    def told(self) -> dict[str, Any]:
        """What results.json has of it."""
        return {}


class Stopwatch(NoStopwatch):
    """Gives the time since `begun` (on time.perf_counter's clock) to parts; what runs in none of them is `other`.

    Args:
        wait: waits for the device at every border between parts; None for one that has finished when torch returns.
        seconds: what was measured of the same run before, by phase and part; added to.
        since_update: the update of the run that the measuring began at.
    """

    def __init__(
        self,
        *,
        begun: float,
        wait: Callable[[], None] | None = None,
        seconds: dict[str, dict[str, float]] | None = None,
        since_update: int = 0,
    ) -> None:
        self.seconds: dict[str, dict[str, float]] = {} if seconds is None else seconds
        self.since_update = since_update
        self._wait = wait
        self._at = begun
        self._phase = self._part = START_UP

    def enter(self, phase: str) -> None:
        """What follows belongs to this phase."""
        self._turn_to(phase, OTHER)

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        before = self._part
        self._turn_to(self._phase, name)
        try:
            yield
        finally:
            self._turn_to(self._phase, before)

    def part(self, name: str) -> AbstractContextManager[None]:
        """The time in it is that of the part `name`, but for parts within it."""
        return _NOTHING if self._part in _WHOLE and name in _OF_UPDATES else self._measured(name)

    def told(self) -> dict[str, Any]:
        """As `profile`: seconds and shares up to now, of the run by part and of each phase."""
        self._turn_to(self._phase, self._part)
        total = sum(sum(parts.values()) for parts in self.seconds.values())
        by_part = {name: sum(parts.get(name, 0.0) for parts in self.seconds.values()) for name in PARTS}
        found = {
            "seconds": total,
            "since_update": self.since_update,
            "waits_for_device": self._wait is not None,
            "parts": _with_shares(by_part, total),
            "phases": {
                phase: {
                    "seconds": sum(parts.values()),
                    "share": sum(parts.values()) / total,
                    "parts": _with_shares({name: parts[name] for name in PARTS if name in parts}, sum(parts.values())),
                }
                for phase, parts in self.seconds.items()
            },
        }
        return {"profile": found}

    def _turn_to(self, phase: str, part: str) -> None:
        """Give the time since the last turn to the part that ends with it."""
        if self._wait is not None:
            self._wait()
        now = time.perf_counter()
        parts = self.seconds.setdefault(self._phase, {})
        parts[self._part] = parts.get(self._part, 0.0) + now - self._at
        self._at, self._phase, self._part = now, phase, part


def build_stopwatch(device: torch.device, begun: float, saved: dict[str, Any] | None) -> Stopwatch:
    """`saved`: the checkpoint that the run goes on from. What it has measured is added to."""
    before = None if saved is None else saved.get("profile")
    since = 0 if saved is None else int(saved["iteration"])
    if before is not None:
        since = before["since_update"]
    return Stopwatch(
        begun=begun,
        wait=_WAITS[device.type](device) if device.type in _WAITS else None,
        seconds=None if before is None else before["seconds"],
        since_update=since,
    )


def summed_up(profile: dict[str, Any]) -> str:
    """One line: the parts, the largest first, as shares of the time."""
    shares = sorted(((part["share"], name) for name, part in profile["parts"].items()), reverse=True)
    return ", ".join(f"{name} {100 * share:.1f} %" for share, name in shares if share >= 0.0005)


_WAITS: dict[str, Callable[[torch.device], Callable[[], None]]] = {
    "cuda": lambda device: lambda: torch.cuda.synchronize(device),
    "mps": lambda device: torch.mps.synchronize,
}


def _with_shares(seconds: dict[str, float], total: float) -> dict[str, dict[str, float]]:
    return {name: {"seconds": value, "share": value / total} for name, value in seconds.items()}
