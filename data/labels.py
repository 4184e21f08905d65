"""Labels as written to class indices or numbers, and whether they can be learnt."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.cells import MISSING, Cells, missing_column
from data.errors import DataError, enumerated, nearest, one_line, quoted
from data.groups import GROUP_COLUMNS
from data.image_rows import IMAGE_COLUMNS, SPLIT_COLUMNS
from data.numbers import LARGEST, advice_on, as_numbers

# Where several of these columns exist, the first name listed here is taken.
LABEL_COLUMNS = ("label", "class", "target", "category")
NO_LABEL = MISSING - {"none"}  # "none" is a fine name of a class
MANY_CLASSES = 50
LEAST_SPREAD = 1e-30  # standard deviation below which single precision fails

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """The label of each of N rows, and the words for the place of each, such as `line 3, column age`."""

    source: Path
    places: list[str]
    targets: np.ndarray  # (N,) int64 class index, or float64 number
    class_names: list[str] | None  # in natural order (2 before 10); None for numbers

    @property
    def words(self) -> list[str] | None:
        """The class name per row, None for numbers."""
        return None if self.class_names is None else [self.class_names[target] for target in self.targets]


def read_labels(
    cells: Cells,
    label: str | None,
    *,
    numeric: bool,
    covariates: Sequence[str],
    class_order: Sequence[str] | None = None,
    origin: str = "data.label",
) -> Labels:
    """The label column of a table; `class_order` replaces the natural order of the classes that occur.

    `origin`: the option to check if there is only one class.
    """
    column, places, words = _label_cells(cells, label, covariates)
    if numeric:
        numbers = numbers_of(cells.path, places, words, decimal_comma=cells.decimal_comma_in([column]))
        return Labels(cells.path, places, numbers, None)
    return classes_of(cells.path, places, words, origin=origin, class_order=class_order)


def read_known_labels(
    cells: Cells, label: str | None, *, class_names: Sequence[str] | None, covariates: Sequence[str]
) -> Labels:
    """The label column of a table under the classes that a model knows, None for numbers. Not all need to occur."""
    column, places, words = _label_cells(cells, label, covariates)
    if class_names is None:
        numbers = numbers_of(cells.path, places, words, decimal_comma=cells.decimal_comma_in([column]))
        return Labels(cells.path, places, numbers, None)
    return known_classes_of(cells.path, places, words, class_names)


def known_classes_of(source: Path, places: list[str], words: list[str], class_names: Sequence[str]) -> Labels:
    """Words to the classes that a model knows; raises DataError for any other."""
    index = {name: i for i, name in enumerate(class_names)}
    if faults := [
        f"{place} is {quoted(word)}{nearest(word, list(class_names))}"
        for place, word in zip(places, words, strict=True)
        if word not in index
    ]:
        raise DataError.listing(source, faults, f"The model knows the classes {enumerated(class_names)}.")
    return Labels(source, places, np.array([index[word] for word in words], dtype=np.int64), list(class_names))


def _label_cells(cells: Cells, label: str | None, covariates: Sequence[str]) -> tuple[int, list[str], list[str]]:
    """The label column, and place and word of each row."""
    column = _label_column(cells, label)
    name = cells.header[column]
    if name.lower() in [covariate.strip().lower() for covariate in covariates]:
        raise DataError(
            f"{cells.path}: column {name} is the label and a covariate. Take it out of data.covariates, "
            "or name another data.label."
        )
    words = cells.words(column)
    places = [cells.at(i, column) for i in range(len(words))]
    if faults := [
        f"{place} is {quoted(word) if word else 'empty'}"
        for place, word in zip(places, words, strict=True)
        if word.lower() in NO_LABEL
    ]:
        raise DataError.listing(cells.path, faults, "Give every row its label, or delete the row.")
    return column, places, words


def numbers_of(source: Path, places: list[str], words: list[str], *, decimal_comma: bool) -> np.ndarray:
    """(N,) float64; raises DataError for what is no finite number."""
    numbers = as_numbers(words, decimal_comma=decimal_comma)
    if bad := np.flatnonzero(~np.isfinite(numbers)).tolist():
        faults = [f"{places[i]} is {quoted(words[i])}" for i in bad]
        advice = "Regression needs a finite number such as 12.5; task=classification learns words."
        raise DataError.listing(source, faults, advice_on([words[i] for i in bad], advice))
    if huge := np.flatnonzero(np.abs(numbers) > LARGEST).tolist():
        faults = [f"{places[i]} is {quoted(words[i])}" for i in huge]
        raise DataError.listing(source, faults, f"Numbers beyond {LARGEST:g} can't be learnt: take a larger unit.")
    return numbers


def classes_of(
    source: Path, places: list[str], words: list[str], *, origin: str, class_order: Sequence[str] | None = None
) -> Labels:
    """Words to classes; `origin` is the option to check if there is only one of them."""
    names = sorted(set(words), key=natural_order)
    if class_order is not None:
        names = [name for name in class_order if name in names]
    if len(names) == 1:
        all_of = f"all {len(words)} images are of class {quoted(names[0])}"
        raise DataError(f"{source}: {all_of}. Classification needs two classes: check {origin}.")
    numeric = np.isfinite(as_numbers(names, decimal_comma=True)).all()
    if len(names) > max(MANY_CLASSES, len(words) / 2):
        found = f"{len(names)} different labels of {len(words)} images, such as {places[0]}: {quoted(words[0])}"
        advice = "task=regression learns numbers" if numeric else f"check {origin}"
        raise DataError(f"{source}: {found}. Classes need several images each; {advice}.")
    lowered = [name.lower() for name in names]
    if alike := [name for name in names if lowered.count(name.lower()) > 1]:
        shown = one_line(enumerated(alike))
        log.warning("%s: the classes %s differ only in capital letters, and are kept apart", source, shown)
    if len(names) > MANY_CLASSES and numeric:
        log.warning("%s: %d classes that are all numbers; task=regression learns numbers", source, len(names))
    index = {name: i for i, name in enumerate(names)}
    return Labels(source, places, np.array([index[word] for word in words], dtype=np.int64), names)


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts numbers within names by value: 0-60, 61-96, 133-168."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts) if part], name


def check_classes_trained(labels: Labels, splits: np.ndarray) -> None:
    """Raises DataError for classes that no training image has."""
    assert labels.class_names is not None
    counts = np.bincount(labels.targets[splits == "train"], minlength=len(labels.class_names))
    known = [name for name, count in zip(labels.class_names, counts, strict=True) if count]
    faults = []
    for index in np.flatnonzero(counts == 0).tolist():
        name, row = labels.class_names[index], int(np.flatnonzero(labels.targets == index)[0])
        faults.append(f"class {quoted(name)} ({labels.places[row]}) has no training image{nearest(name, known)}")
    if faults:
        advice = "Mend the label, add training images of it, or change the split (data.split_seed, data.val_fraction)."
        raise DataError.listing(labels.source, faults, advice)


def check_numbers_vary(labels: Labels, splits: np.ndarray, *, origin: str) -> None:
    """Raises DataError where all training rows have the same number; `origin` is what to check then."""
    train = labels.targets[splits == "train"]
    if len(train) and np.ptp(train) == 0:
        raise DataError(
            f"{labels.source}: all {len(train)} training images have the number {train[0]:g}; nothing can be learnt. "
            f"Check {origin} and the split."
        )
    # The network sees single precision.
    if len(train) and train.std() < max(10 * np.finfo(np.float32).eps * np.abs(train).max(), LEAST_SPREAD):
        raise DataError(
            f"{labels.source}: the numbers of the training images, {train.min():g} to {train.max():g}, are too alike "
            f"to be told apart. Check {origin}; subtract what they have in common, or take a smaller unit."
        )


def _label_column(cells: Cells, label: str | None) -> int:
    column = cells.column(LABEL_COLUMNS if label is None else [label.strip().lower()])
    if column is None:
        found = missing_column(cells, "label", LABEL_COLUMNS)
        if label is not None:
            found = f"line {cells.header_line} has no column {quoted(label)}{nearest(label, cells.header)}"
            found += f", only {enumerated(cells.header)}"
        advice = f"Set data.label to a column's name, or call it one of {enumerated(LABEL_COLUMNS)}."
        raise DataError.listing(cells.path, [found], advice)
    for role, names in (("image", IMAGE_COLUMNS), ("split", SPLIT_COLUMNS), ("group", GROUP_COLUMNS)):
        if cells.column(names) == column:
            raise DataError(
                f"{cells.path}: data.label={label} is the {role} column of the table. Name the column to be learnt, "
                f"or rename this one if it is no {role}."
            )
    return column
