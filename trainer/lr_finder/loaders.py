"""What LRFinder draws batches from. `TrainDataLoaderIter` and `ValDataLoaderIter` may be subclassed for batches of any
form, as in the package torch-lr-finder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from torch.utils.data import DataLoader

INPUT_NAMES = ("input", "inputs", "image", "images", "x", "data", "features", "pixel_values")
LABEL_NAMES = ("label", "labels", "target", "targets", "y")


class DataLoaderIter:
    """Gives (inputs, labels) of each batch of a loader, or of anything else that can be iterated again and again."""

    batch_keys: tuple[str, str] | None = None  # of batches that are dicts; None finds usual names

    def __init__(self, data_loader: Any) -> None:
        self.data_loader = data_loader
        self._current: Iterator[Any] | None = None

    @property
    def _iterator(self) -> Iterator[Any]:
        """Begun when first needed: to begin draws from torch's random numbers."""
        if self._current is None:
            self._current = iter(self.data_loader)
        return self._current

    @_iterator.setter
    def _iterator(self, iterator: Iterator[Any]) -> None:
        self._current = iterator

    @property
    def dataset(self) -> Any:
        return self.data_loader.dataset

    def restart(self) -> None:
        """Begin at the first batch again."""
        self._current = None

    def next_batch(self) -> Any:
        """The next batch as the loader made it."""
        return next(self._iterator)

    def inputs_labels_from_batch(self, batch_data: Any) -> tuple[Any, Any]:
        """What the model and what the criterion gets of a batch. Raises ValueError where that can't be told."""
        return inputs_and_labels(batch_data, self.batch_keys)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self

    def __next__(self) -> tuple[Any, Any]:
        return self.inputs_labels_from_batch(self.next_batch())


class TrainDataLoaderIter(DataLoaderIter):
    """Begins anew after the last batch, unless `auto_reset` is False."""

    def __init__(self, data_loader: Any, auto_reset: bool = True) -> None:
        super().__init__(data_loader)
        self.auto_reset = auto_reset

    def next_batch(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            if not self.auto_reset:
                raise
        self.restart()
        try:
            return next(self._iterator)
        except StopIteration:
            raise ValueError(
                "train_loader gives no batch; is its data set empty, or below a batch under drop_last?"
            ) from None


class ValDataLoaderIter(DataLoaderIter):
    """Ends after the last batch; `iter()` or a `for` then begins anew."""

    def __init__(self, data_loader: Any) -> None:
        super().__init__(data_loader)
        self._ended = False

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        if self._ended:
            self.restart()
        return self

    def restart(self) -> None:
        super().restart()
        self._ended = False

    def next_batch(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            self._ended = True
            raise


def inputs_and_labels(batch: Any, keys: tuple[str, str] | None) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        input_key, label_key = keys or _usual_keys(batch)
        absent = [key for key in (input_key, label_key) if key not in batch]
        if absent:
            raise ValueError(f"batch_keys names {absent[0]!r}, but a batch has the keys {_listed(batch)}")
        return batch[input_key], batch[label_key]
    if isinstance(batch, tuple | list):
        if len(batch) < 2:
            raise ValueError(f"a batch has {len(batch)} element, but (inputs, labels) are needed; else give a step_fn")
        return batch[0], batch[1]
    raise ValueError(
        f"a batch is a {type(batch).__name__}, but a tuple, list or dict with inputs and labels is needed; give "
        "LRFinder a step_fn(batch) -> loss, or override inputs_labels_from_batch in a subclass of TrainDataLoaderIter "
        "(and of ValDataLoaderIter)"
    )


Iter = TypeVar("Iter", bound=DataLoaderIter)


def as_train_iter(loader: Any) -> TrainDataLoaderIter:
    return _as_iter("train_loader", loader, TrainDataLoaderIter)


def as_val_iter(loader: Any) -> ValDataLoaderIter:
    return _as_iter("val_loader", loader, ValDataLoaderIter)


def _as_iter(argument: str, loader: Any, kind: type[Iter]) -> Iter:
    if isinstance(loader, kind):
        return loader
    if isinstance(loader, DataLoader):
        return kind(loader)
    raise ValueError(
        f"{argument} is a {type(loader).__name__}, but a torch DataLoader or a {kind.__name__} is needed; "
        f"{kind.__name__}(batches) takes anything that can be iterated again and again, a list of batches too"
    )


def _usual_keys(batch: Mapping[str, Any]) -> tuple[str, str]:
    inputs = [name for name in INPUT_NAMES if name in batch]
    labels = [name for name in LABEL_NAMES if name in batch]
    if len(inputs) == len(labels) == 1:
        return inputs[0], labels[0]
    raise ValueError(
        f"which of a batch's keys {_listed(batch)} hold the inputs and the labels can't be told by their names; give "
        'LRFinder batch_keys=("<inputs>", "<labels>"), or a step_fn(batch) -> loss'
    )


def _listed(batch: Mapping[str, Any]) -> str:
    return ", ".join(repr(key) for key in batch)
