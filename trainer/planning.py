"""The plan of a run: how many updates each phase makes, under which schedule."""

from __future__ import annotations

import logging
import time
from typing import Any

from trainer.config.phases import PHASE_NAMES
from trainer.config.run import TrainConfig
from trainer.config.schedules import AUTO, SchedulerConfig
from trainer.errors import TrainingError
from trainer.loop import UpdateRule
from trainer.phases import Phase
from trainer.range_test.finding import FALLBACK_RATIO
from trainer.recipes import keys_beside_recipe
from trainer.run_data import RunData
from trainer.schedule_advice import schedule_warnings
from trainer.state import TrainState
from trainer.timing import measure_seconds, seconds_for_tests

log = logging.getLogger(__name__)


def planned_steps(config: TrainConfig, updates_per_epoch: int) -> dict[str, int]:
    """The updates of each phase's epochs, before any budget."""
    return {name: getattr(config.phases, name).epochs * updates_per_epoch for name in PHASE_NAMES}


def cut_to_steps(planned: dict[str, int], max_steps: int) -> dict[str, int]:
    """The planned updates of each phase, all shortened by one factor so that they sum to `max_steps` at most.

    Every phase that was planned keeps at least one update.

    Raises:
        ValueError: there are more phases than updates.
    """
    total = sum(planned.values())
    if total <= max_steps:
        return planned
    num_phases = sum(steps > 0 for steps in planned.values())
    if max_steps < num_phases:
        raise ValueError(f"max_steps={max_steps} is less than an update for each of the {num_phases} phases")
    return {phase: max(1, steps * max_steps // total) if steps else 0 for phase, steps in planned.items()}


def cut_to_seconds(planned: dict[str, int], seconds_per_step: dict[str, float], seconds: float) -> dict[str, int]:
    """The planned updates, shortened by one factor so that they fit into `seconds`.

    `seconds_per_step` holds an update and its share of the evaluations.
    """
    needed = sum(steps * seconds_per_step[phase] for phase, steps in planned.items() if steps)
    if needed <= seconds:
        return planned
    return {phase: max(1, int(steps * seconds / needed)) if steps else 0 for phase, steps in planned.items()}


def build_phases(
    config: TrainConfig,
    planned: dict[str, int],
    granted: dict[str, int],
    updates_per_epoch: int,
    monitor_mode: str,
    found_rates: dict[str, dict[str, float]],
) -> list[Phase]:
    """The phases that make updates. Where a budget shortened one, or cycles were fitted, it ends with a whole cycle.

    A phase whose rates a range test is still to find has no schedule; `found_rates` are those found, by phase and key.
    """
    phases = []
    for name in PHASE_NAMES:
        settings, steps = getattr(config.phases, name), granted[name]
        if steps == 0:
            continue
        shortened = steps < planned[name]
        steps = settings.scheduler.usable_steps(steps, updates_per_epoch, shortened)
        scheduler = with_found_rates(name, settings.scheduler, found_rates.get(name, {}))
        phases.append(
            Phase(
                name=name,
                frozen=name == "frozen",
                schedule=None
                if scheduler.auto_keys
                else scheduler.build(
                    total_steps=steps,
                    steps_per_epoch=updates_per_epoch,
                    monitor_mode=monitor_mode,
                    shortened=shortened,
                ),
                total_steps=steps,
                steps_per_epoch=updates_per_epoch,
                backbone_lr_ratio=settings.backbone_lr_ratio,
                batch_norm=settings.batch_norm,
                takes_snapshots=config.snapshots and name == config.phase_names[-1],
                input_scales=tuple(settings.input_scales),
            )
        )
    return phases


def grant_steps(
    planned: dict[str, int],
    config: TrainConfig,
    state: TrainState,
    data: RunData,
    rule: UpdateRule,
    deadline: float | None,
) -> dict[str, int]:
    """The planned updates of each phase, within the budgets of updates and minutes.

    `deadline` is on time.perf_counter's clock: reading data and measuring has used some of the minutes.
    """
    granted = planned if config.max_steps is None else cut_to_steps(planned, config.max_steps)
    if deadline is not None:
        phases = build_phases(config, planned, granted, data.updates_per_epoch, rule.task.monitor_mode, {})
        per_update, evaluation = measure_seconds(phases, state, config, data, rule)
        share = evaluation / data.updates_per_epoch
        seconds_per_step = {phase: seconds.mean + share for phase, seconds in per_update.items()}
        seconds_left = deadline - time.perf_counter() - seconds_for_tests(phases, config, data, per_update, evaluation)
        if rule.sharing is not None:  # one plan for all processes: by the clock of the first
            seconds_per_step, seconds_left = rule.sharing.ranks.same((seconds_per_step, seconds_left))
        if seconds_left <= 0:
            raise ValueError(
                f"max_minutes={config.max_minutes} was used up before training began, by reading the data, timing the "
                "plan and what the range tests will take; give more minutes"
            )
        granted = cut_to_seconds(granted, seconds_per_step, seconds_left)
    if granted != planned:
        cuts = ", ".join(f"{name} to {granted[name]} of {planned[name]} updates" for name in planned if planned[name])
        log.info("the budget shortens %s; their schedules are fitted into that", cuts)
    return granted


def with_found_rates(phase: str, scheduler: SchedulerConfig, found: dict[str, float]) -> SchedulerConfig:
    """The scheduler with what was found in the place of `auto`; the same where nothing was.

    A base_lr that does not lie below a max_lr which the command line gave makes way for a quarter of that.
    """
    rates = {key: found[key] for key in scheduler.auto_keys if key in found}
    given_max: Any = getattr(scheduler, "max_lr", AUTO)
    if "base_lr" in rates and given_max != AUTO and rates["base_lr"] >= given_max:
        rates["base_lr"] = given_max / FALLBACK_RATIO
        log.warning(
            "phases.%s: the range test's base_lr %.3g is above the given max_lr %.3g: base_lr is a quarter of that",
            phase,
            found["base_lr"],
            given_max,
        )
    try:
        return scheduler.with_rates(rates)
    except ValueError as error:
        told = ", ".join(f"{key}={value:.3g}" for key, value in rates.items())
        raise TrainingError(
            f"phases.{phase}: what the range test found ({told}) does not fit what was given: {error}. "
            "Start anew with other numbers, or without them"
        ) from None


def plan_warnings(phases: list[Phase], config: TrainConfig) -> list[str]:
    typed = keys_beside_recipe(config)
    return [
        warning
        for phase in phases
        if phase.schedule is not None
        for warning in schedule_warnings(
            phase.schedule,
            total_steps=phase.total_steps,
            steps_per_epoch=phase.steps_per_epoch,
            phase=phase.name,
            bounds_were_found={"base_lr", "max_lr"} <= set(getattr(config.phases, phase.name).scheduler.auto_keys),
            typed=typed,
        )
    ]


def check_extension(state: TrainState, config: TrainConfig, asked: dict[str, int]) -> None:
    """Raises ValueError where the asked plan would change a phase that has begun and whose schedule forbids it."""
    if config.max_steps is not None or config.max_minutes is not None:
        raise ValueError(
            "phases.<phase>.epochs can't be changed in a run under max_steps or max_minutes, which were fitted to them"
        )
    begun = PHASE_NAMES.index(state.phase)
    for position, name in enumerate(PHASE_NAMES[: begun + 1]):
        was, now = state.planned_steps[name], asked[name]
        if was == now:
            continue
        key = f"phases.{name}.epochs"
        if len(set(getattr(config.phases, name).input_scales)) > 1 and state.phase_step:
            raise ValueError(
                f"{key}: phases.{name}.input_scales divide the epochs of a phase that has begun; leave it as it was"
            )
        if position < begun:
            raise ValueError(
                f"{key}: this phase has ended ({was} updates), {state.phase} has begun; leave it as it was"
            )
        if getattr(config.phases, name).scheduler.depends_on_length:
            raise ValueError(
                f"{key}: {state.phase_step} updates were made under a schedule that is shaped by the phase's length; "
                "only constant, plateau and clr with a step_size can be extended once begun"
            )
        if now < state.phase_step:
            raise ValueError(f"{key}: {state.phase_step} updates were made already, {now} are fewer")
