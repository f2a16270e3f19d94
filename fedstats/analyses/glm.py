"""Generalised linear models: the fit that R's glm, lm and MASS::glm.nb give on the pooled table, from sealed sums.

How this works: round 1 counts the cells that the release rules need and takes a start (the inverse-variance mean of the
registries' own fits). Then one round per Newton step, usually three or four; the last one also collects what robust standard
errors and fit statistics need. Reduced models for likelihood-ratio tests run in the same rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..analysis import Joint, Params, Setting, analysis
from ..dictionary import RESERVED, Dictionary
from ..errors import QuestionError
from ..formula import parse, parse_term, parse_terms
from ..rows import load
from ..terms import Design, Term, single, variables_of
from ..variable import Variable
from ..views import Picture, Table
from ..weights import InverseProbability, Weighting
from ._coefficients import ModelResult, Test, coefficients_of, lr_test, rows_of, vif_of, wald_tests
from ._common import CONFIDENCE, check_confidence, p_chi2, t_of, z_of
from ._model_rules import SCALARS_PER_PATIENT
from ._newton import metered
from .glm_family import LINKS, Family
from .glm_fit import NEEDED_ROBUST, Ended, Fitted, Plan, fitted, penalties, plain_terms, precision
from .glm_sums import Spec

STANDARD_ERRORS = ("model", "HC0", "HC1")
NAMES = {"gaussian": "Linear regression", "binomial": "Binomial regression", "poisson": "Poisson regression", "gamma": "Gamma regression",
         "negativebinomial": "Negative binomial regression", "quasibinomial": "Quasi-binomial regression",
         "quasipoisson": "Quasi-Poisson regression"}
RATIOS = {"logit": "odds ratio", "log": "rate ratio", "cloglog": "hazard ratio"}


class GlmParams(Params, frozen=True):
    """outcome, terms, family, link : the model. intercept : False for "- 1". strata : ("registry",) for an intercept per registry.

    offset : a term. weights : a variable, or inverse probabilities of treatment. ridge : 0.5 * ridge * coef^2 is taken from the log likelihood, on columns as they are, the
    intercept aside. lr : likelihood-ratio tests of every term. se : behind intervals and p values: "model", "HC0", "HC1".
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
        weights = self.weights.variables if isinstance(self.weights, InverseProbability) else ()
        return tuple(dict.fromkeys([self.outcome, *variables_of(self.terms), *self.selectors, *weights]))

    @property
    def selectors(self) -> tuple[str, ...]:
        """The variables that select or weigh on their own: a column of weights, and those of the offset."""
        weights = (self.weights,) if isinstance(self.weights, str) else ()
        return (*weights, *(variables_of([self.offset]) if self.offset is not None else ()))

    @property
    def own(self) -> bool:
        return RESERVED in self.strata

    def model(self) -> dict[str, Any]:
        """What every ask of this model carries."""
        return {"columns": list(self.columns()), "terms": plain_terms(self.terms), "response": self.outcome, "family": self.family,
                "link": self.link, "intercept": self.intercept and not self.own, "own": self.own,
                "offset": msgspec.to_builtins(self.offset), "weights": msgspec.to_builtins(self.weights)}

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


class Glm(ModelResult, frozen=True, kw_only=True):
    """Frame: one row per coefficient (index: covariate), columns coef, se, coef_low, coef_high, z (or t), p, before them odds ratio, rate
    ratio or hazard ratio with its interval where the link has one. Further tables: tests, fit.

    dispersion : Pearson chi-squared / (n - k), 1 where it is known. theta : of the negative binomial, var = mu + mu^2 / theta; its
    coefficients' standard errors hold theta fixed, as MASS::glm.nb. rows : that were used (those of weight 0 aside). parameters :
    coefficients, registry intercepts included. aic : -2 log_likelihood + 2 (parameters + sigma, shape or theta, if there is one), R's
    convention; mean : share with the event in an unweighted binomial model; bic : log(rows) instead of 2. `predict(new)` gives means with intervals for new patients.
    """

    kind: ClassVar[str] = "glm"
    verbatim: ClassVar[frozenset[str]] = ModelResult.verbatim | {"offset", "ridge"}

    outcome: str
    family: str
    link: str
    intercept: bool
    own: bool
    terms: tuple[Term, ...]
    offset: Term | None
    ridge: float
    dropped: tuple[str, ...]
    rows: int
    parameters: int
    df_residual: int
    dispersion: float
    deviance: float
    null_deviance: float | None
    pearson: float | None
    log_likelihood: float | None
    aic: float | None
    bic: float | None
    mean: float | None = None
    theta: float | None = None
    theta_se: float | None = None
    codebook: tuple[Variable, ...] = ()

    @property
    def llf(self) -> float | None:
        return self.log_likelihood

    @property
    def scale(self) -> float:
        return self.dispersion

    @property
    def df_resid(self) -> int:
        return self.df_residual

    @property
    def odds_ratios_(self) -> Any:
        return self.hazard_ratios_.rename("odds ratio")

    def tables(self) -> tuple[Table, ...]:
        lines = [("rows", self.rows), ("parameters", self.parameters), ("residual df", self.df_residual), ("dispersion", self.dispersion),
                 ("deviance", self.deviance), ("null deviance", self.null_deviance), ("log likelihood", self.log_likelihood),
                 ("AIC", self.aic), ("BIC", self.bic), ("rounds", self.cost.rounds), ("sealed numbers per registry", self.cost.numbers),
                 ("bytes sent per registry", self.cost.bytes)]
        if self.theta is not None:
            lines[4:4] = [("theta", self.theta), ("theta, standard error", self.theta_se)]
        fit = Table(("fit", "value"), tuple(line for line in lines if line[1] is not None), title="Fit")
        return (self.coefficients_table(RATIOS.get(self.link, "")), self.tests_table(), fit)

    def picture(self) -> Picture:
        return self.forest(RATIOS.get(self.link, ""), f"{NAMES[self.family]}: {self.outcome}")

    def inverse_probability(self, *, stabilised: bool = True, estimand: str = "ate", most: float = 20.0) -> InverseProbability:
        """Weights for another model, from this propensity model of a treatment: `c.glm(..., weights=propensity.inverse_probability(),
        se="HC0")`.

        stabilised : multiplied by the share of treated or untreated patients, here the mean of the outcome of this model. estimand :
        "ate" or "att". most : weights are truncated there. Raises QuestionError unless this is a logistic model with an intercept.
        """
        if self.link != "logit" or self.own or not self.intercept or self.offset is not None:
            raise QuestionError("inverse probabilities come from a logistic model with an intercept and without offset")
        if stabilised and self.mean is None:
            raise QuestionError("the propensity model is weighted itself: its share of treated is not known", hint="use stabilised=False")
        check_choice("estimand", estimand, ("ate", "att"))
        return InverseProbability(self.outcome, self.terms, tuple(one.coef for one in self.coefficients), self.dropped,
                                  self.mean if stabilised else None, "att" if estimand == "att" else "ate", float(most))

    def predict(self, new: Any, *, kind: str = "response", interval: bool = False) -> Any:
        """Predictions for new patients.

        new : a table as `tables.columns_of` reads it (a DataFrame, a dict of columns). kind : "response" (the mean) or "link".
        interval : a DataFrame with columns predicted, lower, upper instead of an array. Rows with a gap, or a value outside the
        dictionary, are NaN. Raises QuestionError for a model with registry intercepts and kind "response": they are not released.
        """
        check_choice("kind", kind, ("response", "link"))
        if self.own and kind == "response":
            raise QuestionError("a model with registry intercepts predicts differences only", hint='use kind="link"')
        dictionary = Dictionary(name="model", variables=self.codebook)
        design = Design.of(self.terms, dictionary, intercept=self.intercept and not self.own, absorbed=self.own, drop=self.dropped)
        rows, _ = load(new, dictionary)
        needed = [*design.variables, *(variables_of([self.offset]) if self.offset is not None else ())]
        known = np.logical_and.reduce([rows.present(name) for name in needed], axis=0) & np.ones(rows.n, dtype=bool)
        cases = rows.where(known)
        X = design.plain(cases) if len(design) else np.zeros((cases.n, 0))
        eta = X @ np.array([one.coef for one in self.coefficients])
        if self.offset is not None:
            eta = eta + single(self.offset, dictionary).values(cases)[0]
        family = Family(self.family, self.link)
        change = family.mean if kind == "response" else (lambda x: x)
        found = np.full((rows.n, 3), np.nan)
        found[known, 0] = change(eta)
        if not interval:
            return found[:, 0]
        V = self.covariance_robust if self.se_used == "robust" else self.covariance
        if V is None:
            raise QuestionError("an interval needs the covariance of the coefficients, which is not released (rule models)")
        half = (z_of(self.confidence) if self.t_df is None else t_of(self.confidence, self.t_df)) \
            * np.sqrt(np.einsum("ij,jk,ik->i", X, np.array(V), X))
        found[known, 1], found[known, 2] = change(eta - half), change(eta + half)
        return self.framed(Table(("row", "predicted", "lower", "upper"), tuple((k, *row) for k, row in enumerate(found.tolist()))))


def _call(formula: str | None = None, *, outcome: str | None = None, covariates: Sequence[str | Term] | str = (), family: str = "gaussian",
          link: str | None = None, strata: str | Sequence[str] = (), offset: str | Term | None = None,
          weights: str | InverseProbability | None = None, ridge: float = 0.0, lr: bool = False, se: str = "model", confidence: float = CONFIDENCE) -> GlmParams:
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


@analysis("glm/1", params=GlmParams, result=Glm, call=_call)
def glm(params: GlmParams, setting: Setting) -> Joint:
    """A generalised linear model on everybody: gaussian, binomial, poisson, gamma, negativebinomial, quasibinomial, quasipoisson.

    Equal to R's glm (MASS::glm.nb) on the pooled table, robust and clustered standard errors included; with strata="registry" every
    registry has an intercept of its own, which never leaves it.
    """
    plan = Plan(params.model(), params.terms, Family(params.family, params.link), setting, params.ridge, params.selectors)
    p = len(plan.spec().design)
    small = 4 * p + 12 + 3 * len(params.terms)
    found, cost = yield from metered(fitted(plan, lr=params.lr, null=True, released=small), setting)
    whole = small + p * (p + 1) <= SCALARS_PER_PATIENT * setting.size.n or setting.rules.min_cell <= 1
    return msgspec.structs.replace(_result(params, setting, plan, found, whole), cost=cost)


def _result(params: GlmParams, setting: Setting, plan: Plan, found: Fitted, whole: bool) -> Glm:
    """Everything that follows from the last totals. whole : whether covariance matrices may be released too."""
    full, family, design = found.full, plan.family, found.full.spec.design
    n, k = int(full.total("rows")), full.parameters
    half = full.spec.y_scale[1]
    phi = full.total("pearson") / max(n - k, 1) if family.dispersed else 1.0
    coef, cov, robust, vif = _estimates(full, plan, phi, params.se)
    if len(design) and precision(full, "meat", setting.registries) > NEEDED_ROBUST:
        if params.se != "model":
            raise QuestionError("robust standard errors of this model cannot be carried to enough digits",
                                hint='use se="model", or give narrower ranges in the dictionary')
        robust = None
    dispersion = phi * half * half if family.kind == "gaussian" else phi
    t_df = n - k if family.dispersed else None
    use_robust = params.se != "model"
    likelihood = full.log_likelihood
    df = k + full.extra
    tests = [*wald_tests(coef, cov if robust is None or not use_robust else robust, design.terms)] if len(design) else []
    tests += _lr_tests(full, found, dispersion)
    theta_se = None
    if full.theta is not None:
        theta_se = full.theta / math.sqrt(full.total("theta_information"))
    return Glm(
        size=setting.size,
        coefficients=coefficients_of(design.names, coef, cov, robust=robust, use_robust=use_robust, t_df=t_df, vif=vif,
                                     confidence=params.confidence),
        covariance=rows_of(cov) if whole else None,
        covariance_robust=rows_of(robust) if whole and robust is not None else None, confidence=params.confidence,
        se_used="robust" if use_robust else "model", t_df=t_df, tests=tuple(tests), outcome=params.outcome, family=params.family,
        link=params.link, intercept=params.intercept, own=params.own, terms=params.terms, offset=params.offset, ridge=params.ridge,
        dropped=found.dropped, rows=n, parameters=k, df_residual=n - k, dispersion=dispersion,
        deviance=full.total("deviance") * half * half,
        null_deviance=found.null.total("deviance") * half * half if found.null else None,
        pearson=full.total("pearson") * half * half if "pearson" in full.fit.totals else None,
        log_likelihood=likelihood, aic=-2 * likelihood + 2 * df if likelihood is not None else None,
        bic=-2 * likelihood + math.log(n) * df if likelihood is not None else None, theta=full.theta, theta_se=theta_se,
        mean=int(found.cells.outcome[-1]) / found.cells.n if family.binary and params.weights is None else None,
        codebook=codebook_of(setting.dictionary, params.terms, params.offset),
        notes=tuple(_notes(params, found, setting, whole)), methods=_methods(params, setting))


def codebook_of(dictionary: Dictionary, terms: Sequence[Term], offset: Term | None) -> tuple[Variable, ...]:
    """The lines of the dictionary that predictions need."""
    return tuple(dictionary[name] for name in variables_of([*terms, *([offset] if offset is not None else [])]))


def _estimates(full: Ended, plan: Plan, phi: float, se: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, Any]:
    """Coefficients and covariances, model-based and sandwich, of the columns as they are, and the variance inflation factors."""
    design, n, k = full.spec.design, full.total("rows"), full.parameters
    p, (center, half) = len(design), full.spec.y_scale
    if not p:
        return np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0)), ()
    information, meat = np.zeros((p, p)), np.zeros((p, p))
    upper = np.triu_indices(p)
    information[upper], meat[upper] = full.fit.totals["information"], full.fit.totals["meat"]
    information, meat = np.triu(information) + np.triu(information, 1).T, np.triu(meat) + np.triu(meat, 1).T
    bread = np.linalg.inv(information + np.diag(penalties(design, plan.ridge)))
    sandwich = bread @ meat @ bread * (n / (n - k) if se == "HC1" and n > k else 1.0)
    coef, cov = design.unscale(full.beta, phi * bread)
    assert cov is not None
    T = design.back
    coef = half * coef
    if design.intercept:
        coef[0] += center
    return coef, cov * half * half, T @ sandwich @ T.T * half * half, vif_of(information, design.intercept)


def _lr_tests(full: Ended, found: Fitted, dispersion: float) -> list[Test]:
    """Likelihood-ratio tests; for an estimated dispersion, scaled deviance differences, as anova(test="Chisq")."""
    tests = []
    fits = {**found.reduced, **({"(model)": found.null} if found.null is not None and full.theta is None else {})}
    for label, other in fits.items():
        df = len(full.spec.design) - len(other.spec.design)
        if df == 0:
            continue
        if full.spec.family.dispersed:
            half = full.spec.y_scale[1]
            scale = dispersion if full.spec.family.kind != "gaussian" else dispersion / half / half
            chi2 = max((other.total("deviance") - full.total("deviance")) / scale, 0.0)
            tests.append(Test("lr", label, chi2, df, p_chi2(chi2, df)))
        else:
            tests.append(lr_test(label, full.log_likelihood or 0.0, other.log_likelihood or 0.0, df))
    return tests


def _notes(params: GlmParams, found: Fitted, setting: Setting, whole: bool) -> list[str]:
    notes = [f'"{name}" is left out: nobody has this level' for name in found.dropped]
    if params.own:
        notes.append("each registry has an intercept of its own; it stays there, and only the common coefficients are released")
    if params.family == "negativebinomial":
        notes.append("standard errors of the coefficients hold theta fixed (expected information), as MASS::glm.nb")
    if isinstance(params.weights, InverseProbability) and params.se == "model":
        notes.append("weights by inverse probability of treatment: model-based standard errors do not hold, use se=\"HC0\"")
    if params.ridge:
        notes.append(f"coefficients are shrunk by a ridge penalty of {params.ridge:g}: standard errors and tests are those of the "
                     "penalised fit")
    if found.full.spec.family.kind in ("gaussian", "gamma"):
        notes.append("log likelihood, AIC and BIC count the dispersion as a parameter, as R's glm")
    if not whole:
        notes.append("the covariance of the coefficients is not released: more than one number per 10 patients (rule models)")
    return notes


def _methods(params: GlmParams, setting: Setting) -> str:
    errors = {"model": "model-based", "HC0": "robust (HC0)", "HC1": "robust (HC1)"}[params.se]
    clustered = " clustered by patient" if setting.dictionary.most_rows > 1 and params.se != "model" else ""
    own = " with an intercept per registry" if params.own else ""
    ridge = f" and a ridge penalty of {params.ridge:g}" if params.ridge else ""
    return (f"{NAMES[params.family]} ({params.link} link){own}{ridge}, fitted by Newton's method to the sums over all registries; "
            f"{errors}{clustered} standard errors, {params.confidence:.0%} intervals.")
