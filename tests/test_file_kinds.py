"""Kinds of files by their first bytes, against files that other programs wrote."""

import gzip
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from data.file_kinds import is_text, kind_of


def image_bytes(format_: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, format_)
    return file.getvalue()


def zip_bytes(name: str, content: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def array_bytes() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        *((image_bytes(kind), f"a {kind} image") for kind in ("PNG", "JPEG", "TIFF", "GIF", "BMP")),
        (image_bytes("WEBP"), "a WebP image"),
        (image_bytes("JPEG2000"), "a JPEG 2000 image"),
        (image_bytes("PPM"), "a PNM image"),
        (image_bytes("ICO"), "a Windows icon"),
        (image_bytes("PDF"), "a PDF document"),
        (image_bytes("EPS"), "an EPS drawing"),
        (zip_bytes("a.txt"), "a zip archive"),
        (zip_bytes("[Content_Types].xml"), "an Excel workbook (.xlsx)"),
        (zip_bytes("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"), "an OpenDocument file"),
        (gzip.compress(b"text", mtime=0), "a gzip archive"),
        (array_bytes(), "a NumPy array"),
        (b"<svg/>", "an SVG drawing"),
        (b"\n<!DOCTYPE HTML>", "a web page (HTML)"),
    ],
)
def test_files_are_known_by_their_first_bytes(content, name):
    kind = kind_of(content)
    assert kind is not None
    assert kind.name == name
    assert kind.is_read == (name in [f"a {read} image" for read in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WebP")])


@pytest.mark.parametrize("content", [b"", b"image,x0,y0\n", b"\x01\x02\x03", b"PNG", "größe".encode()])
def test_other_bytes_are_of_no_kind(content):
    assert kind_of(content) is None


def test_text_is_printable_utf8_also_where_the_head_ends_within_a_letter():
    assert is_text(b"a" + "ä".encode() * 5000)
    assert is_text(b"tab\tand\r\nline")
    assert not is_text(b"")
    assert not is_text(b"\xff\xfea")
    assert not is_text(b"zero\x00")
