"""Findings on pixel spacing: missing in part, implausible, or in another unit than that of the other rows."""

from __future__ import annotations

import numpy as np

from trainer.inspection.findings import Findings, counted
from trainer.inspection.shapes import Shapes
from trainer.inspection.subject import Subject

PLAUSIBLE_MM = (0.01, 2.0)  # per px: from microscopes to coarse CT
OTHER_HEIGHT = 2.0  # factor of the height that an image shows, against the median
OTHER_SHAPE, SPREADS = 1.5, 8.0  # factor of the size of its landmarks in mm, and median deviations of it
ENOUGH_ROWS = 5


def inspect_spacing(subject: Subject, sizes: np.ndarray, shapes: Shapes | None, findings: Findings) -> None:
    """sizes: (N, 2) width and height in px, NaN = unknown."""
    spacing_mm = subject.spacing_mm
    assert spacing_mm is not None
    known = np.isfinite(spacing_mm)
    if not known.any():
        findings.add(
            "note",
            "no-spacing",
            "No pixel spacing: errors will be told in px",
            advice="A column pixel_spacing_mm, or data.pixel_spacing_mm, tells them in mm.",
        )
        return
    if lacking := np.flatnonzero(~known).tolist():
        findings.add(
            "warning",
            "missing-spacing",
            f"{counted(len(lacking), 'row')} of {len(subject)} without pixel spacing, so all errors will be told in px",
            places=[subject.place(row) for row in lacking],
            advice="Fill the cells, or set data.pixel_spacing_mm for them.",
        )
    low, high = PLAUSIBLE_MM
    implausible = known & ((spacing_mm < low) | (spacing_mm > high))
    if implausible.any():
        findings.add(
            "warning",
            "implausible-spacing",
            f"{counted(int(implausible.sum()), 'row')} with a spacing that is not within {low:g} to {high:g} mm/px",
            places=[subject.place(row, f"{spacing_mm[row]:g} mm/px") for row in np.flatnonzero(implausible).tolist()],
            advice="Is it in another unit, or in px per mm?",
        )
    height_mm = spacing_mm * sizes[:, 1]
    told = _other_heights(subject, height_mm, findings)
    if shapes is not None:
        _other_shapes(subject, shapes, told, findings)


def _other_heights(subject: Subject, height_mm: np.ndarray, findings: Findings) -> set[int]:
    """Images that show far more or less than the others; returns their rows."""
    if np.isfinite(height_mm).sum() < ENOUGH_ROWS:
        return set()
    usual = float(np.nanmedian(height_mm))
    far = np.flatnonzero(np.abs(np.log(height_mm / usual)) > np.log(OTHER_HEIGHT)).tolist()
    if far:
        findings.add(
            "warning",
            "other-height",
            f"{counted(len(far), 'image')} that, by the pixel spacing, show far more or less than the others",
            places=[subject.place(row, f"{height_mm[row]:.0f} mm high, usual are {usual:.0f} mm") for row in far],
            advice="Is the spacing that of another image size, or in another unit?",
        )
    return set(far)


def _other_shapes(subject: Subject, shapes: Shapes, told: set[int], findings: Findings) -> None:
    """Landmarks that are far larger or smaller in mm than those of the others."""
    assert subject.spacing_mm is not None
    size_mm = np.abs(shapes.fits.scale) * subject.spacing_mm[shapes.rows]
    if np.isfinite(size_mm).sum() < ENOUGH_ROWS:
        return
    factor = np.log(size_mm / np.nanmedian(size_mm))
    enough = max(np.log(OTHER_SHAPE), SPREADS * float(np.nanmedian(np.abs(factor))))
    far = [i for i in np.flatnonzero(np.abs(factor) > enough).tolist() if int(shapes.rows[i]) not in told]
    if far:
        findings.add(
            "warning",
            "other-scale",
            f"{counted(len(far), 'image')} whose landmarks are far larger or smaller in mm than the others'",
            places=[subject.place(int(shapes.rows[i]), f"{np.exp(factor[i]):.2f} times the usual") for i in far],
            advice="Is the spacing that of another image size?",
        )
