"""Order and batches: functions of (seed, epoch), whoever loads them and wherever the loading begins."""

import os
import random
import signal
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from data.augmentation import Augmentation
from data.datasets import LandmarkDataset
from data.loaders import FixedOrder, TrainingOrder, balancing_weights, build_loader, updates_per_epoch
from data.records import LandmarkRecords
from data.workers import ReadingError, watched_batches

EVERYTHING = Augmentation(
    rotate_degrees=15.0,
    scale=0.2,
    shift=0.1,
    shear_degrees=5.0,
    flip=0.5,
    flip_pairs=[(0, 1)],
    brightness=0.3,
    contrast=0.3,
    gamma=0.3,
    clahe=0.5,
    noise=0.1,
    dropout_holes=3,
    dropout_size=0.2,
)


def records_of(count: int, read=None) -> LandmarkRecords:
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (count, 40, 30), dtype=np.uint8))
    return LandmarkRecords(
        image_names=[f"{index}.png" for index in range(count)],
        landmark_names=["left", "right"],
        points=rng.uniform(5, 25, (count, 2, 2)),
        sizes=np.tile([30, 40], (count, 1)),
        pixel_spacing_mm=np.full(count, 0.1),
        splits=np.full(count, "train"),
        read=read or images.__getitem__,
    )


def dataset_of(records: LandmarkRecords, augmentation: Augmentation | None = EVERYTHING, cache_gb: float = 0.0):
    return LandmarkDataset(
        records, input_size=(32, 32), fit="letterbox", augmentation=augmentation, seed=3, cache_gb=cache_gb
    )


def order_of(count: int, batch_size: int, *, epochs: int, seed: int = 3, first_epoch: int = 0, start: int = 0):
    per_epoch = updates_per_epoch(count, batch_size, 1)
    return TrainingOrder(
        np.arange(count),
        batch_size=batch_size,
        batches_per_epoch=per_epoch,
        seed=seed,
        first_epoch=first_epoch,
        start=start,
        stop=per_epoch * epochs,
    )


def batches_of(workers: int, start: int = 0) -> list[dict[str, torch.Tensor]]:
    return list(build_loader(dataset_of(records_of(7)), order_of(7, 2, epochs=2, start=start), workers=workers))


def assert_equal_batches(some: list[dict[str, torch.Tensor]], others: list[dict[str, torch.Tensor]]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_batches_are_bit_equal_with_and_without_workers_and_from_the_middle_on():
    alone = batches_of(workers=0)
    assert [len(batch["index"]) for batch in alone] == [2] * 6
    assert_equal_batches(batches_of(workers=2), alone)
    assert_equal_batches(batches_of(workers=0, start=4), alone[4:])
    assert_equal_batches(batches_of(workers=2, start=1), alone[1:])


def test_batches_depend_on_no_global_generator_and_move_none():
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        runs.append(batches_of(workers=0))
        next(iter(build_loader(dataset_of(records_of(3)), FixedOrder(np.arange(3), 2), workers=1)))
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        assert random.getstate() == before[2]
    assert_equal_batches(*runs)


def test_each_epoch_shows_an_image_in_another_view():
    views: dict[int, set[bytes]] = {}
    for batch in build_loader(dataset_of(records_of(4)), order_of(4, 2, epochs=3), workers=0):
        for index, image in zip(batch["index"].tolist(), batch["image"], strict=True):
            views.setdefault(index, set()).add(image.numpy().tobytes())
    assert {index: len(seen) for index, seen in views.items()} == {0: 3, 1: 3, 2: 3, 3: 3}


class LoggingReader:
    """Writes a letter into a file for each read, so that reads in other processes are counted too."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __call__(self, index: int) -> np.ndarray:
        with self.log.open("a") as log:
            log.write("r")
        return np.full((40, 30), index, np.uint8)


FITTED_BYTES = 32 * 24  # of a 30 x 40 image in a letterbox of 32 x 32


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_image_is_decoded_once_in_a_run_whoever_asks_for_it_and_however_often_workers_are_started(tmp_path, workers):
    records = records_of(10, read=LoggingReader(tmp_path / "reads"))
    dataset = dataset_of(records, EVERYTHING, cache_gb=10 * FITTED_BYTES / 2**30)
    fresh = dataset_of(records_of(10, read=LoggingReader(tmp_path / "others")))
    for phase in range(2):  # each starts new workers
        # Five batches an epoch: each image comes to the other worker in the next one, once the first has it.
        epochs = range(3 * phase, 3 * phase + 3)
        keys = [[(epoch, index), (epoch, index + 1)] for epoch in epochs for index in range(0, 10, 2)]
        seen = list(build_loader(dataset, keys, workers=workers))
        assert_equal_batches(seen, list(build_loader(fresh, keys, workers=0)))
    plain = copy(dataset)
    plain.augmentation = None  # what is judged after each epoch
    seen = list(build_loader(plain, FixedOrder(np.arange(10), 4), workers=workers))
    assert [len(batch["index"]) for batch in seen] == [4, 4, 2]
    assert len((tmp_path / "reads").read_text()) == 10


@pytest.mark.parametrize("room", [0, 1, 3, 4])
def test_workers_share_the_room_of_the_cache_between_them(tmp_path, room):
    records = records_of(4, read=LoggingReader(tmp_path / "reads"))
    dataset = dataset_of(records, None, cache_gb=room * FITTED_BYTES / 2**30)
    for epoch in range(3):
        seen = list(build_loader(dataset, [[(epoch, index)] for index in range(4)], workers=2))
        assert [batch["image"].max().item() for batch in seen] == [0, 1, 2, 3]
    assert len((tmp_path / "reads").read_text()) == 12 - 2 * room


def test_a_worker_that_is_killed_as_it_reads_leaves_the_kept_images_to_others(tmp_path):
    def read(index: int) -> np.ndarray:
        with (tmp_path / "reads").open("a") as log:
            log.write("r")
        if index == 3 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full((40, 30), index, np.uint8)

    dataset = dataset_of(records_of(4, read=read), None, cache_gb=1.0)
    with pytest.raises(ReadingError, match="SIGKILL"):
        list(watched_batches(build_loader(dataset, FixedOrder(np.arange(4), 1), workers=1)))
    seen = list(watched_batches(build_loader(dataset, FixedOrder(np.arange(4), 1), workers=1)))
    assert [batch["image"].max().item() for batch in seen] == [0, 1, 2, 3]
    assert len((tmp_path / "reads").read_text()) == 4 + 1


@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (13, 4), (15, 4), (5, 5), (3, 1)])
def test_an_epoch_is_a_permutation_without_what_does_not_fill_a_batch(count, batch_size):
    indices = np.random.default_rng(1).permutation(100)[:count]
    per_epoch = count // batch_size
    order = TrainingOrder(
        indices, batch_size=batch_size, batches_per_epoch=per_epoch, seed=0, first_epoch=5, start=0, stop=20 * per_epoch
    )
    batches = list(order)
    assert len(order) == len(batches) == 20 * per_epoch
    orders = set()
    ever: set[int] = set()
    for epoch in range(20):
        keys = [key for batch in batches[epoch * per_epoch : (epoch + 1) * per_epoch] for key in batch]
        assert all(len(batch) == batch_size for batch in batches)
        assert {key[0] for key in keys} == {5 + epoch}
        taken = [key[1] for key in keys]
        assert len(set(taken)) == len(taken) == per_epoch * batch_size
        orders.add(tuple(taken))
        ever |= set(taken)
    assert ever == set(indices.tolist())  # what is left out changes from epoch to epoch
    assert len(orders) > 3


def test_an_order_entered_anywhere_is_the_rest_of_the_whole_one():
    whole = list(order_of(10, 3, epochs=4))
    for start in range(len(whole) + 1):
        assert list(order_of(10, 3, epochs=4, start=start)) == whole[start:]


def test_a_phase_goes_on_with_the_epochs_of_the_run():
    whole = list(order_of(10, 3, epochs=5))
    assert list(order_of(10, 3, epochs=2, first_epoch=3)) == whole[9:]


def test_the_order_changes_with_the_seed_and_repeats_itself():
    order = order_of(10, 3, epochs=2, seed=1)
    assert list(order) == list(order)
    assert list(order) != list(order_of(10, 3, epochs=2, seed=2))


def test_a_split_smaller_than_the_batch_is_one_batch():
    batches = list(order_of(3, 8, epochs=2))
    assert [sorted(batch) for batch in batches] == [[(0, 0), (0, 1), (0, 2)], [(1, 0), (1, 1), (1, 2)]]


@pytest.mark.parametrize(
    ("images", "batch_size", "accumulation", "updates"),
    [(100, 8, 1, 12), (96, 8, 1, 12), (100, 8, 5, 2), (100, 8, 12, 1), (3, 8, 1, 1), (8, 8, 1, 1)],
)
def test_updates_of_an_epoch_are_whole_sums_of_whole_batches(images, batch_size, accumulation, updates):
    assert updates_per_epoch(images, batch_size, accumulation) == updates


@pytest.mark.parametrize(("images", "batch_size", "accumulation"), [(3, 8, 2), (100, 8, 13)])
def test_accumulating_more_batches_than_an_epoch_has_is_an_error(images, batch_size, accumulation):
    with pytest.raises(ValueError, match=rf"accumulation={accumulation} .*{images} training .*batch_size={batch_size}"):
        updates_per_epoch(images, batch_size, accumulation)


@pytest.mark.parametrize(("count", "sizes"), [(7, [3, 3, 1]), (6, [3, 3]), (2, [2]), (0, [])])
def test_evaluation_takes_every_record_once_in_table_order(count, sizes):
    indices = np.arange(count) * 2 + 1
    order = FixedOrder(indices, 3)
    batches = list(order)
    assert [len(batch) for batch in batches] == sizes
    assert len(order) == len(sizes)
    assert [key for batch in batches for key in batch] == [(0, int(index)) for index in indices]


def balanced(start: int = 0) -> TrainingOrder:
    indices = np.arange(100, 150)  # 40 of one class, 8 of another, 2 of a third
    return TrainingOrder(
        indices,
        batch_size=5,
        batches_per_epoch=10,
        seed=2,
        first_epoch=3,
        start=start,
        stop=400,
        weights=balancing_weights(np.repeat([4, 0, 1], [40, 8, 2])),
    )


def test_balancing_shows_each_class_equally_often_in_as_many_draws():
    batches = list(balanced())
    assert len(batches) == 400
    drawn = np.array([key[1] for batch in batches for key in batch])
    assert len(drawn) == 2000
    shares = np.histogram(drawn, [100, 140, 148, 150])[0] / len(drawn)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)  # 3.8 standard errors
    np.testing.assert_allclose(balancing_weights(np.array([2, 2, 7])), [0.5, 0.5, 1.0])


def test_a_balanced_order_entered_anywhere_is_the_rest_of_the_whole_one():
    whole = list(balanced())
    for start in (1, 9, 10, 37):
        assert list(balanced(start)) == whole[start:]


def test_an_image_that_comes_again_in_an_epoch_has_a_key_and_a_view_of_its_own():
    keys = [key for batch in list(balanced())[:10] for key in batch]
    assert len(set(keys)) == len(keys) == 50
    of_one = [key for key in keys if key[1] == 148]
    assert of_one == [(3, 148), *((3, 148, times) for times in range(1, len(of_one)))]
    assert len(of_one) > 2


def keyed(keys: list[tuple[int, ...]], samples: list[dict[str, torch.Tensor]]) -> list[tuple[tuple[int, ...], int]]:
    return [(key, int(sample["index"])) for key, sample in zip(keys, samples, strict=True)]


def test_a_collate_is_given_the_keys_of_its_samples_also_by_workers():
    order = order_of(7, 2, epochs=2)
    for workers in (0, 2):
        batches = list(build_loader(dataset_of(records_of(7)), order, workers=workers, collate=keyed))
        assert batches == [[(key, key[1]) for key in batch] for batch in order]


def test_evaluation_can_ask_for_a_view():
    assert list(FixedOrder(np.array([4, 6, 9]), 2, view=3)) == [[(3, 4), (3, 6)], [(3, 9)]]
