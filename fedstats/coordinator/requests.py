"""Reading requests: the signature in the head, the parameters of a GET, the body of a POST."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import math
import re
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from ..errors import MessageError, Tampered, Unreachable
from ..wire.messages import Post
from .limits import LONGEST_PARCEL

LONGEST_HEAD = 4096  # characters of a signature
READ_SECONDS, READ_RATE = (
    15.0,
    64 * 1024,
)  # a parcel of n bytes may take READ_SECONDS + n / READ_RATE
NUMBER = re.compile(r"[0-9]{1,15}")
T_DIGITS = re.compile(r"[0-9a-f]{64}")
WORD = re.compile(r"[0-9a-f]{0,64}")


class TooBusy(Exception):
    """Not now: the same request may be made again after so many seconds."""

    def __init__(self, status: int, seconds: float, what: str) -> None:
        super().__init__(what)
        self.status, self.seconds, self.what = status, seconds, what


@dataclass(frozen=True)
class Reading:
    """What a GET of the mail asks for."""

    after: int
    wait: float
    query: str | None
    boot: str | None
    reader: str


def signature_of(request: Request) -> bytes:
    """The signed head of a request. Raises Tampered if there is none, MessageError if it cannot be
    read."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme != "fedstats" or len(text) > LONGEST_HEAD:
        raise Tampered(
            "the request is not signed",
            hint="members sign every request: is this an older version of fedstats?",
        )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MessageError("the signature is not base64") from None


def path_of(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def length_of(request: Request) -> int:
    """The announced bytes of a parcel. Raises MessageError."""
    text = request.headers.get("content-length", "")
    if not NUMBER.fullmatch(text) or int(text) > LONGEST_PARCEL:
        raise MessageError("the parcel's length is missing or too large")
    return int(text)


def reading_of(request: Request) -> Reading:
    """The parameters of a GET of the mail. Raises MessageError naming the one that is wrong."""
    given = request.query_params.multi_items()
    found = dict(given)
    if len(found) != len(given) or set(found) - {"after", "wait", "query", "boot", "reader"}:
        raise MessageError(
            "a parameter was given twice, or is not one of after, wait, query, boot and reader"
        )
    if not NUMBER.fullmatch(found.get("after", "0")):
        raise MessageError("after must be a whole number of up to 15 digits")
    if "query" in found and not T_DIGITS.fullmatch(found["query"]):
        raise MessageError("query must be 64 hexadecimal digits")
    for name in ("boot", "reader"):
        if not WORD.fullmatch(found.get(name, "")):
            raise MessageError(f"{name} must be hexadecimal digits")
    return Reading(
        int(found.get("after", "0")),
        _seconds(found.get("wait", "0")),
        found.get("query"),
        found.get("boot"),
        found.get("reader", ""),
    )


def _seconds(text: str) -> float:
    try:
        seconds = (
            float(text) if text.isascii() and len(text) <= 20 and "_" not in text else math.nan
        )
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:  # which NaN is not either
        raise MessageError("wait must be a number of seconds from 0 on")
    return seconds


async def parcel_of(request: Request, post: Post) -> memoryview:
    """The body of a POST: exactly the announced bytes, in the time that they may take.

    Raises MessageError, Unreachable (late) or Tampered (other bytes than the signed ones).
    """
    found, size, digest = bytearray(post.length), 0, hashlib.sha256()
    try:
        async with asyncio.timeout(READ_SECONDS + post.length / READ_RATE):
            async for piece in request.stream():
                if size + len(piece) > post.length:
                    raise MessageError("the parcel is longer than announced")
                found[size : size + len(piece)] = piece
                size += len(piece)
                digest.update(piece)
    except TimeoutError:
        raise Unreachable("the parcel did not arrive in time", hint="send it again") from None
    except ClientDisconnect:
        raise MessageError("the line was cut before the whole parcel had come") from None
    if size != post.length or digest.digest() != post.digest:
        raise Tampered("the parcel is not the one that its sender signed")
    return memoryview(found)
