"""What is in the box of a release: the checked results, and the key that opens the code of what was
decided (see `codes`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..crypto import envelopes
from ..errors import MessageError
from ..query.analysis import Result
from .messages import LONGEST_PAYLOAD, RESULT_BYTES, Hash


class Released(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """results : as plain data, one per question. decisions_key : opens the code in the verdicts."""

    results: list[Any]
    decisions_key: Hash


def to_release(results: Sequence[Result], decisions_key: bytes) -> bytes:
    """The content of the box, in its size class. Raises RangeError for results beyond the
    largest."""
    content = msgspec.json.encode(Released([result.to_dict() for result in results], decisions_key))
    return envelopes.padded(content, RESULT_BYTES, LONGEST_PAYLOAD)


def released(content: bytes, registry: str) -> Released:
    """What `to_release` wrote. Raises MessageError for anything else, Tampered for other
    padding."""
    try:
        return msgspec.json.decode(envelopes.unpadded(content), type=Released)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MessageError(f"the result of {registry} cannot be read") from None
