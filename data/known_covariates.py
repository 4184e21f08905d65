"""Covariates of new images under what a run has learnt of them: its categories, means and standard deviations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.cells import Cells
from data.covariates import Covariates, encode_covariates
from data.errors import DataError, enumerated, nearest, quoted

ADVICE = "Mend the cell, or leave the row out."


def known_covariates(mapping: Sequence[Mapping[str, Any]], missing_covariate: str) -> Covariates:
    """Those of no image, with what a run wrote down of them (labels.json); see read_covariates."""
    numeric = [item for item in mapping if "mean" in item]
    known = Covariates(
        names=[str(item["name"]) for item in mapping],
        categories=[None if item in numeric else [str(name) for name in item["categories"]] for item in mapping],
        mean=np.array([float(item.get("mean", 0)) for item in mapping]),
        std=np.array([float(item.get("std", 1)) for item in mapping]),
        values=[[] for _ in mapping],
        encoded=np.zeros((0, 0), np.float32),
        missing_covariate=missing_covariate,
    )
    return with_rows(known, [[] for _ in mapping], np.zeros((0, len(known.encoded_names)), np.float32))


def with_rows(known: Covariates, values: list[list[str]], encoded: np.ndarray) -> Covariates:
    return Covariates(known.names, known.categories, known.mean, known.std, values, encoded, known.missing_covariate)


def check_columns(cells: Cells, known: Covariates) -> None:
    """Raises DataError for covariates that a table lacks."""
    faults = [
        f"line {cells.header_line} has no column {quoted(name)}{nearest(name, cells.header)}, only "
        f"{enumerated(cells.header)}"
        for name in known.names
        if cells.column([name.strip().lower()]) is None
    ]
    if faults:
        told = f"The model sees {enumerated(known.names)} beside each image: add what is missing."
        raise DataError.listing(cells.path, faults, told)


def encode_known(cells: Cells, known: Covariates) -> Covariates:
    """The rows of a table; raises DataError for a column that is not there and for a cell that the run can't know."""
    check_columns(cells, known)
    if not known.names:
        return with_rows(known, [], np.zeros((len(cells.rows), 0), np.float32))
    return encode_covariates(
        cells, known.names, known.categories, known.mean, known.std, known.missing_covariate, advice=ADVICE
    )


def encode_known_rows(cells: Cells, known: Covariates) -> tuple[Covariates, dict[int, str]]:
    """The same, with what is wrong with a row instead of its numbers, which are 0; columns have to be there."""
    check_columns(cells, known)
    try:
        return encode_known(cells, known), {}
    except DataError:  # of some row: each is looked at by itself
        pass
    faults: dict[int, str] = {}
    values: list[list[str]] = [[] for _ in known.names]
    encoded = np.zeros((len(cells.rows), len(known.encoded_names)), np.float32)
    for row, (line, words) in enumerate(zip(cells.lines, cells.rows, strict=True)):
        try:
            found = encode_known(cells._replace(rows=[words], lines=[line]), known)
        except DataError as error:
            faults[row] = str(error)
            for column in values:
                column.append("")
            continue
        encoded[row] = found.encoded[0]
        for column, of_row in zip(values, found.values, strict=True):
            column.append(of_row[0])
    return with_rows(known, values, encoded), faults
