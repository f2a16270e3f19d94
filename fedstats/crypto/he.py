"""The outer seal: BFV ciphertexts that can be added by someone who cannot read them. The only file that opens tenseal.

How this works.
1. A vector modulo one prime t is cut into chunks of 4096, each encrypted into one ciphertext: two polynomials of 4096
   coefficients, held modulo q1 (33 bits) and q2 (34 bits). Adding two ciphertexts is adding these numbers modulo q1 and q2, so the
   coordinator does it in numpy: it needs the two public constants below, no key and no foreign library.
2. What travels is a frame of our own with exactly these numbers, 17 bytes per value, uncompressed. Its size follows from the number
   of chunks; every number is checked to be below its modulus. SEAL's own format never crosses the wire: compressed (so a small
   message can fill memory), with parameters, sizes and flags inside (so a message can choose them), trusted by its reader.
3. To decrypt, the stream that SEAL wants is built here: the head that this machine's SEAL wrote itself for the same parameters,
   then the checked numbers. The same holds for keys: parameters never come from outside.

Parameters: degree 4096, moduli of 33 + 34 bits and a key modulus of 34, together 101 of the 109 bits that the Homomorphic
Encryption Standard (Albrecht et al. 2018, table 1) allows for 128-bit security against classical computers; plain modulus one of
`PRIMES`.

SEAL draws its own randomness from the operating system; it cannot be given as an argument here.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hmac import compare_digest
from struct import Struct
from typing import Any

import numpy as np

from fedstats.crypto.fixedpoint import PRIMES
from fedstats.errors import Internal, MessageError, RangeError, Tampered

PARAMETER_SET = "bfv-4096-101-40/1"
DEGREE = 4096  # values in one ciphertext
MODULUS_BITS = (33, 34, 34)
MODULI = (0x1FFFEC001, 0x3FFFD0001, 0x3FFFE4001)  # what SEAL derives from these bits; a test compares. The last is for keys only
MOST_CHUNKS = 4096  # 16.8 million values in one vector; a frame never promises more
NOT_VERIFIED = "answer could not be verified"

FRAME = Struct("<4sBBII")  # magic, version, prime's index, number of ciphertexts, bytes of each; then a SHA-256 of head and body
KEYS = Struct("<4sBB32s")  # magic, version, number of primes, SHA-256 of the parameter set's name; then a SHA-256 likewise
FRAME_MAGIC, KEYS_MAGIC, VERSION, DIGEST = b"fsct", b"fskp", 1, 32

CIPHERTEXT_SHAPE, PUBLIC_SHAPE, SECRET_SHAPE = (2, 2, DEGREE), (2, 3, DEGREE), (3, DEGREE)
NUMBER_BYTES = 4.25  # 34 bits: the low 32 in a word, the high two packed four to a byte


def _bytes_of(shape: tuple[int, ...]) -> int:
    return int(NUMBER_BYTES * np.prod(shape))


CIPHERTEXT_BYTES, PUBLIC_BYTES, SECRET_BYTES = map(_bytes_of, (CIPHERTEXT_SHAPE, PUBLIC_SHAPE, SECRET_SHAPE))


# ---- frames: all that the coordinator needs ----------------------------------------------------------------------------------


def frame_size(chunks: int) -> int:
    """Bytes of a frame of so many ciphertexts: exact, whatever is inside. RangeError for a number no vector can have."""
    if type(chunks) is not int or not 1 <= chunks <= MOST_CHUNKS:
        raise RangeError(f"a vector has 1 to {MOST_CHUNKS} ciphertexts, not {chunks!r}")
    return FRAME.size + DIGEST + chunks * CIPHERTEXT_BYTES


def check_frame(frame: bytes, expected_chunks: int, prime_index: int) -> None:
    """Raises MessageError unless these are exactly so many well-formed ciphertexts for this prime."""
    for _ in _ciphertexts(frame, expected_chunks, prime_index):
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
        for total, ciphertext in zip(self._total, _ciphertexts(frame, self.chunks, self.prime_index, checked=True)):
            total += ciphertext
            total %= _moduli(CIPHERTEXT_SHAPE)
        self.count += 1

    def total(self) -> bytes:
        """The frame of the sum so far."""
        return _frame(self.prime_index, [_pack(ciphertext) for ciphertext in self._total])


def _frame(prime_index: int, packed: list[bytes]) -> bytes:
    head, body = FRAME.pack(FRAME_MAGIC, VERSION, prime_index, len(packed), CIPHERTEXT_BYTES), b"".join(packed)
    return head + _digest(head, body) + body


def _ciphertexts(frame: bytes, chunks: int, prime_index: int, *, checked: bool = False) -> Iterator[np.ndarray]:
    """The ciphertexts of a frame, one at a time, so that memory stays small; the frame is checked before the first."""
    if not checked:
        _check_head(frame, chunks, prime_index)
    body = memoryview(frame)[FRAME.size + DIGEST :]
    for k in range(chunks):
        yield _unpack(body[k * CIPHERTEXT_BYTES : (k + 1) * CIPHERTEXT_BYTES], CIPHERTEXT_SHAPE)


def _check_head(frame: bytes, chunks: int, prime_index: int) -> None:
    if not isinstance(frame, bytes) or len(frame) != frame_size(chunks):
        raise MessageError(f"a sealed vector of {chunks} ciphertexts has {frame_size(chunks)} bytes")
    head, digest, body = _split(frame, FRAME.size)
    if head != FRAME.pack(FRAME_MAGIC, VERSION, prime_index, chunks, CIPHERTEXT_BYTES):
        raise MessageError("the head of a sealed vector is not what this round expects")
    if not compare_digest(digest, _digest(head, body)):
        raise MessageError("a sealed vector was damaged on its way")


def _split(data: bytes, head: int) -> tuple[bytes, bytes, memoryview]:
    return data[:head], data[head : head + DIGEST], memoryview(data)[head + DIGEST :]


def _digest(head: bytes, body: bytes | memoryview) -> bytes:
    # finds damage, not malice: whoever can change the body can change this too; the tag is what finds malice
    state = hashlib.sha256(head)
    state.update(body)
    return state.digest()


@cache
def _moduli(shape: tuple[int, ...]) -> np.ndarray:
    return np.array(MODULI[: shape[-2]], dtype=np.uint64).reshape(-1, 1)


def _pack(numbers: np.ndarray) -> bytes:
    """Numbers below 2**34: all low words (32 bits, little endian), then all high bits, four pairs to a byte, first pair lowest."""
    flat = numbers.reshape(-1)
    high = (flat >> np.uint64(32)).astype(np.uint8).reshape(-1, 4)
    pairs = high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6
    return flat.astype("<u4").tobytes() + pairs.tobytes()  # the cast keeps the low 32 bits


def _unpack(data: bytes | memoryview, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers that `_pack` wrote; MessageError unless each is below its modulus."""
    n = int(np.prod(shape))
    low = np.frombuffer(data, dtype="<u4", count=n).astype(np.uint64)
    pairs = np.frombuffer(data, dtype=np.uint8, offset=4 * n)
    high = (pairs[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8)) & np.uint8(3)
    numbers = (low | high.reshape(-1).astype(np.uint64) << np.uint64(32)).reshape(shape)
    if (numbers >= _moduli(shape)).any():
        raise MessageError("a sealed vector holds a number outside its range")
    return numbers


# ---- keys: what the registries share and the coordinator never has -----------------------------------------------------------


class KeyPair(bytes):
    """The secret and public keys of every prime as they travel, sealed, from one registry to the others. Plain bytes otherwise."""

    def __repr__(self) -> str:
        return f"KeyPair({len(self)} bytes)"

    __str__ = __repr__


class Keys:
    """Opened keys, one context per prime. Live in memory only."""

    def __init__(self, contexts: list[Any]) -> None:
        self._contexts = contexts

    @property
    def primes(self) -> int:
        return len(self._contexts)

    def context(self, prime_index: int) -> Any:
        """The context of one prime; Tampered once the keys were burnt."""
        if not self._contexts:
            raise Tampered(NOT_VERIFIED)
        if not 0 <= prime_index < len(self._contexts):
            raise RangeError(f"there are keys for {len(self._contexts)} primes, not for prime {prime_index + 1}")
        return self._contexts[prime_index]

    def burn(self) -> None:
        """Forgets the keys. SEAL wipes its copies; what Python copied before is only released."""
        self._contexts = []

    def __repr__(self) -> str:
        return f"Keys({self.primes} primes)" if self._contexts else "Keys(burnt)"


def generate(primes: int) -> KeyPair:
    """Fresh keys for the first so many primes, for one query alone."""
    head = KEYS.pack(KEYS_MAGIC, VERSION, primes, hashlib.sha256(PARAMETER_SET.encode()).digest())
    body = b"".join(_key_numbers(k) for k in range(primes))
    return KeyPair(head + _digest(head, body) + body)


def load(data: bytes) -> Keys:
    """Keys that another registry sent, checked: format, parameter set, ranges, no zero key, and a known answer for every prime.

    Raises MessageError if these bytes are not keys of this parameter set, Tampered if the keys do not work.
    """
    if not isinstance(data, bytes):
        raise MessageError("these bytes are not the keys of a query")
    primes, over = divmod(len(data) - KEYS.size - DIGEST, PUBLIC_BYTES + SECRET_BYTES)
    if over or not 1 <= primes <= len(PRIMES):
        raise MessageError("these bytes are not the keys of a query")
    head, digest, body = _split(data, KEYS.size)
    if head != KEYS.pack(KEYS_MAGIC, VERSION, primes, hashlib.sha256(PARAMETER_SET.encode()).digest()):
        raise MessageError(f"these keys are not for the parameters {PARAMETER_SET}")
    if not compare_digest(digest, _digest(head, body)):
        raise MessageError("the keys of the query were damaged on their way")
    keys = Keys([_open_context(k, body[k * (PUBLIC_BYTES + SECRET_BYTES) :]) for k in range(primes)])
    for k in range(primes):
        _known_answer(keys, k)
    return keys


def encrypt(keys: Keys, prime_index: int, residues: np.ndarray) -> bytes:
    """The frame of a vector: residues modulo the prime, padded with zeros to whole ciphertexts.

    residues : uint64, one axis, each below the prime. Of anything else tenseal would silently encrypt something else: RangeError.
    """
    if not (isinstance(residues, np.ndarray) and residues.dtype == np.uint64 and residues.ndim == 1 and len(residues)):
        raise RangeError("only a vector of unsigned whole numbers can be sealed")
    if (residues >= np.uint64(PRIMES[prime_index])).any():
        raise RangeError("a residue is not below its prime")
    context, head = keys.context(prime_index), _local(prime_index).ciphertext_head
    padded = np.zeros(-(-len(residues) // DEGREE) * DEGREE, dtype=np.int64)
    padded[: len(residues)] = residues
    return _frame(prime_index, [_encrypt_chunk(context, chunk, head) for chunk in padded.reshape(-1, DEGREE)])


def decrypt(keys: Keys, prime_index: int, frame: bytes, n: int) -> np.ndarray:
    """The first n residues of a total; uint64. MessageError for a malformed frame, Tampered for whatever fails after that."""
    context, head = keys.context(prime_index), _local(prime_index).ciphertext_head
    check_frame(frame, -(-n // DEGREE), prime_index)
    chunks = _ciphertexts(frame, -(-n // DEGREE), prime_index, checked=True)
    try:
        opened = [_decrypt_chunk(context, chunk, head) for chunk in chunks]
    except Exception:
        raise Tampered(NOT_VERIFIED) from None
    return np.mod(np.concatenate(opened), PRIMES[prime_index]).astype(np.uint64)[:n]


def _encrypt_chunk(context: Any, chunk: np.ndarray, head: bytes) -> bytes:
    import tenseal

    message = tenseal.bfv_vector(context, chunk.tolist()).serialize()
    return _pack(_numbers(_own(dict(_fields(message))[2]), head, CIPHERTEXT_SHAPE))


def _decrypt_chunk(context: Any, ciphertext: np.ndarray, head: bytes) -> np.ndarray:
    import tenseal

    stream = _stream(head + ciphertext.astype("<u8").tobytes())
    sizes = _field(1, _varint(DEGREE))
    return np.array(tenseal.bfv_vector_from(context, sizes + _field(2, stream)).decrypt(), dtype=np.int64)


def _known_answer(keys: Keys, prime_index: int) -> None:
    # a pattern over the whole range of the prime; a wrong pair of keys, or one with too much noise, does not give it back
    pattern = (np.arange(DEGREE, dtype=np.uint64) * np.uint64(PRIMES[prime_index] // DEGREE)).astype(np.uint64)
    if not np.array_equal(decrypt(keys, prime_index, encrypt(keys, prime_index, pattern), DEGREE), pattern):
        raise Tampered(NOT_VERIFIED)


# ---- SEAL's own formats: read from this process's own tenseal, written for it, never sent or received ------------------------

SEAL_HEADER = Struct("<HBBBBHQ")  # magic, size of this header, SEAL's version, compression, reserved, size of all
SEAL_MAGIC, UNCOMPRESSED, ZLIB, ZSTD = 0xA15E, 0, 1, 2


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
    ciphertext = dict(_fields(tenseal.bfv_vector(context, [0] * DEGREE).serialize()))[2]

    def head(stream: bytes, shape: tuple[int, ...]) -> bytes:
        return _own(stream)[: -8 * int(np.prod(shape))]

    def rest(message: list[tuple[int, bytes]]) -> bytes:
        return b"".join(raw for number, raw in message if number != 1)

    return Local(
        parameters=_field(1, parameters),
        public_rest=rest(list(_fields(public, raw=True))),
        secret_rest=rest(list(_fields(secret, raw=True))),
        version=SEAL_HEADER.unpack_from(ciphertext)[2:4],
        ciphertext_head=head(ciphertext, CIPHERTEXT_SHAPE),
        public_head=head(dict(_fields(public))[1], PUBLIC_SHAPE),
        secret_head=head(dict(_fields(secret))[1], SECRET_SHAPE),
    )


def _fresh_context(prime_index: int) -> Any:
    import tenseal

    return tenseal.context(tenseal.SCHEME_TYPE.BFV, DEGREE, PRIMES[prime_index], list(MODULUS_BITS))


def _context_parts(context: Any) -> tuple[bytes, bytes, bytes]:
    """tenseal's message of a context: parameters, public part, secret part. Without the Galois and relinearisation keys."""
    message = context.serialize(save_public_key=True, save_secret_key=True, save_galois_keys=False, save_relin_keys=False)
    parts = dict(_fields(message))
    return parts[1], parts[2], parts[3]


def _key_numbers(prime_index: int) -> bytes:
    """A fresh key pair as packed numbers, public then secret."""
    local = _local(prime_index)
    _, public, secret = _context_parts(_fresh_context(prime_index))
    return _pack(_numbers(_own(dict(_fields(public))[1]), local.public_head, PUBLIC_SHAPE)) + _pack(
        _numbers(_own(dict(_fields(secret))[1]), local.secret_head, SECRET_SHAPE)
    )


def _open_context(prime_index: int, data: memoryview) -> Any:
    """A context from local parameters and received numbers."""
    import tenseal

    local = _local(prime_index)
    public = _unpack(data[:PUBLIC_BYTES], PUBLIC_SHAPE)
    secret = _unpack(data[PUBLIC_BYTES : PUBLIC_BYTES + SECRET_BYTES], SECRET_SHAPE)
    # every polynomial of an honest key is non-zero under every modulus; a zero one would encrypt in the clear
    if not (public.any(axis=-1).all() and secret.any(axis=-1).all()):
        raise Tampered(NOT_VERIFIED)
    public_part = _field(1, _stream(local.public_head + public.astype("<u8").tobytes(), local.version)) + local.public_rest
    secret_part = _field(1, _stream(local.secret_head + secret.astype("<u8").tobytes(), local.version)) + local.secret_rest
    try:
        return tenseal.context_from(local.parameters + _field(2, public_part) + _field(3, secret_part))
    except Exception:
        raise Tampered(NOT_VERIFIED) from None


def _numbers(body: bytes, head: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers in a body that SEAL wrote here just now; Internal if this SEAL writes something else than expected."""
    if len(body) != len(head) + 8 * int(np.prod(shape)) or not body.startswith(head):
        raise Internal("this version of tenseal writes a format that is not known")
    return np.frombuffer(body, dtype="<u8", offset=len(head)).astype(np.uint64).reshape(shape)


def _own(stream: bytes) -> bytes:
    """What SEAL in this process wrote, without its header and compression. Never called with received bytes."""
    magic, header, _, _, compression, _, _ = SEAL_HEADER.unpack_from(stream)
    if magic != SEAL_MAGIC or header != SEAL_HEADER.size or compression not in (UNCOMPRESSED, ZLIB, ZSTD):
        raise Internal("this version of tenseal writes a format that is not known")
    body = stream[SEAL_HEADER.size :]
    if compression == ZSTD:
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.BufferReader(body), "zstd").read()
    return zlib.decompress(body) if compression == ZLIB else body


def _stream(body: bytes, version: tuple[int, int] | None = None) -> bytes:
    version = version or _local(0).version
    return SEAL_HEADER.pack(SEAL_MAGIC, SEAL_HEADER.size, *version, UNCOMPRESSED, 0, SEAL_HEADER.size + len(body)) + body


def _varint(n: int) -> bytes:
    """Protocol buffers' variable-length number: seven bits a byte, lowest first."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _field(number: int, content: bytes) -> bytes:
    """One length-delimited field of a protocol buffers message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _fields(message: bytes, *, raw: bool = False) -> Iterator[tuple[int, bytes]]:
    """Number and content (raw: with its own head) of each field of a message that tenseal in this process wrote."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        if key & 7 == 2:
            size, at = _read_varint(message, at)
        elif key & 7 == 0:
            size = _read_varint(message, at)[1] - at
        else:
            size = {1: 8, 5: 4}[key & 7]
        yield key >> 3, message[start : at + size] if raw else message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 128:
            return value, at
