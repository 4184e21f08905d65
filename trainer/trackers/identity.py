"""tracker.json in the run directory: by what a tracker finds its own run again when the run goes on."""

from __future__ import annotations

import json
from typing import Any

from trainer.run_dir import RunDir, write_json


class Identity:
    """What the tracker called `name` wrote down of itself."""

    def __init__(self, run_dir: RunDir, name: str) -> None:
        self._path = run_dir.path / "tracker.json"
        self._name = name

    def read(self) -> dict[str, Any]:
        """Empty where it has not been there yet."""
        return dict(self._all().get(self._name, {}))

    def write(self, **facts: Any) -> None:
        write_json(self._path, {**self._all(), self._name: facts})

    def _all(self) -> dict[str, Any]:
        return dict(json.loads(self._path.read_text(encoding="utf-8"))) if self._path.exists() else {}
