"""Ciphertexts as plain numbers: the frames that travel. No key, no tenseal.

How this works. A ciphertext is two polynomials of 4096 coefficients, held modulo q1 (33 bits) and q2 (34 bits). Adding two
ciphertexts is adding these numbers modulo q1 and q2. There are two kinds of frame.
1. A share is what one registry sends. The second polynomial of a fresh ciphertext is random, and SEAL draws it from a seed: the seed
   travels in its place, half the bytes. Whoever adds draws the polynomial again (see `adding`).
2. A total has both polynomials: of a sum there is no seed.
Frames hold exactly these numbers, 8.5 bytes per polynomial and value, uncompressed: their size follows from the number of chunks, and
every number is checked to be below its modulus. SEAL's own format never crosses the wire (see `he`), so there is nothing here that
could be compressed, parsed or believed.

Parameters: degree 4096, moduli of 33 + 34 bits, together 67 of the 109 that the Homomorphic Encryption Standard (Albrecht et al. 2018,
table 1) allows for 128-bit security against classical computers; plain modulus one of `PRIMES`. The further modulus that SEAL keeps for
public and evaluation keys is left out, as there are none.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import cache
from hmac import compare_digest
from struct import Struct
from typing import NamedTuple

import numpy as np

from fedstats.errors import MessageError, RangeError

PARAMETER_SET = "bfv-4096-67-40/1"
DEGREE = 4096  # values in one ciphertext
MODULI = (0x1FFFEC001, 0x3FFFD0001)  # primes of 33 and 34 bits, each 1 modulo 8192
MOST_CHUNKS = 4096  # 16.8 million values in one vector; a frame never promises more
NOT_VERIFIED = "answer could not be verified"

FRAME = Struct("<4sBBII")  # magic, version, prime's index, number of ciphertexts, bytes of each; then a SHA-256 of head and body
VERSION, DIGEST = 1, 32

CIPHERTEXT_SHAPE, POLYNOMIAL_SHAPE = (2, 2, DEGREE), (2, DEGREE)     # polynomials, moduli, coefficients
SEED_BYTES = 64  # SEAL's seed of a random polynomial
NUMBER_BYTES = 4.25  # 34 bits: the low 32 in a word, the high two packed four to a byte
# the high bits, in their place, of the four numbers that share a byte
HIGH_BITS = (np.arange(256, dtype=np.uint64)[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint64) & np.uint64(3)) << np.uint64(32)


def _bytes_of(shape: tuple[int, ...]) -> int:
    return int(NUMBER_BYTES * math.prod(shape))


SECRET_BYTES = _bytes_of(POLYNOMIAL_SHAPE)


class Kind(NamedTuple):
    """What the ciphertexts of a frame hold: numbers of a shape, then so many bytes of a seed."""

    magic: bytes
    shape: tuple[int, ...]
    seed: int

    @property
    def size(self) -> int:
        """Bytes of one ciphertext."""
        return _bytes_of(self.shape) + self.seed


SHARE, TOTAL = Kind(b"fssh", POLYNOMIAL_SHAPE, SEED_BYTES), Kind(b"fsct", CIPHERTEXT_SHAPE, 0)


def frame_size(kind: Kind, chunks: int) -> int:
    """Bytes of a frame of so many ciphertexts: exact, whatever is inside. RangeError for a number no vector can have."""
    if type(chunks) is not int or not 1 <= chunks <= MOST_CHUNKS:
        raise RangeError(f"a vector has 1 to {MOST_CHUNKS} ciphertexts, not {chunks!r}")
    return FRAME.size + DIGEST + chunks * kind.size


def check_frame(kind: Kind, frame: bytes, expected_chunks: int, prime_index: int) -> None:
    """Raises MessageError unless these are exactly so many well-formed ciphertexts of this kind for this prime."""
    for _ in ciphertexts(kind, frame, expected_chunks, prime_index):
        pass


def frame_of(kind: Kind, prime_index: int, packed: list[bytes]) -> bytes:
    """packed : of each ciphertext its numbers as `pack` writes them, then the seed if there is one."""
    head, body = FRAME.pack(kind.magic, VERSION, prime_index, len(packed), kind.size), b"".join(packed)
    return head + digest_of(head, body) + body


def ciphertexts(kind: Kind, frame: bytes, chunks: int, prime_index: int, *, checked: bool = False) -> Iterator[tuple[np.ndarray, bytes]]:
    """Numbers and seed of the ciphertexts of a frame, one at a time, so that memory stays small; the frame is checked before the first."""
    if not checked:
        _check_head(kind, frame, chunks, prime_index)
    body, numbers = memoryview(frame)[FRAME.size + DIGEST :], kind.size - kind.seed
    for k in range(chunks):
        one = body[k * kind.size : (k + 1) * kind.size]
        yield unpack(one[:numbers], kind.shape), bytes(one[numbers:])


def _check_head(kind: Kind, frame: bytes, chunks: int, prime_index: int) -> None:
    if not isinstance(frame, bytes) or len(frame) != frame_size(kind, chunks):
        raise MessageError(f"a sealed vector of {chunks} ciphertexts has {frame_size(kind, chunks)} bytes")
    head, digest, body = split(frame, FRAME.size)
    if head != FRAME.pack(kind.magic, VERSION, prime_index, chunks, kind.size):
        raise MessageError("the head of a sealed vector is not what this round expects")
    if not compare_digest(digest, digest_of(head, body)):
        raise MessageError("a sealed vector was damaged on its way")


def split(data: bytes, head: int) -> tuple[bytes, bytes, memoryview]:
    return data[:head], data[head : head + DIGEST], memoryview(data)[head + DIGEST :]


def digest_of(head: bytes, body: bytes | memoryview) -> bytes:
    # finds damage, not malice: whoever can change the body can change this too; the tag is what finds malice
    state = hashlib.sha256(head)
    state.update(body)
    return state.digest()


@cache
def moduli(shape: tuple[int, ...]) -> np.ndarray:
    return np.array(MODULI[: shape[-2]], dtype=np.uint64).reshape(-1, 1)


def pack(numbers: np.ndarray) -> bytes:
    """Numbers below 2**34: all low words (32 bits, little endian), then all high bits, four pairs to a byte, first pair lowest."""
    flat = numbers.reshape(-1)
    high = (flat >> np.uint64(32)).astype(np.uint8).reshape(-1, 4)
    pairs = high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6
    return flat.astype("<u4").tobytes() + pairs.tobytes()  # the cast keeps the low 32 bits


def unpack(data: bytes | memoryview, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers that `pack` wrote; MessageError unless each is below its modulus."""
    n = math.prod(shape)
    numbers = HIGH_BITS.take(np.frombuffer(data, dtype=np.uint8, offset=4 * n), axis=0).reshape(-1)
    numbers |= np.frombuffer(data, dtype="<u4", count=n)
    numbers = numbers.reshape(shape)
    if (numbers.max(axis=-1, keepdims=True) >= moduli(shape)).any():
        raise MessageError("a sealed vector holds a number outside its range")
    return numbers
