"""Which rows train, which choose (val) and which judge (test); and the file that keeps this for a run."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.atomic import written_atomically
from data.errors import DataError, did_you_mean, enumerated, quoted

SPLITS = ("train", "val", "test")

ONE_OF_EACH = (
    "no rows left in the val split: each of the {count} classes has one training image, which it keeps. Add images, "
    "check the labels (numbers are for task=regression), or train without validation (data.val_fraction=0)."
)

log = logging.getLogger(__name__)


def assign_splits(
    num_rows: int,
    *,
    split: list[str] | None,
    group: list[str] | None,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    strata: Sequence[str] | None = None,
) -> np.ndarray:
    """(N,) of "train", "val" or "test". Rows of one group always go together.

    A given `split` is kept; if it has no val, `val_fraction` of its train rows becomes val.
    Otherwise test and then val are drawn at random, `round(N * fraction)` rows each and at least one; with groups,
    whole ones up to the nearest count; without groups but with `strata` (a class per row), each class gives its share
    and keeps a train row. The draw depends on `seed` and the names of the groups alone.
    Raises `DataError` when train, or a val that was asked for, would be empty.
    """
    for key, fraction in (("val", val_fraction), ("test", test_fraction)):
        if not 0 <= fraction < 1:
            raise DataError(f"data.{key}_fraction={fraction} must be at least 0 and below 1")
    if val_fraction + test_fraction >= 1:
        both = f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}"
        raise DataError(f"{both} leave no rows for the train split; their sum must be below 1")
    if split is not None and test_fraction > 0:
        log.warning("data.test_fraction=%g has no effect: the data say themselves which images test", test_fraction)
    splits = np.array(["train"] * num_rows if split is None else split, dtype="<U5")
    # Rows without a group are groups of one.
    groups = np.arange(num_rows) if group is None else np.unique(np.array(group), return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    order = rng.permutation(int(groups.max()) + 1 if num_rows else 0)

    def draw(fraction: float, of_rows: int, leave: int) -> np.ndarray:
        free = splits == "train"
        if group is None and strata is not None:
            return _draw_evenly(free, np.array(strata), order, rng, max(1, round(of_rows * fraction)))
        return _draw(free, groups, order, fraction, of_rows, leave)

    if split is None and test_fraction > 0:
        leave = 2 if val_fraction > 0 else 1
        splits[draw(test_fraction, num_rows, leave)] = "test"
    if val_fraction > 0 and not (splits == "val").any():
        num_shared = num_rows if split is None else int((splits == "train").sum())
        splits[draw(val_fraction, num_shared, 1)] = "val"
    for name in ("train", "val") if val_fraction > 0 else ("train",):
        if not (splits == name).any():
            free = np.flatnonzero(splits == "train")
            if (
                name == "val"
                and group is None
                and strata is not None
                and len({strata[i] for i in free.tolist()}) == len(free)
            ):
                raise DataError(ONE_OF_EACH.format(count=len(free)))
            raise DataError(_nothing_left(name, splits, groups, split is not None, val_fraction, test_fraction))
    return splits


def written_or_drawn_splits(
    file: Path,
    names: list[str],
    *,
    split: list[str] | None,
    group: list[str] | None,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    strata: Sequence[str] | None = None,
) -> np.ndarray:
    """The split that the run has written down, or a new one (see `assign_splits`)."""
    if file.exists():
        return read_splits(file, names)
    return assign_splits(
        len(names),
        split=split,
        group=group,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        strata=strata,
    )


def keep_splits(file: Path, names: list[str], splits: np.ndarray) -> None:
    """Writes a run's split down, once."""
    if not file.exists():
        write_splits(file, names, splits)


def write_splits(path: Path, image_names: Sequence[str], splits: Sequence[str] | np.ndarray) -> None:
    """Writes the columns image, split; the file is whole or absent, also when the process dies."""
    path = Path(path)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "split"])
    writer.writerows(zip(image_names, np.asarray(splits).tolist(), strict=True))
    with written_atomically(path) as aside:
        aside.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))  # file names need not be UTF-8


def read_splits(path: Path, image_names: Sequence[str]) -> np.ndarray:
    """(N,) of "train", "val" or "test" in the order of `image_names`; raises `DataError` if the images differ."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        records = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError:
        raise DataError(f"{path}: file not found{did_you_mean(path)}. Check the path.") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    again = "Delete the file to split anew, or restore the one that was written."
    if not records or records[0] != ["image", "split"]:
        raise DataError.listing(path, ["line 1 must be the header image,split"], again)
    faults: list[str] = []
    found: dict[str, str] = {}
    for line, record in enumerate(records[1:], start=2):
        if len(record) != 2:
            faults.append(f"line {line} has {len(record)} cells, expected image,split")
        elif record[1] not in SPLITS:
            faults.append(f"line {line}, column split is {quoted(record[1])}, expected one of {enumerated(SPLITS)}")
        elif record[0] in found:
            faults.append(f"line {line}, column image: {quoted(record[0])} is there twice")
        else:
            found[record[0]] = record[1]
    if faults:
        raise DataError.listing(path, faults, again)
    lost = [name for name in image_names if name not in found]
    extra = sorted(found.keys() - set(image_names))
    if lost or extra:
        faults = [f"{len(lost)} images of the data are not in it: {enumerated(lost)}"] if lost else []
        faults += [f"{len(extra)} images in it are not in the data: {enumerated(extra)}"] if extra else []
        raise DataError.listing(path, faults, again)
    return np.array([found[name] for name in image_names], dtype="<U5")


def _draw(
    free: np.ndarray, groups: np.ndarray, order: np.ndarray, fraction: float, num_rows: int, leave: int
) -> np.ndarray:
    """(N,) bool: free rows of whole groups, taken in `order` while this brings their number nearer to the fraction.

    At least one group is taken if `leave` groups remain.
    """
    sizes = np.bincount(groups[free], minlength=len(order))
    candidates = order[sizes[order] > 0]
    target = max(1, round(num_rows * fraction))
    most = len(candidates) - leave
    taken: list[int] = []
    missing = target
    for candidate in candidates.tolist():
        if missing == 0 or len(taken) >= most:
            break
        if abs(missing - sizes[candidate]) < missing:
            taken.append(candidate)
            missing -= int(sizes[candidate])
        if missing < 0:
            break
    if not taken and most > 0:  # every group is more than twice the target: the smallest is the nearest
        taken.append(int(candidates[np.argmin(sizes[candidates])]))
    return np.isin(groups, taken) & free


def _draw_evenly(
    free: np.ndarray, strata: np.ndarray, order: np.ndarray, rng: np.random.Generator, num_drawn: int
) -> np.ndarray:
    """(N,) bool: `num_drawn` free rows, taken in `order` from each of the `strata` (N,) in proportion, never all of it.

    Systematic sampling: row r (from 0) of the n in its stratum stands at (r + u) / n, with one random u in [0, 1) per
    stratum, and those that stand lowest are taken. So also strata too small to give a whole row have their chance.
    """
    free_in_order = order[free[order]]
    height = np.full(len(free), np.inf)
    for stratum in np.unique(strata[free]):
        rows = free_in_order[strata[free_in_order] == stratum]
        height[rows[:-1]] = (np.arange(len(rows) - 1) + rng.random()) / len(rows)
    lowest = np.argsort(height)[:num_drawn]
    drawn = np.zeros(len(free), bool)
    drawn[lowest[np.isfinite(height[lowest])]] = True
    return drawn


def _nothing_left(
    name: str, splits: np.ndarray, groups: np.ndarray, given: bool, val_fraction: float, test_fraction: float
) -> str:
    counts = ", ".join(f"{split} {int((splits == split).sum())}" for split in SPLITS)
    rows = f"{len(splits)} rows in {len(np.unique(groups))} groups" if len(splits) else "0 rows"
    cause = "the split column (or folders)" if given else f"data.test_fraction={test_fraction:g}"
    return (
        f"no rows left in the {name} split: {rows} give {counts} under {cause} and data.val_fraction={val_fraction:g}. "
        f"Add rows, or change {'the given split or data.val_fraction' if given else 'these fractions'}"
        f"{'; data.val_fraction=0 trains without validation' if name == 'val' else ''}."
    )
