"""`python -m trainer.convert`: commands of docs/formats.md as pasted, what is refused, and what is told."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults import Ended, Fault, promised, run_main
from PIL import Image

from data.tables import read_landmark_table

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
TABLE = (
    "image,split,pixel_spacing_mm,sella_x,sella_y,nasion_x,nasion_y\n"
    "001.png,train,0.1,1,2,30.25,20\n002.png,val,0.1,5,6,,\n"
)
PTS = "version: 1\nn_points: 2\n{\n1.5 2.5\n3 4\n}\n"
ISBI = "835,996\n1473,1029\n1\n"


def convert(folder: Path, *arguments: str) -> Ended:
    return run_main(*arguments, folder=folder, program="trainer.convert")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What the commands of the page are about."""
    write(tmp_path / "ceph" / "landmarks.csv", TABLE)
    write(tmp_path / "run" / "predictions.csv", TABLE)
    for name in ("001.png", "002.png"):
        picture(tmp_path / "ceph" / "images" / name)
        picture(tmp_path / "RawImage" / "TrainingData" / name)
        picture(tmp_path / "helen" / name)
        for doctor in ("400_junior", "400_senior"):
            write(tmp_path / "AnnotationsByMD" / doctor / name.replace("png", "txt"), ISBI)
        write(tmp_path / "helen" / name.replace("png", "pts"), PTS)
    write(tmp_path / "names.txt", "sella\nnasion\n")
    return tmp_path


def commands() -> list[list[str]]:
    lines = re.findall(r"^    python -m trainer\.convert (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_the_commands_of_the_page_run_as_pasted_and_in_their_order(data: Path) -> None:
    assert len(commands()) >= 10
    for arguments in commands():
        ended = convert(data, *arguments)
        assert (ended.code, ended.err) == (0, ""), (arguments, ended)
        (to,) = [text.removeprefix("to=") for text in arguments if text.startswith("to=")]
        assert (data / to).exists()


def test_what_was_read_and_written_is_told_and_the_run_it_names_reads_the_table(data: Path) -> None:
    ended = convert(
        data, "source=AnnotationsByMD", "to=out.csv", "images=RawImage", "names=names.txt", "pixel_spacing_mm=0.1"
    )
    assert ended.out.splitlines() == [
        (
            "read AnnotationsByMD (isbi): 2 images, 2 landmarks, 2 annotators (400_junior, 400_senior), "
            "0 of 8 points missing"
        ),
        "left out in reading: 4 lines of classes",
        "wrote out.csv (csv, coordinates: all digits)",
        "train on it with: python -m trainer data=csv data.table=out.csv data.root=RawImage",
    ]
    table = read_landmark_table(data / "out.csv", root=data / "RawImage")
    assert table.landmark_names == ["sella", "nasion"]
    assert [each.name for each in table.annotators] == ["400_junior", "400_senior"]
    np.testing.assert_array_equal(table.points, [[[835, 996], [1473, 1029]]] * 2)
    np.testing.assert_array_equal(table.pixel_spacing_mm, [0.1, 0.1])


def test_label_studio_tasks_hold_predictions_and_come_with_the_interface(data: Path) -> None:
    ended = convert(data, "source=ceph/landmarks.csv", "to=tasks.json", "format=label_studio", "image_prefix=/data/x/")
    assert ended.code == 0, ended.err
    tasks = json.loads((data / "tasks.json").read_text())
    assert tasks[1]["data"]["image"] == "/data/x/002.png"
    (region,) = tasks[1]["predictions"][0]["result"]
    assert (region["original_width"], region["original_height"], region["type"]) == (60, 40, "keypointlabels")
    assert region["value"] == {"x": 5.5 / 60 * 100, "y": 6.5 / 40 * 100, "width": 0.5, "keypointlabels": ["sella"]}
    assert '<Label value="nasion"/>' in (data / "tasks.interface.xml").read_text()


def test_nothing_else_is_written(data: Path) -> None:
    before = set(data.rglob("*"))
    assert convert(data, "source=ceph/landmarks.csv", "to=a.xml").code == 0
    assert set(data.rglob("*")) - before == {data / "a.xml", data / "a.labels.json"}
    assert convert(data, "source=nope.csv", "to=b.csv").code == 3
    assert not (data / "b.csv").exists()


def test_a_folder_with_files_is_filled_on_request_and_keeps_the_others(data: Path) -> None:
    write(data / "out" / "notes.md", "mine")
    write(data / "out" / "001.txt", "old")
    arguments = ("source=helen", "to=out", "format=isbi")
    assert convert(data, *arguments).code == 2
    assert (data / "out" / "001.txt").read_text() == "old"
    assert convert(data, *arguments, "overwrite=true").code == 0
    assert (data / "out" / "001.txt").read_text() == "0.5,1.5\n2,3\n"
    assert (data / "out" / "notes.md").read_text() == "mine"


def given(name: str, text: str, *arguments: str) -> Callable[[Path], list[str]]:
    """A fault in a file that is converted to out.csv, or elsewhere."""

    def arrange(folder: Path) -> list[str]:
        write(folder / name, text)
        picture(folder / "a.png")
        to = [] if any(each.startswith("to=") for each in arguments) else ["to=out.csv"]
        source = [] if any(each.startswith("source=") for each in arguments) else [f"source={name}"]
        return [*source, *to, *arguments]

    return arrange


def coco(**changes: object) -> str:
    content: dict[str, object] = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2]}],
        "categories": [{"id": 1, "name": "head", "keypoints": ["nose"]}],
    }
    return json.dumps(content | changes)


def tasks(**changes: object) -> str:
    value = {"x": 1, "y": 2, "keypointlabels": ["s"]}
    region = {"type": "keypointlabels", "original_width": 60, "original_height": 40, "value": value} | changes
    return json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}])


def xml(inner: str) -> str:
    return f'<annotations>\n<image id="0" name="a.png" width="60" height="40">\n{inner}\n</image>\n</annotations>'


TWO = "image,x0_a,y0_a,x0_b,y0_b\na.png,1,2,3,4\n"
FAULTS = [
    Fault("a key that convert has not", 2, "sourc is not a key of trainer.convert; did you mean source?",
          given("a.csv", "", "sourc=a.csv")),
    Fault("no target", 2, "to has no value; give it as to=PATH", lambda folder: ["source=a.csv"]),
    Fault("an unknown format", 2, "format=yolo is not one of csv, isbi, pts, coco, label_studio, cvat",
          given("a.csv", "", "format=yolo")),
    Fault("a target that is there", 2, "to=a.csv is there already; choose another name, or add overwrite=true",
          given("a.csv", TABLE, "to=a.csv")),
    Fault("an ending that several formats have", 2,
          "to=o.json may be a .json file of coco or label_studio; add format=coco, or another",
          given("a.csv", TABLE, "to=o.json")),
    Fault("a format for one annotator", 2,
          "format=coco holds the points of one, and there are those of a, b; add annotator=mean, or annotator=a",
          given("a.csv", TWO, "to=o.json", "format=coco")),
    Fault("a source that is not there", 3,
          "source=b.csv: no such file or folder (did you mean a.csv?). Check the path.",
          given("a.csv", "", "source=b.csv")),
    Fault("a folder without points", 3,
          "source=. is a folder without .pts or .txt files. Name a file inside it, or a .csv table, …",
          given("a.csv", "", "source=.")),
    Fault("JSON that is cut short", 3,
          "a.json: line 1, column 10 is not valid JSON (Expecting ':' delimiter). Export it again.",
          given("a.json", '{"images"')),
    Fault("JSON that is nested without end", 3,
          "a.json: JSON that is nested too deeply to be read. Export it again.", given("a.json", "[" * 200_000)),
    Fault("JSON of another kind", 3,
          "a.json: neither COCO (images, annotations, categories), nor a list of Label Studio's tasks, nor Datumaro …",
          given("a.json", '{"a": 1}')),
    Fault("keypoints too few for the category", 3,
          "a.json: annotations[0]: keypoints has 3 numbers, expected 6: x, y, visibility of each of the category's …",
          given("a.json", coco(categories=[{"id": 1, "keypoints": ["nose", "chin"]}]))),
    Fault("a coordinate that is no number", 3,
          "a.json: annotations[0]: keypoints[0] is 'x', expected a number of moderate size. Export it again.",
          given("a.json", coco(annotations=[{"image_id": 1, "category_id": 1, "keypoints": ["x", 2, 2]}]))),
    Fault("two objects in an image", 3,
          "a.json: one object per image is expected, but 'a.png' has 2. Crop the images to one object.",
          given("a.json", coco(annotations=[{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 2]}] * 2))),
    Fault("a landmark marked twice", 3,
          "a.xml: line 2: landmark 's' of 'a.png' is marked twice. Delete one; landmarks need labels of their own.",
          given("a.xml", xml('<points label="s" points="1,2"/><points label="s" points="1,2"/>'))),
    Fault("an XML file with a document type", 3,
          "a.xml: line 1 declares a document type or an entity (<!DOCTYPE), which files of annotations don't have …",
          given("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>')),
    Fault("XML that is cut short", 3, "a.xml: line 2 is not valid XML (…). Export the file again.",
          given("a.xml", "<annotations>\n<image")),
    Fault("a video of CVAT", 3,
          "a.xml: line 2 is a <track>, which a video has. Export the task as CVAT for images 1.1.",
          given("a.xml", "<annotations>\n<track/></annotations>")),
    Fault("points that are no x,y", 3, "a.xml: line 3: points is '1;2', expected x,y;x,y. Export the file again.",
          given("a.xml", xml('<points label="s" points="1;2"/>'))),
    Fault("an image turned in Label Studio", 3,
          "a.json: task 1, annotations[0]: 'a.png' was turned in the editor (image_rotation), which is not …",
          given("a.json", tasks(image_rotation=90))),
    Fault("a region without the size of its image", 3,
          "a.json: task 1, annotations[0]: width is null, expected a number of moderate size. Export it again.",
          given("a.json", tasks(original_width=None))),
    Fault("another image than the one that was marked", 3,
          "a.json: task 1: 'a.png' has 30x40 px there, but …a.png has 60x40. Name the folder of the images that were "
          "marked (images=DIR).",
          given("a.json", tasks(original_width=30), "images=.")),
    Fault("a line of a .pts file that is no point", 3,
          "a.pts: line 4 is 'x 1', expected x y or }. Mend the line; a file reads version: 1, n_points: 68, {, …",
          given("a.pts", "version: 1\nn_points: 1\n{\nx 1\n}\n")),
    Fault("a .pts file with other points than it says", 3, "a.pts says n_points: 3 and has 2 points. …",
          given("a.pts", PTS.replace("n_points: 2", "n_points: 3"))),
    Fault("a line of an ISBI file that is no point", 3,
          "a.txt: line 2 is 'b', expected x,y such as 835,996. Mend the line.", given("a.txt", "1,2\nb\n")),
    Fault("points without an image", 3,
          "b.pts: no image belongs to b. Looked for b.png, .jpg, .bmp, ... in .; name the folder: images=DIR.",
          given("b.pts", PTS)),
    Fault("a missing landmark in a format that has none", 3,
          "a.csv: line 3: '002.png' lacks landmark nasion. .pts files can't say that a landmark is missing; take the "
          "images out, or write another format (coco).",
          given("a.csv", TABLE, "to=out", "format=pts")),
    Fault("a format with sizes without images", 3,
          "a.csv: line 2: the size of 'b.png' is not known. format=cvat holds the sizes of images; name the folder "
          "that they lie in: images=DIR.",
          given("a.csv", "image,x0,y0\nb.png,1,2\n", "to=o.xml")),
    Fault("names of fewer landmarks", 3,
          "names.txt holds 1 names where a.pts has 2 landmarks. Write one name a line, one for each point.",
          lambda folder: [*given("a.pts", PTS)(folder), given("names.txt", "s\n", "names=names.txt")(folder)[-1]]),
    Fault("an image in two rows that are converted", 3,
          "a.csv: line 3: image 'a.png' is already at line 2. Keep one entry per image, with the name of its file.",
          given("a.csv", "image,x0,y0\na.png,1,2\na.png,1,2\n")),
    Fault("a spacing that is none in a table to convert", 3,
          "a.csv: line 2, column pixel_spacing_mm is '-0.1'; line 3, column pixel_spacing_mm is '0'. Spacing is mm "
          "per pixel, above 0 and at most a kilometre; leave it empty if unknown.",
          given("a.csv", "image,pixel_spacing_mm,x0,y0\na.png,-0.1,1,2\nb.png,0,1,2\n")),
    Fault("a spacing that is none in JSON", 3,
          "a.json: images[0]: pixel_spacing_mm is 10000000.0, expected mm per pixel, above 0 and at most …",
          given("a.json", coco(images=[{"id": 1, "file_name": "a.png", "pixel_spacing_mm": 1e7}]))),
    Fault("a spacing to convert with beyond a kilometre", 2, "pixel_spacing_mm=1e+07 must be at most 1e+06",
          given("a.csv", TABLE, "pixel_spacing_mm=1e7")),
    Fault("two shapes of all landmarks in an image", 3,
          "a.xml: line 4 is a second shape in 'a.png'. Keep one per image.",
          given("a.xml", xml('<points label="s" points="1,2;3,4"/>\n' * 2))),
    Fault("a sweep of conversions", 2, "trainer.convert takes one source; leave out -m, and give each key one value",
          given("a.csv", TABLE, "-m")),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    ended = convert(tmp_path, *fault.arrange(tmp_path))
    pattern = "error: " + ".*".join(re.escape(part) for part in fault.message.split("…"))
    assert re.fullmatch(pattern, ended.err.strip()), f"\npromised: {fault.message}\nsaid:     {ended.err}"
    assert ended.code == fault.code
    assert not (tmp_path / "out.csv").exists()


def test_every_row_of_the_page_is_held() -> None:
    assert {fault.name: (fault.code, fault.message) for fault in FAULTS}.items() <= promised().items()
