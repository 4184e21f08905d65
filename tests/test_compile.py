"""compile=true: what is compiled, that a stop moves no bit, and what is told where torch can't compile."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import CONTEXT
from composed import compose
from conftest import TINY
from faults import Fault, promised, run_main
from stopped_runs import StopAt, start_or_resume
from test_distributed import TORCHRUN
from torch import nn
from torch._dynamo.utils import counters

from benchmarks.killed_runs import differences
from models.own_backbones import OWN_BACKBONES
from trainer.compiling import switch_on
from trainer.config.store import to_train_config
from trainer.config.without_effect import options_without_effect
from trainer.run_dir import RunDir

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="torch compiles with a C++ compiler, and finds none here"
)

# The 10th check is in the first epoch of the fine-tune.
SMALL = (
    *TINY,
    "model.backbone=single",
    "phases.frozen.cache.views=0",
    "phases.finetune.input_scales=[0.5,1.0]",
    "precision=bf16",
)
COMPILED = (*SMALL, "compile=true", "ema_decay=0.9")


class Single(nn.Module):
    """Two convolutions, one of them grouped: what torch compiles soonest."""

    def __init__(self) -> None:
        super().__init__()
        first, grouped = nn.Conv2d(3, 8, 4, stride=4, bias=False), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.layers = nn.Sequential(first, grouped, nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.layers(images)]


@pytest.fixture(autouse=True, scope="module")
def _known() -> Iterator[None]:
    OWN_BACKBONES["single"] = Single
    yield
    del OWN_BACKBONES["single"]


def num_graphs() -> int:
    """That torch compiled so far."""
    return int(counters["stats"]["unique_graphs"])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run_dir = RunDir(tmp_path_factory.mktemp("runs") / "compiled")
    before = num_graphs()
    assert start_or_resume(run_dir.path, *COMPILED)
    assert num_graphs() - before == 2  # an update at each input size, and nothing for frozen updates or evaluation
    return run_dir


def files_of(run_dir: RunDir) -> set[str]:
    return {str(path.relative_to(run_dir.path)) for path in run_dir.path.rglob("*")}


def test_a_compiled_run_is_the_plain_one_but_for_rounding_and_leaves_the_same_files(tmp_path: Path) -> None:
    plain, compiled = RunDir(tmp_path / "plain"), RunDir(tmp_path / "compiled")
    for run_dir, settings in ((plain, SMALL), (compiled, COMPILED)):
        assert start_or_resume(run_dir.path, *settings, "precision=fp32", "ema_decay=0.9")
    assert files_of(compiled) == files_of(plain)
    losses, expected = (pd.read_csv(run.lr_history)["loss"].to_numpy() for run in (compiled, plain))
    np.testing.assert_array_equal(losses[:6], expected[:6])  # frozen
    np.testing.assert_allclose(losses[6:], expected[6:], rtol=1e-3)


def test_a_compiled_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(
    compiled: RunDir, tmp_path: Path
) -> None:
    stopped = RunDir(tmp_path / "stopped")
    assert not start_or_resume(stopped.path, *COMPILED, request=StopAt(10))
    assert start_or_resume(stopped.path, *COMPILED)
    assert differences(stopped, compiled) == []


def test_what_is_not_trained_is_not_compiled_nor_are_copies() -> None:
    torch.manual_seed(0)
    module, images = Single(), torch.randn(2, 3, 16, 16)
    names, plain = module.state_dict().keys(), copy.deepcopy(module)
    expected, before = plain(images)[0], num_graphs()
    switch_on(module, 1)
    with torch.no_grad():
        assert torch.equal(module(images)[0], plain(images)[0])
    copy.deepcopy(module)(images)
    module.requires_grad_(False)
    module(images)
    assert num_graphs() == before
    module.requires_grad_(True)
    torch.testing.assert_close(module(images)[0], expected)
    assert num_graphs() == before + 1
    assert module.state_dict().keys() == names


def test_a_resume_compiles_from_there_on_where_that_is_typed(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    assert not start_or_resume(run_dir.path, *SMALL, request=StopAt(10))
    run_dir.config.write_text(run_dir.config.read_text().replace("compile: false\n", ""))  # as of before there was one
    before = num_graphs()
    ended = run_main(f"resume={run_dir.path}", "compile=true", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "resumed with compile=True (was False)" in ended.out
    assert ended.out.count("compile=true: the first updates are slow while torch compiles the network\n") == 1
    assert num_graphs() - before == 2

    before = num_graphs()
    ended = run_main(f"resume={run_dir.path}", folder=tmp_path)
    assert (ended.code, num_graphs()) == (0, before), ended.err
    assert "is finished" in ended.out


def test_a_phase_that_trains_no_backbone_has_nothing_to_compile() -> None:
    config = to_train_config(compose(*TINY, "compile=true", "phases.finetune.epochs=0"))
    (line,) = options_without_effect(config)
    assert line.startswith("compile=true compiles the backbone where it is trained")


def check_without_compiler(folder: Path) -> None:
    """In a process of its own, for torch looks for a compiler once."""
    os.environ["PATH"] = str(folder)
    OWN_BACKBONES["single"] = Single
    name = "compile=true without a compiler"
    Fault(name, *promised()[name], lambda _: COMPILED).check(folder)


def test_without_a_compiler_the_run_ends_before_training_in_one_line(tmp_path: Path) -> None:
    process = CONTEXT.Process(target=check_without_compiler, args=(tmp_path,))
    process.start()
    process.join(300)
    assert process.exitcode == 0


def test_several_processes_compile_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    name = "compile=true under torchrun"
    Fault(name, *promised()[name], lambda folder: [*TINY, "compile=true"]).check(tmp_path)
