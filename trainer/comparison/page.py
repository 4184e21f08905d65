"""compare.html, the page of a comparison and the one that every sweep ends with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import trainer
from trainer.command_line import override, verb_command
from trainer.comparison.answer import notes, rate_table, table, target_table, verdict
from trainer.comparison.jobs import Jobs, steps_after
from trainer.comparison.runs import LeftOut
from trainer.comparison.settings import Setting, shown_value
from trainer.comparison.statistics import Comparison
from trainer.progress import clock
from trainer.report import data_uri, page_template
from trainer.run_dir import write_text

TEMPLATE = Path(trainer.__file__).with_name("compare.html.jinja")
MOST_KEYS = 30  # in which settings differ, on the page; compare.csv has all
ABSENT = "–"


def write_page(
    path: Path,
    comparison: Comparison,
    left_out: Sequence[LeftOut],
    folders: Sequence[Path],
    pictures: dict[str, Path],
    *,
    jobs: Jobs | None,
) -> None:
    """`jobs`: of the sweep that is compared, where it is one."""
    settings = [summary.setting for summary in comparison.summaries]
    runs = [(setting, run) for setting in settings for run in setting.runs.values()]
    keys = list(dict.fromkeys(key for setting in settings for key in setting.values))
    told = f"{len(runs)} finished run{_s(runs)}, {len(settings)} setting{_s(settings)}"
    page = page_template(TEMPLATE).render(
        title=_title(folders, jobs),
        subtitle=f"{told}, {clock(sum(run.seconds for _, run in runs))} of training",
        verdict=verdict(comparison),
        answered=True,
        marks_best=len(settings) > 1,
        notes=notes(comparison),
        table=table(comparison),
        rates=rate_table(comparison),
        steps=steps_after(jobs, comparison),
        target=target_table(comparison),
        pictures={caption: data_uri(file) for caption, file in pictures.items()},
        differing=[[key, *(_value(setting, key) for setting in settings)] for key in keys[:MOST_KEYS]],
        num_keys=len(keys),
        names=[setting.name for setting in settings],
        runs=[[setting.name, str(run.seed), f"{run.value:.6g}", str(run.path)] for setting, run in runs],
        left_out=[[str(unfit.path), unfit.reason] for unfit in left_out],
        jobs=[] if jobs is None else jobs.rows(),
        reproduce="" if jobs is None else jobs.command(),
        command=compare_command(folders),
    )
    write_text(path, page)


def write_page_without_answer(sweep: Path, jobs: Jobs, reason: str) -> None:
    """The page of a sweep whose jobs can't be held against each other: what they came to, and what to do."""
    page = page_template(TEMPLATE).render(
        title=_title([sweep], jobs),
        subtitle=f"jobs: {jobs.counts}",
        verdict=[reason],
        answered=False,
        steps=steps_after(jobs, None),
        jobs=jobs.rows(),
        left_out=[],
        pictures={},
        reproduce=jobs.command(),
        command=compare_command([sweep]),
    )
    write_text(sweep / "compare.html", page)


def compare_command(folders: Sequence[Path]) -> str:
    """What makes the comparison again."""
    named = [override("runs", str(folder)).removeprefix("runs=") for folder in folders]
    runs = named[0] if len(named) == 1 else f"[{','.join(named)}]"
    return f"{verb_command('compare')} {shlex.quote(f'runs={runs}')}"


def _title(folders: Sequence[Path], jobs: Jobs | None) -> str:
    what = "Comparison of" if jobs is None else "Sweep"
    return f"{what} {' and '.join(folder.name or str(folder.resolve()) for folder in folders[:3])}"


def _value(setting: Setting, key: str) -> str:
    return shown_value(setting.values[key]) if key in setting.values else ABSENT


def _s(things: Sequence[object]) -> str:
    return "" if len(things) == 1 else "s"
