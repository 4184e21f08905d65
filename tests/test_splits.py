"""Splits: counts, groups, given columns, and the file that keeps them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.splits import assign_splits, read_splits, write_splits


def count(splits: np.ndarray) -> tuple[int, int, int]:
    return tuple(int((splits == name).sum()) for name in ("train", "val", "test"))


def assign(num_rows, *, split=None, group=None, val_fraction=0.2, test_fraction=0.0, seed=0):
    return assign_splits(
        num_rows, split=split, group=group, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed
    )


@pytest.mark.parametrize(
    ("num_rows", "val_fraction", "test_fraction", "expected"),
    [
        (10, 0.2, 0.1, (7, 2, 1)),
        (150, 0.2, 0.2, (90, 30, 30)),
        (10, 0.0, 0.0, (10, 0, 0)),
        (2, 0.1, 0.0, (1, 1, 0)),
        (2, 0.9, 0.0, (1, 1, 0)),
        (3, 0.1, 0.1, (1, 1, 1)),
        (100, 0.004, 0.0, (99, 1, 0)),
        (1, 0.0, 0.0, (1, 0, 0)),
    ],
)
def test_fractions_give_rounded_counts_and_at_least_one_row(num_rows, val_fraction, test_fraction, expected):
    assert count(assign(num_rows, val_fraction=val_fraction, test_fraction=test_fraction)) == expected


def test_without_groups_the_first_rows_of_the_permutation_are_drawn():
    order = np.random.default_rng(5).permutation(20)
    splits = assign(20, val_fraction=0.2, test_fraction=0.1, seed=5)
    assert set(np.flatnonzero(splits == "test")) == set(order[:2])
    assert set(np.flatnonzero(splits == "val")) == set(order[2:6])


def test_the_test_rows_do_not_depend_on_the_validation_fraction():
    test_rows = [assign(50, val_fraction=f, test_fraction=0.2) == "test" for f in (0.0, 0.1, 0.5)]
    assert np.array_equal(test_rows[0], test_rows[1])
    assert np.array_equal(test_rows[0], test_rows[2])


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    assert np.array_equal(assign(50, seed=3), assign(50, seed=3))
    assert not np.array_equal(assign(50, seed=3), assign(50, seed=4))


@given(
    groups=st.lists(st.integers(0, 8), min_size=2, max_size=60).filter(lambda g: len(set(g)) >= 3),
    val_fraction=st.floats(0.05, 0.45),
    test_fraction=st.sampled_from([0.0, 0.1, 0.4]),
    seed=st.integers(0, 9),
)
@settings(max_examples=150, deadline=None)
def test_groups_stay_together_and_no_split_is_empty(groups, val_fraction, test_fraction, seed):
    group = [f"patient {g}" for g in groups]
    splits = assign(len(group), group=group, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
    for name in set(group):
        assert len({s for s, g in zip(splits, group, strict=True) if g == name}) == 1
    assert (splits == "train").any()
    assert (splits == "val").any()
    assert (splits == "test").any() == (test_fraction > 0)


def test_groups_are_filled_to_the_nearest_count_of_rows():
    group = [f"p{i // 4}" for i in range(100)]
    assert count(assign(100, group=group, val_fraction=0.21)) == (80, 20, 0)
    assert count(assign(100, group=group, val_fraction=0.23)) == (76, 24, 0)


def test_the_patients_drawn_do_not_depend_on_the_order_of_rows():
    group = [f"p{i % 10}" for i in range(40)]
    forward, backward = assign(40, group=group), assign(40, group=group[::-1])
    assert np.array_equal(forward, backward[::-1])


def test_a_given_split_with_validation_is_kept():
    split = ["train", "val", "test", "train", "test"]
    assert assign(5, split=split, val_fraction=0.5, test_fraction=0.4).tolist() == split


def test_validation_missing_from_a_given_split_is_taken_from_train_by_groups():
    split = ["train"] * 10 + ["test"] * 10
    group = [f"p{i // 2}" for i in range(20)]
    splits = assign(20, split=split, group=group, val_fraction=0.4)
    assert count(splits) == (6, 4, 10)
    assert (splits[10:] == "test").all()
    assert np.array_equal(splits[::2], splits[1::2])


def test_a_given_split_without_validation_is_kept_when_none_is_asked_for():
    assert assign(3, split=["train", "train", "test"], val_fraction=0.0).tolist() == ["train", "train", "test"]


@pytest.mark.parametrize(
    ("num_rows", "options", "words"),
    [
        (1, {}, ["val split", "train 1, val 0", "data.val_fraction=0.2"]),
        (0, {}, ["train split", "0 rows", "data.val_fraction"]),
        (4, {"group": ["a"] * 4}, ["val split", "4 rows in 1 groups", "data.val_fraction"]),
        (2, {"split": ["val", "test"]}, ["train split", "train 0, val 1, test 1", "split column"]),
        (2, {"split": ["train", "test"]}, ["val split", "train 1, val 0, test 1", "split column"]),
        (9, {"val_fraction": 0.5, "test_fraction": 0.5}, ["data.val_fraction=0.5", "data.test_fraction=0.5"]),
        (9, {"val_fraction": 1.0}, ["data.val_fraction=1.0"]),
        (9, {"test_fraction": -0.1}, ["data.test_fraction=-0.1"]),
    ],
)
def test_an_empty_split_is_an_error_with_counts_and_keys(num_rows, options, words):
    with pytest.raises(DataError) as error:
        assign(num_rows, **options)
    for word in words:
        assert word in str(error.value)


def test_a_test_fraction_beside_a_given_split_is_told_to_have_no_effect(caplog):
    assign(3, split=["train", "train", "val"], test_fraction=0.2)
    assert [record.getMessage() for record in caplog.records] == [
        "data.test_fraction=0.2 has no effect: the data say themselves which images test"
    ]
    caplog.clear()
    assign(3, split=["train", "train", "val"])
    assign(9, test_fraction=0.2)
    assert not caplog.records


def test_splits_survive_the_file_in_any_order_of_the_table(tmp_path):
    names = ["a.png", "sub/ä ,b.png", 'with "quotes".png', "line\nbreak.png", "bad\udcff.png", ""]
    splits = ["train", "val", "test", "train", "val", "train"]
    write_splits(tmp_path / "splits.csv", names, splits)
    assert read_splits(tmp_path / "splits.csv", names).tolist() == splits
    assert read_splits(tmp_path / "splits.csv", names[::-1]).tolist() == splits[::-1]
    assert [path.name for path in tmp_path.iterdir()] == ["splits.csv"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "splits.csv"
    write_splits(path, ["a"], ["train"])
    with pytest.raises(ValueError, match="zip"):
        write_splits(path, ["a", "b"], ["train"])
    assert read_splits(path, ["a"]).tolist() == ["train"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["splits.csv"]


def test_other_images_than_those_in_the_file_are_an_error_with_both_differences(tmp_path):
    write_splits(tmp_path / "splits.csv", ["a.png", "old.png"], ["train", "val"])
    with pytest.raises(
        DataError, match=r"splits\.csv: 2 images of the data.*new\.png, two\.png; 1 images in.*old\.png"
    ):
        read_splits(tmp_path / "splits.csv", ["a.png", "new.png", "two.png"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 must be the header"),
        ("name,split\na,train\n", "line 1 must be the header"),
        ("image,split\na,train\nb,dev\n", "line 3, column split is 'dev'"),
        ("image,split\na,train\na,train\n", "line 3, column image: 'a' is there twice"),
        ("image,split\na\n", "line 2 has 1 cells"),
        ('image,split\n"a,train\n', "cannot be read"),
    ],
)
def test_a_damaged_splits_file_is_an_error_with_its_line(tmp_path, text, message):
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(DataError, match=rf"splits\.csv.*{message}"):
        read_splits(tmp_path / "splits.csv", ["a", "b"])


def test_a_missing_splits_file_is_an_error_with_the_nearest_name(tmp_path):
    write_splits(tmp_path / "splits.csv", ["a"], ["train"])
    with pytest.raises(DataError, match=r"split\.csv: file not found \(did you mean splits\.csv"):
        read_splits(tmp_path / "split.csv", ["a"])


STRATA = st.lists(st.sampled_from("abc"), min_size=4, max_size=60).filter(lambda s: len(set(s)) >= 2)


@given(strata=STRATA, val_fraction=st.floats(0.05, 0.5), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_each_class_keeps_a_train_row_and_gives_its_share(strata, val_fraction, seed):
    rows = np.array(strata)
    options = {"split": None, "group": None, "val_fraction": val_fraction, "test_fraction": 0.0, "seed": seed}
    splits = assign_splits(len(rows), strata=strata, **options)
    for name in set(strata):
        of_class = rows == name
        wanted, drawn = of_class.sum() * val_fraction, (splits[of_class] == "val").sum()
        assert abs(drawn - wanted) <= 1 + of_class.mean() * 7  # 3 classes, each off by at most one, and rounding
        assert (splits[rows == name] == "train").any()
    singles = sum(np.unique(rows, return_counts=True)[1] - 1)
    assert (splits == "val").sum() == min(max(1, round(len(rows) * val_fraction)), singles)


def test_a_class_of_one_row_is_trained_on():
    for seed in range(10):
        splits = assign_splits(
            9,
            split=None,
            group=None,
            val_fraction=0.4,
            test_fraction=0.2,
            seed=seed,
            strata=["a"] * 4 + ["b"] * 4 + ["c"],
        )
        assert splits[8] == "train"
        assert count(splits) == (3, 4, 2)


def test_shares_by_class_are_drawn_at_random_and_within_the_train_rows_of_a_given_split():
    strata = ["a", "b"] * 10
    split = ["train"] * 12 + ["test"] * 8
    drawn = [
        assign_splits(20, split=split, group=None, val_fraction=0.34, test_fraction=0.0, seed=seed, strata=strata)
        for seed in range(5)
    ]
    for splits in drawn:
        assert count(splits) == (8, 4, 8)
        assert np.bincount(np.flatnonzero(splits == "val") % 2).tolist() == [2, 2]
    assert len({tuple(splits) for splits in drawn}) > 1


def test_groups_stay_together_whatever_their_classes():
    group = [f"p{i // 2}" for i in range(20)]
    splits = assign_splits(
        20, split=None, group=group, val_fraction=0.3, test_fraction=0.0, seed=0, strata=["a", "b"] * 10
    )
    np.testing.assert_array_equal(splits, assign(20, group=group, val_fraction=0.3))


def test_classes_too_small_for_a_row_of_validation_each_have_their_chance():
    strata = ["big"] * 70 + [name for name in "abcdefghij" for _ in range(3)]
    chosen = []
    for seed in range(40):
        splits = assign_splits(
            100, split=None, group=None, val_fraction=0.1, test_fraction=0.0, seed=seed, strata=strata
        )
        assert count(splits) == (90, 10, 0)
        chosen.append((splits[:70] == "val").sum())
    assert 6 < np.mean(chosen) < 8
