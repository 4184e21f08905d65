"""What LRFinder refuses, each with what it got, what it needs and what to do; before anything is changed."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim

from trainer.lr_finder.rates import Rate
from trainer.range_test.rungs import MODES


def check_parts(model: Any, optimizer: Any, also_restore: Iterable[Any]) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, but an nn.Module is needed; nn.ModuleDict joins several")
    if next(model.parameters(), None) is None:
        raise ValueError("model has no parameters, so there is nothing to train")
    if not isinstance(getattr(optimizer, "param_groups", None), list):
        raise TypeError(f"optimizer is a {type(optimizer).__name__}, but a torch.optim.Optimizer is needed")
    if isinstance(optimizer, optim.LBFGS):
        raise TypeError("optimizer LBFGS searches its own step along a line; a range test of its rate is not offered")
    for item in also_restore:
        if not (hasattr(item, "state_dict") and hasattr(item, "load_state_dict")):
            raise TypeError(f"also_restore holds a {type(item).__name__}, which has no state_dict and load_state_dict")


def check_cache_dir(cache_dir: str | Path | None) -> None:
    if cache_dir is not None and not Path(cache_dir).is_dir():
        raise ValueError(f"cache_dir={cache_dir} is not a folder; make it first, or leave it out")


def check_precision(backend: str | None, config: Mapping[str, Any] | None, scaler: Any) -> None:
    if backend not in (None, "torch"):
        hint = "; apex.amp is no longer developed, torch.amp took its place" if backend == "apex" else ""
        raise ValueError(f'amp_backend={backend!r} is not known; use "torch", or None for full precision{hint}')
    if backend == "torch" and scaler is None and (config or {}).get("dtype") is not torch.bfloat16:
        raise ValueError(
            'amp_backend="torch" needs grad_scaler=torch.amp.GradScaler(); only '
            'amp_config={"dtype": torch.bfloat16} does without'
        )
    if backend is None and (config is not None or scaler is not None):
        given = "amp_config" if config is not None else "grad_scaler"
        warnings.warn(f'{given} has no effect without amp_backend="torch"; add that, or leave it out', stacklevel=3)


def check_sweep(
    num_iter: int,
    step_mode: str,
    smooth_f: float,
    diverge_th: float | None,
    spike_th: float | None,
    accumulation_steps: int,
) -> str:
    """Returns the mode in lower case."""
    if not _is_whole(num_iter) or num_iter <= 1:
        raise ValueError(f"num_iter={num_iter} must be a whole number larger than 1: the two ends of the range")
    if not isinstance(step_mode, str) or step_mode.lower() not in MODES:
        raise ValueError(f"step_mode={step_mode!r} is not one of {', '.join(MODES)}")
    if not _is_number(smooth_f) or not 0 <= smooth_f < 1:
        raise ValueError(f"smooth_f={smooth_f} is outside [0, 1[: the weight of the newest loss, 0 smooths nothing")
    if diverge_th is not None and not (_is_number(diverge_th) and diverge_th >= 1):
        raise ValueError(f"diverge_th={diverge_th} must be at least 1 (times the best loss), or None for no such stop")
    if spike_th is not None and not (_is_number(spike_th) and spike_th > 0):
        raise ValueError(f"spike_th={spike_th} must be above 0 (times the usual scatter), or None for no such stop")
    if not _is_whole(accumulation_steps) or accumulation_steps < 1:
        raise ValueError(
            f"accumulation_steps={accumulation_steps} must be a whole number above 0: batches in an update"
        )
    return step_mode.lower()


def warn_of_scheduler(optimizer: optim.Optimizer) -> bool:
    """Whether there is one."""
    carried = any("initial_lr" in group for group in optimizer.param_groups)
    if carried:
        warnings.warn(
            "the optimizer carries a scheduler; the range test sets the rates itself and brings them back, but the "
            "scheduler must not be stepped meanwhile",
            stacklevel=3,
        )
    return carried


def check_scheduled_rates(optimizer: optim.Optimizer, start_lr: Rate) -> None:
    """A scheduler that has moved the rates of the optimizer away from what the user gave them would decide what the
    test starts from, or the ratio between its groups. Raises RuntimeError."""
    if isinstance(start_lr, list | tuple):
        return
    carried = [group for group in optimizer.param_groups if "initial_lr" in group]
    shares = [float(group["lr"]) / float(group["initial_lr"]) for group in carried if float(group["initial_lr"]) > 0]
    moved = any(not math.isclose(share, 1.0) for share in shares)
    distorted = any(not math.isclose(share, shares[0]) for share in shares)
    if distorted or (moved and start_lr is None):
        ratio = "the ratio between the parameter groups" if distorted else "the rate to start from"
        remedy = "start_lr as a list with a rate for each group" if distorted else "start_lr"
        raise RuntimeError(
            f"the optimizer's scheduler has changed {ratio} (lr={float(carried[0]['lr']):g}, "
            f"initial_lr={float(carried[0]['initial_lr']):g}), which would decide what is tested; give {remedy}, or "
            "make the scheduler after the range test"
        )


def check_plot(skip_start: int, skip_end: int, show_lr: float | None, log_lr: bool) -> None:
    for name, value in (("skip_start", skip_start), ("skip_end", skip_end)):
        if not _is_whole(value) or value < 0:
            raise ValueError(f"{name}={value} must not be negative: it is the number of points left out")
    if show_lr is not None and (not _is_number(show_lr) or (log_lr and show_lr <= 0)):
        raise ValueError(f"show_lr={show_lr!r} must be a rate above 0")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
