"""Affines against 3x3 matrices, and images against where the affines say that their content must be."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data.geometry import (
    Fit,
    Region,
    apply,
    around,
    compose,
    fit_image,
    identity,
    invert,
    mirror,
    pad_image,
    resize_image,
    translation,
    warp_image,
)

SIGMA_PX = 1.4  # of a blob as it appears in the coarser of image and input
SIZES = [(80, 96), (79, 97), (61, 97), (33, 201), (201, 33), (45, 57), (640, 511), (400, 90), (70, 300), (31, 30)]
INPUT_SIZES = [(96, 80), (64, 128), (97, 61)]


def square(affine: np.ndarray) -> np.ndarray:
    return np.vstack([affine, [0, 0, 1]])


def blob(size: tuple[int, int], centre: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """(H, W) uint8 with one Gaussian spot around `centre` (x, y); `sigma` along x and y."""
    across = np.exp(-((np.arange(size[0]) - centre[0]) ** 2) / (2 * sigma[0] ** 2))
    down = np.exp(-((np.arange(size[1]) - centre[1]) ** 2) / (2 * sigma[1] ** 2))
    return np.rint(250 * down[:, None] * across).astype(np.uint8)


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image.astype(np.float64) / image.sum()
    return np.array([weights.sum(axis=0) @ np.arange(image.shape[1]), weights.sum(axis=1) @ np.arange(image.shape[0])])


def blob_for(size: tuple[int, int], fit: Fit, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image with a spot somewhere near its middle, not on a pixel centre, and the spot's position."""
    scale = np.array([fit.width, fit.height]) / size
    centre = (np.array(size) - 1) / 2 + rng.uniform(-1, 1, 2) / np.minimum(scale, 1)
    return blob(size, centre, SIGMA_PX / np.minimum(scale, 1)), centre


def padded(image: np.ndarray, fit: Fit, input_size: tuple[int, int]) -> np.ndarray:
    """The input that shows the image as the fit says."""
    rows, columns = fit.part(input_size)
    corner = (fit.left + columns.start, fit.top + rows.start)
    return pad_image(resize_image(image, fit, (rows, columns)), corner, input_size)


def test_letterbox_and_stretch_equal_hand_computed_affines():
    letterbox = fit_image((200, 100), (80, 60), "letterbox")
    assert (letterbox.width, letterbox.height, letterbox.left, letterbox.top) == (60, 30, 0, 25)
    np.testing.assert_allclose(letterbox.affine, [[0.3, 0, -0.35], [0, 0.3, 24.65]], rtol=0, atol=1e-12)
    stretch = fit_image((200, 100), (80, 60), "stretch")
    assert (stretch.width, stretch.height, stretch.left, stretch.top) == (60, 80, 0, 0)
    np.testing.assert_allclose(stretch.affine, [[0.3, 0, -0.35], [0, 0.8, -0.1]], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(fit_image((60, 80), (80, 60), "letterbox").affine, identity())


@given(
    size=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    input_size=st.tuples(st.integers(32, 1024), st.integers(32, 1024)),
    mode=st.sampled_from(["letterbox", "stretch"]),
)
def test_the_edges_of_the_image_map_onto_the_edges_of_the_fitted_rectangle(size, input_size, mode):
    fit = fit_image(size, input_size, mode)
    height, width = input_size
    corners = apply(fit.affine, np.array([[-0.5, -0.5], [size[0] - 0.5, size[1] - 0.5]]))
    left, top = fit.left - 0.5, fit.top - 0.5
    np.testing.assert_allclose(corners, [[left, top], [left + fit.width, top + fit.height]], rtol=0, atol=1e-9)
    right, bottom = width - fit.width - fit.left, height - fit.height - fit.top
    assert 0 <= fit.left <= right <= fit.left + 1
    assert 0 <= fit.top <= bottom <= fit.top + 1
    assert fit.width == width or fit.height == height
    if mode == "letterbox":
        scale = min(width / size[0], height / size[1])
        assert abs(fit.width - size[0] * scale) <= max(0.5, 1 - size[0] * scale) + 1e-9
        assert abs(fit.height - size[1] * scale) <= max(0.5, 1 - size[1] * scale) + 1e-9
    else:
        assert (fit.width, fit.height) == (width, height)


def test_composing_inverting_and_applying_are_products_of_matrices():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.normal(size=(2, 2, 3))
        points = rng.normal(size=(4, 5, 2))
        np.testing.assert_allclose(square(compose(second, first)), square(second) @ square(first), atol=1e-12)
        np.testing.assert_allclose(square(invert(first)), np.linalg.inv(square(first)), rtol=1e-9, atol=1e-9)
        homogeneous = np.concatenate([points, np.ones((4, 5, 1))], axis=-1)
        np.testing.assert_allclose(apply(first, points), homogeneous @ first.T, atol=1e-12)


def test_a_missing_point_stays_missing_and_spoils_no_other():
    moved = apply(translation(1, 2), np.array([[np.nan, np.nan], [3.0, 4.0]]))
    np.testing.assert_array_equal(moved, [[np.nan, np.nan], [4, 6]])


def test_the_elementary_maps_do_what_they_are_called():
    np.testing.assert_array_equal(apply(mirror(10), np.array([[0.0, 3], [9, 4], [4.5, 5]])), [[9, 3], [0, 4], [4.5, 5]])
    quarter_turn = around((2, 1), np.array([[0.0, -1], [1, 0]]))
    np.testing.assert_allclose(apply(quarter_turn, np.array([[2.0, 1], [3, 1]])), [[2, 1], [2, 2]])


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
@pytest.mark.parametrize("input_size", INPUT_SIZES)
@pytest.mark.parametrize("size", SIZES)
def test_a_spot_lands_where_the_affine_says_in_the_padded_and_in_the_warped_image(size, input_size, mode):
    fit = fit_image(size, input_size, mode)
    rng = np.random.default_rng(size)
    for _ in range(3):
        image, centre = blob_for(size, fit, rng)
        resized = resize_image(image, fit, fit.part(input_size))
        assert resized.shape == (fit.height, fit.width)
        padded = pad_image(resized, (fit.left, fit.top), input_size)
        assert padded.shape == input_size
        np.testing.assert_allclose(centroid(padded), apply(fit.affine, centre), rtol=0, atol=0.05)
        warped = warp_image(resized, translation(fit.left, fit.top), input_size)
        np.testing.assert_array_equal(warped, padded)


def test_colour_is_resized_padded_and_warped_like_gray():
    size, input_size = (90, 41), (64, 48)
    fit = fit_image(size, input_size, "letterbox")
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    affine = around((20, 30), 0.8 * np.array([[0.9, -0.2], [0.3, 1.1]]))

    def seen(pixels: np.ndarray) -> np.ndarray:
        return warp_image(padded(pixels, fit, input_size), affine, input_size)

    assert seen(image).shape == (64, 48, 3)
    for channel in range(3):
        gray = seen(np.ascontiguousarray(image[..., channel]))
        np.testing.assert_allclose(seen(image)[..., channel].astype(int), gray.astype(int), rtol=0, atol=1)


@pytest.mark.parametrize("size", [(128, 16), (16, 128), (128, 128)])
def test_stripes_finer_than_the_input_are_averaged_along_the_axis_that_shrinks(size):
    for axis in (0, 1):
        if size[1 - axis] < 128:
            continue  # this axis grows
        stripes = (np.indices((size[1], size[0]))[axis] % 2 * 200).astype(np.uint8)
        fit = fit_image(size, (32, 32), "stretch")
        resized = resize_image(stripes, fit, fit.part((32, 32)))
        assert resized.shape == (32, 32)
        np.testing.assert_array_equal(resized, 100)


def test_a_spot_lands_where_a_turning_scaling_shearing_affine_says():
    rng = np.random.default_rng(3)
    for _ in range(20):
        linear = np.eye(2) + rng.uniform(-0.3, 0.3, (2, 2))
        affine = compose(translation(*rng.uniform(-8, 8, 2)), around((31.5, 39.5), linear))
        centre = np.array([31.5, 39.5]) + rng.uniform(-6, 6, 2)
        warped = warp_image(blob((64, 80), centre, np.array([2.0, 2.0])), affine, (80, 64))
        np.testing.assert_allclose(centroid(warped), apply(affine, centre), rtol=0, atol=0.05)


def test_what_lies_outside_the_image_is_black():
    white = np.full((40, 40), 255, np.uint8)
    warped = warp_image(white, translation(10, -5), (40, 40))
    assert (warped[:, :10] == 0).all()
    assert (warped[35:] == 0).all()
    assert (warped[:35, 10:] == 255).all()


@st.composite
def regions(draw) -> Region:
    left, right = sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=2)))
    top, bottom = sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=2)))
    assume(right - left > 0.02 and bottom - top > 0.02)
    return Region(left, top, right, bottom)


@given(
    size=st.tuples(st.integers(20, 4000), st.integers(20, 4000)),
    input_size=st.tuples(st.integers(32, 1024), st.integers(32, 1024)),
    mode=st.sampled_from(["letterbox", "stretch"]),
    region=regions(),
)
def test_a_region_lies_whole_in_the_input_and_touches_its_edges(size, input_size, mode, region):
    fit = fit_image(size, input_size, mode, region)
    corners = np.array([[region.left, region.top], [region.right, region.bottom]]) * size - 0.5
    (left, top), (right, bottom) = apply(fit.affine, corners)
    height, width = input_size
    rounding = 1.0  # px: of the resized image's size, and of where it is placed
    assert min(left, top) >= -0.5 - rounding
    assert right <= width - 0.5 + rounding
    assert bottom <= height - 0.5 + rounding
    spare = np.array([width - (right - left), height - (bottom - top)])
    assert (spare > -rounding).all()
    if mode == "letterbox":
        assert spare.min() < rounding
        assert fit.width / size[0] == pytest.approx(fit.height / size[1], abs=1 / min(size))
    else:
        assert (spare < rounding).all()
    # Black is shown only where the image has nothing more to show.
    rows, columns = fit.part(input_size)
    assert columns.stop - columns.start == min(width, fit.width)
    assert rows.stop - rows.start == min(height, fit.height)


def test_a_region_is_fitted_as_hand_computed():
    region = Region(0.25, 0.5, 0.75, 0.75)  # of 200 x 100 px: 100 x 25 px from (50, 50)
    stretch = fit_image((200, 100), (50, 60), "stretch", region)
    assert stretch == Fit(120, 200, -30, -100, stretch.resize)
    np.testing.assert_allclose(stretch.affine, [[0.6, 0, -30.2], [0, 2, -99.5]], rtol=0, atol=1e-12)
    # A letterbox of the same scale both ways: 60 x 15 px, and the rest shows what lies above and below in the image.
    letterbox = fit_image((200, 100), (50, 60), "letterbox", region)
    assert letterbox == Fit(120, 60, -30, -10, letterbox.resize)  # -12.5 would end 2.5 px above the input's end
    np.testing.assert_allclose(letterbox.affine, [[0.6, 0, -30.2], [0, 0.6, -10.2]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", [size for size in SIZES if min(size) > 31])
def test_a_spot_in_a_region_lands_where_the_affine_says(size, mode):
    rng = np.random.default_rng(size)
    for _ in range(6):
        low = rng.uniform(0, 0.5, 2)
        region = Region(*low, *(low + rng.uniform(0.35, 0.5, 2)))
        fit = fit_image(size, (96, 80), mode, region)
        scale = np.array([fit.width, fit.height]) / size
        middle = invert(fit.affine) @ (*rng.uniform((30, 36), (50, 60)), 1)
        image = blob(size, middle, SIGMA_PX / np.minimum(scale, 1))
        seen = padded(image, fit, (96, 80))
        assert seen.shape == (96, 80)
        if all((middle * scale > 12) & ((np.array(size) - middle) * scale > 12)):  # else the image cuts the spot
            shift = np.abs(centroid(seen) - apply(fit.affine, middle))
            assert (shift <= 0.05 * np.maximum(scale, 1)).all()  # 0.05 px of image and input, whichever is coarser


def test_a_reserve_beside_the_input_holds_what_the_image_has_there():
    image = np.random.default_rng(1).integers(0, 256, (90, 120), dtype=np.uint8)
    fit = fit_image((120, 90), (45, 60), "stretch", Region(0.4, 0.3, 0.9, 0.8))
    assert (fit.width, fit.height, fit.left, fit.top) == (120, 90, -48, -27)  # at its own scale
    assert fit.part((45, 60), (20, 40)) == (slice(0, 90), slice(28, 120))
    np.testing.assert_array_equal(resize_image(image, fit, fit.part((45, 60), (20, 40))), image[:, 28:])
    np.testing.assert_array_equal(padded(image, fit, (45, 60)), image[27:72, 48:108])


def test_a_small_region_of_a_large_image_is_enlarged_alone():
    image = np.random.default_rng(2).integers(0, 256, (300, 400), dtype=np.uint8)
    fit = fit_image((400, 300), (64, 96), "stretch", Region(0.5, 0.5, 0.56, 0.54))
    assert (fit.width, fit.height) == (1600, 1600)
    rows, columns = fit.part((64, 96))
    whole = cv2.resize(image, (1600, 1600), interpolation=cv2.INTER_LINEAR)
    part = resize_image(image, fit, (rows, columns))
    np.testing.assert_allclose(part.astype(int), whole[rows, columns].astype(int), rtol=0, atol=8)
