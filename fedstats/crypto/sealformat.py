"""SEAL's and tenseal's own formats: read from this process's own tenseal, written for it, never sent or received.

SEAL writes a header, then a body that may be compressed; tenseal wraps such streams in protocol buffers messages.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from struct import Struct

import numpy as np

from fedstats.errors import Internal

SEAL_HEADER = Struct("<HBBBBHQ")  # magic, size of this header, SEAL's version, compression, reserved, size of all
SEAL_MAGIC, UNCOMPRESSED, ZLIB, ZSTD = 0xA15E, 0, 1, 2


def numbers_of(body: bytes, head: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers in a body that SEAL wrote here just now; Internal if this SEAL writes something else than expected."""
    if len(body) != len(head) + 8 * int(np.prod(shape)) or not body.startswith(head):
        raise Internal("this version of tenseal writes a format that is not known")
    return np.frombuffer(body, dtype="<u8", offset=len(head)).astype(np.uint64).reshape(shape)


def own(stream: bytes) -> bytes:
    """What SEAL in this process wrote, without its header and compression. Never called with received bytes."""
    magic, header, _, _, compression, _, _ = SEAL_HEADER.unpack_from(stream)
    if magic != SEAL_MAGIC or header != SEAL_HEADER.size or compression not in (UNCOMPRESSED, ZLIB, ZSTD):
        raise Internal("this version of tenseal writes a format that is not known")
    body = stream[SEAL_HEADER.size :]
    if compression == ZSTD:
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.BufferReader(body), "zstd").read()
    return zlib.decompress(body) if compression == ZLIB else body


def stream(body: bytes, version: tuple[int, int]) -> bytes:
    """The stream that SEAL reads: its header, then an uncompressed body."""
    return SEAL_HEADER.pack(SEAL_MAGIC, SEAL_HEADER.size, *version, UNCOMPRESSED, 0, SEAL_HEADER.size + len(body)) + body


def varint(n: int) -> bytes:
    """Protocol buffers' variable-length number: seven bits a byte, lowest first."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def field_of(number: int, content: bytes) -> bytes:
    """One length-delimited field of a protocol buffers message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def fields(message: bytes, *, raw: bool = False) -> Iterator[tuple[int, bytes]]:
    """Number and content (raw: with its own head) of each field of a message that tenseal in this process wrote."""
    at = 0
    while at < len(message):
        start = at
        key, at = read_varint(message, at)
        if key & 7 == 2:
            size, at = read_varint(message, at)
        elif key & 7 == 0:
            size = read_varint(message, at)[1] - at
        else:
            size = {1: 8, 5: 4}[key & 7]
        yield key >> 3, message[start : at + size] if raw else message[at : at + size]
        at += size


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 128:
            return value, at
