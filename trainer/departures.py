"""In what the config of a run departs from the defaults: which choices, and which values within them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from trainer.config.changes import differing_keys
from trainer.config.schemas import SCHEMAS

NO_DEPARTURE = ("resume", "sweep.resume")  # they say where a run goes on, not what it is


def departures(config: DictConfig, chosen_by_run: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """Key, default and value here: the choices of groups first, then every key whose value is not its choice's own, but
    for those that were `auto` and that the run chose."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else hydra.initialize_config_module("conf", version_base="1.3"):
        plain = _default()
        chosen = {group: config[group].kind for group in SCHEMAS if config[group].kind != plain[group].kind}
        # A choice of somebody's own may be called otherwise than its kind: then each of its keys is told.
        loader = GlobalHydra.instance().config_loader()
        offered = [group for group, kind in chosen.items() if kind in loader.get_group_options(group)]
        default = _default(*(f"{group}={chosen[group]}" for group in offered))
    choices = [(group, plain[group].kind, kind) for group, kind in chosen.items()]
    told = {*NO_DEPARTURE, *chosen_by_run, *(f"{group}.kind" for group in chosen)}
    values = [(key, was, now) for key, (was, now) in differing_keys(default, config).items() if key not in told]
    return [(key, _shown(was), _shown(now)) for key, was, now in choices + values]


@cache  # the jobs of a sweep ask for the same
def _default(*choices: str) -> DictConfig:
    return hydra.compose("config", overrides=list(choices))


def _shown(value: Any) -> str:
    """As it is typed; a dash for none."""
    if value is None or value == "???":
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}".replace("e-0", "e-")
    return f"[{','.join(map(_shown, value))}]" if isinstance(value, list) else str(value)
