"""Memory that runs out: real refusals, told with what took the memory and what to lower."""

import re
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, compose, run_in_process
from test_training_faults import keeps

from trainer.config.run import TrainConfig
from trainer.config.store import to_train_config
from trainer.device import Compute
from trainer.errors import TrainingError
from trainer.memory_faults import told_out_of_memory

ON_CPU = Compute(torch.device("cpu"), "fp32", "contiguous")


def config_of(*overrides: str) -> TrainConfig:
    return to_train_config(compose(*TINY, *overrides))


def ask_torch() -> None:
    torch.empty(1 << 50)


def ask_numpy() -> None:
    np.empty(1 << 50)


def ask_for_a_list() -> None:
    [0] * (1 << 60)


def ask_a_gpu() -> None:
    # What a GPU says, as there may be none here.
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of ...")


def ask_a_library_of_a_gpu() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize(
    ("ask", "asked"),
    [
        (ask_torch, " (4,194,304.00 GiB more were asked for)"),
        (ask_numpy, " (8.00 PiB more were asked for)"),
        (ask_for_a_list, ""),
        (ask_a_gpu, " (2.50 GiB more were asked for)"),
        (ask_a_library_of_a_gpu, ""),
    ],
    ids=["torch", "numpy", "python", "cuda", "cublas"],
)
def test_a_refused_allocation_is_told_with_batch_and_input_and_what_to_lower(
    ask: Callable[[], None], asked: str
) -> None:
    config = config_of("data.batch_size=5", "accumulation=2", "data.workers=2")
    said = (
        f"out of memory on cpu{asked}, with data.batch_size=5, data.input_height=64, data.input_width=64, "
        "precision=fp32, accumulation=2, model.backbone=test_efficientnet. Try data.batch_size=2 with accumulation=5 "
        "(about the same effective batch), a smaller data.input_height and data.input_width, precision=bf16, "
        "a smaller data.cache_gb or fewer data.workers"
    )
    with pytest.raises(TrainingError, match=f"^{re.escape(said)}$") as told, told_out_of_memory(config, ON_CPU):
        ask()
    assert not asked or keeps("memory runs out while the network computes", str(told.value))


def test_only_what_helps_is_advised() -> None:
    config = config_of("data.batch_size=1", "precision=bf16", "data.workers=3")
    on_gpu = Compute(torch.device("cuda:1"), "bf16", "channels_last")
    with (
        pytest.raises(TrainingError, match=r"on cuda:1 .* Try a smaller data\.input_height and data\.input_width$"),
        told_out_of_memory(config, on_gpu),
    ):
        ask_a_gpu()


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), TrainingError("out of memory: told already")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, told_out_of_memory(config_of(), ON_CPU):
        raise error
    assert raised.value is error


def test_a_run_whose_network_has_no_room_is_told(tmp_path: Path) -> None:
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        pytest.skip("the limit is set from /proc/self/statm, which this system does not have")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(pages.read_text().split()[0]) * resource.getpagesize()
    too_wide = "model.width=16384"  # a layer of 9 GiB
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), limits[1]))
    try:
        with pytest.raises(TrainingError) as told, told_out_of_memory(config_of(too_wide), ON_CPU):
            run_in_process(tmp_path / "run", too_wide)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert str(told.value).startswith("out of memory on cpu (9.00 GiB more were asked for), with data.batch_size=4, ")
