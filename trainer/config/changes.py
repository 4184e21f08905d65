"""What differs between the config a run was started with and the one it is resumed with, key by key."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

# These do not alter what a finished update was, or say only where and how fast the rest is computed.
FREE_KEYS = (
    "resume", "sweep.resume", "data.workers", "data.cache_gb", "data.disk_cache_gb", "data.disk_cache_dir", "device",
    "precision", "memory_format", "compile", "early_stopping_epochs", "predict.tta", "on_nonfinite", "max_skipped",
    "pictures", "profile", "checkpoint.every_steps", "checkpoint.every_minutes",
)  # fmt: skip
FREE_GROUP = "tracker"  # where a run is told of, too: all its keys are free
EPOCH_KEYS = ("phases.frozen.epochs", "phases.finetune.epochs")


def differing_keys(saved: DictConfig, asked: DictConfig) -> dict[str, tuple[Any, Any]]:
    """Every leaf key whose value differs, as key -> (saved value, asked value); an absent key counts as None."""
    before, after = flat_values(saved), flat_values(asked)
    return {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def check_resumable(saved: DictConfig, asked: DictConfig) -> dict[str, tuple[Any, Any]]:
    """The accepted differences.

    Raises:
        ValueError: names every key that may not change once a run has begun, with both values.
    """
    differences = differing_keys(saved, asked)
    refused = {key: values for key, values in differences.items() if not _may_change(key)}
    if refused:
        listed = "; ".join(f"{key}: was {was}, now {now}" for key, (was, now) in refused.items())
        raise ValueError(
            f"this run can't go on under another config ({listed}). Resume without these overrides, or start "
            f"a new run. What may change: {', '.join((*FREE_KEYS[2:], FREE_GROUP, *EPOCH_KEYS))}"
        )
    return differences


def _may_change(key: str) -> bool:
    return key in FREE_KEYS + EPOCH_KEYS or key.startswith(f"{FREE_GROUP}.")


def flat_values(config: DictConfig) -> dict[str, Any]:
    """Every value under its full key, such as data.batch_size."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, child in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), child)
        elif value != {}:
            flat[prefix] = value

    walk("", OmegaConf.to_container(config, resolve=True))
    return flat
