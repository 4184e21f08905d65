"""report.html: one file that says whether a run trained well, at which rates, and what to do next."""

from __future__ import annotations

import base64
import math
import mimetypes
from collections.abc import Callable, Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from omegaconf import OmegaConf

from trainer.config.store import read_config
from trainer.departures import departures
from trainer.next_steps import TypedCommand, beats_baseline, next_steps, ways_to_use
from trainer.progress import clock
from trainer.run_dir import RunDir, write_text

TEMPLATE = Path(__file__).with_name("report.html.jinja")


def write_report(path: Path, *, title: str, results: dict[str, Any], pictures: Mapping[str, Path]) -> None:
    """Write a page that needs no other file and no network; `pictures` (caption to file) are embedded.

    Sections whose key is absent from `results`, and pictures whose file is, are left out; so is what is told from the
    config and the metrics of the run that lie beside the page, where they don't.
    """
    run_dir = RunDir(path.parent)
    composed = read_config(run_dir.config) if run_dir.config.is_file() else None
    known: dict[str, Any] = {"steps": [], "ways": results.get("commands", {}), "departures": None, "reproduce": ""}
    if composed is not None:
        config: Any = OmegaConf.to_container(composed)
        epochs = pd.read_csv(run_dir.metrics) if run_dir.metrics.is_file() else None
        known = {
            "steps": next_steps(results, config, epochs),
            "ways": ways_to_use(run_dir.path, results, config),
            "departures": departures(composed, results["environment"].get("compute", {}).get("auto", ())),
            "reproduce": TypedCommand(results["environment"]).reproducing,
        }
    page = page_template(TEMPLATE).render(
        title=title,
        results=results,
        learnt=beats_baseline(results),
        metrics=_metric_columns(results),
        pictures={caption: data_uri(file) for caption, file in pictures.items() if file.is_file()},
        **known,
    )
    write_text(path, page)


@cache  # the jobs of a sweep, and the sweep, fill the same ones
def page_template(path: Path) -> Template:
    """A page's template: what it shows is escaped, and what it asks for must be there."""
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        filter_.__name__: filter_ for filter_ in (shown, number, distance, percent, rate, plain, clock)
    }
    return environment.get_template(path.name)


def number(value: Any) -> str:
    """Four digits; a count in full; a dash for what was not measured."""
    if not _is_number(value):
        return "–"
    return f"{value:,}" if isinstance(value, Integral) else f"{value:.4g}"


def distance(value: Any) -> str:
    """px or mm to two places, so that a column lines up."""
    return f"{value:.2f}" if _is_number(value) else "–"


def score(value: Any) -> str:
    """A share or an R2 to three places."""
    return f"{value:.3f}" if _is_number(value) else "–"


def rate(lowest: Any, highest: Any) -> str:
    if not (_is_number(lowest) and _is_number(highest)):
        return "frozen"
    return f"{lowest:.3g}" if lowest == highest else f"{lowest:.3g} … {highest:.3g}"


def percent(value: Any) -> str:
    return f"{100 * value:.1f} %" if _is_number(value) else "–"


def plain(value: Any) -> str:
    """Lists and tables of the environment as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(child)}" for key, child in value.items())
    return ", ".join(plain(child) for child in value) if isinstance(value, list | tuple) else str(value)


def shown(value: Any, style: str) -> str:
    """A value in a cell of a column of this style, see trainer.tasks.task.Column."""
    return STYLES[style](value)


STYLES: dict[str, Callable[[Any], str]] = {
    "distance": distance,
    "score": score,
    "percent": percent,
    "number": number,
    "text": str,
}


def data_uri(file: Path) -> str:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


def _metric_columns(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Everything that was measured: after each phase, then of the weights taken on each split."""
    columns = {f"after {name}": values for name, values in results.get("phases", {}).items()}
    columns |= {f"taken, {split}": values for split, values in results.get("metrics", {}).items()}
    return columns


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
