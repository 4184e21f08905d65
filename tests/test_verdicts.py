"""The sentence that says whether a run learnt anything."""

import pytest

from trainer.tasks.verdicts import verdict_of_errors, verdict_of_shares


@pytest.mark.parametrize(
    ("best", "baseline", "expected"),
    [
        (2.0, 8.0, "The error is 2.00 mm; guessing, without any training, has 8.00 mm, so training removed 75 %"),
        (8.5, 8.0, "did not learn"),
        (2.0, float("nan"), "nothing to compare"),
        (float("nan"), 8.0, "nothing to compare"),
        (0.0, 0.0, "nothing to compare"),
    ],
)
def test_an_error_is_compared_with_that_of_the_baseline(best: float, baseline: float, expected: str) -> None:
    assert expected in verdict_of_errors(
        best, baseline, name="error", unit="mm", baseline_name="guessing", number_format=".2f"
    )


@pytest.mark.parametrize(
    ("best", "baseline", "expected"),
    [
        (0.9, 0.6, "The accuracy is 90.0 %; guessing, without any training, has 60.0 %, so training removed 75 % of"),
        (0.6, 0.6, "did not learn"),
        (1.0, 1.0, "did not learn"),
        (float("nan"), 0.5, "nothing to compare"),
    ],
)
def test_a_share_of_successes_is_compared_with_that_of_the_baseline(
    best: float, baseline: float, expected: str
) -> None:
    assert expected in verdict_of_shares(best, baseline, name="accuracy", baseline_name="guessing")
