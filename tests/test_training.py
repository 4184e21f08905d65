"""Updates, phases and what they leave, looked at in real tiny runs."""

import copy
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, compose, run_in_process
from safetensors.torch import load_file
from torch import nn

from data.errors import DataError
from trainer.config.store import to_train_config
from trainer.device import build_compute
from trainer.errors import TrainingError
from trainer.loop import UpdateRule, evaluate, train_steps
from trainer.phases import fingerprint, freeze, set_training_modes
from trainer.planning import build_phases
from trainer.run_data import RunData
from trainer.run_dir import RunDir
from trainer.schedules import CyclicalSchedule
from trainer.state import Snapshot, TrainState
from trainer.timing import measure_seconds
from trainer.train import _build_data, _build_state, train


def prepared(tmp_path: Path, *overrides: str) -> tuple[TrainState, RunData, UpdateRule, list]:
    """Everything up to the first update of a tiny run."""
    config = to_train_config(compose(*TINY, *overrides))
    torch.manual_seed(config.seed)
    compute = build_compute("cpu", config.precision, memory_format="contiguous")
    data = _build_data(config, RunDir(tmp_path))
    task = config.task.build(config, data)
    state = _build_state(config, data, compute)
    rule = UpdateRule(task, compute, config.accumulation, config.clip_norm)
    steps = {name: getattr(config.phases, name).epochs * data.updates_per_epoch for name in ("frozen", "finetune")}
    return state, data, rule, build_phases(config, steps, steps, data.updates_per_epoch, "min", {})


def begin(state: TrainState, phase, weight_decay: float = 0.0) -> None:
    freeze(state.model, phase)
    set_training_modes(state.model, phase)
    trained = [
        {"params": [p for p in module.parameters() if p.requires_grad], "name": name, "weight_decay": weight_decay}
        for name, module in (("backbone", state.backbone), ("head", state.head))
    ]
    state.optimizer = torch.optim.SGD([group for group in trained if group["params"]], lr=0.0)
    state.phase_step = 0


def test_the_written_rate_of_every_update_is_that_of_the_plan(tiny_run: RunDir) -> None:
    history = pd.read_csv(tiny_run.lr_history)
    assert history["iteration"].tolist() == list(range(12))
    assert history["epoch"].tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    for phase, ratio in (("frozen", None), ("finetune", 0.3)):
        rows = history[history["phase"] == phase]
        schedule = CyclicalSchedule(base_lr=1e-4, max_lr=1e-2, step_size=3)
        expected = [schedule.lr_at(step) for step in range(6)]
        assert rows["phase_step"].tolist() == list(range(6))
        assert rows["lr_head"].tolist() == expected
        if ratio is None:
            assert rows["lr_backbone"].isna().all()
        else:
            assert rows["lr_backbone"].tolist() == [rate * ratio for rate in expected]


def test_the_rate_that_is_recorded_is_the_one_that_moved_the_weights(tmp_path: Path) -> None:
    """Plain SGD: the change of a weight is minus rate times gradient, so the rate can be read off the weights."""
    state, data, rule, phases = prepared(tmp_path, "clip_norm=null")
    begin(state, phases[1])
    batches = data.training_batches(first_epoch=0, first_step=0, last_step=4)
    weights = [state.backbone.net.conv_stem.weight, state.head.first.maps.weight]
    before = [weight.detach().clone() for weight in weights]
    steps = train_steps(state, batches, phases[1].schedule, steps=4, backbone_lr_ratio=0.3, rule=rule)
    for record in steps:
        for name, weight, old in zip(("backbone", "head"), weights, before, strict=True):
            assert weight.grad is not None
            torch.testing.assert_close(weight.detach(), old - record.rates[name] * weight.grad, rtol=0, atol=1e-7)
        before = [weight.detach().clone() for weight in weights]
    assert state.iteration == state.phase_step == 4


def test_accumulated_micro_batches_make_the_update_of_one_large_batch(tmp_path: Path) -> None:
    """In a model without batch norm statistics or missing landmarks the two are the same sum."""
    gradients = []
    for size, accumulation in ((4, 1), (2, 2)):
        state, data, rule, phases = prepared(
            tmp_path / f"{size}", f"data.batch_size={size}", f"accumulation={accumulation}"
        )
        begin(state, phases[1])
        state.model.eval()
        batches = data.training_batches(first_epoch=0, first_step=0, last_step=1)
        record = next(train_steps(state, batches, phases[1].schedule, steps=1, backbone_lr_ratio=1.0, rule=rule))
        gradients.append((record.loss, state.head.first.maps.weight.grad))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-3, atol=1e-6)


def test_a_frozen_phase_leaves_every_bit_of_the_backbone_and_trains_the_head(tmp_path: Path) -> None:
    state, data, rule, phases = prepared(tmp_path)
    frozen = phases[0]
    begin(state, frozen)
    backbone, head = fingerprint(state.backbone), fingerprint(state.head)
    assert not any(module.training for module in state.backbone.modules())
    batches = data.training_batches(first_epoch=0, first_step=0, last_step=frozen.total_steps)
    list(train_steps(state, batches, frozen.schedule, steps=6, backbone_lr_ratio=0.0, rule=rule))
    assert all(parameter.grad is None for parameter in state.backbone.parameters())
    assert fingerprint(state.backbone) == backbone
    assert fingerprint(state.head) != head


@pytest.mark.parametrize("policy", ["train", "eval"])
def test_the_batch_norm_policy_of_the_fine_tune_is_kept(policy: str, tmp_path: Path) -> None:
    state, data, rule, phases = prepared(tmp_path, f"phases.finetune.batch_norm={policy}")
    begin(state, phases[1])
    norms = [module for module in state.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    batches = data.training_batches(first_epoch=0, first_step=0, last_step=2)
    list(train_steps(state, batches, phases[1].schedule, steps=2, backbone_lr_ratio=0.3, rule=rule))
    moved = [not torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True)]
    assert all(moved) if policy == "train" else not any(moved)


def test_evaluation_puts_training_modes_back(tmp_path: Path) -> None:
    state, data, rule, phases = prepared(tmp_path)
    begin(state, phases[0])
    before = [module.training for module in state.model.modules()]
    evaluate(state.model, data.evaluation_batches("val"), rule.task, rule.compute)
    assert [module.training for module in state.model.modules()] == before


def test_timing_the_plan_leaves_no_trace(tmp_path: Path) -> None:
    config = to_train_config(compose(*TINY, "ema_decay=0.9"))
    state, data, rule, phases = prepared(tmp_path, "ema_decay=0.9")
    before, random = fingerprint(state.model), torch.get_rng_state()
    modes = [module.training for module in state.model.modules()]
    measured, evaluation = measure_seconds(phases, state, config, data, rule)
    assert set(measured) == {"frozen", "finetune"}
    assert evaluation > 0
    assert fingerprint(state.model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in state.model.modules()] == modes
    assert (state.iteration, state.phase_step, state.phase, state.optimizer) == (0, 0, "", None)


def assert_equal(one: object, other: object) -> None:
    """Nested dicts and lists of tensors and plain values, to the bit."""
    if isinstance(other, dict):
        assert isinstance(one, dict)
        assert one.keys() == other.keys()
        for key in other:
            assert_equal(one[key], other[key])
    elif isinstance(other, list):
        assert isinstance(one, list)
        for first, second in zip(one, other, strict=True):
            assert_equal(first, second)
    elif isinstance(other, torch.Tensor):
        assert isinstance(one, torch.Tensor)
        assert torch.equal(one, other)
    elif other == other:  # else both are not a number
        assert one == other
    else:
        assert one != one


def test_a_snapshot_brings_back_weights_optimizer_and_random_numbers(tmp_path: Path) -> None:
    state, data, rule, phases = prepared(tmp_path, "ema_decay=0.9")
    begin(state, phases[1])
    state.optimizer = torch.optim.AdamW(state.optimizer.param_groups)
    batches = data.training_batches(first_epoch=0, first_step=0, last_step=4)
    list(train_steps(state, batches, phases[1].schedule, steps=2, backbone_lr_ratio=0.3, rule=rule))
    saved, snapshot = copy.deepcopy(state.state_dict()), Snapshot(state)
    before = fingerprint(state.model)
    list(train_steps(state, batches, phases[1].schedule, steps=2, backbone_lr_ratio=0.3, rule=rule))
    torch.rand(3)
    assert fingerprint(state.model) != before
    snapshot.restore(state)
    assert fingerprint(state.model) == before
    moments = saved["optimizer"]["state"]
    assert moments
    assert_equal(state.state_dict(), saved)


def test_a_loss_that_is_not_finite_stops_with_step_rates_and_images(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        run_in_process(tmp_path / "run", "scheduler.base_lr=1e29", "scheduler.max_lr=1e30", "clip_norm=null")
    said = str(caught.value)
    assert "update " in said
    assert "phantom_" in said
    assert "rates: head 4e+29" in said
    rows = pd.read_csv(tmp_path / "run" / "lr_history.csv")
    assert rows["skipped"].tolist() == [0] * (len(rows) - 1) + [1]


def test_the_average_of_the_weights_is_what_is_judged_and_kept(tmp_path: Path) -> None:
    """With a decay of 0.5 the average is a recursion over the weights after each update, the first taken whole."""
    state, data, rule, phases = prepared(tmp_path, "ema_decay=0.5")
    begin(state, phases[1])
    batches = data.training_batches(first_epoch=0, first_step=0, last_step=4)
    expected: torch.Tensor | None = None
    for _ in train_steps(state, batches, phases[1].schedule, steps=4, backbone_lr_ratio=0.3, rule=rule):
        now = state.head.first.maps.weight.detach().clone()
        expected = now if expected is None else 0.5 * expected + 0.5 * now
    averaged = state.evaluated_model.get_submodule("head.first.maps").weight
    assert expected is not None
    torch.testing.assert_close(averaged.detach(), expected)


def test_bf16_keeps_weights_and_losses_in_fp32(tmp_path: Path) -> None:
    state, data, rule, phases = prepared(tmp_path, "precision=bf16")
    begin(state, phases[1])
    batches = data.training_batches(first_epoch=0, first_step=0, last_step=1)
    record = next(train_steps(state, batches, phases[1].schedule, steps=1, backbone_lr_ratio=0.3, rule=rule))
    assert math.isfinite(record.loss)
    with rule.compute.autocast():
        output = state.model(next(data.evaluation_batches("val"))["image"])
    assert output.log_heatmaps.dtype == torch.float32


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=coordinates", "model.backbone=test_efficientnet", "model.weights=none", "model.refinement=true"),
        ("task.loss.heatmap=mse", "task.loss.points=wing", "model.decoder=unet", "model.refinement=true"),
        ("optimizer=sgd", "scheduler=onecycle", "scheduler.cycle_momentum=true", "data.fit=stretch"),
        ("scheduler=plateau", "data.missing_fraction=0.3", "early_stopping_epochs=1", "phases=finetune_only"),
        ("data.val_fraction=0", "phases=frozen_only", "optimizer=adam"),
    ],
    ids=["coordinates", "mse-wing-unet", "sgd-onecycle-stretch", "plateau-missing", "no-validation"],
)
def test_every_kind_of_run_ends_with_finite_results(overrides: tuple[str, ...], tmp_path: Path) -> None:
    given = [text for text in TINY if not (overrides[0] == "model=coordinates" and text == "model.width=8")]
    given = [text for text in given if not (text.startswith("scheduler.") and "scheduler=" in " ".join(overrides))]
    composed = compose(*overrides, *[text for text in given if text not in overrides])
    value = train(to_train_config(composed), RunDir(tmp_path / "run"), composed, [])
    assert math.isfinite(value)
    assert RunDir(tmp_path / "run").report.exists()


def test_a_table_of_mixed_images_is_trained_on_with_workers(tmp_path: Path) -> None:
    """Gray, 16-bit and colour with alpha, of different sizes, some without spacing or landmarks, patients in groups."""
    rng = np.random.default_rng(0)
    rows = ["image,patient,pixel_spacing_mm,nose_x,nose_y,chin_x,chin_y"]
    for index in range(8):
        height, width = 60 + 5 * index, 70
        noise = rng.integers(0, 255, (height, width))
        pixels = [noise.astype(np.uint8), (noise * 257).astype(np.uint16), np.dstack([noise] * 4).astype(np.uint8)]
        cv2.imwrite(str(tmp_path / f"x ray {index}.png"), pixels[index % 3])
        chin = "," if index == 3 else "50,44.5"
        rows.append(f"x ray {index}.png,p{index // 2},{'' if index % 2 else 0.5},20.25,30,{chin}")
    (tmp_path / "points.csv").write_text("\n".join(rows))
    tiny = [text for text in TINY if not text.startswith(("data.num", "data.height", "data.width", "data.batch"))]
    composed = compose(
        "data=csv",
        f"data.table={tmp_path / 'points.csv'}",
        "data.batch_size=3",
        "data.workers=1",
        "task.nme=box",
        *tiny,
    )
    train(to_train_config(composed), RunDir(tmp_path / "run"), composed, [])
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert {"nose_x", "chin_error_px", "mre_px"} <= set(table.columns)
    splits = pd.read_csv(tmp_path / "run" / "splits.csv")["split"].tolist()
    assert all(splits[index] == splits[index + 1] for index in range(0, 8, 2))
    assert "sdr_2px" in pd.read_csv(tmp_path / "run" / "metrics.csv").columns


def test_an_image_that_a_worker_can_not_read_is_told_in_one_line(tmp_path: Path) -> None:
    rows = ["image,x0,y0"]
    for index in range(6):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.random.default_rng(index).integers(0, 255, (64, 64), np.uint8))
        rows.append(f"{index}.png,20,30")
    (tmp_path / "points.csv").write_text("\n".join(rows))
    broken = tmp_path / "2.png"
    broken.write_bytes(broken.read_bytes()[:2000])  # its header is whole
    tiny = [text for text in TINY if not text.startswith(("data.num", "data.height", "data.width", "data.batch"))]
    composed = compose(
        "data=csv", f"data.table={tmp_path / 'points.csv'}", "data.batch_size=2", "data.workers=1", *tiny
    )
    with pytest.raises(DataError, match=r"points\.csv: line 4, column image: .*2\.png") as caught:
        train(to_train_config(composed), RunDir(tmp_path / "run"), composed, [])
    assert len(str(caught.value).splitlines()) == 1


def test_a_single_value_for_batch_norm_is_refused_with_its_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size=1 with an input of 32 x 32 px"):
        run_in_process(tmp_path / "run", "data.batch_size=1", "data.input_height=32", "data.input_width=32")


def test_a_run_leaves_all_that_the_run_directory_promises(tiny_run: RunDir) -> None:
    left = {str(path.relative_to(tiny_run.path)) for path in tiny_run.path.rglob("*") if path.is_file()}
    assert left == {
        "config.yaml",
        "environment.json",
        "splits.csv",
        "lr_history.csv",
        "metrics.csv",
        "results.json",
        "predictions.csv",
        "calibration.json",
        "report.html",
        "checkpoints/last.pt",
        "checkpoints/previous.pt",
        "checkpoints/best.safetensors",
        *(f"plots/{name}.png" for name in ("schedule", "learning_rates", "loss", "metrics", "landmark_errors")),
        *(f"plots/overlays_{kind}.png" for kind in ("best", "median", "worst")),
    }  # fmt: skip


def test_predictions_are_those_of_the_best_weights_in_original_pixels(tiny_run: RunDir, tmp_path: Path) -> None:
    state, data, rule, _ = prepared(tmp_path)
    state.model.load_state_dict(load_file(tiny_run.best_weights))
    _, judged = evaluate(state.model, data.evaluation_batches("val"), rule.task, rule.compute)
    table = pd.read_csv(tiny_run.predictions)
    assert table["image"].tolist() == [data.records.image_names[index] for index in data.records.indices("val")]
    np.testing.assert_allclose(table["sella_x"], judged["points"][:, 0, 0], atol=2e-3)
    errors = np.linalg.norm(judged["points"] - data.records.points[judged["index"]], axis=2)
    spacing = data.records.pixel_spacing_mm[judged["index"]]
    np.testing.assert_allclose(table["mre_mm"], errors.mean(axis=1) * spacing, atol=2e-3)


def test_minutes_that_are_used_up_before_training_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"max_minutes=0\.0001 was used up before training began"):
        run_in_process(tmp_path / "run", "max_minutes=0.0001")


def test_a_budget_of_minutes_fits_updates_into_what_is_left(tmp_path: Path) -> None:
    """Far more epochs than a quarter of a minute holds."""
    run_in_process(tmp_path / "run", "max_minutes=0.25", "phases.frozen.epochs=5000", "phases.finetune.epochs=5000")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["seconds"] < 30
    history = pd.read_csv(tmp_path / "run" / "lr_history.csv")
    assert len(history) < 30000
    assert history["lr_head"].iloc[0] == 1e-4


def test_a_budget_of_updates_shortens_the_phases_to_whole_cycles(tmp_path: Path) -> None:
    run_in_process(tmp_path / "run", "max_steps=8", "scheduler.cycles=null", "scheduler.step_size=3")
    history = pd.read_csv(tmp_path / "run" / "lr_history.csv")
    for _, rows in history.groupby("phase"):
        assert len(rows) == 4
        np.testing.assert_allclose(rows["lr_head"], [1e-4, 5.05e-3, 1e-2, 5.05e-3])


def test_without_pictures_none_is_drawn_and_all_else_is_there(tiny_run: RunDir, tmp_path: Path) -> None:
    run_in_process(tmp_path / "run", "pictures=false")
    run_dir = RunDir(tmp_path / "run")
    assert list(run_dir.plots.iterdir()) == []
    assert run_dir.predictions.read_bytes() == tiny_run.predictions.read_bytes()
    assert "<img" not in run_dir.report.read_text()
    assert "<img" in tiny_run.report.read_text()
