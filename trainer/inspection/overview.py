"""What there is: images per split, sizes, kinds, landmarks, labels, spacing, an epoch, the cache."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from data.covariates import NUMERIC_SHARE
from data.geometry import fit_image
from data.image_rows import SPLIT_WORDS
from data.numbers import LARGEST, as_numbers
from trainer.config.run import TrainConfig
from trainer.inspection.image_facts import ImageFacts
from trainer.inspection.subject import Subject

SPLITS = tuple(dict.fromkeys(SPLIT_WORDS.values()))  # train, val, test


def overview(subject: Subject, facts: list[ImageFacts | None], config: TrainConfig) -> dict[str, Any]:
    """All counts, as check.json has them."""
    known = [fact for fact in facts if fact is not None and fact.fault is None]
    return {
        "rows": len(subject),
        "images": {"found": sum(fact is not None for fact in facts), "readable": len(known)},
        "splits": {"given": subject.splits_given, **_per_split(subject)},
        "sizes": _sizes(known),
        "modes": dict(Counter(fact.mode for fact in known).most_common()),
        "formats": dict(Counter(fact.format for fact in known).most_common()),
        "megabytes": round(sum(fact.num_bytes for fact in known) / 1e6, 3),
        "epoch": _epoch(subject, config),
        "cache": _cache(subject, facts, config),
        **({} if subject.points is None else {"landmarks": _landmarks(subject, facts)}),
        **({} if subject.spacing_mm is None else {"spacing_mm": _spacing(subject)}),
        **({} if subject.classes is None else {"classes": _words(subject, subject.classes)}),
        **({} if subject.numbers is None else {"numbers": _numbers(subject, subject.numbers)}),
        "covariates": {name: _covariate(subject, name, words) for name, words in (subject.covariates or {}).items()},
    }


def _per_split(subject: Subject) -> dict[str, dict[str, int | None]]:
    told: dict[str, dict[str, int | None]] = {}
    for split in (*SPLITS, ""):
        rows = np.flatnonzero(subject.splits == split).tolist()
        if rows:
            groups = None if subject.groups is None else len({subject.groups[row] for row in rows})
            told[split or "unknown"] = {"images": len(rows), "groups": groups}
    return told


def _sizes(known: list[ImageFacts]) -> dict[str, Any] | None:
    if not known:
        return None
    sizes = [(fact.width, fact.height) for fact in known]
    width, height = (sorted(side) for side in zip(*sizes, strict=True))
    return {
        "width": {"min": width[0], "median": width[len(width) // 2], "max": width[-1]},
        "height": {"min": height[0], "median": height[len(height) // 2], "max": height[-1]},
        "distinct": len(set(sizes)),
        "portrait": sum(w < h for w, h in sizes),
        "landscape": sum(w > h for w, h in sizes),
        "square": sum(w == h for w, h in sizes),
    }


def _epoch(subject: Subject, config: TrainConfig) -> dict[str, int]:
    """Updates of one epoch; a split smaller than one batch is one batch."""
    images = int((subject.splits == "train").sum())
    batches = max(1, images // config.data.batch_size) if images else 0
    return {
        "training_images": images,
        "batch_size": config.data.batch_size,
        "accumulation": config.accumulation,
        "updates": batches // config.accumulation,
    }


def _cache(subject: Subject, facts: list[ImageFacts | None], config: TrainConfig) -> dict[str, float]:
    """Bytes that images take when fitted into the input, GB; training images have half of data.cache_gb."""
    gigabytes = {"training": 0.0, "others": 0.0}
    for split, fact in zip(subject.splits, facts, strict=True):
        if fact is None or fact.fault is not None:
            continue
        fit = fit_image((fact.width, fact.height), config.data.input_size, config.data.fit)
        colour = fact.colour or fact.mode.startswith(("RGB", "palette", "CMYK", "YCbCr"))
        gigabytes["training" if split == "train" else "others"] += fit.width * fit.height * (3 if colour else 1) / 2**30
    return {**{f"{kind}_gb": round(value, 4) for kind, value in gigabytes.items()}, "cache_gb": config.data.cache_gb}


def _landmarks(subject: Subject, facts: list[ImageFacts | None]) -> list[dict[str, Any]]:
    assert subject.points is not None
    assert subject.landmark_names is not None
    present = np.isfinite(subject.points).all(axis=2)
    sizes = image_sizes(facts)[:, None, :]
    outside = present & ((subject.points < -0.5) | (subject.points > sizes - 0.5)).any(axis=2)
    return [
        {
            "index": k,
            "name": name,
            "present": int(present[:, k].sum()),
            "missing": int((~present[:, k]).sum()),
            "missing_percent": round(100 * float((~present[:, k]).mean()), 2),
            "outside_image": int(outside[:, k].sum()),
        }
        for k, name in enumerate(subject.landmark_names)
    ]


def image_sizes(facts: list[ImageFacts | None]) -> np.ndarray:
    """(N, 2) width and height in px, NaN where the image is unknown."""
    known = [(f.width, f.height) if f is not None and f.fault is None else (math.nan, math.nan) for f in facts]
    return np.array(known, dtype=np.float64).reshape(-1, 2)


def _spacing(subject: Subject) -> dict[str, Any]:
    assert subject.spacing_mm is not None
    return {
        **_summary(subject.spacing_mm),
        "distinct": len(np.unique(subject.spacing_mm[np.isfinite(subject.spacing_mm)])),
    }


def _numbers(subject: Subject, numbers: np.ndarray) -> dict[str, dict[str, float | int | None]]:
    splits = [split for split in SPLITS if (subject.splits == split).any()]
    return {split: _summary(numbers[subject.splits == split]) for split in splits} | {"all": _summary(numbers)}


def _summary(numbers: np.ndarray) -> dict[str, float | int | None]:
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return {"count": 0, "missing": len(numbers), "min": None, "median": None, "mean": None, "max": None}
    return {
        "count": len(known),
        "missing": len(numbers) - len(known),
        "min": float(known.min()),
        "median": float(np.median(known)),
        "mean": float(known.mean()),
        "max": float(known.max()),
    }


def _words(subject: Subject, words: Iterable[str]) -> dict[str, dict[str, int]]:
    """How often each word occurs in each split, the most frequent word first; "" is missing."""
    counts: dict[str, Counter[str]] = {}
    for word, split in zip(words, subject.splits, strict=True):
        counts.setdefault(word, Counter())[str(split) or "unknown"] += 1
    return {word: dict(counts[word]) for word in sorted(counts, key=lambda word: -counts[word].total())}


def _covariate(subject: Subject, name: str, words: list[str]) -> dict[str, Any]:
    """A column of numbers, as the run would see it, as numbers; others word by word."""
    cells = subject.cells
    decimal_comma = cells is not None and cells.decimal_comma_in([cells.header.index(name)])
    numbers = as_numbers(words, decimal_comma=decimal_comma)
    numbers = np.where(np.abs(numbers) <= LARGEST, numbers, np.nan)
    present = np.isfinite(numbers)
    if len(np.unique(numbers[present])) > 2 and present.sum() >= NUMERIC_SHARE * sum(map(bool, words)):
        return {"numbers": _numbers(subject, numbers)}
    return {"words": _words(subject, words)}
