"""The result of a generalised linear model."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.variable import Variable
from fedstats.disclosure.precision import Public, StandardError, step_above, to_step
from fedstats.errors import QuestionError
from fedstats.formula.terms import Design, Term, single, variables_of
from fedstats.formula.weights import STABILISED_ATT, InverseProbability
from fedstats.query.views import Picture, Table

from ...shared.common import t_of, z_of
from ..coefficients import ModelResult
from ..new_patients import new_patients
from .family import Family
from .params import check_choice

NAMES = {"gaussian": "Linear regression", "binomial": "Binomial regression", "poisson": "Poisson regression", "gamma": "Gamma regression",
         "negativebinomial": "Negative binomial regression", "quasibinomial": "Quasi-binomial regression",
         "quasipoisson": "Quasi-Poisson regression"}
RATIOS = {"logit": "odds ratio", "log": "rate ratio", "cloglog": "hazard ratio"}


class Glm(ModelResult, frozen=True, kw_only=True):
    """Frame: one row per coefficient (index: covariate), columns coef, se, coef_low, coef_high, z (or t), p, before them odds ratio, rate
    ratio or hazard ratio with its interval where the link has one. Further tables: tests, fit.

    dispersion : Pearson chi-squared / (n - k), 1 where it is known. theta : of the negative
    binomial, var = mu + mu^2 / theta; its coefficients' standard errors hold theta fixed, as
    MASS::glm.nb. rows : that were used, those of weight 0 aside, as R's nobs; Cox models count
    alike. parameters : coefficients, registry intercepts included. aic : -2 log_likelihood + 2
    (parameters + sigma, shape or theta, if there is one), R's convention; bic : log(rows) instead
    of 2. null_deviance : of an intercept alone, with registries as strata of the registries'
    intercepts alone; variance inflation factors are then within registries. Nothing left over (a
    perfect fit): dispersion 0, log likelihood infinite. mean : share with the event in an
    unweighted binomial model. `predict(new)` gives means with intervals for new patients,
    `inverse_probability()` weights for another model.
    """

    kind: ClassVar[str] = "glm"

    outcome: str
    family: str
    link: str
    intercept: bool
    own: bool
    terms: Public[tuple[Term, ...]]
    offset: Public[Term | None]
    ridge: Public[float]
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
    theta_se: StandardError[float | None] = None
    codebook: Public[tuple[Variable, ...]] = ()

    def told(self) -> Glm:
        """Of a gaussian model the dispersion is a variance, told to what one patient adds to it; deviances are such sums."""
        found = super().told()
        assert isinstance(found, Glm)
        if self.family != "gaussian" or not 0 < self.dispersion < math.inf:
            return found
        of_one, of_all = step_above(self.dispersion / self.rows), step_above(self.deviance / self.rows)
        null = None if self.null_deviance is None else to_step(self.null_deviance, of_all)
        return msgspec.structs.replace(found, dispersion=to_step(self.dispersion, of_one), deviance=to_step(self.deviance, of_all),
                                       null_deviance=null)

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

    def inverse_probability(
        self, *, stabilised: bool | None = None, estimand: str = "ate", most: float = 20.0
    ) -> InverseProbability:
        """Weights for another model, from this propensity model of a treatment: `c.glm(..., weights=propensity.inverse_probability(),
        se="HC0")`.

        estimand : "ate" weighs everybody to the whole cohort, "att" the untreated to the treated.
        stabilised : multiplied by the share of treated or untreated patients, here the mean of the
        outcome of this model; the default for "ate". Weights of "att" are 1 for the treated and are
        not stabilised. most : weights are truncated there. With strata(registry) each registry
        works out its own intercept where it weighs its patients. Raises QuestionError unless this
        is a logistic model with an intercept, or an intercept per registry.
        """
        if self.link != "logit" or not (self.intercept or self.own) or self.offset is not None:
            raise QuestionError("inverse probabilities come from a logistic model with an intercept (or one per registry), without offset")
        estimand = str(estimand).lower()
        check_choice("estimand", estimand, ("ate", "att"))
        if stabilised and estimand == "att":
            raise QuestionError(STABILISED_ATT, hint="leave stabilised out")
        stabilised = estimand == "ate" if stabilised is None else stabilised
        if stabilised and self.mean is None:
            raise QuestionError("the propensity model is weighted itself: its share of treated is not known", hint="use stabilised=False")
        return InverseProbability(self.outcome, self.terms, tuple(one.coef for one in self.coefficients), self.dropped,
                                  self.mean if stabilised else None, "att" if estimand == "att" else "ate", float(most),
                                  by_registry=self.own)

    def predict(self, new: Any, *, kind: str = "response", interval: bool = False) -> Any:
        """Predictions for new patients.

        new : a table as `tables.columns_of` reads it (a DataFrame), or a few rows as
        `native.table_of` takes them (a dict of a value or a list of values per column). A variable
        that the model takes as a number need not lie on its step: the mean age will do. kind : "response" (the mean) or "link".
        interval : a DataFrame with columns predicted, lower, upper instead of an array. Rows with a gap, or a value outside the
        dictionary, are NaN. Raises QuestionError for a model with registry intercepts and kind "response": they are not released.
        """
        check_choice("kind", kind, ("response", "link"))
        if self.own and kind == "response":
            raise QuestionError("a model with registry intercepts predicts differences only", hint='use kind="link"')
        dictionary = Dictionary(name="model", variables=self.codebook)
        design = Design.of(self.terms, dictionary, intercept=self.intercept and not self.own, absorbed=self.own, drop=self.dropped)
        rows, _ = new_patients(
            new, self.codebook, (*self.terms, *([self.offset] if self.offset is not None else ()))
        )
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
