"""Image files to arrays: 8-bit gray or RGB, upright; every unreadable file is a `DataError` with its reason."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from data.errors import DataError, did_you_mean

# A list of our own: among the formats Pillow knows are some that start other programs.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")
WIDE_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
GRAY_MODES = frozenset({"1", "L", "LA", "La"})
STRETCH_PERCENTILES = (0.5, 99.5)
END_OF_JPEG = b"\xff\xd9"


def read_image(path: Path) -> np.ndarray:
    """(H, W) uint8 gray or (H, W, 3) uint8 RGB, turned upright by its EXIF or XMP orientation.

    Gray stays gray; alpha is dropped; palette and CMYK become RGB; of several pages or frames the first is read.
    Gray of 16 or 32 bits or float is mapped linearly to 0..255 from its 0.5th to its 99.5th percentile (from its least
    to its greatest value where these two are equal; a constant image is 0). Colour of 16 bits keeps its high byte.
    Raises `DataError` for a file that is missing, cut short or no image.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            orientation = _orientation(image)  # before decoding, as read_size does: tags after the pixels don't count
            pixels = _decode_jpeg(content, image.mode) if image.format in ("JPEG", "MPO") else None
            if pixels is None:
                pixels = _decode(image)
            if isinstance(image, TiffImageFile):  # some versions of Pillow have turned it upright by now
                orientation = _orientation(image)
            return _upright(pixels, orientation)
    except Exception as error:  # on bad bytes Pillow raises nearly anything
        raise _unreadable(path, error, empty=not content) from None


def read_size(path: Path) -> tuple[int, int]:
    """(width, height) in px of what `read_image` returns, from the header alone; raises `DataError` likewise."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if isinstance(image, TiffImageFile):  # its `size` is upright in some versions of Pillow
                width, height = image.tag_v2[Tag.ImageWidth], image.tag_v2[Tag.ImageLength]
            return (height, width) if _orientation(image) >= 5 else (width, height)
    except Exception as error:
        raise _unreadable(path, error, empty=Path(path).is_file() and Path(path).stat().st_size == 0) from None


def _decode_jpeg(content: bytes, mode: str) -> np.ndarray | None:
    """The faster decoder, for sound JPEGs in gray or YCbCr; None leaves the file, or its fault, to Pillow."""
    # OpenCV fills what is missing with gray and says nothing, so a file without its end mark is not for it.
    if mode not in ("L", "RGB") or END_OF_JPEG not in content[-64:]:
        return None
    color = cv2.IMREAD_GRAYSCALE if mode == "L" else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), color | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels is not None and mode == "RGB" else pixels


def _decode(image: Image.Image) -> np.ndarray:
    image.load()
    if image.mode in WIDE_MODES:
        return _stretch(np.asarray(image))
    return np.array(image.convert("L" if image.mode in GRAY_MODES else "RGB"))


def _stretch(values: np.ndarray) -> np.ndarray:
    """(H, W) of any range to uint8; not a number becomes 0."""
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(finite, STRETCH_PERCENTILES)
    if low == high:
        low, high = finite.min(), finite.max()
    if low == high:
        return np.zeros(values.shape, np.uint8)
    scaled = np.clip((values - low) / (high - low), 0, 1)
    return np.rint(np.nan_to_num(scaled) * 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright, and stands for none and for a broken EXIF block too."""
    try:
        # The base class reads the header only; the PNG class would decode all pixels in search of a late EXIF block.
        orientation = Image.Image.getexif(image).get(Tag.Orientation)
    except (AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation (EXIF 2.32, 4.6.4: where the first row and column of the file are shown)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _unreadable(path: Path, error: Exception, *, empty: bool = False) -> DataError:
    path = Path(path)
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: image not found{did_you_mean(path)}. Check the path.")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{path} is a folder, expected an image file.")
    if empty:
        return DataError(f"{path}: the file is empty (0 bytes). Copy or export it again.")
    if isinstance(error, UnidentifiedImageError):
        return DataError(f"{path}: not an image, or of a kind that is not read. Save it as PNG, JPEG, BMP or TIFF.")
    if isinstance(error, Image.DecompressionBombError):
        return DataError(f"{path}: the image is too large ({error}). Make it smaller.")
    reason = "the file ends too early" if "runcated" in str(error) else f"the image cannot be decoded ({error})"
    return DataError(f"{path}: {reason}. Copy or export it again.")
