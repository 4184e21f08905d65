"""From composed YAML to TrainConfig: the schemas that Hydra checks keys and types against, and the laying of phase
changes over the run's scheduler and optimizer."""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # of OmegaConf's own parser

from trainer.config.limits import check_values
from trainer.config.phases import PHASE_NAMES
from trainer.config.refusals import refusal
from trainer.config.run import TrainConfig
from trainer.config.schedules import default_lr
from trainer.config.schemas import SCHEMAS

# Alternatives for one thing: a phase that sets one of them drops the run's others.
STEP_SIZE_KEYS = ("step_size", "step_size_epochs")

# Keys that runs of an earlier trainer have not saved, with values under which they go on as they did.
OF_BEFORE: dict[str, Any] = {
    "profile": False,
    "compile": False,
    "data.disk_cache_gb": 0.0,
    "data.disk_cache_dir": None,
    "tracker": {"kind": "csv"},
    "phases.frozen.cache": {"views": 0, "max_gb": 2.0, "max_disk_gb": 20.0, "half": False},
}


class _LateSchema(ConfigNode):
    """A dataclass in Hydra's store, made a config only where it is loaded: of thirty a run takes ten."""

    def __init__(self, name: str, group: str, schema: type) -> None:
        super().__init__(f"{name}.yaml", node=OmegaConf.create(), group=group, package=None, provider=None)
        self._schema = schema

    def __copy__(self) -> ConfigNode:
        """How the store hands out what it keeps."""
        return ConfigNode(self.name, OmegaConf.structured(self._schema), self.group, self.package, self.provider)


def register_schemas() -> None:
    """Make the schemas, and the resolver of rates that are not given, known to Hydra."""
    OmegaConf.register_new_resolver(
        "default_lr",
        lambda number, of_landmarks=None, *, _root_: default_lr(
            number,
            number if of_landmarks is None else of_landmarks,
            task=_root_.task.kind,
            range_test=_root_.range_test.kind,
        ),
        replace=True,
    )
    schemas = ConfigStore.instance().repo.setdefault("schema", {})
    schemas["run.yaml"] = _LateSchema("run", "schema", TrainConfig)
    for group, kinds in SCHEMAS.items():
        of_group = schemas.setdefault(group, {})
        for kind, schema in kinds.items():
            of_group[f"{kind}.yaml"] = _LateSchema(kind, f"schema/{group}", schema)


def to_train_config(composed: DictConfig, saved: Path | None = None) -> TrainConfig:
    """The typed config of a run; `saved`: the file that it was read from.

    Raises:
        ValueError: one line that names the key and its value.
    """
    try:
        if saved is None and (resumed := composed.get("resume")) is not None:
            saved = Path(str(resumed)) / "config.yaml"
        return _typed(composed, saved)
    except OmegaConfBaseException as error:
        raise ValueError(refusal(error)) from None


def read_config(path: Path) -> DictConfig:
    """The composed config that a run saved; values only, checked again by to_train_config.

    Raises:
        ValueError: the file is no such config. A tag that would have YAML build an object is one reason.
    """
    text = path.read_bytes()
    try:
        loaded = OmegaConf.load(io.StringIO(text.decode()))
        _fill_in(loaded)
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException, OSError, RecursionError) as error:
        where = (
            f", line {error.problem_mark.line + 1}" if isinstance(error, MarkedYAMLError) and error.problem_mark else ""
        )
        reason = error.problem if isinstance(error, MarkedYAMLError) else str(error).splitlines()[0]
        raise ValueError(f"{path}{where}: not the config that a run saves ({reason}); start a new run") from None
    if not isinstance(loaded, DictConfig):
        raise ValueError(f"{path}: not the config that a run saves, which has a key on each line; start a new run")
    return loaded


def _fill_in(loaded: Any) -> None:
    if isinstance(loaded, DictConfig) and "channels_last" in loaded:  # as memory_format was called
        loaded["memory_format"] = "channels_last" if loaded.pop("channels_last") else "contiguous"
    for key, value in OF_BEFORE.items():
        *parents, name = key.split(".")
        holder = loaded
        for parent in parents:
            holder = holder.get(parent) if isinstance(holder, DictConfig) else None
        if isinstance(holder, DictConfig) and name not in holder:
            holder[name] = value


def _typed(composed: DictConfig, saved: Path | None) -> TrainConfig:
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise ValueError(f"{missing[0]} has no value; give it as {missing[0]}=VALUE")
    plain = OmegaConf.to_container(composed, resolve=True)
    check_values(plain)
    resolved = OmegaConf.create(plain)
    assert isinstance(resolved, DictConfig)
    typed = _with_schemas(resolved)
    lacking = sorted(OmegaConf.missing_keys(typed))
    if lacking and saved is not None:
        raise ValueError(
            f"{saved} is of an older trainer: it lacks {lacking[0]}; install the version of trainer that the run's "
            "environment.json names, or start a new run"
        )
    if lacking:
        raise ValueError(f"{lacking[0]} has no value; give it as {lacking[0]}=VALUE")
    for phase in PHASE_NAMES:
        for group in ("scheduler", "optimizer"):
            key = f"phases.{phase}.{group}"
            try:
                typed.phases[phase][group] = OmegaConf.to_object(
                    _lay_over(key, typed[group], typed.phases[phase][group])
                )
            except OmegaConfBaseException as error:
                raise ValueError(refusal(error, below=key)) from None
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
    config = OmegaConf.to_object(typed)
    assert isinstance(config, TrainConfig)
    return config


def _with_schemas(values: DictConfig) -> Any:
    """`values` as structured nodes. Keys of the run's groups are checked against the dataclass that `kind` names."""
    typed = OmegaConf.structured(TrainConfig)
    for group, kinds in SCHEMAS.items():
        typed[group] = OmegaConf.structured(kinds[_kind(group, values)])
    return OmegaConf.merge(typed, values)


def _kind(group: str, values: DictConfig) -> str:
    """The kind of a group, which comes with the group's choice and is not to be set alone."""
    choices = ", ".join(SCHEMAS[group])
    chosen = values.get(group)
    if not isinstance(chosen, DictConfig) or "kind" not in chosen:
        raise ValueError(f"{group} has no kind; choose {group}=CHOICE, one of {choices}")
    kind, keys = chosen.kind, set(chosen)
    if not isinstance(kind, str) or kind not in SCHEMAS[group]:
        raise ValueError(f"{group}.kind={kind} is not one of {choices}; choose it as {group}=CHOICE")
    own, others = (
        [name for name, schema in SCHEMAS[group].items() if ({field.name for field in fields(schema)} == keys) == same]
        for same in (True, False)
    )
    if own and kind in others:
        raise ValueError(
            f"{group}.kind={kind} does not come with the other keys of {group}; choose it as {group}={kind}"
        )
    return kind


def _lay_over(key: str, run_wide: Any, changes: Any) -> Any:
    """The config of `key`, a phase's own: the run's with the phase's changes, or the changes alone where they name
    another kind."""
    group = key.rpartition(".")[2]
    if not isinstance(changes, DictConfig):
        raise ValueError(
            f"it is {changes}, but must be changes such as {key}.kind; another kind is chosen by +{group}@{key}=KIND"
        )
    changes = OmegaConf.create(OmegaConf.to_container(changes))
    kind = changes.get("kind")
    if kind is not None and (not isinstance(kind, str) or kind not in SCHEMAS[group]):
        raise ValueError(f"kind={kind} is not one of {', '.join(SCHEMAS[group])}")
    if kind is not None and kind != run_wide.kind:
        laid = OmegaConf.merge(OmegaConf.structured(SCHEMAS[group][kind]), changes)
        missing = sorted(OmegaConf.missing_keys(laid))
        if missing:
            raise ValueError(f"kind={kind} lacks {missing[0]}; choose it whole with +{group}@{key}={kind}")
        return laid
    laid = OmegaConf.create(OmegaConf.to_container(run_wide))
    if any(name in changes for name in STEP_SIZE_KEYS):
        laid = OmegaConf.merge(laid, dict.fromkeys(STEP_SIZE_KEYS))
    return OmegaConf.merge(OmegaConf.structured(SCHEMAS[group][run_wide.kind]), laid, changes)
