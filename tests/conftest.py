"""What tests share: composing a config as the command line does, and the smallest run that is still a whole one."""

import gc
import subprocess
from pathlib import Path

import pytest
import torch
from commands import Command, run_module
from composed import compose

from trainer.composing import parse_fast
from trainer.config.store import register_schemas, to_train_config
from trainer.run_dir import RunDir

# Two phases of two epochs with three updates each, on timm's own miniature of an EfficientNet.
TINY = (
    "model.backbone=test_efficientnet",
    "model.weights=none",
    "model.width=8",
    "data.num_images=15",
    "data.height=96",
    "data.width=80",
    "data.input_height=64",
    "data.input_width=64",
    "data.batch_size=4",
    "data.workers=0",
    "phases.frozen.epochs=2",
    "phases.finetune.epochs=2",
    "scheduler.cycles=1",
    "device=cpu",
    "precision=fp32",  # so that nothing is timed
    "memory_format=channels_last",
    "pictures=false",  # which take longer than all else of such a run
)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what was imported stays: looking through it again and again takes a fourth of the time of composing


@pytest.fixture(scope="session", autouse=True)
def _prepared() -> None:
    parse_fast()
    register_schemas()
    torch.set_num_threads(1)  # tiny tensors: a second thread only waits, and on a busy machine for long


# The same for classes and numbers.
TINY_LABELS = tuple(text for text in TINY if text != "model.width=8")


def run_in_process(path: Path, *overrides: str, tiny: tuple[str, ...] = TINY) -> float:
    """A tiny run in this process, in the folder `path`."""
    from trainer.train import train

    given = [*tiny, *overrides]
    composed = compose(*given)
    return train(to_train_config(composed), RunDir(path), composed, given)


def start_command(*arguments: str, folder: Path) -> Command:
    return Command(*arguments, folder=folder)


def run_command(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return run_module(*arguments, folder=folder)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """One finished tiny run that several tests look into and none changes."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    run_in_process(path, "pictures=true")
    return RunDir(path)
