"""The outer seal: BFV ciphertexts that can be added by someone who cannot read them.

How this works.
1. A vector modulo one prime t is cut into chunks of 4096, each encrypted into one ciphertext. What travels are the ciphertext's
   numbers in a frame of our own (see `frames`).
2. All registries of a query share one secret key, the same for every prime, and encrypt under it: there is no public key. The second
   polynomial of a fresh ciphertext is then random, and its seed can travel instead.
3. SEAL's own format never crosses the wire: compressed (so a small message can fill memory), with parameters, sizes and flags
   inside (so a message can choose them), trusted by its reader.
4. Parameters are public, fixed, and made once per process (`sealmemory.ring`); they never come from outside. Keys are made or loaded
   per query: the checked numbers, behind the head that SEAL writes for these parameters (`sealformat`), go in through memory.

SEAL draws its own randomness from the operating system; it cannot be given as an argument here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from hmac import compare_digest
from struct import Struct
from typing import Any

import numpy as np

from fedstats.crypto import sealmemory
from fedstats.crypto.adding import Adder
from fedstats.crypto.fixedpoint import PRIMES
from fedstats.crypto.frames import (
    DEGREE,
    DIGEST,
    NOT_VERIFIED,
    PARAMETER_SET,
    POLYNOMIAL_SHAPE,
    SECRET_BYTES,
    SHARE,
    TOTAL,
    VERSION,
    ciphertexts,
    digest_of,
    frame_of,
    pack,
    split,
    unpack,
)
from fedstats.crypto.sealmemory import Ring
from fedstats.errors import Internal, MessageError, RangeError, Tampered

KEY = Struct("<4sB32s")  # magic, version, SHA-256 of the parameter set's name; then a SHA-256 of head and body
KEY_MAGIC = b"fssk"


class SecretKey(bytes):
    """The secret key of a query as it travels, sealed, from one registry to the others. Plain bytes otherwise."""

    def __repr__(self) -> str:
        return f"SecretKey({len(self)} bytes)"

    __str__ = __repr__


@dataclass(frozen=True, repr=False)
class Opened:
    """The key under one prime, ready for use: SEAL's encryptor and decryptor."""

    ring: Ring
    encryptor: Any
    decryptor: Any


class Keys:
    """The key of a query; it is opened under a prime when that is first needed, since most queries need one prime or two.
    Lives in memory only.

    secret : the numbers of the secret key, within their ranges and not zero; overwritten when burnt.
    """

    def __init__(self, secret: np.ndarray) -> None:
        self._secret = secret
        self._opened: dict[int, Opened] = {}
        self.burnt = False

    def opened(self, prime_index: int) -> Opened:
        """The key under one prime. Tampered once it was burnt, or if it is no key."""
        if self.burnt:
            raise Tampered(NOT_VERIFIED)
        if not 0 <= prime_index < len(PRIMES):
            raise RangeError(f"there are {len(PRIMES)} primes")
        if prime_index not in self._opened:
            self._opened[prime_index] = _open(prime_index, self._secret)
        return self._opened[prime_index]

    def burn(self) -> None:
        """Forgets the key: SEAL wipes its copies, the numbers are overwritten; the bytes they came in are only released."""
        self.burnt, self._opened = True, {}
        self._secret.fill(0)

    def __repr__(self) -> str:
        return f"Keys(burnt={self.burnt})"


def generate() -> SecretKey:
    """A fresh key, for one query alone."""
    from tenseal import sealapi

    ring = sealmemory.ring(PRIMES[0])       # of a key, the prime is no part
    numbers = sealmemory.numbers_of_secret(ring, sealapi.KeyGenerator(ring.context).secret_key())
    body, head = pack(numbers), _key_head()
    numbers.fill(0)
    return SecretKey(head + digest_of(head, body) + body)


def load(data: bytes) -> Keys:
    """The key that another registry sent, checked: format, parameter set, ranges, and that it is not zero. (Whoever makes the key knows it
    anyway, and could tell it: no check makes a key good that was meant to be bad.)

    Raises MessageError if these bytes are not a key of this parameter set, Tampered for a zero key.
    """
    if not isinstance(data, bytes) or len(data) != KEY.size + DIGEST + SECRET_BYTES:
        raise MessageError("these bytes are not the key of a query")
    head, digest, body = split(data, KEY.size)
    if head != _key_head():
        raise MessageError(f"this key is not for the parameters {PARAMETER_SET}")
    if not compare_digest(digest, digest_of(head, body)):
        raise MessageError("the key of the query was damaged on its way")
    secret = unpack(body, POLYNOMIAL_SHAPE)
    _check_secret(secret)
    return Keys(secret)


def _check_secret(secret: np.ndarray) -> None:
    # an honest key is non-zero under every modulus; a zero one would encrypt in the clear
    if not secret.any(axis=-1).all():
        raise Tampered(NOT_VERIFIED)


def _key_head() -> bytes:
    return KEY.pack(KEY_MAGIC, VERSION, hashlib.sha256(PARAMETER_SET.encode()).digest())


def encrypt(keys: Keys, prime_index: int, residues: np.ndarray) -> bytes:
    """The share of a vector: residues modulo the prime, padded with zeros to whole ciphertexts.

    residues : uint64, one axis, each below the prime. Of anything else SEAL would silently encrypt something else: RangeError.
    """
    if not (isinstance(residues, np.ndarray) and residues.dtype == np.uint64 and residues.ndim == 1 and len(residues)):
        raise RangeError("only a vector of unsigned whole numbers can be sealed")
    if (residues >= np.uint64(PRIMES[prime_index])).any():
        raise RangeError("a residue is not below its prime")
    opened = keys.opened(prime_index)
    padded = np.zeros(-(-len(residues) // DEGREE) * DEGREE, dtype=np.uint64)
    padded[: len(residues)] = residues
    return frame_of(SHARE, prime_index, [_share(opened, chunk) for chunk in padded.reshape(-1, DEGREE)])


def decrypt(keys: Keys, prime_index: int, frame: bytes, n: int) -> np.ndarray:
    """The first n residues of a total; uint64. MessageError for a malformed frame, Tampered for whatever fails after that."""
    opened, totals = keys.opened(prime_index), ciphertexts(TOTAL, frame, -(-n // DEGREE), prime_index)
    try:
        return np.concatenate([_decrypt(opened, sealmemory.ciphertext(opened.ring, numbers)) for numbers, _ in totals])[:n]
    except MessageError:
        raise
    except Exception:
        raise Tampered(NOT_VERIFIED) from None


def _share(opened: Opened, chunk: np.ndarray) -> bytes:
    numbers, seed = sealmemory.share_of(opened.ring, opened.encryptor.encrypt_symmetric(_plain(opened, chunk)))
    return pack(numbers) + seed


def _plain(opened: Opened, chunk: np.ndarray) -> Any:
    from tenseal import sealapi

    plain = sealapi.Plaintext()
    opened.ring.encoder.encode(chunk.tolist(), plain)
    return plain


def _decrypt(opened: Opened, sealed: Any) -> np.ndarray:
    from tenseal import sealapi

    plain = sealapi.Plaintext()
    opened.decryptor.decrypt(sealed, plain)
    return np.array(opened.ring.encoder.decode_uint64(plain), dtype=np.uint64)


def _open(prime_index: int, secret: np.ndarray) -> Opened:
    """A received key under local parameters."""
    from tenseal import sealapi

    ring = sealmemory.ring(PRIMES[prime_index])
    try:
        key = sealmemory.secret_key(ring, secret)
        _check_secret(secret)       # again, since another thread may have burnt it meanwhile
        return Opened(ring, sealapi.Encryptor(ring.context, key), sealapi.Decryptor(ring.context, key))
    except Exception:
        raise Tampered(NOT_VERIFIED) from None


def rehearse() -> None:
    """Close, add and open a pattern over the whole range of each prime, under a key of its own: shows that the library does here what it
    does elsewhere, and makes what is made once per process. Internal if it does not."""
    keys = load(generate())
    for j, prime in enumerate(PRIMES):
        pattern = np.arange(DEGREE, dtype=np.uint64) * np.uint64(prime // DEGREE)
        adder = Adder(j, 1)
        adder.add(encrypt(keys, j, pattern))
        if not np.array_equal(decrypt(keys, j, adder.total(), DEGREE), pattern):
            raise Internal("this version of tenseal does not open what it closed")
    keys.burn()
