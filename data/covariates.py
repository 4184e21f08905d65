"""Covariates: columns of a table that the network sees beside the image, learnt from the training rows alone."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from data.cells import MISSING, Cells
from data.errors import DataError, enumerated, nearest, one_line, quoted
from data.image_rows import IMAGE_COLUMNS, SPLIT_COLUMNS
from data.labels import natural_order
from data.numbers import LARGEST, WITH_POINT, as_numbers

MISSING_CATEGORY = "missing"
SEXES = {"female": "f", "male": "m"}
BOOLEAN_PAIRS = (("false", "true"), ("no", "yes"), ("0", "1"))
NUMERIC_SHARE = 0.5  # a column with this share of numbers is one of numbers, and its words are faults
MANY_CATEGORIES = 20  # from here on, a column that differs in every other row is an identifier
ENOUGH_ROWS = 50  # from here on, a category of a single row is suspect
MEND_CELLS = "Mend these cells, or set data.missing_covariate=category to take them as missing."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Covariates:
    """C columns of N rows, as people read them and as the network does."""

    names: list[str]  # C
    categories: list[list[str] | None]  # per column: category names, `missing` last if it is one; None = numeric
    mean: np.ndarray  # (C,) of numeric columns over the training split, 0 for categorical ones
    std: np.ndarray  # (C,) likewise, 1 for categorical ones
    values: list[list[str]]  # (C, N) category name, or number as text
    encoded: np.ndarray  # (N, D) float32: one-hot per categorical column, standardised number per numeric one
    missing_covariate: str = "error"  # with `category`, a numeric column is followed by an indicator of missing cells

    @property
    def encoded_names(self) -> list[str]:
        """What each of the D numbers is, such as sex=F, age."""
        names = []
        for name, categories in zip(self.names, self.categories, strict=True):
            if categories is not None:
                names += [f"{name}={category}" for category in categories]
            else:
                names += [name, f"{name}={MISSING_CATEGORY}"] if self.missing_covariate == "category" else [name]
        return names


def no_covariates(num_rows: int) -> Covariates:
    return Covariates([], [], np.zeros(0), np.ones(0), [], np.zeros((num_rows, 0), np.float32))


def read_covariates(
    cells: Cells, names: Sequence[str], train: np.ndarray, missing_covariate: str, *, advice: str = MEND_CELLS
) -> Covariates:
    """The columns `names` of a table; what they hold is learnt from the rows in `train` (N,) bool.

    A column with more than two different numbers in at least half of its cells is numeric, others are categorical:
    0/1, words, F/M (also female, male), true/false (also yes/no, 1/0 in the same column), whatever their capitals.
    A missing cell, or a word that no training row has: with `error` it is a DataError, with `category` the category
    `missing` (of numbers, the mean and an indicator). `advice`: what to do against such cells.
    """
    if missing_covariate not in ("error", "category"):
        raise DataError(f"data.missing_covariate={missing_covariate} must be error or category")
    columns = [_find(cells, name) for name in names]
    found = [cells.header[column] for column in columns]
    if repeated := [name for name, count in Counter(found).items() if count > 1]:
        raise DataError(f"data.covariates names {enumerated(repeated)} twice. Name each column once.")
    categories: list[list[str] | None] = []
    mean, std = np.zeros(len(columns)), np.ones(len(columns))
    for i, column in enumerate(columns):
        decimal_comma = cells.decimal_comma_in([column])
        texts = cells.words(column)
        numbers = _measured(texts, decimal_comma=decimal_comma)
        given = train & ~np.array([_is_missing(text, missing_covariate) for text in texts])
        finite = given & np.isfinite(numbers)
        if not given.any():
            raise DataError(
                f"{cells.path}: column {found[i]} is empty in all {int(train.sum())} training rows. "
                "Fill it in, or take it out of data.covariates."
            )
        if len(np.unique(numbers[finite])) > 2 and finite.sum() >= NUMERIC_SHARE * given.sum():
            categories.append(None)
            mean[i], std[i] = numbers[finite].mean(), numbers[finite].std()
        else:
            words = [texts[row] for row in np.flatnonzero(given)]
            learnt, counts = _categories(words, decimal_comma=decimal_comma)
            _check_categories(cells, column, words, learnt, counts)
            categories.append([*learnt, MISSING_CATEGORY] if missing_covariate == "category" else learnt)
    return encode_covariates(cells, found, categories, mean, std, missing_covariate, advice=advice)


def encode_covariates(
    cells: Cells,
    names: Sequence[str],
    categories: list[list[str] | None],
    mean: np.ndarray,
    std: np.ndarray,
    missing_covariate: str,
    *,
    advice: str = MEND_CELLS,
) -> Covariates:
    """The rows of a table under categories, mean and std (C,) that are known; see `read_covariates`."""
    values: list[list[str]] = []
    encoded = [np.zeros((len(cells.rows), 0))]
    faults: list[str] = []
    for i, (name, known) in enumerate(zip(names, categories, strict=True)):
        column = _find(cells, name)
        decimal_comma = cells.decimal_comma_in([column])
        texts = cells.words(column)
        missing = [_is_missing(text, missing_covariate) for text in texts]
        if known is None:
            numbers = _measured(texts, decimal_comma=decimal_comma)
            present = np.isfinite(numbers)
            values.append([f"{x:.10g}" if np.isfinite(x) else MISSING_CATEGORY for x in numbers])
            encoded.append(np.where(present, (numbers - mean[i]) / std[i], 0)[:, None])
            if missing_covariate == "category":
                encoded.append(~present[:, None])
            expected = "expected a number"
        else:
            spelt = _spellings(known, decimal_comma=decimal_comma)
            keys = _keys(texts, decimal_comma=decimal_comma)
            named = [MISSING_CATEGORY if gap else spelt.get(keys[x]) for x, gap in zip(texts, missing, strict=True)]
            present = ~np.array(missing) & np.array([word is not None for word in named])
            values.append([word or MISSING_CATEGORY for word in named])
            encoded.append(np.array([[word == category for category in known] for word in values[-1]]))
            expected = f"the training rows have {enumerated(known)}"
        faults += [
            f"{cells.at(row, column)} is {quoted(texts[row]) if texts[row] else 'empty'}"
            + ("" if missing[row] else f", {expected}{_more_expected(texts[row]) if known is None else ''}")
            for row in np.flatnonzero(~present).tolist()
        ]
    if faults and missing_covariate == "error":
        raise DataError.listing(cells.path, faults, advice)
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        log.warning("%s: taken as missing: %s%s", cells.path, one_line("; ".join(faults[:3])), more)
    matrix = np.concatenate(encoded, axis=1).astype(np.float32)
    return Covariates(list(names), categories, mean, std, values, matrix, missing_covariate)


def _find(cells: Cells, name: str) -> int:
    column = cells.column([name.strip().lower()])
    if column is None:
        fault = f"line {cells.header_line} has no column {quoted(name)}{nearest(name, cells.header)}"
        raise DataError.listing(
            cells.path, [f"{fault}, only {enumerated(cells.header)}"], "Mend data.covariates or the header."
        )
    for role, names in (("image", IMAGE_COLUMNS), ("split", SPLIT_COLUMNS)):
        if cells.column(names) == column:
            raise DataError(f"{cells.path}: column {name} of data.covariates is the {role} column. Take it out.")
    return column


def _is_missing(text: str, missing_covariate: str) -> bool:
    lowered = text.lower()
    return lowered in MISSING or (missing_covariate == "category" and lowered == MISSING_CATEGORY)


def _measured(texts: list[str], *, decimal_comma: bool) -> np.ndarray:
    """(N,) float64, NaN for what is no number or too large to be standardised."""
    numbers = as_numbers(texts, decimal_comma=decimal_comma)
    return np.where(np.abs(numbers) <= LARGEST, numbers, np.nan)


def _more_expected(text: str) -> str:
    """What else a text has to be, in a column of numbers, beside a number."""
    if WITH_POINT.fullmatch(text):
        return " with a decimal comma, as the others"
    return "" if not np.isfinite(as_numbers([text], decimal_comma=True)).all() else f" of at most {LARGEST:g}"


def _keys(words: Iterable[str], *, decimal_comma: bool) -> dict[str, str]:
    """Each word's key, which all spellings of a category share: `Male` and `m`, `1` and `1.0`."""
    distinct = sorted(set(words))
    keys: dict[str, str] = {}
    for word, number in zip(distinct, as_numbers(distinct, decimal_comma=decimal_comma), strict=True):
        folded = " ".join(word.casefold().split())
        keys[word] = f"{number:.12g}" if np.isfinite(number) else SEXES.get(folded, folded)
    return keys


def _categories(words: list[str], *, decimal_comma: bool) -> tuple[list[str], list[int]]:
    """The categories among these words, in natural order, each in its commonest spelling, and how often each occurs.

    Sexes are spelt F and M.
    """
    commonest = [word for word, _ in sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))]
    keys = _keys(commonest, decimal_comma=decimal_comma)
    numbers = np.isfinite(as_numbers(commonest, decimal_comma=decimal_comma))
    names: dict[str, str] = {}
    for word, is_number in zip(commonest, numbers, strict=True):
        names.setdefault(keys[word], keys[word] if is_number else word)
    if booleans := _booleans(set(names)):
        names = {booleans[key]: booleans[key] for key in names}
    if any(word.casefold() in SEXES for word in commonest) or set(names) <= set(SEXES.values()):
        names |= {key: key.upper() for key in SEXES.values() if key in names}
    categories = sorted(names.values(), key=natural_order)
    spelt = _spellings(categories, decimal_comma=decimal_comma)
    counts = Counter(spelt[keys[word]] for word in words)
    return categories, [counts[category] for category in categories]


def _spellings(categories: list[str], *, decimal_comma: bool) -> dict[str, str]:
    """From the key of a cell to the category it means."""
    spelt = {key: name for name, key in _keys(categories, decimal_comma=decimal_comma).items()}
    booleans = _booleans(set(spelt) - {MISSING_CATEGORY})
    return {key: name for key, name in booleans.items() if name in categories} | spelt


def _booleans(keys: set[str]) -> dict[str, str]:
    """From each spelling of no and yes to the one to show, if all `keys` are such spellings; else nothing."""
    pair = next((pair for pair in BOOLEAN_PAIRS if keys & set(pair)), None)
    if pair is None or not keys <= {word for words in BOOLEAN_PAIRS for word in words}:
        return {}
    return {word: shown for words in BOOLEAN_PAIRS for word, shown in zip(words, pair, strict=True)}


def _check_categories(cells: Cells, column: int, words: list[str], categories: list[str], counts: list[int]) -> None:
    name, decimal_comma = cells.header[column], cells.decimal_comma_in([column])
    if not decimal_comma and np.isfinite(as_numbers(words, decimal_comma=True)).all() and "," in "".join(words):
        raise DataError(
            f"{cells.path}: column {name} has numbers with decimal commas, such as {quoted(words[0])}. "
            "Write decimal points, or separate the columns by semicolons."
        )
    if len(categories) > max(MANY_CATEGORIES, len(words) / 2):
        raise DataError(
            f"{cells.path}: column {name} has {len(categories)} different words in {len(words)} training rows, so it "
            "names rows rather than describes them. Take it out of data.covariates."
        )
    if len(categories) == 1:
        always = one_line(f"column {name} is {categories[0]}")
        log.warning("%s: %s in all training rows: it tells nothing", cells.path, always)
    elif len(words) >= ENOUGH_ROWS and (rare := [c for c, n in zip(categories, counts, strict=True) if n == 1]):
        once = one_line(f"column {name} is {enumerated(map(quoted, rare))}")
        log.warning("%s: %s in one training row only", cells.path, once)
