"""The partial likelihood of Cox from risk sums: ties after Efron or Breslow, score, information, baseline hazard.

How this works. At every time with events stand d tied events of weight W, the sums over all who are at risk and the sums over the
tied events, of r = w exp(eta) times 1 and x. Of the d tied events the l-th (l = 0 .. d-1) sees the risk set less the share
f = l / d of the tied events (Efron) or the whole risk set (Breslow), and each has the weight m = W / d. So all that ties do is in
a few sums over l of powers of f and of 1 / (S0 - f T0).

The information is a sum of squares about means. Sums of r x x' at every time are not needed for it: of each row counts only what it is
exposed to in all, the events that it is expected to add. So one sum over rows of that times x x' is enough, once the hazards are known
(`curvature`); the squares of the means follow from the sums at hand.

Everything here is elementwise arithmetic in a fixed order: the same bits on every machine (see `steady`).
Efron (1977), JASA 72:557; Therneau & Grambsch (2000), Modeling Survival Data, sections 3.1 and 3.3; weights as in coxph of R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedstats.sums import steady

LARGEST_LEAN = 30.0         # of the logarithm of a hazard from one beta to another


@dataclass(frozen=True)
class Cells:
    """The times with events of all strata, one line each ("cell").

    place : where they stand among all cells. d : tied events. m : the weight of each. risk, tied : S0 and T0, the sums of r over those at
    risk and over the tied events (0 for Breslow). Of each cell the sums over its tied events l:
    log_risk : of m log(S0 - f T0). mean : of m xbar, shape (cells, p). square : of m xbar xbar', packed, shape (cells, p (p + 1) / 2).
    hazard, hazard_variance : of m a and m a^2 where a = 1 / (S0 - f T0); drift : of m a xbar, shape (cells, p).
    spared_hazard, spared_drift : the part of hazard and drift that the tied events themselves are not exposed to: times f.
    """

    place: np.ndarray
    d: np.ndarray
    m: np.ndarray
    risk: np.ndarray
    tied: np.ndarray
    log_risk: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    hazard: np.ndarray
    hazard_variance: np.ndarray
    drift: np.ndarray
    spared_hazard: np.ndarray
    spared_drift: np.ndarray

    @property
    def p(self) -> int:
        return self.mean.shape[1]


def cells_of(events: np.ndarray, weight: np.ndarray, risk: np.ndarray, tied: np.ndarray | None) -> Cells:
    """All cells with events.

    events : tied events, whole numbers, shape (cells,). weight : their weight. risk, tied : sums of r and r x, shape (cells, 1 + p).
    """
    place = np.flatnonzero(events)
    d, S0, S1 = events[place].astype(float), risk[place, 0], risk[place, 1:]
    m = weight[place] / d
    i, j = np.triu_indices(S1.shape[1])
    if tied is None:
        a, w = 1.0 / S0, weight[place]
        xbar, hazard = S1 * a[:, None], w * a
        drift, none = xbar * hazard[:, None], np.zeros(len(place))
        return Cells(place, d, m, S0, none, w * logs(S0, np.zeros(len(place), dtype=np.int64)), xbar * w[:, None],
                     xbar[:, i] * xbar[:, j] * w[:, None], hazard, hazard * a, drift, none, np.zeros_like(drift))
    T0, T1 = tied[place, 0], tied[place, 1:]
    log_risk, sums = _over_ties(d, S0, T0)
    A0, A1, B0, B1, B2 = (one * m for one in sums)

    def column(one: np.ndarray) -> np.ndarray:
        return one[:, None]

    cross = S1[:, i] * T1[:, j] + T1[:, i] * S1[:, j]
    square = (S1[:, i] * S1[:, j] * column(B0) - cross * column(B1)) + T1[:, i] * T1[:, j] * column(B2)
    return Cells(place, d, m, S0, T0, log_risk * m, S1 * column(A0) - T1 * column(A1), square, A0, B0,
                 S1 * column(B0) - T1 * column(B1), A1, S1 * column(B1) - T1 * column(B2))


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
    """log(x 2^exponent), entry by entry: `steady.log` step by step on whole arrays, so the same bits. Raises ValueError for x <= 0."""
    if not ((x > 0) & (x < np.inf)).all():
        raise ValueError("log of a number that is not positive and finite")
    m, k = np.frexp(x)
    low = m < steady.ROOT_HALF
    f, k = np.where(low, 2 * m, m) - 1.0, k - low
    s = f / (2.0 + f)
    z, series = s * s, np.zeros(len(x))
    for term in steady.LOG_SERIES:
        series = series * z + term
    half = 0.5 * f * f
    found = k * steady.LN2_HIGH - ((half - (s * (half + z * series) + k * steady.LN2_LOW)) - f)
    return np.asarray(found + (exponent * steady.LN2_HIGH + exponent * steady.LN2_LOW))


@dataclass(frozen=True)
class Point:
    """The partial likelihood at one beta: loglik, score, shape (p,), and information, shape (p, p)."""

    loglik: float
    score: np.ndarray
    information: np.ndarray


def point(cells: Cells, beta: np.ndarray, x: np.ndarray, offset: float, information: np.ndarray) -> Point:
    """The likelihood over all cells. x : weighted sum of the covariates of all events, shape (p,); offset : that of their offsets."""
    loglik = steady.dot(beta.tolist(), x.tolist()) + offset - float(steady.total(cells.log_risk))
    return Point(loglik, x - steady.total(cells.mean), information)


def information(cells: Cells, second: np.ndarray) -> np.ndarray:
    """The information, shape (p, p). second : packed sum over rows of x x' times the events that each is expected to add, shape
    (p (p + 1) / 2,)."""
    return steady.unpack(second - steady.total(cells.square), cells.p)


def information_near(cells: Cells, second: np.ndarray, hazards: tuple[np.ndarray, np.ndarray], ends: Sequence[int]) -> np.ndarray:
    """Nearly the information, from expectations that rest on other hazards than the cells' own; shape (p, p).

    second : as for `information`, of hazards in one run of cells after another, shape (runs, p (p + 1) / 2); ends : of the runs, exclusive.
    hazards : per cell, and what is spared of them (`carried`). The variances at the times of a run are added up with the events that were
    expected at each, and scaled to how many there were. So it is right where hazards are in proportion within runs, and never indefinite,
    as every part of it is a variance.
    """
    there, expected = cells.m * cells.d, hazards[0] * cells.risk - hazards[1] * cells.tied
    square, found, start = cells.square * (expected / there)[:, None], np.zeros(cells.square.shape[1]), 0
    for end, of in zip(ends, second):
        run, start = slice(start, end), end
        found = found + (of - steady.total(square[run])) * (float(steady.total(there[run])) / float(steady.total(expected[run])))
    return steady.unpack(found, cells.p)


def carried(cells: Cells, by: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Hazards and what is spared of them, as they may be at a beta that lies `by` further than that of the cells: risks grow with the mean
    of those at risk, log S0(beta + by) = log S0(beta) + xbar by + ..."""
    lean = np.zeros(len(cells.place))
    for drift, far in zip(cells.drift.T, by):
        lean = lean + drift * far
    lean = np.clip(lean / cells.hazard, -LARGEST_LEAN, LARGEST_LEAN)
    factor = np.array([steady.exp(-one) for one in lean.tolist()], dtype=float)
    return cells.hazard * factor, cells.spared_hazard * factor
