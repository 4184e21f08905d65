"""JPEGs decoded at a part of their size, against the same files decoded whole and spots drawn at known places."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_images import UPRIGHT
from test_tables import real

from data.datasets import LandmarkDataset
from data.errors import DataError
from data.fitting import fitted, least_size
from data.geometry import WHOLE, Region, apply, fit_image
from data.image_files import ImageFiles
from data.image_list import list_of_images
from data.images import Picture, decode_image, read_content, read_image
from data.preprocessing import Preprocessing
from data.records import LandmarkRecords

HIGH, WIDE = 64, 48  # of the input
GROUND = 20


def spots(size: tuple[int, int], points: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W) of an image of `size` (width, height) with a soft spot at each of the points (n, 2)."""
    across = np.exp(-((np.arange(size[0]) - points[:, :1]) ** 2) / (2 * sigma**2))
    down = np.exp(-((np.arange(size[1]) - points[:, 1:]) ** 2) / (2 * sigma**2))
    return np.rint(GROUND + 200 * np.einsum("nh,nw->hw", down, across).clip(0, 1)).astype(np.uint8)


def centres(image: np.ndarray, points: np.ndarray, reach: int = 8) -> np.ndarray:
    """Centres of mass (n, 2) of what is brighter than the ground around the points (n, 2) of (H, W)."""
    found = []
    for x, y in np.rint(points).astype(int):
        rows, columns = np.mgrid[y - reach : y + reach + 1, x - reach : x + reach + 1]
        weights = np.maximum(image[rows, columns].astype(float) - GROUND - 2, 0)
        found.append([(weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()])
    return np.array(found)


def jpeg(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, quality=95, **options)
    return path


def reduced(path: Path, size: tuple[int, int] = (WIDE, HIGH), fit: str = "stretch", region: Region = WHOLE) -> Picture:
    return decode_image(path, read_content(path), least_size(size[::-1], fit, region))


def laid(picture: Picture, fit: str = "stretch") -> np.ndarray:
    """The picture as large as the input."""
    placed = fit_image(picture.size, (HIGH, WIDE), fit)
    return fitted(picture, placed, placed.part((HIGH, WIDE)))


def whole(path: Path) -> Picture:
    pixels = read_image(path)
    return Picture(pixels, (pixels.shape[1], pixels.shape[0]))


@pytest.mark.parametrize("colour", [False, True], ids=["gray", "colour"])
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("rest", range(8))
def test_spots_lie_where_they_do_in_the_whole_image_whatever_the_rest_of_the_width(tmp_path, rest, factor, colour):
    size = (8 * int(WIDE * factor * 1.2 / 8) + rest, 8 * int(HIGH * factor * 1.2 / 8) + (rest * 3) % 8)
    points = np.array([[0.25, 0.3], [0.75, 0.7], [0.7, 0.25]]) * size + np.random.default_rng(rest).uniform(
        -2, 2, (3, 2)
    )
    pixels = spots(size, points, sigma=2.5 * factor)
    if colour:
        pixels = np.dstack([pixels, pixels // 2 + 90, 255 - pixels])
    path = jpeg(tmp_path / "a.jpg", pixels, **({"subsampling": 0} if colour else {}))
    picture = reduced(path)
    assert (picture.factor, picture.size) == (factor, size)
    assert picture.pixels.shape[:2] == (-(-size[1] // factor), -(-size[0] // factor))
    small, full = laid(picture), laid(whole(path))
    assert small.shape == full.shape == ((HIGH, WIDE, 3) if colour else (HIGH, WIDE))
    if colour:
        small, full = small[..., 0], full[..., 0]
    places = apply(fit_image(size, (HIGH, WIDE), "stretch").affine, points)
    np.testing.assert_allclose(centres(small, places), centres(full, places), rtol=0, atol=0.02)
    np.testing.assert_allclose(centres(small, places), places, rtol=0, atol=0.03)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("size", [(480, 640), (483, 645)], ids=["whole", "rest"])
def test_turned_photos_are_reduced_only_where_no_row_or_column_is_cut(tmp_path, orientation, size):
    points = np.array([[0.25, 0.3], [0.75, 0.7], [0.7, 0.25]]) * size
    exif = Image.Exif()
    exif[0x112] = orientation
    path = jpeg(tmp_path / "a.jpg", spots(size, points, sigma=28), exif=exif)
    picture = reduced(path)
    turned = UPRIGHT[orientation](np.zeros(size[::-1])).shape[::-1]
    assert picture.size == turned
    assert picture.factor == (1 if orientation != 1 and size[0] % 2 else 8 if turned == size else 4)
    np.testing.assert_allclose(laid(picture).astype(int), laid(whole(path)).astype(int), rtol=0, atol=4)


NEEDED = {(52, 70): 1, (105, 141): 1, (106, 140): 1, (106, 141): 2, (211, 1000): 2, (1000, 281): 2, (500, 600): 8}


@pytest.mark.parametrize(("size", "factor"), NEEDED.items())
def test_an_image_is_reduced_as_long_as_a_tenth_more_than_the_input_is_left_along_both_axes(tmp_path, size, factor):
    path = jpeg(tmp_path / "a.jpg", np.zeros(size[::-1], np.uint8))
    assert reduced(path).factor == factor


def test_a_region_of_an_image_leaves_less_to_reduce(tmp_path):
    path = jpeg(tmp_path / "a.jpg", np.zeros((640, 480), np.uint8))
    half = Region(0.25, 0.25, 0.75, 0.75)
    assert [reduced(path, fit="letterbox", region=region).factor for region in (WHOLE, half)] == [8, 4]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.jpg"])
def test_what_is_no_jpeg_of_gray_or_of_three_colours_is_read_whole(tmp_path, name):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (640, 480, 3), dtype=np.uint8))
    (image.convert("CMYK") if name == "a.jpg" else image).save(tmp_path / name)
    picture = reduced(tmp_path / name)
    assert (picture.factor, picture.size) == (1, (480, 640))
    np.testing.assert_array_equal(picture.pixels, read_image(tmp_path / name))


@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_a_jpeg_that_is_cut_short_is_told_as_when_it_is_read_whole(tmp_path, kept):
    content = jpeg(tmp_path / "a.jpg", spots((480, 640), np.array([[200.0, 300.0]]), 30)).read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: int(kept * len(content))])
    told = []
    for read in (read_image, reduced):
        with pytest.raises(DataError, match=r"a\.jpg: the file ends too early") as error:
            read(tmp_path / "a.jpg")
        told.append(str(error.value))
    assert told[0] == told[1]


def records_of(path: Path, size: tuple[int, int], points: np.ndarray, region: Region = WHOLE) -> LandmarkRecords:
    return LandmarkRecords(
        image_names=[path.name],
        landmark_names=[str(number) for number in range(len(points))],
        points=points[None],
        sizes=np.array([size]),
        pixel_spacing_mm=np.array([0.1]),
        splits=np.array(["train"]),
        read=ImageFiles([path]),
        region=region,
    )


@pytest.mark.parametrize("region", [WHOLE, Region(0.2, 0.2, 0.85, 0.8)], ids=["whole", "region"])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_what_is_predicted_is_what_was_validated(tmp_path, fit, region):
    size, points = (601, 803), np.array([[210.0, 300], [390, 500]])
    path = jpeg(tmp_path / "a.jpg", spots(size, points, sigma=14))
    dataset = LandmarkDataset(
        records_of(path, size, points, region), input_size=(HIGH, WIDE), fit=fit, augmentation=None, seed=0, cache_gb=0
    )
    sample = dataset[0, 0]
    preprocessing = Preprocessing((HIGH, WIDE), fit, region)
    picture = list_of_images(str(path)).read_reduced(0, preprocessing.least)
    assert picture.factor > 1
    views, affines = preprocessing.views(picture)
    np.testing.assert_array_equal(views[0], sample["image"].numpy())
    np.testing.assert_array_equal(affines[0], sample["affine"].numpy())
    places = sample["points"].numpy().astype(float)
    np.testing.assert_allclose(centres(views[0][0], places, reach=5), places, rtol=0, atol=0.05)


@pytest.mark.parametrize("size", [(480, 640), (50, 60), (30, 40)])  # much reduced, not reduced, enlarged
def test_an_x_ray_in_three_equal_channels_is_the_same_as_in_one(tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 256, size[::-1], dtype=np.uint8)
    gray, equal = Picture(pixels, size), Picture(np.dstack([pixels] * 3), size)
    assert laid(equal).shape == (HIGH, WIDE)
    np.testing.assert_array_equal(laid(equal), laid(gray))
    tinted = np.dstack([pixels] * 3)
    tinted[-1, -1, 2] ^= 1  # in no row that is looked at first
    assert laid(Picture(tinted, size)).shape == (HIGH, WIDE, 3)
    np.testing.assert_array_equal(laid(Picture(tinted, size))[..., 0], laid(gray))


@pytest.mark.real_data
def test_reduced_x_rays_differ_from_whole_ones_by_a_gray_level():
    size = (413, 512)
    paths = sorted((real("ceph_full") / "images").glob("*.jpg"))[:3]
    for path in paths:
        picture, full = reduced(path, size), whole(path)
        assert picture.factor == 4
        fit = fit_image(picture.size, size[::-1], "stretch")
        lay = partial(fitted, fit=fit, part=fit.part(size[::-1]))
        assert np.abs(lay(picture).astype(int) - lay(full)).mean() < 1.0


def test_bytes_of_a_jpeg_are_all_that_is_decoded(tmp_path):
    path = jpeg(tmp_path / "a.jpg", spots((480, 640), np.array([[200.0, 300.0]]), 30))
    content = path.read_bytes()
    path.unlink()
    np.testing.assert_array_equal(decode_image(path, content).pixels, np.asarray(Image.open(io.BytesIO(content))))
