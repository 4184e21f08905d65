"""The sweep of LRFinder against loops written by hand, and when it stops."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trainer import LRFinder, TrainDataLoaderIter

Pairs = TensorDataset


def pairs(count: int = 48, features: int = 6, seed: int = 0) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, features, generator=generator, dtype=torch.float64)
    labels = inputs[:, :2] * 0.7 + 0.1 * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return TensorDataset(inputs, labels)


def network(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2)
    return nn.Sequential(*layers).double()


def everything(model: nn.Module, *others: Any) -> list[Any]:
    """A flat copy of all tensors and numbers of the state dicts, to be compared bit by bit."""

    def flat(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            value = [(str(key), part) for key, part in value.items()]
        if isinstance(value, list | tuple):
            for part in value:
                yield from flat(part)
        else:
            yield value.clone().tolist() if isinstance(value, Tensor) else value

    return list(flat([item.state_dict() for item in (model, *others)]))


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Any, steps: int) -> None:
    for inputs, labels in itertools.islice(itertools.cycle(loader), steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), labels).backward()
        optimizer.step()


class Counted(nn.Module):
    """A squared error that becomes NaN, or another value, from some call on."""

    def __init__(self, value: float, first: int) -> None:
        super().__init__()
        self.value, self.first, self.calls = value, first, 0

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        loss = nn.functional.mse_loss(outputs, labels)
        return loss * self.value if self.calls >= self.first else loss


def loader() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=8)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def finder_of(model: nn.Module) -> LRFinder:
    return LRFinder(model, sgd(model), nn.MSELoss())


def two_groups(first: float, second: float) -> tuple[LRFinder, torch.optim.Optimizer]:
    model = network()
    groups = [{"params": model[0].parameters(), "lr": first}, {"params": model[4].parameters(), "lr": second}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    return LRFinder(model, optimizer, nn.MSELoss()), optimizer


# The sweep itself.


@pytest.mark.parametrize("mode", ["exp", "linear"])
def test_losses_equal_a_loop_written_by_hand(mode: str) -> None:
    data, model, twin = pairs(), network(), network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = list(DataLoader(data, batch_size=8))
    finder = LRFinder(model, optimizer, nn.MSELoss())
    finder.range_test(
        DataLoader(data, batch_size=8), start_lr=1e-4, end_lr=0.3, num_iter=15, step_mode=mode, smooth_f=0
    )

    loop = torch.optim.Adam(twin.parameters(), lr=1e-3)
    expected = []
    for i in range(15):
        share = i / 14
        lr = 1e-4 * (0.3 / 1e-4) ** share if mode == "exp" else 1e-4 + share * (0.3 - 1e-4)
        loop.param_groups[0]["lr"] = lr
        inputs, labels = batches[i % len(batches)]
        loop.zero_grad()
        loss = ((twin(inputs) - labels) ** 2).mean()
        loss.backward()
        loop.step()
        expected.append((lr, loss.item()))
    np.testing.assert_allclose(finder.history["lr"], [lr for lr, _ in expected], rtol=1e-12)
    np.testing.assert_allclose(finder.history["loss"], [loss for _, loss in expected], rtol=1e-9)
    assert everything(model) != everything(network())  # it did train, as with torch-lr-finder, until reset
    finder.reset()
    assert everything(model) == everything(network())


def test_rungs_are_even_and_end_exactly() -> None:
    finder = finder_of(network())
    for mode in ("exp", "linear"):
        finder.range_test(loader(), start_lr=1e-5, end_lr=0.1, num_iter=9, step_mode=mode, diverge_th=None)
        rates = np.array(finder.history["lr"])
        assert (rates[0], rates[-1]) == (1e-5, 0.1)
        steps = np.diff(np.log(rates)) if mode == "exp" else np.diff(rates)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-9)


def test_a_constant_loss_is_recorded_as_that_constant() -> None:
    model = network()
    finder = LRFinder(model, sgd(model), lambda outputs, labels: outputs.sum() * 0 + 0.5)
    finder.range_test(loader(), start_lr=1e-5, num_iter=30)
    np.testing.assert_allclose(finder.history["loss"], 0.5, rtol=1e-12)


def test_smoothed_loss_is_the_debiased_moving_average() -> None:
    finder = finder_of(network())
    finder.range_test(loader(), start_lr=1e-4, end_lr=0.1, num_iter=20, smooth_f=0.2)
    raw = finder.record.raw_losses
    for i, smoothed in enumerate(finder.history["loss"]):
        weights = [0.8 ** (i - j) for j in range(i + 1)]
        assert smoothed == pytest.approx(np.average(raw[: i + 1], weights=weights), rel=1e-12)


def test_ratio_of_parameter_groups_is_kept() -> None:
    finder, optimizer = two_groups(1e-4, 1e-2)
    finder.range_test(loader(), end_lr=1e-2, num_iter=7, diverge_th=None)
    rates = np.array(finder.record.group_lrs)
    np.testing.assert_allclose(rates[:, 1] / rates[:, 0], 100, rtol=1e-9)
    assert (rates[0, 0], rates[-1, 0]) == (1e-4, 1e-2)
    finder.range_test(loader(), start_lr=1e-5, end_lr=1e-2, num_iter=7, diverge_th=None)
    np.testing.assert_allclose(np.diff(np.log(finder.record.group_lrs), axis=1), math.log(100), rtol=1e-9)
    finder.reset()
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 1e-2]


def test_each_group_has_its_own_start_and_end() -> None:
    finder, _ = two_groups(1e-3, 1e-3)
    finder.range_test(loader(), start_lr=[1e-6, 1e-4], end_lr=[1e-2, 1e-1], num_iter=5, diverge_th=None)
    assert finder.record.group_lrs[0] == [1e-6, 1e-4]
    assert finder.record.group_lrs[-1] == [1e-2, 1e-1]
    assert finder.history["lr"] == [rates[0] for rates in finder.record.group_lrs]


def test_accumulation_logs_the_mean_over_batches_and_one_rate_per_update() -> None:
    data = pairs()
    plain, summed = nn.Linear(6, 2).double(), nn.Linear(6, 2).double()
    summed.load_state_dict(plain.state_dict())
    options = {"start_lr": 1e-3, "end_lr": 0.5, "num_iter": 12, "smooth_f": 0}
    whole = LRFinder(plain, sgd(plain), nn.MSELoss())
    whole.range_test(DataLoader(data, batch_size=12), **options)
    parts = LRFinder(summed, sgd(summed), nn.MSELoss())
    parts.range_test(DataLoader(data, batch_size=4), accumulation_steps=3, **options)
    assert parts.history["lr"] == whole.history["lr"]
    np.testing.assert_allclose(parts.history["loss"], whole.history["loss"], rtol=1e-9)


# When it stops.


def test_nan_stops_at_once_and_makes_no_update() -> None:
    model, criterion = network(), Counted(math.nan, first=31)
    finder = LRFinder(model, sgd(model), criterion)
    finder.range_test(loader(), start_lr=1e-6, end_lr=1e-3, num_iter=200, smooth_f=0)
    assert criterion.calls == 31
    assert len(finder.history["loss"]) == len(finder.history["lr"]) == 30
    assert np.isfinite(finder.history["loss"]).all()
    assert finder.record.stop_reason == "non-finite"
    assert finder.record.stop_lr == pytest.approx(1e-6 * 1000 ** (30 / 199))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_loss_that_diverges_stops_the_test_and_a_negative_one_need_not() -> None:
    model = network()
    finder = LRFinder(model, sgd(model), Counted(100, first=11))
    finder.range_test(loader(), start_lr=1e-6, end_lr=1e-5, num_iter=50, smooth_f=0)
    assert (finder.record.stop_reason, len(finder.record)) == ("diverged", 11)
    finder = LRFinder(model, sgd(model), lambda outputs, labels: nn.functional.mse_loss(outputs, labels) - 5)
    finder.range_test(loader(), start_lr=1e-6, end_lr=1e-5, num_iter=20)
    assert (finder.record.stop_reason, len(finder.record)) == (None, 20)


def test_a_train_iter_that_must_not_begin_anew_ends_the_test() -> None:
    finder = finder_of(network())
    finder.range_test(TrainDataLoaderIter(loader(), auto_reset=False), start_lr=1e-5, end_lr=1e-3, num_iter=50)
    assert (finder.record.stop_reason, len(finder.record)) == ("train_loader ended", 6)
