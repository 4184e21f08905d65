"""What the networks see beside the images, from a table or from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.cells import Cells
from data.covariates import Covariates
from data.errors import enumerated
from data.image_list import ImageList
from data.known_covariates import encode_known_rows


def covariates_of(images: ImageList, known: Covariates | None, *, used: bool) -> tuple[Covariates, dict[int, str]]:
    """Those of the images, and what is wrong with some. Where networks don't use them, nobody has to tell them.

    Raises:
        ValueError: there is no table. DataError: it lacks a column.
    """
    if known is None or not used:
        width = 0 if known is None else len(known.encoded_names)
        return Covariates([], [], np.zeros(0), np.ones(0), [], np.zeros((len(images), width), np.float32)), {}
    if images.cells is None:
        names = enumerated(known.names)
        raise ValueError(
            f"the run sees {names} beside each image, which only a table can tell: give images=TABLE.csv with the "
            f"columns image, {names} (in Python also covariates={{...}})"
        )
    return encode_known_rows(images.cells, known)


def cells_of(covariates: Mapping[str, Sequence[Any]] | pd.DataFrame, images: ImageList) -> Cells:
    """A column for each, as the cells of a table; raises ValueError for other than a value per image."""
    given = {str(name): list(values) for name, values in covariates.items()}
    for name, values in given.items():
        if len(values) != len(images):
            raise ValueError(f"covariates: {name} has {len(values)} values for {len(images)} images; give one for each")
    columns = [["" if pd.isna(value) else str(value) for value in values] for values in given.values()]
    rows = [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in images.names]
    return Cells(Path("covariates"), list(given), 0, rows, list(range(len(rows))), ["."] * len(given))
