"""An analyst who asks several questions in one query and subtracts: outcomes inside outcomes, groups inside groups, tables beside tables.

Every attack is carried out without rules first (the control), where it finds the few; under rules the question that would complete it is
refused, in whatever order they are asked. The last part tries random data with an attacker who uses everything that is released.
"""

import itertools
import math
import re

import numpy as np
import pytest
from scipy.optimize import linprog

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses import histogram
from fedstats.data.rows import load
from fedstats.disclosure import FLOORS, NO_RULES
from fedstats.disclosure import engine as release_engine
from fedstats.disclosure.overlaps import Grouping, compared, overlaps
from fedstats.disclosure.release import Axis, Population
from fedstats.errors import Refused
from fedstats.query.analysis import Failed, question_of
from fedstats.sums.statistic import answer

RULES = [pytest.param(Rules(), id="default"), pytest.param(FLOORS, id="floors")]
FEW = 3
BOOK = Dictionary.from_dict({"name": "flat", "variables": [
    *({"name": name, "type": "boolean"} for name in ("died", "worse", "either", "aid", "relapse_first", "worse_first", "death_first", "any",
                                                     "seen", "image")),
    {"name": "sex", "type": "category", "levels": ["F", "M"]}, {"name": "stage", "type": "integer", "range": [0, 4]},
    {"name": "relapses", "type": "integer", "range": [0, 20]}, {"name": "age", "type": "integer", "range": [0, 99]},
    {"name": "years", "type": "number", "range": [0, 30], "step": 0.5}]})


def patients():
    """600 patients, of whom three have the one outcome and not the other, in several ways."""
    n, who = 600, np.arange(600)
    died, sex = who % 10 < 2, np.where(who % 2 == 0, "F", "M")
    worse = (who % 10 == 4) | np.isin(who, who[died][:FEW])           # three have both
    either, any_ = died | worse, (who % 10 < 5) | np.isin(who, (5, 15, 25))
    stage = who // 7 % 5
    image = np.where(np.isin(who, who[died][:FEW]) | (~died & (who % 10 == 7)), None, who % 4 == 0)
    return {"died": died, "worse": worse, "either": either, "sex": sex, "any": any_, "relapse_first": who % 10 < 2,
            "worse_first": who % 10 == 2, "death_first": np.isin(who % 10, (3, 4)), "stage": stage,
            "aid": (stage >= 3) | np.isin(who, who[stage == 1][:FEW]), "image": image, "relapses": np.where(died, 1 + who % 3, 0),
            "seen": died | np.isin(who, who[~died][:FEW]), "age": 20 + who % 50, "years": 0.5 + who % 20, "patient_id": np.arange(n)}


def ask(questions, rules, table=None, book=BOOK):
    table = patients() if table is None else table
    shares = {f"r{k}": {name: np.asarray(column, dtype=object)[k::3] for name, column in table.items()} for k in range(3)}
    fed = fedstats.pooled(shares, dictionary=book, rules=rules)
    make = fed.cohort().question
    return fed.ask(*(getattr(make, name)(*args, **kwargs) for name, args, kwargs in questions))


def yes(crosstab):
    """How many have a yes or no, from its table."""
    return next(cell.count for cell in crosstab.cells if cell.levels[-1] == "true")


def men(crosstab):
    return next(cell.count for cell in crosstab.cells if cell.levels == ("M", "true"))


def men_by_model(glm):
    """How many men have the outcome, from a logistic model: its share of the 300 men, whom the attacker knows."""
    return 300 / (1 + math.exp(-sum(one.coef for one in glm.coefficients)))


def table(*names, **kwargs):
    return ("crosstab", names, kwargs)


# questions, and what the attacker makes of their results: the number of a few patients
ATTACKS = {
    "an outcome within another": ([table("died"), table("seen")], lambda a, b: yes(b) - yes(a)),
    "an outcome that two others make up": ([table("died"), table("worse"), table("either")], lambda a, b, c: yes(a) + yes(b) - yes(c)),
    "an outcome that three others nearly make up": ([table("relapse_first"), table("worse_first"), table("death_first"), table("any")],
                                                    lambda a, b, c, d: yes(d) - yes(a) - yes(b) - yes(c)),
    "an outcome within levels": ([table("stage"), table("aid")], lambda a, b: yes(b) - a.cells[3].count - a.cells[4].count),
    "the same outcome where something else is known": ([table("died"), table("died", "image")], lambda a, b: yes(a) - b.margins[0][1]),
    "events that are counted": ([("rates", (), {"events": "relapses", "time": "years"}), table("seen")],
                                lambda a, b: yes(b) - a.rates[0].with_events),
    "a mean and a table": ([("summary", (["died"],), {}), table("seen")], lambda a, b: yes(b) - a["died"].mean * a.n),
    "curves": ([("kaplan_meier", (), {"time": "years", "event": event}) for event in ("died", "seen")],
               lambda a, b: b.groups[0].total_events - a.groups[0].total_events),
    "a table of one and the other": ([table("died", "seen")], lambda a: a.margins[1][1] - a.margins[0][1]),
    "one Table 1": ([("table_one", (["died", "seen"],), {})],
                    lambda a: a["seen"].levels[1].cells[0].count - a["died"].levels[1].cells[0].count),
}
WITHIN = {
    "tables by sex": ([table("sex", "died"), table("sex", "more")], lambda a, b: men(b) - men(a)),
    "models by sex": ([("glm", (f"{event} ~ sex",), {"family": "binomial"}) for event in ("died", "more")],
                      lambda a, b: men_by_model(b) - men_by_model(a)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_without_rules_subtraction_finds_the_few(attack):
    """The control."""
    questions, stolen = ATTACKS[attack]

    assert round(stolen(*ask(questions, NO_RULES)), 6) == FEW


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_question_that_completes_a_subtraction_is_refused(attack, rules):
    """In whatever order: only the last one of those that belong together, and without a number of patients."""
    questions, _ = ATTACKS[attack]
    if len(questions) == 1:
        with pytest.raises(Refused, match="rule min_cell"):
            ask(questions, rules)
        return
    for order in itertools.permutations(questions):
        *answered, last = ask(order, rules)

        assert not any(isinstance(one, Failed) for one in answered) and isinstance(last, Failed)
        assert last.problem.code == "refused" and last.problem.hint
        told = set(re.findall(r"\d+", last.problem.what.split("): ", 1)[1]))
        assert told == {str(rules.min_cell)}


def more():
    """As many men as women have died; twelve patients more, three of them men, have the wider outcome."""
    found = patients()
    living = {sex: np.flatnonzero(~found["died"] & (found["sex"] == sex)) for sex in "FM"}
    found["more"] = found["died"] | np.isin(np.arange(600), [*living["M"][:FEW], *living["F"][:12]])
    return found, Dictionary.from_dict({**BOOK.to_dict(), "variables": [*BOOK.to_dict()["variables"], {"name": "more", "type": "boolean"}]})


@pytest.mark.parametrize("attack", WITHIN)
def test_what_differs_enough_in_all_may_not_differ_by_a_few_in_a_group(attack):
    """Deaths and a wider outcome of the same men: 15 patients in all, 3 of them men."""
    questions, stolen = WITHIN[attack]
    found = ask(questions, NO_RULES, *more())
    first, second = ask(questions, Rules(), *more())
    alone, wider = ask([table("died"), table("more")], Rules(), *more())

    assert stolen(*found) == pytest.approx(FEW, abs=1e-6) and yes(wider) - yes(alone) == 15
    assert not isinstance(first, Failed) and 'a group of "sex"' in second.problem.what


@pytest.mark.parametrize(("names", "why"), [
    (("died", "any"), "150 patients more"), (("died", "stage"), "neither lies in the other"), (("sex", "aid"), "neither"),
    (("worse", "died"), "three have both, which no sum tells")])
def test_what_says_nothing_about_a_few_is_answered(names, why):
    """The rule is not in the way of honest questions."""
    assert not any(isinstance(one, Failed) for one in ask([table(name) for name in names], Rules())), why


def test_questions_about_the_same_patients_are_answered_together():
    """Table 1, rates, curves and a model of one outcome, whatever the gaps, once the filter makes them one set."""
    kept = patients()
    keep = np.array([one is not None for one in kept["image"]]) & (np.arange(600) % 10 != 8)      # deaths remain in every registry
    kept = {name: np.asarray(column, dtype=object)[keep] for name, column in kept.items()}
    found = ask([("table_one", (["age", "died", "stage"],), {"by": "sex"}), ("rates", (), {"events": "died", "time": "years", "by": "sex"}),
                 ("kaplan_meier", (), {"time": "years", "event": "died", "by": "sex"}), ("histogram", ("age",), {"by": "sex"}),
                 ("summary", (["age", "image"],), {})], Rules(), kept)

    assert not [one.problem for one in found if isinstance(one, Failed)]


# -- all that follows from the numbers of yes or no, on random structures --------------------------------------------------------------


def outcomes(seed):
    """Two to four outcomes made of the same few kinds of patients, as nested and composite outcomes are; shape (300, outcomes)."""
    rng = np.random.default_rng(seed)
    kinds = int(rng.integers(3, 7))
    kind = rng.choice(kinds, 300, p=rng.dirichlet(np.r_[3, rng.choice([0.05, 0.3, 1.5], kinds - 1)]))
    made = [rng.choice(kinds, rng.integers(1, kinds), replace=False) for _ in range(int(rng.integers(2, 5)))]
    return np.stack([np.isin(kind, some) for some in made], axis=1)


def follows(X, k):
    """Whether the number of some few patients follows from the numbers with each outcome, for a reader who knows which combinations occur.

    X : patients x known outcomes. Every set of combinations is tried: is its indicator a sum of multiples of what is known?
    """
    kinds, people = np.unique(X, axis=0, return_counts=True)
    known = np.vstack([np.ones(len(kinds)), kinds.T.astype(float)])
    _, size, rows = np.linalg.svd(known, full_matrices=False)
    basis = rows[size > 1e-9]
    sets = np.array(list(itertools.product((0.0, 1.0), repeat=len(kinds))))
    few = (sets @ people > 0) & (sets @ people < k)
    return bool((few & (np.abs(sets - sets @ basis.T @ basis).max(axis=1) < 1e-9)).any())


def test_no_number_of_a_few_follows_from_numbers_of_outcomes():
    """Random composite outcomes, all asked in one query; without the check some four in a hundred give a few away."""
    rules, control = Rules(min_registries=1, show_zeros=True), 0
    for seed in range(120):
        X = outcomes(seed)
        names = [f"v{k}" for k in range(X.shape[1])]
        book = Dictionary.from_dict({"name": "outcomes", "variables": [{"name": name, "type": "boolean"} for name in names]})
        found = ask([table(name) for name in [*names, names[0]]], rules, dict(zip(names, X.T)), book)[:len(names)]
        shown = [k for k, one in enumerate(found) if not isinstance(one, Failed) and not one.suppressed]
        large = [k for k in range(X.shape[1]) if 10 <= X[:, k].sum() <= 290]
        control += follows(X[:, large], 10)

        assert not shown or not follows(X[:, shown], 10), seed
    assert control >= 5


# -- tables beside tables ----------------------------------------------------------------------------------------------------------------

SIZES = {"a": 6, "b": 3, "c": 2}
LETTERS = Dictionary.from_dict({"name": "letters", "variables": [
    {"name": name, "type": "category", "levels": [f"{name}{k}" for k in range(size)]} for name, size in SIZES.items()]})
PAIRS = [[("a",), ("a", "b")], [("a", "b"), ("a", "c")], [("a", "b"), ("a", "b", "c")]]


def narrowest(results, counts):
    """The narrowest range into which a reader of all tables brings a number that one of them hides."""
    names, where = list(SIZES), np.indices(counts.shape).reshape(counts.ndim, -1)
    rows, right, hidden = [np.ones(counts.size)], [counts.sum()], []

    def learn(inside, count):
        if count is None:
            hidden.append(inside)
        else:
            rows.append(inside.astype(float))
            right.append(count)

    for one in results:
        axes = [names.index(name) for name in one.variables]
        for cell, place in zip(one.cells, np.ndindex(*map(len, one.levels))):
            learn(np.all([where[a] == p for a, p in zip(axes, place)], axis=0), cell.count)
        for a, margin in zip(axes, one.margins):
            for line, count in enumerate(margin):
                learn(where[a] == line, count)
    widths = []
    for inside in hidden:
        ends = [sign * linprog(sign * inside.astype(float), A_eq=np.array(rows), b_eq=right, bounds=(0, None), method="highs").fun
                for sign in (1, -1)]
        widths.append(ends[1] - ends[0])
    return min(widths, default=math.inf)


def beside(pair, seed):
    """Two tables of random sparse data in one query: the results that were given, and the counts."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.6, rng.choice([8, 15, 40]), tuple(SIZES.values())))
    counts[0, 0, 0] += 50
    cell = rng.permutation(np.repeat(np.arange(counts.size), counts.ravel()))
    levels = {name: [f"{name}{k}" for k in place] for name, place in zip(SIZES, np.unravel_index(cell, counts.shape))}
    found = ask([table(*names) for names in pair], Rules(show_zeros=bool(seed % 2)), levels, LETTERS)
    return [one for one in found if not isinstance(one, Failed)], counts


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_two_tables_do_not_give_back_what_each_hides(pair):
    """Everything that both show, by linear programming: what is hidden stays uncertain by the smallest cell."""
    given = 0
    for seed in range(14):
        results, counts = beside(pair, seed)
        given += len(results)

        assert narrowest(results, counts) >= 10 - 1e-5
    assert given >= 14


def test_two_tables_would_give_it_back(monkeypatch):
    """The control: a three-way table beside a two-way one, each suppressed on its own."""
    monkeypatch.setattr(release_engine, "linked", lambda *args: None)
    monkeypatch.setattr(release_engine, "trouble", lambda *args: None)

    assert sum(narrowest(*beside(PAIRS[2], seed)) < 10 - 1e-5 for seed in range(6)) >= 3


DEATHS = {"time": "years", "event": "died", "by": "stage"}
STAGE = {"table": table("stage", "died"), "margin": table("died"), "means": ("compare", ("died",), {"by": "stage"}),
         "rates": ("rates", (), {"events": "died", "time": "years", "by": "stage"}), "curves": ("kaplan_meier", (), DEATHS),
         "log-rank": ("logrank", (), DEATHS), "Table 1": ("table_one", (["died"],), {"by": "stage"})}


def told(way, one):
    """What a result tells of stage by death: (stage, died, number, whether it is exact or the least); None for all of either."""
    if way == "table":
        yield from ((int(cell.levels[0]), cell.levels[1] == "true", cell.count, True) for cell in one.cells)
    elif way == "margin":
        yield None, True, yes(one) if not one.suppressed else None, True
    elif way == "Table 1":
        yield from ((k, None, n, True) for k, n in enumerate(one.sizes[1:]))
        yield from ((k, level.level == "true", cell.count, True) for level in one["died"].levels for k, cell in enumerate(level.cells[1:]))
    else:
        groups = one.rates[:5] if way == "rates" else one.groups
        yield from ((k, None, group.n, True) for k, group in enumerate(groups))
        for k, group in enumerate(groups):
            if way == "rates":
                yield k, True, group.with_events, True
            elif way == "means":
                yield k, True, None if group.mean is None else round(group.mean * group.n), True
            elif way == "log-rank":
                yield k, True, None if group.observed is None else round(group.observed), False
            elif group.times:
                yield k, True, group.total_events, not group.remaining


def narrow_cells(ways, seed):
    """Cells of stage by death with fewer than ten people that all results together bring into a range of less than ten."""
    rng, n = np.random.default_rng(seed), 600
    stage = rng.choice(5, n, p=rng.dirichlet([3, 3, 2, 1.5, 1]))
    died = rng.random(n) < rng.beta(1, 4, 5)[stage]
    people = np.stack([np.bincount(stage[~died], minlength=5), np.bincount(stage[died], minlength=5)], axis=1)
    data = patients() | {"stage": stage, "died": died, "years": 0.5 * rng.integers(1, 30, n)}
    rows, right, least, cells = [np.ones(10)], [n], np.zeros(10), np.eye(10).reshape(5, 2, 10)
    for way, one in zip(ways, ask([STAGE[way] for way in ways], Rules(), data)):
        for k, happened, count, exact in () if isinstance(one, Failed) else told(way, one):
            inside = cells[slice(None) if k is None else [k]][:, slice(None) if happened is None else [int(happened)]].sum(axis=(0, 1))
            if count is not None and exact:
                rows.append(inside)
                right.append(count)
            elif count is not None:
                least = np.maximum(least, count * inside)
    ends = [[sign * linprog(sign * cell, A_eq=np.array(rows), b_eq=right, bounds=[(low, None) for low in least], method="highs").fun
             for sign in (1, -1)] for cell in np.eye(10)]
    return sum(0 < count < 10 and high - low < 10 - 1e-6 for count, (low, high) in zip(people.ravel(), ends))


@pytest.mark.parametrize("ways", [("margin", "rates", "curves", "log-rank"), ("margin", "means", "rates"), ("Table 1", "curves", "margin"),
                                  ("table", "rates", "curves")], ids=", ".join)
def test_tables_rates_and_curves_do_not_give_a_small_cell_back(ways):
    """Deaths by stage, asked in several ways at once: each hides, or withholds, other groups beside the small one."""
    assert sum(narrow_cells(ways, seed) for seed in range(8)) == 0


def test_a_table_and_rates_would_give_a_small_cell_back(monkeypatch):
    """The control: both answered, as each would be alone."""
    monkeypatch.setattr(release_engine, "linked", lambda *args: None)

    assert sum(narrow_cells(("table", "rates", "margin"), seed) > 0 for seed in range(16)) >= 1


# -- cut points --------------------------------------------------------------------------------------------------------------------------


def cumulated(result):
    """People below each cut that a histogram shows."""
    return {end: sum(one.count for one in result.bins if one.stop <= end) for end in {one.stop for one in result.bins}}


def between_cuts(seed):
    """The smallest number of people between two cuts that any histogram of the query shows (nobody is nothing)."""
    rng = np.random.default_rng(seed)
    n = 600
    data = {"age": np.clip(rng.normal(40, 15, n), 0, 99).astype(int), "sex": rng.choice(["F", "M"], n, p=[0.7, 0.3]),
            "stage": rng.integers(0, 5, n)}
    found = ask([("histogram", ("age",), {"by": by}) for by in (None, "sex", "stage")], Rules(), data)
    below = sorted(set().union(*(cumulated(one).values() for one in found)))
    return min(b - a for a, b in itertools.pairwise(below))


def test_histograms_by_groups_are_cut_where_everybody_is_cut():
    """Bins are merged by the data, and otherwise for each question: where two differ, a few would lie between their cuts."""
    assert min(between_cuts(seed) for seed in range(8)) >= 10


def test_histograms_cut_each_on_its_own_tell_of_a_few(monkeypatch):
    """The control."""
    def alone(everybody, counts, contributors, rules):
        return histogram.intervals(counts, contributors, rules, zeros=not rules.hides_zeros)

    monkeypatch.setattr(histogram, "cut_alike", alone)

    assert sum(between_cuts(seed) < 10 for seed in range(8)) >= 2


def test_curves_on_coarser_grids_are_cut_at_the_same_places():
    """`grid` and `tau` choose among the cuts that the rules have made: no two curves of a query have a few events between their cuts."""
    who = np.arange(600)
    rng = np.random.default_rng(3)
    data = patients() | {"years": 0.5 * rng.integers(1, 60, 600), "died": rng.random(600) < 0.4, "stage": who % 5}
    ways = ({}, {"grid": 1.0}, {"grid": 1.5, "tau": 7.5}, {"by": "sex"}, {"by": "stage", "grid": 2.5})
    curves = ask([("kaplan_meier", (), {"time": "years", "event": "died", **way}) for way in ways], Rules(), data)
    below = {}
    for one in curves:
        for at in {time for group in one.groups for time in group.times}:
            if all(at in group.times for group in one.groups):
                below[at] = sum(sum(d for d, t in zip(group.events, group.times) if t <= at) for group in one.groups)
    events = [below[at] for at in sorted(below)]

    assert len(events) > 5 and all(b - a >= 10 or a == b for a, b in itertools.pairwise(events))


def shows(name, *args, book=BOOK, **kwargs):
    """What a question declares."""
    return question_of(name, *args, **kwargs).read().shows(book)


# -- the counts ---------------------------------------------------------------------------------------------------------------------------


def test_pairs_of_groups_are_counted_by_person():
    """With several rows per patient: who has a row in the one and a row in the other, also by group and over other complete cases."""
    book = Dictionary.from_dict({**BOOK.to_dict(), "most_rows": 4})
    rng = np.random.default_rng(2)
    who = rng.integers(0, 120, 300)
    keep = np.array([(who[:k] == one).sum() < 4 for k, one in enumerate(who)])
    who = who[keep]
    n = len(who)
    stage = [None if rng.random() < 0.2 else int(rng.integers(0, 5)) for _ in range(n)]
    columns = {"patient_id": who, "died": rng.random(n) < 0.3, "stage": np.array(stage, dtype=object), "sex": rng.choice(["F", "M"], n)}
    rows = load(columns, book)[0]
    groups = [{"axis": {"column": "died"}}, {"axis": {"column": "stage", "unknown": True}, "of": {"known": ["stage"]}},
              {"axis": {"column": "died"}, "of": {"known": ["stage"]}}]
    answered = answer(overlaps(groupings=groups, by="sex"), rows)
    found = answered["both"]
    for s, sex in enumerate("FM"):
        sides = []
        for one in groups:
            known = np.array([value is not None for value in stage]) if "of" in one else np.ones(n, bool)
            name = one["axis"]["column"]
            values, levels = columns[name], [False, True] if name == "died" else [0, 1, 2, 3, 4, "no such"]
            sides += [{p for p, v, ok, x in zip(who, values, known, columns["sex"]) if ok and v == level and x == sex} for level in levels]
        both = [len(a & b) for k, a in enumerate(sides) for b in sides[k:]]

        assert found[s].tolist() == both and answered["people"][s].tolist() == [len(side) for side in sides]
    assert not found[2].any()


def test_numbers_in_a_model_are_no_groups():
    """A covariate of a model is a number, whose levels nobody tells; a factor is a table."""
    asked = [shows("glm", "age ~ stage + sex + relapses"), shows("histogram", "relapses", by="sex")]
    shown = {one.by: [[group.column for group in some] for some in one.shown] for one in compared(asked, BOOK)}

    assert shown == {None: [["sex", "stage"], ["relapses", "sex"]], "sex": [["stage"], ["relapses"]]}


def test_nothing_is_counted_where_there_is_nothing_to_compare():
    """One question without groups costs nothing in round 0."""
    assert compared([shows("summary", ["age"])], BOOK) == []
    (one,) = compared([shows("summary", ["age", "died", "aid"])], BOOK)

    assert one.groupings == [Grouping(Axis(name), Population(("age", "aid", "died"))) for name in ("aid", "died")]


def test_too_many_groups_are_a_question_of_their_own():
    """400 000 numbers in round 0 are enough."""
    many = Dictionary.from_dict({"name": "many", "variables": [
        {"name": f"v{k}", "type": "category", "levels": [f"l{j}" for j in range(60)]} for k in range(20)]})

    with pytest.raises(fedstats.errors.QuestionError, match="too many groups"):
        compared([shows("crosstab", f"v{k}", book=many) for k in range(20)], many)
