"""Label Studio: its JSON of tasks (also JSON_MIN) and its CSV, with keypoints in percent of the image's sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from data.cells import Cells, read_cells
from data.errors import DataError, cut, quoted
from data.formats.asked import Asked
from data.formats.json_file import number, optional_spacing, optional_text, parse_json, read_json, size_of, wanted
from data.formats.label_studio_images import image_key, image_name, image_value
from data.formats.labelled_points import LabelledImage, table_of
from data.formats.marked_images import MarkedImages, required_sizes

NAME = "label_studio"
FIRST_PIXEL = 0.5  # 0 % is the left edge of the first pixel, 100 % the right edge of the last one
KEYPOINT = "keypointlabels"
DOT_PERCENT = 0.5  # size of a point on the screen
NOBODY = "trainer"  # who predicted the points, where nobody is named


def is_tasks(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(task, dict) for task in value)


def is_export(cells: Cells) -> bool:
    """Whether a table is Label Studio's, by cells that hold JSON of keypoints."""
    return bool(_point_columns(cells))


class _Reader:
    def __init__(self, path: Path, asked: Asked) -> None:
        self.path, self.asked = path, asked
        self.images: dict[str, LabelledImage] = {}
        self.order: dict[str, None] = {}
        self.others = 0  # regions that are no keypoint with a label
        self.unreviewed = 0  # images with predictions alone, where other images have annotations

    def image(self, place: str, data: dict[str, Any]) -> LabelledImage:
        """The image that a task is about; known from before where an export has an entry per annotation."""
        name = image_name(data[image_key(self.path, place, data)], self.asked)
        if name not in self.images:
            spacing_mm = optional_spacing(self.path, place, data.get("pixel_spacing_mm"))
            split, group = optional_text(data.get("split")), optional_text(data.get("group"))
            self.images[name] = LabelledImage(name, place, {}, None, spacing_mm, split, group)
        landmarks = data.get("landmarks")
        if isinstance(landmarks, str) and landmarks.startswith("["):
            landmarks = parse_json(landmarks, self.path, f"{place}: landmarks")
        if isinstance(landmarks, list):
            self.order |= dict.fromkeys(name for name in landmarks if isinstance(name, str))
        return self.images[name]

    def keypoint(self, place: str, image: LabelledImage, annotator: str, value: Any, around: Any) -> None:
        """`value` has x, y and the label; `around` the size of the image, and is the same in JSON_MIN and CSV."""
        labels = value.get(KEYPOINT) if isinstance(value, dict) else None
        if not labels:
            self.others += 1
            return
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str) or not labels[0].strip():
            raise DataError(f"{self.path}: {place}: a keypoint needs one label, which is text. Mend it in the editor.")
        size = size_of(self.path, place, around.get("original_width"), around.get("original_height"))
        if image.size not in (None, size):
            was = f"{image.size[0]}x{image.size[1]}" if image.size else ""
            raise DataError(f"{self.path}: {place}: the image is {size[0]}x{size[1]} px here and {was} px elsewhere.")
        if around.get("image_rotation"):
            raise DataError(
                f"{self.path}: {place}: {quoted(image.name)} was turned in the editor (image_rotation), which is not "
                "supported. Turn the image file, or turn it back and export again."
            )
        image.size = size
        x, y = (number(self.path, f"{place}: {axis}", value.get(axis)) for axis in "xy")
        image.mark(self.path, annotator, labels[0].strip(), (x / 100 * size[0], y / 100 * size[1]))

    def table(self) -> MarkedImages:
        notes = [f"{self.others} regions that are no keypoint with a label"] if self.others else []
        if self.unreviewed:
            notes.append(f"the predictions of {self.unreviewed} images that nobody annotated")
        images = list(self.images.values())
        first = self.asked.first_pixel
        return table_of(self.path, images, list(self.order), first_pixel=first, notes=notes)


def read(path: Path, asked: Asked) -> MarkedImages:
    reader = _Reader(path, asked)
    if path.suffix.lower() == ".json":
        tasks = read_json(path)
        if not is_tasks(tasks):
            raise DataError(f"{path} is no list of tasks, which Label Studio's JSON is. Export it again as JSON.")
        reviewed = any(_annotations(task) for task in tasks)
        for index, task in enumerate(tasks):
            place = f"task {index + 1}"
            if "data" in task:
                _read_task(reader, place, task, reviewed)
            else:
                _read_flat(reader, place, task)
    else:
        cells = read_cells(path)
        columns = _point_columns(cells)
        for row, line in zip(cells.rows, cells.lines, strict=True):
            record: dict[str, Any] = dict(zip(cells.header, row, strict=True))
            for column in columns:
                text = row[column]
                place = f"line {line}, column {cut(cells.header[column])}"
                record[cells.header[column]] = parse_json(text, path, place) if text else []
            _read_flat(reader, f"line {line}", record)
    return reader.table()


def render(marked: MarkedImages, to: Path, image_prefix: str) -> dict[Path, str]:
    """Tasks to import, their points as predictions, one for each annotator; and the labelling interface they need.

    Beside the image, the data of a task hold the landmarks, pixel_spacing_mm, split and group, which exports keep.
    """
    tasks = []
    for i, (name, size) in enumerate(zip(marked.image_names, required_sizes(marked, NAME), strict=True)):
        data: dict[str, Any] = {"image": image_value(name, image_prefix), "landmarks": marked.landmark_names}
        told = (("pixel_spacing_mm", marked.spacing_mm), ("split", marked.split), ("group", marked.group))
        data |= {key: values[i] for key, values in told if values is not None and values[i] not in (None, "")}
        predictions = []
        for layer, annotator in enumerate(marked.annotators or [NOBODY]):
            if np.isfinite(marked.points[layer, i]).any():
                result = _regions(marked, layer, i, size)
                predictions.append({"model_version": annotator, "result": result})
        tasks.append({"data": data, "predictions": predictions})
    interface = to.with_suffix(".interface.xml")
    return {
        to: json.dumps(tasks, ensure_ascii=False, indent=1, allow_nan=False) + "\n",
        interface: _interface(marked.landmark_names),
    }


def _regions(marked: MarkedImages, layer: int, i: int, size: tuple[int, int]) -> list[dict[str, Any]]:
    regions = []
    for k, (x, y) in enumerate(marked.points[layer, i].tolist()):
        if np.isnan(x):
            continue
        value = {
            "x": (x + FIRST_PIXEL) / size[0] * 100,
            "y": (y + FIRST_PIXEL) / size[1] * 100,
            "width": DOT_PERCENT,
            KEYPOINT: [marked.landmark_names[k]],
        }
        region = {"id": f"image{i}-{layer}-{k}", "type": KEYPOINT, "from_name": "landmarks", "to_name": "image"}
        around = {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
        regions.append({**region, **around, "value": value})
    return regions


def _interface(landmarks: list[str]) -> str:
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in landmarks)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <KeyPointLabels name="landmarks" toName="image">\n{labels}  </KeyPointLabels>\n</View>\n'
    )


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    found = task.get("annotations", task.get("completions", []))  # the latter before version 1
    return [each for each in _dicts(found) if not each.get("was_cancelled")]


def _read_task(reader: _Reader, place: str, task: dict[str, Any], reviewed: bool) -> None:
    """The annotations of a task; what was predicted only where no task of the file has been `reviewed`."""
    image = reader.image(place, wanted(reader.path, place, task, dict, "data"))
    annotations = _annotations(task)
    predictions = _dicts(task.get("predictions"))
    by = "annotations" if reviewed else "predictions"
    if reviewed and predictions and not annotations:
        reader.unreviewed += 1
    for index, annotation in enumerate(annotations if reviewed else predictions):
        within = f"{place}, {by}[{index}]"
        who = annotation.get("completed_by" if reviewed else "model_version")
        annotator = _person(who)
        if annotator in image.marks:
            raise DataError(
                f"{reader.path}: {place}: {quoted(image.name)} has two {by} by {quoted(annotator)}. Delete one in the "
                "editor."
            )
        image.marks[annotator] = {}
        for region in wanted(reader.path, within, annotation, list, "result"):
            if not isinstance(region, dict) or region.get("type") != KEYPOINT:
                reader.others += 1
            else:
                reader.keypoint(within, image, annotator, region.get("value"), region)


def _read_flat(reader: _Reader, place: str, record: dict[str, Any]) -> None:
    """An entry of JSON_MIN, or a row of the CSV: one annotation of one image."""
    image = reader.image(place, record)
    annotator = _person(record.get("annotator"))
    if annotator in image.marks:
        raise DataError(
            f"{reader.path}: {place}: {quoted(image.name)} has two annotations by {quoted(annotator)}. Delete one in "
            "the editor."
        )
    image.marks[annotator] = {}
    for key, value in record.items():
        if key == "landmarks" or not isinstance(value, list):
            continue
        for region in value:
            if isinstance(region, dict):
                reader.keypoint(f"{place}, {cut(key)}", image, annotator, region, region)


def _person(who: Any) -> str:
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    return str(who) if isinstance(who, str | int) and who != "" else NOBODY


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _point_columns(cells: Cells) -> list[int]:
    columns = range(len(cells.header))
    return [column for column in columns if any(f'"{KEYPOINT}"' in row[column] for row in cells.rows)]
