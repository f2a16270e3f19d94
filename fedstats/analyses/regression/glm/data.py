"""What the local halves of generalised linear models share: a model as the asks carry it, and the rows as it needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.errors import QuestionError
from fedstats.formula.terms import Design, single
from fedstats.formula.weights import Weighting

from ..ranges import narrowed
from .family import MOST_ETA, MOST_SCORE, SCALED, Family, Span

BLOCK = 2**18               # products of one block: OpenBLAS starts a second thread beyond


@dataclass(frozen=True)
class Spec:
    """A model as the asks carry it, read. ranges : of variables, narrower than in the dictionary (`centred.narrower`)."""

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
           intercept: bool = True, own: bool = False, drop: Sequence[str] = (), offset: Any = None, weights: Any = None,
           ranges: Mapping[str, Sequence[float]] | None = None) -> Spec:
        dictionary = narrowed(dictionary, tuple((name, *ends) for name, ends in sorted((ranges or {}).items())))
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


def by_person(values: np.ndarray, person: np.ndarray | None) -> np.ndarray:
    """Sums over the rows of each patient. values : shape (n, ...); person : as in `Rows`."""
    if person is None or not len(values):
        return values
    found = np.zeros((int(person.max()) + 1, *values.shape[1:]))
    np.add.at(found, person, values)
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
