"""CVAT: its XML "for images 1.1", with points or skeletons; and points in the Datumaro JSON that it exports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from data.errors import DataError, enumerated, quoted
from data.formats.asked import Asked
from data.formats.datumaro import read as read_datumaro
from data.formats.json_file import size_of
from data.formats.labelled_points import LabelledImage, Point, table_of
from data.formats.marked_images import MarkedImages, decimal, numbers, require_one, required_sizes
from data.formats.xml_file import Element, read_xml

NAME = "cvat"
FIRST_PIXEL = 0.5  # 0 is the left edge of the first pixel, the image's width the right edge of the last one
NUMBER = r"[+-]?[0-9]{1,9}(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?"
POINT = re.compile(rf"\s*({NUMBER})\s*,\s*({NUMBER})\s*")
OTHER_SHAPES = ("box", "polygon", "polyline", "ellipse", "cuboid", "mask", "tag")
NOBODY = ""


def read(path: Path, asked: Asked) -> MarkedImages:
    """Points of one label each, one shape of many points per image, or a skeleton per image."""
    if path.suffix.lower() == ".json":
        return read_datumaro(path, asked)
    root = read_xml(path)
    if root.tag != "annotations":
        raise DataError(
            f"{path}: line {root.line} is <{root.tag}>, expected <annotations>. Export CVAT for images 1.1."
        )
    if tracks := root.all("track"):
        raise DataError(
            f"{path}: line {tracks[0].line} is a <track>, which a video has. Export the task as CVAT for images 1.1."
        )
    others = 0
    images: list[LabelledImage] = []
    shapes: list[tuple[LabelledImage, Element, str, list[Point]]] = []
    for element in root.all("image"):
        width, height = element.require(path, "width"), element.require(path, "height")
        size = size_of(path, f"line {element.line}", _whole(width), _whole(height))
        image = LabelledImage(element.require(path, "name"), f"line {element.line}", {NOBODY: {}}, size)
        images.append(image)
        others += sum(len(element.all(tag)) for tag in OTHER_SHAPES)
        found = [*element.all("points"), *(part for whole in element.all("skeleton") for part in whole.all("points"))]
        for shape in found:
            if shape.attributes.get("outside") != "1":
                shapes.append((image, shape, shape.require(path, "label"), _points(path, shape)))
    labelled = _mark(path, shapes)
    if not images:
        raise DataError(f"{path} has no <image>. Export CVAT for images 1.1.")
    known = _known_labels(root, {name for image in images for name in image.marks[NOBODY]}) if labelled else []
    notes = [f"{others} shapes that are no points"] if others else []
    return table_of(path, images, known, first_pixel=asked.first_pixel, notes=notes)


def render(marked: MarkedImages, to: Path, image_prefix: str) -> dict[Path, str]:
    """Annotations to upload into a task with these images, and the labels that it needs, for the Raw tab."""
    points, sizes = require_one(marked, NAME), required_sizes(marked, NAME)
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", "  <meta>"]
    lines += ["    <task>", f"      <size>{len(points)}</size>", "      <mode>annotation</mode>", "      <labels>"]
    for name in marked.landmark_names:
        lines.append(f"        <label><name>{_escaped(name, to)}</name><type>points</type><attributes/></label>")
    lines += ["      </labels>", "    </task>", "  </meta>"]
    for i, (name, (width, height)) in enumerate(zip(marked.image_names, sizes, strict=True)):
        _escaped(name, to)
        lines.append(f'  <image id="{i}" name={quoteattr(name)} width="{width}" height="{height}">')
        for landmark, (x, y) in zip(marked.landmark_names, (points[i] + FIRST_PIXEL).tolist(), strict=True):
            if not np.isnan(x):
                at = f'points="{decimal(x)},{decimal(y)}"'
                lines.append(
                    f'    <points label={quoteattr(landmark)} source="manual" occluded="0" {at} z_order="0"></points>'
                )
        lines.append("  </image>")
    lines += ["</annotations>", ""]
    labels = [{"name": name, "type": "points", "attributes": []} for name in marked.landmark_names]
    return {
        to: "\n".join(lines),
        to.with_suffix(".labels.json"): json.dumps(labels, ensure_ascii=False, indent=1) + "\n",
    }


def _mark(path: Path, shapes: list[tuple[LabelledImage, Element, str, list[Point]]]) -> bool:
    """Each shape is a landmark; or where shapes have several points, each is all landmarks of its image, by number.

    Returns whether landmarks have labels.
    """
    long = [shape for shape in shapes if len(shape[3]) > 1]
    if not long:
        for image, _, label, points in shapes:
            image.mark(path, NOBODY, label.strip(), points[0])
        return True
    usual = len(long[0][3])
    for image, element, label, points in shapes:
        if label != long[0][2] or len(points) != usual:
            raise DataError(
                f"{path}: line {element.line} has {len(points)} points of {quoted(label)}, and line {long[0][1].line} "
                f"has {usual} of {quoted(long[0][2])}. Mark every landmark with a label of its own, or all of an image "
                "by one shape with the same number of points."
            )
        if image.marks[NOBODY]:
            raise DataError(
                f"{path}: line {element.line} is a second shape in {quoted(image.name)}. Keep one per image."
            )
        for number, point in zip(numbers(usual), points, strict=True):
            image.mark(path, NOBODY, number, point)
    return False


def _points(path: Path, shape: Element) -> list[Point]:
    text = shape.require(path, "points")
    found = [POINT.fullmatch(part) for part in text.split(";")]
    matches = [match for match in found if match is not None]
    if len(matches) < len(found):
        raise DataError(
            f"{path}: line {shape.line}: points is {quoted(text)}, expected x,y;x,y. Export the file again."
        )
    return [(float(match[1]), float(match[2])) for match in matches]


def _known_labels(root: Element, used: set[str]) -> list[str]:
    """The labels of points in the order of the task."""
    known = []
    for labels in (each for meta in root.all("meta") for each in meta.descend("labels")):
        for label in labels.all("label"):
            name = "".join(each.text for each in label.all("name")).strip()
            kind = "".join(each.text for each in label.all("type")).strip()
            if name in used or (kind == "points" and name):
                known.append(name)
    return known


def _whole(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _escaped(name: str, to: Path) -> str:
    if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 or letter in "\ufffe\uffff" for letter in name):
        raise DataError(
            f"{to}: the name {quoted(name)} has signs that XML can't hold; rename it ({enumerated([name])})."
        )
    return escape(name)
