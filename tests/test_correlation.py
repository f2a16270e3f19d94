"""correlation against R (stats_lung.csv) and scipy, and what it gives away."""

import numpy as np
import pytest
from scipy import stats

import fedstats
from fedstats import Rules
from fedstats.analyses.correlation.ranks import doubled_ranks, rank_correlation
from fedstats.disclosure.precision import p_told

from . import helpers

REL = 1e-9
PAIRS = [("age", "wt.loss"), ("age", "ph.karno"), ("time", "ph.ecog")]


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_pearson_equals_R(x, y):
    """r with Fisher's interval and the t test, as cor.test prints them."""
    found = helpers.pooled_lung().cohort().correlation([x, y])[x, y].pearson

    expected = {"r": found.r, "t": found.t, "df": found.df, "p": found.p, "ci_lower": found.low, "ci_upper": found.high}

    for quantity, value in expected.items():
        assert value == pytest.approx(helpers.reference("stats_lung", "pearson", f"x={x};y={y}", quantity), rel=REL)


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_spearman_equals_R(x, y):
    """rho from counts of every pair of values, with both intervals and the t approximation."""
    found = helpers.pooled_lung().cohort().correlation([x, y])[x, y].spearman
    expected = {"rho": found.rho, "p_t": found.p, "ci_lower_fisher": found.low, "ci_upper_fisher": found.high,
                "ci_lower_bonett_wright": found.low_bonett_wright, "ci_upper_bonett_wright": found.high_bonett_wright}

    for quantity, value in expected.items():
        assert value == pytest.approx(helpers.reference("stats_lung", "spearman", f"x={x};y={y}", quantity), rel=REL)
    assert found.exact


def test_matrix_equals_pandas():
    """Whole numbers, a boolean and a number without a step in one matrix: as pandas computes it from the rows."""
    names = ["age", "wt.loss", "event", "years", "time"]
    result = helpers.pooled_lung(years={"cut_points": {"from": 0, "to": 3, "step": 0.01}}).cohort().correlation(names)
    frame = helpers.lung()[names].astype(float)

    assert result.matrix() == pytest.approx(frame.corr().to_numpy(), rel=REL)
    exact = [0, 1, 2, 4]          # years are ranked in classes of a hundredth
    places = np.ix_(exact, exact)
    assert result.matrix("spearman")[places] == pytest.approx(frame.corr("spearman").to_numpy()[places], rel=REL)
    assert not result["years", "time"].spearman.exact and result["years", "time"].spearman.rho == pytest.approx(1, abs=1e-4)


def rho_of(x, y):
    """From margins and one sum of products, as registries compute it."""
    a, b = np.bincount(x), np.bincount(y)
    return rank_correlation(a, b, int((doubled_ranks(a)[x] * doubled_ranks(b)[y]).sum()))


def test_rank_correlation_of_random_tables_equals_scipy():
    """Mid-ranks from counts are those of the rows, however many ties."""
    random = np.random.default_rng(5)
    for _ in range(20):
        x, y = random.integers(0, 5, 60), random.integers(0, 7, 60)

        assert rho_of(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, rel=REL)


def test_perfect_correlation_has_no_interval_beyond_one():
    """Days and years of follow-up are the same thing in other units; complete agreement of ranks is 1."""
    result = helpers.pooled_lung().cohort().correlation(["time", "years"], method="pearson")

    assert result["time", "years"].pearson.r == pytest.approx(1, abs=1e-12)
    assert result["time", "years"].pearson.high <= 1
    assert rho_of(np.repeat([0, 1, 2], [3, 4, 5]), np.repeat([0, 1, 2], [3, 4, 5])) == pytest.approx(1)


def test_columns_are_symmetric():
    """Asking in another order gives the same coefficients."""
    cohort = helpers.pooled_lung().cohort()
    one, other = cohort.correlation(["age", "wt.loss"])["wt.loss", "age"], cohort.correlation(["wt.loss", "age"])["age", "wt.loss"]

    assert one.pearson.r == pytest.approx(other.pearson.r, rel=1e-12)
    assert one.spearman.rho == pytest.approx(other.spearman.rho, rel=1e-12)


def correlated(rules):
    fed = fedstats.pooled(helpers.lung_tables(), dictionary=helpers.lung_dictionary(), rules=rules)
    return fed.cohort().correlation(["age", "wt.loss", "ph.karno", "event"])


def test_under_rules_a_rank_correlation_is_that_of_the_pooled_table():
    """Nothing is merged: every coefficient is the one without rules, to what one patient moves, or hidden."""
    exact, found = correlated(None), correlated(Rules())
    shown = [(one.spearman, other.spearman) for one, other in zip(found.pairs, exact.pairs) if one.spearman is not None]

    assert len(shown) == 6
    for one, other in shown:
        assert one.rho == pytest.approx(other.rho, abs=1.26 / found.n)      # half of a step of 1 / n, at most 2.5 times as coarse
        assert one.p == p_told(other.p)
        assert one.classes == other.classes and one.exact == other.exact


def test_ranks_of_a_rare_yes_or_no_are_not_released():
    """Six have an event: its rank correlation with anything would be their rank sum."""
    frame = helpers.lung()
    frame["event"] = np.arange(len(frame)) < 6
    tables = helpers.split(frame, frame["inst"].to_numpy().astype(int) % 4)
    asked = fedstats.pooled(tables, dictionary=helpers.lung_dictionary(), rules=Rules()).cohort().correlation(["age", "event", "wt.loss"])

    assert asked["age", "event"].spearman is None and asked["age", "event"].pearson is None
    assert asked["age", "wt.loss"].spearman is not None
    assert any('Spearman of "age" and "event" not released' in note for note in asked.notes)
