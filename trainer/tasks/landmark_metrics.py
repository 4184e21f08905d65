"""How far predicted landmarks lie from the truth: MRE, median, SDR and NME, in px and in mm."""

from __future__ import annotations

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
    metrics = {"mre_px": _mean(errors_px), "median_px": _median(errors_px)}
    errors = errors_px
    if unit == "mm":
        errors = errors_px * spacing_mm[:, None]
        metrics |= {"mre_mm": _mean(errors), "median_mm": _median(errors)}
    for threshold in sdr_thresholds:
        metrics[f"sdr_{threshold:g}{unit}"] = success_rate(errors, threshold)
    if nme in ("pair", "box"):
        with np.errstate(divide="ignore"):  # two landmarks in one place: infinite, which no mean takes in
            metrics["nme"] = _mean(image_means(errors_px) / normalisers(truth, nme, nme_landmarks))
    return metrics


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
                f"mre_{unit}": _mean(present),
                f"median_{unit}": _median(present),
                f"p95_{unit}": float(np.percentile(present, 95)) if len(present) else float("nan"),
                **{f"sdr_{threshold:g}{unit}": success_rate(present, threshold) for threshold in sdr_thresholds},
            }
        )
    return pd.DataFrame(rows)


def _mean(values: np.ndarray) -> float:
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
