"""RunData: the records of a run and the batches that phases and evaluations take from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data.datasets import LandmarkDataset
from data.loaders import FixedOrder, TrainingOrder, build_loader, iterate
from data.records import LandmarkRecords
from trainer.loop import Batch


@dataclass(frozen=True)
class RunData:
    records: LandmarkRecords
    train: LandmarkDataset  # augmented
    plain: LandmarkDataset  # as it is, for evaluation
    batch_size: int
    updates_per_epoch: int
    accumulation: int
    seed: int
    workers: int

    @property
    def validates(self) -> bool:
        return len(self.records.indices("val")) > 0

    def training_batches(self, *, first_epoch: int, first_step: int, last_step: int) -> Iterator[Batch]:
        """Micro-batches of a phase's updates `first_step` up to `last_step`; epochs are counted over the run."""
        order = TrainingOrder(
            self.records.indices("train"),
            batch_size=self.batch_size,
            batches_per_epoch=self.updates_per_epoch * self.accumulation,
            seed=self.seed,
            first_epoch=first_epoch,
            start=first_step * self.accumulation,
            stop=last_step * self.accumulation,
        )
        return iterate(build_loader(self.train, order, workers=self.workers))

    def evaluation_batches(self, split: str) -> Iterator[Batch]:
        """Every record of a split once, in table order."""
        return self.batches_of(self.records.indices(split))

    def batches_of(self, indices: np.ndarray) -> Iterator[Batch]:
        """These records once, in this order, as they are."""
        order = FixedOrder(indices, self.batch_size)
        return iterate(build_loader(self.plain, order, workers=self.workers))
