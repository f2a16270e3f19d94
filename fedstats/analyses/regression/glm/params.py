"""The question of a generalised linear model: its parameters, checked, from a formula or from plain arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from fedstats.data.dictionary import RESERVED, Dictionary
from fedstats.disclosure.release import Declared, Loss, Population, Regression, classes, moment_classes
from fedstats.errors import QuestionError
from fedstats.formula import parse, parse_term, parse_terms
from fedstats.formula.terms import Term, single, variables_of
from fedstats.formula.weights import InverseProbability, Weighting, weight_variables
from fedstats.query.analysis import Params

from ...shared.common import CONFIDENCE, check_confidence
from .data import Spec
from .family import LINKS, Family

STANDARD_ERRORS = ("model", "HC0", "HC1")


class GlmParams(Params, frozen=True):
    """outcome, terms, family, link : the model. intercept : False for "- 1". strata : ("registry",) for an intercept per registry.

    offset : a term. weights : a variable, or inverse probabilities of treatment. ridge : 0.5 * ridge * coef^2 is taken from the log
    likelihood, on columns as they are, the intercept aside. lr : likelihood-ratio tests of every term. se : behind intervals and p
    values: "model", "HC0", "HC1".
    """

    episodes: ClassVar[bool] = True

    outcome: str
    terms: tuple[Term, ...] = ()
    family: str = "gaussian"
    link: str = "identity"
    intercept: bool = True
    strata: tuple[str, ...] = ()
    offset: Term | None = None
    weights: str | InverseProbability | None = None
    ridge: float = 0.0
    lr: bool = False
    se: str = "model"
    confidence: float = CONFIDENCE

    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.outcome, *variables_of(self.terms), *self.selectors]))

    @property
    def selectors(self) -> tuple[str, ...]:
        """The variables that select or weigh on their own: those of the weights, and those of the offset."""
        return (*weight_variables(self.weights), *(variables_of([self.offset]) if self.offset is not None else ()))

    @property
    def own(self) -> bool:
        return RESERVED in self.strata

    def model(self) -> dict[str, Any]:
        """What every ask of this model carries."""
        return {"columns": list(self.columns()), "terms": msgspec.to_builtins(self.terms), "response": self.outcome, "family": self.family,
                "link": self.link, "intercept": self.intercept and not self.own, "own": self.own,
                "offset": msgspec.to_builtins(self.offset), "weights": msgspec.to_builtins(self.weights)}

    def population(self) -> Population:
        lost = (Loss("weightless", (self.weights,)),) if isinstance(self.weights, str) else ()
        return Population.of(self.columns(), lost, self.weights)

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        covariates = [name for name in self.columns() if name != self.outcome]
        return (Regression(self.population(), classes(dictionary, covariates), moment_classes(dictionary, (self.outcome,))),)

    def check(self, dictionary: Dictionary) -> None:
        check_confidence(self.confidence)
        check_choice("family", self.family, tuple(LINKS))
        check_choice("link", self.link, LINKS[self.family])
        check_choice("se", self.se, STANDARD_ERRORS)
        if not 0 <= self.ridge <= 1e9:
            raise QuestionError("ridge must be 0 or more")
        if set(self.strata) - {RESERVED}:
            raise QuestionError("a regression has strata of registries only", hint="write the variable as a term, strata(registry) aside")
        check_outcome(dictionary, self.outcome, Family(self.family, self.link))
        if self.outcome in variables_of(self.terms):
            raise QuestionError(f'the outcome "{self.outcome}" is a term of its own model')
        Weighting.of(self.weights, dictionary)
        if self.offset is not None:
            single(self.offset, dictionary)
        if not len(Spec.of(dictionary, **self.model()).design) and not self.own:
            raise QuestionError("the model has no terms", hint='add covariates, or keep the intercept: "y ~ 1"')


def check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise QuestionError(f'there is no {what} "{value}"{" for this family" if what == "link" else ""}',
                            hint="one of " + ", ".join(known))


def check_outcome(dictionary: Dictionary, name: str, family: Family) -> None:
    """Whether a column can be the outcome of this family. Raises QuestionError with the remedy."""
    entry = dictionary[name]
    if family.binary:
        if entry.steps == 1 and (entry.type in ("boolean", "category") or entry.ends == (0.0, 1.0)):
            return
        raise QuestionError(f'"{name}" is of type {entry.type}: a binomial outcome is a boolean, 0 and 1, or a category of two levels '
                            "(the second is the event)")
    dictionary.numeric(name)
    if family.kind == "gamma" and not entry.low > 0:
        raise QuestionError(f'"{name}" may be {entry.low:g}: a gamma outcome is above 0',
                            hint="let its range start above 0 in the dictionary")
    if family.kind in ("poisson", "negativebinomial") and (entry.low < 0 or entry.unit_step != 1):
        raise QuestionError(f'"{name}" is not a count: an integer from 0 on is wanted')


def call(formula: str | None = None, *, outcome: str | None = None, covariates: Sequence[str | Term] | str = (), family: str = "gaussian",
          link: str | None = None, strata: str | Sequence[str] = (), offset: str | Term | None = None,
          weights: str | InverseProbability | None = None, ridge: float = 0.0, lr: bool = False, se: str = "model",
          confidence: float = CONFIDENCE) -> GlmParams:
    """glm("outcome ~ age + sex", family="binomial") or glm(outcome="outcome", covariates=["age", "sex"], family="binomial")"""
    check_choice("family", family, tuple(LINKS))
    many = (strata,) if isinstance(strata, str) else tuple(strata)
    if formula is not None:
        model = parse(formula)
        if model.survival or len(model.response) != 1:
            raise QuestionError(f'"{formula}": a regression has one outcome',
                                hint='write "outcome ~ age + sex"; cox takes Surv(time, event)')
        if outcome is not None or covariates:
            raise QuestionError("give a formula, or outcome and covariates, not both")
        if model.cluster is not None:
            raise QuestionError("cluster(...) is not needed: robust standard errors cluster rows by patient on their own")
        outcome, terms, intercept = model.response[0], model.terms, model.intercept
        many = (*many, *model.strata)
        offset = offset if offset is not None else model.offset
        weights = weights or model.weights
    else:
        if outcome is None:
            raise QuestionError("a regression needs a formula, or outcome and covariates")
        model = parse_terms(covariates)
        terms, intercept = model.terms, model.intercept
    return GlmParams(outcome, terms, family, link or LINKS[family][0], intercept, tuple(dict.fromkeys(many)),
                     None if offset is None else parse_term(offset), weights, float(ridge), lr, se, confidence)
