"""Subject: the data that are inspected, as far as they could be read, faults and all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.cells import Cells
from trainer.inspection.findings import Place


@dataclass(kw_only=True)
class Subject:
    """N rows with an image each. None stands for what the data do not have, NaN and "" for what a row lacks."""

    source: Path  # table or folder
    names: list[str]  # of the images, as written
    lines: list[int] | None  # in the table
    paths: list[Path | None] | None  # None: not found; no list: the images are drawn
    drawn: Callable[[int], np.ndarray] | None = None
    splits: np.ndarray  # (N,) train, val, test, or "" where it is not known
    splits_given: bool  # by the data, not drawn at random
    groups: list[str] | None = None
    landmark_names: list[str] | None = None
    points: np.ndarray | None = None  # (N, K, 2) px
    unread: set[int] = field(default_factory=set)  # rows whose points are no numbers
    spacing_mm: np.ndarray | None = None  # (N,) mm per px
    classes: list[str] | None = None  # the class of each row
    numbers: np.ndarray | None = None  # (N,) the number of each row
    target_name: str = "label"
    covariates: dict[str, list[str]] | None = None  # the words of each row, per column
    cells: Cells | None = None  # of the table
    refusal: str | None = None  # what a run would say to these data

    def __len__(self) -> int:
        return len(self.names)

    def place(self, row: int, detail: str = "", others: Sequence[int] = ()) -> Place:
        return Place(row, None if self.lines is None else self.lines[row], self.names[row], detail, tuple(others))

    def short(self, row: int) -> str:
        """`line 7`, or the name of the image where there is no table."""
        return self.names[row] if self.lines is None else f"line {self.lines[row]}"
