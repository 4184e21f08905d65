"""Shapes of landmarks held against their typical shape: what does not fit, and what is turned, mirrored or enlarged.

Points are complex numbers x + iy here: a similarity is then z -> a z + b, with the scale |a| and the angle of a.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FITS, ROUNDS, FILLS = 12, 6, 4
LEAST_SPREAD = 0.003  # of the size of the shape: what is drawn more exactly than this still has some tolerance
LEAST_POINTS = 4  # of one shape; a similarity fits any two, and of three none stands out
SHRINKAGE = 0.03  # towards landmarks that vary alike and independently
ROWS_PER_LANDMARK = 5  # from here on, the landmarks of a shape foretell each other
STRAY = 9.0  # standard deviations; what varies has long tails
RAYLEIGH_MEDIAN = 1.1774  # of a distance in the plane, in standard deviations along an axis


@dataclass(frozen=True)
class TypicalShape:
    mean: np.ndarray  # (K,) complex, centred, root mean square 1
    spread: np.ndarray  # (K,) standard deviation about it, along an axis


@dataclass(frozen=True)
class Fits:
    """The typical shape laid onto N shapes by z -> scale z + shift; `residual` is in its units, NaN = missing."""

    scale: np.ndarray  # (N,) complex: px per unit and angle
    shift: np.ndarray  # (N,) complex, px
    residual: np.ndarray  # (N, K) complex

    @property
    def misfit(self) -> np.ndarray:
        """(N,) median distance of the landmarks from where they should be."""
        return np.nanmedian(np.abs(self.residual), axis=1)


@dataclass(frozen=True)
class Shapes:
    """The rows with enough landmarks to be compared, and how the typical shape lies on them."""

    rows: np.ndarray  # (M,) of the subject
    landmarks: np.ndarray  # (L,) of the subject, those that enough rows have
    points: np.ndarray  # (M, L) complex px
    typical: TypicalShape
    fits: Fits


def typical_shape(shapes: np.ndarray) -> TypicalShape:
    """The median of shapes (N, K) complex px after they are laid onto each other; NaN = missing."""
    centred = shapes - _median(shapes, axis=1)[:, None]
    size = np.nanmedian(np.abs(centred), axis=1)
    centred = centred / np.where(size > 0, size, np.nanmax(np.abs(centred), axis=1))[:, None]  # 0: most coincide
    mean, spread = _median(centred, axis=0), np.full(shapes.shape[1], 0.1)
    for _ in range(ROUNDS):
        mean = mean - mean.mean()
        mean = mean / np.sqrt(np.mean(np.abs(mean) ** 2))
        aligned = lay_onto(shapes, TypicalShape(mean, spread)).residual + mean
        mean = _median(aligned, axis=0)
        spread = np.maximum(np.nanmedian(np.abs(aligned - mean), axis=0) / RAYLEIGH_MEDIAN, LEAST_SPREAD)
    return TypicalShape(mean, spread)


def lay_onto(shapes: np.ndarray, typical: TypicalShape) -> Fits:
    """Robust fits: a landmark far from its place counts for little (iterated least squares with Cauchy weights)."""
    present = np.isfinite(shapes)
    weight = present.astype(np.float64)
    for fit in range(FITS):
        scale, shift = _similarity(shapes, typical.mean, weight)
        residual = np.where(present, (shapes - shift) / scale - typical.mean, np.nan)
        tolerance: np.ndarray = np.broadcast_to(2 * typical.spread, shapes.shape)
        if fit < 4:  # while the fit is still drawn aside, nothing is told apart by narrow tolerances
            tolerance = np.maximum(tolerance, 2 * np.nanmedian(np.abs(residual), axis=1)[:, None])
        weight = np.where(present, 1 / (1 + (np.abs(residual) / tolerance) ** 2), 0)
    return Fits(scale[:, 0], shift[:, 0], residual)


def strays(residual: np.ndarray, typical: TypicalShape, most: int) -> list[tuple[int, int, complex]]:
    """(shape, landmark, where the other landmarks of the shape want it) of landmarks that stray from there.

    residual: (N, K) of fits. The worst of a shape is put where it is wanted before the next is judged, `most` at the
    most. With too few shapes to learn from, a landmark is wanted at its place in the typical shape.
    """
    num_shapes, num_landmarks = residual.shape
    learnt = num_shapes >= ROWS_PER_LANDMARK * num_landmarks
    foretell = _regression(residual, typical) if learnt else np.zeros((2 * num_landmarks, 2 * num_landmarks))
    present = np.isfinite(residual)
    known = np.where(present, residual, 0)
    for _ in range(FILLS):
        known = np.where(present, residual, _foretold(known, foretell))
    error = np.where(present, np.abs(residual - _foretold(known, foretell)), np.nan)
    spread = np.maximum(np.nanmedian(error, axis=0) / RAYLEIGH_MEDIAN, LEAST_SPREAD)
    found: list[tuple[int, int, complex]] = []
    rows = np.arange(num_shapes)
    for _ in range(most):
        wanted = _foretold(known[rows], foretell)
        distance = np.where(present[rows], np.abs(known[rows] - wanted) / spread, 0)
        worst = distance.argmax(axis=1)
        hit = distance[np.arange(len(rows)), worst] > STRAY
        rows, worst, wanted = rows[hit], worst[hit], wanted[hit]
        if not len(rows):
            break
        wanted_worst = wanted[np.arange(len(rows)), worst]
        found += list(zip(rows.tolist(), worst.tolist(), (typical.mean[worst] + wanted_worst).tolist(), strict=True))
        known[rows, worst] = wanted_worst
        present[rows, worst] = False  # told once
    return found


def _similarity(shapes: np.ndarray, mean: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares a, b (N, 1) of shapes = a mean + b."""
    known = np.where(weight > 0, shapes, 0)
    total = weight.sum(axis=1, keepdims=True)
    centre = (weight * known).sum(axis=1, keepdims=True) / total
    mean_centre = (weight * mean).sum(axis=1, keepdims=True) / total
    apart, mean_apart = known - centre, mean - mean_centre
    scale = (weight * np.conj(mean_apart) * apart).sum(axis=1, keepdims=True)
    scale = scale / (weight * np.abs(mean_apart) ** 2).sum(axis=1, keepdims=True)
    scale = np.where(np.abs(scale) > 1e-9, scale, 1e-9)  # all points at one place have no scale
    return scale, centre - scale * mean_centre


def _regression(residual: np.ndarray, typical: TypicalShape) -> np.ndarray:
    """(2K, 2K): each landmark's residual foretold from those of the others (mean of a conditional normal)."""
    num_landmarks = residual.shape[1]
    known = np.nan_to_num(residual, nan=0.0)
    known = known / np.maximum(np.abs(known) / (3 * typical.spread), 1)  # so that strays teach little
    columns = np.concatenate([known.real, known.imag], axis=1)
    covariance = columns.T @ columns / len(columns)
    covariance += SHRINKAGE * np.trace(covariance) / (2 * num_landmarks) * np.eye(2 * num_landmarks)
    precision = np.linalg.inv(covariance)
    foretell = np.zeros_like(precision)
    for landmark in range(num_landmarks):
        own = [landmark, landmark + num_landmarks]
        foretell[own] = -np.linalg.solve(precision[np.ix_(own, own)], precision[own])
        foretell[np.ix_(own, own)] = 0
    return foretell


def _foretold(residual: np.ndarray, foretell: np.ndarray) -> np.ndarray:
    columns = np.concatenate([residual.real, residual.imag], axis=1) @ foretell.T
    num_landmarks = residual.shape[1]
    return columns[:, :num_landmarks] + 1j * columns[:, num_landmarks:]


def _median(shapes: np.ndarray, axis: int) -> np.ndarray:
    return np.nanmedian(shapes.real, axis=axis) + 1j * np.nanmedian(shapes.imag, axis=axis)
