"""The local halves of generalised linear models: score, information and likelihood of one registry at given coefficients.

How this works: coefficients come scaled (see `terms.Design`), so every column is within [-1, 1] and a bound follows from the family
and from the largest linear predictor that these coefficients allow. With `own` each registry has an intercept of its own: it finds
it from its rows, and sends score and information of the common coefficients only, with the intercept profiled out (Schur complement);
that adds up over registries, and the intercept never leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import steady
from ..dictionary import Dictionary
from ..errors import QuestionError
from ..rows import Rows
from ..statistic import Block, statistic
from ..terms import Design, single
from ..weights import Weighting
from ._model_rules import LARGEST_LEVERAGE
from .glm_family import MOST_ETA, MOST_SCORE, SCALED, Family, Span

LARGEST_START = 12.0        # sum of scaled coefficients of a local fit that is taken as a start: beyond it the fit is not to be trusted
LARGEST_PEARSON = 2.0**34    # bound of one row's share of Pearson's chi-squared
INNER_ROUNDS, INNER_STEP, SETTLED = 60, 3.0, 1e-14
BLOCK = 2**18               # products of one block: OpenBLAS starts a second thread beyond
REACH_BINS = 256
LEAST_ROWS = 3              # per column, for a local fit to be tried


@dataclass(frozen=True)
class Spec:
    """A model as the asks carry it, read."""

    dictionary: Dictionary
    columns: tuple[str, ...]
    design: Design
    family: Family
    response: str
    own: bool
    offset: Any
    weights: Weighting | None

    @staticmethod
    def of(dictionary: Dictionary, *, columns: Sequence[str], terms: Sequence[Any], response: str, family: str, link: str,
           intercept: bool = True, own: bool = False, drop: Sequence[str] = (), offset: Any = None, weights: Any = None) -> Spec:
        design = Design.of(terms, dictionary, intercept=intercept and not own, absorbed=own, drop=drop)
        return Spec(dictionary, tuple(columns), design, Family(family, link), response, own,
                    single(offset, dictionary) if offset is not None else None, Weighting.of(weights, dictionary))

    @property
    def y_scale(self) -> tuple[float, float]:
        """Center and half width by which the outcome is scaled. Without any intercept the center must stay 0."""
        entry = self.dictionary[self.response]
        if self.family.name not in SCALED:
            return 0.0, 1.0
        if not self.design.intercept and not self.own:
            return 0.0, max(abs(entry.low), abs(entry.high))
        return (entry.low + entry.high) / 2, (entry.high - entry.low) / 2

    def eta_range(self, beta: Sequence[float]) -> tuple[float, float]:
        """The least and the largest linear predictor, offset included, of any patient that the dictionary allows; steady."""
        low, high = self.design.eta_range(beta)
        if self.offset is not None:
            half = self.y_scale[1]
            low, high = low + self.offset.low[0] / half, high + self.offset.high[0] / half
        return low, high

    def span(self, beta: Sequence[float], reach: Sequence[float] | None = None) -> Span:
        """The limits at these coefficients. reach : what all rows are known to keep to. Raises QuestionError where they are too wide."""
        entry, (center, half) = self.dictionary[self.response], self.y_scale
        low, high = self.eta_range(beta)
        if reach is not None:
            low, high = max(low, reach[0]), min(high, reach[1])
        weight = 1.0 if self.weights is None else self.weights.high
        found = self.family.span(low, high, (entry.low - center) / half, (entry.high - center) / half, weight, self.own)
        if self.family.link != "identity" and (
                max(-low, high) > MOST_ETA or self.family.bounds(found)["score"] > MOST_SCORE * max(found.weight, 1.0)):
            raise QuestionError(f"the linear predictor may reach {max(-low, high):.0f}: sums of its exponential cannot be carried to "
                                "enough digits",
                                hint="a coefficient grows without limit (a level without events?), or a range in the dictionary is far "
                                     "too wide; ridge=1 holds coefficients back")
        return found


@dataclass(frozen=True)
class Data:
    """The complete cases of one registry. X : scaled columns, shape (n, p). y, w, offset : shape (n,). person : as in `Rows`."""

    X: np.ndarray
    y: np.ndarray
    w: np.ndarray
    offset: np.ndarray
    person: np.ndarray | None

    @staticmethod
    def of(rows: Rows, spec: Spec) -> Data:
        cases = rows.complete(spec.columns)
        w = spec.weights.values(cases) if spec.weights is not None else np.ones(cases.n)
        if spec.weights is not None:
            cases, w = cases.where(w > 0), w[w > 0]
        center, half = spec.y_scale
        offset = spec.offset.values(cases)[0] / half if spec.offset is not None else np.zeros(cases.n)
        return Data(spec.design.matrix(cases), (cases.values(spec.response) - center) / half, w, offset, cases.person)


# -- the start ---------------------------------------------------------------------------------------------------------------


def _start_layout(dictionary: Dictionary, **model: Any) -> dict[str, Block]:
    spec = Spec.of(dictionary, **model)
    p, entry = len(spec.design), dictionary[spec.response]
    y = max(abs(entry.low), abs(entry.high), 1.0)
    weight = 1.0 if spec.weights is None else spec.weights.high
    A = steady.power_of_two((y + 1 if spec.family.kind in ("poisson", "negativebinomial") else 1.0) * weight)
    far = LARGEST_START if spec.offset is None else LARGEST_START + max(abs(spec.offset.low[0]), abs(spec.offset.high[0]))
    return {"matrix": Block((p * (p + 1) // 2,), A), "vector": Block((p,), steady.power_of_two(A * (far + steady.log(y + 1) + 4)))}


@statistic("glm_start/1", layout=_start_layout, alone=True)
def glm_start(rows: Rows, **model: Any) -> dict:
    """A start for the iterations: sum of I_r and I_r b_r, with b_r the registry's own fit and I_r its information.

    A registry whose own fit does not settle sends the first step of R's glm instead, which is of the same form.
    The combination is the inverse-variance weighted mean of the fits (one-shot meta-analysis).
    """
    spec = Spec.of(rows.dictionary, **model)
    layout = _start_layout(rows.dictionary, **model)
    data = Data.of(rows, spec)
    for matrix, vector in _starts(data, spec):
        found = {"matrix": matrix, "vector": vector}
        if all((np.abs(block) <= layout[name].bound * len(data.y)).all() for name, block in found.items()):     # NaN is not
            return {"matrix": matrix[np.triu_indices(len(matrix))], "vector": vector}
    return {name: np.zeros(block.shape) for name, block in layout.items()}


def _starts(data: Data, spec: Spec) -> Any:
    """The ways to start, best first: (I, I b)."""
    own = _own_fit(data, spec)
    if own is not None:
        yield own
    z, weight = spec.family.working(data.y)
    z, weight = z - data.offset, weight * data.w
    X = data.X
    if spec.own and weight.sum() > 0:
        X, z = X - (weight @ X) / weight.sum(), z - (weight @ z) / weight.sum()
    yield gram(X, weight), X.T @ (weight * z)


def _own_fit(data: Data, spec: Spec) -> tuple[np.ndarray, np.ndarray] | None:
    """The registry's own fit by Fisher scoring; None where it does not settle, or goes far."""
    n, p = data.X.shape
    if n < LEAST_ROWS * (p + 1):
        return None
    X = np.column_stack([np.ones(n), data.X]) if spec.own else data.X
    used = np.abs(X).max(axis=0) > 0
    some = X if used.all() else X[:, used]
    z, weight = spec.family.working(data.y)
    beta = np.zeros(X.shape[1])
    try:
        beta[used] = np.linalg.solve(gram(some, weight * data.w), some.T @ (weight * data.w * (z - data.offset)))
        for _ in range(25):
            with np.errstate(all="ignore"):
                r, W, _, _ = spec.family.derivatives(X @ beta + data.offset, data.y, 1.0)
            A = gram(some, W * data.w)
            if np.linalg.cond(A) > 1e8:
                return None
            step = np.linalg.solve(A, some.T @ (r * data.w))
            beta[used] += step
            if not np.abs(beta).sum() <= LARGEST_START:
                return None
            if np.abs(step).max() < 1e-9:
                break
        else:
            return None
    except np.linalg.LinAlgError:
        return None
    full = gram(X, W * data.w)
    if spec.own:
        full, beta = full[1:, 1:] - np.outer(full[1:, 0], full[0, 1:]) / full[0, 0], beta[1:]
    return full, full @ beta


# -- one iteration -------------------------------------------------------------------------------------------------------------


def _layout(dictionary: Dictionary, *, beta: Sequence[float], theta: float | None = None, last: bool = False,
            reach: Sequence[float] | None = None, **model: Any) -> dict[str, Block]:
    spec = Spec.of(dictionary, **model)
    p, span = len(spec.design), spec.span(beta, reach)
    family = _at(spec.family, theta)
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
        blocks |= {"working": Block((), bound["W"]), "working_squares": Block((), bound["W"] * bound["W"]),
                   "deviance": Block((), bound["deviance"]), "constant": Block((), bound["constant"]), "rows": Block((), 1.0, integer=True),
                   "weight": Block((), weight)}
        if p:
            far = 4.0 if spec.own else 1.0      # columns are centred by the registry's own mean
            blocks["meat"] = Block((triangle,), steady.power_of_two(far * bound["score"] * bound["score"] * dictionary.most_rows))
    return blocks


def _has_pearson(spec: Spec, bound: float, last: bool) -> bool:
    """Whether Pearson's chi-squared is summed: where it is needed, or where it can be carried to a useful precision."""
    return (last or spec.family.kind == "negativebinomial") and (bound <= LARGEST_PEARSON or spec.family.dispersed)


def _at(family: Family, theta: float | None) -> Family:
    """A negative binomial without theta yet is fitted as Poisson."""
    return Family("poisson", family.link) if family.kind == "negativebinomial" and theta is None else family


@statistic("glm/1", layout=_layout)
def glm_sums(rows: Rows, beta: Sequence[float], theta: float | None = None, last: bool = False, reach: Sequence[float] | None = None,
             **model: Any) -> dict:
    """Score, information and log likelihood at the scaled coefficients beta; in the last round also what inference needs.

    theta : of the negative binomial. information : expected, packed; observed : beside it where the link is not canonical.
    meat : sum over patients of the outer products of their scores. reach : see `glm_reach`; bounds follow from it.
    """
    spec = Spec.of(rows.dictionary, **model)
    return _sums(Data.of(rows, spec), spec, np.asarray(beta, dtype=float), theta, last, reach, own=False)


@statistic("glm_own/1", layout=_layout, alone=True)
def glm_own(rows: Rows, beta: Sequence[float], theta: float | None = None, last: bool = False, reach: Sequence[float] | None = None,
            **model: Any) -> dict:
    """The same with an intercept per registry, profiled out where the rows are: only what concerns the common coefficients leaves."""
    spec = Spec.of(rows.dictionary, **model)
    return _sums(Data.of(rows, spec), spec, np.asarray(beta, dtype=float), theta, last, reach, own=True)


def _sums(data: Data, spec: Spec, beta: np.ndarray, theta: float | None, last: bool, reach: Sequence[float] | None, own: bool) -> dict:
    family, p, n = _at(spec.family, theta), data.X.shape[1], len(data.y)
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
        residual = (X - own_mean) * r[:, None]
        if data.person is not None and len(eta):
            patients = np.zeros((int(data.person.max()) + 1, p))
            np.add.at(patients, data.person, residual)
            residual = patients
        found |= {"working": W.sum(), "working_squares": W @ W, "deviance": w @ deviance, "constant": w @ constant, "rows": n,
                  "weight": w.sum(), "meat": gram(residual)[np.triu_indices(p)]}
    if not p:
        for name in ("score", "information", "observed", "cross", "meat"):
            found.pop(name, None)
    return found


def gram(X: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """X' W X, shape (p, p), in blocks of rows that the linear algebra library does not spread over threads: on a busy machine its
    threads wait for each other a hundred times longer than such a product takes."""
    n, p = X.shape
    found, size = np.zeros((p, p)), max(16, BLOCK // max(p * p, 1))
    for start in range(0, n, size):
        some = X[start:start + size].T
        found += (some if weight is None else some * weight[start:start + size]) @ some.T
    return found


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


# -- reach -----------------------------------------------------------------------------------------------------------------------


def _reach_layout(dictionary: Dictionary, **_: Any) -> dict[str, Block]:
    return {"least": Block((REACH_BINS,), 1.0, integer=True), "most": Block((REACH_BINS,), 1.0, integer=True)}


@statistic("glm_reach/1", layout=_reach_layout, alone=True)
def glm_reach(rows: Rows, beta: Sequence[float], **model: Any) -> dict:
    """In which bin the least and the largest linear predictor of this registry lie: 1 there, 0 elsewhere.

    The bins divide the range that the dictionary allows at these coefficients. exp of that range can be a million times what the
    patients have, and sums are carried to 53 bits of their bound: so the bound must follow the patients. Between fits the linear
    predictor moves by at most the sum of the changes of the scaled coefficients, so the bound stays one for certain.
    """
    spec = Spec.of(rows.dictionary, **model)
    data = Data.of(rows, spec)
    found = {"least": np.zeros(REACH_BINS, dtype=np.int64), "most": np.zeros(REACH_BINS, dtype=np.int64)}
    if len(data.y):
        eta = data.X @ np.asarray(beta, dtype=float) + data.offset
        edges = np.array(reach_edges(spec, beta)[1:-1])
        found["least"][np.searchsorted(edges, eta.min())] = 1
        found["most"][np.searchsorted(edges, eta.max())] = 1
    return found


def reach_edges(spec: Spec, beta: Sequence[float]) -> list[float]:
    """The edges of the bins of `glm_reach`; steady."""
    low, high = spec.eta_range(beta)
    return [low + (high - low) * k / REACH_BINS for k in range(REACH_BINS + 1)]


# -- leverage ------------------------------------------------------------------------------------------------------------------


def _leverage_layout(dictionary: Dictionary, **_: Any) -> dict[str, Block]:
    return {"objections": Block((), 1.0, integer=True)}


@statistic("glm_leverage/1", layout=_leverage_layout, alone=True)
def glm_leverage(rows: Rows, beta: Sequence[float], inverse: Sequence[float], theta: float | None = None, **model: Any) -> dict:
    """Whether this registry has a row whose leverage w W x' I^-1 x is above 0.5: 0 or 1. inverse : I^-1 of all, packed."""
    spec = Spec.of(rows.dictionary, **model)
    data = Data.of(rows, spec)
    family, t, p = _at(spec.family, theta), theta if theta is not None else 1.0, len(spec.design)
    eta, X = data.X @ np.asarray(beta, dtype=float) + data.offset, data.X
    if spec.own:
        intercept = own_intercept(family, eta, data.y, data.w, t)
        if intercept is None:
            return {"objections": 0}
        eta = eta + intercept
    W = family.derivatives(eta, data.y, t)[1] * data.w
    if spec.own:
        X = X - (W @ X) / W.sum()       # what a row does to the registry's own intercept stays there
    C = steady.unpack(inverse, p)
    return {"objections": int(bool((W * np.einsum("ij,jk,ik->i", X, C, X, optimize=True) > LARGEST_LEVERAGE).any()))}
