"""Batches in an order that is a function of (seed, epoch), from any micro-batch on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from data.workers import Key as Key
from data.workers import WatchedDataset, prepare_worker

Collate = Callable[[list[Key], list[Any]], Any]  # the keys of a batch and their samples, to the batch


@dataclass(frozen=True)
class Part:
    """Which part of every batch is taken, where `count` processes share them: the `rank`-th, from 0. The parts of a
    batch follow each other and are equally large, or differ by one."""

    rank: int = 0
    count: int = 1

    def of(self, size: int) -> slice:
        """Of a batch of `size`."""
        return slice(size * self.rank // self.count, size * (self.rank + 1) // self.count)


WHOLE = Part()


class TrainingOrder(Sampler[list[Key]]):
    """Micro-batches of (epoch, index) keys: a fresh permutation each epoch, what does not fill a batch left out.

    Args:
        indices: the training records.
        weights: (len(indices),) positive; if given, an epoch is as many draws with replacement, at these odds.
        batches_per_epoch: micro-batches taken from one permutation.
        first_epoch: the epoch, counted over the run, that the phase begins with.
        start, stop: micro-batches of the phase to give, so that a phase can be entered anywhere.
        part: of each of them.
    """

    def __init__(
        self,
        indices: np.ndarray,
        *,
        batch_size: int,
        batches_per_epoch: int,
        seed: int,
        first_epoch: int,
        start: int,
        stop: int,
        weights: np.ndarray | None = None,
        part: Part = WHOLE,
    ) -> None:
        self.indices = indices
        self.odds = None if weights is None else weights / weights.sum()
        self.batch_size = min(batch_size, len(indices))
        self.batches_per_epoch = batches_per_epoch
        self.seed = seed
        self.first_epoch = first_epoch
        self.start = start
        self.stop = stop
        self.part = part

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        order: Sequence[Key] = []
        order_epoch = -1
        for batch in range(self.start, self.stop):
            passed, position = divmod(batch, self.batches_per_epoch)
            epoch = self.first_epoch + passed
            if epoch != order_epoch:
                order, order_epoch = self._order(epoch), epoch
            first = position * self.batch_size
            yield list(order[first : first + self.batch_size][self.part.of(self.batch_size)])

    def _order(self, epoch: int) -> Sequence[Key]:
        rng = np.random.default_rng([self.seed, epoch])
        if self.odds is None:
            return _Keys(epoch, rng.permutation(self.indices))
        keys: list[Key] = []
        times: Counter[int] = Counter()
        for index in rng.choice(self.indices, len(self.indices), p=self.odds).tolist():
            # An image that comes again comes in another view.
            keys.append((epoch, index, times[index]) if times[index] else (epoch, index))
            times[index] += 1
        return keys


class _Keys(Sequence[Key]):
    """(epoch, index) of all `indices`, made as they are taken: the first batch of a million images need not wait."""

    def __init__(self, epoch: int, indices: np.ndarray) -> None:
        self.epoch = epoch
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> Key: ...
    @overload
    def __getitem__(self, place: slice) -> _Keys: ...
    def __getitem__(self, place: int | slice) -> Key | _Keys:
        if isinstance(place, slice):
            return _Keys(self.epoch, self.indices[place])
        return self.epoch, int(self.indices[place])


class FixedOrder(Sampler[list[Key]]):
    """Every record once, in table order, for evaluation; `view` takes the place of the epoch in the keys.

    `part`: of each batch; where the last batch has fewer records than there are parts, some parts lack it.
    """

    def __init__(self, indices: np.ndarray, batch_size: int, *, view: int = 0, part: Part = WHOLE) -> None:
        batches = [indices[first : first + batch_size] for first in range(0, len(indices), batch_size)]
        parts = [batch[part.of(len(batch))] for batch in batches]
        self.view = view
        self.batches = [taken for taken in parts if len(taken)]
        self.num_lacking = len(batches) - len(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self.batches:
            yield [(self.view, int(index)) for index in batch]


def updates_per_epoch(num_images: int, batch_size: int, accumulation: int) -> int:
    """Optimizer updates in an epoch; a split smaller than one micro-batch is one micro-batch.

    Raises:
        ValueError: an epoch has fewer micro-batches than one update sums.
    """
    micro_batches = max(1, num_images // batch_size)
    if micro_batches < accumulation:
        raise ValueError(
            f"accumulation={accumulation} needs as many micro-batches, but {num_images} training images in batches of "
            f"data.batch_size={batch_size} are only {micro_batches}"
        )
    return micro_batches // accumulation


def balancing_weights(targets: np.ndarray) -> np.ndarray:
    """(N,) float64: draws at these odds show every class of `targets` (N,) equally often."""
    _, classes, counts = np.unique(targets, return_inverse=True, return_counts=True)
    return 1.0 / counts[classes]


def build_loader(
    dataset: Dataset[Any],
    order: Sampler[list[Key]],
    *,
    workers: int,
    collate: Collate | None = None,
    image_names: Sequence[str] | None = None,
) -> DataLoader[Any]:
    """The batches of `order`, which `watched_batches` gives; `collate` makes them of keys and samples, None stacks the
    samples. `image_names` of the records are for messages."""
    return DataLoader(
        WatchedDataset(dataset, workers, image_names),
        collate_fn=partial(_collate, collate),
        batch_sampler=order,
        num_workers=workers,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # else each new iterator would draw from, and so move, the model's random numbers
        pin_memory=torch.cuda.is_available(),
    )


def _collate(collate: Collate | None, pairs: list[tuple[Key, Any]]) -> Any:
    keys, samples = zip(*pairs, strict=True)
    return default_collate(list(samples)) if collate is None else collate(list(keys), list(samples))
