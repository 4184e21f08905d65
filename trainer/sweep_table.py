"""sweep.csv: a row for each job of a sweep that has ended, written anew whenever one does."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from trainer.run_dir import RunDir, write_text

TABLE = "sweep.csv"
LOCK = ".table_lock"
RECORD = "multirun.yaml"  # the config of the whole sweep; Hydra's name for it
ENDED = ("finished", "pruned", "failed")  # states of job.json
DEEPEST = 3  # folders of a job below its sweep, where hydra.sweep.subdir has slashes
COLUMNS = ("job", "folder", "status")  # then the swept keys
RESULT_COLUMNS = ("monitor", "value", "seconds", "updates", "best_epoch", "reason")


@dataclass(frozen=True)
class EndedJob:
    """What a job's own file, job.json, tells of it."""

    folder: str  # within the sweep's
    status: str
    overrides: list[str]
    value: float | None
    reason: str | None

    @property
    def order(self) -> list[tuple[bool, int, str]]:
        """Job 10 comes after job 9."""
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", self.folder)]

    @property
    def number(self) -> str:
        """That the folder begins with, as hydra.sweep.subdir has it; empty where it was named otherwise."""
        found = re.match(r"\d+", self.folder)
        return "" if found is None else found[0]


def note_in_table(job_folder: Path) -> None:
    """Write the table of the sweep that the job is of, as it stands now.

    A disk that is full is no fault of the job: the table is written again when the next one ends, and with the sweep.
    """
    sweep = _sweep_of(job_folder.absolute())
    if sweep is not None:
        with suppress(OSError):
            write_sweep_table(sweep)


def write_sweep_table(sweep: Path) -> None:
    """Write `sweep`/sweep.csv from what its jobs left.

    Jobs that end at once, in processes of their own, wait for each other, so that no row is lost.

    Raises:
        OSError: the file can't be written.
    """
    with (sweep / LOCK).open("a", encoding="utf-8") as lock:
        with suppress(OSError):  # a file system without locks: the row of another job may come with the next one
            fcntl.lockf(lock, fcntl.LOCK_EX)
        jobs = sorted(_ended_jobs(sweep), key=lambda job: job.order)
        swept = _swept_keys(sweep, jobs)
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([*COLUMNS, *swept, *RESULT_COLUMNS])
        writer.writerows(_row(sweep, job, swept) for job in jobs)
        write_text(sweep / TABLE, buffer.getvalue())


def _sweep_of(job_folder: Path) -> Path | None:
    """None where the folder is in no sweep, as one that was moved away from it."""
    for parent in list(job_folder.parents)[:DEEPEST]:
        if (parent / RECORD).is_file():
            return parent
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:  # another sweeper keeps no record
        sweep = Path(HydraConfig.get().sweep.dir).absolute()
        return sweep if sweep in job_folder.parents else None
    return None


def _ended_jobs(sweep: Path) -> list[EndedJob]:
    """A file that is damaged makes no row; the sweep tells of it when it is resumed."""
    jobs = []
    for depth in range(DEEPEST):
        for path in sweep.glob("*/" * (depth + 1) + "job.json"):
            with suppress(ValueError, KeyError, TypeError):
                told = json.loads(path.read_text(encoding="utf-8"))
                if told["state"] in ENDED:
                    folder = str(path.parent.relative_to(sweep))
                    jobs.append(
                        EndedJob(folder, told["state"], told["overrides"], told.get("value"), told.get("reason"))
                    )
    return jobs


def _row(sweep: Path, job: EndedJob, swept: Sequence[str]) -> list[Any]:
    given = _given(job.overrides)
    results: dict[str, Any] = {}
    if job.status == "finished":
        with suppress(OSError, ValueError):
            results = json.loads(RunDir(sweep / job.folder).results.read_text(encoding="utf-8"))
    best = results.get("best") or {}
    found = [results.get("monitor"), job.value, results.get("seconds"), results.get("updates"), best.get("epoch")]
    config = results.get("config") or {}
    values = [given[key] if key in given else _value_in(config, key) for key in swept]
    return [job.number, job.folder, job.status, *values, *found, job.reason]


def _value_in(config: Any, key: str) -> Any:
    """Of a key that was not given to this job, as where a setting leaves it as it is; empty where there is none."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config.get("kind", "") if isinstance(config, dict) else config


def _swept_keys(sweep: Path, jobs: Sequence[EndedJob]) -> list[str]:
    """The keys that were given several values; where that is not written down, those in which jobs differ."""
    record = sweep / RECORD
    if record.is_file():
        with suppress(YAMLError, OmegaConfBaseException, HydraException, LookupError, TypeError, ValueError):
            return _keys_typed(OmegaConf.to_container(OmegaConf.load(record), resolve=False))
    given = [_given(job.overrides) for job in jobs]
    keys = list(dict.fromkeys(key for one in given for key in one))
    return [key for key in keys if len({one.get(key) for one in given}) > 1]


def _keys_typed(record: Any) -> list[str]:
    sweeper = record["hydra"]["sweeper"]
    several = [f"{key}={values}" for key, values in (sweeper.get("params") or {}).items()]
    several += record["hydra"]["overrides"]["task"]
    parsed = OverridesParser.create().parse_overrides(several)
    keys = [key for setting in sweeper.get("settings") or () for key in _given(setting)]
    keys += [override.get_key_element().lstrip("+") for override in parsed if override.is_sweep_override()]
    return list(dict.fromkeys(keys))


def _given(overrides: Sequence[str]) -> dict[str, str]:
    """key -> value; what is taken out (~key) has none."""
    pairs = (text.lstrip("+").partition("=") for text in overrides if not text.startswith("~"))
    return {key: value for key, _, value in pairs}
