"""How numbers get into SEAL's objects and out of them again: secrets through memory, never through a disk.

SEAL's bindings save to a path and load from a path.
1. Where the system has files that live in memory only (Linux: memfd_create), the path is that of such a file. It has no name and
   belongs to one call. With a secret key it is overwritten and closed; for ciphertexts it is kept for the next call, so that nothing can
   run short while a total is added up.
2. Elsewhere (macOS, Windows) ciphertexts, which are for everybody's eyes, pass through temporary files. A secret key is taken out
   number by number, and goes in through a message of tenseal, which it reads from memory.
A pipe will not do: SEAL asks a stream for its position.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from fedstats.crypto import sealformat
from fedstats.crypto.frames import CIPHERTEXT_SHAPE, DEGREE, MODULI, POLYNOMIAL_SHAPE, SEED_BYTES
from fedstats.errors import Internal

SYMMETRIC = b"\x20\x01"  # the field of tenseal's message that says: no public key
# SHA-256 of the polynomial that a seed stands for, the seed being the bytes 0 to 63: the same in SEAL 4.1 and 4.3
DRAWN = "03961bee78589b223582760d72b7f122c29435c545f6a103bba5b65cf28050f6"

_spare: list[int] = []  # files in memory for ciphertexts that no call is using
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_spare.clear)  # what a forked process wrote there its parent would read


@dataclass(frozen=True)
class Ring:
    """What is public about one prime, made once per process: parameters, and how SEAL writes things under them."""

    prime: int
    context: Any  # SEALContext
    encoder: Any  # BatchEncoder
    evaluator: Any  # Evaluator: adds
    version: sealformat.Version
    ciphertext_head: bytes
    seeded_heads: tuple[bytes, bytes]
    secret_head: bytes


@cache
def ring(prime: int) -> Ring:
    """The parameters of `frames.PARAMETER_SET` under one prime; Internal if SEAL does not find 128 bits of security in them, or draws
    other polynomials from a seed than the other parties do.

    Takes 20 ms: SEAL looks for primes of its own.
    """
    from tenseal import sealapi

    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(DEGREE)
    parameters.set_coeff_modulus([sealapi.Modulus(modulus) for modulus in MODULI])
    parameters.set_plain_modulus(sealapi.Modulus(prime))
    context = sealapi.SEALContext(parameters, False, sealapi.SEC_LEVEL_TYPE.TC128)  # False: no modulus is set aside for keys
    if not context.parameters_set():
        raise Internal(f"this version of tenseal refuses the parameters of the seal: {context.parameters_error_message()}")
    header = sealapi.Serialization.SEALHeader()
    version = (header.version_major, header.version_minor)
    first = context.first_parms_id()
    made = Ring(
        prime,
        context,
        sealapi.BatchEncoder(context),
        sealapi.Evaluator(context),
        version,
        sealformat.ciphertext_head(first, CIPHERTEXT_SHAPE, version),
        sealformat.seeded_heads(first, CIPHERTEXT_SHAPE, version),
        sealformat.secret_head(context.key_parms_id(), POLYNOMIAL_SHAPE, version),
    )
    drawn = numbers_of(made, expanded(made, np.zeros(POLYNOMIAL_SHAPE, np.uint64), bytes(range(SEED_BYTES))))[1]
    if hashlib.sha256(drawn.astype("<u8").tobytes()).hexdigest() != DRAWN:
        raise Internal("this version of tenseal draws other polynomials from a seed than those that are known")
    return made


@cache
def has_memory_files() -> bool:
    """Whether this system has files without a disk that can be opened by a path."""
    try:
        with memory_file() as path:
            return os.path.exists(path)
    except (AttributeError, OSError):
        return False


@contextmanager
def memory_file(content: bytes = b"") -> Iterator[str]:
    """The path of a file in memory that nobody else can name; overwritten with zeros at the end, since it may hold a secret key."""
    number = os.memfd_create("seal")
    try:
        os.pwrite(number, content, 0)
        yield f"/proc/self/fd/{number}"
        os.pwrite(number, bytes(os.fstat(number).st_size), 0)
    finally:
        os.close(number)


@contextmanager
def public_file(content: bytes = b"") -> Iterator[str]:
    """The path of a file for what everybody may see; in memory if this system has such files."""
    if has_memory_files():
        try:
            number = _spare.pop()
        except IndexError:
            number = os.memfd_create("seal")
        try:
            os.pwrite(number, content, 0)
            os.ftruncate(number, len(content))
            yield f"/proc/self/fd/{number}"
        finally:
            _spare.append(number)
        return
    with tempfile.TemporaryDirectory(prefix="fedstats-") as folder:
        path = os.path.join(folder, "ciphertext")
        with open(path, "wb") as file:
            file.write(content)
        yield path


def _written(thing: Any, path: str) -> bytes:
    thing.save(path)
    with open(path, "rb", buffering=0) as file:
        return file.readall()


# ---- ciphertexts --------------------------------------------------------------------------------------------------------------


def share_of(ring: Ring, fresh: Any) -> tuple[np.ndarray, bytes]:
    """The first polynomial, as numbers, and the seed of the second, of a ciphertext that SEAL has just made under a secret key."""
    with public_file() as path:
        return sealformat.share_in(_written(fresh, path), ring.seeded_heads, POLYNOMIAL_SHAPE)


def expanded(ring: Ring, numbers: np.ndarray, seed: bytes) -> Any:
    """SEAL's ciphertext again: it draws the second polynomial from the seed. numbers : within their ranges."""
    return _ciphertext(ring, sealformat.share_stream(numbers, seed, ring.seeded_heads, ring.version))


def ciphertext(ring: Ring, numbers: np.ndarray) -> Any:
    """SEAL's ciphertext with these numbers, which are within their ranges."""
    return _ciphertext(ring, sealformat.stream_of(numbers, ring.ciphertext_head, ring.version))


def _ciphertext(ring: Ring, stream: bytes) -> Any:
    from tenseal import sealapi

    made = sealapi.Ciphertext()
    with public_file(stream) as path:
        made.load(ring.context, path)
    return made


def numbers_of(ring: Ring, ciphertext: Any) -> np.ndarray:
    """The numbers of a ciphertext that SEAL made here; uint64."""
    with public_file() as path:
        return sealformat.numbers_in(_written(ciphertext, path), ring.ciphertext_head, CIPHERTEXT_SHAPE)


# ---- secret keys --------------------------------------------------------------------------------------------------------------


def numbers_of_secret(ring: Ring, secret: Any) -> np.ndarray:
    """The numbers of a secret key that SEAL made here; uint64."""
    if not has_memory_files():
        return _one_by_one(secret.data())
    with memory_file() as path:
        return sealformat.numbers_in(_written(secret, path), ring.secret_head, POLYNOMIAL_SHAPE)


def secret_key(ring: Ring, numbers: np.ndarray) -> Any:
    """SEAL's secret key with these numbers, which are within their ranges."""
    from tenseal import sealapi

    stream = sealformat.stream_of(numbers, ring.secret_head, ring.version)
    if not has_memory_files():
        return _secret_of_message(ring, stream)
    made = sealapi.SecretKey()
    with memory_file(stream) as path:
        made.load(ring.context, path)
    return made


def _one_by_one(secret: Any) -> np.ndarray:
    count = int(np.prod(POLYNOMIAL_SHAPE))
    if secret.dyn_array().size() != count:
        raise Internal("this version of tenseal keeps its numbers in a way that is not known")
    return np.fromiter(map(secret.__getitem__, range(count)), np.uint64, count).reshape(POLYNOMIAL_SHAPE)


def _secret_of_message(ring: Ring, stream: bytes) -> Any:
    import tenseal

    parameters = sealformat.parameters(DEGREE, MODULI, ring.prime, ring.version)
    return tenseal.context_from(field(1, parameters) + field(2, b"") + field(3, field(1, stream)) + SYMMETRIC).data.secret_key()


def field(number: int, content: bytes) -> bytes:
    """One length-delimited field of a protocol buffers message: tenseal's messages are made of these."""
    length, left = bytearray(), len(content)
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return bytes([number << 3 | 2, *length, left]) + content
