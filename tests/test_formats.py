"""Landmark formats: files written by hand as their documentation has them, and what comes back of what was written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.errors import DataError
from data.formats.asked import Asked
from data.formats.marked_images import MarkedImages, by_one, checked, numbers
from data.formats.registry import FORMATS, format_of_source, format_of_target
from data.formats.writing import write_files, write_folder

NAN = float("nan")


def read(path: Path, **asked: object) -> MarkedImages:
    form = FORMATS[format_of_source(path)]
    return checked(form.read(path, Asked(**{"first_pixel": form.first_pixel, **asked})))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def picture(path: Path, width: int = 60, height: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width), np.uint8)).save(path)


def test_isbi_files_have_points_then_classes(tmp_path: Path) -> None:
    for name, text in (("001.txt", "835,996\n1473,1029\n1\n3\n"), ("010.txt", "1,2\r\n3,4.5\r\n2\r\n")):
        write(tmp_path / "txt" / name, text)
    for name in ("001.bmp", "010.bmp"):
        picture(tmp_path / "RawImage" / "TrainingData" / name)
    marked = read(tmp_path / "txt", images=tmp_path / "RawImage")
    assert marked.image_names == ["TrainingData/001.bmp", "TrainingData/010.bmp"]
    assert (marked.landmark_names, marked.annotators) == (["0", "1"], [])
    assert marked.notes == ["3 lines of classes"]
    np.testing.assert_array_equal(marked.points, [[[[835, 996], [1473, 1029]], [[1, 2], [3, 4.5]]]])


def test_isbi_folders_are_annotators_and_what_one_did_not_mark_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "400_junior" / "001.txt", "1,2\n")
    write(tmp_path / "400_senior" / "001.txt", "3,4\n")
    write(tmp_path / "400_senior" / "002.txt", "5,6\n")
    for name in ("001.bmp", "002.bmp"):
        picture(tmp_path / "images" / name)
    marked = read(tmp_path, images=tmp_path / "images")
    assert marked.annotators == ["400_junior", "400_senior"]
    np.testing.assert_array_equal(marked.points, [[[[1, 2]], [[NAN, NAN]]], [[[3, 4]], [[5, 6]]]])
    np.testing.assert_array_equal(by_one(marked, "mean").points, [[[[2, 3]], [[5, 6]]]])
    np.testing.assert_array_equal(by_one(marked, "400_junior").points, [[[[1, 2]], [[NAN, NAN]]]])


def test_pts_counts_from_1(tmp_path: Path) -> None:
    write(tmp_path / "a.pts", "version: 1\nn_points:  2\n{\n1.000000 1.000000\n212.716603 499.771793\n}\n")
    picture(tmp_path / "a.png")
    marked = read(tmp_path)
    assert marked.image_names == ["a.png"]
    np.testing.assert_array_equal(marked.points, [[[[0, 0], [211.716603, 498.771793]]]])
    assert read(tmp_path, first_pixel=0).points[0, 0, 0].tolist() == [1, 1]


COCO = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 60, "height": 40},
        {"id": 9, "file_name": "b.jpg", "width": 50, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 1, "iscrowd": 0, "keypoints": [3, 4, 2, 0, 0, 0, 5.5, 6, 1]},
        {"id": 2, "image_id": 9, "category_id": 1, "iscrowd": 1, "num_keypoints": 0, "keypoints": [0] * 9},
    ],
    "categories": [{"id": 1, "name": "head", "keypoints": ["nose", "chin", "ear"], "skeleton": []}],
}  # fmt: skip


def test_coco_visibility_0_is_missing_and_coordinates_are_ours(tmp_path: Path) -> None:
    marked = read(write(tmp_path / "c.json", json.dumps(COCO)))
    assert marked.image_names == ["a.jpg", "b.jpg"]
    assert marked.landmark_names == ["nose", "chin", "ear"]
    assert marked.sizes == [(60, 40), (50, 30)]
    np.testing.assert_array_equal(marked.points, [[[[NAN, NAN]] * 3, [[3, 4], [NAN, NAN], [5.5, 6]]]])


def test_coco_groups_may_be_whole_numbers_and_what_some_images_lack_is_told(tmp_path: Path) -> None:
    told = [{"split": "train", "group": 5}, {"split": "", "group": "p 6"}]
    images = [image | more for image, more in zip(COCO["images"], told, strict=True)]
    marked = read(write(tmp_path / "c.json", json.dumps(COCO | {"images": images})))
    assert (marked.split, marked.group) == (None, ["5", "p 6"])
    assert marked.notes == ["1 objects without keypoints", "split of 1 images, which the other 1 lack"]


def region(label: str, x: float, y: float, **more: object) -> dict[str, object]:
    value = {"x": x, "y": y, "width": 2, "keypointlabels": [label]}
    around = {"original_width": 200, "original_height": 100, "image_rotation": 0}
    return {
        "id": label,
        "type": "keypointlabels",
        "from_name": "kp",
        "to_name": "img",
        **around,
        "value": value,
        **more,
    }


def test_label_studio_percent_run_from_edge_to_edge_of_the_image(tmp_path: Path) -> None:
    """0 % is the left edge of the first pixel, whose centre is ours 0; 100 % the right edge of the last one."""
    tasks = [
        {
            "id": 1,
            "data": {"image": "/data/upload/3/1a2b3c4d-001.jpg"},
            "annotations": [
                {
                    "completed_by": 1,
                    "was_cancelled": False,
                    "result": [
                        region("sella", 0, 0),
                        region("nasion", 100, 100),
                        {"type": "rectanglelabels", "value": {}},
                    ],
                },
                {"completed_by": 2, "was_cancelled": True, "result": [region("sella", 50, 50)]},
            ],
        },
        {"id": 2, "data": {"image": "002.jpg"}, "predictions": [{"result": [region("sella", 50, 50)]}]},
    ]
    marked = read(write(tmp_path / "ls.json", json.dumps(tasks)))
    assert (marked.image_names, marked.annotators) == (["001.jpg", "002.jpg"], [])
    assert marked.sizes == [(200, 100), None]
    assert marked.landmark_names == ["sella", "nasion"]
    np.testing.assert_array_equal(marked.points, [[[[-0.5, -0.5], [199.5, 99.5]], [[NAN, NAN]] * 2]])
    assert marked.notes == [
        "1 regions that are no keypoint with a label",
        "the predictions of 1 images that nobody annotated",
    ]


def test_label_studio_people_who_marked_one_image_are_annotators(tmp_path: Path) -> None:
    people: list[object] = [{"id": 5, "email": "a@b.org"}, 2]
    annotations = [{"completed_by": who, "result": [region("s", 10 * i, 50)]} for i, who in enumerate(people)]
    marked = read(write(tmp_path / "ls.json", json.dumps([{"data": {"image": "1.jpg"}, "annotations": annotations}])))
    assert marked.annotators == ["a@b.org", "2"]
    np.testing.assert_array_equal(marked.points, [[[[-0.5, 49.5]]], [[[19.5, 49.5]]]])


def test_label_studio_groups_may_be_whole_numbers_and_what_some_images_lack_is_told(tmp_path: Path) -> None:
    told = [{"split": "train", "group": 0}, {"split": None, "group": 1}, {"group": True}]
    tasks = [
        {"data": {"image": f"{i}.jpg", **more}, "annotations": [{"result": [region("s", 1, 2)]}]}
        for i, more in enumerate(told)
    ]
    marked = read(write(tmp_path / "two.json", json.dumps(tasks[:2])))
    assert (marked.split, marked.group) == (None, ["0", "1"])
    assert marked.notes == ["split of 1 images, which the other 1 lack"]
    notes = read(write(tmp_path / "all.json", json.dumps(tasks))).notes
    assert notes == ["split of 1 images, which the other 2 lack", "group of 2 images, which the other 1 lack"]


def test_label_studio_csv_and_json_min_have_the_points_in_a_column(tmp_path: Path) -> None:
    points = [
        {"x": 50.0, "y": 50.0, "width": 2, "keypointlabels": ["sella"], "original_width": 200, "original_height": 100}
    ]
    text = json.dumps(points).replace('"', '""')
    columns = '"annotation_id","annotator","created_at","id","img","kp","lead_time","updated_at"'
    rows = f'7,"a@b.org","2026-01-01",1,"/data/local-files/?d=xrays/001.jpg","{text}",3.1,"2026-01-01"'
    flat = [{"img": "/data/local-files/?d=xrays/001.jpg", "id": 1, "kp": points, "annotator": 1, "annotation_id": 7}]
    for path in (
        write(tmp_path / "export.csv", f"{columns}\n{rows}\n"),
        write(tmp_path / "min.json", json.dumps(flat)),
    ):
        marked = read(path)
        assert (marked.image_names, marked.landmark_names) == (["001.jpg"], ["sella"])
        np.testing.assert_array_equal(marked.points, [[[[99.5, 49.5]]]])
    picture(tmp_path / "folder" / "xrays" / "001.jpg")
    assert read(tmp_path / "min.json", images=tmp_path / "folder").image_names == ["xrays/001.jpg"]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels>
    <label><name>nasion</name><attributes></attributes></label>
    <label><name>sella</name><attributes></attributes></label>
    <label><name>plate</name><attributes></attributes></label>
  </labels></task></meta>
  <image id="0" name="a&amp;b.jpg" width="1600" height="1200">
    {shapes}
    <box label="plate" xtl="797.33" ytl="870.92" xbr="965.52" ybr="928.94" occluded="0" z_order="4"></box>
  </image>
  <image id="1" name="c.jpg" width="1600" height="1200"></image>
</annotations>
"""


@pytest.mark.parametrize(
    ("shapes", "names", "points"),
    [
        (
            (
                '<points label="sella" points="574.90,939.48" occluded="0" z_order="5"></points>'
                '<points label="nasion" points="0.00,1200.00" occluded="0"></points>'
            ),
            ["nasion", "sella"],
            [[-0.5, 1199.5], [574.4, 938.98]],
        ),
        ('<points label="head" points="1.50,2.50;3.50,4.50" occluded="0"></points>', ["0", "1"], [[1, 2], [3, 4]]),
        (
            (
                '<skeleton label="head"><points label="sella" outside="0" points="1.50,2.50"></points>'
                '<points label="nasion" outside="1" points="9.00,9.00"></points></skeleton>'
            ),
            ["sella"],
            [[1, 2]],
        ),
    ],
)
def test_cvat_points_shapes_and_skeletons(
    shapes: str, names: list[str], points: list[list[float]], tmp_path: Path
) -> None:
    marked = read(write(tmp_path / "c.xml", CVAT.format(shapes=shapes)))
    assert (marked.image_names, marked.landmark_names) == (["a&b.jpg", "c.jpg"], names)
    np.testing.assert_array_equal(marked.points[0, 0], points)
    assert np.isnan(marked.points[0, 1]).all()
    assert marked.notes == ["1 shapes that are no points"]


def test_cvat_shapes_of_all_landmarks_in_a_file_of_one_line(tmp_path: Path) -> None:
    shape = '<points label="head" points="1.50,2.50;3.50,4.50"/>'
    images = [f'<image id="{i}" name="{i}.jpg" width="60" height="40">{shape}</image>' for i in range(2)]
    marked = read(write(tmp_path / "c.xml", f"<annotations>{''.join(images)}</annotations>"))
    assert marked.image_names == ["0.jpg", "1.jpg"]
    np.testing.assert_array_equal(marked.points, [[[[1, 2], [3, 4]]] * 2])


def test_datumaro_points_of_cvat(tmp_path: Path) -> None:
    labels = {
        "label": {"labels": [{"name": "sella", "parent": "", "attributes": []}, {"name": "car"}], "attributes": []}
    }
    annotations = [
        {"id": 0, "type": "points", "attributes": {}, "group": 0, "label_id": 0, "points": [1.5, 2.5], "z_order": 0},
        {"id": 1, "type": "bbox", "attributes": {}, "group": 1, "label_id": 1, "z_order": 0, "bbox": [1, 2, 3, 4]},
    ]
    content = {"info": {}, "categories": labels, "items": [{"id": "img1", "annotations": annotations}]}
    picture(tmp_path / "img1.png")
    marked = read(write(tmp_path / "default.json", json.dumps(content)))
    assert (marked.image_names, marked.landmark_names) == (["img1.png"], ["sella"])
    np.testing.assert_array_equal(marked.points, [[[[1, 2]]]])


def test_predictions_of_a_run_are_a_source(tmp_path: Path) -> None:
    text = "image,split,mre_mm,0_x,0_y,0_error_mm,0_radius90_mm,1_x,1_y,1_error_mm\na.png,val,1.5,1,2,.1,3,4,5,.2\n"
    marked = read(write(tmp_path / "predictions.csv", text))
    assert marked.numbered
    assert marked.split == ["val"]
    np.testing.assert_array_equal(marked.points, [[[[1, 2], [4, 5]]]])


NAMES = st.text(
    st.characters(codec="utf-8", categories=["L", "N"], include_characters=" _-.'&<\""), min_size=1, max_size=8
)


@st.composite
def tables(draw: st.DrawFn) -> MarkedImages:
    """Tables as they may be; images are of 60 x 40 px, in a folder of their own or not."""
    images = draw(
        st.lists(st.sampled_from(["a.png", "10.png", "9.png", "sub/a b.png", "ü#1%.png"]), min_size=1, unique=True)
    )
    names = draw(st.lists(NAMES.map(lambda name: f"n{name.strip()}q"), min_size=1, max_size=3, unique_by=str.casefold))
    if draw(st.booleans()):
        names = numbers(len(names))
    annotators = draw(st.sampled_from([[], [], ["anna", "Dr. B"]]))
    shape = (max(1, len(annotators)), len(images), len(names), 2)
    coordinate = st.floats(-20, 5000, allow_nan=False).map(lambda value: round(value, 9))
    values = draw(st.lists(coordinate, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    points = np.array(values).reshape(shape) + 0.0
    hidden = draw(st.lists(st.booleans(), min_size=int(np.prod(shape[:3])), max_size=int(np.prod(shape[:3]))))
    points[np.array(hidden).reshape(shape[:3]) & draw(st.booleans())] = np.nan
    told = draw(st.booleans())
    return MarkedImages(
        Path("table.csv"),
        images,
        [f"line {i + 2}" for i in range(len(images))],
        names,
        points,
        annotators,
        [(60, 40)] * len(images),
        [0.1 if told else None] * len(images),
        ["train"] * len(images) if told else None,
        ["p 1"] * len(images) if told else None,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("a.png", "10.png", "9.png", "sub/a b.png", "ü#1%.png"):
        picture(folder / name)
    return folder


@pytest.mark.parametrize("form", list(FORMATS))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=tables())
def test_what_is_written_comes_back(
    form: str, table: MarkedImages, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """csv -> form -> csv: the same names, and points to the form's own digits; coco and csv to the last bit."""
    folder = tmp_path_factory.mktemp("out")
    if form in ("coco", "cvat", "isbi", "pts"):
        table = by_one(table, "mean" if table.annotators else None)
    if form in ("isbi", "pts"):
        table.points[np.isnan(table.points)] = 7.25
    if np.isnan(table.points).all():
        table.points[0, 0, 0] = 1
    if table.annotators:  # a person is known by what they marked
        table.points[:, 0, 0] = 3
    first = folder / "first.csv"
    write_files(FORMATS["csv"].render(table, first, ""))
    start = read(first)
    np.testing.assert_array_equal(start.points, table.points)
    to = folder / f"out{FORMATS[form].ending}"
    files = FORMATS[form].render(table, to, "/data/local-files/?d=x/")
    write_files(files) if FORMATS[form].ending else write_folder(to, files)
    again = FORMATS[form].read(
        to, Asked(first_pixel=FORMATS[form].first_pixel, images=pictures, image_prefix="/data/local-files/?d=x/")
    )
    order = [again.image_names.index(name) for name in start.image_names]
    tolerance = 0 if form in ("csv", "coco") else 2e-6
    if form in ("isbi", "pts"):  # they have no names
        assert len(again.landmark_names) == len(start.landmark_names)
    else:
        assert again.landmark_names == start.landmark_names
    assert again.annotators == start.annotators
    np.testing.assert_allclose(again.points[:, order], start.points, rtol=0, atol=tolerance)
    for key in FORMATS[form].keeps:
        name = "spacing_mm" if key == "pixel_spacing_mm" else key
        assert getattr(again, name) == getattr(start, name)
    last = folder / "last.csv"
    write_files(FORMATS["csv"].render(again, last, ""))
    np.testing.assert_array_equal(read(last).points, again.points)


@pytest.mark.real_data
@pytest.mark.parametrize("form", list(FORMATS))
def test_the_cephalograms_come_back(form: str, tmp_path: Path) -> None:
    ceph = Path(os.environ.get("TRAINER_TEST_DATA", "../shared/data")) / "ceph"
    if not ceph.is_dir():
        pytest.skip("the research images are not here")
    table = FORMATS["csv"].read(ceph / "landmarks.csv", Asked(first_pixel=0))
    table.sizes[:] = [(645, 800)] * 150
    to = tmp_path / f"out{FORMATS[form].ending}"
    files = FORMATS[form].render(table, to, "")
    write_files(files) if FORMATS[form].ending else write_folder(to, files)
    again = read(to, images=ceph / "images")
    assert again.image_names == table.image_names
    np.testing.assert_allclose(again.points, table.points, rtol=0, atol=0 if form in ("csv", "coco", "isbi") else 1e-6)


def test_names_that_no_table_can_hold_are_refused(tmp_path: Path) -> None:
    for names in (["a", "A"], [" a", "b"], ["a;b;c", "d;e;f"]):
        table = MarkedImages(Path("t.json"), ["a.png"], ["images[0]"], names, np.zeros((1, 1, 2, 2)))
        with pytest.raises(DataError, match="reads back the same"):
            FORMATS["csv"].render(table, tmp_path / "t.csv", "")


def test_names_do_not_leave_the_folder_that_is_written(tmp_path: Path) -> None:
    for name in ("/etc/a.png", "../a.png", "b/../../a.png", "..\\a.png"):
        table = MarkedImages(Path("t.csv"), [name], ["line 2"], ["0"], np.zeros((1, 1, 1, 2)))
        with pytest.raises(DataError, match="outside of its folder"):
            FORMATS["pts"].render(table, tmp_path / "out", "")


def test_the_ending_tells_the_target_where_one_format_has_it(tmp_path: Path) -> None:
    assert format_of_target(Path("a.csv")) == "csv"
    assert format_of_target(Path("a.xml")) == "cvat"
    for name in ("a.json", "folder"):
        with pytest.raises(ValueError, match="add format="):
            format_of_target(Path(name))
