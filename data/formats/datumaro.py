"""Points in Datumaro's JSON, as CVAT exports it: labels by number, items with an image's name without its ending."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from data.errors import DataError
from data.formats.asked import Asked
from data.formats.image_names import ImagesByStem, images_folder
from data.formats.json_file import number, read_json, wanted
from data.formats.labelled_points import LabelledImage, table_of
from data.formats.marked_images import MarkedImages

NOBODY = ""


def is_datumaro(value: Any) -> bool:
    return isinstance(value, dict) and {"categories", "items"} <= set(value)


def read(path: Path, asked: Asked) -> MarkedImages:
    """One point per annotation, each with a label of its own; points with visibility 0 are missing."""
    content = read_json(path)
    categories = wanted(path, "the file", content, dict, "categories")
    told = wanted(path, "categories: label", wanted(path, "categories", categories, dict, "label"), list, "labels")
    labels = [wanted(path, f"labels[{i}]", label, str, "name").strip() for i, label in enumerate(told)]
    items = wanted(path, "the file", content, list, "items")
    others = 0
    images = []
    for index, item in enumerate(items):
        place = f"items[{index}]"
        image = LabelledImage(_name(path, place, item), place, {NOBODY: {}})
        images.append(image)
        for within, each in enumerate(wanted(path, place, item, list, "annotations")):
            at = f"{place}, annotations[{within}]"
            if not isinstance(each, dict) or each.get("type") != "points":
                others += 1
                continue
            points = wanted(path, at, each, list, "points")
            which = wanted(path, at, each, int, "label_id")
            if len(points) != 2 or not 0 <= which < len(labels):
                raise DataError(
                    f"{path}: {at} has {len(points)} numbers and label_id {which}, expected x, y and a label below "
                    f"{len(labels)}. Mark every landmark with a label of its own."
                )
            x, y = (number(path, f"{at}: points", value) for value in points)
            if each.get("visibility") != [0]:
                image.mark(path, NOBODY, labels[which], (x, y))
    bare = [image for image in images if not PurePosixPath(image.name).suffix]
    if bare:
        found = ImagesByStem(images_folder(path, asked.images)).find([image.name for image in bare], path)
        for image, name in zip(bare, found, strict=True):
            image.name = name
    used = {name for image in images for name in image.marks[NOBODY]}
    notes = [f"{others} annotations that are no points"] if others else []
    known = [label for label in labels if label in used]
    return table_of(path, images, known, first_pixel=asked.first_pixel, notes=notes)


def _name(path: Path, place: str, item: Any) -> str:
    """The path of an item's image, or else its id."""
    name: str = wanted(path, place, item, str, "id")
    image = item.get("image")
    if isinstance(image, dict) and isinstance(image.get("path"), str) and PurePosixPath(image["path"]).suffix:
        name = image["path"]
    return name
