"""The messages of the protocol: types, canonical bytes, signatures.

Every message is a typed struct in canonical MessagePack, signed over the received bytes: `decode` accepts exactly the bytes
that `encode` would write. Unknown or duplicate fields, NaN, other versions, over-long or over-deep messages are refused with one
sentence. Nothing that arrives is evaluated or unpickled. A `Parcel` is a signed message with an unsigned payload behind it
whose digest the message carries: ciphertexts are large and must not be copied through a decoder.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
import struct
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec

from ..crypto.frames import PARAMETER_SET as SEAL
from ..crypto.identity import Identity, PublicIdentity
from ..disclosure import Rules
from ..errors import InputError, MessageError, Problem, Tampered
from ..query.analysis import Question

PROTOCOL = "fedstats/3"
LONGEST_BODY = 512 * 1024           # bytes of one signed message
LONGEST_PAYLOAD = 128 * 1024 * 1024     # bytes of ciphertexts behind it
DEEPEST = 24                        # levels of nesting in plain data
MOST_REGISTRIES = 256
NOTE_BYTES = 16 * 1024              # the one size class of sealed reasons
RESULT_BYTES = 16 * 1024            # the smallest size class of sealed results
HEAD = struct.Struct(">4sI")        # magic, length of the signed message
MAGIC = b"FS1\n"
VERSION = re.compile(r"[a-z0-9-]+(/[a-z0-9.-]+)*")
PLAIN = (bytes, datetime.datetime)      # left as they are when a message is looked through; times are then refused

Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=2000)]
M = TypeVar("M", bound="Message")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """What every message carries: the protocol and seal versions and the query it belongs to (T, hash of the signed query)."""

    protocol: str = PROTOCOL
    seal: str = SEAL


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A registry's reason, sealed (see `notes`). onetime : the sender's key for it; keys : of the box, sealed to every reader."""

    onetime: Key
    box: Annotated[bytes, msgspec.Meta(max_length=2 * NOTE_BYTES)]
    keys: Annotated[tuple[Annotated[bytes, msgspec.Meta(max_length=256)], ...], msgspec.Meta(max_length=MOST_REGISTRIES)]


class CohortTree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cohort on tables of MS. hash : of the recipe that the analyst compiled the tree to; a registry that gets another refuses."""

    tree: dict[str, Any]
    hash: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]


class Query(Message, frozen=True, kw_only=True, tag="query"):
    """Phase 0: what an analyst asks. cohort: only where registries hold tables of MS; where: a filter on the cohort's rows.

    Times are seconds since 1970; onetime: the analyst's X25519 key for the results.
    """

    id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    analyst: Name
    questions: Annotated[tuple[Question, ...], msgspec.Meta(min_length=1, max_length=50)]
    cohort: CohortTree | None = None
    where: Any
    purpose: Text
    registries: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=MOST_REGISTRIES)]
    roster: Hash
    created: float
    expires: float
    onetime: Key

    @property
    def name(self) -> str:
        """The id as people read it: the same in logs, results, receipts and journals."""
        return self.id.hex()


class Admission(Message, frozen=True, kw_only=True, tag="admission"):
    """Phase 1: a registry's word on a query. accept, or a reason in the note; its one-time key, its data cut, its house's minima.

    problem : a reason in the clear, as the coordinator may read it; registries give none. journal, number : the mark of the registry's
    journal and how many queries it has claimed there, this one included; so copies of a journal show.
    """

    T: Hash
    registry: Name
    accept: bool
    problem: Problem | None = None
    nonce: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    onetime: Key
    data_cut: Name
    minima: Rules
    software: Name
    journal: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)] = bytes(16)
    number: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    note: Note | None = None


class Keys(Message, frozen=True, kw_only=True, tag="keys"):
    """Phase 2: the secret key of the outer layer and the secret K, sealed to one other registry."""

    T: Hash
    S: Hash
    sender: Name
    recipient: Name
    sealed: Annotated[bytes, msgspec.Meta(max_length=LONGEST_PAYLOAD)]


class Contribution(Message, frozen=True, kw_only=True, tag="contribution"):
    """Phase 3: a registry's sealed numbers of a round. H: code of the transcript so far; asks: code of the asks (see `codes`);
    chunks: ciphertexts per prime; digest: of the payload."""

    T: Hash
    S: Hash
    registry: Name
    round: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    H: Hash
    asks: Hash
    chunks: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=4096)], ...], msgspec.Meta(min_length=1, max_length=3)]
    digest: Hash


class Total(Message, frozen=True, kw_only=True, tag="total"):
    """Phase 3: the sum of a round, by the coordinator, with the signed contributions that went into it."""

    T: Hash
    S: Hash
    coordinator: Name
    round: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    digest: Hash
    contributions: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MOST_REGISTRIES)]


class Verdict(Message, frozen=True, kw_only=True, tag="verdict"):
    """Phase 4a: whether a registry lets the result out, or a reason in the note. H: code of the transcript at its end;
    decisions: code of what the release rules decided. problem : as in Admission."""

    T: Hash
    S: Hash
    registry: Name
    H: Hash
    decisions: Hash
    release: bool
    problem: Problem | None = None
    note: Note | None = None


class Release(Message, frozen=True, kw_only=True, tag="release"):
    """Phase 4b: the checked result, sealed to the analyst, in a box of a few sizes (see `release`). H: as in the verdict."""

    T: Hash
    S: Hash
    roster: Hash
    registry: Name
    H: Hash
    sealed: Annotated[bytes, msgspec.Meta(max_length=LONGEST_PAYLOAD)]


class Abort(Message, frozen=True, kw_only=True, tag="abort"):
    """Any phase: the sender leaves the query; nothing is released. problem: what the coordinator may read; note: a registry's reason."""

    T: Hash
    sender: Name
    problem: Problem
    note: Note | None = None


class Poll(Message, frozen=True, kw_only=True, tag="poll"):
    """A signed GET: who reads which path at which coordinator, once (nonce), now (time, seconds since 1970)."""

    member: Name
    coordinator: Name
    path: Annotated[str, msgspec.Meta(max_length=300)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    time: float


class Post(Message, frozen=True, kw_only=True, tag="post"):
    """A signed POST, in its head: who brings a parcel of which length (bytes) and digest, once, now.

    Whoever has not signed is refused before a byte of the parcel is read.
    """

    member: Name
    coordinator: Name
    path: Annotated[str, msgspec.Meta(max_length=300)]
    length: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_PAYLOAD + LONGEST_BODY)]
    digest: Hash
    nonce: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    time: float


AnyMessage = (Query | Admission | Keys | Contribution | Total | Verdict | Release | Abort | Poll
              | Post)
SENDER: dict[type, str] = {Query: "analyst", Admission: "registry", Keys: "sender", Contribution: "registry", Total: "coordinator",
                           Verdict: "registry", Release: "registry", Abort: "sender", Poll: "member",
                           Post: "member"}


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A message as it travels: its bytes and the sender's signature over them."""

    body: Annotated[bytes, msgspec.Meta(max_length=LONGEST_PAYLOAD)]
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Parcel(msgspec.Struct, frozen=True):
    """A signed message as received, its decoded form, and the payload behind it."""

    message: AnyMessage
    signed: bytes
    payload: bytes = b""

    DOMAIN: ClassVar[bytes] = b"fedstats message/1"

    @property
    def sender(self) -> str:
        return sender_of(self.message)

    def __bytes__(self) -> bytes:
        return HEAD.pack(MAGIC, len(self.signed)) + self.signed + self.payload

    def __repr__(self) -> str:
        return f"Parcel({type(self.message).__name__.lower()} from {self.sender}, {len(self.payload)} bytes behind it)"


def sign(message: AnyMessage, identity: Identity, payload: bytes = b"") -> Parcel:
    """A parcel of a message, signed by its sender."""
    if sender_of(message) != identity.name:
        raise MessageError(f"{identity.name} cannot sign for {sender_of(message)}")
    body = encode(message)
    return Parcel(message, msgspec.msgpack.encode(Signed(body, identity.sign(body, Parcel.DOMAIN))), payload)


def read(raw: bytes | memoryview, who: Callable[[str], PublicIdentity]) -> Parcel:
    """A parcel from the wire, its signature verified before its fields are used for anything.

    who : public identity of a member by name; it raises for anybody not in the roster.
    Raises MessageError for bytes that are no parcel, Tampered for a signature that does not hold.
    """
    signed, payload = split(raw)
    return Parcel(*open_signed(signed, who), payload)


def split(raw: bytes | memoryview) -> tuple[bytes, bytes]:
    """The signed message and the payload of a parcel's bytes. Raises MessageError."""
    if len(raw) < HEAD.size or len(raw) > LONGEST_PAYLOAD + LONGEST_BODY:
        raise MessageError("this is not a parcel: its length is wrong")
    magic, length = HEAD.unpack_from(raw)
    if magic != MAGIC or length > LONGEST_PAYLOAD or HEAD.size + length > len(raw):
        raise MessageError("this is not a parcel: its head is wrong")
    return bytes(raw[HEAD.size:HEAD.size + length]), bytes(raw[HEAD.size + length:])


def open_signed(signed: bytes, who: Callable[[str], PublicIdentity]) -> tuple[AnyMessage, bytes]:
    """The message of signed bytes, verified against the roster. Raises MessageError or Tampered."""
    envelope = _strict(signed, Signed)
    message = decode(envelope.body)
    who(sender_of(message)).verify(envelope.signature, envelope.body, Parcel.DOMAIN)
    return message, signed


def encode(message: AnyMessage) -> bytes:
    """The canonical bytes of a message."""
    _check_plain(msgspec.to_builtins(message, builtin_types=PLAIN))
    return msgspec.msgpack.encode(message)


def decode(body: bytes) -> AnyMessage:
    """The message of canonical bytes. Raises MessageError for anything that `encode` would not have written."""
    # long messages are sealed boxes: only these are even looked at, as plain data grows many times over when it is decoded
    try:
        message = _strict(body, AnyMessage if len(body) <= LONGEST_BODY else Keys | Release)
    except MessageError:
        if (theirs := _versions(body)) is None:
            raise
        raise _other_version(theirs) from None
    if message.protocol != PROTOCOL or message.seal != SEAL:
        raise _other_version(Versions(message.protocol, message.seal))
    return message


class Versions(msgspec.Struct, frozen=True):
    """What a message of any version says of itself; its other fields are passed over unread."""

    protocol: Annotated[str, msgspec.Meta(max_length=40)]
    seal: Annotated[str, msgspec.Meta(max_length=40)]


def _versions(body: bytes) -> Versions | None:
    """The versions of a message of another protocol, whose fields this side cannot know; None for bytes that are no such message."""
    try:
        found = msgspec.msgpack.decode(body, type=Versions)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError, MemoryError):
        return None
    return found if VERSION.fullmatch(found.protocol) and found.protocol != PROTOCOL else None


def _other_version(theirs: Versions) -> MessageError:
    known = [text for text in (theirs.protocol, theirs.seal) if VERSION.fullmatch(text)]
    return MessageError(f"another version of the protocol: the message is of {' with '.join(known) or 'none'}, "
                        f"this side speaks {PROTOCOL} with {SEAL}", hint="all parties run one version of fedstats: update the older side")


def _strict(data: bytes, kind: Any) -> Any:
    try:
        found = msgspec.msgpack.decode(data, type=kind)
        if not isinstance(found, (Keys, Release, Signed)):
            _check_plain(msgspec.to_builtins(found, builtin_types=PLAIN))
        again = msgspec.msgpack.encode(found)
    except (msgspec.DecodeError, msgspec.ValidationError, InputError, RecursionError, TypeError, ValueError, OverflowError, MemoryError):
        raise MessageError("this is not a message of this protocol") from None
    if again != bytes(data):
        raise MessageError("a message is not in its canonical form")
    return found


def _check_plain(value: Any, depth: int = 0) -> None:
    """No NaN, no infinity, no times or extension types, nothing too deep, in any plain data of a message."""
    if isinstance(value, datetime.datetime):
        raise MessageError("a message holds something else than plain data")
    if depth > DEEPEST:
        raise MessageError("a message is nested too deeply")
    if isinstance(value, float) and not math.isfinite(value):
        raise MessageError("a number in a message is not finite")
    if isinstance(value, dict):
        for key, one in value.items():
            _check_plain(key, depth + 1)
            _check_plain(one, depth + 1)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _check_plain(one, depth + 1)


def sender_of(message: AnyMessage) -> str:
    return getattr(message, SENDER[type(message)])


def hashed(*parts: bytes) -> bytes:
    """SHA-256 over parts, each with its length before it, so that no two lists of parts read alike."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


def digest_of(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def check_payload(parcel: Parcel) -> None:
    """Whether the payload is the one that the message names. Raises Tampered."""
    if digest_of(parcel.payload) != parcel.message.digest:        # type: ignore[union-attr]
        raise Tampered("answer could not be verified")
