"""Masks that hide one registry's numbers from everybody and cancel in the total.

How this works. Every two registries i < j share a secret key. From it both derive the same stream of numbers, uniform modulo the
prime; i adds it to its vector and j subtracts it. In the sum over all registries every stream meets its negative. One registry's
masked vector alone is uniform noise to everyone who does not know all of that registry's pair keys, so it stays hidden as long as
two honest registries remain. A stream is for one use: its key depends on the round (through `context`), the prime and the length.

The stream, so that another program can repeat it: ChaCha20 (RFC 8439) with the 32-byte key, counter 0 and an all-zero nonce; the
keystream is read five bytes at a time, each five a number, little endian; a number that is not below the prime is skipped.
The round key: HMAC-SHA256 under the pair key over the text `fedstats mask/1`, then i, j, the prime's index and the length as
unsigned 64-bit little endian numbers, then the context.

Bonawitz et al. (2017), Practical secure aggregation for privacy-preserving machine learning, section 4.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from struct import pack

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from fedstats.crypto.fixedpoint import PRIMES, add, subtract
from fedstats.errors import InputError

KEY_BYTES = 32
VALUE_BYTES = 5  # 40 bits, just enough for the primes below 2**40: about one number in ten million is skipped
MASK = b"fedstats mask/1"


def stream(key: bytes, prime: int, n: int) -> np.ndarray:
    """n numbers uniform in [0, prime), the same for the same key; uint64."""
    _check_key(key)
    keystream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    kept: list[np.ndarray] = []
    missing = n
    while missing > 0:
        numbers = _forty_bits(keystream.update(bytes(VALUE_BYTES * missing)))
        below = numbers if numbers.max() < prime else numbers[numbers < np.uint64(prime)]
        kept.append(below)
        missing -= len(below)
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.uint64)


def derive(key: bytes, label: bytes, context: bytes, *numbers: int) -> bytes:
    """A 32-byte key for one purpose: HMAC-SHA256 over label, numbers (64 bits each, little endian) and context.

    Every label is followed by a fixed number of numbers, and no label begins another, so no two purposes share an input.
    """
    _check_key(key)
    return hmac.digest(key, label + pack(f"<{len(numbers)}Q", *numbers) + context, "sha256")


def pair_mask(me: int, others: Mapping[int, bytes], context: bytes, prime_index: int, n: int) -> np.ndarray:
    """The sum of this registry's pair streams, + towards later registries and - towards earlier ones, mod prime.

    me : my place in the roster; others : place in the roster -> 32-byte pair key; context : the round, never used twice.
    Returns n uint64 below the prime.
    """
    if me in others:
        raise InputError("a registry has no pair key with itself")
    prime = PRIMES[prime_index]
    total = np.zeros(n, dtype=np.uint64)
    for other, key in sorted(others.items()):
        round_key = derive(key, MASK, context, min(me, other), max(me, other), prime_index, n)
        change = add if me < other else subtract
        total = change(total, stream(round_key, prime, n), prime)
    return total


def _forty_bits(data: bytes) -> np.ndarray:
    wide = np.zeros((len(data) // VALUE_BYTES, 8), dtype=np.uint8)
    wide[:, :VALUE_BYTES] = np.frombuffer(data, dtype=np.uint8).reshape(-1, VALUE_BYTES)
    return wide.view("<u8").reshape(-1).astype(np.uint64, copy=False)


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise InputError(f"a key must have {KEY_BYTES} bytes, not {len(key)}")
