"""Circles hold the truth as often as the theory of conformal prediction says, whatever the errors are like."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from trainer.tasks.landmark_calibration import (
    Calibration,
    calibrate,
    conformal_factors,
    coverage_findings,
    landmark_certainty,
    left_out_radii,
    nonconformity,
    pooled_factor,
)

Predictions = dict[str, np.ndarray]


def simulated(rng: np.random.Generator, num_images: int, num_landmarks: int, *, together: float = 0.0) -> Predictions:
    """Errors of any direction, on average as large as a spread that differs a hundredfold.

    `together`: how strongly the errors within an image go together, as the sigma of a factor's logarithm.
    """
    spread = rng.lognormal(0.0, 1.0, (num_images, num_landmarks))
    factor = rng.lognormal(0.0, together, (num_images, 1)) if together else 1.0
    length = factor * spread * rng.gamma(2.0, 0.5, spread.shape)
    angle = rng.uniform(0, 2 * math.pi, spread.shape)
    truth = rng.uniform(0, 200, (*spread.shape, 2))
    return {
        "index": np.arange(num_images),
        "points": truth + length[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1),
        "truth": truth,
        "spacing_mm": np.full(num_images, 0.5),
        "spread": spread,
    }


def held(predictions: Predictions, radii: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(predictions["points"] - predictions["truth"], axis=-1)
    return np.asarray(distances <= radii)


def names(count: int) -> list[str]:
    return [f"landmark {number}" for number in range(count)]


@pytest.mark.parametrize("num_images", [9, 19, 24, 60])
def test_the_share_that_is_held_has_the_beta_binomial_distribution_of_the_theory(num_images: int) -> None:
    """Each of 2,000 landmarks is an experiment: calibrated on n images, judged on 30 others (Vovk 2012)."""
    rng = np.random.default_rng(num_images)
    experiments, judged = 2000, 30
    calibration = calibrate(simulated(rng, num_images, experiments), names(experiments))
    others = simulated(rng, judged, experiments)
    counts = held(others, calibration.radii(others["spread"])).sum(axis=0)
    rank = math.ceil(round(0.9 * (num_images + 1), 6))
    theory = stats.betabinom(judged, rank, num_images + 1 - rank)
    values = np.arange(15, judged + 1)
    expected = experiments * np.append(theory.cdf(15), theory.pmf(values[1:]))
    observed = np.bincount(np.maximum(counts, 15), minlength=judged + 1)[15:]
    few = np.flatnonzero(np.cumsum(expected) >= 5)[0]  # cells of a chi-square test hold five or more
    expected, observed = (np.append(cells[: few + 1].sum(), cells[few + 1 :]) for cells in (expected, observed))
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_one_factor_for_all_holds_a_landmark_of_a_new_image_in_90_percent_though_errors_of_an_image_go_together() -> (
    None
):
    """Within the bounds of the theory: 0.9 and 0.9 + 1 / (n + 1), for n images of 1 to 8 landmarks."""
    rng = np.random.default_rng(1)
    experiments, num_images, num_landmarks = 3000, 15, 8
    found = simulated(rng, experiments * (num_images + 1), num_landmarks, together=1.0)
    scores = nonconformity(found)
    shown = rng.integers(1, num_landmarks + 1, len(scores))  # landmarks of an image, and worse with more of them
    scores = np.where(np.arange(num_landmarks) < shown[:, None], scores * shown[:, None], np.nan)
    shares = []
    for images in scores.reshape(experiments, num_images + 1, num_landmarks):
        new = images[-1][~np.isnan(images[-1])]
        shares.append((new <= pooled_factor(images[:-1], 0.9)).mean())
    noise = 3.3 * np.std(shares) / math.sqrt(experiments)  # 99.9 %
    assert 0.9 - noise <= np.mean(shares) <= 0.9 + 1 / (num_images + 1) + noise


def test_factors_are_the_order_statistics_of_a_plain_sort() -> None:
    scores = np.random.default_rng(2).gamma(2.0, 1.0, (69, 4))
    scores[:50, 1] = np.nan  # 19 are left
    expected = [
        sorted(scores[:, 0])[62],  # 0.9 * 70 is 63.00000000000001
        sorted(scores[50:, 1])[17],
        sorted(scores[:, 2])[62],
        sorted(scores[:, 3])[62],
    ]
    assert conformal_factors(scores, 0.9).tolist() == expected


@pytest.mark.parametrize("factor", [0.01, 3.0])
def test_another_unit_changes_nothing_but_the_unit(factor: float) -> None:
    found = simulated(np.random.default_rng(3), 25, 4)
    scaled = {**found, **{key: factor * found[key] for key in ("points", "truth", "spread")}}
    radii, of_scaled = (calibrate(each, names(4)).radii(each["spread"]) for each in (found, scaled))
    np.testing.assert_allclose(of_scaled, factor * radii, rtol=1e-9)
    np.testing.assert_allclose(left_out_radii(scaled), factor * left_out_radii(found), rtol=1e-9)


def test_twice_the_spread_everywhere_gives_the_same_circles() -> None:
    found = simulated(np.random.default_rng(4), 25, 4)
    doubled = {**found, "spread": 2 * found["spread"]}
    radii, of_doubled = (calibrate(each, names(4)).radii(each["spread"]) for each in (found, doubled))
    np.testing.assert_allclose(of_doubled, radii)


def test_missing_landmarks_count_nowhere() -> None:
    found = simulated(np.random.default_rng(5), 40, 3)
    found["truth"][30:, 1] = np.nan
    found["truth"][35] = np.nan  # an image without any
    findings = landmark_certainty({"val": found}, names(3), "px").findings
    without = {key: np.delete(values, 35, axis=0) for key, values in found.items()}
    assert landmark_certainty({"val": without}, names(3), "px").findings == findings
    assert findings["images"] == 39
    assert [row["count"] for row in findings["per_landmark"]] == [39, 30, 39]
    first = {key: values[:30] for key, values in found.items()}
    assert calibrate(found, names(3)).factors[1] == calibrate(first, names(3)).factors[1]


def test_a_landmark_that_few_images_show_gets_the_factor_of_all_together() -> None:
    found = simulated(np.random.default_rng(6), 40, 3)
    found["truth"][8:, 2] = np.nan
    factors = calibrate(found, names(3)).factors
    assert factors[2] == pooled_factor(nonconformity(found), 0.9)
    assert factors[0] != factors[2]


def test_below_nine_images_there_is_no_circle_and_no_infinity() -> None:
    rng = np.random.default_rng(7)
    few, enough = (simulated(rng, count, 2) for count in (8, 9))
    assert calibrate(few, names(2)).factors == (None, None)
    assert None not in calibrate(enough, names(2)).factors
    certainty = landmark_certainty({"val": few}, names(2), "mm")
    assert np.isnan(certainty.predictions["val"]["radius"]).all()
    assert certainty.findings["images"] == 8
    assert math.isnan(certainty.findings["coverage"])
    assert math.isnan(certainty.findings["mean_radius_mm"])
    assert certainty.findings["coverage_by_radius"] == []


def test_a_prediction_that_is_not_finite_is_one_that_no_circle_holds() -> None:
    found = simulated(np.random.default_rng(8), 19, 2)
    found["points"][0, 0] = np.nan
    scores = nonconformity(found)
    assert scores[0, 0] == np.inf
    assert np.isfinite(np.delete(scores, 0, axis=0)).all()
    assert calibrate(found, names(2)).factors[0] == np.sort(scores[:, 0])[17]
    found["points"][1, 0] = np.nan  # two of 19 leave no circle that would hold 90 %
    assert calibrate(found, names(2)).factors[0] is None


def test_an_image_that_is_left_out_has_the_circles_of_the_others() -> None:
    found = simulated(np.random.default_rng(9), 14, 3)
    found["truth"][3:5, 1] = np.nan
    found["truth"][6] = np.nan
    radii = left_out_radii(found)
    for image in range(14):
        others = {key: np.delete(values, image, axis=0) for key, values in found.items()}
        expected = calibrate(others, names(3)).radii(found["spread"][image : image + 1])[0]
        np.testing.assert_array_equal(radii[image], expected if image != 6 else np.full(3, np.nan))


def test_of_many_images_two_hundred_are_left_out_in_turn_from_the_first_to_the_last() -> None:
    radii = left_out_radii(simulated(np.random.default_rng(10), 431, 1))
    chosen = np.flatnonzero(np.isfinite(radii[:, 0]))
    assert len(chosen) == 200
    assert (chosen[0], chosen[-1]) == (0, 430)


def test_findings_equal_a_loop_over_the_landmarks() -> None:
    found = simulated(np.random.default_rng(11), 12, 2)
    found["truth"][4, 1] = np.nan
    radii = np.random.default_rng(12).uniform(0.1, 3.0, (12, 2))
    radii[5, 0] = np.nan
    findings = coverage_findings(found, radii, ["a", "b"], "mm")
    rows = []
    for image in range(12):
        for landmark in range(2):
            distance = math.dist(found["points"][image, landmark], found["truth"][image, landmark])
            if not math.isnan(distance) and not math.isnan(radii[image, landmark]):
                rows.append((radii[image, landmark], landmark, distance <= radii[image, landmark]))
    assert findings["coverage"] == pytest.approx(np.mean([ok for *_, ok in rows]))
    assert findings["mean_radius_mm"] == pytest.approx(0.5 * np.mean([radius for radius, *_ in rows]))
    in_order = [ok for *_, ok in sorted(rows)]
    thirds = [in_order[:8], in_order[8:15], in_order[15:]]
    assert findings["coverage_by_radius"] == pytest.approx([np.mean(third) for third in thirds])
    for landmark, row in enumerate(findings["per_landmark"]):
        of_landmark = [(radius, ok) for radius, which, ok in rows if which == landmark]
        assert row["count"] == len(of_landmark)
        assert row["coverage"] == pytest.approx(np.mean([ok for _, ok in of_landmark]))
        assert row["mean_radius_mm"] == pytest.approx(0.5 * np.mean([radius for radius, _ in of_landmark]))
    low, high = findings["coverage_interval"]
    assert 0 <= low <= findings["coverage"] <= high <= 1


def test_circles_are_judged_on_the_test_split_where_there_is_one() -> None:
    rng = np.random.default_rng(13)
    val, test = simulated(rng, 200, 5), simulated(rng, 100, 5)
    certainty = landmark_certainty({"val": val, "test": test}, names(5), "mm")
    calibration = calibrate(val, names(5))
    for split, found in (("val", val), ("test", test)):
        radius = certainty.predictions[split]["radius"]
        np.testing.assert_array_equal(radius, calibration.radii(found["spread"]))
    assert certainty.findings["coverage_on"] == "test"
    assert certainty.findings["calibrated_on"] == "val"
    assert certainty.findings["coverage"] == held(test, certainty.predictions["test"]["radius"]).mean()
    assert landmark_certainty({"val": val}, names(5), "mm").findings["coverage_on"] == "val, leave one image out"


def test_spreads_that_say_nothing_are_told_by_the_thirds_of_the_circles() -> None:
    """The share held is right either way; only a good spread holds as many truths by small circles as by large ones."""
    rng = np.random.default_rng(14)
    good, bad = simulated(rng, 200, 5), simulated(rng, 200, 5)
    bad["spread"] = rng.permuted(bad["spread"])
    told, misled = (landmark_certainty({"val": each}, names(5), "px").findings for each in (good, bad))
    assert abs(told["coverage"] - 0.9) < 0.02
    assert abs(misled["coverage"] - 0.9) < 0.02
    assert max(told["coverage_by_radius"]) - min(told["coverage_by_radius"]) < 0.06
    assert misled["coverage_by_radius"][2] - misled["coverage_by_radius"][0] > 0.15


def test_a_calibration_goes_through_json() -> None:
    calibration = Calibration(level=0.9, landmark_names=("a", "größe"), factors=(1.25, None), num_images=30)
    read = Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False)))
    assert read == calibration
    np.testing.assert_array_equal(read.radii(np.array([[2.0, 1.0]])), [[2.5, np.nan]])
