"""The one training loop, for both phases and for timing a plan, and evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from trainer.device import Compute
from trainer.optimizers import gradient_norm, momentum_of, set_rates
from trainer.profile import NoStopwatch
from trainer.schedules import Schedule
from trainer.state import TrainState
from trainer.tasks.task import Task

if TYPE_CHECKING:
    from trainer.distributed.sharing import Sharing

Batch = dict[str, Any]  # tensors; in the place of the images may be a list of them: what the model needs of each


class StepRecord(NamedTuple):
    """One optimizer update, with the rates it used.

    `skipped`: loss or gradient was not finite, so nothing was changed; `faulty`: and fp16's loss scale, which is found
    by overflowing now and then, does not explain it.
    """

    iteration: int
    phase_step: int
    cycle: int
    rates: dict[str, float]
    momentum: float
    loss: float  # mean over the micro-batches
    grad_norm: float
    skipped: bool
    faulty: bool
    indices: list[int]  # of the records in the batch; of several processes all, where it was skipped


@dataclass(frozen=True)
class UpdateRule:
    """How a batch becomes an update, whatever the phase."""

    task: Task[Any]
    compute: Compute
    accumulation: int  # micro-batches summed
    clip_norm: float | None
    skips_nonfinite: bool = False  # an update that is skipped then leaves no trace in batch norm's statistics either
    sharing: Sharing | None = None  # of each batch, where several processes train
    watch: NoStopwatch = NoStopwatch()  # noqa: RUF009  # it has no state


def train_steps(
    state: TrainState,
    batches: Iterator[Batch],
    schedule: Schedule,
    *,
    steps: int,
    backbone_lr_ratio: float,
    rule: UpdateRule,
) -> Iterator[StepRecord]:
    """Make `steps` updates from where `state` is in its phase, one record each."""
    optimizer = state.optimizer
    assert optimizer is not None
    watch = rule.watch
    for _ in range(steps):
        lr, momentum = schedule.lr_at(state.phase_step), schedule.momentum_at(state.phase_step)
        rates = set_rates(optimizer, lr, backbone_lr_ratio, momentum)

        # One update: forward and backward over the micro-batches, then a step unless something is not finite.
        loss_sum, indices = 0.0, []
        buffers = [buffer.clone() for buffer in state.model.buffers()] if rule.skips_nonfinite else []
        optimizer.zero_grad(set_to_none=True)
        if rule.sharing is not None:
            rule.sharing.begin_update(state.iteration)
        for left in reversed(range(rule.accumulation)):
            with watch.part("data wait"):
                batch = rule.compute.send(next(batches))
            if rule.sharing is None:
                loss_sum += _backward(state, batch, rule)
            else:
                loss_sum += rule.sharing.backward(state, batch, rule, last=left == 0)
            indices += batch["index"].tolist()
        with watch.part("optimizer"):
            state.scaler.unscale_(optimizer)
            norm = gradient_norm(optimizer, rule.clip_norm)
            finite = math.isfinite(loss_sum) and math.isfinite(norm)
            if finite:
                state.scaler.step(optimizer)
                if state.ema is not None:
                    state.ema.update_parameters(state.model)
        if not finite:
            for buffer, before in zip(state.model.buffers(), buffers, strict=rule.skips_nonfinite):
                buffer.copy_(before)
            if rule.sharing is not None:
                indices = rule.sharing.all_indices(indices)
        state.scaler.update()

        record = StepRecord(
            iteration=state.iteration,
            phase_step=state.phase_step,
            cycle=schedule.cycle_at(state.phase_step),
            rates=rates,
            momentum=momentum_of(optimizer),
            loss=loss_sum / rule.accumulation,
            grad_norm=norm,
            skipped=not finite,
            faulty=not finite and not (state.scaler.is_enabled() and math.isfinite(loss_sum)),
            indices=indices,
        )
        state.iteration += 1
        state.phase_step += 1
        yield record


def _backward(state: TrainState, batch: Batch, rule: UpdateRule) -> float:
    """Add the gradients of a micro-batch; returns its loss."""
    with rule.watch.part("forward"):
        with rule.compute.autocast():
            output = state.model(*(batch[name] for name in rule.task.inputs))
        loss = rule.task.loss(output, batch)
    with rule.watch.part("backward"):
        shared = loss if rule.accumulation == 1 else loss / rule.accumulation
        state.scaler.scale(shared).backward()
        return loss.item()


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[Batch], task: Task[Any], compute: Compute, sharing: Sharing | None = None
) -> tuple[float, dict[str, np.ndarray]]:
    """The mean loss over the images, and the task's predictions, row by row in the order of the batches.

    `sharing`: of each batch, where several processes evaluate; all of them get the whole. Training modes are put back
    as they were.
    """
    modes = [module.training for module in model.modules()]
    model.eval()
    losses: list[float] = []
    terms: list[float] = []
    counts: list[int] = []
    parts: list[dict[str, Any]] = []
    for cpu_batch in batches:
        if not cpu_batch:  # others share it
            losses, terms, counts, parts = [*losses, 0.0], [*terms, 0.0], [*counts, 0], [*parts, {}]
            continue
        batch = compute.send(cpu_batch)
        with compute.autocast():
            output = model(*(batch[name] for name in task.inputs))
        losses.append(task.loss(output, batch).item())
        counts.append(len(batch["index"]))
        parts.append(task.predictions(output, batch))
        if sharing is not None:
            terms.append(task.loss_terms(output, batch).item())
    for module, training in zip(model.modules(), modes, strict=True):
        module.training = training
    if sharing is not None:
        losses, counts, parts = sharing.merged(losses, terms, counts, parts)
    predictions = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return float(np.average(losses, weights=counts)), predictions
