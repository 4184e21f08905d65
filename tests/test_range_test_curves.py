"""Rungs, smoothing, stop rules, suggestions and bounds, on curves whose answers are known."""

import math
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.range_test.bounds import find_bounds, is_flat
from trainer.range_test.files import table
from trainer.range_test.finding import Judgement, Sweep, judge
from trainer.range_test.rungs import rungs
from trainer.range_test.smoothing import Average, Smoother, ema, savgol
from trainer.range_test.stopping import DIVERGED, NON_FINITE, SPIKE, StopRule
from trainer.range_test.suggestions import longest_decrease, suggest

JUDGEMENT = Judgement(
    smoother=Smoother("savgol", 0.05, 0.2), rule="steepest", skip_start=10, skip_end=5, max_interval_decades=1.0
)
LRS = rungs(1e-7, 10.0, 100, "exp")


def s_curve(lrs: np.ndarray, *, fall: float, rise: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A loss that falls from 3 to 1 around the rate `fall`, and explodes around `rise`."""
    place = np.log10(lrs)
    loss = 1 + 2 / (1 + np.exp(4 * (place - math.log10(fall)))) + 4 * np.exp(3 * (place - math.log10(rise)))
    return loss + noise * np.random.default_rng(seed).normal(size=len(lrs))


def swept(losses: np.ndarray, stop: str | None = None) -> Sweep:
    return Sweep(LRS[: len(losses)], losses, None, stop)


@pytest.mark.parametrize("count", [2, 3, 31, 100, 1000])
def test_rungs_are_evenly_spaced_with_exact_ends(count: int) -> None:
    rates = rungs(1e-7, 10.0, count, "exp")
    assert (rates[0], rates[-1], len(rates)) == (1e-7, 10.0, count)
    np.testing.assert_allclose(np.diff(np.log10(rates)), 8 / (count - 1), rtol=1e-9)
    rates = rungs(0.1, 0.7, count, "linear")
    assert (rates[0], rates[-1]) == (0.1, 0.7)
    np.testing.assert_allclose(np.diff(rates), 0.6 / (count - 1), rtol=1e-9)


@pytest.mark.parametrize("bounds", [(1.0, 0.1), (0.1, 0.1), (0.0, 1.0), (-1.0, 1.0)])
def test_rungs_refuse_bounds_in_the_wrong_order(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 < min_lr < max_lr"):
        rungs(*bounds, 10, "exp")


def test_a_constant_loss_stays_what_it_is_under_every_smoothing() -> None:
    constant = np.full(40, 0.7)
    for kind in ("ema", "savgol", "none"):
        np.testing.assert_allclose(Smoother(kind, 0.05, 0.2)(constant), constant, rtol=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0.01, 1.0))
@settings(deadline=None, max_examples=50)
def test_the_moving_average_is_that_of_pandas(values: list[float], weight: float) -> None:
    expected = pd.Series(values).ewm(alpha=weight, adjust=True).mean()
    np.testing.assert_allclose(ema(np.array(values), weight), expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, -0.1, 1.1])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="must lie above 0 and at most at 1"):
        Average(weight)


def test_savgol_keeps_a_parabola_and_shifts_nothing() -> None:
    x = np.linspace(-1, 1, 41)
    np.testing.assert_allclose(savgol(3 * x**2 - x, 11), 3 * x**2 - x, atol=1e-12)
    peak = np.exp(-((x - 0.1) ** 2) / 0.05)
    assert np.argmax(savgol(peak, 11)) == np.argmax(peak)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6])
def test_short_curves_can_be_smoothed(count: int) -> None:
    for kind in ("ema", "savgol", "none"):
        assert len(Smoother(kind, 0.05, 0.9)(np.arange(count, dtype=float))) == count


def test_positive_losses_stay_positive_beside_a_steep_rise() -> None:
    loss = np.concatenate([np.full(30, 0.5), np.geomspace(0.5, 500, 10)])
    assert (Smoother("savgol", 0.05, 0.5)(loss) > 0).all()


def stopped_at(losses: np.ndarray, **changes: float | None) -> tuple[int, str] | None:
    rule = StopRule(**{"diverge_threshold": 5.0, "spike_threshold": None, "smooth": 1.0, **changes})
    for step, loss in enumerate(losses):
        if reason := rule.see(float(loss)):
            return step, reason
    return None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_at_once(value: float) -> None:
    losses = np.full(200, 1.0)
    losses[31:] = value
    assert stopped_at(losses, diverge_threshold=None) == (31, NON_FINITE)


def test_positive_losses_diverge_at_the_threshold_times_their_best() -> None:
    assert stopped_at(np.array([3.0, 1.0, 4.9, 5.1])) == (3, DIVERGED)
    assert stopped_at(np.array([3.0, 1.0, 4.9, 5.1]), diverge_threshold=None) is None


def test_negative_losses_diverge_too_and_improving_ones_do_not() -> None:
    assert stopped_at(np.array([-1.0, -2.0, -1.5, 5.9, 6.1])) == (4, DIVERGED)
    assert stopped_at(-np.arange(1.0, 50.0)) is None


def test_a_loss_near_zero_may_wobble() -> None:
    """From 4 down to 0.001, then 0.05: fifty times its best, and still a hundredth of where it began."""
    assert stopped_at(np.array([4.0, 1.0, 0.1, 0.001, 0.05, 0.02])) is None
    assert stopped_at(np.array([4.0, 1.0, 0.1, 0.001, 0.05, 1.7])) == (5, DIVERGED)


def test_divergence_is_judged_on_the_smoothed_loss() -> None:
    losses = np.full(60, 1.0)
    losses[40] = 20.0
    assert stopped_at(losses, smooth=0.05) is None
    assert stopped_at(losses, smooth=0.9) == (40, DIVERGED)


def test_a_sudden_spike_stops_unless_that_is_switched_off() -> None:
    losses = 2.0 + 0.01 * np.random.default_rng(0).normal(size=60)
    losses[50] = 3.0
    assert stopped_at(losses, spike_threshold=20.0, smooth=0.05) == (50, SPIKE)
    assert stopped_at(losses, spike_threshold=None, smooth=0.05) is None
    assert stopped_at(losses[:50], spike_threshold=20.0, smooth=0.05) is None


def test_the_steepest_suggestion_is_where_the_logarithm_falls_fastest() -> None:
    place = np.log(LRS)
    loss = np.exp(1 / (1 + np.exp(place - np.log(1e-3))))  # its logarithm falls fastest at 1e-3
    assert suggest(LRS, loss)["steepest"] == pytest.approx(1e-3, rel=0.1)


def test_the_minimum_suggestion_is_a_tenth_of_the_best_rate() -> None:
    loss = (np.log10(LRS) + 2.0) ** 2
    assert suggest(LRS, loss)["minimum"] == pytest.approx(1e-3, rel=0.1)


def test_the_valley_is_the_middle_of_the_longest_decrease() -> None:
    loss = np.full(100, 3.0)
    loss[40:61] = np.linspace(3.0, 1.0, 21)
    loss[61:] = np.linspace(1.1, 9.0, 39)
    assert suggest(LRS, loss)["valley"] in LRS[49:52]


def test_the_slide_stops_where_both_ends_of_its_interval_fall_alike() -> None:
    loss = s_curve(LRS, fall=1e-3, rise=1.0)
    found = suggest(LRS, loss)["slide"]
    assert found is not None
    assert 1e-4 < found < 0.1


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_suggestions_do_not_depend_on_the_unit_of_the_loss(scale: float) -> None:
    loss = s_curve(LRS, fall=1e-3, rise=1.0, noise=0.01)
    assert suggest(LRS, scale * loss) == suggest(LRS, loss)


def test_negative_losses_get_suggestions() -> None:
    loss = s_curve(LRS, fall=1e-3, rise=1.0) - 10
    found = suggest(LRS, loss)
    assert found["steepest"] == pytest.approx(1e-3, rel=0.3)
    assert all(value is not None for value in found.values())


def test_a_rising_curve_gets_no_suggestion() -> None:
    assert set(suggest(LRS, np.linspace(1, 2, 100)).values()) == {None}


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9))
@settings(deadline=None, max_examples=80)
def test_the_longest_decrease_is_that_of_a_search_of_all(values: list[int]) -> None:
    chain = longest_decrease(np.array(values, dtype=float))
    taken = [values[i] for i in chain]
    assert chain == sorted(chain)
    assert all(a > b for a, b in pairwise(taken))
    longest = max(
        size
        for size in range(1, len(values) + 1)
        for some in combinations(values, size)
        if all(a > b for a, b in pairwise(some))
    )
    assert len(chain) == longest


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_bounds_lie_where_the_improvement_starts_and_between_its_end_and_the_rise(noise: float) -> None:
    """The logistic fall around 1e-3 has made a tenth at 1e-3 / 3.5 and nine tenths at 1e-3 * 3.5; the loss has its
    first value again where 4 (lr / 10)^1.3 is 2, at 5.9."""
    loss = s_curve(LRS, fall=1e-3, rise=10.0, noise=noise)
    bounds = find_bounds(LRS, loss, JUDGEMENT.smoother(loss))
    assert bounds.base_lr == pytest.approx(1e-3 / 3.5, rel=0.6)
    assert bounds.max_lr == pytest.approx(math.sqrt(1e-3 * 3.5 * 5.9), rel=0.6)
    assert not bounds.still_improving


def test_a_curve_that_turns_ragged_ends_the_good_zone() -> None:
    loss = 3 - 2 * np.clip((np.log10(LRS) + 5) / 5, 0, 1)  # improves from 1e-5 to 1
    ragged = loss.copy()
    ragged[60:] += 0.8 * (-1.0) ** np.arange(40)  # from about 7e-3 on
    smooth = find_bounds(LRS, loss, JUDGEMENT.smoother(loss))
    rough = find_bounds(LRS, ragged, JUDGEMENT.smoother(loss))
    assert rough.max_lr < smooth.max_lr
    assert rough.max_lr == pytest.approx(math.sqrt(LRS[60] * LRS[-1]), rel=0.3)  # it never rises above its start


def test_a_curve_that_still_improves_at_its_end_says_so() -> None:
    loss = 3 - 2 * np.clip((np.log10(LRS) + 5) / 6, 0, 1)
    bounds = find_bounds(LRS, loss, loss)
    assert bounds.still_improving


def test_noise_without_improvement_is_flat_and_a_small_improvement_is_not() -> None:
    rng = np.random.default_rng(1)
    called = sum(is_flat(x, savgol(x, 21)) for x in 5 + 0.01 * rng.normal(size=(300, 100)))
    assert called >= 298
    improving = s_curve(LRS, fall=1e-3, rise=100.0, noise=0.1)
    assert not is_flat(improving, savgol(improving, 21))


def test_nothing_is_suggested_for_a_flat_curve() -> None:
    finding = judge([swept(5 + 0.01 * np.random.default_rng(0).normal(size=100))], JUDGEMENT)
    assert (finding.rates.lr, finding.rates.base_lr, finding.rates.max_lr) == (None, None, None)
    assert "flat" in finding.verdict


@pytest.mark.parametrize("smoothing", ["savgol", "ema", "none"])
@pytest.mark.parametrize("place", [10, 15])
def test_a_curve_that_only_rises_but_for_a_bump_is_flat(place: int, smoothing: str) -> None:
    loss = np.linspace(1.0, 2.0, 100)
    loss[place : place + 5] += 4.0
    judgement = replace(JUDGEMENT, smoother=Smoother(smoothing, 0.05, 0.2))
    finding = judge([swept(loss)], judgement)
    assert (finding.rates.lr, finding.rates.base_lr, finding.rates.max_lr) == (None, None, None)


@pytest.mark.parametrize("first_nan", range(3, 100, 7))
def test_no_rate_is_taken_at_or_beyond_the_first_non_finite_point(first_nan: int) -> None:
    loss = s_curve(LRS, fall=1e-2, rise=1e6)
    loss[first_nan:] = math.nan
    finding = judge([swept(loss[: first_nan + 1], NON_FINITE)], JUDGEMENT)
    rates = (finding.rates.lr, finding.rates.base_lr, finding.rates.max_lr, *finding.suggestions.values())
    assert all(rate is None or rate < LRS[first_nan - 1] for rate in rates)  # whose update led to it
    assert np.isnan(finding.smoothed[first_nan - 1 :]).all()


def test_repeats_give_a_median_a_band_and_an_interval() -> None:
    curves = [s_curve(LRS, fall=fall, rise=10.0, noise=0.02, seed=i) for i, fall in enumerate((8e-4, 1e-3, 1.2e-3))]
    finding = judge([swept(curve) for curve in curves], JUDGEMENT)
    np.testing.assert_array_equal(finding.values, np.median(curves, axis=0))
    np.testing.assert_array_equal(finding.low, np.min(curves, axis=0))
    interval = finding.intervals["max_lr"]
    assert interval is not None
    assert finding.rates.max_lr is not None
    assert interval[0] <= finding.rates.max_lr * 1.5
    assert interval[1] >= finding.rates.max_lr / 1.5


def test_repeats_that_disagree_suggest_nothing() -> None:
    curves = [s_curve(LRS, fall=fall, rise=10 * fall) for fall in (1e-4, 1e-3, 1e-1)]
    finding = judge([swept(curve) for curve in curves], JUDGEMENT)
    assert (finding.rates.lr, finding.rates.base_lr, finding.rates.max_lr) == (None, None, None)
    assert "disagree by more than 1 decades" in finding.verdict


def test_repeats_that_each_find_nothing_are_not_agreement() -> None:
    """Their median, which scatters less, may show an improvement that none of them shows."""
    flat = [np.full(100, 5.0) + 0.01 * np.random.default_rng(seed).normal(size=100) for seed in range(2)]
    finding = judge([*map(swept, flat), swept(s_curve(LRS, fall=1e-3, rise=10.0)), *[swept(flat[0])] * 2], JUDGEMENT)
    assert finding.rates.max_lr is None
    assert finding.intervals["max_lr"] == (0.0, math.inf)


def test_an_unsure_base_lr_does_not_take_a_sure_max_lr_along() -> None:
    curves = []
    for start in (1e-6, 1e-3):
        loss = s_curve(LRS, fall=1e-2, rise=10.0)
        loss += 0.5 * np.clip(1 - (np.log10(LRS / 1e-7)) / math.log10(start / 1e-7), 0, 1)
        curves.append(loss)
    finding = judge([swept(curve) for curve in curves], JUDGEMENT)
    base, top = finding.intervals["base_lr"], finding.intervals["max_lr"]
    assert base is not None
    assert top is not None
    assert math.log10(base[1] / base[0]) > 1 > math.log10(top[1] / top[0])
    assert finding.rates.max_lr is not None
    assert finding.rates.base_lr == pytest.approx(finding.rates.max_lr / 4)
    assert "base_lr is max_lr / 4 instead" in finding.verdict


def test_a_repeat_that_stopped_early_shortens_the_median_and_is_the_stop_that_is_told() -> None:
    curve = s_curve(LRS, fall=1e-3, rise=10.0)
    finding = judge([swept(curve), swept(curve[:80], DIVERGED)], JUDGEMENT)
    assert len(finding.lrs) == 80
    assert finding.stop == f"diverged at step 79, rate {LRS[79]:.3g}"
    written = table(finding)
    assert len(written) == 100
    np.testing.assert_array_equal(written["loss_1"], curve)
    np.testing.assert_array_equal(written["loss_2"][:80], curve[:80])
    assert written.loc[80:, ["loss", "smoothed", "loss_2"]].isna().all(axis=None)


def test_a_metric_that_should_rise_is_judged_upside_down_and_shown_as_it_is() -> None:
    accuracy = 1 - s_curve(LRS, fall=1e-3, rise=10.0) / 10
    upward = Judgement(
        smoother=JUDGEMENT.smoother,
        rule="minimum",
        skip_start=10,
        skip_end=5,
        max_interval_decades=1.0,
        higher_is_better=True,
    )
    finding = judge([Sweep(LRS, np.full(100, 1.0), accuracy, None)], upward)
    np.testing.assert_array_equal(finding.values, accuracy)
    assert finding.rates.lr == pytest.approx(LRS[np.argmax(accuracy)] / 10, rel=0.5)


@given(
    st.lists(st.floats(-100, 100) | st.sampled_from([math.nan, math.inf, 1e30]), min_size=1, max_size=40),
    st.sampled_from(["savgol", "ema", "none"]),
)
@settings(deadline=None, max_examples=150)
def test_no_curve_breaks_the_judgement(values: list[float], smoothing: str) -> None:
    judgement = Judgement(
        smoother=Smoother(smoothing, 0.05, 0.2), rule="valley", skip_start=0, skip_end=0, max_interval_decades=1.0
    )
    finding = judge([swept(np.array(values)), swept(np.array(values[::-1]))], judgement)
    assert finding.verdict
    rates = finding.rates
    if rates.max_lr is not None:
        assert rates.base_lr is not None
        assert 0 < rates.base_lr < rates.max_lr <= 10.0
