"""LRFinder in the place of torch-lr-finder 0.2.2, and what it can do beyond: batches, losses, plots, errors."""

import inspect
import subprocess
import sys
import warnings
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from test_lr_finder import everything, finder_of, loader, network, pairs, sgd
from torch import nn
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
    finder.range_test(DataLoader(pairs(), batch_size=24), **SWEEP)  # large enough for a fall that is not chance
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
    found.range_test(train := Train(named), val_loader=Val(named), **SWEEP)
    assert found.history == expected.history
    assert torch.equal(next(train)[0], next(iter(loader()))[0])  # it is given back at its first batch


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
    with pytest.warns(UserWarning, match="carries a scheduler"):
        finder = LRFinder(model, optimizer, nn.MSELoss())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            finder.range_test(loader(), end_lr=1, num_iter=10)
            finder.reset()
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


def test_importing_trainer_does_not_import_torch() -> None:
    code = "import sys, trainer; assert 'torch' not in sys.modules; assert 'LRFinder' in trainer.__all__"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
