"""TrainState: all that changes while a run trains, and so all that a checkpoint holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.range_test.storage import Stored
from trainer.selection import is_better


@dataclass
class TrainState:
    """Counts are of what is finished: `iteration` updates of the run, `phase_step` of the current phase."""

    model: nn.Module  # with the submodules backbone and head
    ema: AveragedModel | None
    scaler: torch.amp.GradScaler
    optimizer: optim.Optimizer | None = None  # of the current phase
    phase: str = ""
    phase_step: int = 0
    iteration: int = 0
    epochs_before: int = 0  # epochs of the phases before this one, counted as begun
    epochs_done: int = 0  # epochs of the run, the last of a phase perhaps a part of one
    evaluations: int = 0  # of the run
    monitors: list[float] = field(default_factory=list)  # of the current phase, one per evaluation
    epoch_losses: float = 0.0  # sum over the updates of the epoch that has begun and is not evaluated
    epoch_updates: int = 0  # that are in the sum
    epoch_seconds: float = 0.0  # spent on it
    last_loss: float = math.nan  # of the newest update that was not skipped
    faults_in_a_row: int = 0  # the newest updates, as far as they were skipped because something was not finite
    best: dict[str, Any] | None = None  # value, epoch, iteration and phase of the best evaluation
    phase_metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # at the end of each phase
    planned_steps: dict[str, int] = field(default_factory=dict)  # updates in the epochs of each phase
    total_steps: dict[str, int] = field(default_factory=dict)  # the same within the run's budget
    found_rates: dict[str, dict[str, float]] = field(default_factory=dict)  # by the range test of each phase, by key
    num_snapshots: int = 0
    final_value: float = math.nan  # of the monitored metric, for the weights that the run ended with
    seconds: float = 0.0  # spent on what is finished, over all parts of a resumed run
    finished: bool = False

    @property
    def best_value(self) -> float:
        return math.nan if self.best is None else float(self.best["value"])

    @property
    def backbone(self) -> nn.Module:
        return self.model.get_submodule("backbone")

    @property
    def head(self) -> nn.Module:
        return self.model.get_submodule("head")

    @property
    def evaluated_model(self) -> nn.Module:
        """The weights that are judged and kept: their moving average where there is one."""
        return self.model if self.ema is None else self.ema.module

    def note_result(self, phase: str, epoch: int, measured: dict[str, float], value: float, mode: str) -> bool:
        """Take in the evaluation that ends an epoch; whether it is the run's best so far."""
        self.seconds += self.epoch_seconds
        self.epoch_losses, self.epoch_updates, self.epoch_seconds = 0.0, 0, 0.0
        self.evaluations += 1
        self.epochs_done = epoch
        self.monitors.append(value)
        self.phase_metrics[phase] = measured
        better = self.best is None or is_better(value, self.best["value"], mode)
        if better:
            self.best = {"value": value, "epoch": epoch, "iteration": self.iteration, "phase": phase}
        return better

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that it loads with weights_only=True."""
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "scaler": self.scaler.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "random": random_state(),
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take over everything but the optimizer, which has to be built for its phase before it can be filled."""
        self.model.load_state_dict(saved["model"])
        if self.ema is not None:
            self.ema.load_state_dict(saved["ema"])
        if saved["scaler"]:  # empty where the run did not compute in fp16
            self.scaler.load_state_dict(saved["scaler"])
        for name in _PLAIN:
            setattr(self, name, saved[name])
        set_random_state(saved["random"])


_PLAIN = (
    "phase",
    "phase_step",
    "iteration",
    "epochs_before",
    "epochs_done",
    "evaluations",
    "monitors",
    "epoch_losses",
    "epoch_updates",
    "epoch_seconds",
    "last_loss",
    "faults_in_a_row",
    "best",
    "phase_metrics",
    "planned_steps",
    "total_steps",
    "found_rates",
    "num_snapshots",
    "final_value",
    "seconds",
    "finished",
)


def build_ema(model: nn.Module, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def random_state() -> dict[str, Any]:
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_random_state(saved: dict[str, Any]) -> None:
    torch.set_rng_state(saved["cpu"])
    if torch.cuda.is_available() and saved["cuda"]:
        torch.cuda.set_rng_state_all(saved["cuda"][: torch.cuda.device_count()])


class Snapshot:
    """A copy of a state, to which the state can be brought back as if nothing had happened; in memory, or with a
    `cache_dir` in a file there until it is closed."""

    def __init__(self, state: TrainState, cache_dir: Path | None = None) -> None:
        self._stored = Stored(state.state_dict(), cache_dir)
        self._modes = [module.training for module in state.model.modules()]
        self._requires_grad = [parameter.requires_grad for parameter in state.model.parameters()]
        self._optimizer = state.optimizer

    def restore(self, state: TrainState) -> None:
        saved = self._stored.read()
        state.load(saved)
        state.optimizer = self._optimizer
        if state.optimizer is not None:
            state.optimizer.load_state_dict(saved["optimizer"])
        for module, training in zip(state.model.modules(), self._modes, strict=True):
            module.training = training
        for parameter, requires_grad in zip(state.model.parameters(), self._requires_grad, strict=True):
            parameter.requires_grad = requires_grad
            parameter.grad = None

    def close(self) -> None:
        """Let go of the copy."""
        self._stored.close()
