"""Images that are in the data more than once, and what of it crosses from one split into another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from trainer.inspection.findings import Findings, Place, counted
from trainer.inspection.image_facts import THUMB, ImageFacts
from trainer.inspection.subject import Subject

COARSE, HALVED = 4, 8  # px, both sides of what thumbnails are first compared by
SAME_LOOK = 1.0  # grey values of root mean square difference: the same picture, encoded anew
LEAST_CONTRAST = 8.0  # standard deviation in grey values; below it, pictures are alike without being the same


def inspect_copies(subject: Subject, facts: list[ImageFacts | None], findings: Findings) -> None:
    """Each image is told in one way: the same file, else the same bytes, else the same pixels, else the same look."""
    told: list[set[int]] = []
    ways: list[tuple[str, str, str, list[list[int]]]] = [
        ("error", "repeated-path", "the same file", _alike(subject, lambda row: _path(subject, row))),
        ("warning", "same-bytes", "the same bytes", _alike(subject, lambda row: _fact(facts, row, "content"))),
        ("warning", "same-pixels", "the same pixels", _alike(subject, lambda row: _fact(facts, row, "pixels"))),
        ("warning", "same-look", "the same picture, encoded anew", _same_look(facts)),
    ]
    for severity, kind, how, sets in ways:
        fresh = _not_yet(told, sets)
        told += map(set, fresh)
        leaks: list[list[int]] = []
        apart: list[list[int]] = []
        for rows in fresh:
            (leaks if len(_splits(subject, rows)) > 1 else apart).append(rows)
        if leaks:
            findings.add(
                "error",
                "leak",
                f"{counted(len(leaks), 'image')} in more than one split ({how})",
                places=_places(subject, leaks, with_split=True),
                advice="Validation on what was trained on is no validation: keep one of each, or give them one group.",
            )
        if apart:
            findings.add(
                severity,
                kind,
                f"{counted(len(apart), 'image')} more than once ({how})",
                places=_places(subject, apart, with_split=False),
                advice="Keep one row of each.",
            )


def inspect_groups(subject: Subject, findings: Findings) -> None:
    """Groups, such as patients, on both sides of a split that the data give."""
    if subject.groups is None or not subject.splits_given:
        return
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(subject.groups):
        if group and subject.splits[row]:
            rows_of[group].append(row)
    torn = {group: rows for group, rows in rows_of.items() if len(_splits(subject, rows)) > 1}
    if not torn:
        return
    places = []
    for group, rows in torn.items():
        firsts: dict[str, int] = {}
        for row in rows:
            firsts.setdefault(str(subject.splits[row]), row)
        where = " and ".join(f"{subject.short(row)} ({split})" for split, row in firsts.items())
        places.append(Place(rows[0], None, None, f"group {group}, {where}"))
    findings.add(
        "error",
        "group-leak",
        f"{counted(len(torn), 'group')} in more than one split",
        places=places,
        advice="Keep all rows of a group in one split.",
    )


def _not_yet(told: list[set[int]], sets: list[list[int]]) -> list[list[int]]:
    """Those of `sets` that tell more than one of the sets `told`: two of these may be joined by a new one."""
    numbers: dict[int, set[int]] = defaultdict(set)
    for number, rows in enumerate(told):
        for row in rows:
            numbers[row].add(number)
    return [rows for rows in sets if not set.intersection(*(numbers[row] for row in rows))]


def _path(subject: Subject, row: int) -> Hashable:
    return None if subject.paths is None else subject.paths[row]


def _fact(facts: list[ImageFacts | None], row: int, name: str) -> Hashable:
    fact = facts[row]
    if fact is None or fact.low == fact.high:  # blank images are told as such
        return None
    value: Hashable = getattr(fact, name)
    return value


def _alike(subject: Subject, key: Callable[[int], Hashable]) -> list[list[int]]:
    """Sets of rows with the same key; None is no key."""
    rows_of: dict[Hashable, list[int]] = defaultdict(list)
    for row in range(len(subject)):
        if (value := key(row)) is not None:
            rows_of[value].append(row)
    return [rows for rows in rows_of.values() if len(rows) > 1]


def _same_look(facts: list[ImageFacts | None]) -> list[list[int]]:
    """Sets of rows whose thumbnails differ by no more than encoding does."""
    seen: set[bytes] = set()
    rows, thumbs = [], []
    for row, fact in enumerate(facts):
        if fact is None or fact.thumbnail is None or fact.pixels is None or fact.pixels in seen:
            continue
        if fact.thumbnail.std() >= LEAST_CONTRAST:
            seen.add(fact.pixels)
            rows.append(row)
            thumbs.append(fact.thumbnail)
    if len(rows) < 2:
        return []
    fine = np.stack(thumbs).astype(np.float32)
    halved, coarse = _means(fine, HALVED), _means(fine, COARSE).reshape(len(rows), -1)
    tree = cKDTree(coarse)
    joined = np.zeros(len(rows), bool)
    pairs: list[tuple[int, int]] = []
    for i in range(len(rows)):
        if joined[i]:  # compared with the first of its set; of 1000 alike, not every two are
            continue
        # Means of parts differ by no more than the parts do, so no pair is lost by comparing them first.
        near = np.array(tree.query_ball_point(coarse[i], SAME_LOOK * COARSE))
        for means in (halved, fine):
            near = near[np.sqrt(np.mean((means[near] - means[i]) ** 2, axis=(1, 2))) <= SAME_LOOK]
        joined[near] = True
        pairs += [(i, j) for j in near.tolist() if j != i]
    if not pairs:
        return []
    one, other = np.array(pairs).T
    _, set_of = connected_components(coo_matrix((np.ones(len(one)), (one, other)), shape=(len(rows), len(rows))))
    sets: dict[int, list[int]] = defaultdict(list)
    for i in np.unique(pairs).tolist():
        sets[set_of[i]].append(rows[i])
    return list(sets.values())


def _means(thumbs: np.ndarray, side: int) -> np.ndarray:
    """(N, side, side) means of the parts of thumbnails (N, THUMB, THUMB)."""
    part = THUMB // side
    means: np.ndarray = thumbs.reshape(len(thumbs), side, part, side, part).mean(axis=(2, 4))
    return means


def _splits(subject: Subject, rows: list[int]) -> set[str]:
    return {str(subject.splits[row]) for row in rows if subject.splits[row]}


def _places(subject: Subject, sets: list[list[int]], *, with_split: bool) -> list[Place]:
    """One place per set: its first row, and where else the image is."""
    places = []
    for first, *others in sets:
        others.sort(key=lambda row: subject.splits[row] == subject.splits[first])  # those in other splits before
        named = [
            f"{subject.names[row]} ({subject.short(row)})" if subject.lines else subject.names[row] for row in others
        ]
        if with_split:
            named = [f"{name} in {subject.splits[row]}" for name, row in zip(named, others, strict=True)]
        detail = "also " + ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
        if with_split:
            detail = f"in {subject.splits[first]}, {detail}"
        if differing := [row for row in others if _differ(subject, first, row)]:
            detail += f", with other {'points' if subject.points is not None else 'labels'}"
            detail += (
                f" ({_label(subject, first)} and {_label(subject, differing[0])})" if subject.points is None else ""
            )
        places.append(subject.place(first, detail, others))
    return places


def _differ(subject: Subject, one: int, other: int) -> bool:
    if subject.points is not None:
        return not np.array_equal(subject.points[one], subject.points[other], equal_nan=True)
    return _label(subject, one) != _label(subject, other)


def _label(subject: Subject, row: int) -> str:
    if subject.classes is not None:
        return subject.classes[row]
    return "" if subject.numbers is None else f"{subject.numbers[row]:g}"
