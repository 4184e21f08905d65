"""What LRFinder can do beyond torch-lr-finder: batches and losses of other forms, suggestions, files, pictures."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from test_lr_finder import everything, finder_of, loader, network, pairs, sgd
from torch import Tensor, nn
from torch.utils.data import DataLoader

from trainer import LRFinder, TrainDataLoaderIter, ValDataLoaderIter

mpl.use("agg")
SWEEP = {"start_lr": 1e-5, "end_lr": 10, "num_iter": 60}


# Batches and losses of other forms.


class ByName(nn.Module):
    """As Hugging Face's models: takes a batch by keyword and returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.mse_loss(self.inner(x), y)}


def named(input_key: str, label_key: str) -> DataLoader[Any]:
    return DataLoader([{input_key: a, label_key: b, "id": i} for i, (a, b) in enumerate(pairs())], batch_size=8)


def test_dicts_lists_and_step_functions_give_the_losses_of_tuples() -> None:
    expected = finder_of(network())
    expected.range_test(loader(), val_loader=loader(), **SWEEP)

    usual, keyed = finder_of(network()), network()
    usual.range_test(named("image", "target"), val_loader=named("image", "target"), **SWEEP)
    assert usual.history == expected.history

    keyed_finder = LRFinder(keyed, sgd(keyed), nn.MSELoss(), batch_keys=("a", "b"))
    keyed_finder.range_test(named("a", "b"), val_loader=named("a", "b"), **SWEEP)
    assert keyed_finder.history == expected.history

    whole = ByName()
    plain = DataLoader([{"x": a, "y": b} for a, b in pairs()], batch_size=8)
    returning = LRFinder(whole, sgd(whole), None)
    returning.range_test(plain, val_loader=plain, **SWEEP)
    assert returning.history == expected.history

    stepped = network()
    by_step = LRFinder(
        stepped, sgd(stepped), None, step_fn=lambda batch: nn.functional.mse_loss(stepped(batch["a"]), batch["b"])
    )
    batches = list(named("a", "b"))
    by_step.range_test(TrainDataLoaderIter(batches), val_loader=ValDataLoaderIter(batches), **SWEEP)
    assert by_step.history == expected.history


def test_several_losses_are_weighted() -> None:
    def absolute(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - labels).abs().mean()

    found = []
    criteria = {"square": nn.MSELoss(), "absolute": absolute}
    weights = {"square": 1.0, "absolute": 0.25}
    for criterion, given in (
        (criteria, weights),
        (lambda outputs, labels: {name: rule(outputs, labels) for name, rule in criteria.items()}, weights),
        (lambda outputs, labels: nn.functional.mse_loss(outputs, labels) + 0.25 * absolute(outputs, labels), None),
    ):
        model = network()
        finder = LRFinder(model, sgd(model), criterion, loss_weights=given)
        finder.range_test(loader(), **SWEEP)
        found.append(finder.history["loss"])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-9)
    assert found[0] == found[1]
    model = network()
    with pytest.raises(ValueError, match="loss_weights names square"):
        LRFinder(model, sgd(model), criteria, loss_weights={"square": 1}).range_test(loader(), **SWEEP)


def test_losses_that_cannot_be_used_are_told() -> None:
    for criterion, error, said in (
        (lambda outputs, labels: 1.0, TypeError, "a loss is a float"),
        (lambda outputs, labels: outputs - labels, ValueError, "take its mean"),
        (lambda outputs, labels: (outputs - labels).mean().detach(), ValueError, "no gradient"),
    ):
        model = network()
        with pytest.raises(error, match=said):
            LRFinder(model, sgd(model), criterion).range_test(loader(), **SWEEP)


def test_a_gan_is_brought_back_whole() -> None:
    generator, critic = network(0), nn.Linear(2, 1).double()
    of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
    of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
    before = everything(generator, critic, of_generator, of_critic)

    def step(batch: Any) -> Tensor:
        inputs, real = batch
        made = generator(inputs)
        of_critic.zero_grad()
        (critic(made.detach()).mean() - critic(real).mean()).backward()
        of_critic.step()
        return -critic(made).mean()

    finder = LRFinder(generator, of_generator, None, step_fn=step, also_restore=[critic, of_critic])
    finder.range_test(loader(), start_lr=1e-5, end_lr=1, num_iter=20)
    assert everything(critic) != everything(nn.Linear(2, 1).double())
    finder.reset()
    assert everything(generator, critic, of_generator, of_critic) == before


# Suggestions, files, pictures.


def test_find_lr_returns_the_test_and_brings_everything_back() -> None:
    finder = finder_of(network())
    before = everything(finder.model, finder.optimizer)
    lrs, losses, suggested = finder.find_lr(
        loader(), start_lr=1e-5, end_lr=10, num_iter=60, smooth_factor=0.1, diverge_threshold=4
    )
    assert everything(finder.model, finder.optimizer) == before
    assert (lrs, losses) == (finder.history["lr"], finder.history["loss"])
    assert suggested == finder.get_suggested_lr()
    assert lrs[0] < suggested < lrs[-1]


def test_plot_with_own_options_returns_the_suggestion_and_writes_files(tmp_path: Path) -> None:
    finder = finder_of(network())
    before = everything(finder.model, finder.optimizer)
    finder.range_test(loader(), **SWEEP)
    path = tmp_path / "new" / "range.png"
    found = finder.plot(save_path=path, suggest=True, save_csv=True, annotate=True, auto_reset=True)
    assert found == finder.get_suggested_lr()
    assert everything(finder.model, finder.optimizer) == before
    assert path.read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(path.with_suffix(".csv"))
    assert list(table) == ["step", "lr", "loss", "smoothed"]
    np.testing.assert_allclose(table["lr"], finder.history["lr"])
    np.testing.assert_allclose(table["loss"], finder.record.raw_losses)

    with torch.no_grad():
        finder.model[0].weight.fill_(2.0)  # training has gone on: to look again must not undo it
    assert finder.plot(save_path=path, suggest="minimum", auto_reset=True) == finder.get_suggested_lr("minimum")
    assert (finder.model[0].weight == 2).all()


def test_a_flat_curve_and_noise_suggest_nothing() -> None:
    model = network()
    finder = LRFinder(model, sgd(model), lambda outputs, labels: outputs.sum() * 0 + 0.5)
    finder.range_test(loader(), start_lr=1e-5, num_iter=40)
    with pytest.warns(UserWarning, match="no rate is suggested"):
        assert finder.get_suggested_lr() is None
    noise = iter(np.random.default_rng(0).normal(size=40))
    finder = LRFinder(model, sgd(model), lambda outputs, labels: outputs.sum() * 0 + 5 + next(noise))
    finder.range_test(loader(), start_lr=1e-5, num_iter=40)
    with pytest.warns(UserWarning, match="no rate is suggested"):
        assert finder.get_suggested_lr() is None
