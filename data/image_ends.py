"""Whether an image file has its end, told without decoding it."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

TAIL_BYTES = 4096
START_OF_SCAN, END_OF_JPEG = b"\xff\xda", b"\xff\xd9"


def is_whole(image: Image.Image, path: Path | str) -> bool:
    """False where the file at `path`, opened as `image`, seems to lack its end; only decoding then tells for sure."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
        file.seek(0)
        head = file.read(8)
    if image.format == "PNG":
        return b"IEND" in tail
    if image.format in ("JPEG", "MPO"):
        # A thumbnail in the header has an end of its own, before the image's first scan.
        return tail.rfind(END_OF_JPEG) > tail.rfind(START_OF_SCAN)
    if image.format == "GIF":
        return tail.rstrip(b"\0").endswith(b"\x3b")
    if image.format == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    if isinstance(image, TiffImageFile):
        return _end_of_strips(image) <= size
    return 0 < int.from_bytes(head[2:6], "little") <= size  # of BMP, whose header need not say it


def _end_of_strips(image: TiffImageFile) -> int:
    """The last byte that the parts of the first page take."""
    tags = image.tag_v2
    for offsets, lengths in ((Tag.StripOffsets, Tag.StripByteCounts), (Tag.TileOffsets, Tag.TileByteCounts)):
        if offsets in tags and lengths in tags:
            return max(start + length for start, length in zip(tags[offsets], tags[lengths], strict=False))
    return 0
