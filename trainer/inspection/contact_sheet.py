"""The contact sheet: suspicious images first, framed in the colour of what was found, then a sample of the others."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.atomic import written_atomically
from data.errors import DataError
from data.images import read_image
from trainer.inspection.findings import Finding, Findings, Mark
from trainer.inspection.image_facts import ImageFacts
from trainer.inspection.subject import Subject

COLUMNS = 6
TILE, MARGIN, LINE = 372, 8, 20  # px: a tile's sides, the room around it, a line of text
Colour = tuple[int, int, int]
FRAMES: dict[str, Colour] = {"error": (193, 18, 31), "warning": (217, 119, 6), "note": (37, 99, 235)}
PLAIN, TEXT, EMPTY = (156, 163, 175), (17, 24, 39), (229, 231, 235)
POINT, MARKED, WAY, NUMBER = (43, 217, 79), (255, 45, 45), (255, 210, 63), (255, 255, 255)
MOST_NUMBERED = 30  # landmarks; the numbers of more would hide the image
SUBPIXELS = 4  # bits of the fractions that OpenCV draws at


def write_contact_sheet(
    path: Path, subject: Subject, facts: list[ImageFacts | None], findings: Findings, count: int
) -> None:
    """`count` tiles: first the rows that findings are about, by turns of the findings, the worst first."""
    told = _told(findings)
    rows = _chosen(subject, findings, told, count)
    columns = min(COLUMNS, len(rows))
    lines = math.ceil(len(rows) / columns)
    width, height = TILE + 2 * MARGIN, TILE + 3 * LINE + 2 * MARGIN
    sheet = Image.new("RGB", (columns * width, lines * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        left, top = i % columns * width + MARGIN, i // columns * height + MARGIN
        found = told.get(row, [])
        colour = FRAMES[found[0].severity] if found else TEXT
        for j, text in enumerate(_caption(subject, row, found)):
            draw.text((left, top + j * LINE), _fitted(text, TILE), font=_font(15), fill=colour)
        sheet.paste(_tile(subject, facts[row], row, found), (left, top + 3 * LINE))
    with written_atomically(path) as aside:
        sheet.save(aside, format="png", compress_level=3)


def _told(findings: Findings) -> dict[int, list[Finding]]:
    """The findings about each row, the worst first."""
    told: dict[int, list[Finding]] = {}
    for finding in findings.sorted():
        for row in finding.rows:
            told.setdefault(row, []).append(finding)
    return told


def _chosen(subject: Subject, findings: Findings, told: dict[int, list[Finding]], count: int) -> list[int]:
    """Each finding gives a place in turn, with the copies that belong to it; then rows evenly over the data."""
    chosen: dict[int, None] = {}
    queues = [[(p.row, *p.others[:1]) for p in f.places if p.row is not None] for f in findings.sorted()]
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue) and len(chosen) < count:
                chosen |= dict.fromkeys(queue[turn])
    rows = sorted(list(chosen)[:count], key=lambda row: list(FRAMES).index(told[row][0].severity))
    rest = [row for row in range(len(subject)) if row not in told]
    spread = np.linspace(0, len(rest) - 1, min(count - len(rows), len(rest))).round().astype(int).tolist()
    return rows + [rest[i] for i in dict.fromkeys(spread)]


def _caption(subject: Subject, row: int, found: list[Finding]) -> list[str]:
    """Three lines: where and which split and label, the name, what was found."""
    label = ""
    if subject.classes is not None:
        label = subject.classes[row]
    elif subject.numbers is not None:
        label = f"{subject.numbers[row]:g}"
    place = "" if subject.lines is None else f"line {subject.lines[row]}"
    kinds = ", ".join(dict.fromkeys(finding.kind for finding in found))
    name = subject.names[row] if subject.lines is None else Path(subject.names[row]).name
    return ["  ".join(filter(None, (place, str(subject.splits[row]), label))), name, kinds]


def _tile(subject: Subject, fact: ImageFacts | None, row: int, found: list[Finding]) -> Image.Image:
    """A square with the image as large as it goes, its landmarks, and a frame."""
    image = _image(subject, fact, row)
    if image is None:
        tile = Image.new("RGB", (TILE, TILE), EMPTY)
        reason = "not found" if fact is None else fact.fault or "cannot be read"
        ImageDraw.Draw(tile).text((12, TILE // 2), _fitted(reason, TILE - 24), font=_font(14), fill=TEXT)
    else:
        points = np.empty((0, 2)) if subject.points is None else subject.points[row]
        marks = {mark.landmark: mark for finding in found for mark in finding.marks if mark.row == row}
        tile = _with_landmarks(image, points, marks)
    severity = found[0].severity if found else None
    ImageDraw.Draw(tile).rectangle(
        (0, 0, TILE - 1, TILE - 1), outline=FRAMES[severity] if severity else PLAIN, width=5 if severity else 1
    )
    return tile


def _image(subject: Subject, fact: ImageFacts | None, row: int) -> np.ndarray | None:
    if subject.drawn is not None:
        return subject.drawn(row)
    if fact is None or fact.fault is not None or subject.paths is None:
        return None
    path = subject.paths[row]
    assert path is not None
    try:
        return read_image(path)
    except DataError:  # where pixels were not to be read, a broken image is met here first
        return None


def _with_landmarks(image: np.ndarray, points: np.ndarray, marks: dict[int, Mark]) -> Image.Image:
    """The image in a tile; landmarks outside of it are shown as far as a quarter of its sides."""
    size = np.array(image.shape[1::-1], dtype=np.float64)
    inside = points[np.isfinite(points).all(axis=1)]
    low = np.maximum(np.min([[-0.5, -0.5], *(inside - 0.02 * size)], axis=0), -0.25 * size)
    high = np.minimum(np.max([size - 0.5, *(inside + 0.02 * size)], axis=0), 1.25 * size)
    scale = TILE / (high - low).max()
    resized = np.maximum(1, np.round(size * scale)).astype(int)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    shown = cv2.resize(image, (int(resized[0]), int(resized[1])), interpolation=way)
    if shown.ndim == 2:
        shown = cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB)
    origin = ((TILE - (high - low) * scale) / 2 - low * scale).round()  # of image px in the tile
    tile = Image.new("RGB", (TILE, TILE), EMPTY)
    left, top = (origin - 0.5 * scale).round().astype(int).tolist()
    tile.paste(Image.fromarray(shown), (left, top))
    return _drawn_points(tile, points * scale + origin, {k: _moved(mark, scale, origin) for k, mark in marks.items()})


def _moved(mark: Mark, scale: float, origin: np.ndarray) -> np.ndarray | None:
    return None if mark.wanted is None else np.array(mark.wanted) * scale + origin


def _drawn_points(tile: Image.Image, points: np.ndarray, wanted: dict[int, np.ndarray | None]) -> Image.Image:
    """points: (K, 2) px of the tile; wanted: where marked landmarks were expected, if anywhere in particular."""
    canvas = np.array(tile)
    small = len(points) > MOST_NUMBERED
    present = [k for k in range(len(points)) if np.isfinite(points[k]).all() and np.abs(points[k]).max() < 2 * TILE]
    for k in present:
        at = _fixed(points[k])
        to = wanted.get(k)
        if to is not None:
            cv2.line(canvas, at, _fixed(to), WAY, 2, cv2.LINE_AA, SUBPIXELS)
        if k in wanted:
            cv2.circle(canvas, at, 8 << SUBPIXELS, MARKED, 2, cv2.LINE_AA, SUBPIXELS)
        radius = (2 if small else 3) << SUBPIXELS
        cv2.circle(canvas, at, radius, MARKED if k in wanted else POINT, -1, cv2.LINE_AA, SUBPIXELS)
    drawn = Image.fromarray(canvas)
    draw = ImageDraw.Draw(drawn)
    for k in present:
        if k in wanted or not small:
            x, y = points[k].tolist()
            draw.text((x + 4, y - 13), str(k), font=_font(11), fill=NUMBER, stroke_width=1, stroke_fill=(0, 0, 0))
    return drawn


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = np.round(np.clip(point, -TILE, 2 * TILE) * 2**SUBPIXELS).astype(int).tolist()
    return x, y


def _fitted(text: str, width: int) -> str:
    """The text, its middle left out if it is wider than `width` px."""
    text = " ".join(text.split())
    font, kept = _font(15), len(text)
    while kept > 1 and font.getlength(text if kept == len(text) else _shortened(text, kept)) > width:
        kept = min(kept - 1, int(kept * 0.95))
    return text if kept == len(text) else _shortened(text, kept)


def _shortened(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of the other pictures, which has more letters than Pillow's own."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
