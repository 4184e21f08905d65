"""Processes that share a batch compute what one process computes from the whole of it."""

import os
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commands import CONTEXT
from conftest import TINY, TINY_LABELS, compose
from torch import Tensor, nn
from torch.nn import functional as F

from data.loaders import FixedOrder, Part, TrainingOrder
from trainer.config.store import to_train_config
from trainer.distributed.launch import Launch

SIZE = 7  # which neither 2 nor 3 divides
ACCUMULATION, UPDATES = 2, 3


class Fused(nn.BatchNorm2d):
    """Batch norm with its activation, as in timm: no module of torch's own to be put in the place of."""

    def forward(self, input: Tensor) -> Tensor:
        weights = (self.running_mean, self.running_var, self.weight, self.bias)
        return F.batch_norm(input, *weights, self.training, self.momentum or 0.0, self.eps).relu()


class Net(nn.Module):
    """Two batch norms, frozen weights, and weights without effect."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), Fused(4), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 2),
        )  # fmt: skip
        self.without_effect = nn.Linear(2, 2)
        self.layers[0].weight.requires_grad = False

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.layers(images)
        return answer


class SomeAreMissing:
    """A mean over those targets that are there."""

    inputs = ("image",)

    def loss(self, output: Tensor, batch: dict[str, Tensor]) -> Tensor:
        there = batch["there"]
        return (output - batch["target"]).square()[there].sum() / there.sum().clamp_min(1)

    def loss_terms(self, output: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return batch["there"].sum()


def batches() -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    made = [
        {
            "image": 5 + torch.randn(SIZE, 3, 8, 8, generator=draw),
            "target": torch.randn(SIZE, 2, generator=draw),
            "there": torch.rand(SIZE, 2, generator=draw) > 0.4,
        }
        for _ in range(ACCUMULATION * UPDATES)
    ]
    made[0]["there"][:3] = False  # the first of two processes has none of its terms
    made[1]["there"][:] = False
    return made


def trained(backward: Callable[[Net, dict[str, Tensor], bool], float]) -> tuple[list[float], dict[str, Tensor]]:
    """The losses and the weights of a few updates."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    losses, given = [], iter(batches())
    for _ in range(UPDATES):
        optimizer.zero_grad(set_to_none=True)
        losses += [backward(model, next(given), left == 0) for left in reversed(range(ACCUMULATION))]
        assert model.without_effect.weight.grad is None  # so that it is not decayed either
        optimizer.step()
    return losses, model.state_dict()


def alone(model: Net, batch: dict[str, Tensor], last: bool) -> float:
    loss = SomeAreMissing().loss(model(batch["image"]), batch)
    (loss / ACCUMULATION).backward()
    return loss.item()


def join(rank: int, count: int, port: int) -> Any:
    """In a process of its own: the group."""
    import torch.distributed as dist

    from trainer.distributed.ranks import Ranks
    from trainer.distributed.sharing import Sharing

    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, count, is_master=rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    ranks = Ranks(Launch(rank, count, rank, count), "cpu", store)
    ranks.introduce()
    return Sharing(ranks, seed=0)


def train_a_part(rank: int, count: int, port: int, folder: Path) -> None:
    from trainer.profile import NoStopwatch

    sharing = join(rank, count, port)
    compute = SimpleNamespace(autocast=nullcontext)
    rule = SimpleNamespace(task=SomeAreMissing(), compute=compute, accumulation=ACCUMULATION, watch=NoStopwatch())
    scaler = torch.amp.GradScaler("cpu", enabled=False)

    def backward(model: Net, batch: dict[str, Tensor], last: bool) -> float:
        part = {name: values[sharing.part.of(SIZE)] for name, values in batch.items()}
        loss: float = sharing.backward(SimpleNamespace(model=model, scaler=scaler), part, rule, last=last)
        return loss

    losses, weights = trained(backward)
    torch.save({"losses": losses, "weights": weights}, folder / f"{rank}.pt")
    sharing.ranks.leave()


def exchange(rank: int, count: int, port: int, folder: Path) -> None:
    """What is merged of an evaluation of 2 batches, of whose second the first process has no part."""
    sharing = join(rank, count, port)
    ranks = sharing.ranks
    assert [ranks.same(rank), ranks.gathered(rank), ranks.largest(rank)] == [0, list(range(count)), count - 1]
    assert sharing.all_indices([rank, 10 * rank]) == [0, 0, 1, 10]
    found = {"index": np.array([rank])}
    if rank == 0:
        merged = sharing.merged([4.0, 0.0], [3.0, 0.0], [2, 0], [found, {}])
    else:
        merged = sharing.merged([8.0, 5.0], [1.0, 7.0], [2, 1], [found, {"index": np.array([5])}])
    assert merged[0] == [5.0, 5.0]
    assert merged[1] == [4, 1]
    assert [int(part["index"][0]) for part in merged[2]] == [0, 1, 5]
    with pytest.raises(ValueError, match=r"do not have the same rank: rank 0 0, rank 1 1; on several machines"):
        ranks.check_same("rank", rank)
    seeds = set()
    for iteration in (0, 1):
        sharing.begin_update(iteration)
        seeds |= set(ranks.gathered(torch.rand(1).item()))
    assert len(seeds) == 4
    (folder / f"{rank}.ok").touch()


def miss_one(rank: int, count: int, port: int, folder: Path) -> None:
    """The second of three processes ends without a word; what the others say of it."""
    sharing = join(rank, count, port)
    if rank == 1:
        os._exit(9)
    try:
        while True:
            sharing.ranks.largest(1)
    except RuntimeError as error:
        lost = sharing.ranks.described_loss(error)
    (folder / f"{rank}.txt").write_text(f"{lost.tells} {lost}", encoding="utf-8")
    if rank == 0:  # it keeps the store, which torchrun does for a run
        for other in range(2, count):
            while not (folder / f"{other}.txt").exists():
                sharing.ranks._words()
    os._exit(0)


def start(target: Callable[[int, int, int, Path], None], count: int, folder: Path) -> list[int | None]:
    """The exit codes of `count` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [CONTEXT.Process(target=_run, args=(target, rank, count, port, folder)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]


def _run(target: Callable[[int, int, int, Path], None], *arguments: Any) -> None:
    target(*arguments)
    sys.stdout.flush()


@pytest.mark.parametrize("count", [2, 3])
def test_gradients_batch_norm_and_losses_are_those_of_the_whole_batch(count: int, tmp_path: Path) -> None:
    assert start(train_a_part, count, tmp_path) == [0] * count
    losses, weights = trained(alone)
    saved = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(count)]
    np.testing.assert_allclose(saved[0]["losses"], losses, rtol=1e-5)
    for key, expected in weights.items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(saved[0]["weights"][key], expected, rtol=1e-4, atol=1e-6)
        assert all(torch.equal(saved[0]["weights"][key], other["weights"][key]) for other in saved[1:]), key


def test_what_processes_found_is_put_together_and_what_must_be_the_same_is_checked(tmp_path: Path) -> None:
    assert start(exchange, 2, tmp_path) == [0, 0]
    assert len(list(tmp_path.glob("*.ok"))) == 2


def test_a_process_that_ends_without_a_word_is_named_by_the_first_of_the_others(tmp_path: Path) -> None:
    assert start(miss_one, 3, tmp_path) == [0, 9, 0]
    for rank, tells in ((0, "True"), (2, "False")):
        said = (tmp_path / f"{rank}.txt").read_text(encoding="utf-8")
        assert said.startswith(f"{tells} rank 1 (process "), said
        assert "has ended without a word, as by kill -9" in said


def order(part: Part) -> list[list[tuple[int, ...]]]:
    indices = np.arange(20)
    return list(
        TrainingOrder(indices, batch_size=5, batches_per_epoch=4, seed=3, first_epoch=0, start=1, stop=7, part=part)
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_parts_of_training_batches_are_the_batches_in_their_order(count: int) -> None:
    parts = [order(Part(rank, count)) for rank in range(count)]
    assert [list(chain(*batch)) for batch in zip(*parts, strict=True)] == order(Part())
    sizes = [len(batch) for part in parts for batch in part]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) > 0


def test_every_record_is_evaluated_by_one_process_also_where_the_last_batch_is_small() -> None:
    orders = [FixedOrder(np.arange(10, 17), 3, part=Part(rank, 2)) for rank in range(2)]
    assert [[[index for _, index in batch] for batch in each] for each in orders] == [
        [[10], [13]],
        [[11, 12], [14, 15], [16]],
    ]
    assert [(len(each), each.num_lacking) for each in orders] == [(2, 1), (3, 0)]


@pytest.mark.parametrize("settings", [TINY, (*TINY_LABELS, "task=classification", "data.mixup=0.5")])
def test_the_parts_of_batches_hold_what_the_whole_batch_holds(settings: tuple[str, ...], tmp_path: Path) -> None:
    """Augmented, and mixed with images that another process has."""
    config = to_train_config(compose(*settings))
    data = config.task.build_data(config, tmp_path / "splits.csv")
    parts = [replace(data, part=Part(rank, 3)) for rank in range(3)]
    whole, *shared = (list(each.training_batches(first_epoch=0, first_step=1, last_step=3)) for each in (data, *parts))
    assert len(whole) == 2
    for batch, *of_batch in zip(whole, *shared, strict=True):
        for name, values in batch.items():
            assert torch.equal(torch.cat([part[name] for part in of_batch]), values), name
