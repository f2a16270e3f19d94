"""The seal: one registry's numbers go in, only the total over all registries can be opened.

How this works. `close` takes a registry's numbers through four layers, prime by prime:
1. fixed point: every number becomes exact residues modulo one, two or three primes (`crypto.fixedpoint`);
2. tag: one more entry that only the sum of all registries' own vectors carries (`crypto.tag`);
3. masks: numbers shared with every other registry, which cancel in the total only (`crypto.masks`): they hide a registry;
4. BFV: hides the total from whoever adds (`crypto.he`).
`Adding` sums what registries sent, without any key. `open_total` takes off the layers of the total and checks the tag in
every prime before a single number is put together. What fails is `Tampered`, with one text whatever the cause, and burns the keys.

The vector of a prime: the entries of all segments that need this prime, in the order of the plan; zeros; and in the very last place
the tag. Its length is a multiple of 4096. The zeros are masked and tagged like everything else, so a stranger sees nothing but
the number of ciphertexts, and nobody can put anything in their place.

Everything a round derives depends on: the caller's 32-byte context (transcript and round), the plan, the places of all registries
in the roster, the prime, the length. One set of masks is for one vector: a second `close` for the same round is refused, since
the difference of the two would be in the clear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct, pack

import numpy as np

from fedstats.crypto import fixedpoint, frames, he, masks, tag
from fedstats.crypto.adding import Adder
from fedstats.crypto.fixedpoint import PRIMES, Scale
from fedstats.crypto.frames import SHARE, TOTAL, Kind
from fedstats.errors import FedstatsError, InputError, MessageError, OutOfOrder, RangeError, Tampered

FEWEST_REGISTRIES = 3  # with two, either learns the other's numbers from the total
CONTEXT_BYTES = 32
ROUND = b"fedstats seal/1"
LAYOUT = b"fedstats seal layout/1"
OPENED = b"fedstats seal opened/1"
HEAD = Struct("<4sBB")  # magic, version, number of primes; then one frame per prime
MAGIC, VERSION = b"fssl", 1


@dataclass(frozen=True)
class Segment:
    """One block of a round, flattened.

    length : number of entries; scale : how they are held; limit : largest absolute value one registry may send in an entry.
    real : whether its totals are wanted as real numbers, not as the integers that hold them.
    """

    name: str
    length: int
    scale: Scale
    limit: float
    real: bool = False

    @property
    def slots(self) -> int:
        """Entries of a prime's vector that it takes."""
        return self.scale.slots(self.length)


@dataclass(frozen=True)
class Plan:
    """The blocks of one round in their order: everybody derives the same one, and with it all lengths."""

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if len({segment.name for segment in self.segments}) != len(self.segments):
            raise InputError("two blocks of a round have the same name")
        if any(segment.length < 0 for segment in self.segments):
            raise InputError("a block cannot have fewer than 0 entries")

    @property
    def primes(self) -> int:
        return max((segment.scale.primes for segment in self.segments), default=1)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Entries per prime, the tag included, without the zeros that fill the last ciphertext."""
        return tuple(1 + sum(segment.slots for segment in self.held_by(j)) for j in range(self.primes))

    @property
    def chunks(self) -> tuple[int, ...]:
        """Ciphertexts per prime."""
        return tuple(-(-length // frames.DEGREE) for length in self.lengths)

    def held_by(self, prime_index: int) -> tuple[Segment, ...]:
        """The segments that have residues modulo this prime."""
        return tuple(segment for segment in self.segments if segment.scale.primes > prime_index)

    def layout_digest(self) -> bytes:
        """SHA-256 over the parameter set and every segment: names with their length, so that no two plans read alike."""
        state = hashlib.sha256(LAYOUT + pack("<Q", len(frames.PARAMETER_SET)) + frames.PARAMETER_SET.encode())
        for segment in self.segments:
            name = segment.name.encode()
            state.update(pack("<Q", len(name)) + name)
            scale = segment.scale
            state.update(pack("<QqQQd?", segment.length, scale.exponent, scale.primes, scale.per_slot, float(segment.limit), segment.real))
        return state.digest()


@dataclass
class SealKeys:
    """What one registry needs to close and open one query's rounds; in memory only.

    he : the BFV key; K : the 32-byte secret of the tags; pair_keys : place in the roster -> 32-byte
    key shared with that registry; index : my place in the roster; registries : how many take part,
    this one included, and at least `fewest` (a simulation in one process may have less than the
    network).
    """

    he: he.Keys
    K: bytes
    pair_keys: dict[int, bytes]
    index: int
    registries: int
    closed: set[bytes] = field(default_factory=set)  # rounds whose masks were used
    fewest: int = FEWEST_REGISTRIES

    def __post_init__(self) -> None:
        if self.registries < self.fewest:
            raise InputError(
                f"a seal needs at least {self.fewest} registries, not {self.registries}"
            )
        if self.index in self.pair_keys or len(self.pair_keys) != self.registries - 1:
            raise InputError("a registry needs one pair key with each of the others")

    @property
    def places(self) -> list[int]:
        """All registries' places in the roster, in order."""
        return sorted([self.index, *self.pair_keys])

    def burn(self) -> None:
        """Forgets every key, as far as Python can: bytes objects are released, not overwritten."""
        self.he.burn()
        self.K, self.pair_keys = b"", {}

    @property
    def burnt(self) -> bool:
        return not self.K

    def __repr__(self) -> str:
        return f"SealKeys(burnt={self.burnt}, index={self.index}, registries={self.registries})"


def close(values: Mapping[str, np.ndarray], plan: Plan, keys: SealKeys, context: bytes) -> bytes:
    """One registry's numbers of a round, sealed.

    values : segment name -> flat array, int64 or float64, exactly the segments of the plan.
    context : 32 bytes that stand for the transcript so far and the round.
    Raises RangeError if a value is beyond its limit (the text names the block), OutOfOrder if this round was already closed.
    """
    residues = _encode(values, plan)
    bound = _round(plan, keys, context)
    if bound in keys.closed:
        raise OutOfOrder("this round was sealed before", hint="send the stored bytes again")
    keys.closed.add(bound)
    return HEAD.pack(MAGIC, VERSION, plan.primes) + b"".join(
        he.encrypt(keys.he, j, _masked(residues[j], j, keys, bound)) for j in range(plan.primes)
    )


def open_total(total: bytes, plan: Plan, keys: SealKeys, context: bytes) -> tuple[dict[str, np.ndarray], bytes]:
    """The total over all registries: segment name -> exact integers, and a digest of every opened residue for the transcript.

    Integers are int64 for segments of one prime, else object arrays of Python ints; segments of real numbers are float64, the double
    nearest to the exact total.
    Raises Tampered, and burns the keys, for anything but the sum of what all registries closed for this very round.
    """
    bound = _round(plan, keys, context)
    try:
        opened = [_opened(frame, j, plan, keys, bound) for j, frame in enumerate(_frames(TOTAL, total, plan.chunks))]
        numbers = _decode(opened, plan)
    except FedstatsError:
        keys.burn()
        raise Tampered(frames.NOT_VERIFIED) from None
    digest = hashlib.sha256(OPENED + bound)
    for vector in opened:
        digest.update(vector.astype("<u8").tobytes())
    return numbers, digest.digest()


def plain_total(many: Iterable[Mapping[str, np.ndarray]], plan: Plan) -> dict[str, np.ndarray]:
    """The same total without any sealing: bit for bit the numbers that `open_total` gives for these registries."""
    total = [np.zeros(_padded(chunks), dtype=np.uint64) for chunks in plan.chunks]
    for values in many:
        for j, vector in enumerate(_encode(values, plan)):
            total[j] = fixedpoint.add(total[j], vector, PRIMES[j])
    return _decode(total, plan)


# ---- adding: no key needed ---------------------------------------------------------------------------------------------------


class Adding:
    """A running total of what registries sent for one round. Its memory does not grow with their number.

    chunks : ciphertexts per prime, as in the plan. The caller makes sure that nobody is added twice: the total would not open.
    """

    def __init__(self, chunks: tuple[int, ...]) -> None:
        total_size(chunks)
        self.chunks = tuple(chunks)
        self._adders = [Adder(j, count) for j, count in enumerate(chunks)]

    def add(self, sealed: bytes) -> None:
        """Adds one registry's bytes; MessageError, and the total stays as it was, if they are not well formed."""
        parts = _frames(SHARE, sealed, self.chunks)
        for j, frame in enumerate(parts):
            frames.check_frame(SHARE, frame, self.chunks[j], j)
        for adder, frame in zip(self._adders, parts):
            adder.add(frame, checked=True)

    def total(self) -> bytes:
        return HEAD.pack(MAGIC, VERSION, len(self.chunks)) + b"".join(adder.total() for adder in self._adders)


def share_size(chunks: tuple[int, ...]) -> int:
    """Bytes that each registry sends for a plan with so many ciphertexts per prime: exact. RangeError for what no plan can have."""
    return _size(SHARE, chunks)


def total_size(chunks: tuple[int, ...]) -> int:
    """Bytes of the total that comes back."""
    return _size(TOTAL, chunks)


def _size(kind: Kind, chunks: tuple[int, ...]) -> int:
    if not 1 <= len(chunks) <= len(PRIMES):
        raise RangeError(f"a sealed vector has 1 to {len(PRIMES)} primes, not {len(chunks)}")
    return HEAD.size + sum(frames.frame_size(kind, count) for count in chunks)


def _frames(kind: Kind, sealed: bytes, chunks: tuple[int, ...]) -> list[bytes]:
    """The frames of every prime; MessageError unless all sizes are exactly right."""
    if not isinstance(sealed, bytes) or len(sealed) != _size(kind, chunks):
        raise MessageError(f"a sealed vector of this round has {_size(kind, chunks)} bytes")
    if sealed[: HEAD.size] != HEAD.pack(MAGIC, VERSION, len(chunks)):
        raise MessageError("the head of a sealed vector is not what this round expects")
    found, at = [], HEAD.size
    for count in chunks:
        found.append(sealed[at : at + frames.frame_size(kind, count)])
        at += frames.frame_size(kind, count)
    return found


# ---- the layers --------------------------------------------------------------------------------------------------------------


def _round(plan: Plan, keys: SealKeys, context: bytes) -> bytes:
    """What all masks and tags of this round are derived from."""
    if keys.burnt:
        raise Tampered(frames.NOT_VERIFIED)
    if not isinstance(context, bytes) or len(context) != CONTEXT_BYTES:
        raise InputError(f"the context of a round has {CONTEXT_BYTES} bytes")
    places = keys.places
    return hashlib.sha256(ROUND + context + plan.layout_digest() + pack(f"<{len(places)}Q", *places)).digest()


def _padded(chunks: int) -> int:
    return chunks * frames.DEGREE


def _encode(values: Mapping[str, np.ndarray], plan: Plan) -> list[np.ndarray]:
    """The vector of every prime before tag and masks: entries, then zeros; uint64."""
    if set(values) != {segment.name for segment in plan.segments}:
        raise InputError("the blocks to seal are not those of the plan")
    vectors = [np.zeros(_padded(chunks), dtype=np.uint64) for chunks in plan.chunks]
    filled = [0] * plan.primes
    for segment in plan.segments:
        if np.size(values[segment.name]) != segment.length:
            raise InputError(f'block "{segment.name}" has {np.size(values[segment.name])} entries instead of {segment.length}')
        for j, residues in enumerate(_residues(values[segment.name], segment)):
            vectors[j][filled[j] : filled[j] + segment.slots] = residues
            filled[j] += segment.slots
    return vectors


def _residues(values: np.ndarray, segment: Segment) -> list[np.ndarray]:
    try:
        return fixedpoint.encode(values, segment.scale, segment.limit)
    except FedstatsError as error:
        raise type(error)(f'block "{segment.name}": {error.what}', hint=error.hint) from None


def _masked(vector: np.ndarray, j: int, keys: SealKeys, bound: bytes) -> np.ndarray:
    """The vector with its tag in the last place, under the masks of all pairs."""
    r = tag.coefficients(keys.K, bound, j, len(vector) - 1)
    s = tag.offset(keys.K, bound, j, keys.index)
    tagged = vector.copy()
    tagged[-1] = tag.tag(vector[:-1], r, s, PRIMES[j])
    return fixedpoint.add(tagged, masks.pair_mask(keys.index, keys.pair_keys, bound, j, len(vector)), PRIMES[j])


def _opened(frame: bytes, j: int, plan: Plan, keys: SealKeys, bound: bytes) -> np.ndarray:
    """The total of one prime, its tag checked."""
    vector = he.decrypt(keys.he, j, frame, _padded(plan.chunks[j]))
    r = tag.coefficients(keys.K, bound, j, len(vector) - 1)
    offsets = [tag.offset(keys.K, bound, j, place) for place in keys.places]
    filled = plan.lengths[j] - 1
    # honest registries leave the padding empty; a registry that does not gets no channel out of it
    if not tag.check(vector[:-1], vector[-1], r, offsets, PRIMES[j]) or vector[filled:-1].any():
        raise Tampered(frames.NOT_VERIFIED)
    return vector


def _decode(vectors: Sequence[np.ndarray], plan: Plan) -> dict[str, np.ndarray]:
    """Segment name -> integers, or doubles for segments of real numbers."""
    taken, found = [0] * plan.primes, {}
    for segment in plan.segments:
        parts = []
        for j in range(segment.scale.primes):
            parts.append(vectors[j][taken[j] : taken[j] + segment.slots])
            taken[j] += segment.slots
        found[segment.name] = (fixedpoint.decode_float(parts, segment.scale) if segment.real
                               else fixedpoint.decode(parts, segment.scale, segment.length))
    return found
