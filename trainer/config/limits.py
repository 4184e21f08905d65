"""What no value may be, whatever its key: not finite, beyond every use, or text that no file can hold."""

from __future__ import annotations

import math
import re
from typing import Any

MOST_SIDE = 16_384  # px; an image of that size is 800 MB as the network sees it
MOST_COUNT = 1_000_000

# The largest value that makes sense; what lies above is a slip of the keyboard that would end in a full memory or in
# numbers that overflow.
LARGEST: dict[str, float] = {
    "data.input_height": MOST_SIDE,
    "data.input_width": MOST_SIDE,
    "data.height": MOST_SIDE,
    "data.width": MOST_SIDE,
    "data.num_images": MOST_COUNT,
    "data.batch_size": MOST_COUNT,
    "data.workers": 1024,
    "data.cache_gb": MOST_COUNT,
    "data.disk_cache_gb": MOST_COUNT,
    "data.trouble": 100,
    "data.mixup": 1000,
    "data.augmentation.rotate_degrees": 180,
    "data.augmentation.dropout_holes": 1000,
    "model.width": MOST_SIDE,
    "model.hidden": MOST_COUNT,
    "model.embedding": MOST_COUNT,
    "task.num_overlays": 1000,
    "task.num_samples": 1000,
    "scheduler.step_size": 1e12,
    "scheduler.step_size_epochs": MOST_COUNT,
    "scheduler.warmup_epochs": MOST_COUNT,
    "scheduler.cycles": MOST_COUNT,
    "scheduler.base_lr": 1e30,
    "scheduler.max_lr": 1e30,
    "scheduler.lr": 1e30,
    "scheduler.div_factor": 1e30,
    "scheduler.final_div_factor": 1e30,
    "range_test.max_lr": 1e30,
    "range_test.num_steps": MOST_COUNT,
    "range_test.repeats": 1000,
    "phases.frozen.epochs": MOST_COUNT,
    "phases.finetune.epochs": MOST_COUNT,
    "phases.finetune.backbone_lr_ratio": MOST_COUNT,
    "predict.tta": 1000,
    "accumulation": MOST_COUNT,
    "max_steps": 1e12,
    "max_minutes": 1e9,
}
MAY_BE_EMPTY = ("task.unit",)
LARGEST_SEED = 2**63 - 1  # of torch's and numpy's generators


def check_values(values: Any, key: str = "") -> None:
    """Looks at every value of a mapping of plain values.

    Raises:
        ValueError: names the key and its value.
    """
    if isinstance(values, dict):
        for name, value in values.items():
            check_values(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for value in values:
            check_values(value, key)
    elif isinstance(values, str):
        _check_text(key, values)
    elif isinstance(values, int | float) and not isinstance(values, bool):
        _check_number(key, values)


def _check_text(key: str, text: str) -> None:
    if not text and key not in MAY_BE_EMPTY:
        raise ValueError(f"{key}= has no value; give it as {key}=VALUE, or leave it out")
    if not text.isprintable():
        raise ValueError(f"{key}={text!r} holds a character that can't be printed; write it without")
    if "${" in text:  # it would be looked up when the saved config is read again
        raise ValueError(f"{key}={text} holds ${{, which stands for the value of another key; write it without")


def _check_number(key: str, number: float) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{key}={number} must be a finite number")
    run_wide = re.sub(r"^phases\.\w+\.(?=scheduler\.|optimizer\.)", "", key)
    if run_wide.rpartition(".")[2] in ("seed", "split_seed"):
        if not 0 <= number <= LARGEST_SEED:
            raise ValueError(f"{key}={number} must lie in 0 to {LARGEST_SEED}")
    elif abs(number) > (largest := LARGEST.get(run_wide, 1e300)):
        most = f"{largest:,.0f}" if largest < 1e15 else f"{largest:g}"
        raise ValueError(f"{key}={_shown(number)} is more than makes sense; at most {most}")


def _shown(number: float) -> str:
    return str(number) if len(str(number)) <= 30 else f"{str(number)[:12]}... ({len(str(number))} digits)"
