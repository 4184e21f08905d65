"""Settings of a sweep: sets of overrides that go together, where a grid of values would not do.

A setting changes the command as it was typed. Where it chooses a group anew (scheduler=constant), keys of that group
that were typed (scheduler.max_lr), and a phase's changes to them (phases.finetune.scheduler.max_lr), are left out: they
belong to the other choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainer.config.phases import PHASE_NAMES
from trainer.config.schedules import AUTO


def checked_settings(settings: Any) -> list[list[str]]:
    """A list of settings without repetitions; one empty setting where none are given.

    Raises:
        ValueError: it is no list of lists of overrides.
    """
    given = [[]] if settings is None else settings
    is_list = isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
    for setting in given if is_list else [None]:
        texts = setting if isinstance(setting, Sequence) and not isinstance(setting, str) else [None]
        if not all(isinstance(text, str) and ("=" in text or text.startswith("~")) for text in texts):
            raise ValueError(
                f"hydra.sweeper.settings={given}: expected a list of settings, each a list of overrides, such as "
                '[[],["scheduler=constant","scheduler.lr=1e-3"]]'
            )
    found: list[list[str]] = []
    for setting in given:
        if list(setting) not in found:
            found.append(list(setting))
    return found


def with_settings(
    settings: Sequence[Sequence[str]], combinations: Sequence[list[str]], config: DictConfig
) -> Iterator[list[str]]:
    """The overrides of every job, each once: each setting with each combination of what was typed.

    `config`: that of the sweep, which tells what phases change of a group.

    Raises:
        ValueError: a key of a group that a setting chooses anew has several values.
    """
    yielded: set[tuple[str, ...]] = set()
    for setting in settings:
        chosen = {_key(text) for text in setting}
        groups = [key for key in chosen if "." not in key and isinstance(OmegaConf.select(config, key), DictConfig)]
        for group in groups:
            _check_one_value(group, combinations)
        taken_out = [
            f"~phases.{phase}.{group}.{key!s}"
            for phase in PHASE_NAMES
            for group in groups
            if isinstance(changes := OmegaConf.select(config, f"phases.{phase}.{group}"), DictConfig)
            for key in changes
        ]
        below = tuple(f"{group}." for group in groups)
        for combination in combinations:
            kept = [text for text in combination if _key(text) not in chosen and not _key(text).startswith(below)]
            job = [*kept, *taken_out, *setting]
            if tuple(job) not in yielded:
                yielded.add(tuple(job))
                yield job


def middle_rate(low: float | str, high: float | str) -> float | str:
    """The geometric mean of two rates, to three digits; `auto` where a range test is to find them."""
    if isinstance(low, str) or isinstance(high, str):
        return AUTO
    return float(f"{math.sqrt(low * high):.3g}")


def _check_one_value(group: str, combinations: Sequence[list[str]]) -> None:
    """Raises ValueError where a key of the group, or a phase's changes to it, take several values in the sweep."""
    changes = [f"phases.{phase}.{group}" for phase in PHASE_NAMES]
    whole = (*changes, *(f"{group}@{change}" for change in changes))
    below = (f"{group}.", *(f"{change}." for change in changes))
    first: dict[str, str] = {}
    for text in (text for combination in combinations for text in combination):
        key = _key(text)
        if (key in whole or key.startswith(below)) and first.setdefault(key, text) != text:
            values = " and ".join(each.partition("=")[2] for each in (first[key], text))
            raise ValueError(
                f"{key} has several values ({values}) where a setting of the sweep chooses {group} anew; "
                "give it one value; the settings follow it"
            )


def _key(override: str) -> str:
    return override.lstrip("+").partition("=")[0]
