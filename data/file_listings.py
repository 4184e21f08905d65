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
    """The files in `folders` (absolute), and below them, each listed once. What came or went since is not known."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = list(folders)
        self._listed: dict[str, _Folder] = {}

    def find(self, name: str) -> tuple[str, str]:
        """A file of this name in the first of the folders that has one, and where it really lies once links are
        followed; both empty where it has to be asked for in other ways."""
        within, _, last = name.rpartition("/")
        # Without dots no part of it is `..`; beyond ASCII a letter may be stored in two ways.
        if "\\" in name or within.startswith("/") or "//" in within or "." in within or not name.isascii():
            return "", ""
        for place in self.folders:
            folder = self._folder(f"{place}/{within}" if within else place)
            if last in folder.files:
                path = f"{folder.path}/{last}"
                return path, path if folder.is_real else f"{folder.real_path}/{last}"
            if last in folder.links and os.path.isfile(path := f"{folder.path}/{last}"):
                return path, os.path.realpath(path)
        return "", ""

    def _folder(self, path: str) -> _Folder:
        folder = self._listed.get(path)
        if folder is None:
            folder = self._listed[path] = _Folder(path)
        return folder


class _Folder:
    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/")  # of the root of all too
        self.real_path = os.path.realpath(path).rstrip("/")
        self.is_real = self.path == self.real_path
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
