"""Phases: what is trained, under which schedule, and one phase from its first update to its last."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer import checkpoint
from trainer.errors import TrainingError
from trainer.history import Logs
from trainer.loop import StepRecord, UpdateRule, evaluate, train_steps
from trainer.progress import epoch_progress
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.schedules import Schedule
from trainer.selection import epochs_since_best
from trainer.state import TrainState
from trainer.tasks.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of updates under one schedule. The rate of the backbone is that of the head times the ratio."""

    name: str
    frozen: bool
    schedule: Schedule | None  # None until a range test has found its rates
    total_steps: int
    steps_per_epoch: int
    backbone_lr_ratio: float
    batch_norm: str  # of the backbone while it is trained: train or eval

    @property
    def num_epochs(self) -> int:
        """Evaluations in the phase; the last epoch may be a part of one."""
        return math.ceil(self.total_steps / self.steps_per_epoch)


@dataclass(frozen=True)
class StopRule:
    """What ends a phase before its last update."""

    early_stopping_epochs: int | None
    deadline: float | None  # on time.perf_counter's clock; a run makes its first epoch all the same


def freeze(model: nn.Module, phase: Phase) -> None:
    """Let gradients reach the head, and the backbone unless the phase is frozen."""
    for parameter in model.parameters():
        parameter.requires_grad = True
    for parameter in model.get_submodule("backbone").parameters():
        parameter.requires_grad = not phase.frozen


def set_training_modes(model: nn.Module, phase: Phase) -> None:
    """Training mode, but for a frozen backbone (all of it in eval, dropout too) and batch norm that is to be kept."""
    model.train()
    backbone = model.get_submodule("backbone")
    if phase.frozen:
        backbone.eval()
    elif phase.batch_norm == "eval":
        for module in backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def fingerprint(module: nn.Module) -> str:
    """Changes with any bit of the module's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def run_phase(
    phase: Phase,
    state: TrainState,
    data: RunData,
    *,
    update_rule: UpdateRule,
    stop_rule: StopRule,
    logs: Logs,
    run_dir: RunDir,
    steps_after: int,
) -> None:
    """Train from where `state` is in the phase to the phase's end, with an evaluation after each epoch.

    `steps_after` is how many updates the phases after this one make: they count in the time that is left.

    Raises:
        TrainingError: a loss or gradient is not finite.
    """
    assert phase.schedule is not None
    task, compute = update_rule.task, update_rule.compute
    before = fingerprint(state.backbone) if phase.frozen else None
    batches = data.training_batches(
        first_epoch=state.epochs_before, first_step=state.phase_step, last_step=phase.total_steps
    )
    while not _is_over(phase, state, task, stop_rule):
        begun = time.perf_counter()
        phase_epoch = state.phase_step // phase.steps_per_epoch + 1
        epoch = state.epochs_before + phase_epoch
        steps = min(phase_epoch * phase.steps_per_epoch, phase.total_steps) - state.phase_step
        title = f"{phase.name} {phase_epoch}/{phase.num_epochs}"
        set_training_modes(state.model, phase)
        losses: list[float] = []
        updates = train_steps(
            state,
            batches,
            phase.schedule.after(state.monitors),
            steps=steps,
            backbone_lr_ratio=phase.backbone_lr_ratio,
            rule=update_rule,
        )
        with epoch_progress(title, steps, phase.total_steps - state.phase_step - steps + steps_after) as progress:
            for record in updates:
                logs.history.append(record, phase=phase.name, epoch=epoch)
                progress.advance(record)
                if record.faulty:
                    raise TrainingError(_describe_fault(record, phase, losses, data.records.image_names))
                if not record.skipped:
                    losses.append(record.loss)
        measured = {"train_loss": sum(losses) / len(losses) if losses else math.nan}
        if data.validates:
            val_loss, predictions = evaluate(state.evaluated_model, data.evaluation_batches("val"), task, compute)
            measured |= {"val_loss": val_loss, **task.metrics(predictions)}
        best = state.note_result(phase.name, epoch, measured, measured[task.monitor], task.monitor_mode)
        if best:
            checkpoint.save_weights(run_dir.best_weights, state.evaluated_model)
        seconds = time.perf_counter() - begun
        state.seconds += seconds
        logs.metrics.append(
            {
                "epoch": epoch,
                "phase": phase.name,
                "phase_epoch": phase_epoch,
                "iteration": state.iteration,
                **measured,
                "seconds": round(seconds, 3),
            }
        )
        log.info("%-16s %s%s", title, task.summary(measured), "  (best)" if best else "")
        checkpoint.save(run_dir, state)
    if before is not None and fingerprint(state.backbone) != before:
        raise AssertionError("the frozen backbone changed")


def _is_over(phase: Phase, state: TrainState, task: Task[Any], rule: StopRule) -> bool:
    if state.phase_step >= phase.total_steps:
        return True
    patience = rule.early_stopping_epochs
    if patience is not None and epochs_since_best(state.monitors, task.monitor_mode) >= patience:
        log.info("%s ends early: %d epochs without a better result", phase.name, patience)
        return True
    if rule.deadline is not None and state.best is not None and time.perf_counter() > rule.deadline:
        log.warning("%s ends before its schedule does: max_minutes is used up", phase.name)
        return True
    return False


def _describe_fault(record: StepRecord, phase: Phase, losses: list[float], image_names: list[str]) -> str:
    rates = ", ".join(f"{group} {rate:.3g}" for group, rate in record.rates.items())
    last = f"{losses[-1]:.4g}" if losses else "none in this epoch"
    return (
        f"loss {record.loss} and gradient norm {record.grad_norm} at update {record.iteration} "
        f"({phase.name} step {record.phase_step}; rates: {rates}; last finite loss: {last}). "
        f"Images: {', '.join(image_names[index] for index in record.indices)}. "
        "Try a lower scheduler.max_lr, a smaller clip_norm or precision=fp32; the last checkpoint is kept"
    )
