"""What may be asked of Cox regression: parameters, formula or plain arguments, and what the dictionary must say for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

from fedstats.data.dictionary import Dictionary
from fedstats.disclosure.release import Declared, Loss, Population, Regression, axes, by_times, classes
from fedstats.errors import QuestionError
from fedstats.formula import parse, parse_term, parse_terms
from fedstats.formula.terms import Term
from fedstats.formula.weights import InverseProbability, Weighting, read_inverse
from fedstats.query.analysis import Params
from fedstats.sums.statistic import MOST_VALUES

from ...shared.common import CONFIDENCE, check_confidence, groups
from ...survival.life_table import check_event, check_survival, times_of
from .hazards import Transform
from .horizons import check_horizons
from .model import Model

Ties = Literal["efron", "breslow"]
MAX_ROUNDS, MOST_ROUNDS = 25, 100


class CoxParams(Params, frozen=True):
    """time, event : follow-up and whether it ended with the event; entry : after which a row is at risk (left truncation, or the start of
    (start, stop] rows). terms : covariates. strata : variables with a baseline of their own per level, "registry" among them or not.
    weights : a variable, or inverse probabilities of treatment. offset : a term with coefficient 1. ridge :
    times half the squared coefficients is taken off the log likelihood.
    robust : whether robust errors stand behind intervals and p values; by default where there are weights or several rows per patient.
    cluster : None or the column of patients: residuals are always summed over the rows of a patient first.
    concordance, baseline : whether to work them out. transforms : of time, for the test of proportional hazards. horizons : times of the
    grid at which AUC and Brier score are wanted. lr : likelihood ratio tests of every term, beside that of the model.
    calibration : what was predicted by the last horizon, and what happened, in groups of risk.
    """

    episodes: ClassVar[bool] = True

    time: str
    event: str
    terms: tuple[Term, ...]
    entry: str | None = None
    strata: tuple[str, ...] = ()
    weights: str | InverseProbability | None = None
    offset: Term | None = None
    ties: Ties = "efron"
    ridge: float = 0.0
    robust: bool | None = None
    cluster: str | None = None
    confidence: float = CONFIDENCE
    concordance: bool = True
    baseline: bool = True
    transforms: tuple[Transform, ...] = ("km",)
    horizons: tuple[float, ...] = ()
    max_rounds: int = MAX_ROUNDS
    lr: bool = False
    calibration: bool = False

    @property
    def model(self) -> Model:
        return Model(self.time, self.event, self.terms, self.entry, self.strata, self.weights, self.offset)

    @property
    def efron(self) -> bool:
        return self.ties == "efron"

    def columns(self) -> tuple[str, ...]:
        return self.model.columns

    def population(self) -> Population:
        late = (Loss("late", (self.entry, self.time)),) if self.entry else ()
        weightless = (Loss("weightless", (self.weights,)),) if isinstance(self.weights, str) else ()
        return Population.of(self.columns(), (*late, *weightless), self.weights)

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        return (self.regression(dictionary, self.horizons),)

    def regression(self, dictionary: Dictionary, times: Sequence[float]) -> Regression:
        """What it tells. times : by which it counts events, beside all of them."""
        covariates = [name for name in self.columns() if name != self.event]
        design = (*classes(dictionary, covariates), *axes(dictionary, self.strata))
        outcome = (*axes(dictionary, (self.event,)), *by_times(self.event, self.time, times))
        return Regression(self.population(), tuple(dict.fromkeys(design)), outcome)

    def check(self, dictionary: Dictionary) -> None:
        model = self.model
        check_confidence(self.confidence)
        if not self.terms:
            raise QuestionError("a Cox model needs at least one covariate", hint="use kaplan_meier for survival without covariates")
        design = model.design(dictionary)
        column = (self.weights,) if isinstance(self.weights, str) else ()
        outcome = {self.time, self.event, *([self.entry] if self.entry else []), *column}
        if len(outcome) < 2 + bool(self.entry) + len(column) or outcome & set(design.variables):
            raise QuestionError("time, event, entry, weights and covariates must be different columns")
        if len(set(self.strata)) < len(self.strata):
            raise QuestionError("a stratum is named twice")
        if model.by_registry:
            _check_time(dictionary, self.time)
            check_event(dictionary, self.event)
            for name in model.levels:
                groups(dictionary, name)
            if {"km", "rank"} & set(self.transforms):
                dictionary.grid(self.time)
        else:
            check_survival(dictionary, self.time, self.event, model.levels)
            self._check_size(dictionary, len(design))
        if self.entry:
            _check_time(dictionary, self.entry)
        if self.cluster not in (None, dictionary.patient_id):
            raise QuestionError(f'errors cannot be clustered by "{self.cluster}": only rows of one patient are, "{dictionary.patient_id}"',
                                hint="use strata for groups of patients")
        if self.calibration and (not self.horizons or self.weights):
            raise QuestionError("calibration is for a horizon, and for models without weights", hint="give horizons, leave out weights")
        if self.horizons:
            if model.by_registry:
                raise QuestionError("with registries as strata there are no AUC and Brier score at horizons: each registry keeps its "
                                    "baseline to itself, so that no risk by a time is known to all",
                                    hint="leave out horizons, or fit on the registered grid, with other strata if need be")
            if self.entry or dictionary.most_rows > 1:
                raise QuestionError("AUC and Brier score at horizons are for one row per patient and no late entry",
                                    hint="leave out horizons, or entry")
            check_horizons(dictionary, self.time, self.horizons)
        if isinstance(self.weights, InverseProbability) and {self.time, self.event, self.entry} & set(self.weights.variables):
            raise QuestionError("a propensity model knows nothing of the outcome: time, event and entry cannot be among its variables")
        Weighting.of(self.weights, dictionary)
        model.bounds(dictionary, (), ())
        if not 0 <= self.ridge < math.inf:
            raise QuestionError(f"ridge must be 0 or more: {self.ridge:g} was given")
        if self.lr and self.ridge:
            raise QuestionError("with a ridge penalty likelihood ratios have no known distribution", hint="leave out lr or ridge")
        if not 1 <= self.max_rounds <= MOST_ROUNDS:
            raise QuestionError(f"max_rounds lies between 1 and {MOST_ROUNDS}: {self.max_rounds} was given")

    def _check_size(self, dictionary: Dictionary, p: int) -> None:
        cells = self.model.strata_count(dictionary) * len(times_of(dictionary, self.time))
        numbers = cells * (1 + p) * (2 if self.efron else 1) * (1 + (len(self.terms) if self.lr else 0))
        if 2 * numbers > MOST_VALUES:
            raise QuestionError(f"{p} columns at {cells} times and strata need {numbers} sealed numbers per round: at most "
                                f"{MOST_VALUES // 2} are allowed",
                                hint=f'use a coarser grid (cut points of "{self.time}" in the dictionary), fewer columns, or '
                                     "strata(registry)")


def _check_time(dictionary: Dictionary, name: str) -> None:
    variable = dictionary[name]
    if not variable.is_numeric or variable.low < 0:
        raise QuestionError(f'"{name}" is not a time: a number or an integer from 0 on is wanted',
                            hint=f'set the range of "{name}" to start at 0 in the dictionary')


def call(formula: str | None = None, *, time: str | None = None, event: str | None = None, covariates: Any = None,
         entry: str | None = None, strata: str | Sequence[str] = (), weights: str | InverseProbability | None = None, offset: Any = None,
         ties: Ties = "efron", ridge: float = 0.0, robust: bool | None = None, cluster: str | None = None, confidence: float = CONFIDENCE,
         concordance: bool = True, baseline: bool = True, transforms: str | Sequence[str] = ("km",),
         horizons: float | Sequence[float] = (), max_rounds: int = MAX_ROUNDS, lr: bool = False,
         calibration: bool = False) -> CoxParams:
    """cox("Surv(time, event) ~ age + sex + strata(registry)", ties="efron", ridge=0.0, robust=None, lr=False, horizons=(), ...), or
    cox(time=, event=, covariates=[...], entry=None, strata=(), weights=None, offset=None, ...)"""
    if ties not in get_args(Ties):
        raise QuestionError(f'ties = "{ties}" is not offered', hint="ties are " + " or ".join(get_args(Ties)))
    wanted = (transforms,) if isinstance(transforms, str) else tuple(transforms)
    if not set(wanted) <= set(get_args(Transform)):
        raise QuestionError("transforms of time are " + ", ".join(get_args(Transform)))
    at = (float(horizons),) if isinstance(horizons, (int, float)) else tuple(float(one) for one in horizons)
    named = (strata,) if isinstance(strata, str) else tuple(strata)
    if formula is not None:
        if time or event or covariates or entry or named:
            raise QuestionError("give a formula, or time, event and covariates, not both")
        read = parse(formula)
        if not read.survival or len(read.response) not in (2, 3):
            raise QuestionError("the left side of a Cox formula is Surv(time, event) or Surv(start, stop, event)")
        entry, time, event = read.response if len(read.response) == 3 else (None, *read.response)
        terms, named = read.terms, read.strata
        weights, offset, cluster = weights or read.weights, offset if offset is not None else read.offset, cluster or read.cluster
    else:
        if covariates is None:
            raise QuestionError("a formula is wanted, or time, event and covariates",
                                hint='cox("Surv(time, event) ~ age + sex") or cox(time="time", event="event", covariates=["age", "sex"])')
        terms = parse_terms(covariates).terms
    if not time or not event:
        raise QuestionError("time and event are wanted", hint='cox(time="time", event="event", covariates=["age", "sex"])')
    if cluster is not None and robust is None:
        robust = True
    if weights is not None and not isinstance(weights, (str, InverseProbability)):
        weights = read_inverse(weights)
    return CoxParams(time, event, tuple(terms), entry, named, weights, None if offset is None else parse_term(offset), ties, float(ridge),
                     robust, cluster, confidence, concordance or bool(at), baseline, wanted, at, max_rounds, lr,      # type: ignore[arg-type]
                     calibration)
