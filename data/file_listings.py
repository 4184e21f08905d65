"""Whether files are there and where they really lie, for tables that name so many that asking one by one is slow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload


class FileList(Sequence[Path]):
    """Files by their place in a list. A path is made when it is taken: a million of them take seconds and 500 MB."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> FileList: ...
    def __getitem__(self, place: int | slice) -> Path | FileList:
        return FileList(self.names[place]) if isinstance(place, slice) else Path(self.names[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as of a list


class Listings:
    """The files of folders, each of which is read once. What has come or gone since is not known."""

    def __init__(self) -> None:
        self._folders: dict[str, _Folder] = {}

    def real_path(self, path: str) -> str | None:
        """Where a file really lies, once links are followed; None where no file of just this name is there.

        path: absolute and normal, without `..` or doubled slashes.
        """
        place, _, name = path.rpartition("/")
        folder = self._folders.get(place)
        if folder is None:
            folder = self._folders[place] = _Folder(place or "/")
        if name in folder.files:
            return path if folder.real_path == place else f"{folder.real_path}/{name}"
        if name in folder.links and os.path.isfile(path):
            return os.path.realpath(path)
        return None


class _Folder:
    def __init__(self, path: str) -> None:
        self.real_path = os.path.realpath(path)
        self.files: set[str] = set()
        self.links: set[str] = set()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        self.links.add(entry.name)
                    elif entry.is_file():
                        self.files.add(entry.name)
        except OSError:  # not there, or not to be listed: then files are asked for one by one
            return
