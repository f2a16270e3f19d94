"""Families of generalised linear models: what one row adds to score, information and log likelihood, and the bound of each.

How this works: everything is written in the linear predictor eta, so one pair of formulas per family and link suffices: the score
r = dl/d eta, the expected information W, the observed information H = -d2l/d eta2, and l without its constant. Bounds hold
for every eta within `Span` and every allowed outcome, and are made of steady arithmetic, rounded up to a power of two.

McCullagh & Nelder (1989), Generalized Linear Models; Venables & Ripley (2002), section 7.4, for the negative binomial.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from fedstats.sums import steady

MOST_ETA = 300.0            # of a linear predictor
MOST_SCORE = 2.0**28        # of one row: beyond it sums cannot be carried to a useful precision (53 bits from the bound down)
# A registry's own intercept lies within this of its columns: a share of events below 1 in 10^17 cannot be seen among fewer patients;
# a complementary log-log of 4 is one non-event in 10^23.
OWN_INTERCEPT, CLOGLOG_TOP = 40.0, 4.0
SCALED = {"gaussian"}       # families whose outcome is scaled to [-1, 1] by the dictionary's range
DISPERSED = {"gaussian", "gamma", "quasibinomial", "quasipoisson"}     # the dispersion is estimated (Pearson), Student's t is used
LINKS = {"gaussian": ("identity",), "binomial": ("logit", "probit", "cloglog"), "quasibinomial": ("logit", "probit", "cloglog"),
         "poisson": ("log",), "quasipoisson": ("log",), "gamma": ("log",), "negativebinomial": ("log",)}
CANONICAL = {"identity", "logit"}       # beside poisson's log: observed and expected information are the same


@dataclass(frozen=True)
class Span:
    """Within which limits the numbers of a fit lie: linear predictor, outcome, weights. own : each
    registry has its own intercept. width : of the columns' part of the linear predictor."""

    low: float
    high: float
    y_low: float
    y_high: float
    weight: float = 1.0
    own: bool = False
    width: float = 0.0

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Family:
    """One family with its link. kind : gaussian, binomial, poisson, gamma or negativebinomial, with quasi- taken off."""

    name: str
    link: str

    @property
    def kind(self) -> str:
        return self.name.removeprefix("quasi")

    @property
    def binary(self) -> bool:
        return self.kind == "binomial"

    @property
    def canonical(self) -> bool:
        return self.link in CANONICAL or self.kind == "poisson"

    @property
    def dispersed(self) -> bool:
        return self.name in DISPERSED

    @property
    def exponential(self) -> bool:
        """Whether the mean, or a part of the likelihood, grows like exp(eta)."""
        return self.link in ("log", "cloglog")

    # -- one row ---------------------------------------------------------------------------------------------------------

    def mean(self, eta: np.ndarray) -> np.ndarray:
        match self.link:
            case "identity":
                return eta
            case "logit":
                return special.expit(eta)
            case "probit":
                return special.ndtr(eta)
            case "cloglog":
                return -np.expm1(-np.exp(eta))
        return np.exp(eta)

    def slope(self, eta: np.ndarray) -> np.ndarray:
        """d mean / d eta."""
        match self.link:
            case "identity":
                return np.ones_like(eta)
            case "logit":
                mu = special.expit(eta)
                return mu * (1 - mu)
            case "probit":
                return np.exp(-eta * eta / 2) / np.sqrt(2 * np.pi)
            case "cloglog":
                return np.exp(eta - np.exp(eta))
        return np.exp(eta)

    def derivatives(self, eta: np.ndarray, y: np.ndarray, theta: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Score, expected information, observed information and log likelihood (its part that varies) of each row."""
        match self.kind, self.link:
            case "gaussian", _:
                one = np.ones_like(eta)
                return y - eta, one, one, -(y - eta) ** 2 / 2
            case "binomial", "logit":
                mu = special.expit(eta)
                W = mu * special.expit(-eta)
                return y - mu, W, W, y * eta - np.logaddexp(0.0, eta)
            case "binomial", "probit":
                sign = 2 * y - 1
                tail = special.log_ndtr(sign * eta)
                density = -eta * eta / 2 - np.log(2 * np.pi) / 2
                r = sign * np.exp(density - tail)
                W = np.exp(2 * density - special.log_ndtr(eta) - special.log_ndtr(-eta))
                return r, W, r * (r + eta), tail
            case "binomial", "cloglog":
                t = np.exp(eta)
                with np.errstate(over="ignore", divide="ignore"):
                    g = np.where(t > 0, t / np.expm1(t), 1.0)
                    happened = np.log(-np.expm1(-t))
                    H = np.where(y > 0, g * (np.where(t > 0, t / -np.expm1(-t), 1.0) - 1), t)
                return np.where(y > 0, g, -t), t * g, H, np.where(y > 0, happened, -t)
            case "poisson", _:
                mu = np.exp(eta)
                return y - mu, mu, mu, y * eta - mu
            case "gamma", _:
                q = y * np.exp(-eta)
                return q - 1, np.ones_like(eta), q, -(q + eta)
        mu = np.exp(eta)
        odds = 1 + mu / theta
        likelihood = (y * eta - (y + theta) * np.log1p(mu / theta) - y * np.log(theta)
                      + special.gammaln(theta + y) - special.gammaln(theta))
        return (y - mu) / odds, mu / odds, mu * (1 + y / theta) / odds**2, likelihood

    def theta_derivatives(self, eta: np.ndarray, y: np.ndarray, theta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Negative binomial: score and observed information of log theta, and the cross information with eta, of each row."""
        mu = np.exp(eta)
        first = special.psi(theta + y) - special.psi(theta) - np.log1p(mu / theta) + (mu - y) / (mu + theta)
        second = (special.polygamma(1, theta + y) - special.polygamma(1, theta) + 1 / theta - 2 / (mu + theta)
                  + (y + theta) / (mu + theta) ** 2)
        return theta * first, -(theta * first + theta**2 * second), -theta * (y - mu) * mu / (mu + theta) ** 2

    def fit_quality(self, eta: np.ndarray, y: np.ndarray, theta: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Deviance, Pearson chi-squared, and the constant that the log likelihood needs (gamma: log y), of each row."""
        mu = self.mean(eta)
        match self.kind:
            case "gaussian":
                return (y - mu) ** 2, (y - mu) ** 2, np.zeros_like(y)
            case "binomial":
                likelihood = self.derivatives(eta, y)[3]
                # (y - mu)^2 / (mu (1 - mu)) = (1 - p) / p with p the probability of what happened
                return -2 * likelihood, np.expm1(-likelihood), np.zeros_like(y)
            case "poisson":
                return 2 * (special.xlogy(y, y / mu) - (y - mu)), (y - mu) ** 2 / mu, -special.gammaln(y + 1)
            case "gamma":
                return 2 * ((y - mu) / mu - np.log(y / mu)), ((y - mu) / mu) ** 2, np.log(y)
        deviance = 2 * (special.xlogy(y, y / mu) - (y + theta) * np.log((y + theta) / (mu + theta)))
        return deviance, (y - mu) ** 2 / (mu + mu**2 / theta), -special.gammaln(y + 1)

    def working(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where R's glm starts: linear predictor plus working residual, and weight, at means near the outcome itself."""
        match self.kind:
            case "gaussian":
                return y, np.ones_like(y)
            case "binomial":
                mu = (y + 0.5) / 2
                eta = {"logit": special.logit, "probit": special.ndtri, "cloglog": lambda m: np.log(-np.log1p(-m))}[self.link](mu)
                slope = self.slope(eta)
                return eta + (y - mu) / slope, slope**2 / (mu * (1 - mu))
            case "gamma":
                return np.log(y), np.ones_like(y)
        mu = y + 1 / 6
        return np.log(mu) + (y - mu) / mu, mu

    # -- bounds ------------------------------------------------------------------------------------------------------------

    def span(self, low: float, high: float, y_low: float, y_high: float, weight: float, own: bool) -> Span:
        """The limits of a fit. low, high : of the columns' part of eta. own : each registry has an intercept of its own, fitted to its
        rows: its score sums to 0 there, so no mean lies further from the outcomes than the columns' part reaches."""
        if not own:
            return Span(low, high, y_low, y_high, weight)
        width = high - low
        if self.kind == "gaussian":
            return Span(y_low - width, y_high + width, y_low, y_high, weight, True, width)
        if self.kind == "gamma":
            return Span(steady.log(y_low) - width, steady.log(y_high) + width, y_low, y_high, weight, True, width)
        if self.binary:
            most = CLOGLOG_TOP if self.link == "cloglog" else OWN_INTERCEPT
            return Span(-OWN_INTERCEPT - width, most + width, y_low, y_high, weight, True, width)
        # a mean count below 1 in 10^13 cannot be, with a single event among all patients; without any, nothing is sent
        return Span(-30.0 - width, steady.log(max(y_high, 1.0)) + width, y_low, y_high, weight, True, width)

    def bounds(self, span: Span, theta: float = 1.0) -> dict[str, float]:
        """The most that one row adds to each sum: score, W, H, likelihood, deviance, pearson, constant, and for theta."""
        e, y = span.largest, max(abs(span.y_low), abs(span.y_high))
        match self.kind, self.link:
            case "gaussian", _:
                r = max(span.y_high - span.low, span.high - span.y_low, 1e-3)
                found = {"score": r, "W": 1.0, "H": 1.0, "likelihood": r * r, "deviance": r * r, "pearson": r * r, "constant": 1.0}
            case "binomial", "logit":
                found = {"score": 1.0, "W": 0.25, "H": 0.25, "likelihood": e + 1, "deviance": 2 * e + 2, "pearson": _exp(e),
                         "constant": 1.0}
            case "binomial", "probit":
                tail = e * e / 2 + e + 2
                found = {"score": e + 1, "W": 1.0, "H": 1.0, "likelihood": tail, "deviance": 2 * tail, "pearson": _exp(min(tail, 40.0)),
                         "constant": 1.0}
            case "binomial", "cloglog":
                t = _exp(span.high)
                found = {"score": 1 + t, "W": 1.0, "H": 1 + t, "likelihood": t + e + 1, "deviance": 2 * (t + e + 1),
                         "pearson": _exp(min(t + e, 40.0)), "constant": 1.0}
            case "gamma", _:
                q = y * _exp(-span.low)
                log_y = max(abs(steady.log(span.y_low)), abs(steady.log(span.y_high)), 1.0)
                found = {"score": q + 1, "W": 1.0, "H": q, "likelihood": q + e, "deviance": 2 * (q + 1 + log_y + e),
                         "pearson": (q + 1) * (q + 1), "constant": log_y}
            case _:
                mu, logs = _exp(span.high), steady.log(y + 1)
                found = {"score": max(y, mu), "W": mu, "H": mu, "likelihood": y * e + mu + 1,
                         "deviance": 2 * (y * (logs + e) + y + mu + 1), "pearson": y * y * _exp(-span.low) + 2 * y + mu + 1,
                         "constant": y * logs + 1}
                if self.kind == "negativebinomial":
                    lt = abs(steady.log(theta)) + logs + e + 1
                    found |= {"H": mu + y, "likelihood": y * (2 * e + 3 * lt) + 2 * mu + 1, "theta": 4 * (y + mu + 1),
                              "deviance": 2 * (y * (logs + e) + (y + theta) * 2 * lt + y + mu + 1)}
        if span.own and self.kind != "gaussian":
            # where the own intercept's score is 0, sum y^2 / mu is at most max(y) times the spread of the means within the registry
            found["pearson"] = max(y * y, 1.0) * _exp(2 * span.width) + 2 * y + 1 + (_exp(span.high) if self.link == "log" else 0.0)
        return {name: steady.power_of_two(max(one, 2.0**-30) * span.weight) for name, one in found.items()}


def _exp(x: float) -> float:
    return steady.exp(min(x, 600.0))
