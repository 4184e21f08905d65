"""The range test of one phase, from the climb to the files and the line that says what was found."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.image_files import ImageReader
from trainer.config.run import TrainConfig
from trainer.config.schedules import RATE_KEYS
from trainer.errors import TrainingError
from trainer.loop import StepRecord
from trainer.phases import Phase, Training, fingerprint
from trainer.progress import clock, epoch_progress
from trainer.range_test.cache import SweepCache
from trainer.range_test.cache import fingerprint as fingerprint_of
from trainer.range_test.files import taken, write_finding
from trainer.range_test.finding import judge
from trainer.range_test.sweep import sweeps
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.state import TrainState

HOW_DATA_IS_READ = ("workers", "cache_gb", "disk_cache_gb", "disk_cache_dir")

log = logging.getLogger(__name__)

# Settings that read rates off finished climbs; the others shape the climbs.
READING_KEYS = (
    "kind", "phases", "smoothing", "smooth_window", "suggest", "skip_start", "skip_end", "max_interval_decades",
    "safety", "cache_dir", "cache",
)  # fmt: skip


def check_testable(config: TrainConfig, data: RunData) -> None:
    """Raises ValueError where the data lack what the range test needs."""
    settings = config.range_test
    if settings.kind == "off":
        return
    if settings.signal != "train_loss" and not data.validates:
        raise ValueError(f"range_test.signal={settings.signal} needs a validation split; train_loss does without")
    if settings.num_steps == 0 and data.updates_per_epoch < settings.fewest_steps:
        raise ValueError(
            f"range_test.num_steps=0 is an epoch, here {data.updates_per_epoch} updates, and at least "
            f"{settings.fewest_steps} are needed; give a number"
        )


def run_range_test(phase: Phase, config: TrainConfig, state: TrainState, training: Training, run_dir: RunDir) -> None:
    """Test the phase that `state` has entered, and note the rates for `auto` in it; all else of it is put back.

    Raises Stopped where it was asked for: nothing is noted, so a run that goes on tests again.
    """
    data, rule = training.data, training.rule
    settings, begun = config.range_test, time.perf_counter()
    keeps = rule.sharing is None or rule.sharing.ranks.rank == 0
    cache = (
        SweepCache(run_dir.path.parent / "range_tests") if settings.cache and keeps else None
    )  # beside a sweep's jobs
    key = None if cache is None else fingerprint_of(_inputs(phase, config, state, data))
    climbed = None if cache is None or key is None else cache.load(key)
    if rule.sharing is not None:
        climbed = rule.sharing.ranks.same(climbed)
    if climbed is not None:
        log.info("range test, %s: that of another run with the same data, weights, optimizer and batches", phase.name)
    else:
        steps = (settings.num_steps or phase.steps_per_epoch) * settings.repeats
        with epoch_progress(f"range test, {phase.name}", steps, 0) as progress:

            def on_step(record: StepRecord) -> None:
                progress.advance(record)
                training.request.check()

            climbed = sweeps(phase, state, data, rule, settings, on_step)
        if cache is not None and key is not None:
            cache.save(key, climbed)
    finding = judge(climbed, settings.judgement(rule.task.monitor_mode))
    folder = run_dir.range_test(phase.name)
    metric = "validation loss" if settings.signal == "val_loss" else rule.task.monitor
    draw = config.pictures
    write_finding(folder, finding, settings, phase=phase.name, metric=metric, fingerprint=key, draw=draw)
    state.found_rates[phase.name] = taken(finding, settings)
    state.seconds += time.perf_counter() - begun
    stopped = f"; stopped: {finding.stop}" if finding.stop else ""
    took = clock(time.perf_counter() - begun)
    seen = _to_look_at(config, run_dir, phase)
    log.info("range test, %s: %s%s (%s, %s)", phase.name, finding.verdict, stopped, took, seen)


def check_found(phase: Phase, config: TrainConfig, state: TrainState, run_dir: RunDir) -> None:
    """Say which found rates give way to given ones.

    Raises:
        TrainingError: the phase has rates that the test was to find, and it found none.
    """
    found = state.found_rates[phase.name]
    scheduler = getattr(config.phases, phase.name).scheduler
    if lacking := [key for key in scheduler.auto_keys if key not in found]:
        keys = " and ".join(f"phases.{phase.name}.scheduler.{key}=NUMBER" for key in lacking)
        raise TrainingError(
            f"the range test of phase {phase.name} found no {' and no '.join(lacking)} (see "
            f"{_to_look_at(config, run_dir, phase)}). Start anew with {keys}, or test with "
            "more range_test.repeats or another range_test.signal"
        )
    for key in RATE_KEYS:
        if key in found and key not in scheduler.auto_keys and hasattr(scheduler, key):
            given = getattr(scheduler, key)
            log.info(
                "phases.%s: scheduler.%s=%g was given and is kept; found: %.3g", phase.name, key, given, found[key]
            )


def _to_look_at(config: TrainConfig, run_dir: RunDir, phase: Phase) -> Path:
    """The picture of the test, or where none was drawn its table."""
    return run_dir.range_test(phase.name) / ("range_test.png" if config.pictures else "range_test.csv")


def _inputs(phase: Phase, config: TrainConfig, state: TrainState, data: RunData) -> dict[str, Any]:
    """Everything that shapes the climbs of this phase: weights, images, batches, optimizer, precision, settings."""
    return {
        "weights": fingerprint(state.model),
        "images": _images_digest(data),
        "data": {key: value for key, value in asdict(config.data).items() if key not in HOW_DATA_IS_READ},
        "task": asdict(config.task),
        "model": asdict(config.model),
        "phase": [phase.name, phase.frozen, phase.backbone_lr_ratio, phase.batch_norm, phase.steps_per_epoch],
        "scale": phase.input_scales[-1],
        "features": data.in_turn if data.features is None else [data.features.views, data.features.half],
        "optimizer": asdict(getattr(config.phases, phase.name).optimizer),
        "settings": {key: value for key, value in asdict(config.range_test).items() if key not in READING_KEYS},
        "run": [
            config.seed,
            config.accumulation,
            config.clip_norm,
            config.precision,
            config.memory_format,
            config.compile,
        ],
        "torch": [str(torch.__version__), str(next(state.model.parameters()).device.type)],
    }


def _images_digest(data: RunData) -> str:
    """Changes with any image, target or split. Files are not decoded for it."""
    digest = hashlib.sha256()
    for field in fields(data.records):
        value = getattr(data.records, field.name)
        if not callable(value):
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    for split in ("train", "val"):
        for index in data.records.indices(split):
            read = data.records.read
            content = read.content(int(index)) if isinstance(read, ImageReader) else None
            digest.update(np.ascontiguousarray(read(int(index))).tobytes() if content is None else content)
    return digest.hexdigest()
