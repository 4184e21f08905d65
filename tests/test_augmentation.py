"""Random views: which affines are drawn, what exposure changes may do, and that holes spare the landmarks."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.augmentation import Augmentation, levels
from data.geometry import apply, invert

NOTHING = {
    "rotate_degrees": 0.0,
    "scale": 0.0,
    "shift": 0.0,
    "shear_degrees": 0.0,
    "flip": 0.0,
    "flip_pairs": [],
    "brightness": 0.0,
    "contrast": 0.0,
    "gamma": 0.0,
    "clahe": 0.0,
    "noise": 0.0,
    "dropout_holes": 0,
    "dropout_size": 0.25,
}
EXPOSURE = {"brightness": 0.3, "contrast": 0.3, "gamma": 0.3, "clahe": 0.5, "noise": 0.1}
NO_POINTS = np.empty((0, 2))
INPUT_SIZE = (60, 48)
ROOT = Path(__file__).parents[1]


def augmentation(**magnitudes) -> Augmentation:
    return Augmentation(**{**NOTHING, **magnitudes})


def changed(image: np.ndarray, seed: int, points: np.ndarray = NO_POINTS, **magnitudes) -> np.ndarray:
    return augmentation(**magnitudes).change_intensity(np.random.default_rng(seed), image, points)


def affines(count: int = 300, **magnitudes) -> list[tuple[np.ndarray, bool]]:
    rng = np.random.default_rng(0)
    return [augmentation(**magnitudes).random_affine(rng, INPUT_SIZE) for _ in range(count)]


def picture(*channels: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (*INPUT_SIZE, *channels), dtype=np.uint8)


def test_rotations_turn_about_the_middle_by_up_to_the_angle_both_ways():
    angles = []
    for affine, flipped in affines(rotate_degrees=20.0):
        assert not flipped
        np.testing.assert_allclose(apply(affine, np.array([23.5, 29.5])), [23.5, 29.5], atol=1e-9)
        np.testing.assert_allclose(affine[:, :2] @ affine[:, :2].T, np.eye(2), atol=1e-12)
        angles.append(np.degrees(np.arctan2(affine[1, 0], affine[0, 0])))
    assert -20 <= min(angles) < -19
    assert 19 < max(angles) <= 20


def test_scales_shifts_and_shears_stay_within_their_magnitudes_and_reach_them():
    scales = np.array([affine[0, 0] for affine, _ in affines(scale=0.2)])
    assert 0.8 <= scales.min() < 0.81
    assert 1.19 < scales.max() <= 1.2
    shifts = np.array([affine[:, 2] for affine, _ in affines(shift=0.1)])
    assert np.all(np.abs(shifts) <= [4.8, 6.0])
    assert np.all(np.ptp(shifts, axis=0) > [9.3, 11.6])
    shears = np.degrees(np.arctan([affine[0, 1] for affine, _ in affines(shear_degrees=10.0)]))
    assert -10 <= shears.min() < -9.5
    assert 9.5 < shears.max() <= 10


@pytest.mark.parametrize(
    "moves",
    [
        {"shift": 0.1},
        {"rotate_degrees": 15.0},
        {"rotate_degrees": 80.0},
        {"scale": 0.3},
        {"shear_degrees": 20.0},
        {"rotate_degrees": 30.0, "scale": 0.2, "shift": 0.1, "shear_degrees": 10.0, "flip": 0.5},
    ],
    ids=lambda moves: "+".join(moves),
)
def test_no_view_looks_farther_beside_the_input_than_the_reach_and_some_nearly_as_far(moves):
    corners = np.array([[0.0, 0], [47, 0], [0, 59], [47, 59]])
    seen = np.stack([apply(invert(affine), corners) for affine, _ in affines(4000, **moves)])
    beside = np.maximum(-seen, seen - [47, 59]).max(axis=(0, 1))
    reach = np.array(augmentation(**moves).reach(INPUT_SIZE))
    assert (beside <= reach + 1e-9).all()
    assert (beside > 0.6 * reach - 1).all()
    assert augmentation().reach(INPUT_SIZE) == (0, 0)


@pytest.mark.parametrize("flip", [0.0, 0.3, 1.0])
def test_mirrors_come_as_often_as_asked_and_only_they_reverse_handedness(flip):
    drawn = affines(1000, flip=flip, rotate_degrees=30.0, shear_degrees=10.0, scale=0.3)
    assert all((np.linalg.det(affine[:, :2]) < 0) == flipped for affine, flipped in drawn)
    assert np.mean([flipped for _, flipped in drawn]) == pytest.approx(flip, abs=0.05)  # 3.4 standard errors


def test_sides_change_places_in_pairs_and_the_middle_stays():
    points = np.array([[0.0, 1], [2, 3], [np.nan, np.nan], [6, 7], [8, 9]])
    swapped = augmentation(flip_pairs=[(0, 3), (2, 4)]).swap_sides(points)
    np.testing.assert_array_equal(swapped, points[[3, 1, 4, 0, 2]])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_exposure_changes_keep_type_and_shape_and_leave_the_given_image_alone(channels):
    image = picture(*channels)
    before = image.copy()
    for name, magnitude in (EXPOSURE | {"clahe": 1.0, "dropout_holes": 5}).items():
        results = [changed(image, seed, **{name: magnitude}) for seed in range(5)]
        assert all(result.dtype == np.uint8 and result.shape == image.shape for result in results)
        assert any((result != image).any() for result in results), name
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_generator_alone_decides_what_is_drawn(channels):
    image = picture(*channels)
    magnitudes = EXPOSURE | {"dropout_holes": 4}
    one, another = augmentation(**magnitudes), augmentation(**magnitudes)
    views = []
    for seed in range(12):
        random.seed(seed)
        first = one.change_intensity(np.random.default_rng(seed), image, NO_POINTS)
        random.seed(-seed)
        one.change_intensity(np.random.default_rng(99), image, NO_POINTS)
        np.testing.assert_array_equal(one.change_intensity(np.random.default_rng(seed), image, NO_POINTS), first)
        np.testing.assert_array_equal(another.change_intensity(np.random.default_rng(seed), image, NO_POINTS), first)
        views.append(first.tobytes())
    assert len(set(views)) == len(views)


def test_drawing_leaves_the_global_generators_where_they_were():
    python, legacy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    changed(picture(), 0, **EXPOSURE, dropout_holes=4)
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


def test_contrast_and_noise_are_drawn_independently():
    gray = np.full((40, 40), 128, np.uint8)
    views = np.array([changed(gray, seed, contrast=0.4, noise=0.1) for seed in range(150)], dtype=np.float64)
    assert abs(np.corrcoef(views.mean(axis=(1, 2)), views.std(axis=(1, 2)))[0, 1]) < 0.3  # 3.7 standard errors


def test_brightness_shifts_by_up_to_its_share_of_the_range_both_ways():
    gray = np.full((4, 4), 128, np.uint8)
    shifts = np.array([changed(gray, seed, brightness=0.2)[0, 0] for seed in range(200)]) - 128.0
    assert -51.5 <= shifts.min() < -48
    assert 48 < shifts.max() <= 51.5


def test_gamma_is_a_power_between_its_inverse_and_itself():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    powers = []
    for seed in range(200):
        view = changed(ramp, seed, gamma=0.5).ravel() / 255
        power = np.log(view[128]) / np.log(128 / 255)
        np.testing.assert_allclose(view, (np.arange(256) / 255) ** power, rtol=0, atol=0.01)
        powers.append(power)
    assert 1 / 1.5 - 0.01 < min(powers) < 0.69
    assert 1.47 < max(powers) < 1.52


@pytest.mark.parametrize("channels", [(), (3,)])
def test_levels_equal_those_of_albumentations_to_one(channels):
    import albumentations as A

    image, rng = picture(*channels), np.random.default_rng(3)
    for _ in range(50):
        brightness, contrast = rng.uniform(-0.6, 0.6, 2)
        exponent = rng.uniform(0.3, 3)
        seen = image
        for step in (
            A.RandomBrightnessContrast((brightness, brightness), (contrast, contrast), p=1.0),
            A.RandomGamma((100 * exponent, 100 * exponent), p=1.0),
        ):
            seen = step(image=seen)["image"]
        np.testing.assert_allclose(levels(brightness, contrast, exponent)[image].astype(int), seen, rtol=0, atol=1)


def test_levels_without_a_change_are_themselves():
    np.testing.assert_array_equal(levels(0.0, 0.0, 1.0), np.arange(256))


@pytest.mark.parametrize("magnitudes", [{"brightness": 0.2, "contrast": 0.2, "gamma": 0.2}, {"noise": 0.1}])
def test_albumentations_is_imported_only_for_what_a_table_of_levels_can_not_do(magnitudes):
    code = (
        "import sys\n"
        "from data.augmentation import Augmentation\n"
        "Augmentation(**{})\n"
        "print('albumentations' in sys.modules)"
    )
    given = {**NOTHING, **magnitudes}
    ended = subprocess.run([sys.executable, "-c", code.format(given)], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.strip() == str("noise" in magnitudes), ended.stderr


def test_noise_has_no_mean_and_up_to_its_standard_deviation():
    gray = np.full((100, 100), 128, np.uint8)
    views = np.array([changed(gray, seed, noise=0.1) for seed in range(100)], dtype=np.float64)
    assert np.abs(views.mean(axis=(1, 2)) - 128).max() < 1.5
    deviations = views.std(axis=(1, 2))
    assert deviations.min() < 2
    assert 24 < deviations.max() < 0.1 * 255 * 1.05


def test_clahe_comes_as_often_as_asked_and_spreads_faint_structure():
    faint = (120 + picture() // 32).astype(np.uint8)
    views = [changed(faint, seed, clahe=0.5) for seed in range(200)]
    touched = [view for view in views if (view != faint).any()]
    assert len(touched) / len(views) == pytest.approx(0.5, abs=0.12)  # 3.4 standard errors
    assert all(view.std() > faint.std() for view in touched)


def test_holes_appear_and_never_cover_a_landmark_nor_its_neighbours():
    image = picture()
    rng = np.random.default_rng(1)
    shares = []
    for seed in range(300):
        points = rng.uniform(-3, (51, 63), (8, 2))
        points[0] = np.nan
        before = points.copy()
        view = changed(image, seed, points, dropout_holes=8)
        np.testing.assert_array_equal(points, before)
        touched = view != image
        shares.append(touched.mean())
        for x, y in points[1:]:
            columns = slice(max(0, int(np.floor(x))), max(0, int(np.ceil(x)) + 1))
            rows = slice(max(0, int(np.floor(y))), max(0, int(np.ceil(y)) + 1))
            assert not touched[rows, columns].any()
    assert np.mean(np.array(shares) > 0) > 0.6
    assert max(shares) > 0.08


def test_a_hole_is_one_plain_rectangle_within_its_size_and_may_lie_anywhere():
    image = np.full((*INPUT_SIZE, 3), 77, np.uint8)
    hit = np.zeros(INPUT_SIZE, dtype=bool)
    for seed in range(600):
        view = changed(image, seed, dropout_holes=1, dropout_size=0.5)
        touched = (view != image).any(axis=2)
        rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
        if rows.size:
            hole = view[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert (hole == hole[0, 0, 0]).all()
            assert hole.shape[0] <= 31
            assert hole.shape[1] <= 25
        hit |= touched
    assert hit.mean() > 0.9


def test_magnitudes_of_zero_draw_no_change():
    image = picture(3)
    for seed in range(5):
        np.testing.assert_array_equal(changed(image, seed), image)
    for affine, flipped in affines(5):
        assert not flipped
        np.testing.assert_allclose(affine, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
