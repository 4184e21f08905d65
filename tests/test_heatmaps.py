"""Heatmaps against the closed form: label to map to point is exact, and losses equal loops in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from data.augmentation import Augmentation
from data.geometry import Region, apply, compose, fit_image, invert
from models.heatmaps import (
    gaussian_heatmaps,
    heatmap_cross_entropy,
    heatmap_squared_error,
    local_expectation,
    parabola_peak,
    to_cells,
    to_pixels,
)
from models.landmarks import EXPECTATION_RADIUS, TOP_RADIUS

STRIDES = (1, 2, 4, 8, 16)


def log_gaussian(points: torch.Tensor, size: tuple[int, int], stride: int, sigma: float) -> torch.Tensor:
    """The logarithm of the target in float64, also where the target itself underflows."""
    cells = to_cells(points.double(), stride)
    x, y = torch.arange(size[1], dtype=torch.float64), torch.arange(size[0], dtype=torch.float64)
    return -(((y - cells[..., 1:]) ** 2)[..., :, None] + ((x - cells[..., :1]) ** 2)[..., None, :]) / (2 * sigma**2)


def as_softmax_logits(log_heatmaps: torch.Tensor) -> torch.Tensor:
    """What a network that has learnt its cross-entropy to the end gives: a softmax ignores the constant."""
    return log_heatmaps.float() + 3.7


def as_log_sigmoid(log_heatmaps: torch.Tensor) -> torch.Tensor:
    """What a network that has learnt its squared error to the end gives, in float32."""
    below_one = log_heatmaps.clamp(max=-1e-6)
    logits = below_one - torch.log(-torch.expm1(below_one))
    return F.logsigmoid(logits.float())


def as_written_target(log_heatmaps: torch.Tensor) -> torch.Tensor:
    """The float32 target itself, -inf where it underflows."""
    return log_heatmaps.float().exp().log()


MODELS = {"softmax": as_softmax_logits, "sigmoid": as_log_sigmoid, "target": as_written_target}


def random_points(size: tuple[int, int], stride: int, margin: float, count: int = 300) -> torch.Tensor:
    """(1, count, 2) points in input px anywhere from `margin` px outside the frame; its corners among them."""
    low, high = -margin, torch.tensor([size[1] * stride - 1 + margin, size[0] * stride - 1 + margin])
    shares = torch.rand(1, count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares[0, :4] = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return low + shares * (high - low)


def test_cell_centres_are_the_means_of_their_pixels() -> None:
    for stride in STRIDES:
        pixels = torch.arange(6 * stride, dtype=torch.float64).view(6, stride)
        torch.testing.assert_close(to_pixels(torch.arange(6.0), stride).double(), pixels.mean(dim=1))


def test_target_is_one_at_the_point_and_falls_as_its_formula_says() -> None:
    points = torch.tensor([[[10.5, 5.5], [3.25, 17.0]]], dtype=torch.float64)
    maps = gaussian_heatmaps(points, (6, 8), stride=4, sigma=1.5)
    assert maps.shape == (1, 2, 6, 8)
    for k, (x, y) in enumerate(points[0].tolist()):
        for row in range(6):
            for column in range(8):
                distance = math.hypot(4 * column + 1.5 - x, 4 * row + 1.5 - y) / 4
                assert maps[0, k, row, column].item() == pytest.approx(math.exp(-(distance**2) / (2 * 1.5**2)))
    assert gaussian_heatmaps(torch.tensor([[[9.5, 5.5]]]), (6, 8), stride=4, sigma=1.5).max() == 1.0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sigma", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("stride", STRIDES)
def test_decode_returns_the_label_up_to_one_sigma_outside_the_frame(stride: int, sigma: float, model: str) -> None:
    size = (24, 40)
    points = random_points(size, stride, margin=sigma * stride)
    maps = MODELS[model](log_gaussian(points, size, stride, sigma))
    decoded = to_pixels(parabola_peak(maps, TOP_RADIUS), stride).double()
    assert (decoded - points).abs().max() < 0.005


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(100, 2400),
    height=st.integers(100, 2400),
    mode=st.sampled_from(["letterbox", "stretch"]),
    stride=st.sampled_from(STRIDES),
    sigma=st.floats(1.0, 3.0),
    augmentation_seed=st.integers(0, 2**32 - 1) | st.none(),
    model=st.sampled_from(["softmax", "sigmoid"]),
    corner=st.tuples(st.floats(0, 0.8), st.floats(0, 0.8)),
    share=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
)
def test_label_to_map_to_original_pixels_is_within_a_twentieth_of_a_pixel(
    width: int,
    height: int,
    mode: str,
    stride: int,
    sigma: float,
    augmentation_seed: int | None,
    model: str,
    corner: tuple[float, float],
    share: tuple[float, float],
) -> None:
    input_size = (512, 384)
    region = Region(*corner, min(1, corner[0] + share[0]), min(1, corner[1] + share[1]))
    affine = fit_image((width, height), input_size, mode, region).affine
    if augmentation_seed is not None:
        rng = np.random.default_rng(augmentation_seed)
        affine = compose(STRONG_AUGMENTATION.random_affine(rng, input_size)[0], affine)
    shares = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5], [0.123, 0.77]])
    low, high = np.array(corner), np.array([region.right, region.bottom])
    truth = (low + shares * (high - low)) * [width, height] - 0.5
    label = torch.from_numpy(apply(affine, truth).astype(np.float32))[None]
    size = (input_size[0] // stride, input_size[1] // stride)
    maps = MODELS[model](log_gaussian(label, size, stride, sigma))
    decoded = to_pixels(parabola_peak(maps, TOP_RADIUS), stride)[0].numpy().astype(np.float64)
    margin = sigma * stride
    near = ((label[0] >= -margin) & (label[0] <= torch.tensor([384.0, 512.0]) - 1 + margin)).all(dim=1).numpy()
    error = np.linalg.norm(apply(invert(affine), decoded) - truth, axis=1)
    assert (error[near] < 0.05).all()


STRONG_AUGMENTATION = Augmentation(
    rotate_degrees=30,
    scale=0.3,
    shift=0.2,
    shear_degrees=10,
    flip=0.5,
    flip_pairs=[],
    brightness=0,
    contrast=0,
    gamma=0,
    clahe=0,
    noise=0,
    dropout_holes=0,
    dropout_size=0,
)


@pytest.mark.parametrize("sigma", [0.6, 6.0])
def test_decode_is_exact_for_sharp_and_wide_targets_too(sigma: float) -> None:
    points = random_points((24, 40), stride=4, margin=0)
    decoded = parabola_peak(as_softmax_logits(log_gaussian(points, (24, 40), 4, sigma)), TOP_RADIUS)
    assert (to_pixels(decoded, 4) - points).abs().max() < 0.02


def test_decode_finds_a_tilted_elongated_peak() -> None:
    """The cross term: x and y of a peak that runs along a diagonal."""
    precision = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)
    top = torch.tensor([10.3, 8.6], dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(18.0), torch.arange(20.0), indexing="ij")
    offset = torch.stack([x, y], dim=2).double() - top
    maps = -0.5 * torch.einsum("hwi,ij,hwj->hw", offset, precision, offset)
    torch.testing.assert_close(parabola_peak(maps[None, None].float(), 6)[0, 0].double(), top, atol=1e-4, rtol=0)


def peakless_maps() -> dict[str, torch.Tensor]:
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(12.0), indexing="ij")
    one_hot = torch.full((9, 12), -1e4)
    one_hot[3, 7] = 0.0
    one_hot_of_zeros = torch.where(one_hot == 0, 0.0, -torch.inf)
    corner = torch.full((9, 12), -1e4)
    corner[8, 11] = 0.0
    return {
        "equal": torch.zeros(9, 12),
        "equal and huge": torch.full((9, 12), 1e30),
        "one hot": one_hot,
        "one hot, log of 0 elsewhere": one_hot_of_zeros,
        "one hot in a corner": corner,
        "saddle": (x - 6) ** 2 - (y - 4) ** 2,
        "bowl": (x - 6) ** 2 + (y - 4) ** 2,
        "slope": x + 2 * y,
        "ridge": -((x - 5.0) ** 2),
        "noise": torch.randn(9, 12, generator=torch.Generator().manual_seed(0)),
    }


@pytest.mark.parametrize("radius", [2, 6, 20])
@pytest.mark.parametrize("kind", peakless_maps())
def test_maps_without_a_top_decode_to_a_point_in_the_window(kind: str, radius: int) -> None:
    maps = peakless_maps()[kind][None, None]
    peak = divmod(int(maps.argmax()), 12)
    for decode in (parabola_peak, local_expectation):
        x, y = decode(maps, radius)[0, 0].tolist()
        assert abs(x - peak[1]) <= radius
        assert abs(y - peak[0]) <= radius
        if kind not in ("ridge", "slope", "noise"):  # these may have a top outside, as a cut Gaussian has
            assert 0 <= x <= 11
            assert 0 <= y <= 8


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 40)])
def test_maps_smaller_than_the_window_decode_to_finite_points(size: tuple[int, int]) -> None:
    maps = log_gaussian(torch.tensor([[[0.3, 0.4]]]), size, 1, 1.0).float()
    for decode in (parabola_peak, local_expectation):
        assert decode(maps, EXPECTATION_RADIUS).isfinite().all()


def test_local_expectation_equals_the_mean_of_the_softmax_in_a_loop() -> None:
    maps = torch.randn(2, 3, 11, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    radius = 2
    means = local_expectation(maps, radius)
    for n in range(2):
        for k in range(3):
            row, column = divmod(int(maps[n, k].argmax()), 9)
            total, x_sum, y_sum = 0.0, 0.0, 0.0
            for y in range(max(0, row - radius), min(11, row + radius + 1)):
                for x in range(max(0, column - radius), min(9, column + radius + 1)):
                    weight = math.exp(maps[n, k, y, x])
                    total, x_sum, y_sum = total + weight, x_sum + weight * x, y_sum + weight * y
            assert means[n, k].tolist() == pytest.approx([x_sum / total, y_sum / total], rel=1e-12)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_local_expectation_finds_points_in_the_interior_also_under_autocast(dtype: torch.dtype | None) -> None:
    points = 40 + 60 * torch.rand(1, 200, 2, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        cells = local_expectation(as_softmax_logits(log_gaussian(points, (36, 36), 4, 1.2)), EXPECTATION_RADIUS)
    assert (to_pixels(cells, 4) - points).abs().max() < 0.005


def test_parabola_is_exact_under_autocast() -> None:
    points = random_points((24, 40), stride=4, margin=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cells = parabola_peak(as_softmax_logits(log_gaussian(points, (24, 40), 4, 1.5)), TOP_RADIUS)
    assert (to_pixels(cells, 4) - points).abs().max() < 0.005


def test_gradient_of_the_local_expectation_equals_finite_differences() -> None:
    maps = log_gaussian(torch.tensor([[[2.2, 1.7], [0.0, 4.0]]]), (5, 6), 1, 1.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: local_expectation(logits, 2), (maps,))


def test_cross_entropy_and_squared_error_equal_loops_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 3, 2, generator=generator) * 30
    targets = gaussian_heatmaps(points, (7, 8), 4, 1.5)
    log_maps = -3 * torch.rand(2, 3, 7, 8, generator=generator)
    cross_entropies, squared_errors = (
        heatmap_cross_entropy(log_maps, targets),
        heatmap_squared_error(log_maps, targets),
    )
    for n in range(2):
        for k in range(3):
            cells = list(zip(log_maps[n, k].flatten().tolist(), targets[n, k].flatten().tolist(), strict=True))
            target_sum = math.fsum(target for _, target in cells)
            normaliser = math.log(math.fsum(math.exp(value) for value, _ in cells))
            shares = [target / target_sum for _, target in cells]
            cross_entropy = -math.fsum(
                share * (value - normaliser) for share, (value, _) in zip(shares, cells, strict=True)
            )
            entropy = -math.fsum(share * math.log(share) for share in shares if share > 0)
            squared_error = math.fsum((math.exp(value) - target) ** 2 for value, target in cells) / target_sum
            assert cross_entropies[n, k].item() == pytest.approx(cross_entropy - entropy, rel=1e-5)
            assert squared_errors[n, k].item() == pytest.approx(squared_error, rel=1e-5)


@pytest.mark.parametrize("loss", [heatmap_cross_entropy, heatmap_squared_error])
def test_a_map_that_equals_its_target_has_no_gradient_and_any_other_has(loss) -> None:
    points = torch.tensor([[[9.3, 14.1]]], dtype=torch.float64)
    targets = gaussian_heatmaps(points, (7, 8), 4, 1.5)
    best = log_gaussian(points, (7, 8), 4, 1.5).requires_grad_()
    assert torch.autograd.grad(loss(best, targets).sum(), best)[0].abs().max() < 1e-15
    shifted = log_gaussian(points + 1, (7, 8), 4, 1.5).requires_grad_()
    assert torch.autograd.grad(loss(shifted, targets).sum(), shifted)[0].abs().max() > 1e-3
    assert (loss(best, targets) < loss(shifted, targets)).all()


@pytest.mark.parametrize("loss", [heatmap_cross_entropy, heatmap_squared_error])
def test_losses_of_a_point_far_outside_the_frame_are_finite(loss) -> None:
    targets = gaussian_heatmaps(torch.tensor([[[-900.0, 4000.0]]]), (7, 8), 4, 1.5)
    maps = torch.zeros(1, 1, 7, 8, requires_grad=True)
    value = loss(maps, targets)
    value.sum().backward()
    assert value.isfinite().all()
    assert maps.grad.isfinite().all()
