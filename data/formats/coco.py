"""COCO keypoints: a JSON file with images, annotations and a category that names its keypoints."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError, enumerated, quoted
from data.formats.asked import Asked
from data.formats.json_file import number, optional_spacing, optional_text, read_json, size_of, wanted
from data.formats.marked_images import MarkedImages, from_first_pixel, of_every_image, require_one, required_sizes

NAME = "coco"
LABELLED = 2  # visibility: 0 = not labelled, 1 = labelled but hidden, 2 = labelled and visible


def is_coco(value: Any) -> bool:
    return isinstance(value, dict) and {"images", "annotations", "categories"} <= set(value)


def read(path: Path, asked: Asked) -> MarkedImages:
    """One object with keypoints per image; images without one have no landmark."""
    content = read_json(path)
    images = wanted(path, "the file", content, list, "images")
    annotations = wanted(path, "the file", content, list, "annotations")
    rows: dict[Any, int] = {}
    names: list[str] = []
    places: list[str] = []
    sizes: list[tuple[int, int] | None] = []
    extra: list[dict[str, Any]] = []
    for index, image in enumerate(images):
        place = f"images[{index}]"
        names.append(wanted(path, place, image, str, "file_name"))
        places.append(place)
        known = image.get("width") is not None and image.get("height") is not None
        sizes.append(size_of(path, place, image["width"], image["height"]) if known else None)
        extra.append(image)
        if (key := _id(path, place, image.get("id"))) in rows:
            raise DataError(f"{path}: {place}: id {key} is already that of images[{rows[key]}]. Export it again.")
        rows[key] = index
    marked = [each for each in enumerate(annotations) if _has_points(path, *each)]
    category = _category(path, content, [each for _, each in marked])
    landmarks = _landmarks(path, category)
    points = np.full((1, len(images), len(landmarks), 2), np.nan)
    by_image = Counter(_id(path, f"annotations[{index}]", each.get("image_id")) for index, each in marked)
    faults = [f"{quoted(names[rows[key]])} has {count}" for key, count in by_image.items() if count > 1 and key in rows]
    if faults:
        raise DataError.listing(
            path, [f"one object per image is expected, but {'; '.join(faults[:5])}"], "Crop the images to one object."
        )
    for index, each in marked:
        place = f"annotations[{index}]"
        if (key := each.get("image_id")) not in rows:
            raise DataError(f"{path}: {place}: there is no image with id {key}. Export it again.")
        points[0, rows[key]] = _points(path, place, each["keypoints"], len(landmarks))
    splits, groups = ([optional_text(image.get(key)) for image in extra] for key in ("split", "group"))
    ignored = len(annotations) - len(marked)
    notes = [f"{ignored} objects without keypoints"] if ignored else []
    return MarkedImages(
        path,
        names,
        places,
        landmarks,
        from_first_pixel(points, asked.first_pixel),
        sizes=sizes,
        spacing_mm=[
            optional_spacing(path, place, image.get("pixel_spacing_mm"))
            for place, image in zip(places, extra, strict=True)
        ],
        split=of_every_image("split", splits, notes),
        group=of_every_image("group", groups, notes),
        notes=notes,
    )


def render(marked: MarkedImages, to: Path, image_prefix: str) -> dict[Path, str]:
    """Coordinates as ours, in full; beside COCO's own keys images have pixel_spacing_mm, split and group."""
    points, sizes = require_one(marked, NAME), required_sizes(marked, NAME)
    images, annotations = [], []
    for i, (name, (width, height)) in enumerate(zip(marked.image_names, sizes, strict=True)):
        image: dict[str, Any] = {"id": i + 1, "file_name": name, "width": width, "height": height}
        told = (("pixel_spacing_mm", marked.spacing_mm), ("split", marked.split), ("group", marked.group))
        image |= {key: values[i] for key, values in told if values is not None and values[i] not in (None, "")}
        images.append(image)
        seen = np.isfinite(points[i]).all(axis=1)
        if not seen.any():
            continue
        keypoints = [
            value
            for (x, y), visible in zip(points[i].tolist(), seen.tolist(), strict=True)
            for value in ((_short(x), _short(y), LABELLED) if visible else (0, 0, 0))
        ]
        left, top = points[i][seen].min(axis=0).tolist()
        right, bottom = points[i][seen].max(axis=0).tolist()
        annotations.append(
            {
                "id": i + 1,
                "image_id": i + 1,
                "category_id": 1,
                "keypoints": keypoints,
                "num_keypoints": int(seen.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
            }
        )
    category = {"id": 1, "name": "landmarks", "supercategory": "landmarks"}
    content = {
        "info": {"description": "landmarks"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{**category, "keypoints": marked.landmark_names, "skeleton": []}],
    }
    return {to: json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"}


def _id(path: Path, place: str, value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{path}: {place} has no id of an image, expected a whole number. Export it again.")
    return value


def _has_points(path: Path, index: int, annotation: Any) -> bool:
    """Whether any keypoint of an object is labelled."""
    place = f"annotations[{index}]"
    if not isinstance(annotation, dict):
        raise DataError(f"{path}: {place} is no object with keypoints. Export it again.")
    if annotation.get("keypoints") is None:
        return False
    keypoints = wanted(path, place, annotation, list, "keypoints")
    return any(value != 0 for value in keypoints[2::3])


def _category(path: Path, content: Any, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    categories = wanted(path, "the file", content, list, "categories")
    used = [annotation.get("category_id") for annotation in annotations]
    found = [each for each in categories if isinstance(each, dict) and isinstance(each.get("keypoints"), list)]
    chosen = [each for each in found if each.get("id") in used] if used else found[:1]
    if len(chosen) > 1:
        names = enumerated(str(each.get("name")) for each in chosen)
        raise DataError(
            f"{path}: objects of several categories have keypoints: {names}. Keep one category in the file."
        )
    if not chosen:
        raise DataError(
            f"{path}: categories: none with a list of keypoints belongs to the annotations. Export COCO keypoints."
        )
    return chosen[0]


def _landmarks(path: Path, category: dict[str, Any]) -> list[str]:
    names = category["keypoints"]
    if not names or not all(isinstance(name, str) and name.strip() for name in names) or len(set(names)) < len(names):
        shown = enumerated(map(str, names))
        raise DataError(f"{path}: categories: keypoints are {shown}, expected different names. Export it again.")
    return list(names)


def _points(path: Path, place: str, keypoints: list[Any], count: int) -> np.ndarray:
    """(K, 2), NaN where the visibility is 0."""
    if len(keypoints) != 3 * count:
        raise DataError(
            f"{path}: {place}: keypoints has {len(keypoints)} numbers, expected {3 * count}: x, y, visibility of each "
            "of the category's keypoints. Export it again."
        )
    values = np.array([number(path, f"{place}: keypoints[{i}]", value) for i, value in enumerate(keypoints)])
    if odd := sorted(set(values[2::3].tolist()) - {0.0, 1.0, 2.0}):
        raise DataError(f"{path}: {place}: visibility {odd[0]:g} is not 0, 1 or 2. Export it again.")
    triples = values.reshape(count, 3)
    found: np.ndarray = np.where(triples[:, 2:] > 0, triples[:, :2], np.nan)
    return found


def _short(value: float) -> float | int:
    return int(value) if value == int(value) else value
