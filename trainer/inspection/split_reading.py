"""Splits and groups of a table as far as they can be read: what is wrong in a row is noted."""

from __future__ import annotations

import numpy as np

from data.cells import Cells
from data.errors import enumerated, quoted
from data.groups import GROUP_COLUMNS, matched_group
from data.image_rows import SPLIT_COLUMNS, SPLIT_WORDS
from trainer.inspection.findings import Findings, Place, counted


def told_splits(cells: Cells, findings: Findings) -> np.ndarray:
    """(N,) train, val or test; "" where the word is none of them or there is no column."""
    column = cells.column(SPLIT_COLUMNS)
    if column is None:
        return np.full(len(cells.rows), "", dtype="<U5")
    words = cells.words(column)
    if unknown := [row for row, word in enumerate(words) if word.lower() not in SPLIT_WORDS]:
        findings.add(
            "error",
            "unknown-split",
            f"{counted(len(unknown), 'row')} with an unknown split",
            places=[Place(row, cells.lines[row], None, f"{quoted(words[row])} is no split") for row in unknown],
            advice=f"Write one of {enumerated(SPLIT_WORDS)}.",
        )
    return np.array([SPLIT_WORDS.get(word.lower(), "") for word in words], dtype="<U5")


def told_groups(cells: Cells, names: list[str], pattern: str | None, findings: Findings) -> list[str] | None:
    """The group of each row, "" where none is told; None: neither a column nor a pattern tells."""
    column = cells.column(GROUP_COLUMNS)
    if column is None and pattern is None:
        return None
    if column is None:
        assert pattern is not None
        words = [matched_group(pattern, name) or "" for name in names]
        what = f"no group by data.group_pattern={pattern}"
    else:
        words = cells.words(column)
        what = f"column {cells.header[column]} is empty"
    if column is not None and pattern is not None:
        findings.add(
            "error", "grouped-twice", f"both data.group_pattern and the column {cells.header[column]} give groups"
        )
    if empty := [row for row, word in enumerate(words) if not word]:
        findings.add(
            "error",
            "missing-group",
            f"{counted(len(empty), 'row')} without a group",
            places=[Place(row, cells.lines[row], None, what) for row in empty],
            advice="Give every row its group, or none.",
        )
    return words
