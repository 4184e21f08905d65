"""Memory that runs out, on whatever device, told with what took it and what to lower first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer.config.run import TrainConfig
from trainer.device import Compute
from trainer.errors import TrainingError

# What torch and the libraries below it say: CPU and Metal have no exception of their own, nor has every CUDA library.
_SIGNS = re.compile(
    r"can't allocate memory|cannot allocate memory|unable to allocate|out of memory|ALLOC_FAILED|bad_alloc",
    re.IGNORECASE,
)
_SIZE = re.compile(r"allocate (\d+ bytes|[\d.]+ [KMGTP]iB)")


@contextmanager
def told_out_of_memory(config: TrainConfig, compute: Compute) -> Iterator[None]:
    """Raises TrainingError, which says what to lower, where the block asks for more memory than there is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(describe(config, compute, str(error))) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation was refused, by the device or by the machine."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and not isinstance(error, TrainingError)
        and _SIGNS.search(str(error)) is not None
    )


def describe(config: TrainConfig, compute: Compute, said: str) -> str:
    """The message: batch, input, precision and device, the size of the refused request if `said` has it, and what to
    lower, the most telling first."""
    data, on_cpu = config.data, compute.device.type == "cpu"
    asked = _SIZE.search(said)
    size = f" ({_readable(asked[1])} more were asked for)" if asked else ""
    advice = []
    if data.batch_size > 1:
        half = data.batch_size // 2
        whole = f"accumulation={round(config.accumulation * data.batch_size / half)}"
        advice.append(f"data.batch_size={half} with {whole} (about the same effective batch)")
    advice.append("a smaller data.input_height and data.input_width")
    if compute.precision == "fp32":
        advice.append("precision=bf16")
    if on_cpu and data.cache_gb > 0:
        advice.append("a smaller data.cache_gb")
    if on_cpu and data.workers:
        advice.append("fewer data.workers")
    return (
        f"out of memory on {compute.device}{size}, with data.batch_size={data.batch_size}, "
        f"data.input_height={data.input_height}, data.input_width={data.input_width}, precision={compute.precision}, "
        f"accumulation={config.accumulation}, model.backbone={config.model.backbone}. "
        f"Try {', '.join(advice[:-1])}{' or ' if len(advice) > 1 else ''}{advice[-1]}"
    )


def _readable(size: str) -> str:
    number, unit = size.split()
    return f"{int(number) / 2**30:,.2f} GiB" if unit == "bytes" else size
