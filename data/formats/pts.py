"""Files of points as 300-W and iBUG have them (.pts): version, n_points, and lines `x y` in braces, counted from 1."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from data.cells import read_text
from data.errors import DataError, quoted
from data.formats.asked import Asked
from data.formats.marked_images import MarkedImages, decimal
from data.formats.point_files import files_below, read_points_of, render_files

FIRST_PIXEL = 1.0
HEADER = re.compile(r"(version|n_points)\s*:\s*([0-9]{1,6})", re.IGNORECASE)
NUMBER = r"[+-]?(?:[0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?"
POINT = re.compile(rf"({NUMBER})\s+({NUMBER})")
ADVICE = "Mend the line; a file reads version: 1, n_points: 68, {, 68 lines of x y, }."


def read(source: Path, asked: Asked) -> MarkedImages:
    """A .pts file, or a folder of them and of folders of them; images have the same names."""
    files = {source.stem: source} if source.is_file() else files_below(source, ".pts")
    return read_points_of(source, asked, {"": files}, _read_file, [])


def render(marked: MarkedImages, to: Path, image_prefix: str) -> dict[Path, str]:
    return render_files(marked, to, ".pts", _text)


def _text(points: np.ndarray) -> str:
    lines = "".join(f"{decimal(x)} {decimal(y)}\n" for x, y in points + FIRST_PIXEL)
    return f"version: 1\nn_points: {len(points)}\n{{\n{lines}}}\n"


def _read_file(file: Path) -> np.ndarray:
    """(K, 2) as they stand in the file."""
    told: dict[str, int] = {}
    marks: list[tuple[float, float]] = []
    stage = "header"
    for line, text in enumerate(read_text(file).split("\n"), start=1):
        words = text.strip()
        if not words:
            continue
        if stage == "header" and (match := HEADER.fullmatch(words)):
            told[match[1].lower()] = int(match[2])
        elif stage == "header" and words == "{":
            stage = "points"
        elif stage == "points" and words == "}":
            stage = "end"
        elif stage == "points" and (match := POINT.fullmatch(words)):
            marks.append((float(match[1]), float(match[2])))
        else:
            expected = {"header": "version: 1, n_points: N or {", "points": "x y or }", "end": "nothing after }"}[stage]
            raise DataError(f"{file}: line {line} is {quoted(words)}, expected {expected}. {ADVICE}")
    if told.get("version", 1) != 1:
        raise DataError(f"{file}: version {told['version']} is not known, expected version: 1. {ADVICE}")
    if stage != "end":
        raise DataError(f"{file} ends before {'{' if stage == 'header' else '}'}. {ADVICE}")
    if told.get("n_points", len(marks)) != len(marks) or not marks:
        raise DataError(f"{file} says n_points: {told.get('n_points')} and has {len(marks)} points. {ADVICE}")
    return np.array(marks)
