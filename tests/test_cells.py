"""Text files to cells: delimiters, line numbers and numbers, against files written by hand."""

import numpy as np
import pytest

from data.cells import read_cells, read_numbers, read_text, read_words
from data.errors import DataError


def cells_of(folder, text: str):
    (folder / "table.csv").write_text(text, encoding="utf-8", newline="")
    return read_cells(folder / "table.csv")


def test_text_loses_its_byte_order_mark_and_foreign_line_ends(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(tmp_path / "names.txt") == "one\ntwo\nthree\n"


def test_cells_know_the_line_that_each_row_begins_on(tmp_path):
    cells = cells_of(tmp_path, '\nname,note\n\na,"two\nlines"\n,,\nb,\n'.replace(",,", ","))
    assert (cells.header, cells.header_line) == (["name", "note"], 2)
    assert cells.rows == [["a", "two\nlines"], ["b", ""]]
    assert cells.lines == [4, 7]
    assert cells.at(1, 0) == "line 7, column name"


@pytest.mark.parametrize(
    ("text", "value", "decimal_comma"),
    [
        ("a,b\n1.5,2\n", 1.5, False),
        ("a;b\n1,5;2\n", 1.5, True),
        ("a\tb\n1,5\t2\n", 1.5, True),
        ("a;b\n1.5;2", 1.5, True),
    ],
)
def test_the_delimiter_decides_whether_a_comma_is_a_decimal_point(tmp_path, text, value, decimal_comma):
    cells = cells_of(tmp_path, text)
    assert cells.decimal_comma_in([0, 1]) is decimal_comma
    assert read_numbers(cells, [0, 1]).tolist() == [[value, 2.0]]


def test_the_first_name_asked_for_is_the_column_taken_in_any_case(tmp_path):
    cells = cells_of(tmp_path, "File,IMAGE\nf,i\n")
    assert cells.column(("image", "file")) == 1
    assert cells.column(("file", "image")) == 0
    assert cells.column(("path",)) is None
    assert read_words(cells, ("image",), "") == ["i"]
    assert read_words(cells, ("path",), "") is None


def test_numbers_keep_every_bit_and_words_for_missing_are_nan(tmp_path):
    values = [0.1, -1e-300, 1.7976931348623157e308, 5e-324, 123456789.123456789]
    cells = cells_of(tmp_path, "a,b\n" + "".join(f"{value!r},NA\n" for value in values))
    numbers = read_numbers(cells, [0, 1])
    np.testing.assert_array_equal(numbers[:, 0], values)
    assert np.isnan(numbers[:, 1]).all()


@pytest.mark.parametrize("word", ["True", "1e", "--1", "1 2", "0b1", "inf", "1,500"])
def test_what_is_no_finite_number_is_an_error_at_its_place(tmp_path, word):
    with pytest.raises(DataError, match=rf"table\.csv: line 3, column b is '{word}'"):
        read_numbers(cells_of(tmp_path, f'a,b\n1,2\n3,"{word}"\n'), [0, 1])


def test_only_the_columns_that_are_read_decide_about_decimal_commas(tmp_path):
    """A list of teeth is no number with a decimal comma, a version none with a decimal point."""
    with pytest.raises(DataError, match=r"table\.csv: line 2, column x0 is '1,234'\. Write all numbers one way"):
        read_numbers(cells_of(tmp_path, 'teeth,x0,y0\n"11,12","1,234",20\n'), [1, 2])
    versioned = cells_of(tmp_path, 'version,x0,y0\n3.0,"1,5","1,234"\n')
    assert read_numbers(versioned, [1, 2]).tolist() == [[1.5, 1.234]]
    one_row = versioned._replace(rows=[["3.0", "1,5", "1.5"]], lines=[2])
    with pytest.raises(DataError, match=r"column y0 is '1\.5'"):  # a part is read as the whole
        read_numbers(one_row, [1, 2])


def test_ends_of_lines_within_quotes_are_stripped_as_blanks_are(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('image,x\n"a.png\n","\n1"\n')
    assert read_cells(path).rows == [["a.png", "1"]]
