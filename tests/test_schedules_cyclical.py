"""Cyclical schedules against torch's CyclicLR, the published formula, and what must hold at every step."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from trainer.schedules import CyclicalSchedule, fit_cycles, whole_cycles

MODES = ("triangular", "triangular2", "exp_range")
MILLION = 1_000_000


def clr(**changes: Any) -> CyclicalSchedule:
    return CyclicalSchedule(**({"base_lr": 1e-4, "max_lr": 3e-3, "step_size": 100} | changes))


@pytest.mark.filterwarnings("ignore:To get the last learning rate")
@pytest.mark.parametrize("step_size", [1, 7, 128, 2000])
@pytest.mark.parametrize("mode", MODES)
def test_cyclical_rate_and_momentum_equal_torch_over_a_million_steps(mode: str, step_size: int) -> None:
    bounds = {"base_lr": 1e-4, "max_lr": 3e-3, "base_momentum": 0.8, "max_momentum": 0.95}
    schedule = clr(step_size=step_size, mode=mode, gamma=0.999995, **bounds)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    oracle = lr_scheduler.CyclicLR(optimizer, step_size_up=step_size, mode=mode, gamma=0.999995, **bounds)
    for step in sampled_steps(2 * step_size, last_cycle=1020 if mode == "triangular2" else MILLION):
        oracle.last_epoch = step
        assert abs(schedule.lr_at(step) - oracle.get_lr()[0]) < 1e-12
        assert abs(schedule.momentum_at(step) - optimizer.param_groups[0]["momentum"]) < 1e-9


def sampled_steps(cycle_length: int, last_cycle: int) -> list[int]:
    """The first 5,000 steps, then about 1,000 spread up to a million and at the last cycles' turning points."""
    last = min(MILLION, last_cycle * cycle_length)  # torch overflows from cycle 1,025 of triangular2 on
    spread = range(5000, last, max(1, last // 1000))
    corners = [last // cycle_length * cycle_length - half * cycle_length // 2 for half in range(60)]
    near_corners = {corner + offset for corner in corners for offset in (-1, 0, 1)}
    return sorted(step for step in {*range(5000), *spread, *near_corners} if 0 <= step <= last)


@pytest.mark.parametrize("mode", MODES)
def test_cyclical_rate_equals_the_published_formula_at_each_of_a_million_steps(mode: str) -> None:
    schedule = clr(step_size=733, mode=mode, gamma=0.99999)
    step = np.arange(MILLION, dtype=np.float64)
    cycle = np.floor(1 + step / (2 * 733))
    x = np.abs(step / 733 - 2 * cycle + 1)
    scale = {"triangular": 1.0, "triangular2": 0.5 ** (cycle - 1), "exp_range": 0.99999**step}[mode]
    published = 1e-4 + (3e-3 - 1e-4) * np.maximum(0, 1 - x) * scale
    ours = np.fromiter(map(schedule.lr_at, range(MILLION)), dtype=np.float64, count=MILLION)
    np.testing.assert_allclose(ours, published, rtol=0, atol=1e-12)


def test_decaying_base_lets_both_bounds_fall_by_gamma_to_the_step() -> None:
    held, decayed = clr(), clr(mode="exp_range", gamma=0.999, decay_base=True)
    for step in range(3000):
        assert decayed.lr_at(step) == pytest.approx(held.lr_at(step) * 0.999**step, rel=1e-12)


def test_first_peak_and_last_step_of_a_cyclical_phase_have_their_exact_rates() -> None:
    schedule = clr(step_size=4, base_momentum=0.85, max_momentum=0.95)
    assert [schedule.lr_at(step) for step in (0, 4, 8)] == [1e-4, 3e-3, 1e-4]
    assert [schedule.momentum_at(step) for step in (0, 4, 8)] == [0.95, 0.85, 0.95]
    assert schedule.lr_at(23) == schedule.lr_at(1) == pytest.approx(1e-4 + 2.9e-3 / 4)


@pytest.mark.parametrize("cycle", [1023, 1024, 1025, 5000, 10**15])
def test_triangular2_goes_to_base_lr_at_any_cycle(cycle: int) -> None:
    schedule = clr(step_size=10, mode="triangular2", base_momentum=0.8, max_momentum=0.9)
    peak = 20 * cycle + 10
    assert schedule.cycle_at(peak) == cycle
    assert schedule.lr_at(peak) == 1e-4
    assert schedule.momentum_at(peak) == 0.9


def test_exp_range_goes_to_its_floor_without_underflow_errors() -> None:
    assert clr(mode="exp_range", gamma=0.5).lr_at(10**9 + 100) == 1e-4
    assert clr(mode="exp_range", gamma=0.5, decay_base=True).lr_at(10**9 + 100) == 0.0


cyclical_schedules = st.builds(
    lambda base_lr, ratio, step_size, mode, gamma: CyclicalSchedule(
        base_lr=base_lr,
        max_lr=base_lr * ratio,
        step_size=step_size,
        mode=mode,
        gamma=gamma,
        base_momentum=0.8,
        max_momentum=0.95,
    ),
    base_lr=st.floats(1e-7, 1.0),
    ratio=st.floats(1.01, 1e4),
    step_size=st.integers(1, 10_000),
    mode=st.sampled_from(MODES),
    gamma=st.floats(0.9, 1.0),
)


@settings(deadline=None)
@given(schedule=cyclical_schedules, step=st.integers(0, 10**12))
def test_cyclical_rate_and_momentum_stay_within_their_bounds(schedule: CyclicalSchedule, step: int) -> None:
    ulp = 1e-15
    assert schedule.base_lr * (1 - ulp) <= schedule.lr_at(step) <= schedule.max_lr * (1 + ulp)
    assert 0.8 * (1 - ulp) <= schedule.momentum_at(step) <= 0.95 * (1 + ulp)


@settings(deadline=None)
@given(step_size=st.integers(1, 10_000), step=st.integers(0, 10**12), cycles=st.integers(1, 1000))
def test_triangular_rate_repeats_each_cycle_and_mirrors_at_its_end(step_size: int, step: int, cycles: int) -> None:
    schedule = clr(step_size=step_size)
    end_of_cycle = 2 * step_size * (schedule.cycle_at(step) + 1)
    assert schedule.lr_at(step + 2 * step_size * cycles) == schedule.lr_at(step)
    assert schedule.lr_at(end_of_cycle + (end_of_cycle - step)) == schedule.lr_at(step)


@settings(deadline=None)
@given(step_size=st.integers(1, 10_000), cycle=st.integers(0, 10**9))
def test_a_cycle_starts_at_base_lr_and_lasts_until_the_step_before_the_next(step_size: int, cycle: int) -> None:
    schedule = clr(step_size=step_size)
    start = 2 * step_size * cycle
    assert schedule.lr_at(start) == schedule.base_lr
    assert schedule.cycle_at(start) == schedule.cycle_at(start + 2 * step_size - 1) == cycle
    assert schedule.cycle_at(start + 2 * step_size) == cycle + 1


@settings(deadline=None)
@given(total_steps=st.integers(1, 10**6), cycles=st.integers(1, 50))
def test_fitted_cycles_leave_fewer_than_two_updates_per_cycle_over(total_steps: int, cycles: int) -> None:
    step_size = fit_cycles(total_steps, step_size=None, cycles=cycles)
    if total_steps >= 2 * cycles:
        assert 0 <= total_steps - 2 * step_size * cycles < 2 * cycles
    else:
        assert step_size == 1


@pytest.mark.parametrize(
    ("total_steps", "step_size", "expected"),
    [(600, 100, 100), (500, 90, 83), (500, 1000, 250), (1, 7, 1), (100, 20, 25)],
)
def test_a_step_size_is_fitted_to_the_nearest_number_of_whole_cycles(
    total_steps: int, step_size: float, expected: int
) -> None:
    assert fit_cycles(total_steps, step_size=step_size, cycles=None) == expected


def test_whole_cycles_counts_parts_of_cycles() -> None:
    assert whole_cycles(500, 100) == 2.5


@pytest.mark.parametrize(("step_size", "cycles"), [(None, None), (10, 3)])
def test_fitting_cycles_needs_a_step_size_or_a_number_of_cycles(step_size: float | None, cycles: int | None) -> None:
    with pytest.raises(ValueError, match=rf"scheduler\.step_size={step_size} and scheduler\.cycles={cycles}"):
        fit_cycles(100, step_size=step_size, cycles=cycles)
