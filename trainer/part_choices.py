"""How a class of somebody's own becomes a choice for Hydra: a schema, the values of its keys, its defaults list."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config.data import DataConfig
from trainer.config.label_task import LabelTaskConfig
from trainer.config.models import HeatmapModelConfig, LabelModelConfig, LandmarkModelConfig
from trainer.config.phases import OptimizerConfig
from trainer.config.schedules import RATE_KEYS
from trainer.config.schemas import SCHEMAS, known_keys

# The choice whose YAML has the values of keys that such a class takes over and gives no default.
_USUAL: tuple[tuple[type, str], ...] = (
    (HeatmapModelConfig, "model/heatmap"),
    (LandmarkModelConfig, "model/coordinates"),
    (LabelModelConfig, "model/classifier"),
    (DataConfig, "data/csv"),
    (OptimizerConfig, "optimizer/adamw"),
    (LabelTaskConfig, "task/regression"),
)
# Further entries of the defaults list of a choice.
_DEFAULTS: tuple[tuple[type, Any], ...] = (
    (DataConfig, {"augmentation": "standard"}),
    (LabelTaskConfig, {"override /model@_global_.model": "classifier"}),
)


def store_choice(group: str, name: str, given: type) -> None:
    """Make `given`, which becomes a dataclass if it is none yet, the choice `name` of a group.

    Raises ValueError for a field that the command line can't give.
    """
    if "__dataclass_fields__" not in vars(given):
        dataclass(kw_only=True)(given)
    assert is_dataclass(given)
    try:
        OmegaConf.structured(given)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(
            f"{given.__name__} has a field that the command line can't give ({reason}); a field is bool, int, float, "
            "str, a list of these, another dataclass, or Any"
        ) from None
    values: dict[str, Any] = {"kind": name}
    usual = _usual_values(group, given)
    for field in fields(given):
        if field.default is MISSING and field.default_factory is MISSING:
            if field.name in usual and field.name != "kind":
                values[field.name] = usual[field.name]
        elif group == "scheduler" and field.name in RATE_KEYS and str(field.type) in ("Any", "Rate", str(Any)):
            values[field.name] = f"${{default_lr:{field.default}}}"
    SCHEMAS[group][name] = given
    known_keys.cache_clear()
    store = ConfigStore.instance()
    store.store(group=f"schema/{group}", name=name, node=given)
    further = [entry for base, entry in _DEFAULTS if issubclass(given, base)]
    store.store(
        group=group,
        name=name,
        node={
            "defaults": [f"/schema/{group}/{name}@_here_", *_before_self(further), "_self_", *_overrides(further)],
            **values,
        },
    )


def _before_self(entries: list[Any]) -> list[Any]:
    return [entry for entry in entries if not _overrides([entry])]


def _overrides(entries: list[Any]) -> list[Any]:
    return [entry for entry in entries if next(iter(entry)).startswith("override ")]


def _usual_values(group: str, given: type) -> dict[str, Any]:
    """The values of the choice that the class is of: one that it inherits from, or that is usual for its kind."""
    choices = {schema: f"{group}/{name}" for name, schema in reversed(SCHEMAS[group].items())}
    of = next((choices[parent] for parent in given.__mro__[1:] if parent in choices), None)
    of = of or next((usual for base, usual in _USUAL if issubclass(given, base)), None)
    if of is None:
        return {}
    inherited = {
        field.name
        for parent in given.__mro__[1:]
        if parent.__module__.startswith("trainer.") and is_dataclass(parent)
        for field in fields(parent)
    }
    redone = {
        name
        for parent in given.__mro__
        if not parent.__module__.startswith("trainer.")
        for name in vars(parent).get("__annotations__", ())
    }
    return {key: value for key, value in _values_of(of).items() if key in inherited - redone}


@cache
def _values_of(choice: str) -> dict[str, Any]:
    loaded = OmegaConf.create((files("conf") / f"{choice}.yaml").read_text(encoding="utf-8"))
    values = OmegaConf.to_container(loaded, resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "defaults" and value != "???"}
