"""How well predicted risks tell those with the outcome from those without: from counts of both over a fixed public grid of risks.

How this works. Registries count their patients, with and without the outcome, in 512 bins of the logit of the predicted risk; the sums
are all that is known. Patients of one bin count as ties. So every number here differs from the one computed on single patients by a
little, and `auc_slack` and `precision_bounds` say by how much at most. Counts may be weighted (inverse probability of censoring).

Bins run upwards: the first holds the lowest risks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .common import z_of

PER_UNIT = 32           # bins per unit of the logit: about 0.8 per cent of risk at 50 per cent, 0.03 at 1 per cent
REACH = 8               # the grid runs from -8 to 8: risks from 0.034 to 99.966 per cent; what lies beyond is in the outer bins
BINS = 2 * REACH * PER_UNIT
EDGES = tuple(k / PER_UNIT for k in range(-REACH * PER_UNIT + 1, REACH * PER_UNIT))
CENTRES = np.array([(k + 0.5) / PER_UNIT for k in range(-REACH * PER_UNIT, REACH * PER_UNIT)])
NEWTON_STEPS, SETTLED = 50, 1e-10


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; None where it is not defined."""

    value: float
    low: float | None = None
    high: float | None = None


def bin_of_margin(margin: np.ndarray) -> np.ndarray:
    """The bin of each logit of a risk, int64."""
    return np.searchsorted(np.array(EDGES), np.asarray(margin, dtype=float), side="right")


def risk_of(margin: np.ndarray | float) -> np.ndarray:
    """The risk of a logit."""
    with np.errstate(over="ignore"):        # of a logit below -709 the risk is 0
        return 1 / (1 + np.exp(-np.asarray(margin, dtype=float)))


def edge_risk(edge: int) -> float:
    """The risk at the lower end of a bin: 0 for the first, 1 beyond the last."""
    return 0.0 if edge <= 0 else 1.0 if edge >= BINS else float(risk_of(EDGES[edge - 1]))


# -- area under the ROC curve ----------------------------------------------------------------------------------------------------


def placements(without: np.ndarray, with_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per bin, the share of those without the outcome who have a lower risk than a patient there (ties half), and the share of those
    with it who have a higher one. without, with_ : (weighted) counts, shape (bins,)."""
    below = np.cumsum(without) - without / 2
    above = np.cumsum(with_[::-1])[::-1] - with_ / 2
    return below / without.sum(), above / with_.sum()


def auc(without: np.ndarray, with_: np.ndarray) -> float:
    """The probability that a patient with the outcome has a higher risk than one without, ties half. Bamber (1975), J Math Psychol 12."""
    return float((with_ * placements(without, with_)[0]).sum() / with_.sum())


def auc_slack(without: np.ndarray, with_: np.ndarray) -> float:
    """The most by which the AUC of single patients can differ: half the share of pairs that lie in one bin."""
    return float((without * with_).sum() / 2 / without.sum() / with_.sum())


def auc_variance(without: np.ndarray, with_: np.ndarray, *, squares: np.ndarray | None = None) -> float:
    """DeLong's variance of the AUC, from the placements of the two groups. squares : sums of squared weights per bin, shape (2, bins),
    where counts are weighted; the weights then count as known, which makes the variance a little too large.

    DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44:837-845.
    """
    found = auc(without, with_)
    low, high = placements(without, with_)
    away0, away1 = (high - found) ** 2, (low - found) ** 2
    n0, n1 = float(without.sum()), float(with_.sum())
    if squares is not None:
        return float((squares[1] * away1).sum() / n1**2 + (squares[0] * away0).sum() / n0**2)
    if n0 < 2 or n1 < 2:
        return math.nan
    return float((with_ * away1).sum() / (n1 - 1) / n1 + (without * away0).sum() / (n0 - 1) / n0)


def auc_interval(without: np.ndarray, with_: np.ndarray, confidence: float, *, squares: np.ndarray | None = None) -> Estimate:
    """AUC with DeLong's interval on the logit scale. Pepe (2003), The Statistical Evaluation of Medical Tests, section 5.2."""
    found, variance = auc(without, with_), auc_variance(without, with_, squares=squares)
    return on_logit(found, math.sqrt(variance), confidence) if math.isfinite(variance) else Estimate(found)


def on_logit(value: float, se: float, confidence: float) -> Estimate:
    """An interval of a probability, symmetric on the logit scale. se : on the scale of the value."""
    if not 0 < value < 1:
        return Estimate(value)
    centre, half = math.log(value / (1 - value)), z_of(confidence) * se / (value * (1 - value))
    return Estimate(value, float(risk_of(centre - half)), float(risk_of(centre + half)))


# -- precision and recall ----------------------------------------------------------------------------------------------------------


def average_precision(without: np.ndarray, with_: np.ndarray, cases: np.ndarray | None = None, *, order: float | None = None) -> float:
    """Area under the precision-recall curve: the mean precision over those with the outcome, from the highest risk down; as
    scikit-learn's average_precision_score.

    Patients of one bin come in mixed order, those without the outcome evenly spread between those with it. cases : patients with the
    outcome per bin where counts are weighted. order : 1 or 0 instead: those without it come all first, or all last.
    """
    cases = with_ if cases is None else cases
    total = hits = false = 0.0
    for place in np.flatnonzero((with_ + without) > 0)[::-1].tolist():
        m, w, n0 = int(cases[place]), float(with_[place]), float(without[place])
        if m:
            k = np.arange(1, m + 1)
            here = hits + w / m * k
            total += float((w / m * here / (here + false + n0 * (k / (m + 1) if order is None else order))).sum())
        hits, false = hits + w, false + n0
    return total / hits


def precision_range(without: np.ndarray, with_: np.ndarray) -> tuple[float, float]:
    """Between which numbers the average precision of single patients lies: within each bin those without the outcome first, or last."""
    return average_precision(without, with_, order=1.0), average_precision(without, with_, order=0.0)


def precision_bounds(without: np.ndarray, with_: np.ndarray, weighted: bool) -> tuple[float, float]:
    """As `precision_range`, also where the counts are sums of weights.

    How the weight of a bin is split is not known then: from below it is integrated over, from above
    all of it is at its end.
    """
    return _weighted_range(without, with_) if weighted else precision_range(without, with_)


def _weighted_range(without: np.ndarray, with_: np.ndarray) -> tuple[float, float]:
    low = high = hits = false = 0.0
    for w, n0 in zip(with_[::-1].tolist(), without[::-1].tolist()):
        if w:
            behind = false + n0
            low += w - (behind * math.log1p(w / (hits + behind)) if behind else 0.0)
            high += w * (hits + w) / (hits + w + false)
        hits, false = hits + w, false + n0
    return low / hits, high / hits


def precision_interval(without: np.ndarray, with_: np.ndarray, confidence: float, *, cases: np.ndarray | None = None) -> Estimate:
    """Average precision with its logit interval. Boyd, Eng & Page (2013), ECML PKDD, section 3."""
    found, n = average_precision(without, with_, cases), float((with_ if cases is None else cases).sum())
    if not 0 < found < 1:
        return Estimate(found)
    return on_logit(found, math.sqrt(found * (1 - found) / n), confidence)


# -- recalibration ------------------------------------------------------------------------------------------------------------------


def recalibrate(without: np.ndarray, with_: np.ndarray, confidence: float) -> tuple[Estimate, Estimate] | None:
    """Calibration intercept (slope held at 1) and slope: logistic regression of the outcome on the logit of the risk.

    Patients stand at the centre of their bin. None where no finite answer exists. Cox (1958), Biometrika 45:562-565; Steyerberg (2019),
    Clinical Prediction Models, section 15.3.
    """
    there = (without + with_) > 0
    x, y, n = CENTRES[there], with_[there].astype(float), (without + with_)[there].astype(float)
    intercept = _newton(np.ones((len(x), 1)), x, y, n)
    slope = _newton(np.stack([np.ones(len(x)), x], axis=1), np.zeros(len(x)), y, n)
    if intercept is None or slope is None:
        return None
    z = z_of(confidence)
    return tuple(Estimate(b, b - z * se, b + z * se) for b, se in (intercept, slope))       # type: ignore[return-value]


@dataclass(frozen=True)
class Recalibrated:
    """The logit of a risk becomes intercept + slope x; the covariance of both is what interval the new risk has."""

    intercept: float
    slope: float
    variance_intercept: float
    covariance: float
    variance_slope: float


def recalibration(without: np.ndarray, with_: np.ndarray) -> Recalibrated | None:
    """Intercept and slope of a logistic recalibration, both at once, with their covariance; see `recalibrate`."""
    there = (without + with_) > 0
    x, y, n = CENTRES[there], with_[there].astype(float), (without + with_)[there].astype(float)
    found = _fit(np.stack([np.ones(len(x)), x], axis=1), np.zeros(len(x)), y, n)
    if found is None:
        return None
    beta, V = found
    return Recalibrated(float(beta[0]), float(beta[1]), float(V[0, 0]), float(V[0, 1]), float(V[1, 1]))


def _newton(X: np.ndarray, offset: np.ndarray, y: np.ndarray, n: np.ndarray) -> tuple[float, float] | None:
    """The last coefficient of a logistic regression of y out of n, and its standard error."""
    found = _fit(X, offset, y, n)
    return None if found is None else (float(found[0][-1]), math.sqrt(float(found[1][-1, -1])))


def _fit(X: np.ndarray, offset: np.ndarray, y: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The coefficients of a logistic regression of y out of n, and their covariance; None where no finite answer exists."""
    beta = np.zeros(X.shape[1])
    beta[1:] = 1.0
    for _ in range(NEWTON_STEPS):
        p = risk_of(offset + X @ beta)
        information = X.T @ (X * (n * p * (1 - p))[:, None])
        try:
            step = np.linalg.solve(information, X.T @ (y - n * p))
        except np.linalg.LinAlgError:
            return None
        beta = beta + step
        if not np.isfinite(beta).all() or np.abs(beta).max() > 1e3:
            return None
        if np.abs(step).max() < SETTLED:
            return beta, np.linalg.inv(information)
    return None
