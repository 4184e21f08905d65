"""Images against arrays written by Pillow and OpenCV, and every way in which a file can be bad."""

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.errors import DataError
from data.images import read_image, read_size

H, W = 24, 37
COLOR = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
GRAY = COLOR[..., 0]
RAMP = np.linspace(0, 255, H * W).reshape(H, W).astype(np.uint8)  # smooth, so that JPEG keeps it
# What a viewer shows for each EXIF orientation, in rotations and mirrors of the stored pixels.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(np.fliplr(a), 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.fliplr(a), -1),
    8: lambda a: np.rot90(a, 1),
}


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def assert_reads(path: Path, expected: np.ndarray, tolerance: int = 0) -> None:
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= tolerance
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert read_size(path) == (image.shape[1], image.shape[0])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("pixels", [GRAY, COLOR], ids=["gray", "color"])
def test_lossless_formats_return_the_written_pixels(tmp_path, suffix, pixels):
    assert_reads(save(tmp_path / f"ä ö{suffix}", pixels), pixels)


@pytest.mark.parametrize("pixels", [RAMP, np.dstack([RAMP, RAMP[::-1], RAMP // 2])], ids=["gray", "color"])
def test_jpeg_keeps_gray_gray_and_channels_in_rgb_order(tmp_path, pixels):
    assert_reads(save(tmp_path / "a.jpg", pixels, quality=100, subsampling=0), pixels, tolerance=4)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow_to_the_bit(tmp_path, progressive):
    path = save(tmp_path / "a.jpg", COLOR, progressive=progressive)
    assert_reads(path, np.asarray(Image.open(path)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_dropped_and_not_blended(tmp_path, suffix):
    alpha = np.full((H, W, 1), 7, np.uint8)
    assert_reads(save(tmp_path / f"rgba{suffix}", np.concatenate([COLOR, alpha], axis=2)), COLOR)
    gray_alpha = Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(alpha[..., 0])])
    gray_alpha.save(tmp_path / f"la{suffix}")
    assert_reads(tmp_path / f"la{suffix}", GRAY)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".gif"])
def test_palette_becomes_rgb(tmp_path, suffix):
    image = Image.fromarray(COLOR).quantize(16)
    image.save(tmp_path / f"p{suffix}")
    assert_reads(tmp_path / f"p{suffix}", np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_rgb(tmp_path, suffix):
    color = np.dstack([RAMP, RAMP[::-1], RAMP // 2])
    assert_reads(save(tmp_path / f"c{suffix}", color, "CMYK"), color, tolerance=0 if suffix == ".tif" else 40)


def test_black_and_white_becomes_0_and_255(tmp_path):
    assert_reads(save(tmp_path / "a.png", GRAY > 99), np.where(GRAY > 99, 255, 0))


def test_an_orientation_after_the_pixels_counts_for_neither_image_nor_size(tmp_path):
    path = save(tmp_path / "a.png", RAMP)
    exif = Image.Exif()
    exif[0x112] = 6
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\x00\x00")
    content, end = path.read_bytes()[:-12], path.read_bytes()[-12:]
    late = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    path.write_bytes(content + late + end)
    assert_reads(path, RAMP)
    assert read_size(path) == RAMP.shape[::-1]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_undone(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    color = np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
    path = save(tmp_path / f"a{suffix}", color, exif=exif, **({"subsampling": 0} if suffix == ".jpg" else {}))
    assert_reads(path, UPRIGHT[orientation](color), tolerance=12 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_impossible_orientation_counts_as_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    assert_reads(save(tmp_path / "a.png", COLOR, exif=exif), COLOR)


def test_a_broken_exif_block_counts_as_upright(tmp_path):
    assert_reads(save(tmp_path / "a.png", COLOR, exif=b"Exif\x00\x00 nonsense"), COLOR)


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, [0.5, 99.5])
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_gray_is_stretched_between_its_percentiles(tmp_path, suffix):
    wide = np.random.default_rng(1).integers(300, 4096, (H, W)).astype(np.uint16)
    wide[0, 0] = 65535  # a marker burnt into the film must not darken the rest
    path = save(tmp_path / f"a{suffix}", wide)
    assert_reads(path, stretched(wide))
    assert read_image(path)[1:].std() > 50


def with_white_at_zero(path: Path) -> Path:
    """The same TIFF with 0 as its PhotometricInterpretation (TIFF 6.0, section 8): WhiteIsZero."""
    content = bytearray(path.read_bytes())
    order = "little" if content[:2] == b"II" else "big"
    first = int.from_bytes(content[4:8], order)
    for entry in range(first + 2, first + 2 + 12 * int.from_bytes(content[first : first + 2], order), 12):
        if int.from_bytes(content[entry : entry + 2], order) == 262:
            content[entry + 8 : entry + 10] = bytes(2)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_tiff_with_white_at_0_is_the_negative_of_one_with_black(tmp_path, kind):
    values = np.random.default_rng(1).integers(0, 256, (H, W)).astype(kind)
    black = read_image(save(tmp_path / "a.tif", values))
    assert_reads(with_white_at_zero(save(tmp_path / "b.tif", values)), 255 - black.astype(int), tolerance=1)


def test_a_constant_16_bit_tiff_with_white_at_0_is_black_too(tmp_path):
    path = with_white_at_zero(save(tmp_path / "a.tif", np.full((H, W), 1234, np.uint16)))
    assert_reads(path, np.zeros((H, W)))


def test_float_gray_is_stretched_and_nan_is_black(tmp_path):
    values = np.random.default_rng(2).normal(size=(H, W)).astype(np.float32)
    assert_reads(save(tmp_path / "a.tif", values), stretched(values), tolerance=1)
    values[3, 4] = np.nan
    image = read_image(save(tmp_path / "b.tif", values))
    assert image[3, 4] == 0
    assert image.max() == 255


@pytest.mark.parametrize("value", [0, 1234, 65535])
def test_a_constant_16_bit_image_is_black(tmp_path, value):
    assert_reads(save(tmp_path / "a.png", np.full((H, W), value, np.uint16)), np.zeros((H, W)))


def test_a_few_bright_pixels_on_a_constant_ground_survive(tmp_path):
    wide = np.full((H, W), 1000, np.uint16)
    wide[5, 5] = 3000
    assert_reads(save(tmp_path / "a.png", wide), np.where(wide == 3000, 255, 0))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_color_keeps_its_high_byte(tmp_path, suffix):
    wide = np.random.default_rng(3).integers(0, 65536, (H, W, 3), dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), wide[..., ::-1])
    assert_reads(tmp_path / f"a{suffix}", wide >> 8)


@pytest.mark.parametrize("suffix", [".tif", ".gif"])
def test_of_many_pages_the_first_is_read(tmp_path, suffix):
    pages = [Image.fromarray(GRAY), Image.fromarray(GRAY[::-1])]
    pages[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=pages[1:])
    expected = GRAY if suffix == ".tif" else np.dstack([GRAY] * 3)
    image = read_image(tmp_path / f"a{suffix}")
    assert np.array_equal(image if image.ndim == expected.ndim else np.dstack([image] * 3), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".gif"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
@pytest.mark.parametrize("read", [read_image, read_size])
def test_a_file_cut_short_is_an_error_that_says_so(tmp_path, capfd, suffix, kept, read):
    path = save(tmp_path / f"cut{suffix}", COLOR)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=rf"cut{suffix}: the file ends too early"):
        read(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kept", [1, 20, 500])
def test_the_end_of_a_thumbnail_is_not_the_end_of_its_jpeg(tmp_path, kept):
    thumbnail = save(tmp_path / "thumbnail.jpg", COLOR[:8, :8]).read_bytes()
    content = save(tmp_path / "a.jpg", COLOR).read_bytes()
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = content[:2] + header + content[2:]
    (tmp_path / "a.jpg").write_bytes(whole)
    assert read_size(tmp_path / "a.jpg") == (W, H)
    first_scan = whole.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(whole[: first_scan + 20 + kept])
    with pytest.raises(DataError, match=r"a\.jpg: the file ends too early"):
        read_size(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".gif", ".webp"])
def test_bytes_after_the_end_of_a_file_do_no_harm(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", COLOR)
    whole = read_image(path)
    path.write_bytes(path.read_bytes() + b"more" * 3000)
    assert_reads(path, whole)


def test_a_jpeg_with_bytes_after_its_end_is_read(tmp_path):
    path = save(tmp_path / "a.jpg", COLOR)
    whole = read_image(path)
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert_reads(path, whole)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged TIFF tags
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_no_damage_leads_to_anything_but_an_image_or_a_data_error(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", COLOR[:12, :12])
    content = path.read_bytes()
    rng = np.random.default_rng(4)
    for _ in range(60):
        damaged = bytearray(content[: rng.integers(1, len(content) + 1)])
        for place in rng.integers(0, len(damaged), 4):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        for read in (read_image, read_size):
            try:
                read(path)
            except DataError as error:
                assert path.name in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("read", [read_image, read_size])
def test_an_image_that_may_not_be_read_is_an_error_that_says_so(tmp_path, read):
    path = save(tmp_path / "a.png", GRAY)
    path.chmod(0)
    with pytest.raises(DataError, match=r"a\.png: the image cannot be read \(Permission denied\)"):
        read(path)


@pytest.mark.parametrize("read", [read_image, read_size])
def test_what_is_no_image_is_an_error_that_names_file_and_reason(tmp_path, read):
    save(tmp_path / "scan_01.png", GRAY)
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    for name, reason in {
        "text.png": "not an image",
        "empty.png": "the file is empty",
        "folder.png": "is a folder",
        "scan_1.png": r"not found \(did you mean scan_01.png\?\)",
    }.items():
        with pytest.raises(DataError, match=rf"{name}.*{reason}"):
            read(tmp_path / name)
