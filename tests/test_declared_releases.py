"""What a result tells is declared, and nothing else is told: tried on every analysis from outside.

The harness knows no analysis. It reads the declarations of a question and changes the data in ways that
leave everything declared as it was: values of one column change places among patients who are alike in
all columns that it is declared jointly with. If the result changes, it tells something undeclared.
"""

import itertools
from typing import ClassVar

import msgspec
import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses.crosstab import CrosstabParams, crosstab
from fedstats.disclosure import NO_RULES
from fedstats.disclosure.engine import differing
from fedstats.disclosure.overlaps import compared
from fedstats.disclosure.release import Average, Axis, People, Population, Regression, ScoreBins, Support, SurvivalCurve, Trees, axes
from fedstats.query import analysis
from fedstats.query.analysis import ANALYSES, Failed, Params, Result, question_of

from . import every
from .questions import calls

BOOK = Dictionary.from_dict(every.DICTIONARY)
CLOSE = 1e-9                # relative: sums of the same numbers in another order
EXAMPLES = [(name, args, kwargs) for name, args, kwargs in calls()]


def told(one):
    """The columns that one declaration tells of jointly."""
    names = {axis.column for axis in one.axes} | {axis.time for axis in one.axes if axis.time}
    if isinstance(one, People):
        return names | ({one.merged} if one.merged else set())
    if isinstance(one, Average):
        return names | set(one.what)
    if isinstance(one, SurvivalCurve):
        return names | {one.time}
    if isinstance(one, (Trees, Support)):
        return names | set(one.covariates) | set(one.of.known)
    if isinstance(one, ScoreBins):
        return names | set(one.score) | set(one.of.known)
    assert isinstance(one, Regression)
    return names | set(one.of.known)


def partners(declared, columns):
    """Per column of the question, the columns that some declaration tells of jointly with it."""
    joint = [told(one) for one in declared]
    return {name: set().union(*(one for one in joint if name in one)) - {name} for name in columns}


def moved(table, name, beside, read, random):
    """The table with values of one column in other places, among patients who are alike in the columns
    `beside` and of whom the same of the columns read is known."""
    n = len(table[name])
    known = [[table[one][k] is not None for one in read] for k in range(n)]
    alike = {}
    for k in range(n):
        if table[name][k] is not None:
            alike.setdefault((*known[k], *(table[one][k] for one in sorted(beside))), []).append(k)
    column = np.array(table[name], dtype=object)
    for places in alike.values():
        column[places] = column[random.permutation(places)]
    return table | {name: column}


def result(name, args, kwargs, table, rules=NO_RULES):
    shares = {f"r{k}": {one: np.asarray(column, dtype=object)[k::3] for one, column in table.items()} for k in range(3)}
    return getattr(fedstats.pooled(shares, dictionary=BOOK, rules=rules).cohort(), name)(*args, **kwargs)


def alike(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or abs(a - b) <= CLOSE * max(abs(a), abs(b), 1e-9)
    return a == b


def undeclared(name, args, kwargs, shows=None):
    """The columns whose places matter to a result although they are not declared to."""
    random = np.random.default_rng(5)
    table = every.random_rows(240, random)
    params = question_of(name, *args, **kwargs).read()
    read = list(dict.fromkeys(params.reads()))
    found, before = [], result(name, args, kwargs, table).to_dict()
    for column, beside in partners((shows or type(params).shows)(params, BOOK), read).items():
        if set(read) - beside - {column} or not beside:
            after = result(name, args, kwargs, moved(table, column, beside, read, random)).to_dict()
            found += [] if alike(before, after) else [column]
    return found


@pytest.mark.parametrize(("name", "args", "kwargs"), EXAMPLES, ids=lambda one: str(one)[:40])
def test_a_result_tells_what_it_declares_and_no_more(name, args, kwargs):
    """Whatever the declarations leave open may be anything, and the result stays the same."""
    assert undeclared(name, args, kwargs) == []


def test_the_harness_finds_what_is_not_declared():
    """The control: a table of two variables that says it tells each alone; means by sex that forget sex."""
    def alone(params, dictionary):
        return tuple(People(params.population(), (axis,)) for axis in axes(dictionary, params.variables))

    def undivided(params, dictionary):
        return (Average(params.population(), (params.column,)),)

    assert undeclared("crosstab", ("sex", "ecog"), {}, alone) == ["sex", "ecog"]
    assert undeclared("compare", ("age",), {"by": "sex"}, undivided)


# -- no way around --------------------------------------------------------------------------------------


class UndeclaredParams(Params, frozen=True):
    names: tuple[str, ...]


def test_an_analysis_that_does_not_say_what_it_shows_cannot_be_registered():
    """No default: silence is not a declaration."""
    with pytest.raises(AssertionError, match="does not say what its result tells"):
        analysis.analysis("undeclared/1", params=UndeclaredParams, result=Result)(lambda params, setting: None)

    assert "undeclared/1" not in ANALYSES


class ContingencyParams(Params, frozen=True):
    rows_and_columns: tuple[str, ...]

    def columns(self):
        return self.rows_and_columns

    def shows(self, dictionary):
        return (People(self.population(), axes(dictionary, self.rows_and_columns)),)


class Contingency(Result, frozen=True, kw_only=True):
    kind: ClassVar[str] = "contingency"

    cells: tuple[tuple[tuple[str, ...], int | None], ...]


def contingency(params, setting):
    """The table of crosstab, under other names."""
    table = yield from crosstab(CrosstabParams(params.rows_and_columns), setting)
    return Contingency(size=table.size, cells=tuple((cell.levels, cell.count) for cell in table.cells))


@pytest.fixture
def with_contingency():
    analysis.analysis("contingency/1", params=ContingencyParams, result=Contingency)(contingency)
    yield
    del ANALYSES["contingency/1"]


LETTERS = Dictionary.from_dict({"name": "letters", "variables": [
    {"name": name, "type": "category", "levels": ["a", "b", "c"]} for name in "uvw"]})


def beside(second, seed):
    """A table of two variables, and what becomes of a second question beside it."""
    random = np.random.default_rng(seed)
    cell = random.choice(27, 600, p=random.dirichlet(np.full(27, 0.5)))
    table = {"u": np.array(list("abc"))[cell // 9], "v": np.array(list("abc"))[cell // 3 % 3], "w": np.array(list("abc"))[cell % 3]}
    shares = {f"r{k}": {name: column[k::3] for name, column in table.items()} for k in range(3)}
    fed = fedstats.pooled(shares, dictionary=LETTERS, rules=Rules())
    first = fed.cohort().question.crosstab("u", "v")
    return fed.ask(first, type(first)(second, first.recipe, first.where))[1]


def test_the_same_table_under_another_name_is_refused_beside_the_table_it_completes(with_contingency):
    """Forty random tables: what crosstab is refused, its copy is refused, in the same words but for the name."""
    for seed in range(40):
        plain = beside(question_of("crosstab", "u", "v", "w"), seed)
        copied = beside(question_of("contingency", rows_and_columns=("u", "v", "w")), seed)

        assert isinstance(plain, Failed) and isinstance(copied, Failed)
        assert copied.problem.what == plain.problem.what.replace("crosstab", "contingency")


# -- populations and weights -----------------------------------------------------------------------------


def test_populations_are_sets_of_patients():
    """Columns in any order, weights in any form: the same patients are the same population."""
    a = question_of("glm", "event ~ age", family="binomial", weights="years").read().population()
    b = question_of("cox", "Surv(years, days, event) ~ age").read().population()

    assert Population.of(["b", "a", "b"]) == Population(("a", "b"))
    assert a.weights and a.people.weights == "" and a.lost[0].why == "weightless"
    assert b.lost[0].columns == ("years", "days") and not b.weights


@pytest.mark.parametrize(("second", "least"), [
    (lambda w: w, np.inf), (lambda w: 3.0 * w, np.inf),                              # the same, also scaled
    (lambda w: np.where(np.arange(len(w)) == 7, 1.2 * w, w), 0.9),                   # one patient
    (lambda w: 2 * np.where(np.arange(len(w)) < 3, 1.2 * w, w), 1.9),                # three, scaled
    (lambda w: np.ones(len(w)), 100)])                                               # none against some
def test_in_how_many_patients_weights_differ(second, least):
    """From sums of powers alone: one patient counts as about one, everybody as many."""
    w = np.random.default_rng(2).uniform(0.2, 1, 400)
    v = second(w)
    found = differing([float((w**a * v**b).sum()) for a, b in ((2, 0), (1, 1), (0, 2), (4, 0), (3, 1), (2, 2), (1, 3), (0, 4))])

    assert found >= least and (least > 90 or found <= 4 * least)


def test_weights_that_differ_in_one_patient_are_refused_in_one_query():
    """Two weighted means that differ in one patient's weight differ by that patient's outcome."""
    random = np.random.default_rng(3)
    n = 600
    w = random.uniform(0.5, 1.5, n).round(3)
    v = w.copy()
    v[11] = 4.0
    book = Dictionary.from_dict({"name": "weighted", "variables": [
        {"name": "y", "type": "boolean"}, {"name": "x", "type": "integer", "range": [18, 80]},
        *({"name": name, "type": "number", "range": [0, 5], "step": 0.001} for name in "wv"),
        {"name": "u", "type": "number", "range": [0, 5], "step": 0.001}]})
    table = {"y": random.random(n) < 0.4, "x": random.integers(18, 80, n), "w": w, "v": v, "u": random.uniform(0.5, 1.5, n).round(3)}
    shares = {f"r{k}": {name: column[k::3] for name, column in table.items()} for k in range(3)}

    def both(first, second, rules):
        fed = fedstats.pooled(shares, dictionary=book, rules=rules)
        make = fed.cohort().question.glm
        return fed.ask(*(make("y ~ x", family="binomial", weights=one) for one in (first, second)))

    one, other = both("w", "v", NO_RULES)
    assert one.coefficients != other.coefficients          # the control: the difference is there to be had
    assert "weigh their patients alike but for a few" in both("w", "v", Rules())[1].problem.what
    assert not any(isinstance(each, Failed) for each in both("w", "u", Rules()))


def test_populations_that_differ_by_a_few_are_refused_whatever_they_have_in_common():
    """Three patients lack a value: sizes of two questions without a common column would tell it."""
    n = 300
    table = {"a": np.arange(n) % 2 == 0, "b": np.array([None if k < 3 else k % 3 == 0 for k in range(n)], dtype=object)}
    book = Dictionary.from_dict({"name": "two", "variables": [{"name": name, "type": "boolean"} for name in "ab"]})
    shares = {f"r{k}": {name: column[k::3] for name, column in table.items()} for k in range(3)}
    fed = fedstats.pooled(shares, dictionary=book, rules=Rules())
    make = fed.cohort().question
    found = fed.ask(make.crosstab("a"), make.crosstab("b"))

    assert found[0].n == 300 and "differ by fewer than 10" in found[1].problem.what


def test_the_vocabulary_is_closed():
    """Every declaration is plain data of a known kind, with axes that are columns of the dictionary."""
    for name, args, kwargs in EXAMPLES:
        for one in question_of(name, *args, **kwargs).read().shows(BOOK):
            assert isinstance(one, (People, Average, SurvivalCurve, Regression, Trees, ScoreBins, Support))
            assert all(isinstance(axis, Axis) and axis.column in BOOK.names for axis in one.axes)
            assert msgspec.json.decode(msgspec.json.encode(one), type=type(one)) == one


def test_every_pair_of_examples_can_be_compared():
    """No declaration makes round 0 fail, whatever stands beside it."""
    for a, b in itertools.combinations(EXAMPLES, 2):
        questions = [question_of(name, *args, **kwargs).read().shows(BOOK) for name, args, kwargs in (a, b)]
        for one in compared(questions, BOOK):
            assert one.ask.layout(BOOK)
