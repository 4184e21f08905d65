"""What a range test of LRFinder leaves behind: nothing."""

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_lr_finder import everything, finder_of, loader, network, pairs, sgd, trained
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from trainer import LRFinder


class Noisy(Dataset[Any]):
    """Draws from every generator there is."""

    def __init__(self) -> None:
        self.rng, self.data = np.random.default_rng(5), pairs()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        inputs, labels = self.data[index]
        noise = random.random() + np.random.rand() + self.rng.random()  # noqa: NPY002
        return inputs, labels + noise + torch.rand(1).item()


def test_training_after_the_test_equals_training_without_it(tmp_path: Path) -> None:
    """Weights, BatchNorm, momentum, dropout's and the sampler's random numbers, also through a file."""
    final = []
    for tested in (None, {"memory_cache": True}, {"memory_cache": False, "cache_dir": tmp_path}):
        model = network(dropout=0.3)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        shuffled = DataLoader(pairs(), batch_size=8, shuffle=True)
        trained(model, optimizer, shuffled, 3)
        if tested is not None:
            finder = LRFinder(model, optimizer, nn.MSELoss(), **tested)
            finder.range_test(shuffled, val_loader=shuffled, start_lr=1e-5, end_lr=1, num_iter=12)
            finder.reset()
        trained(model, optimizer, shuffled, 5)
        final.append((everything(model, optimizer), torch.rand(2).tolist()))
        if tested is not None:
            del finder
    assert final[0] == final[1] == final[2]
    assert list(tmp_path.iterdir()) == []


def test_random_numbers_and_the_order_of_the_next_epoch_are_those_without_the_test() -> None:
    def draws(own: DataLoader[Any]) -> list[Any]:
        order = [labels.tolist() for _, labels in own]
        return [order, torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()]  # noqa: NPY002

    told = []
    for tested in (False, True):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
        own = DataLoader(Noisy(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(4))
        model = nn.Linear(6, 2).double()
        if tested:
            LRFinder(model, sgd(model), nn.MSELoss()).range_test(own, start_lr=1e-6, num_iter=10)
        told.append(draws(own))
    assert told[0] == told[1]


def test_workers_that_live_on_give_the_epoch_they_would_have_given() -> None:
    told = []
    for tested in (False, True):
        torch.manual_seed(1)
        own = DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=1, persistent_workers=True)
        first = [labels.tolist() for _, labels in own]
        held = own._iterator
        if tested:
            model = nn.Linear(6, 2).double()
            finder = LRFinder(model, sgd(model), nn.MSELoss())
            torch.manual_seed(2)
            finder.range_test(own, start_lr=1e-6, num_iter=3)
        torch.manual_seed(2)
        assert own._iterator is held
        told.append((first, [labels.tolist() for _, labels in own]))
    assert told[0] == told[1]


def test_training_modes_and_gradients_are_as_before_also_after_validation() -> None:
    model = network()
    model[1].eval()  # a frozen BatchNorm
    frozen = model[1].running_mean.clone()
    model[0].weight.grad = gradient = torch.ones_like(model[0].weight)
    finder = finder_of(model)
    finder.range_test(loader(), val_loader=loader(), start_lr=1e-5, end_lr=1e-3, num_iter=4)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert torch.equal(model[1].running_mean, frozen)
    assert model[0].weight.grad is gradient
    assert model[4].weight.grad is None
    model.eval()
    finder.range_test(loader(), start_lr=1e-5, end_lr=1e-3, num_iter=4)
    assert not any(module.training for module in model.modules())


def test_every_reset_brings_back_the_same() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    trained(model, optimizer, loader(), 3)
    before = everything(model, optimizer)
    group = optimizer.param_groups[0]
    finder = LRFinder(model, optimizer, nn.MSELoss())
    finder.range_test(loader(), start_lr=1e-5, end_lr=1, num_iter=8)
    finder.reset()
    trained(model, optimizer, loader(), 3)  # would write into a copy that was handed out
    assert everything(model, optimizer) != before
    finder.reset()
    finder.reset()
    assert everything(model, optimizer) == before
    assert optimizer.param_groups[0] is group


def test_a_test_starts_from_the_weights_it_was_given_not_from_those_of_the_test_before() -> None:
    finder = finder_of(network())
    losses = []
    for _ in range(2):
        finder.range_test(loader(), start_lr=1e-3, end_lr=1, num_iter=10)
        losses.append(finder.history["loss"])
    assert losses[0] == losses[1]
    finder.reset()
    assert everything(finder.model) == everything(network())
    trained(finder.model, finder.optimizer, loader(), 4)  # a phase later
    later = everything(finder.model, finder.optimizer)
    finder.range_test(loader(), start_lr=1e-3, end_lr=1, num_iter=10)
    finder.reset()
    assert everything(finder.model, finder.optimizer) == later


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_everything_is_brought_back_when_the_test_is_interrupted(error: type[BaseException]) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    trained(model, optimizer, loader(), 2)
    before = everything(model, optimizer), [module.training for module in model.modules()]
    calls = itertools.count()

    def failing(outputs: Tensor, labels: Tensor) -> Tensor:
        if next(calls) == 5:
            raise error
        return nn.functional.mse_loss(outputs, labels)

    torch.manual_seed(3)
    finder = LRFinder(model, optimizer, failing)
    with pytest.raises(error):
        finder.range_test(DataLoader(pairs(), 8, shuffle=True), val_loader=loader(), start_lr=1e-5, num_iter=20)
    assert (everything(model, optimizer), [module.training for module in model.modules()]) == before
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


def test_buffers_that_state_dicts_leave_out_and_a_criterions_parameters_come_back() -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2).double()
            self.register_buffer("seen", torch.zeros(1), persistent=False)

        def forward(self, inputs: Tensor) -> Tensor:
            self.seen += len(inputs)
            return self.layer(inputs)

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
            return ((outputs - labels) ** 2).mean() * self.log_scale.exp().squeeze()

    model, criterion, loose = Remembering(), Scaled(), nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = torch.optim.SGD([*model.parameters(), *criterion.parameters(), loose], lr=1e-3)
    finder = LRFinder(model, optimizer, lambda outputs, labels: criterion(outputs * loose, labels))
    finder.range_test(loader(), end_lr=1, num_iter=5)
    assert model.seen.item() == 40
    assert criterion.log_scale.item() != 0
    assert loose.tolist() != [1, 1]
    finder.reset()
    assert (model.seen.item(), criterion.log_scale.item(), loose.tolist()) == (0, 0, [1, 1])


def test_grad_scaler_comes_back() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    before = scaler.state_dict()
    finder = LRFinder(
        model, sgd(model), nn.MSELoss(), amp_backend="torch", amp_config={"enabled": False}, grad_scaler=scaler
    )
    finder.range_test(loader(), start_lr=1e-5, end_lr=1e-2, num_iter=7)
    assert scaler.state_dict()["scale"] > before["scale"]
    finder.reset()
    assert scaler.state_dict() == before


def test_validation_runs_in_the_precision_of_training_and_training_goes_on_in_train_mode() -> None:
    seen = []

    def criterion(outputs: Tensor, labels: Tensor) -> Tensor:
        seen.append((outputs.dtype, torch.is_grad_enabled(), model.training))
        return nn.functional.mse_loss(outputs.float(), labels)

    data = TensorDataset(torch.randn(16, 6), torch.randn(16, 2))
    model = nn.Linear(6, 2)
    finder = LRFinder(model, sgd(model), criterion, amp_backend="torch", amp_config={"dtype": torch.bfloat16})
    finder.range_test(DataLoader(data, 8), val_loader=DataLoader(data, 8), start_lr=1e-4, end_lr=0.1, num_iter=2)
    assert seen == [(torch.bfloat16, True, True), *[(torch.bfloat16, False, False)] * 2] * 2


def test_validation_loss_is_the_mean_over_samples_after_the_update() -> None:
    model, twin = nn.Linear(6, 2).double(), nn.Linear(6, 2).double()
    twin.load_state_dict(model.state_dict())
    train, val = pairs(), pairs(13, seed=1)  # 13 = 8 + 5
    finder = LRFinder(model, sgd(model), nn.MSELoss())
    options = {"start_lr": 1e-2, "end_lr": 0.3, "num_iter": 4, "smooth_f": 0}
    finder.range_test(DataLoader(train, 48), val_loader=DataLoader(val, 8), **options)
    loop = sgd(twin)
    for lr, loss in zip(finder.history["lr"], finder.history["loss"], strict=True):
        loop.param_groups[0]["lr"] = lr
        trained(twin, loop, [train.tensors], 1)
        assert loss == pytest.approx(nn.functional.mse_loss(twin(val.tensors[0]), val.tensors[1]).item(), rel=1e-9)
