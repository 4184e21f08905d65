"""A disk that fills up while a run saves: what there was is intact, one line says which file, and the run goes on."""

import csv
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import TINY
from faults import run_main
from stopped_runs import StopAt, start_or_resume
from test_planning import a_record

from benchmarks.killed_runs import differences
from data.atomic import HALF_WRITTEN
from trainer.history import CsvLog, LRHistory
from trainer.run_dir import RunDir

SMALL = (*TINY, "pictures=false")


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system refuses what would make a file longer, as it refuses what does not fit on the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_does_not_fit_is_told_and_the_last_one_goes_on(tiny_run: RunDir, tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    assert not start_or_resume(run_dir.path, *SMALL, request=StopAt(6))
    kept = run_dir.last_checkpoint.read_bytes()
    with no_file_above(len(kept) // 2):
        ended = run_main(f"resume={run_dir.path}", folder=tmp_path)
    assert ended.code == 4, ended.err
    (line,) = ended.err.strip().splitlines()
    assert f"File too large: '{run_dir.last_checkpoint}'; go on with: python -m trainer resume=" in line
    assert run_dir.last_checkpoint.read_bytes() == kept
    assert [*run_dir.last_checkpoint.parent.glob(HALF_WRITTEN)] == []
    assert start_or_resume(run_dir.path, *SMALL)
    assert differences(run_dir, tiny_run) == []


def test_a_row_that_does_not_fit_is_told_and_cut_off_when_the_log_goes_on(tmp_path: Path) -> None:
    path, columns = tmp_path / "lr_history.csv", ("iteration", "loss")
    log = CsvLog(path, columns, keep_rows=0)
    log.append({"iteration": 0, "loss": 1.5})
    with no_file_above(path.stat().st_size + 3):
        with pytest.raises(OSError, match=r"File too large: .*lr_history\.csv"):
            log.append({"iteration": 1, "loss": 2.5})
        log.close()  # nothing is left that would be refused again
    assert path.read_text() == "iteration,loss\n0,1.5\n1,2"
    again = CsvLog(path, columns, keep_rows=1)
    again.append({"iteration": 1, "loss": 2.5})
    again.close()
    assert list(csv.reader(path.open())) == [["iteration", "loss"], ["0", "1.5"], ["1", "2.5"]]


def test_a_row_that_the_disk_refuses_is_not_offered_again(tmp_path: Path) -> None:
    history = LRHistory(tmp_path / "lr_history.csv", keep_rows=0)
    history.sync()
    history.append(a_record(0), phase="finetune", epoch=1)
    with no_file_above(8), pytest.raises(OSError, match=r"File too large: .*lr_history\.csv"):
        history.give()
    history.close()
    assert (tmp_path / "lr_history.csv").read_text().splitlines()[1:] == []
