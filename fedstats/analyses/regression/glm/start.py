"""Where the iterations of a generalised linear model start: the inverse-variance mean of the registries' own fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.sums import steady
from fedstats.sums.statistic import Block, statistic

from .data import Data, Spec, gram

LARGEST_START = 12.0        # sum of scaled coefficients of a local fit that is taken as a start: beyond it the fit is not to be trusted
LEAST_ROWS = 3              # per column, for a local fit to be tried
MOST_STEPS, SETTLED, WORST_CONDITION = 25, 1e-9, 1e8


def _start_layout(dictionary: Dictionary, **model: Any) -> dict[str, Block]:
    spec = Spec.of(dictionary, **model)
    p, entry = len(spec.design), spec.dictionary[spec.response]
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


def _starts(data: Data, spec: Spec) -> Iterator[tuple[np.ndarray, np.ndarray]]:
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
        for _ in range(MOST_STEPS):
            with np.errstate(all="ignore"):
                r, W, _, _ = spec.family.derivatives(X @ beta + data.offset, data.y, 1.0)
            A = gram(some, W * data.w)
            if np.linalg.cond(A) > WORST_CONDITION:
                return None
            step = np.linalg.solve(A, some.T @ (r * data.w))
            beta[used] += step
            if not np.abs(beta).sum() <= LARGEST_START:
                return None
            if np.abs(step).max() < SETTLED:
                break
        else:
            return None
    except np.linalg.LinAlgError:
        return None
    full = gram(X, W * data.w)
    if spec.own:
        full, beta = full[1:, 1:] - np.outer(full[1:, 0], full[0, 1:]) / full[0, 0], beta[1:]
    return full, full @ beta
