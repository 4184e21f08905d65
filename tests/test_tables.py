"""Landmark tables against hand-built files: what is read, and what every fault says."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import DataError, quoted
from data.images import read_image, read_size
from data.tables import check_points_inside, read_flip_pairs, read_landmark_table

REAL_DATA = Path(os.environ.get("TRAINER_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
FUNCTION_SCOPED = [HealthCheck.function_scoped_fixture]
NAN = float("nan")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three empty files in place of images: the table only asks whether they are there."""
    for name in ("a.png", "b.png", "c d.png"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str | bytes, name: str = "points.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def read(folder: Path, text: str | bytes, **options):
    return read_landmark_table(write(folder, text), **options)


def real(name: str) -> Path:
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"no research images in {REAL_DATA / name}")
    return REAL_DATA / name


def test_a_whole_table_is_read_into_typed_columns(folder):
    table = read(
        folder,
        "image,x0,y0,x1,y1,split,patient,pixel_spacing_mm,age\n"
        "a.png,1.5,2,3,4,train,p1,0.3,9\n"
        "b.png,-1,1e2,,NaN,dev,p2,,old\n"
        "c d.png,,,0,0,TEST,p3,0.1,\n",
        pixel_spacing_mm=0.5,
    )
    assert table.path == folder / "points.csv"
    assert table.images == [folder / "a.png", folder / "b.png", folder / "c d.png"]
    assert table.image_names == ["a.png", "b.png", "c d.png"]
    assert table.points.dtype == np.float64
    expected = [[[1.5, 2], [3, 4]], [[-1, 100], [NAN, NAN]], [[NAN, NAN], [0, 0]]]
    np.testing.assert_array_equal(table.points, expected)
    assert table.landmark_names == ["0", "1"]
    assert table.pixel_spacing_mm.tolist() == [0.3, 0.5, 0.1]
    assert table.split == ["train", "val", "test"]
    assert table.group == ["p1", "p2", "p3"]
    assert table.rows == [2, 3, 4]


def test_optional_columns_may_be_absent(folder):
    table = read(folder, "image,x0,y0\na.png,1,2\n")
    assert table.split is None
    assert table.group is None
    assert np.isnan(table.pixel_spacing_mm).all()
    assert read(folder, "image,x0,y0\na.png,1,2\n", pixel_spacing_mm=0.2).pixel_spacing_mm.tolist() == [0.2]


@pytest.mark.parametrize("column", ["image", "File", "FILENAME", "path", "image_path"])
def test_the_image_column_has_several_names(folder, column):
    assert read(folder, f"x0,y0,{column}\n1,2,a.png\n").image_names == ["a.png"]


@pytest.mark.parametrize(
    ("word", "split"),
    [("train", "train"), ("Dev", "val"), ("val", "val"), ("VALID", "val"), ("validation", "val"), (" test ", "test")],
)
@pytest.mark.parametrize("column", ["split", "Set"])
def test_split_words_are_understood(folder, column, word, split):
    assert read(folder, f"image,x0,y0,{column}\na.png,1,2,{word}\n").split == [split]


@pytest.mark.parametrize("column", ["group", "patient", "Patient_ID"])
def test_the_group_column_has_several_names(folder, column):
    assert read(folder, f"image,x0,y0,{column}\na.png,1,2,007\n").group == ["007"]


def test_points_are_ordered_by_number_and_counted_from_0_or_1(folder):
    table = read(folder, "image,Y2,x2,x1,y1\na.png,4,3,1,2\n")
    assert table.points.tolist() == [[[1, 2], [3, 4]]]
    assert table.landmark_names == ["0", "1"]


def test_named_points_keep_their_names_and_order(folder):
    write(folder, "0 other\n", "landmark_names.txt")  # belongs to numbered tables
    table = read(folder, "image,sella_x,sella_y,A point_Y,A point_X\na.png,1,2,4,3\n")
    assert table.landmark_names == ["sella", "A point"]
    assert table.points.tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize("text", ["0 sella\n1 A point\n", "sella\n\nA point", "1, sella\r\n2, A point\r\n"])
def test_names_beside_the_table_name_its_numbered_points(folder, text):
    write(folder, text, "landmark_names.txt")
    assert read(folder, "image,x0,y0,x1,y1\na.png,1,2,3,4\n").landmark_names == ["sella", "A point"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\n", "holds 1 names where the table has 2 landmarks"),
        ("", "holds 0 names"),
        ("0 one\n2 two\n", "line 2 is '2 two', expected number 1"),
        ("one\none\n", "line 2 repeats the name 'one'"),
    ],
)
def test_names_that_do_not_fit_the_table_are_an_error(folder, text, message):
    write(folder, text, "landmark_names.txt")
    with pytest.raises(DataError, match=f"landmark_names.txt: {message}"):
        read(folder, "image,x0,y0,x1,y1\na.png,1,2,3,4\n")


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfimage,x0,y0\na.png,12.5,2\n",
        b"image,x0,y0\r\na.png,12.5,2\r\n",
        b"image,x0,y0\ra.png,12.5,2\r",
        b"image;x0;y0\na.png;12,5;2\n",
        b"image\tx0\ty0\na.png\t12.5\t2\n",
        b"image\tx0\ty0\na.png\t12,5\t2\n",
        b'image,x0,y0\n"a.png","12.5","2"\n',
        b" image , x0 , y0 \n a.png , 12.5 , 2 \n",
        b'image, x0, y0\n"a.png", "12.5", "2"\n',
        b"image,x0,y0\na.png,12.5,2\n\n\n  \n,,\n",
        b"\n\nimage,x0,y0\n\na.png,12.5,2",
        b"image,x0,y0,\na.png,12.5,2,\n",
        b'image,x0,y0\na.png,"12,5",2\n',
        b"image|x0|y0\na.png|12.5|2\n",
        b"sep=;\nimage;x0;y0\na.png;12,5;2\n",
    ],
    ids=[
        "bom",
        "crlf",
        "cr",
        "semicolon",
        "tab",
        "tab,",
        "quoted",
        "spaced",
        "both",
        "trailing",
        "blank",
        "unnamed",
        "quoted,",
        "bar",
        "sep=",
    ],
)
def test_what_spreadsheets_write_is_read(folder, text):
    table = read(folder, text)
    assert table.image_names == ["a.png"]
    assert table.points.tolist() == [[[12.5, 2]]]


@pytest.mark.parametrize("empty", ["", "nan", "NaN", "NA", "null", "None"])
def test_empty_words_mean_missing_and_a_row_may_miss_all(folder, empty):
    assert np.isnan(read(folder, f"image,x0,y0\na.png,{empty},\n").points).all()


def test_rows_are_lines_of_the_file_also_after_blank_lines_and_breaks_in_cells(folder):
    table = read(folder, 'image,x0,y0,note\na.png,1,2,"two\nlines"\n\nb.png,3,4,\nc d.png,5,6,\n')
    assert table.rows == [2, 5, 6]


def test_images_are_found_beside_the_table_in_its_images_folder_or_under_the_root(tmp_path):
    for place in ("table/images/one.png", "table/two.png", "root/sub/three.png", "elsewhere.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    beside = read(tmp_path / "table", f"image,x0,y0\none.png,1,2\n{tmp_path}/table/two.png,1,2\n")
    assert beside.images == [tmp_path / p for p in ("table/images/one.png", "table/two.png")]
    rooted = read(tmp_path / "table", "image,x0,y0\nsub/three.png,1,2\n", root=tmp_path / "root")
    assert rooted.images == [tmp_path / "root/sub/three.png"]
    with pytest.raises(DataError, match=r"points\.csv: line 2, column image: image 'two\.png' not found.*root"):
        read(tmp_path / "table", "image,x0,y0\ntwo.png,1,2\n", root=tmp_path / "root")
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "table", "image,x0,y0\ntwo.png,1,2\n", root=tmp_path / "rot")


@pytest.mark.parametrize("name", ["../elsewhere.png", "images/../../elsewhere.png", "{}/elsewhere.png", "link.png",
                                  "linked/elsewhere.png", "../table2/a.png"])  # fmt: skip
def test_no_path_leaves_the_image_root_unless_this_is_allowed(tmp_path, name):
    for place in ("table/images/one.png", "elsewhere.png", "table2/a.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "table/link.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "table/linked").symlink_to(tmp_path)
    name = name.format(tmp_path)
    text = f"image,x0,y0\none.png,1,2\n{name},1,2\n"
    for root in (None, tmp_path / "table"):
        cells = text if root is None else text.replace("one.png", "images/one.png")
        with pytest.raises(DataError) as caught:
            read(tmp_path / "table", cells, root=root)
        told = str(caught.value)
        assert f"points.csv: line 3, column image: image {quoted(name)} is " in told
        assert f"The image root is {tmp_path / 'table'}; " in told
        assert told.endswith("or set data.allow_outside_root=true.")
        assert len(read(tmp_path / "table", cells, root=root, allow_outside_root=True).images) == 2


def test_the_root_may_itself_be_reached_by_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.png").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("a.png", f"{tmp_path}/link/a.png", f"{tmp_path}/real/a.png"):
        assert len(read(tmp_path / "link", f"image,x0,y0\n{name},1,2\n").images) == 1


@pytest.mark.parametrize(("typed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_umlauts_are_found_in_one_letter_or_two(tmp_path, typed, stored):
    (tmp_path / "bilder").mkdir()
    (tmp_path / "bilder" / unicodedata.normalize(stored, "müller.png")).touch()
    name = "bilder\\" + unicodedata.normalize(typed, "müller.png")  # as Windows writes it
    assert [path.is_file() for path in read(tmp_path, f"image,x0,y0\n{name},1,2\n").images] == [True]


def test_relative_tables_and_roots_give_absolute_images(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder, "image,x0,y0\n./a.png,1,2\n")
    for root in (None, Path()):
        assert read_landmark_table("points.csv", root=root).images == [folder / "a.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x0,y0\na.png,1,2\nb.png,oops,2\n", r"line 3, column x0 is 'oops'.*number"),
        ("image,x0,y0\na.png,1,0x10\n", r"line 2, column y0 is '0x10'"),
        ("image,x0,y0\na.png,1,1_0\n", r"line 2, column y0 is '1_0'"),
        ('image,x0,y0\na.png,"12,5",2.5\n', r"line 2, column x0 is '12,5'.*Write all numbers one way"),
        ('image,x0,y0\na.png,"1,234",2\n', r"line 2, column x0 is '1,234'.*without thousands separators"),
        ("image;x0;y0\na.png;1.234;2,5\n", r"line 2, column x0 is '1.234'.*Write all numbers one way"),
        ("image;x0;y0\na.png;1.234,5;2\n", r"line 2, column x0 is '1.234,5'"),
        ("image,x0,y0\na.png,inf,2\n", r"line 2, column x0 is 'inf'.*finite"),
        ("image,x0,y0\na.png,1,-1e999\n", r"line 2, column y0 is '-1e999'.*finite"),
        ("image,x0,y0,x1,y1\na.png,1,2,3,\n", r"line 2, column y1 is empty where x1 is not.*both"),
        ("image,s_x,s_y\na.png,,2\n", r"line 2, column s_x is empty where s_y is not"),
        ("image,x0,y0,pixel_spacing_mm\na.png,1,2,0\n", r"line 2, column pixel_spacing_mm is '0'.*above 0"),
        ("image,x0,y0,pixel_spacing_mm\na.png,1,2,-.1\n", r"line 2, column pixel_spacing_mm is '-.1'"),
        ("image,x0,y0,pixel_spacing_mm\na.png,1,2,x\n", r"line 2, column pixel_spacing_mm is 'x'"),
        ("image,x0,y0,split\na.png,1,2,training\n", r"line 2, column split is 'training'.*train, dev, val, .*test"),
        ("image,x0,y0,set\na.png,1,2,\n", r"line 2, column set is ''"),
        ("image,x0,y0,group\na.png,1,2,\n", r"line 2, column group is empty"),
        ("file,x0,y0\na.png,1,2\n,1,2\n", r"line 3, column file is empty"),
        ("image,x0,y0\na.png,1,2\nb.jpg,1,2\n", r"line 3, column image: image 'b\.jpg' not found .did you mean b\.png"),
        ("image,x0,y0\na.png,1,2\n./a.png,1,2\n", r"line 3, column image: image './a.png' is already on line 2"),
        ("image,x0,y0\na.png,1,2\n\nb.png,1\n", r"line 4 has 2 cells where the header has 3"),
        ("image,x0,y0\na.png,1,2,3\n", r"line 2 has 4 cells where the header has 3"),
        ('image,x0,y0\na.png,1,2\n"b.png,1,2\n', r"line 3 is not valid CSV.*quotes"),
        ("x0,y0\n1,2\n", r"line 1 has no image column, only x0, y0\. .*image, file"),
        ("image,x,y\na.png,1,2\n", r"line 1 has no point columns, only image, x, y\. .*x0,y0.*<name>_x,<name>_y"),
        ("image,x0,y0,x1\na.png,1,2,3\n", r"line 1 has column x1 without its y"),
        ("image,s_y\na.png,1\n", r"line 1 has column s_y without its x"),
        ("image,x0,y0,x2,y2\na.png,1,2,3,4\n", r"line 1 has columns x2,y2 and no x1,y1.*gap"),
        ("image,x2,y2\na.png,1,2\n", r"line 1 has columns x2,y2 and no x0,y0"),
        ("image,x0,y0,x00\na.png,1,2,3\n", r"line 1 has columns x0 and x00 for the same number"),
        ("image,x0,y0,Image\na.png,1,2,3\n", r"line 1 has column image twice"),
        ("image,x0,y0,x0\na.png,1,2,3\n", r"line 1 has column x0 twice"),
        ("image,x0,y0,s_x,s_y\na.png,1,2,3,4\n", r"line 1 has point columns of both spellings, such as x0 and s_x"),
        ("image,x0,y0\n", "no rows"),
        ("image,x0,y0\n,,\n", "no rows"),
        ("", "empty"),
        ("\n \n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"image,x0,y0\na.png,1,2\n\xe9.png,1,2\n", "line 3 is not UTF-8.*Save the file as UTF-8"),
        ("image,x0,y0\na.png,1,2\n".encode("utf-16"), "line 1 is not UTF-8"),
    ],
)
def test_every_fault_names_file_line_and_column(folder, text, message):
    with pytest.raises(DataError, match=rf"points\.csv.*{message}"):
        read(folder, text)


def test_a_group_on_both_sides_of_the_split_is_an_error_that_names_it(folder):
    text = "image,x0,y0,split,patient\na.png,1,2,train,p1\nb.png,1,2,val,p2\nc d.png,1,2,val,p1\n"
    with pytest.raises(DataError, match=r"points\.csv: group 'p1' .*line 2 \(train\) and line 4 \(val\)"):
        read(folder, text)


def test_many_faults_are_told_in_one_message(folder):
    rows = "".join(f"image{i}.png,bad,2\n" for i in range(17))
    with pytest.raises(DataError, match=r"line 2, .*line 6, column x0 is 'bad'; and 12 more\. Write"):
        read(folder, f"image,x0,y0\n{rows}")


def test_a_missing_table_or_a_folder_is_an_error(folder):
    write(folder, "")
    with pytest.raises(DataError, match=r"point\.csv: file not found \(did you mean points\.csv"):
        read_landmark_table(folder / "point.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_landmark_table(folder)


@pytest.mark.parametrize("value", [0.0, -1.0, NAN, float("inf")])
def test_a_default_spacing_that_is_not_positive_is_an_error(folder, value):
    with pytest.raises(DataError, match="pixel_spacing_mm="):
        read(folder, "image,x0,y0\na.png,1,2\n", pixel_spacing_mm=value)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)
POINTS = st.integers(1, 4).flatmap(
    lambda k: st.lists(
        st.lists(st.none() | st.tuples(NUMBERS, NUMBERS), min_size=k, max_size=k), min_size=1, max_size=3
    )
)


@given(points=POINTS, start=st.sampled_from([0, 1, None]), style=st.sampled_from([",.", ";.", ";,", "\t."]))
@settings(max_examples=150, deadline=None, suppress_health_check=FUNCTION_SCOPED)
def test_points_survive_the_file_to_the_bit(folder, points, start, style):
    delimiter, decimal = style
    names = ["sella", "A", "x-ray", "über"][: len(points[0])]
    columns = [f"x{start + k},y{start + k}" if start is not None else f"{n}_x,{n}_y" for k, n in enumerate(names)]
    lines = [",".join(["image", *columns]).replace(",", delimiter)]
    for image, row in zip(("a.png", "b.png", "c d.png"), points, strict=False):
        cells = [image] + [repr(v).replace(".", decimal) if p else "" for p in row for v in (p or (0, 0))]
        lines.append(delimiter.join(cells))
    table = read(folder, "\n".join(lines))
    np.testing.assert_array_equal(table.points, [[p or (NAN, NAN) for p in row] for row in points])
    assert table.landmark_names == (names if start is None else [str(k) for k in range(len(names))])


WHOLE = b"image,x0,y0,x1,y1,split,group,pixel_spacing_mm\na.png,1,2.5,,,train,p1,0.3\nb.png,3,4,5,6,val,p2,\n"
SCRAPS = [
    b",",
    b";",
    b"\t",
    b"\n",
    b"\r",
    b'"',
    b"\x00",
    b"\xff",
    b"x9999",
    b"1e999",
    b"_x",
    b"a.png",
    b"..",
    b"/",
    b" ",
]


@given(edits=st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 9), st.sampled_from(SCRAPS)), max_size=5))
@settings(max_examples=200, deadline=None, suppress_health_check=FUNCTION_SCOPED)
def test_a_mutated_table_is_read_or_is_a_data_error(folder, edits):
    text = WHOLE
    for place, removed, scrap in edits:
        text = text[:place] + scrap + text[place + removed :]
    try:
        table = read(folder, text)
    except DataError as error:
        assert "points.csv" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert table.points.shape == (len(table.images), len(table.landmark_names), 2)


def test_points_outside_their_image_are_an_error_that_names_the_row(folder):
    text = "image,x0,y0,x1,y1\na.png,10,90,,\nb.png,500,600,700,800\nc d.png,5,5,900,900\n"
    with pytest.raises(DataError) as error:
        check_points_inside(read(folder, text), np.array([[100, 50]] * 3))
    swapped, far = str(error.value).split("; ", 1)
    assert swapped.endswith("points.csv: line 2: no point of a.png lies inside its 100x50 px (x and y swapped?)")
    assert far.startswith("line 3: no point of b.png lies inside its 100x50 px. ")
    assert "line 4" not in str(error.value)


def test_points_up_to_one_pixel_outside_are_inside(folder):
    table = read(folder, "image,x0,y0\na.png,-1,-1\nb.png,100,50\nc d.png,,\n")
    check_points_inside(table, np.array([[100, 50]] * 3))
    with pytest.raises(DataError, match=r"line 2.*line 3"):
        check_points_inside(read(folder, "image,x0,y0\na.png,-1.1,5\nb.png,5,50.1\n"), np.array([[100, 50]] * 2))


def test_flip_pairs_are_read_with_comments_and_blank_lines(tmp_path):
    path = write(tmp_path, "0 3 # eyes\n\n# mouth\n1,2\r\n", "pairs.txt")
    assert read_flip_pairs(path, 5) == [(0, 3), (1, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n2\n", "line 2 is '2', expected two numbers"),
        ("0 1 2\n", "line 1 is '0 1 2'"),
        ("a b\n", "line 1 is 'a b'"),
        ("0 5\n", "line 1 is 0 5, expected indices from 0 to 4"),
        ("-1 3\n", "line 1 is -1 3"),
        ("3 3\n", "line 1 pairs landmark 3 with itself"),
        ("0 1\n2 3\n1 4\n", "line 3 uses landmark 1 again, first on line 1"),
        ("0 1\n1 0\n", "line 2 uses landmark 1 again"),
        (b"\xff", "line 1 is not UTF-8"),
    ],
)
def test_faults_in_flip_pairs_name_file_and_line(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"pairs\.txt: {message}"):
        read_flip_pairs(write(tmp_path, text, "pairs.txt"), 5)


def test_a_missing_file_of_flip_pairs_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"pairs\.txt: file not found"):
        read_flip_pairs(tmp_path / "pairs.txt", 5)


@pytest.mark.real_data
def test_real_cephalograms_are_read_with_names_spacing_and_points_inside():
    table = read_landmark_table(real("ceph") / "landmarks.csv")
    assert table.points.shape == (150, 19, 2)
    assert table.points[0, 1].tolist() == [489.3333, 343.6667]
    assert table.landmark_names[:2] == ["sella", "nasion"]
    assert (table.pixel_spacing_mm == 0.3).all()
    sizes = np.array([read_size(path) for path in table.images])
    assert (sizes == [645, 800]).all()
    check_points_inside(table, sizes)
    assert read_image(table.images[0]).shape == (800, 645)


@pytest.mark.real_data
def test_real_faces_are_read_and_their_flip_pairs_mirror_the_mean_face():
    table = read_landmark_table(real("faces68") / "landmarks.csv")
    assert table.points.shape == (600, 68, 2)
    check_points_inside(table, np.array([read_size(path) for path in table.images]))
    mean = table.points.mean(axis=0)
    centre = mean[27:31, 0].mean()  # the ridge of the nose
    for i, j in read_flip_pairs(real("faces68") / "flip_pairs.txt", 68):
        assert np.allclose([2 * centre - mean[i, 0], mean[i, 1]], mean[j], atol=4)
    image = read_image(table.images[0])
    assert image.ndim == 3
    assert read_size(table.images[0]) == (image.shape[1], image.shape[0])


def test_a_warning_of_points_outside_shows_no_code_that_a_terminal_obeys(folder, caplog):
    table = read(folder, "image,\x1b[2J_x,\x1b[2J_y,n_x,n_y\na.png,70,5,1,2\n")
    check_points_inside(table, np.array([[60, 50]]))
    assert "landmark \\x1b[2J at (70, 5)" in caplog.text
    assert "\x1b" not in caplog.text
