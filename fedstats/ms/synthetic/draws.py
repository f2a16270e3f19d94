"""Random numbers that belong to a patient, a purpose and a time: asking for one never changes another.

How this works: a number is a hash of (patient's key, purpose, time), the finaliser of splitmix64 (Steele, Lea & Flood, OOPSLA 2014).
So a patient has the same life whoever else is in the registry, and in a counterfactual run with another treatment the same luck.
Not for secrets.
"""

from __future__ import annotations

import numpy as np
from scipy import special

GOLDEN = 0x9E3779B97F4A7C15                # 2^64 / golden ratio, the step of splitmix64
PURPOSE_STEP, TIME_STEP = 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7      # odd, from L64X128 and Steele & Vigna's tables of multipliers
WORD = (1 << 64) - 1
MANTISSA = 2.0 ** -53
MOST = 500                                  # of a count


def keys(seed: int, place: int, n: int) -> np.ndarray:
    """One key per patient of registry number `place`, shape (n,), uint64."""
    house = _mix(_mix(np.array([seed & WORD], dtype=np.uint64)) + np.uint64(place * GOLDEN & WORD))
    return _mix(house + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN))


def uniform(key: np.ndarray, purpose: int, time: int | np.ndarray = 0) -> np.ndarray:
    """Uniform in (0, 1), one per key. time : whole and not negative, one for all or one per key."""
    if isinstance(time, np.ndarray):
        key = key + time.astype(np.uint64) * np.uint64(TIME_STEP)
        time = 0
    word = np.uint64((purpose * PURPOSE_STEP + time * TIME_STEP) & WORD)
    found = (_mix(key + word) >> np.uint64(11)).astype(float)
    found += 0.5
    found *= MANTISSA
    return found


def normal(key: np.ndarray, purpose: int, time: int | np.ndarray = 0) -> np.ndarray:
    """Standard normal."""
    return special.ndtri(uniform(key, purpose, time))


def gamma(key: np.ndarray, purpose: int, shape: float) -> np.ndarray:
    """Gamma with this shape and scale 1."""
    return special.gammaincinv(shape, uniform(key, purpose))


def category(u: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The category that a uniform number falls into. weights : shape (k,) for all, or (n, k)."""
    edges = np.cumsum(np.atleast_2d(weights), axis=1)
    return np.minimum((u[:, None] * edges[:, -1:] >= edges).sum(axis=1), edges.shape[1] - 1)


def negative_binomial(u: np.ndarray, mean: np.ndarray, shape: float) -> np.ndarray:
    """Counts with this mean and variance mean + mean^2 / shape, by inversion; at most `MOST`."""
    chance = mean / (mean + shape)
    mass = (1 - chance) ** shape
    below, count, left = mass.copy(), np.zeros(len(u), dtype=np.int64), np.flatnonzero(u > mass)
    for k in range(MOST):
        if not len(left):
            break
        mass[left] *= chance[left] * (k + shape) / (k + 1)
        below[left] += mass[left]
        count[left] += 1
        left = left[u[left] > below[left]]
    return count


def _mix(word: np.ndarray) -> np.ndarray:
    word = word ^ (word >> np.uint64(30))
    word *= np.uint64(0xBF58476D1CE4E5B9)
    word ^= word >> np.uint64(27)
    word *= np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    return word
