"""What regressions of an outcome with several levels share: parameters, the first round, and the result.

`ordinal` and `multinomial` differ in their local half and in how the parameters are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...data.variable import Variable
from ...disclosure.precision import Public
from ...disclosure.release import Declared, Regression, axes, classes
from ...errors import QuestionError
from ...formula import parse, parse_terms
from ...formula.terms import Design, Term, levels_of, variables_of
from ...query.analysis import Params, Setting, abreast
from ...query.views import Picture, Table
from ...sums import steady
from ...sums.statistic import Ask, Sums
from ..shared.centred import narrower, spread_of
from ..shared.common import CONFIDENCE, check_confidence
from .coefficients import ModelResult, Test, coefficients_of, lr_test, rows_of, wald_tests
from .model_cells import model_cells
from .model_rules import SCALARS_PER_PATIENT, check_columns, check_model, nobody_outlying
from .new_patients import new_patients
from .newton import Fit, Problem, Reading, inverse_of, settle, usual_course
from .ranges import as_ranges, far_reaching, narrowed, range_parts, trimmed

FEWEST_LEVELS, MOST_LEVELS = 3, 20
LEAST_SD = 0.01             # of its range: the coefficient of a column with a smaller SD is hundreds when scaled


class LevelledParams(Params, frozen=True):
    """outcome : a category, or an integer of few values. terms : of the model; there is no intercept beside the levels' own."""

    episodes: ClassVar[bool] = True

    outcome: str
    terms: tuple[Term, ...] = ()
    link: str = "logit"
    confidence: float = CONFIDENCE

    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.outcome, *variables_of(self.terms)]))

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        covariates = [name for name in self.columns() if name != self.outcome]
        return (Regression(self.population(), classes(dictionary, covariates), axes(dictionary, (self.outcome,))),)

    def check(self, dictionary: Dictionary) -> None:
        check_confidence(self.confidence)
        found = len(levels_of(self.outcome, dictionary)[0])
        if not FEWEST_LEVELS <= found <= MOST_LEVELS:
            raise QuestionError(f'"{self.outcome}" has {found} levels: {FEWEST_LEVELS} to {MOST_LEVELS} are wanted here',
                                hint='two levels: glm with family="binomial"; more: join levels, or give coarser cut points')
        if self.outcome in variables_of(self.terms):
            raise QuestionError(f'the outcome "{self.outcome}" is a term of its own model')
        if not self.terms:
            raise QuestionError("the model has no terms", hint="add covariates")
        Design.of(self.terms, dictionary, intercept=False)


def read_call(formula: str | None, outcome: str | None, covariates: Sequence[str | Term] | str) -> tuple[str, tuple[Term, ...]]:
    """Outcome and terms from a formula or from plain arguments. Raises QuestionError."""
    if formula is None:
        if outcome is None:
            raise QuestionError("a regression needs a formula, or outcome and covariates")
        return outcome, parse_terms(covariates).terms
    if outcome is not None or covariates:
        raise QuestionError("give a formula, or outcome and covariates, not both")
    model = parse(formula)
    if model.survival or len(model.response) != 1:
        raise QuestionError(f'"{formula}": a regression has one outcome', hint='write "outcome ~ age + sex"')
    if model.strata or model.offset is not None or model.cluster or model.weights or not model.intercept:
        raise QuestionError("a regression of levels has neither strata nor offset, weights, cluster or a missing intercept",
                            hint="leave it out of the formula")
    return model.response[0], model.terms


class Levelled(ModelResult, frozen=True, kw_only=True):
    """Frame: one row per coefficient (index: covariate), columns odds ratio with interval, coef, se, coef_low, coef_high, z, p. Levels
    that nobody has are left out. aic : -2 log_likelihood + 2 parameters."""

    outcome: str
    link: str
    levels: tuple[str, ...]
    terms: Public[tuple[Term, ...]]
    dropped: tuple[str, ...]
    rows: int
    parameters: int
    log_likelihood: float
    null_log_likelihood: float
    aic: float
    bic: float
    codebook: Public[tuple[Variable, ...]] = ()

    @property
    def llf(self) -> float:
        return self.log_likelihood

    @property
    def deviance(self) -> float:
        return -2 * self.log_likelihood

    def tables(self) -> tuple[Table, ...]:
        lines = (("rows", self.rows), ("parameters", self.parameters), ("log likelihood", self.log_likelihood), ("AIC", self.aic),
                 ("BIC", self.bic), ("rounds", self.cost.rounds), ("sealed numbers per registry", self.cost.numbers),
                 ("bytes sent per registry", self.cost.bytes))
        return (self.coefficients_table("odds ratio" if self.link == "logit" else ""), self.tests_table(),
                Table(("fit", "value"), lines, title="Fit"))

    def picture(self) -> Picture:
        return self.forest("odds ratio" if self.link == "logit" else "", f"{self.kind.capitalize()} regression: {self.outcome}")

    def columns_for(self, new: Any, *, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
        """The plain columns of new patients, shape (n, p), and which rows are complete."""
        dictionary = Dictionary(name="model", variables=self.codebook)
        design = Design.of(self.terms, dictionary, intercept=intercept, drop=self.dropped)
        rows, _ = new_patients(new, self.codebook, self.terms)
        known = np.logical_and.reduce([rows.present(name) for name in design.variables], axis=0)
        return design.plain(rows.where(known)), known

    def probabilities(self, known: np.ndarray, found: np.ndarray) -> Any:
        """A DataFrame with one column per level; rows with a gap are NaN."""
        every = np.full((len(known), len(self.levels)), np.nan)
        every[known] = found
        return self.framed(Table(("row", *self.levels), tuple((k, *row) for k, row in enumerate(every.tolist()))))


@dataclass(frozen=True)
class Levels:
    """What the local halves read from an ask: the design and the place of each row's outcome among the levels in use.

    X : scaled columns, shape (n, p). place : 0, 1, ..., shape (n,). person : as in `Rows`.
    """

    X: np.ndarray
    place: np.ndarray
    person: np.ndarray | None

    @staticmethod
    def of(rows: Rows, columns: Sequence[str], design: Design, outcome: str, codes: Sequence[int]) -> Levels:
        cases = rows.complete(columns)
        found = cases.bins(outcome)
        cases = cases.where(np.isin(found, codes))
        return Levels(design.matrix(cases), np.searchsorted(np.asarray(codes), cases.bins(outcome)), cases.person)


def meat_of(scores: np.ndarray, person: np.ndarray | None) -> np.ndarray:
    """Sum over patients of the outer products of their scores, packed. scores : shape (rows, parameters)."""
    if person is not None and len(scores):
        patients = np.zeros((int(person.max()) + 1, scores.shape[1]))
        np.add.at(patients, person, scores)
        scores = patients
    return (scores.T @ scores)[np.triu_indices(scores.shape[1])]


@dataclass(frozen=True)
class Found:
    """A fitted model of levels. counts : patients per level in use."""

    fit: Fit
    design: Design
    names: tuple[str, ...]
    levels: tuple[str, ...]
    counts: np.ndarray
    dropped: tuple[str, ...]


def fitted(params: LevelledParams, setting: Setting, *, intercept: bool, make: Callable[..., Ask], names: Callable[..., tuple[str, ...]],
           start: Callable[..., list[float]], feasible: Callable[[int, Sequence[float]], bool] = lambda p, point: True
           ) -> Generator[list[Ask], list[Sums], Found]:
    """Cells, then Newton's method. make(model, point, last) -> ask; names(design, levels); start(design, counts);
    feasible(columns, point)."""
    dictionary, terms = setting.dictionary, msgspec.to_builtins(params.terms)
    whole = Design.of(params.terms, dictionary, intercept=intercept)
    labels, codes = levels_of(params.outcome, dictionary)
    keys = {"columns": list(params.columns()), "terms": terms, "intercept": intercept}
    first = [model_cells(outcome=params.outcome, **keys)]
    if not setting.size.n:
        everyone = {"columns": list(params.columns()), "terms": terms, "outcome": params.outcome, "codes": list(codes)}
        point = start(whole, np.ones(len(codes), dtype=np.int64))
        yield from usual_course(first, lambda last: [make(everyone, point, last)])
    wide = far_reaching(params.terms, dictionary)
    totals, *spreads = yield first + ([spread_of(wide, params.columns(), dictionary)] if wide else [])
    used = [k for k, count in enumerate(totals["outcome"].tolist()) if count]
    size = len(names(whole, [labels[k] for k in used]))
    cells = check_model(totals, whole, dictionary, params.terms, setting.rules, parameters=size, released=4 * size + 12,
                        what="patients outside the largest level")
    if len(used) < FEWEST_LEVELS:
        raise QuestionError(f'fewer than {FEWEST_LEVELS} levels of "{params.outcome}" have patients', hint='use glm with family="binomial"')
    dropped, levels, counts = check_columns(cells, whole), tuple(labels[k] for k in used), totals["outcome"][used]
    ranges = (yield from _ranges(spreads[0], wide, params, setting)) if wide else ()
    design = Design.of(params.terms, narrowed(dictionary, ranges), intercept=intercept, drop=dropped)
    model = {"columns": list(params.columns()), "terms": terms, "drop": list(dropped), "outcome": params.outcome,
             "codes": [codes[k] for k in used]} | ({"ranges": ranges} if ranges else {})
    titles = names(design, levels)

    def read(point: Sequence[float], totals: Sums) -> Reading:
        return Reading(float(totals["likelihood"]), totals["score"].tolist(), [steady.unpack(totals["information"], len(titles))])

    problem = Problem(titles, lambda point, last: make(model, list(point), last), read, dictionary,
                      feasible=lambda point: feasible(len(design), point))
    outlying = nobody_outlying(totals, cells, setting.rules, keys)
    _, fit = yield from abreast([outlying, settle(problem, start(design, counts))])
    return Found(fit, design, titles, levels, counts, dropped)


def _ranges(spreads: Sums, wide: Sequence[str], params: LevelledParams, setting: Setting
            ) -> Generator[list[Ask], list[Sums], tuple[tuple[str, float, float], ...]]:
    """Ranges of covariates that would need steps too long for Newton's method if the dictionary's were taken: near the values that there
    are, as fits start from 0 here. spreads : of `spread_of`."""
    columns = params.columns()
    found = as_ranges((yield from narrower(spreads, wide, columns, setting, LEAST_SD)))
    if not found:
        return ()
    (used,) = yield [range_parts(columns=list(columns), ranges=found)]
    return trimmed(found, used)


def content(params: LevelledParams, setting: Setting, found: Found, T: np.ndarray, groups: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """The fields that both results share. T : from scaled parameters to those of the columns as they are; groups : for joint tests."""
    p, upper = len(found.names), np.triu_indices(len(found.names))
    information, meat = np.zeros((p, p)), np.zeros((p, p))
    information[upper], meat[upper] = found.fit.totals["information"], found.fit.totals["meat"]
    information, meat = information + np.triu(information, 1).T, meat + np.triu(meat, 1).T
    bread = inverse_of(information, found.names)
    coef, cov, robust = T @ np.array(found.fit.point), T @ bread @ T.T, T @ bread @ meat @ bread @ T.T
    n, likelihood = int(found.fit.totals["rows"]), float(found.fit.totals["likelihood"])
    null = float(sum(count * math.log(count / found.counts.sum()) for count in found.counts.tolist()))
    tests: tuple[Test, ...] = wald_tests(coef, cov, groups)
    if n == found.counts.sum():     # one row per patient
        tests = (*tests, lr_test("(model)", likelihood, null, sum(len(one) for one in groups.values())))
    whole = 4 * p + 12 + p * (p + 1) <= SCALARS_PER_PATIENT * setting.size.n or setting.rules.min_cell <= 1
    dictionary = setting.dictionary
    return {
        "size": setting.size,
        "coefficients": coefficients_of(
            found.names,
            coef,
            cov,
            robust=robust,
            confidence=params.confidence,
            ratios=params.link == "logit",
        ),
        "covariance": rows_of(cov) if whole else None,
        "covariance_robust": rows_of(robust) if whole else None,
        "confidence": params.confidence,
        "tests": tests,
        "outcome": params.outcome,
        "link": params.link,
        "levels": found.levels,
        "terms": params.terms,
        "dropped": found.dropped,
        "rows": n,
        "parameters": p,
        "log_likelihood": likelihood,
        "null_log_likelihood": null,
        "aic": -2 * likelihood + 2 * p,
        "bic": -2 * likelihood + math.log(n) * p,
        "codebook": tuple(dictionary[name] for name in found.design.variables),
        "notes": tuple(f'"{name}" is left out: nobody has this level' for name in found.dropped),
    }
