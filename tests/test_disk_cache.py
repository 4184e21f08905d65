"""Images kept on disk: real files of real runs, broken, too many, on a full disk, by several processes at once."""

import logging
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from data_faults import points
from faults import Fault, promised, run_main
from PIL import Image
from torch.utils.data import default_collate

from data.datasets import LandmarkDataset
from data.disk_cache import DiskCache, default_folder
from data.image_files import ImageFiles, ImageReader
from data.images import Picture, Size
from data.loaders import build_loader
from data.records import LandmarkRecords

SIZE = (96, 120)
INPUT = (64, 48)
FORK = multiprocessing.get_context("fork")


def photographs(folder: Path, count: int, suffix: str = ".png") -> list[Path]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}{suffix}" for index in range(count)]
    for index, path in enumerate(paths):
        pixels = rng.integers(0, 256, SIZE[::-1] if index % 2 else (*SIZE[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@dataclass(frozen=True)
class CountedFiles(ImageReader):
    """Writes a letter into `log` whenever an image is decoded (d) or a file is read (r)."""

    files: ImageFiles
    log: Path
    disk: DiskCache | None = None

    def kept_in(self, disk: DiskCache) -> ImageReader:
        return replace(self, disk=disk)

    def content(self, index: int) -> bytes:
        self._note("r")
        return self.files.content(index)

    def decoded(self, index: int, content: bytes | None, least: Callable[[Size], Size] | None = None) -> Picture:
        self._note("d")
        return self.files.decoded(index, content, least)

    def _note(self, letter: str) -> None:
        with self.log.open("a") as log:
            log.write(letter)

    def taken(self) -> tuple[int, int]:
        """Decoded and read since it was asked last."""
        told = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return told.count("d"), told.count("r")


def dataset_of(read: CountedFiles, cache_gb: float = 0.0) -> LandmarkDataset:
    count = len(read.files.paths)
    records = LandmarkRecords(
        image_names=[path.name for path in read.files.paths],
        landmark_names=["tip"],
        points=np.full((count, 1, 2), 10.0),
        sizes=np.tile(SIZE, (count, 1)),
        pixel_spacing_mm=np.full(count, 0.1),
        splits=np.full(count, "train"),
        read=read,
    )
    return LandmarkDataset(records, input_size=INPUT, fit="letterbox", augmentation=None, seed=0, cache_gb=cache_gb)


def run(read: CountedFiles, workers: int = 0, cache_gb: float = 0.0) -> list[bytes]:
    """The pixels of every image in an epoch of a new run."""
    keys = [[(0, index)] for index in range(len(read.files.paths))]
    loader = build_loader(dataset_of(read, cache_gb), keys, workers=workers, collate=collated)
    return [batch["image"].numpy().tobytes() for batch in loader]


def collated(keys, samples):
    return default_collate(samples)


def reader(folder: Path, paths: list[Path], max_gb: float = 1.0) -> CountedFiles:
    return CountedFiles(ImageFiles(paths), folder / "log", DiskCache(folder / "kept", max_gb))


def entries(folder: Path) -> list[Path]:
    return [path for path in (folder / "kept").rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_later_run_decodes_nothing_and_sees_the_same_pixels(tmp_path, workers):
    paths = photographs(tmp_path / "images", 5)
    fresh = run(CountedFiles(ImageFiles(paths), tmp_path / "log"))
    assert CountedFiles(ImageFiles(paths), tmp_path / "log").taken() == (5, 5)
    for decoded in (5, 0, 0):
        read = reader(tmp_path, paths)
        assert run(read, workers) == fresh
        assert read.taken() == (decoded, 5)
    assert len(entries(tmp_path)) == 5


def test_what_memory_can_not_hold_is_read_from_the_disk_without_its_file(tmp_path):
    read = reader(tmp_path, photographs(tmp_path / "images", 4))
    dataset = dataset_of(read)
    first = [dataset[0, index]["image"] for index in range(4)]
    assert read.taken() == (4, 4)
    for epoch in (1, 2):
        assert all((dataset[epoch, index]["image"] == first[index]).all() for index in range(4))
    assert read.taken() == (0, 0)


def test_an_image_is_known_by_its_content_not_by_its_name_or_time(tmp_path):
    paths = photographs(tmp_path / "images", 3)
    fresh = run(reader(tmp_path, paths))
    moved = [path.rename(path.with_name(f"new_{path.name}")) for path in paths]
    os.utime(moved[0], (1, 1))
    read = reader(tmp_path, moved)
    read.taken()
    assert run(read) == fresh
    assert read.taken() == (0, 3)
    before = moved[1].stat()
    moved[1].write_bytes(moved[0].read_bytes())
    os.utime(moved[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(read) == [fresh[0], fresh[0], fresh[2]]


def test_another_input_of_the_same_image_is_another_entry(tmp_path):
    read = reader(tmp_path, photographs(tmp_path / "images", 1))
    dataset = dataset_of(read)
    for size in (INPUT, (32, 32), INPUT):
        assert dataset.at(size)[0, 0]["image"].shape == (3, *size)
    assert read.taken()[0] == 2


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
        lambda content: b"none of ours",
        lambda content: bytes(len(content)),
    ],
)
def test_a_broken_entry_is_made_anew(tmp_path, harm):
    paths = photographs(tmp_path / "images", 2)
    fresh = run(reader(tmp_path, paths))
    for path in entries(tmp_path):
        path.write_bytes(harm(path.read_bytes()))
    for decoded in (2, 0):
        read = reader(tmp_path, paths)
        read.taken()
        assert run(read) == fresh
        assert read.taken() == (decoded, 2)


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (100, 100), dtype=np.uint8)


def key(number: int) -> bytes:
    return number.to_bytes(16, "big") if number > 255 else bytes([number]) * 16


ENTRY_GB = (10_000 + 20) / 2**30


def test_images_that_were_not_asked_for_longest_leave_first(tmp_path):
    cache = DiskCache(tmp_path, 10.5 * ENTRY_GB)
    for number in range(10):
        cache.put(key(number), image(number))
        os.utime(tmp_path / key(number).hex()[:2] / key(number).hex()[2:], (1000 + number,) * 2)
    later = DiskCache(tmp_path, 10.5 * ENTRY_GB)
    np.testing.assert_array_equal(later.get(key(0)), image(0))  # the oldest is asked for again
    later.put(key(10), image(10))
    later.put(key(11), image(11))
    kept = [number for number in range(12) if later.get(key(number)) is not None]
    assert kept == [0, *range(kept[1], 12)]
    assert 3 <= kept[1] <= 4
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 10.5 * ENTRY_GB * 2**30


def test_a_run_that_is_larger_than_the_budget_keeps_what_it_has_kept(tmp_path):
    cache = DiskCache(tmp_path, 3.5 * ENTRY_GB)
    for _ in range(2):
        for number in range(8):
            cache.put(key(number), image(number))
        assert [number for number in range(8) if cache.get(key(number)) is not None] == [0, 1, 2]


def test_what_was_left_half_written_goes_after_an_hour(tmp_path):
    cache = DiskCache(tmp_path, 1.0)
    cache.put(key(1), image(1))
    old, new = (tmp_path / "01" / name for name in (".0123456789abcdef", ".0123456789abcdee"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 4000,) * 2)
    DiskCache(tmp_path, 1.0)
    assert not old.exists()
    assert new.exists()


def test_other_files_in_the_folder_are_neither_counted_nor_cleared(tmp_path):
    others = [tmp_path / name for name in ("xrays/0.png", "xrays/.hidden", "ab/x.png", "ab/.12.0", "a.png")]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100_000))
        os.utime(path, (1000, 1000))
    cache = DiskCache(tmp_path, 3.5 * ENTRY_GB)
    for number in range(8):
        cache.put(key(number), image(number))
    assert [number for number in range(8) if cache.get(key(number)) is not None] == [0, 1, 2]
    assert all(path.stat().st_size == 100_000 for path in others)


def fill(folder: Path, first: int, budget: float) -> None:
    cache = DiskCache(folder, budget)
    for step in range(120):
        number = (first + step) % 60
        kept = cache.get(key(number))
        if kept is None:
            cache.put(key(number), image(number))
        elif not np.array_equal(kept, image(number)):
            os._exit(1)
    os._exit(0)


@pytest.mark.parametrize("room", [100, 20])
def test_processes_that_use_a_cache_at_once_mix_up_nothing(tmp_path, room):
    started = [FORK.Process(target=fill, args=(tmp_path, 15 * i, room * ENTRY_GB)) for i in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * 4
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert not [path for path in files if path.name.startswith(".")]
    assert len(files) <= 60
    assert len(files) * ENTRY_GB <= room * ENTRY_GB * 1.3  # each process may add a twentieth before it counts anew


def on_a_full_disk(folder: Path) -> None:
    cache = DiskCache(folder, 1.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    log = folder.parent / "told"
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("data.disk_cache").addHandler(handler)
    for number in range(3):
        cache.put(key(number), image(number))
    assert [cache.get(key(number)) for number in range(3)] == [None] * 3
    log.write_text("\n".join(told))


def test_a_full_disk_is_told_once_and_nothing_is_left_half_written(tmp_path):
    process = FORK.Process(target=on_a_full_disk, args=(tmp_path / "kept",))
    process.start()
    process.join()
    assert process.exitcode == 0
    told = (tmp_path / "told").read_text()
    assert told == (
        f"{tmp_path / 'kept'}: the disk is full (File too large); images are no more kept there. "
        "data.disk_cache_gb=0 does without"
    )
    assert entries(tmp_path) == []


MISTAKES = {
    "a negative room for images on the disk": lambda folder: (*TINY, "data.disk_cache_gb=-1"),
    "a negative number of loader processes": lambda folder: (*TINY, "data.workers=-1"),
    "a folder for images that can't be used": points(
        None, "data.disk_cache_gb=1", "data.disk_cache_dir=kept", before=lambda folder: (folder / "kept").touch()
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_told_as_promised(name, tmp_path):
    Fault(name, *promised()[name], MISTAKES[name]).check(tmp_path)


def test_a_run_from_images_kept_on_the_disk_comes_to_the_same(tmp_path):
    given = (*points()(tmp_path), "data.augmentation.rotate_degrees=5")
    kept = ("data.disk_cache_gb=1", "data.disk_cache_dir=kept", "data.workers=null")
    for run, settings in (("plain", given), ("first", (*given, *kept)), ("second", (*given, *kept))):
        ended = run_main(*settings, f"hydra.run.dir={run}", folder=tmp_path)
        assert ended.code == 0, ended.err
        assert ("data.workers=0 was chosen: no CUDA device trains" in ended.out + ended.err) == (run != "plain")
    told = [(tmp_path / run / "lr_history.csv").read_text() for run in ("plain", "first", "second")]
    assert told[0] == told[1] == told[2]
    assert len(entries(tmp_path)) == 6


def test_the_folder_is_the_users_alone_and_in_the_cache_folder(tmp_path, monkeypatch):
    DiskCache(tmp_path / "kept", 1.0)
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "trainer" / "images"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert default_folder() == Path.home() / ".cache" / "trainer" / "images"
