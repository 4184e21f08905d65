"""Sizes from the first bytes of a file, against Pillow's, of sound files and of thousands of damaged ones."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data.errors import DataError
from data.images import read_image, read_size
from data.quick_headers import quick_size

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 37, 3), dtype=np.uint8)
PLAIN = {
    "gray JPEG": ("L", "JPEG", {}),
    "colour JPEG": ("RGB", "JPEG", {"dpi": (300, 300), "comment": b"a hand"}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True}),
    "CMYK JPEG": ("CMYK", "JPEG", {}),
    "gray PNG": ("L", "PNG", {"dpi": (100, 100)}),
    "colour PNG": ("RGB", "PNG", {}),
    "PNG with a palette": ("P", "PNG", {}),
    "PNG with alpha": ("RGBA", "PNG", {}),
    "black and white PNG": ("1", "PNG", {}),
}


def save(path: Path, kind: str) -> bytes:
    mode, form, options = PLAIN[kind]
    Image.fromarray(PIXELS).convert(mode).save(path, format=form, **options)
    return path.read_bytes()


@pytest.mark.parametrize("kind", PLAIN)
def test_an_ordinary_file_tells_its_size_at_once(tmp_path, kind):
    save(tmp_path / "a", kind)
    assert quick_size(str(tmp_path / "a")) == (37, 24) == read_image(tmp_path / "a").shape[1::-1]


def exif() -> Image.Exif:
    turned = Image.Exif()
    turned[0x112] = 6
    return turned


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "MPO"])
def test_what_may_be_turned_or_is_of_another_kind_is_left_to_pillow(tmp_path, form):
    told = {"exif": exif()} if form not in ("BMP", "GIF") else {}
    Image.fromarray(PIXELS).save(tmp_path / "a", format=form, **told)
    assert quick_size(str(tmp_path / "a")) is None
    turned = form not in ("BMP", "GIF")
    assert read_size(tmp_path / "a") == ((24, 37) if turned else (37, 24)) == read_image(tmp_path / "a").shape[1::-1]


def test_words_in_a_png_are_left_to_pillow(tmp_path):
    words = PngInfo()
    words.add_text("XML:com.adobe.xmp", "<x tiff:Orientation='6'/>", zip=True)
    Image.fromarray(PIXELS).save(tmp_path / "a", format="PNG", pnginfo=words)
    assert quick_size(str(tmp_path / "a")) is None


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged files
@pytest.mark.parametrize("kind", PLAIN)
def test_of_a_damaged_file_it_says_what_pillow_says_or_nothing(tmp_path, kind):
    content = save(tmp_path / "a", kind)
    rng = np.random.default_rng(1)
    told = 0
    for turn in range(400):
        damaged = bytearray(content[: rng.integers(1, len(content))] if turn % 4 == 0 else content)
        for place in rng.integers(0, min(len(damaged), 700), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "a").write_bytes(damaged)
        found = quick_size(str(tmp_path / "a"))
        if found is not None:
            told += 1
            with Image.open(tmp_path / "a", formats=("JPEG", "PNG")) as image:
                assert found == image.size
                assert Image.Image.getexif(image).get(0x112, 1) == 1  # of the header alone
    assert (told > 20) == (kind != "PNG with a palette")  # whose first 700 bytes have checksums, all of them


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_file_that_is_cut_short_is_told_as_ever(tmp_path, kind, kept):
    content = save(tmp_path / "a", kind)
    (tmp_path / "a").write_bytes(content[: int(kept * len(content))])
    assert quick_size(str(tmp_path / "a")) is None
    with pytest.raises(DataError, match="the file ends too early"):
        read_size(tmp_path / "a")


def test_a_header_like_the_last_one_tells_its_own_size(tmp_path):
    """Alike but for the size, alike in another coding, and alike up to a damage: each as if it were the first."""
    sizes = [(37, 24), (24, 37), (600, 1), (37, 24)]
    for number, (width, height) in enumerate(sizes):
        Image.fromarray(np.resize(PIXELS, (height, width, 3))).save(tmp_path / f"{number}.jpg")
        Image.fromarray(np.resize(PIXELS, (height, width))).save(tmp_path / f"gray{number}.jpg", quality=90)
    for name in ("{}.jpg", "gray{}.jpg", "{}.jpg"):
        assert [quick_size(str(tmp_path / name.format(number))) for number in range(4)] == sizes
    content = (tmp_path / "0.jpg").read_bytes()
    frame, scan = content.index(b"\xff\xc0"), content.index(b"\xff\xda")
    for place in (frame + 4, frame + 9, scan - 1, scan + 2):  # precision, channels, the last table, the scan's length
        quick_size(str(tmp_path / "1.jpg"))
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        (tmp_path / "damaged").write_bytes(damaged)
        after_alike = quick_size(str(tmp_path / "damaged"))
        quick_size(str(tmp_path / "gray1.jpg"))
        assert quick_size(str(tmp_path / "damaged")) == after_alike
    (tmp_path / "damaged").write_bytes(content[: frame + 5] + b"\0\0" + content[frame + 7 :])  # no height
    assert quick_size(str(tmp_path / "damaged")) is None


def test_a_pipe_is_not_read_as_an_image(tmp_path):
    content = save(tmp_path / "a", "gray JPEG")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe or a device, expected an image file"):
        read_size(tmp_path / "pipe")
    held = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(held, content)
        assert quick_size(str(tmp_path / "pipe")) is None
    finally:
        os.close(held)
    assert quick_size(str(tmp_path)) is None
    with pytest.raises(DataError, match="is a folder, expected an image file"):
        read_size(tmp_path)
