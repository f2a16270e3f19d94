"""Steady arithmetic: the same bits on every machine. For whatever a joint half computes *for the next ask*.

How this works: every registry runs the joint half for itself, and all must derive the same ask to the last bit. Linear algebra
libraries, numpy reductions and the exp and log of the C library differ between processors (by 5e-9 after a near-collinear
solve). So here are only + - * / and sqrt on doubles in a fixed order, which IEEE 754 fixes, and `frexp` and `ldexp`, which are
exact. Python never fuses a product with a sum, and numpy's elementwise operations on one array at a time do not either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# log 2 in two parts: the first has 32 trailing zero bits, so that k * LN2_HIGH is exact for every exponent k of a double
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LARGEST_EXP, SMALLEST_EXP = 709.0, -745.0
ROOT_HALF = 0.7071067811865476
# 1/2!, 1/3!, ...: on |r| <= log(2)/2 the first term left out is below 1e-17
EXP_SERIES = tuple(1.0 / math.factorial(k) for k in range(14, 1, -1))
# 2/3, 2/5, ...: log((1+s)/(1-s)) = 2s + s (2/3 s^2 + 2/5 s^4 + ...), |s| <= 0.172, the first term left out is below 1e-17
LOG_SERIES = tuple(2.0 / k for k in range(25, 1, -2))
TOLERANCE = 1e-10           # of the diagonal: a pivot below it means that a column is a combination of the ones before it


class Singular(ArithmeticError):
    """A matrix that cannot be solved: column `column` is zero or a combination of earlier columns."""

    def __init__(self, column: int) -> None:
        super().__init__(f"column {column} carries no information beside the ones before it")
        self.column = column


def total(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """The sum over one axis, by halves in a fixed order: elementwise additions only. Zeros for an empty axis."""
    found = np.moveaxis(np.asarray(array, dtype=float), axis, 0)
    if not len(found):
        return np.zeros(found.shape[1:])
    while len(found) > 1:
        half = len(found) // 2
        rest = found[2 * half:]
        found = found[:half] + found[half:2 * half]
        if len(rest):
            found = np.concatenate([found, rest])
    return found[0]


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """The inner product, from the first entry to the last."""
    found = 0.0
    for x, y in zip(a, b):
        found += x * y
    return found


def exp(x: float) -> float:
    """e to the power x, within 2 units in the last place; 0 far below, OverflowError above 709."""
    if x > LARGEST_EXP:
        raise OverflowError(f"exp of {x:g}")
    if x < SMALLEST_EXP:
        return 0.0
    k = math.floor(x / 0.6931471805599453 + 0.5)
    high, low = x - k * LN2_HIGH, k * LN2_LOW
    r = high - low
    series = 0.0
    for term in EXP_SERIES:
        series = series * r + term
    # the part of r that the subtraction lost
    lost = (high - r) - low
    return math.ldexp(1.0 + (r + (series * r * r + lost)), k)


def log(x: float) -> float:
    """The natural logarithm, within 2 units in the last place. Raises ValueError for x <= 0."""
    if not x > 0 or x == math.inf:
        raise ValueError("log of a number that is not positive and finite")
    m, k = math.frexp(x)
    if m < ROOT_HALF:
        m, k = 2 * m, k - 1
    f = m - 1.0
    s = f / (2.0 + f)
    z, series = s * s, 0.0
    for term in LOG_SERIES:
        series = series * z + term
    half = 0.5 * f * f
    # log(1 + f) = f - f^2/2 + s (f^2/2 + series): f is exact, so nothing is lost near 1
    return k * LN2_HIGH - ((half - (s * (half + z * series) + k * LN2_LOW)) - f)


def power_of_two(x: float) -> float:
    """The smallest power of two that is at least x > 0: a bound on which all machines agree. At least 2**-300."""
    if x <= 2.0**-300:
        return 2.0**-300
    m, k = math.frexp(x)
    return math.ldexp(1.0, k - 1 if m == 0.5 else k)


# -- symmetric matrices ----------------------------------------------------------------------------------------------------


def pack(matrix: np.ndarray) -> np.ndarray:
    """The upper triangle of a symmetric matrix, row by row, shape (p (p + 1) / 2,)."""
    return np.asarray(matrix)[np.triu_indices(len(matrix))]


def unpack(packed: Sequence[float] | np.ndarray, p: int) -> np.ndarray:
    """The symmetric matrix of a packed triangle."""
    found = np.zeros((p, p))
    found[np.triu_indices(p)] = packed
    return np.where(np.tri(p, k=-1, dtype=bool), found.T, found)


def cholesky(matrix: np.ndarray | Sequence[Sequence[float]], tolerance: float = TOLERANCE) -> list[list[float]]:
    """L with L L' = A, as a list of rows. A : symmetric, shape (p, p); its lower triangle is read.

    Raises Singular naming the first column whose pivot is below `tolerance` of its diagonal entry.
    """
    A = np.asarray(matrix, dtype=float).tolist()
    L: list[list[float]] = []
    for i, row in enumerate(A):
        mine: list[float] = []
        for j in range(i):
            mine.append((row[j] - dot(mine, L[j])) / L[j][j])
        pivot = row[i] - dot(mine, mine)
        if not pivot > tolerance * row[i] or not pivot < math.inf:
            raise Singular(i)
        mine.append(math.sqrt(pivot))
        L.append(mine)
    return L


def solve(matrix: np.ndarray | Sequence[Sequence[float]], b: Sequence[float] | np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """x with A x = b for a symmetric positive definite A, shape (p,). Raises Singular."""
    return np.array(_back(cholesky(matrix, tolerance), [float(one) for one in b]))


def inverse(matrix: np.ndarray | Sequence[Sequence[float]], tolerance: float = TOLERANCE) -> np.ndarray:
    """The inverse of a symmetric positive definite matrix, exactly symmetric. Raises Singular."""
    L = cholesky(matrix, tolerance)
    p = len(L)
    found = np.array([_back(L, [float(i == j) for i in range(p)]) for j in range(p)]).reshape(p, p)
    return (found + found.T) / 2


def _back(L: list[list[float]], b: list[float]) -> list[float]:
    """x with L L' x = b."""
    y: list[float] = []
    for i, row in enumerate(L):
        y.append((b[i] - dot(y, row)) / row[i])
    x = y
    for i in range(len(L) - 1, -1, -1):
        for k in range(len(L) - 1, i, -1):
            x[i] -= L[k][i] * x[k]
        x[i] /= L[i][i]
    return x
