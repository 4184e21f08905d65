"""Budgets, selection, optimizer groups and logs: the arithmetic around training."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from data.atomic import written_atomically
from trainer.config.phases import AdamConfig, OptimizerConfig, SgdConfig
from trainer.history import CsvLog, LRHistory
from trainer.loop import StepRecord
from trainer.optimizers import gradient_norm, momentum_of, set_rates
from trainer.planning import cut_to_seconds, cut_to_steps
from trainer.selection import epochs_since_best, is_better


def test_a_budget_of_updates_shortens_all_phases_alike() -> None:
    assert cut_to_steps({"frozen": 100, "finetune": 300}, 200) == {"frozen": 50, "finetune": 150}
    assert cut_to_steps({"frozen": 100, "finetune": 300}, 400) == {"frozen": 100, "finetune": 300}
    assert cut_to_steps({"frozen": 0, "finetune": 300}, 7) == {"frozen": 0, "finetune": 7}
    with pytest.raises(ValueError, match="max_steps=1 is less than an update for each of the 2 phases"):
        cut_to_steps({"frozen": 100, "finetune": 300}, 1)


def test_a_budget_of_seconds_is_spent_and_not_exceeded() -> None:
    planned, cost = {"frozen": 100, "finetune": 100}, {"frozen": 1.0, "finetune": 3.0}
    cut = cut_to_seconds(planned, cost, 200.0)
    assert cut == {"frozen": 50, "finetune": 50}
    assert cut_to_seconds(planned, cost, 400.0) == planned


@pytest.mark.parametrize(("value", "than", "mode", "better"), [
    (1.0, 2.0, "min", True), (2.0, 1.0, "min", False), (2.0, 1.0, "max", True), (1.0, 1.0, "min", False),
    (math.nan, 1.0, "min", False), (1.0, math.nan, "max", True),
])  # fmt: skip
def test_which_result_is_better(value: float, than: float, mode: str, better: bool) -> None:
    assert is_better(value, than, mode) is better


def test_patience_is_counted_from_the_best_evaluation() -> None:
    assert epochs_since_best([], "min") == 0
    assert epochs_since_best([3.0, 2.0, 2.5, 2.0], "min") == 2
    assert epochs_since_best([math.nan, 0.1, 0.2], "max") == 0


def build(kind: str) -> torch.optim.Optimizer:
    config: OptimizerConfig = AdamConfig(kind=kind, weight_decay=0.1, betas=[0.9, 0.99], eps=1e-8)
    if kind == "sgd":
        config = SgdConfig(kind=kind, weight_decay=0.1, momentum=0.8, nesterov=False)
    return config.build(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Linear(4, 2))


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_norms_and_biases_are_not_decayed(kind: str) -> None:
    decayed = {group["weight_decay"]: sorted(p.ndim for p in group["params"]) for group in build(kind).param_groups}
    assert set(decayed) == {0.0, 0.1}
    for group in build(kind).param_groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] > 0) for parameter in group["params"])


def test_the_backbones_rate_is_the_heads_times_the_ratio() -> None:
    optimizer = build("adamw")
    assert set_rates(optimizer, 0.2, 0.1, momentum=0.7) == {"backbone": 0.2 * 0.1, "head": 0.2}
    assert momentum_of(optimizer) == 0.7
    assert momentum_of(build("sgd")) == 0.8


@pytest.mark.parametrize("clip_norm", [None, 0.5, 1.0, 1e-3, 1e3])
@pytest.mark.parametrize("scale", [0.0, 1e-9, 0.01, 1.0, 50.0])
def test_gradients_are_clipped_as_torch_does_and_the_norm_is_that_before(clip_norm: float | None, scale: float) -> None:
    optimizer, oracle = build("sgd"), build("sgd")
    parameters, of_oracle = (
        [parameter for group in built.param_groups for parameter in group["params"]] for built in (optimizer, oracle)
    )
    generator = torch.Generator().manual_seed(0)
    for parameter, other in zip(parameters, of_oracle, strict=True):
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
        other.grad = parameter.grad.clone()
    expected = torch.nn.utils.clip_grad_norm_(of_oracle, math.inf if clip_norm is None else clip_norm)
    assert gradient_norm(optimizer, clip_norm) == expected.item()
    for parameter, other in zip(parameters, of_oracle, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, other.grad)


def test_gradients_at_the_border_of_clipping_are_those_of_torch() -> None:
    optimizer = build("sgd")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    norm = gradient_norm(optimizer, None)
    assert norm == pytest.approx(math.sqrt(sum(parameter.numel() for parameter in parameters)))
    for clip_norm in (norm, math.nextafter(norm, 0), norm - 1e-6, norm + 1e-6, norm * (1 - 1e-6), norm * (1 + 1e-6)):
        expected = [torch.ones_like(parameter, requires_grad=True) for parameter in parameters]
        for parameter, other in zip(parameters, expected, strict=True):
            parameter.grad = torch.ones_like(parameter)
            other.grad = torch.ones_like(parameter)
        torch.nn.utils.clip_grad_norm_(expected, clip_norm)
        gradient_norm(optimizer, clip_norm)
        assert all(torch.equal(a.grad, b.grad) for a, b in zip(parameters, expected, strict=True))


def test_a_log_goes_on_after_the_rows_that_are_kept_and_drops_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = CsvLog(path, ("a", "b"), keep_rows=0)
    for row in range(3):
        log.append({"a": row, "b": 0.1 + 0.2})
    log.close()
    whole = path.read_text()
    path.write_text(whole + "3,0.3")
    with pytest.raises(ValueError, match="has 3 rows, but the checkpoint was written after 4"):
        CsvLog(path, ("a", "b"), keep_rows=4)
    CsvLog(path, ("a", "b"), keep_rows=2).close()
    assert path.read_text() == "".join(whole.splitlines(keepends=True)[:3])
    assert float(whole.splitlines()[1].split(",")[1]) == 0.1 + 0.2


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def fail() -> None:
        with written_atomically(path) as aside:
            aside.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("kept.txt", "old")]


def a_record(iteration: int) -> StepRecord:
    return StepRecord(
        iteration=iteration,
        phase_step=iteration,
        cycle=0,
        rates={"head": 1e-3},
        momentum=0.9,
        loss=0.5,
        grad_norm=1.0,
        skipped=False,
        faulty=False,
        indices=[0],
    )


@pytest.mark.parametrize(("seconds", "seen"), [(0.0, 2), (math.inf, 0)])
def test_rows_wait_for_others_no_longer_than_they_may(
    seconds: float, seen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.history.SECONDS_HELD", seconds)
    log = LRHistory(tmp_path / "lr_history.csv", keep_rows=0)
    for iteration in range(2):
        log.append(a_record(iteration), phase="finetune", epoch=1)
    assert len((tmp_path / "lr_history.csv").read_text().splitlines()) == 1 + seen
    log.close()


def test_rows_of_quick_updates_are_seen_when_the_block_ends_also_by_a_fault_and_kept_by_a_sync(tmp_path: Path) -> None:
    path = tmp_path / "lr_history.csv"
    history = LRHistory(path, keep_rows=0)

    def rows() -> list[str]:
        return [line.split(",")[0] for line in path.read_text().splitlines()[1:]]

    def updates_and_a_fault() -> None:
        for iteration in range(3):
            history.append(a_record(iteration), phase="finetune", epoch=1)
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"), history.shown():
        updates_and_a_fault()
    assert rows() == ["0", "1", "2"]
    history.append(a_record(3), phase="finetune", epoch=1)
    history.sync()
    assert rows() == ["0", "1", "2", "3"]
    history.append(a_record(4), phase="finetune", epoch=1)
    history.close()
    assert rows() == ["0", "1", "2", "3", "4"]
