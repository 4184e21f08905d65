"""How far a map expects its landmark to lie from the answer: against loops and closed forms."""

import math

import pytest
import torch
from test_heatmaps import as_softmax_logits, log_gaussian, peakless_maps

from models.heatmaps import expected_distance, local_expectation
from models.landmarks import LandmarkOutput


def test_expected_distance_equals_a_loop_over_the_softmax_of_the_whole_map() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 7, 5, generator=generator, dtype=torch.float64) * 3
    cells = torch.rand(2, 3, 2, generator=generator, dtype=torch.float64) * 6
    distances = expected_distance(maps, cells)
    for n in range(2):
        for k in range(3):
            x, y = cells[n, k].tolist()
            weights = {(row, column): math.exp(maps[n, k, row, column]) for row in range(7) for column in range(5)}
            total = math.fsum(weights.values())
            expected = math.fsum(w * math.hypot(column - x, row - y) for (row, column), w in weights.items()) / total
            assert distances[n, k].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sigma", [1.5, 4.0])
def test_a_perfect_map_expects_the_mean_distance_of_its_gaussian(sigma: float) -> None:
    points = 100 + 60 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0))
    maps = as_softmax_logits(log_gaussian(points, (72, 72), 4, sigma))
    output = LandmarkOutput(points, log_heatmaps=maps, stride=4)
    assert output.spread is not None
    expected = 4 * sigma * math.sqrt(math.pi / 2)  # the mean of a Rayleigh distribution, in px
    torch.testing.assert_close(output.spread, torch.full((1, 50), expected), rtol=0.01, atol=0)


def test_a_second_peak_raises_the_expected_distance_by_its_share_of_the_way() -> None:
    one = log_gaussian(torch.tensor([[[20.0, 30.0]]]), (64, 64), 1, 1.5)
    other = log_gaussian(torch.tensor([[[50.0, 30.0]]]), (64, 64), 1, 1.5)
    answer = torch.tensor([[[20.0, 30.0]]], dtype=torch.float64)
    alone = expected_distance(one, answer).item()
    both = expected_distance(torch.logaddexp(one + math.log(0.8), other + math.log(0.2)), answer).item()
    assert both == pytest.approx(0.8 * alone + 0.2 * 30, rel=0.01)


@pytest.mark.parametrize("kind", peakless_maps())
def test_maps_without_a_top_have_a_finite_expected_distance_that_moves_nothing(kind: str) -> None:
    maps = peakless_maps()[kind][None, None].requires_grad_()
    distance = expected_distance(maps, local_expectation(maps, 2))
    assert distance.isfinite().all()
    assert (distance >= 0).all()
    assert not distance.requires_grad


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_autocast_does_not_round_the_expected_distance(dtype: torch.dtype | None) -> None:
    maps = torch.randn(1, 4, 40, 30, generator=torch.Generator().manual_seed(0)) * 3
    cells = local_expectation(maps, 2)
    exact = expected_distance(maps.double(), cells.double())
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        torch.testing.assert_close(expected_distance(maps, cells).double(), exact, rtol=1e-5, atol=0)


def test_models_without_maps_have_no_spread() -> None:
    assert LandmarkOutput(torch.zeros(1, 3, 2)).spread is None
