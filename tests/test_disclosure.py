"""Release rules: what may be said about totals, for every analysis and for several questions at once."""

import itertools
import math

import msgspec
import numpy as np
import pytest

import fedstats
from fedstats import Rules
from fedstats.disclosure import FLOORS, NO_RULES, gate, intervals, may_count, may_imply, merged, safe, strictest
from fedstats.disclosure.precision import BELOW_P, Precision, _kinds, rounded
from fedstats.disclosure.suppression import Shown, show_table
from fedstats.errors import FedstatsError, InputError, Refused
from fedstats.query.analysis import ANALYSES, Failed

from . import every
from .questions import calls

OPEN = Rules(min_cell=1, min_cohort=1, min_registries=1, show_zeros=True, rounding=False)

# Whole numbers in results that do not count people or events.
NOT_PEOPLE = {
    "registries",       # that took part
    "suppressed",       # cells that are hidden
    "registered",       # bins of the dictionary
    "classes",          # of values, in rank tests and rank correlations
    "df", "df1", "df2",     # degrees of freedom
    "type",             # of quantiles, Hyndman & Fan
    "rho",              # weight of Peto-Peto and Fleming-Harrington tests
    "folds",            # of a cross-validation
    "risk_bins", "times",       # intervals of the linear predictor, of time
    "confidence", "per", "q", "tau",
}
# how a model was made, what it is, and where it may be asked: not who is in it
SETTINGS = {"parameters", "trees", "columns", "cost", "seen"}


def whole_numbers(content, path=()):
    """Every int of a result with the keys that lead to it; floats that are whole and stand under a name of counts as well."""
    if isinstance(content, bool) or content is None or isinstance(content, str):
        return
    if isinstance(content, dict):
        for name, one in content.items():
            yield from whole_numbers(one, (*path, name))
    elif isinstance(content, (list, tuple)):
        for one in content:
            yield from whole_numbers(one, path)
    elif isinstance(content,
                    int) or (path[-1] in ("observed", "events", "at_risk", "censored", "count", "n") and float(content).is_integer()):
        yield path, int(content)


MODELS = {"glm", "cox", "piecewise", "ordinal", "multinomial"}     # refused for so few patients: a model needs ten per number
LARGER = 40


def small_tables(seed, larger=1):
    """Four registries with 15 to 45 patients, some levels rare, one column missing at the last registry."""
    rng = np.random.default_rng(seed)
    tables = {}
    for k in range(4):
        n = larger * int(rng.integers(15, 45))
        table = every.random_rows(n, rng)
        table["ecog"] = np.array([None if v is None else min(int(rng.geometric(0.55)) - 1, 4) for v in table["ecog"]], dtype=object)
        table["sex"] = np.array([None if v is None else "F" if rng.random() < 0.85 else "M" for v in table["sex"]], dtype=object)
        table["event"] = np.array([None if v is None else rng.random() < 0.25 for v in table["event"]], dtype=object)
        tables[f"r{k}"] = on_the_grid(table) if larger > 1 else table
    del tables["r3"]["relapses"]
    return tables


def on_the_grid(table):
    """Nobody's time ends on the day it begins, or after the last cut point: a few events there are rightly refused in models."""
    for name, last in (("days", 3630), ("years", 20)):
        table[name] = np.array([None if v is None else min(max(v, 1), last) for v in table[name]], dtype=object)
    return table


@pytest.mark.parametrize(("name", "args", "kwargs"), calls(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_no_result_shows_a_small_number_of_people(name, args, kwargs):
    """Whatever the analysis: no whole number that counts people lies below the smallest cell, on many small tables."""
    shown, seeds = 0, 4 if name in MODELS else 12
    for seed in range(seeds):
        k = 5 + seed % 6
        rules = Rules(min_cell=k, min_cohort=20, min_registries=1 + seed % 3, show_zeros=bool(seed % 2), rounding=False)
        fed = fedstats.pooled(small_tables(seed, LARGER if name in MODELS else 1), dictionary=every.DICTIONARY, rules=rules)
        try:
            result = getattr(fed.cohort(), name)(*args, **kwargs).to_dict()
        except Refused:
            continue
        shown += 1
        for path, value in whole_numbers(result):
            if path[-1] not in NOT_PEOPLE and path[0] not in SETTINGS:
                # intervals of a curve hold nobody or enough (DISCLOSURE, survival curves), and nobody may be missing
                nobody = rules.show_zeros or path[0] == "size" or (path[0] == "groups" and path[-1] in ("events", "censored"))
                assert value >= k or (value == 0 and nobody), (path, value, k)
    assert shown >= seeds / 2


@pytest.mark.parametrize(("name", "args", "kwargs"), calls(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_a_hidden_group_does_not_follow_from_the_others(name, args, kwargs):
    """The sizes of groups that are shown, taken from the total, never leave a small number."""
    for seed in range(12):
        k = 5 + seed % 6
        rules = Rules(min_cell=k, min_cohort=20, min_registries=1, rounding=False)
        fed = fedstats.pooled(small_tables(seed), dictionary=every.DICTIONARY, rules=rules)
        try:
            result = getattr(fed.cohort(), name)(*args, **kwargs).to_dict()
        except Refused:
            continue
        for field in ("groups", "rates", "sizes"):
            groups = [one if isinstance(one, dict) else {"group": str(at), "n": one} for at, one in enumerate(result.get(field, ()))]
            groups = [one for one in groups if isinstance(one, dict) and "n" in one and one.get("group") not in ("overall", "all")]
            groups = groups[1:] if field == "sizes" else groups         # table_one: the first column is everybody
            hidden = [one for one in groups if one["n"] is None]
            left = result["size"]["n"] - sum(one["n"] or 0 for one in groups)
            assert not hidden or left >= k, (field, groups, result["size"])


def test_the_search_for_small_numbers_finds_them():
    """The control: without rules the same tables show small numbers."""
    fed = fedstats.pooled(small_tables(0), dictionary=every.DICTIONARY)
    found = [value for path, value in whole_numbers(fed.cohort().crosstab("sex", "ecog").to_dict()) if path[-1] not in NOT_PEOPLE]

    assert any(0 < value < 5 for value in found)


def test_every_analysis_is_searched():
    """A new analysis has an example question, and so takes part here."""
    assert {name for name, _, _ in calls()} == {name.partition("/")[0] for name in ANALYSES}


# -- gate --------------------------------------------------------------------------------------------------------------------


def test_the_gate_names_the_rule_and_never_the_number():
    """Too few patients, or too few registries: which rule, what to change, no count."""
    rules = Rules()
    gate(50, 3, rules)
    for n, registries, words in ((49, 3, "min_cohort"), (50, 2, "min_registries"), (0, 0, "min_cohort")):
        with pytest.raises(Refused, match=words) as caught:
            gate(n, registries, rules)
        assert caught.value.hint and str(n) not in str(caught.value).replace("50", "").replace("3", "")


def test_a_cohort_is_a_cell_too():
    """Where cells must be larger than cohorts, cohorts must be as large as cells: n is printed on every result."""
    with pytest.raises(Refused, match="min_cell"):
        gate(15, 3, Rules(min_cell=20, min_cohort=10))


def tables(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return {f"r{k}": every.random_rows(n, rng) for k, n in enumerate(sizes)}


def test_a_small_cohort_is_refused_before_anything_else_is_opened():
    """49 patients are asked for one round only, and nothing is said about them."""
    fed = fedstats.pooled(tables(20, 15, 14), dictionary=every.DICTIONARY, rules=Rules())
    with pytest.raises(Refused, match="fewer than 50 patients"):
        fed.cohort().summary("age")


def test_a_cohort_from_two_registries_is_refused():
    """Three must have people in it: otherwise one of two would read the other's numbers."""
    fed = fedstats.pooled(tables(60, 60, 0), dictionary=every.DICTIONARY, rules=Rules())
    with pytest.raises(Refused, match="min_registries"):
        fed.cohort().summary("age")


# -- numbers of missing values -----------------------------------------------------------------------------------------------


def gappy(**missing):
    """Three registries of 100; per column, which patients (0 to 299) lack it."""
    full = {"age": np.full(300, 40, dtype=object), "edss": np.full(300, 2.0, dtype=object), "ecog": np.tile([0, 1, 2], 100).astype(object),
            "female": np.tile([True, False], 150).astype(object)}
    for name, patients in missing.items():
        full[name][list(patients)] = None
    return {f"r{k}": {name: column[k::3] for name, column in full.items()} for k in range(3)}


def sizes(tables, *columns):
    """The sizes of several summaries asked in one query."""
    fed = fedstats.pooled(tables, dictionary=every.DICTIONARY, rules=Rules())
    cohort = fed.cohort()
    return [result.size for result in fed.ask(*(cohort.question.summary(list(names)) for names in columns))]


def test_numbers_of_missing_values_are_shown_where_they_are_safe():
    """Nobody or at least ten: n, n_missing and the cohort's size are printed."""
    (size,) = sizes(gappy(age=range(20)), ["age", "edss"])

    assert (size.n, size.n_missing, size.cohort, dict(size.missing)) == (280, 20, 300, {"age": 20, "edss": 0})


def test_a_small_number_of_missing_values_is_not_shown():
    """Three patients without an age: neither their number nor the cohort's size."""
    (size,) = sizes(gappy(age=range(3)), ["age", "edss"])

    assert (size.n, size.n_missing, size.cohort, dict(size.missing)) == (297, None, None, {"age": None, "edss": None})


def test_one_small_number_hides_those_of_the_other_questions():
    """If one question told the cohort's size, the other's small number would follow."""
    found = sizes(gappy(age=range(3), edss=range(100, 130)), ["age"], ["edss"])

    assert [size.n for size in found] == [297, 270] and all(size.n_missing is None and size.cohort is None for size in found)


@pytest.mark.parametrize(("missing", "why"), [
    ({"age": range(20), "edss": range(17, 40)}, "3 lack both"), ({"age": range(20), "edss": range(3, 20)}, "3 lack the age alone"),
    ({"age": range(20), "edss": range(1, 60)}, "1 lacks the age alone")],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "")
def test_gaps_that_overlap_give_nobody_away(missing, why):
    """The numbers of missing values of two columns and of both together are a table: its cells must be safe."""
    (size,) = sizes(gappy(**missing), ["age", "edss"])

    assert size.n_missing is None and size.cohort is None, why


def test_gaps_of_several_questions_are_one_table():
    """Each question alone would be safe; together they tell that 4 lack the second column beside the first."""
    alone = sizes(gappy(age=range(20), edss=range(24)), ["edss"])
    both = sizes(gappy(age=range(20), edss=range(24)), ["age"], ["edss"], ["age", "edss"])

    assert alone[0].n_missing == 24
    assert all(size.n_missing is None for size in both)


def test_two_questions_do_not_differ_by_a_few_patients():
    """297 with an age and 300 with an EDSS: the three follow by subtraction, of means or of the numbers of patients alone."""
    fed = fedstats.pooled(gappy(age=range(3)), dictionary=every.DICTIONARY, rules=Rules())
    ask = fed.cohort().question
    first, second = fed.ask(ask.summary(["edss"]), ask.summary(["edss", "age"]))
    apart = fed.ask(ask.summary(["edss"]), ask.summary(["age"]))

    assert first.n == 300
    assert second.kind == "failed" and "subtraction" in second.problem.what
    assert [one.kind for one in apart] == ["summary", "failed"], "n of both tells how many lack an age"


def test_missing_as_a_level_is_a_cell_like_others():
    """Four patients with unknown ECOG are a small cell of the table."""
    fed = fedstats.pooled(gappy(ecog=range(4)), dictionary=every.DICTIONARY, rules=Rules())
    result = fed.cohort().crosstab("female", "ecog", missing=True)

    assert all(cell.count is None for cell in result.cells if cell.levels[1] == "missing")
    assert result.total == 300 and result.suppressed


# -- small functions ---------------------------------------------------------------------------------------------------------


def test_rules_are_combined_rule_by_rule():
    """Every house's minimum holds for all."""
    found = strictest([Rules(min_cell=5, min_cohort=100, show_zeros=True, rounding=False),
                       Rules(min_cell=12, min_cohort=50, min_registries=4)])

    assert found == Rules(min_cell=12, min_cohort=100, min_registries=4, show_zeros=False, rounding=True)
    assert strictest([NO_RULES, FLOORS]) == FLOORS


@pytest.mark.parametrize("bad", [{"min_cell": 0}, {"min_cell": 2.5}, {"min_cohort": -1}, {"min_registries": True}, {"min_cell": "10"}])
def test_rules_are_whole_numbers(bad):
    """A rule of 0 or 2.5 is a mistake."""
    with pytest.raises(InputError, match="whole number"):
        Rules(**bad)


def test_rules_say_themselves():
    """One sentence under every result; relaxed rules are called so."""
    assert Rules().sentence() == "cells of at least 10 people from at least 3 registries, cohorts of at least 50, rounded"
    assert "(rules relaxed)" in Rules(min_cell=4).sentence() and "(rules relaxed)" in Rules(min_registries=2).sentence()
    assert "(rules relaxed)" not in FLOORS.sentence() and NO_RULES.sentence() == "no release rules"
    assert "empty cells shown" in Rules(show_zeros=True).sentence()


@pytest.mark.parametrize(("count", "contributors", "zeros", "expected"), [
    (0, 0, False, False), (0, 0, True, True), (1, 3, True, False), (9, 3, True, False), (10, 3, True, True), (10, 2, True, False),
    (10, None, False, True)])
def test_a_count_is_shown_from_ten_people_in_three_registries_on(count, contributors, zeros, expected):
    """Zero where zeros may be shown."""
    assert may_count(count, Rules(show_zeros=zeros), contributors) is expected


def test_a_mean_that_implies_a_small_cell_is_not_shown():
    """The mean of a boolean is its table: 3 of 100 is a cell of 3."""
    rules = Rules()

    assert not may_imply([97, 3], [3, 3], rules) and not may_imply([60, 40], [3, 2], rules)
    assert may_imply([60, 40], [3, 3], rules) and may_imply([100, 0], [3, 0], rules)


def random_bins(seed, rows=2, bins=30):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.choice([0.3, 2, 8]), (rows, bins))
    return counts, np.minimum(counts, rng.integers(1, 6, (rows, bins)))


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_merged_bins_are_safe_and_cover_everything(seed, zeros):
    """Neighbouring bins are merged until every row has nobody or ten people there; nobody is left out, nothing is split."""
    counts, contributors = random_bins(seed)
    rules = Rules(min_registries=2)
    ranges = intervals(counts, contributors, rules, zeros=zeros)

    if ranges:
        assert ranges[0][0] == 0 and ranges[-1][1] == counts.shape[1]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
        assert merged(counts, ranges).sum(axis=1).tolist() == counts.sum(axis=1).tolist()
        assert all(safe(int(n), rules) and (n or zeros) for n in merged(counts, ranges).ravel())
    else:
        safe_rows = all(count >= rules.min_cell or (count == 0 and zeros) for count in counts.sum(axis=1))
        assert not safe_rows or (contributors.max(axis=1) < 2).any()


def test_without_rules_nothing_is_merged():
    """Every bin stays as it is."""
    counts, contributors = random_bins(1)

    assert intervals(counts, contributors, OPEN) == tuple((k, k + 1) for k in range(30))


def test_without_rules_no_cell_is_hidden():
    """Zeros and ones are shown."""
    shown = show_table(np.array([[0, 1], [2, 3]]), np.array([[0, 1], [1, 1]]), OPEN)

    assert shown.whole and shown.cells.tolist() == [[0, 1], [2, 3]] and shown.total == 6


def test_a_table_too_large_to_be_checked_is_refused():
    """6000 cells: use coarser groups."""
    with pytest.raises(Refused, match="too large to be checked"):
        show_table(np.full(6000, 50), np.full(6000, 3), Rules())
    assert show_table(np.full(6000, 50), np.full(6000, 3), OPEN).whole


def test_hidden_cells_are_counted():
    """How many cells and margins a reader does not see."""
    shown = show_table(np.array([[30, 4], [40, 25]]), np.full((2, 2), 4), Rules())

    assert shown.hidden == (shown.cells < 0).sum() + sum((margin < 0).sum() for margin in shown.margins) > 0
    assert Shown.HIDDEN == -1 and not shown.whole


@pytest.mark.parametrize(("name", "args", "kwargs"), calls(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_every_released_float_is_rounded(name, args, kwargs):
    """Full-precision numbers identify the counts behind them: no float of any result has more digits than people decide, and
    rounding once more changes nothing but what is declared to be told already."""
    sizes = (150, 160, 170) if name not in MODELS else (1500, 1600, 1700)
    made = {key: on_the_grid(table) if name in MODELS else table for key, table in tables(*sizes).items()}
    fed = fedstats.pooled(made, dictionary=every.DICTIONARY, rules=Rules(min_cell=5))
    result = getattr(fed.cohort(), name)(*args, **kwargs)

    def check(value, kind):
        if isinstance(value, msgspec.Struct):
            for field, inner in _kinds(type(value)).items():
                check(getattr(value, field), inner)
        elif isinstance(value, (list, tuple, dict)) and kind is not Precision.PUBLIC:
            for one in value.values() if isinstance(value, dict) else value:
                check(one, kind)
        elif isinstance(value, float) and math.isfinite(value) and kind is not Precision.PUBLIC:
            assert value in (float(f"{value:.7g}"), BELOW_P), (kind, value)

    check(result, Precision.NUMBER)
    assert rounded(result, result.n) == result


def test_a_failed_question_tells_no_number():
    """Beside others, a refused question is a Failed value whose text has no count in it."""
    fed = fedstats.pooled(gappy(age=range(260)), dictionary=every.DICTIONARY, rules=Rules())
    cohort = fed.cohort()
    good, bad = fed.ask(cohort.question.summary("edss"), cohort.question.summary(["edss", "age"]))

    assert good.n == 300 and isinstance(bad, Failed) and isinstance(bad.error(), Refused) and isinstance(bad.error(), FedstatsError)
    assert "40" not in str(bad.error()) and bad.n == 0
