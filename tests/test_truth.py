"""Hide or tell, never bend: every number shown under the release rules is the number without rules.

How this works. Each question is asked three times of the same five registries: without rules, under the
default rules without rounding, and under the default rules. Without rounding, a shown number equals the
one without rules *at the same place* (`same_place` finds it: bins are joined and curves are read where the
rules show them). With rounding it is within its stated step. Whatever may differ stands in `EXCEPTIONS`,
each with its reason and with a bound that is checked as a bound.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import rankdata

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses import validation
from fedstats.analyses.quantiles import registered
from fedstats.disclosure import NO_RULES
from fedstats.disclosure.precision import CURVE_DECIMALS as DECIMALS
from fedstats.disclosure.precision import DIGITS as SIGNIFICANT
from fedstats.disclosure.precision import SMALLEST_P
from fedstats.errors import Refused
from fedstats.query.analysis import ANALYSES, question_of

from . import every
from .questions import calls

BOOK = Dictionary.from_dict(every.DICTIONARY)
EXACT, ROUNDED = Rules(rounding=False), Rules()
CLOSE = 1e-9                # relative: the same sums in another order
LAST_DAY = 3600             # where the grid of `days` ends, so that no event lies beyond it
SHARES = (0.34, 0.26, 0.18, 0.13, 0.09)     # of the patients, by registry
TRIES = [(300, 1), (1500, 1), (6000, 1)]
MORE_TRIES = [(n, seed) for n in (300, 1500) for seed in (2, 3, 4, 5)]

GROUPED: list[tuple[str, tuple, dict]] = [
    ("kaplan_meier", (), {"time": "days", "event": "event", "by": "ecog"}),
    ("kaplan_meier", (), {"time": "years", "event": "event", "by": "female"}),
    ("kaplan_meier", (), {"time": "years", "event": "event", "by": "sex", "tau": 10.0}),
    ("logrank", (), {"time": "days", "event": "event", "by": "ecog"}),
    ("logrank", (), {"time": "days", "event": "event", "by": "sex", "strata": "ecog"}),
    ("rates", (), {"events": "relapses", "time": "years", "by": "ecog", "missing": True}),
    ("compare", ("relapses",), {"by": "ecog"}),
    ("compare", ("years",), {"by": "female"}),
    ("histogram", ("age",), {"by": "ecog"}),
    ("crosstab", ("ecog", "relapses"), {}),
    ("table_one", (["age", "edss", "female", "relapses", "years"],), {"by": "ecog"}),
    ("table_one", (["sex", "event", "age"],), {"by": "female", "missing": True}),
    ("quantiles", (["age", "edss", "relapses", "years"],), {"q": (0.05, 0.25, 0.5, 0.75, 0.95)}),
    ("validation", ("event", ["age", "edss"]), {"by": ["ecog"], "folds": 2, "rounds": 2, "max_depth": 2, "bins": 6}),
]
QUESTIONS = [*calls(), *GROUPED]


def registries(n, seed):
    """Five tables of different sizes, n patients in all, with missing values in every column."""
    random = np.random.default_rng([n, seed])
    table = every.random_rows(n, random)
    first = 1 if seed == 1 else 0       # with a few events at time 0, models of time to event are refused
    table["days"] = np.array([None if one is None else min(max(one, first), LAST_DAY) for one in table["days"]], dtype=object)
    where = random.choice(len(SHARES), n, p=SHARES)
    return {f"r{k}": {name: np.asarray(column, dtype=object)[where == k] for name, column in table.items()}
            for k in range(len(SHARES))}


# -- the same place without rules -------------------------------------------------------------------------


def joined_bins(shown, free):
    """Bins of a histogram without rules, added up to those that are shown."""
    sizes = {one["group"]: one["n"] for one in free["groups"]}
    found = []
    for one in shown["bins"]:
        own = [b for b in free["bins"] if b["group"] == one["group"]]
        if one["start"] is not None:
            own = [b for b in own if one["start"] <= b["start"] and b["stop"] <= one["stop"]]
        else:
            own = [b for b in own if b["bin"] == one["bin"]] or own
        count = sum(b["count"] for b in own)
        share = count / sizes[one["group"]] if sizes[one["group"]] else None
        width = None if one["start"] is None else one["stop"] - one["start"]
        found.append(one | {"count": count, "share": share, "density": share / width if width and share is not None else None})
    return free | {"bins": found}


def read_curves(shown, free):
    """Curves without rules, read at the reporting times; events between them added up."""
    return free | {"groups": [_read_curve(*pair) for pair in zip(shown["groups"], free["groups"])]}


START = {"survival": 1.0, "se": 0.0, "low": 1.0, "high": 1.0, "cumulative_hazard": 0.0, "cumulative_hazard_se": 0.0}


def _read_curve(shown, free):
    times = np.array(shown["times"])
    if not len(times):
        return free
    full = np.array(free["times"])
    ends = np.searchsorted(full, times * (1 + 1e-12), side="right")
    if len(times) > 1 and shown["since"][1] <= times[0]:
        ends[0] = 0             # the start: who leaves at time 0 is counted at the first reporting time
    starts = np.concatenate([[0], ends[:-1]])
    found = dict(free)
    for name, start in START.items():
        found[name] = [free[name][end - 1] if end else start for end in ends]
    for name in ("events", "censored"):
        found[name] = [sum(free[name][a:b]) for a, b in zip(starts, ends)]
    found["at_risk"] = [free["at_risk"][a] if a < len(full) else free["remaining"] for a in starts]
    found["remaining"] = free["n"] - sum(found["events"]) - sum(found["censored"])
    return found | {"times": shown["times"], "since": shown["since"]}


def read_baselines(shown, free):
    """Baselines of a Cox model without rules, at the shown times."""
    found = []
    for one in shown["baseline"]:
        (own,) = (b for b in free["baseline"] if b["stratum"] == one["stratum"])
        at = np.searchsorted(own["times"], np.array(one["times"]) * (1 + 1e-12), side="right") - 1
        read = {name: [own[name][k] for k in at] for name in ("hazard", "variance", "drift") if own[name]}
        found.append(own | read | {"times": one["times"]})
    return free | {"baseline": found}


def ratios_of_shown_groups(shown, free):
    """Rate ratios without rules, of the groups that are shown."""
    ratios = {one["group"]: one for one in free["ratios"]}
    rates = {one["group"]: one for one in free["rates"]}
    return free | {"ratios": [ratios[one["group"]] for one in shown["ratios"]], "rates": [rates[one["group"]] for one in shown["rates"]]}


SAME_PLACE: dict[str, Callable[[dict, dict], dict]] = {
    "rates": ratios_of_shown_groups,
    "histogram": joined_bins, "kaplan_meier": read_curves, "cox": read_baselines}


def leaves(content, path=""):
    """Every number of a result by its place: {"groups.0.mean": 2.5}."""
    if isinstance(content, dict):
        return {place: one for name, part in content.items() for place, one in leaves(part, f"{path}{name}.").items()}
    if isinstance(content, (list, tuple)):
        return {place: one for k, part in enumerate(content) for place, one in leaves(part, f"{path}{k}.").items()}
    return {path[:-1]: content} if isinstance(content, (int, float)) and not isinstance(content, bool) else {}


# -- what may differ, and by how much -----------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One question: the result, its numbers, those without rules at the same places, and the rows."""

    kind: str
    result: Any
    shown: dict
    free: dict
    tables: dict
    arguments: dict

    def rows(self, *known):
        """The rows of all registries of which some columns are known, {column: values}."""
        every_row = {name: np.concatenate([one[name] for one in self.tables.values()]) for name in next(iter(self.tables.values()))}
        keep = np.all([[one is not None for one in every_row[name]] for name in known], axis=0)
        return {name: column[keep] for name, column in every_row.items()}

    def column(self, *names):
        """Complete cases of some columns, floats of shape (n, columns)."""
        return np.array([self.rows(*names)[name] for name in names], dtype=float).T


@dataclass(frozen=True)
class Exception_:
    """Numbers that may differ. place : a pattern. bound : whether a number at a place is as it must be."""

    kind: str
    place: str
    reason: str
    bound: Callable[[Seen, str, Any], bool]


def parent(content, place, up=1):
    """The part of a result that holds a place."""
    for step in place.split(".")[:-up]:
        content = content[int(step) if isinstance(content, (list, tuple)) else step]
    return content


def counts_nobody(seen, place, value):
    return isinstance(value, int) and value >= 0


def bounds_the_quantile(seen, place, value):
    """The quantile of the rows themselves lies within the bounds."""
    one = parent(seen.shown, place)
    names = seen.arguments["names"]
    x = np.sort(seen.column(*names)[:, names.index(one["column"])])
    method = {7: "linear", 6: "weibull", 2: "averaged_inverted_cdf", 1: "inverted_cdf"}[seen.shown["type"]]
    exact = float(np.quantile(x, float(registered(one["q"])), method=method))
    return one["low_bound"] - CLOSE <= exact <= one["high_bound"] + CLOSE


def holds_the_quantile(seen, place, value):
    """A quartile of a curve lies between `after` and `time`, its interval within its own limits."""
    one, free = parent(seen.shown, place), parent(seen.free, place)
    exact = free[{"after": "time"}.get(place.rpartition(".")[2], place.rpartition(".")[2])]
    if exact is None:
        return False
    if place.endswith(("time_low", "after")):
        return value <= exact
    if place.endswith("time") and one["after"] is not None and not one["after"] <= free["time"]:
        return False
    return exact <= value * (1 + CLOSE)


def ranks_of_the_band(seen, place, value):
    """The mean rank of these people's EDSS in their band, from the rows."""
    one = parent(seen.shown, place)
    edss, time = seen.column("edss", seen.arguments["time"] or "age").T
    year = np.minimum(np.floor(time) + 1, 30) if seen.shown["score"] == "msss" else np.floor(time)
    scored = (edss != 0.5) & (edss < 10) & (year >= one["first_year"]) & (year <= one["last_year"])
    edss = edss[scored]
    inside = (edss >= one["low"]) & (edss <= one["high"])
    expected = 10 * rankdata(edss)[inside].mean() / (len(edss) + 1)
    return math.isclose(value, expected, rel_tol=CLOSE)


def leaf_of_its_patients(seen, place, value):
    """A leaf is -eta G / (H + lambda) over the patients in it, from the rows and the trees before it."""
    if seen.shown["objective"] not in ("binary:logistic", "count:poisson"):
        return math.isfinite(value)
    tree, node = int(place.split(".")[1]), int(place.split(".")[-1])
    if seen.shown["trees"][tree]["left"][node] != -1:
        return value == 0
    gradient, hessian = gradients_in(seen, tree, node)
    settings = seen.shown["parameters"]
    weight = -gradient / (hessian + settings["reg_lambda"])
    most = settings["max_delta_step"] or math.inf
    return math.isclose(value, settings["learning_rate"] * min(max(weight, -most), most), rel_tol=1e-3, abs_tol=1e-6)


def gradients_in(seen, tree, node):
    """Sums of first and second derivatives over the patients in a leaf."""
    start = tree - tree % seen.shown["parameters"]["batch"]         # trees of a batch see the same margins
    rows = seen.rows(seen.shown["outcome"])
    data, y = {name: rows[name] for name in seen.shown["covariates"]}, rows[seen.shown["outcome"]].astype(float)
    margin = msgspec.structs.replace(seen.result, trees=seen.result.trees[:start]).margins(data)
    own = seen.result.trees[tree]
    numbered = msgspec.structs.replace(own, value=tuple(float(k) if left == -1 else 0.0 for k, left in enumerate(own.left)))
    leaf = msgspec.structs.replace(seen.result, trees=(numbered,), base_margin=0.0).margins(data)
    inside, margin = leaf == node, margin.astype(float)
    if seen.shown["objective"] == "count:poisson":
        return (np.exp(margin) - y)[inside].sum(), np.exp(margin + seen.shown["parameters"]["max_delta_step"])[inside].sum()
    p = 1 / (1 + np.exp(-margin))
    return (p - y)[inside].sum(), (p * (1 - p))[inside].sum()


def rounded_cover(seen, place, value):
    """Weight of a leaf to multiples of the smallest cell, four times the hessian for the log-loss; else the sum of its children."""
    tree, node = seen.shown["trees"][int(place.split(".")[1])], int(place.split(".")[-1])
    if tree["left"][node] != -1:
        return value == tree["cover"][tree["left"][node]] + tree["cover"][tree["right"][node]]
    if seen.shown["objective"] not in ("binary:logistic", "count:poisson"):
        return value % EXACT.min_cell == 0
    hessian = gradients_in(seen, int(place.split(".")[1]), node)[1] * (4 if seen.shown["objective"] == "binary:logistic" else 1)
    return abs(value - hessian) <= EXACT.min_cell / 2 * (1 + 1e-6) or value == EXACT.min_cell > hessian


def of_these_trees(seen, place, value):
    """What the trees say of the patients they were grown on: log-loss and AUC of their predictions."""
    if seen.shown["objective"] != "binary:logistic":
        return value == seen.free["metrics"].get(place.partition(".")[2]) or seen.shown["trees"] != seen.free["trees"]
    rows = seen.rows(seen.shown["outcome"])
    y, p = rows[seen.shown["outcome"]].astype(bool), seen.result.predict({name: rows[name] for name in seen.shown["covariates"]})
    ranks, n1 = rankdata(p), y.sum()
    if place == "metrics.log_loss":
        return math.isclose(value, -np.log(np.where(y, p, 1 - p)).mean(), rel_tol=1e-6)
    if place == "metrics.auc_slack":
        return 0 <= value <= 0.5
    exact = (ranks[y].sum() - n1 * (n1 + 1) / 2) / n1 / (~y).sum()
    return abs(value - exact) <= seen.shown["metrics"]["auc_slack"]


FLOORS = "floors for leaves: other trees than without rules; each number is that of these trees"
EXCEPTIONS = (
    Exception_("", r"cost\..*", "rounds and numbers sealed: more is asked under rules; nothing about patients", counts_nobody),
    Exception_("crosstab", r"suppressed", "how many numbers are hidden", counts_nobody),
    Exception_("quantiles", r"quantiles\.\d+\.(low|high)_bound", "bins are joined: bounds are wider", bounds_the_quantile),
    Exception_("kaplan_meier", r"groups\.\d+\.(quantiles\.\d+|follow_up)\.(time|time_low|time_high|after)",
               "told as the reporting interval that holds it", holds_the_quantile),
    Exception_("severity", r"cells\..*\.score", "bands of five years, each ranked in itself, instead of a sliding window",
               ranks_of_the_band),
    Exception_("severity", r"cells\..*(year|low|high)", "which patients the score is of", lambda *_: True),
    Exception_("boost", r"trees\.\d+\.value\.\d+", FLOORS, leaf_of_its_patients),
    Exception_("boost", r"trees\.\d+\.cover\.\d+", "weights of leaves, told to multiples of the smallest cell", rounded_cover),
    Exception_("boost", r"trees\..*(left|right|feature|threshold)\.\d+", FLOORS, lambda *_: True),
    Exception_("boost", r"metrics\..*", FLOORS, of_these_trees),
    Exception_("boost", r"columns\.\d+\.bins", "bins of a feature are joined",
               lambda seen, place, value: value <= leaves(seen.free)[place]),
    Exception_("boost", r"parameters\.min_child_weight", "the floor itself",
               lambda seen, place, value: value in (seen.free["parameters"]["min_child_weight"], EXACT.min_cell / 4)),
)


def excepted(seen, place):
    return next((one for one in EXCEPTIONS if one.kind in ("", seen.kind) and re.fullmatch(one.place, place)), None)


# -- rounding -------------------------------------------------------------------------------------------------


def digits(count):
    """The step of so many significant digits."""
    return lambda part, exact: 10.0 ** (math.floor(math.log10(abs(exact))) + 1 - count) if exact else 0.0


def one_person(part, exact):
    """Survival and hazard: one person at risk at the start of the interval, printed to the usual digits."""
    return 1 / max(part["at_risk"][part["k"]], 1) + max(10.0**-DECIMALS, digits(SIGNIFICANT)(part, exact))


def one_persons_time(part, exact):
    return part["tau"] / part["n"] + digits(SIGNIFICANT)(part, exact)


def of_the_interval(part, exact):
    """Limits are computed from the rounded estimate and its two-digit standard error: a person's part, and a
    tenth of the interval."""
    k = part["k"]
    return 2 * (2 / max(part["at_risk"][k], 1) + 0.1 * abs(part["high"][k] - part["low"][k]))


def of_the_mean(part, exact):
    return 2 * (4 * part["tau"] / part["n"] + 0.1 * abs(part["rmst_high"] - part["rmst_low"]))


# (kind, place) -> the step of a number; half of it is the most that rounding may change. The first that fits.
STEPS: tuple[tuple[str, str, Callable], ...] = (
    ("kaplan_meier", r".*\.(survival|cumulative_hazard)\.\d+", one_person),
    ("kaplan_meier", r".*\.(se|cumulative_hazard_se)\.\d+", digits(2)),
    ("kaplan_meier", r".*\.(low|high)\.\d+", of_the_interval),
    ("kaplan_meier", r".*\.rmst", one_persons_time),
    ("kaplan_meier", r".*\.rmst_se", lambda part, exact: 2 * one_persons_time(part, exact)),
    ("kaplan_meier", r".*\.rmst_(low|high)", of_the_mean),
    ("boost", r"trees\..*\.value\..*", lambda part, exact: math.inf),       # three digits; later leaves follow from earlier ones
    ("boost", r"(trees\..*|metrics\..*)", lambda part, exact: math.inf),
    ("boost", r"base_margin", lambda part, exact: 4 * 10.0**-SIGNIFICANT),          # the logit of the rounded share
    ("severity", r".*\.score", lambda part, exact: 10.0**-DECIMALS),
    ("", r".*(^|[._])p(_\w+)?", lambda part, exact: max(digits(2)(part, exact), 2 * SMALLEST_P)),
    ("", r".*(chi2|chi2_yates|cramers_v)", digits(3)),
    ("", r".*", digits(SIGNIFICANT)),
)


def step_of(kind, content, place, exact):
    way = next(step for one, pattern, step in STEPS if one in ("", kind) and re.fullmatch(pattern, place))
    part = content
    if kind == "kaplan_meier" and place.startswith("groups."):
        group = content["groups"][int(place.split(".")[1])]
        part = group | {"k": int(place.rpartition(".")[2]) if place[-1].isdigit() else 0, "tau": content["tau"]}
    return way(part, exact)


# -- the check ------------------------------------------------------------------------------------------------


def asked(tables, name, args, kwargs, rules):
    return getattr(fedstats.pooled(tables, dictionary=BOOK, rules=rules).cohort(), name)(*args, **kwargs)


def without_rules(tables, name, args, kwargs, shown, models=EXACT):
    """The reference: no rules. A restricted mean is asked to the time that the rules allow, rate ratios against
    the group that they name. The models of a validation are those that the rules `models` let grow, as other
    trees have other scores."""
    if name == "kaplan_meier" and shown.tau is not None:
        kwargs = kwargs | {"tau": shown.tau}
    if name == "rates" and shown.ratios:
        kwargs = kwargs | {"reference": shown.ratios[0].reference}
    with pytest.MonkeyPatch.context() as patch:
        if name == "validation":
            grow = validation.train
            patch.setattr(validation, "train", lambda params, setting: grow(params, dataclasses.replace(setting, rules=models)))
        return asked(tables, name, args, kwargs, NO_RULES)


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= CLOSE * max(abs(a), abs(b), CLOSE)


def differing(seen):
    """Numbers that are neither those without rules nor within the bound of an exception: {place: (shown, without)}."""
    free, found = leaves(seen.free), {}
    for place, value in leaves(seen.shown).items():
        exception = excepted(seen, place)
        ok = exception.bound(seen, place, value) if exception is not None else place in free and same(value, free[place])
        if not ok:
            found[place] = (value, free.get(place))
    return found


def badly_rounded(kind, exact, rounded):
    """Numbers that rounding moved by more than half their step."""
    shown, found = leaves(exact), {}
    for place, value in leaves(rounded).items():
        if place not in shown or abs(value - shown[place]) > (0.5 + 1e-6) * step_of(kind, exact, place, shown[place]) + CLOSE**2:
            found[place] = (value, shown.get(place))
    return found


# Their digits follow standard errors and people: `test_precision` tries these.
DIGITS_TRIED = {"summary", "compare", "table_one", "correlation", "rates", "glm", "cox", "piecewise", "ordinal", "multinomial"}


def checked(n, seed, questions=QUESTIONS):
    """Per question that is answered: its kind, and how many numbers it shows."""
    tables = registries(n, seed)
    for name, args, kwargs in questions:
        try:
            result = asked(tables, name, args, kwargs, EXACT)
        except Refused:
            continue
        shown, free = msgspec.to_builtins(result), msgspec.to_builtins(without_rules(tables, name, args, kwargs, result))
        params = msgspec.to_builtins(question_of(name, *args, **kwargs).read())
        seen = Seen(name, result, shown, SAME_PLACE.get(name, lambda _, one: one)(shown, free), tables, params)

        assert not differing(seen), (name, args, kwargs)
        if name == "validation":        # leaves are rounded too, which makes other models
            shown = msgspec.to_builtins(without_rules(tables, name, args, kwargs, result, ROUNDED))
        if name not in DIGITS_TRIED:
            assert not badly_rounded(name, shown, msgspec.to_builtins(asked(tables, name, args, kwargs, ROUNDED))), (name, args, kwargs)
        yield name, len(leaves(shown))


@pytest.mark.parametrize(("n", "seed"), [*TRIES, *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE_TRIES)])
def test_a_shown_number_is_the_number_without_rules(n, seed):
    """Every analysis, with and without groups: what is shown is the pooled number, to its last digit."""
    answered = {name for name, count in checked(n, seed) if count}

    assert n < 6000 or answered == {name.partition("/")[0] for name in ANALYSES}


def test_a_bent_number_is_found():
    """The control: counts at joined bins instead of theirs, and one digit too few."""
    tables, question = registries(1500, 1), ("histogram", ("age",), {})
    shown = msgspec.to_builtins(asked(tables, *question, EXACT))
    free = msgspec.to_builtins(asked(tables, *question, NO_RULES))
    seen = Seen("histogram", None, shown, free, tables, {})
    three = shown | {"bins": [one | {"share": float(f"{one['share']:.3g}")} for one in shown["bins"]]}

    assert differing(seen)
    assert not differing(dataclasses.replace(seen, free=joined_bins(shown, free)))
    assert badly_rounded("histogram", shown, three)
