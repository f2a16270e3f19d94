"""Sealed boxes that tell nothing by their length: content of fixed sizes, to one party or to
several at once.

How this works. Content gets its length in front and zeros behind, up to the next of a few size
classes: the smallest, then doubled as often as needed. Whoever carries a box learns the class and
nothing more.

A letter to several is encrypted once, under a key of its own, and that key is sealed to every
reader (`identity.seal_to`). The writer makes a one-time key for it. Readers' one-time keys are used
where the writer knows them; the static key stands in where not, so that a letter can be written
before the others have shown theirs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedstats.crypto.identity import (
    KEY_BYTES,
    NONCE_BYTES,
    Identity,
    OneTime,
    PublicIdentity,
    Random,
    open_from,
    seal_to,
)
from fedstats.errors import RangeError, Tampered

LENGTH = Struct("<Q")
ROOM = 1024  # bytes below a power of two: for what seal, signature and head add
NOT_VERIFIED = "answer could not be verified"
LETTER = b"fedstats letter/1"
Reader = tuple[
    PublicIdentity, bytes
]  # who, and the one-time key to use; the static one where none is known


def padded(content: bytes, smallest: int, largest: int) -> bytes:
    """The content in its size class. smallest, largest : powers of two; a class is `ROOM` bytes
    below one.

    Raises RangeError for content beyond the largest class.
    """
    size = smallest
    while size - ROOM < LENGTH.size + len(content):
        size *= 2
    if size > largest:
        raise RangeError(
            f"a result of more than {largest - ROOM} bytes cannot be sent",
            hint="ask fewer questions at a time",
        )
    return (LENGTH.pack(len(content)) + content).ljust(size - ROOM, b"\0")


def unpadded(data: bytes) -> bytes:
    """The content of `padded`. Raises Tampered for anything else."""
    length = LENGTH.unpack_from(data)[0] if len(data) >= LENGTH.size else len(data)
    end = LENGTH.size + length
    if end > len(data) or any(data[end:]):
        raise Tampered(NOT_VERIFIED)
    return data[LENGTH.size : end]


def write(
    sender: Identity,
    onetime: OneTime,
    readers: Sequence[Reader],
    context: bytes,
    content: bytes,
    random: Random = os.urandom,
) -> tuple[bytes, tuple[bytes, ...]]:
    """A letter to several readers: its box, and the key of the box sealed to each of them, in their
    order.

    onetime : of this letter alone. content : `padded` already. context : what the letter
        belongs to.
    """
    key = random(KEY_BYTES)
    # the key is used once, so a nonce of zeros is
    box = ChaCha20Poly1305(key).encrypt(bytes(NONCE_BYTES), content, LETTER + context)
    return box, tuple(
        seal_to(sender, onetime, who, theirs, LETTER + context, key, random)
        for who, theirs in readers
    )


def read(
    reader: Identity,
    onetimes: Sequence[OneTime],
    sender: PublicIdentity,
    sender_onetime: bytes,
    context: bytes,
    box: bytes,
    sealed_key: bytes,
) -> bytes:
    """The content of a letter. onetimes : keys that the sender may have used for this reader,
    besides the static one.

    Raises Tampered if none of them opens it.
    """
    for one in (*onetimes, OneTime(reader.agree_secret)):
        try:
            key = open_from(reader, one, sender, sender_onetime, LETTER + context, sealed_key)
            return ChaCha20Poly1305(key).decrypt(bytes(NONCE_BYTES), box, LETTER + context)
        except (Tampered, InvalidTag, ValueError):
            continue
    raise Tampered(NOT_VERIFIED)
