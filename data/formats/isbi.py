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

POINT = re.compile(r"([+-]?[0-9]{1,9}(?:\.[0-9]*)?)\s*,\s*([+-]?[0-9]{1,9}(?:\.[0-9]*)?)")
CLASS = re.compile(r"[0-9]{1,3}")


def read(source: Path, asked: Asked) -> MarkedImages:
    """A folder of .txt files, or of folders of them: those of one annotator each, if they are of the same images."""
    files = {"": {source.stem: source}} if source.is_file() else _files(source)
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
    return render_files(marked, to, ".txt", lambda points: "".join(f"{decimal(x)},{decimal(y)}\n" for x, y in points))


def _files(folder: Path) -> dict[str, dict[str, Path]]:
    """By annotator: folders side by side of which two have a file of the same name; else all files are nobody's."""
    below = files_below(folder, ".txt")
    side_by_side: dict[str, dict[str, Path]] = {}
    for stem, file in below.items():
        first, _, rest = stem.partition("/")
        side_by_side.setdefault(first if rest else "", {})[rest or first] = file
    stems = [stem for own in side_by_side.values() for stem in own]
    if "" in side_by_side or len(set(stems)) == len(stems):
        return {"": below}
    return side_by_side


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
