"""Spline bases on fixed knots: B-splines, and natural cubic splines with the columns that R's `ns` makes.

Everything is + - * / and sqrt in a fixed order (steady), so that the column bounds are the same at every registry. Values are
first mapped to u = (x - low) / (high - low); a basis does not change with the unit of x.

de Boor (1978), A Practical Guide to Splines, chapters IX and X; Hastie (1992) in Statistical Models in S, chapter 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CUBIC = 3


def augmented(inner: Sequence[float], degree: int) -> list[float]:
    """The knots of a basis on [0, 1]: the ends repeated degree + 1 times around the inner knots."""
    return [0.0] * (degree + 1) + [float(one) for one in inner] + [1.0] * (degree + 1)


def bspline(u: np.ndarray, knots: Sequence[float], degree: int, derivative: int = 0) -> np.ndarray:
    """All B-splines of a degree, or their derivative, at u in [0, 1]. Returns shape (n, len(knots) - degree - 1).

    The Cox-de Boor recursion; intervals are [a, b), the last one closed.
    """
    u = np.asarray(u, dtype=float)
    if derivative:
        lower = bspline(u, knots, degree - 1, derivative - 1)
        count = len(knots) - degree - 1
        columns = []
        for i in range(count):
            column = np.zeros(len(u))
            for sign, k in ((1.0, i), (-1.0, i + 1)):
                width = knots[k + degree] - knots[k]
                if width > 0:
                    column = column + sign * (degree / width) * lower[:, k]
            columns.append(column)
        return np.stack(columns, axis=1)
    last = max(k for k in range(len(knots) - 1) if knots[k] < knots[k + 1])
    found = [np.where((knots[k] <= u) & ((u < knots[k + 1]) | ((k == last) & (u == knots[k + 1]))), 1.0, 0.0)
             if knots[k] < knots[k + 1] else np.zeros(len(u)) for k in range(len(knots) - 1)]
    for d in range(1, degree + 1):
        following = []
        for i in range(len(found) - 1):
            column = np.zeros(len(u))
            if knots[i + d] > knots[i]:
                column = column + ((u - knots[i]) / (knots[i + d] - knots[i])) * found[i]
            if knots[i + d + 1] > knots[i + 1]:
                column = column + ((knots[i + d + 1] - u) / (knots[i + d + 1] - knots[i + 1])) * found[i + 1]
            following.append(column)
        found = following
    return np.stack(found, axis=1)


def natural_weights(inner: Sequence[float]) -> list[list[float]]:
    """How the columns of a natural spline are made of the B-splines but the first: shape (inner + 1, inner + 3).

    The second derivative vanishes at both ends: the rows span the null space of these two conditions, by the Householder
    reflections of R's qr (LINPACK dqrdc), so that coefficients mean the same as there.
    """
    knots = augmented(inner, CUBIC)
    conditions = bspline(np.array([0.0, 1.0]), knots, CUBIC, derivative=2)[:, 1:].tolist()
    p = len(conditions[0])
    reflectors: list[list[float]] = []
    for l in range(2):
        x = list(conditions[l])
        for k, v in enumerate(reflectors):
            x = _reflect(v, x, k)
        norm = math.sqrt(sum(one * one for one in x[l:]))
        norm = norm if x[l] >= 0 else -norm
        v = [0.0] * l + [one / norm for one in x[l:]]
        v[l] += 1.0
        reflectors.append(v)
    columns = []
    for j in range(p):
        unit = [float(i == j) for i in range(p)]
        for k, v in enumerate(reflectors):
            unit = _reflect(v, unit, k)
        columns.append(unit[2:])
    return [list(row) for row in zip(*columns)]


def natural(u: np.ndarray, inner: Sequence[float], weights: Sequence[Sequence[float]]) -> np.ndarray:
    """The columns of a natural cubic spline at any u; straight lines beyond [0, 1]. Returns shape (n, len(weights))."""
    knots, u = augmented(inner, CUBIC), np.asarray(u, dtype=float)
    inside = np.minimum(np.maximum(u, 0.0), 1.0)
    basis = bspline(inside, knots, CUBIC)[:, 1:]
    slopes = bspline(np.array([0.0, 1.0]), knots, CUBIC, derivative=1)[:, 1:]
    beyond_low, beyond_high = np.minimum(u, 0.0), np.maximum(u - 1.0, 0.0)
    columns = []
    for row in weights:
        column, slope = np.zeros(len(u)), [0.0, 0.0]
        for k, weight in enumerate(row):
            column = column + weight * basis[:, k]
            slope = [slope[end] + weight * float(slopes[end, k]) for end in (0, 1)]
        columns.append(column + slope[0] * beyond_low + slope[1] * beyond_high)
    return np.stack(columns, axis=1)


def _reflect(v: Sequence[float], x: Sequence[float], k: int) -> list[float]:
    """x after the Householder reflection stored in v, whose leading entry is v[k]."""
    t = 0.0
    for a, b in zip(v[k:], x[k:]):
        t += a * b
    t = -t / v[k]
    return [b + t * a if i >= k else b for i, (a, b) in enumerate(zip(v, x))]
