"""Generalised linear models: the fit that R's glm, lm and MASS::glm.nb give on the pooled table, from sealed sums.

How this works: round 1 counts the cells that the release rules need and takes a start (the inverse-variance mean of the
registries' own fits). Then one round per Newton step, usually three or four; the last one also collects what robust standard
errors and fit statistics need. Reduced models for likelihood-ratio tests run in the same rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.variable import Variable
from fedstats.errors import QuestionError
from fedstats.formula.terms import Term, variables_of
from fedstats.formula.weights import InverseProbability, weight_notes
from fedstats.query.analysis import Joint, Setting, analysis

from ...shared.common import p_chi2
from ..coefficients import Test, coefficients_of, lr_test, over, rows_of, vif_of, wald_tests
from ..model_rules import SCALARS_PER_PATIENT
from ..newton import inverse_of, metered
from .family import Family
from .fit import NEEDED_ROBUST, Ended, Fitted, Plan, fitted, penalties, precision
from .params import GlmParams, call
from .result import NAMES, RATIOS, Glm

NO_SLOPE = 1e-10        # of a scaled coefficient of a perfect fit: rounding


@analysis("glm/1", params=GlmParams, result=Glm, call=call)
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
    phi = full.dispersion
    coef, cov, robust, vif = _estimates(full, plan, phi, params.se)
    if len(design) and not full.perfect and precision(full, "meat") > NEEDED_ROBUST:
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
        known = full.total("theta_information")
        theta_se = full.theta / math.sqrt(known) if known > 0 else math.nan
    return Glm(
        size=setting.size,
        coefficients=coefficients_of(design.names, coef, cov, robust=robust, use_robust=use_robust, t_df=t_df, vif=vif,
                                     confidence=params.confidence, ratios=params.link in RATIOS),
        covariance=rows_of(cov) if whole else None,
        covariance_robust=rows_of(robust) if whole and robust is not None else None, confidence=params.confidence,
        se_used="robust" if use_robust else "model", t_df=t_df, tests=tuple(tests), outcome=params.outcome, family=params.family,
        link=params.link, intercept=params.intercept, own=params.own, terms=params.terms, offset=params.offset, ridge=params.ridge,
        dropped=found.dropped, rows=n, parameters=k, df_residual=n - k, dispersion=dispersion,
        deviance=full.deviance, null_deviance=found.null.deviance if found.null and found.tells_null else None,
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
    bread = inverse_of(information + np.diag(penalties(design, plan.ridge)), design.names)
    more = 1.0 if se != "HC1" else n / (n - k) if n > k else math.nan
    sandwich = bread @ (0.0 * meat if full.perfect else meat) @ bread * more
    beta = np.where(np.abs(full.beta) <= NO_SLOPE, 0.0, full.beta) if full.perfect else full.beta
    coef, cov = design.unscale(beta, phi * bread)
    assert cov is not None
    T = design.back
    coef = half * coef
    if design.intercept:
        coef[0] += center
    return coef, cov * half * half, T @ sandwich @ T.T * half * half, vif_of(information, design.intercept)


def _lr_tests(full: Ended, found: Fitted, dispersion: float) -> list[Test]:
    """Likelihood-ratio tests; for an estimated dispersion, scaled deviance differences, as anova(test="Chisq")."""
    tests = []
    null = found.null if found.tells_null and full.theta is None else None
    fits = {**found.reduced, **({"(model)": null} if null is not None else {})}
    for label, other in fits.items():
        df = len(full.spec.design) - len(other.spec.design)
        if df == 0:
            continue
        if full.spec.family.dispersed:
            scale = dispersion if full.spec.family.kind == "gaussian" else full.dispersion
            gain = max(other.deviance - full.deviance, 0.0)
            chi2 = gain / scale if scale else over(gain, scale)
            tests.append(Test("lr", label, chi2, df, p_chi2(chi2, df)))
        else:
            tests.append(lr_test(label, full.log_likelihood or 0.0, other.log_likelihood or 0.0, df))
    return tests


def _notes(params: GlmParams, found: Fitted, setting: Setting, whole: bool) -> list[str]:
    notes = [f'"{name}" is left out: nobody has this level' for name in found.dropped]
    if params.own:
        notes.append("each registry has an intercept of its own; it stays there, and only the common coefficients are released")
        notes.append(
            "the null deviance, and the test of the whole model, are against the registries' intercepts alone, not one intercept as "
            "in R's glm with factor(registry); variance inflation factors are within registries, which are no term of them"
        )
    if params.family == "negativebinomial":
        notes.append("standard errors of the coefficients hold theta fixed (expected information), as MASS::glm.nb")
    if isinstance(params.weights, InverseProbability) and params.se == "model":
        notes.append("weights by inverse probability of treatment: model-based standard errors do not hold, use se=\"HC0\"")
    notes += weight_notes(params.weights)
    if found.full.perfect:
        notes.append(
            f'the terms leave nothing over of "{params.outcome}" (a perfect fit): dispersion and standard errors are 0, and the '
            "likelihood has no limit"
        )
    if found.full.spec.family.dispersed and found.full.total("rows") <= found.full.parameters:
        notes.append(
            "as many coefficients as rows: nothing is left to estimate the dispersion from, so that there are no standard errors, "
            "intervals and tests"
        )
    if not found.tells_null:
        notes.append(f'null deviance and test of the whole model not released: "{params.outcome}" has few values, and with its mean they '
                     f"are a table in which one has fewer than {setting.rules.min_cell} patients (rule few values, min_cell)")
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
