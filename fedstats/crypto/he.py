"""The outer seal: BFV ciphertexts that can be added by someone who cannot read them. With `sealmemory`, the only file that opens tenseal.

How this works.
1. A vector modulo one prime t is cut into chunks of 4096, each encrypted into one ciphertext. What travels are the ciphertext's
   numbers in a frame of our own (see `frames`, where they are added).
2. SEAL's own format never crosses the wire: compressed (so a small message can fill memory), with parameters, sizes and flags
   inside (so a message can choose them), trusted by its reader.
3. Parameters are public, fixed, and made once per process (`sealmemory.ring`); they never come from outside. Keys are made or loaded
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
from fedstats.crypto.fixedpoint import PRIMES
from fedstats.crypto.frames import (
    CIPHERTEXT_SHAPE,
    DEGREE,
    DIGEST,
    NOT_VERIFIED,
    PARAMETER_SET,
    PUBLIC_BYTES,
    PUBLIC_SHAPE,
    SECRET_BYTES,
    SECRET_SHAPE,
    VERSION,
    check_frame,
    ciphertexts,
    digest_of,
    frame_of,
    pack,
    split,
    unpack,
)
from fedstats.crypto.sealmemory import Ring
from fedstats.errors import MessageError, RangeError, Tampered

KEYS = Struct("<4sBB32s")  # magic, version, number of primes, SHA-256 of the parameter set's name; then a SHA-256 likewise
KEYS_MAGIC = b"fskp"


class KeyPair(bytes):
    """The secret and public keys of every prime as they travel, sealed, from one registry to the others. Plain bytes otherwise."""

    def __repr__(self) -> str:
        return f"KeyPair({len(self)} bytes)"

    __str__ = __repr__


@dataclass(frozen=True, repr=False)
class Opened:
    """The keys of one prime, ready for use: SEAL's encryptor under the public and decryptor under the secret key."""

    ring: Ring
    encryptor: Any
    decryptor: Any


class Keys:
    """The keys of a query; those of a prime are opened when they are first needed, since most queries need one prime or two.
    Live in memory only.

    pairs : the numbers of the public and the secret key by prime, within their ranges and not zero; overwritten when burnt.
    """

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self._pairs = [*pairs]
        self._opened: list[Opened | None] = [None] * len(pairs)

    @property
    def primes(self) -> int:
        return len(self._opened)

    def opened(self, prime_index: int) -> Opened:
        """The keys of one prime. Tampered once the keys were burnt, or if the two keys do not work together."""
        if not self._opened:
            raise Tampered(NOT_VERIFIED)
        if not 0 <= prime_index < len(self._opened):
            raise RangeError(f"there are keys for {len(self._opened)} primes, not for prime {prime_index + 1}")
        found = self._opened[prime_index]
        if found is None:
            found = self._opened[prime_index] = _open(prime_index, *self._pairs[prime_index])
        return found

    def burn(self) -> None:
        """Forgets the keys: SEAL wipes its copies, arrays are overwritten; the bytes they came in are only released."""
        for pair in self._pairs:
            _wipe(pair)
        self._opened, self._pairs = [], []

    def __repr__(self) -> str:
        return f"Keys({self.primes} primes)" if self._opened else "Keys(burnt)"


def generate(primes: int) -> KeyPair:
    """Fresh keys for the first so many primes, for one query alone."""
    head = KEYS.pack(KEYS_MAGIC, VERSION, primes, hashlib.sha256(PARAMETER_SET.encode()).digest())
    body = b"".join(_fresh_pair(k) for k in range(primes))
    return KeyPair(head + digest_of(head, body) + body)


def load(data: bytes) -> Keys:
    """Keys that another registry sent, checked: format, parameter set, ranges, no zero key; that a pair gives a known answer is checked
    when it is first used (see `Keys`).

    Raises MessageError if these bytes are not keys of this parameter set, Tampered for a zero key.
    """
    if not isinstance(data, bytes):
        raise MessageError("these bytes are not the keys of a query")
    primes, over = divmod(len(data) - KEYS.size - DIGEST, PUBLIC_BYTES + SECRET_BYTES)
    if over or not 1 <= primes <= len(PRIMES):
        raise MessageError("these bytes are not the keys of a query")
    head, digest, body = split(data, KEYS.size)
    if head != KEYS.pack(KEYS_MAGIC, VERSION, primes, hashlib.sha256(PARAMETER_SET.encode()).digest()):
        raise MessageError(f"these keys are not for the parameters {PARAMETER_SET}")
    if not compare_digest(digest, digest_of(head, body)):
        raise MessageError("the keys of the query were damaged on their way")
    return Keys([_checked_pair(body[k * (PUBLIC_BYTES + SECRET_BYTES) :]) for k in range(primes)])


def encrypt(keys: Keys, prime_index: int, residues: np.ndarray) -> bytes:
    """The frame of a vector: residues modulo the prime, padded with zeros to whole ciphertexts.

    residues : uint64, one axis, each below the prime. Of anything else SEAL would silently encrypt something else: RangeError.
    """
    if not (isinstance(residues, np.ndarray) and residues.dtype == np.uint64 and residues.ndim == 1 and len(residues)):
        raise RangeError("only a vector of unsigned whole numbers can be sealed")
    if (residues >= np.uint64(PRIMES[prime_index])).any():
        raise RangeError("a residue is not below its prime")
    opened = keys.opened(prime_index)
    padded = np.zeros(-(-len(residues) // DEGREE) * DEGREE, dtype=np.uint64)
    padded[: len(residues)] = residues
    return frame_of(prime_index, [_packed(_encrypt(opened, chunk), opened.ring) for chunk in padded.reshape(-1, DEGREE)])


def decrypt(keys: Keys, prime_index: int, frame: bytes, n: int) -> np.ndarray:
    """The first n residues of a total; uint64. MessageError for a malformed frame, Tampered for whatever fails after that."""
    opened = keys.opened(prime_index)
    check_frame(frame, -(-n // DEGREE), prime_index)
    chunks = ciphertexts(frame, -(-n // DEGREE), prime_index, checked=True)
    try:
        return np.concatenate([_decrypt(opened, sealmemory.ciphertext(opened.ring, chunk)) for chunk in chunks])[:n]
    except Exception:
        raise Tampered(NOT_VERIFIED) from None


def _encrypt(opened: Opened, chunk: np.ndarray) -> Any:
    from tenseal import sealapi

    plain, sealed = sealapi.Plaintext(), sealapi.Ciphertext()
    opened.ring.encoder.encode(chunk.tolist(), plain)
    opened.encryptor.encrypt(plain, sealed)
    return sealed


def _packed(sealed: Any, ring: Ring) -> bytes:
    return pack(sealmemory.numbers_of(sealed, ring.ciphertext_head, CIPHERTEXT_SHAPE))


def _decrypt(opened: Opened, sealed: Any) -> np.ndarray:
    from tenseal import sealapi

    plain = sealapi.Plaintext()
    opened.decryptor.decrypt(sealed, plain)
    return np.array(opened.ring.encoder.decode_uint64(plain), dtype=np.uint64)


# ---- keys ---------------------------------------------------------------------------------------------------------------------


def _fresh_pair(prime_index: int) -> bytes:
    """A fresh key pair as packed numbers, public then secret."""
    from tenseal import sealapi

    ring = sealmemory.ring(PRIMES[prime_index])
    maker, public = sealapi.KeyGenerator(ring.context), sealapi.PublicKey()
    maker.create_public_key(public)
    numbers = (
        sealmemory.numbers_of(public, ring.public_head, PUBLIC_SHAPE),
        sealmemory.numbers_of(maker.secret_key(), ring.secret_head, SECRET_SHAPE),
    )
    packed = b"".join(pack(each) for each in numbers)
    _wipe(numbers)
    return packed


def _checked_pair(data: memoryview) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a public and a secret key, each within its range."""
    public = unpack(data[:PUBLIC_BYTES], PUBLIC_SHAPE)
    secret = unpack(data[PUBLIC_BYTES : PUBLIC_BYTES + SECRET_BYTES], SECRET_SHAPE)
    # every polynomial of an honest key is non-zero under every modulus; a zero one would encrypt in the clear
    if not (public.any(axis=-1).all() and secret.any(axis=-1).all()):
        raise Tampered(NOT_VERIFIED)
    return public, secret


def _open(prime_index: int, public: np.ndarray, secret: np.ndarray) -> Opened:
    """Received keys under local parameters, if they give a known answer."""
    from tenseal import sealapi

    ring = sealmemory.ring(PRIMES[prime_index])
    try:
        public_key, secret_key = sealmemory.keys(ring, public, secret)
        opened = Opened(ring, sealapi.Encryptor(ring.context, public_key), sealapi.Decryptor(ring.context, secret_key))
        # a pattern over the whole range of the prime; a wrong pair of keys, or one with too much noise, does not give it back
        pattern = np.arange(DEGREE, dtype=np.uint64) * np.uint64(PRIMES[prime_index] // DEGREE)
        known = np.array_equal(_decrypt(opened, _encrypt(opened, pattern)), pattern)
    except Exception:
        raise Tampered(NOT_VERIFIED) from None
    if not known:
        raise Tampered(NOT_VERIFIED)
    return opened


def _wipe(numbers: tuple[np.ndarray, ...]) -> None:
    for each in numbers:
        each.fill(0)
