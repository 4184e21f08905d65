"""Images with what is known of them from a user's own source, turned into the records that every other source gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data.cells import Cells
from data.covariates import read_covariates
from data.disk_cache import DiskCache
from data.errors import DataError, enumerated, quoted
from data.image_files import ImageReader
from data.image_list import check_array
from data.image_rows import SPLIT_WORDS, check_groups_apart
from data.images import Picture, Size, decode_image, read_content, read_size
from data.label_records import LabelRecords, check_trained
from data.labels import read_labels
from data.records import LandmarkRecords
from data.splits import keep_splits, written_or_drawn_splits
from data.tables import LandmarkTable, check_landmarks_trained, check_points_inside

LABEL = "label"  # column


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image and what is known of it.

    image: a file, an array (H, W) or (H, W, 3) uint8 RGB, or a function that reads such an array each time it is
    called (of worker processes it must be picklable, as functools.partial(read, path) is); points: landmark to its x, y
    in px of the image, None or left out where it is missing; label: a class or a number; covariates: column to value;
    group: a person, whose images share a split; split: train, val or test.
    """

    name: str
    image: Path | str | np.ndarray | Callable[[], np.ndarray]
    points: Mapping[str, Sequence[float] | None] = field(default_factory=dict)
    label: str | float | None = None
    covariates: Mapping[str, str | float] = field(default_factory=dict)
    pixel_spacing_mm: float | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """How samples are split that do not say it themselves."""

    val_fraction: float
    test_fraction: float
    seed: int
    file: Path  # that a run keeps its split in


def landmark_records_of(samples: Iterable[Sample], source: str, splitting: Splitting) -> LandmarkRecords:
    """Raises DataError for every fault in the samples; lines in its messages count them from 1."""
    found = _checked(samples, source)
    names = list(dict.fromkeys(name for sample in found for name in sample.points))
    if not names:
        raise DataError(f"{source}: no sample has points. Give them as points={{'nasion': (x, y)}}.")
    table = LandmarkTable(
        path=Path(source),
        images=[],
        image_names=[sample.name for sample in found],
        points=np.stack([[_point(sample, name, source) for name in names] for sample in found]),
        landmark_names=names,
        pixel_spacing_mm=np.array([_spacing(sample, source) for sample in found]),
        split=_splits(found, source),
        group=_groups(found),
        rows=list(range(1, len(found) + 1)),
    )
    sizes = _sizes(found)
    check_points_inside(table, sizes)
    splits = _split(found, splitting, source)
    check_landmarks_trained(table, splits)
    keep_splits(splitting.file, table.image_names, splits)
    return LandmarkRecords(
        image_names=table.image_names,
        landmark_names=names,
        points=table.points,
        sizes=sizes,
        pixel_spacing_mm=table.pixel_spacing_mm,
        splits=splits,
        read=SampleImages(found),
    )


def label_records_of(
    samples: Iterable[Sample],
    source: str,
    splitting: Splitting,
    *,
    numeric: bool,
    covariates: list[str],
    missing_covariate: str,
) -> LabelRecords:
    """Raises DataError for every fault in the samples; lines in its messages count them from 1."""
    found = _checked(samples, source)
    cells = _cells(found, source)
    labels = read_labels(cells, LABEL, numeric=numeric, covariates=covariates, origin="label")
    splits = _split(found, splitting, source, strata=labels.words)
    check_trained(labels, splits, origin="label")
    read = read_covariates(cells, covariates, splits == "train", missing_covariate)
    sizes = _sizes(found)
    names = [sample.name for sample in found]
    keep_splits(splitting.file, names, splits)
    return LabelRecords(
        image_names=names,
        targets=labels.targets,
        class_names=labels.class_names,
        covariates=read,
        sizes=sizes,
        splits=splits,
        read=SampleImages(found),
    )


@dataclass(frozen=True)
class SampleImages(ImageReader):
    """Raises DataError where the source gives no such image."""

    samples: Sequence[Sample]
    disk: DiskCache | None = None

    def kept_in(self, disk: DiskCache) -> SampleImages:
        return replace(self, disk=disk)

    def content(self, index: int) -> bytes | None:
        image = self.samples[index].image
        return read_content(Path(image)) if isinstance(image, str | Path) else None

    def decoded(self, index: int, content: bytes | None, least: Callable[[Size], Size] | None = None) -> Picture:
        name, image = self.samples[index].name, self.samples[index].image
        if isinstance(image, str | Path):
            assert content is not None
            return decode_image(Path(image), content, least)
        if callable(image):
            try:
                image = image()
            except (OSError, ValueError) as error:
                raise DataError(f"{name} can't be read: {error}") from error
        image = np.asarray(image)
        check_array(name, image)
        return Picture(image, (image.shape[1], image.shape[0]))


def _checked(samples: Iterable[Sample], source: str) -> list[Sample]:
    found = list(samples)
    if not found:
        raise DataError(f"{source}: there are no samples. Give one Sample for each image.")
    if others := [type(sample).__name__ for sample in found if not isinstance(sample, Sample)]:
        raise DataError(f"{source}: expected Samples, got {enumerated(dict.fromkeys(others))}.")
    first: dict[str, int] = {}
    for line, sample in enumerate(found, 1):
        _check_kinds(sample, f"{source}: line {line}")
        if first.setdefault(sample.name, line) != line:
            raise DataError(
                f"{source}: line {first[sample.name]} and line {line} are both called {quoted(sample.name)}. Give each "
                "image a name of its own."
            )
    return found


def _check_kinds(sample: Sample, where: str) -> None:
    """Raises DataError for what no name, points, covariates or split can be; what they say is looked at later."""
    if not isinstance(sample.name, str) or not sample.name:
        raise DataError(f"{where} has name={sample.name!r}, expected text; write name=str(...).")
    for key, value in (("points", sample.points), ("covariates", sample.covariates)):
        if not isinstance(value, Mapping):
            raise DataError(f"{where} ({sample.name}) has {key}={value!r}, expected a dict; leave it out for none.")
    if sample.split is not None and not isinstance(sample.split, str):
        raise DataError(f"{where} ({sample.name}) has split={sample.split!r}, expected {enumerated(SPLIT_WORDS)}.")


def _point(sample: Sample, name: str, source: str) -> tuple[float, float]:
    given = sample.points.get(name)
    if given is None:
        return np.nan, np.nan
    try:
        x, y = (float(value) for value in given)
    except (TypeError, ValueError):
        raise DataError(f"{source}: landmark {name} of {sample.name} is {given!r}, expected x and y in px.") from None
    if np.isnan(x) != np.isnan(y) or np.isinf([x, y]).any():
        raise DataError(f"{source}: landmark {name} of {sample.name} is {given!r}, expected two finite numbers.")
    return x, y


def _spacing(sample: Sample, source: str) -> float:
    given = sample.pixel_spacing_mm
    if given is None:
        return np.nan
    try:
        spacing = math.nan if isinstance(given, str) else float(given)
    except (TypeError, ValueError):
        spacing = math.nan
    if not (math.isfinite(spacing) and spacing > 0):
        raise DataError(f"{source}: pixel_spacing_mm={given!r} of {sample.name} must be a number above 0, or None.")
    return spacing


def _splits(samples: list[Sample], source: str) -> list[str] | None:
    given = [sample.split for sample in samples]
    if not any(given):
        return None
    for sample in samples:
        if (sample.split or "").lower() not in SPLIT_WORDS:
            raise DataError(
                f"{source}: split={sample.split} of {sample.name} is none of {enumerated(SPLIT_WORDS)}. Give every "
                "sample its split, or none."
            )
    return [SPLIT_WORDS[str(word).lower()] for word in given]


def _groups(samples: list[Sample]) -> list[str] | None:
    if all(sample.group is None for sample in samples):
        return None
    # The sign keeps a sample without a group apart from a group that is called like it.
    return [f"\0{sample.name}" if sample.group is None else str(sample.group) for sample in samples]


def _split(samples: list[Sample], splitting: Splitting, source: str, strata: Sequence[str] | None = None) -> np.ndarray:
    split, group = _splits(samples, source), _groups(samples)
    if split is not None and group is not None:
        check_groups_apart(Path(source), list(range(1, len(samples) + 1)), split, group)
    return written_or_drawn_splits(
        splitting.file,
        [sample.name for sample in samples],
        split=split,
        group=group,
        strata=strata,
        val_fraction=splitting.val_fraction,
        test_fraction=splitting.test_fraction,
        seed=splitting.seed,
    )


def _sizes(samples: list[Sample]) -> np.ndarray:
    """(N, 2) width and height; what a function reads is read once for it."""
    images = SampleImages(samples)
    return np.array(
        [
            read_size(Path(sample.image)) if isinstance(sample.image, str | Path) else images.decoded(index, None).size
            for index, sample in enumerate(samples)
        ]
    )


def _cells(samples: list[Sample], source: str) -> Cells:
    columns = list(dict.fromkeys(name for sample in samples for name in sample.covariates))
    return Cells(
        path=Path(source),
        header=[LABEL, *columns],
        header_line=0,
        rows=[[_text(sample.label), *(_text(sample.covariates.get(name)) for name in columns)] for sample in samples],
        lines=list(range(1, len(samples) + 1)),
        decimal_marks=["."] * (1 + len(columns)),
    )


def _text(value: str | float | None) -> str:
    return "" if value is None else str(value).strip()
