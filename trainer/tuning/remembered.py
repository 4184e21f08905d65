"""What was measured on this machine and is remembered between runs: a small file for each question."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from trainer.run_dir import write_json


def cache_folder() -> Path:
    """The user's own, by the XDG Base Directory Specification: there, a path that is not absolute counts as none.

    Raises OSError where the user has no home.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    home = Path(os.path.expanduser("~"))
    if not given.is_absolute() and not home.is_absolute():
        raise OSError("there is no home folder; set XDG_CACHE_HOME")
    return (given if given.is_absolute() else home / ".cache") / "trainer"


class Remembered:
    """The answer to one question: whatever of it changes, it is another question, and so another file. Processes that
    write at once meet only in the same answer, which is written whole."""

    def __init__(self, kind: str, question: dict[str, Any]) -> None:
        self._kind = kind
        self._question = json.loads(json.dumps(question, default=str))

    @property
    def path(self) -> Path:
        digest = hashlib.sha256(json.dumps(self._question, sort_keys=True).encode()).hexdigest()
        return cache_folder() / self._kind / f"{digest[:20]}.json"

    def recall(self) -> dict[str, Any] | None:
        """None where nothing is known, or the file is not one that `keep` wrote: then it is to be measured again."""
        try:
            held = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(held, dict) or held.get("question") != self._question:
            return None
        answer = held.get("answer")
        return answer if isinstance(answer, dict) else None

    def keep(self, answer: dict[str, Any]) -> None:
        """Raises OSError where it can't be written."""
        write_json(self.path, {"question": self._question, "answer": answer})
