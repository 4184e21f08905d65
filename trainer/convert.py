"""`python -m trainer.convert source=... to=...`: landmarks from one format into another."""

from __future__ import annotations

import difflib
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra._internal.utils import get_args_parser  # the parser that hydra.main uses; there is no public way to it
from omegaconf import DictConfig

from trainer.__main__ import fail
from trainer.command_line import command, override
from trainer.config.conversion import KEYS, ConvertConfig, to_convert_config
from trainer.exit_codes import FAULTS
from trainer.verb import run_verb

if TYPE_CHECKING:
    from data.formats.marked_images import MarkedImages


@hydra.main(version_base="1.3", config_path="pkg://conf", config_name="convert")
def _convert(composed: DictConfig) -> None:
    try:
        print(convert(to_convert_config(composed)))
    except FAULTS as error:  # here, because Hydra would print a line of its own before it
        fail(error)


def convert(settings: ConvertConfig) -> str:
    """Reads, writes, and returns what to tell of it.

    Raises:
        ValueError: the settings don't fit each other, or the target is there.
        DataError: a fault in the source.
        OSError: the target can't be written.
    """
    from data.formats import writing  # they import numpy, which --help and a wrong key must not wait for
    from data.formats.asked import Asked
    from data.formats.image_names import check_folder, with_sizes
    from data.formats.marked_images import by_one, checked, renamed
    from data.formats.registry import FORMATS, format_of_source, format_of_target
    from data.tables import LARGEST_SPACING_MM

    settings.check_formats(FORMATS)
    if settings.pixel_spacing_mm is not None and settings.pixel_spacing_mm > LARGEST_SPACING_MM:
        raise ValueError(f"pixel_spacing_mm={settings.pixel_spacing_mm:g} must be at most {LARGEST_SPACING_MM:g}")
    source, to = Path(settings.source), Path(settings.to)
    images = None if settings.images is None else Path(settings.images)
    target = settings.format or format_of_target(to)
    form = FORMATS[target]
    writing.check_writable(to, folder=not form.ending, overwrite=settings.overwrite)
    check_folder(images)
    recognised = format_of_source(source) if settings.from_ is None or not source.exists() else settings.from_
    if settings.image_prefix and "label_studio" not in (target, recognised):
        raise ValueError(f"image_prefix={settings.image_prefix} is for label_studio; leave it out")

    first = FORMATS[recognised].first_pixel if settings.first_pixel is None else settings.first_pixel
    asked = Asked(first_pixel=first, images=images, image_prefix=settings.image_prefix)
    marked = checked(FORMATS[recognised].read(source, asked))
    names_file = _names_file(settings, recognised, marked)
    if names_file is not None:
        marked = renamed(marked, _read_names(names_file), names_file)
    if settings.pixel_spacing_mm is not None:
        given = settings.pixel_spacing_mm
        marked = replace(marked, spacing_mm=[given if own is None else own for own in marked.spacing_mm])
    told = _told_reading(marked, recognised)
    marked = by_one(marked, settings.annotator)
    if images is not None or target in ("coco", "label_studio", "cvat"):
        marked = with_sizes(marked, images)

    files = form.render(marked, to, settings.image_prefix)
    writing.check_beside(
        {file: files[file] for file in files if form.ending and file != to}, overwrite=settings.overwrite
    )
    if form.ending:
        writing.write_files(files)
    else:
        writing.write_folder(to, files)
    return "\n".join([*told, *_told_writing(marked, to, target, list(files), images)])


def _names_file(settings: ConvertConfig, recognised: str, marked: MarkedImages) -> Path | None:
    """The file that was given; for a numbered table the one beside it, which a run would take too."""
    if settings.names is not None:
        return Path(settings.names)
    beside = marked.path.parent / "landmark_names.txt"
    return beside if recognised == "csv" and marked.numbered and beside.is_file() else None


def _read_names(path: Path) -> list[str]:
    from data.cells import read_text
    from data.tables import read_landmark_names

    return read_landmark_names(path, sum(bool(line.strip()) for line in read_text(path).split("\n")))


def _told_reading(marked: MarkedImages, form: str) -> list[str]:
    missing, count = int((~marked.visible).sum()), marked.visible.size
    by = f", {len(marked.annotators)} annotators ({', '.join(marked.annotators)})" if marked.annotators else ""
    images, landmarks = len(marked.image_names), len(marked.landmark_names)
    lines = [
        f"read {marked.path} ({form}): {images} images, {landmarks} landmarks{by}, {missing} of {count} points missing"
    ]
    return [*lines, *(f"left out in reading: {note}" for note in marked.notes)]


def _told_writing(marked: MarkedImages, to: Path, target: str, files: list[Path], images: Path | None) -> list[str]:
    from data.formats.registry import FORMATS

    form = FORMATS[target]
    what = f"{len(files)} files in {to}" if not form.ending else str(to)
    lines = [f"wrote {what} ({target}, coordinates: {form.precision})"]
    has = {
        "split": marked.split is not None,
        "group": marked.group is not None,
        "pixel_spacing_mm": any(value is not None for value in marked.spacing_mm),
    }
    if lost := [key for key, there in has.items() if there and key not in form.keeps]:
        lines.append(f"left out in writing, as {target} has no place for it: {', '.join(lost)}")
    if target == "csv":
        lines.append(f"train on it with: {_run_command(marked, to, images)}")
    if target == "label_studio":
        lines.append(f"wrote {files[1]}: the project's labelling interface (Settings, Labeling Interface, Code)")
    if target == "cvat":
        lines.append(f"wrote {files[1]}: the task's labels, for the Raw tab of their editor")
    return lines


def _run_command(marked: MarkedImages, to: Path, images: Path | None) -> str:
    """A run on the table; data.root only where the images lie elsewhere."""
    from data.formats.image_names import images_folder
    from data.image_paths import ImageFinder

    arguments = ["data=csv", override("data.table", str(to))]
    if ImageFinder(to, None, allow_outside_root=False).locate(marked.image_names[0]) is None:
        folder = images_folder(marked.path, images)
        if images is None and not (folder / marked.image_names[0]).is_file():
            folder = folder / "images"
        if (folder / marked.image_names[0]).is_file():
            arguments.append(override("data.root", str(folder)))
    return " ".join([command("python"), *map(shlex.quote, arguments)])


def main() -> None:
    run_verb(_run, "trainer.convert", takes="one source")


def _run() -> None:
    """Raises ValueError for keys of other commands, before Hydra takes them for those of a run."""
    for text in get_args_parser().parse_known_args(sys.argv[1:])[0].overrides:
        key = text.partition("=")[0].strip()
        if key not in KEYS and not key.startswith("hydra.") and key.replace("_", "").isalnum():
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its keys: {', '.join(KEYS)}"
            raise ValueError(f"{key} is not a key of trainer.convert; {hint}")
    _convert()


if __name__ == "__main__":
    main()
