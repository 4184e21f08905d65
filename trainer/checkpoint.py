"""Checkpoints: saved whole or not at all, loaded without running anything they contain."""

from __future__ import annotations

import logging
import pickle
import time
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from data.atomic import written_atomically
from trainer.history import Logs
from trainer.run_dir import RunDir
from trainer.state import TrainState

log = logging.getLogger(__name__)

VERSION = 2  # of what a checkpoint holds
COST = 0.01  # share of the time that saving may take where nothing else was asked for


class Saver:
    """Keeps a run on disk: its logs, the best weights so far, and the state in checkpoints/last.pt and previous.pt.

    Args:
        every_steps, every_minutes: how often `save_if_due` saves, in updates and in minutes since the last time. With
            neither, as often as it costs a hundredth of the time.
    """

    def __init__(self, run_dir: RunDir, logs: Logs, *, every_steps: int | None, every_minutes: float | None) -> None:
        self.run_dir = run_dir
        self.logs = logs
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self._weights: dict[Path, dict[str, Tensor]] = {}  # not on disk yet
        self._seconds = 0.0  # that the last save took
        self._saved_at = time.perf_counter()
        self._saved_iteration = 0

    def keep_weights(self, path: Path, model: nn.Module) -> None:
        """Put the weights aside; they go to disk with the checkpoint that knows of them."""
        self._weights[path] = copied_weights(model)

    def save_if_due(self, state: TrainState) -> None:
        if self._is_due(state):
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Raises OSError naming the file, where the disk is full; the last checkpoint is whole then."""
        begun = time.perf_counter()
        self.logs.sync()
        for path, tensors in self._weights.items():
            write_weights(path, tensors)
        self._weights.clear()
        with (
            written_atomically(self.run_dir.last_checkpoint, previous=self.run_dir.previous_checkpoint) as aside,
            aside.open("wb") as file,
        ):
            torch.save({"version": VERSION, **state.state_dict()}, file)
        self._saved_at, self._saved_iteration = time.perf_counter(), state.iteration
        self._seconds = self._saved_at - begun

    def _is_due(self, state: TrainState) -> bool:
        passed = time.perf_counter() - self._saved_at
        if self.every_steps is None and self.every_minutes is None:
            return passed * COST >= self._seconds
        return (self.every_steps is not None and state.iteration - self._saved_iteration >= self.every_steps) or (
            self.every_minutes is not None and passed >= 60 * self.every_minutes
        )


def load(run_dir: RunDir) -> dict[str, Any] | None:
    """The newest readable checkpoint, None where the run has none yet.

    Raises:
        ValueError: there are checkpoints, but none can be read.
    """
    present = [path for path in (run_dir.last_checkpoint, run_dir.previous_checkpoint) if path.exists()]
    faults = []
    for path in present:
        try:
            saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            version = saved["version"]
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, LookupError, TypeError, ValueError) as error:
            faults.append(f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            log.warning("checkpoint can't be read, the one before it is used: %s", faults[-1])
            continue
        if version != VERSION:
            raise ValueError(f"{path} is of another version of trainer; go on with that one, or start a new run")
        return saved
    if faults:
        raise ValueError(f"no checkpoint of {run_dir.path} can be read ({'; '.join(faults)}); start a new run")
    return None


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


def write_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Weights and buffers as safetensors."""
    content = safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()})
    with written_atomically(path) as aside:
        aside.write_bytes(content)


def load_weights(path: Path, model: nn.Module) -> None:
    model.load_state_dict(safetensors.torch.load_file(path))
