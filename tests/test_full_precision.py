"""Losses and decoding are computed in float32 whatever the forward pass computes in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, TINY_LABELS, compose

from models.classifiers import LabelOutput
from models.heatmaps import parabola_peak, to_pixels
from models.landmarks import TOP_RADIUS, LandmarkOutput
from trainer.config.store import to_train_config
from trainer.tasks.task import Task

POINTS = ("model=coordinates",)
NUMBERS = ("task=regression",)
CLASSES = ("task=classification",)
MODELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "heatmap": (TINY, ()),
    "heights": (TINY, ("task.loss.heatmap=mse",)),
    "heatmap, refined": (TINY, ("model.refinement=true",)),
    "coordinates, refined": (
        tuple(text for text in TINY if text != "model.width=8"),
        (*POINTS, "model.refinement=true"),
    ),
    "classes": (TINY_LABELS, CLASSES),
    "attention": (TINY_LABELS, (*NUMBERS, "model=attention_covariate", "data.covariates=[sex]")),
}


def built(case: str, folder: Path) -> tuple[torch.nn.Module, Task[Any], dict[str, Any]]:
    tiny, overrides = MODELS[case]
    config = to_train_config(compose(*tiny, *overrides))
    torch.manual_seed(0)
    data = config.task.build_data(config, folder / "splits.csv")
    model = config.task.build_model(config, data)
    return model, config.task.build(config, data), next(data.evaluation_batches("val"))


def tensors_of(output: LandmarkOutput | LabelOutput) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(output).items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_what_a_model_answers_under_bf16_is_float32(case: str, training: bool, tmp_path: Path) -> None:
    model, task, batch = built(case, tmp_path)
    model.train(training)
    with torch.autocast("cpu", torch.bfloat16):
        backbone = model.get_submodule("backbone")(batch["image"])
        output = model(*(batch[name] for name in task.inputs))
    assert {level.dtype for level in (backbone if isinstance(backbone, list) else [backbone])} == {torch.bfloat16}
    assert {name: value.dtype for name, value in tensors_of(output).items()} == dict.fromkeys(
        tensors_of(output), torch.float32
    )
    assert task.loss(output, batch).dtype == torch.float32


def test_maps_are_decoded_under_bf16_as_without(tmp_path: Path) -> None:
    model, _, batch = built("heatmap", tmp_path)
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(batch["image"])
    assert torch.equal(output.points, to_pixels(parabola_peak(output.log_heatmaps, TOP_RADIUS), output.stride))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", MODELS)
def test_the_loss_of_an_answer_in_half_precision_is_that_of_the_same_numbers_in_float32(
    case: str, half: torch.dtype, tmp_path: Path
) -> None:
    """A head of a user's own may give such an answer."""
    model, task, batch = built(case, tmp_path)
    output = model(*(batch[name] for name in task.inputs))
    for name, value in tensors_of(output).items():
        setattr(output, name, value.to(half))
    of_half = task.loss(output, batch)
    for name, value in tensors_of(output).items():
        setattr(output, name, value.float())
    assert of_half.dtype == torch.float32
    assert torch.equal(of_half, task.loss(output, batch))
