"""How long the updates of a plan take on this machine, by making a few of each kind."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from trainer.config.run import TrainConfig
from trainer.loop import UpdateRule, evaluate, train_steps
from trainer.phases import Phase, freeze, set_training_modes
from trainer.run_data import RunData
from trainer.schedules import ConstantSchedule
from trainer.state import Snapshot, TrainState

TRIAL_UPDATES = 4


@dataclass(frozen=True)
class UpdateSeconds:
    """How long an update of a phase takes: over all its epochs, and at the input size that it ends with."""

    mean: float
    last: float


def measure_seconds(
    phases: list[Phase], state: TrainState, config: TrainConfig, data: RunData, rule: UpdateRule
) -> tuple[dict[str, UpdateSeconds], float]:
    """Time a few updates of each phase, and an evaluation. Leaves no trace: the state is put back as it was."""
    snapshot = Snapshot(state)
    measured = {}
    try:
        evaluation = _seconds_per_evaluation(state, data, rule)
        for phase in phases:
            freeze(state.model, phase)
            set_training_modes(state.model, phase)
            state.optimizer = getattr(config.phases, phase.name).optimizer.build(state.backbone, state.head)
            scales = phase.epoch_scales
            seconds = {scale: _seconds_per_update(phase, scale, state, data, rule) for scale in dict.fromkeys(scales)}
            measured[phase.name] = UpdateSeconds(
                statistics.mean(seconds[scale] for scale in scales), seconds[scales[-1]]
            )
    finally:
        snapshot.restore(state)
    return measured, evaluation


def _seconds_per_update(phase: Phase, scale: float, state: TrainState, data: RunData, rule: UpdateRule) -> float:
    state.phase_step = 0
    schedule = ConstantSchedule(lr=1e-6)  # the time does not depend on it
    steps = min(TRIAL_UPDATES, phase.total_steps)
    batches = data.training_batches(first_epoch=0, first_step=0, last_step=steps, scales=(scale,))
    durations, begun = [], time.perf_counter()
    for _ in train_steps(state, batches, schedule, steps=steps, backbone_lr_ratio=phase.backbone_lr_ratio, rule=rule):
        durations.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    return statistics.median(durations[1:] or durations)  # the first warms up


def seconds_for_tests(
    phases: list[Phase], config: TrainConfig, data: RunData, per_update: dict[str, UpdateSeconds], evaluation: float
) -> float:
    """About how long the range tests will take, where they measure the validation split at every step with that."""
    test = config.range_test
    measured = 0.0
    if test.signal != "train_loss":
        images = len(data.records.indices("val"))
        measured = evaluation * min(1.0, (test.val_images or images) / max(1, images))
    return sum(
        (test.num_steps or phase.steps_per_epoch) * test.repeats * (per_update[phase.name].last + measured)
        for phase in phases
        if test.tests(phase.name)
    )


def _seconds_per_evaluation(state: TrainState, data: RunData, rule: UpdateRule) -> float:
    if not data.validates:
        return 0.0
    begun = time.perf_counter()
    evaluate(state.evaluated_model, data.evaluation_batches("val"), rule.task, rule.compute, rule.sharing)
    return time.perf_counter() - begun
