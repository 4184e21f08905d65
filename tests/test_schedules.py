"""Schedules against torch's own schedulers, and the values that all of them refuse."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from trainer.schedules import (
    ConstantSchedule,
    CosineSchedule,
    CyclicalSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    Schedule,
)


def sgd(lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


def clr(**changes: Any) -> CyclicalSchedule:
    return CyclicalSchedule(**({"base_lr": 1e-4, "max_lr": 3e-3, "step_size": 100} | changes))


def one_cycle(**changes: Any) -> OneCycleSchedule:
    values = {"max_lr": 3e-3, "total_steps": 100, "pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4}
    return OneCycleSchedule(**(values | changes))


def cosine(**changes: Any) -> CosineSchedule:
    return CosineSchedule(**({"max_lr": 1e-3, "min_lr": 1e-6, "total_steps": 50, "warmup_steps": 7} | changes))


def plateau(**changes: Any) -> PlateauSchedule:
    values = {"lr": 0.1, "factor": 0.3, "patience": 2, "threshold": 1e-2, "min_lr": 1e-4}
    return PlateauSchedule(**(values | changes))


@pytest.mark.parametrize("total_steps", [1, 2, 5, 37, 500])
@pytest.mark.parametrize("pct_start", [0.05, 0.3, 0.5])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_one_cycle_equals_torch_at_every_step(
    anneal: str, three_phase: bool, pct_start: float, total_steps: int
) -> None:
    if pct_start * total_steps == 1:
        return  # torch divides 0 by 0
    shape = {"max_lr": 3e-3, "total_steps": total_steps, "pct_start": pct_start, "div_factor": 25.0}
    shape |= {"final_div_factor": 1e4, "three_phase": three_phase, "base_momentum": 0.85, "max_momentum": 0.95}
    schedule = OneCycleSchedule(anneal=anneal, **shape)
    optimizer = sgd()
    oracle = lr_scheduler.OneCycleLR(optimizer, anneal_strategy=anneal, **shape)
    for step in range(total_steps):
        assert abs(schedule.lr_at(step) - oracle.get_last_lr()[0]) < 1e-15
        assert abs(schedule.momentum_at(step) - optimizer.param_groups[0]["momentum"]) < 1e-12
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_ends_on_its_lowest_rate_and_holds_it(three_phase: bool) -> None:
    schedule = one_cycle(three_phase=three_phase)
    assert schedule.lr_at(0) == 3e-3 / 25
    assert schedule.lr_at(29) == 3e-3
    assert schedule.lr_at(99) == schedule.lr_at(100) == schedule.lr_at(10**9) == 3e-3 / 25 / 1e4


def test_one_cycle_with_a_rise_of_no_length_starts_at_the_top() -> None:
    assert one_cycle(total_steps=4, pct_start=0.25).lr_at(0) == 3e-3


@pytest.mark.parametrize("warmup_steps", [0, 1, 7, 49])
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
def test_cosine_equals_torch_warm_up_and_annealing(warmup_steps: int) -> None:
    schedule = cosine(warmup_steps=warmup_steps)
    for step, expected in enumerate(torch_warm_up_and_cosine(warmup_steps, total_steps=50)):
        assert schedule.lr_at(step) == pytest.approx(expected, rel=1e-9)
    assert schedule.lr_at(50) == schedule.lr_at(10**9) == 1e-6


def torch_warm_up_and_cosine(warmup_steps: int, total_steps: int) -> Iterator[float]:
    optimizer = sgd(lr=1e-3)
    rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup_steps + 1), total_iters=warmup_steps)
    fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps - warmup_steps, eta_min=1e-6)
    oracle = lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warmup_steps]) if warmup_steps else fall
    for _ in range(total_steps):
        yield oracle.get_last_lr()[0]
        optimizer.step()
        oracle.step()


results = st.floats(-10, 10) | st.sampled_from([0.0, 1.0, 0.995, math.nan, math.inf, -math.inf])


@settings(max_examples=200, deadline=None)
@given(
    monitors=st.lists(results, max_size=40),
    patience=st.integers(0, 3),
    mode=st.sampled_from(["min", "max"]),
    threshold=st.sampled_from([0.0, 1e-4, 1e-2]),
    min_lr=st.sampled_from([0.0, 1e-3]),
)
def test_plateau_equals_torch_after_every_epoch(
    monitors: list[float], patience: int, mode: str, threshold: float, min_lr: float
) -> None:
    options = {"factor": 0.1, "patience": patience, "threshold": threshold, "min_lr": min_lr}
    schedule = PlateauSchedule(lr=0.1, mode=mode, **options)
    optimizer = sgd(lr=0.1)
    oracle = lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, **options)
    for epoch, monitor in enumerate(monitors, start=1):
        oracle.step(monitor)
        assert schedule.after(monitors[:epoch]).lr_at(0) == optimizer.param_groups[0]["lr"]


@settings(deadline=None)
@given(first=st.lists(results, max_size=10), then=st.lists(results, max_size=10))
def test_plateau_told_epoch_by_epoch_equals_plateau_told_all_at_once(first: list[float], then: list[float]) -> None:
    step_by_step = plateau().after(first).after(then)
    assert step_by_step == plateau().after(first + then)


def test_plateau_falls_only_after_more_than_patience_epochs_and_not_below_min_lr() -> None:
    assert plateau().after([1.0, 1.0, 1.0]).lr_at(0) == 0.1
    assert plateau().after([1.0, 1.0, 1.0, 1.0]).lr_at(0) == pytest.approx(0.03)
    assert plateau().after([1.0] * 1000).lr_at(0) == 1e-4


@pytest.mark.parametrize("schedule", [clr(), one_cycle(), cosine(), ConstantSchedule(lr=1e-3)])
def test_all_but_plateau_ignore_validation_results(schedule: Schedule) -> None:
    assert schedule.after([1.0, 2.0, 3.0]) is schedule


@pytest.mark.parametrize("schedule", [one_cycle(), cosine(), ConstantSchedule(lr=1e-3), plateau()])
def test_schedules_without_cycles_are_in_cycle_0_and_leave_momentum_alone(schedule: Schedule) -> None:
    assert [schedule.cycle_at(step) for step in (0, 10**6)] == [0, 0]
    assert schedule.momentum_at(3) is None


def test_constant_is_constant() -> None:
    assert {ConstantSchedule(lr=1e-3).lr_at(step) for step in (0, 1, 10**9)} == {1e-3}


@pytest.mark.parametrize(
    ("build", "changes", "message"),
    [
        (clr, {"base_lr": 0.5, "max_lr": 0.01}, "scheduler.base_lr=0.5 must be below scheduler.max_lr=0.01"),
        (clr, {"base_lr": 3e-3}, "scheduler.base_lr=0.003 must be below scheduler.max_lr=0.003"),
        (clr, {"base_lr": -1e-3}, "scheduler.base_lr=-0.001"),
        (clr, {"base_lr": math.nan}, "scheduler.base_lr=nan"),
        (clr, {"max_lr": math.inf}, "scheduler.max_lr=inf"),
        (clr, {"step_size": 0}, "scheduler.step_size=0"),
        (clr, {"step_size": 2.5}, "scheduler.step_size=2.5"),
        (clr, {"mode": "sine"}, "scheduler.mode=sine is not one of triangular, triangular2, exp_range"),
        (clr, {"gamma": 0.0}, "scheduler.gamma=0.0"),
        (clr, {"gamma": 1.01}, "scheduler.gamma=1.01"),
        (clr, {"gamma": math.nan}, "scheduler.gamma=nan"),
        (clr, {"decay_base": True}, "scheduler.decay_base=true needs scheduler.mode=exp_range, not triangular"),
        (clr, {"base_momentum": 0.9}, "scheduler.base_momentum=0.9 and scheduler.max_momentum=None"),
        (
            clr,
            {"base_momentum": 0.9, "max_momentum": 0.8},
            "scheduler.base_momentum=0.9 and scheduler.max_momentum=0.8",
        ),
        (one_cycle, {"base_momentum": 0.9, "max_momentum": 1.0}, "scheduler.max_momentum=1.0"),
        (one_cycle, {"max_lr": 0.0}, "scheduler.max_lr=0.0"),
        (one_cycle, {"total_steps": 0}, "total_steps=0"),
        (one_cycle, {"pct_start": 1.0}, "scheduler.pct_start=1.0"),
        (one_cycle, {"pct_start": 0.0}, "scheduler.pct_start=0.0"),
        (one_cycle, {"pct_start": 0.6, "three_phase": True}, "scheduler.pct_start=0.6"),
        (one_cycle, {"div_factor": 0.5}, "scheduler.div_factor=0.5"),
        (one_cycle, {"final_div_factor": math.inf}, "scheduler.final_div_factor=inf"),
        (one_cycle, {"anneal": "exp"}, "scheduler.anneal=exp"),
        (cosine, {"min_lr": 1.0}, "scheduler.min_lr=1.0 must be below scheduler.max_lr=0.001"),
        (cosine, {"warmup_steps": 50}, "scheduler.warmup_epochs is 50 updates, but the phase has only 50"),
        (ConstantSchedule, {"lr": -1.0}, "scheduler.lr=-1.0"),
        (plateau, {"lr": math.nan}, "scheduler.lr=nan"),
        (plateau, {"min_lr": 0.2}, "scheduler.min_lr=0.2 must not be above scheduler.lr=0.1"),
        (plateau, {"factor": 1.0}, "scheduler.factor=1.0"),
        (plateau, {"patience": -1}, "scheduler.patience=-1"),
        (plateau, {"threshold": -0.1}, "scheduler.threshold=-0.1"),
        (plateau, {"mode": "best"}, "monitor mode=best"),
    ],
)
def test_impossible_values_are_refused_by_key_and_value(
    build: Callable[..., Schedule], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        build(**changes)
    assert message in str(error.value)
