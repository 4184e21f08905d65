"""Whatever is typed or written into a config ends in a run's config or in one line: no traceback, no hang."""

import os
import random
from pathlib import Path
from typing import Any

import hydra
import pytest
from conftest import compose
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from trainer.__main__ import FAULTS
from trainer.config.schemas import known_keys
from trainer.config.store import read_config, to_train_config
from trainer.fault_message import fault_message

# Raising this by the environment gives a longer search: CONFIG_FUZZ=20000.
CASES = int(os.environ.get("CONFIG_FUZZ", "300"))
COMPOSED = FILES = CASES // 10  # of them: composing takes long
SETTINGS = {"derandomize": True, "deadline": None, "suppress_health_check": list(HealthCheck), "database": None}

BASES = (
    ("phases.finetune.scheduler.max_lr=1e-4",),
    ("scheduler=onecycle", "model=coordinates", "data=csv", "data.table=points.csv", "range_test=on"),
    ("task=classification", "data=image_folder", "data.root=photos", "scheduler=cosine", "optimizer=sgd"),
    (
        "task=regression",
        "data=csv",
        "data.table=x.csv",
        "data.covariates=[sex]",
        "model=covariate",
        "scheduler=plateau",
    ),
    ("scheduler=constant", "+scheduler@phases.frozen.scheduler=clr", "range_test=only", "optimizer=adam"),
)
ODD_TEXT = (
    "", " ", "null", "~", "true", "no", "1e3", "1e400", "-0", "0x10", "nan", ".inf", "???", "${seed}", "${oc.env:HOME}",
    "${nokey}", "${", "}", "$", "a b", "größe.csv", "[", "]", "{a", "a=b", "a,b", "#", "it's", '"', "\\", "\\${seed}",
    "a\nb", "\x00", "\x1b[31m", "\ud800", "١٢", "🦷", "-", "---", "- a", "a: b", "!!python/none", "2026-11-22", "auto",
    "none", "x" * 5000, "clr", "cpu", "frozen", "os.system",
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 200), st.integers(), st.sampled_from([2**31, 2**63, -(2**63), 2**64, 10**30, 10**400]), st.floats(),
    st.floats(0, 1), st.sampled_from([-0.0, 0.0, 1e-320, 1e308, 5e-324, 0.1, 1.0]),
)  # fmt: skip
LEAVES = st.one_of(NUMBERS, st.none(), st.booleans(), st.sampled_from(ODD_TEXT), st.text(max_size=8))
VALUES = st.one_of(
    LEAVES,
    LEAVES,
    st.lists(LEAVES, max_size=3),
    st.dictionaries(st.sampled_from(["kind", "max_lr", "epochs", "_target_", "x"]), LEAVES, max_size=3),
)
GROUPS = ("task", "data", "model", "optimizer", "scheduler", "range_test", "phases", "experiment", "data/augmentation")
KEYS = st.one_of(
    st.sampled_from(sorted(known_keys())),
    st.sampled_from(sorted(known_keys())),
    st.sampled_from(GROUPS),
    st.text("abcdeflrx_.@/+~=-0", max_size=8),
)
OVERRIDES = st.one_of(
    st.tuples(
        st.sampled_from(["", "", "", "+", "++", "~"]), KEYS, st.sampled_from(["=", "=", "=", "", " = "]),
        st.one_of(LEAVES.map(str), st.sampled_from(["clr", "csv", "on", "regression", "[1", "(2)", "choice(1,2)"])),
    ).map("".join),
    st.text(max_size=12),
)  # fmt: skip


@pytest.fixture(scope="module")
def bases() -> list[DictConfig]:
    return [OmegaConf.create(OmegaConf.to_container(compose(*overrides))) for overrides in BASES]


def leaf_keys(config: Any, prefix: str = "") -> list[str]:
    """Every key of a config, groups too, as a path."""
    found = []
    for key in config:
        path = f"{prefix}{key}"
        found.append(path)
        if isinstance(config._get_node(key), DictConfig):
            found += leaf_keys(config[key], f"{path}.")
    return found


def ends_well(composed: Any, path: Path) -> bool:
    """Whether a config was accepted; then it is still the same after it was saved and read again."""
    try:
        config = to_train_config(composed)
    except FAULTS as error:
        check_told(error)
        return False
    path.write_text(OmegaConf.to_yaml(composed, resolve=True), encoding="utf-8")
    assert to_train_config(read_config(path)) == config
    return True


def check_told(error: Exception) -> None:
    told = fault_message(error)
    assert told
    assert told.isprintable()
    assert "<locals>" not in told
    assert "object at 0x" not in told


def test_any_values_of_any_keys_are_accepted_or_told_in_a_line(bases: list[DictConfig], tmp_path: Path) -> None:
    keys = [leaf_keys(base) for base in bases]
    accepted = []

    @settings(max_examples=CASES - COMPOSED - FILES, **SETTINGS)
    @given(st.randoms(use_true_random=False), st.lists(VALUES, min_size=1, max_size=3))
    def run(chance: random.Random, values: list[Any]) -> None:
        number = chance.randrange(len(bases))
        plain = OmegaConf.to_container(bases[number])
        for value in values:
            set_at(plain, chance.choice(keys[number]).split("."), value)
        try:
            composed = OmegaConf.create(plain)
        except FAULTS as error:  # a ${ that is not closed
            check_told(error)
            return
        accepted.append(ends_well(composed, tmp_path / "config.yaml"))

    run()
    assert 0.01 * len(accepted) < sum(accepted) < 0.9 * len(accepted)  # neither is the exception


def set_at(plain: Any, parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        plain = plain.get(part) if isinstance(plain, dict) else None
    if isinstance(plain, dict):
        plain[parts[-1]] = value


def test_any_words_on_the_command_line_are_accepted_or_told_in_a_line(tmp_path: Path) -> None:
    with hydra.initialize_config_module("conf", version_base="1.3"):

        @settings(max_examples=COMPOSED, **SETTINGS)
        @given(st.lists(OVERRIDES, min_size=1, max_size=3))
        def run(overrides: list[str]) -> None:
            try:
                composed = hydra.compose("config", overrides=overrides)
            except FAULTS as error:
                check_told(error)
                return
            ends_well(composed, tmp_path / "config.yaml")

        run()


@settings(max_examples=FILES, **SETTINGS)
@given(content=st.one_of(st.text(max_size=60), st.binary(max_size=60)))
def test_any_file_in_the_place_of_a_saved_config_is_told_in_a_line(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with pytest.raises(FAULTS) as caught:
        to_train_config(read_config(path))
    check_told(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        "!!python/object/apply:os.system ['touch ran']",
        "seed: !!python/object/apply:os.system ['touch ran']",
        "seed: !!python/object/new:subprocess.Popen [['touch', 'ran']]",
        "task: !!python/name:os.system",
    ],
)
def test_a_saved_config_runs_nothing(written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(f"{written}\n")
    with pytest.raises(ValueError, match=r"config\.yaml, line 1: not the config that a run saves") as caught:
        read_config(tmp_path / "config.yaml")
    assert fault_message(caught.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+scheduler._target_=os.system", "scheduler._target_ is not a key"),
        ("phases.finetune.scheduler._target_=os.system", "phases.finetune.scheduler._target_ is not a key"),
        ("phases.finetune.scheduler={_target_:os.system,command:touch ran}", "_target_ is not a key"),
        ("task.loss.class_weights=[{_target_:os.system}]", "class_weights"),
        ("model.weights=${os.system:touch ran}", "nothing that can be looked up"),
        ("model.weights=${python:touch}", "nothing that can be looked up"),
    ],
)
def test_values_are_not_run(override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = ["task=classification"] if "class_weights" in override else []
    with pytest.raises(ValueError, match=said):
        to_train_config(compose(*task, override))
    assert list(tmp_path.iterdir()) == []


def test_an_environment_variable_is_text_and_no_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TABLE", "$(touch ran).csv")
    config = to_train_config(compose("data=csv", "data.table=${oc.env:TABLE}"))
    assert vars(config.data)["table"] == "$(touch ran).csv"
    assert list(tmp_path.iterdir()) == []
