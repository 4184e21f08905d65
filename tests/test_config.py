"""The config: values in YAML with a comment each, types and combinations checked in one line that names the key."""

import re
from pathlib import Path

import pytest
from conftest import compose
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from trainer.arguments import check_arguments
from trainer.config.changes import check_resumable, differing_keys
from trainer.config.schedules import ClrConfig, ConstantConfig
from trainer.config.schemas import SCHEMAS
from trainer.config.store import to_train_config
from trainer.config.without_effect import options_without_effect

CONF = Path(__file__).parents[1] / "conf"
# What a choice needs beside it.
NEEDED = {
    "data=csv": ["data.table=points.csv"],
    "data=image_folder": ["task=classification", "data.root=photos"],
    "model=classifier": ["task=classification"],
    "model=covariate": ["task=classification", "data.covariates=[sex]"],
    "model=attention_covariate": ["task=classification"],
    "experiment=ceph": ["data.table=points.csv"],
    "experiment=ceph_long": ["data.table=points.csv"],
    "experiment=faces68": ["data.table=points.csv"],
    "experiment=boneage": ["data.table=labels.csv"],
    "experiment=hymenoptera": ["data.root=photos"],
}


@pytest.mark.parametrize("choice", [f"{path.parent.name}={path.stem}" for path in sorted(CONF.glob("*/*.yaml"))])
def test_every_choice_of_every_group_composes_and_is_valid(choice: str) -> None:
    to_train_config(compose(choice, *NEEDED.get(choice, ())))


@pytest.mark.parametrize("recipe", ["ceph", "faces68"])
@pytest.mark.parametrize(("kind", "without"), [("cosine", ["cycles"]), ("constant", ["cycles", "max_lr"])])
def test_the_recipes_of_landmarks_take_other_schedulers(recipe: str, kind: str, without: list[str]) -> None:
    out = [f"~phases.{phase}.scheduler.{key}" for phase in ("frozen", "finetune") for key in without]
    given = [f"experiment={recipe}", f"scheduler={kind}", "data.table=points.csv", *out]
    config = to_train_config(compose(*given))
    assert config.phases.finetune.scheduler.kind == kind


@pytest.mark.parametrize("path", sorted(CONF.glob("[!e]*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_option_says_what_it_is_on_its_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    options = [line for line in lines if re.match(r" *\w+: ", line) and not re.match(r"(defaults|kind):", line)]
    assert [line for line in options if " # " not in line] == []


def test_kinds_in_yaml_have_a_schema_each() -> None:
    for group, kinds in SCHEMAS.items():
        assert {path.stem for path in (CONF / group).glob("*.yaml")} == set(kinds)


def test_phases_take_the_runs_scheduler_with_changes_of_their_own() -> None:
    config = to_train_config(compose("scheduler.max_lr=0.02", "phases.finetune.scheduler.max_lr=5e-4"))
    frozen, finetune = config.phases.frozen.scheduler, config.phases.finetune.scheduler
    assert isinstance(frozen, ClrConfig)
    assert (frozen.max_lr, finetune.max_lr) == (0.02, 5e-4)
    assert frozen.base_lr == finetune.base_lr == 1e-4


def test_a_phase_can_have_another_kind_of_schedule_and_optimizer() -> None:
    config = to_train_config(
        compose("+scheduler@phases.frozen.scheduler=constant", "phases.finetune.optimizer.weight_decay=0.3")
    )
    assert isinstance(config.phases.frozen.scheduler, ConstantConfig)
    assert isinstance(config.phases.finetune.scheduler, ClrConfig)
    assert config.phases.finetune.optimizer.weight_decay == 0.3
    assert config.phases.frozen.optimizer.weight_decay == 0.01


def test_a_phases_step_size_replaces_the_runs_whichever_way_that_was_given() -> None:
    config = to_train_config(compose("scheduler.step_size_epochs=2", "phases.finetune.scheduler.step_size=50"))
    assert config.phases.frozen.scheduler.step_size_epochs == 2
    assert (config.phases.finetune.scheduler.step_size, config.phases.finetune.scheduler.step_size_epochs) == (50, None)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["scheduler.maxlr=1"], "scheduler.maxlr"),
        (["nonsense=1"], "nonsense"),
        (["data=folder"], "data/folder"),
        (["seed=abc"], "seed"),
    ],
)
def test_unknown_keys_choices_and_types_are_refused_while_composing(overrides: list[str], said: str) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException), match=re.escape(said)):
        compose(*overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["scheduler.base_lr=0.5"], "scheduler.base_lr=0.5"),
        (["scheduler.mode=sine"], "sine"),
        (["scheduler.step_size=0"], "scheduler.step_size=0"),
        (["scheduler.step_size=5", "scheduler.step_size_epochs=1"], "scheduler.step_size_epochs=1.0"),
        (["scheduler.cycles=null"], "scheduler.cycles=null"),
        (["scheduler.decay_base=true"], "scheduler.decay_base"),
        (["phases.finetune.scheduler.max_lr=1e-9"], "phases.finetune.scheduler: scheduler.base_lr=0.0001"),
        (["phases.finetune.scheduler.maxlr=1e-3"], "maxlr"),
        (["phases.finetune.scheduler.kind=onecycle"], "kind=onecycle"),
        (["phases.finetune.scheduler.kind=steps"], "kind=steps"),
        (["phases.frozen.epochs=-1"], "phases.frozen.epochs=-1"),
        (["phases.frozen.epochs=0", "phases.finetune.epochs=0"], "nothing to train"),
        (["phases.finetune.batch_norm=off"], "phases.finetune.batch_norm=off"),
        (["optimizer.betas=[0.9]"], "optimizer.betas=[0.9]"),
        (["optimizer.weight_decay=-1"], "optimizer.weight_decay=-1"),
        (["precision=fp8"], "precision=fp8"),
        (["memory_format=nchw"], "memory_format=nchw"),
        (["precision=fp16", "device=cpu"], "precision=fp16"),
        (["device=tpu"], "device=tpu"),
        (["data.input_width=102"], "data.input_width=102"),
        (["data.fit=crop"], "data.fit=crop"),
        (["data.val_fraction=0.7", "data.test_fraction=0.4"], "data.val_fraction=0.7"),
        (["data.augmentation.flip=0.5"], "data.augmentation.flip_pairs"),
        (["data.batch_size=0"], "data.batch_size=0"),
        (["data=csv"], "data.table"),
        (["model.stride=3"], "model.stride=3"),
        (["model=coordinates", "task.loss.points_weight=0"], "task.loss.points_weight"),
        (["task.nme=pair"], "task.nme_landmarks"),
        (["task.sdr_thresholds=[]"], "task.sdr_thresholds=[]"),
        (["ema_decay=1"], "ema_decay=1"),
        (["accumulation=0"], "accumulation=0"),
        (["max_minutes=0"], "max_minutes=0"),
        (["seed=-1"], "seed=-1"),
    ],
)
def test_bad_values_and_combinations_are_refused_in_one_line_that_names_the_key(
    overrides: list[str], said: str
) -> None:
    with pytest.raises((ValueError, OmegaConfBaseException)) as caught:
        to_train_config(compose(*overrides))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_differing_keys_are_named_with_both_values() -> None:
    saved, asked = compose("seed=1"), compose("seed=2", "phases.finetune.scheduler.max_lr=0.1", "data.workers=2")
    assert differing_keys(saved, asked) == {
        "seed": (1, 2),
        "data.workers": (None, 2),
        "phases.finetune.scheduler.max_lr": (None, 0.1),
    }


def test_resume_allows_more_epochs_and_other_workers_and_refuses_other_data_by_name() -> None:
    saved = compose()
    assert set(check_resumable(saved, compose("data.workers=2", "phases.finetune.epochs=99"))) == {
        "data.workers",
        "phases.finetune.epochs",
    }
    with pytest.raises(ValueError, match=r"data\.split_seed: was 0, now 7"):
        check_resumable(saved, compose("data.split_seed=7", "data.workers=2"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-x"], "-x is not an option"),
        (["--multirum", "seed=1,2"], "--multirum is not an option; did you mean --multirun?"),
        (["--resume", "outputs/x"], "--resume is not an option; write resume=VALUE"),
        (["--cfg", "nonsense"], "invalid choice: 'nonsense'"),
    ],
)
def test_an_option_that_is_not_there_is_told_in_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        check_arguments(arguments)
    assert len(str(caught.value).splitlines()) == 1
    check_arguments(["-m", "seed=1,2", "--cfg", "job"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["task=classification", "data.mixup=0.2", "data.batch_size=1"],
        ["data.augmentation.dropout_holes=2", "data.augmentation.dropout_size=0"],
        ["task.nme_landmarks=[1,2]"],
        ["early_stopping_epochs=12"],
        ["range_test.repeats=3"],
    ],
)
def test_an_option_without_effect_is_named(overrides: list[str]) -> None:
    (line,) = options_without_effect(to_train_config(compose(*overrides)))
    assert any(text.partition("=")[0] in line for text in overrides)
    assert line.endswith("without effect")
    assert options_without_effect(to_train_config(compose())) == []
