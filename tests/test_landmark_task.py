"""The landmark task against formulas and float64 loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.landmarks import LandmarkOutput
from trainer.tasks.landmark_losses import LandmarkLoss, PointLoss
from trainer.tasks.landmark_metrics import landmark_metrics, normalisers, per_landmark_table, success_rate
from trainer.tasks.landmarks import LandmarkTask


def build_loss(**changes: object) -> LandmarkLoss:
    settings: dict[str, object] = {
        "heatmap": "cross_entropy",
        "heatmap_weight": 1.0,
        "sigma": 1.5,
        "points": PointLoss("l1", 10.0, 2.0),
        "points_weight": 0.0,
        "refinement_weight": 0.0,
    }
    return LandmarkLoss(**{**settings, **changes})  # type: ignore[arg-type]


def build_task(**changes: object) -> LandmarkTask:
    settings: dict[str, object] = {
        "landmark_names": ["a", "b", "c"],
        "in_mm": True,
        "validates": True,
        "loss": build_loss(),
        "sdr_thresholds": (2.0, 4.0),
        "nme": None,
        "nme_landmarks": None,
        "monitor": None,
        "num_overlays": 1,
    }
    return LandmarkTask(**{**settings, **changes})  # type: ignore[arg-type]


def batch_of(points: torch.Tensor, visible: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"points": points, "visible": visible}


def test_wing_loss_equals_the_published_formula_and_is_continuous() -> None:
    width, curvature = 10.0, 2.0
    wing = PointLoss("wing", width, curvature)
    for distance in (0.0, 0.3, 5.0, 9.999999, 10.0, 10.000001, 40.0):
        offset = width - width * math.log(1 + width / curvature)
        expected = width * math.log(1 + distance / curvature) if distance < width else distance - offset
        point = torch.tensor([[[distance, -distance]]], dtype=torch.float64)
        assert wing(point, torch.zeros_like(point)).item() == pytest.approx(expected, abs=1e-9)


def test_missing_landmarks_change_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    task = build_task(loss=build_loss(points_weight=0.5, refinement_weight=0.5))
    visible = torch.tensor([[True, False, True], [True, True, False]])
    losses, gradients = [], []
    for filler in (0.0, 1e6):
        maps = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
        points = torch.full((2, 3, 2), 20.0, requires_grad=True)
        target = torch.where(visible[..., None], 30.0, filler).expand(2, 3, 2)
        output = LandmarkOutput(points + 1, coarse=points, log_heatmaps=maps, stride=4)
        loss = task.loss(output, batch_of(target, visible))
        loss.backward()
        losses.append(loss.item())
        assert maps.grad is not None
        gradients.append(maps.grad)
    assert losses[0] == losses[1]
    assert torch.equal(gradients[0], gradients[1])
    assert gradients[0][0, 1].abs().sum() == 0


def test_loss_is_the_mean_over_the_landmarks_that_are_there() -> None:
    task = build_task(loss=build_loss(heatmap_weight=0.0, points_weight=1.0))
    points = torch.tensor([[[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]]])
    target = torch.zeros(1, 3, 2)
    visible = torch.tensor([[True, False, True]])
    assert task.loss(LandmarkOutput(points), batch_of(target, visible)).item() == pytest.approx((1 + 9) / 2)


def test_all_landmarks_missing_gives_a_finite_loss_without_gradient() -> None:
    task = build_task(loss=build_loss(points_weight=1.0))
    maps = torch.randn(1, 3, 8, 8, requires_grad=True)
    loss = task.loss(
        LandmarkOutput(torch.zeros(1, 3, 2), log_heatmaps=maps, stride=4),
        batch_of(torch.zeros(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool)),
    )
    loss.backward()
    assert loss.item() == 0
    assert maps.grad is not None
    assert maps.grad.abs().sum() == 0


def test_landmarks_far_outside_the_frame_do_not_count_for_heatmaps() -> None:
    task = build_task()
    maps = torch.randn(1, 3, 16, 16)
    target = torch.tensor([[[30.0, 30.0], [-40.0, 30.0], [30.0, 200.0]]])
    visible = torch.ones(1, 3, dtype=torch.bool)
    loss = task.loss(LandmarkOutput(target, log_heatmaps=maps, stride=4), batch_of(target, visible))
    only_first = task.loss(
        LandmarkOutput(target, log_heatmaps=maps, stride=4),
        batch_of(target, torch.tensor([[True, False, False]])),
    )
    assert loss.item() == only_first.item()


def test_smooth_l1_is_torchs() -> None:
    points, target = torch.randn(2, 3, 2) * 3, torch.randn(2, 3, 2)
    expected = F.smooth_l1_loss(points, target, reduction="none").mean(-1)
    assert torch.equal(PointLoss("smooth_l1", 10, 2)(points, target), expected)


def test_metrics_equal_a_loop_over_landmarks() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (5, 3, 2))
    truth[1, 2] = np.nan
    points = np.nan_to_num(truth) + rng.normal(0, 3, (5, 3, 2))
    spacing = np.array([0.1, 0.2, 0.5, 1.0, 2.0])
    distances_px, distances_mm, per_image = [], [], []
    for image in range(5):
        of_image = []
        for landmark in range(3):
            if np.isfinite(truth[image, landmark, 0]):
                dx, dy = points[image, landmark] - truth[image, landmark]
                of_image.append(math.sqrt(dx * dx + dy * dy))
                distances_mm.append(of_image[-1] * spacing[image])
        distances_px += of_image
        x0, y0 = truth[image, 0]
        x1, y1 = truth[image, 1]
        per_image.append(np.mean(of_image) / math.hypot(x1 - x0, y1 - y0))
    metrics = landmark_metrics(
        points, truth, spacing, unit="mm", sdr_thresholds=(2.0,), nme="pair", nme_landmarks=(0, 1)
    )
    assert metrics == pytest.approx(
        {
            "mre_px": np.mean(distances_px),
            "median_px": np.median(distances_px),
            "mre_mm": np.mean(distances_mm),
            "median_mm": np.median(distances_mm),
            "sdr_2mm": np.mean(np.array(distances_mm) <= 2),
            "nme": np.mean(per_image),
        }
    )


def test_without_spacing_everything_is_in_px() -> None:
    truth = np.zeros((1, 2, 2))
    points = np.array([[[3.0, 4.0], [0.0, 0.0]]])
    metrics = landmark_metrics(
        points, truth, np.array([np.nan]), unit="px", sdr_thresholds=(4.0, 5.0), nme=None, nme_landmarks=None
    )
    assert metrics == {"mre_px": 2.5, "median_px": 2.5, "sdr_4px": 0.5, "sdr_5px": 1.0}


def test_an_error_equal_to_the_threshold_is_a_success() -> None:
    assert success_rate(np.array([2.0, 2.0000001, np.nan]), 2.0) == 0.5


def test_box_normaliser_is_the_root_of_the_area_of_the_points_that_are_there() -> None:
    truth = np.array([[[0.0, 0.0], [8.0, 2.0], [np.nan, np.nan]]])
    assert normalisers(truth, "box", None) == pytest.approx([4.0])


def test_the_per_landmark_table_agrees_with_the_overall_mean() -> None:
    rng = np.random.default_rng(1)
    truth, noise = rng.uniform(0, 50, (40, 3, 2)), rng.normal(0, 2, (40, 3, 2))
    table = per_landmark_table(
        truth + noise, truth, np.full(40, 0.3), ["a", "b", "c"], unit="mm", sdr_thresholds=(2.0,)
    )
    overall = landmark_metrics(
        truth + noise, truth, np.full(40, 0.3), unit="mm", sdr_thresholds=(2.0,), nme=None, nme_landmarks=None
    )
    assert np.average(table["mre_mm"], weights=table["count"]) == pytest.approx(overall["mre_mm"])
    assert np.average(table["sdr_2mm"], weights=table["count"]) == pytest.approx(overall["sdr_2mm"])


@pytest.mark.parametrize(
    ("in_mm", "spacing"), [(True, [0.1, 0.2]), (False, [0.1, np.nan]), (False, [np.nan, np.nan]), (False, [0.1, 0.2])]
)
def test_metrics_are_the_promised_ones_whatever_images_know_their_spacing(in_mm: bool, spacing: list[float]) -> None:
    task = build_task(in_mm=in_mm, nme="box")
    points = np.random.default_rng(0).uniform(0, 9, (2, 3, 2))
    predictions = {"index": np.arange(2), "points": points, "truth": points + 1, "spacing_mm": np.array(spacing)}
    measured = task.metrics(predictions)
    assert tuple(measured) == task.metric_names
    assert all(np.isfinite(value) for value in measured.values())
    assert f"mre_{task.unit}" in task.per_landmark(predictions)


def test_an_unknown_monitor_and_landmark_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"task\.monitor=f1 is not a metric of this run: val_loss, mre_px"):
        build_task(monitor="f1")
    with pytest.raises(ValueError, match="there is no landmark 45"):
        build_task(nme="pair", nme_landmarks=[0, 45])


def test_more_success_is_better_and_more_error_is_worse() -> None:
    assert build_task().monitor_mode == "min"
    assert build_task(monitor="sdr_2mm").monitor_mode == "max"
