"""One whole run, from a typed config to a report."""

from __future__ import annotations

import logging
import math
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf

from data.loaders import WHOLE
from models.backbone import check_name
from models.weights import check_weights
from trainer import checkpoint
from trainer.candidates import check_snapshots
from trainer.checkpoint import Saver
from trainer.command_line import without_resume_of
from trainer.compiling import compile_backbone, told_uncompilable
from trainer.config.changes import differing_keys
from trainer.config.run import TrainConfig
from trainer.config.store import read_config
from trainer.config.without_effect import options_without_effect
from trainer.course import advise, plan_phases, run_phases, saved_when_stopped
from trainer.device import Compute, build_compute, keep_freed_memory
from trainer.environment import describe_environment
from trainer.history import METRIC_COLUMNS, CsvLog, Logs, LRHistory
from trainer.loop import UpdateRule
from trainer.mapping import check_mapping, keep_mapping
from trainer.memory_faults import told_out_of_memory
from trainer.outcome import write_outcome
from trainer.phases import Limits, Phase, Training
from trainer.planning import check_extension, grant_steps, plan_warnings, planned_steps
from trainer.precision import Choice, choose
from trainer.profile import NoStopwatch, build_stopwatch
from trainer.range_test.run import check_testable
from trainer.resuming import find_checkpoint, tell_resume
from trainer.run_data import RunData
from trainer.run_dir import RunDir, write_json, write_text
from trainer.state import TrainState, build_ema
from trainer.stopping import StopRequest
from trainer.trackers.tracking import tracked

if TYPE_CHECKING:
    from trainer.distributed.sharing import Sharing

log = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    run_dir: RunDir,
    composed: DictConfig,
    overrides: list[str],
    request: StopRequest | None = None,
    sharing: Sharing | None = None,
    begun: float | None = None,
) -> float:
    """Train what `config` says, or go on with it, and leave all of it in `run_dir`.

    `composed` and `overrides`: the config before it was typed, and what was typed on the command line; both are
    written down. `request`: asked in time to stop, it raises Stopped once all is saved. `sharing`: with the other
    processes of the run, of which the first alone keeps it. `begun`: when it was asked for, on time.perf_counter's
    clock; profile=true counts from there. Returns the monitored metric of the weights that the
    run ends with; NaN where only range tests were asked for, and in all processes but the first.
    """
    started = time.perf_counter()
    request = request or StopRequest()

    # What can be refused before any data is read.
    keep_freed_memory()
    device = config.device if sharing is None else sharing.ranks.device
    compute = build_compute(device, config.precision, config.memory_format)
    check_name(config.model.backbone)
    check_weights(config.model.backbone, config.model.weights)
    config.tracker.check_usable()
    saved = find_checkpoint(config, run_dir)
    if sharing is not None:
        sharing.check_same_run(composed, saved)
    begun = started if begun is None else begun
    watch = build_stopwatch(compute.device, begun, saved) if config.profile else NoStopwatch()

    # Data, task, model, optimizer state.
    torch.manual_seed(config.seed)
    data = _build_data(config, run_dir)
    check_testable(config, data)
    task = config.task.build(config, data)
    check_snapshots(config, data, task)
    check_mapping(run_dir.labels, task.mapping)
    rule = UpdateRule(task, compute, config.accumulation, config.clip_norm, config.on_nonfinite == "skip", watch=watch)
    if sharing is not None:
        data, rule = sharing.divided(data, rule)
    with told_out_of_memory(config, compute):
        state = _build_state(config, data, compute)
    if saved is not None:
        state.load(saved)

    # The plan: how many updates each phase makes, under which schedule. With it the run is accepted and written down.
    spent = state.seconds + state.epoch_seconds
    deadline = None if config.max_minutes is None else started + 60 * config.max_minutes - spent
    with told_out_of_memory(config, compute):
        choice = choose(config, state, data, rule, deadline)
        config, compute, composed = _settled(config, choice, composed)
        rule = replace(rule, compute=compute)
        if config.compile:
            compile_backbone(config, state, data, rule)
        _grant_steps(config, state, data, rule, deadline)
    if state.finished:
        print(  # not to the log, which is a file of the run
            f"{run_dir.path} is finished: nothing was written, whatever was asked for; only more epochs go on, where "
            "the schedule permits them"
        )
        return state.final_value
    if saved is not None:
        if sharing is None or sharing.ranks.rank == 0:
            checkpoint.take_up(run_dir, saved)
        state.best = saved["best"] if sharing is None else sharing.ranks.same(saved["best"])
    _write_down(run_dir, composed, overrides, choice, resumed=config.resume is not None)
    keep_mapping(run_dir.labels, task.mapping)
    if config.resume is not None:
        tell_resume(run_dir, saved)
    phases = plan_phases(config, state, data, rule, run_dir)
    _announce(run_dir, data, phases, choice, [*options_without_effect(config), *plan_warnings(phases, config)])

    # Training, phase by phase.
    training = _build_training(config, state, data, rule, run_dir, deadline, request, saved)
    first = sharing is None or sharing.ranks.rank == 0
    tracking = tracked(config.tracker, run_dir, state.iteration) if first else nullcontext()
    with closing(training.logs):
        with tracking, told_out_of_memory(config, compute), told_uncompilable(config):
            with saved_when_stopped(state, training):
                carried_out = run_phases(phases, config, state, saved, training, run_dir)
            if sharing is not None:
                sharing.ranks.leave()
                if sharing.ranks.rank > 0:
                    return math.nan
                data, rule = replace(data, part=WHOLE), replace(rule, sharing=None)

            # What it came to.
            if carried_out is not None:
                warnings = plan_warnings(carried_out, config)
                composed = read_config(run_dir.config)
                write_outcome(
                    run_dir,
                    state,
                    carried_out,
                    data,
                    rule,
                    composed,
                    warnings,
                    num_views=config.predict.tta,
                    draw=config.pictures,
                )
        if carried_out is not None:
            state.finished = True  # once the tracker has its end too: a run that is finished is not taken up again
            training.saver.save(state)
    return state.final_value


def _build_training(
    config: TrainConfig,
    state: TrainState,
    data: RunData,
    rule: UpdateRule,
    run_dir: RunDir,
    deadline: float | None,
    request: StopRequest,
    saved: dict[str, Any] | None,
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
        saver=Saver(
            run_dir,
            logs,
            every_steps=saving.every_steps,
            every_minutes=saving.every_minutes,
            digests={} if saved is None else saved["digests"],
            keeps=rule.sharing is None or rule.sharing.ranks.rank == 0,
            watch=rule.watch,
        ),
        request=request,
    )


def _settled(config: TrainConfig, choice: Choice, composed: DictConfig) -> tuple[TrainConfig, Compute, DictConfig]:
    """The config with what was chosen in the place of `auto`, so that whatever goes on with the run keeps it."""
    merged = OmegaConf.merge(composed, choice.values)
    assert isinstance(merged, DictConfig)
    return replace(config, **choice.values), choice.compute, merged


def _write_down(run_dir: RunDir, composed: DictConfig, overrides: list[str], choice: Choice, *, resumed: bool) -> None:
    """The config that is run, and what was typed for it: a resume adds what it changed, for the resumes after it."""
    run_dir.create()
    if not resumed:
        environment = describe_environment(overrides)
        environment |= {"overrides": choice.typed(overrides), "compute": choice.noted}
        write_json(run_dir.environment, environment)
    elif added := without_resume_of(overrides):
        for key, (was, now) in differing_keys(read_config(run_dir.config), composed).items():
            if key != "resume":
                log.info("resumed with %s=%s (was %s)", key, now, was)
        environment = run_dir.read_environment()
        environment["overrides"] = choice.typed(environment["overrides"] + added)
        if {**environment.get("compute", {}), **choice.values} != environment.get("compute"):
            environment["compute"] = choice.noted
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


def _announce(run_dir: RunDir, data: RunData, phases: list[Phase], choice: Choice, warnings: list[str]) -> None:
    counts = ", ".join(f"{len(data.records.indices(split))} {split}" for split in ("train", "val", "test"))
    plan = ", ".join(
        f"{phase.name} {phase.num_epochs} epochs = {phase.total_steps} updates{phase.told_scales}" for phase in phases
    )
    log.info("%s\nimages: %s; plan: %s", run_dir.path, counts, plan)
    if choice.told:
        log.info("%s", choice.told)
    advise(warnings)
