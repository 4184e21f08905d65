"""How sure the landmark task is: intervals of its metrics and the spread of its predictions, against loops."""

import math

import numpy as np
import pytest
import torch
from test_landmark_task import build_task

from models.landmarks import LandmarkOutput


def some_predictions(num_images: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (num_images, 3, 2))
    truth[rng.random((num_images, 3)) < 0.2] = np.nan
    return {
        "index": np.arange(num_images),
        "points": np.nan_to_num(truth) + rng.normal(0, 4, truth.shape),
        "truth": truth,
        "spacing_mm": rng.uniform(0.1, 1.0, num_images),
        "spread": rng.uniform(1, 5, (num_images, 3)),
    }


@pytest.mark.parametrize("in_mm", [True, False])
@pytest.mark.parametrize("nme", [None, "box"])
def test_sums_over_counts_are_the_metrics_and_their_intervals_those_of_drawn_images(
    in_mm: bool, nme: str | None
) -> None:
    task, found = build_task(in_mm=in_mm, nme=nme), some_predictions(30)
    found["truth"][7] = np.nan
    intervals, metrics = task.intervals(found), task.metrics(found)
    assert set(intervals) == {name for name in metrics if not name.startswith("median")}
    present = np.delete(np.arange(30), 7)
    drawn = present[np.random.default_rng(0).integers(29, size=(2000, 29))]
    redrawn = [task.metrics({key: values[rows] for key, values in found.items()}) for rows in drawn[:400]]
    for name, (low, high) in intervals.items():
        assert low < metrics[name] < high
        values = [each[name] for each in redrawn]
        expected = np.percentile(values, [2.5, 97.5])
        assert (low, high) == pytest.approx(expected, abs=0.12 * (expected[1] - expected[0]))


def test_one_image_has_no_interval() -> None:
    found = {key: values[:1] for key, values in some_predictions(2).items()}
    assert np.isnan(list(build_task().intervals(found).values())).all()


def test_spread_is_what_the_map_expects_in_original_pixels() -> None:
    points = torch.tensor([[[30.0, 20.0], [25.0, 30.0], [40.0, 41.0]]])
    cells = (points - 1.5) / 4
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    maps = -((x - cells[..., 0, None, None]) ** 2 + (y - cells[..., 1, None, None]) ** 2) / (2 * 1.5**2)
    batch = {
        "index": torch.tensor([5]),
        "truth": torch.zeros(1, 3, 2, dtype=torch.float64),
        "spacing_mm": torch.tensor([0.1], dtype=torch.float64),
        "affine": torch.tensor([[[0.4, 0.3, 7.0], [-0.3, 0.4, 9.0]]], dtype=torch.float64),  # turned, half the size
    }
    found = build_task().predictions(LandmarkOutput(points, log_heatmaps=maps, stride=4), batch)
    weights = maps.double().flatten(2).softmax(dim=2).view_as(maps)
    for landmark in range(3):
        distances = torch.hypot(x - cells[0, landmark, 0], y - cells[0, landmark, 1])
        expected = 2 * 4 * float((distances * weights[0, landmark]).sum())
        assert found["spread"][0, landmark] == pytest.approx(expected, rel=1e-5)
    of_coordinates = build_task().predictions(LandmarkOutput(points), batch)
    np.testing.assert_allclose(of_coordinates["spread"], 2.0)
    certain = torch.full_like(maps, -torch.inf)
    certain[..., 4, 7] = 0.0
    on_the_cell = torch.tensor([29.5, 17.5]).expand(1, 3, 2)
    found = build_task().predictions(LandmarkOutput(on_the_cell, log_heatmaps=certain, stride=4), batch)
    np.testing.assert_allclose(found["spread"], 2e-3)  # never zero, which errors are divided by


def test_the_surer_view_counts_more_and_disagreement_adds_to_the_spread() -> None:
    views = [some_predictions(4, seed=1) for _ in range(3)]
    rng = np.random.default_rng(2)
    for view in views:
        view["points"] = view["points"] + rng.normal(0, 3, view["points"].shape)
        view["spread"] = rng.uniform(1, 5, view["spread"].shape)
    together = build_task().averaged(views)
    for image in range(4):
        for landmark in range(3):
            points = [view["points"][image, landmark] for view in views]
            spreads = [view["spread"][image, landmark] for view in views]
            shares = [spread**-2 / sum(other**-2 for other in spreads) for spread in spreads]
            middle = sum(share * point for share, point in zip(shares, points, strict=True))
            apart = sum(share * math.dist(p, middle) ** 2 for share, p in zip(shares, points, strict=True))
            within = sum(share * spread**2 for share, spread in zip(shares, spreads, strict=True))
            np.testing.assert_allclose(together["points"][image, landmark], middle)
            assert together["spread"][image, landmark] == pytest.approx(math.sqrt(within + apart))
    one = build_task().averaged(views[:1])
    np.testing.assert_allclose(one["spread"], views[0]["spread"])


def test_without_a_validation_split_nothing_is_said_of_certainty() -> None:
    assert build_task().certainty({"test": some_predictions(30)}) is None
    assert build_task().certainty({"train": some_predictions(30)}) is None
