"""Masks: the stream as specified, cancelling in the total only, uniform."""

import hashlib
import hmac
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from fedstats.crypto.fixedpoint import PRIMES, add
from fedstats.crypto.masks import pair_mask, stream
from fedstats.errors import InputError

KEY, CONTEXT = bytes(range(32)), b"c" * 32


def keys_of(n):
    """Pair keys of n registries: place -> {other: key}."""
    return {i: {j: hashlib.sha256(b"%d %d" % (min(i, j), max(i, j))).digest() for j in range(n) if j != i} for i in range(n)}


def test_the_stream_is_chacha20_read_five_bytes_at_a_time():
    """A second implementation, number by number; the small prime makes skipping frequent."""
    for prime in (*PRIMES, 3 * 2**37 + 1):
        data = Cipher(ChaCha20(KEY, bytes(16)), mode=None).encryptor().update(bytes(20_000))
        wanted = [int.from_bytes(data[k : k + 5], "little") for k in range(0, len(data), 5)]

        assert stream(KEY, prime, 1000).tolist() == [x for x in wanted if x < prime][:1000]


def test_the_chacha20_under_the_stream_is_that_of_rfc_8439():
    """RFC 8439, appendix A.1, test vector 1: zero key, zero nonce, counter 0."""
    first = bytes.fromhex("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")

    assert stream(bytes(32), PRIMES[0], 6).tolist() == [int.from_bytes(first[k : k + 5], "little") for k in range(0, 30, 5)]


def test_a_pair_mask_is_what_the_module_says():
    """Key derivation repeated by hand for two registries."""
    text = b"fedstats mask/1" + struct.pack("<4Q", 2, 7, 1, 50) + CONTEXT
    wanted = stream(hmac.digest(KEY, text, hashlib.sha256), PRIMES[1], 50)

    assert np.array_equal(pair_mask(2, {7: KEY}, CONTEXT, 1, 50), wanted)
    assert np.array_equal(add(pair_mask(7, {2: KEY}, CONTEXT, 1, 50), wanted, PRIMES[1]), np.zeros(50))


@pytest.mark.parametrize("prime_index", [0, 1, 2])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_masks_cancel_in_the_total_and_in_nothing_less(n, prime_index):
    masks = [pair_mask(i, others, CONTEXT, prime_index, 100) for i, others in keys_of(n).items()]
    total = np.zeros(100, dtype=np.uint64)
    for k, mask in enumerate(masks):
        total = add(total, mask, PRIMES[prime_index])

        assert total.any() == (k < n - 1)


def test_another_round_prime_length_or_key_gives_another_mask():
    seen = {
        pair_mask(0, {1: key}, context, j, n)[:20].tobytes()
        for key in (KEY, bytes(32))
        for context in (CONTEXT, b"d" * 32)
        for j in (0, 1)
        for n in (20, 21)
    }

    assert len(seen) == 16


def test_the_stream_is_uniform():
    """Chi-square over 256 classes, 200 000 numbers: within six standard deviations of its mean."""
    classes = np.bincount((stream(KEY, PRIMES[0], 200_000) * np.uint64(256) // np.uint64(PRIMES[0])).astype(int), minlength=256)
    statistic = ((classes - 200_000 / 256) ** 2 / (200_000 / 256)).sum()

    assert abs(statistic - 255) < 6 * np.sqrt(2 * 255)


def test_a_short_key_or_a_key_with_oneself_is_refused():
    with pytest.raises(InputError):
        stream(b"short", PRIMES[0], 1)
    with pytest.raises(InputError):
        pair_mask(1, {1: KEY}, CONTEXT, 0, 1)


def test_no_numbers_are_no_numbers():
    assert len(stream(KEY, PRIMES[0], 0)) == 0
