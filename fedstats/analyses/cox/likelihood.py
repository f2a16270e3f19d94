"""The partial likelihood of Cox from risk sums: ties after Efron or Breslow, score, information, baseline hazard.

How this works. At every time with events stand d tied events of weight W, the sums over all who are at risk and the sums over the
tied events, of r = w exp(eta) times 1, x and x x'. Of the d tied events the l-th (l = 0 .. d-1) sees the risk set less the share
f = l / d of the tied events (Efron) or the whole risk set (Breslow), and each has the weight m = W / d. So all that ties do is in
a few sums over l of powers of f and of 1 / (S0 - f T0).

Everything here is elementwise arithmetic in a fixed order: the same bits on every machine (see `steady`).
Efron (1977), JASA 72:557; Therneau & Grambsch (2000), Modeling Survival Data, sections 3.1 and 3.3; weights as in coxph of R.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ... import steady


def moments_size(p: int) -> int:
    """How many numbers the packed triangle of (1, x)(1, x)' has: 1, x, and x x' from the diagonal on."""
    return (p + 1) * (p + 2) // 2


@dataclass(frozen=True)
class Cells:
    """The times with events of all strata, one line each ("cell").

    place : where they stand among all cells. d : tied events. m : the weight of each. S, T : packed moments of the risk set and of
    the tied events, shape (cells, moments); T is None for Breslow. Of each cell the sums over its tied events l:
    log_risk : of m log(S0 - f T0). mean : of m xbar, shape (cells, p). variance : of m V, packed, shape (cells, p (p + 1) / 2).
    hazard, hazard_variance : of m a and m a^2 where a = 1 / (S0 - f T0); drift : of m a xbar, shape (cells, p).
    tied_hazard, tied_drift : the same as hazard and drift times 1 - f, what the tied events themselves were exposed to.
    """

    place: np.ndarray
    d: np.ndarray
    m: np.ndarray
    log_risk: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    hazard: np.ndarray
    hazard_variance: np.ndarray
    drift: np.ndarray
    tied_hazard: np.ndarray
    tied_drift: np.ndarray

    @property
    def p(self) -> int:
        return self.mean.shape[1]


def cells_of(events: np.ndarray, weight: np.ndarray, risk: np.ndarray, tied: np.ndarray | None) -> Cells:
    """All cells with events.

    events : tied events, whole numbers, shape (cells,). weight : their weight. risk, tied : packed moments, shape (cells, moments).
    """
    place = np.flatnonzero(events)
    d, S = events[place].astype(float), risk[place]
    T = None if tied is None else tied[place]
    p = (math.isqrt(8 * risk.shape[1] + 1) - 3) // 2
    m = weight[place] / d
    S1, S2 = S[:, 1:p + 1], S[:, p + 1:]
    i, j = np.triu_indices(p)
    if T is None:
        a, w = 1.0 / S[:, 0], weight[place]
        xbar = S1 * a[:, None]
        mean, hazard = xbar * w[:, None], w * a
        variance = (S2 * a[:, None] - xbar[:, i] * xbar[:, j]) * w[:, None]
        drift = xbar * hazard[:, None]
        return Cells(place, d, m, w * logs(S[:, 0], np.zeros(len(place), dtype=np.int64)), mean, variance, hazard, hazard * a, drift,
                     hazard, drift)
    T1, T2 = T[:, 1:p + 1], T[:, p + 1:]
    log_risk, sums = _over_ties(d, S[:, 0], T[:, 0])
    A0, A1, B0, B1, B2 = (one * m for one in sums)

    def column(one: np.ndarray) -> np.ndarray:
        return one[:, None]

    mean = S1 * column(A0) - T1 * column(A1)
    cross = S1[:, i] * T1[:, j] + T1[:, i] * S1[:, j]
    square = (S1[:, i] * S1[:, j] * column(B0) - cross * column(B1)) + T1[:, i] * T1[:, j] * column(B2)
    variance = (S2 * column(A0) - T2 * column(A1)) - square
    return Cells(place, d, m, log_risk * m, mean, variance, A0, B0, S1 * column(B0) - T1 * column(B1), A0 - A1,
                 S1 * column(B0 - B1) - T1 * column(B1 - B2))


def _over_ties(d: np.ndarray, S0: np.ndarray, T0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per cell: the sum over l of log(S0 - f T0), and the sums of a, f a, a^2, f a^2, f^2 a^2, shape (5, cells)."""
    logarithm, sums = np.zeros(len(d)), np.zeros((5, len(d)))
    width = np.ones(len(d), dtype=np.int64)
    while (short := width < d).any():
        width[short] *= 2
    # cells with about as many ties are done together: the sums over l are then sums by halves of one array
    for size in np.unique(width).tolist():
        here = np.flatnonzero(width == size)
        rank = np.arange(size, dtype=float)[:, None]
        f = rank / d[here]
        left = np.where(f < 1.0, S0[here] - f * T0[here], 1.0)
        a = np.where(f < 1.0, 1.0 / left, 0.0)
        square = a * a
        mantissa, exponent = np.frexp(left)
        exponent = exponent.astype(np.int64)
        while len(mantissa) > 1:
            half = len(mantissa) // 2
            mantissa, carry = np.frexp(mantissa[:half] * mantissa[half:])
            exponent = exponent[:half] + exponent[half:] + carry
        logarithm[here] = logs(mantissa[0], exponent[0])
        sums[:, here] = [steady.total(one) for one in (a, f * a, square, f * square, f * f * square)]
    return logarithm, sums


def logs(x: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """log(x 2^exponent), entry by entry."""
    return np.array([steady.log(value) + (k * steady.LN2_HIGH + k * steady.LN2_LOW)
                     for value, k in zip(x.tolist(), exponent.tolist())], dtype=float)


@dataclass(frozen=True)
class Point:
    """The partial likelihood at one beta: loglik, score, shape (p,), and information, shape (p, p)."""

    loglik: float
    score: np.ndarray
    information: np.ndarray


def point(cells: Cells, beta: np.ndarray, x: np.ndarray, offset: float) -> Point:
    """The likelihood over all cells. x : weighted sum of the covariates of all events, shape (p,); offset : that of their offsets."""
    loglik = steady.dot(beta.tolist(), x.tolist()) + offset - float(steady.total(cells.log_risk))
    return Point(loglik, x - steady.total(cells.mean), steady.unpack(steady.total(cells.variance), cells.p))
