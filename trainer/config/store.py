"""From composed YAML to TrainConfig: the schemas that Hydra checks keys and types against, and the laying of phase
changes over the run's scheduler and optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config.data import CsvConfig, ImageFolderConfig, PhantomConfig
from trainer.config.label_tasks import ClassificationTaskConfig, RegressionTaskConfig
from trainer.config.models import ClassifierConfig, CoordinatesConfig, CovariateConfig, HeatmapConfig
from trainer.config.phases import PHASE_NAMES, AdamConfig, SgdConfig
from trainer.config.range_test import RangeTestConfig
from trainer.config.run import TrainConfig
from trainer.config.schedules import (
    ClrConfig,
    ConstantConfig,
    CosineConfig,
    OneCycleConfig,
    PlateauConfig,
    default_lr,
)
from trainer.config.tasks import LandmarkTaskConfig

SCHEMAS: dict[str, dict[str, type]] = {
    "task": {
        "landmarks": LandmarkTaskConfig,
        "classification": ClassificationTaskConfig,
        "regression": RegressionTaskConfig,
    },
    "data": {"phantom": PhantomConfig, "csv": CsvConfig, "image_folder": ImageFolderConfig},
    "model": {
        "heatmap": HeatmapConfig,
        "coordinates": CoordinatesConfig,
        "classifier": ClassifierConfig,
        "covariate": CovariateConfig,
        "attention_covariate": CovariateConfig,
    },
    "optimizer": {"adamw": AdamConfig, "adam": AdamConfig, "sgd": SgdConfig},
    "scheduler": {
        "clr": ClrConfig,
        "onecycle": OneCycleConfig,
        "cosine": CosineConfig,
        "constant": ConstantConfig,
        "plateau": PlateauConfig,
    },
    "range_test": {"on": RangeTestConfig, "only": RangeTestConfig, "off": RangeTestConfig},
}

# Alternatives for one thing: a phase that sets one of them drops the run's others.
STEP_SIZE_KEYS = ("step_size", "step_size_epochs")


def register_schemas() -> None:
    """Make the schemas, and the resolver of rates that are not given, known to Hydra."""
    OmegaConf.register_new_resolver(
        "default_lr", lambda number, _root_: default_lr(number, _root_.range_test.kind), replace=True
    )
    store = ConfigStore.instance()
    store.store(group="schema", name="run", node=TrainConfig)
    for group, kinds in SCHEMAS.items():
        for kind, schema in kinds.items():
            store.store(group=f"schema/{group}", name=kind, node=schema)


def to_train_config(composed: DictConfig) -> TrainConfig:
    """The typed config of a run.

    Raises:
        ValueError: one line that names the key and its value.
    """
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise ValueError(f"{missing[0]} has no value; give it as {missing[0]}=VALUE")
    resolved = OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
    assert isinstance(resolved, DictConfig)
    typed = _with_schemas(resolved)
    for phase in PHASE_NAMES:
        for group in ("scheduler", "optimizer"):
            try:
                laid = _lay_over(group, typed[group], typed.phases[phase][group])
                typed.phases[phase][group] = OmegaConf.to_object(laid)
            except (ValueError, OmegaConfBaseException) as error:
                raise ValueError(f"phases.{phase}.{group}: {str(error).splitlines()[0]}") from None
    config = OmegaConf.to_object(typed)
    assert isinstance(config, TrainConfig)
    return config


def read_config(path: Path) -> DictConfig:
    """The composed config that a run saved; values only, checked again by to_train_config."""
    loaded = OmegaConf.load(path)
    assert isinstance(loaded, DictConfig)
    return loaded


def _with_schemas(values: DictConfig) -> Any:
    """`values` as structured nodes. Keys of the run's groups are checked against the dataclass that `kind` names."""
    typed = OmegaConf.structured(TrainConfig)
    for group, kinds in SCHEMAS.items():
        typed[group] = OmegaConf.structured(kinds[values[group].kind])
    return OmegaConf.merge(typed, values)


def _lay_over(group: str, run_wide: Any, changes: Any) -> Any:
    """The phase's own config: the run's with the phase's changes, or the changes alone where they name another kind."""
    changes = OmegaConf.create(OmegaConf.to_container(changes))
    kind = changes.get("kind")
    if kind is not None and kind not in SCHEMAS[group]:
        raise ValueError(f"kind={kind} is not one of {', '.join(SCHEMAS[group])}")
    if kind is not None and kind != run_wide.kind:
        laid = OmegaConf.merge(OmegaConf.structured(SCHEMAS[group][kind]), changes)
        missing = sorted(OmegaConf.missing_keys(laid))
        if missing:
            raise ValueError(
                f"kind={kind} lacks {missing[0]}; choose it whole with {group}@phases.<phase>.{group}={kind}"
            )
        return laid
    laid = OmegaConf.create(OmegaConf.to_container(run_wide))
    if any(key in changes for key in STEP_SIZE_KEYS):
        laid = OmegaConf.merge(laid, dict.fromkeys(STEP_SIZE_KEYS))
    return OmegaConf.merge(OmegaConf.structured(SCHEMAS[group][run_wide.kind]), laid, changes)
