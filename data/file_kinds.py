"""What a file is, by its place on the disk and by its first bytes, where it is not what was expected."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from data.errors import DataError

HEAD_BYTES = 4096
UNPACK = "Unpack it first."


class FileKind(NamedTuple):
    name: str  # with its article, such as `a zip archive`
    advice: str | None = None  # what to do, where this does not depend on what was expected
    is_read: bool = False  # by this program, as an image


# In this order: a workbook is a zip archive too.
KINDS = (
    (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis", FileKind("an OpenDocument file")),
    (rb"PK\x03\x04.*(\[Content_Types\]\.xml|xl/|_rels/)", FileKind("an Excel workbook (.xlsx)")),
    (rb"PK\x03\x04", FileKind("a zip archive", UNPACK)),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind("an Excel workbook (.xls)")),
    (rb"\x1f\x8b", FileKind("a gzip archive", UNPACK)),
    (rb"BZh[1-9]", FileKind("a bzip2 archive", UNPACK)),
    (rb"\xfd7zXZ\x00", FileKind("an xz archive", UNPACK)),
    (rb"7z\xbc\xaf\x27\x1c", FileKind("a 7-Zip archive", UNPACK)),
    (rb"version https://git-lfs", FileKind("a Git LFS pointer", "Fetch the file itself: git lfs pull.")),
    (rb".{128}DICM", FileKind("a DICOM file", "Convert it to PNG or TIFF; those with 16 bits keep all its grays.")),
    (rb".{4}ftyp(heic|heix|hevc|hevx|mif1|msf1)", FileKind("a HEIC image")),
    (rb".{4}ftypavi[fs]", FileKind("an AVIF image")),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", FileKind("a JPEG 2000 image")),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", FileKind("a JPEG XL image")),
    (rb"(?i)\s*<(!doctype html|html)", FileKind("a web page (HTML)", "Download the file itself.")),
    (rb"(?:\xef\xbb\xbf)?\s*(<\?xml.*|<!--.*|<!DOCTYPE svg.*)?<svg", FileKind("an SVG drawing")),
    (rb"%PDF-", FileKind("a PDF document")),
    (rb"%!PS|\xc5\xd0\xd3\xc6", FileKind("an EPS drawing")),
    (rb"8BPS", FileKind("a Photoshop document")),
    (rb".{344}(n\+1|ni1)\x00", FileKind("a NIfTI volume")),
    (rb"\x93NUMPY", FileKind("a NumPy array")),
    (rb"\x89HDF\r\n", FileKind("an HDF5 file")),
    (rb"PAR1", FileKind("a Parquet table")),
    (rb"SQLite format 3\x00", FileKind("an SQLite database")),
    (rb"\x89PNG\r\n", FileKind("a PNG image", is_read=True)),
    (rb"\xff\xd8\xff", FileKind("a JPEG image", is_read=True)),
    (rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+", FileKind("a TIFF image", is_read=True)),
    (rb"GIF8[79]a", FileKind("a GIF image", is_read=True)),
    (rb"RIFF.{4}WEBP", FileKind("a WebP image", is_read=True)),
    (rb"BM.{4}\x00\x00\x00\x00", FileKind("a BMP image", is_read=True)),
    (rb"P[1-7]\s", FileKind("a PNM image")),
    (rb"\x00\x00[\x01\x02]\x00", FileKind("a Windows icon")),
)
PATTERNS = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in KINDS)


def kind_of(content: bytes) -> FileKind | None:
    """The kind of file that begins with `content`, None for an unknown one."""
    head = content[:HEAD_BYTES]
    return next((kind for pattern, kind in PATTERNS if pattern.match(head)), None)


def is_text(content: bytes) -> bool:
    """Whether a file that begins with `content` is text in UTF-8."""
    head = content[:HEAD_BYTES]
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not merely a letter that the cut went through
            return False
        text = head[: error.start].decode()
    return bool(text) and all(letter.isprintable() or letter.isspace() for letter in text)


def require_regular_file(path: Path | str, expected: str) -> None:
    """Raises DataError for what opens but is no file, such as a folder, or a pipe that would wait for ever."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise DataError(f"{path} is a folder, expected {expected}. Name the file inside it.")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is a pipe or a device, expected {expected}. Write it to a file first.")


def link_fault(path: str) -> str | None:
    """What is wrong with a symbolic link that leads to no file; None for what is no such link."""
    if not os.path.islink(path) or os.path.exists(path):
        return None
    try:
        os.stat(path)
    except FileNotFoundError:
        return f"is a link to {os.readlink(path)}, which is not there"
    except OSError as error:
        return f"is a link that cannot be followed ({error.strerror})"
    return None
