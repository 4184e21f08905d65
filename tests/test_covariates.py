"""Covariates against small tables: which columns are numbers, how categories are spelt, and who the network hears."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.cells import read_cells
from data.covariates import Covariates, encode_covariates, read_covariates
from data.errors import DataError

FUNCTION_SCOPED = [HealthCheck.function_scoped_fixture]


def read(
    folder: Path, column: list[str], *, train: list[bool] | None = None, missing: str = "error", delimiter: str = ","
) -> Covariates:
    """The covariate `sex` of a table with these cells."""
    rows = [f"{i}.png{delimiter}{cell}" for i, cell in enumerate(column)]
    (folder / "table.csv").write_text("\n".join([f"image{delimiter}Sex", *rows]))
    mask = np.array([True] * len(column) if train is None else train)
    return read_covariates(read_cells(folder / "table.csv"), ["sex"], mask, missing)


@pytest.mark.parametrize(
    ("cells", "categories", "values"),
    [
        ("F M M F", ["F", "M"], "F M M F"),
        ("f m M F", ["F", "M"], "F M M F"),
        ("female Male MALE Female", ["F", "M"], "F M M F"),
        ("female M male f", ["F", "M"], "F M M F"),
        ("F M other female", ["F", "M", "other"], "F M other F"),
        ("female male other other", ["F", "M", "other"], "F M other other"),
        ("s m l m", ["l", "m", "s"], "s m l m"),
        ("0 1 1 0", ["0", "1"], "0 1 1 0"),
        ("0.0 1.0 1 0", ["0", "1"], "0 1 1 0"),
        ("1 2 2 1", ["1", "2"], "1 2 2 1"),
        ("True false TRUE false", ["false", "true"], "true false true false"),
        ("yes no Yes NO", ["no", "yes"], "yes no yes no"),
        ("1 no TRUE 0", ["false", "true"], "true false true false"),
        ("1 0 yes no", ["no", "yes"], "yes no yes no"),
        ("yes no maybe yes", ["maybe", "no", "yes"], "yes no maybe yes"),
        ("Left right LEFT Left", ["Left", "right"], "Left right Left Left"),
        ("grade10 grade9 grade9 Grade10", ["grade9", "Grade10"], "Grade10 grade9 grade9 Grade10"),
    ],
)
def test_spellings_of_a_category_are_one_category(tmp_path, cells, categories, values):
    covariates = read(tmp_path, cells.split())
    assert covariates.names == ["Sex"]
    assert covariates.categories == [categories]
    assert covariates.values == [values.split()]
    expected = [[float(value == category) for category in categories] for value in values.split()]
    np.testing.assert_array_equal(covariates.encoded, expected)
    assert covariates.encoded.dtype == np.float32
    assert covariates.encoded_names == [f"Sex={category}" for category in categories]


def test_more_than_two_numbers_are_standardised_by_the_training_rows(tmp_path):
    covariates = read(tmp_path, ["10", "20", "60", "1000"], train=[True, True, True, False])
    assert covariates.categories == [None]
    assert covariates.mean == pytest.approx([30])
    assert covariates.std == pytest.approx([np.sqrt((400 + 100 + 900) / 3)])
    np.testing.assert_allclose(covariates.encoded[:, 0], (np.array([10, 20, 60, 1000]) - 30) / covariates.std[0])
    assert covariates.values == [["10", "20", "60", "1000"]]
    assert covariates.encoded_names == ["Sex"]


def test_decimal_commas_are_numbers_where_semicolons_separate_columns(tmp_path):
    covariates = read(tmp_path, ["1,5", "2,5", "-3"], delimiter=";")
    assert covariates.categories == [None]
    assert covariates.values == [["1.5", "2.5", "-3"]]
    assert covariates.mean == pytest.approx([1 / 3])
    with pytest.raises(DataError, match=r"line 3, column Sex is '2\.5', expected a number with a decimal comma"):
        read(tmp_path, ["1,5", "2.5", "-3", "4"], delimiter=";")


def test_decimal_commas_between_commas_are_numbers_where_they_can_be_nothing_else(tmp_path):
    assert read(tmp_path, ['"1,5"', '"2,5"', '"-3,125"']).values == [["1.5", "2.5", "-3.125"]]
    with pytest.raises(DataError, match=r"table\.csv: column Sex has numbers with decimal commas, such as '1,500'"):
        read(tmp_path, ['"1,500"', '"2,500"', '"3,500"'])


@pytest.mark.parametrize("empty", ["", "nan", "NA", "None"])
def test_a_missing_cell_is_an_error_or_a_category_of_its_own(tmp_path, empty):
    with pytest.raises(DataError, match=r"table\.csv: line 3, column Sex is .*data\.missing_covariate=category"):
        read(tmp_path, ["F", empty, "M"])
    covariates = read(tmp_path, ["F", empty, "M"], missing="category")
    assert covariates.categories == [["F", "M", "missing"]]
    assert covariates.values == [["F", "missing", "M"]]
    np.testing.assert_array_equal(covariates.encoded, [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


def test_a_missing_number_is_the_mean_and_says_so(tmp_path):
    with pytest.raises(DataError, match="line 3, column Sex is empty"):
        read(tmp_path, ["1", "", "2", "6"])
    covariates = read(tmp_path, ["1", "", "2", "6"], missing="category")
    assert covariates.encoded_names == ["Sex", "Sex=missing"]
    assert covariates.mean == pytest.approx([3])
    np.testing.assert_allclose(covariates.encoded, [[-2 / 14**0.5 * 3**0.5, 0], [0, 1], [-((3 / 14) ** 0.5), 0],
                                                    [3 * (3 / 14) ** 0.5, 0]], rtol=1e-6)  # fmt: skip


def test_a_cell_called_missing_is_missing_where_that_is_a_category(tmp_path):
    assert read(tmp_path, ["F", "Missing", "M"], missing="category").categories == [["F", "M", "missing"]]
    assert read(tmp_path, ["F", "Missing", "M"]).categories == [["F", "M", "Missing"]]


def test_the_width_does_not_depend_on_whether_anything_is_missing(tmp_path):
    assert read(tmp_path, ["F", "M"], missing="category").encoded.shape == (2, 3)
    assert read(tmp_path, ["1", "2", "3"], missing="category").encoded.shape == (3, 2)


def test_a_word_that_no_training_row_has_is_an_error_or_missing(tmp_path, caplog):
    cells, train = ["F", "M", "X", "f"], [True, True, False, False]
    with pytest.raises(DataError, match=r"table\.csv: line 4, column Sex is 'X', the training rows have F, M"):
        read(tmp_path, cells, train=train)
    with caplog.at_level(logging.WARNING):
        covariates = read(tmp_path, cells, train=train, missing="category")
    assert covariates.values == [["F", "M", "missing", "F"]]
    assert "line 4, column Sex is 'X'" in caplog.text


def test_a_word_among_numbers_is_an_error_or_missing(tmp_path):
    cells = [str(number) for number in range(12)] + ["l2"]
    with pytest.raises(DataError, match=r"line 14, column Sex is 'l2', expected a number"):
        read(tmp_path, cells)
    assert read(tmp_path, cells, missing="category").values[0][-1] == "missing"
    assert read(tmp_path, [*cells[:12], "inf"], missing="category").values[0][-1] == "missing"


def test_some_words_among_numbers_are_faults_and_no_categories(tmp_path):
    cells = [*map(str, range(6)), "tall", "12 cm", "?", "short"]
    with pytest.raises(DataError, match=r"line 8, column Sex is 'tall', expected a number; line 9, .* is '12 cm'"):
        read(tmp_path, cells)
    assert read(tmp_path, ["1", "2", "3", "a", "b", "a", "b"]).categories == [["1", "2", "3", "a", "b"]]


def test_rows_that_do_not_train_change_nothing_that_is_learnt(tmp_path):
    train = [True, True, True, True, False, False]
    for others in (["F", "M"], ["M", "M"]):
        assert read(tmp_path, ["f", "f", "m", "F", *others], train=train).categories == [["F", "M"]]
    for others in (["1", "2"], ["-500", "12345"]):
        covariates = read(tmp_path, ["1", "2", "3", "4", *others], train=train)
        assert covariates.mean == pytest.approx([2.5])


def test_a_column_without_any_value_is_an_error_in_both_ways(tmp_path):
    for missing in ("error", "category"):
        with pytest.raises(DataError, match=r"column Sex is empty in all 2 training rows"):
            read(tmp_path, ["", "", "F"], train=[True, True, False], missing=missing)


def test_a_column_of_identifiers_is_no_covariate(tmp_path):
    with pytest.raises(DataError, match=r"column Sex has 30 different words in 40 training rows"):
        read(tmp_path, [f"p{i % 30}" for i in range(40)])


def test_a_constant_column_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, ["F", "F"]).encoded.shape == (2, 1)
    assert "column Sex is F in all training rows" in caplog.text


def test_a_category_of_a_single_training_row_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        covariates = read(tmp_path, ["F", "m"] * 25 + ["W"])
    assert covariates.categories == [["F", "m", "W"]]
    assert "column Sex is 'W' in one training row only" in caplog.text


def test_another_way_to_treat_missing_cells_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"data\.missing_covariate=drop must be error or category"):
        read(tmp_path, ["F", "M"], missing="drop")


def test_several_columns_stand_side_by_side_and_no_column_is_no_width(tmp_path):
    text = "image,sex,age,weight kg\na.png,F,10,3\nb.png,M,20,4\nc.png,M,60,5\n"
    (tmp_path / "table.csv").write_text(text)
    cells, train = read_cells(tmp_path / "table.csv"), np.full(3, True)
    covariates = read_covariates(cells, ["Weight kg ", "sex", "age"], train, "error")
    assert covariates.names == ["weight kg", "sex", "age"]
    assert covariates.encoded_names == ["weight kg", "sex=F", "sex=M", "age"]
    np.testing.assert_array_equal(covariates.encoded[:, 1:3], [[1, 0], [0, 1], [0, 1]])
    assert covariates.std.tolist()[1] == 1
    np.testing.assert_allclose(covariates.encoded[:, [0, 3]].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(covariates.encoded[:, [0, 3]].std(0), 1, atol=1e-6)
    assert read_covariates(cells, [], train, "error").encoded.shape == (3, 0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sx"], r"table\.csv: line 1 has no column 'sx' \(did you mean sex\?\), only image, sex, split"),
        (["sex", "SEX"], r"data\.covariates names sex twice"),
        (["image"], r"column image of data\.covariates is the image column"),
        (["split"], r"column split of data\.covariates is the split column"),
    ],
)
def test_a_covariate_that_cannot_be_one_is_an_error_that_names_it(tmp_path, names, message):
    (tmp_path / "table.csv").write_text("image,sex,split\na.png,F,train\nb.png,M,train\n")
    with pytest.raises(DataError, match=message):
        read_covariates(read_cells(tmp_path / "table.csv"), names, np.full(2, True), "error")


WORDS = st.sampled_from(["F", "female", "m", "MALE", "0", "1.0", "true", "No", "x", "X y", "12.5", "-3", "", "nan"])


@given(column=st.lists(WORDS, min_size=2, max_size=12), missing=st.sampled_from(["error", "category"]))
@settings(max_examples=100, deadline=None, suppress_health_check=FUNCTION_SCOPED)
def test_what_was_learnt_encodes_its_own_table_again_in_any_order_of_rows(tmp_path, column, missing):
    try:
        learnt = read(tmp_path, column, missing=missing)
    except DataError:
        return  # a missing cell, or a word among numbers
    assert np.isfinite(learnt.encoded).all()
    if learnt.categories[0] is not None:
        np.testing.assert_array_equal(learnt.encoded.sum(axis=1), 1)
    assert learnt.encoded.shape[1] == len(learnt.encoded_names)
    rows = [f"{i}.png,{cell}" for i, cell in enumerate(column[::-1])]
    (tmp_path / "other.csv").write_text("\n".join(["image,sex", *rows]))
    cells = read_cells(tmp_path / "other.csv")
    again = encode_covariates(cells, ["sex"], learnt.categories, learnt.mean, learnt.std, missing)
    np.testing.assert_array_equal(again.encoded, learnt.encoded[::-1])
    assert again.values[0] == learnt.values[0][::-1]


def test_a_column_beside_a_covariate_does_not_decide_about_its_decimal_commas(tmp_path):
    (tmp_path / "table.csv").write_text('image,version,age\na.png,3.0,"1,5"\nb.png,3.1,"2,5"\nc.png,3.2,"-3"\n')
    covariates = read_covariates(read_cells(tmp_path / "table.csv"), ["age"], np.ones(3, bool), "error")
    assert covariates.values == [["1.5", "2.5", "-3"]]
