"""How numbers get into SEAL's objects and out of them again: through memory, never through a disk.

SEAL's bindings save to a path and load from a path.
1. Where the system has files that live in memory only (Linux: memfd_create), the path is that of such a file. It has no name, belongs
   to one call and so to one thread, and is overwritten before it is closed.
2. Elsewhere (macOS, Windows) numbers are taken out one by one, and go in through messages of tenseal, which it reads from memory.
   Opening keys then takes some 25 ms a prime, because tenseal makes its parameters anew each time; hence 1.
A pipe will not do: SEAL asks a stream for its position.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from fedstats.crypto import sealformat
from fedstats.crypto.frames import CIPHERTEXT_SHAPE, DEGREE, MODULI, MODULUS_BITS, PUBLIC_SHAPE, SECRET_SHAPE
from fedstats.errors import Internal

LENGTH_OF_VECTOR = b"\x80\x20"  # DEGREE as a protocol buffers number


@dataclass(frozen=True)
class Ring:
    """What is public about one prime, made once per process: parameters, and how SEAL writes things under them."""

    prime: int
    context: Any  # SEALContext
    encoder: Any  # BatchEncoder
    version: sealformat.Version
    ciphertext_head: bytes
    public_head: bytes
    secret_head: bytes


@cache
def ring(prime: int) -> Ring:
    """The parameters of `frames.PARAMETER_SET` under one prime; Internal if SEAL does not find 128 bits of security in them.

    Takes 20 ms: SEAL looks for primes of its own.
    """
    from tenseal import sealapi

    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(DEGREE)
    parameters.set_coeff_modulus([sealapi.Modulus(modulus) for modulus in MODULI])
    parameters.set_plain_modulus(sealapi.Modulus(prime))
    context = sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128)  # True: a last modulus for keys only
    if not context.parameters_set():
        raise Internal(f"this version of tenseal refuses the parameters of the seal: {context.parameters_error_message()}")
    header = sealapi.Serialization.SEALHeader()
    version = (header.version_major, header.version_minor)
    return Ring(
        prime,
        context,
        sealapi.BatchEncoder(context),
        version,
        sealformat.ciphertext_head(context.first_parms_id(), CIPHERTEXT_SHAPE, version),
        sealformat.ciphertext_head(context.key_parms_id(), PUBLIC_SHAPE, version, transformed=True),
        sealformat.secret_head(context.key_parms_id(), SECRET_SHAPE, version),
    )


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
    finally:
        os.pwrite(number, bytes(os.fstat(number).st_size), 0)
        os.close(number)


# ---- out ----------------------------------------------------------------------------------------------------------------------


def numbers_of(thing: Any, head: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a ciphertext or key that SEAL made here; uint64. head : what SEAL writes before them."""
    if not has_memory_files():
        return _one_by_one(thing, shape)
    with memory_file() as path:
        thing.save(path)
        with open(path, "rb", buffering=0) as file:
            return sealformat.numbers_in(file.readall(), head, shape)


def _one_by_one(thing: Any, shape: tuple[int, ...]) -> np.ndarray:
    # a key keeps its numbers in a ciphertext or plaintext; asking for one of those costs 0.1 us a number
    holder = thing if hasattr(thing, "dyn_array") else thing.data()
    count = int(np.prod(shape))
    if holder.dyn_array().size() != count:
        raise Internal("this version of tenseal keeps its numbers in a way that is not known")
    return np.fromiter(map(holder.__getitem__, range(count)), np.uint64, count).reshape(shape)


# ---- in -----------------------------------------------------------------------------------------------------------------------


def ciphertext(ring: Ring, numbers: np.ndarray) -> Any:
    """SEAL's ciphertext with these numbers, which are within their ranges."""
    from tenseal import sealapi

    stream = sealformat.stream_of(numbers, ring.ciphertext_head, ring.version)
    return _loaded(sealapi.Ciphertext(), ring, stream) if has_memory_files() else _ciphertext_of_message(ring.prime, stream)


def keys(ring: Ring, public: np.ndarray, secret: np.ndarray) -> tuple[Any, Any]:
    """SEAL's public and secret key with these numbers, which are within their ranges."""
    from tenseal import sealapi

    streams = (
        sealformat.stream_of(public, ring.public_head, ring.version),
        sealformat.stream_of(secret, ring.secret_head, ring.version),
    )
    if not has_memory_files():
        return _keys_of_message(ring, *streams)
    return _loaded(sealapi.PublicKey(), ring, streams[0]), _loaded(sealapi.SecretKey(), ring, streams[1])


def _loaded(thing: Any, ring: Ring, stream: bytes) -> Any:
    with memory_file(stream) as path:
        thing.load(ring.context, path)
    return thing


def _keys_of_message(ring: Ring, public: bytes, secret: bytes) -> tuple[Any, Any]:
    import tenseal

    parameters = sealformat.parameters(DEGREE, MODULI, ring.prime, ring.version)
    message = field(1, parameters) + field(2, field(1, public)) + field(3, field(1, secret))
    held = tenseal.context_from(message).data
    return held.public_key(), held.secret_key()


def _ciphertext_of_message(prime: int, stream: bytes) -> Any:
    import tenseal

    (only,) = tenseal.bfv_vector_from(_tenseal_context(prime), field(1, LENGTH_OF_VECTOR) + field(2, stream)).ciphertext()
    return only


@cache
def _tenseal_context(prime: int) -> Any:
    """A context of tenseal under the same parameters; the key pair that it makes for itself is never used."""
    import tenseal

    return tenseal.context(tenseal.SCHEME_TYPE.BFV, DEGREE, prime, list(MODULUS_BITS))


def field(number: int, content: bytes) -> bytes:
    """One length-delimited field of a protocol buffers message: tenseal's messages are made of these."""
    length, left = bytearray(), len(content)
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return bytes([number << 3 | 2, *length, left]) + content
