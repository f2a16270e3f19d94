"""SEAL's own format: written and read for this process's own SEAL, never sent or received.

SEAL writes a header, then a body that may be compressed. The body of a ciphertext or key is a head that follows from the parameters
alone, then its numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from struct import Struct, pack

import numpy as np

from fedstats.crypto.frames import SEED_BYTES
from fedstats.errors import Internal

SEAL_HEADER = Struct("<HBBBBHQ")  # magic, size of this header, SEAL's version, compression, reserved, size of all
SEAL_MAGIC, UNCOMPRESSED, ZLIB, ZSTD = 0xA15E, 0, 1, 2
BFV, BLAKE2XB = 1, 1  # SEAL's numbers of the scheme and of the generator that a seed is for
NUMBER = 8  # bytes of a number: unsigned, little endian
NO_SCALE, NO_CORRECTION = 1.0, 1  # fields of other schemes, as BFV leaves them

Version = tuple[int, int]


def numbers_in(stream: bytes, head: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers in a stream that SEAL wrote here just now; Internal if this SEAL writes something else than expected."""
    body = own(stream)
    if len(body) != len(head) + NUMBER * int(np.prod(shape)) or not body.startswith(head):
        raise Internal("this version of tenseal writes a format that is not known")
    return np.frombuffer(body, dtype="<u8", offset=len(head)).astype(np.uint64).reshape(shape)


def share_in(stream: bytes, heads: tuple[bytes, bytes], shape: tuple[int, ...]) -> tuple[np.ndarray, bytes]:
    """The numbers of the first polynomial and the seed of the second, of a fresh ciphertext that SEAL wrote here just now."""
    body, (first, second) = own(stream), heads
    end = len(first) + NUMBER * int(np.prod(shape))
    if len(body) != end + len(second) + SEED_BYTES or not body.startswith(first) or not body.startswith(second, end):
        raise Internal("this version of tenseal writes a format that is not known")
    return np.frombuffer(body[len(first) : end], dtype="<u8").astype(np.uint64).reshape(shape), body[-SEED_BYTES:]


def share_stream(numbers: np.ndarray, seed: bytes, heads: tuple[bytes, bytes], version: Version) -> bytes:
    """The stream from which SEAL makes the whole ciphertext again."""
    return stream(heads[0] + numbers.astype("<u8").tobytes() + heads[1] + seed, version)


def own(stream: bytes) -> bytes:
    """What SEAL in this process wrote, without its header and compression. Never called with received bytes."""
    if len(stream) < SEAL_HEADER.size:
        raise Internal("tenseal wrote nothing")
    magic, header, _, _, compression, _, _ = SEAL_HEADER.unpack_from(stream)
    if magic != SEAL_MAGIC or header != SEAL_HEADER.size or compression not in (UNCOMPRESSED, ZLIB, ZSTD):
        raise Internal("this version of tenseal writes a format that is not known")
    body = stream[SEAL_HEADER.size :]
    if compression == ZSTD:
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.BufferReader(body), "zstd").read()
    return zlib.decompress(body) if compression == ZLIB else body


def stream_of(numbers: np.ndarray, head: bytes, version: Version) -> bytes:
    """The stream from which SEAL reads a ciphertext or key."""
    return stream(head + numbers.astype("<u8").tobytes(), version)


def stream(body: bytes, version: Version) -> bytes:
    """The stream that SEAL reads: its header, then an uncompressed body."""
    return SEAL_HEADER.pack(SEAL_MAGIC, SEAL_HEADER.size, *version, UNCOMPRESSED, 0, SEAL_HEADER.size + len(body)) + body


def ciphertext_head(parms_id: Sequence[int], shape: tuple[int, ...], version: Version) -> bytes:
    """What comes before the numbers of a ciphertext.

    parms_id : SEAL's digest of the parameters, four words; shape : polynomials, moduli, degree. SEAL 4.3, Ciphertext::save_members.
    """
    return _ciphertext_fields(parms_id, shape) + _array_head(int(np.prod(shape)), version)


def seeded_heads(parms_id: Sequence[int], shape: tuple[int, ...], version: Version) -> tuple[bytes, bytes]:
    """What comes before the numbers of the first polynomial of a ciphertext, whose second is drawn from a seed, and before the seed.

    SEAL 4.3, Ciphertext::save_members and UniformRandomGeneratorInfo::save_members.
    """
    first = _ciphertext_fields(parms_id, shape) + _array_head(int(np.prod(shape[1:])), version)
    size = SEAL_HEADER.size + 1 + SEED_BYTES
    return first, SEAL_HEADER.pack(SEAL_MAGIC, SEAL_HEADER.size, *version, UNCOMPRESSED, 0, size) + bytes([BLAKE2XB])


def _ciphertext_fields(parms_id: Sequence[int], shape: tuple[int, ...]) -> bytes:
    polynomials, moduli, degree = shape
    return pack("<4QBQQQdQ", *parms_id, False, polynomials, degree, moduli, NO_SCALE, NO_CORRECTION)  # False: coefficients, not values


def secret_head(parms_id: Sequence[int], shape: tuple[int, ...], version: Version) -> bytes:
    """What comes before the numbers of a secret key. SEAL 4.3, Plaintext::save_members."""
    return pack("<4QQd", *parms_id, int(np.prod(shape)), NO_SCALE) + _array_head(int(np.prod(shape)), version)


def _array_head(count: int, version: Version) -> bytes:
    # an array is a stream of its own within the stream: header, count, numbers
    header = SEAL_HEADER.pack(SEAL_MAGIC, SEAL_HEADER.size, *version, UNCOMPRESSED, 0, SEAL_HEADER.size + NUMBER + NUMBER * count)
    return header + pack("<Q", count)


def parameters(degree: int, moduli: Sequence[int], prime: int, version: Version) -> bytes:
    """The stream of a set of parameters. SEAL 4.3, EncryptionParameters::save_members."""
    inner = b"".join(stream(pack("<Q", modulus), version) for modulus in (*moduli, prime))
    return stream(pack("<BQQ", BFV, degree, len(moduli)) + inner, version)
