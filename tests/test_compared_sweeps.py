"""Real sweeps that are summed up: sweep.csv and compare.csv against what the jobs left, and the recipe of cycles."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from faults import run_main
from scipy import stats
from test_sweep import ONE_EPOCH, SHORT, job_of, outcome_of, sweep_of

from trainer.comparison.runs import higher_is_better
from trainer.tasks.classification import ClassificationTask
from trainer.tasks.landmarks import LandmarkTask
from trainer.tasks.regression import RegressionTask

PAGE = Path(__file__).parents[1] / "docs" / "compare.md"


def test_the_recipe_runs_compares_and_answers_by_itself(tmp_path: Path) -> None:
    ended = run_main("-m", "experiment=clr_vs_fixed", *ONE_EPOCH, folder=tmp_path)
    assert ended.code == 0, ended.err
    sweep = sweep_of(tmp_path)
    rows = pd.read_csv(sweep / "sweep.csv")
    table = pd.read_csv(sweep / "compare.csv")
    assert len(rows) == 9
    assert sorted(table["setting"]) == [
        "scheduler=clr",
        "scheduler=constant scheduler.lr=0.001",
        "scheduler=constant scheduler.lr=0.01",
    ]
    # The same numbers from sweep.csv, which was written by another part of the program.
    values = {
        "scheduler=clr": rows[rows["scheduler"] == "clr"].set_index("seed"),
        "scheduler=constant scheduler.lr=0.001": rows[rows["scheduler.lr"] == 1e-3].set_index("seed"),
        "scheduler=constant scheduler.lr=0.01": rows[rows["scheduler.lr"] == 1e-2].set_index("seed"),
    }
    best = min(values, key=lambda name: values[name]["value"].mean())
    assert table["setting"][0] == best
    for row in table.to_dict("records"):
        mine, theirs = (values[name].loc[[1, 2, 3], "value"] for name in (row["setting"], best))
        updates = values[row["setting"]]["updates"].mean()
        assert (row["mean"], row["sd"], row["updates"]) == pytest.approx((mine.mean(), mine.std(), updates))
        if row["setting"] != best:
            interval = stats.ttest_rel(mine, theirs).confidence_interval(0.95)
            assert (row["behind_best_low"], row["behind_best_high"]) == pytest.approx((interval.low, interval.high))
    assert f"{best} is best: mre_mm" in ended.out
    assert ended.out.index(" is best: ") < ended.out.index(": 9 finished")
    assert (sweep / "compare.html").is_file()

    # Compared again by hand, as the page of compare says, and told from a finished sweep that is gone on with.
    commands = re.findall(r"^    python -m trainer\.compare (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        arguments = shlex.split(re.sub(r"multirun/2026[-/0-9]+", str(sweep.relative_to(tmp_path)), command))
        ended = run_main(*arguments, folder=tmp_path, program="trainer.compare")
        assert ended.code == 0, ended.err
        assert f"{best} is best" in ended.out
    before = (sweep / "compare.html").stat().st_mtime_ns
    again = run_main("-m", "experiment=clr_vs_fixed", *ONE_EPOCH, "sweep.resume=true", folder=tmp_path)
    assert again.code == 0, again.err
    assert (sweep / "compare.html").stat().st_mtime_ns == before


def test_jobs_that_can_not_be_compared_do_not_fail_their_sweep(tmp_path: Path) -> None:
    ended = run_main("-m", "data.split_seed=0,1", *ONE_EPOCH, folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "the jobs are not compared: " in ended.out
    assert "they were judged on different images (3 of val and 3 of val, " in ended.out
    assert ": 2 finished" in ended.out


def test_a_real_sweep_with_a_failing_job_is_complete_once_it_was_mended(tmp_path: Path) -> None:
    settings = ("-m", *SHORT, "phases.finetune.epochs=2", "scheduler.max_lr=1e-3,1e30", "seed=1,2")
    assert run_main(*settings, folder=tmp_path).code == 4
    sweep = sweep_of(tmp_path)
    table = pd.read_csv(sweep / "sweep.csv", dtype=str, keep_default_na=False)
    assert list(table)[3:5] == ["scheduler.max_lr", "seed"]
    assert table["status"].tolist() == ["finished", "finished", "failed", "failed"]
    for number in range(2):
        results = json.loads(job_of(sweep, number).results.read_text())
        assert float(table["value"][number]) == outcome_of(sweep, number).value == results["taken"]["value"]
        assert table["updates"][number] == str(results["updates"])
        assert table["best_epoch"][number] == str(results["best"]["epoch"])

    whole = (sweep / "sweep.csv").read_bytes()
    (sweep / "sweep.csv").unlink()
    assert run_main(*settings, "sweep.resume=true", folder=tmp_path).code == 4
    assert (sweep / "sweep.csv").read_bytes() == whole


def test_metrics_are_better_in_the_direction_that_the_tasks_say() -> None:
    for task, kind, metrics in (
        (
            ClassificationTask,
            "classification",
            ("val_loss", "train_loss", "accuracy", "macro_f1", "auroc", "ece", "top_3"),
        ),
        (RegressionTask, "regression", ("val_loss", "train_loss", "mae", "rmse", "r2", "median_error")),
        (LandmarkTask, "landmarks", ("val_loss", "train_loss", "mre_mm", "median_px", "nme", "sdr_2mm", "sdr_2.5px")),
    ):
        for metric in metrics:
            bare = task.__new__(task)
            bare.monitor, bare.own = metric, None
            assert higher_is_better(kind, metric) == (bare.monitor_mode == "max"), (kind, metric)
