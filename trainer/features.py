"""Features of a frozen backbone, computed once and kept: batches that its head is trained from, without images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from data.atomic import faults_naming
from data.datasets import LandmarkDataset
from data.label_datasets import LabelDataset
from data.loaders import FixedOrder, Key
from trainer.errors import TrainingError

if TYPE_CHECKING:
    from trainer.loop import Batch

Reader = Callable[[Dataset[Any], Sampler[list[Key]]], "Iterator[Batch]"]
Compute = Callable[[Tensor], list[Tensor]]  # images (N, 3, H, W) uint8 to what the head needs of them


class KeptMap:
    """Rows of one map, in the memory layout that the backbone gives it: the head then rounds as it would without.

    example: (1, ...) the map of one image; half: float32 is kept as float16; file: kept there, None for memory.
    """

    def __init__(self, example: Tensor, num_rows: int, *, half: bool, file: Path | None) -> None:
        self._channels_are_last = example.dim() == 4 and example.shape[1] > 1 and example.stride(1) == 1
        self._given = example.dtype
        dtype = torch.float16 if half and example.dtype == torch.float32 else example.dtype
        shape = (num_rows, *self._laid(example).shape[1:])
        self.rows = torch.empty(shape, dtype=dtype) if file is None else in_nameless_file(file, shape, dtype)

    def put(self, first: int, values: Tensor) -> bool:
        """Whether all values could be kept: those above 65,504 have no float16."""
        laid, kept = self._laid(values), self.rows[first : first + len(values)]
        kept.copy_(laid)
        return kept.dtype == laid.dtype or bool((kept.isfinite() | ~laid.isfinite().cpu()).all())

    def take(self, rows: Tensor) -> Tensor:
        taken = self.rows.index_select(0, rows).to(self._given)
        return taken.permute(0, 3, 1, 2) if self._channels_are_last else taken

    def _laid(self, values: Tensor) -> Tensor:
        return values.permute(0, 2, 3, 1) if self._channels_are_last else values


class KeptSamples:
    """Rows of samples: all maps of their images, and everything else that is in them."""

    def __init__(self, example: Sequence[Tensor], num_rows: int, *, half: bool, folder: Path | None) -> None:
        self._num_rows = num_rows
        files = [
            None if folder is None else folder / f".features.{number}.{os.getpid()}" for number in range(len(example))
        ]
        self._maps = [KeptMap(one, num_rows, half=half, file=file) for one, file in zip(example, files, strict=True)]
        self._others: dict[str, Tensor] = {}

    def put(self, first: int, maps: Sequence[Tensor], others: Batch) -> bool:
        """Whether all values could be kept."""
        for name, values in others.items():
            if name not in self._others:
                self._others[name] = values.new_empty(self._num_rows, *values.shape[1:])
            self._others[name][first : first + len(values)] = values
        fits = [kept.put(first, values) for kept, values in zip(self._maps, maps, strict=True)]
        return all(fits)

    def take(self, rows: Sequence[int]) -> Batch:
        chosen = torch.tensor(rows)
        others = {name: values.index_select(0, chosen) for name, values in self._others.items()}
        return {"image": [kept.take(chosen) for kept in self._maps], **others}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What features are computed from, and how. `check` raises where the run was asked to stop."""

    train: LandmarkDataset | LabelDataset
    plain: Dataset[dict[str, Tensor]]
    train_indices: np.ndarray
    val_indices: np.ndarray
    batch_size: int
    compute: Compute
    check: Callable[[], None]


class Features:
    """The features of a phase: of the training images in `views` views, and of the validation images.

    View v of an image is what the phase's epoch v, from 0, would show of it; epoch e has view e mod `views`. A single
    view is the image as it is, with the mean of what else an epoch would draw (annotators, label noise). Each view is
    computed when an epoch first asks for it, in batches that depend on nothing else: so a run that is resumed computes
    the same bits.

    first_epoch: the first of the phase, counted over the run.
    example: (1, ...) each, what `source.compute` gives for one image.
    """

    def __init__(
        self,
        source: Source,
        example: Sequence[Tensor],
        *,
        views: int,
        first_epoch: int,
        half: bool,
        folder: Path | None,
    ) -> None:
        self.views = views
        self.half = half
        self._source = source
        self._first_epoch = first_epoch
        self._train_rows = {int(index): row for row, index in enumerate(source.train_indices)}
        self._val_rows = {int(index): row for row, index in enumerate(source.val_indices)}
        self._train = KeptSamples(example, views * len(self._train_rows), half=half, folder=folder)
        self._val = KeptSamples(example, len(self._val_rows), half=half, folder=folder)
        self._computed: set[int] = set()
        self._val_is_computed = False

    def training_batches(self, order: Iterable[list[Key]], first_epoch: int, read: Reader) -> Iterator[Batch]:
        """The batches of these keys, whose epochs count from `first_epoch`; `read` gives samples of a data set."""
        for keys in order:
            views = [(key[0] - first_epoch + sum(key[2:])) % self.views for key in keys]
            for view in set(views) - self._computed:
                self._compute_view(view, read)
            num_images = len(self._train_rows)
            yield self._train.take(
                [view * num_images + self._train_rows[key[1]] for view, key in zip(views, keys, strict=True)]
            )

    def has(self, indices: np.ndarray) -> bool:
        """Whether these are validation images."""
        return all(int(index) in self._val_rows for index in indices)

    def evaluation_batches(self, order: Iterable[list[Key]], read: Reader) -> Iterator[Batch]:
        """The batches of these keys of validation images."""
        if not self._val_is_computed:
            source = self._source
            batches = read(source.plain, FixedOrder(source.val_indices, source.batch_size))
            self._keep(self._val, 0, len(self._val_rows), batches)
            self._val_is_computed = True
        for keys in order:
            yield self._val.take([self._val_rows[key[1]] for key in keys])

    def _compute_view(self, view: int, read: Reader) -> None:
        source, num_images = self._source, len(self._train_rows)
        dataset = source.train if self.views > 1 else as_it_is(source.train)
        # All batches as large as in training: of another size some networks answer with other last digits.
        batch_size = min(source.batch_size, num_images)
        filled = np.resize(source.train_indices, -(-num_images // batch_size) * batch_size)
        order = FixedOrder(filled, batch_size, view=self._first_epoch + view)
        self._keep(self._train, view * num_images, num_images, read(dataset, order))
        self._computed.add(view)

    @torch.no_grad()
    def _keep(self, kept: KeptSamples, first: int, count: int, batches: Iterator[Batch]) -> None:
        """Compute `count` rows from the `first` on; what the last batch has beyond them is left out."""
        row = first
        for batch in batches:
            self._source.check()
            here = min(len(batch["index"]), first + count - row)
            maps = [level[:here] for level in self._source.compute(batch.pop("image"))]
            if not kept.put(row, maps, {name: values[:here] for name, values in batch.items()}):
                raise TrainingError(
                    "phases.frozen.cache.half=true: the backbone gives values above 65,504, which float16 can't hold; "
                    "start anew without it"
                )
            row += here


@dataclass(frozen=True)
class ViewsInTurn(Dataset[dict[str, Tensor]]):
    """The samples of which `Features` would keep the features, for where those can't be kept: epoch e, counted over the
    run, has view (e - `begins`) mod `views`."""

    dataset: LandmarkDataset | LabelDataset
    views: int
    first_epoch: int  # of the phase, counted over the run
    begins: int  # the epoch that has view 0

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        view = (key[0] - self.begins + sum(key[2:])) % self.views
        dataset = self.dataset if self.views > 1 else as_it_is(self.dataset)
        return dataset[self.first_epoch + view, key[1]]


def as_it_is(dataset: LandmarkDataset | LabelDataset) -> LandmarkDataset | LabelDataset:
    """The same samples without anything that is drawn at random."""
    plain = copy(dataset)
    plain.augmentation = None
    if isinstance(plain, LabelDataset):
        plain.label_noise = 0.0
    elif plain.annotator == "random":
        plain.annotator = "mean"
    return plain


def in_nameless_file(path: Path, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor in a file that loses its name at once, so that the system takes its room back when nothing holds the
    tensor any more, however the process ends.

    Raises:
        OSError: the disk has no room for it.
    """
    count = math.prod(shape)
    if count == 0:
        return torch.empty(*shape, dtype=dtype)
    with faults_naming(path), path.open("wb") as file:
        try:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                # A full disk is told here; a write to mapped memory could only end the process.
                os.posix_fallocate(file.fileno(), 0, count * dtype.itemsize)
            return torch.from_file(str(path), shared=True, size=count, dtype=dtype).view(*shape)
        finally:
            path.unlink()
