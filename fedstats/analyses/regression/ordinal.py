"""Ordinal regression: proportional odds, as MASS::polr fits it on the pooled table.

P(Y <= j) = F(cut_j - x'b), with F the logistic or the normal distribution: b > 0 shifts to higher levels. McCullagh (1980), Regression
models for ordinal data, JRSS B 42:109-142.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from scipy import special

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...formula.terms import Design, Term
from ...query.analysis import Joint, Setting, analysis
from ...sums import steady
from ...sums.statistic import Ask, Block, statistic
from ..shared.common import CONFIDENCE
from .glm.params import check_choice
from .levelled import Levelled, LevelledParams, Levels, content, fitted, meat_of, read_call
from .newton import metered
from .ranges import as_tuples, narrowed

LINKS = ("logit", "probit")
LEAST_GAP = 1e-4            # between neighbouring cut points of a step, on the scale of the linear predictor
PROBIT_SCALE = 0.6          # a normal quantile is about this share of a logit


def _layout(dictionary: Dictionary, *, columns: Sequence[str], terms: Sequence[Any], outcome: str, codes: Sequence[int], link: str,
            point: Sequence[float], drop: Sequence[str] = (), last: bool = False,
            ranges: Sequence[Sequence[Any]] = ()) -> dict[str, Block]:
    design = Design.of(terms, narrowed(dictionary, as_tuples(ranges)), intercept=False, drop=drop)
    p = len(point)
    low, high = design.eta_range(point[:len(design)])
    cuts = point[len(design):]
    far = max(abs(cuts[0]), abs(cuts[-1])) + max(-low, high)
    gap = min([1.0, *(b - a for a, b in pairwise(cuts))])
    # the largest f(a) / (F(a) - F(b)) for a - b >= gap: F is log-concave, and for the normal f falls by at most exp(-(far + gap) t)
    rate = far + gap / 2 if link == "probit" else 1.0
    steep = rate / (1 - steady.exp(-rate * gap)) + far + 1
    likelihood = (far + 1) * (far + 1) + 4 - steady.log(gap)
    blocks = {"likelihood": Block((), steady.power_of_two(likelihood)), "score": Block((p,), steady.power_of_two(2 * steep)),
              "information": Block((p * (p + 1) // 2,), steady.power_of_two(4 * steep * (steep + far + 1)))}
    if last:
        blocks |= {"meat": Block((p * (p + 1) // 2,), steady.power_of_two(4 * steep * steep * dictionary.most_rows)),
                   "rows": Block((), integer=True)}
    return blocks


@statistic("ordinal/1", layout=_layout)
def ordinal_sums(rows: Rows, columns: Sequence[str], terms: Sequence[Any], outcome: str, codes: Sequence[int], link: str,
                 point: Sequence[float], drop: Sequence[str] = (), last: bool = False,
                 ranges: Sequence[Sequence[Any]] = ()) -> dict:
    """Log likelihood, score and observed information of (scaled coefficients, cut points); codes : the levels in use."""
    design = Design.of(terms, narrowed(rows.dictionary, as_tuples(ranges)), intercept=False, drop=drop)
    data = Levels.of(rows, columns, design, outcome, codes)
    p, q, n = len(design), len(point), len(data.place)
    eta, cuts = data.X @ np.asarray(point[:p], dtype=float), np.array([-np.inf, *point[p:], np.inf])
    a, b = cuts[data.place + 1] - eta, cuts[data.place] - eta
    log_p, u, v, slope_a, slope_b = _pieces(a, b, link)
    # rows of da/d(parameters) and db/d(parameters): minus the columns, plus one at the cut point, if there is one
    za, zb = np.zeros((n, q)), np.zeros((n, q))
    za[:, :p], zb[:, :p] = -data.X, -data.X
    inner, outer = data.place < len(cuts) - 2, data.place > 0
    za[np.flatnonzero(inner), p + data.place[inner]] = 1.0
    zb[np.flatnonzero(outer), p + data.place[outer] - 1] = 1.0
    scores = za * u[:, None] - zb * v[:, None]
    second_a, second_b, mixed = slope_a - u * u, -slope_b - v * v, u * v
    cross = (za.T * mixed) @ zb
    information = -((za.T * second_a) @ za + (zb.T * second_b) @ zb + cross + cross.T)
    found = {"likelihood": log_p.sum(), "score": scores.sum(axis=0), "information": information[np.triu_indices(q)]}
    if last:
        found |= {"meat": meat_of(scores, data.person), "rows": n}
    return found


def _pieces(a: np.ndarray, b: np.ndarray, link: str) -> tuple[np.ndarray, ...]:
    """log P, f(a)/P, f(b)/P, f'(a)/P, f'(b)/P with P = F(a) - F(b), computed in the tail where the numbers are small."""
    # by symmetry: work on the side where F is small, so that nothing cancels
    flip = a + b > 0
    left, right = np.where(flip, -a, b), np.where(flip, -b, a)
    if link == "logit":
        log_left, log_right = special.log_expit(left), special.log_expit(right)

        def log_density(x: np.ndarray) -> np.ndarray:
            return special.log_expit(x) + special.log_expit(-x)

        def relative_slope(x: np.ndarray) -> np.ndarray:
            return 1 - 2 * special.expit(x)
    else:
        log_left, log_right = special.log_ndtr(left), special.log_ndtr(right)

        def log_density(x: np.ndarray) -> np.ndarray:
            return -x * x / 2 - np.log(2 * np.pi) / 2

        def relative_slope(x: np.ndarray) -> np.ndarray:
            return -x
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        log_p = log_right + np.log1p(-np.exp(log_left - log_right))
        u = np.where(np.isfinite(a), np.exp(log_density(a) - log_p), 0.0)
        v = np.where(np.isfinite(b), np.exp(log_density(b) - log_p), 0.0)
        return (log_p, u, v, np.where(np.isfinite(a), u * relative_slope(a), 0.0), np.where(np.isfinite(b), v * relative_slope(b), 0.0))


class Ordinal(Levelled, frozen=True, kw_only=True):
    """Coefficients, then the cut points under names such as "0|1"; see `Levelled`. An odds ratio is that of being above any cut point."""

    kind: ClassVar[str] = "ordinal"

    def predict(self, new: Any) -> Any:
        """Probabilities of the levels for new patients: DataFrame, one column per level; NaN where a value is missing."""
        X, known = self.columns_for(new, intercept=False)
        coef = np.array([one.coef for one in self.coefficients])
        F = special.expit if self.link == "logit" else special.ndtr
        below = F(coef[X.shape[1]:][None, :] - (X @ coef[:X.shape[1]])[:, None])
        return self.probabilities(known, np.diff(np.column_stack([np.zeros(len(X)), below, np.ones(len(X))]), axis=1))


def _call(formula: str | None = None, *, outcome: str | None = None, covariates: Sequence[str | Term] | str = (), link: str = "logit",
          confidence: float = CONFIDENCE) -> LevelledParams:
    """ordinal("edss_class ~ age + sex") or ordinal(outcome="edss_class", covariates=["age", "sex"])"""
    check_choice("link", link, LINKS)
    return LevelledParams(*read_call(formula, outcome, covariates), link, confidence)


@analysis("ordinal/1", params=LevelledParams, result=Ordinal, call=_call)
def ordinal(params: LevelledParams, setting: Setting) -> Joint:
    """Proportional odds (link="probit": ordered probit) of an outcome with ordered levels, as MASS::polr; standard errors from the
    observed information."""
    check_choice("link", params.link, LINKS)

    def make(model: dict[str, Any], point: list[float], last: bool) -> Ask:
        return ordinal_sums(point=point, link=params.link, last=last, **model)

    def names(design: Design, levels: Sequence[str]) -> tuple[str, ...]:
        return (*design.names, *(f"{a}|{b}" for a, b in pairwise(levels)))

    def start(design: Design, counts: np.ndarray) -> list[float]:
        scale, below, every = 1.0 if params.link == "logit" else PROBIT_SCALE, 0, int(counts.sum())
        cuts = []
        for count in counts.tolist()[:-1]:
            below += count
            cuts.append(scale * (steady.log(float(below)) - steady.log(float(every - below))))
        return [0.0] * len(design) + cuts

    def feasible(p: int, point: Sequence[float]) -> bool:
        return all(b - a > LEAST_GAP for a, b in pairwise(point[p:]))

    steps = fitted(params, setting, intercept=False, make=make, names=names, start=start, feasible=feasible)
    found, cost = yield from metered(steps, setting)
    p, q = len(found.design), len(found.names)
    T = np.eye(q)
    T[:p, :p] = found.design.back
    # cut - eta is the same for centred columns and for columns as they are
    T[p:, :p] = np.array(found.design.center) / np.array(found.design.half)
    shared = content(params, setting, found, T, dict(found.design.terms))
    return Ordinal(**(shared | {"cost": cost, "methods": f"Proportional odds regression ({params.link} link), fitted by Newton's method to "
                                f"the sums over all registries; standard errors from the observed information, {params.confidence:.0%} "
                                "intervals."}))

