"""What a tuning found, for people: a table, what to paste, and the same as a file."""

from __future__ import annotations

import io
import math
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from trainer.command_line import command
from trainer.config.run import TrainConfig
from trainer.console import FILE_WIDTH, console
from trainer.run_dir import write_text
from trainer.tuning.rounds import Timed
from trainer.tuning.settings import TABLE

THREADS = "OMP_NUM_THREADS"  # of the environment, not a key


@dataclass(frozen=True)
class Group:
    """The answers to one question, the run's own setting first, and the one that was best."""

    title: str
    settings: list[Timed]
    best: Timed
    changes_learning: bool = False  # so that it is told, and not put among what is pasted


def tell(groups: list[Group], config: TrainConfig, typed: list[str], folder: Path) -> None:
    """Print it, and write it to `folder`."""
    text = io.StringIO()
    in_file = Console(file=text, width=FILE_WIDTH, markup=False, emoji=False, highlight=False)
    for out in (console(highlight=False), in_file):
        out.print(_table(groups, config))
        for line in _advice(groups, typed):
            out.print(line, soft_wrap=True)
    write_text(folder / TABLE, "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))
    console().print(f"{folder / TABLE} has the same", soft_wrap=True)


def pasted(groups: list[Group], typed: list[str]) -> str:
    """The command of the run under what was best."""
    found = {
        key: value for group in groups if not group.changes_learning for key, value in group.best.overrides.items()
    }
    threads = found.pop(THREADS, None)
    kept = [text for text in typed if text.lstrip("+").partition("=")[0] not in found]
    line = f"{command()} {shlex.join([*kept, *(f'{key}={value}' for key, value in found.items())])}"
    return line if threads in (None, str(torch.get_num_threads())) else f"{THREADS}={threads} {line}"


def _table(groups: list[Group], config: TrainConfig) -> Table:
    data = config.data
    what = f"{config.model.backbone}, {data.input_height} x {data.input_width} px, batches of {data.batch_size} images"
    table = Table(
        title=f"{what}, load {_load()}",
        box=SIMPLE_HEAD,
        title_justify="left",
    )
    for heading in ("", "setting", "images/s", "ms per update", "memory", "rounds", ""):
        table.add_column(heading, justify="left" if heading in ("", "setting") else "right")
    for group in groups:
        for number, setting in enumerate(group.settings):
            best = setting is group.best and len(group.settings) > 1
            table.add_row(group.title if number == 0 else "", setting.name, *_figures(setting), "best" if best else "")
        table.add_section()
    return table


def _figures(setting: Timed) -> tuple[str, str, str, str]:
    memory = "–" if setting.peak is None else f"{setting.peak / 1e9:.2f} GB"
    if not setting.seconds:
        return "–", "not timed", "–", "0"
    if math.isinf(setting.median):
        return "–", "out of memory", "–", "0"
    return f"{setting.images_per_second:.1f}", f"{1000 * setting.median:.0f}", memory, str(len(setting.seconds))


def _advice(groups: list[Group], typed: list[str]) -> list[str]:
    lines = ["the run under what was best:", f"  {pasted(groups, typed)}"]
    for group in groups:
        own, best = group.settings[0], group.best
        if group.changes_learning and best is not own:
            key, value = next(iter(best.overrides.items()))
            gain = best.images_per_second / own.images_per_second
            lines.append(
                f"{key}={value} sees {gain:.2f} times as many images per second, and changes what is learnt: "
                "find the rates anew, with range_test=on"
            )
    if any(not setting.seconds for group in groups for setting in group.settings if len(group.settings) > 1):
        lines.append("some settings were not timed: give more minutes, such as minutes=3")
    return lines


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not known"
