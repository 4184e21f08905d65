"""Findings on labels and covariates: classes that a split lacks, numbers far from the others, missing cells."""

from __future__ import annotations

from collections import Counter

import numpy as np

from data.covariates import read_covariates
from data.errors import DataError, enumerated, nearest, quoted
from trainer.inspection.findings import Findings, counted
from trainer.inspection.subject import Subject

UNBALANCED = 10.0  # most frequent by rarest class
FAR = 8.0  # robust standard deviations of a number from the median
NORMAL_MAD = 1.4826  # standard deviations in a median absolute deviation


def inspect_classes(subject: Subject, findings: Findings) -> None:
    assert subject.classes is not None
    counts = Counter(word for word in subject.classes if word)
    in_split = {
        split: Counter(word for word, s in zip(subject.classes, subject.splits, strict=True) if word and s == split)
        for split in ("train", "val", "test")
    }
    if len(counts) == 1:
        findings.add(
            "error",
            "one-class",
            f"All {counts.total()} images are of class {quoted(next(iter(counts)))}",
            advice="Classification needs two classes: check data.label, or the class folders.",
        )
        return
    trained = in_split["train"]
    if trained and (untrained := [name for name in counts if not trained[name]]):
        rows = [subject.classes.index(name) for name in untrained]
        findings.add(
            "error",
            "class-not-in-train",
            f"{counted(len(untrained), 'class', 'classes')} without a training image",
            places=[
                subject.place(
                    row, f"class {quoted(subject.classes[row])}{nearest(subject.classes[row], list(trained))}"
                )
                for row in rows
            ],
            advice="Mend the label, add training images of it, or change the split.",
        )
    for split in ("val", "test"):
        if in_split[split] and (lacking := [name for name in counts if not in_split[split][name]]):
            findings.add(
                "warning",
                f"class-not-in-{split}",
                f"{counted(len(lacking), 'class', 'classes')} without an image in split {split}: {enumerated(lacking)}",
                advice="They can't be judged there: change the split, or add images.",
            )
    if single := [name for name, count in counts.items() if count == 1]:
        findings.add(
            "warning",
            "class-of-one",
            f"{counted(len(single), 'class', 'classes')} of a single image",
            places=[subject.place(subject.classes.index(name), f"class {quoted(name)}") for name in single],
            advice="Mend the label, add images, or take the class out.",
        )
    rarest, commonest = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    if counts[commonest] > UNBALANCED * counts[rarest]:
        findings.add(
            "note",
            "unbalanced-classes",
            f"{counts[commonest]} images of class {quoted(commonest)}, {counts[rarest]} of class {quoted(rarest)}",
            advice="data.balance=true draws all classes equally often; task.loss.class_weights=balanced weights them.",
        )


def inspect_numbers(subject: Subject, findings: Findings) -> None:
    assert subject.numbers is not None
    numbers = subject.numbers
    train = numbers[(subject.splits == "train") & np.isfinite(numbers)]
    if len(train) and np.ptp(train) == 0:
        findings.add(
            "error",
            "constant-number",
            f"All {len(train)} training images have the number {train[0]:g}",
            advice="Nothing can be learnt: check data.label and the split.",
        )
        return
    if not np.isfinite(numbers).any():
        return
    middle = float(np.nanmedian(numbers))
    deviation = NORMAL_MAD * float(np.nanmedian(np.abs(numbers - middle)))
    far = np.flatnonzero(np.abs(numbers - middle) > FAR * deviation).tolist() if deviation else []
    if far:
        far.sort(key=lambda row: -abs(numbers[row] - middle))
        findings.add(
            "warning",
            "far-number",
            f"{counted(len(far), 'number')} far from the others (median {middle:g})",
            places=[subject.place(row, f"{subject.target_name} is {numbers[row]:g}") for row in far],
            advice="Another unit, or a stand-in for a missing number? Mend them, or take the rows out.",
        )


def inspect_covariates(subject: Subject, missing_covariate: str, findings: Findings) -> None:
    """Missing cells, and words that no training row has."""
    for name, words in (subject.covariates or {}).items():
        if missing := [row for row, word in enumerate(words) if not word]:
            taken = missing_covariate == "category"
            findings.add(
                "note" if taken else "error",
                "missing-covariate",
                f"{counted(len(missing), 'row')} of {len(words)} without {name}",
                places=[subject.place(row) for row in missing],
                advice="They are taken as a category of their own."
                if taken
                else "Fill them in, or set data.missing_covariate=category to take them as missing.",
            )
        if subject.refusal is None or subject.cells is None or not (subject.splits == "train").any():
            continue
        given = [row for row, word in enumerate(words) if word]
        part = subject.cells._replace(
            rows=[subject.cells.rows[row] for row in given], lines=[subject.cells.lines[row] for row in given]
        )
        try:  # what is wrong with it beside missing cells
            read_covariates(part, [name], subject.splits[given] == "train", missing_covariate)
        except DataError as error:
            what = str(error).removeprefix(f"{subject.source}: ").rstrip(".")
            findings.add("error", "unusable-covariate", f"{subject.source.name}: {what}")
