"""The formats by name, and which of them a file or a folder is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.cells import read_cells
from data.errors import DataError, did_you_mean
from data.file_kinds import kind_of
from data.formats import coco, csv_table, cvat, isbi, label_studio, pts
from data.formats.asked import Asked
from data.formats.datumaro import is_datumaro
from data.formats.json_file import read_json
from data.formats.marked_images import MarkedImages


@dataclass(frozen=True)
class Format:
    read: Callable[[Path, Asked], MarkedImages]
    render: Callable[[MarkedImages, Path, str], dict[Path, str]]
    first_pixel: float  # coordinate of the first pixel's centre
    ending: str  # of the file that is written; "" where it is a folder of files
    keeps: tuple[str, ...]  # of split, group and pixel_spacing_mm
    precision: str


FORMATS = {
    "csv": Format(csv_table.read, csv_table.render, 0, ".csv", ("split", "group", "pixel_spacing_mm"), "all digits"),
    "isbi": Format(isbi.read, isbi.render, 0, "", (), "6 decimals"),
    "pts": Format(pts.read, pts.render, pts.FIRST_PIXEL, "", (), "6 decimals"),
    "coco": Format(coco.read, coco.render, 0, ".json", ("split", "group", "pixel_spacing_mm"), "all digits"),
    "label_studio": Format(
        label_studio.read,
        label_studio.render,
        label_studio.FIRST_PIXEL,
        ".json",
        ("split", "group", "pixel_spacing_mm"),
        "percent with all digits, read to 6 decimals of px",
    ),
    "cvat": Format(cvat.read, cvat.render, cvat.FIRST_PIXEL, ".xml", (), "6 decimals"),
}
SHAPES = (
    "a .csv table, a .json of COCO keypoints, Label Studio or Datumaro, a .xml of CVAT for images, or a folder of .pts "
    "or .txt files"
)


def format_of_source(source: Path) -> str:
    """The format that a file or folder is in; raises DataError where it is in none of them."""
    if source.is_dir():
        return _format_of_folder(source)
    if not source.exists():
        raise DataError(f"source={source}: no such file or folder{did_you_mean(source)}. Check the path.")
    ending = source.suffix.lower()
    if ending == ".xml":
        return "cvat"
    if ending == ".pts":
        return "pts"
    if ending == ".json":
        return _format_of_json(source)
    if ending == ".txt" and not _has_header(source):
        return "isbi"
    if ending in (".csv", ".tsv", ".txt"):
        return "label_studio" if label_studio.is_export(read_cells(source)) else "csv"
    with source.open("rb") as file:
        kind = kind_of(file.read(4096))
    told = f"is {kind.name}. {kind.advice}" if kind is not None and kind.advice else f"is none of these: {SHAPES}."
    raise DataError(f"source={source} {told} Say which it is by from={'|'.join(FORMATS)}.")


def format_of_target(to: Path) -> str:
    """The format to write by the ending; raises ValueError where several have it, or none."""
    found = [name for name, form in FORMATS.items() if form.ending and form.ending == to.suffix.lower()]
    if len(found) == 1:
        return found[0]
    choices = found or [name for name, form in FORMATS.items() if not form.ending]
    what = f"a {to.suffix} file" if found else "a folder"
    raise ValueError(f"to={to} may be {what} of {' or '.join(choices)}; add format={choices[0]}, or another")


def _format_of_folder(folder: Path) -> str:
    endings = {path.suffix.lower() for path in folder.rglob("*") if path.is_file()}
    found = [name for name, ending in (("pts", ".pts"), ("isbi", ".txt")) if ending in endings]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"source={folder} holds both .pts and .txt files. Say which to read: from=pts or from=isbi.")
    raise DataError(f"source={folder} is a folder without .pts or .txt files. Name a file inside it, or {SHAPES}.")


def _format_of_json(source: Path) -> str:
    content = read_json(source)
    if coco.is_coco(content):
        return "coco"
    if is_datumaro(content):
        return "cvat"
    if label_studio.is_tasks(content):
        return "label_studio"
    raise DataError(
        f"{source}: neither COCO (images, annotations, categories), nor a list of Label Studio's tasks, nor Datumaro "
        "(categories, items). Export it again in one of these."
    )


def _has_header(source: Path) -> bool:
    """Whether a text file begins with words rather than a point."""
    with source.open("rb") as file:
        head = file.read(4096)
    first = next((line for line in head.splitlines() if line.strip()), b"")
    return isbi.POINT.fullmatch(first.decode("utf-8", errors="replace").strip()) is None
