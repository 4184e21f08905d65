"""Range tests that jobs of one sweep share: the climbs, kept under a fingerprint of everything that shapes them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer.range_test.finding import Sweep
from trainer.run_dir import write_json


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Changes with any of the inputs, which are plain values."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class SweepCache:
    """A folder with a file per fingerprint. Files appear whole, so jobs may read and write it at the same time: two
    that miss at once both climb, and write the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str) -> list[Sweep] | None:
        file = self._file(key)
        if not file.exists():
            return None
        saved = json.loads(file.read_text(encoding="utf-8"))
        return [
            Sweep(
                np.array(one["lrs"], dtype=float),
                _numbers(one["losses"]),
                None if one["metrics"] is None else _numbers(one["metrics"]),
                one["stop"],
            )
            for one in saved
        ]

    def save(self, key: str, sweeps: list[Sweep]) -> None:
        write_json(
            self._file(key),
            [
                {
                    "lrs": sweep.lrs.tolist(),
                    "losses": _texts(sweep.losses),
                    "metrics": None if sweep.metrics is None else _texts(sweep.metrics),
                    "stop": sweep.stop,
                }
                for sweep in sweeps
            ],
        )

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _texts(values: np.ndarray) -> list[float | str]:
    """JSON has no NaN and no infinity."""
    return [value if math.isfinite(value) else str(value) for value in values.tolist()]


def _numbers(values: list[float | str]) -> np.ndarray:
    return np.array([float(value) for value in values])
