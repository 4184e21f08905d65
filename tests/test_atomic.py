"""Files that are whole or absent."""

import errno
import os
import signal
from pathlib import Path

import pytest

from data.atomic import HALF_WRITTEN, faults_naming, written_atomically


def write_half(path: Path) -> None:
    path.write_text("ha")
    raise RuntimeError("in the middle")


def test_a_file_takes_its_place_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "table.csv"
    with written_atomically(path) as aside:
        aside.write_text("whole")
        assert not path.exists()
        assert list(path.parent.glob(HALF_WRITTEN)) == [aside]
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), written_atomically(path) as aside:
        write_half(aside)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_it_replaces_is_kept(tmp_path: Path) -> None:
    path, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for text in ("1", "2", "3"):
        with written_atomically(path, previous=previous) as aside:
            aside.write_text(text)
    assert (path.read_text(), previous.read_text()) == ("3", "2")


def test_a_process_that_is_killed_in_the_block_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    if (child := os.fork()) == 0:
        with written_atomically(path) as aside:
            aside.write_text("ha")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.read_text() == "old"
    (half,) = tmp_path.glob(HALF_WRITTEN)  # which the next run in the folder takes away
    assert half.read_text() == "ha"


def test_a_fault_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "file" / "table.csv"
    path.parent.write_text("no folder")
    with pytest.raises(OSError, match=r"file/table\.csv") as caught, written_atomically(path):
        raise AssertionError("not reached")
    assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR)


def test_a_fault_of_a_write_that_names_no_file_is_given_one(tmp_path: Path) -> None:
    path = tmp_path / "lr_history.csv"
    with pytest.raises(OSError, match=r"No space left on device: .*lr_history\.csv"), faults_naming(path):
        Path("/dev/full").write_bytes(b"row")
