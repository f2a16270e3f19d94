"""One iteration of a generalised linear model: score, information and likelihood of one registry at given coefficients.

How this works: coefficients come scaled (see `terms.Design`), so every column is within [-1, 1] and a bound follows from the family
and from the largest linear predictor that these coefficients allow. With `own` each registry has an intercept of its own: it finds
it from its rows, and sends score and information of the common coefficients only, with the intercept profiled out (Schur complement);
that adds up over registries, and the intercept never leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.sums import steady
from fedstats.sums.statistic import Block, statistic

from .data import Data, Spec, by_person, gram
from .family import Family

LARGEST_PEARSON = 2.0**34   # bound of one row's share of Pearson's chi-squared
INNER_ROUNDS, INNER_STEP, SETTLED = 60, 3.0, 1e-14
ROUNDED = 1e-11             # of half the range: what linear equations leave
NEARLY = 1e-7               # of the mean: what is left one Newton step before the end


def _layout(dictionary: Dictionary, *, beta: Sequence[float], theta: float | None = None, last: bool = False,
            reach: Sequence[float] | None = None, **model: Any) -> dict[str, Block]:
    spec = Spec.of(dictionary, **model)
    p, span = len(spec.design), spec.span(beta, reach)
    family = at_theta(spec.family, theta)
    bound = family.bounds(span, theta or 1.0)
    blocks = {"likelihood": Block((), bound["likelihood"]), "registries": Block((), 1.0, integer=True)}
    if p:
        triangle = p * (p + 1) // 2
        blocks |= {"score": Block((p,), bound["score"]), "information": Block((triangle,), bound["W"])}
        if not family.canonical:
            blocks["observed"] = Block((triangle,), bound["H"])
    if theta is not None:
        blocks |= {"theta_score": Block((), bound["theta"]), "theta_information": Block((), bound["theta"])}
        if p:
            blocks["cross"] = Block((p,), bound["theta"])
    if _has_pearson(spec, bound["pearson"], last):
        blocks["pearson"] = Block((), bound["pearson"])
    if last:
        weight = steady.power_of_two(span.weight)
        blocks |= {"working": Block((), bound["W"]), "deviance": Block((), bound["deviance"]),
                   "working_squares": Block((), steady.power_of_two(bound["W"] * bound["W"] * dictionary.most_rows)),
                   "constant": Block((), bound["constant"]), "rows": Block((), 1.0, integer=True),
                   "off": Block((), 1.0, integer=True), "weight": Block((), weight)}
        if p:
            far = 4.0 if spec.own else 1.0      # columns are centred by the registry's own mean
            blocks["meat"] = Block((triangle,), steady.power_of_two(far * bound["score"] * bound["score"] * dictionary.most_rows))
    return blocks


def _has_pearson(spec: Spec, bound: float, last: bool) -> bool:
    """Whether Pearson's chi-squared is summed: where it is needed, or where it can be carried to a useful precision."""
    return (last or spec.family.kind == "negativebinomial") and (bound <= LARGEST_PEARSON or spec.family.dispersed)


def at_theta(family: Family, theta: float | None) -> Family:
    """A negative binomial without theta yet is fitted as Poisson."""
    return Family("poisson", family.link) if family.kind == "negativebinomial" and theta is None else family


@statistic("glm/2", layout=_layout)
def glm_sums(rows: Rows, beta: Sequence[float], theta: float | None = None, last: bool = False, reach: Sequence[float] | None = None,
             **model: Any) -> dict:
    """Score, information and log likelihood at the scaled coefficients beta; in the last round also what inference needs.

    theta : of the negative binomial. information : expected, packed; observed : beside it where the link is not canonical.
    meat : sum over patients of the outer products of their scores. off : rows that are not where
    the model puts them: sums may be too coarse for what is left over to be seen in them. reach :
    see `glm_reach`; bounds follow from it.
    """
    spec = Spec.of(rows.dictionary, **model)
    return _sums(Data.of(rows, spec), spec, np.asarray(beta, dtype=float), theta, last, reach, own=False)


@statistic("glm_own/2", layout=_layout, alone=True)
def glm_own(rows: Rows, beta: Sequence[float], theta: float | None = None, last: bool = False, reach: Sequence[float] | None = None,
            **model: Any) -> dict:
    """The same with an intercept per registry, profiled out where the rows are: only what concerns the common coefficients leaves."""
    spec = Spec.of(rows.dictionary, **model)
    return _sums(Data.of(rows, spec), spec, np.asarray(beta, dtype=float), theta, last, reach, own=True)


def _sums(data: Data, spec: Spec, beta: np.ndarray, theta: float | None, last: bool, reach: Sequence[float] | None, own: bool) -> dict:
    family, p, n = at_theta(spec.family, theta), data.X.shape[1], len(data.y)
    t = theta if theta is not None else 1.0
    eta = data.X @ beta + data.offset
    w = data.w
    if own:
        intercept = own_intercept(family, eta, data.y, w, t)
        if intercept is None:       # the outcome is the same for all: the registry's intercept alone explains it
            data, eta, w = Data(data.X[:0], data.y[:0], w[:0], data.offset[:0], None), eta[:0], w[:0]
        else:
            eta = eta + intercept
    r, W, H, likelihood = family.derivatives(eta, data.y, t)
    r, W, H = r * w, W * w, H * w
    found: dict[str, Any] = {"likelihood": w @ likelihood, "registries": int(own and len(eta) > 0)}
    extra = [part * w for part in family.theta_derivatives(eta, data.y, t)] if theta is not None else None
    X, own_mean = data.X, np.zeros(p)
    if own and W.sum() > 0:
        own_mean = (W @ X) / W.sum()
    expected = _weighted(X, W, own)
    found |= {"score": X.T @ r, "information": expected[np.triu_indices(p)]}
    if not family.canonical:
        found["observed"] = _weighted(X, H, own)[np.triu_indices(p)]
    if extra is not None:
        score, information, cross = extra
        both = X.T @ cross
        information_sum = information.sum()
        if own and H.sum() > 0:
            both = both - (X.T @ H) * (cross.sum() / H.sum())
            information_sum = information_sum - cross.sum() ** 2 / H.sum()
        found |= {"theta_score": score.sum(), "theta_information": information_sum, "cross": both}
    if last or spec.family.kind == "negativebinomial":
        bound = family.bounds(spec.span(beta.tolist(), reach), t)["pearson"]
        deviance, pearson, constant = family.fit_quality(eta, data.y, t)
        if _has_pearson(spec, bound, last):
            found["pearson"] = w @ pearson
    if last:
        residual, carried = by_person((X - own_mean) * r[:, None], data.person), by_person(W, data.person)
        found |= {
            "working": W.sum(),
            "working_squares": carried @ carried,
            "deviance": w @ deviance,
            "constant": w @ constant,
            "rows": n,
            "off": _off(family, eta, data.y),
            "weight": w.sum(),
            "meat": gram(residual)[np.triu_indices(p)],
        }
    if not p:
        for name in ("score", "information", "observed", "cross", "meat"):
            found.pop(name, None)
    return found


def _off(family: Family, eta: np.ndarray, y: np.ndarray) -> int:
    """How many rows are further from their mean than rounding leads."""
    mu = family.mean(eta)
    return int(
        (np.abs(y - mu) > (ROUNDED if family.kind == "gaussian" else NEARLY * np.abs(mu))).sum()
    )


def _weighted(X: np.ndarray, weight: np.ndarray, own: bool) -> np.ndarray:
    """X' W X, with an own intercept profiled out."""
    full = gram(X, weight)
    total = weight.sum()
    if own and total > 0:
        mean = weight @ X
        full = full - np.outer(mean, mean) / total
    return full


def own_intercept(family: Family, eta: np.ndarray, y: np.ndarray, w: np.ndarray, theta: float = 1.0) -> float | None:
    """The intercept of one registry that maximises its likelihood beside eta, by Newton's method; None where there is none (no rows,
    no event, or nothing but events). The likelihood is concave in it for every family here."""
    if not len(y) or (family.binary and (y == y[0]).all()) or (family.kind in ("poisson", "negativebinomial") and not y.any()):
        return None
    with np.errstate(all="ignore"):
        z, weight = family.working(y)
        a = float(np.average(z - eta, weights=weight * w))
        if family.link == "log":
            a = float(np.log(w @ y / (w @ np.exp(eta - eta.max()))) - eta.max())
        for _ in range(INNER_ROUNDS):
            r, W, H, _ = family.derivatives(eta + a, y, theta)
            slope = float(w @ (H if float(w @ H) > 0 else W))
            step = float(w @ r) / slope if slope > 0 else float("nan")
            if not np.isfinite(step):
                a = a / 2
                continue
            step = min(max(step, -INNER_STEP), INNER_STEP)
            a += step
            if abs(step) <= SETTLED * (1 + abs(a)):
                break
    return a
