"""Images whose landmarks don't fit as a whole: turned, mirrored, x and y swapped, or drawn at another image size."""

from __future__ import annotations

import numpy as np

from trainer.inspection.findings import Findings, counted
from trainer.inspection.shapes import Shapes, lay_onto
from trainer.inspection.subject import Subject

MISFIT = 3.0  # times the median misfit, from which on a shape doesn't fit
BETTER = 0.5  # misfit of the other reading of a row, by that of the row as it is
TURNED_DEG = 45.0
RESIZED = 1.5  # factor of the size of the landmarks within the image
SPREADS = 8.0  # median deviations: what differs by less is within what the data vary
# What makes a shape fit when mirrored, by the angle (degrees) of the mirrored fit.
MIRRORS = {
    0: "y is counted from the bottom, or the image is upside down and mirrored",
    90: "x and y are swapped",
    180: "a mirror image of the others, or left and right landmarks are swapped",
    -90: "mirrored and turned against the others",
}


def inspect_poses(
    subject: Subject, shapes: Shapes, sizes: np.ndarray, flip_pairs: list[tuple[int, int]], findings: Findings
) -> set[int]:
    """Returns the rows whose landmarks lie turned or mirrored. sizes: (N, 2) width and height in px, NaN = unknown."""
    rows, fits = shapes.rows, shapes.fits
    told: dict[int, str] = {}
    misfit = fits.misfit
    suspicious = misfit > MISFIT * np.median(misfit)
    directions = fits.scale / np.abs(fits.scale)
    usual = float(np.angle(np.median(directions.real) + 1j * np.median(directions.imag)))
    mirrored = lay_onto(np.conj(shapes.points), shapes.typical)
    swapped = (
        lay_onto(shapes.points[:, _exchanged(shapes.landmarks, flip_pairs)], shapes.typical) if flip_pairs else None
    )
    for i in np.flatnonzero(suspicious).tolist():
        row = int(rows[i])
        if swapped is not None and swapped.misfit[i] < BETTER * misfit[i]:
            told[row] = "left and right landmarks are swapped (they fit when the flip pairs change sides)"
        elif mirrored.misfit[i] < BETTER * misfit[i]:
            angle = np.degrees(np.angle(np.conj(mirrored.scale[i]) * np.exp(1j * usual)))
            told[row] = MIRRORS[min(MIRRORS, key=lambda way: abs((angle - way + 180) % 360 - 180))]
    angle = np.degrees(np.angle(directions * np.exp(-1j * usual)))
    enough = max(TURNED_DEG, SPREADS * float(np.median(np.abs(angle))))
    for i in np.flatnonzero(np.abs(angle) > enough).tolist():
        told.setdefault(int(rows[i]), f"turned by {angle[i]:.0f} degrees against the others")
    odd = set(told)
    of_image = np.abs(fits.scale) / np.sqrt(np.prod(sizes[rows], axis=1))
    if np.isfinite(of_image).any():
        factor = np.log(of_image) - np.nanmedian(np.log(of_image))
        enough = max(np.log(RESIZED), SPREADS * float(np.nanmedian(np.abs(factor))))
        for i in np.flatnonzero(np.abs(factor) > enough).tolist():
            size = f"the landmarks take {np.exp(factor[i]):.2f} times the usual part of the image"
            told.setdefault(int(rows[i]), f"{size}: labelled at another image size?")
    if told:
        findings.add(
            "warning",
            "misfit-shape",
            f"{counted(len(told), 'image')} whose landmarks lie otherwise than in the other images",
            places=[subject.place(row, why) for row, why in sorted(told.items())],
            advice="Mend the rows, or turn the images like the others.",
        )
    return odd


def _exchanged(landmarks: np.ndarray, flip_pairs: list[tuple[int, int]]) -> np.ndarray:
    """(L,) the place, among the compared landmarks, of each one's partner; its own where it has none."""
    place = {landmark: i for i, landmark in enumerate(landmarks.tolist())}
    order = np.arange(len(landmarks))
    for one, other in flip_pairs:
        if one in place and other in place:
            order[place[one]], order[place[other]] = place[other], place[one]
    return order
