"""What `precision=auto` and `memory_format=auto` come to: what a trial finds fastest, of what there are units for."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

from trainer.config.run import TrainConfig
from trainer.device import Compute, has_bf16_units
from trainer.growth import scaled_size
from trainer.loop import UpdateRule
from trainer.phases import Phase
from trainer.planning import cut_to_steps, planned_steps
from trainer.run_data import RunData
from trainer.state import TrainState
from trainer.tuning.remembered import Remembered
from trainer.tuning.updates import trial_phase, update_trial

Value = TypeVar("Value")

LARGEST_SHARE = 0.05  # of the run's work, that a trial may cost
LEAST_GAIN = 0.1  # by which another setting has to be faster than fp32 in channels_last; less may be noise
HOPELESS = 1.25  # times the fastest: what is slower than that after a round is not timed again
ROUNDS = 3
MOST_SPREAD = 1.5  # of a setting's slowest update to its fastest; where it is more, the machine is busy
FROZEN_SHARE = 1 / 3  # of an update, that one of a frozen phase costs: the backbone's forward pass alone
AUTO_KEYS = ("precision", "memory_format")


@dataclass(frozen=True)
class Choice:
    """What a run computes in. `overrides` has what was `auto`, as if it had been typed; `noted` says, as JSON, how it
    was chosen, and `told` says it to the person who waits: nothing where nothing was to be chosen."""

    compute: Compute
    overrides: list[str] = field(default_factory=list)
    noted: dict[str, Any] = field(default_factory=dict)
    told: str = ""

    @property
    def values(self) -> dict[str, Any]:
        return {key: getattr(self.compute, key) for key in AUTO_KEYS}

    def typed(self, overrides: list[str]) -> list[str]:
        """`overrides` with what was chosen in the place of `auto`: with these, the same is run without a trial."""
        autos = [f"{key}=auto" for key in AUTO_KEYS]
        return [text for text in overrides if text.lstrip("+") not in autos] + self.overrides


@dataclass(frozen=True)
class Timings:
    """Seconds of each setting's updates, infinite where memory did not suffice; none where a trial would not pay."""

    rounds: dict[str, list[float]] = field(default_factory=dict)
    why_none: str = ""

    @property
    def fastest(self) -> dict[str, float]:
        """Each setting's fastest update, which the machine's other work disturbed least."""
        return {name: min(seconds) for name, seconds in self.rounds.items()}

    @property
    def steady(self) -> bool:
        """Whether the rounds agree, so that they say something of the next run too."""
        return all(max(seconds) <= MOST_SPREAD * min(seconds) for seconds in self.rounds.values())


def choose(
    config: TrainConfig, state: TrainState, data: RunData, rule: UpdateRule, deadline: float | None = None
) -> Choice:
    """What a run under `config` computes in, and in which layout its weights then are. `deadline`, on
    time.perf_counter's clock, is that of `max_minutes`.

    A trial leaves no trace in `state`; of several processes the first decides.
    """
    choice = _chosen(config, state, data, rule, deadline)
    choice.compute.place(state.model)
    if state.ema is not None:
        choice.compute.place(state.ema)
    return choice


def _chosen(config: TrainConfig, state: TrainState, data: RunData, rule: UpdateRule, deadline: float | None) -> Choice:
    keys = [key for key in AUTO_KEYS if getattr(config, key) == "auto"]
    settings = {name_of(compute): compute for compute in alternatives(config, rule.compute.device)}
    if not keys:
        return _choice(rule.compute, keys, "as given", {}, "")
    if len(settings) == 1:
        how = f"there are no units for bf16 on this {rule.compute.device.type}"
        return _choice(rule.compute, keys, how, {}, how)

    phase = trial_phase(config)
    memory = memory_of(config, state, rule)
    held = _same(rule, memory.recall())
    if held is not None and held.get("taken") in settings and isinstance(held.get("update_ms"), dict):
        how = f"timed {held.get('timed')} and remembered"
        return _choice(settings[held["taken"]], keys, how, held["update_ms"], _told(held["update_ms"], how))

    timings = _same(rule, _measured(phase, config, state, data, rule, list(settings.values()), deadline))
    if not timings.rounds:
        return _choice(rule.compute, keys, timings.why_none, {}, timings.why_none)
    taken = fastest(timings.fastest)
    update_ms = {name: round(1000 * one, 1) if math.isfinite(one) else None for name, one in timings.fastest.items()}
    how = "timed in this run"
    try:
        if not timings.steady:
            how += ", and not remembered: the machine is busy, and the rounds differ"
        elif rule.sharing is None or rule.sharing.ranks.rank == 0:
            memory.keep({"taken": taken, "update_ms": update_ms, "timed": f"{datetime.now(UTC):%Y-%m-%d}"})
    except OSError as error:
        how += f", and not remembered: {error}"
    return _choice(settings[taken], keys, how, update_ms, _told(update_ms, how))


def alternatives(config: TrainConfig, device: torch.device) -> list[Compute]:
    """The settings that `auto` may come to, first the one that it comes to where nothing is faster."""
    precisions, formats = [config.precision], [config.memory_format]
    if config.precision == "auto":
        precisions = ["fp32", "bf16"] if has_bf16_units(device) else ["fp32"]
    if config.memory_format == "auto":
        formats = ["channels_last", "contiguous"]
    # Both turned at once is never the fastest: the units for bf16 want their channels last.
    pairs = [(precisions[0], memory_format) for memory_format in formats] + [
        (one, formats[0]) for one in precisions[1:]
    ]
    return [Compute(device, *pair) for pair in pairs]


def name_of(compute: Compute) -> str:
    return f"{compute.precision} {compute.memory_format}"


def fastest(seconds: dict[str, float]) -> str:
    """The first, unless another one takes less time than that by more than noise does."""
    first, best = next(iter(seconds)), min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] < (1 - LEAST_GAIN) * seconds[first] else first


def _measured(
    phase: Phase,
    config: TrainConfig,
    state: TrainState,
    data: RunData,
    rule: UpdateRule,
    settings: list[Compute],
    deadline: float | None,
) -> Timings:
    """Each setting's fastest update of up to three rounds, as far as that is a small share of the run."""
    planned = planned_steps(config, data.updates_per_epoch)
    planned = planned if config.max_steps is None else cut_to_steps(planned, config.max_steps)
    batches = (planned["finetune"] + FROZEN_SHARE * planned["frozen"]) * config.accumulation
    least = 2 * len(settings)
    too_short = f"untimed, for a trial of {least} updates is more than {LARGEST_SHARE:.0%} of the run"
    if LARGEST_SHARE * batches < least:
        return Timings(why_none=too_short)
    if data.batch_size < 2 * data.part.count:
        return Timings(why_none="untimed, for a batch of one image can't be")
    begun = time.perf_counter()
    with update_trial(phase, config, state, data, rule) as trial:
        first = trial.seconds(settings[0])
        work = batches * first if deadline is None else min(batches * first, deadline - begun)
        if LARGEST_SHARE * work < least * first:
            return Timings(why_none=too_short)
        for setting in settings[1:]:
            trial.seconds(setting)
        timings = Timings({name_of(setting): [] for setting in settings})
        running = settings
        for _ in range(ROUNDS):
            for setting in running:
                timings.rounds[name_of(setting)].append(trial.seconds(setting))
            best = timings.fastest
            running = [one for one in running if best[name_of(one)] < HOPELESS * min(best.values())]
            if len(running) < 2 or time.perf_counter() - begun > LARGEST_SHARE * work:
                break
    return timings


def memory_of(config: TrainConfig, state: TrainState, rule: UpdateRule) -> Remembered:
    """Where the answer is kept: the question is whatever decides how long an update takes."""
    phase = trial_phase(config)
    question = {
        "settings": [name_of(compute) for compute in alternatives(config, rule.compute.device)],
        "torch": str(torch.__version__),
        "grouped convolutions": "gradients in float32",  # answers from before that do not hold
        "device": device_name(rule.compute.device),
        "threads": torch.get_num_threads(),
        "processes": 1 if rule.sharing is None else rule.sharing.ranks.count,
        "model": asdict(config.model),
        "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
        "input_size": scaled_size(config.data.input_size, phase.input_scales[-1]),
        "batch_size": config.data.batch_size,
        "phase": [phase.name, phase.batch_norm],
        "optimizer": asdict(getattr(config.phases, phase.name).optimizer),
        "task": config.task.kind,
    }
    return Remembered("precision", question)


def device_name(device: torch.device) -> str:
    """The kind of device, as far as it decides how fast it is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = platform.processor() or platform.machine()
    told = Path("/proc/cpuinfo")
    if told.is_file():
        lines = told.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [
            line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags", "Features"))
        ]
        cpu = " ".join(dict.fromkeys(kept)) or cpu
    return f"{device.type} {cpu}"


def _choice(compute: Compute, keys: list[str], how: str, update_ms: dict[str, float | None], why: str) -> Choice:
    noted = {key: getattr(compute, key) for key in AUTO_KEYS} | {"auto": keys, "how": how, "update_ms": update_ms}
    chosen = ", ".join(f"{key}={getattr(compute, key)}" for key in keys)
    return Choice(
        compute,
        [f"{key}={getattr(compute, key)}" for key in keys],
        noted,
        f"auto: {chosen} ({why})" if keys else "",
    )


def _told(update_ms: dict[str, float | None], how: str) -> str:
    parts = [f"{name} {'out of memory' if one is None else f'{one:.0f} ms'}" for name, one in update_ms.items()]
    return f"per update {', '.join(parts)}; {how}"


def _same(rule: UpdateRule, value: Value) -> Value:
    """What the first process has, where several train."""
    return value if rule.sharing is None else rule.sharing.ranks.same(value)
