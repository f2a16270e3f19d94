"""Numbers of few values: mean and SD are a table of people, and what is shown instead."""

import itertools

import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses.regression.outcome_moments import Implied
from fedstats.disclosure import few_valued as rule
from fedstats.disclosure.few_valued import few_in, few_valued
from fedstats.disclosure.precision import mean_step, sd_step
from fedstats.errors import Refused
from fedstats.query.analysis import Failed

BOOK = Dictionary.from_dict({"name": "counts", "variables": [
    {"name": "relapses", "type": "integer", "range": [0, 20]},
    {"name": "attacks", "type": "integer", "range": [0, 20]},
    {"name": "lesions", "type": "integer", "range": [0, 500]},
    {"name": "age", "type": "integer", "range": [18, 90]},
    {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5},
    {"name": "group", "type": "category", "levels": ["a", "b", "c", "d"]},
]})


def table(seed, n=400, rate=0.4):
    random = np.random.default_rng(seed)
    relapses = random.poisson(rate, n)
    return {"relapses": relapses, "attacks": relapses + random.poisson(0.3, n), "lesions": random.poisson(rate, n),
            "age": random.integers(20, 70, n), "edss": random.integers(0, 15, n) / 2,
            "group": np.array(list("abcd"), dtype=object)[random.integers(0, 4, n)]}


def three_values(seed):
    """As `table`, with 0, 1 and 2 relapses in a hundred of each group, in every registry."""
    columns, k = table(seed, 1200), np.arange(1200)
    order = np.random.default_rng(seed).permutation(1200)
    return columns | {"group": np.array(list("abcd"), dtype=object)[k % 4][order], "relapses": (k // 4 % 3)[order]}


def federation(columns, rules):
    shares = {f"r{k}": {name: np.asarray(column, dtype=object)[k::3] for name, column in columns.items()} for k in range(3)}
    return fedstats.pooled(shares, dictionary=BOOK, rules=rules)


@pytest.mark.parametrize(("values", "few"), [
    ([0] * 50 + [1] * 20 + [2] * 5, True),              # relapses
    ([3] * 60, True),                                   # one value
    (list(range(20, 80)) * 3, False),                   # ages
    ([0] * 290 + [20] * 10, True),                      # mean 0.7, SD 3.6: 0 to 7
    (list(range(8)) * 9, False),                        # SD 2.3: 0 to 8
    (list(range(7)) * 9, True),
])
def test_few_values_are_counted_in_steps(values, few):
    """Fewer than eight steps within mean +- 2 SD, from whole numbers alone; the same from counts."""
    x = np.array(values)
    assert few_valued(len(x), int(x.sum()), int((x * x).sum()), 90) is few
    assert few_in(np.bincount(x, minlength=91)) is few


def test_few_values_are_those_of_floating_point_where_it_is_sure():
    """300 random tables, against mean and SD by numpy."""
    random = np.random.default_rng(4)
    for _ in range(300):
        x = random.negative_binomial(random.uniform(0.3, 4), random.uniform(0.1, 0.9), random.integers(2, 200))
        x = np.minimum(x, 40)
        low, high = (x.mean() + sign * 2 * x.std(ddof=1) for sign in (-1, 1))
        if min(abs(low - round(low)), abs(high - round(high))) < 1e-9:
            continue
        inside = [k for k in range(41) if low <= k <= high] or [0]
        assert few_valued(len(x), int(x.sum()), int((x * x).sum()), 40) is (inside[-1] - inside[0] < 8)


# -- the attack --------------------------------------------------------------------------------------------

VALUES = np.arange(1, 5)
TABLES = np.stack(np.meshgrid(*(np.arange(k) for k in (71, 31, 13, 7)), indexing="ij"), -1).reshape(-1, 4)
SUMS, SQUARES, PEOPLE = TABLES @ VALUES, TABLES @ VALUES**2, TABLES.sum(axis=1)


def tables_that_fit(n, mean, sd):
    """Every way in which people have 1, 2, 3 and 4 that gives mean and SD to the digits that are told."""
    spread = np.sqrt(np.maximum(SQUARES - SUMS**2 / n, 0) / (n - 1))
    near = abs(SUMS / n - mean) <= mean_step(sd, n) / 2 * 1.01
    return TABLES[near & (abs(spread - sd) <= sd_step(sd, n) / 2 * 1.01) & (n >= PEOPLE)]


def given_away(rules, ask):
    """Groups of which one table fits, and it is the true one; and groups with a mean."""
    found = means = 0
    for seed in range(12):
        columns = table(seed, rate=0.25)
        for name, one in ask(federation(columns, rules).cohort()):
            x = columns["relapses"][columns["group"] == name]
            means += one.mean is not None
            if one.sd:
                fits = tables_that_fit(len(x), one.mean, one.sd)
                true = np.bincount(x, minlength=5)[1:]
                found += len(fits) == 1 and fits[0].tolist() == true.tolist() and bool(((true > 0) & (true < 10)).any())
    return found, means


def by_compare(cohort):
    return [(one.group, one) for one in cohort.compare("relapses", by="group").groups]


def by_table_one(cohort):
    found = cohort.table_one(["relapses"], by="group")
    return zip(found.columns[1:], found["relapses"].means[1:])


@pytest.mark.parametrize("ask", [by_compare, by_table_one])
def test_attack_the_table_of_a_count_follows_from_mean_and_sd(ask, monkeypatch):
    """With the rule off some tables follow to the last person; with it on none does, and means stand alone."""
    assert given_away(Rules(), ask)[0] == 0 and given_away(Rules(), ask)[1] > 24

    monkeypatch.setattr(rule, "FEW_STEPS", 0)
    assert given_away(Rules(), ask)[0] > 3


# -- what is shown instead -----------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["relapses", "lesions"])
def test_the_mean_stands_alone(column):
    """Also of a number of so many steps that its values are not counted."""
    columns = table(1)
    cohort = federation(columns, Rules()).cohort()
    one = cohort.summary([column, "age"])
    mean = columns[column].mean()

    assert one[column].mean == pytest.approx(mean, abs=1.26 / 400)
    assert (one[column].sd, one[column].se, one[column].low, one[column].high) == (None,) * 4
    assert one["age"].sd is not None
    assert any(f'SD of "{column}"' in note and "rule few values" in note for note in one.notes)
    found = cohort.compare(column, by="group")
    assert found.anova is None and found.kruskal is None and all(each.mean is not None and each.sd is None for each in found.groups)
    first = cohort.table_one([column, "age"], by="group")
    assert first[column].smd is None and first[column].p is None and first["age"].smd is not None
    assert first[column].means[0].mean is not None and first[column].means[0].sd is None


def test_everything_is_shown_where_the_whole_table_could_be():
    """Nobody has three relapses, and each other number at least ten people of each group have."""
    found = federation(three_values(2), Rules()).cohort().compare("relapses", by="group")

    assert found.anova is not None and found.kruskal is not None and all(one.sd is not None for one in found.groups)


def test_a_sum_of_few_events_has_no_mean():
    """Four patients had one relapse each: a mean alone would be their number."""
    columns = table(3)
    columns["relapses"] = (np.arange(400) < 4).astype(int)
    assert federation(columns, Rules()).cohort().summary("relapses")["relapses"].mean is None


def test_a_hidden_sd_does_not_follow_from_the_others():
    """One group has a rare value: with its SD another one's goes, as the SD of everybody may be known."""
    columns = three_values(5)
    columns["relapses"][np.flatnonzero(columns["group"] == "b")[:2]] = 5
    groups = federation(columns, Rules()).cohort().compare("relapses", by="group").groups

    assert [one.sd is None for one in groups] == [True] * 4             # five relapses stay two people in all of them together
    assert all(one.mean is not None for one in groups)
    columns["relapses"][np.flatnonzero(columns["group"] == "c")[:10]] = 5
    groups = federation(columns, Rules()).cohort().compare("relapses", by="group").groups
    assert [one.sd is None for one in groups] == [True, True, True, False]      # twelve in the first three together


def test_correlations_of_two_counts_are_their_table():
    """Relapses with attacks: not shown. Relapses with age: an average."""
    found = federation(table(6), Rules()).cohort().correlation(["relapses", "attacks", "age"])

    assert found["relapses", "attacks"].pearson is None and found["relapses", "attacks"].spearman is None
    assert found["relapses", "age"].pearson is not None and found["relapses", "age"].spearman is not None


@pytest.mark.parametrize(("formula", "family"), [("relapses ~ 1", "gaussian"), ("relapses ~ group", "gaussian"),
                                                 ("relapses ~ group", "poisson"), ("lesions ~ 1", "gaussian")])
def test_a_model_of_groups_is_a_table_of_means(formula, family):
    """An intercept is a mean, its standard error an SD; with the rules off they are there."""
    columns = table(7)
    with pytest.raises(Refused, match="few values"):
        federation(columns, Rules()).cohort().glm(formula, family=family)
    assert federation(columns, None).cohort().glm(formula, family=family).coefficients


def test_beside_a_covariate_of_many_values_the_null_model_is_kept_back():
    """The null deviance is the SD of everybody; coefficients are averages."""
    found = federation(table(8), Rules()).cohort().glm("relapses ~ age", lr=True)
    assert found.null_deviance is None and not any(one.term == "(model)" for one in found.tests)
    assert any("null deviance" in note for note in found.notes)
    assert federation(table(8), Rules()).cohort().glm("edss ~ group").null_deviance is not None
    assert Implied("relapses", (), ("age",), BOOK).asked == ()      # weights of many values: every row is another one


def test_moments_beside_the_table_they_complete_are_refused():
    """A crosstab hides three rare numbers of relapses, a histogram joins them: with the mean they would follow. Of a number of many
    values nothing does."""
    make = federation(table(9), Rules()).cohort().question
    fed = federation(table(9), Rules())
    for mean, counts in itertools.product((make.summary("relapses"), make.compare("relapses", by="group")),
                                          (make.crosstab("relapses"), make.histogram("relapses"))):
        for pair in ((mean, counts), (counts, mean)):
            assert [isinstance(one, Failed) for one in fed.ask(*pair)] == [False, True]
    for counts in (make.crosstab("edss"), make.histogram("edss")):
        assert not any(isinstance(one, Failed) for one in fed.ask(make.summary("edss"), counts))
