"""Tag: adds up over registries, and nothing but the true total carries it."""

import numpy as np
import pytest

from fedstats.crypto.fixedpoint import PRIMES, add
from fedstats.crypto.tag import check, coefficients, offset, tag

K, CONTEXT, N = b"K" * 32, b"c" * 32, 300


@pytest.fixture(params=[0, 1, 2])
def round_(request):
    """Three registries' vectors, tags, their totals, and what is needed to check them."""
    j, rng = request.param, np.random.default_rng(7)
    prime = PRIMES[j]
    xs = [rng.integers(0, prime, N, dtype=np.uint64) for _ in range(3)]
    r, s = coefficients(K, CONTEXT, j, N), [offset(K, CONTEXT, j, i) for i in range(3)]
    tags = [tag(x, r, si, prime) for x, si in zip(xs, s)]
    return prime, xs, tags, r, s


def test_a_tag_is_the_dot_product_in_python_integers(round_):
    prime, xs, tags, r, s = round_

    assert tags[0] == (sum(a * b for a, b in zip(xs[0].tolist(), r.tolist())) + s[0]) % prime


def test_the_largest_residues_do_not_overflow():
    prime = PRIMES[0]
    x = np.full(100_000, prime - 1, dtype=np.uint64)

    assert tag(x, x, prime - 1, prime) == (100_000 * (prime - 1) ** 2 + prime - 1) % prime


def test_the_true_total_passes_and_others_do_not(round_):
    """Doubled, zero, one left out, one twice, one entry moved by one, tag moved by one."""
    prime, xs, tags, r, s = round_
    total, carried = add(add(xs[0], xs[1], prime), xs[2], prime), sum(tags) % prime
    moved = total.copy()
    moved[5] = (int(moved[5]) + 1) % prime

    assert check(total, carried, r, s, prime)
    assert not check(add(total, total, prime), 2 * carried % prime, r, s, prime)
    assert not check(np.zeros_like(total), 0, r, s, prime)
    assert not check(add(xs[0], xs[1], prime), (tags[0] + tags[1]) % prime, r, s, prime)
    assert not check(add(total, xs[2], prime), (carried + tags[2]) % prime, r, s, prime)
    assert not check(moved, carried, r, s, prime)
    assert not check(total, carried + 1, r, s, prime)
    assert not check(total, carried, r, s[:2], prime)


def test_every_round_prime_registry_and_key_has_its_own_secrets():
    seen = {offset(k, c, j, i) for k in (K, b"k" * 32) for c in (CONTEXT, b"d" * 32) for j in (0, 1) for i in (0, 1)}

    assert len(seen) == 16
    assert not np.array_equal(coefficients(K, CONTEXT, 0, N), coefficients(K, b"d" * 32, 0, N))


def test_vectors_of_different_length_have_no_product():
    with pytest.raises(ValueError, match="lengths"):
        tag(np.zeros(3, dtype=np.uint64), np.zeros(2, dtype=np.uint64), 0, PRIMES[0])
