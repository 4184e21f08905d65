"""The answer in words and tables: which setting is best, by how much, and whether that is beyond chance."""

from __future__ import annotations

import math

import pandas as pd

from trainer.comparison.settings import Setting
from trainer.comparison.statistics import CONFIDENCE, FEWEST_PAIRS, Advantage, Comparison, Summary
from trainer.progress import clock
from trainer.report import number, rate

MOST_SENTENCES = 4  # on the others; the table has all
UNEQUAL = 0.02  # of the updates of another setting; whole cycles may leave a few out


def verdict(comparison: Comparison) -> list[str]:
    """Sentences, the answer first."""
    best, *others = comparison.summaries
    if not others:
        alone = f"There is one setting: {comparison.monitor} {_mean_and_sd(best)}."
        return [alone, "A second one, to compare it with, is any key with two values, such as scheduler=clr,constant."]
    told = [f"{best.setting.name} is best: {comparison.monitor} {_mean_and_sd(best)}."]
    told += [_sentence(comparison, other) for other in others[:MOST_SENTENCES]]
    if len(others) > MOST_SENTENCES:
        told.append(f"The other {len(others) - MOST_SENTENCES} settings are in the table.")
    return told


def notes(comparison: Comparison) -> list[str]:
    """What to keep in mind before the answer is used."""
    told = []
    best = comparison.summaries[0]
    if any(other.behind is not None and other.behind.interval is not None for other in comparison.summaries):
        told.append(
            "An interval is that of a mean difference over pairs of runs with the same seed (Student's t): where the "
            "difference would lie with other seeds, on these same images."
        )
    if len(comparison.summaries) > 2 and comparison.confidence > CONFIDENCE:
        told.append(
            f"The best of {len(comparison.summaries)} was chosen after all were seen. Beyond chance is therefore said "
            f"only where the interval at {_percent(comparison.confidence)} (Bonferroni, all pairs) leaves out 0; the "
            f"intervals shown are those at {_percent(CONFIDENCE)}."
        )
    if comparison.split == "val":
        told.append(
            "Each run chose its best epoch on the validation images that it is judged on here, so all values are a "
            "little too good."
        )
    elif comparison.split == "train":
        told.append("There were no validation images: all is judged on the images that were trained on.")
    by_updates = sorted(comparison.summaries, key=lambda summary: summary.updates)
    shortest, longest = by_updates[0], by_updates[-1]
    if longest.updates > (1 + UNEQUAL) * shortest.updates:
        told.append(
            f"Budgets differ: {shortest.setting.name} made {number(shortest.updates)} updates in the mean, "
            f"{longest.setting.name} {number(longest.updates)}."
        )
    numbers = {len(summary.setting.runs) for summary in comparison.summaries}
    if len(numbers) > 1:
        told.append("Settings have different numbers of runs; differences use the seeds that both have.")
    if len(comparison.summaries) > 1 and len(best.setting.runs) < FEWEST_PAIRS:
        told.append("Run every setting with three seeds or more (seed=1,2,3), better five, to know what is chance.")
    return told


def table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row per setting, the best first."""
    headings = ["setting", comparison.monitor, "sd", "behind best", "95 % interval", "beyond chance", "pairs"]
    headings += ["runs", "lowest", "highest", "updates", "time"]
    rows = []
    for summary in comparison.summaries:
        rows.append(
            [
                summary.setting.name,
                number(summary.mean),
                "–" if math.isnan(summary.sd) else f"{summary.sd:.2g}",
                *_cells(summary.behind),
                str(len(summary.setting.runs)),
                number(summary.lowest),
                number(summary.highest),
                number(round(summary.updates)),
                clock(summary.seconds),
            ]
        )
    return headings, rows


def target_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """When the runs of each setting reached the target."""
    headings = ["setting", f"reached {number(comparison.target)}", "updates, mean", "time, mean"]
    rows = []
    for summary in comparison.summaries:
        reached = summary.reached
        there = reached.runs > 0
        rows.append(
            [
                summary.setting.name,
                f"{reached.runs} of {len(summary.setting.runs)}",
                number(round(reached.updates)) if there else "–",
                clock(reached.seconds) if there else "–",
            ]
        )
    return headings, rows


def rate_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The head's rates in the first run of each setting, a row per phase: those used, and those found by tests."""
    headings = ["setting", "phase", "rates used", "suggested", "base_lr found", "max_lr found"]
    rows = []
    for summary in comparison.summaries:
        run = next(iter(summary.setting.runs.values()))
        for phase, used in run.used.items():
            found = run.tested.get(phase, {})
            bounds = found.get("bounds") or {}
            rows.append(
                [
                    summary.setting.name,
                    phase,
                    rate(used.get("head_min"), used.get("head_max")),
                    number(found.get("suggestion")),
                    number(bounds.get("base_lr")),
                    number(bounds.get("max_lr")),
                ]
            )
    if any(row[3:] != ["–"] * 3 for row in rows):
        return headings, rows
    return headings[:3], [row[:3] for row in rows]


def as_frame(comparison: Comparison) -> pd.DataFrame:
    """compare.csv: a row per setting, the best first, numbers in full."""
    rows = []
    for summary in comparison.summaries:
        behind = summary.behind
        low, high = behind.interval if behind is not None and behind.interval is not None else (math.nan, math.nan)
        rows.append(
            {
                "setting": summary.setting.name,
                "runs": len(summary.setting.runs),
                "seeds": " ".join(map(str, summary.setting.runs)),
                "monitor": comparison.monitor,
                "mean": summary.mean,
                "sd": summary.sd,
                "lowest": summary.lowest,
                "highest": summary.highest,
                "behind_best": math.nan if behind is None else behind.mean,
                "behind_best_low": low,
                "behind_best_high": high,
                "pairs": None if behind is None else behind.pairs,
                "beyond_chance": None if behind is None else behind.beyond_chance,
                "updates": summary.updates,
                "seconds": summary.seconds,
                "target": comparison.target,
                "reached": summary.reached.runs,
                "updates_to_target": summary.reached.updates,
                "seconds_to_target": summary.reached.seconds,
                **_values(summary.setting),
            }
        )
    return pd.DataFrame(rows).astype({"pairs": "Int64", "beyond_chance": "boolean"})


def _sentence(comparison: Comparison, other: Summary) -> str:
    behind = other.behind
    assert behind is not None
    lead = f"Against {other.setting.name} ({_mean_and_sd(other, brief=True)})"
    if not behind.pairs:
        return f"{lead}: no seed was run under both, so there is no paired difference, and chance can't be told apart."
    word = "higher" if (behind.mean < 0) != comparison.higher_is_better else "lower"
    pairs = f"{behind.pairs} {'pair' if behind.pairs == 1 else 'pairs'} of the same seed"
    apart = f"it is {number(abs(behind.mean))} {word}"
    if behind.interval is None and behind.pairs >= FEWEST_PAIRS:
        return (
            f"{lead} {apart} in each of {pairs}: {comparison.monitor} is too coarse to tell that from chance, as its "
            "differences do not vary."
        )
    if behind.interval is None:
        return f"{lead} {apart} over {pairs}: too few to tell that from chance, which takes {FEWEST_PAIRS} or more."
    judged = "beyond chance" if behind.beyond_chance else "not beyond chance"
    low, high = behind.interval
    if not behind.beyond_chance and not low <= 0 <= high:
        judged += f", for the best of {len(comparison.summaries)} settings"
    return f"{lead} {apart} (95 % interval: {_range(low, high)}; {pairs}): {judged}."


def _range(low: float, high: float) -> str:
    """Of an advantage, in words that need no sign."""
    if low < 0 < high:
        return f"{number(-low)} worse to {number(high)} better"
    ends = sorted((abs(low), abs(high)))
    return f"{number(ends[0])} to {number(ends[1])} {'better' if high > 0 else 'worse'}"


def _cells(behind: Advantage | None) -> list[str]:
    if behind is None:
        return ["", "", "", ""]
    interval = "–" if behind.interval is None else f"{number(behind.interval[0])} … {number(behind.interval[1])}"
    untold = "too few pairs" if behind.pairs < FEWEST_PAIRS else "too coarse"
    judged = {None: untold, True: "yes", False: "no"}[behind.beyond_chance]
    return [number(behind.mean), interval, judged, str(behind.pairs)]


def _mean_and_sd(summary: Summary, *, brief: bool = False) -> str:
    seeds = len(summary.setting.runs)
    if seeds == 1:
        return f"{number(summary.mean)}, one run" if brief else f"{number(summary.mean)} (one run)"
    told = f"{number(summary.mean)} ± {summary.sd:.2g}"
    return told if brief else f"{told} (mean and standard deviation of {seeds} seeds)"


def _values(setting: Setting) -> dict[str, object]:
    return {key: value if isinstance(value, int | float | str) else str(value) for key, value in setting.values.items()}


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
