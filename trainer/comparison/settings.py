"""Settings: runs that differ in nothing but their seed, named by what tells them from the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.comparison.runs import PATH_KEYS, LeftOut, Run

# These make no setting: the seed, keys that say only where, how fast and with which pictures a run was made, and paths:
# they lead to the same data in all runs that are compared, however they are typed.
NO_SETTING = (
    "seed", "resume", "sweep.resume", "device", "data.workers", "data.cache_gb", "data.disk_cache_gb",
    "data.disk_cache_dir", "pictures", "profile", "checkpoint.every_steps", "checkpoint.every_minutes",
    "task.num_overlays", "task.num_samples", *PATH_KEYS,
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Runs under one config, by seed."""

    name: str
    values: Mapping[str, Any]  # of the keys in which settings differ; a key that the setting does not have is not here
    runs: Mapping[int, Run]  # at least one


def find_settings(runs: Sequence[Run]) -> tuple[list[Setting], list[LeftOut]]:
    """The settings in the order of their first runs, and the runs whose setting and seed a later run has too."""
    keys = sorted({key for run in runs for key in run.config if key not in NO_SETTING})
    differing = [key for key in keys if len({_text(run.config, key) for run in runs}) > 1]
    grouped: dict[tuple[str | None, ...], dict[int, Run]] = {}
    repeated = []
    for run in runs:
        same = grouped.setdefault(tuple(_text(run.config, key) for key in differing), {})
        if run.seed in same:
            repeated.append(LeftOut(same[run.seed].path, f"the same setting and seed as {run.path}"))
        same[run.seed] = run
    telling = _telling(differing, list(grouped))
    settings = []
    for group in grouped.values():
        config = next(iter(group.values())).config
        values = {_shown_key(key): config[key] for key in differing if key in config}
        settings.append(Setting(_name(telling, config), values, dict(sorted(group.items()))))
    return settings, repeated


def _telling(keys: Sequence[str], groups: Sequence[tuple[str | None, ...]]) -> list[str]:
    """Of the differing keys as few as tell all groups apart: those that all have, choices of a kind, the least nested
    first."""

    def order(place: int) -> tuple[bool, bool, int, str]:
        key = keys[place]
        return any(group[place] is None for group in groups), not key.endswith(".kind"), key.count("."), key

    chosen: list[int] = []
    told_apart = 1
    for place in sorted(range(len(keys)), key=order):
        now = len({tuple(group[i] for i in [*chosen, place]) for group in groups})
        if now > told_apart:
            chosen.append(place)
            told_apart = now
    return [keys[place] for place in chosen]


def _name(telling: Sequence[str], config: Mapping[str, Any]) -> str:
    parts = [f"{_shown_key(key)}={shown_value(config[key])}" for key in telling if key in config]
    if parts:
        return " ".join(parts)
    return f"no {_shown_key(telling[0])}" if telling else "all runs"


def shown_value(value: Any) -> str:
    """As it is typed on the command line."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.6g}".replace("e-0", "e-")
    return f"[{','.join(shown_value(child) for child in value)}]" if isinstance(value, list) else str(value)


def _shown_key(key: str) -> str:
    """scheduler.kind is chosen as scheduler=..."""
    return key.removesuffix(".kind")


def _text(config: Mapping[str, Any], key: str) -> str | None:
    """None where the config has no such key; 1 and 1.0 are the same."""
    if key not in config:
        return None
    value = config[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(float(value) if number else value)
