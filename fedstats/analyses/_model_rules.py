"""Release rules that all regression models share: enough events per parameter, and the tables that coefficients imply.

How this works: in the first round a model asks `model_cells` beside its own sums; `check_model` reads the totals and raises Refused,
with the rule and the remedy, before anything is fitted (DISCLOSURE, "models" and "implied tables"). Levels that nobody has are
left out of the design, as R leaves them out. What a reader could form from the columns counts too: the combinations of levels of an
interaction, the levels of a number that a polynomial can reach one by one, the pieces of a spline, whoever weighs nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import splines, steady
from ..dictionary import MOST_GROUPS, Dictionary
from ..disclosure import NO_RULES, Rules, safe
from ..errors import QuestionError, Refused
from ..rows import Rows
from ..statistic import INDICATORS, Ask, Block, Sums, statistic
from ..terms import (
    BSpline,
    Design,
    Factor,
    Interaction,
    Log,
    Natural,
    Polynomial,
    Power,
    Scale,
    Term,
    Variable,
    columns_of,
    factors_of,
    is_categorical,
    knots_of,
    levels_of,
    read_terms,
)
from ..weights import Weighting
from .moments import few_levels

EVENTS_PER_PARAMETER, FLOOR_EVENTS_PER_PARAMETER = 10, 5    # DISCLOSURE, "models"; Peduzzi et al. (1996), J Clin Epidemiol 49:1373
LEAST_VARIANCE = 1e-10      # of a scaled column, below which it counts as constant
LARGEST_LEVERAGE = 0.5      # of one patient: above it a coefficient is that patient's outcome (DISCLOSURE, "models")
SCALARS_PER_PATIENT = 0.1   # released numbers per patient, at most
_STRAIGHT = (Variable, Power, Polynomial, Log, Scale)
LEVELS_PER_COLUMN = 2       # levels of a number per column of it, from which on its levels are no table any more


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


def _crossed(terms: Sequence[Term], names: Sequence[str]) -> list[tuple[str, ...]]:
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


def _layout(dictionary: Dictionary, *, columns: Sequence[str], terms: Sequence[Any], outcome: str | None = None,
            also: Sequence[str] = (), intercept: bool = True, absorbed: bool = True, weights: Any = None) -> dict[str, Block]:
    design = Design.of(terms, dictionary, intercept=intercept, absorbed=absorbed)
    factors, k = factor_names(read_terms(terms), dictionary, also), _outcome_levels(dictionary, outcome)
    read = read_terms(terms)
    sizes = _sizes(factors, read, dictionary)
    q = len(design) + _constant(design, absorbed)
    blocks = {"gram": Block((q * (q + 1) // 2,)), "outcome": Block((k,), counts=True), "weightless": Block((k,), counts=True),
              "nonzero": Block((len(design), k), counts=True), "zero": Block((len(design), k), counts=True)}
    if pieces := sum(len(places) for *_, places in _pieces(read, dictionary)):
        blocks["pieces"] = Block((pieces, k), counts=True)
    for j, names in enumerate(_crossed(read, factors)):
        blocks[f"cross{j}"] = Block((*(sizes[factors.index(name)] for name in names), k), counts=True)
    for j, size in enumerate(sizes):
        blocks[f"levels{j}"] = Block((size, k), counts=True)
    for i, j in itertools.combinations(range(len(factors)), 2):
        blocks[f"pair{i},{j}"] = Block((sizes[i], sizes[j]), counts=True)
    return blocks


@statistic("model_cells/1", layout=_layout)
def model_cells(rows: Rows, columns: Sequence[str], terms: Sequence[Any], outcome: str | None = None, also: Sequence[str] = (),
                intercept: bool = True, absorbed: bool = True, weights: Any = None) -> dict:
    """People behind a model, complete cases of `columns`: by outcome level; per design column those who are not 0 in it, and those who
    are, by outcome; per level of each factor, by outcome; per pair of levels of two factors; per combination of levels of an interaction,
    by outcome; per piece of a spline, by outcome. With several rows per patient: who has such a row.
    gram : X' X of the scaled columns, with a constant one where the model has something like it.

    outcome : a variable with levels (an event, a 0/1 outcome, an ordinal outcome); None: everybody in one. weights : as of a model; those
    of weight 0 are nobody, and are counted apart.
    """
    cases, dictionary = rows.complete(columns), rows.dictionary
    cases, weightless = _weighed(cases, weights)
    design = Design.of(terms, dictionary, intercept=intercept, absorbed=absorbed)
    factors, k = factor_names(read_terms(terms), dictionary, also), _outcome_levels(dictionary, outcome)
    place, everybody = _places(cases, outcome), np.ones(cases.n, dtype=bool)
    columns_at = [everybody] * design.intercept + [column != 0 for part in design.parts for column in part.values(cases)]
    read, shape = read_terms(terms), (len(design), k)
    X = _with_constant(design, cases, absorbed)
    sums: dict[str, Any] = {"gram": steady.pack(X.T @ X), "outcome": _people(cases, place, k),
                            "weightless": _people(weightless, _places(weightless, outcome), k),
                            "nonzero": np.array([_people(cases, place, k, there) for there in columns_at]).reshape(shape),
                            "zero": np.array([_people(cases, place, k, ~there) for there in columns_at]).reshape(shape)}
    pieces = [_people(cases, place, k, piece != 0) for piece in _piece_values(cases, read)]
    if pieces:
        sums["pieces"] = np.array(pieces)
    valued, sizes = _valued(read, dictionary), _sizes(factors, read, dictionary)
    bins = [cases.steps(name) if name in valued else cases.bins(name) for name in factors]
    for j, names in enumerate(_crossed(read, factors)):
        parts = [factors.index(name) for name in names]
        full = tuple(sizes[one] for one in parts)
        cell = np.ravel_multi_index(tuple(bins[one] for one in parts), full)
        sums[f"cross{j}"] = _people(cases, cell * k + place, math.prod(full) * k).reshape(*full, k)
    for j, size in enumerate(sizes):
        sums[f"levels{j}"] = _people(cases, bins[j] * k + place, size * k).reshape(size, k)
    for i, j in itertools.combinations(range(len(factors)), 2):
        sums[f"pair{i},{j}"] = _people(cases, bins[i] * sizes[j] + bins[j], sizes[i] * sizes[j]).reshape(sizes[i], sizes[j])
    return sums


def _weighed(cases: Rows, weights: Any) -> tuple[Rows, Rows]:
    """Rows with a weight above 0, and those without."""
    weighting = Weighting.of(weights, cases.dictionary)
    some = np.ones(cases.n, dtype=bool) if weighting is None else weighting.values(cases) > 0
    return cases.where(some), cases.where(~some)


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


def _people(rows: Rows, place: np.ndarray, size: int, keep: np.ndarray | None = None) -> np.ndarray:
    """Patients with a row at each place; each counts once per place, however many rows."""
    person = rows.person
    if keep is not None:
        place, person = place[keep], None if person is None else person[keep]
    if person is not None and len(place):
        place = np.unique(np.stack([place, person]), axis=1)[0]
    return np.bincount(place, minlength=size)


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


def check_model(totals: Sums, design: Design, dictionary: Dictionary, terms: Sequence[Term], rules: Rules, *, parameters: int,
                released: int = 0, also: Sequence[str] = (), what: str = "events", survival: bool = False) -> Cells:
    """Whether a model may be fitted and released. Returns the cells; raises Refused naming rule, term and remedy.

    totals : of `model_cells`. parameters : estimated coefficients, dispersion and cut points included. released : numbers that the
    result shows. what : what `Cells.events` counts, in words. survival : the second outcome level is an event in time, of which there
    may be more than people without: all events count, as usual for hazards.
    """
    cells = cells_of(totals, design, dictionary, terms, also)
    if rules == NO_RULES:
        return cells
    k, least = rules.min_cell, per_parameter(rules)
    if (int(cells.outcome[-1]) if survival else cells.events) < least * parameters:
        raise Refused(f"the model has {parameters} parameters and fewer than {least} {what} for each (rule models)",
                      hint="leave out terms, join levels, or widen the cohort")
    if released > SCALARS_PER_PATIENT * cells.n and k > 1:
        raise Refused(f"the model would release {released} numbers about fewer than {released / SCALARS_PER_PATIENT:.0f} patients "
                      "(rule models)", hint="leave out terms, or widen the cohort")
    _check_table(cells.outcome, totals["outcome" + INDICATORS], rules, "the outcome", "widen the cohort")
    _check_table(totals["weightless"], totals["weightless" + INDICATORS], rules, "who has weight 0",
                 "leave them out with a filter, or give everybody a weight")
    used = cells.outcome > 0
    for j, name in enumerate(cells.factors):
        hint = f'join small levels of "{name}", or leave it out'
        _check_table(cells.levels[j], totals[f"levels{j}" + INDICATORS], rules, f'a level of "{name}"', hint, used)
    for i, j in itertools.combinations(range(len(cells.factors)), 2):
        a, b = cells.factors[i], cells.factors[j]
        _check_table(totals[f"pair{i},{j}"], totals[f"pair{i},{j}" + INDICATORS], rules, f'a combination of levels of "{a}" and "{b}"',
                     f'join small levels of "{a}" or "{b}", or leave one out')
    for j, names in enumerate(_crossed(terms, cells.factors)):
        what_names = " and ".join(f'"{name}"' for name in names)
        _check_table(totals[f"cross{j}"], totals[f"cross{j}" + INDICATORS], rules, f"a combination of levels of {what_names}",
                     f"leave out the interaction, or join small levels of {what_names}", used)
    if "pieces" in totals:
        _check_table(totals["pieces"], totals["pieces" + INDICATORS], rules, "a piece of a spline",
                     "use fewer or other knots, or leave out the spline")
    straight = {term.label for term in terms if isinstance(term, _STRAIGHT) and term.name not in cells.factors}
    for j, name in enumerate(design.names):
        # where a number happens to be 0 is nothing special
        for side in ("nonzero",) if design.term_of(j) in straight else ("nonzero", "zero"):
            table = totals[side][j]
            if not all(safe(int(count), rules) for count in table):
                raise Refused(f'column "{name}" of the model singles out fewer than {k} patients, or fewer than {k} with one outcome '
                              f"(rule min_cell)", hint=f'leave out "{design.term_of(j)}", or join levels')
            _check_table(table, totals[side + INDICATORS][j], rules, f'column "{name}" of the model', f'leave out "{design.term_of(j)}"')
    return cells


def _check_table(table: np.ndarray, contributors: np.ndarray, rules: Rules, what: str, hint: str, used: np.ndarray | None = None) -> None:
    """Raises Refused. used : the last dimension is the outcome, and which of its levels anybody has: that of somebody's level nobody has
    the event says as much of him as a small cell, where empty cells are not shown."""
    table = np.asarray(table)
    if used is not None and rules.hides_zeros:
        empty = (table == 0) & used & (table.sum(axis=-1, keepdims=True) > 0)
        table = np.where(empty, 1, table)
    for count, registries in zip(table.ravel().tolist(), np.asarray(contributors).ravel().tolist()):
        if not safe(count, rules):
            raise Refused(f"{what} has fewer than {rules.min_cell} patients, or fewer than {rules.min_cell} with one outcome "
                          "(rule min_cell)", hint=hint)
        if count and registries < rules.min_registries:
            raise Refused(f"{what} is known in fewer than {rules.min_registries} registries (rule min_registries)", hint=hint)


# -- registries with an intercept or a baseline of their own ----------------------------------------------------------------------


def _informed_layout(dictionary: Dictionary, *, columns: Sequence[str], terms: Sequence[Any], outcome: str, weights: Any = None,
                     survival: bool = False) -> dict[str, Block]:
    return {"informed": Block((len(Design.of(terms, dictionary, intercept=False)),), integer=True)}


@statistic("model_informed/1", layout=_informed_layout, alone=True)
def model_informed(rows: Rows, columns: Sequence[str], terms: Sequence[Any], outcome: str, weights: Any = None,
                   survival: bool = False) -> dict:
    """Per column of a design 1 if this registry, compared within itself, tells anything of its coefficient: the column varies here, and so
    does the outcome (survival : somebody has the event). With registries as strata the others add nothing to it."""
    cases = _weighed(rows.complete(columns), weights)[0]
    found = Design.of(terms, rows.dictionary, intercept=False).matrix(cases)
    if not cases.n:
        return {"informed": np.zeros(found.shape[1], dtype=np.int64)}
    y = cases.values(outcome) if rows.dictionary[outcome].is_numeric else cases.bins(outcome)
    tells = bool((y == 1).any()) if survival else bool((y != y[0]).any())
    return {"informed": (np.ptp(found, axis=0) > 0).astype(np.int64) * int(tells)}


def check_informed(informed: np.ndarray, names: Sequence[str], cells: Cells, rules: Rules) -> None:
    """Whether enough registries stand behind each coefficient of a model with registries as strata. Raises Refused."""
    for name, count in zip(names, informed.tolist()):
        if rules != NO_RULES and name not in cells.empty and count < rules.min_registries:
            raise Refused(f'within fewer than {rules.min_registries} registries there is anything to compare for "{name}" (rule '
                          "min_registries): with registries as strata its coefficient would be theirs alone",
                          hint=f'leave out "{name}", or fit without strata(registry)')


# -- who stands far from everybody else --------------------------------------------------------------------------------------------


def _constant(design: Design, absorbed: bool) -> int:
    """Whether something beside the columns takes the part of an intercept."""
    return int(not design.intercept and absorbed)


def _with_constant(design: Design, cases: Rows, absorbed: bool) -> np.ndarray:
    return np.column_stack([np.ones((cases.n, _constant(design, absorbed))), design.matrix(cases)])


def _outlying_layout(dictionary: Dictionary, **_: Any) -> dict[str, Block]:
    return {"objections": Block(integer=True)}


@statistic("model_outlying/1", layout=_outlying_layout, alone=True)
def model_outlying(rows: Rows, columns: Sequence[str], terms: Sequence[Any], inverse: Sequence[float], intercept: bool = True,
                   absorbed: bool = True, weights: Any = None) -> dict:
    """Whether this registry has a patient whose leverage x' (X'X)^-1 x, over all rows, is above 0.5, whatever the outcomes: 0 or 1.

    At the fit of a logistic or a Cox model the leverage of such a patient may be small, as his outcome is fitted nearly exactly: it is his
    outcome that the coefficient tells. inverse : of the gram matrix of everybody, packed.
    """
    design = Design.of(terms, rows.dictionary, intercept=intercept, absorbed=absorbed)
    cases = _weighed(rows.complete(columns), weights)[0]
    X = _with_constant(design, cases, absorbed)
    leverage = np.einsum("ij,jk,ik->i", X, steady.unpack(inverse, X.shape[1]), X, optimize=True)
    if cases.person is not None and cases.n:
        leverage = np.bincount(cases.person, leverage)
    return {"objections": int(bool((leverage > LARGEST_LEVERAGE).any()))}


def nobody_outlying(totals: Sums, cells: Cells, rules: Rules, keys: Mapping[str, Any]) -> Generator[list[Ask], list[Sums], Any]:
    """Ask, beside a fit, whether somebody stands far from everybody else. Raises Refused.

    totals : of `model_cells`. keys : what `model_cells` was asked with, outcome and strata aside.
    """
    if rules == NO_RULES or not cells.n:
        return
    packed = totals["gram"]
    gram = steady.unpack(packed, (math.isqrt(8 * len(packed) + 1) - 1) // 2)
    for k in range(len(gram)):
        gram[k, k] += LEAST_VARIANCE * cells.n      # columns that nobody has, or that say the same as others
    (found,) = yield [model_outlying(inverse=steady.pack(steady.inverse(gram, LEAST_VARIANCE / 1000)).tolist(), **keys)]
    check_leverage(int(found["objections"]), rules)


def check_leverage(objections: int, rules: Rules) -> None:
    """objections : registries in which one patient has a leverage above 0.5. Raises Refused."""
    if rules != NO_RULES and objections:
        raise Refused(f"one patient has a leverage above {LARGEST_LEVERAGE:g}: a coefficient would tell that patient's outcome "
                      "(rule models)", hint="leave out terms, join rare levels, or use fewer spline knots")


def check_effective(total: float, squares: float, parameters: int, rules: Rules) -> None:
    """Whether enough patients carry the fit, and not a few to whom weights or an offset give nearly everything. Raises Refused.

    total, squares : sums of the working weights and of their squares; total^2 / squares is Kish's effective number (1965, Survey
    Sampling, section 11.7).
    """
    least = max(rules.min_cell, per_parameter(rules) * parameters)
    if rules != NO_RULES and total * total < least * squares:
        raise Refused(f"weights or an offset let fewer than {least} patients carry the model (rule models)",
                      hint="use less extreme weights or a plainer offset, or leave out terms")


def per_parameter(rules: Rules) -> int:
    """The smallest number of events per parameter: 10, or 5 where the rules go down to the floor, 1 below it."""
    k = rules.min_cell
    return EVENTS_PER_PARAMETER if k >= EVENTS_PER_PARAMETER else FLOOR_EVENTS_PER_PARAMETER if k >= FLOOR_EVENTS_PER_PARAMETER else 1


def check_columns(cells: Cells, design: Design) -> tuple[str, ...]:
    """Names of columns to leave out because nobody has the level. Raises QuestionError for a number that is 0 for everybody."""
    for name in cells.empty:
        if "[" not in name:
            raise QuestionError(f'"{name}" is 0 for everybody: its coefficient cannot be estimated', hint=f'leave out "{name}"')
    return cells.empty
