"""The product-limit estimate and what is read off it: limits, quantiles, restricted means. Plain numbers in, numbers out."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np

from ...disclosure.precision import Public
from .life_table import at_risk

ConfType = Literal["log-log", "log", "plain"]
SAME = 1.5e-8               # sqrt of the machine precision: when a curve counts as exactly at a height, as in R's quantile()


class Quantile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time by which the share p has had the event; None where the curve, or its band, does not come down so far.

    after : where intervals of the grid are merged, the quantile lies after this time and not after `time`, and its limits are
    the outer ends of the intervals that hold them; None: `time` and its limits are exact.
    """

    p: Public[float]
    time: Public[float | None]
    time_low: Public[float | None]
    time_high: Public[float | None]
    after: Public[float | None] = None


def product_limit(events: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S(t) and Greenwood's sum of d / (n (n - d)), the variance of log S; infinite once S is 0.

    Kaplan & Meier (1958), JASA 53:457-481; Greenwood (1926). Klein & Moeschberger (2003), section 4.2.
    """
    n = np.maximum(n, 1)
    with np.errstate(divide="ignore"):
        return np.cumprod((n - events) / n), np.cumsum(np.divide(events, n * (n - events), dtype=float))


def band(survival: np.ndarray, se_log: np.ndarray, z: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise limits of S; NaN where S is 0. Klein & Moeschberger (2003), section 4.3; the limits R's survfit prints."""
    with np.errstate(all="ignore"):
        if kind == "plain":
            low, high = survival - z * survival * se_log, survival + z * survival * se_log
        elif kind == "log":
            low, high = survival * np.exp(-z * se_log), survival * np.exp(z * se_log)
        else:
            half = z * se_log / np.log(survival)
            low, high = survival ** np.exp(-half), survival ** np.exp(half)
    low, high = np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)
    known = survival > 0
    certain = se_log == 0           # nobody has had the event yet
    return (np.where(certain, survival, np.where(known, low, np.nan)), np.where(certain, survival, np.where(known, high, np.nan)))


def quantile(p: float, times: np.ndarray, survival: np.ndarray, low: np.ndarray, high: np.ndarray) -> Quantile:
    """The time at which S falls to 1 - p, with the times at which the limits of its band do.

    Where S is exactly 1 - p over an interval, its middle. Brookmeyer & Crowley (1982), Biometrics 38:29-41.
    """
    return Quantile(p, *(_crossing(1 - p, times, curve) for curve in (survival, low, high)))


def _crossing(height: float, times: np.ndarray, curve: np.ndarray) -> float | None:
    times, curve = times[~np.isnan(curve)], curve[~np.isnan(curve)]
    reached, below = np.flatnonzero(curve <= height + SAME), np.flatnonzero(curve < height - SAME)
    if not len(reached):
        return None
    return float((times[reached[0]] + times[below[0] if len(below) else -1]) / 2) if abs(curve[reached[0]] - height) <= SAME \
        else float(times[reached[0]])


def restricted_mean(times: np.ndarray, events: np.ndarray, n: np.ndarray, tau: float) -> tuple[float, float]:
    """Area under S up to tau, and its standard error.

    The variance is the sum of (area beyond t)^2 d / (n (n - d)) over event times, without n / (n - 1), as R's survfit.
    Klein & Moeschberger (2003), section 4.5.
    """
    survival, _ = product_limit(events, n)
    keep = times <= tau
    times, n, d = times[keep], n[keep].astype(float), events[keep]
    area = np.diff([0.0, *times, tau]) * np.array([1.0, *survival[keep]])
    beyond = at_risk(area)[1:]
    jump = np.divide(d, n * (n - d), out=np.zeros(len(n)), where=n > d)
    return float(area.sum()), math.sqrt(float((beyond**2 * jump).sum()))
