"""Tables of landmarks: errors, radii and the distance between annotators stand in the right cells."""

import math

import numpy as np
import pytest

from trainer.tasks.landmark_annotators import between_annotators, inter_observer_error
from trainer.tasks.landmark_metrics import landmark_metrics
from trainer.tasks.landmark_tables import landmark_details, prediction_table

NAMES = ["sella", "nasion", "porion"]


def predictions_of(num_images: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (num_images, 3, 2))
    truth[0, 1] = np.nan
    radius = rng.uniform(1, 9, (num_images, 3))
    radius[:, 2] = np.nan  # too few images to tell
    return {
        "index": np.arange(num_images)[::-1] + 10,
        "points": np.nan_to_num(truth) + rng.normal(0, 3, truth.shape),
        "truth": truth,
        "spacing_mm": rng.uniform(0.1, 0.5, num_images),
        "radius": radius,
    }


def annotations_of(num_annotators: int, num_images: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 100, (1, num_images, 3, 2)) + rng.normal(0, 2, (num_annotators, num_images, 3, 2))
    points[rng.random(points.shape[:3]) < 0.3] = np.nan
    points[:-1, :, 2] = np.nan  # one annotator alone marked the last landmark
    return points


@pytest.mark.parametrize("unit", ["mm", "px"])
def test_a_row_has_the_image_its_points_errors_and_radii_in_the_unit(unit: str) -> None:
    found = predictions_of(5)
    names = [f"{number}.png" for number in range(20)]
    table = prediction_table(found, names, NAMES, split="val", unit=unit)
    assert list(table.columns) == ["image", "split", f"mre_{unit}"] + [
        f"{name}_{what}" for name in NAMES for what in ("x", "y", f"error_{unit}", f"radius90_{unit}")
    ]
    assert table["image"].tolist() == ["14.png", "13.png", "12.png", "11.png", "10.png"]
    for row in range(5):
        scale = found["spacing_mm"][row] if unit == "mm" else 1.0
        for landmark, name in enumerate(NAMES[:2]):
            assert table[f"{name}_radius90_{unit}"][row] == pytest.approx(scale * found["radius"][row, landmark])
            distance = math.dist(found["points"][row, landmark], found["truth"][row, landmark])
            assert table[f"{name}_error_{unit}"][row] == pytest.approx(scale * distance, nan_ok=True)
    written = table.to_csv(index=False, float_format="%.4f").splitlines()[1]
    assert written.endswith(",")  # no radius is empty, neither nan nor inf
    del found["radius"]
    assert not any("radius" in column for column in prediction_table(found, names, NAMES, split="val", unit=unit))


@pytest.mark.parametrize("unit", ["mm", "px"])
def test_every_landmark_has_its_mean_radius_and_the_distance_between_annotators(unit: str) -> None:
    found, annotations = predictions_of(6), annotations_of(3, 6)
    detail = landmark_details(
        found, NAMES, unit=unit, success_columns=[], sdr_thresholds=[2.0], annotations=annotations
    )
    assert [column.heading for column in detail.columns][-2:] == ["90 % radius", "between annotators"]
    scale = found["spacing_mm"][:, None] if unit == "mm" else 1.0
    np.testing.assert_allclose(detail.rows["mean_radius"][:2], (scale * found["radius"])[:, :2].mean(axis=0))
    assert math.isnan(detail.rows["mean_radius"][2])
    expected = inter_observer_error(annotations, found["spacing_mm"], unit)[0]
    np.testing.assert_array_equal(detail.rows["between_annotators"], expected)
    del found["radius"]
    plain = landmark_details(found, NAMES, unit=unit, success_columns=[], sdr_thresholds=[2.0])
    assert len(plain.columns) == len(detail.columns) - 2


@pytest.mark.parametrize("unit", ["mm", "px"])
@pytest.mark.parametrize("num_annotators", [2, 4])
def test_the_inter_observer_error_equals_a_loop_over_pairs(num_annotators: int, unit: str) -> None:
    annotations, spacing = annotations_of(num_annotators, 7), np.linspace(0.1, 0.7, 7)
    distances: list[list[float]] = [[], [], []]
    for first in range(num_annotators):
        for second in range(first):
            for image in range(7):
                for landmark in range(3):
                    px = math.dist(annotations[first, image, landmark], annotations[second, image, landmark])
                    if not math.isnan(px):
                        distances[landmark].append(px * (spacing[image] if unit == "mm" else 1.0))
    per_landmark, overall = inter_observer_error(annotations, spacing, unit)
    assert per_landmark[:2] == pytest.approx([np.mean(distances[0]), np.mean(distances[1])])
    assert math.isnan(per_landmark[2])
    assert overall == pytest.approx(np.mean(distances[0] + distances[1]))


def test_metrics_of_annotators_are_those_of_one_who_is_judged_by_another() -> None:
    annotations, spacing = annotations_of(3, 7), np.linspace(0.1, 0.7, 7)
    pairs = between_annotators(annotations, spacing)
    measured = landmark_metrics(
        pairs["points"],
        pairs["truth"],
        pairs["spacing_mm"],
        unit="mm",
        sdr_thresholds=(0.5,),
        nme=None,
        nme_landmarks=None,
    )
    assert measured["mre_mm"] == pytest.approx(inter_observer_error(annotations, spacing, "mm")[1])
    assert measured["mre_px"] == pytest.approx(inter_observer_error(annotations, spacing, "px")[1])
    assert 0 < measured["sdr_0.5mm"] < 1
    np.testing.assert_array_equal(pairs["index"][:7], np.arange(7))
    assert len(pairs["index"]) == 6 * 7
