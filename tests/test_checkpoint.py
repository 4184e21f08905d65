"""What is kept of a run, and what happens when a part of it is broken, lost, or of something else."""

import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY
from faults import run_main
from safetensors.torch import load_file, save_file
from stopped_runs import StopAt, start_or_resume

from benchmarks.killed_runs import differences
from trainer import checkpoint
from trainer.run_dir import RunDir

EACH_UPDATE = (*TINY, "pictures=false", "checkpoint.every_steps=1")


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Stopped in the fine-tune, after its first evaluation: the best weights have a file of their own."""
    path = tmp_path_factory.mktemp("runs") / "stopped"
    assert not start_or_resume(path, *EACH_UPDATE, request=StopAt(14))
    run_dir = RunDir(path)
    assert checkpoint._read(run_dir.last_checkpoint)["new_weights"] == {}
    return run_dir


@pytest.fixture
def copied(stopped_run: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(stopped_run.path, tmp_path / "run")
    return RunDir(tmp_path / "run")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if not zipfile.is_zipfile(path):
        content[len(content) // 2] ^= 8
        path.write_bytes(content)
        return
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    header = largest.header_offset
    content[header + 30 + sum(struct.unpack_from("<HH", content, header + 26)) + largest.file_size // 2] ^= 8
    path.write_bytes(content)


def make_text(path: Path) -> None:
    path.write_text("weights\n" * 100)


def of_another_version(path: Path) -> None:
    torch.save({**torch.load(path, weights_only=True), "version": 1}, path)


def without_version(path: Path) -> None:
    torch.save([torch.zeros(3)], path)


BREAKS = [cut, empty, flip_a_bit, make_text, of_another_version, without_version]


@pytest.mark.parametrize("spoil", BREAKS, ids=lambda spoil: spoil.__name__)
def test_a_broken_newest_checkpoint_falls_back_to_the_one_before_it(
    spoil: Callable[[Path], None], copied: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    newest, before = (checkpoint._read(path) for path in (copied.last_checkpoint, copied.previous_checkpoint))
    spoil(copied.last_checkpoint)
    loaded = checkpoint.load(copied)
    assert loaded is not None
    assert loaded["iteration"] == before["iteration"] < newest["iteration"]
    assert f"{copied.last_checkpoint} " in caplog.text
    assert "previous.pt, the checkpoint before it, is used" in caplog.text


def test_a_run_that_goes_on_from_the_checkpoint_before_a_broken_one_ends_the_same(
    copied: RunDir, tiny_run: RunDir
) -> None:
    flip_a_bit(copied.last_checkpoint)
    assert not start_or_resume(copied.path, *EACH_UPDATE, request=StopAt(1))
    for path in (copied.last_checkpoint, copied.previous_checkpoint):
        checkpoint._read(path)  # the broken one is gone; it did not become the one before
    assert start_or_resume(copied.path, *EACH_UPDATE)
    assert differences(copied, tiny_run) == []


@pytest.mark.parametrize("spoil", BREAKS, ids=lambda spoil: spoil.__name__)
def test_two_broken_checkpoints_are_one_line_that_names_both(
    spoil: Callable[[Path], None], copied: RunDir, tmp_path: Path
) -> None:
    spoil(copied.last_checkpoint)
    spoil(copied.previous_checkpoint)
    ended = run_main(f"resume={copied.path}", folder=tmp_path)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert str(copied.last_checkpoint) in ended.err
    assert str(copied.previous_checkpoint) in ended.err


def test_a_folder_in_the_place_of_a_checkpoint_is_named(copied: RunDir) -> None:
    copied.last_checkpoint.unlink()
    copied.last_checkpoint.mkdir()
    with pytest.raises(ValueError, match=r"last\.pt is a folder"):
        checkpoint.load(copied)


def test_a_lost_newest_checkpoint_is_the_one_before_it(copied: RunDir, tiny_run: RunDir) -> None:
    """As between the two renames of a save."""
    copied.last_checkpoint.unlink()
    assert start_or_resume(copied.path, *EACH_UPDATE)
    assert differences(copied, tiny_run) == []


def test_a_checkpoint_with_code_in_it_is_not_run(copied: RunDir, tmp_path: Path) -> None:
    target = tmp_path / "run by the pickle"

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (target,)

    copied.last_checkpoint.write_bytes(pickle.dumps({"model": Malicious()}))
    torch.save({"model": Malicious(), "version": checkpoint.VERSION}, copied.previous_checkpoint)
    with pytest.raises(ValueError, match="no checkpoint can be read"):
        checkpoint.load(copied)
    assert not target.exists()


@pytest.mark.parametrize("spoil", [cut, empty, flip_a_bit, make_text, Path.unlink], ids=lambda spoil: spoil.__name__)
def test_lost_best_weights_are_told_before_the_run_goes_on(
    spoil: Callable[[Path], None], copied: RunDir, tmp_path: Path
) -> None:
    spoil(copied.best_weights)
    before = {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file()}
    ended = run_main(f"resume={copied.path}", folder=tmp_path)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert f"{copied.best_weights} " in ended.err
    assert "put the file back, or start a new run" in ended.err
    changed = [path.name for path in before if path.read_bytes() != before[path] and path.name != "train.log"]
    assert changed == []


def test_best_weights_of_another_model_are_told(copied: RunDir) -> None:
    checkpoint.write_weights(copied.best_weights, {"weight": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match=r"best\.safetensors is of another model"):
        checkpoint.load_weights(copied.best_weights, torch.nn.Linear(2, 3))


def test_best_weights_that_were_not_on_disk_yet_are_in_the_checkpoint(tmp_path: Path, tiny_run: RunDir) -> None:
    """A process may be killed when it has saved a checkpoint that knows of them, and not yet their file."""
    run_dir = RunDir(tmp_path / "run")
    assert not start_or_resume(run_dir.path, *TINY, "checkpoint.every_minutes=1000", request=StopAt(5))
    assert checkpoint._read(run_dir.last_checkpoint)["new_weights"].keys() == {"best.safetensors"}
    run_dir.best_weights.unlink()
    assert start_or_resume(run_dir.path, *TINY)
    assert differences(run_dir, tiny_run) == []


def test_weights_keep_every_bit_and_notice_one_that_changed(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4).to(memory_format=torch.contiguous_format), "n": torch.tensor(7)}
    tensors["a"][0, 0] = float("nan")
    path = tmp_path / "best.safetensors"
    checkpoint.write_weights(path, tensors)
    loaded = load_file(path)
    assert all(loaded[name].numpy().tobytes() == tensors[name].numpy().tobytes() for name in tensors)
    assert checkpoint.digest(checkpoint.read_weights(path)) == checkpoint.digest(tensors)
    save_file({**tensors, "n": torch.tensor(8)}, path, metadata={checkpoint.DIGEST: checkpoint.digest(tensors)})
    with pytest.raises(ValueError, match="is not as this run wrote it"):
        checkpoint.read_weights(path)


def test_a_history_shorter_than_its_checkpoint_is_told(copied: RunDir, tmp_path: Path) -> None:
    lines = copied.lr_history.read_text().splitlines(keepends=True)
    copied.lr_history.write_text("".join(lines[:4]))
    ended = run_main(f"resume={copied.path}", folder=tmp_path)
    assert ended.code == 2
    made = checkpoint._read(copied.last_checkpoint)["iteration"]
    assert (
        f"{copied.lr_history} has 3 rows, but the checkpoint was written after {made}; put the file back" in ended.err
    )


def test_no_bit_of_a_checkpoints_structure_can_change_unnoticed(tmp_path: Path) -> None:
    """Outside of the padding, of which nothing is read, and of dates."""
    path = tmp_path / "last.pt"
    payload = {"version": checkpoint.VERSION, "a": torch.arange(3.0)}
    torch.save(payload, path)
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for place in range(directory, len(whole)):
        for bit in (0, 3, 4):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                read = checkpoint._read(path)
            except ValueError:
                continue
            assert read["a"].equal(payload["a"]), (place - directory, bit)


def test_an_older_checkpoint_does_not_take_newer_best_weights_for_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = RunDir(tmp_path / "run")
    assert not start_or_resume(run_dir.path, *EACH_UPDATE, request=StopAt(11))  # within the second phase
    weights = load_file(run_dir.best_weights)
    key = next(iter(weights))
    checkpoint.write_weights(run_dir.best_weights, {**weights, key: weights[key] + 1})  # whole, of an epoch to come
    run_dir.last_checkpoint.unlink()
    saved = checkpoint.load(run_dir)
    assert saved is not None
    assert saved["best"] is not None
    checkpoint.take_up(run_dir, saved)
    assert saved["best"] is None
    assert "the best of the epochs to come counts" in caplog.text


def test_a_lost_snapshot_is_told_when_the_run_goes_on(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    settings = (*EACH_UPDATE, "snapshots=true", "scheduler.cycles=2")
    assert not start_or_resume(run_dir.path, *settings, request=StopAt(13))
    run_dir.snapshot(0).unlink()
    with pytest.raises(ValueError, match=r"cycle_01\.safetensors is missing: weights that this run needs"):
        start_or_resume(run_dir.path, *settings)


def test_an_environment_that_is_damaged_is_named(copied: RunDir, tmp_path: Path) -> None:
    for content in ("{", "{}", "[]"):
        copied.environment.write_text(content)
        ended = run_main(f"resume={copied.path}", folder=tmp_path)
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert f"error: {copied.environment} is damaged" in ended.err
