"""Release rules that all regression models share: enough events per parameter, and the tables that coefficients imply.

How this works: in the first round a model asks `model_cells` beside its own sums; `check_model` reads the totals and raises Refused,
with the rule and the remedy, before anything is fitted (DISCLOSURE, "models" and "implied tables"). Levels that nobody has are
left out of the design, as R leaves them out. Beside the fit `nobody_outlying` asks whether somebody stands far from everybody else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...disclosure import NO_RULES, Rules, safe
from ...errors import QuestionError, Refused
from ...formula.terms import (
    Categorical,
    Design,
    Log,
    Polynomial,
    Power,
    Scale,
    Term,
    Variable,
    column_base,
    factors_of,
    is_categorical,
    levels_of,
)
from ...formula.weights import Weighting, read_inverse
from ...sums import steady
from ...sums.statistic import INDICATORS, Ask, Block, Sums, statistic
from .model_cells import PROPENSITY, Cells, cells_of, crossed, stated, weighed, with_constant
from .weight_rules import check_classes

EVENTS_PER_PARAMETER, FLOOR_EVENTS_PER_PARAMETER = 10, 5    # DISCLOSURE, "models"; Peduzzi et al. (1996), J Clin Epidemiol 49:1373
LEAST_VARIANCE = 1e-10      # of a scaled column, below which it counts as constant
LARGEST_LEVERAGE = 0.5      # of one patient: above it a coefficient is that patient's outcome (DISCLOSURE, "models")
# Patients who are all alike and far from everybody else share a leverage of 1: of fewer than k each has more than 1 / k, and what the
# model says of their kind is their mean outcome. In a small cohort leverages are large anyway, p / n on average: eight times that is far
USUAL_LEVERAGE = 8.0
SCALARS_PER_PATIENT = 0.1   # released numbers per patient, at most
_STRAIGHT = (Variable, Power, Polynomial, Log, Scale)


def check_model(totals: Sums, design: Design, dictionary: Dictionary, terms: Sequence[Term], rules: Rules, *, parameters: int,
                released: int = 0, also: Sequence[str] = (), what: str = "events", survival: bool = False, weights: Any = None,
                ridge: float = 0.0) -> Cells:
    """Whether a model may be fitted and released. Returns the cells; raises Refused naming rule, term and remedy.

    totals : of `model_cells`. parameters : estimated coefficients, dispersion and cut points included. released : numbers that the
    result shows. what : what `Cells.events` counts, in words. survival : the second outcome level is an event in time, of which there
    may be more than people without: all events count, as usual for hazards. weights : as `model_cells` was asked with.
    ridge : a penalty, with which levels need no other to be compared with.
    """
    assert (weights is not None) == ("classes" in totals), "the weights of a model are checked with it"
    cells = cells_of(totals, design, dictionary, terms, also)
    if rules != NO_RULES:
        _check_released(totals, cells, design, dictionary, terms, rules, parameters, released, what, survival, weights)
    if not ridge:
        _check_references(cells, design, dictionary, terms)
    return cells


def _check_released(totals: Sums, cells: Cells, design: Design, dictionary: Dictionary, terms: Sequence[Term], rules: Rules,
                    parameters: int, released: int, what: str, survival: bool, weights: Any) -> None:
    """The rules of `check_model`. Raises Refused."""
    k, least = rules.min_cell, per_parameter(rules)
    if (int(cells.outcome[-1]) if survival else cells.events) < least * parameters:
        raise Refused(f"the model has {parameters} parameters and fewer than {least} {what} for each (rule models)",
                      hint="leave out terms, join levels, or widen the cohort")
    if released > SCALARS_PER_PATIENT * cells.n and k > 1:
        raise Refused(f"the model would release {released} numbers about fewer than {released / SCALARS_PER_PATIENT:.0f} patients "
                      f"(rule models: one for every {1 / SCALARS_PER_PATIENT:.0f})",
                      hint="coefficients count, with what is printed beside them: leave out terms, or widen the cohort")
    _check_table(totals["weightless"], totals["weightless" + INDICATORS], rules, "who has weight 0", _weightless_hint(weights))
    _check_cells(totals, cells, design, terms, rules)
    if weights is not None:
        _check_weights(totals, weights, dictionary, rules)


def _check_references(cells: Cells, design: Design, dictionary: Dictionary, terms: Sequence[Term]) -> None:
    """Whether somebody has the level that the others of a category are compared with. Raises QuestionError with one that somebody has."""
    tables = dict(zip(cells.factors, cells.levels))
    for term, part in zip(terms, design.parts):
        for factor in factors_of(term):
            if not isinstance(factor, (Variable, Categorical)) or not is_categorical(factor, dictionary):
                continue
            name, (labels, codes) = factor.name, levels_of(factor.name, dictionary)
            reference, base = factor.reference or labels[0], column_base(name, dictionary)
            whole = any(f"{base}[{reference}]" in column.split(":") for column in part.names)
            counts = tables[name].sum(axis=1)
            if whole or len(counts) != len(dictionary.bins(name)) or not cells.n or counts[codes[labels.index(reference)]]:
                continue
            there = [label for label, code in zip(labels, codes) if counts[code]]
            if len(there) == 1:
                raise QuestionError(f'everybody has the level "{there[0]}" of "{name}": there is nothing to compare it with',
                                    hint=f'leave out "{name}", or widen the cohort')
            raise QuestionError(f'nobody has the level "{reference}" of "{name}", with which the others are compared',
                                hint=f"compare with a level that somebody has: write {Categorical(name, there[0]).label}")


def _weightless_hint(weights: Any) -> str:
    if weights is not None and not isinstance(weights, str) and read_inverse(weights).by_registry:
        return ("each registry has an intercept of its own in the propensity model, and where everybody or nobody is treated nobody weighs "
                "anything: leave strata(registry) out of the propensity model, or choose treatments that all registries give")
    return "leave them out with a filter, or give everybody a weight"


def _check_weights(totals: Sums, weights: Any, dictionary: Dictionary, rules: Rules) -> None:
    """Classes of weights, and a propensity model as if it were fitted here: the analyst states its coefficients. Raises Refused."""
    weighting = Weighting.of(weights, dictionary)
    assert weighting is not None
    check_classes(totals["classes"], totals["classes" + INDICATORS], rules)
    if weighting.inverse is None:
        return
    inverse, asked = weighting.inverse, stated(weighting.inverse)
    own = {name.removeprefix(PROPENSITY): block for name, block in totals.items() if name.startswith(PROPENSITY)}
    design = Design.of(inverse.terms, dictionary, intercept=asked["intercept"], absorbed=asked["absorbed"])
    cells, least = cells_of(own, design, dictionary, inverse.terms), per_parameter(rules)
    try:
        if cells.events < least * (len(design) - len(cells.empty)):
            raise Refused(f"fewer than {least} patients of the smaller treatments for each of its coefficients (rule models)",
                          hint="leave out terms of the propensity model, or widen the cohort")
        _check_cells(own, cells, design, inverse.terms, rules)
    except Refused as error:
        raise Refused(f"the propensity model of the weights: {error.what}", hint=error.hint) from None


def _check_cells(totals: Sums, cells: Cells, design: Design, terms: Sequence[Term], rules: Rules) -> None:
    """Whether everything that a model's columns single out is safe to know. Raises Refused."""
    k = rules.min_cell
    _check_table(cells.outcome, totals["outcome" + INDICATORS], rules, "the outcome", "widen the cohort")
    used = cells.outcome > 0
    for j, name in enumerate(cells.factors):
        hint = f'join small levels of "{name}", or leave it out'
        _check_table(cells.levels[j], totals[f"levels{j}" + INDICATORS], rules, f'a level of "{name}"', hint, used)
    for i, j in itertools.combinations(range(len(cells.factors)), 2):
        a, b = cells.factors[i], cells.factors[j]
        _check_table(totals[f"pair{i},{j}"], totals[f"pair{i},{j}" + INDICATORS], rules, f'a combination of levels of "{a}" and "{b}"',
                     f'join small levels of "{a}" or "{b}", or leave one out')
    for j, names in enumerate(crossed(terms, cells.factors)):
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
    cases = weighed(rows.complete(columns), weights)
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


def _outlying_layout(dictionary: Dictionary, **_: Any) -> dict[str, Block]:
    return {"objections": Block(integer=True)}


@statistic("model_outlying/1", layout=_outlying_layout, alone=True)
def model_outlying(rows: Rows, columns: Sequence[str], terms: Sequence[Any], inverse: Sequence[float], intercept: bool = True,
                   absorbed: bool = True, weights: Any = None, most: float = LARGEST_LEVERAGE) -> dict:
    """Whether this registry has a patient whose leverage x' (X'X)^-1 x, over all rows, is above `most`, whatever the outcomes: 0 or 1.

    At the fit of a logistic or a Cox model the leverage of such a patient may be small, as his outcome is fitted nearly exactly: it is his
    outcome that the coefficient tells. inverse : of the gram matrix of everybody, packed.
    """
    design = Design.of(terms, rows.dictionary, intercept=intercept, absorbed=absorbed)
    cases = weighed(rows.complete(columns), weights)
    X = with_constant(design, cases, absorbed)
    leverage = np.einsum("ij,jk,ik->i", X, steady.unpack(inverse, X.shape[1]), X, optimize=True)
    if cases.person is not None and cases.n:
        leverage = np.bincount(cases.person, leverage)
    return {"objections": int(bool((leverage > most).any()))}


def nobody_outlying(totals: Sums, cells: Cells, rules: Rules, keys: Mapping[str, Any]) -> Generator[list[Ask], list[Sums], Any]:
    """Ask, beside a fit, whether somebody stands far from everybody else. Raises Refused.

    totals : of `model_cells`. keys : what `model_cells` was asked with, outcome and strata aside.
    """
    if rules == NO_RULES or not cells.n:
        return
    asked = [(totals["gram"], dict(keys))]
    if PROPENSITY + "gram" in totals:
        other = {name: one for name, one in stated(read_inverse(keys["weights"])).items() if name != "outcome"}
        asked.append((totals[PROPENSITY + "gram"], dict(keys) | other | {"terms": msgspec.to_builtins(other["terms"])}))
    limits = [_most_leverage(_columns_of(gram), cells.n, rules) for gram, _ in asked]
    found = yield [model_outlying(inverse=_inverse_of(gram, cells.n), most=most, **each) for (gram, each), most in zip(asked, limits)]
    for one, most in zip(found, limits):
        check_leverage(int(one["objections"]), rules, most)


def _most_leverage(p: int, n: int, rules: Rules) -> float:
    """The largest leverage that one of n patients may have in a model of p columns. + - * / only: it is part of an ask."""
    return min(LARGEST_LEVERAGE, max(1.0 / rules.min_cell, USUAL_LEVERAGE * p / n))


def _columns_of(packed: np.ndarray) -> int:
    return (math.isqrt(8 * len(packed) + 1) - 1) // 2


def _inverse_of(packed: np.ndarray, n: int) -> list[float]:
    """The inverse of a gram matrix of n patients, packed; steady."""
    gram = steady.unpack(packed, _columns_of(packed))
    for k in range(len(gram)):
        gram[k, k] += LEAST_VARIANCE * n      # columns that nobody has, or that say the same as others
    return steady.pack(steady.inverse(gram, LEAST_VARIANCE / 1000)).tolist()


def check_leverage(objections: int, rules: Rules, most: float = LARGEST_LEVERAGE) -> None:
    """objections : registries in which one patient has a leverage above `most`. Raises Refused."""
    if rules != NO_RULES and objections:
        raise Refused(f"one patient has a leverage above {most:.2g}: the model would tell the outcome of that patient, or the mean of "
                      f"fewer than {rules.min_cell} who are alike (rule models)",
                      hint="keep to the range where most patients are by a condition, such as age < 70; or leave out terms, join rare "
                           "levels, or use fewer spline knots")


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
