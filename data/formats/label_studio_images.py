"""How Label Studio writes which image a task is about, and which file that is."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from data.errors import DataError, enumerated
from data.formats.asked import Asked
from data.formats.image_names import SUFFIXES

UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # put before the names of uploaded files
LOCAL_FILES = "/data/local-files/"


def image_key(path: Path, place: str, data: dict[str, Any]) -> str:
    """The key of a task's data that holds the image: `image`, or the only one with the name of an image file."""
    if isinstance(data.get("image"), str) and data["image"]:
        return "image"
    found = [key for key, value in data.items() if isinstance(value, str) and _suffix(value) in SUFFIXES]
    if len(found) != 1:
        said = f"has several images, {enumerated(found)}" if found else "has no image"
        raise DataError(f"{path}: {place} {said}, expected one, such as image: 001.jpg. Export it again.")
    return found[0]


def image_name(value: str, asked: Asked) -> str:
    """The file that an address stands for: what comes after the prefix, or else a name in the folder of the images, or
    else the last part of the address without what an upload puts before it."""
    if asked.image_prefix and value.startswith(asked.image_prefix):
        return unquote(value.removeprefix(asked.image_prefix))
    try:
        parts = urlsplit(value)
    except ValueError:  # brackets in the place of a host
        return value
    if parts.path == LOCAL_FILES and "d" in parse_qs(parts.query):
        address = PurePosixPath(parse_qs(parts.query)["d"][0])
    elif parts.scheme or value.startswith("/"):
        address = PurePosixPath(unquote(parts.path))
    else:
        return value
    bare = UPLOADED.sub("", address.name) if "upload" in address.parts else address.name
    if asked.images is not None:
        tails = [PurePosixPath(*address.parts[start:]) for start in range(len(address.parts))]
        for tail in (*tails, PurePosixPath(bare)):
            if not tail.is_absolute() and (asked.images / tail).is_file():
                return str(tail)
    return bare


def image_value(name: str, prefix: str) -> str:
    """The address of an image for a task to import."""
    return prefix + quote(name) if prefix else name


def _suffix(value: str) -> str:
    parts = urlsplit(value) if value.isprintable() and "[" not in value else None
    return PurePosixPath(parts.query or parts.path).suffix.lower() if parts is not None else ""
