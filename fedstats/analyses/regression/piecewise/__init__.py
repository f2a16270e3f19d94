"""Piecewise exponential regression: hazard ratios from events and person-time in a few intervals, without risk sets.

How this works. The hazard is constant within each interval of time, times exp(x beta): a Poisson model of the events of each interval with
person-time as offset. Given beta the hazard of an interval is its events over its weighted person-time, so the likelihood of beta alone
is that of Cox with Breslow's ties, intervals in the place of times: `cox.likelihood` and `cox.fit` do the rest. Per round a registry
seals sums for a handful of intervals, where Cox regression on a grid seals them for every time: the choice where little may leave.

Holford (1980), Biometrics 36:299; Laird & Olivier (1981), JASA 76:231.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.variable import ON_STEP
from fedstats.disclosure import NO_RULES, Rules, safe
from fedstats.disclosure.release import Declared, Population
from fedstats.errors import QuestionError, Refused
from fedstats.formula import parse_term
from fedstats.formula.terms import Design, Term
from fedstats.formula.weights import InverseProbability, weight_notes
from fedstats.query.analysis import Joint, Params, Setting, abreast, analysis
from fedstats.sums import steady
from fedstats.sums.statistic import INDICATORS, Ask, Sums

from ...shared.centred import narrower, spread_of
from ...shared.common import CONFIDENCE, p_chi2, z_of
from ...survival.life_table import times_of
from ..coefficients import Test, coefficients_of, lr_test, rows_of, vif_of, wald, wald_tests
from ..cox.fit import Fit, Known, Reader, frame_of, newton, reaches
from ..cox.fit import check_columns as check_varying
from ..cox.likelihood import Cells, Point, cells_of, information, point
from ..cox.params import MAX_ROUNDS, CoxParams
from ..cox.params import call as cox_call
from ..cox.residuals import baseline_of
from ..model_cells import model_cells, selecting
from ..model_rules import (
    SCALARS_PER_PATIENT,
    check_columns,
    check_effective,
    check_leverage,
    check_model,
    nobody_outlying,
)
from ..newton import inverse_of, metered, penalised, usual_course
from ..ranges import as_ranges, far_reaching
from .result import Interval, Piecewise
from .sums import piecewise_residuals, piecewise_risk, piecewise_totals, unit_of

MOST_INTERVALS = 60
Asks = Generator[list[Ask], list[Sums], Any]


class PiecewiseParams(Params, frozen=True):
    """cuts : where intervals end, registered cut points of the time; the last interval ends where the time does. The others : as in
    `CoxParams`."""

    episodes: ClassVar[bool] = True

    time: str
    event: str
    terms: tuple[Term, ...]
    cuts: tuple[float, ...]
    entry: str | None = None
    weights: str | InverseProbability | None = None
    offset: Term | None = None
    ridge: float = 0.0
    robust: bool | None = None
    confidence: float = CONFIDENCE
    max_rounds: int = MAX_ROUNDS

    @property
    def cox(self) -> CoxParams:
        """The Cox model with the same rows and columns."""
        return CoxParams(self.time, self.event, self.terms, self.entry, (), self.weights, self.offset, "breslow", self.ridge, self.robust,
                         None, self.confidence, False, False, (), (), self.max_rounds)

    def columns(self) -> tuple[str, ...]:
        return self.cox.columns()

    def ends(self, dictionary: Dictionary) -> list[float]:
        high = float(dictionary[self.time].high)
        return [*(one for one in self.cuts if one < high), high]

    def population(self) -> Population:
        return self.cox.population()

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        return (self.cox.regression(dictionary, self.cuts),)

    def check(self, dictionary: Dictionary) -> None:
        self.cox.check(dictionary)
        grid = times_of(dictionary, self.time)
        for one in self.cuts:
            if one <= 0 or np.abs(grid - one).min() > ON_STEP * max(1.0, abs(one)):
                near = ", ".join(f"{each:g}" for each in sorted(grid[np.argsort(np.abs(grid - one))[:3]].tolist()))
                raise QuestionError(f'{one:g} is not a registered cut point of "{self.time}"',
                                    hint=f"intervals end at cut points of the dictionary; the nearest are {near}")
        if any(a >= b for a, b in zip(self.cuts, self.cuts[1:])):
            raise QuestionError("the ends of intervals must increase")
        if len(self.cuts) >= MOST_INTERVALS:
            raise QuestionError(f"at most {MOST_INTERVALS} intervals are allowed", hint="cox has a time grid")


def _call(formula: str | None = None, *, cuts: float | Sequence[float], time: str | None = None, event: str | None = None,
          covariates: Any = None, entry: str | None = None, weights: str | InverseProbability | None = None, offset: Any = None,
          ridge: float = 0.0, robust: bool | None = None, confidence: float = CONFIDENCE, max_rounds: int = MAX_ROUNDS) -> PiecewiseParams:
    """piecewise("Surv(time, event) ~ age + sex", cuts=[365, 730, 1095], robust=None, ...)"""
    read = cox_call(formula, time=time, event=event, covariates=covariates, entry=entry, weights=weights,
                    offset=None if offset is None else parse_term(offset), ridge=ridge, robust=robust, confidence=confidence,
                    max_rounds=max_rounds)
    if read.strata:
        raise QuestionError("a piecewise exponential model has no strata", hint="write them as terms, or use cox")
    ends = (float(cuts),) if isinstance(cuts, (int, float)) else tuple(float(one) for one in cuts)
    return PiecewiseParams(read.time, read.event, read.terms, ends, read.entry, read.weights, read.offset, read.ridge, read.robust,
                           read.confidence, read.max_rounds)


@analysis("piecewise/1", params=PiecewiseParams, result=Piecewise, call=_call)
def piecewise(params: PiecewiseParams, setting: Setting) -> Joint:
    """Piecewise exponential regression: hazard ratios, and the hazard of each interval, from events and person-time in few intervals."""
    found, cost = yield from metered(_rounds(params, setting), setting)
    return msgspec.structs.replace(_result(params, setting, *found), cost=cost)


def _rounds(params: PiecewiseParams, setting: Setting) -> Asks:
    """First totals, Newton's steps, residuals. Returns the design, first totals, frame, penalty, fit and last totals; steady."""
    dictionary, rules, model = setting.dictionary, setting.rules, params.cox.model
    full, ends = model.design(dictionary), params.ends(dictionary)
    also = selecting(model.selectors, dictionary)
    plain = msgspec.to_builtins(model)
    wide = far_reaching(params.terms, dictionary)
    first = [model_cells(columns=list(model.columns), terms=plain["terms"], outcome=params.event, also=also, intercept=False,
                         weights=plain["weights"]), piecewise_totals(model=plain, ends=ends),
             *[spread_of(wide, model.columns, dictionary)] * bool(wide)]
    if not setting.size.n:
        around = {"model": plain, "ends": ends, "beta": [0.0] * len(full), "frame": [[0.0, 1.0, -1.0, 1.0]] * len(full)}
        yield from usual_course(first, lambda last: [piecewise_risk(**around)])
    cell_totals, totals, *spreads = yield first
    cells = check_model(cell_totals, full, dictionary, params.terms, rules, parameters=len(full) + len(ends), also=also, survival=True,
                        released=5 * len(full) + 3 * len(ends) + 6 + len(params.terms), weights=plain["weights"],
                        ridge=params.ridge)
    _check_intervals(totals, rules)
    ranges = (yield from narrower(spreads[0], wide, model.columns, setting)) if wide else {}
    if ranges:      # what was scaled by the ranges of the dictionary has lost digits
        model = msgspec.structs.replace(model, ranges=as_ranges(ranges))
        full = model.design(dictionary)
        (totals,) = yield [piecewise_totals(model=msgspec.to_builtins(model), ends=ends)]
    drop = check_columns(cells, full)
    keep = [j for j, name in enumerate(full.names) if name not in drop]
    model = msgspec.structs.replace(model, drop=drop)
    design, plain = model.design(dictionary), msgspec.to_builtins(model)
    if not len(design):
        raise QuestionError("no covariate varies", hint="widen the cohort, or use rates")
    pairs = [k for k, (i, j) in enumerate(zip(*np.triu_indices(len(full)))) if i in keep and j in keep]
    totals = totals | {name: totals[name][keep] for name in ("x", "events_x", "used")} | {"xx": totals["xx"][pairs]}
    frame = frame_of(totals)
    check_varying(totals, design.low, design.high, design.names, params.ridge > 0)
    penalty = tuple(params.ridge / (half * half * scale * scale) for half, (_, scale, _, _) in zip(design.half, frame))
    asked = {"model": plain, "ends": ends, "frame": [list(one) for one in frame]}
    steps = newton(_reader(asked, totals, frame), (0.0,) * len(design), penalty, frame,
                   reaches(totals, frame, design.low, design.high), design.names, params.max_rounds)
    keys = {"columns": list(model.columns), "terms": plain["terms"], "weights": plain["weights"], "intercept": False}
    _, fit = yield from abreast([nobody_outlying(cell_totals, cells, rules, keys), steps])
    try:
        covariance = steady.pack(steady.inverse(penalised(fit.point.information, penalty))).tolist()
    except steady.Singular:     # the last step could still be taken
        covariance = [0.0] * (len(design) * (len(design) + 1) // 2)
    assert fit.cells is not None
    (last,) = yield [piecewise_residuals(**asked, beta=list(fit.at), baseline=msgspec.to_builtins(baseline_of(fit.cells)),
                                         covariance=covariance)]
    check_leverage(int(last["objections"]), rules)
    check_effective(float(totals["events_w"]), float(totals["events_ww"]), len(design), rules)
    check_effective(float(last["working"]), float(last["working_squares"]), len(design), rules)
    return design, totals, frame, penalty, fit, last


def _reader(asked: dict[str, Any], totals: Sums, frame: Sequence[Sequence[float]]) -> Reader:
    """The likelihood of beta from the sums per interval."""
    shift, scale = np.array([one[0] for one in frame]), np.array([one[1] for one in frame])
    x = (totals["events_x"] - float(totals["events_w"]) * shift) / scale
    counts, weight, offset = totals["with_event"], totals["weight"], float(totals["offset"])

    def read(found: list[Sums], beta: Sequence[float], _: Known | None) -> tuple[Point, Cells | None]:
        first, second = np.split(found[0]["risk"], [1 + len(beta)], axis=1)
        cells = cells_of(counts, weight, first, None)
        return point(cells, np.array(beta), x, offset, information(cells, steady.total(second * cells.hazard[:, None]))), cells

    return Reader(lambda beta, _: [piecewise_risk(**asked, beta=list(beta))], read)


def _check_intervals(totals: Sums, rules: Rules) -> None:
    """Whether every interval holds enough people with an event, and nobody or enough who leave without. Raises QuestionError, Refused."""
    if not totals["with_event"].all():
        raise QuestionError("an interval has no event: its hazard cannot be estimated", hint="join intervals: give fewer cuts")
    if rules == NO_RULES:
        return
    for name in ("with_event", "without"):
        for count, registries in zip(totals[name].tolist(), totals[name + INDICATORS].tolist()):
            if not safe(count, rules) or (count and registries < rules.min_registries):
                raise Refused(f"an interval has fewer than {rules.min_cell} patients with the event or who leave without it, or too few "
                              "registries (rules min_cell, min_registries)", hint="join intervals: give fewer cuts")
    if not safe(int(totals["lost"]), rules):
        raise Refused(f"fewer than {rules.min_cell} patients have the event at time 0 and would follow from the number of events (rule "
                      "min_cell)", hint="leave them out with a filter")


# -- after the last round ------------------------------------------------------------------------------------------------------


def _result(params: PiecewiseParams, setting: Setting, design: Design, totals: Sums, frame: Sequence[Sequence[float]],
            penalty: Sequence[float], fit: Fit, last: Sums) -> Piecewise:
    p, unit = len(design), unit_of(setting.dictionary, params.time)
    shift, scale = np.array([one[0] for one in frame]), np.array([one[1] for one in frame])
    inverse = inverse_of(penalised(fit.point.information, penalty), design.names)
    square = np.outer(scale, scale)
    beta, cov = design.unscale(np.array(fit.beta) / scale, inverse / square)
    _, robust = design.unscale(fit.beta, sandwich(inverse, last) / square)
    assert cov is not None and robust is not None
    several = setting.dictionary.most_rows > 1
    use_robust = params.robust if params.robust is not None else bool(params.weights) or several
    used = robust if use_robust else cov
    chi2, df = wald(beta, used, range(p))
    # what hazards add to the likelihood of beta: sum of W log W - W - W log(unit) over intervals
    weight = totals["weight"]
    rest = float((weight * (np.log(weight) - 1 - math.log(unit))).sum())
    loglik, null = fit.point.loglik + rest, fit.null.loglik + rest
    tests = [] if params.ridge else [lr_test("(model)", loglik, null, p)]
    tests += [Test("wald", "(model)", chi2, df, p_chi2(chi2, df)), *wald_tests(beta, used, design.terms)]
    whole = 5 * p + 3 * len(weight) + 6 + p * (p + 1) <= SCALARS_PER_PATIENT * setting.size.n or setting.rules.min_cell <= 1
    dropped = tuple(name for name in params.cox.model.design(setting.dictionary).names if name not in design.names)
    column = params.cox.model.offset_column(setting.dictionary)
    middle = (column.low[0] + column.high[0]) / 2 if column else 0.0
    intervals = _intervals(params, setting, totals, fit, unit * math.exp(middle), _log_variance(fit, inverse, last if use_robust else None))
    notes = ["weights by inverse probability of treatment: robust standard errors take them as known"
             ] if isinstance(params.weights, InverseProbability) else []
    notes += weight_notes(params.weights)
    return Piecewise(
        size=setting.size, time=params.time, event=params.event, entry=params.entry, weights=params.weights, offset=params.offset,
        terms=params.terms, dropped=dropped, ridge=params.ridge, rows=int(totals["rows"]),
        events=int(totals["events"]), intervals=intervals,
        coefficients=coefficients_of(design.names, beta, cov, robust=robust, use_robust=use_robust, confidence=params.confidence,
                                     vif=vif_of(fit.point.information, False)),
        covariance=rows_of(cov) if whole else None, covariance_robust=rows_of(robust) if whole else None, confidence=params.confidence,
        se_used="robust" if use_robust else "model", tests=tuple(tests), loglik=loglik, loglik_null=null,
        aic=-2 * loglik + 2 * (p + len(weight)),
        means=tuple(float(c + h * s) for c, h, s in zip(design.center, design.half, shift)), notes=tuple(notes),
        methods="Piecewise exponential regression (Poisson model of the events with person-time as offset), hazards constant within "
                f"{len(weight)} intervals; {'robust' if use_robust else 'model-based'} standard errors"
                f"{', clustered by patient' if several and use_robust else ''}, limits of hazards from the same.")


def sandwich(inverse: np.ndarray, last: Sums) -> np.ndarray:
    return np.asarray(inverse @ steady.unpack(last["squares"], len(inverse)) @ inverse)


def _log_variance(fit: Fit, inverse: np.ndarray, last: Sums | None) -> np.ndarray:
    """The variance of the log hazard of each interval at the means. inverse : of the information in the frame.

    Model-based: it varies by 1 / events, and as beta does. Robust (last : totals of `piecewise_residuals`): a patient with u more events
    than expected in the interval and the score U moves it by u / W - mean' inverse U, whose squares are summed over patients.
    """
    assert fit.cells is not None
    cells = fit.cells
    weight = cells.m * cells.d
    lean = cells.mean / weight[:, None] @ inverse
    if last is None:
        return np.asarray(cells.hazard_variance / cells.hazard**2 + (lean * (cells.mean / weight[:, None])).sum(axis=1))
    middle = steady.unpack(last["squares"], len(inverse))
    together = (lean * last["cross"]).sum(axis=1) / weight
    return np.asarray(last["own"] / weight**2 - 2 * together + ((lean @ middle) * lean).sum(axis=1))


def _intervals(params: PiecewiseParams, setting: Setting, totals: Sums, fit: Fit, unit: float, variance: np.ndarray
               ) -> tuple[Interval, ...]:
    """Hazards at the means. unit : of time, over the hazard at the middle of the offset. variance : of their logarithms."""
    assert fit.cells is not None
    ends, cells, z = params.ends(setting.dictionary), fit.cells, z_of(params.confidence)
    error = z * np.sqrt(variance)
    hazard, time = cells.hazard / unit, totals["time"] * unit_of(setting.dictionary, params.time)
    return tuple(Interval(0.0 if k == 0 else ends[k - 1], ends[k], int(totals["by_interval"][k]), float(time[k]), float(hazard[k]),
                          float(hazard[k] * math.exp(-error[k])), float(hazard[k] * math.exp(error[k]))) for k in range(len(ends)))
