"""The range test inside a run: what it changes (rates), what it leaves (files), and what it must not touch."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import compose, run_in_process
from safetensors.torch import load_file
from test_training import begin, prepared

from trainer.config.range_test import RangeTestConfig
from trainer.config.store import to_train_config
from trainer.errors import TrainingError
from trainer.loop import StepRecord, UpdateRule
from trainer.phases import fingerprint
from trainer.range_test.rungs import rungs
from trainer.range_test.sweep import sweeps
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.state import TrainState, random_state

# Short climbs that a miniature survives. `optimizer=sgd` keeps its loss finite and smooth up to high rates.
SHORT = ("range_test.num_steps=24", "range_test.skip_start=2", "range_test.skip_end=2", "pictures=false")
# Explicit rates, so that a run goes on whatever its test finds.
GIVEN = ("scheduler.base_lr=1e-4", "scheduler.max_lr=3e-3")
# Everything whose state a careless test would leave behind.
DELICATE = ("model.dropout=0.3", "ema_decay=0.9", "accumulation=2", "data.batch_size=2")


def range_test(**changes: object) -> RangeTestConfig:
    overrides = [f"range_test.{key}={'null' if value is None else value}" for key, value in changes.items()]
    return to_train_config(compose("range_test=on", *SHORT, *overrides)).range_test


def climb(
    tmp_path: Path, *overrides: str, phase: int = 0, **changes: object
) -> tuple[list, list[StepRecord], TrainState, RunData, UpdateRule]:
    state, data, rule, phases = prepared(tmp_path, *overrides)
    begin(state, phases[phase])
    records: list[StepRecord] = []
    return sweeps(phases[phase], state, data, rule, range_test(**changes), records.append), records, state, data, rule


def read_finding(run_dir: RunDir, phase: str) -> dict:
    return json.loads((run_dir.range_test(phase) / "range_test.json").read_text())


@pytest.fixture(scope="module")
def tested_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A tiny run whose rates are given, with a range test of three repeats before both phases."""
    path = tmp_path_factory.mktemp("runs") / "tested"
    run_in_process(path, *DELICATE, *GIVEN, "range_test=on", "range_test.repeats=2", *SHORT, "pictures=true")
    return RunDir(path)


def test_training_after_a_range_test_equals_training_without_one(tested_run: RunDir, tmp_path: Path) -> None:
    run_in_process(tmp_path / "plain", *DELICATE, *GIVEN)
    plain = RunDir(tmp_path / "plain")
    assert tested_run.lr_history.read_bytes() == plain.lr_history.read_bytes()
    assert tested_run.predictions.read_bytes() == plain.predictions.read_bytes()
    weights, expected = load_file(tested_run.best_weights), load_file(plain.best_weights)
    assert all(weights[key].equal(expected[key]) for key in expected)


def test_each_phase_leaves_table_numbers_picture_and_suggestion(tested_run: RunDir) -> None:
    for phase in ("frozen", "finetune"):
        folder = tested_run.range_test(phase)
        table = pd.read_csv(folder / "range_test.csv")
        assert list(table)[:5] == ["step", "lr", "loss", "smoothed", "metric"]
        assert list(table)[5:] == ["loss_1", "loss_2"]
        assert table["step"].tolist() == list(range(len(table)))
        np.testing.assert_allclose(table["lr"], rungs(1e-7, 10.0, 24, "exp")[: len(table)], rtol=1e-12)
        np.testing.assert_allclose(table["loss"], table[["loss_1", "loss_2"]].median(axis=1, skipna=False))
        found = read_finding(tested_run, phase)
        assert set(found["suggestions"]) == {"steepest", "valley", "slide", "minimum"}
        assert found["settings"]["num_steps"] == 24
        assert found["verdict"]
        assert found["stop_reason"]
        assert (folder / "range_test.png").read_bytes().startswith(b"\x89PNG")
        suggested = (folder / "suggested_lr.txt").read_text().strip()
        assert suggested == ("none" if found["suggestion"] is None else f"{found['suggestion']:.6g}")


def test_fine_tuning_is_tested_from_the_weights_of_the_frozen_phase(tested_run: RunDir) -> None:
    """At the first rungs nothing moves yet: the loss is that of the weights the test began with."""
    first = {phase: pd.read_csv(tested_run.range_test(phase) / "range_test.csv")["loss"][:5].mean() for phase in
             ("frozen", "finetune")}  # fmt: skip
    after_frozen = pd.read_csv(tested_run.metrics).query("phase == 'frozen'")["train_loss"].iloc[-1]
    assert first["finetune"] == pytest.approx(after_frozen, rel=0.15)
    assert first["finetune"] < first["frozen"]


def test_repeats_see_other_data_orders_from_the_same_weights(tested_run: RunDir) -> None:
    table = pd.read_csv(tested_run.range_test("frozen") / "range_test.csv")
    assert not np.allclose(table["loss_1"], table["loss_2"])
    assert table["loss_1"][0] == pytest.approx(table["loss_2"][0], rel=0.1)


def test_a_climb_uses_the_rungs_it_reports_and_keeps_the_ratio_of_the_groups(tmp_path: Path) -> None:
    (sweep,), records, *_ = climb(tmp_path, phase=1, diverge_threshold=None, spike_threshold=None)
    expected = rungs(1e-7, 10.0, 24, "exp")[: len(records)]
    assert [record.rates["head"] for record in records] == expected.tolist() == sweep.lrs.tolist()
    assert [record.rates["backbone"] for record in records] == [rate * 0.3 for rate in expected]
    assert sweep.losses.tolist() == [record.loss for record in records]


def test_an_accumulated_update_has_one_rung_and_the_mean_loss(tmp_path: Path) -> None:
    """At the first rungs nothing moves: two micro-batches of two have the mean loss of the batch of four they make."""
    (sweep,), records, *_ = climb(tmp_path / "two", "data.batch_size=2", "accumulation=2")
    (whole,), *_ = climb(tmp_path / "four", "data.batch_size=4")
    assert all(len(record.indices) == 4 for record in records)
    assert sweep.lrs[:5].tolist() == whole.lrs[:5].tolist()
    np.testing.assert_allclose(sweep.losses[:3], whole.losses[:3], rtol=0.05)


def test_num_steps_0_is_an_epoch(tmp_path: Path) -> None:
    (sweep,), *_ = climb(tmp_path, "data.num_images=60", "data.batch_size=2", num_steps=0)
    assert len(sweep.lrs) == 24
    assert (sweep.lrs[0], sweep.lrs[-1]) == (1e-7, 10.0)


def traces(state: TrainState) -> dict[str, object]:
    """All that a range test could change."""
    assert state.optimizer is not None
    return {
        "weights and buffers": fingerprint(state.model),
        "modes": [module.training for module in state.model.modules()],
        "gradients wanted": [parameter.requires_grad for parameter in state.model.parameters()],
        "gradients": [parameter.grad is None for parameter in state.model.parameters()],
        "optimizer": {
            key: value if key == "param_groups" else {i: sorted(entry) for i, entry in value.items()}
            for key, value in state.optimizer.state_dict().items()
        },
        "momenta": [
            tensor.clone() for entry in state.optimizer.state_dict()["state"].values() for tensor in entry.values()
            if isinstance(tensor, torch.Tensor)
        ],
        "random": random_state()["cpu"].clone(),
        "counts": (state.iteration, state.phase_step, state.evaluations),
    }  # fmt: skip


def assert_no_trace(before: dict, state: TrainState) -> None:
    after = traces(state)
    for name in ("momenta",):
        assert all(one.equal(other) for one, other in zip(before.pop(name), after.pop(name), strict=True))
    assert torch.equal(before.pop("random"), after.pop("random"))
    assert before == after


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("fault", [None, RuntimeError, KeyboardInterrupt])
def test_no_trace_is_left_whether_the_climb_ends_fails_or_is_interrupted(
    fault: type[BaseException] | None, cached: bool, tmp_path: Path
) -> None:
    state, data, rule, phases = prepared(tmp_path, "model.dropout=0.3", "ema_decay=0.9")
    begin(state, phases[1])
    state.optimizer = torch.optim.AdamW(
        [{"params": list(state.backbone.parameters()), "name": "backbone"}, {"params": list(state.head.parameters()),
         "name": "head"}], lr=0.01
    )  # fmt: skip
    _one_update(state, data, rule, phases[1])  # so that there are moments to lose
    state.optimizer.zero_grad()
    before = traces(state)
    cache_dir = tmp_path / "cache"
    settings = range_test(signal="val_loss", repeats=2, **({"cache_dir": cache_dir} if cached else {}))
    seen = []

    def on_step(record: StepRecord) -> None:
        seen.append(len(list(cache_dir.glob("*"))) if cached else 0)
        if fault is not None and len(seen) == 5:
            raise fault

    if fault is None:
        sweeps(phases[1], state, data, rule, settings, on_step)
    else:
        with pytest.raises(fault):
            sweeps(phases[1], state, data, rule, settings, on_step)
    assert_no_trace(before, state)
    assert not cached or (set(seen) == {1} and not list(cache_dir.glob("*")))


def _one_update(state: TrainState, data: RunData, rule: UpdateRule, phase) -> None:
    from trainer.loop import train_steps

    batches = data.training_batches(first_epoch=0, first_step=0, last_step=1)
    next(train_steps(state, batches, phase.schedule, steps=1, backbone_lr_ratio=0.3, rule=rule))


def test_a_loss_that_turns_nan_ends_the_climb_there(tmp_path: Path) -> None:
    state, data, rule, phases = prepared(tmp_path)
    begin(state, phases[1])
    records: list[StepRecord] = []

    def spoil_the_eighth_update(record: StepRecord) -> None:
        records.append(record)
        if len(records) == 8:
            next(state.head.parameters()).data.fill_(math.nan)

    (sweep,) = sweeps(phases[1], state, data, rule, range_test(), spoil_the_eighth_update)
    assert sweep.stop == "non-finite"
    assert len(records) == 9
    assert np.isfinite(sweep.losses[:-1]).all()
    assert all(parameter.isfinite().all() for parameter in state.head.parameters())


@pytest.mark.parametrize("signal", ["val_loss", "metric"])
def test_the_validation_split_can_be_the_signal(signal: str, tmp_path: Path) -> None:
    run_in_process(
        tmp_path / "run", *GIVEN, *SHORT, "range_test=only", f"range_test.signal={signal}", "range_test.val_images=2"
    )
    run_dir = RunDir(tmp_path / "run")
    table = pd.read_csv(run_dir.range_test("frozen") / "range_test.csv")
    assert table["metric"].notna().all()
    assert not np.allclose(table["metric"], table["loss"])
    assert math.isfinite(table["metric"].iloc[0])


def test_only_stops_after_its_last_test_and_trains_what_that_needs(tmp_path: Path) -> None:
    result = run_in_process(tmp_path / "first", "range_test=only", *SHORT)
    first = RunDir(tmp_path / "first")
    assert math.isnan(result)
    assert first.range_test("frozen").is_dir()
    assert not first.range_test("finetune").exists()
    assert len(first.lr_history.read_text().splitlines()) == 1  # the header
    run_in_process(tmp_path / "second", *GIVEN, *SHORT, "range_test=only", "range_test.phases=[finetune]")
    second = RunDir(tmp_path / "second")
    assert second.range_test("finetune").is_dir()
    assert not second.range_test("frozen").exists()
    assert set(pd.read_csv(second.lr_history)["phase"]) == {"frozen"}


def test_the_command_that_trains_at_what_was_found_holds_all_that_was_typed(tmp_path: Path) -> None:
    run_in_process(
        tmp_path / "run",
        "range_test=only",
        "range_test.num_steps=60",
        "scheduler.max_lr=auto",
        "phases.frozen.epochs=4",
    )
    results = json.loads(RunDir(tmp_path / "run").results.read_text())
    command = results["commands"]["train at these rates"].split()
    assert command[:3] == ["python", "-m", "trainer"]
    assert {"model.width=8", "phases.frozen.epochs=4"} <= set(command)
    assert not [text for text in command if text.startswith("range_test") or text.endswith("=auto")]
    found = read_finding(RunDir(tmp_path / "run"), "frozen")["bounds"]
    assert f"phases.frozen.scheduler.max_lr={found['max_lr']:.3g}" in command


@pytest.fixture(scope="module")
def auto_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run whose frozen phase takes what the test finds, at half of it, and whose fine-tune was given a max_lr."""
    path = tmp_path_factory.mktemp("runs") / "auto"
    run_in_process(
        path,
        "range_test=on",
        "range_test.num_steps=60",
        "range_test.safety=0.5",
        "range_test.phases=[frozen]",
        "phases.frozen.epochs=4",
        "phases.finetune.scheduler.base_lr=1e-4",
        "phases.finetune.scheduler.max_lr=2e-3",
    )
    return RunDir(path)


def test_found_bounds_times_safety_are_the_rates_that_are_used(auto_run: RunDir) -> None:
    found = read_finding(auto_run, "frozen")
    history = pd.read_csv(auto_run.lr_history).query("phase == 'frozen'")
    assert found["taken"]["max_lr"] == pytest.approx(0.5 * found["bounds"]["max_lr"])
    assert history["lr_head"].iloc[0] == pytest.approx(0.5 * found["bounds"]["base_lr"])
    assert history["lr_head"].max() == pytest.approx(0.5 * found["bounds"]["max_lr"])


def test_a_rate_that_was_given_wins_over_a_found_one(auto_run: RunDir) -> None:
    history = pd.read_csv(auto_run.lr_history).query("phase == 'finetune'")
    assert history["lr_head"].max() == pytest.approx(2e-3)


def test_a_given_rate_is_said_to_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run_in_process(
        tmp_path / "run",
        *GIVEN,
        "range_test=on",
        "range_test.num_steps=60",
        "range_test.phases=[frozen]",
        "phases.frozen.epochs=1",
        "phases.finetune.epochs=0",
    )
    assert "phases.frozen: scheduler.max_lr=0.003 was given and is kept; found:" in caplog.text


def test_a_flat_curve_suggests_nothing_and_training_says_which_keys_it_needs(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)found no base_lr and no max_lr.*phases\.frozen\.scheduler\.max_lr="):
        run_in_process(tmp_path / "run", "range_test=on", "range_test.max_lr=1e-6", *SHORT)
    folder = RunDir(tmp_path / "run").range_test("frozen")
    assert (folder / "suggested_lr.txt").read_text() == "none\n"
    assert "flat" in json.loads((folder / "range_test.json").read_text())["verdict"]


def test_jobs_with_the_same_inputs_share_a_test_and_others_do_not(tmp_path: Path) -> None:
    shared = ("range_test=only", *GIVEN, *SHORT, "range_test.cache=true")

    def tested(name: str, *overrides: str) -> set[str]:
        run_in_process(tmp_path / name, *shared, *overrides)
        return {file.name for file in (tmp_path / "range_tests").iterdir()}

    first = tested("a")
    assert len(first) == 1
    assert tested("b", "scheduler.max_lr=5e-3", "range_test.suggest=valley", "data.workers=0") == first
    kept = tmp_path / "range_tests" / next(iter(first))
    (climb,) = json.loads(kept.read_text())
    kept.write_text(json.dumps([{**climb, "losses": [7.25, *climb["losses"][1:]]}]))
    tested("c")
    assert pd.read_csv(RunDir(tmp_path / "c").range_test("frozen") / "range_test.csv")["loss"][0] == 7.25
    for count, changed in enumerate(("seed=1", "optimizer.weight_decay=0.2"), start=2):
        assert len(tested(changed.replace("=", "_"), changed)) == count


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheduler.max_lr=auto"], "phases.frozen.scheduler.max_lr=auto needs a range test of this phase"),
        (["range_test=on", "range_test.phases=[frozen]"], "phases.finetune.scheduler.base_lr=auto needs a range test"),
        ([*GIVEN, "range_test=on", "range_test.phases=[frozen]", "phases.frozen.epochs=0"], "no phase that trains"),
        (["scheduler.max_lr=fast"], "scheduler.max_lr=fast must be a number, or auto"),
        (["scheduler=constant", "scheduler.lr=auto"], "phases.frozen.scheduler.lr=auto needs a range test"),
    ],
)
def test_rates_to_be_found_need_a_test_of_their_phase(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        to_train_config(compose(*overrides))


@pytest.fixture(scope="module")
def settings() -> RangeTestConfig:
    return to_train_config(compose("range_test=on")).range_test


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("phases", [], "range_test.phases=[] leaves nothing to test"),
        ("phases", ["warmup"], "range_test.phases=warmup is not one of frozen, finetune"),
        ("max_lr", 1e-8, "range_test.min_lr=1e-07 must be below range_test.max_lr=1e-08"),
        ("num_steps", 22, "range_test.num_steps=22 leaves too little beside range_test.skip_start"),
        ("max_lr", math.inf, "range_test.max_lr=inf must be a finite number"),
        ("mode", "log", "range_test.mode=log is not one of exp, linear"),
        ("signal", "val", "range_test.signal=val is not one of"),
        ("suggest", "best", "range_test.suggest=best is not one of steepest, valley"),
        ("diverge_threshold", 1.0, "range_test.diverge_threshold=1.0 must be above 1"),
        ("smooth", 0.0, "range_test.smooth=0.0 must be above 0"),
        ("safety", 0.0, "range_test.safety=0.0 must be above 0"),
        ("repeats", 0, "range_test.repeats=0 must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(
    key: str, value: object, message: str, settings: RangeTestConfig
) -> None:
    changes: dict = {key: value}
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(settings, **changes)


@pytest.mark.parametrize(
    ("scheduler", "keys"),
    [("clr", ["base_lr", "max_lr"]), ("onecycle", ["max_lr"]), ("cosine", ["max_lr"]), ("plateau", ["lr"])],
)
def test_rates_that_are_not_given_are_looked_for_under_every_scheduler(scheduler: str, keys: list[str]) -> None:
    config = to_train_config(compose(f"scheduler={scheduler}", "range_test=on"))
    assert config.phases.frozen.scheduler.auto_keys == keys
    without = to_train_config(compose(f"scheduler={scheduler}"))
    assert without.phases.frozen.scheduler.auto_keys == []


def test_a_validation_signal_without_a_validation_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"range_test\.signal=val_loss needs a validation split"):
        run_in_process(
            tmp_path / "run", "data.val_fraction=0", *GIVEN, *SHORT, "range_test=on", "range_test.signal=val_loss"
        )
