"""The landmarks' region against boxes computed by hand, and runs that train on it."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, run_in_process
from faults import Fault, promised, run_main
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.geometry import WHOLE, Region
from data.records import LandmarkRecords
from data.region import Outside, Stretch, count_outside, landmark_region, lone_stretches
from trainer.region_advice import better_input_size, describe_region, region_warnings

NAN = float("nan")


def records_of(points: list, sizes: list, splits: list[str], region: Region = WHOLE) -> LandmarkRecords:
    return LandmarkRecords(
        image_names=[f"{index}.png" for index in range(len(points))],
        landmark_names=[str(landmark) for landmark in range(len(points[0]))],
        points=np.array(points, dtype=float),
        sizes=np.array(sizes),
        pixel_spacing_mm=np.full(len(points), NAN),
        splits=np.array(splits),
        read=lambda index: np.zeros(sizes[index][::-1], np.uint8),
        region=region,
    )


def two_sizes() -> LandmarkRecords:
    """Two training images of one median size, 100 x 200; the other splits' landmarks lie farther out."""
    points = [
        [[19.5, 99.5], [NAN, NAN]],  # shares 0.2, 0.5
        [[119.5, 59.5], [39.5, 49.5]],  # of 200 x 100: 0.6, 0.6 and 0.2, 0.5
        [[9.5, 119.5], [29.5, 109.5]],  # of 100 x 200: 0.1, 0.6 and 0.3, 0.55
        [[89.5, 19.5], [NAN, NAN]],
    ]
    return records_of(points, [[100, 200], [200, 100], [100, 200], [100, 200]], ["train", "train", "val", "test"])


def test_the_region_is_the_box_of_the_training_landmarks_in_shares_of_their_images():
    region = landmark_region(two_sizes(), 0.0)
    assert (region.left, region.top, region.right, region.bottom) == pytest.approx((0.2, 0.5, 0.6, 0.6))


def test_the_margin_is_a_share_of_the_larger_side_in_a_median_image_and_ends_at_the_edges():
    # 150 x 150 px at the median: the box has 60 x 15 px, a margin of a quarter is 15 px, 0.1 of either side.
    region = landmark_region(two_sizes(), 0.25)
    assert (region.left, region.top, region.right, region.bottom) == pytest.approx((0.1, 0.4, 0.7, 0.7))
    cut = landmark_region(two_sizes(), 1.0)
    assert (cut.left, cut.top, cut.right, cut.bottom) == pytest.approx((0, 0.1, 1, 1))


@given(
    points=st.lists(st.tuples(st.floats(-20, 400), st.floats(-20, 400)), min_size=3, max_size=12),
    size=st.tuples(st.integers(50, 400), st.integers(50, 400)),
)
def test_every_training_landmark_in_the_image_lies_in_the_region(points, size):
    records = records_of([[point] for point in points], [list(size)] * len(points), ["train"] * len(points))
    try:
        region = landmark_region(records, 0.1)
    except DataError:
        return
    shares = (np.array(points) + 0.5) / size
    inside = ((shares >= 0) & (shares <= 1)).all(axis=1)
    low, high = (region.left, region.top), (region.right, region.bottom)
    assert ((shares >= low) & (shares <= high)).all(axis=1)[inside].all()
    assert 0 <= region.left < region.right <= 1
    assert 0 <= region.top < region.bottom <= 1


@pytest.mark.parametrize("points", [[[[NAN, NAN]]], [[[50.0, 50.0]]], [[[200.0, 300.0]]]])
def test_landmarks_that_span_nothing_are_told(points):
    with pytest.raises(DataError, match="expected at least 8 x 8"):
        landmark_region(records_of(points, [[100, 100]], ["train"]), 0.1)


def test_landmarks_of_other_splits_are_counted_outside_the_region_and_outside_the_input():
    records = two_sizes()
    region = landmark_region(records, 0.0)
    assert count_outside(records, "val", region, (64, 64), "stretch") == Outside(2, 1, 1)
    # Letterboxed, 40 x 20 px of the image fill the width, and the height shows 20 px more of it.
    assert count_outside(records, "test", region, (64, 64), "letterbox") == Outside(1, 1, 1)
    higher = replace(records, points=records.points - [0, 5])
    assert count_outside(higher, "train", region, (64, 64), "letterbox") == Outside(3, 2, 0)
    assert count_outside(records, "train", region, (64, 64), "stretch") == Outside(3, 0, 0)


def test_an_image_that_alone_makes_the_region_longer_is_named():
    points = [[[30.0 + index, 40.0], [60.0, 70.0 + index]] for index in range(20)]
    points[3][1] = [99.0, 70.0]
    records = records_of(points, [[100, 100]] * 20, ["train"] * 20)
    (found,) = lone_stretches(records)
    assert found == Stretch("3.png", "right", pytest.approx(39 / 69))
    warning = "3.png alone makes the region of the landmarks 57% longer at its right; check where they are marked"
    assert warning in region_warnings(replace(records, region=landmark_region(records, 0.0)), (64, 128), "letterbox")
    assert lone_stretches(records_of(points[:19], [[100, 100]] * 19, ["train"] * 19)) == []  # too few to tell


def test_a_region_of_another_shape_than_the_input_is_advised_a_better_size():
    records = two_sizes()
    records = replace(records, region=Region(0.2, 0.2, 0.6, 0.3))  # 60 x 15 px of the median 150 x 150
    told = region_warnings(records, (256, 256), "letterbox")[-1]
    assert "leaves to other parts of the images 75%" in told
    assert "data.input_height=128 data.input_width=512 has its shape" in told
    assert "distorts by 75%" in region_warnings(records, (256, 256), "stretch")[-1]
    assert not any("shape" in line for line in region_warnings(records, (128, 512), "letterbox"))
    assert describe_region(records, (128, 512), "stretch")[0] == (
        "region: x 30 to 90, y 30 to 45 of 150 x 150 px; an input px is 0.12 px of the image, 1.17 without data.region"
    )


@given(
    sides=st.tuples(st.floats(30, 3000), st.floats(30, 3000)),
    size=st.tuples(st.integers(2, 32), st.integers(2, 32)),
)
def test_the_advised_size_is_of_multiples_and_about_as_large(sides, size):
    asked = (32 * size[0], 32 * size[1])
    height, width = better_input_size(sides, asked)
    assert height % 8 == 0
    assert width % 8 == 0
    if max(sides) / min(sides) < 3:
        assert 0.75 < height * width / (asked[0] * asked[1]) < 1.3


def test_a_run_on_a_region_keeps_it_and_a_resume_refuses_another(tmp_path: Path, caplog):
    with caplog.at_level(logging.INFO):
        run_in_process(tmp_path / "run", "data.region=landmarks", "max_steps=2", "phases.frozen.epochs=0")
    assert "region: x " in caplog.text
    written = json.loads((tmp_path / "run" / "labels.json").read_text())["region"]
    assert len(written) == 4
    assert json.loads((tmp_path / "run" / "results.json").read_text())["mapping"] == {"region": written}
    assert 0 <= written[0] < written[2] <= 1
    (tmp_path / "run" / "labels.json").write_text(json.dumps({"region": [0.0, 0.0, 0.5, 0.5]}))
    ended = run_main(f"resume={tmp_path / 'run'}", folder=tmp_path)
    assert ended.code == 3
    assert "region were [0.0, 0.0, 0.5, 0.5] when the run began" in ended.err


def _table_of_one_place(folder: Path) -> list[str]:
    from PIL import Image

    for index in range(4):
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(folder / f"{index}.png")
    (folder / "points.csv").write_text("image,x0,y0\n" + "".join(f"{index}.png,20,20\n" for index in range(4)))
    sizes = [text for text in TINY if not text.startswith(("data.num", "data.height", "data.width"))]
    return [*sizes, "data=csv", "data.table=points.csv", "data.region=landmarks"]


FAULTS = [
    Fault(
        "unknown region",
        2,
        "data.region=landmark is not one of full, landmarks",
        lambda folder: ["data.region=landmark"],
    ),
    Fault(
        "region of labels",
        2,
        "data.region=landmarks does not fit task=classification, it is for task=landmarks; leave it out",
        lambda folder: ["task=classification", "data.region=landmarks"],
    ),
    Fault(
        "region_margin outside 0 to 1",
        2,
        "data.region_margin=-0.5 must lie in 0 to 1",
        lambda folder: ["data.region_margin=-0.5"],
    ),
    Fault(
        "landmarks in one place under data.region=landmarks",
        3,
        "data.region=landmarks: with its margin the region of the training landmarks has 0 x 0 px in an image of "
        "40 x 40 px, expected at least 8 x 8. Mend the landmarks, or choose data.region=full.",
        _table_of_one_place,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    fault.check(tmp_path)


def test_the_page_promises_what_is_tested_here() -> None:
    assert {fault.name: (fault.code, fault.message) for fault in FAULTS}.items() <= promised().items()
