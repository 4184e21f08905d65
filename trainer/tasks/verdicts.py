"""The sentence that says whether a run learnt anything: its best weights against what needs no training."""

from __future__ import annotations

import math

NOTHING_TO_COMPARE = "There is nothing to compare the result with."


def verdict_of_errors(
    best: float, baseline: float, *, name: str, unit: str, baseline_name: str, number_format: str
) -> str:
    """Of an error, the lower the better; `name` is what it is called, `baseline_name` what has the baseline's.

    `number_format`: of the errors, such as `.2f`.
    """
    if not (math.isfinite(best) and math.isfinite(baseline)) or baseline == 0:
        return NOTHING_TO_COMPARE
    suffix = f" {unit}" if unit else ""
    ours, theirs = f"{best:{number_format}}{suffix}", f"{baseline:{number_format}}{suffix}"
    errors = f"The {name} is {ours}; {baseline_name}, without any training, has {theirs}"
    if best >= baseline:
        return f"{errors}. The run did not learn: it is no better than that."
    return f"{errors}, so training removed {100 - 100 * best / baseline:.0f} % of the error."


def verdict_of_shares(best: float, baseline: float, *, name: str, baseline_name: str) -> str:
    """Of a share of successes from 0 to 1, the higher the better."""
    if not (math.isfinite(best) and math.isfinite(baseline)):
        return NOTHING_TO_COMPARE
    shares = f"The {name} is {100 * best:.1f} %; {baseline_name}, without any training, has {100 * baseline:.1f} %"
    if best <= baseline:
        return f"{shares}. The run did not learn: it is no better than that."
    removed = 100 * (best - baseline) / (1 - baseline)
    return f"{shares}, so training removed {removed:.0f} % of the mistakes."
