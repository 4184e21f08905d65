"""Texts to numbers: decimal points or decimal commas, and what to do about a text that is neither."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

LARGEST = 1e30  # in size, of what a network learns from: sums of squares of such numbers are still finite
WITH_POINT = re.compile(r"[+-]?[0-9]*\.[0-9]+")
WITH_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}([,.'’\s][0-9]{3})+([,.][0-9]*)?")
ONE_WAY = "Write all numbers one way, with a decimal point and without thousands separators: 1234.5."


def as_numbers(texts: Sequence[str], *, decimal_comma: bool) -> np.ndarray:
    """(N,) float64, NaN where a text is no number.

    With `decimal_comma`, 12,5 is 12.5; texts that have a decimal point beside others with a comma are no numbers,
    because 1.234 may be a thousand there.
    """
    if decimal_comma and any("," in text for text in texts):
        texts = [("" if "." in text and WITH_POINT.fullmatch(text) else text.replace(",", ".")) for text in texts]
    plain = _plain_numbers(texts)
    if plain is not None:
        return plain
    return np.asarray(pd.to_numeric(np.array(texts, dtype=object), errors="coerce"), dtype=np.float64)


def _plain_numbers(texts: Sequence[str]) -> np.ndarray | None:
    """The same, a few times as fast, of texts with nothing but digits, points, signs and exponents; "" is NaN."""
    try:
        if "".join(texts).encode("ascii").translate(None, b"0123456789.+-eE"):
            return None
        return np.fromiter((float(text or "nan") for text in texts), np.float64, len(texts))
    except ValueError:  # a letter beyond ASCII; a point, a sign or an exponent that is no number
        return None


def decimal_mark(texts: Iterable[str]) -> str:
    """What stands before the decimals of the numbers among these texts: "." or ","; "" where none can tell.

    A point, where one number has it; else a comma, where one can only be read in this way (12,5 but not 1,234, which
    may be a thousand).
    """
    found = ""
    for text in texts:
        if "." in text and WITH_POINT.fullmatch(text):
            return "."
        if not found and "," in text and WITH_COMMA.fullmatch(text) and not THOUSANDS.fullmatch(text):
            found = ","
    return found


def advice_on(texts: Sequence[str], usual: str) -> str:
    """What to do about texts that are no numbers; `usual` where nothing better is known."""
    if any(WITH_COMMA.fullmatch(text) or THOUSANDS.fullmatch(text) or WITH_POINT.fullmatch(text) for text in texts):
        return ONE_WAY
    return usual
