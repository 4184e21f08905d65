"""Which of two validation results is the better one, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Sequence


def is_better(value: float, than: float, mode: str) -> bool:
    """Mode min or max. A NaN is never better, and any number is better than NaN."""
    if math.isnan(value):
        return False
    if math.isnan(than):
        return True
    return value < than if mode == "min" else value > than


def epochs_since_best(values: Sequence[float], mode: str) -> int:
    """How many evaluations have passed since the best of them; 0 where there are none."""
    best = 0
    for index, value in enumerate(values):
        if is_better(value, values[best], mode):
            best = index
    return max(len(values) - 1 - best, 0)
