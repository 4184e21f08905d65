"""How far predicted landmarks lie from the truth: MRE, median, SDR and NME, in px and in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd


def radial_errors(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, K) of (N, K, 2) points; NaN where the truth is missing."""
    distances: np.ndarray = np.linalg.norm(points - truth, axis=-1)
    return distances


def landmark_metrics(
    points: np.ndarray,
    truth: np.ndarray,
    spacing_mm: np.ndarray,
    *,
    unit: str,
    sdr_thresholds: Sequence[float],
    nme: str | None,
    nme_landmarks: Sequence[int] | None,
) -> dict[str, float]:
    """Means over all landmarks that are there, of (N, K, 2) points in original px and spacings (N,) in mm per px.

    mre_px, median_px; with `unit` mm also mre_mm, median_mm; sdr_<threshold><unit>: share of errors no larger than the
    threshold; nme: see normalisers.
    """
    errors_px = radial_errors(points, truth)
    metrics = {"mre_px": math.nan, "median_px": _median(errors_px)}
    if unit == "mm":
        metrics |= {"mre_mm": math.nan, "median_mm": _median(errors_px * spacing_mm[:, None])}
    sums = landmark_sums(
        points, truth, spacing_mm, unit=unit, sdr_thresholds=sdr_thresholds, nme=nme, nme_landmarks=nme_landmarks
    )
    for name, (totals, counts) in sums.items():
        metrics[name] = float(totals.sum() / counts.sum()) if counts.any() else math.nan
    return metrics


def landmark_sums(
    points: np.ndarray,
    truth: np.ndarray,
    spacing_mm: np.ndarray,
    *,
    unit: str,
    sdr_thresholds: Sequence[float],
    nme: str | None,
    nme_landmarks: Sequence[int] | None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What each image adds to every mean among landmark_metrics, sum (N,) and count (N,): it is total over total."""
    errors_px = radial_errors(points, truth)
    errors = errors_px * spacing_mm[:, None] if unit == "mm" else errors_px
    parts = {"mre_px": errors_px, f"mre_{unit}": errors}
    for threshold in sdr_thresholds:
        parts[f"sdr_{threshold:g}{unit}"] = np.where(np.isfinite(errors), errors <= threshold, np.nan)
    if nme in ("pair", "box"):
        with np.errstate(divide="ignore"):  # two landmarks in one place: infinite, which no mean takes in
            parts["nme"] = (image_means(errors_px) / normalisers(truth, nme, nme_landmarks))[:, None]
    return {
        name: (np.where(np.isfinite(values), values, 0).sum(axis=1), np.isfinite(values).sum(axis=1))
        for name, values in parts.items()
    }


def success_rate(errors: np.ndarray, threshold: float) -> float:
    """Success detection rate: share of the finite errors that are at most `threshold`."""
    present = errors[np.isfinite(errors)]
    return float((present <= threshold).mean()) if len(present) else float("nan")


def normalisers(truth: np.ndarray, kind: str, pair: Sequence[int] | None) -> np.ndarray:
    """Lengths (N,) in px that NME divides by: the distance of two landmarks, or the root of the truth's box area."""
    if kind == "pair":
        assert pair is not None
        return radial_errors(truth[:, pair[0]], truth[:, pair[1]])
    with np.errstate(invalid="ignore"):
        spans = np.fmax.reduce(truth, axis=1) - np.fmin.reduce(truth, axis=1)
    return np.sqrt(spans[:, 0] * spans[:, 1])


def per_landmark_table(
    points: np.ndarray,
    truth: np.ndarray,
    spacing_mm: np.ndarray,
    landmark_names: Sequence[str],
    *,
    unit: str,
    sdr_thresholds: Sequence[float],
) -> pd.DataFrame:
    """A row per landmark: count, mean, median and 95th percentile of the error in `unit`, success rates."""
    errors = radial_errors(points, truth) * (spacing_mm[:, None] if unit == "mm" else 1.0)
    rows = []
    for column, name in enumerate(landmark_names):
        present = errors[np.isfinite(errors[:, column]), column]
        rows.append(
            {
                "landmark": name,
                "count": len(present),
                f"mre_{unit}": mean_of_finite(present),
                f"median_{unit}": _median(present),
                f"p95_{unit}": float(np.percentile(present, 95)) if len(present) else float("nan"),
                **{f"sdr_{threshold:g}{unit}": success_rate(present, threshold) for threshold in sdr_thresholds},
            }
        )
    return pd.DataFrame(rows)


def mean_of_finite(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(present.mean()) if len(present) else float("nan")


def _median(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(np.median(present)) if len(present) else float("nan")


def image_means(errors: np.ndarray) -> np.ndarray:
    """Mean error (N,) of each image over the landmarks it has, of (N, K) errors; NaN where it has none."""
    present = np.isfinite(errors)
    total = np.where(present, errors, 0).sum(axis=1)
    return np.where(present.any(axis=1), total / np.maximum(present.sum(axis=1), 1), np.nan)
