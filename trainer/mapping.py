"""labels.json: what the numbers that a model takes and gives mean. It stays the same for as long as a run goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from data.errors import DataError
from trainer.run_dir import write_json


def keep_mapping(path: Path, mapping: dict[str, Any]) -> None:
    """Write it down, unless the task has nothing to say."""
    if mapping:
        write_json(path, mapping)


def check_mapping(path: Path, mapping: dict[str, Any]) -> None:
    """Raises DataError, naming what was and what is, where the data no longer mean what they did as the run began."""
    if not path.exists():
        return
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: can't be read ({error}). Start a new run.") from None
    if not isinstance(written, dict):
        raise DataError(f"{path}: is not a JSON object ({{...}}), as this program writes it. Start a new run.")
    for key, now in mapping.items():
        was = written.get(key)
        if not _same(was, now):
            raise DataError(
                f"{path}: {key} were {_short(was)} when the run began, the data now give {_short(now)}. "
                "Put the data back as they were, or start a new run."
            )


def _same(was: Any, now: Any) -> bool:
    """Equal, but for the last digits of numbers, which another machine may round otherwise."""
    if isinstance(was, dict) and isinstance(now, dict):
        return was.keys() == now.keys() and all(_same(was[key], now[key]) for key in now)
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(_same, was, now))
    if isinstance(was, float) and isinstance(now, float):
        return math.isclose(was, now, rel_tol=1e-9, abs_tol=1e-12)
    return bool(was == now)


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
