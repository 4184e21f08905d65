"""One whole comparison, from folders of runs to compare.html, compare.csv, pictures and the answer on the terminal."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from data.errors import one_line
from trainer.comparison.answer import as_frame, table, verdict
from trainer.comparison.jobs import Jobs
from trainer.comparison.page import write_page, write_page_without_answer
from trainer.comparison.pictures import draw_pictures
from trainer.comparison.runs import LeftOut, Run, check_comparable, find_runs
from trainer.comparison.settings import find_settings
from trainer.comparison.statistics import Comparison, compare
from trainer.console import console
from trainer.run_dir import write_text
from trainer.sweep_table import RECORD

MOST_NAME = 40  # letters of a setting on a line of the terminal's table
NOT_PRINTED = ("lowest", "highest", "pairs")  # columns of the page's table that the terminal has no room for


def compare_runs(folders: Sequence[Path], out: Path, target: float | None) -> None:
    """Compare the finished runs in `folders`; write into `out` and print the answer.

    `target`: of the monitored metric, that runs are to reach; None for the mean of the worst setting.

    Raises:
        ValueError: no finished run, or runs on different data or by different metrics.
    """
    runs, left_out = find_runs(folders)
    if not runs:
        reasons = "; ".join(f"{unfit.path.name}: {unfit.reason}" for unfit in left_out[:3])
        named = ",".join(map(str, folders))
        raise ValueError(f"runs={named} has no finished run to compare ({reasons})")
    check_comparable(runs)
    _compare(runs, left_out, folders, out, target)


def sum_up_sweep(sweep: Path) -> None:
    """Write the page that a sweep ends with, compare.html, whatever its jobs came to; print the answer if there is one.

    Raises:
        ValueError: the jobs are on different data or by different metrics; the page says so.
    """
    runs, left_out = find_runs([sweep])
    if not runs:
        write_page_without_answer(sweep, Jobs(sweep), "No job has finished yet, so there is no answer.")
        return
    try:
        check_comparable(runs)
    except ValueError as error:
        write_page_without_answer(sweep, Jobs(sweep), f"The jobs can't be compared. {error}.")
        raise
    _compare(runs, left_out, [sweep], sweep, target=None)


def _compare(
    runs: Sequence[Run], left_out: list[LeftOut], folders: Sequence[Path], out: Path, target: float | None
) -> None:
    settings, repeated = find_settings(runs)
    left_out = [*left_out, *repeated]
    comparison = compare(settings, target)

    write_text(out / "compare.csv", as_frame(comparison).to_csv(index=False))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")  # boxes in a picture, not lines here
        pictures = draw_pictures(out / "compare", comparison)
    sweep = folders[0] if len(folders) == 1 and (folders[0] / RECORD).is_file() else None
    write_page(
        out / "compare.html", comparison, left_out, folders, pictures, jobs=None if sweep is None else Jobs(sweep)
    )
    _print(comparison, left_out, out)


def _print(comparison: Comparison, left_out: Sequence[LeftOut], out: Path) -> None:
    """The answer first, then the table it stands on."""
    told = console(highlight=False)
    told.print()
    for place, sentence in enumerate(verdict(comparison)):
        told.print(Text(one_line(sentence), style="bold" if place == 0 else ""))
    headings, rows = table(comparison)
    kept = [headings.index(name) for name in headings if name not in NOT_PRINTED]
    printed = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place in kept:
        first = place == 0
        width = min(MOST_NAME, max(len(row[0]) for row in rows)) if first else None
        printed.add_column(
            Text(headings[place]), justify="left" if first else "right", overflow="fold", min_width=width
        )
    for row in rows:
        printed.add_row(*(Text(one_line(row[place])) for place in kept))
    told.print(printed)
    for unfit in left_out:
        told.print(Text(one_line(f"left out: {unfit.path}: {unfit.reason}")), soft_wrap=True)
    told.print(Text(f"compared in {out} (open compare.html)"), soft_wrap=True)
    sys.stdout.flush()
