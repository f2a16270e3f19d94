"""Reasons: why a registry refuses or leaves, sealed to the analyst and the other registries of the
query.

A reason may follow from totals ("fewer than 10 patients"), and even its code or its length would
tell the coordinator. So what the coordinator sees of any reason is a box of one size. Reasons of
the coordinator and of the analyst are told in the clear: they know no totals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from ..crypto import envelopes
from ..crypto.identity import Identity, OneTime, usable
from ..errors import FedstatsError, Problem
from .messages import NOTE_BYTES, Note, Query, hashed
from .roster import Consortium

LONGEST_TEXT = (
    1900  # characters of a sentence: so that four bytes each, twice, stay below NOTE_BYTES
)
CUT = " ..."


def readers(query: Query, sender: str, roster: Consortium) -> tuple[str, ...]:
    """Who can read a registry's reasons: the query's registries and its analyst, in this order,
    as far as the roster knows them."""
    known = {*roster.names("registry"), *roster.names("analyst")}
    return tuple(
        name
        for name in dict.fromkeys((*query.registries, query.analyst))
        if name in known and name != sender
    )


def write_note(
    problem: Problem,
    me: Identity,
    query: Query,
    T: bytes,
    roster: Consortium,
    onetimes: Mapping[str, bytes],
    random: Callable[[int], bytes],
) -> Note:
    """A reason, sealed. onetimes : {registry: its one-time key}, as far as they are known."""
    mine = OneTime.generate(random)
    keys = dict(onetimes) | {query.analyst: query.onetime}
    to = []
    for name in readers(query, me.name, roster):
        who = roster.public(name)
        theirs = keys.get(name, b"")
        to.append((who, theirs if usable(theirs) else who.agree_key))
    content = envelopes.padded(msgspec.msgpack.encode(_short(problem)), NOTE_BYTES, NOTE_BYTES)
    box, sealed = envelopes.write(me, mine, to, _context(T, me.name), content, random)
    return Note(onetime=mine.public, box=box, keys=sealed)


def read_note(
    note: Note,
    sender: str,
    me: Identity,
    onetimes: Sequence[OneTime],
    query: Query,
    T: bytes,
    roster: Consortium,
) -> Problem | None:
    """The reason in a note; None if it cannot be read. onetimes : my keys that the sender may
    have used."""
    names = readers(query, sender, roster)
    if me.name not in names or len(names) != len(note.keys):
        return None
    try:
        content = envelopes.read(
            me,
            onetimes,
            roster.public(sender),
            note.onetime,
            _context(T, sender),
            note.box,
            note.keys[names.index(me.name)],
        )
        return msgspec.msgpack.decode(envelopes.unpadded(content), type=Problem)
    except (FedstatsError, msgspec.DecodeError):
        return None


def _context(T: bytes, sender: str) -> bytes:
    return hashed(b"note", T, sender.encode())


def _short(problem: Problem) -> Problem:
    what, hint = (
        text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - len(CUT)] + CUT
        for text in (problem.what, problem.hint)
    )
    return Problem(problem.code, problem.who[:64], what, hint)
