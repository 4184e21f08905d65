"""Optimizers in one kernel per update compute what torch's plain ones do, whatever the layout of the weights."""

import copy
import math
from pathlib import Path

import pytest
import torch
from conftest import TINY_LABELS, compose
from torch import nn, optim

from trainer.config.store import to_train_config
from trainer.device import build_compute
from trainer.loop import StepRecord, UpdateRule, train_steps
from trainer.optimizers import set_rates
from trainer.schedules import ConstantSchedule
from trainer.state import TrainState

KINDS = ("adamw", "adam", "sgd")


def weights() -> nn.ModuleDict:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, (1, 3)))
    return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(4, 2)})


def optimizer_of(kind: str, model: nn.Module, *, fused: bool = True) -> optim.Optimizer:
    settings = to_train_config(compose(f"optimizer={kind}", "optimizer.weight_decay=0.1")).optimizer
    optimizer = settings.build(model.get_submodule("backbone"), model.get_submodule("head"))
    for group in optimizer.param_groups:
        assert group["fused"] is True
        group["fused"] = fused
    return optimizer


def update(model: nn.Module, optimizer: optim.Optimizer, seed: int) -> None:
    """Gradients that depend on the seed alone, and an update."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape)
        parameter.grad = torch.empty_like(parameter).copy_(drawn)
    set_rates(optimizer, 1e-2, 0.3, None)
    optimizer.step()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_one_kernel_computes_what_the_plain_optimizer_does(kind: str, layout: torch.memory_format) -> None:
    ours, plain = weights().to(memory_format=layout), weights()
    optimizers = optimizer_of(kind, ours), optimizer_of(kind, plain, fused=False)
    for seed in range(5):
        update(ours, optimizers[0], seed)
        update(plain, optimizers[1], seed)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_state_that_is_loaded_under_another_layout_goes_on_as_it_did(kind: str) -> None:
    """Else a kernel that knows of no layout would pair weights with the state of others."""
    stays = weights()
    before = optimizer_of(kind, stays)
    for seed in range(3):
        update(stays, before, seed)
    moves = copy.deepcopy(stays).to(memory_format=torch.channels_last)
    after = optimizer_of(kind, moves)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    for seed in range(3, 6):
        update(stays, before, seed)
        update(moves, after, seed)
    for one, other in zip(moves.parameters(), stays.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    first = next(moves.parameters())
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert all(value.stride() == first.stride() for value in after.state[first].values() if value.shape == first.shape)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradients_are_laid_out_as_their_weights(layout: str, tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        state, _ = trained(tmp_path / precision, precision=precision, layout=layout, steps=1)
        memory_format = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[layout]
        for parameter in state.model.parameters():
            assert parameter.grad is not None
            for tensor in (parameter, parameter.grad):
                assert tensor.ndim != 4 or tensor.is_contiguous(memory_format=memory_format)


def trained(
    folder: Path, *, scale: float | None = None, precision: str = "fp32", layout: str = "channels_last", steps: int = 3
) -> tuple[TrainState, list[StepRecord]]:
    """A few updates of a fine-tune, under a scale of the loss or none."""
    folder.mkdir()
    config = to_train_config(compose(*TINY_LABELS, "task=classification", "clip_norm=0.5"))
    torch.manual_seed(0)
    compute = build_compute("cpu", precision, layout)
    data = config.task.build_data(config, folder / "splits.csv")
    model = compute.place(config.task.build_model(config, data))
    scaler = torch.amp.GradScaler("cpu", enabled=scale is not None, init_scale=scale or 1.0)
    state = TrainState(model, None, scaler)
    state.optimizer = config.phases.finetune.optimizer.build(state.backbone, state.head)
    rule = UpdateRule(config.task.build(config, data), compute, 1, config.clip_norm, skips_nonfinite=True)
    batches = data.training_batches(first_epoch=0, first_step=0, last_step=steps)
    schedule = ConstantSchedule(lr=1e-2)
    return state, list(train_steps(state, batches, schedule, steps=steps, backbone_lr_ratio=0.3, rule=rule))


def test_a_scaled_loss_gives_the_same_clipped_updates(tmp_path: Path) -> None:
    """By a power of two, so that not a bit is lost."""
    plain, scaled = (trained(tmp_path / name, scale=scale) for name, scale in (("plain", None), ("scaled", 2.0**10)))
    assert [record.grad_norm for record in scaled[1]] == [record.grad_norm for record in plain[1]]
    assert max(record.grad_norm for record in plain[1]) > 0.5  # it is clipped
    for one, other in zip(scaled[0].model.parameters(), plain[0].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_update_whose_scaled_gradient_overflows_is_skipped(tmp_path: Path) -> None:
    untrained, _ = trained(tmp_path / "untrained", steps=0)
    state, records = trained(tmp_path / "overflows", scale=math.inf, steps=1)
    assert [(record.skipped, record.faulty) for record in records] == [(True, False)]
    for one, other in zip(state.model.parameters(), untrained.model.parameters(), strict=True):
        assert torch.equal(one, other)
