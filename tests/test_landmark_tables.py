"""Tables of landmarks: errors, radii and the distance between annotators stand in the right cells."""

import math

import numpy as np
import pytest

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
    found = predictions_of(6)
    one, other = np.random.default_rng(1).uniform(0, 100, (2, 6, 3, 2))
    one[4, 0] = np.nan
    other[:, 2] = np.nan  # one annotator alone marked it
    apart = {"points": one, "truth": other, "spacing_mm": found["spacing_mm"]}
    detail = landmark_details(found, NAMES, unit=unit, success_columns=[], sdr_thresholds=[2.0], apart=apart)
    assert [column.heading for column in detail.columns] == [
        "landmark", "images", f"MRE ({unit})", "annotators apart", "median", "95th percentile", "90 % radius"
    ]  # fmt: skip
    scale = found["spacing_mm"][:, None] if unit == "mm" else np.ones((6, 1))
    np.testing.assert_allclose(detail.rows["mean_radius"][:2], (scale * found["radius"])[:, :2].mean(axis=0))
    assert math.isnan(detail.rows["mean_radius"][2])
    for landmark, images in enumerate(([0, 1, 2, 3, 5], range(6))):
        distances = [scale[image, 0] * math.dist(one[image, landmark], other[image, landmark]) for image in images]
        assert detail.rows["annotators"][landmark] == pytest.approx(np.mean(distances))
    assert math.isnan(detail.rows["annotators"][2])
    del found["radius"]
    plain = landmark_details(found, NAMES, unit=unit, success_columns=[], sdr_thresholds=[2.0])
    assert len(plain.columns) == len(detail.columns) - 2
