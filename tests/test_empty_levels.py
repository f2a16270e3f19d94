"""A level that nobody in the whole data-cut of any registry has hides nobody; one that is empty in a cohort only is a small cell."""

import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.disclosure.suppression import Shown, show_table

BOOK = Dictionary.from_dict({"name": "sexes", "variables": [
    {"name": "sex", "type": "category", "levels": ["F", "M", "U"]}, {"name": "arm", "type": "category", "levels": ["a", "b"]},
    {"name": "age", "type": "integer", "range": [18, 80], "cut_points": {"from": 20, "to": 80, "step": 10}},
    {"name": "years", "type": "number", "range": [0, 10], "step": 0.5, "cut_points": {"from": 0, "to": 10, "step": 0.5}},
    {"name": "died", "type": "boolean"}]})
SHARES = ("lyon", "turin", "bonn")


def patients(unknown=0, unknown_age=70):
    """900 patients; so many of sex U, all of one age."""
    random = np.random.default_rng(4)
    n = 900
    sex = np.where(random.random(n) < 0.7, "F", "M").astype(object)
    age = random.integers(18, 60, n)
    sex[:unknown], age[:unknown] = "U", unknown_age
    return {"patient_id": np.arange(n), "sex": sex, "arm": random.choice(["a", "b"], n), "age": age,
            "years": np.ceil(random.uniform(0, 10, n) * 2) / 2, "died": random.random(n) < 0.5}


def cohort(table, where=(), world=fedstats.pooled):
    shares = {name: {column: np.asarray(values, dtype=object)[k::3] for column, values in table.items()} for k, name in enumerate(SHARES)}
    return world(shares, dictionary=BOOK, rules=Rules()).cohort(where=list(where))


@pytest.mark.parametrize("world", [fedstats.pooled, fedstats.simulate], ids=["pooled", "simulate"])
def test_a_level_that_nobody_has_hides_nobody(world):
    """Men are shown everywhere: in Table 1, tables, means, rates, curves, tests and histograms."""
    c = cohort(patients(), world=world)
    found = c._federation.ask(
        c.question.table_one(["sex", "age"], by="arm"), c.question.crosstab("sex", "arm"), c.question.compare("age", by="sex"),
        c.question.rates(events="died", time="years", by="sex"), c.question.kaplan_meier(time="years", event="died", by="sex"),
        c.question.logrank(time="years", event="died", by="sex"), c.question.histogram("age", by="sex"))
    table, cross, means, rates, curves, test, bins = found

    assert all(cell.count is not None for level in table["sex"].levels for cell in level.cells) and table["sex"].p is not None
    assert not cross.suppressed and cross.chi2 is not None
    assert [one.n is None for one in means.groups] == [False] * 3 and means.wilcoxon is not None
    assert [one.n for one in rates.rates[:3]] == [one.n for one in means.groups] and rates.rates[0].rate is not None
    assert len(curves["M"].times) > 3 and curves["U"].n == 0
    assert test.chi2 is not None and test["U"].n == 0
    assert {one.group for one in bins.bins} == {"F", "M"}


@pytest.mark.parametrize("unknown", [3, 40])
def test_a_level_that_is_empty_in_the_cohort_only_is_a_small_one(unknown):
    """U is nobody below 60, but somebody has it: whether 0 or 1 to 9 are in the cohort is not told, and M goes with it."""
    few = cohort(patients(unknown), where=[("age", "<", 60)]).crosstab("sex")
    some = cohort(patients(unknown, unknown_age=30), where=[("age", "<", 60)]).crosstab("sex")

    assert [cell.count is None for cell in few.cells] == [False, True, True]
    assert [cell.count is None for cell in some.cells] == [False, True, True] if unknown < 10 else not some.suppressed


def test_one_registry_that_has_the_level_is_enough_to_keep_it():
    """What counts is the data-cut of all registries, not that of one."""
    table = patients(1)

    assert [cell.count is None for cell in cohort(table).crosstab("sex").cells] == [False, True, True]


def test_vacant_lines_are_zeros_that_hide_nothing():
    """They are shown, and no cell of them is taken for a complement."""
    counts = np.array([[30, 4, 0], [40, 50, 0], [0, 0, 0]])
    vacant = [np.array([False, False, True]), np.array([False, False, True])]
    found = show_table(counts, np.full(counts.shape, 3), Rules(), vacant=vacant)

    assert (found.cells[2] == 0).all() and (found.cells[:, 2] == 0).all()
    assert found.cells[0, 1] == Shown.HIDDEN and (found.cells[:2, :2] == Shown.HIDDEN).sum() == 4
    assert show_table(counts, np.full(counts.shape, 3), Rules()).hidden > found.hidden
