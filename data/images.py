"""Image files to arrays: 8-bit gray or RGB, upright, whole or reduced; every unreadable file is a `DataError` with its
reason."""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from data.errors import DataError, did_you_mean
from data.file_kinds import HEAD_BYTES, is_text, kind_of, link_fault, require_regular_file
from data.image_ends import is_whole
from data.quick_headers import quick_size

# A list of our own: among the formats Pillow knows are some that start other programs.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")
WIDE_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
GRAY_MODES = frozenset({"1", "L", "LA", "La"})
STRETCH_PERCENTILES = (0.5, 99.5)
END_OF_JPEG = b"\xff\xd9"
MAX_MEGAPIXELS = 178  # Pillow's own limit
# Decoders of JPEG give an image at these parts of its size for less than they need for the whole.
REDUCED = {
    8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
    4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
    2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
}
SPARE = 1.1  # times what is needed that a reduced image has to have, so that a resize still averages

Size = tuple[int, int]  # width, height

# Its warnings of odd tags and of large images name no file; what can't be read is told by DataError.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Picture:
    """An image of `size` (width, height) px, upright: (H, W) uint8 gray or (H, W, 3) uint8 RGB pixels.

    Each pixel is the mean of `factor` x `factor` px of the image, from its first row and column on. Those of the last
    row and column may have fewer of them in the image.
    """

    pixels: np.ndarray
    size: Size
    factor: int = 1


def read_image(path: Path) -> np.ndarray:
    """(H, W) uint8 gray or (H, W, 3) uint8 RGB, turned upright by its EXIF or XMP orientation.

    Gray stays gray; alpha is dropped; palette and CMYK become RGB; of several pages or frames the first is read.
    Gray of 16 or 32 bits or float is mapped linearly to 0..255 from its 0.5th to its 99.5th percentile (from its least
    to its greatest value where these two are equal; a constant image is 0). A TIFF may have white at 0.
    Colour of 16 bits keeps its high byte.
    Raises `DataError` for a file that is missing, cut short or no image.
    """
    return decode_image(path, read_content(path)).pixels


def read_content(path: Path) -> bytes:
    """What `decode_image` takes; raises `DataError` for a file that is missing or may not be read."""
    try:
        require_regular_file(path, "an image file")
        return Path(path).read_bytes()
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(path, error, b"") from None


def decode_image(path: Path, content: bytes, least: Callable[[Size], Size] | None = None) -> Picture:
    """What `read_image` gives of the content of `path`, or of a JPEG the same reduced.

    least: is given the size of an image, and gives the least (width, height) that is of use; None wants it whole.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            orientation = _orientation(image)  # before decoding, as read_size does: tags after the pixels don't count
            pixels, factor = None, 1
            if image.format in ("JPEG", "MPO"):
                factor = 1 if least is None else _factor(image.size, orientation, least)
                pixels = _decode_jpeg(content, image.mode, image.size, factor)
            if pixels is None:
                pixels, factor = _decode(image), 1
            if isinstance(image, TiffImageFile):  # some versions of Pillow have turned it upright by now
                orientation = _orientation(image)
            upright = _upright(pixels, orientation)
            whole = _turned(image.size, orientation) if factor > 1 else (upright.shape[1], upright.shape[0])
            return Picture(upright, whole, factor)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # on bad bytes Pillow raises nearly anything
        raise _unreadable(path, error, content) from None


def read_size(path: Path | str) -> tuple[int, int]:
    """(width, height) in px of what `read_image` returns, from the header; raises `DataError` likewise.

    A file whose end is missing is an error here too. Damage within is not looked for.
    """
    try:
        return quick_size(str(path)) or _opened_size(path)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(Path(path), error, b"") from None


def _opened_size(path: Path | str) -> tuple[int, int]:
    head = b""
    try:
        require_regular_file(path, "an image file")
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if isinstance(image, TiffImageFile):  # its `size` is upright in some versions of Pillow
                    width, height = image.tag_v2[Tag.ImageWidth], image.tag_v2[Tag.ImageLength]
                orientation = _orientation(image)
                if not is_whole(image, path):
                    image.load()
            return _turned((width, height), orientation)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(Path(path), error, head) from None


def _factor(stored: Size, orientation: int, least: Callable[[Size], Size]) -> int:
    """By how much a JPEG of this size, before it is turned, may be reduced."""
    needed = _turned(least(_turned(stored, orientation)), orientation)
    for factor in REDUCED:
        # The last column and row may hold fewer px than the others; turned, they could become the first.
        fits = orientation == 1 or all(length % factor == 0 for length in stored)
        if fits and all(length / factor >= SPARE * least for length, least in zip(stored, needed, strict=True)):
            return factor
    return 1


def _decode_jpeg(content: bytes, mode: str, size: Size, factor: int) -> np.ndarray | None:
    """The faster decoder, for sound JPEGs in gray or YCbCr; None leaves the file, or its fault, to Pillow."""
    # OpenCV fills what is missing with gray and says nothing, so a file without its end mark is not for it.
    if mode not in ("L", "RGB") or END_OF_JPEG not in content[-64:]:
        return None
    in_gray, in_color = REDUCED.get(factor, (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR))
    kind = in_gray if mode == "L" else in_color
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), kind | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if pixels is None or pixels.shape[1::-1] != tuple(-(-length // factor) for length in size):
        return None
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if mode == "RGB" else pixels


def _decode(image: Image.Image) -> np.ndarray:
    white_is_zero = isinstance(image, TiffImageFile) and image.tag_v2.get(Tag.PhotometricInterpretation) == 0
    image.load()
    if image.mode in WIDE_MODES:
        values = np.asarray(image)
        return _stretch(-values.astype(np.float64) if white_is_zero else values)  # of 8 bits, Pillow turns it itself
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


def _turned(size: Size, orientation: int) -> Size:
    """The size of an image once it is turned upright, or the other way round."""
    return (size[1], size[0]) if orientation >= 5 else size


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation (EXIF 2.32, 4.6.4: where the first row and column of the file are shown)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _unreadable(path: Path, error: Exception, content: bytes) -> DataError:
    """What to tell about a file that begins with `content`, as far as it could be read."""
    path = Path(path)
    again = "Copy or export it again."
    if (fault := link_fault(str(path))) is not None:
        return DataError(f"{path}: the image {fault}. Mend the link.")
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: image not found{did_you_mean(path)}. Check the path.")
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return DataError(f"{path}: the image cannot be read ({error.strerror}). Check the path and who may read it.")
    if not content:
        return DataError(f"{path}: the file is empty (0 bytes). {again}")
    if isinstance(error, UnidentifiedImageError):
        return DataError(f"{path}: {_not_an_image(content)}")
    if isinstance(error, Image.DecompressionBombError):
        size = re.search("[0-9]+", str(error))
        pixels = f"{int(size[0]) / 1e6:.0f} million pixels" if size else "more pixels than are read"
        return DataError(f"{path}: the image is too large ({pixels}). Make it smaller than {MAX_MEGAPIXELS} million.")
    reason = "the file ends too early" if "runcated" in str(error) else f"the image cannot be decoded ({error})"
    return DataError(f"{path}: {reason}. {again}")


def _not_an_image(content: bytes) -> str:
    usual = "Save it as PNG, JPEG, BMP or TIFF."
    kind = kind_of(content)
    if kind is None:
        if is_text(content):
            return "not an image but text. Put the image in its place."
        return f"not an image, or of a kind that is not read. {usual}"
    if kind.is_read:
        return (
            f"begins as {kind.name} but is cut short, or of a variety that is not read. Copy it again, or save it anew."
        )
    return f"this is {kind.name}, which is not read. {kind.advice or usual}"
