"""The quick composing of tests against Hydra's own: the same config, and the same complaints."""

from collections.abc import Iterator
from typing import Any

import pytest
from composed import compose, compose_by_hydra, compose_quickly
from conftest import TINY
from omegaconf import DictConfig, ListConfig

from trainer.inspection.settings import register_check_schema


def described(config: Any, path: str = "") -> Iterator[tuple[Any, ...]]:
    """Each node with its place, kind, raw value, declared type and flags."""
    meta = config._metadata
    whole = isinstance(config, DictConfig | ListConfig)
    value = None if whole and not config._is_none() and not config._is_interpolation() else config._value()
    yield path, type(config), value, meta.ref_type, meta.optional, meta.flags, getattr(meta, "object_type", None)
    if whole and not config._is_none() and not config._is_interpolation():
        for key in config if isinstance(config, DictConfig) else range(len(config)):
            yield from described(config._get_node(key), f"{path}.{key}")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        TINY,
        ["seed=3", "seed=4", "max_minutes=null", "model.weights='a b.safetensors'", "pictures=false"],
        ["task=regression", "data=csv", "data.table=x.csv", "data.covariates=[sex,age]", "model=covariate"],
        ["scheduler.max_lr=1e-2", "scheduler=cosine", "phases.finetune.scheduler.min_lr=${scheduler.max_lr}"],
        ["+scheduler@phases.frozen.scheduler=constant", "phases.frozen.scheduler.lr=0.1", "optimizer=sgd"],
        ["phases.finetune.scheduler={max_lr:1e-3,base_lr:1e-5}", "phases.finetune.scheduler.max_lr=0.5"],
        ["experiment=ceph", "data.table=${oc.env:HOME}", "range_test=on", "data.augmentation.flip=0.5"],
        ["data/augmentation=none", "tracker=tensorboard", "range_test.phases=[finetune]"],
    ],
)
def test_values_and_choices_give_the_config_that_hydra_gives(overrides: list[str]) -> None:
    by_hydra = list(described(compose_by_hydra(*overrides)))
    assert by_hydra == list(described(compose_quickly(*overrides)))
    compose_quickly(*overrides).seed = 99  # a config is its owner's
    assert by_hydra == list(described(compose_quickly(*overrides)))


def test_another_config_is_composed_as_by_hydra() -> None:
    register_check_schema()
    overrides = ["task=classification", "check.tiles=0", "data.workers=0"]
    by_hydra = list(described(compose_by_hydra(*overrides, config="check")))
    assert by_hydra == list(described(compose_quickly(*overrides, config="check")))


@pytest.mark.parametrize(
    "overrides",
    [
        ["+phases.finetune.optimizer.extra=1"],
        ["++seed=1", "seed=2"],
        ["experiment=ceph", "~phases.frozen.scheduler.cycles", "data.table=x.csv"],
    ],
)
def test_what_is_more_than_values_and_choices_is_composed_by_hydra(overrides: list[str]) -> None:
    with pytest.raises(ValueError, match="is left to Hydra"):
        compose_quickly(*overrides)
    assert list(described(compose(*overrides))) == list(described(compose_by_hydra(*overrides)))


@pytest.mark.parametrize(
    "overrides",
    [
        ["scheduler.maxlr=1"],
        ["scheduler=nonsense"],
        ["scheduler=[clr]"],
        ["++scheduler=clr"],
        ["seed=abc"],
        ["seed=1,2"],
        ["seed@phases=1"],
        ["seed=1", "data.workers=[1"],
    ],
)
def test_what_is_wrong_is_told_as_by_hydra(overrides: list[str]) -> None:
    told = []
    for way in (compose_by_hydra, compose):
        try:
            told.append(list(described(way(*overrides))))
        except Exception as error:
            told.append([type(error), str(error), type(error.__cause__), str(error.__cause__)])
    assert told[0] == told[1]
