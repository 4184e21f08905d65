"""Findings on landmarks: missing, outside the image, at one place, or far from where they belong."""

from __future__ import annotations

import numpy as np

from data.tables import OUTSIDE_TOLERANCE_PX
from trainer.inspection.findings import Findings, Mark, counted
from trainer.inspection.poses import inspect_poses
from trainer.inspection.shapes import LEAST_POINTS, Shapes, lay_onto, strays, typical_shape
from trainer.inspection.subject import Subject

ENOUGH_SHAPES = 8  # to say what is typical
SAME_PLACE_PX = 0.01
APART = 0.5  # usual distance of two landmarks, by theirs from the centre, from which on they can't be at one place
LEAST_STRAY_PX = 2.0
LARGEST_PX = 1e7
MOST_STRAYS = 12  # of one image, which then doesn't fit as a whole
SWAPPED = 0.35  # distance to the other's place, by the distance to the own one


def inspect_landmarks(
    subject: Subject, sizes: np.ndarray, flip_pairs: list[tuple[int, int]], findings: Findings
) -> Shapes | None:
    """sizes: (N, 2) width and height in px, NaN = unknown. Returns None where there are too few shapes to compare."""
    assert subject.points is not None
    _missing(subject, findings)
    _outside(subject, sizes, findings)
    _same_place(subject, findings)
    shapes = _shapes(_plausible(subject))
    if shapes is None:
        findings.add(
            "note",
            "shapes-not-compared",
            f"Too few images with {LEAST_POINTS} landmarks to say what is typical ({ENOUGH_SHAPES} are needed)",
            advice="Misplaced and swapped landmarks are not looked for.",
        )
        return None
    odd = inspect_poses(subject, shapes, sizes, flip_pairs, findings)
    _strays(subject, shapes, odd, findings)
    return shapes


def _missing(subject: Subject, findings: Findings) -> None:
    assert subject.points is not None
    assert subject.landmark_names is not None
    present = np.isfinite(subject.points).all(axis=2)
    if empty := [row for row in np.flatnonzero(~present.any(axis=1)).tolist() if row not in subject.unread]:
        findings.add(
            "error" if len(empty) == len(subject) else "warning",
            "no-landmarks",
            f"{counted(len(empty), 'row')} of {len(subject)} without any landmark",
            places=[subject.place(row) for row in empty],
            advice="Such an image teaches nothing and counts in no error; label it, or take its row out.",
        )
    for split in ("train", "val", "test"):
        rows = subject.splits == split
        never = [subject.landmark_names[k] for k in np.flatnonzero(~present[rows].any(axis=0)).tolist()]
        if rows.any() and never and present.any():
            findings.add(
                "error" if split == "train" else "warning",
                f"landmark-not-in-{split}",
                f"{counted(len(never), 'landmark')} missing in all {int(rows.sum())} images of split {split}: "
                + ", ".join(never[:8])
                + (f" and {len(never) - 8} more" if len(never) > 8 else ""),
                advice="Label some, or take the columns out."
                if split == "train"
                else "Its error can't be told; split anew, or label some.",
            )


def _outside(subject: Subject, sizes: np.ndarray, findings: Findings) -> None:
    """Points more than 1 px outside the image, as the run judges it, and whether x and y look swapped."""
    points = subject.points
    assert points is not None
    limit = sizes[:, None, :] - 1 + OUTSIDE_TOLERANCE_PX
    present = np.isfinite(points).all(axis=2) & np.isfinite(sizes).all(axis=1)[:, None]
    out = present & ~((points >= -OUTSIDE_TOLERANCE_PX) & (points <= limit)).all(axis=2)
    turned = points[..., ::-1]
    swapped = (((turned >= -OUTSIDE_TOLERANCE_PX) & (turned <= limit)).all(axis=2) | ~present).all(axis=1)
    lost = out.any(axis=1) & (out == present).all(axis=1)
    for severity, kind, rows, what in (
        ("error", "outside-image", lost, "all landmarks outside the image"),
        ("warning", "landmark-outside-image", out.any(axis=1) & ~lost, "landmarks outside the image"),
    ):
        places, marks = [], []
        for row in np.flatnonzero(rows).tolist():
            beyond = np.maximum(-points[row], points[row] - (sizes[row] - 1)).max(axis=1)
            size = f"{sizes[row][0]:g} x {sizes[row][1]:g} px"
            detail = f"{_named(subject, np.flatnonzero(out[row]))}, up to {np.nanmax(beyond):.1f} px beyond {size}"
            places.append(subject.place(row, detail + (" (x and y swapped?)" if swapped[row] else "")))
            marks += [Mark(row, landmark) for landmark in np.flatnonzero(out[row]).tolist()]
        if places:
            findings.add(
                severity,
                kind,
                f"{counted(len(places), 'image')} with {what}",
                places=places,
                marks=marks,
                advice="Points are x, y in pixels of the image file; mend them, or leave unseen ones empty.",
            )


def _same_place(subject: Subject, findings: Findings) -> None:
    """Two landmarks at one place: suspicious where they lie apart in the other images."""
    points = _plausible(subject)
    together: dict[tuple[int, int], list[int]] = {}
    ordered = np.sort(np.round(_complex(points) / SAME_PLACE_PX), axis=1)
    for row in np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1)).tolist():
        shape = points[row]
        _, first, again = np.unique(np.round(shape / SAME_PLACE_PX), axis=0, return_index=True, return_inverse=True)
        one_of = first[again.ravel()]
        for k in np.flatnonzero((one_of != np.arange(len(shape))) & np.isfinite(shape).all(axis=1)).tolist():
            together.setdefault((int(one_of[k]), k), []).append(row)
    if not together:
        return
    seen = points[np.isfinite(points).any(axis=(1, 2))]
    size_px = np.nanmedian(np.linalg.norm(seen - np.nanmean(seen, axis=1, keepdims=True), axis=2))
    pairs_of: dict[bool, dict[int, list[tuple[int, int]]]] = {True: {}, False: {}}
    for (one, other), rows in together.items():
        usual_px = np.nanmedian(np.linalg.norm(points[:, one] - points[:, other], axis=1))
        for row in rows:
            pairs_of[bool(usual_px >= APART * size_px)].setdefault(row, []).append((one, other))
    for apart, severity, kind, usually, advice in (
        (True, "warning", "same-place", "lie apart elsewhere", "One was probably set on the other by mistake."),
        (False, "note", "neighbours-meet", "are neighbours elsewhere", "Meant so, like lips that meet, or a slip."),
    ):
        if found := pairs_of[apart]:
            findings.add(
                severity,
                kind,
                f"{counted(len(found), 'image')} with two landmarks at one place which {usually}",
                places=[
                    subject.place(row, "; ".join(_named(subject, np.array(pair)) for pair in sorted(pairs)[:4]))
                    for row, pairs in sorted(found.items())
                ],
                marks=[Mark(row, k) for row, pairs in found.items() for pair in pairs for k in pair] if apart else [],
                advice=advice,
            )


def _shapes(points: np.ndarray) -> Shapes | None:
    """What can be compared: landmarks that enough images have, images with enough of them at different places."""
    shapes = _complex(points)
    present = np.isfinite(shapes)
    landmarks = np.flatnonzero(present.sum(axis=0) >= ENOUGH_SHAPES)
    shapes = shapes[:, landmarks]
    while True:
        ordered = np.sort(shapes, axis=1)  # what is missing comes last
        distinct = np.isfinite(ordered[:, :1]).sum(axis=1)
        distinct += (np.isfinite(ordered[:, 1:]) & (ordered[:, 1:] != ordered[:, :-1])).sum(axis=1)
        rows = np.flatnonzero(distinct >= LEAST_POINTS)
        common = np.isfinite(shapes[rows]).sum(axis=0) >= ENOUGH_SHAPES
        if common.all():
            break
        landmarks, shapes = landmarks[common], shapes[:, common]  # a rare one must not keep the others from it
    if len(rows) < ENOUGH_SHAPES or len(landmarks) < LEAST_POINTS:
        return None
    typical = typical_shape(shapes[rows])
    return Shapes(rows, landmarks, shapes[rows], typical, lay_onto(shapes[rows], typical))


def _plausible(subject: Subject) -> np.ndarray:
    """(N, K, 2) px without what lies so far outside that numbers overflow; it is told as outside its image."""
    assert subject.points is not None
    return np.where(np.abs(subject.points).max(axis=2, keepdims=True) < LARGEST_PX, subject.points, np.nan)


def _complex(points: np.ndarray) -> np.ndarray:
    return points[..., 0] + 1j * points[..., 1]


def _strays(subject: Subject, shapes: Shapes, odd: set[int], findings: Findings) -> None:
    """Landmarks far from where the other landmarks of the image want them; `odd` rows don't fit as a whole."""
    usable = np.array([row not in odd for row in shapes.rows])
    found: dict[int, list[tuple[int, complex]]] = {}
    for i, landmark, wanted in strays(shapes.fits.residual[usable], shapes.typical, MOST_STRAYS):
        of = int(np.flatnonzero(usable)[i])
        wanted_px = wanted * shapes.fits.scale[of] + shapes.fits.shift[of]
        if abs(shapes.points[of, landmark] - wanted_px) >= LEAST_STRAY_PX:
            found.setdefault(of, []).append((landmark, wanted_px))
    if not found:
        return
    places, marks = [], []
    for of, strayed in sorted(found.items(), key=lambda item: -_farthest(shapes, *item)):
        row, at = int(shapes.rows[of]), shapes.points[of]
        swapped = [
            (one, other)
            for position, (one, to) in enumerate(strayed)
            for other, back in strayed[position + 1 :]
            if max(abs(at[one] - back), abs(at[other] - to)) < SWAPPED * min(abs(at[one] - to), abs(at[other] - back))
        ]
        told = [f"{_named(subject, shapes.landmarks[[k]])} {abs(at[k] - to):.1f} px off" for k, to in strayed[:4]]
        told += [f"{len(strayed) - 4} more"] if len(strayed) > 4 else []
        told += [f"{_named(subject, shapes.landmarks[list(pair)])} look swapped" for pair in swapped]
        places.append(subject.place(row, ", ".join(told)))
        marks += [Mark(row, int(shapes.landmarks[k]), (to.real, to.imag)) for k, to in strayed]
    findings.add(
        "warning",
        "misplaced-landmark",
        f"{counted(len(places), 'image')} with landmarks far from where the other images have them",
        places=places,
        marks=marks,
        advice="Look at them on the contact sheet: swapped, mislabelled, or only unusual.",
    )


def _farthest(shapes: Shapes, of: int, strayed: list[tuple[int, complex]]) -> float:
    """The longest way of a stray to its place, by the size of the shape."""
    return max(abs(shapes.points[of, k] - to) for k, to in strayed) / abs(shapes.fits.scale[of])


def _named(subject: Subject, landmarks: np.ndarray) -> str:
    """`landmark 3`, or `landmarks 3 (nasion), 7 (menton)`."""
    assert subject.landmark_names is not None
    names = [subject.landmark_names[k] for k in landmarks.tolist()]
    told = [
        str(k) if name in (str(k), str(k + 1)) else f"{k} ({name})"
        for k, name in zip(landmarks.tolist(), names, strict=True)
    ]
    shown = ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")
    return f"landmark{'s' if len(told) > 1 else ''} {shown}"
