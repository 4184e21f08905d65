"""Where autocast must not round."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Autocast off: bfloat16's 8 bits resolve no more than 2 px of 512, float16's 11 bits 1/4 px."""
    return torch.autocast(like.device.type, enabled=False)


def widened(values: Tensor) -> Tensor:
    """What a loss may be computed from: half-wide numbers as float32, others as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
