"""The phantom radiographs: is the truth true, are the heads different, and does the same call give the same bits."""

import cv2
import numpy as np
import pytest

from data.phantom import AGE_RANGE_MONTHS, GROWTH_STAGES, LANDMARK_NAMES, PhantomSample, draw_phantom, growth_stage

FILM_HEIGHT, FILM_WIDTH = 1024, 832


@pytest.fixture(scope="module")
def crowd() -> list[PhantomSample]:
    return [draw_phantom(11, index, height=80, width=65) for index in range(250)]


@pytest.fixture(scope="module")
def large() -> list[PhantomSample]:
    return [draw_phantom(2, index, height=FILM_HEIGHT, width=FILM_WIDTH, trouble=0) for index in range(4)]


def point(sample: PhantomSample, name: str) -> np.ndarray:
    return sample.points[LANDMARK_NAMES.index(name)]


def points_mm(sample: PhantomSample) -> np.ndarray:
    """Landmarks (19, 2) in mm about their centroid, so that placement on the film does not matter."""
    mm = sample.points * sample.pixel_spacing_mm
    return mm - mm.mean(0)


def along(image: np.ndarray, start: np.ndarray, direction: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Grey values on the ray `start + steps * direction`, bilinear."""
    ray = (start + steps[:, None] * direction).astype(np.float32)
    return cv2.remap(image.astype(np.float32), ray[:, 0], ray[:, 1], cv2.INTER_LINEAR).ravel()


def ear_rod_centre(sample: PhantomSample) -> np.ndarray:
    """Centre of the bright ring about the porion, found in the picture: the circle through its crest on many rays."""
    guess = np.round(point(sample, "porion") + 1.3)  # not the label itself
    radius = 4.6 / sample.pixel_spacing_mm
    steps = np.arange(0.55 * radius, 1.45 * radius, 0.1)
    smooth = cv2.GaussianBlur(sample.image, (0, 0), radius / 15)
    crest = []
    for angle in np.linspace(0, 2 * np.pi, 90, endpoint=False):
        direction = np.array([np.cos(angle), np.sin(angle)])
        crest.append(guess + direction * steps[np.argmax(along(smooth, guess, direction, steps))])
    x, y = np.transpose(crest)
    keep = np.ones(len(x), bool)
    for _ in range(3):  # least squares circle, without the rays that met another bone
        a, b, c = np.linalg.lstsq(np.c_[x, y, np.ones_like(x)][keep], (x**2 + y**2)[keep], rcond=None)[0]
        off = np.abs(np.hypot(x - a / 2, y - b / 2) - np.sqrt(c + (a * a + b * b) / 4))
        keep = off <= np.quantile(off[keep], 0.8)
    return np.array([a / 2, b / 2])


def shift_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Least-squares shift (x, y) px from `one` to `other`, under an affine change of grey values."""
    a, b = (cv2.GaussianBlur(image.astype(np.float64), (0, 0), 1.5) for image in (one, other))
    gy, gx = np.gradient(a)
    design = np.stack([-gx, -gy, a, np.ones_like(a)], axis=-1)[4:-4, 4:-4].reshape(-1, 4)
    solution = np.linalg.lstsq(design, b[4:-4, 4:-4].ravel(), rcond=None)[0]
    return solution[:2] / solution[2]


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares similarity (2, 3) from source to target points (N, 2), and its largest residual in px."""
    x, y, one, nil = source[:, 0], source[:, 1], np.ones(len(source)), np.zeros(len(source))
    design = np.r_[np.c_[x, -y, one, nil], np.c_[y, x, nil, one]]
    a, b, c, d = np.linalg.lstsq(design, np.r_[target[:, 0], target[:, 1]], rcond=None)[0]
    matrix = np.array([[a, -b, c], [b, a, d]])
    return matrix, float(np.abs(source @ matrix[:, :2].T + matrix[:, 2] - target).max())


def test_a_sample_is_what_it_says() -> None:
    sample = draw_phantom(0, 0)
    assert sample.image.shape == (256, 208)
    assert sample.image.dtype == np.uint8
    assert sample.points.shape == (19, 2)
    assert sample.points.dtype == np.float64
    assert 0.8 < sample.pixel_spacing_mm < 1.05
    assert len(LANDMARK_NAMES) == len(set(LANDMARK_NAMES)) == 19
    assert (LANDMARK_NAMES[0], LANDMARK_NAMES[9], LANDMARK_NAMES[18]) == ("sella", "gonion", "articulare")


def test_same_call_gives_same_bits_in_any_order() -> None:
    forward = [draw_phantom(4, i, height=128, width=104, missing_fraction=0.2) for i in range(4)]
    backward = [draw_phantom(4, i, height=128, width=104, missing_fraction=0.2) for i in reversed(range(4))][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.points.tobytes() == other.points.tobytes()
        assert (one.sex, one.age_months, one.pixel_spacing_mm) == (other.sex, other.age_months, other.pixel_spacing_mm)
    assert len({sample.image.tobytes() for sample in forward}) == 4
    assert not np.array_equal(draw_phantom(5, 0, height=128, width=104).image, forward[0].image)


@pytest.mark.parametrize("index", range(3))
def test_truth_in_mm_is_the_same_at_every_resolution(index: int) -> None:
    small, large = (draw_phantom(1, index, height=h, width=w) for h, w in ((128, 104), (512, 416)))
    assert large.pixel_spacing_mm * 4 == pytest.approx(small.pixel_spacing_mm, rel=1e-12)
    np.testing.assert_allclose((large.points + 0.5) / 4, small.points + 0.5, atol=1e-9)


@pytest.mark.parametrize("index", range(3))
def test_picture_keeps_the_pixel_centre_convention_at_every_resolution(index: int) -> None:
    small, large = (draw_phantom(1, index, height=h, width=w, trouble=0).image for h, w in ((256, 208), (512, 416)))
    reduced = cv2.resize(large, (208, 256), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(shift_between(small, reduced), 0, atol=0.05)


def test_ear_rod_is_centred_on_the_porion_within_a_fraction_of_a_pixel(large: list[PhantomSample]) -> None:
    for sample in large:
        np.testing.assert_allclose(ear_rod_centre(sample), point(sample, "porion"), atol=0.4)


@pytest.mark.parametrize("name", ["subnasale", "upper_lip", "lower_lip", "soft_tissue_pogonion"])
def test_skin_meets_air_at_the_soft_tissue_landmarks(name: str, large: list[PhantomSample]) -> None:
    for sample in large:
        steps = np.arange(-12, 12, 0.05)
        smooth = cv2.GaussianBlur(sample.image.astype(np.float32), (0, 0), 1.0)
        label = point(sample, name)
        x, y = np.round(label).astype(int)
        slope_y, slope_x = np.gradient(cv2.GaussianBlur(smooth, (0, 0), 3.0)[y - 3 : y + 4, x - 3 : x + 4])
        normal = -np.array([slope_x.mean(), slope_y.mean()])
        values = along(smooth, label, normal / np.linalg.norm(normal), steps)
        assert abs(steps[np.argmin(np.gradient(values))]) < 1.25  # px of 0.24 mm


def test_upper_incisor_ends_at_its_tip(large: list[PhantomSample]) -> None:
    for sample in large:
        tip = point(sample, "upper_incisal_incision")
        root = point(sample, "subspinale_A") * 0.8 + point(sample, "anterior_nasal_spine") * 0.2
        direction = (tip - root) / np.linalg.norm(tip - root)
        mm = np.arange(-8, 4, 0.05)
        values = along(cv2.GaussianBlur(sample.image, (0, 0), 1.0), tip, direction, mm / sample.pixel_spacing_mm)
        assert values[(mm > -5) & (mm < -2)].mean() > values[(mm > 1)].mean() + 15
        assert abs(mm[np.argmin(np.gradient(values))]) < 0.7


def test_trouble_moves_points_by_a_similarity_that_the_picture_follows() -> None:
    moved_px = []
    for index in range(5):
        clean, troubled = (draw_phantom(3, index, height=512, width=416, trouble=t) for t in (0.0, 1.0))
        matrix, residual = similarity(clean.points, troubled.points)
        assert residual < 1e-9
        scale = float(np.hypot(*matrix[:, 0]))
        assert troubled.pixel_spacing_mm * scale == pytest.approx(clean.pixel_spacing_mm, rel=1e-9)
        np.testing.assert_allclose(ear_rod_centre(troubled), point(troubled, "porion"), atol=1.0)
        back = cv2.warpAffine(troubled.image, matrix, (416, 512), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        face = (slice(200, 440), slice(120, 360))
        np.testing.assert_allclose(shift_between(clean.image[face], back[face]), 0, atol=0.3)
        moved_px.append(np.linalg.norm(clean.points - troubled.points, axis=1).max())
        assert (clean.sex, clean.age_months) == (troubled.sex, troubled.age_months)
    assert max(moved_px) > 5  # the troubled films were indeed moved


def test_missing_labels_leave_everything_else_unchanged() -> None:
    missing = []
    for index in range(20):
        full = draw_phantom(6, index, height=96, width=78)
        gaps = draw_phantom(6, index, height=96, width=78, missing_fraction=0.3)
        gone = np.isnan(gaps.points).any(axis=1)
        np.testing.assert_array_equal(full.image, gaps.image)
        np.testing.assert_array_equal(full.points[~gone], gaps.points[~gone])
        assert np.isnan(gaps.points[gone]).all()
        assert np.isfinite(full.points).all()
        missing.append(gone.mean())
    assert 0.2 < np.mean(missing) < 0.4


def test_at_least_one_landmark_is_always_labelled() -> None:
    for index in range(10):
        labelled = np.isfinite(draw_phantom(6, index, height=64, width=64, missing_fraction=1.0).points).all(axis=1)
        assert labelled.sum() == 1


def test_landmarks_stay_inside_the_film(crowd: list[PhantomSample]) -> None:
    points = np.array([sample.points for sample in crowd])
    margin_px = np.minimum(points, (64, 79) - points).min()
    assert margin_px > 1.5


def test_mean_shape_is_as_poor_a_guess_as_on_real_films(crowd: list[PhantomSample]) -> None:
    spacing = np.array([sample.pixel_spacing_mm for sample in crowd])
    points = np.array([sample.points for sample in crowd])
    on_film = np.linalg.norm(points - points.mean(0), axis=-1).mean(1) * spacing
    assert 5 < on_film.mean() < 9
    shape = np.array([points_mm(sample) for sample in crowd])
    fitted = []
    for one in shape:  # what no shift, rotation and scale explains is the individual
        matrix, _ = similarity(shape.mean(0), one)
        fitted.append(np.linalg.norm(shape.mean(0) @ matrix[:, :2].T + matrix[:, 2] - one, axis=1).mean())
    assert np.mean(fitted) > 1.5


def test_age_and_sex_can_be_learned_from_the_points(crowd: list[PhantomSample]) -> None:
    shape = np.array([points_mm(sample).ravel() for sample in crowd])
    shape = np.c_[(shape - shape.mean(0)) / shape.std(0), np.ones(len(shape))]
    truth = np.array([(sample.age_months, sample.sex == "M") for sample in crowd], dtype=float)
    train, test = slice(0, 175), slice(175, None)
    mean = truth[train].mean(0)
    ridge = shape[train].T @ shape[train] + 3 * np.eye(shape.shape[1])
    guess = shape[test] @ np.linalg.solve(ridge, shape[train].T @ (truth[train] - mean)) + mean
    explained = 1 - ((guess - truth[test]) ** 2).mean(0) / truth[test].var(0)
    assert explained[0] > 0.4
    assert ((guess[:, 1] > 0.5) == truth[test][:, 1]).mean() > 0.65


def test_growth_stage_follows_age_and_girls_are_earlier(crowd: list[PhantomSample]) -> None:
    months = np.arange(AGE_RANGE_MONTHS[0], AGE_RANGE_MONTHS[1] + 1)
    girls, boys = ([GROWTH_STAGES.index(growth_stage(sex, age)) for age in months] for sex in "FM")
    assert set(girls) == set(boys) == set(range(len(GROWTH_STAGES)))
    assert (np.diff(girls) >= 0).all()
    assert (np.diff(boys) >= 0).all()
    assert (np.array(girls) >= np.array(boys)).all()
    assert {sample.growth_stage for sample in crowd} == set(GROWTH_STAGES)
    assert all(sample.growth_stage == growth_stage(sample.sex, sample.age_months) for sample in crowd)
    assert {sample.sex for sample in crowd} == {"F", "M"}


def test_bone_is_lighter_than_soft_tissue_and_soft_tissue_than_air(large: list[PhantomSample]) -> None:
    for sample in large:
        x, y = np.round(point(sample, "nasion")).astype(int)
        vault = sample.image[y - 250 : y - 150, x - 300 : x - 200].mean()
        lip_x, lip_y = np.round(point(sample, "upper_lip")).astype(int)
        lip = sample.image[lip_y - 8 : lip_y + 8, lip_x - 25 : lip_x - 12].mean()
        air = sample.image[lip_y - 8 : lip_y + 8, lip_x + 20 : lip_x + 40].mean()
        assert vault > lip + 40
        assert lip > air + 15


@pytest.mark.parametrize("size", [(64, 64), (96, 200), (300, 100)])
def test_any_frame_holds_the_whole_face(size: tuple[int, int]) -> None:
    height, width = size
    sample = draw_phantom(0, 1, height=height, width=width)
    assert sample.image.shape == size
    assert (sample.points > 0).all()
    assert (sample.points < (width - 1, height - 1)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 63}, {"width": 0}, {"missing_fraction": 1.5}, {"missing_fraction": -0.1}, {"trouble": -1.0},
        {"trouble": float("nan")}, {"missing_fraction": float("nan")}, {"seed": -1}, {"index": -3},
    ],
)  # fmt: skip
def test_an_impossible_argument_is_named_with_its_value(wrong: dict[str, float]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        draw_phantom(**({"seed": 0, "index": 0} | wrong))  # type: ignore[arg-type]
