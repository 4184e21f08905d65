"""The course of a run: from phase to phase, each after its range test, until it ends or is asked to stop."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from trainer.config.run import TrainConfig
from trainer.feature_plan import with_features
from trainer.loop import UpdateRule
from trainer.phases import Phase, Training, freeze, run_phase
from trainer.planning import build_phases, plan_warnings
from trainer.plots import plot_schedule
from trainer.profile import RANGE_TEST
from trainer.range_test.outcome import write_test_outcome
from trainer.range_test.run import check_found, run_range_test
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.state import TrainState
from trainer.stopping import Pruned, Stopped

log = logging.getLogger(__name__)


@contextmanager
def saved_when_stopped(state: TrainState, training: Training) -> Iterator[None]:
    """Waits with a first request to stop for the end of an update, and then saves; saves what is pruned."""
    try:
        with training.request.patient():
            yield
    except Pruned:
        training.saver.save(state)
        raise
    except Stopped as stopped:
        if not stopped.at_once:
            training.saver.save(state)
            if training.rule.sharing is not None:
                training.request.ignore()  # torchrun asks all to stop once one process has ended
                training.rule.sharing.ranks.same(None)  # none ends before the first has saved
            log.info("saved after update %d (phase %s)", state.iteration, state.phase)
        raise


def run_phases(
    phases: list[Phase],
    config: TrainConfig,
    state: TrainState,
    saved: dict[str, Any] | None,
    training: Training,
    run_dir: RunDir,
) -> list[Phase] | None:
    """Train from where `state` is, each phase after its range test; the phases with their schedules.

    None where range tests were all that was asked for.
    """
    first = [phase.name for phase in phases].index(state.phase) if state.phase else 0
    for position in range(first, len(phases)):
        phase = phases[position]
        training.rule.watch.enter(phase.name)
        _enter(phase, state, config, saved)
        at_hand = with_features(phase, config, state, training, run_dir)
        untested = config.range_test.tests(phase.name) and phase.name not in state.found_rates
        if untested:
            with training.rule.watch.part(RANGE_TEST):
                run_range_test(phase, config, state, at_hand, run_dir)
        if config.range_test.kind == "only" and phase.name == config.last_phase:
            write_test_outcome(run_dir, config, state, training.rule.watch)
            return None
        if untested:
            check_found(phase, config, state, run_dir)
            training.saver.save(state)
            phases = plan_phases(config, state, training.data, training.rule, run_dir)
            advise(plan_warnings([phases[position]], config))
        steps_after = sum(later.total_steps for later in phases[position + 1 :])
        run_phase(phases[position], state, at_hand, steps_after=steps_after)
    return phases


def plan_phases(
    config: TrainConfig, state: TrainState, data: RunData, rule: UpdateRule, run_dir: RunDir
) -> list[Phase]:
    """The phases, with schedules as far as their rates are known, which are drawn."""
    phases = build_phases(
        config,
        state.planned_steps,
        state.total_steps,
        data.updates_per_epoch,
        rule.task.monitor_mode,
        state.found_rates,
    )
    known = list(takewhile(lambda phase: phase.schedule is not None, phases))
    if known and config.pictures:
        with rule.watch.part("plots"):
            plot_schedule(run_dir.plots / "schedule.png", known)
    return phases


def advise(warnings: list[str]) -> None:
    for warning in warnings:
        log.warning("advice: %s", warning)


def _enter(phase: Phase, state: TrainState, config: TrainConfig, saved: dict[str, Any] | None) -> None:
    """Make ready for a phase: what is trained, a fresh optimizer, the cycle's first step; or where it was left."""
    freeze(state.model, phase)
    state.optimizer = getattr(config.phases, phase.name).optimizer.build(state.backbone, state.head)
    if state.phase == phase.name:
        if saved is not None:
            state.optimizer.load_state_dict(saved["optimizer"])
            saved.clear()  # else it would stay in memory until the run ends
        return
    state.epochs_before = state.epochs_done
    state.phase, state.phase_step, state.monitors = phase.name, 0, []
