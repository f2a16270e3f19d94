"""quantiles against R (stats_lung.csv) and numpy, and what they give away."""

from fractions import Fraction

import numpy as np
import pytest

import fedstats
from fedstats.analyses.quantiles import PROBABILITIES, quantile_of, registered
from fedstats.errors import QuestionError

from . import helpers

REL = 1e-9
R_PROBABILITIES = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
NUMPY = {1: "inverted_cdf", 2: "averaged_inverted_cdf", 6: "weibull", 7: "linear"}


@pytest.mark.parametrize("type", [1, 2, 6, 7])
@pytest.mark.parametrize("column", ["wt.loss", "time", "age"])
def test_quantiles_equal_R(column, type):
    """Weight loss, follow-up and age: quantiles of four definitions as R's quantile(type =) prints them."""
    for sex in ("all", 1, 2):
        where = None if sex == "all" else [("sex", "==", sex)]
        result = helpers.pooled_lung().cohort(where).quantiles(column, q=R_PROBABILITIES, type=type)

        for one in result.quantiles:
            expected = helpers.reference("stats_lung", "quantile", f"y={column};sex={sex}", f"type{type}_p{one.q:g}")
            assert one.value == pytest.approx(expected, rel=REL, abs=1e-12)
            assert one.exact and one.low_bound == one.value == one.high_bound


@pytest.mark.parametrize("type", [1, 2, 6, 7])
def test_quantiles_equal_numpy_at_every_registered_probability(type):
    """Random whole numbers of any sample size: the order statistics found from counts are those of the sorted values."""
    random = np.random.default_rng(1)
    for n in (1, 2, 3, 7, 40, 100, 333):
        x = random.integers(0, 12, n)
        counts, bins = np.bincount(x, minlength=12), [(k, k) for k in range(12)]
        for q in PROBABILITIES:
            found, low, high = quantile_of(counts, bins, q, type)
            if type == 1 and n * q == int(n * q):
                expected = float(np.sort(x)[max(int(n * q) - 1, 0)])        # exactly, without the rounding of n q
            else:
                expected = float(np.quantile(x, float(q), method=NUMPY[type]))

            assert found == low == high == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("type", [1, 2, 6, 7])
def test_bounds_hold_the_exact_quantile(type):
    """From classes of values the quantile is interpolated, and the one of the pooled rows lies within the stated bounds."""
    frame = helpers.lung()
    cohort = helpers.pooled_lung(time={"cut_points": {"from": 0, "to": 1100, "step": 30}},
                                 years={"cut_points": {"from": 0, "to": 3, "step": 0.25}}).cohort()
    for one in cohort.quantiles(["time", "years"], q=[0.05, 0.25, 1 / 3, 0.5, 0.9], type=type).quantiles:
        true = np.quantile(frame[one.column], one.q, method=NUMPY[type])

        assert not one.exact
        assert one.low_bound <= one.value <= one.high_bound
        assert one.low_bound <= true <= one.high_bound
        assert one.high_bound - one.low_bound <= {"time": 60, "years": 0.5}[one.column]


def test_quartiles_are_the_default_and_increase():
    """Without being told which, the three quartiles."""
    result = helpers.pooled_lung().cohort().quantiles("age")

    assert [one.q for one in result.quantiles] == [0.25, 0.5, 0.75]
    assert [one.value for one in result.quantiles] == sorted(one.value for one in result.quantiles)
    assert result["age", 0.5].value == 63


def test_only_registered_probabilities_may_be_asked():
    """No bisection: the error lists what may be asked; the smallest and the largest value are not among it."""
    cohort = helpers.pooled_lung().cohort()
    for q in (0, 1, 0.5001, 0.26, 0.999):
        with pytest.raises(QuestionError, match="not a registered probability") as error:
            cohort.quantiles("age", q=[q])
        assert "1/3" in error.value.hint and "0.975" in error.value.hint
    with pytest.raises(QuestionError, match="type 3"):
        cohort.quantiles("age", type=3)
    with pytest.raises(QuestionError, match="without cut points"):
        cohort.quantiles("years")


def test_outer_quantiles_of_few_patients_are_not_released():
    """212 patients, at least 10 beyond: the 5 % quantile is shown from 200 patients on, the 1 % quantile from 1000."""
    result = helpers.ruled_lung().quantiles("age", q=[0.01, 0.025, 0.05, 0.5, 0.95, 0.99])
    shown = {one.q: one.low_bound is not None for one in result.quantiles}

    assert shown == {0.01: False, 0.025: False, 0.05: True, 0.5: True, 0.95: True, 0.99: False}
    assert any("rule min_cell" in note for note in result.notes)


def test_moving_a_patient_inside_a_merged_bin_changes_nothing():
    """Ages 45 to 50 are one bin under the rules: whether somebody is 45 or 50 is not in any quantile."""
    q = [float(one) for one in PROBABILITIES]
    before = helpers.ruled_lung().quantiles("age", q=q)

    after = helpers.ruled_lung(helpers.edited({"age": 45}, {"age": 50})).quantiles("age", q=q)

    assert after.to_dict() == before.to_dict()
    assert any(one.low_bound == 45 and one.high_bound == 50 for one in before.quantiles)


def test_quantiles_are_those_of_the_released_histogram():
    """Whoever has the histogram can work out the same quantiles and bounds: they hold nothing beyond it."""
    cohort = fedstats.pooled(helpers.lung_tables(), dictionary=helpers.lung_dictionary(), rules=fedstats.Rules(rounding=False)).cohort()
    for column in ("age", "wt.loss"):
        shown = cohort.histogram(column).bins
        counts, bins = [one.count for one in shown], [(one.start, one.stop - 1) for one in shown]
        for one in cohort.quantiles(column, q=[0.05, 0.25, 0.5, 0.9], type=6).quantiles:
            value, *bounds = quantile_of(counts, bins, registered(one.q), 6)

            assert [one.low_bound, one.high_bound] == bounds
            assert one.value in (None, value)


def test_a_quantile_in_joined_bins_is_bounded_and_not_guessed():
    """Where bins had to be joined there are bounds and no value; where not, the value is that without rules."""
    q = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
    exact = fedstats.Rules(rounding=False)
    ruled, free = (fedstats.pooled(helpers.lung_tables(), dictionary=helpers.lung_dictionary(), rules=rules)
                   .cohort().quantiles(["age", "ph.ecog"], q) for rules in (exact, fedstats.disclosure.NO_RULES))
    pairs = [pair for pair in zip(ruled.quantiles, free.quantiles) if pair[0].low_bound is not None]

    assert all(one.value in (None, other.value) for one, other in pairs)
    assert all(one.low_bound <= other.value <= one.high_bound for one, other in pairs)
    assert {one.value is None for one, _ in pairs} == {True, False}
    assert any("only the bounds are told" in note for note in ruled.notes)


def test_bounds_do_not_tell_the_smallest_value():
    """The lowest bound is the end of the dictionary's range, not the youngest patient."""
    result = helpers.ruled_lung().quantiles("age", q=[0.05], type=1)

    assert result["age", 0.05].low_bound == 18 and helpers.lung()["age"].min() == 39


def test_a_single_merged_bin_says_nothing():
    """Days of follow-up one by one are too fine for 212 patients: no quantile, and the note says what to change."""
    result = helpers.ruled_lung().quantiles("time")

    assert all(one.value is None for one in result.quantiles)
    assert any("coarser cut points" in note for note in result.notes)


def test_the_split_between_registries_does_not_matter():
    """The same patients in three other registries have the same quartiles."""
    frame = helpers.lung()
    other = fedstats.pooled(helpers.split(frame, np.arange(len(frame)) % 3), dictionary=helpers.lung_dictionary()).cohort()

    assert other.quantiles("age").quantiles == helpers.pooled_lung().cohort().quantiles("age").quantiles


def test_type_one_takes_the_exact_position():
    """0.35 x 20 people is the 7th person; 0.7 x 10 as well, whatever the rounding of 0.7."""
    assert quantile_of([1] * 10, [(k, k) for k in range(1, 11)], Fraction(7, 10), 1)[0] == 7
    assert quantile_of([1] * 20, [(k, k) for k in range(1, 21)], Fraction(7, 20), 1)[0] == 7
