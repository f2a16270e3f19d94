"""Ciphertexts as plain numbers: the frames that travel, and adding them. All that the coordinator needs; no key, no tenseal.

How this works. A ciphertext is two polynomials of 4096 coefficients, held modulo q1 (33 bits) and q2 (34 bits). Adding two
ciphertexts is adding these numbers modulo q1 and q2. A frame holds exactly these numbers, 17 bytes per value, uncompressed: its
size follows from the number of chunks, and every number is checked to be below its modulus. SEAL's own format never crosses the
wire (see `he`), so there is nothing here that could be compressed, parsed or believed.

Parameters: degree 4096, moduli of 33 + 34 bits and a key modulus of 34, together 101 of the 109 bits that the Homomorphic
Encryption Standard (Albrecht et al. 2018, table 1) allows for 128-bit security against classical computers; plain modulus one of
`PRIMES`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from hmac import compare_digest
from struct import Struct

import numpy as np

from fedstats.errors import MessageError, RangeError

PARAMETER_SET = "bfv-4096-101-40/1"
DEGREE = 4096  # values in one ciphertext
MODULUS_BITS = (33, 34, 34)
MODULI = (0x1FFFEC001, 0x3FFFD0001, 0x3FFFE4001)  # what SEAL derives from these bits; a test compares. The last is for keys only
MOST_CHUNKS = 4096  # 16.8 million values in one vector; a frame never promises more
NOT_VERIFIED = "answer could not be verified"

FRAME = Struct("<4sBBII")  # magic, version, prime's index, number of ciphertexts, bytes of each; then a SHA-256 of head and body
FRAME_MAGIC, VERSION, DIGEST = b"fsct", 1, 32

CIPHERTEXT_SHAPE, PUBLIC_SHAPE, SECRET_SHAPE = (2, 2, DEGREE), (2, 3, DEGREE), (3, DEGREE)
NUMBER_BYTES = 4.25  # 34 bits: the low 32 in a word, the high two packed four to a byte
# the high bits, in their place, of the four numbers that share a byte
HIGH_BITS = (np.arange(256, dtype=np.uint64)[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint64) & np.uint64(3)) << np.uint64(32)


def _bytes_of(shape: tuple[int, ...]) -> int:
    return int(NUMBER_BYTES * np.prod(shape))


CIPHERTEXT_BYTES, PUBLIC_BYTES, SECRET_BYTES = map(_bytes_of, (CIPHERTEXT_SHAPE, PUBLIC_SHAPE, SECRET_SHAPE))


def frame_size(chunks: int) -> int:
    """Bytes of a frame of so many ciphertexts: exact, whatever is inside. RangeError for a number no vector can have."""
    if type(chunks) is not int or not 1 <= chunks <= MOST_CHUNKS:
        raise RangeError(f"a vector has 1 to {MOST_CHUNKS} ciphertexts, not {chunks!r}")
    return FRAME.size + DIGEST + chunks * CIPHERTEXT_BYTES


def check_frame(frame: bytes, expected_chunks: int, prime_index: int) -> None:
    """Raises MessageError unless these are exactly so many well-formed ciphertexts for this prime."""
    for _ in ciphertexts(frame, expected_chunks, prime_index):
        pass


class Adder:
    """A running total of frames, 32 bytes per value however many are added. Holds no key and reads nothing."""

    def __init__(self, prime_index: int, chunks: int) -> None:
        frame_size(chunks)  # the number may come from a message: refused before memory is taken for it
        self.prime_index, self.chunks, self.count = prime_index, chunks, 0
        self._total = np.zeros((chunks, *CIPHERTEXT_SHAPE), dtype=np.uint64)

    def add(self, frame: bytes, *, checked: bool = False) -> None:
        """Adds a frame; raises MessageError, and leaves the total as it was, if the frame is not well formed.

        checked : the caller has just called `check_frame` with this frame.
        """
        if not checked:
            check_frame(frame, self.chunks, self.prime_index)
        for total, ciphertext in zip(self._total, ciphertexts(frame, self.chunks, self.prime_index, checked=True)):
            total += ciphertext     # of 34 bits each: a word holds the sum of 2**30 of them, and is reduced at the end
        self.count += 1

    def total(self) -> bytes:
        """The frame of the sum so far."""
        return frame_of(self.prime_index, [pack(total % moduli(CIPHERTEXT_SHAPE)) for total in self._total])


def frame_of(prime_index: int, packed: list[bytes]) -> bytes:
    head, body = FRAME.pack(FRAME_MAGIC, VERSION, prime_index, len(packed), CIPHERTEXT_BYTES), b"".join(packed)
    return head + digest_of(head, body) + body


def ciphertexts(frame: bytes, chunks: int, prime_index: int, *, checked: bool = False) -> Iterator[np.ndarray]:
    """The ciphertexts of a frame, one at a time, so that memory stays small; the frame is checked before the first."""
    if not checked:
        _check_head(frame, chunks, prime_index)
    body = memoryview(frame)[FRAME.size + DIGEST :]
    for k in range(chunks):
        yield unpack(body[k * CIPHERTEXT_BYTES : (k + 1) * CIPHERTEXT_BYTES], CIPHERTEXT_SHAPE)


def _check_head(frame: bytes, chunks: int, prime_index: int) -> None:
    if not isinstance(frame, bytes) or len(frame) != frame_size(chunks):
        raise MessageError(f"a sealed vector of {chunks} ciphertexts has {frame_size(chunks)} bytes")
    head, digest, body = split(frame, FRAME.size)
    if head != FRAME.pack(FRAME_MAGIC, VERSION, prime_index, chunks, CIPHERTEXT_BYTES):
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
    n = int(np.prod(shape))
    numbers = HIGH_BITS.take(np.frombuffer(data, dtype=np.uint8, offset=4 * n), axis=0).reshape(-1)
    numbers |= np.frombuffer(data, dtype="<u4", count=n)
    numbers = numbers.reshape(shape)
    if (numbers.max(axis=-1, keepdims=True) >= moduli(shape)).any():
        raise MessageError("a sealed vector holds a number outside its range")
    return numbers
