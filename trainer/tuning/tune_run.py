"""One whole tuning: what is timed of a run's own model on its own data, in which order, and what it comes to."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from data.worker_count import MOST, usable_cores
from models.backbone import check_name
from models.weights import check_weights
from trainer.config.run import TrainConfig
from trainer.device import Compute, build_compute, has_bf16_units, keep_freed_memory
from trainer.errors import TrainingError
from trainer.loop import Batch, UpdateRule
from trainer.memory_faults import describe, told_out_of_memory
from trainer.precision import LEAST_GAIN, name_of
from trainer.run_data import RunData
from trainer.state import TrainState
from trainer.tuning.memory import room_bytes
from trainer.tuning.rounds import Timed, fastest, time_in_turns
from trainer.tuning.tune_table import Group, tell
from trainer.tuning.updates import UpdateTrial, first_batch, trial_phase, update_trial

# Shares of the minutes after which the next question is begun: settings, threads, workers; batch sizes have the rest.
SETTINGS_UNTIL, THREADS_UNTIL, WORKERS_UNTIL = 0.4, 0.55, 0.8
UPDATES_OF_WORKERS = 4  # per round, after one that waits for the workers to start
MOST_ROOM = 0.8  # of the memory, that a batch may be expected to take


@dataclass(frozen=True)
class Bench:
    """What is timed, and on what; `begun` and `minutes` say how long."""

    config: TrainConfig
    data: RunData
    trial: UpdateTrial
    device: torch.device
    begun: float
    minutes: float

    def until(self, share: float) -> float:
        return self.begun + 60 * self.minutes * share


def tune_run(config: TrainConfig, minutes: float, typed: list[str], folder: Path) -> None:
    """Print the table and what to paste, and write both into `folder`.

    Raises:
        ValueError, DataError, TrainingError, OSError: a run under `config` could not begin either.
    """
    keep_freed_memory()
    compute = build_compute(config.device, config.precision, config.memory_format)
    check_name(config.model.backbone)
    check_weights(config.model.backbone, config.model.weights)
    torch.manual_seed(config.seed)
    with tempfile.TemporaryDirectory() as scratch, told_out_of_memory(config, compute):
        data = config.task.build_data(config, Path(scratch) / "splits.csv")
        state = TrainState(compute.place(config.task.build_model(config, data)), None, compute.grad_scaler())
        rule = UpdateRule(config.task.build(config, data), compute, 1, config.clip_norm)
        phase = trial_phase(config)
        with update_trial(phase, config, state, data, rule) as trial:
            bench = Bench(config, data, trial, compute.device, time.perf_counter(), minutes)
            groups = list(_timed_groups(bench, compute))
    tell(groups, config, typed, folder)


def _timed_groups(bench: Bench, compute: Compute) -> Iterator[Group]:
    """Question by question, each under what was found best before it."""
    taken, settings = _time_settings(bench, compute)
    yield Group("precision, memory_format", settings, fastest(settings, LEAST_GAIN))
    if bench.device.type == "cpu":
        threads = _time_threads(bench, taken)
        yield Group("threads", threads, fastest(threads, LEAST_GAIN))
    workers = _time_workers(bench, taken)
    yield Group("data.workers (with reading)", workers, fastest(workers, LEAST_GAIN))
    sizes = _time_batch_sizes(bench, taken)
    yield Group("data.batch_size", sizes, fastest(sizes, LEAST_GAIN), changes_learning=True)


def _time_settings(bench: Bench, compute: Compute) -> tuple[Compute, list[Timed]]:
    precisions = [compute.precision, "fp32"] + (["bf16"] if has_bf16_units(bench.device) else [])
    formats = [compute.memory_format, "channels_last", "contiguous"]
    pairs = dict.fromkeys((precision, layout) for precision in precisions for layout in formats)
    computes = {name_of(one): one for one in (Compute(bench.device, *pair) for pair in pairs)}
    images = bench.data.batch_size
    settings = [
        Timed(name, {"precision": one.precision, "memory_format": one.memory_format}, images)
        for name, one in computes.items()
    ]
    time_in_turns(
        settings, lambda setting: bench.trial.seconds(computes[setting.name]), bench.device, bench.until(SETTINGS_UNTIL)
    )
    best = fastest(settings, LEAST_GAIN)
    if not best.images_per_second:
        raise TrainingError(describe(bench.config, compute, ""))
    return computes[best.name], settings


def _time_threads(bench: Bench, compute: Compute) -> list[Timed]:
    cores = usable_cores()
    now = torch.get_num_threads()
    counts = dict.fromkeys([now, max(1, cores // 2), cores])
    settings = [Timed(str(count), {"OMP_NUM_THREADS": str(count)}, bench.data.batch_size) for count in counts]

    def seconds(setting: Timed) -> float:
        with _threads(int(setting.name)):
            return bench.trial.seconds(compute)

    if len(settings) > 1:
        time_in_turns(settings, seconds, bench.device, bench.until(THREADS_UNTIL))
    return settings


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _time_workers(bench: Bench, compute: Compute) -> list[Timed]:
    """Updates with the wait for their images, as they come from the second epoch on: after all were read once."""
    cores = usable_cores()
    ours = bench.data.workers or 0
    settings = [
        Timed(str(count), {"data.workers": str(count)}, bench.data.batch_size)
        for count in [ours, *sorted({0, 1, min(MOST, max(1, cores // 2)), min(MOST, cores)} - {ours})]
    ]

    def seconds(setting: Timed) -> float:
        data = replace(bench.data, workers=int(setting.name))
        with closing(_micro_batches(data, UPDATES_OF_WORKERS + 1)) as batches:
            bench.trial.seconds(compute, batches)
            return sum(bench.trial.seconds(compute, batches) for _ in range(UPDATES_OF_WORKERS)) / UPDATES_OF_WORKERS

    time_in_turns(settings, seconds, bench.device, bench.until(WORKERS_UNTIL))
    return settings


def _micro_batches(data: RunData, count: int) -> Generator[Batch]:
    """The run's first ones, the same images each time; closing it ends its workers."""
    updates = -(-count // data.accumulation)
    yield from data.training_batches(first_epoch=0, first_step=0, last_step=updates)


def _time_batch_sizes(bench: Bench, compute: Compute) -> list[Timed]:
    """The run's own, twice, four times, ... as much, as long as there are images, memory and time; then in turns."""
    size, num_images = bench.data.batch_size, len(bench.data.records.indices("train"))
    room, phase = room_bytes(bench.device), trial_phase(bench.config)
    settings: list[Timed] = []
    batches: dict[str, Batch] = {}

    def seconds(setting: Timed) -> float:
        return bench.trial.seconds(compute, iter([batches[setting.name]]))

    while size <= max(bench.data.batch_size, num_images):
        setting = Timed(str(size), {"data.batch_size": str(size)}, size)
        batches[setting.name] = first_batch(phase, replace(bench.data, batch_size=size, accumulation=1))
        time_in_turns([setting], seconds, bench.device, until=0)  # long past: once
        settings.append(setting)
        too_large = setting.peak is not None and room is not None and 2 * setting.peak > MOST_ROOM * room
        too_slow = time.perf_counter() + 4 * setting.median > bench.until(1)  # that is, to warm up and to time
        if too_large or too_slow:
            break
        size *= 2
    fit = [setting for setting in settings if setting.images_per_second]
    while fit and time.perf_counter() + sum(setting.median for setting in fit) < bench.until(1):
        for setting in fit:
            setting.seconds.append(seconds(setting))
    return settings
