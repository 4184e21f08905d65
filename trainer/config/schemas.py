"""Which dataclass each choice of a group is checked against, and with that every key that a run has."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from trainer.config.data import CsvConfig, ImageFolderConfig, PhantomConfig
from trainer.config.label_tasks import ClassificationTaskConfig, RegressionTaskConfig
from trainer.config.models import ClassifierConfig, CoordinatesConfig, CovariateConfig, HeatmapConfig
from trainer.config.phases import AdamConfig, SgdConfig
from trainer.config.range_test import RangeTestConfig
from trainer.config.run import TrainConfig
from trainer.config.schedules import (
    ClrConfig,
    ConstantConfig,
    CosineConfig,
    OneCycleConfig,
    PlateauConfig,
)
from trainer.config.tasks import LandmarkTaskConfig
from trainer.config.trackers import CsvTrackerConfig, MlflowConfig, TensorBoardConfig, WandbConfig

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
    "tracker": {
        "csv": CsvTrackerConfig,
        "tensorboard": TensorBoardConfig,
        "mlflow": MlflowConfig,
        "wandb": WandbConfig,
    },
    "range_test": {"on": RangeTestConfig, "only": RangeTestConfig, "off": RangeTestConfig},
}


@cache
def known_keys() -> dict[str, Any]:
    """Every key of every choice, such as data.table, with the type of its values."""
    found = _keys_of(TrainConfig)
    for group, kinds in SCHEMAS.items():
        for schema in kinds.values():
            found |= _keys_of(schema, f"{group}.")
    return found


def takes_list(key: str) -> bool:
    return "list" in str(known_keys().get(key, ""))


def takes_text(key: str) -> bool:
    """Whether any text may be a value of `key`; so, too, where the key is not known."""
    return known_keys().get(key, str) in (str, str | None)


def choices_with(key: str) -> list[str]:
    """The choices, such as data=csv, that have this key where others of their group don't."""
    group, _, rest = key.partition(".")
    return [f"{group}={kind}" for kind, schema in SCHEMAS.get(group, {}).items() if rest in _keys_of(schema)]


def nearest_keys(key: str, own: Sequence[str] = ()) -> list[str]:
    """Up to three keys that may have been meant by `key`: of `own` (its neighbours) first, then of the same or nearly
    the same last word anywhere."""
    parent, _, word = key.rpartition(".")
    plain = {_plain(name): name for name in own}
    found = [f"{parent}.{plain[near]}".strip(".") for near in difflib.get_close_matches(_plain(word), plain, n=2)]
    words = {name: _plain(name.rpartition(".")[2]) for name in known_keys()}
    found += [name for name, last in words.items() if last == _plain(word)]
    if not found:
        near_words = difflib.get_close_matches(_plain(word), set(words.values()), n=2, cutoff=0.75)
        found += [name for near in near_words for name, last in words.items() if last == near]
    return list(dict.fromkeys(found))[:3]


def _keys_of(schema: type, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    hints = get_type_hints(schema)
    for name in [field.name for field in fields(schema)]:
        kind = hints[name]
        found[prefix + name] = kind
        if is_dataclass(kind) and isinstance(kind, type):
            found |= _keys_of(kind, f"{prefix}{name}.")
    return found


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
