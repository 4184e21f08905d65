"""The pictures of a run show what was planned and used: the data of their lines is compared, not their look."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.phases import Phase
from trainer.plots import (
    GRAY,
    GROUP_COLORS,
    MAX_POINTS,
    debiased_ema,
    plot_learning_rates,
    plot_loss,
    plot_metrics,
    plot_schedule,
    thinned,
)
from trainer.schedules import ConstantSchedule, CosineSchedule, CyclicalSchedule, Schedule
from trainer.tasks.task import Curves

ERRORS = Curves("radial error", "mm", {"mre_mm": "mean radial error", "median_mm": "median radial error"}, shares=False)


def clr(base_lr: float, max_lr: float, step_size: int) -> CyclicalSchedule:
    return CyclicalSchedule(base_lr=base_lr, max_lr=max_lr, step_size=step_size)


def phase(name: str, schedule: Schedule, total_steps: int) -> Phase:
    return Phase(
        name=name,
        frozen=name == "frozen",
        schedule=schedule,
        total_steps=total_steps,
        steps_per_epoch=24,
        backbone_lr_ratio=0.1,
        batch_norm="train",
    )


TWO_PHASES = [phase("frozen", clr(1e-4, 3e-3, 12), 72), phase("finetune", clr(5e-5, 1.5e-3, 25), 200)]


def history_of(phases: list[Phase], updates: list[int]) -> pd.DataFrame:
    """The log of a run that made so many updates of each phase, as it is read back from lr_history.csv."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for each, count in zip(phases, updates, strict=True):
        for step in range(count):
            rate = each.schedule.lr_at(step)
            rows.append(
                {
                    "iteration": len(rows),
                    "phase": each.name,
                    "lr_backbone": np.nan if each.frozen else rate * each.backbone_lr_ratio,
                    "lr_head": rate,
                    "loss": 2 + 5 * np.exp(-len(rows) / 50) + rng.gamma(2, 0.1),
                    "skipped": 0,
                }
            )
    return pd.DataFrame(rows)


def metrics_of(frozen: int, finetune: int) -> pd.DataFrame:
    epochs = np.arange(1, frozen + finetune + 1)
    errors = 8.0 / epochs
    return pd.DataFrame(
        {
            "epoch": epochs,
            "phase": ["frozen"] * frozen + ["finetune"] * finetune,
            "train_loss": errors / 2,
            "val_loss": errors / 2 + 0.1,
            "mre_mm": errors,
            "median_mm": errors * 0.8,
        }
    )


def drawn(axes: Axes, color: str) -> dict[int, float]:
    """The y at each x of all lines of a colour."""
    lines = [line for line in axes.get_lines() if line.get_color() == color]
    return {
        int(x): float(y)
        for line in lines
        for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)
    }


def vertical_lines(axes: Axes) -> list[float]:
    return [float(np.asarray(line.get_xdata())[0]) for line in axes.get_lines() if line.get_linestyle() == ":"]


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for axes in figure.axes for text in axes.texts} | {
        text.get_text() for legend in figure.legends for text in legend.get_texts()
    }


def assert_only_a_wide_png(path: Path) -> None:
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert np.asarray(cv2.imread(str(path))).shape[1] >= 800


def test_schedule_shows_the_rate_of_every_update_of_both_phases(tmp_path: Path) -> None:
    figure = plot_schedule(tmp_path / "schedule.png", TWO_PHASES)
    frozen, finetune = TWO_PHASES
    head = [frozen.schedule.lr_at(step) for step in range(72)] + [finetune.schedule.lr_at(step) for step in range(200)]
    assert drawn(figure.axes[0], GROUP_COLORS["head"]) == dict(enumerate(head))
    backbone = {step: 0.1 * rate for step, rate in enumerate(head) if step >= 72}
    assert drawn(figure.axes[0], GROUP_COLORS["backbone"]) == pytest.approx(backbone)
    assert vertical_lines(figure.axes[0]) == [24, 48, 72 + 50, 72 + 100, 72 + 150]
    assert figure.axes[0].get_yscale() == "linear"
    assert texts(figure) == {"frozen", "finetune", "head", "backbone", "cycle boundary"}
    assert_only_a_wide_png(tmp_path / "schedule.png")


def test_long_schedule_is_thinned_but_keeps_every_peak_and_trough(tmp_path: Path) -> None:
    schedule = clr(1e-4, 3e-3, 999)
    figure = plot_schedule(tmp_path / "schedule.png", [phase("finetune", schedule, 100_000)])
    head = drawn(figure.axes[0], GROUP_COLORS["head"])
    assert len(head) <= MAX_POINTS
    assert all(rate == schedule.lr_at(step) for step, rate in head.items())
    assert set(range(0, 100_000, 999)) <= set(head)
    assert vertical_lines(figure.axes[0]) == []  # 50 cycles


@pytest.mark.parametrize(
    ("phases", "scale"),
    [
        ([phase("finetune", clr(0.0, 1e-3, 500), 3000)], "linear"),
        ([phase("finetune", CosineSchedule(max_lr=1e-3, min_lr=0.0, total_steps=500, warmup_steps=9), 500)], "linear"),
        ([phase("frozen", clr(1e-3, 1e-1, 12), 72), phase("finetune", clr(1e-6, 1e-4, 25), 200)], "log"),
        ([phase("frozen", ConstantSchedule(lr=1e-2), 1), phase("finetune", clr(0.0, 1e-3, 2), 4)], "log"),
    ],
)
def test_rates_are_on_a_log_axis_only_if_a_phase_would_lie_flat(
    tmp_path: Path, phases: list[Phase], scale: str
) -> None:
    assert plot_schedule(tmp_path / "schedule.png", phases).axes[0].get_yscale() == scale
    assert_only_a_wide_png(tmp_path / "schedule.png")


@pytest.mark.parametrize("updates", [[72, 200], [72, 80], [0, 0]])
def test_used_rates_lie_over_the_planned_ones_as_far_as_the_run_went(tmp_path: Path, updates: list[int]) -> None:
    columns = ["iteration", "phase", "lr_backbone", "lr_head", "loss", "skipped"]
    history = history_of(TWO_PHASES, updates).reindex(columns=columns)
    axes = plot_learning_rates(tmp_path / "learning_rates.png", TWO_PHASES, history).axes[0]
    assert drawn(axes, GROUP_COLORS["head"]) == dict(zip(history["iteration"], history["lr_head"], strict=True))
    finetune = history[history["phase"] == "finetune"]
    assert drawn(axes, GROUP_COLORS["backbone"]) == dict(
        zip(finetune["iteration"], finetune["lr_backbone"], strict=True)
    )
    assert set(drawn(axes, "black")) == set(range(272))
    assert_only_a_wide_png(tmp_path / "learning_rates.png")


def test_a_phase_that_ended_early_moves_the_plan_of_the_next(tmp_path: Path) -> None:
    history = history_of(TWO_PHASES, [30, 50])
    axes = plot_learning_rates(tmp_path / "learning_rates.png", TWO_PHASES, history).axes[0]
    assert axes.get_xlim() == (-0.5, 229.5)
    planned = [line for line in axes.get_lines() if line.get_color() == "black"]
    finetune_head = next(line for line in planned if np.asarray(line.get_xdata())[0] == 30)
    np.testing.assert_array_equal(
        finetune_head.get_ydata(), [TWO_PHASES[1].schedule.lr_at(step) for step in range(200)]
    )


def test_loss_shows_every_update_its_average_and_the_skipped_ones(tmp_path: Path) -> None:
    history = history_of(TWO_PHASES, [72, 200])
    history.loc[[10, 100], ["skipped", "loss"]] = [1, np.nan]
    figure = plot_loss(tmp_path / "loss.png", history)
    top, bottom = figure.axes
    raw, average, skipped = top.get_lines()
    valid = history[history["skipped"] == 0]
    np.testing.assert_array_equal(raw.get_xdata(), valid["iteration"])
    np.testing.assert_array_equal(raw.get_ydata(), valid["loss"])
    np.testing.assert_array_equal(average.get_ydata(), debiased_ema(valid["loss"].to_numpy(), beta=1 - 1 / 6))
    np.testing.assert_array_equal(skipped.get_xdata(), [10, 100])
    assert drawn(bottom, GROUP_COLORS["head"]) == dict(enumerate(history["lr_head"]))
    assert "skipped update (2)" in texts(figure)
    assert_only_a_wide_png(tmp_path / "loss.png")


@pytest.mark.parametrize("updates", [[1, 0], [1, 1]])
def test_loss_of_a_single_update_is_visible(tmp_path: Path, updates: list[int]) -> None:
    figure = plot_loss(tmp_path / "loss.png", history_of(TWO_PHASES, updates))
    assert all(line.get_marker() == "o" for line in figure.axes[1].get_lines())
    assert_only_a_wide_png(tmp_path / "loss.png")


def test_average_of_the_loss_has_no_bias_towards_zero() -> None:
    values = np.random.default_rng(1).normal(5, 1, 300)
    average, expected = 0.0, []
    for count, value in enumerate(values, start=1):
        average = 0.9 * average + 0.1 * value
        expected.append(average / (1 - 0.9**count))
    np.testing.assert_allclose(debiased_ema(values, beta=0.9), expected, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 7, 40, 41, 1001])
def test_thinned_lines_keep_ends_and_extremes(length: int) -> None:
    values = np.random.default_rng(length).normal(size=length)
    kept = thinned(values, 40)
    assert len(kept) <= 40
    assert list(kept) == sorted(set(kept))
    assert {0, length - 1, int(values.argmin()), int(values.argmax())} <= set(kept)


@pytest.mark.parametrize("baseline", [9.6, 60.0])
def test_metrics_show_losses_errors_baseline_and_best_epoch(tmp_path: Path, baseline: float) -> None:
    metrics = metrics_of(3, 9)
    figure = plot_metrics(
        tmp_path / "metrics.png", metrics, curves=ERRORS, baseline=("mean shape", baseline), best_epoch=11
    )
    losses, errors = figure.axes
    for axes, columns in ((losses, ("train_loss", "val_loss")), (errors, ("mre_mm", "median_mm"))):
        for line, column in zip(axes.get_lines(), columns, strict=False):
            np.testing.assert_array_equal(line.get_xdata(), metrics["epoch"])
            np.testing.assert_array_equal(line.get_ydata(), metrics[column])
        assert vertical_lines(axes) == [11]
    low, high = errors.get_ylim()
    assert low < metrics["median_mm"].min() < baseline < high
    assert {"best (epoch 11)", "mean shape"} <= texts(figure)
    assert_only_a_wide_png(tmp_path / "metrics.png")


@pytest.mark.parametrize("epochs", [(0, 1), (2, 300)])
def test_metrics_without_validation_show_the_loss_alone(tmp_path: Path, epochs: tuple[int, int]) -> None:
    metrics = metrics_of(*epochs)[["epoch", "phase", "train_loss"]]
    figure = plot_metrics(tmp_path / "metrics.png", metrics, curves=ERRORS, baseline=None, best_epoch=None)
    (axes,) = figure.axes
    assert drawn(axes, GRAY) == dict(zip(metrics["epoch"], metrics["train_loss"], strict=True))
    assert texts(figure) == {"training loss", *metrics["phase"]}
    assert_only_a_wide_png(tmp_path / "metrics.png")


def test_shares_are_drawn_on_an_axis_from_0_to_1(tmp_path: Path) -> None:
    metrics = metrics_of(0, 12).assign(accuracy=np.linspace(0.01, 0.9, 12))
    curves = Curves("share", "", {"accuracy": "accuracy", "absent": "absent"}, shares=True)
    figure = plot_metrics(tmp_path / "m.png", metrics, curves=curves, baseline=("guess", 0.2), best_epoch=3)
    axes = figure.axes[1]
    assert (axes.get_ylim(), axes.get_yscale(), axes.get_ylabel()) == ((0, 1), "linear", "share")
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), metrics["accuracy"])
