"""From the config of a run to the subject of an inspection, whatever kind of data it is."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.image_folder import SUFFIXES, is_left_out
from data.image_rows import SPLIT_WORDS
from data.label_records import LabelRecords
from data.numbers import LARGEST, as_numbers
from data.records import LandmarkRecords
from data.splits import assign_splits
from trainer.config.data import CsvConfig, DataConfig, ImageFolderConfig, LabelData, PhantomConfig
from trainer.config.label_task import LabelTaskConfig
from trainer.config.landmark_data import LandmarkData
from trainer.config.run import TrainConfig
from trainer.inspection.findings import Findings
from trainer.inspection.subject import Subject
from trainer.inspection.table_reading import table_subject

Records = LandmarkRecords | LabelRecords


def source_name(data: DataConfig) -> str:
    """The table, folder or phantom that the data come from, as it was typed."""
    if isinstance(data, CsvConfig):
        return data.table
    if isinstance(data, ImageFolderConfig):
        return data.root
    return "phantom" if isinstance(data, PhantomConfig) else f"data={data.kind}"


def read_subject(config: TrainConfig, splits_file: Path, findings: Findings) -> Subject:
    """The data of the run, read twice: by the run's own reader, which stops at the first fault, and as far as possible.

    The split that the run would make is written to `splits_file`. Raises DataError where there is nothing to look into.
    """
    data, task = config.data, _kind_of_labels(config)
    records, refusal = None, None
    with _warnings_as_findings(findings):
        try:
            records = _records(config, splits_file)
        except DataError as error:
            refusal = str(error)
    if isinstance(data, CsvConfig):
        subject = table_subject(data, task, findings)
    elif isinstance(data, ImageFolderConfig):
        names = sorted(_image_names(Path(data.root))) if records is None else records.image_names
        if not names:
            raise DataError(refusal or "")
        subject = _folder_subject(Path(data.root), names, numeric=task == "regression")
    elif records is None:
        raise DataError(refusal or "")
    else:
        subject = _drawn_subject(records, config)
    subject.refusal = refusal
    if records is not None:
        subject.splits = records.splits
    elif not subject.splits_given:
        _draw_splits(subject, data)
    return subject


def _kind_of_labels(config: TrainConfig) -> str:
    """The task that reads the same labels: what a user's own task learns are classes or numbers."""
    task = config.task
    if isinstance(task, LabelTaskConfig):
        return "regression" if task.numeric else "classification"
    return "landmarks"


def _records(config: TrainConfig, splits_file: Path) -> Records:
    data = config.data
    if isinstance(config.task, LabelTaskConfig):
        assert isinstance(data, LabelData)
        return data.label_records(splits_file, numeric=config.task.numeric)
    assert isinstance(data, LandmarkData)
    records = data.landmark_records(splits_file)
    data.augmentation.read_flip_pairs(len(records.landmark_names), data.folder)
    return records


def _drawn_subject(records: Records, config: TrainConfig) -> Subject:
    subject = Subject(
        source=Path(source_name(config.data)),
        names=records.image_names,
        lines=None,
        paths=None,
        drawn=records.read,
        splits=records.splits,
        splits_given=False,
    )
    if isinstance(records, LandmarkRecords):
        subject.landmark_names = records.landmark_names
        subject.points = records.points
        subject.spacing_mm = records.pixel_spacing_mm
    else:
        _add_targets(subject, records)
        subject.target_name = "growth_stage" if records.class_names else "age_months"
        if not isinstance(config.data, PhantomConfig):
            assert isinstance(config.data, LabelData)
            subject.target_name = config.data.target_name
    return subject


def _add_targets(subject: Subject, records: LabelRecords) -> None:
    if records.class_names is None:
        subject.numbers = records.targets
    else:
        subject.classes = [records.class_names[target] for target in records.targets]
    subject.covariates = dict(zip(records.covariates.names, records.covariates.values, strict=True))


def _folder_subject(root: Path, names: list[str], *, numeric: bool) -> Subject:
    """Images in `<class>/` or `<split>/<class>/` below a root; a label or split that is not there is "" or NaN."""
    parts = [name.split("/") for name in names]
    by_split = any(len(part) > 2 and part[0].lower() in SPLIT_WORDS for part in parts)
    words = [SPLIT_WORDS.get(part[0].lower(), "") if by_split else "" for part in parts]
    depth = 2 if by_split else 1
    subject = Subject(
        source=root,
        names=names,
        lines=None,
        paths=[Path(os.path.abspath(root / name)) for name in names],
        splits=np.array(words, dtype="<U5"),
        splits_given=by_split,
        target_name="class folder",
    )
    labels = [part[depth - 1] if len(part) > depth else "" for part in parts]
    if not numeric:
        subject.classes = labels
        return subject
    numbers = as_numbers(labels, decimal_comma=False)
    subject.numbers = np.where(np.abs(numbers) <= LARGEST, numbers, np.nan)  # the run's refusal names what is none
    return subject


def _image_names(root: Path) -> Iterator[str]:
    """Images below `root` that are not hidden, as paths relative to it; links to folders are not followed."""
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not is_left_out(os.path.join(place, name))]
        for file in files:
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES:
                yield Path(place, file).relative_to(root).as_posix()


def _draw_splits(subject: Subject, data: DataConfig) -> None:
    """The split that the run would draw if it took the data."""
    try:
        subject.splits = assign_splits(
            len(subject),
            split=None,
            group=subject.groups,
            strata=subject.classes,
            val_fraction=data.val_fraction,
            test_fraction=data.test_fraction,
            seed=data.split_seed,
        )
    except DataError:
        return  # too few rows; the refusal may be another fault's, and this one shows when that is mended


@contextmanager
def _warnings_as_findings(findings: Findings) -> Iterator[None]:
    """What the readers of `data` would write into the log of the run."""
    log, handler = logging.getLogger("data"), _Collector(findings)
    propagated = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagated


class _Collector(logging.Handler):
    def __init__(self, findings: Findings) -> None:
        super().__init__(logging.WARNING)
        self.findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "data.tables":  # points outside their images, which are inspected
            return
        what = record.getMessage().removeprefix(f"{self.findings.source}: ")
        self.findings.add("warning", "told-by-the-reader", what)
