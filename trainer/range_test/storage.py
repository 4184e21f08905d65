"""Where a copy of weights and optimizer state lies while a range test runs."""

from __future__ import annotations

import copy
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch


class Stored:
    """A copy of tensors and plain values, in memory or, with a `cache_dir`, in a file there that no other process has.

    What is on disk is loaded with weights_only=True, so it can't run code.
    """

    def __init__(self, payload: dict[str, Any], cache_dir: Path | None) -> None:
        self._copy: dict[str, Any] | None = None
        self._file: Path | None = None
        if cache_dir is None:
            self._copy = copy.deepcopy(payload)
            return
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache_dir, prefix="range_test_", suffix=".pt", delete=False) as file:
            self._file = Path(file.name)
            with ExitStack() as unless_saved:  # a full disk, or Ctrl-C, leaves no half a copy behind
                unless_saved.callback(self.close)
                torch.save(payload, file)
                unless_saved.pop_all()

    def read(self) -> dict[str, Any]:
        """A copy of what was stored, as often as wanted."""
        if self._file is not None:
            loaded: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
            return loaded
        assert self._copy is not None, "read after close"
        return copy.deepcopy(self._copy)

    def close(self) -> None:
        """Let go of the copy; the file is removed."""
        self._copy = None
        if self._file is not None:
            self._file.unlink(missing_ok=True)
