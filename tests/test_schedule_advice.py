"""The advice on cyclical phases: when it is given, when not, and that what it proposes does help."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import compose
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainer.config.store import to_train_config
from trainer.phases import Phase
from trainer.planning import plan_warnings
from trainer.run_dir import ENVIRONMENT_KEYS, RunDir
from trainer.schedule_advice import schedule_warnings
from trainer.schedules import ConstantSchedule, CosineSchedule, CyclicalSchedule, OneCycleSchedule, Schedule


def clr(**changes: Any) -> CyclicalSchedule:
    return CyclicalSchedule(**({"base_lr": 1e-4, "max_lr": 1e-3, "step_size": 40} | changes))


def advice(schedule: Schedule, *, total_steps: int, steps_per_epoch: int = 20) -> list[str]:
    return schedule_warnings(schedule, total_steps=total_steps, steps_per_epoch=steps_per_epoch, phase="finetune")


@pytest.mark.parametrize("total_steps", [239, 240, 241, 400])
def test_whole_cycles_of_the_advised_length_are_not_warned_about(total_steps: int) -> None:
    assert advice(clr(), total_steps=total_steps) == []


@pytest.mark.parametrize(
    "schedule",
    [
        ConstantSchedule(lr=1e-3),
        CosineSchedule(max_lr=1e-3, min_lr=0.0, total_steps=50, warmup_steps=5),
        OneCycleSchedule(max_lr=1e-3, total_steps=50, pct_start=0.3, div_factor=25.0, final_div_factor=1e4),
    ],
)
def test_other_schedules_are_not_warned_about(schedule: Schedule) -> None:
    assert advice(schedule, total_steps=50) == []


RECIPE = [
    # typed beside the recipe, what is warned of: cycles of the fine-tune, its bounds, its decay
    ((), (False, False, False)),
    (("data.table", "seed", "phases.frozen.scheduler.cycles", "model.width"), (False, False, False)),
    (("phases.finetune.epochs",), (True, False, False)),
    (("scheduler.cycles",), (True, False, False)),
    (("phases.finetune.scheduler.max_lr",), (False, True, False)),
    (("scheduler.base_lr",), (False, True, False)),
    (("scheduler.gamma",), (False, False, True)),
    (("scheduler",), (True, True, True)),
    (None, (True, True, True)),  # no recipe
]


@pytest.mark.parametrize(("typed", "warned"), RECIPE)
def test_a_recipes_own_settings_are_not_advised_against_but_what_is_typed_beside_it(
    typed: tuple[str, ...] | None, warned: tuple[bool, bool, bool]
) -> None:
    schedule = clr(step_size=60, base_lr=1e-6, gamma=0.9)
    told = schedule_warnings(schedule, total_steps=240, steps_per_epoch=20, phase="finetune", typed=typed)
    about = ("has only", "scheduler.base_lr=", "scheduler.gamma=")
    assert tuple(any(part in warning for warning in told) for part in about) == warned


@pytest.mark.parametrize(
    ("more", "advised"),
    [((), False), (("seed=1",), False), (("scheduler.cycles=2",), True), (("phases.frozen.scheduler.cycles=2",), True)],
)
def test_a_run_of_a_recipe_is_advised_on_what_was_typed_also_when_resumed(
    more: tuple[str, ...], advised: bool, tmp_path: Path
) -> None:
    config = to_train_config(compose("experiment=ceph", "data.table=t.csv", *more))
    schedule = clr(step_size=10, base_lr=1e-6)
    phase = Phase(
        name="frozen", frozen=True, schedule=schedule, total_steps=20, steps_per_epoch=10, backbone_lr_ratio=1.0,
        batch_norm="eval", takes_snapshots=False, input_scales=(1.0,),
    )  # fmt: skip
    typed = {"overrides": ["experiment=ceph", "data.table=t.csv", *more]}
    environment = {**dict.fromkeys(ENVIRONMENT_KEYS), **typed}
    RunDir(tmp_path).environment.write_text(json.dumps(environment))
    config.resume = str(tmp_path)
    warnings = plan_warnings([phase], config)
    assert bool(warnings) == advised


def test_ending_within_a_cycle_says_at_which_rate_and_what_would_end_on_its_end() -> None:
    (warning,) = advice(clr(), total_steps=390)
    assert warning == (
        "phases.finetune: the phase ends in the middle of a cycle (4.88 cycles, at a rate of 0.000348), "
        "stopping at the end of a cycle is advised; epochs=20 or scheduler.step_size=65 would end on a cycle's end"
    )


def test_fewer_than_three_cycles_are_warned_about_with_remedies() -> None:
    (warning,) = advice(clr(step_size=60), total_steps=240)
    assert warning == (
        "phases.finetune: the phase has only 2 cycles, at least 3 are advised; "
        "epochs=18 or scheduler.step_size=40 would give them"
    )


def test_where_no_length_and_no_step_size_fits_the_advice_is_to_fit_cycles() -> None:
    (warning,) = advice(clr(step_size=1009), total_steps=2 * 1009 * 3 + 500, steps_per_epoch=503)
    assert "scheduler.cycles=3 with scheduler.step_size=null would end on a cycle's end" in warning


def test_a_phase_of_almost_whole_cycles_is_not_called_whole() -> None:
    (warning,) = advice(clr(step_size=10_000), total_steps=80_000 - 2, steps_per_epoch=2000)
    assert "(3.9999 cycles, at a rate of" in warning


@pytest.mark.parametrize(("step_size", "times"), [(39, "1.95"), (201, "10.1")])
def test_a_step_size_outside_two_to_ten_epochs_is_warned_about(step_size: int, times: str) -> None:
    (warning,) = advice(clr(step_size=step_size), total_steps=8 * step_size)
    assert warning == (
        f"phases.finetune: half a cycle (step_size={step_size}) is {times} times an epoch, 2 to 10 times are advised; "
        "set scheduler.step_size between 40 and 200"
    )


@pytest.mark.parametrize("step_size", [40, 200])
def test_a_step_size_of_two_or_ten_epochs_is_not_warned_about(step_size: int) -> None:
    assert advice(clr(step_size=step_size), total_steps=8 * step_size) == []


def test_three_cycles_fitted_into_a_short_phase_are_told_how_many_epochs_they_need() -> None:
    (warning,) = advice(clr(step_size=20), total_steps=120)
    assert warning.endswith("set scheduler.step_size between 40 and 200, with at least epochs=12 for 3 such cycles")


def test_bounds_more_than_a_hundred_times_apart_are_warned_about() -> None:
    assert advice(clr(base_lr=1e-3, max_lr=1e-1), total_steps=240) == []
    (warning,) = advice(clr(base_lr=1e-5, max_lr=1e-2), total_steps=240)
    assert "scheduler.base_lr=1e-5 is less than 1/100 of scheduler.max_lr=0.01" in warning
    (warning,) = advice(clr(base_lr=0.0), total_steps=240)
    assert "scheduler.base_lr=0 is less than" in warning


@pytest.mark.parametrize(
    ("mode", "gamma", "warned"), [("exp_range", 1.0, 1), ("triangular", 0.9, 1), ("exp_range", 0.9, 0)]
)
def test_a_gamma_without_effect_is_warned_about(mode: str, gamma: float, warned: int) -> None:
    warnings = advice(clr(mode=mode, gamma=gamma), total_steps=240)
    assert len(warnings) == warned
    assert all("scheduler.gamma=" in warning and "scheduler.mode=" in warning for warning in warnings)


@settings(deadline=None)
@given(epochs=st.integers(1, 60), steps_per_epoch=st.integers(1, 60), step_size=st.integers(1, 400))
def test_following_the_advice_on_cycles_silences_it(epochs: int, steps_per_epoch: int, step_size: int) -> None:
    total_steps = epochs * steps_per_epoch
    warnings = on_cycles(clr(step_size=step_size), total_steps, steps_per_epoch)
    assume(warnings)
    assert all("\n" not in warning for warning in warnings)
    remedies = warnings[-1].split("; ")[1]
    for proposed in re.findall(r"epochs=(\d+)", remedies):
        assert on_cycles(clr(step_size=step_size), int(proposed) * steps_per_epoch, steps_per_epoch) == []
    for proposed in re.findall(r"step_size=(\d+)", remedies):
        assert on_cycles(clr(step_size=int(proposed)), total_steps, steps_per_epoch) == []


def on_cycles(schedule: CyclicalSchedule, total_steps: int, steps_per_epoch: int) -> list[str]:
    warnings = advice(schedule, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    return [warning for warning in warnings if "has only" in warning or "middle of a cycle" in warning]
