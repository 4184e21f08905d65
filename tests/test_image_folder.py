"""Image folders on disk: which trees are understood, what is skipped, and what a wrong tree is told."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import DataError
from data.label_records import LabelRecords, folder_records

REAL_DATA = Path(os.environ.get("TRAINER_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


def plant(root: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + index, 16), (index, 0, 0)).save(root / name, format="PNG")
    return root


def read(root: Path, **options) -> LabelRecords:
    defaults = {"root": root, "numeric": False, "val_fraction": 0.25, "test_fraction": 0.0, "split_seed": 0,
                "splits_file": root.parent / "splits.csv"}  # fmt: skip
    return folder_records(**{**defaults, **options})


def test_a_tree_of_splits_and_classes_is_read(tmp_path):
    names = ["train/ants/b.png", "train/ants/a 1.JPG", "train/bees/a.tif", "Valid/bees/a.png", "test/ants/x/deep.png"]
    records = read(plant(tmp_path / "root", *names))
    assert records.image_names == sorted(names)
    assert records.class_names == ["ants", "bees"]
    assert dict(zip(records.image_names, records.splits, strict=True)) == {
        name: {"tr": "train", "Va": "val", "te": "test"}[name[:2]] for name in names
    }
    for index, name in enumerate(records.image_names):
        assert records.class_names[records.targets[index]] in name
        number = names.index(name)
        assert records.sizes[index].tolist() == [20 + number, 16]
        assert records.read(index)[0, 0].tolist() == [number, 0, 0]
    assert records.covariates.encoded.shape == (5, 0)


def test_a_tree_of_classes_is_split_class_by_class(tmp_path):
    names = [f"{name}/{i}.png" for name, count in (("ants", 12), ("bees", 4)) for i in range(count)]
    records = read(plant(tmp_path / "root", *names), test_fraction=0.25)
    for split, counts in (("train", [6, 2]), ("val", [3, 1]), ("test", [3, 1])):
        assert np.bincount(records.targets[records.indices(split)]).tolist() == counts


def test_a_tree_without_validation_gives_a_share_of_each_training_class(tmp_path):
    names = [f"train/{name}/{i}.png" for name in ("ants", "bees") for i in range(4)]
    records = read(plant(tmp_path / "root", *names, "test/ants/9.png"))
    assert np.bincount(records.targets[records.indices("val")]).tolist() == [1, 1]
    assert records.image_names[records.indices("test")[0]] == "test/ants/9.png"


def test_folders_may_be_named_by_numbers_to_be_learnt(tmp_path):
    names = [f"{age}/{i}.png" for age in ("9", "10", "12.5") for i in range(2)]
    records = read(plant(tmp_path / "root", *names), numeric=True)
    assert sorted(set(records.targets.tolist())) == [9, 10, 12.5]
    assert records.class_names is None
    plant(tmp_path / "root", "ten/0.png")
    with pytest.raises(DataError, match=r"ten/0\.png is 'ten'"):
        read(tmp_path / "root", numeric=True)


def test_a_class_may_be_called_train_where_there_are_no_splits(tmp_path):
    records = read(plant(tmp_path / "root", *[f"{name}/{i}.png" for name in ("train", "bus") for i in range(3)]))
    assert records.class_names == ["bus", "train"]


def test_images_under_a_relative_root_are_found_from_any_working_directory(tmp_path, monkeypatch):
    plant(tmp_path / "root", *[f"{name}/{i}.png" for name in ("ants", "bees") for i in range(2)])
    monkeypatch.chdir(tmp_path)
    records = read(Path("root"))
    monkeypatch.chdir("/")
    assert records.read(3).shape == (16, 23, 3)


def test_what_is_no_image_is_skipped_and_told_and_links_are_followed(tmp_path, caplog):
    root = plant(tmp_path / "root", *[f"ants/{i}.png" for i in range(3)])
    elsewhere = plant(tmp_path / "elsewhere", "0.png", "1.png", ".cache/2.png")
    (root / "bees").symlink_to(elsewhere)
    (root / "ants/again").symlink_to(root)
    for name in ("ants/notes.txt", "ants/.hidden.png", ".DS_Store", "README"):
        (root / name).touch()
    (root / "wasps").mkdir()
    with caplog.at_level(logging.WARNING):
        records = read(root)
    assert records.image_names == ["ants/0.png", "ants/1.png", "ants/2.png", "bees/0.png", "bees/1.png"]
    assert "skipped 4 files that are no images, such as .DS_Store" in caplog.text
    assert "folders without any file: wasps" in caplog.text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png", "ants/1.png"], r"'a\.png' lies in no class folder.*<class>/<image>"),
        (["train/a.png", "val/b.png"], r"train, val hold no class folders.*<split>/<class>/<image>"),
        (["train/ants/1.png", "train/2.png"], r"'train/2\.png' lies in no class folder.*<split>/<class>"),
        (["train/ants/1.png", "training/bees/1.png"], r"folder training beside train\. .*train, dev, val"),
        (["val/ants/1.png", "val/bees/1.png"], r"no images in .*train"),
        (["ants/1.png", "ants/2.png"], r"all 2 images are of class 'ants'.*data\.root"),
        (["train/ants/1.png", "train/bees/1.png", "val/ant/1.png"],
         r"class 'ant' \(val/ant/1\.png\) has no training image \(did you mean ants\?\)"),
    ],
)  # fmt: skip
def test_a_wrong_tree_is_an_error_that_says_how_it_should_look(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        read(plant(tmp_path / "root", *names))
    assert not (tmp_path / "splits.csv").exists()


def test_a_folder_without_images_or_no_folder_at_all_is_an_error(tmp_path):
    (tmp_path / "root" / "ants").mkdir(parents=True)
    with pytest.raises(DataError, match=r"root: no images in it"):
        read(tmp_path / "root")
    with pytest.raises(DataError, match=r"rot: no such folder \(did you mean root\?\)"):
        read(tmp_path / "rot")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, expected a folder"):
        read(tmp_path / "file")


def test_broken_images_are_named_together(tmp_path):
    root = plant(tmp_path / "root", *[f"{name}/{i}.png" for name in ("ants", "bees") for i in range(2)])
    for name in ("ants/0.png", "bees/1.png"):
        (root / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"ants/0\.png: not an image.*bees/1\.png: not an image.*take them out"):
        read(root)


def test_folders_that_link_to_each_other_are_each_walked_once(tmp_path):
    """Between four of them there are 64 ways, between seven 13,699; each file is told once for each link to it."""
    classes = ["ants", "bees", "bugs", "wasps"]
    root = plant(tmp_path / "root", *[f"{name}/0.png" for name in classes])
    for name in classes:
        for other in set(classes) - {name}:
            (root / name / other).symlink_to(f"../{other}")
    with pytest.raises(
        DataError, match=r"root: 'bees/0\.png' and 'ants/bees/0\.png' are one file; .*; and 7 more\. Keep one"
    ):
        read(root)


def test_a_link_to_a_folder_without_images_is_no_image_twice(tmp_path):
    root = plant(tmp_path / "root", *[f"{name}/{i}.png" for name in ("ants", "bees") for i in range(2)])
    (root / "ants/notes").mkdir()
    (root / "ants/notes/0.txt").touch()
    (root / "bees/notes").symlink_to("../ants/notes")
    assert len(read(root).image_names) == 4


@pytest.mark.parametrize("split", ["", "train/"])
def test_what_runs_and_checks_wrote_is_no_class(tmp_path, monkeypatch, split):
    names = [f"{split}{name}/{i}.png" for name in ("ants", "bees") for i in range(4)]
    written = ["outputs/2026/plots/lr.png", "multirun/a/0/curves.png", "mine/plots/lr.png", "looked/contact_sheet.png"]
    root = plant(tmp_path / "root", *names, *written)
    for file in ("mine/config.yaml", "mine/environment.json", "looked/check.json"):
        (root / file).touch()
    monkeypatch.chdir(root)
    assert read(Path("."), splits_file=tmp_path / "splits.csv").image_names == names


def test_outside_the_working_folder_a_class_may_be_called_outputs(tmp_path):
    root = plant(tmp_path / "root", *[f"{name}/{i}.png" for name in ("inputs", "outputs") for i in range(4)])
    assert read(root).class_names == ["inputs", "outputs"]


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL_DATA / "hymenoptera").is_dir(), reason=f"no research images in {REAL_DATA}")
def test_real_insects_are_found_with_the_splits_they_come_in(tmp_path):
    records = read(REAL_DATA / "hymenoptera", splits_file=tmp_path / "splits.csv")
    assert records.class_names == ["ants", "bees"]
    assert [len(records.indices(split)) for split in ("train", "val", "test")] == [244, 153, 0]
    spaced = records.image_names.index("train/ants/ant photos.jpg")
    assert records.read(spaced).shape[1::-1] == tuple(records.sizes[spaced])
