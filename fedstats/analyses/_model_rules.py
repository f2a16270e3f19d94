"""Release rules that all regression models share: enough events per parameter, and the tables that coefficients imply.

How this works: in the first round a model asks `model_cells` beside its own sums; `check_model` reads the totals and raises Refused,
with the rule and the remedy, before anything is fitted (DISCLOSURE, "models" and "implied tables"). Levels that nobody has are
left out of the design, as R leaves them out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dictionary import MOST_GROUPS, Dictionary
from ..disclosure import NO_RULES, Rules, safe
from ..errors import QuestionError, Refused
from ..rows import Rows
from ..statistic import INDICATORS, Block, Sums, statistic
from ..terms import Design, Term, factors_of, is_categorical, levels_of, read_terms
from .moments import few_levels

EVENTS_PER_PARAMETER, FLOOR_EVENTS_PER_PARAMETER = 10, 5    # DISCLOSURE, "models"; Peduzzi et al. (1996), J Clin Epidemiol 49:1373
LARGEST_LEVERAGE = 0.5      # of one patient: above it a coefficient is that patient's outcome (DISCLOSURE, "models")
SCALARS_PER_PATIENT = 0.1   # released numbers per patient, at most


def factor_names(terms: Sequence[Term], dictionary: Dictionary, also: Sequence[str] = ()) -> tuple[str, ...]:
    """The variables of a model that make tables of people: categories, booleans and numbers of few levels, each once.

    also : further ones, such as strata.
    """
    found = [factor.name for term in terms for factor in factors_of(term)
             if is_categorical(factor, dictionary) or few_levels(dictionary[factor.name])]
    return tuple(dict.fromkeys([*found, *also]))


def _outcome_levels(dictionary: Dictionary, outcome: str | None) -> int:
    return 1 if outcome is None else len(levels_of(outcome, dictionary)[0])


def _layout(dictionary: Dictionary, *, columns: Sequence[str], terms: Sequence[Any], outcome: str | None = None,
            also: Sequence[str] = (), intercept: bool = True, absorbed: bool = True, weights: str | None = None) -> dict[str, Block]:
    design = Design.of(terms, dictionary, intercept=intercept, absorbed=absorbed)
    factors, k = factor_names(read_terms(terms), dictionary, also), _outcome_levels(dictionary, outcome)
    sizes = [len(dictionary.bins(name, most=MOST_GROUPS)) for name in factors]
    blocks = {"outcome": Block((k,), counts=True), "nonzero": Block((len(design), k), counts=True)}
    for j, size in enumerate(sizes):
        blocks[f"levels{j}"] = Block((size, k), counts=True)
    for i, j in itertools.combinations(range(len(factors)), 2):
        blocks[f"pair{i},{j}"] = Block((sizes[i], sizes[j]), counts=True)
    return blocks


@statistic("model_cells/1", layout=_layout)
def model_cells(rows: Rows, columns: Sequence[str], terms: Sequence[Any], outcome: str | None = None, also: Sequence[str] = (),
                intercept: bool = True, absorbed: bool = True, weights: str | None = None) -> dict:
    """People behind a model, complete cases of `columns`: by outcome level; per design column those who are not 0 in it, by outcome;
    per level of each factor, by outcome; per pair of levels of two factors. With several rows per patient: who has such a row.

    outcome : a variable with levels (an event, a 0/1 outcome, an ordinal outcome); None: everybody in one. weights : those of weight 0
    are nobody.
    """
    cases, dictionary = rows.complete(columns), rows.dictionary
    if weights is not None:
        cases = cases.where(cases.values(weights) > 0)
    design = Design.of(terms, dictionary, intercept=intercept, absorbed=absorbed)
    factors, k = factor_names(read_terms(terms), dictionary, also), _outcome_levels(dictionary, outcome)
    place = np.zeros(cases.n, dtype=np.int64)
    if outcome is not None:
        codes = levels_of(outcome, dictionary)[1]
        place = np.searchsorted(np.array(codes), cases.bins(outcome))
    nonzero = [_people(cases, place, k, column != 0) for part in design.parts for column in part.values(cases)]
    sums: dict[str, Any] = {"outcome": _people(cases, place, k),
                            "nonzero": np.array([_people(cases, place, k)] * design.intercept + nonzero).reshape(len(design), k)}
    bins = [cases.bins(name) for name in factors]
    sizes = [len(dictionary.bins(name, most=MOST_GROUPS)) for name in factors]
    for j, size in enumerate(sizes):
        sums[f"levels{j}"] = _people(cases, bins[j] * k + place, size * k).reshape(size, k)
    for i, j in itertools.combinations(range(len(factors)), 2):
        sums[f"pair{i},{j}"] = _people(cases, bins[i] * sizes[j] + bins[j], sizes[i] * sizes[j]).reshape(sizes[i], sizes[j])
    return sums


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
                released: int = 0, also: Sequence[str] = (), what: str = "events") -> Cells:
    """Whether a model may be fitted and released. Returns the cells; raises Refused naming rule, term and remedy.

    totals : of `model_cells`. parameters : estimated coefficients, dispersion and cut points included. released : numbers that the
    result shows. what : what `Cells.events` counts, in words.
    """
    cells = cells_of(totals, design, dictionary, terms, also)
    if rules == NO_RULES:
        return cells
    k, least = rules.min_cell, per_parameter(rules)
    if cells.events < least * parameters:
        raise Refused(f"the model has {parameters} parameters and fewer than {least} {what} for each (rule models)",
                      hint="leave out terms, join levels, or widen the cohort")
    if released > SCALARS_PER_PATIENT * cells.n and k > 1:
        raise Refused(f"the model would release {released} numbers about fewer than {released / SCALARS_PER_PATIENT:.0f} patients "
                      "(rule models)", hint="leave out terms, or widen the cohort")
    _check_table(cells.outcome, totals["outcome" + INDICATORS], rules, "the outcome", "widen the cohort")
    for j, name in enumerate(cells.factors):
        hint = f'join small levels of "{name}", or leave it out'
        _check_table(cells.levels[j], totals[f"levels{j}" + INDICATORS], rules, f'a level of "{name}"', hint)
    for i, j in itertools.combinations(range(len(cells.factors)), 2):
        a, b = cells.factors[i], cells.factors[j]
        _check_table(totals[f"pair{i},{j}"], totals[f"pair{i},{j}" + INDICATORS], rules, f'a combination of levels of "{a}" and "{b}"',
                     f'join small levels of "{a}" or "{b}", or leave one out')
    rest = cells.outcome - cells.nonzero
    for j, name in enumerate(design.names):
        for table in (cells.nonzero[j], rest[j]):
            if not all(safe(int(count), rules) for count in table):
                raise Refused(f'column "{name}" of the model singles out fewer than {k} patients, or fewer than {k} with one outcome '
                              f"(rule min_cell)", hint=f'leave out "{design.term_of(j)}", or join levels')
    return cells


def _check_table(table: np.ndarray, contributors: np.ndarray, rules: Rules, what: str, hint: str) -> None:
    for count, registries in zip(table.ravel().tolist(), contributors.ravel().tolist()):
        if not safe(count, rules):
            raise Refused(f"{what} has fewer than {rules.min_cell} patients, or fewer than {rules.min_cell} with one outcome "
                          "(rule min_cell)", hint=hint)
        if count and registries < rules.min_registries:
            raise Refused(f"{what} is known in fewer than {rules.min_registries} registries (rule min_registries)", hint=hint)


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
