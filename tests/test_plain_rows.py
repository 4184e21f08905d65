"""Plain tables, split in bulk, against the same tables read by the csv module cell by cell: values, places, faults."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_table_fuzz import FUZZ, POINTS, SPLIT, tables
from test_table_fuzz import folder as folder

from data import cells as reading
from data.cells import Cells, read_cells, read_numbers
from data.errors import DataError
from data.plain_rows import PlainRows
from data.records import csv_records
from data.tables import read_landmark_table

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(FINITE.map(repr), FINITE.map("{:.3f}".format), FINITE.map("{:+.6E}".format), st.integers().map(str))
STRANGE = (
    "5. .5 . + 1e 1e999 -1e-999 --1 1_0 0x1F 1d5 nan NaN -nan NA None null inf -Infinity 1.5.2 TRUE 1j a.png 1.2.3 0.1x"
    " ä.png ١ １２ −5"
)
ODD = st.sampled_from([*STRANGE.split(), "1 2", "a b.png"])
SHARES = st.sampled_from([NUMBERS, st.one_of(NUMBERS, st.just("")), st.one_of(NUMBERS, st.just(""), ODD)])
TABLES = st.integers(1, 4).flatmap(
    lambda width: SHARES.flatmap(
        lambda cells: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=8)
    )
)


def told(read: Any) -> Any:
    try:
        return read()
    except DataError as error:
        return str(error)


def by_both_ways(read: Any) -> tuple[Any, Any]:
    """What is read, or told, with plain tables split in bulk and with all tables read by the csv module."""
    with pytest.MonkeyPatch.context() as patch:
        fast = told(read)
        patch.setattr(reading, "plain_rows", lambda text, delimiter: None)
        return fast, told(read)


def assert_same_cells(fast: Cells | str, slow: Cells | str) -> bool:
    """Returns whether the first were split in bulk."""
    if isinstance(fast, str) or isinstance(slow, str):
        assert fast == slow
        return False
    assert isinstance(slow.rows, list)
    assert (fast.header, fast.header_line, fast.lines) == (slow.header, slow.header_line, slow.lines)
    columns = range(len(slow.header))
    for _ in ("as lines", "as rows of cells"):  # which they are once someone went through them
        assert [fast.words(column) for column in columns] == [slow.words(column) for column in columns]
        assert [fast.rows[i] for i in range(len(fast.rows))] == slow.rows
        assert list(fast.rows) == slow.rows
    assert [fast.decimal_comma_in([j]) for j in columns] == [slow.decimal_comma_in([j]) for j in columns]
    return isinstance(fast.rows, PlainRows)


@pytest.mark.parametrize("delimiter", ",;\t|")
def test_numbers_are_the_same_to_the_last_bit_and_so_are_their_faults(folder: Path, delimiter: str) -> None:
    path = folder / "numbers.csv"
    reached = {"bulk": 0, "read": 0, "told": 0}

    @given(table=TABLES, before=st.integers(0, 2), end=st.sampled_from(["", "\n", "\n\n", "\r\n"]))
    @FUZZ(max_examples=300)
    def check(table: list[list[str]], before: int, end: str) -> None:
        rows = [[f"c{j}" for j in range(len(table[0]))], *table]
        path.write_text("\n" * before + "\n".join(map(delimiter.join, rows)) + end, encoding="utf-8", newline="")
        fast, slow = by_both_ways(lambda: read_cells(path))
        if not assert_same_cells(fast, slow):
            return
        reached["bulk"] += 1
        columns = list(range(len(table[0])))
        for asked in (columns, columns[::-1], columns[-1:]):
            one, other = (
                told(lambda asked=asked: read_numbers(fast, asked)),
                told(lambda asked=asked: read_numbers(slow, asked)),
            )
            reached["told" if isinstance(one, str) else "read"] += 1
            assert type(one) is type(other)
            if isinstance(one, str):
                assert one == other
            else:
                np.testing.assert_array_equal(one, other)
                assert np.signbit(one).tolist() == np.signbit(other).tolist()

    check()
    assert min(reached.values()) > 50, reached


def test_landmark_tables_are_the_same_in_every_field(folder: Path) -> None:
    path, splits = folder / "points.csv", folder / "splits.csv"
    reached = {"bulk": 0, "records": 0}

    @given(content=tables(POINTS))
    @FUZZ(max_examples=400)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        reached["bulk"] += assert_same_cells(*by_both_ways(lambda: read_cells(path)))
        fast, slow = by_both_ways(lambda: read_landmark_table(path))
        assert_same_fields(fast, slow)

        def records() -> object:
            splits.unlink(missing_ok=True)
            return csv_records(table=path, root=None, pixel_spacing_mm=None, splits_file=splits, **SPLIT)

        fast, slow = by_both_ways(records)
        assert_same_fields(fast, slow, but="read")
        reached["records"] += not isinstance(fast, str)

    check()
    assert min(reached.values()) > 50, reached


def assert_same_fields(fast: Any, slow: Any, but: str = "") -> None:
    assert type(fast) is type(slow)
    if isinstance(fast, str):
        assert fast == slow
        return
    for name, value in vars(fast).items():
        if name != but:
            np.testing.assert_equal(value, getattr(slow, name), err_msg=name)


PLAIN = "image,x0,y0\n0.png,1,2\n1.png,,\n"


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        (PLAIN, True),
        (f"\n\n{PLAIN}\n\n", True),
        (PLAIN.replace(",", ";"), True),
        (f"sep=|\n{PLAIN}".replace(",", "|"), True),
        (PLAIN.replace("\n", "\r\n"), True),
        ("\ufeff" + PLAIN, True),
        (PLAIN.replace(",,", ", ,"), False),
        (PLAIN.replace("1,2", '"1",2'), False),
        (PLAIN.replace("0.png", "ä.png"), True),
        (PLAIN.replace("0.png", "a b.png"), True),
        (PLAIN.replace("0.png", "a\u00a0b.png"), False),
        (PLAIN.replace("0.png", "a\tb.png"), False),
        (PLAIN.replace("0.png", " 0.png"), False),
        (PLAIN.replace("2\n", "2 \n"), False),
        (f" {PLAIN}", False),
        (f"{PLAIN} ", False),
        (f"{PLAIN} \n", False),
        (PLAIN.replace(",", "\t"), True),
        (PLAIN.replace(",", "\t").replace("0.png", "a b.png"), True),
        (PLAIN.replace("0.png", "\0.png"), False),
        (PLAIN + ",,\n", False),
        (PLAIN + "\n2.png,1,2\n", False),
        (PLAIN + "2.png,1\n", False),
        (PLAIN + "2.png,1," + "1" * 140_000, False),
        (f"sep=x\n{PLAIN}".replace(",", "x"), False),
    ],
)
def test_only_a_table_that_needs_nothing_else_is_split_in_bulk(tmp_path: Path, text: str, is_plain: bool) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    fast, slow = by_both_ways(lambda: read_cells(tmp_path / "t.csv"))
    assert assert_same_cells(fast, slow) is is_plain


def test_a_part_of_plain_rows_is_such_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,\n5,6\n", encoding="utf-8")
    rows = read_cells(tmp_path / "t.csv").rows
    assert isinstance(rows[1:], PlainRows)
    assert list(rows[1:]) == [["3", ""], ["5", "6"]]
    assert rows[-1] == ["5", "6"]
    numbers = rows[1:].numbers([1, 0])
    assert math.isnan(numbers[0, 0])
    assert numbers[1].tolist() == [6, 5]
