"""Who stands behind a regression model: the people that its columns single out, counted before anything is fitted.

How this works: in the first round a model asks `model_cells` beside its own sums, and `model_rules` judges the totals. What a reader could
form from the columns counts too: the combinations of levels of an interaction, the levels of a number that a polynomial can reach one by
one, the pieces of a spline, whoever weighs nothing. A propensity model behind weights is counted as if it were fitted to the patients of
the question: its coefficients are whatever the analyst states.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.dictionary import MOST_GROUPS, Dictionary
from ...data.rows import Rows
from ...disclosure.release import few_levels
from ...formula import splines
from ...formula.terms import (
    BSpline,
    Design,
    Factor,
    Interaction,
    Natural,
    Term,
    columns_of,
    factors_of,
    is_categorical,
    knots_of,
    levels_of,
    read_terms,
)
from ...formula.weights import InverseProbability, Weighting
from ...sums import steady
from ...sums.statistic import Block, Sums, statistic
from .weight_rules import CLASSES, arms, class_counts

LEVELS_PER_COLUMN = 2       # levels of a number per column of it, from which on its levels are no table any more
PROPENSITY = "propensity "  # before the names of what is counted for a propensity model


def factor_names(terms: Sequence[Term], dictionary: Dictionary, also: Sequence[str] = ()) -> tuple[str, ...]:
    """The variables of a model that make tables of people: categories, booleans, numbers of few levels, each once; and numbers of
    hardly more levels than the model has columns of them, as a polynomial does to them what indicators do.

    also : further ones, such as strata.
    """
    factors = dict.fromkeys(factor for term in terms for factor in factors_of(term))
    columns = {name: sum(len(columns_of(one, dictionary)) for one in factors if one.name == name) for name in {f.name for f in factors}}
    found = [one.name for one in factors if _makes_table(one, dictionary, columns[one.name])]
    return tuple(dict.fromkeys([*found, *also]))


def selecting(names: Sequence[str], dictionary: Dictionary) -> list[str]:
    """Of the variables of weights and offset those whose levels weights can pick out one by one."""
    return [name for name in names if dictionary[name].type == "category" or few_levels(dictionary[name])]


def _makes_table(factor: Factor, dictionary: Dictionary, columns: int) -> bool:
    variable = dictionary[factor.name]
    if is_categorical(factor, dictionary) or few_levels(variable):
        return True
    # 5 powers and a constant reach each of 6 levels; with a few levels more, counts are still whole numbers that can be solved for
    return columns > 1 and variable.steps is not None and variable.steps <= LEVELS_PER_COLUMN * columns


def _valued(terms: Sequence[Term], dictionary: Dictionary) -> frozenset[str]:
    """Of these variables those that a model has as numbers: their tables are by value, not by registered cut points."""
    return frozenset(one.name for term in terms for one in factors_of(term)
                     if not is_categorical(one, dictionary) and dictionary[one.name].steps is not None)


def _sizes(names: Sequence[str], terms: Sequence[Term], dictionary: Dictionary) -> list[int]:
    """How many levels the table of each variable has."""
    valued, steps = _valued(terms, dictionary), {name: dictionary[name].steps for name in names}
    return [int(steps[name] or 0) + 1 if name in valued else len(dictionary.bins(name, most=MOST_GROUPS)) for name in names]


def crossed(terms: Sequence[Term], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Per interaction the factors in it that make tables, where there are several: with their margins it reaches each combination."""
    found = [tuple(one.name for one in factors_of(term) if one.name in names) for term in terms if isinstance(term, Interaction)]
    return [one for one in dict.fromkeys(found) if len(one) > 1]


def _pieces(terms: Sequence[Term], dictionary: Dictionary) -> list[tuple[str, float, float, list[float], int, tuple[int, ...]]]:
    """The local pieces that splines can form beyond their columns: (variable, low, high, knots, degree, places among the B-splines).

    The first B-spline is the constant less all others. A natural spline has every B-spline that its conditions at the ends leave free.
    """
    found = []
    for factor in dict.fromkeys(factor for term in terms for factor in factors_of(term)):
        if isinstance(factor, (Natural, BSpline)):
            low, high, inner = knots_of(factor, dictionary)
            degree = factor.degree if isinstance(factor, BSpline) else splines.CUBIC
            count = len(inner) + degree + 1
            places = (0,) if isinstance(factor, BSpline) else tuple(range(splines.CUBIC, count - splines.CUBIC))
            if places:
                found.append((factor.name, low, high, splines.augmented(inner, degree), degree, places))
    return found


def _outcome_levels(dictionary: Dictionary, outcome: str | None) -> int:
    return 1 if outcome is None else len(levels_of(outcome, dictionary)[0])


def _cell_blocks(dictionary: Dictionary, *, terms: Sequence[Any], columns: Sequence[str] = (), outcome: str | None = None,
                 also: Sequence[str] = (), intercept: bool = True, absorbed: bool = True) -> dict[str, Block]:
    design = Design.of(terms, dictionary, intercept=intercept, absorbed=absorbed)
    factors, k = factor_names(read_terms(terms), dictionary, also), _outcome_levels(dictionary, outcome)
    read = read_terms(terms)
    sizes = _sizes(factors, read, dictionary)
    q = len(design) + _constant(design, absorbed)
    blocks = {"gram": Block((q * (q + 1) // 2,)), "outcome": Block((k,), counts=True),
              "nonzero": Block((len(design), k), counts=True), "zero": Block((len(design), k), counts=True)}
    if pieces := sum(len(places) for *_, places in _pieces(read, dictionary)):
        blocks["pieces"] = Block((pieces, k), counts=True)
    for j, names in enumerate(crossed(read, factors)):
        blocks[f"cross{j}"] = Block((*(sizes[factors.index(name)] for name in names), k), counts=True)
    for j, size in enumerate(sizes):
        blocks[f"levels{j}"] = Block((size, k), counts=True)
    for i, j in itertools.combinations(range(len(factors)), 2):
        blocks[f"pair{i},{j}"] = Block((sizes[i], sizes[j]), counts=True)
    return blocks


def _layout(dictionary: Dictionary, *, weights: Any = None, **model: Any) -> dict[str, Block]:
    blocks, weighting = _cell_blocks(dictionary, **model), Weighting.of(weights, dictionary)
    blocks["weightless"] = Block((_outcome_levels(dictionary, model.get("outcome")),), counts=True)
    if weighting is not None:
        blocks["classes"] = Block((arms(weighting), CLASSES), counts=True)
        if weighting.inverse is not None:
            blocks |= {PROPENSITY + name: block for name, block in _cell_blocks(dictionary, **stated(weighting.inverse)).items()}
    return blocks


def stated(inverse: InverseProbability) -> dict[str, Any]:
    """A propensity model as `model_cells` takes it."""
    return {"terms": inverse.terms, "outcome": inverse.treatment, "intercept": not inverse.by_registry, "absorbed": inverse.by_registry}


@statistic("model_cells/1", layout=_layout)
def model_cells(rows: Rows, columns: Sequence[str], terms: Sequence[Any], outcome: str | None = None, also: Sequence[str] = (),
                intercept: bool = True, absorbed: bool = True, weights: Any = None) -> dict:
    """People behind a model, complete cases of `columns`: by outcome level; per design column those who are not 0 in it, and those who
    are, by outcome; per level of each factor, by outcome; per pair of levels of two factors; per combination of levels of an interaction,
    by outcome; per piece of a spline, by outcome. With several rows per patient: who has such a row.
    gram : X' X of the scaled columns, with a constant one where the model has something like it.
    classes : people per treatment and class of weight, see `weight_rules`; and all of this for a propensity model, the treatment being
    the outcome.

    outcome : a variable with levels (an event, a 0/1 outcome, an ordinal outcome); None: everybody in one. weights : as of a model; those
    of weight 0 are nobody, and are counted apart.
    """
    cases = rows.complete(columns)
    weighting, found = Weighting.of(weights, rows.dictionary), np.ones(cases.n)
    if weighting is not None:
        found = weighting.values(cases)
    cases, weightless, found = cases.where(found > 0), cases.where(found <= 0), found[found > 0]
    k = _outcome_levels(rows.dictionary, outcome)
    sums = _cell_sums(cases, read_terms(terms), outcome, also, intercept, absorbed)
    sums["weightless"] = people_at(weightless, _places(weightless, outcome), k)
    if weighting is not None:
        sums["classes"] = class_counts(cases, weighting, found)
        if weighting.inverse is not None:
            sums |= {PROPENSITY + name: block for name, block in _cell_sums(cases, also=(), **stated(weighting.inverse)).items()}
    return sums


def _cell_sums(cases: Rows, terms: Sequence[Term], outcome: str | None, also: Sequence[str], intercept: bool, absorbed: bool) -> dict:
    """What `model_cells` counts, of those who have a weight."""
    dictionary = cases.dictionary
    design = Design.of(terms, dictionary, intercept=intercept, absorbed=absorbed)
    factors, k = factor_names(terms, dictionary, also), _outcome_levels(dictionary, outcome)
    place, everybody = _places(cases, outcome), np.ones(cases.n, dtype=bool)
    columns_at = [everybody] * design.intercept + [column != 0 for part in design.parts for column in part.values(cases)]
    shape, X = (len(design), k), with_constant(design, cases, absorbed)
    sums: dict[str, Any] = {"gram": steady.pack(X.T @ X), "outcome": people_at(cases, place, k),
                            "nonzero": np.array([people_at(cases, place, k, there) for there in columns_at]).reshape(shape),
                            "zero": np.array([people_at(cases, place, k, ~there) for there in columns_at]).reshape(shape)}
    pieces = [people_at(cases, place, k, piece != 0) for piece in _piece_values(cases, terms)]
    if pieces:
        sums["pieces"] = np.array(pieces)
    valued, sizes = _valued(terms, dictionary), _sizes(factors, terms, dictionary)
    bins = [cases.steps(name) if name in valued else cases.bins(name) for name in factors]
    for j, names in enumerate(crossed(terms, factors)):
        parts = [factors.index(name) for name in names]
        full = tuple(sizes[one] for one in parts)
        cell = np.ravel_multi_index(tuple(bins[one] for one in parts), full)
        sums[f"cross{j}"] = people_at(cases, cell * k + place, math.prod(full) * k).reshape(*full, k)
    for j, size in enumerate(sizes):
        sums[f"levels{j}"] = people_at(cases, bins[j] * k + place, size * k).reshape(size, k)
    for i, j in itertools.combinations(range(len(factors)), 2):
        sums[f"pair{i},{j}"] = people_at(cases, bins[i] * sizes[j] + bins[j], sizes[i] * sizes[j]).reshape(sizes[i], sizes[j])
    return sums


def weighed(cases: Rows, weights: Any) -> Rows:
    """Rows with a weight above 0."""
    weighting = Weighting.of(weights, cases.dictionary)
    return cases if weighting is None else cases.where(weighting.values(cases) > 0)


def _places(cases: Rows, outcome: str | None) -> np.ndarray:
    """The place of each row's outcome among its levels."""
    if outcome is None:
        return np.zeros(cases.n, dtype=np.int64)
    return np.searchsorted(np.array(levels_of(outcome, cases.dictionary)[1]), cases.bins(outcome))


def _piece_values(cases: Rows, terms: Sequence[Term]) -> list[np.ndarray]:
    found = []
    for name, low, high, knots, degree, places in _pieces(terms, cases.dictionary):
        basis = splines.bspline(np.clip((cases.values(name) - low) / (high - low), 0.0, 1.0), knots, degree)
        found += [basis[:, place] for place in places]
    return found


def people_at(rows: Rows, place: np.ndarray, size: int, keep: np.ndarray | None = None) -> np.ndarray:
    """Patients with a row at each place; each counts once per place, however many rows."""
    person = rows.person
    if keep is not None:
        place, person = place[keep], None if person is None else person[keep]
    if person is not None and len(place):
        place = np.unique(np.stack([place, person]), axis=1)[0]
    return np.bincount(place, minlength=size)


def _constant(design: Design, absorbed: bool) -> int:
    """Whether something beside the columns takes the part of an intercept."""
    return int(not design.intercept and absorbed)


def with_constant(design: Design, cases: Rows, absorbed: bool) -> np.ndarray:
    return np.column_stack([np.ones((cases.n, _constant(design, absorbed))), design.matrix(cases)])


@dataclass(frozen=True)
class Cells:
    """What the totals of `model_cells` say.

    outcome : people per outcome level. nonzero : per design column and outcome. factors : names. levels : per factor, shape
    (levels, outcomes). pairs : (factor, factor, table). empty : names of design columns in which everybody is 0.
    """

    outcome: np.ndarray
    nonzero: np.ndarray
    factors: tuple[str, ...]
    levels: tuple[np.ndarray, ...]
    pairs: tuple[tuple[str, str, np.ndarray], ...]
    empty: tuple[str, ...]

    @property
    def n(self) -> int:
        return int(self.outcome.sum())

    @property
    def events(self) -> int:
        """The smaller of those with and without the event, for two outcome levels; everybody for one; all but the largest for more."""
        return self.n if len(self.outcome) == 1 else self.n - int(self.outcome.max())


def cells_of(totals: Sums, design: Design, dictionary: Dictionary, terms: Sequence[Term], also: Sequence[str] = ()) -> Cells:
    """The totals of `model_cells`, named. design : of the whole model, no column left out."""
    factors = factor_names(terms, dictionary, also)
    pairs = tuple((factors[i], factors[j], totals[f"pair{i},{j}"]) for i, j in itertools.combinations(range(len(factors)), 2))
    nobody = totals["nonzero"].sum(axis=1) == 0
    return Cells(totals["outcome"], totals["nonzero"], factors, tuple(totals[f"levels{j}"] for j in range(len(factors))), pairs,
                 tuple(name for name, none in zip(design.names, nobody) if none))
