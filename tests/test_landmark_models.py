"""Landmark models: where they start, that they can learn, and that what is saved is all of them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.heatmaps import gaussian_heatmaps, heatmap_cross_entropy, heatmap_squared_error
from models.landmarks import (
    CoordinateHead,
    HeatmapHead,
    LandmarkModel,
    Refinement,
    build_coordinate_model,
    build_heatmap_model,
)

SIZE = (64, 48)
MEAN_SHAPE = np.array([[10.0, 20.0], [30.5, 40.25], [47.0, 0.0]])


def heatmap_model(**changes: object) -> LandmarkModel:
    options = {
        "backbone": "test_resnet",
        "weights": "none",
        "num_landmarks": 3,
        "input_size": SIZE,
        "decoder": "fpn",
        "stride": 4,
        "width": 16,
        "dropout": 0.1,
        "activation": "softmax",
        "refinement": True,
    }
    torch.manual_seed(0)
    return build_heatmap_model(**(options | changes))


def coordinate_model(**changes: object) -> LandmarkModel:
    options = {
        "backbone": "test_resnet",
        "weights": "none",
        "mean_shape": MEAN_SHAPE,
        "input_size": SIZE,
        "hidden": 32,
        "dropout": 0.1,
        "refinement": True,
    }
    torch.manual_seed(0)
    return build_coordinate_model(**(options | changes))


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("build", [heatmap_model, coordinate_model])
def test_refinement_starts_as_the_identity(build) -> None:
    output = build()(images())
    assert output.points.shape == (2, 3, 2)
    assert torch.equal(output.points, output.coarse)


@pytest.mark.parametrize("build", [heatmap_model, coordinate_model])
def test_models_without_refinement_have_one_answer(build) -> None:
    assert build(refinement=False)(images()).coarse is None


def test_coordinates_start_at_the_mean_shape() -> None:
    points = coordinate_model().eval()(images()).points
    torch.testing.assert_close(points, torch.tensor(MEAN_SHAPE).float().expand(2, 3, 2), atol=1.0, rtol=0)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("decoder", ["fpn", "unet"])
def test_heatmaps_have_one_map_per_landmark_at_the_models_stride(decoder: str, activation: str) -> None:
    output = heatmap_model(decoder=decoder, activation=activation)(images())
    assert output.log_heatmaps.shape == (2, 3, 16, 12)
    assert output.stride == 4
    if activation == "sigmoid":
        assert (output.log_heatmaps < 0).all()


def test_transformers_carry_heatmaps() -> None:
    output = heatmap_model(backbone="test_vit")(images())
    assert output.log_heatmaps.shape == (2, 3, 16, 12)
    assert output.points.isfinite().all()


@pytest.mark.parametrize("build", [heatmap_model, coordinate_model])
def test_a_state_dict_restores_the_models_answers(build) -> None:
    trained, other = build(), build()
    for parameter in trained.parameters():
        parameter.data.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    trained(images())  # moves the statistics of its batch norm
    other.load_state_dict(trained.state_dict())
    assert torch.equal(trained.eval()(images()).points, other.eval()(images()).points)


@pytest.mark.parametrize("build", [heatmap_model, coordinate_model])
def test_answers_in_eval_are_the_same_each_time_and_for_each_batch_size(build) -> None:
    model = build().eval()
    both = model(images()).points
    assert torch.equal(both, model(images()).points)
    torch.testing.assert_close(both[:1], model(images()[:1]).points, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("activation", "loss"), [("softmax", heatmap_cross_entropy), ("sigmoid", heatmap_squared_error)]
)
def test_a_heatmap_model_learns_one_batch_to_less_than_a_pixel(activation: str, loss) -> None:
    model = heatmap_model(activation=activation, refinement=False, dropout=0.0)
    target = torch.tensor([[[10.0, 20.0], [30.5, 40.25], [32.0, 12.0]], [[13.3, 48.0], [20.0, 11.0], [15.0, 33.0]]])
    maps = gaussian_heatmaps(target, (16, 12), stride=4, sigma=1.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss(model(images()).log_heatmaps, maps).mean().backward()
        optimizer.step()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over the passes that follow
            module.reset_running_stats()
    with torch.no_grad():
        model(images())
        error = (model.eval()(images()).points - target).norm(dim=2)
    assert error.mean() < 1.0


def test_gradient_of_a_loss_on_points_reaches_backbone_and_head() -> None:
    model = heatmap_model(dropout=0.0)
    model(images()).points.square().sum().backward()
    for part in (model.backbone, model.head.first, model.head.refinement.layers[-1]):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())


class Passed(nn.Module):
    """A decoder that passes the only map on."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[0]


def heads() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    mean_shape = torch.tensor([[100.0, 200.0], [305.5, 402.5]])
    options = {"input_size": (512, 512), "hidden": 32}
    coordinates = CoordinateHead(8, mean_shape=mean_shape, dropout=0.0, **options)
    nn.init.normal_(coordinates.layers[-1].weight, std=0.1)
    maps = HeatmapHead(Passed(), num_landmarks=2, width=8, stride=4, dropout=0.0, activation="softmax")
    nn.init.normal_(maps.maps.weight, std=2.0)
    return {"coordinates": coordinates.eval(), "heatmaps": maps.eval()}


@pytest.mark.parametrize("kind", ["coordinates", "heatmaps"])
def test_a_heads_answer_is_not_rounded_by_autocast(kind: str) -> None:
    features = [torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()]
    head = heads()[kind]
    expected = head([features[0].float()]).points
    with torch.autocast("cpu", dtype=torch.bfloat16):
        points = head(features).points
    assert (points - expected).abs().max() < 1e-3


def test_refinement_corrects_under_autocast_as_without() -> None:
    torch.manual_seed(0)
    refinement = Refinement(8, num_landmarks=2, input_size=(512, 512))
    nn.init.normal_(refinement.layers[-1].weight, std=0.1)
    features = [torch.randn(4, 8, 3, 3).bfloat16()]
    points = 512 * torch.rand(4, 2, 2)
    expected = refinement(points, [features[0].float()])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (refinement(points, features) - expected).abs().max() < 1e-3
