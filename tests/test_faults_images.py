"""Mistakes in images and their folders: one message each, exit code 3, as docs/faults.md promises."""

import os
import shutil
from pathlib import Path

import pytest
from data_faults import check_told, cut, faults_of, image, photos, png_of, untried_modules
from faults import Fault

ARRANGED = {
    "empty image": image(b""),
    **{
        f"{kind} cut short": image(cut, f"3.{suffix}")
        for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tif"), ("BMP", "bmp"), ("GIF", "gif"))
    },
    "image that ends in its header": image(b"\xff\xd8\xff", "3.jpg"),
    "text named .png": image(b"not a picture"),
    "web page named .jpg": image(b"<!DOCTYPE html><title>404</title>", "3.jpg"),
    "Git LFS pointer": image(b"version https://git-lfs.github.com/spec/v1\n"),
    "unknown bytes named .png": image(bytes(range(1, 256))),
    "DICOM": image(bytes(128) + b"DICM" + bytes(9), "3.dcm"),
    "HEIC": image(b"\0\0\0\x18ftypheic\0\0\0\0", "3.heic"),
    "SVG": image(b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "3.svg"),
    "PDF": image(b"%PDF-1.4\n", "3.pdf"),
    "image beyond 178 million pixels": image(png_of(30000, 8000)),
    "image folder not there": photos(before=lambda folder: folder.rename(folder.with_name("Photos"))),
    "image folder is a file": photos(before=lambda folder: (folder.rmdir(), folder.touch())),
    "no images in it": photos(
        "a", "b", before=lambda folder: [path.rename(path.with_suffix(".dcm")) for path in folder.glob("*/*")]
    ),
    "images in no class folder": photos(
        "a", "b", before=lambda folder: shutil.copy(folder / "a/0.png", folder / "x.png")
    ),
    "one class folder": photos("a"),
    "class folders one level deeper": photos("pets/a", "pets/b"),
    "strange folder beside train": photos("train/a", "training/b"),
    "image in two classes, by a link": photos(
        "a", "b", before=lambda folder: ((folder / "b/0.png").unlink(), (folder / "b/0.png").symlink_to("../a/0.png"))
    ),
    "class folders that link to each other": photos(
        "a", "b", before=lambda folder: ((folder / "a/b").symlink_to("../b"), (folder / "b/a").symlink_to("../a"))
    ),
    "file name that is not UTF-8": photos(
        "a", "b", before=lambda folder: (folder / "a/0.png").rename(os.fsdecode(bytes(folder) + b"/a/\xff.png"))
    ),
    "broken link in a class folder": photos(
        "a", "b", before=lambda folder: (folder / "a/l.png").symlink_to("gone.png")
    ),
    "pipe in a class folder": photos("a", "b", before=lambda folder: os.mkfifo(folder / "a/pipe.png")),
}

FAULTS = faults_of("Images", ARRANGED)
# One for each module that refuses; what else it refuses takes the same way to the command.
BY_COMMAND = (
    "empty image",
    "strange folder beside train",
    "one class folder",
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    check_told(fault, tmp_path / "work")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name in BY_COMMAND], ids=lambda fault: fault.name)
def test_the_command_tells_it_and_leaves_with_the_code_of_data(fault: Fault, tmp_path: Path) -> None:
    fault.check(tmp_path)


def test_the_command_is_tried_with_each_module_that_refuses(tmp_path: Path) -> None:
    assert untried_modules(FAULTS, BY_COMMAND, tmp_path) == {}
