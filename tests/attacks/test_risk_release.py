"""What is told of a risk model, taken apart: subgroups, horizons, risk classes, threshold tables, and leaves of several models.

The attacker sees the released results of one query only, at the default rules. Each attack has its control: the same with the rule that
stops it lifted.
"""

import itertools

import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses import validation
from fedstats.disclosure import NO_RULES, engine
from fedstats.query.analysis import Failed

from ..risk_data import DICTIONARY, registries

TREES = {"rounds": 2, "max_depth": 2, "bins": 8}
FAST = {"folds": 2, **TREES}
FEW = 3


def book(**changed):
    """The codebook of `risk_data`, with lines replaced or added."""
    lines = {line["name"]: line for line in DICTIONARY["variables"]} | {name: {"name": name, **line} for name, line in changed.items()}
    return Dictionary.from_dict({"name": "risk", "variables": list(lines.values())})


def whole(tables, name):
    return np.concatenate([np.asarray(table[name]) for table in tables.values()])


def ask(tables, questions, rules, dictionary):
    fed = fedstats.pooled(tables, dictionary=dictionary, rules=rules)
    make = fed.cohort().question
    return fed.ask(*(getattr(make, name)(*args, **kwargs) for name, args, kwargs in questions))


# -- horizons ------------------------------------------------------------------------------------------------------------------------

TWICE = {
    "two validations": [("validation", ("event", ["age", "edss"]), {"objective": "hazard:logistic", "time": "days", "horizons": [end],
                                                                    "intervals": [180, 360, 450], **FAST}) for end in (360, 450)],
    "two hazard models": [("boost", ("event", [name]), {"objective": "hazard:logistic", "time": "days", "intervals": [180, end], **TREES})
                          for name, end in (("age", 360), ("edss", 450))],
    "two models with pieces of time": [("piecewise", ("Surv(days, event) ~ age",), {"cuts": [180, end]}) for end in (360, 450)],
}


def events_until(result):
    """Events up to the second time, as each result tells."""
    if result.kind == "validation":
        return result.performance[0].overall.events
    return result.events if result.kind == "boost" else sum(one.events for one in result.intervals[:2])


def hardly_later():
    """Registries in which three patients have the event between day 360 and day 450."""
    tables, left = registries((300, 300, 300, 300), 3), FEW
    for table in tables.values():
        between = (table["days"] > 360) & (table["days"] <= 450) & table["event"]
        keep = np.flatnonzero(between)[:left]
        left -= len(keep)
        between[keep] = False
        table["days"][between] -= 90
    return tables


@pytest.mark.parametrize("way", TWICE)
def test_events_by_two_times_do_not_differ_by_a_few(way):
    """One question checks its own horizons against each other; two questions, each with one, must not do without."""
    tables = hardly_later()
    first, second = ask(tables, TWICE[way], NO_RULES, book())
    assert events_until(second) - events_until(first) == FEW

    for order in itertools.permutations(TWICE[way]):
        answered, refused = ask(tables, order, Rules(), book())

        assert not isinstance(answered, Failed) and isinstance(refused, Failed) and "subtraction" in refused.problem.what


# -- subgroups -------------------------------------------------------------------------------------------------------------------------


def grouped(seed):
    """Registries whose patients have a course, a treatment class that depends on it, and a yes or no that says nearly the same."""
    rng = np.random.default_rng(seed)
    tables = registries((130, 130, 130), seed)
    for table in tables.values():
        n = len(table["age"])
        table["course"] = rng.choice(["RR", "SP", "PP"], n, p=[0.7, 0.2, 0.1])
        table["dmt"] = np.where(rng.random(n) < np.where(table["course"] == "RR", 0.7, 0.3), "high", rng.choice(["none", "low"], n))
        late = np.isin(table["course"], ["SP", "PP"])
        table["late"] = np.where(rng.random(n) < 0.01, ~late, late)
    return tables


GROUPS = {"course": {"type": "category", "levels": ["RR", "SP", "PP"]}, "dmt": {"type": "category", "levels": ["none", "low", "high"]},
          "late": {"type": "boolean"}}


def few_follow(tables, result, by, k):
    """Whether fewer than k patients follow from the numbers of patients and events of all shown groups, for a reader who knows which
    combinations of groups occur."""
    columns = [whole(tables, name).astype(str) for name in by]
    y = whole(tables, "worse").astype(str)
    kinds, people = np.unique(np.stack([*columns, y], axis=1), axis=0, return_counts=True)
    if len(kinds) > 13:
        return False
    known = [np.ones(len(kinds)), kinds[:, -1] == "True"]
    for group in result.performance[0].groups:
        if group.metrics.n is not None and group.level != "missing":
            inside = np.char.lower(kinds[:, by.index(group.variable)]) == group.level.lower()
            known += [inside, inside & (kinds[:, -1] == "True")]
    _, size, rows = np.linalg.svd(np.array(known, dtype=float), full_matrices=False)
    basis = rows[size > 1e-9]
    sets = np.array(list(itertools.product((0.0, 1.0), repeat=len(kinds))))
    few = (sets @ people > 0) & (sets @ people < k)
    return bool((few & (np.abs(sets - sets @ basis.T @ basis).max(axis=1) < 1e-9)).any())


def judged(seed, by):
    tables = grouped(seed)
    (found,) = ask(tables, [("validation", ("worse", ["age"]), {"by": by, **FAST})], Rules(), book(**GROUPS))
    return tables, found


@pytest.mark.parametrize("by", [["course"], ["course", "dmt"], ["course", "late"]], ids=str)
def test_subgroups_of_a_card_do_not_leave_a_few_over(by):
    """All numbers of patients and events of a card together: whole less subgroups, groups of one variable against those of another."""
    given = 0
    for seed in range(6):
        try:
            tables, found = judged(seed, by)
        except fedstats.errors.Refused:
            continue
        given += 1

        assert not few_follow(tables, found, by, 10), seed
    assert given or "late" in by


def test_subgroups_shown_without_a_look_at_the_others_leave_a_few_over(monkeypatch):
    """The control: every group is shown, and groups of different variables are not compared."""
    monkeypatch.setattr(validation, "groups_shown", lambda cells, *rest: (cells > 0).all(axis=1))
    monkeypatch.setattr(engine, "trouble", lambda *args: None)

    assert sum(few_follow(*judged(seed, ["course", "late"]), ["course", "late"], 10) for seed in range(4)) >= 2


# -- risk classes and thresholds ---------------------------------------------------------------------------------------------------------


def test_a_threshold_table_tells_whole_classes_only():
    """From net benefit, prevalence and the thresholds the attacker has the numbers of true and false positives above each: between two
    thresholds there are enough of both, and more thresholds than classes there are none."""
    tables = registries((250, 250, 250), 5)
    (found,) = ask(tables, [("validation", ("worse", ["age", "edss"]), {"folds": 3, "rounds": 12, "max_depth": 3})],
                   Rules(rounding=False), book())
    one = found.performance[0]
    n, events, above = one.overall.n, one.overall.events, []
    for each in one.classes:
        odds = each.risk_from / (1 - each.risk_from)
        # all that act: true positives less weighted false ones; of the classes from here on, true and false positives add up to n
        people = sum(other.n for other in one.classes if other.risk_from >= each.risk_from)
        true = (each.net_benefit * n + odds * people) / (1 + odds)
        above.append((true, people - true))
    above.append((0.0, 0.0))

    assert len(one.classes) > 3 and above[0] == pytest.approx((events, n - events))
    assert all(a - b > 10 - 1e-6 for high, low in itertools.pairwise(above) for a, b in zip(high, low))


def test_two_validations_of_hardly_different_models_give_the_same_groups():
    """Seeds and settings move patients between risk classes; groups and outcomes, which the attacker can know, stay the same cells."""
    tables = grouped(1)
    ways = [("validation", ("worse", ["age"]), {"by": ["course"], **FAST, "rounds": rounds}) for rounds in (2, 3)]
    first, second = ask(tables, ways, Rules(), book(**GROUPS))
    counts = [[(one.variable, one.level, one.metrics.n, one.metrics.events) for one in found.performance[0].groups]
              for found in (first, second)]

    assert counts[0] == counts[1]


# -- leaves --------------------------------------------------------------------------------------------------------------------------------

ETAS = (1.0, 0.83, 0.71)        # the same leaf times three learning rates: three roundings of one number
PENALTY = 1.0
AGES = {"age": {"type": "integer", "range": [18, 80], "unit": "years"}}     # whole years are its bins


def stumps():
    """One split on age, for several numbers of bins and each learning rate."""
    return [("boost", ("worse", ["age"]), {"rounds": 1, "max_depth": 1, "bins": bins, "learning_rate": eta, "reg_lambda": PENALTY})
            for bins in range(6, 17, 2) for eta in ETAS]


def counted(models, n, events):
    """(patients, those with the outcome) below the cut of one split, as the leaves of a few models give them; None if not certain."""
    below, some = np.arange(10, n - 9)[:, None], np.arange(events + 1)[None, :]
    fits = (some <= below) & (events - some <= n - below)
    for model, eta in zip(models, ETAS):
        tree, p = model.trees[0], model.base_score
        for leaf, people, with_ in ((tree.left[0], below, some), (tree.right[0], n - below, events - some)):
            value = (with_ - people * p) / (people * p * (1 - p) + PENALTY) * eta
            fits = fits & (np.abs(value - tree.value[leaf]) <= 0.501 * 10.0 ** (np.floor(np.log10(abs(tree.value[leaf]))) - 2))
            fits = fits & (np.abs(4 * people * p * (1 - p) - tree.cover[leaf]) <= 5.5)
    found = np.argwhere(fits)
    return (int(found[0][0]) + 10, int(found[0][1])) if len(found) == 1 else None


def between_leaves(tables):
    """How many patients lie between the cuts of two models, as far as the leaves tell for certain."""
    found = ask(tables, stumps(), Rules(), book(**AGES))
    given = [one for one in found if not isinstance(one, Failed)]
    n, events = given[0].n, given[0].events
    known = {}
    for place in range(0, len(given) - len(ETAS) + 1, len(ETAS)):
        models = given[place:place + len(ETAS)]
        if models[0].trees[0].left[0] > 0 and (sums := counted(models, n, events)) is not None:
            known[models[0].trees[0].threshold[0]] = sums
    age, y = whole(tables, "age"), whole(tables, "worse")
    for cut, sums in known.items():
        assert sums == ((age < cut).sum(), y[age < cut].sum()), "the attack must be right"
    return [known[b][0] - known[a][0] for a, b in itertools.pairwise(sorted(known))]


def test_leaves_of_several_models_are_not_subtracted(monkeypatch):
    """The number of bins moves the cut by a year: with two models the few patients of that age, and their outcomes, are known. So trees
    are grown on a covariate once in a query; the control asks without that rule."""
    tables = registries((90, 90, 90), 7)
    assert between_leaves(tables) == []

    monkeypatch.setattr(engine, "grown_again", lambda *args: None)
    found = [few for seed in range(6) for few in between_leaves(registries((90, 90, 90), seed)) if few < 10]

    assert found
