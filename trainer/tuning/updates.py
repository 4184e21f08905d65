"""Timed updates of a run's own model on a batch of its own data, under several settings; the run is left as it was."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from trainer.config.run import TrainConfig
from trainer.device import Compute
from trainer.loop import Batch, UpdateRule, train_steps
from trainer.memory_faults import is_out_of_memory
from trainer.phases import Phase, freeze, set_training_modes
from trainer.run_data import RunData
from trainer.schedules import ConstantSchedule
from trainer.state import Snapshot, TrainState


class UpdateTrial:
    """Makes updates of a phase, from the same batch over and over unless others are given."""

    def __init__(self, phase: Phase, config: TrainConfig, state: TrainState, rule: UpdateRule, batch: Batch) -> None:
        self._phase, self._config, self._state, self._batch = phase, config, state, batch
        # One micro-batch, by this process alone: that is what all settings have in common.
        self._rule = replace(rule, accumulation=1, sharing=None)
        self._optimizers: dict[str, torch.optim.Optimizer] = {}

    def seconds(self, compute: Compute, batches: Iterator[Batch] | None = None) -> float:
        """How long one update takes under these settings, infinite where memory does not suffice; with the wait for
        the next of `batches`, where they are given. The first one under other settings also warms up."""
        try:
            return self.update(compute, batches)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return math.inf

    def update(self, compute: Compute, batches: Iterator[Batch] | None = None) -> float:
        """The same, but raises where memory does not suffice."""
        state = self._state
        compute.place(state.model)
        layout = compute.memory_format
        if layout not in self._optimizers:  # its state is laid out as the weights are
            optimizer = getattr(self._config.phases, self._phase.name).optimizer
            self._optimizers[layout] = optimizer.build(state.backbone, state.head)
        state.optimizer, state.phase_step = self._optimizers[layout], 0
        _wait_for(compute.device)
        begun = time.perf_counter()
        steps = train_steps(
            state,
            iter([self._batch]) if batches is None else batches,
            ConstantSchedule(lr=1e-6),  # the time does not depend on it
            steps=1,
            backbone_lr_ratio=self._phase.backbone_lr_ratio,
            rule=replace(self._rule, compute=compute),
        )
        for _ in steps:
            _wait_for(compute.device)
        return time.perf_counter() - begun


@contextmanager
def update_trial(
    phase: Phase, config: TrainConfig, state: TrainState, data: RunData, rule: UpdateRule
) -> Iterator[UpdateTrial]:
    """A trial of `phase`; in the end weights, optimizer, batch norm, layout and random numbers are as they were."""
    snapshot = Snapshot(state)
    try:
        freeze(state.model, phase)
        set_training_modes(state.model, phase)
        yield UpdateTrial(phase, config, state, rule, first_batch(phase, data))
    finally:
        rule.compute.place(state.model)
        snapshot.restore(state)


def trial_phase(config: TrainConfig) -> Phase:
    """The last phase of a run, where most of the time goes, as far as the time of an update depends on it."""
    name = config.phase_names[-1]
    settings = getattr(config.phases, name)
    return Phase(
        name=name,
        frozen=name == "frozen",
        schedule=None,
        total_steps=1,
        steps_per_epoch=1,
        backbone_lr_ratio=settings.backbone_lr_ratio,
        batch_norm=settings.batch_norm,
        input_scales=tuple(settings.input_scales),
    )


def first_batch(phase: Phase, data: RunData) -> Batch:
    """The first training batch of the run, at the input size that the phase ends with."""
    batches = data.training_batches(first_epoch=0, first_step=0, last_step=1, scales=phase.input_scales[-1:])
    try:
        return next(batches)
    finally:
        batches.close()  # type: ignore[attr-defined]  # a generator; ends its workers


def _wait_for(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
