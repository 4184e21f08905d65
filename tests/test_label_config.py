"""Tasks with labels in the config: a fitting model is chosen, and what doesn't fit together is told by both keys."""

import re

import pytest
from conftest import compose

from trainer.config.changes import check_resumable
from trainer.config.store import to_train_config


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_choosing_a_task_chooses_a_model_that_fits(task: str) -> None:
    assert to_train_config(compose(f"task={task}")).model.kind == "classifier"
    given = to_train_config(compose(f"task={task}", "model=covariate", "data.covariates=[sex]"))
    assert given.model.kind == "covariate"
    assert to_train_config(compose()).model.kind == "heatmap"


def test_the_recipe_of_bone_ages_learns_the_groups_by_an_override() -> None:
    recipe = ("experiment=boneage", "data.table=labels.csv")
    config = to_train_config(compose(*recipe))
    assert (config.task.kind, config.model.kind) == ("regression", "covariate")
    groups = to_train_config(compose(*recipe, "task=classification", "data.label=age_group"))
    assert (groups.task.kind, groups.model.kind) == ("classification", "covariate")
    photos = to_train_config(compose("experiment=hymenoptera", "data.root=photos"))
    assert (photos.task.kind, photos.model.kind, photos.data.kind) == (
        "classification",
        "attention_covariate",
        "image_folder",
    )


def test_views_have_neither_holes_nor_noise() -> None:
    given = ("data.augmentation.noise=0.5", "data.augmentation.dropout_holes=3", "data.augmentation.rotate_degrees=7")
    moves = to_train_config(compose("task=classification", *given)).data.augmentation.build_moves()
    assert (moves.noise, moves.dropout_holes, moves.rotate_degrees) == (0, 0, 7)


def test_images_with_labels_flip_without_pairs() -> None:
    assert to_train_config(compose("task=classification", "data.augmentation.flip=0.5")).data.augmentation.flip == 0.5


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=classification", "model=heatmap"], ["model=heatmap", "task=classification", "model=classifier"]),
        (["model=classifier"], ["model=classifier", "task=landmarks", "model=heatmap"]),
        (["data=image_folder", "data.root=photos"], ["data=image_folder", "task=classification", "data=csv"]),
        (["data.covariates=[sex]"], ["data.covariates=['sex']", "task=landmarks"]),
        (["data=csv", "data.table=x", "data.label=age"], ["data.label=age", "task=landmarks"]),
        (["data.balance=true"], ["data.balance=True", "task=landmarks"]),
        (["data.mixup=0.2"], ["data.mixup=0.2", "task=landmarks"]),
        (["predict.tta=4", "data/augmentation=none"], ["predict.tta=4", "data.augmentation"]),
        (["task=regression", "data.missing_fraction=0.1"], ["data.missing_fraction=0.1", "task=regression"]),
        (
            ["task=regression", "data=csv", "data.table=x", "data.pixel_spacing_mm=0.1"],
            ["data.pixel_spacing_mm=0.1", "task=regression"],
        ),
        (
            ["task=regression", "data.augmentation.flip_pairs=pairs.txt"],
            ["data.augmentation.flip_pairs=pairs.txt", "task=regression"],
        ),
        (["task=regression", "model=covariate"], ["model=covariate", "data.covariates"]),
        (
            ["task=classification", "data=image_folder", "data.root=photos", "model=covariate"],
            ["model=covariate needs covariates, and data=image_folder has none", "model=classifier"],
        ),
        (["task=regression", "data.balance=true"], ["data.balance=true", "task=regression"]),
        (
            ["task=classification", "data.balance=true", "task.loss.class_weights=balanced"],
            ["data.balance=true", "task.loss.class_weights=balanced"],
        ),
        (["task=classification", "data/augmentation=none", "predict.tta=2"], ["predict.tta=2", "data.augmentation"]),
        (["task=classification", "predict.tta=0"], ["predict.tta=0"]),
        (["task=classification", "data.mixup=-1"], ["data.mixup=-1"]),
        (["task=classification", "task.loss.label_smoothing=1"], ["task.loss.label_smoothing=1.0"]),
        (["task=classification", "task.loss.class_weights=rare"], ["task.loss.class_weights=rare", "balanced"]),
        (["task=classification", "task.loss.class_weights=[]"], ["task.loss.class_weights=[] must", "balanced"]),
        (["task=classification", "task.loss.class_weights=[true,1]"], ["task.loss.class_weights=[True, 1] must"]),
        (["task=classification", "task.loss.class_weights=[1,-2]"], ["task.loss.class_weights=[1, -2]"]),
        (["task=classification", "task.top_k=1"], ["task.top_k=1"]),
        (["task=regression", "task.loss.kind=mse"], ["task.loss.kind=mse", "huber"]),
        (["task=regression", "task.loss.width=0"], ["task.loss.width=0"]),
        (["task=regression", "task.label_noise=-1"], ["task.label_noise=-1"]),
        (["task=classification", "model.dropout=2"], ["model.dropout=2"]),
        (["task=classification", "model=attention_covariate", "model.hidden=0"], ["model.hidden=0"]),
        (["task=classification", "data=image_folder"], ["data.root"]),
        (
            ["task=classification", "data=csv", "data.table=x", "data.missing_covariate=skip"],
            ["data.missing_covariate=skip", "category"],
        ),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_in_one_line_with_its_keys(overrides: list[str], said: list[str]) -> None:
    with pytest.raises(ValueError, match=re.escape(said[0])) as caught:
        to_train_config(compose(*overrides))
    assert [words for words in said if words not in str(caught.value)] == []
    assert len(str(caught.value).splitlines()) == 1


def test_views_may_change_on_resume_and_covariates_may_not() -> None:
    saved = compose("task=classification", "data.covariates=[sex]")
    asked = compose("task=classification", "data.covariates=[sex]", "predict.tta=4")
    assert set(check_resumable(saved, asked)) == {"predict.tta"}
    with pytest.raises(ValueError, match=r"data\.covariates"):
        check_resumable(saved, compose("task=classification"))
