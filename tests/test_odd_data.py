"""Tables and images that look odd and are fine: they are read, and train."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_faults import LANDMARKS, POINTS, draw, labels, photos, points, read_data, rows
from faults import run_main
from PIL import Image

TEXT = rows(POINTS)
SHORT = ("phases.frozen.epochs=1", "phases.finetune.epochs=1")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace(",", "|").encode(),
        b"sep=;\r\n" + TEXT.replace(",", ";").encode(),
        TEXT.replace("\n", "\n\n,,\n").encode(),
    ],
    ids=["byte order mark", "Windows", "old Mac", "semicolons", "tabs", "bars", "sep=", "blank rows"],
)
def test_every_way_to_write_a_table_gives_the_same_records(tmp_path: Path, content: bytes) -> None:
    records = read_data(points(content)(tmp_path), tmp_path).records
    assert records.image_names == [f"{index}.png" for index in range(6)]
    assert records.points[:, 0].tolist() == [[10 + index, 20 + index] for index in range(6)]


def test_quoted_decimal_commas_are_read_where_all_numbers_agree(tmp_path: Path) -> None:
    text = rows([f'"1{index},5","20,125"' for index in range(6)])
    assert read_data(points(text)(tmp_path), tmp_path).records.points[3, 0].tolist() == [13.5, 20.125]


def test_names_with_any_letters_are_found(tmp_path: Path) -> None:
    names = ["a b=c[1].png", "x,y.png", "müller~.png", "$HOME#%.png", "it's.png"]

    def copy(folder: Path) -> None:
        for name in names:
            shutil.copy(folder / "0.png", folder / name)

    text = TEXT + "".join(f'"{name}",1,2\n' for name in names)
    records = read_data(points(text, before=copy)(tmp_path), tmp_path).records
    assert records.image_names[6:] == names
    assert all(records.read(index).shape == (50, 60) for index in range(11))


def test_paths_outside_the_root_are_read_where_this_is_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    draw(tmp_path, 1)
    arrange = points(TEXT + "../0.png,1,2\n", "data.allow_outside_root=true")
    assert read_data(arrange(folder), folder).records.read(6).shape == (50, 60)


def test_points_beside_their_image_are_told_and_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = rows(["1,2,70,30", "1,2,3,4"] * 3, "image,x0,y0,x1,y1")
    assert read_data(points(text)(tmp_path), tmp_path).records.points[0, 1].tolist() == [70, 30]
    assert "points.csv: 3 points lie outside their image, the first on line 2: landmark 1 at (70, 30)" in caplog.text


def test_a_class_with_one_image_trains_it(tmp_path: Path) -> None:
    records = read_data(labels(rows("aabbbc", "image,label"))(tmp_path), tmp_path).records
    assert records.splits[5] == "train"


def test_links_and_other_files_do_no_harm_to_a_folder_of_classes(tmp_path: Path) -> None:
    def litter(folder: Path) -> None:
        for name in (".DS_Store", "a/Thumbs.db", "a/._0.png", "b/notes.txt"):
            (folder / name).touch()
        (folder / "a/up").symlink_to("..")
        (folder / "a/self").symlink_to("self")
        (folder / "a/x.png").mkdir()

    records = read_data(photos("a", "b", before=litter)(tmp_path), tmp_path).records
    assert records.image_names == [f"{name}/{index}.png" for name in "ab" for index in range(3)]


def odd_images(folder: Path) -> list[str]:
    """Images of every odd kind; each with a name that says which."""
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    gray, colour = Image.fromarray(noise[..., 0]), Image.fromarray(noise)
    again = {"save_all": True, "append_images": [Image.fromarray(noise[::-1, :, 0])]}
    turned = Image.Exif()
    turned[0x112] = 6
    wide = noise[..., 0].astype(np.uint16) * 200
    kinds = {
        "pixel.png": (gray.crop((0, 0, 1, 1)), {}),
        "strip.png": (Image.fromarray(np.tile(noise[:4, :, 0], (1, 500))), {}),
        "wide.png": (Image.fromarray(wide), {}),
        "wide.tif": (Image.fromarray(wide), {}),
        "float.tif": (Image.fromarray(wide.astype(np.float32)), {}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
        "palette.png": (colour.quantize(16), {"transparency": 0}),
        "alpha.png": (gray.convert("LA"), {}),
        "bits.tif": (gray.convert("1"), {"compression": "group4"}),
        "moving.gif": (gray, again),
        "moving.webp": (gray, again),
        "moving.png": (gray, again),
        "pages.tif": (gray, again),
        "turned.jpg": (colour, {"exif": turned}),
        "png inside.jpg": (colour, {"format": "PNG"}),
    }
    for name, (picture, options) in kinds.items():
        picture.save(folder / name, **options)
    assert cv2.imwrite(str(folder / "wide colour.png"), noise.astype(np.uint16) * 200)
    return [*kinds, "wide colour.png"]


def test_odd_images_train_in_one_batch_larger_than_their_split(tmp_path: Path) -> None:
    names = odd_images(tmp_path)
    (tmp_path / "points.csv").write_text("\n".join(["image,x0,y0", *(f"{name},0,0" for name in names)]))
    ended = run_main(*LANDMARKS, *SHORT, "data.batch_size=500", "data.cache_gb=0", folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")


def test_a_single_landmark_has_a_range_test(tmp_path: Path) -> None:
    """It lies on a bright square; one row misses it."""
    cells = []
    for index in range(12):
        pixels, x, y = np.zeros((64, 64), np.uint8), 12 + 3 * index, 50 - 3 * index
        pixels[y - 4 : y + 5, x - 4 : x + 5] = 255
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        cells.append(f"{x},{y}" if index else ",")
    (tmp_path / "points.csv").write_text(rows(cells))
    ended = run_main(*LANDMARKS, *SHORT, "range_test=only", "range_test.num_steps=60", folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")


def test_a_single_image_trains_without_validation(tmp_path: Path) -> None:
    ended = run_main(*points(rows(["1,2"]))(tmp_path), *SHORT, "data.val_fraction=0", folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")
