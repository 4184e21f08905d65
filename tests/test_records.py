"""Records from real tables and from phantoms: sizes, spacing, splits that are kept, and images that are read."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import phantom, phantom_film
from data.errors import DataError
from data.phantom import LANDMARK_NAMES, draw_phantom
from data.records import LandmarkRecords, csv_records, phantom_records
from data.splits import read_splits

SIZES = [(30, 40), (50, 20), (33, 31), (40, 40), (25, 60), (31, 30)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of six sizes, every other in colour, each filled with its number, and a table of two points."""
    lines = ["image,left_x,left_y,right_x,right_y"]
    for index, (width, height) in enumerate(SIZES):
        colour = (index, 10 + index, 20 + index) if index % 2 else index
        Image.new("RGB" if index % 2 else "L", (width, height), colour).save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png,{index}.5,2,{'' if index == 2 else 7},{'' if index == 2 else 8.25}")
    (tmp_path / "points.csv").write_text("\n".join(lines))
    return tmp_path


def build(folder: Path, **options) -> LandmarkRecords:
    defaults = {
        "table": folder / "points.csv",
        "root": None,
        "pixel_spacing_mm": None,
        "val_fraction": 0.34,
        "test_fraction": 0.17,
        "split_seed": 0,
        "splits_file": folder / "splits.csv",
    }
    return csv_records(**{**defaults, **options})


def phantoms(folder: Path, **options) -> LandmarkRecords:
    defaults = {
        "num_images": 4,
        "seed": 2,
        "height": 96,
        "width": 80,
        "missing_fraction": 0.0,
        "trouble": 1.0,
        "val_fraction": 0.25,
        "test_fraction": 0.0,
        "split_seed": 0,
        "splits_file": folder / "splits.csv",
    }
    return phantom_records(**{**defaults, **options})


def test_a_table_becomes_names_points_sizes_and_readable_images(folder):
    records = build(folder)
    assert records.image_names == [f"{index}.png" for index in range(6)]
    assert records.landmark_names == ["left", "right"]
    assert records.sizes.tolist() == [list(size) for size in SIZES]
    expected = [[[i + 0.5, 2], [7, 8.25]] if i != 2 else [[2.5, 2], [np.nan, np.nan]] for i in range(6)]
    np.testing.assert_array_equal(records.points, expected)
    for index, (width, height) in enumerate(SIZES):
        image = records.read(index)
        assert image.dtype == np.uint8
        assert image.shape == ((height, width, 3) if index % 2 else (height, width))
        assert (image[..., 0] if index % 2 else image).max() == index


def test_the_splits_share_the_records_out_and_are_written_down(folder):
    records = build(folder)
    assert [len(records.indices(split)) for split in ("train", "val", "test")] == [3, 2, 1]
    everything = np.concatenate([records.indices(split) for split in ("train", "val", "test")])
    assert sorted(everything.tolist()) == list(range(6))
    np.testing.assert_array_equal(read_splits(folder / "splits.csv", records.image_names), records.splits)


def test_a_split_that_is_written_down_is_kept_whatever_is_asked_now(folder):
    first = build(folder)
    text = (folder / "splits.csv").read_bytes()
    again = build(folder, split_seed=99, val_fraction=0.17, test_fraction=0.5)
    np.testing.assert_array_equal(again.splits, first.splits)
    assert (folder / "splits.csv").read_bytes() == text
    other = build(folder, split_seed=99, val_fraction=0.17, test_fraction=0.5, splits_file=folder / "other.csv")
    assert not np.array_equal(other.splits, first.splits)


def test_a_kept_split_follows_the_names_when_the_rows_of_the_table_move(folder):
    first = build(folder)
    header, *rows = (folder / "points.csv").read_text().split("\n")
    (folder / "points.csv").write_text("\n".join([header, *rows[::-1]]))
    again = build(folder)
    kept = dict(zip(first.image_names, first.splits, strict=True))
    assert dict(zip(again.image_names, again.splits, strict=True)) == kept
    assert again.image_names == first.image_names[::-1]
    assert again.sizes.tolist() == first.sizes.tolist()[::-1]


def test_a_table_with_points_outside_its_images_is_refused_before_a_split_is_written(folder):
    text = (folder / "points.csv").read_text().replace("1.5,2,7,8.25", "15,45,12,35")  # x and y swapped, in 50 x 20 px
    (folder / "points.csv").write_text(text)
    with pytest.raises(DataError, match=r"points\.csv: line 3: no point of 1\.png .*50x20 px .x and y swapped"):
        build(folder)
    assert not (folder / "splits.csv").exists()


def test_distances_are_in_mm_only_where_every_image_states_its_spacing(folder):
    assert not build(folder).in_mm
    everywhere = build(folder, pixel_spacing_mm=0.25)
    assert everywhere.in_mm
    assert everywhere.pixel_spacing_mm.tolist() == [0.25] * 6
    header, *rows = (folder / "points.csv").read_text().split("\n")
    spaced = [f"{header},pixel_spacing_mm", *(f"{row},{'' if i == 4 else 0.1}" for i, row in enumerate(rows))]
    (folder / "points.csv").write_text("\n".join(spaced))
    assert not build(folder).in_mm
    filled = build(folder, pixel_spacing_mm=0.25)
    assert filled.in_mm
    assert filled.pixel_spacing_mm.tolist() == [0.1, 0.1, 0.1, 0.1, 0.25, 0.1]


def test_phantoms_are_the_drawings_of_their_seed_and_index(tmp_path):
    records = phantoms(tmp_path, missing_fraction=0.3)
    assert records.landmark_names == list(LANDMARK_NAMES)
    assert records.sizes.tolist() == [[80, 96]] * 4
    assert len(set(records.image_names)) == 4
    assert records.in_mm
    assert sorted(records.splits) == ["train", "train", "train", "val"]
    for index in range(4):
        drawn = draw_phantom(2, index, height=96, width=80, missing_fraction=0.3, trouble=1.0)
        np.testing.assert_array_equal(records.read(index), drawn.image)
        np.testing.assert_array_equal(records.points[index], drawn.points)
        assert records.pixel_spacing_mm[index] == drawn.pixel_spacing_mm
    np.testing.assert_array_equal(phantoms(tmp_path, split_seed=5).splits, records.splits)


def test_a_phantom_is_drawn_once_and_not_before_it_is_read(tmp_path, monkeypatch):
    drawn = []

    def develop(*head, **look):
        drawn.append(head)
        return phantom_film.develop(*head, **look)

    monkeypatch.setattr(phantom, "develop", develop)
    records = phantoms(tmp_path, seed=77)
    assert drawn == []
    assert records.read(3) is records.read(3)
    assert len(drawn) == 1


def test_records_can_be_sent_to_another_process(folder):
    for records in (build(folder), phantoms(folder, splits_file=folder / "phantoms.csv")):
        copy = pickle.loads(pickle.dumps(records))
        np.testing.assert_array_equal(copy.read(1), records.read(1))
        np.testing.assert_array_equal(copy.points, records.points)
