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
        self._by_path: dict[str, _Folder] = {}
        self._by_start: dict[str, list[_Folder]] = {}  # of a name, up to its last slash: where to look for the rest

    def find(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """(N) files of these names, each in the first of the folders that has one, and where they really lie once links
        are followed; both empty where a file has to be asked for in other ways."""
        if "/" not in "".join(names):
            for folder in self._below(""):
                if folder.files.issuperset(names):
                    return [folder.path + name for name in names], [folder.real_path + name for name in names]
                if not (folder.files.isdisjoint(names) and folder.links.isdisjoint(names)):
                    break
        images: list[str] = []
        real: list[str] = []
        for name in names:
            slash = name.rfind("/") + 1
            start, last = (name[:slash], name[slash:]) if slash else ("", name)
            folders = self._by_start.get(start)
            if folders is None:
                folders = self._by_start[start] = self._below(start)
            path = lies_at = ""
            for folder in folders:
                if last in folder.files:
                    path = folder.path + last
                    lies_at = path if folder.is_real else folder.real_path + last
                    break
                if last in folder.links and os.path.isfile(folder.path + last):
                    path = folder.path + last
                    lies_at = os.path.realpath(path)
                    break
            images.append(path)
            real.append(lies_at)
        return images, real

    def _below(self, start: str) -> list[_Folder]:
        # Without dots no part of it is `..`.
        if start.startswith("/") or "//" in start or "." in start or not _is_plain(start):
            return []
        paths = [f"{place.rstrip('/')}/{start}".rstrip("/") for place in self.folders]
        return [self._by_path.get(path) or self._by_path.setdefault(path, _Folder(path)) for path in paths]


class _Folder:
    def __init__(self, path: str) -> None:
        self.path = f"{path}/"
        self.real_path = f"{os.path.realpath(self.path).rstrip('/')}/"
        self.is_real = self.path == self.real_path
        self.files: set[str] = set()
        self.links: set[str] = set()
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if not _is_plain(entry.name):
                        continue
                    if entry.is_file(follow_symlinks=False):
                        self.files.add(entry.name)
                    elif entry.is_symlink():
                        self.links.add(entry.name)
        except OSError:  # not there, or not to be listed: then files are asked for one by one
            return


def _is_plain(name: str) -> bool:
    """Beyond ASCII a letter may be stored in two ways; a backslash may stand for a slash."""
    return name.isascii() and "\\" not in name
