"""A run that was stopped goes on as if nothing had happened."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY, TINY_LABELS, compose, run_command, run_in_process
from faults import run_main
from stopped_runs import run_in_parts, start_or_resume

from benchmarks.killed_runs import differences
from trainer.config.store import to_train_config
from trainer.run_dir import RunDir
from trainer.train import train

SMALL = (*TINY, "task.num_overlays=1")
NO_CYCLE = tuple(text for text in SMALL if not text.startswith("scheduler."))
TESTS = ("range_test=on", "range_test.num_steps=20", "range_test.skip_start=1", "range_test.skip_end=1")
# What draws random numbers, spans updates or remembers, each with the checks at which its parts end. An epoch has three
# checks for its updates and one before the only batch of its validation, where a part of one check gets nothing done:
# so one is followed by a two.
CASES = {
    "augmentation, dropout, moving average, accumulation, bf16, one cycle": (
        (
            *NO_CYCLE,
            "model.dropout=0.2",
            "ema_decay=0.9",
            "data.batch_size=2",
            "accumulation=2",
            "precision=bf16",
            "scheduler=onecycle",
            "scheduler.cycle_momentum=true",
        ),
        (1, 2),
    ),
    "plateau, early stopping": (
        (*NO_CYCLE, "scheduler=plateau", "scheduler.patience=0", "optimizer=sgd", "early_stopping_epochs=1"),
        (3, 2),
    ),
    "range tests, which start again": ((*SMALL, *TESTS, "model.dropout=0.2"), (7, 25)),
    "mixup and balance": (
        (*TINY_LABELS, "task=classification", "task.num_samples=0", "data.mixup=0.3", "data.balance=true"),
        (4, 3),
    ),
    "a budget that ends phases within an epoch": ((*SMALL, "max_steps=9"), (5, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_in_parts_equals_an_uninterrupted_one(case: str, tmp_path: Path) -> None:
    settings, checks = CASES[case]
    whole, stopped = RunDir(tmp_path / "whole"), RunDir(tmp_path / "stopped")
    start_or_resume(whole.path, *settings)
    assert run_in_parts(stopped.path, settings, checks) >= 3
    assert differences(stopped, whole) == []


def test_the_number_of_workers_may_change_between_the_parts(tiny_run: RunDir, tmp_path: Path) -> None:
    assert run_in_parts(tmp_path / "run", TINY, checks=(4, 5), workers=(2, 0, 1)) >= 3
    assert differences(RunDir(tmp_path / "run"), tiny_run) == []


def run_of(folder: Path) -> RunDir:
    return RunDir(next((folder / "outputs").glob("*/*")))


def resume(path: Path, *overrides: str, started_with: tuple[str, ...] = ()) -> float:
    composed = compose(*TINY, *started_with, *overrides, f"resume={path}")
    return train(to_train_config(composed), RunDir(path), composed, list(overrides))


def test_a_finished_run_that_is_resumed_says_so_and_changes_no_file(tiny_run: RunDir, tmp_path: Path) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    copied.lock.touch()  # there since the run began, where the command made it
    before = {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file()}
    ended = run_main(f"resume={copied.path}", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "is finished: nothing was written" in ended.out
    assert {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file()} == before


def test_more_epochs_of_a_schedule_that_permits_it_equal_a_longer_run(tmp_path: Path) -> None:
    constant = ("scheduler=constant", *TINY[:-2], "device=cpu")
    for name, epochs in (("long", 3), ("short", 2)):
        composed = compose(*constant, f"phases.finetune.epochs={epochs}")
        train(to_train_config(composed), RunDir(tmp_path / name), composed, [])
    composed = compose(*constant, "phases.finetune.epochs=3", f"resume={tmp_path / 'short'}")
    train(to_train_config(composed), RunDir(tmp_path / "short"), composed, [])
    assert differences(RunDir(tmp_path / "short"), RunDir(tmp_path / "long")) == []


def test_more_epochs_under_a_fitted_cycle_are_refused_by_name(tiny_run: RunDir, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"phases\.finetune\.epochs: 6 updates were made under a schedule"):
        resume(tmp_path / "copy", "phases.finetune.epochs=5")


def test_a_refused_resume_leaves_the_run_as_it_was(tiny_run: RunDir, tmp_path: Path) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    before = copied.config.read_bytes()
    with pytest.raises(ValueError, match="can be extended"):
        resume(copied.path, "phases.finetune.epochs=5")
    assert copied.config.read_bytes() == before
    resume(copied.path)


def test_what_one_resume_changed_holds_for_the_next(tmp_path: Path) -> None:
    tiny = [text for text in TINY if not text.startswith("scheduler.")]
    first = run_command("scheduler=constant", *tiny, "phases=finetune_only", "phases.frozen.epochs=0", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    path = run_of(tmp_path).path
    for override in ("phases.finetune.epochs=3", "data.cache_gb=0"):
        ended = run_command(f"resume={path}", override, folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
    assert len(run_of(tmp_path).lr_history.read_text().splitlines()) == 1 + 3 * 3
    assert compose(*run_of(tmp_path).read_environment()["overrides"]).phases.finetune.epochs == 3


def test_other_epochs_under_a_budget_are_refused(tmp_path: Path) -> None:
    run_in_process(tmp_path / "run", "max_steps=8")
    with pytest.raises(ValueError, match="under max_steps or max_minutes"):
        resume(tmp_path / "run", "phases.finetune.epochs=9", started_with=("max_steps=8",))


def test_resume_under_other_data_names_the_key_and_leaves_the_run_alone(tiny_run: RunDir, tmp_path: Path) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    before = copied.config.read_bytes()
    ended = run_command(f"resume={copied.path}", "data.split_seed=3", folder=tmp_path)
    assert ended.returncode == 2
    assert "data.split_seed: was 0, now 3" in ended.stderr
    assert copied.config.read_bytes() == before


def test_the_results_hold_what_a_sweep_or_a_person_asks_for(tiny_run: RunDir) -> None:
    results = json.loads(tiny_run.results.read_text())
    assert results["learning_rates"]["frozen"]["updates"] == 6
    assert results["learning_rates"]["frozen"]["backbone_max"] is None
    assert results["config"]["phases"]["frozen"]["epochs"] == 2
    seconds = pd.read_csv(tiny_run.metrics).groupby("phase")["seconds"].sum()
    assert results["seconds_per_phase"] == pytest.approx(seconds.to_dict(), abs=0.01)
    assert {"torch", "timm"} <= set(results["environment"]["versions"])
    assert set(results["phases"]) == {"frozen", "finetune"}
