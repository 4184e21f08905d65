"""The report of an inspection: tables and findings on the terminal and in check.txt, all of it in check.json."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data.errors import one_line
from trainer.inspection.findings import SEVERITIES, Finding, Findings, counted
from trainer.inspection.overview import SPLITS
from trainer.run_dir import write_text

FILE_WIDTH = 120  # letters
INDENT = 9  # letters
MOST_ROWS = 40  # of a table; check.json has all
COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def write_report(
    path: Path, source: str, counts: dict[str, Any], findings: Findings, refusal: str | None, footer: list[str]
) -> None:
    """Print the report, and write it to `path` without colours."""
    console = Console(record=True, highlight=False)
    if not console.is_terminal:
        console = Console(record=True, highlight=False, width=max(FILE_WIDTH, console.width))
    console.print(Text(one_line(source), style="bold"), soft_wrap=True)
    for name, told in _lines(counts):
        console.print(Text(f"  {name:<9} ").append(one_line(told)), soft_wrap=True)
    for title, table in _tables(counts):
        console.print(Text(f"\n{one_line(title)}", style="bold"), soft_wrap=True)
        console.print(table)
    if len(findings):
        console.print()
    for finding in findings.sorted():
        console.print(_told(finding), soft_wrap=True)
    console.print()
    for text in (verdict(findings, refusal), *footer):
        console.print(Text(one_line(text)), soft_wrap=True)
    sys.stdout.flush()
    write_text(path, "".join(f"{line.rstrip()}\n" for line in console.export_text().split("\n")).rstrip() + "\n")


def verdict(findings: Findings, refusal: str | None) -> str:
    """What it comes to, in a line."""
    told = [counted(number, severity) for severity in SEVERITIES if (number := findings.count(severity))]
    summary = ", ".join(told) if told else "nothing found"
    return summary if refusal is None else f"{summary}; a run would stop at once: {refusal}"


def _told(finding: Finding) -> Text:
    """The finding in lines, its severity before the first of them."""
    first, *more = finding.lines
    text = Text.assemble((f"{finding.severity:<{INDENT}}", COLOURS[finding.severity]), first)
    return text.append("".join(f"\n{'':{INDENT}}{line}" for line in more))


def _lines(counts: dict[str, Any]) -> list[tuple[str, str]]:
    """One line per fact: its name, and what there is to say."""
    found, readable = counts["images"]["found"], counts["images"]["readable"]
    lines = [("images", f"{readable}" + (f" readable of {found} found" if readable < found else ""))]
    if found < counts["rows"]:
        lines[0] = ("images", f"{readable} readable of {found} found, in {counts['rows']} rows")
    if sizes := counts["sizes"]:
        lines += [("size", _size(sizes)), ("kinds", _kinds(counts))]
    if landmarks := counts.get("landmarks"):
        missing = sum(one["missing"] for one in landmarks)
        share = 100 * missing / max(1, counts["rows"] * len(landmarks))
        lines.append(("landmarks", f"{len(landmarks)} per image, {missing} missing ({share:.2g} %)"))
    if spacing := counts.get("spacing_mm"):
        lines.append(("spacing", _spacing(spacing)))
    epoch, cache = counts["epoch"], counts["cache"]
    batches = f"batches of {epoch['batch_size']}" + (
        f", {epoch['accumulation']} to an update" if epoch["accumulation"] > 1 else ""
    )
    lines.append(
        ("epoch", f"{counted(epoch['updates'], 'update')} ({epoch['training_images']} training images in {batches})")
    )
    lines.append(("cache", _cache(cache)))
    return lines


def _size(sizes: dict[str, Any]) -> str:
    width, height = sizes["width"], sizes["height"]
    ways = ", ".join(f"{sizes[way]} {way}" for way in ("portrait", "landscape", "square") if sizes[way])
    if sizes["distinct"] == 1:
        return f"{width['min']} x {height['min']} px, all alike ({ways})"
    sides = (
        f"{name} {side['min']} to {side['max']} px (median {side['median']})"
        for name, side in (("width", width), ("height", height))
    )
    return f"{', '.join(sides)}, {sizes['distinct']} different; {ways}"


def _kinds(counts: dict[str, Any]) -> str:
    told = [", ".join(f"{name} {number}" for name, number in counts[kind].items()) for kind in ("formats", "modes")]
    return f"{'; '.join(told)}; {counts['megabytes']:.1f} MB"


def _spacing(spacing: dict[str, Any]) -> str:
    if not spacing["count"]:
        return "unknown"
    low, high = spacing["min"], spacing["max"]
    value = f"{low:g} mm/px" if low == high else f"{low:g} to {high:g} mm/px (median {spacing['median']:g})"
    return value + (f", unknown in {spacing['missing']}" if spacing["missing"] else "")


def _cache(cache: dict[str, float]) -> str:
    room = cache["cache_gb"] / 2
    parts = []
    for kind, name in (("training", "training images"), ("others", "others")):
        size = cache[f"{kind}_gb"]
        fits = "" if size <= room else f", of which {100 * room / size:.0f} % fit"
        parts.append(f"{name} {_memory(size)}{fits}")
    return f"{', '.join(parts)} (data.cache_gb={cache['cache_gb']:g}, a half for each)"


def _memory(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.0f} MB"


def _tables(counts: dict[str, Any]) -> list[tuple[str, Table]]:
    splits = [name for name in (*SPLITS, "unknown") if name in counts["splits"]]
    given = (
        "of the data"
        if counts["splits"]["given"]
        else "drawn by data.val_fraction, data.test_fraction, data.split_seed"
    )
    groups = any(counts["splits"][name]["groups"] is not None for name in splits)
    heading = ["split", "images", *(["groups"] if groups else [])]
    rows = [[name, *(counts["splits"][name][key] for key in heading[1:])] for name in splits]
    tables = [_table(f"splits, {given}", heading, rows)]
    if landmarks := counts.get("landmarks"):
        faulty = [one for one in landmarks if one["missing"] or one["outside_image"]]
        rows = [
            [
                f"{one['index']}  {one['name']}",
                one["present"],
                one["missing"],
                f"{one['missing_percent']:.1f}",
                one["outside_image"],
            ]
            for one in faulty
        ]
        if rows:
            tables.append(
                _table(
                    "landmarks that are missing or outside", ["landmark", "present", "missing", "%", "outside"], rows
                )
            )
    if "classes" in counts:
        tables.append(_words("classes", counts["classes"], splits))
    if "numbers" in counts:
        tables.append(_numbers("numbers", counts["numbers"]))
    for name, told in counts["covariates"].items():
        if "numbers" in told:
            tables.append(_numbers(f"covariate {name}", told["numbers"]))
        else:
            tables.append(_words(f"covariate {name}", told["words"], splits))
    return tables


def _words(title: str, words: dict[str, dict[str, int]], splits: list[str]) -> tuple[str, Table]:
    rows = [[word or "(missing)", *(told.get(split, 0) for split in splits)] for word, told in words.items()]
    return _table(title, ["", *splits], rows)


def _numbers(title: str, numbers: dict[str, dict[str, Any]]) -> tuple[str, Table]:
    keys = ["count", "missing", "min", "median", "mean", "max"]
    rows = [
        [split, *("" if told[key] is None else f"{told[key]:.6g}" for key in keys)] for split, told in numbers.items()
    ]
    return _table(title, ["", *keys], rows)


def _table(title: str, heading: list[str], rows: list[list[Any]]) -> tuple[str, Table]:
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for i, name in enumerate(heading):
        table.add_column(Text(name), justify="right" if i else "left", overflow="fold")
    for row in rows[:MOST_ROWS]:
        table.add_row(*(Text(one_line(str(cell))) for cell in row))
    if len(rows) > MOST_ROWS:
        table.add_row(Text(f"and {len(rows) - MOST_ROWS} more, in check.json"))
    return title, table
