"""The rates of every parameter group at every update of a range test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor, optim

from trainer.range_test.rungs import rungs

Rate = float | Sequence[float] | None


def planned_rates(optimizer: optim.Optimizer, start_lr: Rate, end_lr: Rate, num_iter: int, mode: str) -> np.ndarray:
    """(num_iter, groups) rates; each column begins and ends exactly at its bounds.

    One number is the rate of the first group, and the others keep their ratio to it; a list has one rate per group.
    `start_lr=None` begins at the optimizer's own rates. Raises ValueError for bounds that can't be climbed.
    """
    own = [float(group["lr"]) for group in optimizer.param_groups]
    starts = own if start_lr is None else _per_group("start_lr", start_lr, own)
    ends = _per_group("end_lr", end_lr, starts)
    columns = []
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if start == end == 0:  # a group that is not trained
            columns.append(np.zeros(num_iter))
            continue
        if not 0 < start < end < math.inf:
            source = "the optimizer's own rate, as start_lr=None" if start_lr is None else "start_lr"
            raise ValueError(
                f"parameter group {i} would climb from {start:g} ({source}) to {end:g} (end_lr={end_lr}); "
                "0 < start < end is needed"
            )
        columns.append(rungs(start, end, num_iter, mode))
    if not any(column.any() for column in columns):
        raise ValueError("every parameter group has the rate 0, so there is nothing to test; give start_lr")
    return np.stack(columns, axis=1)


def set_group_rates(optimizer: optim.Optimizer, rates: Sequence[float]) -> list[float]:
    """Returns the rates as the groups hold them: a rate in a float32 tensor is rounded."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = float(rate)
    return group_rates(optimizer)


def group_rates(optimizer: optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _per_group(name: str, given: Rate, reference: list[float]) -> list[float]:
    if isinstance(given, int | float | np.number) and not isinstance(given, bool):
        if reference[0] <= 0:
            raise ValueError(
                f"{name}={given} is the rate of the first parameter group, to which the others keep their ratio, but "
                f"that group's own rate is {reference[0]:g}; give {name} as a list with a rate for each group"
            )
        return [float(given) * (rate / reference[0]) for rate in reference]
    if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str):
        raise TypeError(f"{name}={given!r} must be a number, or a list with a number for each parameter group")
    if len(given) != len(reference):
        raise ValueError(f"{name} has {len(given)} rates, but the optimizer has {len(reference)} parameter groups")
    return [float(rate) for rate in given]
