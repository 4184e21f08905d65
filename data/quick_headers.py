"""The size of ordinary JPEG and PNG files from their first bytes, ten times as fast as by opening them as images."""

from __future__ import annotations

import os
import struct
import zlib

from data.image_ends import END_OF_JPEG, START_OF_SCAN, TAIL_BYTES

HEAD_BYTES = 4096
LARGEST = 100_000_000  # px; larger ones are for Pillow, which has its limit
JPEG_START, PNG_START, PNG_END = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"IEND"
FRAMES = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended, progressive
SCAN = 0xDA
SEGMENT, SIZE = struct.Struct(">BBH"), struct.Struct(">HH")
# JFIF, Adobe, tables, restart intervals and comments: nothing that turns an image, or adds others.
TABLES = 0xDB
PLAIN_SEGMENTS = frozenset((0xE0, 0xEE, TABLES, 0xC4, 0xDD, 0xFE))
PLAIN_CHUNKS = frozenset((b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"sBIT", b"bKGD", b"tIME", b"PLTE", b"tRNS"))
PNG_KINDS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # colour type to bit depths

# The last JPEG header that was read through: up to its size, and from there to the first scan. The images of a table
# mostly have one and the same.
_known = (b"none", b"")


def quick_size(path: str) -> tuple[int, int] | None:
    """(width, height) px of a whole file that says nothing of an orientation; None: ask Pillow, also for the fault."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else a pipe would be waited for
    except OSError:
        return None
    try:
        end = os.lseek(file, 0, os.SEEK_END)  # a pipe has none: nothing is taken out of it
        head = os.pread(file, HEAD_BYTES, 0)
        is_jpeg = head.startswith(JPEG_START)
        found = _jpeg_size(head) if is_jpeg else _png_size(head) if head.startswith(PNG_START) else None
        if found is None or not 0 < found[0] * found[1] <= LARGEST:
            return None
        tail = head
        if end > len(head):
            tail = os.pread(file, TAIL_BYTES, max(0, end - TAIL_BYTES))
    except OSError:  # of a folder, or of a pipe, which has no end
        return None
    finally:
        os.close(file)
    whole = tail.rfind(END_OF_JPEG) > tail.rfind(START_OF_SCAN) if is_jpeg else PNG_END in tail
    return found if whole else None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    global _known
    before, after = _known
    place = len(before)
    if not (head.startswith(before) and head.startswith(after, place + 4)):
        found = _plain_header(head)
        if found is None:
            return None
        place, end = found
        _known = head[:place], head[place + 4 : end]
    height, width = SIZE.unpack_from(head, place)
    return width, height


def _plain_header(head: bytes) -> tuple[int, int] | None:
    """Where the size is in a frame header (ITU T.81, B.2.2), and where the header of the first scan ends; None where
    not all segments up to there are plain."""
    size_at = None
    place, last = 2, len(head) - 4
    while place <= last:
        mark, kind, length = SEGMENT.unpack_from(head, place)
        end = place + 2 + length
        if mark != 0xFF or length < 2:
            return None
        if kind == SCAN:
            return (size_at, end) if size_at is not None and end <= len(head) else None
        if kind in FRAMES and size_at is None and place + 10 <= len(head):
            precision, channels = head[place + 4], head[place + 9]
            if precision != 8 or channels not in (1, 3, 4) or length != 8 + 3 * channels:
                return None
            size_at = place + 5
        elif kind not in PLAIN_SEGMENTS or (kind == TABLES and not _tables_fit(head[place + 4 : end])):
            return None
        place = end
    return None


def _tables_fit(tables: bytes) -> bool:
    """Whether a segment of quantization tables holds whole ones (ITU T.81, B.2.4.1)."""
    while tables:
        taken = 65 if tables[0] < 16 else 129
        if len(tables) < taken:
            return False
        tables = tables[taken:]
    return True


def _png_size(head: bytes) -> tuple[int, int] | None:
    """From IHDR, where all chunks up to the first pixels are plain and undamaged (PNG, sections 5 and 11)."""
    size = None
    place = len(PNG_START)
    while place + 12 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, place)
        if kind == b"IDAT":
            return size
        end = place + 8 + length
        if end + 4 > len(head) or zlib.crc32(head[place + 4 : end]) != int.from_bytes(head[end : end + 4]):
            return None
        if kind == b"IHDR" and length == 13 and size is None:
            width, height, depth, colour, compression, filtering, interlace = struct.unpack_from(
                ">IIBBBBB", head, place + 8
            )
            if depth not in PNG_KINDS.get(colour, ()) or compression or filtering or interlace > 1:
                return None
            size = width, height
        elif size is None or kind not in PLAIN_CHUNKS:
            return None
        place = end + 4
    return None
