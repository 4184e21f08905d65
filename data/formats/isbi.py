"""Text files of the ISBI 2015 challenge, NNN.txt per image: a line `x,y` per landmark, then lines of classes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from data.cells import read_text
from data.errors import DataError, quoted
from data.formats.asked import Asked
from data.formats.marked_images import MarkedImages, decimal
from data.formats.point_files import files_below, read_points_of, render_files

NAME = "isbi"
POINT = re.compile(r"([+-]?[0-9]{1,9}(?:\.[0-9]*)?)\s*,\s*([+-]?[0-9]{1,9}(?:\.[0-9]*)?)")
CLASS = re.compile(r"[0-9]{1,3}")


def read(source: Path, asked: Asked) -> MarkedImages:
    """A folder of .txt files, or of a folder of them for each annotator."""
    if source.is_file():
        files = {"": {source.stem: source}}
    elif own := {path.stem: path for path in sorted(source.iterdir()) if _is_text_file(path)}:
        files = {"": own}
    else:
        folders = [path for path in sorted(source.iterdir()) if path.is_dir()]
        found = {folder.name: files_below(folder, ".txt") for folder in folders}
        files = {name: below for name, below in found.items() if below}
        if len(files) == 1:
            files = {"": next(iter(files.values()))}
    classes = 0

    def points(file: Path) -> np.ndarray:
        nonlocal classes
        marks, others = _read_file(file)
        classes += others
        return marks

    notes: list[str] = []
    marked = read_points_of(source, asked, files, points, notes)
    if classes:
        notes.append(f"{classes} lines of classes")
    return marked


def render(marked: MarkedImages, to: Path, image_prefix: str) -> dict[Path, str]:
    return render_files(
        marked, to, NAME, ".txt", lambda points: "".join(f"{decimal(x)},{decimal(y)}\n" for x, y in points)
    )


def _is_text_file(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and path.is_file()


def _read_file(file: Path) -> tuple[np.ndarray, int]:
    """(K, 2) and the number of lines of classes after them."""
    marks: list[tuple[float, float]] = []
    classes = 0
    for line, text in enumerate(read_text(file).split("\n"), start=1):
        words = text.strip()
        if not words:
            continue
        if (match := POINT.fullmatch(words)) and not classes:
            marks.append((float(match[1]), float(match[2])))
        elif marks and CLASS.fullmatch(words):
            classes += 1
        else:
            expected = "a class, a whole number" if classes else "x,y such as 835,996"
            raise DataError(f"{file}: line {line} is {quoted(words)}, expected {expected}. Mend the line.")
    if not marks:
        raise DataError(f"{file} holds no points, expected lines x,y such as 835,996. Take the file out of the folder.")
    return np.array(marks), classes
