"""One whole run, from a typed config to a report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import takewhile
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from models.backbone import check_name
from models.weights import check_weights
from trainer import checkpoint
from trainer.checkpoint import Saver
from trainer.config.run import TrainConfig
from trainer.config.store import read_config
from trainer.device import Compute, build_compute, keep_freed_memory
from trainer.environment import describe_environment
from trainer.history import METRIC_COLUMNS, CsvLog, Logs, LRHistory
from trainer.loop import UpdateRule
from trainer.mapping import check_mapping, keep_mapping
from trainer.outcome import write_outcome
from trainer.phases import Limits, Phase, Training, freeze, run_phase
from trainer.planning import build_phases, check_extension, grant_steps, plan_warnings, planned_steps
from trainer.plots import plot_schedule
from trainer.range_test.outcome import write_test_outcome
from trainer.range_test.run import check_found, check_testable, run_range_test
from trainer.run_data import RunData
from trainer.run_dir import RunDir, write_json, write_text
from trainer.state import TrainState, build_ema
from trainer.stopping import Stopped, StopRequest
from trainer.tasks.task import Task

log = logging.getLogger(__name__)


def train(
    config: TrainConfig, run_dir: RunDir, composed: DictConfig, overrides: list[str], request: StopRequest | None = None
) -> float:
    """Train what `config` says, or go on with it, and leave all of it in `run_dir`.

    `composed` and `overrides`: the config before it was typed, and what was typed on the command line; both are
    written down. `request`: asked in time to stop, it raises Stopped once all is saved. Returns the best value of the
    monitored metric.
    """
    started = time.perf_counter()
    request = request or StopRequest()

    # What can be refused before any data is read.
    keep_freed_memory()
    compute = build_compute(config.device, config.precision, config.channels_last)
    check_name(config.model.backbone)
    check_weights(config.model.backbone, config.model.weights)
    saved = _find_checkpoint(config, run_dir)

    # Data, task, model, optimizer state.
    torch.manual_seed(config.seed)
    data = _build_data(config, run_dir)
    check_testable(config, data)
    task = config.task.build(config, data)
    check_mapping(run_dir.labels, task.mapping)
    rule = UpdateRule(task, compute, config.accumulation, config.clip_norm, config.on_nonfinite == "skip")
    state = _build_state(config, data, compute)
    if saved is not None:
        state.load(saved)

    # The plan: how many updates each phase makes, under which schedule. With it the run is accepted and written down.
    spent = state.seconds + state.epoch_seconds
    deadline = None if config.max_minutes is None else started + 60 * config.max_minutes - spent
    _grant_steps(config, state, data, rule, deadline)
    if state.finished:
        log.info(
            "%s is finished: nothing was written, whatever was asked for; only more epochs go on, where the schedule "
            "permits them",
            run_dir.path,
        )
        return state.best_value
    _write_down(run_dir, composed, overrides, resumed=config.resume is not None)
    keep_mapping(run_dir.labels, task.mapping)
    phases = _plan(config, state, data, task, run_dir)
    _announce(run_dir, data, phases, plan_warnings(phases, config))

    # Training, phase by phase.
    training = _build_training(config, state, data, rule, run_dir, deadline, request)
    with closing(training.logs):
        with _saved_when_stopped(state, training):
            carried_out = _run_phases(phases, config, state, saved, training, run_dir)

        # What it came to.
        if carried_out is not None:
            warnings = plan_warnings(carried_out, config)
            composed = read_config(run_dir.config)
            write_outcome(run_dir, state, carried_out, data, rule, composed, warnings, num_views=config.predict.tta)
            state.finished = True
            training.saver.save(state)
    return state.best_value


@contextmanager
def _saved_when_stopped(state: TrainState, training: Training) -> Iterator[None]:
    """Waits with a first request to stop for the end of an update, and then saves."""
    try:
        with training.request.patient():
            yield
    except Stopped as stopped:
        if not stopped.at_once:
            training.saver.save(state)
            log.info("saved after update %d (phase %s)", state.iteration, state.phase)
        raise


def _run_phases(
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
        _enter(phase, state, config, saved)
        if config.range_test.tests(phase.name) and phase.name not in state.found_rates:
            run_range_test(phase, config, state, training, run_dir)
            if config.range_test.kind == "only" and phase.name == config.last_phase:
                write_test_outcome(run_dir, config, state)
                return None
            check_found(phase, config, state, run_dir)
            training.saver.save(state)
            phases = _plan(config, state, training.data, training.rule.task, run_dir)
            _advise(plan_warnings([phases[position]], config))
        steps_after = sum(later.total_steps for later in phases[position + 1 :])
        run_phase(phases[position], state, training, steps_after=steps_after)
    return phases


def _build_training(
    config: TrainConfig,
    state: TrainState,
    data: RunData,
    rule: UpdateRule,
    run_dir: RunDir,
    deadline: float | None,
    request: StopRequest,
) -> Training:
    """Opens the logs, cut to what `state` knows of."""
    columns = METRIC_COLUMNS + (rule.task.validation_columns if data.validates else ())
    logs = Logs(
        LRHistory(run_dir.lr_history, keep_rows=state.iteration),
        CsvLog(run_dir.metrics, columns, keep_rows=state.evaluations),
    )
    max_skipped = config.max_skipped if config.on_nonfinite == "skip" else 0
    saving = config.checkpoint
    return Training(
        data=data,
        rule=rule,
        limits=Limits(config.early_stopping_epochs, deadline, max_skipped),
        logs=logs,
        saver=Saver(run_dir, logs, every_steps=saving.every_steps, every_minutes=saving.every_minutes),
        request=request,
    )


def _find_checkpoint(config: TrainConfig, run_dir: RunDir) -> dict[str, Any] | None:
    """Where a resumed run goes on: its newest checkpoint. None for a fresh run, or one that has none yet."""
    if config.resume is None:
        if run_dir.config.exists():
            raise ValueError(f"{run_dir.path} already holds a run; go on with it by resume={run_dir.path}")
        return None
    saved = checkpoint.load(run_dir)
    if saved is None:
        log.info("%s has no checkpoint yet: it starts from the beginning", run_dir.path)
    else:
        log.info("resumed %s after update %d (%s)", run_dir.path, saved["iteration"], saved["phase"])
    return saved


def _write_down(run_dir: RunDir, composed: DictConfig, overrides: list[str], *, resumed: bool) -> None:
    """The config that is run, and what was typed for it: a resume adds what it changed, for the resumes after it."""
    run_dir.create()
    if not resumed:
        write_json(run_dir.environment, describe_environment(overrides))
    elif added := [text for text in overrides if not text.startswith("resume=")]:
        environment = run_dir.read_environment()
        environment["overrides"] += added
        write_json(run_dir.environment, environment)
    write_text(run_dir.config, OmegaConf.to_yaml(OmegaConf.merge(composed, {"resume": None}), resolve=True))


def _build_data(config: TrainConfig, run_dir: RunDir) -> RunData:
    return config.task.build_data(config, run_dir.splits)


def _build_state(config: TrainConfig, data: RunData, compute: Compute) -> TrainState:
    placed = compute.place(config.task.build_model(config, data))
    return TrainState(placed, build_ema(placed, config.ema_decay), compute.grad_scaler())


def _grant_steps(
    config: TrainConfig, state: TrainState, data: RunData, rule: UpdateRule, deadline: float | None
) -> None:
    """Plan a fresh run; hold a resumed one to its plan, but for phases that were given other epochs."""
    planned = planned_steps(config, data.updates_per_epoch)
    if not state.total_steps:
        state.total_steps = grant_steps(planned, config, state, data, rule, deadline)
    elif planned != state.planned_steps:
        check_extension(state, config, planned)
        state.total_steps = planned
        state.finished = False
    state.planned_steps = planned


def _plan(config: TrainConfig, state: TrainState, data: RunData, task: Task[Any], run_dir: RunDir) -> list[Phase]:
    """The phases, with schedules as far as their rates are known, which are drawn."""
    phases = build_phases(
        config,
        state.planned_steps,
        state.total_steps,
        data.updates_per_epoch,
        task.monitor_mode,
        state.found_rates,
    )
    if known := list(takewhile(lambda phase: phase.schedule is not None, phases)):
        plot_schedule(run_dir.plots / "schedule.png", known)
    return phases


def _announce(run_dir: RunDir, data: RunData, phases: list[Phase], warnings: list[str]) -> None:
    counts = ", ".join(f"{len(data.records.indices(split))} {split}" for split in ("train", "val", "test"))
    plan = ", ".join(
        f"{phase.name} {phase.num_epochs} epochs = {phase.total_steps} updates{phase.told_scales}" for phase in phases
    )
    log.info("%s\nimages: %s; plan: %s", run_dir.path, counts, plan)
    _advise(warnings)


def _advise(warnings: list[str]) -> None:
    for warning in warnings:
        log.warning("advice: %s", warning)


def _enter(phase: Phase, state: TrainState, config: TrainConfig, saved: dict[str, Any] | None) -> None:
    """Make ready for a phase: what is trained, a fresh optimizer, the cycle's first step; or where it was left."""
    freeze(state.model, phase)
    state.optimizer = getattr(config.phases, phase.name).optimizer.build(state.backbone, state.head)
    if state.phase == phase.name:
        if saved is not None:
            state.optimizer.load_state_dict(saved["optimizer"])
        return
    state.epochs_before = state.epochs_done
    state.phase, state.phase_step, state.monitors = phase.name, 0, []
