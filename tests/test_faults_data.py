"""Mistakes in tables: one message each, exit code 3, before anything is trained, as docs/faults.md promises."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
from data_faults import POINTS, check_told, faults_of, labels, points, rows, untried_modules, with_splits, workbook
from faults import Fault

ARRANGED = {
    "table not there": points(None, "data.table=point.csv"),
    "table is a folder": points(None, "data.table=points", before=lambda folder: (folder / "points").mkdir()),
    "table is a pipe": points(None, "data.table=pipe", before=lambda folder: os.mkfifo(folder / "pipe")),
    "table is a link to itself": points(
        None, "data.table=loop.csv", before=lambda folder: (folder / "loop.csv").symlink_to("loop.csv")
    ),
    "empty table": points(""),
    "table with a header alone": points("image,x0,y0\n"),
    "Excel workbook given as CSV": points(before=workbook),
    "old Excel workbook": points(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99)),
    "packed table": points(gzip.compress(rows(POINTS).encode(), mtime=0)),
    "image given as table": points(None, "data.table=0.png"),
    "Excel's Unicode Text": points(rows(POINTS).replace(",", "\t").encode("utf-16")),
    "UTF-16 without its mark": points(rows(POINTS).encode("utf-16-le")),
    "umlauts in Latin-1": points(rows(POINTS).replace("1.png", "ä.png").encode("latin-1")),
    "unbalanced quotes": points(rows(POINTS).replace("2.png", '"2.png')),
    "rows of other lengths": points(rows(["1,2", "1,2,3", "1,2", "1"])),
    "decimal commas without quotes": points(rows(["1,5,2,5"] * 6)),
    "a line above the header": points("# my points\n" + rows(POINTS)),
    "no header": points(rows(POINTS).split("\n", 1)[1]),
    "columns separated by blanks": points(rows(POINTS).replace(",", " ")),
    "no image column": points(rows(POINTS, "picture,x0,y0")),
    "no point columns": points(rows(POINTS, "image,x,y")),
    "x without y": points(rows(POINTS, "image,x0,y1")),
    "gap in the numbers of points": points(rows([f"{text},{text}" for text in POINTS], "image,x0,y0,x2,y2")),
    "points spelt both ways": points(rows([f"{text},{text}" for text in POINTS], "image,x0,y0,sella_x,sella_y")),
    "column twice": points(rows([f"{text},1" for text in POINTS], "image,x0,y0,X0")),
    "word in a number cell": points(rows(["1,2", "left,2", "1,#REF!"])),
    "infinite coordinate": points(rows(["inf,2", "1,2"])),
    "decimal commas and points": points(rows(['"12,5",20', "12.5,20"])),
    "thousands separators": points(rows(['"1,200",20', "1 300,20"])),
    "thousands among decimal commas": points("image;x0;y0\n0.png;12,5;2\n1.png;1.200;2\n"),
    "half a point": points(rows(["1,2", "1,"])),
    "spacing that is no length": points(rows(["1,2,0", "1,2,-0.1", "1,2,1e300"], "image,x0,y0,pixel_spacing_mm")),
    "spacing in words": points(rows(["1,2,0.1 mm"], "image,x0,y0,pixel_spacing_mm")),
    "no point inside the image": points(rows(["1,2", "-100,-200"])),
    "x and y swapped": points(rows(["20,55", "1,2"])),
    "point very far outside": points(rows(["1,2,1e308,5", "1,2,3,4"], "image,x0,y0,x1,y1")),
    "an image name that the pattern of groups does not fit": points(rows(POINTS), "data.group_pattern='(.+)_[0-9]+'"),
    "a pattern of groups beside a column of them": points(
        rows([f"{text},p" for text in POINTS], "image,x0,y0,patient"), "data.group_pattern='(.)'"
    ),
    "no landmark anywhere": points(rows([","] * 6)),
    "landmark that no training image has": points(
        rows(["1,2,,,train"] * 5 + ["1,2,3,4,val"], "image,x0,y0,x1,y1,split")
    ),
    "validation images without landmarks": points(rows(["1,2,train"] * 5 + [",,val"], "image,x0,y0,split")),
    "more names than landmarks": points(before=lambda folder: (folder / "landmark_names.txt").write_text("a\nb\n")),
    "name twice": points(
        rows(["1,2,3,4"] * 6, "image,x0,y0,x1,y1"),
        before=lambda folder: (folder / "landmark_names.txt").write_text("sella\nsella\n"),
    ),
    "flip pair beyond the landmarks": points(
        None,
        "data.augmentation.flip=0.5",
        "data.augmentation.flip_pairs=pairs.txt",
        before=lambda folder: (folder / "pairs.txt").write_text("0 5\n"),
    ),
    "flip pairs in three columns": points(
        None,
        "data.augmentation.flip=0.5",
        "data.augmentation.flip_pairs=pairs.txt",
        before=lambda folder: (folder / "pairs.txt").write_text("0 1 2\n"),
    ),
    "file of flip pairs without any": points(
        None,
        "data.augmentation.flip=0.5",
        "data.augmentation.flip_pairs=pairs.txt",
        before=lambda folder: (folder / "pairs.txt").write_text("# none\n"),
    ),
    "image not there": points(rows(POINTS).replace("1.png", "1.jpg")),
    "image without its suffix": points(rows(POINTS).replace("1.png", "1")),
    "image root not there": points(None, "data.root=imgs", before=lambda folder: (folder / "images").mkdir()),
    "no image name": points(rows(POINTS) + ",1,2\n"),
    "address on the net as image": points(rows(POINTS) + "https://x.org/a.png,1,2\n"),
    "path of a Windows computer": points(rows(POINTS) + "C:\\scans\\a.png,1,2\n"),
    "home folder as ~": points(rows(POINTS) + "~/a.png,1,2\n"),
    "folder in the place of an image": points(
        rows(POINTS) + "more.png,1,2\n", before=lambda folder: (folder / "more.png").mkdir()
    ),
    "link to nowhere": points(
        rows(POINTS) + "a.png,1,2\n", before=lambda folder: (folder / "a.png").symlink_to("gone.png")
    ),
    "link to itself": points(
        rows(POINTS) + "a.png,1,2\n", before=lambda folder: (folder / "a.png").symlink_to("a.png")
    ),
    "path that leaves the image root": points(
        rows(POINTS) + "../a.png,1,2\n", before=lambda folder: shutil.copy(folder / "0.png", folder.parent / "a.png")
    ),
    "link that leaves the image root": points(
        rows(POINTS) + "a.png,1,2\n",
        before=lambda folder: (
            shutil.copy(folder / "0.png", folder.parent / "b.png"),
            (folder / "a.png").symlink_to("../b.png"),
        ),
    ),
    "image twice": points(rows(POINTS) + "0.png,1,2\n"),
    "image twice, spelt differently": points(rows(POINTS) + "./x/../0.png,1,2\n"),
    "image twice, by a link": points(
        rows(POINTS) + "a.png,1,2\n", before=lambda folder: (folder / "a.png").symlink_to("0.png")
    ),
    "image in two splits": points(
        rows(with_splits([*["train"] * 5, "val"]), "image,x0,y0,split") + "./0.png,1,2,val\n"
    ),
    "patient in two splits": points(
        rows(
            with_splits([*["train"] * 5, "val"], ["p1", "p2", "p3", "p4", "p5", "p1"]), "image,x0,y0,split" + ",patient"
        )
    ),
    "unknown split": points(rows(with_splits([*["train"] * 5, "training"]), "image,x0,y0,split")),
    "no training rows": points(rows(with_splits(["val"] * 6), "image,x0,y0,split")),
    "nothing left to validate": points(rows(["1,2"])),
    "no label column": labels(rows("ababab", "image,kind")),
    "label column misspelt": labels(rows("ababab", "image,kind"), "data.label=knid"),
    "row without a label": labels(rows(["a", "", "b"], "image,label")),
    "only one class": labels(rows("aaaaaa", "image,label")),
    "class without a training image": labels(
        rows(["a,train", "b,train"] * 2 + ["a,val", "c,val"], "image,label,split")
    ),
    "as many classes as images": labels(rows("abc", "image,label")),
    "numbers where classes are expected": labels(rows([f"{i}.5" for i in range(60)], "image,label"), count=60),
    "words where numbers are expected": labels(rows(["11", "12 years", "13"], "image,label"), task="regression"),
    "number too large to learn": labels(rows(["11", "1e200", "13"], "image,label"), task="regression"),
    "numbers too alike": labels(rows([f"{10**9 + i}" for i in range(6)], "image,label"), task="regression"),
    "covariate that is not there": labels(
        rows(["1,F", "2,M", "3,F"], "image,label,sex"), "data.covariates=[sexx]", "model=covariate", task="regression"
    ),
}

FAULTS = faults_of("Tables", ARRANGED)
# One for each module that refuses; what else it refuses takes the same way to the command.
BY_COMMAND = (
    "table is a pipe",
    "unbalanced quotes",
    "x without y",
    "no point inside the image",
    "path that leaves the image root",
    "patient in two splits",
    "an image name that the pattern of groups does not fit",
    "no training rows",
    "only one class",
    "covariate that is not there",
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    check_told(fault, tmp_path / "work")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name in BY_COMMAND], ids=lambda fault: fault.name)
def test_the_command_tells_it_and_leaves_with_the_code_of_data(fault: Fault, tmp_path: Path) -> None:
    fault.check(tmp_path)


def test_the_command_is_tried_with_each_module_that_refuses(tmp_path: Path) -> None:
    assert untried_modules(FAULTS, BY_COMMAND, tmp_path) == {}
