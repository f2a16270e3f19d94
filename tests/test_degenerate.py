"""Comparisons where there is nothing, or everything, to tell groups apart: infinite, not a number
or none, never a plain-looking value."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fedstats
from fedstats import Rules
from fedstats.analyses.compare import welch_p
from fedstats.analyses.crosstab import wilson
from fedstats.analyses.regression.coefficients import coefficients_of, exp_or_inf, lr_test, wald
from fedstats.analyses.shared.moments import Moments
from fedstats.analyses.survival.logrank import quadratic
from fedstats.analyses.table_one import smd_of_means, smd_of_shares
from fedstats.analyses.validation.classes import wilson as wilson_of_shares
from fedstats.errors import QuestionError


def cohort(frame, variables, world=fedstats.pooled, rules=None):
    return world(
        {f"r{k}": frame.iloc[k::3] for k in range(3)},
        dictionary={"name": "d", "variables": variables},
        rules=rules,
    ).cohort()


# -- standardised differences
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_groups_that_share_no_level_differ_infinitely_whatever_the_order_of_levels(order):
    """90 have A; of 90 others half have B and half C. No finite difference, as for two levels."""
    disjoint, some = (
        np.array([[90, 0, 0], [0, 45, 45]])[:, order],
        np.array([[60, 30, 0], [30, 60, 0]])[:, order],
    )

    assert smd_of_shares(disjoint) is None
    assert (
        smd_of_shares(np.vstack([disjoint, [30, 30, 30]])) is None
    )  # one such pair among three groups
    assert smd_of_shares(some) == pytest.approx(abs(2 / 3 - 1 / 3) / math.sqrt(2 / 9))
    assert (
        smd_of_shares(np.array([[1, 1, 88], [0, 45, 45]])[:, order]) is not None
    )  # one level in common is enough


def test_disjoint_levels_in_a_table_one_are_named():
    frame = pd.DataFrame(
        {
            "arm": ["t"] * 90 + ["c"] * 90,
            "x": ["Schübe"] * 90 + ["weiß nicht"] * 45 + ["C"] * 45,
            "score": [1] * 90 + [2] * 90,
        }
    )
    variables = [{"name": "arm", "type": "category", "levels": ["t", "c"]},
                 {"name": "x", "type": "category", "levels": ["Schübe", "weiß nicht", "C"]},
                 {"name": "score", "type": "integer", "range": [0, 100]}]
    for world in (fedstats.pooled, fedstats.simulate):
        found = cohort(frame, variables, world, Rules(show_zeros=True)).table_one(
            ["x", "score"], by="arm"
        )

        assert [one.smd for one in found.characteristics] == [None, None] and found["x"].p < 0.001
        assert sum("is infinite" in note for note in found.notes) == 2


def test_means_without_spread():
    """Two constant groups: the same value differs by 0, another one infinitely; one constant group
    has a finite difference."""
    same, other, spread = Moments(5, 2.0, 0.0), Moments(5, 3.0, 0.0), Moments(5, 3.0, 8.0)

    assert (
        smd_of_means([same, same]) == 0
        and smd_of_means([same, other]) is None
        and smd_of_means([same, spread, other]) is None
    )
    assert smd_of_means([same, spread]) == pytest.approx(1.0)


def test_welch_with_a_constant_group_equals_scipy():
    """As R's t.test: one of the two groups may be constant."""
    constant, varied = [5.0] * 6, [1.0, 2.0, 4.0, 7.0]
    frame = pd.DataFrame({"y": constant + varied, "g": ["a"] * 6 + ["b"] * 4})
    found = cohort(
        frame,
        [
            {"name": "y", "type": "integer", "range": [0, 10]},
            {"name": "g", "type": "category", "levels": ["a", "b"]},
        ],
    )
    expected = stats.ttest_ind(constant, varied, equal_var=False)
    test, table = found.compare("y", by="g").welch, found.table_one(["y"], by="g")["y"]

    assert (test.t, test.p, test.df) == pytest.approx(
        (expected.statistic, expected.pvalue, expected.df), rel=1e-12
    )
    assert table.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert (
        welch_p([Moments(5, 2.0, 0.0), Moments(5, 3.0, 0.0)]) is None
        and welch_p([Moments(1, 2.0, 0.0), Moments(5, 3.0, 1.0)]) is None
    )


# -- tests of coefficients
# ------------------------------------------------------------------------------------------------------------


def test_wald_statistics_without_an_inverse():
    cov = np.array([[1.0, 2.0], [2.0, 4.0]])

    assert math.isnan(wald([1.0, 1.0], cov, [0, 1])[0])  # of rank 1
    assert wald([1.0, 0.0], np.zeros((2, 2)), [0, 1]) == (
        math.inf,
        2,
    )  # known without error, and not 0
    assert math.isnan(wald([0.0, 0.0], np.zeros((2, 2)), [0, 1])[0])
    assert math.isnan(wald([1.0], np.full((1, 1), math.nan), [0])[0])
    assert wald([1.0, 1e-9], np.diag([1.0, 1e-18]), [0, 1])[0] == pytest.approx(
        2.0
    )  # small is not singular


def test_coefficients_with_and_without_an_error():
    some = coefficients_of(["a", "b", "c"], [2.0, 0.0, 800.0], np.diag([0.0, 0.0, 1.0]))

    assert (some[0].z, some[0].p, some[0].lower) == (math.inf, 0.0, 2.0)
    assert math.isnan(some[1].z) and math.isnan(some[1].p) and some[2].exp_coef == math.inf
    nothing = coefficients_of(["a"], [2.0], np.full((1, 1), math.nan), t_df=0, ratios=False)[0]
    assert nothing.exp_coef is None and all(
        math.isnan(one) for one in (nothing.se, nothing.lower, nothing.z, nothing.p)
    )
    assert (
        exp_or_inf(709.0) == math.exp(709.0)
        and exp_or_inf(710.0) == math.inf
        and math.isnan(exp_or_inf(math.nan))
    )
    assert lr_test("a", math.inf, 3.0, 1).chi2 == math.inf and math.isnan(
        lr_test("a", math.inf, math.inf, 1).p
    )


def test_the_log_rank_test_counts_the_comparisons_that_there_are():
    """Two pairs of groups, each compared in a stratum of its own: two degrees of freedom, the sum
    of the two tests."""
    one = np.array([[2.0, -2.0], [-2.0, 2.0]])
    both = np.block([[one, np.zeros((2, 2))], [np.zeros((2, 2)), 2 * one]])
    excess = np.array([1.0, -1.0, 3.0, -3.0])

    assert quadratic(excess, both, np.ones(4)) == (pytest.approx(1 / 2 + 9 / 4), 2)
    assert quadratic(excess[:2], one, np.ones(2)) == (pytest.approx(1 / 2), 1)
    assert quadratic(np.zeros(2), np.zeros((2, 2)), np.ones(2)) == (0.0, 0)


@pytest.mark.parametrize("n", [1, 7, 10, 33, 1000])
def test_wilson_intervals_end_exactly_where_nobody_or_everybody_has_it(n):
    assert wilson(0, n, 0.95)[:2] == (0.0, 0.0) and wilson(n, n, 0.95)[2] == 1.0
    assert wilson_of_shares(0.0, n, 0.95)[0] == 0.0 and wilson_of_shares(1.0, n, 0.95)[1] == 1.0
    assert wilson(1, n + 1, 0.95)[1] > 0 and wilson(n, n + 1, 0.95)[2] < 1


def test_percentages_are_rounded_once():
    """2 001 of 6 000 is 33.35 %: as a share of four digits 0.3335, from there 33.4, or 33.3."""
    counts = {"a": 2001, "b": 1999, "c": 2000}
    frame = pd.DataFrame({"x": np.repeat(list(counts), list(counts.values()))})
    found = cohort(
        frame, [{"name": "x", "type": "category", "levels": list(counts)}], rules=Rules()
    ).table_one(["x"])
    cells = [row[1] for row in found.printed().rows[1:]]

    assert [cell.partition("(")[2] for cell in cells] == [
        f"{100 * one / 6000:.1f}%)" for one in counts.values()
    ]


# -- correlation
# -----------------------------------------------------------------------------------------------------------------------


def test_a_constant_number_without_step_has_no_correlation():
    """0.1 in every row: what is left of its variance is rounding."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": np.full(300, 0.1), "y": rng.random(300)})
    found = cohort(
        frame, [{"name": name, "type": "number", "range": [0, 1]} for name in "xy"]
    ).correlation(["x", "y"])

    assert found["x", "y"].pearson is None and any("not defined" in note for note in found.notes)


# -- models
# ----------------------------------------------------------------------------------------------------------------------------

MODEL = [
    {"name": "event", "type": "boolean"},
    {"name": "drug", "type": "category", "levels": ["A", "B", "Ö"]},
    {"name": "sex", "type": "boolean"},
    {"name": "w", "type": "number", "range": [0, 2]},
    {"name": "age", "type": "integer", "range": [0, 99]},
    {"name": "months", "type": "integer", "range": [1, 100]},
]


def patients(n=600):
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "event": rng.random(n) < 0.5,
            "drug": rng.choice(["A", "B", "Ö"], n),
            "sex": rng.random(n) < 0.5,
            "w": rng.integers(0, 3, n),
            "age": rng.integers(20, 80, n),
            "months": rng.integers(1, 100, n),
        }
    )


@pytest.mark.parametrize(
    ("drug", "sex", "event", "who"), [("A", False, False, "nobody"), ("Ö", True, True, "everybody")]
)
def test_separation_in_a_cell_of_an_interaction_names_the_cell(drug, sex, event, who):
    frame = patients()
    frame.loc[(frame["drug"] == drug) & (frame["sex"] == sex), "event"] = event
    with pytest.raises(QuestionError, match="separation") as caught:
        cohort(frame, MODEL).glm("event ~ drug*sex", family="binomial")

    assert (
        f'the level "{drug}" of "drug" and the level "{str(sex).lower()}" of "sex" {who} has the event'
        in str(caught.value)
    )
    cohort(frame, MODEL).glm(
        "event ~ drug + sex", family="binomial"
    )  # without the interaction there is no such coefficient


def test_rows_of_weight_0_count_in_no_model():
    frame = patients()
    used = int((frame["w"] > 0).sum())
    found = cohort(frame, MODEL)

    assert found.glm("age ~ drug", weights="w").rows == used
    for formula in ("Surv(months, event) ~ age", "Surv(months, event) ~ age + strata(registry)"):
        assert found.cox(formula, weights="w").rows == used
    assert found.piecewise("Surv(months, event) ~ age", cuts=[30, 60], weights="w").rows == used


def test_a_result_with_registry_intercepts_says_what_its_null_model_is():
    found = cohort(patients(), MODEL)
    own, one = (found.glm(f"age ~ sex{more}") for more in (" + strata(registry)", ""))

    assert (
        any("registries' intercepts alone" in note for note in own.notes)
        and own.null_deviance < one.null_deviance
    )
    assert not any("intercepts alone" in note for note in one.notes)


def test_weights_to_the_treated_are_not_stabilised_and_say_so():
    data = cohort(patients(), MODEL)
    propensity = data.glm("sex ~ age", family="binomial")
    with pytest.raises(QuestionError, match="not stabilised"):
        propensity.inverse_probability(estimand="att", stabilised=True)
    weights = propensity.inverse_probability(estimand="att")

    assert (
        weights == propensity.inverse_probability(estimand="att", stabilised=False)
        and weights.share is None
    )
    assert any(
        "not stabilised" in note for note in data.glm("age ~ sex", weights=weights, se="HC0").notes
    )
    with pytest.raises(QuestionError, match="not stabilised"):
        data.glm(
            "age ~ sex",
            weights={
                "treatment": "sex",
                "terms": [],
                "coefficients": [0.0],
                "estimand": "att",
                "share": 0.5,
            },
        )
