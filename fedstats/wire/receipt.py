"""Receipts: what a released result rests on, in a file that anybody can check offline with the consortium file (`receipt_check`).

A receipt keeps, as they were received, the analyst's signed query, every registry's signed admission, verdict and release,
and the key that opens each release. That key is good for this one message only, and of the data it shows nothing but the
released result. With the result comes the key of the verdicts' decisions code (see `wire.codes`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ..crypto import identity
from ..data.reading import read_json
from ..data.tables import write_text
from ..errors import InputError
from . import messages
from .analyst import Analyst
from .messages import Release, hashed

LARGEST_RECEIPT = 1 << 30       # bytes: of many registries with a large model each
Key = Annotated[bytes, msgspec.Meta(min_length=identity.KEY_BYTES, max_length=identity.KEY_BYTES)]


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A receipt; `version` is that of this format. query : as it was signed (base 64 in the file). admissions, verdicts, releases :
    {registry: as it was signed}. openings : {registry: key that opens its release}."""

    format: Literal["fedstats receipt"]
    version: Literal[1]
    query: bytes
    admissions: dict[str, bytes]
    verdicts: dict[str, bytes]
    releases: dict[str, bytes]
    openings: dict[str, Key]


def receipt_of(analyst: Analyst) -> Receipt:
    """The receipt of a query whose result was accepted."""
    got, query = analyst.receipt, analyst.query
    openings = {}
    for name in query.registries:
        release, _ = messages.open_signed(got.releases[name], analyst.roster.public)
        assert isinstance(release, Release)
        openings[name] = identity.opening_key(analyst.me, analyst.onetime, analyst.roster.public(name), analyst.admissions[name][0].onetime,
                                              context_of(release))
    return Receipt("fedstats receipt", 1, got.query, got.admissions, got.verdicts, got.releases, openings)


def receipt_text(receipt: Receipt) -> str:
    return json.dumps(json.loads(msgspec.json.encode(receipt)), indent=1) + "\n"


def write_receipt(path: str | Path, receipt: Receipt) -> Path:
    """Write a receipt as JSON (schemas/receipt.json). Raises InputError if it cannot be written."""
    return write_text(path, receipt_text(receipt))


def read_receipt(path: str | Path) -> Receipt:
    """The receipt in a file. Raises InputError."""
    try:
        source = read_json(path, "receipt", largest=LARGEST_RECEIPT)
    except InputError as error:
        if "cannot be read" in error.what:
            raise
        raise InputError(f"{path} is not a receipt: {error.what}", hint="see schemas/receipt.json") from None
    try:
        return msgspec.convert(source, Receipt, strict=True)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} is not a receipt: {error}", hint="see schemas/receipt.json") from None


def context_of(release: Release) -> bytes:
    """What a registry's release is sealed for: see `wire.conversation`."""
    return hashed(b"release", release.S, release.H)
