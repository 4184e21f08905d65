"""Labelled samples: types, the same view for the same key, noise on numbers, views to average, and mixup."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from data.augmentation import Augmentation
from data.covariates import Covariates
from data.label_datasets import LabelDataset, ViewsDataset
from data.label_records import LabelRecords
from data.loaders import FixedOrder, TrainingOrder, build_loader
from data.mixup import MixupCollate, mixed

MOVES = Augmentation(
    rotate_degrees=15.0,
    scale=0.2,
    shift=0.1,
    shear_degrees=5.0,
    flip=0.5,
    flip_pairs=[],
    brightness=0.3,
    contrast=0.3,
    gamma=0.3,
    clahe=0.5,
    noise=0.1,
    dropout_holes=3,
    dropout_size=0.2,
)


def records_of(count: int, numeric: bool = False, read=None) -> LabelRecords:
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (count, 40, 30), dtype=np.uint8))
    sexes = ["FM"[i % 2] for i in range(count)]
    covariates = Covariates(
        names=["sex"],
        categories=[["F", "M"]],
        mean=np.zeros(1),
        std=np.ones(1),
        values=[sexes],
        encoded=np.array([[sex == "F", sex == "M"] for sex in sexes], dtype=np.float32),
    )
    return LabelRecords(
        image_names=[f"{index}.png" for index in range(count)],
        targets=np.arange(count) * 1.5 if numeric else np.arange(count) % 3,
        class_names=None if numeric else ["a", "b", "c"],
        covariates=covariates,
        sizes=np.tile([30, 40], (count, 1)),
        splits=np.full(count, "train"),
        read=read or images.__getitem__,
    )


def dataset_of(records: LabelRecords, **options) -> LabelDataset:
    defaults = {"input_size": (32, 48), "fit": "letterbox", "augmentation": None, "seed": 7, "cache_gb": 0.0}
    return LabelDataset(records, **{**defaults, **options})


@pytest.mark.parametrize(("numeric", "kind"), [(False, torch.int64), (True, torch.float32)])
@pytest.mark.parametrize("augmentation", [None, MOVES])
def test_a_sample_has_the_types_shapes_and_values_it_promises(numeric, kind, augmentation):
    records = records_of(5, numeric)
    dataset = dataset_of(records, augmentation=augmentation)
    for index in range(5):
        sample = dataset[2, index]
        assert {name: (value.dtype, tuple(value.shape)) for name, value in sample.items()} == {
            "image": (torch.uint8, (3, 32, 48)),
            "target": (kind, ()),
            "covariates": (torch.float32, (2,)),
            "index": (torch.int64, ()),
        }
        assert sample["index"] == index
        assert sample["target"] == records.targets[index]
        assert sample["covariates"].tolist() == records.covariates.encoded[index].tolist()


def test_images_stay_as_they_are_without_augmentation_and_gray_is_three_times_the_same():
    records = records_of(2)
    sample = dataset_of(records, input_size=(40, 30))[5, 1]["image"]
    for channel in range(3):
        np.testing.assert_array_equal(sample[channel].numpy(), records.read(1))


def test_records_without_covariates_have_samples_and_batches_of_width_0():
    records = records_of(3)
    empty = Covariates([], [], np.zeros(0), np.ones(0), [], np.zeros((3, 0), np.float32))
    dataset = dataset_of(LabelRecords(**{**vars(records), "covariates": empty}))
    batch = next(iter(build_loader(dataset, FixedOrder(np.arange(3), 3), workers=0)))
    assert batch["covariates"].shape == (3, 0)


def test_a_sample_is_a_function_of_seed_and_key_and_a_repeat_is_another_view():
    records = records_of(3, numeric=True)

    def view(seed: int, *key: int, dataset: LabelDataset | None = None) -> bytes:
        sample = (dataset or dataset_of(records, augmentation=MOVES, seed=seed, label_noise=1.0))[key]
        return sample["image"].numpy().tobytes() + sample["target"].numpy().tobytes()

    worn = dataset_of(records, augmentation=MOVES, seed=1, label_noise=1.0, cache_gb=1.0)
    for key in ((5, 2), (0, 0), (1, 2, 1)):
        worn[key]
    assert view(1, 1, 2, dataset=worn) == view(1, 1, 2)
    assert view(1, 1, 2, 3, dataset=worn) == view(1, 1, 2, 3)
    keys = [(epoch, index, *again) for epoch in (0, 1) for index in (0, 2) for again in ((), (1,), (2,))]
    assert len({view(seed, *key) for seed in (0, 1) for key in keys}) == 2 * len(keys)


def test_label_noise_has_its_spread_and_does_not_touch_the_image():
    records = records_of(4, numeric=True)
    noisy = dataset_of(records, augmentation=MOVES, label_noise=3.0, cache_gb=1.0)
    quiet = dataset_of(records, augmentation=MOVES, cache_gb=1.0)
    assert torch.equal(noisy[3, 1]["image"], quiet[3, 1]["image"])
    noisy = dataset_of(records, label_noise=3.0, cache_gb=1.0)
    added = [float(noisy[epoch, index]["target"]) - 1.5 * index for epoch in range(250) for index in range(4)]
    assert np.mean(added) == pytest.approx(0, abs=0.3)  # 3 standard errors
    assert np.std(added) == pytest.approx(3, abs=0.2)
    assert len(set(added)) == len(added)
    with pytest.raises(ValueError, match=r"label_noise=3\.0 is for numbers"):
        dataset_of(records_of(4), label_noise=3.0)


def test_view_0_is_the_image_itself_and_the_others_are_always_the_same_random_ones():
    records = records_of(3, numeric=True)
    plain = dataset_of(records, cache_gb=1.0)
    views, again = ViewsDataset(plain, MOVES), ViewsDataset(dataset_of(records), MOVES)
    for index in range(3):
        assert torch.equal(views[0, index]["image"], plain[9, index]["image"])
        seen = {views[view, index]["image"].numpy().tobytes() for view in range(4)}
        assert len(seen) == 4
        for view in range(4):
            assert torch.equal(views[view, index]["image"], again[view, index]["image"])
            assert float(views[view, index]["target"]) == 1.5 * index


def test_views_are_augmented_as_they_are_told():
    assert ViewsDataset(dataset_of(records_of(3)), MOVES).augmentation == MOVES


def batch_of(numeric: bool = False) -> dict[str, torch.Tensor]:
    return default_collate([dataset_of(records_of(6, numeric))[0, index] for index in range(6)])


@pytest.mark.parametrize("numeric", [False, True])
def test_mixup_is_the_weighted_mean_of_two_samples(numeric):
    for seed in range(5):
        batch = batch_of(numeric)
        images, covariates = batch["image"].numpy().astype(float), batch["covariates"].numpy()
        mix = mixed(batch, np.random.default_rng(seed), 0.4)
        share = mix["share"].numpy()
        assert share.dtype == np.float32
        assert (share == share[0]).all()
        oracle = np.random.default_rng(seed)
        assert share[0] == pytest.approx(oracle.beta(0.4, 0.4), abs=1e-6)
        other = oracle.permutation(6)
        assert mix["image"].dtype == torch.uint8
        expected = share[0] * images + (1 - share[0]) * images[other]
        np.testing.assert_allclose(mix["image"].numpy(), expected, rtol=0, atol=0.501)
        expected = share[0] * covariates + (1 - share[0]) * covariates[other]
        np.testing.assert_allclose(mix["covariates"].numpy(), expected, atol=1e-6)
        assert torch.equal(mix["target"], batch["target"])
        assert torch.equal(mix["other_target"], batch["target"][other])
        assert torch.equal(mix["index"], batch["index"])


def mixed_batches(workers: int, start: int = 0, seed: int = 1) -> list[dict[str, torch.Tensor]]:
    order = TrainingOrder(np.arange(8), batch_size=3, batches_per_epoch=2, seed=0, first_epoch=0, start=start, stop=6)
    dataset = dataset_of(records_of(8), augmentation=MOVES)
    return list(build_loader(dataset, order, workers=workers, collate=MixupCollate(seed=seed, alpha=0.4)))


def test_a_mix_depends_on_its_batch_alone_not_on_workers_nor_on_where_a_run_was_cut():
    whole = mixed_batches(workers=0)
    for start, workers in ((0, 2), (3, 0), (1, 2)):
        for one, other in zip(mixed_batches(workers, start), whole[start:], strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)
    assert len({float(batch["share"][0]) for batch in whole}) == 6
    assert {float(batch["share"][0]) for batch in mixed_batches(0, seed=2)}.isdisjoint(
        {float(batch["share"][0]) for batch in whole}
    )
