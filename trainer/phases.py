"""Phases: what is trained, under which schedule, and one phase from its first update to its last."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.checkpoint import Saver, digest
from trainer.errors import TrainingError
from trainer.growth import epoch_scales
from trainer.history import Logs
from trainer.loop import Batch, StepRecord, UpdateRule, evaluate, train_steps
from trainer.progress import epoch_progress
from trainer.run_data import RunData
from trainer.schedules import Schedule
from trainer.selection import epochs_since_best
from trainer.snapshots import ends_cycle
from trainer.state import TrainState
from trainer.stopping import Pruned, StopRequest

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
    takes_snapshots: bool = False  # at the end of each cycle
    input_scales: tuple[float, ...] = (1.0,)  # of the input size, in turn

    @property
    def epoch_scales(self) -> list[float]:
        """The scale of each epoch."""
        return epoch_scales(self.input_scales, self.num_epochs)

    @property
    def told_scales(self) -> str:
        """Nothing, where all epochs have the full input size."""
        if set(self.input_scales) == {1}:
            return ""
        return f" at {', '.join(f'{scale:g}' for scale in dict.fromkeys(self.epoch_scales))} of the input size"

    @property
    def num_epochs(self) -> int:
        """Evaluations in the phase; the last epoch may be a part of one."""
        return math.ceil(self.total_steps / self.steps_per_epoch)


@dataclass(frozen=True)
class Limits:
    """What ends a phase before its last update."""

    early_stopping_epochs: int | None
    deadline: float | None  # on time.perf_counter's clock; a run makes its first epoch all the same
    max_skipped: int  # faulty updates in a row; 0: the first one ends the run


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all phases of a run work with."""

    data: RunData
    rule: UpdateRule
    limits: Limits
    logs: Logs
    saver: Saver
    request: StopRequest


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
    return digest(module.state_dict())


def run_phase(phase: Phase, state: TrainState, training: Training, *, steps_after: int) -> None:
    """Train from where `state` is in the phase to the phase's end, with an evaluation after each epoch.

    `steps_after` is how many updates the phases after this one make: they count in the time that is left.

    Raises:
        TrainingError: a loss or gradient is not finite.
        Stopped: it was asked for; the state is that after a whole update.
        Pruned: the study that the run belongs to has no use for the rest of it; the state is that after an epoch.
    """
    before = fingerprint(state.backbone) if phase.frozen else None
    batches = training.data.training_batches(
        first_epoch=state.epochs_before,
        first_step=state.phase_step,
        last_step=phase.total_steps,
        scales=phase.epoch_scales,
    )
    over = _is_over(phase, state, training)
    while not over:
        _train_epoch(phase, state, training, batches, steps_after)
        _judge_epoch(phase, state, training)
        over = _is_over(phase, state, training)
        _tell_study(state, training, goes_on=not over or steps_after > 0)
        if over:
            training.saver.save(state)
        else:
            training.saver.save_if_due(state)
    if before is not None and fingerprint(state.backbone) != before:
        raise AssertionError("the frozen backbone changed")


def _train_epoch(
    phase: Phase, state: TrainState, training: Training, batches: Iterator[Batch], steps_after: int
) -> None:
    """The updates of an epoch, or those that are left of it."""
    assert phase.schedule is not None
    last_step = min((len(state.monitors) + 1) * phase.steps_per_epoch, phase.total_steps)
    steps = last_step - state.phase_step
    set_training_modes(state.model, phase)
    updates = train_steps(
        state,
        batches,
        phase.schedule.after(state.monitors),
        steps=steps,
        backbone_lr_ratio=phase.backbone_lr_ratio,
        rule=training.rule,
    )
    begun = time.perf_counter()
    steps_left = phase.total_steps - last_step + steps_after
    with epoch_progress(_title(phase, state), steps, steps_left) as progress, training.logs.history.shown():
        for record in updates:
            now = time.perf_counter()
            state.epoch_seconds, begun = state.epoch_seconds + now - begun, now
            training.logs.history.append(record, phase=phase.name, epoch=_epoch(state))
            progress.advance(record)
            _count(record, phase, state, training)
            if phase.takes_snapshots and ends_cycle(phase.schedule, record.phase_step):
                training.saver.keep_weights(training.saver.run_dir.snapshot(record.cycle), state.evaluated_model)
                state.num_snapshots = record.cycle + 1
            training.request.check()
            training.saver.save_if_due(state)


def _count(record: StepRecord, phase: Phase, state: TrainState, training: Training) -> None:
    """Take an update into the epoch's loss; raises TrainingError where too many were skipped."""
    if record.faulty:
        state.faults_in_a_row += 1
        if state.faults_in_a_row > training.limits.max_skipped:
            raise TrainingError(_describe_fault(record, phase, state, training))
    elif not record.skipped:
        state.faults_in_a_row = 0
        state.last_loss = record.loss
        state.epoch_losses += record.loss
        state.epoch_updates += 1


def _judge_epoch(phase: Phase, state: TrainState, training: Training) -> None:
    """Evaluate, and write down what the epoch came to."""
    begun = time.perf_counter()
    data, task = training.data, training.rule.task
    title, epoch = _title(phase, state), _epoch(state)
    measured = {"train_loss": state.epoch_losses / state.epoch_updates if state.epoch_updates else math.nan}
    if data.validates:
        batches = training.request.checked(data.evaluation_batches("val"))
        with training.rule.watch.part("evaluation"):
            val_loss, predictions = evaluate(
                state.evaluated_model, batches, task, training.rule.compute, training.rule.sharing
            )
            measured |= {"val_loss": val_loss, **task.metrics(predictions)}
    state.epoch_seconds += time.perf_counter() - begun
    row = {
        "epoch": epoch,
        "phase": phase.name,
        "phase_epoch": len(state.monitors) + 1,
        "iteration": state.iteration,
        **measured,
        "seconds": round(state.epoch_seconds, 3),
    }
    best = state.note_result(phase.name, epoch, measured, measured[task.monitor], task.monitor_mode)
    if best:
        training.saver.keep_weights(training.saver.run_dir.best_weights, state.evaluated_model)
    training.logs.metrics.append(row)
    log.info("%-16s %s%s", title, task.summary(measured), "  (best)" if best else "")


def _tell_study(state: TrainState, training: Training, *, goes_on: bool) -> None:
    """Raises Pruned where the study that the run belongs to, if any, has no use for what is left of it."""
    pruning = training.request.pruning
    if pruning is None:
        return
    hopeless = pruning.report(state.epochs_done, state.monitors[-1], training.rule.task.monitor_mode)
    if hopeless and goes_on:
        raise Pruned(state.epochs_done, state.best_value)


def _epoch(state: TrainState) -> int:
    """The epoch that runs, counted from 1 over the run."""
    return state.epochs_before + len(state.monitors) + 1


def _title(phase: Phase, state: TrainState) -> str:
    return f"{phase.name} {len(state.monitors) + 1}/{phase.num_epochs}"


def _is_over(phase: Phase, state: TrainState, training: Training) -> bool:
    if len(state.monitors) == phase.num_epochs:
        return True
    if state.phase_step > len(state.monitors) * phase.steps_per_epoch:  # in an epoch
        return False
    patience = training.limits.early_stopping_epochs
    if patience is not None and epochs_since_best(state.monitors, training.rule.task.monitor_mode) >= patience:
        log.info("%s ends early: %d epochs without a better result", phase.name, patience)
        return True
    deadline = training.limits.deadline
    if deadline is not None and state.best is not None and _is_past(deadline, training.rule):
        log.warning("%s ends before its schedule does: max_minutes is used up", phase.name)
        return True
    return False


def _is_past(deadline: float, rule: UpdateRule) -> bool:
    """By the clock of the first process, where several train."""
    past = time.perf_counter() > deadline
    return past if rule.sharing is None else rule.sharing.ranks.same(past)


def _describe_fault(record: StepRecord, phase: Phase, state: TrainState, training: Training) -> str:
    rates = ", ".join(f"{group} {rate:.3g}" for group, rate in record.rates.items())
    last = f"{state.last_loss:.4g}" if math.isfinite(state.last_loss) else "none"
    names = training.data.records.image_names
    row = f", {state.faults_in_a_row} in a row" if state.faults_in_a_row > 1 else ""
    skip = "" if training.rule.skips_nonfinite else "go on with on_nonfinite=skip, which leaves such updates out, or "
    return (
        f"loss {record.loss} and gradient norm {record.grad_norm} at update {record.iteration}{row} "
        f"({phase.name} step {record.phase_step}; rates: {rates}; last finite loss: {last}). "
        f"Images: {', '.join(names[index] for index in record.indices)}. "
        f"To go further, {skip}start anew with a lower scheduler.max_lr, a smaller clip_norm or precision=fp32"
    )
