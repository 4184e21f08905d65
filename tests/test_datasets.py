"""Samples against spots drawn at known places: pixels, landmarks and affine must tell the same story."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from data.augmentation import Augmentation
from data.datasets import LandmarkDataset, mean_shape, mean_shape_in_input, to_original
from data.geometry import WHOLE, Region, apply, invert
from data.records import LandmarkRecords

NAN = float("nan")
NOTHING = {
    "rotate_degrees": 0.0,
    "scale": 0.0,
    "shift": 0.0,
    "shear_degrees": 0.0,
    "flip": 0.0,
    "flip_pairs": [],
    "brightness": 0.0,
    "contrast": 0.0,
    "gamma": 0.0,
    "clahe": 0.0,
    "noise": 0.0,
    "dropout_holes": 0,
    "dropout_size": 0.2,
}
MOVES = {"rotate_degrees": 25.0, "scale": 0.2, "shift": 0.05, "shear_degrees": 10.0}
EXPOSURE = {"brightness": 0.3, "contrast": 0.3, "gamma": 0.3, "clahe": 0.5, "noise": 0.1, "dropout_holes": 4}
SIDES = [(0, 1)]  # landmark 0 is the left one, 1 the right one, 2 lies in the middle
SIZES = [(120, 150), (64, 48), (61, 33), (301, 180), (90, 200)]


def augmentation(**magnitudes) -> Augmentation:
    return Augmentation(**{**NOTHING, **magnitudes})


def records_of(images: list[np.ndarray], points: np.ndarray, splits=None, read=None, region=WHOLE) -> LandmarkRecords:
    count = len(images)
    return LandmarkRecords(
        image_names=[f"{index}.png" for index in range(count)],
        landmark_names=[str(landmark) for landmark in range(points.shape[1])],
        points=points,
        sizes=np.array([image.shape[1::-1] for image in images]),
        pixel_spacing_mm=np.linspace(0.1, 0.2, count),
        splits=np.array(["train"] * count if splits is None else splits),
        read=read or images.__getitem__,
        region=region,
    )


def dataset_of(records: LandmarkRecords, **options) -> LandmarkDataset:
    defaults = {"input_size": (96, 80), "fit": "letterbox", "augmentation": None, "seed": 7, "cache_gb": 0.0}
    return LandmarkDataset(records, **{**defaults, **options})


def noise_records(count: int, size: tuple[int, int] = (40, 30)) -> LandmarkRecords:
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (count, size[1], size[0]), dtype=np.uint8))
    return records_of(images, rng.uniform(5, 25, (count, 3, 2)))


def spots(size: tuple[int, int], input_size: tuple[int, int], rng: np.random.Generator) -> LandmarkRecords:
    """One image with a spot in each colour channel: red on landmark 0, green on 1, blue on 2."""
    middle = (np.array(size) - 1) / 2
    sigma = np.maximum(np.array(size) / input_size[::-1], 1) * 1.6
    points = middle + np.array([[-0.14, 0.05], [0.14, 0.0], [0.0, -0.12]]) * size + rng.uniform(-0.5, 0.5, (3, 2))
    across = np.exp(-((np.arange(size[0]) - points[:, :1]) ** 2) / (2 * sigma[0] ** 2))
    down = np.exp(-((np.arange(size[1]) - points[:, 1:]) ** 2) / (2 * sigma[1] ** 2))
    image = np.rint(250 * down[:, :, None] * across[:, None, :]).astype(np.uint8)
    return records_of([np.ascontiguousarray(image.transpose(1, 2, 0))], points[None])


def centroids(image: torch.Tensor) -> np.ndarray:
    """(3, 2) centre of mass of each channel of a (3, H, W) sample."""
    weights = image.numpy().astype(np.float64)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    across, down = weights.sum(axis=1), weights.sum(axis=2)
    return np.stack([across @ np.arange(weights.shape[2]), down @ np.arange(weights.shape[1])], axis=1)


@pytest.mark.parametrize("region", [WHOLE, Region(0.2, 0.15, 0.85, 0.8)], ids=["whole", "region"])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_points_and_affine_of_plain_and_moved_samples_agree(size, fit, region):
    rng = np.random.default_rng(size)
    moved = augmentation(**MOVES, flip=0.5, flip_pairs=SIDES)
    mirrored = []
    for chosen in (None, *[moved] * 6):
        records = replace(spots(size, (96, 80), rng), region=region)
        sample = dataset_of(records, fit=fit, augmentation=chosen, seed=int(rng.integers(1000)))[3, 0]
        seen, affine = centroids(sample["image"]), sample["affine"].numpy()
        truth = records.points[0]
        np.testing.assert_allclose(seen, apply(affine, truth), rtol=0, atol=0.05)
        np.testing.assert_allclose(apply(invert(affine), apply(affine, truth)), truth, rtol=0, atol=1e-9)
        mirrored.append(bool(np.linalg.det(affine[:, :2]) < 0))
        # In a mirror the spot of the right-hand landmark stands on the left, and is the left-hand landmark there.
        names = [1, 0, 2] if mirrored[-1] else [0, 1, 2]
        np.testing.assert_allclose(sample["points"].numpy(), seen[names], rtol=0, atol=0.05)
        np.testing.assert_array_equal(sample["truth"].numpy(), truth)
    assert not mirrored[0]
    assert set(mirrored[1:]) == {True, False}


def test_the_left_landmark_is_the_left_one_in_a_mirrored_image_too():
    records = spots((120, 150), (96, 80), np.random.default_rng(0))
    plain = dataset_of(records)[0, 0]
    mirrored = dataset_of(records, augmentation=augmentation(flip=1.0, flip_pairs=SIDES))[0, 0]
    unpaired = dataset_of(records, augmentation=augmentation(flip=1.0))[0, 0]
    np.testing.assert_allclose(mirrored["image"].int(), plain["image"].flip(2).int(), rtol=0, atol=1)
    for sample in (plain, mirrored):
        assert sample["points"][0, 0] < sample["points"][2, 0] < sample["points"][1, 0]
    assert unpaired["points"][1, 0] < unpaired["points"][0, 0]
    expected = plain["points"].clone()
    expected[:, 0] = 79 - expected[:, 0]
    np.testing.assert_allclose(unpaired["points"], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(mirrored["points"], expected[[1, 0, 2]], rtol=0, atol=1e-4)


def test_a_sample_has_the_types_shapes_and_values_it_promises():
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 30), (40, 30, 3))]
    points = np.array([[[3.0, 4], [NAN, NAN]], [[NAN, NAN], [0, 0]]])
    dataset = dataset_of(records_of(images, points), input_size=(48, 64))
    gray, colour = dataset[0, 0], dataset[0, 1]
    for sample in (gray, colour):
        assert {name: (value.dtype, tuple(value.shape)) for name, value in sample.items()} == {
            "image": (torch.uint8, (3, 48, 64)),
            "points": (torch.float32, (2, 2)),
            "visible": (torch.bool, (2,)),
            "affine": (torch.float64, (2, 3)),
            "truth": (torch.float64, (2, 2)),
            "spacing_mm": (torch.float64, ()),
            "index": (torch.int64, ()),
        }
    assert torch.equal(gray["image"][0], gray["image"][2])
    assert not torch.equal(colour["image"][0], colour["image"][2])
    assert (gray["index"], colour["index"]) == (0, 1)
    assert (float(gray["spacing_mm"]), float(colour["spacing_mm"])) == (0.1, 0.2)
    assert gray["visible"].tolist() == [True, False]
    assert colour["visible"].tolist() == [False, True]
    # 40 px become 48, the 36 px of the width stand 14 px from the left.
    np.testing.assert_allclose(
        gray["points"], torch.tensor([[3.5 * 1.2 - 0.5 + 14, 4.5 * 1.2 - 0.5], [0, 0]]), rtol=0, atol=1e-4
    )


def test_missing_landmarks_stay_missing_under_their_mirrored_name():
    records = spots((120, 150), (96, 80), np.random.default_rng(0))
    records.points[0, 0] = NAN
    chosen = augmentation(**MOVES, **EXPOSURE, flip=0.5, flip_pairs=SIDES)
    for epoch in range(8):
        sample = dataset_of(records, augmentation=chosen)[epoch, 0]
        lost = 1 if np.linalg.det(sample["affine"].numpy()[:, :2]) < 0 else 0
        assert sample["visible"].tolist() == [landmark != lost for landmark in range(3)]
        assert sample["points"][lost].tolist() == [0, 0]
        assert torch.isfinite(sample["points"]).all()
        np.testing.assert_array_equal(sample["truth"].numpy(), records.points[0])


def test_an_augmentation_without_magnitudes_gives_the_plain_sample_to_the_bit():
    records = noise_records(2, size=(57, 91))
    for fit in ("letterbox", "stretch"):
        plain = dataset_of(records, fit=fit)[4, 1]
        still = dataset_of(records, fit=fit, augmentation=augmentation())[4, 1]
        assert torch.equal(plain["image"], still["image"])
        np.testing.assert_allclose(plain["points"], still["points"], rtol=0, atol=1e-4)


def test_exposure_noise_and_holes_leave_points_and_affine_alone():
    records = noise_records(3)
    plain, exposed = dataset_of(records), dataset_of(records, augmentation=augmentation(**EXPOSURE))
    for index in range(3):
        assert not torch.equal(plain[0, index]["image"], exposed[0, index]["image"])
        np.testing.assert_allclose(plain[0, index]["points"], exposed[0, index]["points"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(plain[0, index]["affine"], exposed[0, index]["affine"], rtol=0, atol=1e-4)


def test_a_sample_is_a_function_of_seed_epoch_and_index():
    records = noise_records(3)
    chosen = augmentation(**MOVES, **EXPOSURE, flip=0.5)

    def view(seed: int, epoch: int, index: int, dataset: LandmarkDataset | None = None) -> bytes:
        sample = (dataset or dataset_of(records, augmentation=chosen, seed=seed))[epoch, index]
        return sample["image"].numpy().tobytes() + sample["affine"].numpy().tobytes()

    worn = dataset_of(records, augmentation=chosen, seed=1, cache_gb=1.0)
    for key in ((5, 2), (0, 0), (1, 2), (2, 1)):
        worn[key]
    assert view(1, 1, 2, worn) == view(1, 1, 2)
    views = {view(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1, 2) for index in (0, 1, 2)}
    assert len(views) == 18


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", [(120, 150), (301, 180)])
def test_a_moved_view_of_a_region_is_black_only_where_the_image_has_no_pixels(size, fit):
    white = [np.full(size[::-1], 255, np.uint8)]
    records = records_of(white, np.full((1, 1, 2), 60.0), region=Region(0.3, 0.3, 0.8, 0.7))
    dataset = dataset_of(records, fit=fit, augmentation=augmentation(**MOVES, flip=0.5))
    for epoch in range(20):
        sample = dataset[epoch, 0]
        rows, columns = np.indices((96, 80))
        seen_from = apply(invert(sample["affine"].numpy()), np.stack([columns, rows], axis=2).astype(np.float64))
        inside = ((seen_from >= 1) & (seen_from <= np.array(size) - 2)).all(axis=2)
        outside = ((seen_from < -1.5) | (seen_from > np.array(size) + 0.5)).any(axis=2)
        pixels = sample["image"][0].numpy()
        assert inside.mean() > 0.6
        assert (pixels[inside] == 255).all()
        assert (pixels[outside] == 0).all()


class CountingReader:
    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images
        self.indices: list[int] = []

    def __call__(self, index: int) -> np.ndarray:
        self.indices.append(index)
        return self.images[index]


@pytest.mark.parametrize(
    ("room_images", "reads"),
    [(0.0, [0, 1, 2, 0, 1, 2]), (1.99, [0, 1, 2, 1, 2]), (2.0, [0, 1, 2, 2]), (3.0, [0, 1, 2])],
)
def test_an_image_is_read_once_as_long_as_the_cache_has_room(room_images, reads):
    images = list(np.random.default_rng(0).integers(0, 256, (3, 64, 48), dtype=np.uint8))
    read = CountingReader(images)
    records = records_of(images, np.zeros((3, 1, 2)), read=read)
    fitted_bytes = 32 * 24  # what the letterbox leaves of an image is kept, not its padding
    dataset = dataset_of(records, input_size=(32, 32), cache_gb=room_images * fitted_bytes / 2**30)
    fresh = dataset_of(records_of(images, np.zeros((3, 1, 2))), input_size=(32, 32))
    for epoch in (0, 1):
        for index in range(3):
            assert torch.equal(dataset[epoch, index]["image"], fresh[epoch, index]["image"])
    assert read.indices == reads


def test_of_a_region_the_part_that_views_can_show_is_kept_and_not_read_again():
    images = list(np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8))
    read = CountingReader(images)
    records = records_of(images, np.zeros((2, 1, 2)), read=read, region=Region(0.25, 0.25, 0.75, 0.75))
    options = {"input_size": (32, 32), "fit": "stretch", "augmentation": augmentation(shift=0.125)}
    kept_bytes = (32 + 2 * 4) ** 2  # the region at its own scale, and 4 px on each side
    dataset = dataset_of(records, cache_gb=kept_bytes * 1.99 / 2**30, **options)
    for epoch in range(3):
        for index in range(2):
            fresh = dataset_of(records_of(images, np.zeros((2, 1, 2)), region=records.region), **options)
            assert torch.equal(dataset[epoch, index]["image"], fresh[epoch, index]["image"])
    assert read.indices == [0, 1, 1, 1]


def test_augmenting_a_cached_image_does_not_change_it():
    records = noise_records(1)
    originals = records.read(0).copy()
    chosen = augmentation(**EXPOSURE)
    dataset = dataset_of(records, augmentation=chosen, input_size=(30, 40), cache_gb=1.0)
    first = dataset[0, 0]["image"].clone()
    for epoch in range(1, 6):
        dataset[epoch, 0]["image"].zero_()
    assert torch.equal(dataset[0, 0]["image"], first)
    np.testing.assert_array_equal(records.read(0), originals)


def test_the_mean_shape_leaves_missing_points_and_other_splits_out():
    points = np.array(
        [
            [[9.5, 19.5], [NAN, NAN], [NAN, NAN]],
            [[9.5, 4.5], [29.5, 9.5], [NAN, NAN]],
            [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]],
        ]
    )
    images = [np.zeros((40, 20), np.uint8), np.zeros((10, 40), np.uint8), np.zeros((9, 9), np.uint8)]
    records = records_of(images, points, splits=["train", "train", "val"])
    # shares: (10/20, 20/40) and (10/40, 5/10); (30/40, 10/10)
    np.testing.assert_allclose(mean_shape(records), [[0.375, 0.5], [0.75, 1.0], [0.5, 0.5]])
    # stretched to 100 x 60: share * size - 0.5
    stretched = mean_shape_in_input(records, (60, 100), "stretch")
    np.testing.assert_allclose(stretched, [[37.0, 29.5], [74.5, 59.5], [49.5, 29.5]])
    quarter = mean_shape_in_input(replace(records, region=Region(0, 0, 0.5, 0.5)), (60, 100), "stretch")
    np.testing.assert_allclose(quarter[:2], stretched[:2] * 2 + 0.5)
    # letterboxed: image 0 is 30 x 60 from x = 35, image 1 is 100 x 25 from y = 17
    boxed = mean_shape_in_input(records, (60, 100), "letterbox")
    np.testing.assert_allclose(boxed, [[((15 - 0.5 + 35) + (25 - 0.5)) / 2, ((30 - 0.5) + (12.5 - 0.5 + 17)) / 2],
                                       [75 - 0.5, 25 - 0.5 + 17], [49.5, 29.5]])  # fmt: skip


def test_predictions_go_back_to_the_pixels_of_their_own_images():
    rng = np.random.default_rng(2)
    images = [np.zeros(shape, np.uint8) for shape in ((40, 30), (100, 220), (31, 77))]
    truth = rng.uniform(0, 30, (3, 4, 2))
    for fit in ("letterbox", "stretch"):
        dataset = dataset_of(records_of(images, truth), fit=fit, augmentation=augmentation(**MOVES))
        batch = default_collate([dataset[1, index] for index in range(3)])
        back = to_original(batch["points"].numpy().astype(np.float64), batch["affine"].numpy())
        np.testing.assert_allclose(back, truth, rtol=0, atol=1e-4)  # points are float32
