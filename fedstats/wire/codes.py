"""What travels of things that follow from totals: codes under keys that the coordinator does not
have.

How this works. A plain hash of a count is no secret: whoever carries it tries all counts. So
nothing that depends on a total leaves a registry but under K, the secret of the query that all its
registries share and nobody else has:

    transcript code    of H_r, with every contribution: whether all have seen the same totals
    asks code          of the asks of a round: whether all ask the same next question
    final code         of H_final, with verdict and release: whether all came to the same end
    decisions key      the only one that is told to somebody: to the analyst, in the sealed
    release, and so to the receipt
    decisions code     of what the release rules decided, under the decisions key

The decisions key opens one code of one query. It tells nothing of K, from which it is made by a
one-way function, and what its code is of follows from the released result, which its holder has.
The other codes cannot be opened by anybody but the registries.

Every code is HMAC-SHA256 (`masks.derive`) under a label of its own, over a hash of fixed length. No
label begins another, nor one of the tag's, which are derived from K too."""

from __future__ import annotations

from ..crypto.masks import derive
from .messages import hashed

TRANSCRIPT = b"fedstats transcript code/1"
ASKS = b"fedstats asks code/1"
FINAL = b"fedstats final code/1"
DECISIONS_KEY = b"fedstats decisions key/1"
DECISIONS = b"fedstats decisions code/1"


def transcript_code(K: bytes, S: bytes, round: int, H: bytes) -> bytes:
    """Of the transcript before a round."""
    return derive(K, TRANSCRIPT, hashed(S, H), round)


def asks_code(K: bytes, H: bytes, asks: bytes) -> bytes:
    """Of the asks of a round. asks : their digest."""
    return derive(K, ASKS, hashed(H, asks))


def final_code(K: bytes, S: bytes, H: bytes) -> bytes:
    """Of the transcript at its end."""
    return derive(K, FINAL, hashed(S, H))


def decisions_key(K: bytes, S: bytes) -> bytes:
    """What opens the decisions code of this query: 32 bytes."""
    return derive(K, DECISIONS_KEY, S)


def decisions_code(key: bytes, S: bytes, decisions: bytes) -> bytes:
    """Of what the release rules decided. key : `decisions_key`; decisions : see
    `transcript.decisions_of`."""
    return derive(key, DECISIONS, hashed(S, decisions))
