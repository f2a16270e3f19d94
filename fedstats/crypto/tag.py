"""A tag that only the sum of all registries' own vectors carries.

How this works. All registries share a secret K that whoever adds does not know. Registry i appends to its vector x_i the number
tag_i = <r, x_i> + s_i (mod prime), with r and s_i derived from K and the round. The tags add up with the vectors, so the true
total X carries <r, X> + sum of all s_i. The coefficients r catch a changed entry; the offsets s_i catch what a merely linear tag
would let through: the total doubled, replaced by an encryption of zeros, a registry left out or counted twice, another round's
total. A forgery passes one prime with probability 1 / prime, about 1e-12, and the keys do not survive a failed opening.

It proves nothing about a registry's own numbers, and nothing against a registry that shares K with whoever adds.

Derivation: `masks.derive` under K, with labels `fedstats tag r/1` (prime's index, length) and `fedstats tag s/1` (prime's index,
place in the roster), then `masks.stream`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fedstats.crypto.fixedpoint import PRIMES
from fedstats.crypto.masks import derive, stream

COEFFICIENTS = b"fedstats tag r/1"
OFFSET = b"fedstats tag s/1"

HALF = 20  # bits; a residue of 40 bits is handled as two halves
LARGEST_SUM = 1 << 22  # entries summed at once: 2 * 2**40 * 2**22 stays below 2**64


def coefficients(key: bytes, context: bytes, prime_index: int, n: int) -> np.ndarray:
    """r: n secret numbers below the prime, the same at every registry; uint64."""
    return stream(derive(key, COEFFICIENTS, context, prime_index, n), PRIMES[prime_index], n)


def offset(key: bytes, context: bytes, prime_index: int, roster_index: int) -> int:
    """s_i: one secret number below the prime per registry."""
    return int(stream(derive(key, OFFSET, context, prime_index, roster_index), PRIMES[prime_index], 1)[0])


def tag(x: np.ndarray, r: np.ndarray, s: int, prime: int) -> int:
    """<r, x> + s mod prime, for vectors of uint64 below the prime and of equal length."""
    return (_dot(r, x) + s) % prime


def check(total: np.ndarray, tag_total: int, r: np.ndarray, offsets: Iterable[int], prime: int) -> bool:
    """Whether the total carries <r, total> + the sum of all offsets."""
    return tag(total, r, sum(offsets), prime) == int(tag_total) % prime


def _dot(a: np.ndarray, b: np.ndarray) -> int:
    """The exact dot product of vectors below 2**40, as a Python int: schoolbook multiplication in two halves."""
    if a.shape != b.shape:
        raise ValueError(f"lengths differ: {a.shape} and {b.shape}")
    half, low = np.uint64(HALF), np.uint64((1 << HALF) - 1)
    total = 0
    for start in range(0, len(a), LARGEST_SUM):
        x, y = a[start : start + LARGEST_SUM], b[start : start + LARGEST_SUM]
        x1, x0, y1, y0 = x >> half, x & low, y >> half, y & low
        total += (int(x1 @ y1) << 2 * HALF) + ((int(x1 @ y0) + int(x0 @ y1)) << HALF) + int(x0 @ y0)
    return total
