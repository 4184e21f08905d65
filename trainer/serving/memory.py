"""Memory that runs out under a batch, told with the key to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trainer.device import Compute
from trainer.errors import TrainingError
from trainer.memory_faults import is_out_of_memory


@contextmanager
def too_large_explained(compute: Compute, key: str, batch_size: int) -> Iterator[None]:
    """Raises TrainingError where the block asks for more memory than there is; `key` is what sets the batch size."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        smaller = f"{key}={batch_size // 2}" if batch_size > 1 else "another device"
        message = f"out of memory on {compute.device} with {key}={batch_size}; try {smaller}"
        raise TrainingError(message) from error
