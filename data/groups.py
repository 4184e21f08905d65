"""Images that belong together, of one patient or person: by a column of the table, or by what their names say."""

from __future__ import annotations

import re

from data.cells import Cells, read_words
from data.errors import DataError, quoted

# Where several of these columns exist, the first name listed here is taken.
GROUP_COLUMNS = ("group", "patient", "patient_id")


def read_groups(cells: Cells, image_names: list[str], pattern: str | None) -> list[str] | None:
    """The group of each row; None: neither a column nor a pattern tells.

    pattern: a regular expression, whose first bracket captures the group at the start of each image name.

    Raises:
        DataError: an empty cell, a name that the pattern does not match, or both a column and a pattern.
    """
    column = cells.column(GROUP_COLUMNS)
    if pattern is None:
        return read_words(cells, GROUP_COLUMNS, "Give every row its group.")
    if column is not None:
        told = f"line {cells.header_line} has the column {quoted(cells.header[column])}, which says which images"
        raise DataError(f"{cells.path}: {told} belong together. Set data.group_pattern=null, or delete the column.")
    groups = [matched_group(pattern, name) for name in image_names]
    faults = [
        f"line {line}: data.group_pattern finds no group in {quoted(name)}"
        for line, name, group in zip(cells.lines, image_names, groups, strict=True)
        if group is None
    ]
    if faults:
        raise DataError.listing(cells.path, faults, "Change the pattern, or give the table a column group.")
    return [group for group in groups if group is not None]


def matched_group(pattern: str, image_name: str) -> str | None:
    """What the first bracket of the pattern captures; None where it finds nothing."""
    match = re.match(pattern, image_name)
    return match[1] or None if match else None
