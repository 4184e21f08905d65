"""A run that was stopped goes on as if nothing had happened."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import TINY, TINY_LABELS, compose, run_in_process
from faults import run_main
from stopped_runs import StopAt, StopOnceThere, run_in_parts, start_or_resume

from benchmarks.killed_runs import differences
from trainer.config.store import to_train_config
from trainer.run_dir import RunDir
from trainer.train import train

SMALL = (*TINY, "pictures=false")
NO_CYCLE = tuple(text for text in SMALL if not text.startswith("scheduler."))
OF_PHANTOMS = ("data.num", "data.height", "data.width")
# Explicit rates, so that a run goes on whatever its short test finds.
RATES = ("scheduler.base_lr=1e-4", "scheduler.max_lr=3e-3")
TESTS = ("range_test=on", "range_test.num_steps=24", "range_test.skip_start=2", "range_test.skip_end=2", *RATES)
# What draws random numbers, spans updates or remembers, each with the checks at which its parts end. An epoch has three
# checks for its updates and one before each batch of its validation (two in batches of 2, else one), where a part gets
# nothing done, so a greater number follows.
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
        (6, 5),
    ),
    "plateau, early stopping": (
        (*NO_CYCLE, "scheduler=plateau", "scheduler.patience=0", "optimizer=sgd", "early_stopping_epochs=1"),
        (6, 5),
    ),
    "range tests, which start again": ((*SMALL, *TESTS, "model.dropout=0.2"), (7, 40)),
    "snapshots": ((*SMALL, "snapshots=true", "scheduler.cycles=2"), (6, 5)),
    "mixup and balance": (
        (*TINY_LABELS, "task=classification", "pictures=false", "data.mixup=0.3", "data.balance=true"),
        (5, 6),
    ),
    "a budget that ends phases within an epoch": ((*SMALL, "max_steps=9"), (5, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_in_parts_equals_an_uninterrupted_one(case: str, tmp_path: Path) -> None:
    settings, checks = CASES[case]
    whole, stopped = RunDir(tmp_path / "whole"), RunDir(tmp_path / "stopped")
    start_or_resume(whole.path, *settings)
    assert run_in_parts(stopped.path, settings, checks) >= 3
    assert differences(stopped, whole) == []


def test_the_number_of_workers_may_change_between_the_parts(tiny_run: RunDir, tmp_path: Path) -> None:
    assert run_in_parts(tmp_path / "run", SMALL, checks=(4, 5), workers=(2, 0, 1)) >= 3
    assert differences(RunDir(tmp_path / "run"), tiny_run) == []


def test_a_stopped_run_of_range_tests_alone_ends_as_one(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    settings = (*SMALL, *TESTS, "range_test=only")
    found = run_dir.range_test("frozen") / "range_test.json"
    assert not start_or_resume(run_dir.path, *settings, request=StopOnceThere(found))
    assert start_or_resume(run_dir.path, *settings)
    assert len(run_dir.lr_history.read_text().splitlines()) == 1
    assert json.loads(run_dir.results.read_text())["range_test"].keys() == {"frozen"}


def resume(path: Path, *overrides: str, started_with: tuple[str, ...] = ()) -> float:
    composed = compose(*TINY, *started_with, *overrides, f"resume={path}")
    return train(to_train_config(composed), RunDir(path), composed, list(overrides))


def test_a_finished_run_that_is_resumed_says_so_and_changes_no_file(tiny_run: RunDir, tmp_path: Path) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    copied.lock.touch()  # there since the run began, where the command made it
    before = {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file()}
    ended = run_main(f"resume={copied.path}", "data.workers=1", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "is finished: nothing was written" in ended.out
    assert {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file()} == before


def test_more_epochs_of_a_schedule_that_permits_it_equal_a_longer_run(tmp_path: Path) -> None:
    constant = ("scheduler=constant", *NO_CYCLE)
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
    run_dir = RunDir(tmp_path / "run")
    settings = ("scheduler=constant", *NO_CYCLE, "phases=finetune_only", "phases.frozen.epochs=0")
    assert not start_or_resume(run_dir.path, *settings, request=StopAt(2))
    for override in ("phases.finetune.epochs=3", "data.cache_gb=0"):
        ended = run_main(f"resume={run_dir.path}", override, folder=tmp_path)
        assert ended.code == 0, ended.err
    assert len(run_dir.lr_history.read_text().splitlines()) == 1 + 3 * 3
    assert compose(*run_dir.read_environment()["overrides"]).phases.finetune.epochs == 3


def test_what_does_not_shape_the_result_may_change_and_is_told(tiny_run: RunDir, tmp_path: Path) -> None:
    assert not start_or_resume(tmp_path / "run", *SMALL, request=StopAt(6))
    changed = {
        "checkpoint.every_steps=2": "(was None)",
        "data.workers=1": "(was 0)",
        "early_stopping_epochs=9": "(was None)",
        "max_skipped=3": "(was 10)",
        "on_nonfinite=skip": "(was stop)",
    }
    ended = run_main(f"resume={tmp_path / 'run'}", *changed, folder=tmp_path)
    assert ended.code == 0, ended.err
    for override, was in changed.items():
        assert f"resumed with {override} {was}" in ended.out
    assert differences(RunDir(tmp_path / "run"), tiny_run) == []


def test_everything_that_may_not_change_is_named(tiny_run: RunDir, tmp_path: Path) -> None:
    copied = RunDir(tmp_path / "copy")
    shutil.copytree(tiny_run.path, copied.path)
    before = {path: path.read_bytes() for path in copied.path.rglob("*") if path.is_file() and path.name != "train.log"}
    asked = ("seed=1", "data.split_seed=3", "model.dropout=0.5", "scheduler.max_lr=2e-2", "data.workers=1")
    ended = run_main(f"resume={copied.path}", *asked, folder=tmp_path)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    for told in (
        "seed: was 0, now 1",
        "data.split_seed: was 0, now 3",
        "model.dropout: was 0.0, now 0.5",
        "; scheduler.max_lr: was 0.01, now 0.02",
    ):
        assert told in ended.err
    assert "data.workers: was" not in ended.err
    assert {path: path.read_bytes() for path in before} == before


def test_relative_paths_mean_what_they_meant_where_the_run_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "here" / "points"
    images.mkdir(parents=True)
    lines = ["image,x0,y0,x1,y1"]
    for index in range(8):
        cv2.imwrite(str(images / f"{index}.png"), np.random.default_rng(index).integers(0, 255, (80, 70), np.uint8))
        lines.append(f"{index}.png,{10 + index},20,{50 - index},60")
    (images / "points.csv").write_text("\n".join(lines))
    (tmp_path / "elsewhere").mkdir()
    settings = (
        "data=csv",
        "data.table=points/points.csv",
        *(text for text in SMALL if not text.startswith(OF_PHANTOMS)),
    )
    monkeypatch.chdir(tmp_path / "here")
    assert not start_or_resume(tmp_path / "run", *settings, request=StopAt(2))
    monkeypatch.undo()
    ended = run_main("resume=../run", folder=tmp_path / "elsewhere")
    assert ended.code == 0, ended.err
    assert RunDir(tmp_path / "run").results.exists()


def test_other_threads_than_the_run_began_with_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_dir = RunDir(tmp_path / "run")
    assert not start_or_resume(run_dir.path, *SMALL, request=StopAt(2))
    run_dir.environment.write_text(run_dir.environment.read_text().replace('"threads": 1', '"threads": 3'))
    assert not start_or_resume(run_dir.path, *SMALL, request=StopAt(1))
    assert "not to the last bit as if it had not been stopped (threads: was 3, now 1)" in caplog.text


def test_other_epochs_under_a_budget_are_refused(tmp_path: Path) -> None:
    run_in_process(tmp_path / "run", "max_steps=8")
    with pytest.raises(ValueError, match="under max_steps or max_minutes"):
        resume(tmp_path / "run", "phases.finetune.epochs=9", started_with=("max_steps=8",))


def test_the_results_hold_what_a_sweep_or_a_person_asks_for(tiny_run: RunDir) -> None:
    results = json.loads(tiny_run.results.read_text())
    assert results["learning_rates"]["frozen"]["updates"] == 6
    assert results["learning_rates"]["frozen"]["backbone_max"] is None
    assert results["config"]["phases"]["frozen"]["epochs"] == 2
    seconds = pd.read_csv(tiny_run.metrics).groupby("phase")["seconds"].sum()
    assert results["seconds_per_phase"] == pytest.approx(seconds.to_dict(), abs=0.01)
    assert {"torch", "timm"} <= set(results["environment"]["versions"])
    assert set(results["phases"]) == {"frozen", "finetune"}
