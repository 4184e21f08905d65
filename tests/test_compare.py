"""`python -m trainer.compare`: settings, means, paired intervals and targets against a calculation by hand."""

import json
import math
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from faults import Ended, Fault, promised, run_main
from PIL import Image
from scipy import stats

from trainer.comparison.answer import as_frame, notes, table, verdict
from trainer.comparison.page import compare_command
from trainer.comparison.pictures import mean_curve
from trainer.comparison.runs import check_comparable, find_runs
from trainer.comparison.settings import find_settings
from trainer.comparison.statistics import Comparison, compare, t_interval
from trainer.run_dir import RunDir
from trainer.sweep import JobRecord

CLR = {"kind": "clr", "max_lr": 3e-3}
FIXED = {"kind": "constant", "lr": 1e-3}
IMAGES = ("image,split,target", "a.png,val,1", "b.png,val,2", "c.png,test,3")


def make_run(
    folder: Path,
    value: float | None,
    *,
    seed: int = 1,
    scheduler: dict[str, Any] = CLR,
    monitor: str = "mae",
    curve: tuple[float, ...] = (9.0, 5.0, 3.0),
    images: tuple[str, ...] = IMAGES,
    **config: Any,
) -> Path:
    """A finished run of three epochs of 10 updates and 2 s each, as far as a comparison looks into one."""
    folder.mkdir(parents=True)
    run, epochs = RunDir(folder), range(1, len(curve) + 1)
    run.config.write_text(f"seed: {seed}\n")
    run.environment.write_text("{}")
    metrics = {"epoch": epochs, "iteration": [10 * epoch for epoch in epochs], "seconds": 2.0, monitor: curve}
    pd.DataFrame(metrics).to_csv(run.metrics, index=False)
    updates = np.arange(1, 10 * len(curve) + 1)
    rates = {"iteration": updates, "lr_backbone": np.where(updates > 10, 1e-3, np.nan), "lr_head": updates * 1e-4}
    pd.DataFrame(rates).to_csv(run.lr_history, index=False)
    run.predictions.write_text("\n".join(images) + "\n")
    base = {"task": {"kind": "regression"}, "data": {"kind": "csv", "table": "t.csv"}, "seed": seed}
    results = {
        "monitor": monitor,
        "split": "val",
        "taken": {"weights": "best epoch", "value": value},
        "updates": int(updates[-1]),
        "seconds": 2.0 * len(curve),
        "environment": {"folder": "/where/it/was/typed"},
        "config": {**base, "scheduler": scheduler, **config},
    }
    run.results.write_text(json.dumps(results))
    return folder


def make_sweep(folder: Path, values: dict[str, tuple[float, ...]], **more: Any) -> Path:
    """Runs for the seeds 1, 2, ... of cycles (`clr`) and constant rates (`1e-3`, ...)."""
    for setting, of_seeds in values.items():
        scheduler = CLR if setting == "clr" else {"kind": "constant", "lr": float(setting)}
        for seed, value in enumerate(of_seeds, start=1):
            make_run(folder / f"{setting}_{seed}", value, seed=seed, scheduler=scheduler, **more)
    return folder


def comparison_of(folder: Path, target: float | None = None) -> Comparison:
    runs, _ = find_runs([folder])
    check_comparable(runs)
    return compare(find_settings(runs)[0], target)


def run_compare(*arguments: str, folder: Path) -> Ended:
    return run_main(*arguments, folder=folder, program="trainer.compare")


def test_means_and_paired_intervals_are_those_of_scipy_and_pandas(tmp_path: Path) -> None:
    clr, slow, fast = (1.9, 2.0, 2.25), (2.05, 2.1, 2.5), (3.1, 2.2, 2.9)
    found = comparison_of(make_sweep(tmp_path, {"clr": clr, "1e-3": slow, "5e-3": fast}))
    assert [summary.setting.name for summary in found.summaries] == [
        "scheduler=clr",
        "scheduler=constant scheduler.lr=0.001",
        "scheduler=constant scheduler.lr=0.005",
    ]
    for summary, values in zip(found.summaries, (clr, slow, fast), strict=True):
        assert (summary.mean, summary.sd) == pytest.approx((pd.Series(values).mean(), pd.Series(values).std()))
        assert (summary.lowest, summary.highest, summary.updates, summary.seconds) == (min(values), max(values), 30, 6)
    assert found.summaries[0].behind is None
    for summary, values in zip(found.summaries[1:], (slow, fast), strict=True):
        tested = stats.ttest_rel(values, clr)
        interval = tested.confidence_interval(0.95)
        assert summary.behind is not None
        assert summary.behind.interval == pytest.approx((interval.low, interval.high))
        assert summary.behind.mean == pytest.approx(np.mean(values) - np.mean(clr))
        # Bonferroni over the three pairs of settings.
        assert summary.behind.beyond_chance == (tested.pvalue < 0.05 / 3)
    assert found.confidence == pytest.approx(1 - 0.05 / 3)


def test_the_higher_is_better_where_the_metric_is_a_success(tmp_path: Path) -> None:
    values = {"clr": (0.7, 0.72, 0.71), "1e-3": (0.8, 0.83, 0.81)}
    folder = make_sweep(tmp_path, values, monitor="r2", curve=(0.2, 0.74, 0.9))
    found = comparison_of(folder)
    best, other = found.summaries
    assert best.setting.name == "scheduler=constant"
    assert other.behind is not None
    assert other.behind.mean == pytest.approx(0.31 / 3)
    assert (other.behind.beyond_chance, found.target) == (True, pytest.approx(0.71))
    assert (best.reached.updates, best.reached.seconds) == (20, 4)
    first, second = verdict(found)
    assert first == "scheduler=constant is best: r2 0.8133 ± 0.015 (mean and standard deviation of 3 seeds)."
    low, high = other.behind.interval or (math.nan, math.nan)
    assert second == (
        f"Against scheduler=clr (0.71 ± 0.01) it is 0.1033 higher (95 % interval: {low:.4g} to {high:.4g} better; "
        "3 pairs of the same seed): beyond chance."
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"clr": (1.0, 2.0, 3.0), "1e-3": (3.0, 2.1, 1.2)}, "better; 3 pairs of the same seed): not beyond chance."),
        ({"clr": (1.0, 2.0), "1e-3": (3.0, 4.1)}, "it is 2.05 lower over 2 pairs of the same seed: too few to tell"),
        ({"clr": (1.0,), "1e-3": (3.0,)}, "Against scheduler=constant (3, one run) it is 2 lower over 1 pair of the "),
        ({"clr": (1.0, 2.0)}, "A second one, to compare it with, is any key with two values"),
    ],
)  # fmt: skip
def test_what_can_not_be_told_from_chance_is_said_to_be_so(
    values: dict[str, tuple[float, ...]], told: str, tmp_path: Path
) -> None:
    assert told in verdict(comparison_of(make_sweep(tmp_path, values)))[1]


def test_without_a_seed_in_common_no_difference_is_told(tmp_path: Path) -> None:
    make_run(tmp_path / "a", 1.0, seed=1)
    make_run(tmp_path / "b", 2.0, seed=2, scheduler=FIXED)
    found = comparison_of(tmp_path)
    assert "no seed was run under both" in verdict(found)[1]
    assert math.isnan(as_frame(found).loc[1, "behind_best"])


def test_only_seeds_that_both_settings_have_are_paired(tmp_path: Path) -> None:
    for seed, value in ((1, 1.0), (2, 1.1), (3, 1.3), (7, 0.9)):
        make_run(tmp_path / f"a{seed}", value, seed=seed)
    for seed, value in ((3, 2.1), (2, 2.3), (1, 2.0), (9, 5.0)):
        make_run(tmp_path / f"b{seed}", value, seed=seed, scheduler=FIXED)
    behind = comparison_of(tmp_path).summaries[1].behind
    assert behind is not None
    assert (behind.pairs, behind.mean) == (3, pytest.approx(3.0 / 3))
    assert behind.interval == pytest.approx(t_interval(np.array([1.0, 1.2, 0.8]), 0.95))


@pytest.mark.parametrize(("better", "fixed"), [(0.1, (0.2, 0.3, 0.8)), (0.0, (0.1, 0.2, 0.7))])
def test_equal_differences_are_not_called_beyond_chance(
    better: float, fixed: tuple[float, ...], tmp_path: Path
) -> None:
    values = (0.1, 0.2, 0.7)
    found = comparison_of(make_sweep(tmp_path, {"clr": values, "1e-3": fixed}, monitor="r2"))
    behind = found.summaries[1].behind
    assert behind is not None
    assert (behind.pairs, behind.mean, behind.beyond_chance) == (3, pytest.approx(better), None)
    assert "in each of 3 pairs of the same seed: r2 is too coarse to tell that from chance" in verdict(found)[1]
    headings, rows = table(found)
    assert rows[1][headings.index("beyond chance")] == "too coarse"
    assert as_frame(found)["beyond_chance"].isna().all()


def test_an_interval_of_equal_differences_has_no_width() -> None:
    assert t_interval(np.array([0.5, 0.5, 0.5]), 0.95) == (0.5, 0.5)


def test_the_target_is_reached_by_the_first_epoch_that_is_as_good(tmp_path: Path) -> None:
    make_run(tmp_path / "a1", 3.0, seed=1, curve=(9.0, 4.0, 3.0))
    make_run(tmp_path / "a2", 3.0, seed=2, curve=(4.0, 5.0, 3.0))
    make_run(tmp_path / "b1", 4.5, seed=1, scheduler=FIXED, curve=(9.0, 6.0, 4.5))
    best, other = comparison_of(tmp_path, target=4.0).summaries
    assert (best.reached.runs, best.reached.updates, best.reached.seconds) == (2, 15, 3)
    assert other.reached.runs == 0
    assert comparison_of(tmp_path).target == 4.5  # the mean of the worst setting


@pytest.mark.parametrize(("monitor", "value"), [("r2", 0.8), ("mae", 0.35)])
def test_a_setting_of_equal_runs_reaches_their_mean(monitor: str, value: float, tmp_path: Path) -> None:
    mean = float(np.mean([value] * 3))
    assert mean > value if monitor == "r2" else mean < value  # of floating point numbers
    first = 0.1 if monitor == "r2" else 9.0
    for seed in (1, 2, 3):
        make_run(tmp_path / str(seed), value, seed=seed, monitor=monitor, curve=(first, value))
    (only,) = comparison_of(tmp_path).summaries
    assert (only.reached.runs, only.reached.updates) == (3, 20)


def test_a_path_of_the_same_data_makes_no_setting_however_it_is_typed(tmp_path: Path) -> None:
    for seed, folder in ((1, ""), (2, "/where/it/was/typed/"), (3, "./")):
        data = {"kind": "csv", "table": f"{folder}t.csv", "root": f"{folder}x", "more_tables": [f"{folder}u.csv"]}
        make_run(tmp_path / str(seed), 1.0, seed=seed, data=data)
    (only,) = comparison_of(tmp_path).summaries
    assert list(only.setting.runs) == [1, 2, 3]


def test_runs_with_other_tables_of_annotators_can_not_be_compared(tmp_path: Path) -> None:
    for seed, more in ((1, []), (2, ["u.csv"])):
        make_run(tmp_path / str(seed), 1.0, seed=seed, data={"kind": "csv", "table": "t.csv", "more_tables": more})
    with pytest.raises(
        ValueError, match=r"data\.more_tables is \[\] and \['/where/it/was/typed/u\.csv'\]; compare runs"
    ):
        comparison_of(tmp_path)


def test_a_setting_is_named_by_as_few_keys_as_tell_it_apart(tmp_path: Path) -> None:
    one = {"kind": "clr", "max_lr": 3e-3, "cycles": 3}
    make_run(tmp_path / "a", 1, scheduler=one, device="cpu", pictures=True)
    make_run(tmp_path / "b", 1, scheduler=one | {"max_lr": 1e-2}, device="cuda:1", pictures=False)
    make_run(tmp_path / "c", 1, scheduler={"kind": "constant", "lr": 1.0}, optimizer={"kind": "sgd", "momentum": 0.9})
    make_run(
        tmp_path / "d", 1, scheduler={"kind": "constant", "lr": 1}, optimizer={"kind": "sgd", "momentum": 0.9}, seed=2
    )
    settings, repeated = find_settings(find_runs([tmp_path])[0])
    assert [setting.name for setting in settings] == [
        "scheduler=clr scheduler.max_lr=0.003",
        "scheduler=clr scheduler.max_lr=0.01",
        "scheduler=constant",
    ]
    assert [list(setting.runs) for setting in settings] == [[1], [1], [1, 2]]
    assert settings[2].values == {
        "optimizer": "sgd",
        "optimizer.momentum": 0.9,
        "scheduler": "constant",
        "scheduler.lr": 1.0,
    }
    assert repeated == []


def test_runs_that_can_not_be_compared_are_listed_with_the_reason(tmp_path: Path) -> None:
    make_sweep(tmp_path, {"clr": (1.0, 2.0), "1e-3": (3.0,)})
    make_run(tmp_path / "again", 1.5, seed=1)
    make_run(tmp_path / "nan", None, seed=3)
    RunDir(make_run(tmp_path / "cut", 1.0)).results.unlink()
    JobRecord(make_run(tmp_path / "failed", 1.0)).note_failure([], "loss is not finite", 4)
    JobRecord(make_run(tmp_path / "running", 1.0)).note_begun([])
    RunDir(make_run(tmp_path / "without", 1.0)).predictions.unlink()
    RunDir(make_run(tmp_path / "rateless", 0.5, seed=4)).lr_history.unlink()
    RunDir(make_run(tmp_path / "damaged", 1.0)).results.write_text("{")
    extended = RunDir(make_run(tmp_path / "extended", 1.0))
    extended.metrics.write_text(extended.metrics.read_text() + "4,40,2,1\n")
    ended = run_compare(f"runs={tmp_path}", folder=tmp_path)
    assert ended.code == 0, ended.err
    told = dict(re.findall(r"left out: \S+/(\w+): (.*)", ended.out))
    assert told.pop("damaged").startswith("its files are damaged (JSONDecodeError: ")
    assert told.pop("again").startswith("the same setting and seed as ")
    assert told == {
        "nan": "its mae is not a number",
        "cut": "not finished",
        "failed": "failed: loss is not finite",
        "running": "not finished",
        "without": "its predictions.csv is missing",
        "rateless": "its lr_history.csv is missing",
        "extended": "not finished: it was given more epochs, and cut",
    }
    assert pd.read_csv(tmp_path / "compare.csv")["runs"].tolist() == [2, 1]


class Page(HTMLParser):
    """What a page holds: its text, and everything that it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.loaded = "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_answers_first_and_loads_nothing(tmp_path: Path) -> None:
    make_sweep(tmp_path, {"clr": (1.0, 1.1, 1.2), "1e-3": (2.0, 2.15, 2.2)})
    first, second = make_sweep(tmp_path / "x<b>", {"5e-3": (3.0,)}), tmp_path
    ended = run_compare(f'runs=["{second}/clr_1","{second}/1e-3_1","{first}"]', "target=2.5", folder=tmp_path)
    assert ended.code == 0, ended.err
    (out,) = (tmp_path / "outputs").glob("*/*_compare")
    page = Page(out / "compare.html")
    assert page.text.index("scheduler=clr is best") < page.text.index("behind best")
    assert len(page.loaded) == 3
    assert all(uri.startswith("data:image/png;base64,") for uri in page.loaded)
    assert "reached 2.5" in page.text
    assert "x<b>" in page.text
    assert ended.out.split("\n")[1].startswith("scheduler=clr is best: mae 1 (one run).")
    for name in ("values", "curves", "learning_rates"):
        with Image.open(out / "compare" / f"{name}.png") as picture:
            assert picture.width == 1200


def test_the_curve_of_a_setting_goes_as_far_as_all_its_runs(tmp_path: Path) -> None:
    make_run(tmp_path / "a", 1, seed=1, curve=(9.0, 5.0, 3.0))
    make_run(tmp_path / "b", 1, seed=2, curve=(7.0, 6.0))
    (setting,), _ = find_settings(find_runs([tmp_path])[0])
    curve = mean_curve(setting)
    assert curve.index.tolist() == [10, 20]
    assert curve.to_numpy().tolist() == [[8.0, 7.0, 9.0], [5.5, 5.0, 6.0]]


def test_unequal_budgets_and_numbers_of_runs_are_noted(tmp_path: Path) -> None:
    make_run(tmp_path / "a", 1, seed=1)
    make_run(tmp_path / "b", 1, seed=2)
    make_run(tmp_path / "c", 2, scheduler=FIXED, curve=(9.0, 5.0))
    told = " ".join(notes(comparison_of(tmp_path)))
    assert "Budgets differ: scheduler=constant made 20 updates in the mean, scheduler=clr 30." in told
    assert "different numbers of runs" in told
    assert "chose its best epoch on the validation images" in told


def test_the_command_on_the_page_is_read_as_the_folders_that_were_compared(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "a, b" / "0=x", 1), make_run(tmp_path / "c'd", 2, scheduler=FIXED)]
    typed = shlex.split(compare_command(folders))
    ended = run_compare(*typed[3:], folder=tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out.count("is best") == 1


def _two(folder: Path, **changed: Any) -> list[str]:
    make_run(folder / "r" / "a", 1.0)
    make_run(folder / "r" / "b", 1.0, seed=2, **changed)
    return ["runs=r"]


def _none_finished(folder: Path) -> list[str]:
    RunDir(make_run(folder / "r" / "0_a", 1.0)).results.unlink()
    return ["runs=r"]


def _empty(folder: Path) -> list[str]:
    (folder / "r").mkdir()
    return ["runs=r"]


FAULTS = [
    Fault(
        "no runs to compare",
        2,
        "runs=null: name a sweep, runs=multirun/DATE/TIME, or several folders, runs=[DIR,DIR]",
        lambda folder: [],
    ),
    Fault(
        "runs in a folder that is not there",
        2,
        "runs=absent: there is no such folder; name a sweep, a run, or a folder of runs",
        lambda folder: ["runs=absent"],
    ),
    Fault(
        "a folder without runs", 2, "runs=r holds no run, up to 3 folders deep; name a sweep or a run", _empty
    ),
    Fault("no run is finished", 2, "runs=r has no finished run to compare (0_a: not finished)", _none_finished),
    Fault(
        "runs on different tables",
        2,
        "r/a and r/b can't be compared: data.table is …t.csv and …u.csv; compare runs on the same data",
        lambda folder: _two(folder, data={"kind": "csv", "table": "u.csv"}),
    ),
    Fault(
        "runs with different monitors",
        2,
        "r/a and r/b can't be compared: they monitor mae and rmse; give both one task.monitor",
        lambda folder: _two(folder, monitor="rmse"),
    ),
    Fault(
        "runs judged on different images",
        2,
        "r/a and r/b can't be compared: they were judged on different images (2 of val and 1 of val, 1 in both); give "
        "both the same split, by a split column or by data.val_fraction, data.test_fraction and data.split_seed",
        lambda folder: _two(folder, images=IMAGES[:2]),
    ),
    Fault("a target that is no number", 2, "target=good must be a number", lambda folder: ["runs=r", "target=good"]),
    Fault(
        "a comparison of several values",
        2,
        "trainer.compare takes one comparison; leave out -m, and give several folders as runs=[DIR,DIR]",
        lambda folder: ["-m", "runs=a,b"],
    ),
]  # fmt: skip


def test_a_sweep_that_is_typed_as_a_mode_is_refused_too(tmp_path: Path) -> None:
    ended = run_compare("hydra.mode=MULTIRUN", "runs=a,b", folder=tmp_path)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "trainer.compare takes one comparison; leave out -m" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistake_is_told_as_promised(fault: Fault, tmp_path: Path) -> None:
    arguments = fault.arrange(tmp_path)
    before = set(tmp_path.rglob("*"))
    ended = run_compare(*arguments, folder=tmp_path)
    assert ended.code == fault.code, ended.err
    pattern = "error: " + ".*".join(re.escape(part) for part in fault.message.split("…"))
    assert re.fullmatch(pattern, ended.err.strip()), ended.err
    assert {path for path in set(tmp_path.rglob("*")) ^ before if path.is_file() or path in before} == set()


def test_the_page_promises_what_is_tested_here() -> None:
    assert {fault.name: (fault.code, fault.message) for fault in FAULTS}.items() <= promised().items()
