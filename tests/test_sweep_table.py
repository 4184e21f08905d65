"""sweep.csv: a row for each job that has ended, while the sweep runs and after; settings that are no grid."""

import json
import multiprocessing
from pathlib import Path

import hydra
import pandas as pd
import pytest
from conftest import compose
from documented import blocks, commands_in
from faults import run_main
from omegaconf import DictConfig, OmegaConf

from trainer.config.store import to_train_config
from trainer.grid_sweeper import register_sweeper
from trainer.output_dirs import register_output_dirs
from trainer.run_dir import RunDir
from trainer.sweep import JobRecord
from trainer.sweep_settings import checked_settings, middle_rate, with_settings
from trainer.sweep_table import write_sweep_table

PAGE = Path(__file__).parents[1] / "docs" / "compare.md"
RESULTS = ["monitor", "value", "seconds", "updates", "best_epoch", "reason"]


def record(sweep: Path, *task: str, params: str = "null", settings: str = "null") -> None:
    sweep.mkdir(parents=True, exist_ok=True)
    typed = "".join(f"\n    - {json.dumps(text)}" for text in task)
    text = (
        f"hydra:\n  sweeper:\n    params: {params}\n    settings: {settings}\n  overrides:\n    task:{typed or ' []'}\n"
    )
    (sweep / "multirun.yaml").write_text(text)


def finish(folder: Path, value: float, *overrides: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"scheduler": {"kind": "clr"}, "seed": 7}
    results = {"monitor": "mre_mm", "seconds": 12.5, "updates": 40, "best": {"epoch": 3}, "config": config}
    RunDir(folder).results.write_text(json.dumps(results))
    JobRecord(folder).note_finished(list(overrides), value)


def table_of(sweep: Path) -> pd.DataFrame:
    return pd.read_csv(sweep / "sweep.csv", dtype=str, keep_default_na=False)


def test_the_table_grows_by_a_row_with_every_job_that_ends(tmp_path: Path) -> None:
    record(tmp_path, "scheduler=clr,constant", "seed=1,2", "data.batch_size=4")
    JobRecord(tmp_path / "0_a").note_begun(["scheduler=clr", "seed=1", "data.batch_size=4"])
    assert not (tmp_path / "sweep.csv").exists()
    finish(tmp_path / "0_a", 1.25, "scheduler=clr", "seed=1", "data.batch_size=4")
    first = table_of(tmp_path)
    assert list(first) == ["job", "folder", "status", "scheduler", "seed", *RESULTS]
    assert first.to_numpy().tolist() == [
        ["0", "0_a", "finished", "clr", "1", "mre_mm", "1.25", "12.5", "40", "3", ""],
    ]
    JobRecord(tmp_path / "10_b").note_failure(["scheduler=constant", "seed=2"], "a full disk, or so", 4)
    finish(tmp_path / "2_c", float("nan"), "scheduler=constant", "seed=1")
    table = table_of(tmp_path)
    assert table["job"].tolist() == ["0", "2", "10"]
    assert table["status"].tolist() == ["finished", "finished", "failed"]
    assert table["value"].tolist() == ["1.25", "", ""]
    assert table.loc[2, "reason"] == "a full disk, or so"

    # Run again once mended, it has one row, not two.
    finish(tmp_path / "10_b", 2.5, "scheduler=constant", "seed=2")
    assert table_of(tmp_path)["value"].tolist() == ["1.25", "", "2.5"]


def test_keys_of_params_and_settings_are_columns_too(tmp_path: Path) -> None:
    settings = '[[], ["scheduler=constant", "+phases.frozen.scheduler.lr=${scheduler.max_lr}", "~data.x"]]'
    record(tmp_path, "data.batch_size=4", params="{seed: '1,2', device: cpu}", settings=settings)
    finish(tmp_path / "1_a", 1, "seed=2", "device=cpu", "scheduler=constant", "+phases.frozen.scheduler.lr=0.003")
    finish(tmp_path / "2_b", 1, "device=cpu")  # what a setting leaves as it is stands in the config
    table = table_of(tmp_path)
    keys = ["scheduler", "phases.frozen.scheduler.lr", "seed"]
    assert list(table)[3 : -len(RESULTS)] == keys
    assert table[keys].to_numpy().tolist() == [["constant", "0.003", "2"], ["clr", "", "7"]]


def test_a_damaged_job_and_one_that_was_moved_away_do_no_harm(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    record(sweep, "seed=1,2")
    finish(sweep / "nested" / "0_a", 1, "seed=1")
    (sweep / "1_b").mkdir()
    (sweep / "1_b" / "job.json").write_text("{")
    write_sweep_table(sweep)
    assert table_of(sweep)[["job", "folder"]].to_numpy().tolist() == [["", "nested/0_a"]]
    finish(tmp_path / "elsewhere" / "0_a", 1, "seed=1")
    assert {path.name for path in tmp_path.iterdir()} == {"sweep", "elsewhere"}
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"0_a"}


def _finish_many(sweep: Path, numbers: range) -> None:
    for number in numbers:
        finish(sweep / f"{number}_a", number, f"seed={number}")


def test_jobs_that_end_at_once_in_processes_of_their_own_lose_no_row(tmp_path: Path) -> None:
    record(tmp_path, "seed=1,2")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_finish_many, args=(tmp_path, range(start, start + 5))) for start in (0, 5, 10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    table = table_of(tmp_path)
    assert table["job"].tolist() == [str(number) for number in range(15)]
    assert table["seed"].tolist() == table["job"].tolist()


def master(*overrides: str) -> DictConfig:
    """The config of a sweep as its sweeper sees it."""
    register_output_dirs()
    register_sweeper()
    with hydra.initialize_config_module("conf", version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)


def configs_of(*typed: str) -> list[DictConfig]:
    """The config of each job of experiment=clr_vs_fixed, typed so, for one seed."""
    sweep = master(*typed)
    settings = checked_settings(OmegaConf.to_container(sweep.hydra.sweeper.settings, resolve=True))
    assert sweep.hydra.sweeper.params.seed == "1,2,3"
    return [compose(*overrides) for overrides in with_settings(settings, [["seed=1", *typed]], sweep)]


def rates(config: DictConfig) -> list[tuple[float, ...]]:
    typed = to_train_config(config)
    schedulers = (typed.phases.frozen.scheduler, typed.phases.finetune.scheduler)
    names = {"clr": ("base_lr", "max_lr"), "constant": ("lr",)}
    return [tuple(getattr(scheduler, name) for name in names[scheduler.kind]) for scheduler in schedulers]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ((), [[(1e-4, 1e-2)] * 2, [(1e-2,)] * 2, [(1e-3,)] * 2]),
        (
            ("scheduler.max_lr=9e-3", "scheduler.mode=triangular2", "scheduler.base_lr=1e-3"),
            [[(1e-3, 9e-3)] * 2, [(9e-3,)] * 2, [(3e-3,)] * 2],
        ),
        (
            ("phases.finetune.scheduler.max_lr=4e-4",),
            [[(1e-4, 1e-2), (1e-4, 4e-4)], [(1e-2,), (4e-4,)], [(1e-3,), (2e-4,)]],
        ),
        (("range_test=on",), [[("auto", "auto")] * 2, [("auto",)] * 2]),
        (
            ("task=classification", "data=image_folder", "data.root=photos"),
            [[(1e-4, 3e-3)] * 2, [(3e-3,)] * 2, [(5.48e-4,)] * 2],
        ),
    ],
)
def test_the_recipe_compares_cycles_with_constant_rates_of_the_same_bounds(
    typed: tuple[str, ...], expected: list[list[tuple[float | str, ...]]]
) -> None:
    assert [rates(config) for config in configs_of("experiment=clr_vs_fixed", *typed)] == expected


def test_the_recipe_fits_one_that_gives_a_phase_rates_of_its_own() -> None:
    jobs = configs_of("experiment=[boneage,clr_vs_fixed]", "data.table=labels.csv")
    expected = [[(1e-4, 3e-3), (1e-4, 2e-3)], [(3e-3,), (2e-3,)], [(5.48e-4,), (4.47e-4,)]]
    assert [rates(config) for config in jobs] == expected


def test_the_recipe_fits_one_that_gives_both_phases_cycles_of_their_own() -> None:
    jobs = configs_of("experiment=[ceph,clr_vs_fixed]", "data.table=points.csv")
    expected = [[(1e-4, 3e-2), (1e-4, 1e-2)], [(3e-2,), (1e-2,)], [(1.73e-3,), (1e-3,)]]
    assert [rates(config) for config in jobs] == expected


def test_every_sweep_of_the_page_is_one_of_three_sound_settings() -> None:
    commands = [command for block in blocks(PAGE) for command in commands_in(block) if "-m" in command.arguments]
    assert len(commands) >= 4
    for command in commands:
        typed = [text for text in command.arguments if text != "-m" and not text.startswith("seed=")]
        assert len({str(rates(config)) for config in configs_of(*typed)}) == 3


def test_a_setting_takes_the_place_of_what_was_typed_for_its_keys() -> None:
    config = OmegaConf.create({"seed": 0, "scheduler": {"kind": "clr"}, "phases": {"frozen": {}, "finetune": {}}})
    jobs = with_settings(
        [[], ["scheduler=constant", "seed=5"]], [["scheduler.max_lr=1", "seed=1", "data.root=x"]], config
    )
    assert list(jobs) == [
        ["scheduler.max_lr=1", "seed=1", "data.root=x"],
        ["data.root=x", "scheduler=constant", "seed=5"],
    ]


def test_of_equal_jobs_one_is_run() -> None:
    config = OmegaConf.create({"scheduler": {"kind": "clr"}, "phases": {"frozen": {}, "finetune": {}}})
    typed = [["scheduler=clr", "seed=1"], ["scheduler=cosine", "seed=1"]]
    assert list(with_settings([[], ["scheduler=constant"]], typed, config)) == [
        *typed,
        ["seed=1", "scheduler=constant"],
    ]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("scheduler.max_lr", ("0.001", "0.005")),
        ("+phases.finetune.scheduler.max_lr", ("0.001", "0.002")),
        ("+scheduler@phases.frozen.scheduler", ("clr", "constant")),
        ("phases.frozen.scheduler", ("{max_lr:0.001}", "{max_lr:0.002}")),
    ],
)
def test_several_values_that_settings_would_have_to_follow_are_refused(
    key: str, values: tuple[str, str], tmp_path: Path
) -> None:
    ended = run_main("-m", "experiment=clr_vs_fixed", f"{key}={','.join(values)}", "seed=1", folder=tmp_path)
    told = (
        f"error: {key.lstrip('+')} has several values ({' and '.join(values)}) where a setting of the sweep "
        "chooses scheduler anew; give it one value; the settings follow it\n"
    )
    assert (ended.code, ended.err) == (2, told)
    assert list(tmp_path.iterdir()) == []


def test_a_phase_scheduler_that_is_a_word_is_not_taken_apart() -> None:
    config = OmegaConf.create(
        {"scheduler": {"kind": "clr"}, "phases": {"frozen": {}, "finetune": {"scheduler": "clr"}}}
    )
    typed = ["phases.finetune.scheduler=clr"]
    assert list(with_settings([["scheduler=constant"]], [typed], config)) == [[*typed, "scheduler=constant"]]


def test_the_middle_rate_is_the_geometric_mean_in_three_digits() -> None:
    assert middle_rate(1e-4, 1e-2) == 1e-3
    assert middle_rate(1e-4, 3e-3) == 5.48e-4
    assert middle_rate("auto", 3e-3) == "auto"


@pytest.mark.parametrize("settings", ["clr", "[]", "[clr]", "[[clr]]", "[[1]]"])
def test_settings_that_are_no_lists_of_overrides_are_told(settings: str, tmp_path: Path) -> None:
    ended = run_main("-m", "seed=1,2", f"hydra.sweeper.settings={settings}", folder=tmp_path)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "expected a list of settings, each a list of overrides, such as" in ended.err
