"""Mutated tables, lists and images: each is read, or ends in one DataError of one line, within a minute."""

import io
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.errors import DataError
from data.images import read_image, read_size
from data.label_records import csv_label_records
from data.records import csv_records
from data.splits import read_splits
from data.tables import read_flip_pairs, read_landmark_table

FUZZ = partial(settings, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
IMAGES = [f"{index}.png" for index in range(6)]
SPLIT = {"val_fraction": 0.34, "test_fraction": 0.0, "split_seed": 0}

POINTS = [
    ["image", "x0", "y0", "x1", "y1", "split", "group", "pixel_spacing_mm"],
    *([name, "1", "2.5", "3", "", "train", f"p{i}", "0.3"] for i, name in enumerate(IMAGES)),
]
POINTS[1][4] = POINTS[2][4] = POINTS[3][4] = "7"
for row in POINTS[4:]:
    row[3] = ""
POINTS[6][5] = "val"
LABELS = [
    ["image", "label", "sex", "age"],
    *([name, "ab"[i % 2], "FM"[i % 2], f"{i}.5"] for i, name in enumerate(IMAGES)),
]
PAIRS = [["0", "3"], ["1", "2"], ["4", "5"]]
NAMES = [["0", "sella"], ["1", "nasion"]]
KEPT = [["image", "split"], *([name, "val" if i > 3 else "train"] for i, name in enumerate(IMAGES))]

WORDS = (
    "nan None inf -1e999 1e308 -1 0 12,5 1,234 1.234,5 0x1F 1_0 ١ −5 =1+1 #REF! ä x0 y0 x1 image label "
    "_x a_x x999999 sep=; ../0.png /etc/passwd ~/a.png C:\\a.png https://x.org/a.png . 1.png ./0.png link.png "
    "train val test dev"
)
LONG_AND_STRANGE = [
    "",
    " ",
    "1 234",
    "9" * 400,
    "x" * 200000,
    "\x00",
    "\x1b[2J",
    "a\nb",
    'a"b',
    "a\u0308",
    "😀",
    "\u202e",
]
CELLS = st.sampled_from([*WORDS.split(), *LONG_AND_STRANGE])
SCRAPS = st.sampled_from(
    [bytes([letter]) for letter in b",;\t|\n\r\"'\\# -e.0\x00\xff\xfe\xc3"]
    + [b"\r\n", b'""', b"\xef\xbb\xbf", b"\xed\xa0\x80", b"9999999999", b"\xc2\xa0", b"\xe2\x80\xa8", b"PK\x03\x04"]
)
LONGEST_S = 60  # of what takes milliseconds; even a busy machine does it in this time
PLACES = st.integers(0, 10**6)
TABLE_EDITS = st.lists(
    st.tuples(
        st.sampled_from(
            ["cell", "swap", "drop line", "double line", "drop column", "double column", "move line", "cut"]
        ),
        PLACES,
        PLACES,
        CELLS,
    ),
    max_size=2,
)
BYTE_EDITS = st.lists(st.tuples(PLACES, st.integers(0, 6), SCRAPS), max_size=2)
WRITING = st.tuples(
    st.sampled_from([",", ";", "\t", "|", " "]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "utf-32"]),
    st.booleans(),
)
USUAL = st.just((",", "\n", "utf-8", False))


def edited(table: list[list[str]], edits: list[tuple[str, int, int, str]]) -> list[list[str]]:
    """The table with cells, lines and columns changed, swapped, doubled, moved and dropped."""
    rows = [list(row) for row in table]
    for kind, i, j, cell in edits:
        if not rows:
            break
        row, other = rows[i % len(rows)], rows[j % len(rows)]
        width = max(1, len(row))
        if kind == "cell" and row:
            row[j % width] = cell
        elif kind == "swap" and row and other:
            row[j % width], other[i % len(other)] = other[i % len(other)], row[j % width]
        elif kind == "drop line":
            rows.remove(row)
        elif kind == "double line":
            rows.insert(j % len(rows), list(row))
        elif kind == "move line":
            rows.append(rows.pop(i % len(rows)))
        elif kind == "cut":
            del row[j % width :]
        elif kind == "drop column":
            rows = [cells[: j % width] + cells[j % width + 1 :] for cells in rows]
        elif kind == "double column":
            rows = [[*cells, cells[j % len(cells)] if cells else ""] for cells in rows]
    return rows


def written(rows: list[list[str]], writing: tuple[str, str, str, bool], edits: list[tuple[int, int, bytes]]) -> bytes:
    delimiter, end, encoding, quote = writing
    text = end.join(delimiter.join(f'"{cell}"' if quote else cell for cell in row) for row in rows)
    content = text.encode(encoding, errors="replace")
    for place, removed, scrap in edits:
        start = place % (len(content) + 1)
        content = content[:start] + scrap + content[start + removed :]
    return content


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fails the test where what is done takes longer, be it that it computes or that it waits."""

    def fail(signal_: int, frame: object) -> None:
        pytest.fail(f"not done within {seconds:g} s")  # no Exception, which what is done may catch

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def read_or_told(read: Callable[[], object]) -> object:
    """What is read; None for a DataError, which must be one printable line that is not empty."""
    with time_limit(LONGEST_S), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=r"PIL\.")  # as data.images does
        try:
            return read()
        except DataError as error:
            told = str(error)
            assert told
            assert told.isprintable()
            assert len(told) < 5000, told
            return None


def test_a_reading_that_never_ends_fails() -> None:
    def wait() -> None:
        while True:
            with suppress(Exception):
                signal.pause()

    with pytest.raises(pytest.fail.Exception, match="not done within"), time_limit(0.01):
        wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz") / "work"
    place.mkdir()
    for index, name in enumerate(IMAGES):
        Image.new("L", (20 + index, 16), index).save(place / name)
    (place / "link.png").symlink_to("0.png")
    Image.new("L", (20, 16)).save(place.parent / "0.png")
    return place


def tables(table: list[list[str]]) -> st.SearchStrategy[bytes]:
    """Mostly with so little wrong that much of it can be read."""
    bytes_ = st.one_of(st.just([]), st.just([]), BYTE_EDITS)
    return st.builds(written, st.builds(edited, st.just(table), TABLE_EDITS), st.one_of(USUAL, USUAL, WRITING), bytes_)


@given(content=tables(POINTS), names=st.one_of(st.none(), st.none(), tables(NAMES)))
@FUZZ(max_examples=500)
def test_landmark_tables(folder: Path, content: bytes, names: bytes | None) -> None:
    (folder / "points.csv").write_bytes(content)
    (folder / "landmark_names.txt").write_bytes(b"sella\nnasion\n" if names is None else names)
    (folder / "splits.csv").unlink(missing_ok=True)
    records = read_or_told(
        lambda: csv_records(
            table=folder / "points.csv", root=None, pixel_spacing_mm=None, splits_file=folder / "splits.csv", **SPLIT
        )
    )
    if records is not None:
        count = len(records.image_names)
        assert records.points.shape == (count, len(records.landmark_names), 2)
        assert records.sizes.shape == (count, 2)
        assert np.isfinite(records.points[records.indices("train")]).any(axis=0).all()
        assert not np.isinf(records.points).any()
        assert set(records.splits) <= {"train", "val", "test"}
        assert read_splits(folder / "splits.csv", records.image_names).tolist() == records.splits.tolist()
        assert not {"../0.png", "/etc/passwd"} & set(records.image_names)
        assert len({records.read(index).tobytes() for index in range(count)}) == count


@given(
    content=tables(LABELS),
    numeric=st.booleans(),
    covariates=st.sampled_from([[], ["sex"], ["age", "sex"]]),
    missing=st.sampled_from(["error", "category"]),
)
@FUZZ(max_examples=400)
def test_label_tables(folder: Path, content: bytes, numeric: bool, covariates: list[str], missing: str) -> None:
    (folder / "labels.csv").write_bytes(content)
    (folder / "splits.csv").unlink(missing_ok=True)
    records = read_or_told(
        lambda: csv_label_records(
            table=folder / "labels.csv",
            root=None,
            label="age" if numeric and "age" not in covariates else None,
            numeric=numeric,
            covariates=covariates,
            missing_covariate=missing,
            splits_file=folder / "splits.csv",
            **SPLIT,
        )
    )
    if records is not None:
        assert np.isfinite(records.targets).all()
        assert np.isfinite(records.covariates.encoded).all()
        if numeric:
            assert np.isfinite(records.target_mean)
            assert 0 < records.target_std < np.inf
        else:
            trained = set(records.targets[records.indices("train")].tolist())
            assert trained == set(range(len(records.class_names)))


@given(content=tables(PAIRS))
@FUZZ(max_examples=150)
def test_flip_pairs(folder: Path, content: bytes) -> None:
    (folder / "pairs.txt").write_bytes(content)
    pairs = read_or_told(lambda: read_flip_pairs(folder / "pairs.txt", 6))
    if pairs is not None:
        used = [index for pair in pairs for index in pair]
        assert len(set(used)) == len(used)
        assert set(used) <= set(range(6))


@given(content=tables(NAMES))
@FUZZ(max_examples=150)
def test_landmark_names(folder: Path, content: bytes) -> None:
    (folder / "named.csv").write_text("image,x0,y0,x1,y1\n0.png,1,2,3,4\n")
    (folder / "landmark_names.txt").write_bytes(content)
    table = read_or_told(lambda: read_landmark_table(folder / "named.csv"))
    if table is not None:
        assert len(set(table.landmark_names)) == 2


@given(content=tables(KEPT))
@FUZZ(max_examples=150)
def test_kept_splits(folder: Path, content: bytes) -> None:
    (folder / "kept.csv").write_bytes(content)
    splits = read_or_told(lambda: read_splits(folder / "kept.csv", IMAGES))
    if splits is not None:
        assert len(splits) == len(IMAGES)
        assert set(splits) <= {"train", "val", "test"}


def encoded(format_: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 14, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


TURNED = Image.Exif()
TURNED[0x112] = 6
WHOLE = [
    encoded("PNG"),
    encoded("PNG", exif=TURNED),
    encoded("JPEG"),
    encoded("JPEG", exif=TURNED, progressive=True),
    encoded("BMP"),
    encoded("TIFF"),
    encoded("TIFF", compression="tiff_lzw"),
    encoded("GIF"),
    encoded("WEBP"),
]
CHANGES = st.lists(st.tuples(PLACES, st.integers(0, 40), st.binary(max_size=8)), min_size=1, max_size=4)


@given(whole=st.sampled_from(WHOLE), changes=CHANGES, kept=st.just(10**6) | st.integers(0, 400))
@FUZZ(max_examples=400)
def test_images(folder: Path, whole: bytes, changes: list[tuple[int, int, bytes]], kept: int) -> None:
    content = whole[:kept]
    for place, removed, scrap in changes:
        start = place % (len(content) + 1)
        content = content[:start] + scrap + content[start + removed :]
    path = folder / "damaged.img"
    path.write_bytes(content)
    size, image = read_or_told(lambda: read_size(path)), read_or_told(lambda: read_image(path))
    if image is not None:
        assert image.dtype == np.uint8
        assert size == (image.shape[1], image.shape[0])
