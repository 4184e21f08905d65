"""From the file names of a table to files, none of them outside the folder that the images lie in."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from data.errors import MAX_LISTED, DataError, did_you_mean, quoted
from data.file_kinds import link_fault
from data.file_listings import FileList, Listings

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
MANY = 1000  # names
WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class ImageFinder:
    """Looks names up in `root`, or else beside `table` and in the folder `images` there.

    The image root is `root`, or else the folder of the table. Unless `allow_outside_root`, no file may lie outside it
    once `..`, absolute paths and symbolic links are followed.
    """

    def __init__(self, table: Path, root: Path | None, *, allow_outside_root: bool) -> None:
        self.table = table
        self.allow_outside_root = allow_outside_root
        self.root = os.path.abspath(table.parent if root is None else root)
        self.inside = os.path.join(os.path.realpath(self.root), "")  # how the real path of what may be read begins
        self.folders = [self.root] if root is not None else [self.root, os.path.join(self.root, "images")]
        if root is not None and not os.path.isdir(self.root):
            what = (
                "is a file, expected a folder" if os.path.exists(self.root) else f"no such folder{did_you_mean(root)}"
            )
            raise DataError(f"data.root={root}: {what}. Name the folder that the images of {table} lie in.")

    def find(self, place: Callable[[int], str], names: list[str]) -> tuple[FileList, list[str]]:
        """(N) absolute paths, and where these files really lie once links are followed; raises DataError naming the
        `place` in the table of what is lost or outside."""
        if len(names) >= MANY:  # listings cost as much as some hundred files
            images, real = Listings(self.folders).find(names)
        else:
            images, real = [""] * len(names), [""] * len(names)
        lost = []
        for i, name in enumerate(names):
            if images[i]:
                continue
            images[i] = self._find(name) or ""
            real[i] = os.path.realpath(images[i])
            if not images[i]:
                lost.append(i)
        if lost:
            # Only what is shown is searched for reasons: a wrong root loses every row.
            reasons = {i: self._reason(names[i]) for i in lost[:MAX_LISTED]}
            faults = [f"{place(i)}: image {quoted(names[i])} {reasons.get(i, '')}" for i in lost]
            looked = " and ".join(f if os.path.isdir(f) else f"{f} (no such folder)" for f in self.folders)
            raise DataError.listing(self.table, faults, f"Looked in {looked}; mend the name, or set data.root.")
        self._check_permitted(place, names, real)
        return FileList(images), real

    def locate(self, name: str) -> Path | None:
        """The file of this name, None where there is none that may be read."""
        found = self._find(name) if name else None
        return None if found is None or not self._is_permitted(os.path.realpath(found)) else Path(found)

    def _find(self, name: str) -> str | None:
        return next((path for path in self._candidates(name) if os.path.isfile(path)), None)

    def _candidates(self, name: str) -> list[str]:
        # Some systems store an ä in one letter, some in two; tables are typed on either, and on Windows.
        spellings = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
        spellings += [spelling.replace("\\", "/") for spelling in spellings]
        return [
            os.path.normpath(os.path.join(folder, spelling))
            for spelling in dict.fromkeys(spellings)
            for folder in self.folders
        ]

    def _reason(self, name: str) -> str:
        """Why an image is not found, as the end of a sentence that begins with it."""
        if URL.match(name):
            return "is an address on the net, expected a file. Download the images and write their file names"
        if WINDOWS_DRIVE.match(name):
            return "is a path of a Windows computer. Write paths relative to the folder of the images"
        if name.startswith("~"):
            return "begins with ~, which only a shell understands. Write the whole path"
        for path in self._candidates(name):
            if (fault := link_fault(path)) is not None:
                return fault
            if os.path.isdir(path):
                return "is a folder, expected a file"
        near = (did_you_mean(Path(folder, name)) for folder in self.folders)
        return "not found" + next(filter(None, near), "")

    def _is_permitted(self, real: str) -> bool:
        return self.allow_outside_root or real.startswith(self.inside)

    def _check_permitted(self, place: Callable[[int], str], names: list[str], real: list[str]) -> None:
        if self.allow_outside_root:
            return
        faults = [
            f"{place(i)}: image {quoted(names[i])} is {lies_at}, outside the image root"
            for i, lies_at in enumerate(real)
            if not lies_at.startswith(self.inside)
        ]
        if faults:
            raise DataError.listing(
                self.table,
                faults,
                f"The image root is {self.root}; keep the images in it, name another data.root, or set "
                "data.allow_outside_root=true.",
            )
