"""Tables that name thousands of images: found as one by one, links, letters and places outside included."""

import os
import unicodedata
from pathlib import Path

import pytest

from data import image_paths
from data.errors import DataError
from data.file_listings import FileList
from data.image_paths import ImageFinder


def place(row: int) -> str:
    return f"line {row + 2}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files beside a table, in its images/ and deeper, in both, under links, and outside."""
    root = tmp_path / "study"
    (root / "images" / "deep").mkdir(parents=True)
    (root / "a folder.x").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in (
        "a.png",
        "both.png",
        ".hidden.png",
        "images/b.png",
        "images/both.png",
        "images/deep/c.png",
        "a folder.x/d.png",
    ):
        (root / name).touch()
    (root / "images" / unicodedata.normalize("NFD", "ä.png")).touch()
    (root / "l.png").symlink_to("images/b.png")
    (root / "linked").symlink_to("images/deep")
    (root / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "elsewhere" / "e.png").touch()
    (root / "out.png").symlink_to("../elsewhere/e.png")
    (root / "outside").symlink_to("../elsewhere")
    return root


NAMES = ("a.png", "both.png", ".hidden.png", "b.png", "deep/c.png", "images/deep/c.png", "images//b.png", "./a.png",
         "images/../a.png", "deep\\c.png", unicodedata.normalize("NFC", "ä.png"), "l.png", "linked/c.png",
         "a folder.x/d.png", "a.png/")  # fmt: skip
OUTSIDE = ("out.png", "outside/e.png", "../elsewhere/e.png")
LOST = ("x.png", "/a.png", "gone.png", "images", "deep", "", "deep/", "nowhere/a.png", "A.PNG/x")


def found(folder: Path, names: list[str], allow: bool = False) -> tuple[list[Path], list[str]]:
    paths, real = ImageFinder(folder / "t.csv", None, allow_outside_root=allow).find(place, names)
    assert isinstance(paths, FileList)
    return list(paths), real


@pytest.mark.parametrize("many", [1, 10**9], ids=["listed", "one by one"])
def test_files_are_found_wherever_and_however_they_are_named(folder, many, monkeypatch):
    monkeypatch.setattr(image_paths, "MANY", many)
    names = [*NAMES, str(folder / "a.png")]
    paths, real = found(folder, names)
    assert [os.path.samefile(path, one) for path, one in zip(paths, real, strict=True)] == [True] * len(names)
    assert real == [os.path.realpath(path) for path in paths]
    assert paths[:4] == [folder / "a.png", folder / "both.png", folder / ".hidden.png", folder / "images" / "b.png"]
    assert paths[NAMES.index("linked/c.png")] == folder / "linked" / "c.png"
    assert real[NAMES.index("linked/c.png")] == os.path.realpath(folder / "images/deep/c.png")


@pytest.mark.parametrize(
    "names", [["a.png", "both.png"], ["b.png"], ["both.png", "b.png"], ["b.png", "l.png"], ["l.png"]]
)
def test_names_without_folders_are_looked_for_in_the_same_order(folder, names, monkeypatch):
    """Those that lie all in one folder are not looked up one by one."""
    each = found(folder, names)
    monkeypatch.setattr(image_paths, "MANY", 1)
    assert found(folder, names) == each


@pytest.mark.parametrize("many", [1, 10**9], ids=["listed", "one by one"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_what_lies_outside_is_refused_or_allowed(folder, many, name, monkeypatch):
    monkeypatch.setattr(image_paths, "MANY", many)
    with pytest.raises(DataError, match=r"line 3: image .* is .*elsewhere/e\.png, outside the image root"):
        found(folder, ["a.png", name])
    assert found(folder, ["a.png", name], allow=True)[1][1] == os.path.realpath(folder.parent / "elsewhere/e.png")


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_is_told_alike(folder, name, monkeypatch):
    told = []
    for many in (1, 10**9):
        monkeypatch.setattr(image_paths, "MANY", many)
        with pytest.raises(DataError) as error:
            found(folder, ["a.png", name])
        told.append(str(error.value))
    assert told[0] == told[1]


def test_a_list_of_files_is_one_of_paths():
    files = FileList(["a/b.png", "c.png"])
    assert files == [Path("a/b.png"), Path("c.png")]
    assert [Path("a/b.png"), Path("c.png")] == files
    assert files[1:] == [Path("c.png")]
    assert files != [Path("c.png")]
    assert list(files) == [Path("a/b.png"), Path("c.png")]
