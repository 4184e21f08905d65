"""One whole comparison, from folders of runs to compare.html, compare.csv, pictures and the answer on the terminal."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

import trainer
from data.errors import one_line
from trainer.command_line import override, verb_command
from trainer.comparison.answer import as_frame, notes, table, target_table, verdict
from trainer.comparison.pictures import draw_pictures
from trainer.comparison.runs import LeftOut, check_comparable, find_runs
from trainer.comparison.settings import Setting, find_settings, shown_value
from trainer.comparison.statistics import Comparison, compare
from trainer.console import console
from trainer.progress import clock
from trainer.report import data_uri, page_template
from trainer.run_dir import write_text

TEMPLATE = Path(trainer.__file__).with_name("compare.html.jinja")
MOST_KEYS = 30  # in which settings differ, on the page; compare.csv has all
MOST_NAME = 40  # letters of a setting on a line of the terminal's table
NOT_PRINTED = ("lowest", "highest", "pairs")  # columns of the page's table that the terminal has no room for
ABSENT = "–"


def compare_runs(folders: Sequence[Path], out: Path, target: float | None) -> None:
    """Compare the finished runs in `folders`; write into `out` and print the answer.

    `target`: of the monitored metric, that runs are to reach; None for the mean of the worst setting.

    Raises:
        ValueError: no finished run, or runs on different data or by different metrics.
    """
    runs, left_out = find_runs(folders)
    named = ",".join(map(str, folders))
    if not runs:
        reasons = "; ".join(f"{unfit.path.name}: {unfit.reason}" for unfit in left_out[:3])
        raise ValueError(f"runs={named} has no finished run to compare ({reasons})")
    check_comparable(runs)
    settings, repeated = find_settings(runs)
    left_out += repeated
    comparison = compare(settings, target)

    write_text(out / "compare.csv", as_frame(comparison).to_csv(index=False))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")  # boxes in a picture, not lines here
        pictures = draw_pictures(out / "compare", comparison)
    _write_page(out / "compare.html", comparison, settings, left_out, folders, pictures)
    _print(comparison, left_out, out)


def _write_page(
    path: Path,
    comparison: Comparison,
    settings: Sequence[Setting],
    left_out: Sequence[LeftOut],
    folders: Sequence[Path],
    pictures: dict[str, Path],
) -> None:
    seconds = sum(run.seconds for setting in settings for run in setting.runs.values())
    ordered = [summary.setting for summary in comparison.summaries]
    keys = list(dict.fromkeys(key for setting in ordered for key in setting.values))
    page = page_template(TEMPLATE).render(
        title=f"Comparison of {' and '.join(folder.name or str(folder.resolve()) for folder in folders[:3])}",
        num_runs=sum(len(setting.runs) for setting in settings),
        num_settings=len(settings),
        time=clock(seconds),
        verdict=verdict(comparison),
        notes=notes(comparison),
        table=table(comparison),
        target=target_table(comparison),
        differing=[
            [key, *(shown_value(setting.values[key]) if key in setting.values else ABSENT for setting in ordered)]
            for key in keys[:MOST_KEYS]
        ],
        num_keys=len(keys),
        names=[setting.name for setting in ordered],
        runs=[
            [setting.name, str(run.seed), f"{run.value:.6g}", str(run.path)]
            for setting in ordered
            for run in setting.runs.values()
        ],
        left_out=[[str(unfit.path), unfit.reason] for unfit in left_out],
        command=compare_command(folders),
        pictures={caption: data_uri(file) for caption, file in pictures.items()},
    )
    write_text(path, page)


def compare_command(folders: Sequence[Path]) -> str:
    """What makes the comparison again."""
    named = [override("runs", str(folder)).removeprefix("runs=") for folder in folders]
    runs = named[0] if len(named) == 1 else f"[{','.join(named)}]"
    return f"{verb_command('compare')} {shlex.quote(f'runs={runs}')}"


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
