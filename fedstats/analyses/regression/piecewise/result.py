"""The result of a piecewise exponential model: hazard ratios, and the hazard of every interval."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from fedstats.disclosure.precision import Public
from fedstats.formula.terms import Term
from fedstats.formula.weights import InverseProbability
from fedstats.query.views import Picture, Table

from ..coefficients import ModelResult


class Interval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One interval (start, stop]. events, person_time : in it, weights aside. hazard : events per unit of time of a patient at the means
    of the columns, with its interval on the log scale: robust where the standard errors used are (`se_used`), else model-based."""

    start: Public[float]
    stop: Public[float]
    events: int
    person_time: float
    hazard: float
    lower: float
    upper: float


class Piecewise(ModelResult, frozen=True, kw_only=True):
    """Frame: one row per coefficient (index: covariate), the columns of lifelines' summary. Further tables: intervals, tests, fit.

    intervals : of time, with their hazards. loglik : of the survival times, sum of log(hazard) over events less the cumulative hazards
    (that of a Poisson model of the split rows is higher by the sum of log(person-time) of rows with events); loglik_null : without
    covariates. aic counts a hazard per interval. means : of the columns, weighted.
    """

    kind: ClassVar[str] = "piecewise"

    time: str
    event: str
    entry: str | None
    weights: Public[str | InverseProbability | None]
    offset: Public[Term | None]
    terms: Public[tuple[Term, ...]]
    dropped: tuple[str, ...]
    ridge: Public[float]
    rows: int
    events: int
    intervals: tuple[Interval, ...]
    loglik: float
    loglik_null: float
    aic: float
    means: tuple[float, ...]

    @property
    def log_likelihood_(self) -> float:
        return self.loglik

    @property
    def baseline_hazard_(self) -> Any:
        """DataFrame: one row per interval, the hazard at the means with its interval."""
        return self.framed(self._intervals())

    def _intervals(self) -> Table:
        return Table(("from", "to", "events", "person-time", "hazard", "lower", "upper"),
                     tuple((one.start, one.stop, one.events, one.person_time, one.hazard, one.lower, one.upper) for one in self.intervals),
                     index=2, title="Hazard by interval")

    def tables(self) -> tuple[Table, ...]:
        fit = (("events", self.events), ("log likelihood", self.loglik), ("log likelihood without covariates", self.loglik_null),
               ("AIC", self.aic), ("rounds", self.cost.rounds), ("numbers sealed per registry", self.cost.numbers),
               ("bytes sent per registry", self.cost.bytes))
        return (self.summary_table(), self._intervals(), self.tests_table(), Table(("fit", "value"), fit, title="Fit"))

    def picture(self) -> Picture:
        return self.forest("hazard ratio")
