"""Updates of a model under rates that are given one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from trainer.lr_finder.loaders import DataLoaderIter, TrainDataLoaderIter, ValDataLoaderIter
from trainer.lr_finder.losses import BatchLoss, num_samples, sent
from trainer.lr_finder.rates import group_rates, set_group_rates


@dataclass(frozen=True, kw_only=True)
class Climb:
    """How a batch becomes an update of the model, and updates become a range test."""

    model: nn.Module
    optimizer: optim.Optimizer
    loss: BatchLoss
    device: torch.device
    autocast_options: Mapping[str, Any] | None  # None computes as the model is
    scaler: Any  # None scales nothing
    accumulation: int  # batches in one update
    non_blocking: bool

    def steps(
        self, plan: Iterable[np.ndarray], train: TrainDataLoaderIter, val: ValDataLoaderIter | None = None
    ) -> Iterator[tuple[list[float], float]]:
        """One update per row of (updates, groups) rates: the rates that it used, and its loss or, with `val`, the
        validation loss after it. Where the training loss is not finite, the update is not made. Ends with the batches.

        Raises RuntimeError if somebody else changes a rate.
        """
        for rates in plan:
            used = set_group_rates(self.optimizer, rates.tolist())
            try:
                loss = self._update(train)
            except StopIteration:
                return
            if group_rates(self.optimizer) != used:
                raise RuntimeError(
                    f"an update changed its rates from {used} to {group_rates(self.optimizer)}: something in it steps "
                    "a scheduler (step_fn, criterion or a hook of the optimizer); take that out for the range test"
                )
            if val is not None and math.isfinite(loss):
                loss = self._validate(val)
            yield used, loss

    def _update(self, train: TrainDataLoaderIter) -> float:
        """The mean loss over the batches of one update."""
        self.optimizer.zero_grad()
        total = 0.0
        for _ in range(self.accumulation):
            loss, _ = self._next_loss(train)
            total += loss.item()
            if not math.isfinite(total):
                return total
            loss = loss / self.accumulation
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return total / self.accumulation

    @torch.no_grad()
    def _validate(self, val: ValDataLoaderIter) -> float:
        """The mean loss over the samples, in the precision of training. Training modes are put back."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        total, count = 0.0, 0
        batches = iter(val)
        assert isinstance(batches, DataLoaderIter)
        while True:
            try:
                loss, samples = self._next_loss(batches)
            except StopIteration:
                break
            total, count = total + loss.item() * samples, count + samples
        for module, training in modes:
            module.training = training
        if count == 0:
            raise ValueError("val_loader gives no batch; is its data set empty, or below a batch under drop_last?")
        return total / count

    def _next_loss(self, batches: DataLoaderIter) -> tuple[Tensor, int]:
        """The loss of the next batch, and its number of samples."""
        if self.loss.takes_whole_batch:
            batch = sent(batches.next_batch(), self.device, self.non_blocking)
            with self._autocast():
                return self.loss.of_batch(batch), num_samples(batch)
        inputs, labels = sent(next(batches), self.device, self.non_blocking)
        with self._autocast():
            return self.loss.of_pair(inputs, labels), num_samples(labels)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.autocast_options is None:
            return nullcontext()
        return torch.autocast(**{"device_type": self.device.type, **self.autocast_options})
