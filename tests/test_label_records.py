"""Label records from real tables and from phantoms: targets, splits, and what every fault says."""

import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import DataError
from data.label_records import LabelRecords, csv_label_records, folder_records, phantom_label_records
from data.phantom import GROWTH_STAGES, draw_phantom
from data.splits import read_splits

REAL_DATA = Path(os.environ.get("TRAINER_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
SPLIT = {"val_fraction": 0.25, "test_fraction": 0.0, "split_seed": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images, each filled with its number; one has a space in its name."""
    for index in range(8):
        Image.new("L", (30 + index, 20), index).save(tmp_path / image_name(index))
    return tmp_path


def image_name(index: int) -> str:
    return "image 7.png" if index == 7 else f"{index}.png"


def build(folder: Path, text: str, **options) -> LabelRecords:
    (folder / "labels.csv").write_text(text)
    defaults = {"table": folder / "labels.csv", "root": None, "label": None, "numeric": False, "covariates": [],
                "missing_covariate": "error", "splits_file": folder / "splits.csv", **SPLIT}  # fmt: skip
    return csv_label_records(**{**defaults, **options})


def table(labels: list[str], header: str = "image,label", extra: list[str] | None = None) -> str:
    extra = extra or [""] * len(labels)
    rows = [f"{image_name(i)},{label}{more}" for i, (label, more) in enumerate(zip(labels, extra, strict=True))]
    return "\n".join([header, *rows])


def phantoms(folder: Path, **options) -> LabelRecords:
    defaults = {"num_images": 40, "seed": 1, "height": 64, "width": 64, "trouble": 0.0, "numeric": False,
                "covariates": ["sex"], "splits_file": folder / "splits.csv", **SPLIT}  # fmt: skip
    return phantom_label_records(**{**defaults, **options})


def test_words_become_classes_by_name_and_images_can_be_read(folder):
    records = build(folder, table(["bee", "ant", "bee", "ant", "wasp", "wasp", "bee", "ant"]))
    assert records.class_names == ["ant", "bee", "wasp"]
    assert records.targets.dtype == np.int64
    assert records.targets.tolist() == [1, 0, 1, 0, 2, 2, 1, 0]
    assert records.image_names == [image_name(i) for i in range(8)]
    assert records.sizes.tolist() == [[30 + i, 20] for i in range(8)]
    assert [int(records.read(i).max()) for i in range(8)] == list(range(8))
    assert records.covariates.encoded.shape == (8, 0)
    copy = pickle.loads(pickle.dumps(records))
    np.testing.assert_array_equal(copy.read(7), records.read(7))


def test_classes_are_in_the_order_of_the_numbers_within_their_names(folder):
    labels = ["133-168", "61-96", "0-60", "97-132"] * 2
    assert build(folder, table(labels)).class_names == ["0-60", "61-96", "97-132", "133-168"]


def test_numbers_become_targets_with_the_statistics_of_the_training_rows(folder):
    months = ["12.5", "-3", "1e2", "7", "0", "1", "2", "3"]
    split = [",train", ",train", ",val", ",test", ",train", ",train", ",val", ",val"]
    records = build(folder, table(months, "image,target,split", split), numeric=True)
    assert records.class_names is None
    assert records.targets.dtype == np.float64
    assert records.targets.tolist() == [float(number) for number in months]
    train = np.array([12.5, -3, 0, 1])
    assert records.target_mean == pytest.approx(train.mean())
    assert records.target_std == pytest.approx(train.std())
    assert records.indices("test").tolist() == [3]


def test_numbers_may_have_decimal_commas_between_semicolons(folder):
    text = table(["1,5", "2,5"] * 4, "image;age").replace(".png,", ".png;")
    assert build(folder, text, label="age", numeric=True).targets.tolist() == [1.5, 2.5] * 4


def test_the_label_column_alone_decides_about_its_decimal_commas(folder):
    text = table(['"1,5"', '"2,5"'] * 4, "image,age,version", [",3.0", ",3.1"] * 4)
    assert build(folder, text, label="age", numeric=True).targets.tolist() == [1.5, 2.5] * 4


@pytest.mark.parametrize("header", ["label", "class", "TARGET", "Category"])
def test_the_label_column_has_several_names(folder, header):
    assert build(folder, table(["a", "b"] * 4, f"image,{header}")).class_names == ["a", "b"]


def test_a_named_label_column_wins_and_its_capitals_do_not_matter(folder):
    text = table(["a", "b"] * 4, "image,label,Kind", [",x", ",y"] * 4)
    assert build(folder, text, label="kind").class_names == ["x", "y"]


def test_none_is_the_name_of_a_class_and_case_is_kept_and_told(folder, caplog):
    with caplog.at_level(logging.WARNING):
        records = build(folder, table(["none", "Ant", "ant", "bee"] * 2))
    assert records.class_names == ["Ant", "ant", "bee", "none"]
    assert "Ant, ant differ only in capital letters" in caplog.text


def test_each_class_gives_its_share_to_validation(folder):
    records = build(folder, table(["a"] * 4 + ["b"] * 4), val_fraction=0.5)
    assert np.bincount(records.targets[records.indices("val")]).tolist() == [2, 2]


def test_covariates_follow_their_images(folder):
    text = table(["a", "b"] * 4, "image,label,sex,age", [f",{'FM'[i % 2]},{i}" for i in range(8)])
    records = build(folder, text, covariates=["sex", "age"])
    assert records.covariates.values[0] == list("FMFMFMFM")
    train = records.indices("train")
    np.testing.assert_allclose(records.covariates.encoded[train, 2].mean(), 0, atol=1e-6)
    order = np.argsort(records.covariates.encoded[:, 2])
    assert order.tolist() == list(range(8))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (table(["a", "", "b", " "] * 2), {}, r"line 3, column label is empty; line 5, .*Give every row its label"),
        (table(["a", "NaN"] * 4), {}, r"line 3, column label is 'NaN'"),
        (table(["a"] * 8), {}, r"all 8 images are of class 'a'\. Classification needs two classes"),
        (table(["a", "b"] * 4, "image,kind"), {}, r"line 1 has no label column, only image, kind\. Set data\.label"),
        (
            table(["a", "b"] * 4, "image,kind"),
            {"label": "kid"},
            r"line 1 has no column 'kid' .did you mean kind\?., only",
        ),
        (table(["a", "b"] * 4), {"label": "image"}, r"data\.label=image is the image column.*rename"),
        (table(["a", "b"] * 4), {"covariates": ["Label"]}, r"column label is the label and a covariate"),
        (table(["a", "b"] * 4), {"covariates": ["sex"]}, r"line 1 has no column 'sex'.*data\.covariates"),
        (table(["1", "b"] * 4), {"numeric": True}, r"line 3, column label is 'b'.*task=classification"),
        (table(["1", "inf"] * 4), {"numeric": True}, r"line 3, column label is 'inf'"),
        (table(["1", ""] * 4), {"numeric": True}, r"line 3, column label is empty"),
        (table(["5"] * 8), {"numeric": True}, r"all 6 training images have the number 5"),
        (table(["a", "b"] * 4) + "\nx.png,a", {}, r"line 10, column image: image 'x\.png' not found"),
        ("label,x\na,1\nb,2\n", {}, r"line 1 has no image column"),
    ],
    ids=range(14),
)
def test_every_fault_names_file_line_and_column(folder, text, options, message):
    with pytest.raises(DataError, match=rf"labels\.csv: {message}"):
        build(folder, text, **options)
    assert not (folder / "splits.csv").exists()


def test_a_class_without_a_training_image_is_an_error_that_names_it_and_its_neighbour(folder):
    splits = [",train"] * 6 + [",val"] * 2
    text = table(["ants", "bees"] * 3 + ["ant", "bees"], "image,label,split", splits)
    with pytest.raises(DataError, match=r"class 'ant' \(line 8, column label\) has no training image .*mean ants"):
        build(folder, text)
    assert not (folder / "splits.csv").exists()


def test_many_numbers_as_classes_are_told_of_regression(tmp_path, caplog):
    for index in range(120):
        Image.new("L", (8, 8)).save(tmp_path / f"{index}.png")
    text = "\n".join(["image,label", *(f"{i}.png,{i // 2 + 0.5}" for i in range(120))])
    with caplog.at_level(logging.WARNING):
        assert len(build(tmp_path, text).class_names) == 60
    assert "60 classes that are all numbers; task=regression" in caplog.text


def test_an_image_that_cannot_be_read_is_an_error_with_its_line(folder):
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"labels\.csv: line 5, column image: .*3\.png: not an image"):
        build(folder, table(["a", "b"] * 4))


def test_a_split_that_is_written_down_is_kept(folder):
    first = build(folder, table(["a", "b"] * 4))
    again = build(folder, table(["a", "b"] * 4), split_seed=5, val_fraction=0.5)
    np.testing.assert_array_equal(again.splits, first.splits)
    np.testing.assert_array_equal(read_splits(folder / "splits.csv", first.image_names), first.splits)


def test_phantoms_know_their_stage_age_and_sex(tmp_path):
    stages = phantoms(tmp_path)
    ages = phantoms(tmp_path, numeric=True, covariates=["sex", "growth_stage"])
    assert stages.class_names == [stage for stage in GROWTH_STAGES if stage in stages.class_names]
    assert stages.covariates.categories == [["F", "M"]]
    for index in (0, 17, 39):
        drawn = draw_phantom(1, index, height=64, width=64, trouble=0.0)
        assert stages.class_names[stages.targets[index]] == drawn.growth_stage
        assert ages.targets[index] == drawn.age_months
        assert stages.covariates.values[0][index] == ages.covariates.values[0][index] == drawn.sex
        assert ages.covariates.values[1][index] == drawn.growth_stage
        np.testing.assert_array_equal(stages.read(index), drawn.image)
    np.testing.assert_array_equal(ages.splits, stages.splits)


def test_phantoms_have_no_other_covariate(tmp_path):
    for name in ("weight", "growth_stage"):
        with pytest.raises(DataError, match=rf"data\.covariates names {name}; .* only age_months, sex") as caught:
            phantoms(tmp_path, num_images=5, covariates=["sex", name])
        assert "data.label" not in str(caught.value)


def test_advice_names_only_options_that_the_data_have(tmp_path):
    """Of few phantoms, those that validate may be the only ones of their sex."""
    messages = []
    for seed in range(30):
        try:
            phantoms(tmp_path, num_images=3, seed=seed, numeric=True, split_seed=seed)
        except DataError as error:
            messages.append(str(error))
        (tmp_path / "splits.csv").unlink(missing_ok=True)
    assert any("data.num_images" in message and "column sex" in message for message in messages)
    assert not any("missing_covariate" in message for message in messages)
    with pytest.raises(DataError, match=r"1 training images.* Check data\.num_images"):
        phantoms(tmp_path, num_images=2, numeric=True)


def test_folders_that_are_all_one_number_are_told_of_folders(tmp_path):
    for split, name in (("train", "3"), ("val", "4")):
        (tmp_path / split / name).mkdir(parents=True)
        Image.new("L", (30, 20)).save(tmp_path / split / name / "a.png")
    with pytest.raises(DataError, match=r"have the number 3; nothing can be learnt. Check the names of the class fold"):
        folder_records(root=tmp_path, numeric=True, splits_file=tmp_path / "splits.csv", **SPLIT)


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL_DATA / "boneage").is_dir(), reason=f"no research images in {REAL_DATA}")
def test_real_hands_have_an_age_an_age_group_and_a_sex(tmp_path):
    given = {"table": REAL_DATA / "boneage/labels.csv", "root": None, "covariates": ["sex"], **SPLIT}
    given |= {"missing_covariate": "error", "splits_file": tmp_path / "splits.csv"}
    groups = csv_label_records(label="age_group", numeric=False, **given)
    months = csv_label_records(label="boneage_months", numeric=True, **given)
    assert groups.class_names == ["0-60", "61-96", "97-132", "133-168", "169-228"]
    assert groups.covariates.encoded.sum(axis=0).tolist() == [1111, 1289]
    np.testing.assert_array_equal(groups.splits, months.splits)
    for split in ("train", "val"):
        rows = groups.indices(split)
        shares = np.bincount(groups.targets[rows]) / len(rows)
        np.testing.assert_allclose(shares, np.bincount(groups.targets) / 2400, atol=0.005)
    lowest, highest = np.array([name.split("-") for name in groups.class_names], float)[groups.targets].T
    assert ((lowest <= months.targets) & (months.targets <= highest)).all()


def test_warnings_of_classes_and_covariates_show_no_code_that_a_terminal_obeys(folder, caplog):
    text = table(["Ant\x1b[2J", "ant\x1b[2J"] * 4, "image,label,\x1b[31msex", [",F\x1b[0m"] * 8)
    build(folder, text, covariates=["\x1b[31msex"])
    assert "the classes Ant\\x1b[2J, ant\\x1b[2J differ only in capital letters" in caplog.text
    assert "column \\x1b[31msex is F\\x1b[0m in all training rows" in caplog.text
    assert "\x1b" not in caplog.text
