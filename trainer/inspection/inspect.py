"""One whole inspection, from the config of a run to a report and an exit code."""

from __future__ import annotations

import time
from pathlib import Path

from data.errors import DataError
from trainer.config.checks import check_landmarks_exist
from trainer.config.landmark_data import LandmarkData
from trainer.config.run import TrainConfig
from trainer.config.tasks import LandmarkTaskConfig
from trainer.inspection.contact_sheet import write_contact_sheet
from trainer.inspection.copies import inspect_copies, inspect_groups
from trainer.inspection.findings import Findings
from trainer.inspection.image_facts import image_facts
from trainer.inspection.images import inspect_images
from trainer.inspection.label_values import inspect_classes, inspect_covariates, inspect_numbers
from trainer.inspection.landmarks import inspect_landmarks
from trainer.inspection.overview import image_sizes, overview
from trainer.inspection.report import verdict, write_report
from trainer.inspection.settings import CheckConfig
from trainer.inspection.sources import read_subject, source_name
from trainer.inspection.spacing import inspect_spacing
from trainer.inspection.subject import Subject
from trainer.run_dir import write_json


def inspect(config: TrainConfig, settings: CheckConfig, folder: Path) -> int:
    """Looks at the data of `config`, reports into `folder` and returns the exit code: 0, 1 (warnings) or 3 (errors).

    Raises DataError where there is nothing to look into.
    """
    started = time.perf_counter()
    findings = Findings(source_name(config.data))
    sheet = folder / "contact_sheet.png"
    for earlier in (folder / "splits.csv", sheet):  # of another check, of other data perhaps
        earlier.unlink(missing_ok=True)
    subject = read_subject(config, folder / "splits.csv", findings)
    facts = image_facts(subject, pixels=settings.pixels)

    inspect_images(subject, facts, config.data, findings)
    inspect_copies(subject, facts, findings)
    inspect_groups(subject, findings)
    if subject.points is not None:
        _check_nme_landmarks(config, subject, findings)
        sizes = image_sizes(facts)
        shapes = inspect_landmarks(subject, sizes, _flip_pairs(config, subject, findings), findings)
        inspect_spacing(subject, sizes, shapes, findings)
    if subject.classes is not None:
        inspect_classes(subject, findings)
    if subject.numbers is not None:
        inspect_numbers(subject, findings)
    inspect_covariates(subject, getattr(config.data, "missing_covariate", "error"), findings)
    counts = overview(subject, facts, config)
    if counts["epoch"]["training_images"] and not counts["epoch"]["updates"]:
        findings.add(
            "error",
            "no-update",
            f"accumulation={config.accumulation} needs as many batches, but an epoch has fewer",
            advice="Lower accumulation or data.batch_size.",
        )
    if subject.refusal is not None and not findings.tell(subject.refusal):
        findings.add("error", "refused", f"A run would not take these data: {subject.refusal.rstrip('.')}")

    tiles = min(settings.tiles, len(subject))
    if tiles:
        write_contact_sheet(sheet, subject, facts, findings, tiles)
    seconds = time.perf_counter() - started
    write_json(
        folder / "check.json",
        {
            "source": findings.source,
            "task": config.task.kind,
            "data": config.data.kind,
            "exit_code": findings.exit_code,
            "verdict": verdict(findings, subject.refusal),
            "run_stops_with": subject.refusal,
            "pixels_read": settings.pixels,
            "counts": counts,
            "findings": [finding.as_json() for finding in findings.sorted()],
            "seconds": round(seconds, 2),
        },
    )
    footer = [
        f"{len(subject)} rows in {seconds:.1f} s; all of it is in {folder}" + (f" (open {sheet.name})" if tiles else "")
    ]
    write_report(folder / "check.txt", findings.source, counts, findings, subject.refusal, footer)
    return findings.exit_code


def _check_nme_landmarks(config: TrainConfig, subject: Subject, findings: Findings) -> None:
    """What a run would say to task.nme_landmarks as soon as it knows the landmarks."""
    assert subject.landmark_names is not None
    if not isinstance(config.task, LandmarkTaskConfig):
        return
    try:
        check_landmarks_exist("task.nme_landmarks", config.task.nme_landmarks or (), len(subject.landmark_names))
    except ValueError as error:
        findings.add("error", "no-such-landmark", str(error))
        subject.refusal = subject.refusal or str(error)


def _flip_pairs(config: TrainConfig, subject: Subject, findings: Findings) -> list[tuple[int, int]]:
    """The landmarks that change sides in a mirror, where the run is told of them."""
    data = config.data
    assert isinstance(data, LandmarkData)
    assert subject.landmark_names is not None
    try:
        return data.augmentation.read_flip_pairs(len(subject.landmark_names), data.folder)
    except DataError as error:
        findings.add("error", "flip-pairs", str(error).rstrip("."))
        return []
