"""Rendered files on the disk: a file or a new folder is whole or absent, and nothing is replaced unasked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from data.atomic import faults_naming, written_atomically


def check_writable(to: Path, *, folder: bool, overwrite: bool) -> None:
    """Raises ValueError for what is there already, and for a file where a folder is to be, or the reverse."""
    if to.is_dir() and not folder:
        raise ValueError(f"to={to} is a folder; name the file to write")
    if to.exists() and not to.is_dir() and folder:
        raise ValueError(f"to={to} is a file; name the folder to write")
    if not overwrite and to.exists() and (not folder or any(to.iterdir())):
        what = "holds files" if folder else "is there"
        raise ValueError(f"to={to} {what} already; choose another name, or add overwrite=true")


def check_beside(files: Mapping[Path, str], *, overwrite: bool) -> None:
    """Raises ValueError for a file beside the main one that is there already."""
    if not overwrite and (there := [file for file in files if file.exists()]):
        raise ValueError(f"{there[0]} is there already; choose another name for to, or add overwrite=true")


def write_files(files: Mapping[Path, str]) -> None:
    """Each of them whole or absent. Raises OSError."""
    for file, text in files.items():
        with written_atomically(file) as aside:
            aside.write_text(text, encoding="utf-8", newline="\n")


def write_folder(folder: Path, files: Mapping[Path, str]) -> None:
    """A folder with these files in it. A new one is whole or absent; in one with files, these are replaced one by one,
    and others stay. Raises OSError."""
    if folder.is_dir() and any(folder.iterdir()):
        write_files(files)
        return
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with faults_naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.mkdir()
            for file, text in files.items():
                target = aside / file.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("w", encoding="utf-8", newline="\n") as out:
                    out.write(text)
                    out.flush()
                    os.fsync(out.fileno())
            aside.replace(folder)  # an empty folder is replaced too
        finally:
            shutil.rmtree(aside, ignore_errors=True)
