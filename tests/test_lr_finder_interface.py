"""LRFinder in the place of torch-lr-finder 0.2.2, and what it can do beyond: batches, losses, plots, errors."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from test_lr_finder import everything, finder_of, loader, network, pairs, sgd
from torch import Tensor, nn
from torch.utils.data import DataLoader

from trainer import LRFinder, TrainDataLoaderIter, ValDataLoaderIter

mpl.use("agg")
SWEEP = {"start_lr": 1e-5, "end_lr": 10, "num_iter": 60}
# As inspect showed the positional parameters of torch-lr-finder 0.2.2.
THEIRS = {
    "__init__": {
        "model": ..., "optimizer": ..., "criterion": ..., "device": None, "memory_cache": True, "cache_dir": None,
        "amp_backend": None, "amp_config": None, "grad_scaler": None,
    },
    "range_test": {
        "train_loader": ..., "val_loader": None, "start_lr": None, "end_lr": 10, "num_iter": 100, "step_mode": "exp",
        "smooth_f": 0.05, "diverge_th": 5, "accumulation_steps": 1, "non_blocking_transfer": True,
    },
    "plot": {"skip_start": 10, "skip_end": 5, "log_lr": True, "show_lr": None, "ax": None, "suggest_lr": True},
    "reset": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def swept() -> LRFinder:
    finder = finder_of(network())
    finder.range_test(loader(), **SWEEP)
    finder.reset()
    return finder


def new_axes() -> Axes:
    return Figure().add_subplot()


# The interface of torch-lr-finder.


@pytest.mark.parametrize("method", THEIRS)
def test_what_torch_lr_finder_takes_by_position_is_taken_in_the_same_place(method: str) -> None:
    ours = list(inspect.signature(getattr(LRFinder, method)).parameters.values())[1:]
    by_position = {p.name: ... if p.default is p.empty else p.default for p in ours if p.kind is not p.KEYWORD_ONLY}
    assert list(by_position.items()) == list(THEIRS[method].items())


def test_plot_draws_and_returns_what_torch_lr_finder_does(swept: LRFinder) -> None:
    ax, suggestion = swept.plot(skip_start=3, skip_end=0, show_lr=1e-3, ax=(given := new_axes()))
    assert ax is given
    assert 1e-5 < suggestion < 10
    curve, mark = ax.lines
    np.testing.assert_array_equal(
        curve.get_xydata(), np.transpose([swept.history["lr"][3:], swept.history["loss"][3:]])
    )
    assert mark.get_xdata()[0] == 1e-3
    (point,) = ax.collections
    assert point.get_offsets()[0, 0] == pytest.approx(suggestion)
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "Learning rate", "Loss")
    alone = swept.plot(ax=new_axes(), suggest_lr=False, log_lr=False)
    assert isinstance(alone, Axes)
    assert alone.get_xscale() == "linear"
    made, _ = swept.plot()
    assert isinstance(made, Axes)


def test_train_iter_begins_anew_and_val_iter_when_asked() -> None:
    assert len([next(it) for it in [TrainDataLoaderIter(loader())] for _ in range(14)]) == 14
    with pytest.raises(StopIteration):
        [next(it) for it in [TrainDataLoaderIter(loader(), auto_reset=False)] for _ in range(14)]
    val = ValDataLoaderIter(loader())
    next(val)
    assert [len(list(val)) for _ in range(3)] == [5, 6, 6]
    assert val.dataset is val.data_loader.dataset


def test_subclassed_iterators_say_what_inputs_and_labels_are() -> None:
    class Train(TrainDataLoaderIter):
        def inputs_labels_from_batch(self, batch_data: Any) -> tuple[Any, Any]:
            return batch_data["foo"], batch_data["bar"]

    class Val(ValDataLoaderIter):
        inputs_labels_from_batch = Train.inputs_labels_from_batch

    named = DataLoader([{"foo": a, "bar": b} for a, b in pairs()], batch_size=8)
    expected, found = finder_of(network()), finder_of(network())
    expected.range_test(loader(), val_loader=loader(), **SWEEP)
    found.range_test(Train(named), val_loader=Val(named), **SWEEP)
    assert found.history == expected.history


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"step_mode": "cos"}, "step_mode='cos' is not one of exp, linear"),
        ({"smooth_f": 1}, "smooth_f=1 is outside"),
        ({"smooth_f": -0.1}, "smooth_f=-0.1 is outside"),
        ({"num_iter": 1}, "num_iter=1 must be"),
        ({"train_loader": [1]}, "train_loader is a list"),
        ({"val_loader": [1]}, "val_loader is a list"),
        ({"start_lr": [1, 2]}, "start_lr has 2 rates, but the optimizer has 1"),
        ({"start_lr": 0.1, "end_lr": 0.01}, "climb from 0.1"),
        ({"accumulation_steps": 0}, "accumulation_steps=0"),
        ({"diverge_th": 0.5}, "diverge_th=0.5"),
        ({"train_loader": TrainDataLoaderIter([])}, "train_loader gives no batch"),
        ({"train_loader": DataLoader([{"a": 1, "b": 2}])}, "batch_keys"),
        ({"train_loader": DataLoader([1.0, 2.0])}, "a batch is a Tensor"),
    ],
)
def test_bad_arguments_of_a_test_are_told_and_change_nothing(arguments: dict[str, Any], said: str) -> None:
    finder = finder_of(network())
    before = everything(finder.model, finder.optimizer)
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        finder.range_test(**{"train_loader": loader(), **SWEEP, **arguments})
    assert everything(finder.model, finder.optimizer) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"amp_backend": "foo"}, "amp_backend='foo'"),
        ({"amp_backend": "torch"}, "needs grad_scaler"),
        ({"cache_dir": "absent"}, "cache_dir=absent is not a folder"),
        ({"model": nn.Sequential()}, "no parameters"),
    ],
)
def test_bad_arguments_of_the_finder_are_told(arguments: dict[str, Any], said: str) -> None:
    model = network()
    with pytest.raises(ValueError, match=said):
        LRFinder(**{"model": model, "optimizer": sgd(model), "criterion": nn.MSELoss(), **arguments})


def test_bad_arguments_of_a_plot_and_too_few_points_are_told(swept: LRFinder) -> None:
    for arguments in ({"skip_start": -1}, {"skip_end": -1}, {"show_lr": "a"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            swept.plot(**arguments)
    with pytest.raises(ValueError, match="method='best'"):
        swept.get_suggested_lr("best")
    finder = finder_of(network())
    with pytest.raises(RuntimeError, match="call range_test first"):
        finder.plot()
    finder.range_test(loader(), start_lr=1e-4, num_iter=10)
    with pytest.raises(RuntimeError, match="needs 17 updates"):
        finder.plot()
    assert isinstance(finder.plot(suggest_lr=False), Axes)


# Schedulers.


def test_a_scheduler_is_warned_of_once_and_the_test_is_not_changed_by_it() -> None:
    model = network()
    optimizer = sgd(model)
    torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.warns(UserWarning, match="carries a scheduler") as told:
        finder = LRFinder(model, optimizer, nn.MSELoss())
        for _ in range(2):
            finder.range_test(loader(), end_lr=1, num_iter=10)
    assert len(told) == 1
    plain = finder_of(network())
    plain.range_test(loader(), end_lr=1, num_iter=10)
    assert finder.history == plain.history


@pytest.mark.filterwarnings("ignore:the optimizer carries a scheduler")
def test_a_scheduler_that_moved_the_rates_is_refused_unless_start_rates_are_given() -> None:
    model = network()
    groups = [{"params": model[0].parameters()}, {"params": model[4].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=1e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda _: 0.1, lambda _: 0.5])
    finder = LRFinder(model, optimizer, nn.MSELoss())
    for start_lr in (None, 1e-5):
        with pytest.raises(RuntimeError, match="ratio between the parameter groups"):
            finder.range_test(loader(), start_lr=start_lr)
    finder.range_test(loader(), start_lr=[1e-5, 1e-5], num_iter=5)
    assert len(finder.record) == 5


@pytest.mark.filterwarnings("ignore:the optimizer carries a scheduler")
def test_a_scheduler_that_is_stepped_during_the_test_is_refused() -> None:
    model = network()
    optimizer = sgd(model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    before = everything(model, optimizer)
    optimizer.register_step_post_hook(lambda *_: scheduler.step())
    finder = LRFinder(model, optimizer, nn.MSELoss())
    with pytest.raises(RuntimeError, match="steps a scheduler"):
        finder.range_test(loader(), end_lr=1, num_iter=5)
    assert everything(model, optimizer) == before


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
    finder.plot(save_path=path, auto_reset=True)
    assert (finder.model[0].weight == 2).all()


def test_nothing_is_suggested_for_a_flat_curve() -> None:
    model = network()
    finder = LRFinder(model, sgd(model), lambda outputs, labels: outputs.sum() * 0 + 0.5)
    finder.range_test(loader(), start_lr=1e-5, num_iter=40)
    with pytest.warns(UserWarning, match="no rate is suggested"):
        assert finder.get_suggested_lr() is None


def test_importing_trainer_does_not_import_torch() -> None:
    code = "import sys, trainer; assert 'torch' not in sys.modules; trainer.LRFinder; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
