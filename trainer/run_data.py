"""RunData: the records of a run and the batches that phases and evaluations take from them, whatever the task."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from data.datasets import LandmarkDataset
from data.label_datasets import LabelDataset
from data.loaders import WHOLE, Collate, FixedOrder, Part, TrainingOrder, build_loader, updates_per_epoch
from data.worker_count import free_shared_bytes, suited_workers, usable_cores
from data.workers import Key, ReadingError, watched_batches
from trainer.config.run import TrainConfig
from trainer.errors import TrainingError
from trainer.features import Features, ViewsInTurn
from trainer.growth import scaled_size, stretches
from trainer.loop import Batch

log = logging.getLogger(__name__)


class Records(Protocol):
    """What the records of every task have."""

    @property
    def image_names(self) -> list[str]: ...
    @property
    def sizes(self) -> np.ndarray: ...
    @property
    def splits(self) -> np.ndarray: ...
    def indices(self, split: str) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class RunData:
    records: Any  # LandmarkRecords or LabelRecords: Records, and what their task needs beyond
    train: LandmarkDataset | LabelDataset  # augmented
    plain: Dataset[dict[str, Tensor]]  # as it is, for evaluation
    batch_size: int
    updates_per_epoch: int
    accumulation: int
    seed: int
    workers: int | None  # None: of an evaluation, which needs none
    views: Dataset[dict[str, Tensor]] | None = None  # several views of each record; view 0 is the plain one
    weights: np.ndarray | None = None  # of the training records, to be drawn at these odds
    collate: Collate | None = None  # of training batches
    part: Part = WHOLE  # of every batch, that this process has
    features: Features | None = None  # of a frozen backbone, in the place of the images of training and validation
    in_turn: tuple[int, int] | None = None  # the views that epochs take in turn, and the first epoch of the phase

    @property
    def validates(self) -> bool:
        return len(self.records.indices("val")) > 0

    def training_batches(
        self, *, first_epoch: int, first_step: int, last_step: int, scales: Sequence[float] = (1.0,)
    ) -> Iterator[Batch]:
        """Micro-batches of a phase's updates `first_step` up to `last_step`; epochs are counted over the run.

        scales: of the input size, in each epoch of the phase; the last one holds for all after it.
        """
        for scale, start, stop in stretches(scales, self.updates_per_epoch, first_step, last_step):
            order = TrainingOrder(
                self.records.indices("train"),
                batch_size=self.batch_size,
                batches_per_epoch=self.updates_per_epoch * self.accumulation,
                seed=self.seed,
                first_epoch=first_epoch,
                start=start * self.accumulation,
                stop=stop * self.accumulation,
                weights=self.weights,
                part=self.part if self.collate is None else WHOLE,
            )
            if self.features is not None:
                yield from self.features.training_batches(order, first_epoch, self._batches)
                continue
            size = scaled_size(self.train.input_size, scale)
            sized = self.train if size == self.train.input_size else self.train.at(size)
            dataset = sized if self.in_turn is None else ViewsInTurn(sized, *self.in_turn, begins=first_epoch)
            for batch in self._batches(dataset, order, self.collate):
                # What puts a batch together may mix its images, so it has to have all of them.
                yield batch if self.collate is None else cut(batch, self.part)

    def evaluation_batches(self, split: str, view: int = 0) -> Iterator[Batch]:
        """Every record of a split once, in table order, as it is or in another view."""
        return self.batches_of(self.records.indices(split), view)

    def batches_of(self, indices: np.ndarray, view: int = 0) -> Iterator[Batch]:
        """These records once, in this order, as they are or in another view. A batch too small for this process to
        have a part of it is an empty dict."""
        order = FixedOrder(indices, self.batch_size, view=view, part=self.part)
        if self.features is not None and view == 0 and self.features.has(indices):
            yield from self.features.evaluation_batches(order, self._batches)
            return
        dataset = self.plain if view == 0 else self.views
        assert dataset is not None
        yield from self._batches(dataset, order)
        yield from ({} for _ in range(order.num_lacking))

    def _batches(
        self, dataset: Dataset[Any], order: Sampler[list[Key]], collate: Collate | None = None
    ) -> Iterator[Batch]:
        names = self.records.image_names
        loader = build_loader(dataset, order, workers=self.workers or 0, collate=collate, image_names=names)
        try:
            yield from watched_batches(loader)
        except ReadingError as error:
            raise TrainingError(str(error)) from error


def cut(batch: Batch, part: Part) -> Batch:
    """The part of a batch whose tensors all have its images along their first axis."""
    return {name: values[part.of(len(values))] for name, values in batch.items()}


def _workers(config: TrainConfig) -> int:
    """As many as are asked for, or as suit this machine, which is told."""
    if config.data.workers is not None:
        return config.data.workers
    height, width = config.data.input_size
    chosen = suited_workers(
        on_gpu=config.device.startswith("cuda") or (config.device == "auto" and torch.cuda.is_available()),
        cores=usable_cores(),
        shared_bytes=free_shared_bytes(),
        batch_bytes=3 * height * width * config.data.batch_size,
    )
    log.info("data.workers=%d was chosen: %s", chosen.workers, chosen.why)
    return chosen.workers


def run_data(
    config: TrainConfig,
    records: Records,
    *,
    train: LandmarkDataset | LabelDataset,
    plain: Dataset[dict[str, Tensor]],
    views: Dataset[dict[str, Tensor]] | None = None,
    weights: np.ndarray | None = None,
    collate: Collate | None = None,
) -> RunData:
    """The batches of these data sets, as many and as large as the config says."""
    settings = config.data
    return RunData(
        records=records,
        train=train,
        plain=plain,
        batch_size=settings.batch_size,
        updates_per_epoch=updates_per_epoch(len(records.indices("train")), settings.batch_size, config.accumulation),
        accumulation=config.accumulation,
        seed=config.seed,
        workers=_workers(config),
        views=views,
        weights=weights,
        collate=collate,
    )
