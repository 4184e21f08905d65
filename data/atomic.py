"""Files that are whole or absent, also when the process dies or the disk is full."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HALF_WRITTEN = ".*.*.*"  # the temporary paths, as a glob


@contextmanager
def written_atomically(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, flushed to disk, once the block ends well.

    `previous`: where the file that it replaces is kept.

    Raises:
        OSError: names `path`, not the temporary file.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    linked = path.with_name(f".{path.name}.{os.getpid()}.link")
    with faults_naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            if previous is not None and path.exists():
                try:
                    os.link(path, linked)  # not moved: at no moment is there no file at `path`
                    linked.replace(previous)
                except OSError:  # a file system without links
                    path.replace(previous)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
            linked.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def faults_naming(path: Path) -> Iterator[None]:
    """A fault of the operating system in the block tells what was being written: `write` alone does not say where."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
