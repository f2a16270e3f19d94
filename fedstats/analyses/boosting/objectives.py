"""What is minimised: gradients and hessians of each objective, the most they can be, and the score a model starts from.

A registry computes gradients from its own rows, in doubles from the 32-bit margin that xgboost would hold, and rounds them to whole
numbers of a unit that all know. The bounds and starting scores are computed by every registry for itself, so they use steady
arithmetic only.

Formulas: Chen & Guestrin (2016), KDD, section 2.2; Cox with Breslow ties on the grid: Breslow (1974), Biometrics 30:89-99; discrete-time
hazards: Singer & Willett (1993), J Educ Stat 18:155-195.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...sums import steady

LOGISTIC, SQUARED, POISSON, COX, HAZARD = "binary:logistic", "reg:squarederror", "count:poisson", "survival:cox", "hazard:logistic"
OBJECTIVES = (LOGISTIC, SQUARED, POISSON, COX, HAZARD)
POISSON_STEP = 0.7          # xgboost's default of max_delta_step for count:poisson
SMALLEST_HESSIAN = 1e-16    # kRtEps of xgboost's logistic loss
FEWEST_BITS, USUAL_BITS = 20, 24        # of the bound of a gradient: as many as a sum over all rows leaves room for in one 40-bit prime
COUNT_BITS = 30         # of counts, in two primes: most gradients are far below their bound, which grows with exp(the largest margin)
PRIME_BITS = 38                         # of a sum with its sign; primes are a little below 2^40
EXACT_BITS = 52                         # of a sum that a double holds exactly
REACH_CELLS = 32        # in which people are counted to find between which values margins really lie
SLACK = 1.0 + 2.0**-20      # a margin is a sum of float32: its rounding is far smaller than this


@dataclass(frozen=True)
class Spread:
    """Between which values every margin lies: what was known before, and the extreme leaves of each tree since."""

    low: float
    high: float

    @classmethod
    def of(cls, low: float, high: float, leaves: Sequence[Sequence[float]]) -> Spread:
        for values in leaves:
            low, high = low + min(values), high + max(values)
        slack = (abs(low) + abs(high)) * (SLACK - 1.0)
        return cls(low - slack, high + slack)

    @property
    def width(self) -> float:
        return self.high - self.low

    @property
    def edges(self) -> list[float]:
        """Cuts of the spread into equal cells, its ends left out."""
        return [self.low + self.width * k / REACH_CELLS for k in range(1, REACH_CELLS)]

    def narrowed(self, people: Sequence[int]) -> Spread:
        """Without the cells at both ends in which nobody is. people : per cell of `edges`."""
        taken = [k for k, count in enumerate(people) if count] or [0]
        ends = [self.low, *self.edges, self.high]
        return Spread(ends[taken[0]], ends[taken[-1] + 1])


def usual_bits(objective: str, rows: int) -> int:
    """How finely gradients are rounded where nobody says: 24 bits of their bound, fewer from 2^14 rows on, never below 20; 30 for counts,
    fewer from 2^22 rows on."""
    if objective == POISSON:
        return min(COUNT_BITS, EXACT_BITS - max(rows, 1).bit_length())
    return max(FEWEST_BITS, min(USUAL_BITS, PRIME_BITS - max(rows, 1).bit_length()))


def sigmoid(margin: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-margin.astype(float)))


def gradients(objective: str, margin: np.ndarray, y: np.ndarray, weight: np.ndarray, *, step: float = POISSON_STEP,
              hazard: tuple[np.ndarray, np.ndarray, float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative of the loss by the margin, doubles.

    margin : float32. y : the outcome, 0/1 for events. hazard : for Cox, per row the sums over event times up to its own of d / R and
    d / R^2, and the shift that was taken off margins in R.
    """
    if objective in (LOGISTIC, HAZARD):
        p = sigmoid(margin)
        return (p - y) * weight, np.maximum(p * (1 - p), SMALLEST_HESSIAN) * weight
    if objective == SQUARED:
        return (margin.astype(float) - y) * weight, weight.astype(float)
    if objective == POISSON:
        return (np.exp(margin.astype(float)) - y) * weight, np.exp(margin.astype(float) + step) * weight
    assert hazard is not None
    once, twice, shift = hazard
    risk = np.exp(margin.astype(float) - shift)
    return (risk * once - y) * weight, np.maximum(risk * once - risk * risk * twice, SMALLEST_HESSIAN) * weight


def bound(objective: str, spread: Spread, most_y: tuple[float, float], weight: float, *, step: float = POISSON_STEP,
          last: float = 0.0) -> float:
    """A power of two that no gradient or hessian exceeds. most_y : range of the outcome. last : for Cox, the sum of all d / R."""
    if objective in (LOGISTIC, HAZARD):
        return steady.power_of_two(weight)      # a risk lies between 0 and 1, however it is rounded
    if objective == SQUARED:
        most = max(1.0, spread.high - most_y[0], most_y[1] - spread.low)
    elif objective == POISSON:
        most = max(most_y[1], steady.exp(spread.high + step))
    else:
        most = 1.0 + last       # margins are shifted by the highest one, so exp(margin) is at most 1
    return steady.power_of_two(most * weight * SLACK)


def loss(objective: str, margin: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The loss per row: log-loss, squared error, or the Poisson log-likelihood without its constant, negated."""
    margin = margin.astype(float)
    if objective in (LOGISTIC, HAZARD):
        return np.logaddexp(0.0, margin) - y * margin
    return (margin - y) ** 2 if objective == SQUARED else np.exp(margin) - y * margin


def loss_bound(objective: str, spread: Spread, most_y: tuple[float, float]) -> float:
    """A power of two that no loss exceeds."""
    far = max(abs(spread.low), abs(spread.high))
    if objective in (LOGISTIC, HAZARD):
        most = far + 1.0
    elif objective == SQUARED:
        reach = max(abs(spread.high - most_y[0]), abs(most_y[1] - spread.low), abs(spread.low - most_y[0]), abs(spread.high - most_y[1]))
        most = reach * reach
    else:
        most = steady.exp(spread.high) + most_y[1] * far
    return steady.power_of_two(most * SLACK + 1.0)


def starting_score(objective: str, total: float, weight: float) -> tuple[float, float]:
    """(base_score as xgboost writes it, the same as a margin), both 32-bit floats. total, weight : sums of weighted outcome and weight.

    The margin is computed as xgboost does from the float32 base_score, so that a loaded model starts from the same number.
    """
    mean = np.float32(total / weight) if weight else np.float32(0)
    if objective == COX:
        return 1.0, 0.0
    if objective == SQUARED:
        return float(mean), float(mean)
    if objective == POISSON:
        mean = max(mean, np.float32(1e-6))
        return float(mean), float(np.float32(steady.log(float(mean))))
    # rates of 0 and 1 have no logit; the bounds are far outside of what any cohort that passes the rules can show
    mean = min(max(mean, np.float32(1e-6)), np.float32(1 - 1e-6))
    odds = np.float32(1) / mean - np.float32(1)
    return float(mean), float(-np.float32(steady.log(float(odds))))


def cumulative(deaths: Sequence[int], risk: Sequence[float]) -> tuple[list[float], list[float]]:
    """Per grid interval the sums over intervals up to it of d / R and d / R^2. risk : the sum of exp(margin - shift) at risk."""
    once, twice, a, b = [], [], 0.0, 0.0
    for d, R in zip(deaths, risk):
        if d and R > 0:
            a, b = a + d / R, b + d / (R * R)
        once.append(a)
        twice.append(b)
    return once, twice
