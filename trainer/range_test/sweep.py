"""Climbing through the rungs by the training loop itself, and coming back as if nothing had happened."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainer.config.range_test import RangeTestConfig
from trainer.loop import StepRecord, UpdateRule, evaluate, train_steps
from trainer.phases import Phase, set_training_modes
from trainer.range_test.finding import Sweep
from trainer.range_test.rungs import RungSchedule, rungs
from trainer.range_test.stopping import NON_FINITE
from trainer.run_data import RunData
from trainer.state import Snapshot, TrainState

FIRST_EPOCH = 1_000_000  # whose data order and augmentation no training uses; a repeat has its own


def sweeps(
    phase: Phase,
    state: TrainState,
    data: RunData,
    rule: UpdateRule,
    settings: RangeTestConfig,
    on_step: Callable[[StepRecord], None],
) -> list[Sweep]:
    """All repeats, each from the weights and the optimizer that `state` has; `state` is put back also if one fails."""
    num_steps = settings.num_steps or phase.steps_per_epoch
    rates = rungs(settings.min_lr, settings.max_lr, num_steps, settings.mode)
    snapshot = Snapshot(state, None if settings.cache_dir is None else Path(settings.cache_dir))
    climbed = []
    try:
        for repeat in range(settings.repeats):
            if repeat > 0:
                snapshot.restore(state)
            set_training_modes(state.model, phase)
            state.phase_step = 0
            climbed.append(_climb(phase, state, data, rule, settings, rates, repeat, on_step))
    finally:
        snapshot.restore(state)
        snapshot.close()
    return climbed


def _climb(
    phase: Phase,
    state: TrainState,
    data: RunData,
    rule: UpdateRule,
    settings: RangeTestConfig,
    rates: np.ndarray,
    repeat: int,
    on_step: Callable[[StepRecord], None],
) -> Sweep:
    stop_rule = settings.stop_rule()
    batches = data.training_batches(
        first_epoch=FIRST_EPOCH * (repeat + 1),
        first_step=0,
        last_step=len(rates),
        scales=phase.input_scales[-1:],  # what the phase ends with
    )
    losses: list[float] = []
    metrics: list[float] = []
    stop = None
    for record in train_steps(
        state,
        batches,
        RungSchedule(rates),
        steps=len(rates),
        backbone_lr_ratio=phase.backbone_lr_ratio,
        rule=rule,
    ):
        losses.append(record.loss)
        on_step(record)
        stop = NON_FINITE if record.faulty else stop_rule.see(record.loss)
        if settings.signal != "train_loss":
            metrics.append(math.nan if record.faulty else _measure(state, data, rule, settings))
            stop = stop if math.isfinite(metrics[-1]) else NON_FINITE
        if stop:
            break
    return Sweep(rates[: len(losses)], np.array(losses), np.array(metrics) if metrics else None, stop)


def _measure(state: TrainState, data: RunData, rule: UpdateRule, settings: RangeTestConfig) -> float:
    """The validation loss or the monitored metric after an update, on the same images each time."""
    indices = data.records.indices("val")
    if settings.val_images is not None and settings.val_images < len(indices):
        indices = indices[np.linspace(0, len(indices) - 1, settings.val_images).round().astype(int)]
    loss, predictions = evaluate(state.model, data.batches_of(indices), rule.task, rule.compute, rule.sharing)
    measured = {"val_loss": loss, **rule.task.metrics(predictions)}
    return float(measured["val_loss" if settings.signal == "val_loss" else rule.task.monitor])
