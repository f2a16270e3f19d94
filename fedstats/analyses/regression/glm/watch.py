"""What goes beside the iterations of a generalised linear model: how far linear predictors reach, and whether somebody has too much
leverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.sums import steady
from fedstats.sums.statistic import Ask, Block, Sums, statistic

from ..model_rules import LARGEST_LEVERAGE
from ..newton import Watch
from .data import Data, Spec, by_person
from .sums import at_theta, own_intercept

REACH_BINS = 256
TAME, REACH_SLACK = 4.0, 1e-6       # width of linear predictors that needs no watch; for the rounding of a bin's edge


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


class Reach(Watch):
    """How far linear predictors reach, for families whose sums grow like exp of them; see `glm_reach`.

    Only watched where the dictionary's ranges are too wide to do without.
    """

    def __init__(self, spec: Spec, model: dict[str, Any], start: Sequence[float]) -> None:
        self.spec, self.model = spec, model
        low, high = spec.eta_range(start) if len(spec.design) else (0.0, 0.0)
        self.on = spec.family.exponential and high - low > TAME
        self.known: tuple[float, float] | None = None
        self.where: list[float] = []

    def asks(self, point: Sequence[float]) -> list[Ask]:
        return [glm_reach(beta=list(point[:len(self.spec.design)]), **self.model)] if self.on else []

    def heard(self, point: Sequence[float], totals: Sequence[Sums]) -> None:
        for sums in totals:
            self.where = list(point[:len(self.spec.design)])
            edges = reach_edges(self.spec, self.where)
            least = [k for k, count in enumerate(sums["least"].tolist()) if count]
            most = [k for k, count in enumerate(sums["most"].tolist()) if count]
            self.known = (edges[least[0]] - REACH_SLACK, edges[most[-1] + 1] + REACH_SLACK) if least else None

    def at(self, point: Sequence[float]) -> list[float] | None:
        """Limits that all rows keep to at these coefficients."""
        if self.known is None:
            return None
        far = 0.0
        for a, b in zip(point, self.where):
            far += abs(a - b)
        return [self.known[0] - far, self.known[1] + far]


# -- leverage ------------------------------------------------------------------------------------------------------------------


def _leverage_layout(dictionary: Dictionary, **_: Any) -> dict[str, Block]:
    return {"objections": Block((), 1.0, integer=True)}


@statistic("glm_leverage/1", layout=_leverage_layout, alone=True)
def glm_leverage(rows: Rows, beta: Sequence[float], inverse: Sequence[float], theta: float | None = None, **model: Any) -> dict:
    """Whether this registry has a patient whose leverage w W x' I^-1 x, over all rows, is above 0.5: 0 or 1. inverse : I^-1 of all,
    packed. (The leverages of several rows add up to at least the patient's share of the information in any direction.)"""
    spec = Spec.of(rows.dictionary, **model)
    data = Data.of(rows, spec)
    family, t, p = at_theta(spec.family, theta), theta if theta is not None else 1.0, len(spec.design)
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
    leverage = by_person(W * np.einsum("ij,jk,ik->i", X, C, X, optimize=True), data.person)
    return {"objections": int(bool((leverage > LARGEST_LEVERAGE).any()))}
