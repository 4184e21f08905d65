"""Folders with mistakes in tables and images, and reading them as the command does."""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, TINY_LABELS, compose
from faults import ANYTHING, PAGE, Fault, promised
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from data.errors import DataError
from trainer.config.run import TrainConfig
from trainer.config.store import to_train_config
from trainer.exit_codes import exit_code
from trainer.run_data import RunData

NO_PHANTOM = ("data.num_images", "data.height", "data.width")
LANDMARKS = (*(text for text in TINY if not text.startswith(NO_PHANTOM)), "data=csv", "data.table=points.csv")
LABELS = (*(text for text in TINY_LABELS if not text.startswith(NO_PHANTOM)), "data=csv", "data.table=labels.csv")
FOLDER = (*LABELS[:-2], "task=classification", "data=image_folder", "data.root=photos")
POINTS = ("10,20", "11,21", "12,22", "13,23", "14,24", "15,25")
Arrange = Callable[[Path], object]


def draw(folder: Path, count: int = 6) -> None:
    """Gray images 0.png, 1.png, ... of 60 x 50 px."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (50, 60), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png", compress_level=0)


def rows(cells: Sequence[str], header: str = "image,x0,y0") -> str:
    return "\n".join([header, *(f"{index}.png,{text}" for index, text in enumerate(cells))]) + "\n"


def points(text: str | bytes | None = None, *overrides: str, before: Arrange | None = None, table: str = "points.csv"):
    """Arranges six images and a table of landmarks, and what `before` does to the folder."""

    def arrange(folder: Path) -> Sequence[str]:
        draw(folder)
        content = rows(POINTS) if text is None else text
        (folder / table).write_bytes(content if isinstance(content, bytes) else content.encode())
        if before is not None:
            before(folder)
        return (*LANDMARKS, *overrides)

    return arrange


def labels(text: str, *overrides: str, task: str = "classification", count: int = 6):
    def arrange(folder: Path) -> Sequence[str]:
        draw(folder, count)
        (folder / "labels.csv").write_text(text)
        return (*LABELS, f"task={task}", *overrides)

    return arrange


def photos(*classes: str, before: Arrange | None = None, count: int = 3):
    """Arranges a folder of images per class."""

    def arrange(folder: Path) -> Sequence[str]:
        (folder / "photos").mkdir()
        for name in classes:
            draw(folder / "photos" / name, count)
        if before is not None:
            before(folder / "photos")
        return FOLDER

    return arrange


def image(content: bytes | Callable[[Path], object], name: str = "3.png"):
    """Arranges a table whose fourth image is this file."""

    def put(folder: Path) -> None:
        (folder / "3.png").unlink()
        if callable(content):
            content(folder / name)
        else:
            (folder / name).write_bytes(content)

    return points(rows(POINTS).replace("3.png", name), before=put)


def cut(path: Path, image: Image.Image | None = None) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    (image or Image.fromarray(drawn)).save(path)
    path.write_bytes(path.read_bytes()[:-400])


def png_of(width: int, height: int) -> bytes:
    """A small PNG that says it is as large as this."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0),
        b"IDAT": zlib.compress(b"0"),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


def workbook(folder: Path) -> None:
    with zipfile.ZipFile(folder / "points.csv", "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")


def with_splits(words: Sequence[str], more: Sequence[str] | None = None) -> list[str]:
    """The points, each with a split and perhaps another cell."""
    extra = [""] * 6 if more is None else [f",{text}" for text in more]
    return [f"{point},{word}{end}" for point, word, end in zip(POINTS, words, extra, strict=True)]


@lru_cache
def composed(overrides: tuple[str, ...]) -> DictConfig:
    return compose(*overrides)


@lru_cache
def configured(groups: tuple[str, ...], values: tuple[str, ...]) -> TrainConfig:
    return to_train_config(OmegaConf.merge(composed(groups), OmegaConf.from_dotlist(list(values))))


def read_data(overrides: Sequence[str], folder: Path) -> RunData:
    """What the command does before it builds a model, without the second that Hydra takes to compose."""
    base = next(base for base in (LANDMARKS, FOLDER, LABELS) if tuple(overrides[: len(base)]) == base)
    later = overrides[len(base) :]
    groups = tuple(text for text in later if "." not in text.split("=")[0])
    values = [text for text in later if text not in groups]
    config = configured((*base, *groups), tuple(values))
    before = Path.cwd()
    os.chdir(folder)
    try:
        return config.task.build_data(config, folder / "splits.csv")
    finally:
        os.chdir(before)


def faults_of(section: str, arranged: dict[str, Arrange]) -> list[Fault]:
    """The rows of a section of the page; each has its arrangement, and each arrangement its row."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    named = re.findall(r"^\| (.+?) \| 3 \|", text, re.MULTILINE)
    assert sorted(named) == sorted(arranged)
    return [Fault(name, *promised()[name], arranged[name]) for name in named]


def check_told(fault: Fault, folder: Path) -> str:
    """Holds what reading the data says against what the page promises; returns the module of `data` that says it."""
    folder.mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        read_data(fault.arrange(folder), folder)
    pattern = ".*".join(re.escape(part) for part in fault.message.split(ANYTHING))
    assert re.fullmatch(pattern, str(caught.value)), f"\npromised: {fault.message}\nsaid:     {caught.value}"
    assert exit_code(caught.value) == fault.code
    modules = [entry.path.stem for entry in caught.traceback if Path(entry.path).parent.name == "data"]
    return next(module for module in reversed(modules) if module != "errors")


def untried_modules(faults: Sequence[Fault], tried: Collection[str], folder: Path) -> dict[str, list[str]]:
    """Modules of `data` that refuse some of these, but none of the `tried`: what they refuse."""
    refused: dict[str, list[str]] = {}
    for number, fault in enumerate(faults):
        refused.setdefault(check_told(fault, folder / str(number) / "work"), []).append(fault.name)
    return {module: names for module, names in refused.items() if not set(names) & set(tried)}
