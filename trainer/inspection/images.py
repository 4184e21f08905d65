"""Findings on single images: unreadable, blank, too small or too long for the input, inverted."""

from __future__ import annotations

from collections import Counter

import numpy as np

from trainer.config.data import DataConfig
from trainer.inspection.findings import Findings, counted
from trainer.inspection.image_facts import ImageFacts
from trainer.inspection.subject import Subject

BLANK_RANGE = 2  # grey values; what varies no more than this shows nothing
ENLARGED = 2.0  # times, from which on an input shows mere interpolation
LONG = 4.0  # longer by shorter side
UNLIKE = 2.5  # aspect ratios that differ by this factor from the median
ALIKE, INVERTED = 0.5, -0.3  # correlations with the median image: of a typical image, and of a negative
ENOUGH_IMAGES = 8  # to say what is typical


def inspect_images(subject: Subject, facts: list[ImageFacts | None], data: DataConfig, findings: Findings) -> None:
    known = [(row, fact) for row, fact in enumerate(facts) if fact is not None and fact.fault is None]
    _unreadable(subject, facts, findings)
    _blank(subject, known, findings)
    _sizes(subject, known, data, findings)
    _kinds(subject, known, findings)
    _inverted(subject, known, findings)


def _unreadable(subject: Subject, facts: list[ImageFacts | None], findings: Findings) -> None:
    if bad := [row for row, fact in enumerate(facts) if fact is not None and fact.fault is not None]:
        findings.add(
            "error",
            "unreadable-image",
            f"{counted(len(bad), 'image')} that cannot be read",
            places=[subject.place(row, str(getattr(facts[row], "fault", "")).rstrip(".")) for row in bad],
            advice="Replace these images, or take their rows out.",
        )


def _blank(subject: Subject, known: list[tuple[int, ImageFacts]], findings: Findings) -> None:
    blank = [
        (row, fact)
        for row, fact in known
        if fact.low is not None and fact.high is not None and fact.high - fact.low <= BLANK_RANGE
    ]
    if blank:
        findings.add(
            "warning",
            "blank-image",
            f"{counted(len(blank), 'image')} without contents",
            places=[subject.place(row, f"all pixels are {_values(fact)}") for row, fact in blank],
            advice="Export them again, or take their rows out.",
        )


def _values(fact: ImageFacts) -> str:
    return f"{fact.low}" if fact.low == fact.high else f"{fact.low} to {fact.high}"


def _sizes(subject: Subject, known: list[tuple[int, ImageFacts]], data: DataConfig, findings: Findings) -> None:
    if not known:
        return
    sizes = np.array([(fact.width, fact.height) for _, fact in known], dtype=np.float64)
    wanted = f"the input of {data.input_width} x {data.input_height} px"
    enlarged = np.min(np.array([data.input_width, data.input_height]) / sizes, axis=1)
    typical = float(np.median(enlarged))
    if typical >= ENLARGED:
        findings.add(
            "note",
            "large-input",
            f"{wanted[0].upper()}{wanted[1:]} enlarges a typical image {typical:.1f} times, which costs time and shows "
            "nothing more",
            advice="Lower data.input_height and data.input_width, unless larger maps are wanted.",
        )
    if small := np.flatnonzero((enlarged >= ENLARGED) & (enlarged >= ENLARGED * typical)).tolist():
        findings.add(
            "warning",
            "small-image",
            f"{counted(len(small), 'image')} far below {wanted}",
            places=[
                subject.place(
                    known[i][0], f"{known[i][1].width} x {known[i][1].height} px, enlarged {enlarged[i]:.1f} x"
                )
                for i in small
            ],
            advice="Look for the originals: these may be thumbnails.",
        )
    ratio = np.log(sizes[:, 0] / sizes[:, 1])
    usual = float(np.median(ratio))
    unlike = np.abs(ratio - usual) >= np.log(UNLIKE) if len(known) >= ENOUGH_IMAGES else np.zeros(len(known), bool)
    long = np.flatnonzero((np.abs(ratio) >= np.log(LONG)) & (np.abs(ratio - usual) > 0.1) | unlike).tolist()
    if long:
        findings.add(
            "warning",
            "unusual-shape",
            f"{counted(len(long), 'image')} of an unusual shape",
            places=[subject.place(known[i][0], f"{known[i][1].width} x {known[i][1].height} px") for i in long],
            advice="Crop them like the others, or take their rows out.",
        )


def _kinds(subject: Subject, known: list[tuple[int, ImageFacts]], findings: Findings) -> None:
    """Colour among gray images and the reverse, and depths that a run has to stretch to 8 bits."""
    kinds = Counter(fact.mode for _, fact in known)
    colours = {True: [row for row, fact in known if fact.colour], False: [row for row, f in known if not f.colour]}
    few = min(colours, key=lambda key: len(colours[key]))
    if known and known[0][1].pixels is not None and colours[True] and colours[False]:
        others, these = ("gray", "colour") if few else ("colour", "gray")
        findings.add(
            "note",
            "mixed-colours",
            f"{len(colours[few])} {these} among {len(colours[not few])} {others} images",
            places=[subject.place(row) for row in colours[few]],
            advice="All are shown to the network as RGB; see that they come from the same source.",
        )
    wide = [mode for mode in kinds if mode.startswith("gray ") and mode.split()[1] in ("16", "32", "float")]
    if wide:
        findings.add(
            "note",
            "stretched-depth",
            f"{sum(kinds[mode] for mode in wide)} images of more than 8 bits ({', '.join(wide)})",
            advice="Each is stretched to 8 bits between its 0.5th and 99.5th percentile.",
        )


def _inverted(subject: Subject, known: list[tuple[int, ImageFacts]], findings: Findings) -> None:
    """Negatives among images that all look alike, such as radiographs of one view."""
    shown = [(row, fact.thumbnail) for row, fact in known if fact.thumbnail is not None and fact.low != fact.high]
    if len(shown) < ENOUGH_IMAGES:
        return
    thumbs = np.stack([thumb for _, thumb in shown]).reshape(len(shown), -1).astype(np.float32)
    typical = np.median(thumbs, axis=0)
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    typical -= typical.mean()
    lengths = np.linalg.norm(thumbs, axis=1) * np.linalg.norm(typical)
    alike = np.divide(thumbs @ typical, lengths, out=np.zeros(len(shown)), where=lengths > 0)
    if np.median(alike) < ALIKE:
        return
    if bad := np.flatnonzero(alike < INVERTED).tolist():
        findings.add(
            "warning",
            "inverted-image",
            f"{counted(len(bad), 'image')} like a negative of the others",
            places=[subject.place(shown[i][0]) for i in bad],
            advice="Invert their grey values, or look whether they show something else.",
        )
