"""Everything that could have been, enumerated: what a released result determines about groups of a few.

How this works. A world is a dictionary, a handful of *types* of patients and one or two questions. A data
set says how many patients of each type there are; every data set of up to so many patients is tried. Totals
are sums over patients, so each is worked out from one patient of each type, and the real query (round 0,
gate, release rules, rounding) runs on these totals; two data sets with the same totals run once. Data sets
with the same released results cannot be told apart by any reader: whatever is the same in all of them is
*determined*. A group of 1..k-1 patients that is determined is a finding: groups are those of everything the
questions declare, alone and jointly, with single times and values, and what two populations differ by.

Floors are scaled with k (`FLOORS`), and the smallest cohort and the number of registries are waived: a leak
that needs ten patients of each kind shows with two.

    python -m tests.audit.small_world [name ...]       prints every world, with the smallest example
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedstats import Dictionary, Rules
from fedstats.analyses.survival import reporting
from fedstats.data.rows import Rows, load
from fedstats.disclosure.release import SurvivalCurve, population_of
from fedstats.query.analysis import Failed, Question, question_of
from fedstats.query.driver import query
from fedstats.query.population import Whole
from fedstats.sums.statistic import INDICATORS, Ask, Sums, answer

K = 3                       # with 2, whoever knows how intervals are joined knows that a hidden 1 is 1
RULES = Rules(min_cell=K, min_cohort=1, min_registries=1)
LEAST_SHOWN = 0.01          # share of data sets in which a world must show something, or it says nothing

# floors that are a number of people, with what they are in a world whose smallest cell is K instead of 10
FLOORS = ((reporting, "ENOUGH_FOR_SE", 10 * K),)
USUAL = tuple(getattr(module, name) for module, name, _ in FLOORS)

BOOK = Dictionary.from_dict({"name": "small", "variables": [
    {"name": "a", "type": "category", "levels": ["x", "y", "z"]},
    {"name": "b", "type": "category", "levels": ["u", "v"]},
    {"name": "g", "type": "boolean"},
    {"name": "few", "type": "integer", "range": [0, 6]},
    {"name": "score", "type": "number", "range": [0, 4], "step": 1, "cut_points": [1, 2, 3]},
    {"name": "count", "type": "integer", "range": [0, 9]},
    {"name": "years", "type": "integer", "range": [0, 9], "unit": "years"},
    {"name": "time", "type": "integer", "range": [0, 6], "unit": "months", "cut_points": [1, 2, 3, 4, 5, 6]},
    {"name": "event", "type": "boolean"},
]})

Types = tuple[dict[str, Any], ...]


def crossed(**values: Any) -> Types:
    """One type for each combination. crossed(a="xy", g=(True, False))"""
    return tuple(dict(zip(values, one)) for one in itertools.product(*values.values()))


@dataclass(frozen=True)
class World:
    """types : kinds of patients; columns that are not named are unknown. people : the most there are. ask :
    the questions. shown : whether a result tells something. reason : why it is known to fail; empty else."""

    name: str
    types: Types
    people: int
    ask: tuple[Question, ...]
    fewest: int = K
    larger: int = 0             # the most people of the slow run; 0 : the same
    reason: str = ""

    def data_sets(self, most: int) -> np.ndarray:
        """Every data set, patients per type, shape (data sets, types)."""
        found = [np.diff([-1, *bars, n + len(self.types) - 1]) - 1
                 for n in range(self.fewest, most + 1)
                 for bars in itertools.combinations(range(n + len(self.types) - 1), len(self.types) - 1)]
        return np.array(found, dtype=np.int64)


# -- running a query on counts of types ---------------------------------------------------------------------


@dataclass
class Counted:
    """Answers asks from counts of types. rows : one patient of each type."""

    rows: list[Rows]
    known: dict[bytes, dict[str, np.ndarray]] = field(default_factory=dict)

    def totals(self, ask: Ask, counts: np.ndarray) -> Sums:
        """The totals of one ask over so many patients of each type, all in one registry."""
        each = self.known.get(ask.digest)
        if each is None:
            many = [answer(ask, one) for one in self.rows]
            each = self.known[ask.digest] = {name: np.stack([one[name] for one in many]) for name in many[0]}
        found = {name: np.tensordot(counts, block, axes=1) for name, block in each.items()}
        for name, block in found.items():
            if name + INDICATORS in found:
                found[name + INDICATORS] = (block > 0).astype(np.int64)
        return found


def released(world: World, most: int) -> Iterator[tuple[np.ndarray, str, bool]]:
    """Every data set with what is released of it, as text, and whether something is shown."""
    counted = Counted([load({name: [value] for name, value in one.items()}, BOOK)[0] for one in world.types])
    for counts in world.data_sets(most):
        yield counts, *_run(world, counted, counts)


def _run(world: World, counted: Counted, counts: np.ndarray) -> tuple[str, bool]:
    conversation = query(world.ask, Whole(BOOK), RULES, 1)
    try:
        asks = next(conversation)
        while True:
            asks = conversation.send([counted.totals(ask, counts) for ask in asks])
    except StopIteration as done:
        results = done.value
    except Exception as error:          # the query as a whole is refused: its words are what is released
        return str(error), False
    return json.dumps([one.to_dict() for one in results], sort_keys=True), all(map(_shows, results))


def _shows(result: Any) -> bool:
    """Whether a result tells a number besides its size."""
    content = result.to_dict()
    for name in ("size", "registries", "notes", "methods", "confidence", "levels", "variables"):
        content.pop(name, None)
    return not isinstance(result, Failed) and any(_numbers(content))


def _numbers(content: Any, key: str = "") -> Iterator[bool]:
    if isinstance(content, dict):
        for name, one in content.items():
            yield from _numbers(one, name)
    elif isinstance(content, list):
        for one in content:
            yield from _numbers(one, key)
    else:
        yield key in SHOWN and isinstance(content, (int, float)) and not isinstance(content, bool)


SHOWN = {"count", "mean", "sd", "rate", "survival", "expected", "chi2", "share", "value", "low_bound", "with_events"}


# -- what must not be determined ------------------------------------------------------------------------------


def targets(world: World) -> dict[str, np.ndarray]:
    """Groups of patients that nobody may learn to be a few: {what they are: 0/1 per type}."""
    declared = [one for question in world.ask for one in question.read().shows(BOOK)]
    found: dict[str, np.ndarray] = {}
    for one in declared:
        names = {axis.column for axis in one.axes} | set(getattr(one, "what", ()))
        names |= {one.time} if isinstance(one, SurvivalCurve) else set()
        names = sorted(names | ({getattr(one, "merged", "")} - {""}))
        for size in range(1, len(names) + 1):
            for some in itertools.combinations(names, size):
                _by_value(found, world.types, some, set(one.of.known))
    populations = [population_of(question.read().shows(BOOK)).known for question in world.ask]
    for here, there in itertools.permutations(populations, 2):
        inside = [np.array([all(name in one for name in known) for one in world.types]) for known in (here, there)]
        found[f"knows {here} but not {there}"] = inside[0] & ~inside[1]
    return {what: mask.astype(np.int64) for what, mask in found.items() if mask.any()}


def _by_value(found: dict[str, np.ndarray], types: Types, names: tuple[str, ...], known: set[str]) -> None:
    """Everybody in a population who has the same values of some columns."""
    inside = [all(name in one for name in (*known, *names)) for one in types]
    for values in {tuple(one[name] for name in names) for one, here in zip(types, inside) if here}:
        mask = np.array([here and tuple(one[name] for name in names) == values for one, here in zip(types, inside)])
        found[", ".join(f"{name}={value}" for name, value in zip(names, values))] = mask


@dataclass(frozen=True)
class Finding:
    """A group of a few that a released result determines. data : the smallest data set that it is seen in."""

    group: str
    people: int
    data: tuple[int, ...]


@dataclass(frozen=True)
class Audit:
    """data_sets : tried. shown : share in which something is told. leaky : share of the shown ones that
    determine a group of a few. findings : one per group, the smallest data set first."""

    data_sets: int
    shown: float
    leaky: float
    findings: tuple[Finding, ...]


def audit(world: World, most: int | None = None, *, run: Callable = released) -> Audit:
    """Enumerate a world."""
    for module, name, value in FLOORS:
        setattr(module, name, value)
    try:
        return _audit(world, most or world.people, run)
    finally:
        for (module, name, _), value in zip(FLOORS, USUAL):
            setattr(module, name, value)


def _audit(world: World, most: int, run: Callable) -> Audit:
    groups = targets(world)
    what, masks = list(groups), np.array(list(groups.values()))
    alike: dict[str, list[np.ndarray]] = {}
    shown_in: dict[str, bool] = {}
    tried = 0
    for counts, text, shown in run(world, most):
        alike.setdefault(text, []).append(counts)
        shown_in[text] = shown
        tried += 1
    found: dict[str, Finding] = {}
    told = leaky = 0
    for text, many in alike.items():
        if not shown_in[text]:
            continue
        sizes = np.array(many) @ masks.T
        few = (sizes[0] > 0) & (sizes[0] < K) & (sizes == sizes[0]).all(axis=0)
        told, leaky = told + len(many), leaky + len(many) * bool(few.any())
        smallest = min(many, key=lambda one: (one.sum(), one.tolist()))
        for place in np.flatnonzero(few):
            one = Finding(what[place], int(sizes[0, place]), tuple(smallest.tolist()))
            if what[place] not in found or sum(one.data) < sum(found[what[place]].data):
                found[what[place]] = one
    order = sorted(found.values(), key=lambda one: (sum(one.data), one.data, one.group))
    return Audit(tried, told / tried, leaky / max(told, 1), tuple(order))


# -- the worlds -------------------------------------------------------------------------------------------------


def q(name: str, *args: Any, **kwargs: Any) -> Question:
    return question_of(name, *args, **kwargs)


SURVIVAL = crossed(time=(1, 2, 3), event=(True, False))
BY_TWO = crossed(time=(1, 2), event=(True, False), g=(True, False))
GAPS: Types = ({"a": "x"}, {"a": "x", "b": "u"}, {"a": "x", "b": "v"}, {"a": "y", "b": "u"}, {"a": "y", "b": "v"})
KM = q("kaplan_meier", time="time", event="event")

WORLDS = (
    World("crosstab, one variable", crossed(a="xyz"), 8, (q("crosstab", "a"),), larger=12),
    World("histogram", crossed(score=(0, 1, 2, 3)), 9, (q("histogram", "score"),), larger=14),
    World("quantiles", crossed(score=(0, 1, 2, 3)), 9, (q("quantiles", "score", q=(0.25, 0.5, 0.75)),), larger=14),
    World("quantiles beside the histogram", crossed(score=(0, 1, 2)), 9, (q("quantiles", "score"), q("histogram", "score"))),
    World("kaplan-meier", SURVIVAL, 6, (KM,), larger=9),
    World("log-rank", BY_TWO[:6], 12, (q("logrank", time="time", event="event", by="g"),), fewest=12),
    World("summary of few values", crossed(few=(0, 1, 2, 6)), 8, (q("summary", "few"),), larger=12),
    World("compare few values", crossed(few=(0, 1, 4), g=(True, False)), 6, (q("compare", "few", by="g"),), fewest=6),
    World("rates", crossed(count=(0, 1, 3), years=(2, 3)), 7, (q("rates", events="count", time="years"),), fewest=6),
    World("crosstab, two variables", crossed(a="xy", b="uv"), 8, (q("crosstab", "a", "b"),), larger=12),
    World("crosstab, one beside two", GAPS, 6, (q("crosstab", "a"), q("crosstab", "a", "b")), fewest=6, larger=10),
    World("histogram beside its groups", crossed(score=(0, 1), g=(True, False)), 8,
          (q("histogram", "score"), q("histogram", "score", by="g")), fewest=6, larger=12),
    World("table one, levels", crossed(a="xy", g=(True, False)), 8, (q("table_one", ["a"], by="g"),), fewest=6, larger=12),
)


def main(names: list[str]) -> None:
    for world in WORLDS:
        if not names or world.name in names:
            found = audit(world)
            print(f"{world.name:34s} {found.data_sets:6d} data sets, {found.shown:6.1%} shown, {found.leaky:6.1%} of these tell of a few"
                  + "".join(f"\n    {one.people} with {one.group}: {one.data}" for one in found.findings[:3]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
