"""The outer seal: BFV ciphertexts that can be added by someone who cannot read them. The only file that opens tenseal.

How this works.
1. A vector modulo one prime t is cut into chunks of 4096, each encrypted into one ciphertext. What travels are the ciphertext's
   numbers in a frame of our own (see `frames`, where they are added).
2. SEAL's own format never crosses the wire: compressed (so a small message can fill memory), with parameters, sizes and flags
   inside (so a message can choose them), trusted by its reader.
3. To decrypt, the stream that SEAL wants is built here: the head that this machine's SEAL wrote itself for the same parameters,
   then the checked numbers. The same holds for keys: parameters never come from outside. `sealformat` knows these streams.

SEAL draws its own randomness from the operating system; it cannot be given as an argument here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from hmac import compare_digest
from struct import Struct
from typing import Any

import numpy as np

from fedstats.crypto.fixedpoint import PRIMES
from fedstats.crypto.frames import (
    CIPHERTEXT_SHAPE,
    DEGREE,
    DIGEST,
    MODULUS_BITS,
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
from fedstats.crypto.sealformat import SEAL_HEADER, field_of, fields, numbers_of, own, stream, varint
from fedstats.errors import MessageError, RangeError, Tampered

KEYS = Struct("<4sBB32s")  # magic, version, number of primes, SHA-256 of the parameter set's name; then a SHA-256 likewise
KEYS_MAGIC = b"fskp"


class KeyPair(bytes):
    """The secret and public keys of every prime as they travel, sealed, from one registry to the others. Plain bytes otherwise."""

    def __repr__(self) -> str:
        return f"KeyPair({len(self)} bytes)"

    __str__ = __repr__


class Keys:
    """The keys of a query, one context per prime, each made when it is first needed: that takes longer than a round's additions, and
    most queries need one prime or two. Live in memory only.

    pairs : the numbers of the public and the secret key by prime, within their ranges and not zero.
    """

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self._pairs: list[tuple[np.ndarray, np.ndarray] | None] = [*pairs]
        self._contexts: list[Any] = [None] * len(pairs)

    @property
    def primes(self) -> int:
        return len(self._contexts)

    def context(self, prime_index: int) -> Any:
        """The context of one prime. Tampered once the keys were burnt, or if the two keys do not work together."""
        if not self._contexts:
            raise Tampered(NOT_VERIFIED)
        if not 0 <= prime_index < len(self._contexts):
            raise RangeError(f"there are keys for {len(self._contexts)} primes, not for prime {prime_index + 1}")
        pair = self._pairs[prime_index]
        if pair is not None:
            context = _open_context(prime_index, *pair)
            _known_answer(context, prime_index)
            self._contexts[prime_index], self._pairs[prime_index] = context, None
        return self._contexts[prime_index]

    def burn(self) -> None:
        """Forgets the keys. SEAL wipes its copies; what Python copied before is only released."""
        self._contexts, self._pairs = [], []

    def __repr__(self) -> str:
        return f"Keys({self.primes} primes)" if self._contexts else "Keys(burnt)"


def generate(primes: int) -> KeyPair:
    """Fresh keys for the first so many primes, for one query alone."""
    head = KEYS.pack(KEYS_MAGIC, VERSION, primes, hashlib.sha256(PARAMETER_SET.encode()).digest())
    body = b"".join(_key_numbers(k) for k in range(primes))
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

    residues : uint64, one axis, each below the prime. Of anything else tenseal would silently encrypt something else: RangeError.
    """
    if not (isinstance(residues, np.ndarray) and residues.dtype == np.uint64 and residues.ndim == 1 and len(residues)):
        raise RangeError("only a vector of unsigned whole numbers can be sealed")
    if (residues >= np.uint64(PRIMES[prime_index])).any():
        raise RangeError("a residue is not below its prime")
    return _encrypt(keys.context(prime_index), prime_index, residues)


def _encrypt(context: Any, prime_index: int, residues: np.ndarray) -> bytes:
    head = _local(prime_index).ciphertext_head
    padded = np.zeros(-(-len(residues) // DEGREE) * DEGREE, dtype=np.int64)
    padded[: len(residues)] = residues
    return frame_of(prime_index, [_encrypt_chunk(context, chunk, head) for chunk in padded.reshape(-1, DEGREE)])


def decrypt(keys: Keys, prime_index: int, frame: bytes, n: int) -> np.ndarray:
    """The first n residues of a total; uint64. MessageError for a malformed frame, Tampered for whatever fails after that."""
    return _decrypt(keys.context(prime_index), prime_index, frame, n)


def _decrypt(context: Any, prime_index: int, frame: bytes, n: int) -> np.ndarray:
    head = _local(prime_index).ciphertext_head
    check_frame(frame, -(-n // DEGREE), prime_index)
    chunks = ciphertexts(frame, -(-n // DEGREE), prime_index, checked=True)
    try:
        opened = [_decrypt_chunk(context, chunk, head) for chunk in chunks]
    except Exception:
        raise Tampered(NOT_VERIFIED) from None
    return np.mod(np.concatenate(opened), PRIMES[prime_index]).astype(np.uint64)[:n]


def _encrypt_chunk(context: Any, chunk: np.ndarray, head: bytes) -> bytes:
    import tenseal

    message = tenseal.bfv_vector(context, chunk.tolist()).serialize()
    return pack(numbers_of(own(dict(fields(message))[2]), head, CIPHERTEXT_SHAPE))


def _decrypt_chunk(context: Any, ciphertext: np.ndarray, head: bytes) -> np.ndarray:
    import tenseal

    message = stream(head + ciphertext.astype("<u8").tobytes(), _local(0).version)
    sizes = field_of(1, varint(DEGREE))
    return np.array(tenseal.bfv_vector_from(context, sizes + field_of(2, message)).decrypt(), dtype=np.int64)


def _known_answer(context: Any, prime_index: int) -> None:
    # a pattern over the whole range of the prime; a wrong pair of keys, or one with too much noise, does not give it back
    pattern = (np.arange(DEGREE, dtype=np.uint64) * np.uint64(PRIMES[prime_index] // DEGREE)).astype(np.uint64)
    if not np.array_equal(_decrypt(context, prime_index, _encrypt(context, prime_index, pattern), DEGREE), pattern):
        raise Tampered(NOT_VERIFIED)


# ---- what this machine's SEAL writes around the numbers -----------------------------------------------------------------------


@dataclass(frozen=True)
class Local:
    """How this machine's SEAL writes things under one prime: all but the numbers themselves."""

    parameters: bytes
    public_rest: bytes  # flags of tenseal that follow the public key
    secret_rest: bytes
    version: tuple[int, int]
    ciphertext_head: bytes
    public_head: bytes
    secret_head: bytes


@cache
def _local(prime_index: int) -> Local:
    """Learnt from a throwaway key that never leaves this function."""
    import tenseal

    context = _fresh_context(prime_index)
    parameters, public, secret = _context_parts(context)
    ciphertext = dict(fields(tenseal.bfv_vector(context, [0] * DEGREE).serialize()))[2]

    def head(stream: bytes, shape: tuple[int, ...]) -> bytes:
        return own(stream)[: -8 * int(np.prod(shape))]

    def rest(message: list[tuple[int, bytes]]) -> bytes:
        return b"".join(raw for number, raw in message if number != 1)

    return Local(
        parameters=field_of(1, parameters),
        public_rest=rest(list(fields(public, raw=True))),
        secret_rest=rest(list(fields(secret, raw=True))),
        version=SEAL_HEADER.unpack_from(ciphertext)[2:4],
        ciphertext_head=head(ciphertext, CIPHERTEXT_SHAPE),
        public_head=head(dict(fields(public))[1], PUBLIC_SHAPE),
        secret_head=head(dict(fields(secret))[1], SECRET_SHAPE),
    )


def _fresh_context(prime_index: int) -> Any:
    import tenseal

    return tenseal.context(tenseal.SCHEME_TYPE.BFV, DEGREE, PRIMES[prime_index], list(MODULUS_BITS))


def _context_parts(context: Any) -> tuple[bytes, bytes, bytes]:
    """tenseal's message of a context: parameters, public part, secret part. Without the Galois and relinearisation keys."""
    message = context.serialize(save_public_key=True, save_secret_key=True, save_galois_keys=False, save_relin_keys=False)
    parts = dict(fields(message))
    return parts[1], parts[2], parts[3]


def _key_numbers(prime_index: int) -> bytes:
    """A fresh key pair as packed numbers, public then secret."""
    local = _local(prime_index)
    _, public, secret = _context_parts(_fresh_context(prime_index))
    return pack(numbers_of(own(dict(fields(public))[1]), local.public_head, PUBLIC_SHAPE)) + pack(
        numbers_of(own(dict(fields(secret))[1]), local.secret_head, SECRET_SHAPE)
    )


def _checked_pair(data: memoryview) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a public and a secret key, each within its range."""
    public = unpack(data[:PUBLIC_BYTES], PUBLIC_SHAPE)
    secret = unpack(data[PUBLIC_BYTES : PUBLIC_BYTES + SECRET_BYTES], SECRET_SHAPE)
    # every polynomial of an honest key is non-zero under every modulus; a zero one would encrypt in the clear
    if not (public.any(axis=-1).all() and secret.any(axis=-1).all()):
        raise Tampered(NOT_VERIFIED)
    return public, secret


def _open_context(prime_index: int, public: np.ndarray, secret: np.ndarray) -> Any:
    """A context from local parameters and received numbers."""
    import tenseal

    local = _local(prime_index)
    public_part = field_of(1, stream(local.public_head + public.astype("<u8").tobytes(), local.version)) + local.public_rest
    secret_part = field_of(1, stream(local.secret_head + secret.astype("<u8").tobytes(), local.version)) + local.secret_rest
    try:
        return tenseal.context_from(local.parameters + field_of(2, public_part) + field_of(3, secret_part))
    except Exception:
        raise Tampered(NOT_VERIFIED) from None
