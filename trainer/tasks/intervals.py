"""How far a mean might be off because only so many images were judged: bootstrap intervals over images."""

from __future__ import annotations

import numpy as np

LEVEL, DRAWS, SEED = 0.95, 2000, 0
CHUNK = 1_000_000  # images drawn at a time, which bounds the memory


def bootstrap_interval(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of sums.sum() / counts.sum(), given what each of N images adds to both, (N,) and (N,).

    Whole images are drawn, with replacement, because the errors within one go together (the percentile bootstrap over
    clusters, Efron & Tibshirani 1993, chapters 8 and 13). Images that count nothing take no part. The draws are the
    same every time. NaN for fewer than two images, and where a sum is not finite.
    """
    present = counts > 0
    sums, counts = sums[present].astype(np.float64), counts[present].astype(np.float64)
    if len(sums) < 2 or not np.isfinite(sums).all():
        return float("nan"), float("nan")
    rng = np.random.default_rng(SEED)
    means = []
    for draws in _chunks(len(sums)):
        drawn = rng.integers(len(sums), size=(draws, len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _chunks(num_images: int) -> list[int]:
    """How many of the draws are made at a time."""
    largest = max(1, CHUNK // num_images)
    return [min(largest, DRAWS - done) for done in range(0, DRAWS, largest)]
