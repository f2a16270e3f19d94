"""The result of a Cox model, under the names that users of lifelines know, and what can be read off it: survival curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.variable import Variable
from fedstats.disclosure.precision import Public
from fedstats.errors import QuestionError
from fedstats.formula.terms import Design, Term, single, variables_of
from fedstats.formula.weights import InverseProbability
from fedstats.query.views import Picture, Table

from ...shared.common import z_of
from ..coefficients import ModelResult, exp_or_inf
from ..new_patients import new_patients
from .concordance import Concordance
from .hazards import HazardTest
from .horizons import Horizon

MOST_CURVES = 20            # people in a printed list of predictions
LARGEST_LOG_RISK = 700.0    # exp of it is still a number, and nobody survives it


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The baseline of one stratum at the shown times: of a patient whose columns are all at `means` of the result.

    hazard : cumulative. variance : its variance, coefficients taken as known. drift : per time, the sum over the events so far of the
    mean columns of those at risk (about `means`) over the risk, which carries the uncertainty of the coefficients into curves. The two
    are empty where covariances are not released.
    """

    stratum: str
    times: Public[tuple[float, ...]]
    hazard: tuple[float, ...]
    variance: tuple[float, ...]
    drift: tuple[tuple[float, ...], ...]


class Survival(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The predicted curve of one patient: survival exp(-H) with its interval (log scale) at the shown times; se : of
    the cumulative hazard. None where covariances are not released."""

    label: str
    times: tuple[float, ...]
    cumulative_hazard: tuple[float, ...]
    se: tuple[float | None, ...]
    survival: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class Cox(ModelResult, frozen=True, kw_only=True):
    """Frame: one row per coefficient (index: covariate), the hazard ratio and its interval first; `summary` has the columns of
    lifelines. Further tables: tests, proportional
    hazards, fit.

    rows : that were used, those of weight 0 aside, as R counts the observations of its glm (its
    coxph counts them). loglik, loglik_null : at the fit and at no effect. aic : -2 loglik + 2k; bic
    : with log(events), as R. events : rows with an event that count. means : of the columns,
    weighted. baseline : one per stratum, empty where registries are strata or the rules hold it
    back. terms, codebook : of the covariates, so that new patients can be read.
    """

    kind: ClassVar[str] = "cox"

    time: str
    event: str
    entry: str | None
    strata: tuple[str, ...]
    weights: Public[str | InverseProbability | None]
    offset: Public[Term | None]
    terms: Public[tuple[Term, ...]]
    dropped: tuple[str, ...]
    codebook: Public[tuple[Variable, ...]]
    ties: str
    ridge: Public[float]
    rows: int
    events: int
    loglik: float
    loglik_null: float
    aic: float
    bic: float
    means: tuple[float, ...]
    concordance: Concordance | None = None
    proportional_hazards: tuple[HazardTest, ...] = ()
    horizons: tuple[Horizon, ...] = ()
    baseline: tuple[Baseline, ...] = ()

    # -- as in lifelines ----------------------------------------------------------------------------------------------------------

    @property
    def concordance_index_(self) -> float | None:
        return None if self.concordance is None else self.concordance.c

    @property
    def log_likelihood_(self) -> float:
        return self.loglik

    @property
    def AIC_partial_(self) -> float:
        return self.aic

    def log_likelihood_ratio_test(self) -> Any:
        """The likelihood ratio test of the model as a `Test`."""
        return next((one for one in self.tests if one.name == "lr"), None)

    @property
    def baseline_cumulative_hazard_(self) -> Any:
        """DataFrame: one row per shown time, one column per stratum; of a patient at the means, as in lifelines."""
        return self._by_time([(one.stratum, one.times, one.hazard) for one in self._baselines()])

    @property
    def baseline_survival_(self) -> Any:
        return self._by_time([(one.stratum, one.times, tuple(math.exp(-h) for h in one.hazard)) for one in self._baselines()])

    def predict_log_partial_hazard(self, newdata: Any) -> tuple[float, ...]:
        """(x - means) beta of new patients, offset included."""
        x, offset = self._columns(newdata)
        return tuple(((x - np.array(self.means)) @ self._beta + offset).tolist())

    def predict_partial_hazard(self, newdata: Any) -> tuple[float, ...]:
        return tuple(exp_or_inf(one) for one in self.predict_log_partial_hazard(newdata))

    def predict_cumulative_hazard(self, newdata: Any, stratum: str | None = None) -> Any:
        """DataFrame: one row per shown time, one column per new patient."""
        return self._by_time([(one.label, one.times, one.cumulative_hazard) for one in self.survival_curves(newdata, stratum)])

    def predict_survival_function(self, newdata: Any, stratum: str | None = None) -> Any:
        """DataFrame: one row per shown time, one column per new patient."""
        return self._by_time([(one.label, one.times, one.survival) for one in self.survival_curves(newdata, stratum)])

    def survival_curves(self, newdata: Any, stratum: str | None = None, confidence: float | None = None) -> tuple[Survival, ...]:
        """Adjusted survival curves of new patients, with intervals.

        newdata : a table with the model's covariates, a dict of one value (or a list of values) per
            covariate; numbers need not lie on their step, so that the mean age will do.
        stratum : whose baseline, where there are several. The variance of the cumulative hazard is that of the baseline and of the
        coefficients together, the interval is taken on the log scale of survival, as in R. Tsiatis (1981); Link (1984).
        """
        one = self._baseline(stratum)
        x, offset = self._columns(newdata)
        z, hazard, found = z_of(confidence or self.confidence), np.array(one.hazard), []
        for k, row in enumerate(x - np.array(self.means)):
            risk = math.exp(min(float(row @ self._beta) + float(offset[k]), LARGEST_LOG_RISK))
            H, se = hazard * risk, self._hazard_se(one, row, risk)
            if se is None:
                none = (None,) * len(H)
                found.append(Survival(str(k), one.times, tuple(H.tolist()), none, tuple(np.exp(-H).tolist()), none, none))
                continue
            found.append(Survival(str(k), one.times, tuple(H.tolist()), tuple(se.tolist()), tuple(np.exp(-H).tolist()),
                                  tuple(np.exp(-H - z * se).tolist()), tuple(np.minimum(np.exp(-H + z * se), 1.0).tolist())))
        return tuple(found)

    # -- what is shown ---------------------------------------------------------------------------------------------------------------

    def tables(self) -> tuple[Table, ...]:
        fit = (("events", self.events), ("log likelihood", self.loglik), ("log likelihood without covariates", self.loglik_null),
               ("AIC", self.aic), ("BIC", self.bic), ("concordance", self.concordance_index_),
               ("standard error of the concordance", None if self.concordance is None else self.concordance.se),
               ("rounds", self.cost.rounds), ("numbers sealed per registry", self.cost.numbers),
               ("bytes sent per registry", self.cost.bytes))
        found = [self.coefficients_table("hazard ratio"), Table(("fit", "value"), fit, title="Fit")]
        if self.tests:
            found.append(self.tests_table())
        if self.proportional_hazards:
            found.append(Table(("transform", "term", "chi2", "df", "p"), tuple((one.transform, one.term, one.chi2, one.df, one.p)
                                                                             for one in self.proportional_hazards),
                               index=2, title="Proportional hazards"))
        if self.horizons:
            found.append(Table(("time", "AUC", "Brier score", "Brier score without covariates"),
                               tuple((one.time, one.auc, one.brier, one.brier_without) for one in self.horizons), title="Prediction"))
        for one in self.horizons:
            if one.calibration:
                found.append(Table(("group", "patients", "predicted", "observed", "lower", "upper"),
                                   tuple((k, g.patients, g.predicted, g.observed, g.lower, g.upper)
                                         for k, g in enumerate(one.calibration, start=1)),
                                   title=f"Predicted and observed risk by {one.time:g}"))
        return tuple(found)

    def picture(self) -> Picture:
        return self.forest("hazard ratio")

    # -- inside ----------------------------------------------------------------------------------------------------------------------

    @property
    def _beta(self) -> np.ndarray:
        return np.array([one.coef for one in self.coefficients])

    def _hazard_se(self, one: Baseline, x: np.ndarray, risk: float) -> np.ndarray | None:
        """Of the cumulative hazard of a patient with columns x (about the means) and relative risk `risk`."""
        used = self.covariance_robust if self.se_used == "robust" and self.covariance_robust is not None else self.covariance
        if used is None or not one.variance:
            return None
        lean = (np.outer(one.hazard, x) - np.array(one.drift).reshape(len(one.hazard), -1)) * risk
        return np.sqrt(np.array(one.variance) * risk * risk + np.einsum("ti,ij,tj->t", lean, np.array(used), lean))

    def _baselines(self) -> tuple[Baseline, ...]:
        if not self.baseline:
            raise QuestionError("this result has no baseline hazard" + (": registries are its strata" if "registry" in self.strata else ""),
                                hint="fit without strata(registry), on the registered grid, or read the notes of the result")
        return self.baseline

    def _baseline(self, stratum: str | None) -> Baseline:
        many = self._baselines()
        if stratum is None and len(many) == 1:
            return many[0]
        for one in many:
            if one.stratum == str(stratum):
                return one
        what = "there are several strata: name one of them" if stratum is None else f'"{stratum}" has no baseline hazard here'
        raise QuestionError(what, hint="strata are: " + ", ".join(one.stratum for one in many))

    def _columns(self, newdata: Any) -> tuple[np.ndarray, np.ndarray]:
        """The columns of new patients as they are, shape (n, p), and their offsets. Raises QuestionError for what cannot be read."""
        dictionary = Dictionary("new patients", self.codebook)
        needed = variables_of((*self.terms, *((self.offset,) if self.offset else ())))
        rows, report = new_patients(
            newdata, self.codebook, (*self.terms, *((self.offset,) if self.offset else ()))
        )
        if rows.complete(needed).n < rows.n or not rows.n:
            raise QuestionError("new patients lack a value, or have one that the dictionary does not allow",
                                hint="; ".join(report.lines()[1:]) or "covariates are: " + ", ".join(needed))
        design = Design.of(self.terms, dictionary, intercept=False, drop=self.dropped)
        x = design.matrix(rows) * np.array(design.half) + np.array(design.center)
        return x, single(self.offset, dictionary).values(rows)[0] if self.offset else np.zeros(rows.n)

    def _by_time(self, columns: Sequence[tuple[str, tuple[float, ...], tuple[float, ...]]]) -> Any:
        times = sorted({t for _, own, _ in columns for t in own})
        values = [dict(zip(own, found)) for _, own, found in columns]
        return self.framed(Table(("time", *(label for label, _, _ in columns)),
                                 tuple((t, *(one.get(t) for one in values)) for t in times), title="By time"))

