"""Landmarks of several annotators: tables against points written by hand, samples, and what a run reports."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_LABELS
from faults import Fault, promised, run_main
from PIL import Image

from data.annotators import between_annotators, mean_points
from data.datasets import LandmarkDataset
from data.errors import DataError
from data.records import csv_records
from data.tables import LandmarkTable, read_landmark_table

NAN = float("nan")
CSV = [text for text in TINY if not text.startswith(("data.num", "data.height", "data.width"))]


def write(folder: Path, text: str, name: str = "points.csv") -> Path:
    (folder / name).write_text(text)
    for row in text.splitlines()[1:]:
        Image.fromarray(np.full((40, 50), 9, np.uint8)).save(folder / row.split(",")[0])
    return folder / name


def read(folder: Path, text: str, *others: str) -> LandmarkTable:
    tables = [write(folder, other, f"other{index}.csv") for index, other in enumerate(others)]
    return read_landmark_table(write(folder, text), more_tables=tables)


TWO = "image,x0_a,y0_a,x0_b,y0_b,x1_a,y1_a,x1_b,y1_b\na.png,1,2,3,6,10,11,,\nb.png,5,6,5,6,,,,\n"


def test_suffixed_columns_are_read_per_annotator_and_averaged_over_those_who_marked(tmp_path):
    table = read(tmp_path, TWO)
    assert [each.name for each in table.annotators] == ["a", "b"]
    np.testing.assert_array_equal(table.annotators[0].points, [[[1, 2], [10, 11]], [[5, 6], [NAN, NAN]]])
    np.testing.assert_array_equal(table.annotators[1].points, [[[3, 6], [NAN, NAN]], [[5, 6], [NAN, NAN]]])
    np.testing.assert_array_equal(table.points, [[[2, 4], [10, 11]], [[5, 6], [NAN, NAN]]])
    assert table.landmark_names == ["0", "1"]


def test_named_points_take_the_annotator_after_the_axis_and_columns_may_stand_in_any_order(tmp_path):
    header = "image,sella_y_Dr. B,nasion_x_a,nasion_y_a,sella_x_a,sella_y_a,sella_x_Dr. B,nasion_x_Dr. B,nasion_y_Dr. B"
    table = read(tmp_path, f"{header}\na.png,1,2,3,4,5,6,7,8\n")
    assert table.landmark_names == ["sella", "nasion"]
    assert [each.name for each in table.annotators] == ["Dr. B", "a"]
    np.testing.assert_array_equal(table.annotators[0].points, [[[6, 1], [7, 8]]])
    np.testing.assert_array_equal(table.annotators[1].points, [[[4, 5], [2, 3]]])


def test_numbers_may_begin_at_1_and_names_come_from_the_file_beside_the_table(tmp_path):
    (tmp_path / "landmark_names.txt").write_text("sella\nnasion\n")
    table = read(tmp_path, "image,x1_a,y1_a,x2_a,y2_a,x1_b,y1_b,x2_b,y2_b\na.png,1,2,3,4,5,6,7,8\n")
    assert table.landmark_names == ["sella", "nasion"]
    np.testing.assert_array_equal(table.points, [[[3, 4], [5, 6]]])


def test_beside_plain_points_other_columns_of_that_look_are_left_alone(tmp_path):
    table = read(tmp_path, "image,x0,y0,size_x_mm,size_y_mm\na.png,1,2,3,4\n")
    assert table.annotators == []
    np.testing.assert_array_equal(table.points, [[[1, 2]]])


@pytest.mark.parametrize("others", ["x0_std,y0_std", "x0_visible,x1_visible", "x1_a,y0_a"])
def test_columns_for_some_of_the_plain_landmarks_are_left_alone(others, tmp_path):
    table = read(tmp_path, f"image,x0,y0,x1,y1,{others}\na.png,1,2,3,4,5,6\n")
    assert table.annotators == []
    np.testing.assert_array_equal(table.points, [[[1, 2], [3, 4]]])


def test_columns_for_all_plain_landmarks_are_refused_in_any_case_of_the_letters(tmp_path):
    with pytest.raises(DataError, match="annotators, sella_x_a, sella_y_a, beside plain ones"):
        read(tmp_path, "image,Sella_x,Sella_y,sella_x_a,sella_y_a\na.png,1,2,3,4\n")


def test_beside_annotators_of_numbered_points_other_columns_are_left_alone(tmp_path):
    table = read(tmp_path, "image,x0_a,y0_a,box_x_min\na.png,1,2,3\n")
    np.testing.assert_array_equal(table.points, [[[1, 2]]])


def test_further_tables_are_matched_by_image_and_by_the_name_of_the_landmark(tmp_path):
    first = write(tmp_path, "image,s_x,s_y,n_x,n_y\na.png,1,2,3,4\nb.png,5,6,7,8\n", "senior.csv")
    (tmp_path / "junior.csv").write_text("n_x;n_y;file;s_x;s_y\n9,5;8;b.png;5;6\n3;4;a.png;;\n")
    table = read_landmark_table(first, more_tables=[tmp_path / "junior.csv"])
    assert [each.name for each in table.annotators] == ["senior", "junior"]
    np.testing.assert_array_equal(table.annotators[1].points, [[[NAN, NAN], [3, 4]], [[5, 6], [9.5, 8]]])
    assert table.annotators[1].lines == [3, 2]
    np.testing.assert_array_equal(table.points, [[[1, 2], [3, 4]], [[5, 6], [8.25, 8]]])


def test_tables_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        write(folder, "image,x0,y0\na.png,1,2\n")
    table = read_landmark_table(tmp_path / "one" / "points.csv", more_tables=[tmp_path / "two" / "points.csv"])
    assert [each.name for each in table.annotators] == ["one/points", "two/points"]
    with pytest.raises(DataError, match="not all different"):
        read_landmark_table(tmp_path / "one" / "points.csv", more_tables=[tmp_path / "one" / "points.csv"])


def test_points_outside_the_image_of_one_annotator_alone_is_told_with_its_table(tmp_path):
    first = write(tmp_path, "image,x0,y0\na.png,1,2\nb.png,3,4\n")
    (tmp_path / "other.csv").write_text("image,x0,y0\nb.png,3,400\na.png,1,2\n")
    with pytest.raises(DataError, match=r"other.csv: line 2: no point of b.png lies inside"):
        csv_records(
            table=first, root=None, pixel_spacing_mm=None, more_tables=[tmp_path / "other.csv"], val_fraction=0.5,
            test_fraction=0, split_seed=0, splits_file=tmp_path / "splits.csv",
        )  # fmt: skip


def test_the_mean_is_over_those_who_marked_and_every_pair_is_compared():
    a, b, c = (np.array([[[x, 0.0], [x, NAN]]]) for x in (1.0, 2.0, 6.0))
    b[0, 0] = NAN
    np.testing.assert_array_equal(mean_points([a, b, c]), [[[3.5, 0], [NAN, NAN]]])
    index, one, other = between_annotators(np.stack([a, b, c]), np.array([0]))
    assert index.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(one[:, 0, 0], [1, 1, NAN])
    np.testing.assert_array_equal(other[:, 0, 0], [NAN, 6, 6])


def dataset_of(folder: Path, annotator: str) -> LandmarkDataset:
    rows = "".join(f"{n}.png,{n},1,{n},11,{n},21\n" for n in range(8))
    records = csv_records(
        table=write(folder, "image,x0_a,y0_a,x0_b,y0_b,x0_c,y0_c\n" + rows), root=None, pixel_spacing_mm=None,
        val_fraction=0.25, test_fraction=0, split_seed=0, splits_file=folder / "splits.csv",
    )  # fmt: skip
    return LandmarkDataset(
        records, input_size=(40, 50), fit="letterbox", augmentation=None, seed=3, cache_gb=1, annotator=annotator
    )


@pytest.mark.parametrize(("annotator", "y"), [("mean", 11), ("a", 1), ("c", 21)])
def test_training_follows_the_chosen_annotator_and_the_truth_stays_the_mean(annotator, y, tmp_path):
    sample = dataset_of(tmp_path, annotator)[4, 5]
    assert sample["points"].tolist() == [[5, y]]
    assert sample["truth"].tolist() == [[5, 11]]


def test_a_random_annotator_is_a_function_of_seed_epoch_and_image_and_all_come(tmp_path):
    dataset = dataset_of(tmp_path, "random")
    drawn = [[dataset[epoch, index]["points"][0, 1].item() for index in range(8)] for epoch in range(12)]
    assert {y for row in drawn for y in row} == {1, 11, 21}
    assert len({tuple(row) for row in drawn}) == 12
    again = dataset_of(tmp_path, "random")
    assert torch.equal(again[7, 3]["points"], dataset[7, 3]["points"])
    for y in (1, 11, 21):
        assert np.mean(np.array(drawn) == y) == pytest.approx(1 / 3, abs=0.15)  # 3 standard errors


def test_a_run_reports_how_far_the_annotators_are_apart(tmp_path):
    rows = "".join(f"{n}.png,{10 + n},12,{10 + n},16,30,20,33,24,0.5\n" for n in range(12))
    write(tmp_path, "image,x0_a,y0_a,x0_b,y0_b,x1_a,y1_a,x1_b,y1_b,pixel_spacing_mm\n" + rows)
    ended = run_main(
        *CSV, "data=csv", "data.table=points.csv", "data.annotator=random", "hydra.run.dir=run", folder=tmp_path
    )
    assert ended.code == 0, ended.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    row = next(row for row in results["headline"] if row["stage"] == "a against b")
    assert row["mre_mm"] == pytest.approx((4 * 0.5 + 5 * 0.5) / 2)
    apart = [landmark["annotators"] for landmark in results["details"][0]["rows"]]
    assert apart == pytest.approx([2.0, 2.5])
    assert "annotators apart" in (tmp_path / "run" / "report.html").read_text()


def table(folder: Path, text: str, *others: str) -> list[str]:
    write(folder, text)
    for index, other in enumerate(others):
        (folder / f"doctor{index}.csv").write_text(other)
    more = ",".join(f"doctor{index}.csv" for index in range(len(others)))
    return [*CSV, "data=csv", "data.table=points.csv", *([f"data.more_tables=[{more}]"] if others else [])]


PLAIN = "image,x0,y0\na.png,1,2\nb.png,3,4\n"
FAULTS = [
    Fault(
        "an annotator's column without its partner",
        3,
        "points.csv: line 1 has no column y0_b. Columns such as x0_a need x and y of each landmark by each annotator; "
        "cells may be empty.",
        lambda folder: table(folder, "image,x0_a,y0_a,x0_b\na.png,1,2,3\n"),
    ),
    Fault(
        "a landmark that one annotator lacks",
        3,
        "points.csv: line 1 has no column x1_b; line 1 has no column y1_b. Columns such as x0_a need x and y of each "
        "landmark by each annotator; cells may be empty.",
        lambda folder: table(folder, "image,x0_a,y0_a,x0_b,y0_b,x1_a,y1_a\na.png,1,2,3,4,5,6\n"),
    ),
    Fault(
        "columns of annotators beside plain ones",
        3,
        "points.csv: line 1 has columns of annotators, x0_a, y0_a, beside plain ones of the same landmarks. "
        "Delete the plain ones if these are annotators (their mean replaces them); else rename these columns.",
        lambda folder: table(folder, "image,x0,y0,x0_a,y0_a\na.png,1,2,3,4\n"),
    ),
    Fault(
        "columns of an annotator in both spellings",
        3,
        "points.csv: line 1 has columns of annotators in both spellings, such as x0_a and sella_x_a. Spell all points "
        "one way; rename other columns.",
        lambda folder: table(folder, "image,x0_a,y0_a,sella_x_a,sella_y_a\na.png,1,2,3,4\n"),
    ),
    Fault(
        "a gap in the numbers of annotators' columns",
        3,
        "points.csv: line 1 has columns of annotators for landmark 999999 and none for landmark 1. Number the points "
        "without a gap, from 0 or 1.",
        lambda folder: table(folder, "image,x0_a,y0_a,x999999_a,y999999_a\na.png,1,2,3,4\n"),
    ),
    Fault(
        "an annotator's column called mean",
        3,
        "points.csv: annotators can't be called mean or random; rename the column or file",
        lambda folder: table(folder, "image,x0_a,y0_a,x0_mean,y0_mean\na.png,1,2,3,4\n"),
    ),
    Fault(
        "an annotator's table called random",
        3,
        "random.csv: annotators can't be called mean or random; rename the column or file",
        lambda folder: [*table(folder, PLAIN), f"data.more_tables=[{write(folder, PLAIN, 'random.csv').name}]"],
    ),
    Fault(
        "two columns for one number of an annotator",
        3,
        "points.csv: line 1 has columns x0_a and x00_a for the same. Rename or delete one.",
        lambda folder: table(folder, "image,x0_a,y0_a,x00_a\na.png,1,2,3\n"),
    ),
    Fault(
        "columns of annotators and more tables",
        3,
        "points.csv: line 1 has columns of several annotators, such as x0_a. Give such columns, or data.more_tables, "
        "but not both.",
        lambda folder: table(folder, TWO, PLAIN),
    ),
    Fault(
        "an image that a further table lacks",
        3,
        "doctor0.csv: no row for 'b.png' (line 3 of points.csv). Add the rows; leave what was not marked empty.",
        lambda folder: table(folder, PLAIN, "image,x0,y0\na.png,1,2\n"),
    ),
    Fault(
        "an image that only a further table has",
        3,
        "doctor0.csv: line 4: 'c.png' is not in points.csv. Take these rows out, or add their images there.",
        lambda folder: table(folder, PLAIN, PLAIN + "c.png,1,2\n"),
    ),
    Fault(
        "an image twice in a further table",
        3,
        "doctor0.csv: line 4: 'a.png' is already on line 2. Keep one row per image.",
        lambda folder: table(folder, PLAIN, PLAIN + "a.png,1,2\n"),
    ),
    Fault(
        "another number of landmarks in a further table",
        3,
        "doctor0.csv: line 1 has 2 landmarks where points.csv has 1. All annotators mark the same landmarks.",
        lambda folder: table(folder, PLAIN, "image,x0,y0,x1,y1\na.png,1,2,3,4\nb.png,1,2,3,4\n"),
    ),
    Fault(
        "other landmarks in a further table",
        3,
        "doctor0.csv: line 1 has no landmark 's', which points.csv has; line 1 has a landmark 'n' that points.csv has "
        "not. All annotators mark the same landmarks.",
        lambda folder: table(folder, "image,s_x,s_y\na.png,1,2\n", "image,n_x,n_y\na.png,1,2\n"),
    ),
    Fault(
        "points of a further table in the other spelling",
        3,
        "doctor0.csv: line 1 spells points <name>_x,<name>_y where points.csv spells them x0,y0 and so on. "
        "All annotators mark the same landmarks.",
        lambda folder: table(folder, PLAIN, "image,n_x,n_y\na.png,1,2\nb.png,1,2\n"),
    ),
    Fault(
        "further tables of one name",
        3,
        "data.more_tables: annotators are called like their tables, and …/points, …/doctor0, …/doctor0 are not all "
        "different. Rename the files.",
        lambda folder: [*table(folder, PLAIN, PLAIN)[:-1], "data.more_tables=[doctor0.csv,doctor0.csv]"],
    ),
    Fault(
        "an annotator where the data tell none apart",
        2,
        "data.annotator=random needs landmarks by several annotators: columns such as x0_a,y0_a,x0_b,y0_b, "
        "or data.more_tables",
        lambda folder: ["data.annotator=random"],
    ),
    Fault(
        "an unknown annotator",
        2,
        "data.annotator=c is not one of mean, random, a, b",
        lambda folder: [*table(folder, TWO.replace(",,,,", ",7,8,7,8")), "data.annotator=c"],
    ),
    Fault(
        "a landmark that the chosen annotator never marked",
        2,
        "data.annotator=b marked landmark(s) 1 in no training image; choose mean or another",
        lambda folder: [*table(folder, TWO.replace("5,6,5,6,,", "5,6,5,6,10,11")), "data.annotator=b"],
    ),
    Fault(
        "an annotator of labels",
        2,
        "data.annotator=a does not fit task=classification, it is for task=landmarks; leave it out",
        lambda folder: [*TINY_LABELS, "task=classification", "data.annotator=a"],
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    fault.check(tmp_path)


def test_the_page_promises_what_is_tested_here() -> None:
    assert {fault.name: (fault.code, fault.message) for fault in FAULTS}.items() <= promised().items()
