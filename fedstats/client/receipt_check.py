"""Whether a receipt holds: every signature, and that all of them are about one question, one transcript and one result.

How this works. `check_receipt` walks the protocol's phases again: the query under this roster gives T; T, the roster and all admissions
give S; all verdicts say "release" of one transcript on S; every release belongs to that transcript, opens to what its verdict decided on,
and all say the same. In the box of a release is, beside the result, the key of the verdicts' decisions code: whoever has the result can
see that the code is of it, and nobody else can try numbers.

What a registry signed is the sealed box, so the box stands for the digest of the result. Showing another content for the same bytes would
take a second key that opens them: for a box that an honest registry made, that is as hard as forging its tag. A registry could make a box
with two contents on purpose, but the content must agree with that of all the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from .. import analyses  # noqa: F401  (registers the analyses: results are read back by kind)
from ..crypto import identity
from ..data.reading import read_json
from ..disclosure import Rules, strictest
from ..errors import FedstatsError, InputError, MessageError, Tampered
from ..query.analysis import read_result
from ..wire import codes, messages
from ..wire.analyst import alike
from ..wire.messages import Admission, Query, Release, Verdict
from ..wire.receipt import Receipt, context_of
from ..wire.release import Released, released
from ..wire.roster import Consortium
from ..wire.transcript import check_query, decisions_of, query_hash, transcript_of
from .report import ResultsFile

PARTS = ("admissions", "verdicts", "releases", "openings")
OLD = "a receipt is checked with the version of fedstats that the registries ran"


@dataclass(frozen=True)
class Proof:
    """What a receipt that holds proves. results : {registry: the results it released, as plain data}. software : version that the
    registries ran. data_cuts : {registry: its data cut}. rules : of release, the strictest of all."""

    query: Query
    results: dict[str, list[dict[str, Any]]]
    software: str
    data_cuts: dict[str, str]
    rules: Rules

    @property
    def registries(self) -> tuple[str, ...]:
        return self.query.registries

    def signers(self, result: Mapping[str, Any]) -> tuple[str, ...]:
        """The registries that released exactly these digits; the others released the same within 1e-9."""
        there = plain(result)
        return tuple(name for name in self.registries if any(there == one for one in self.results[name]))


def check_receipt(receipt: Receipt, roster: Consortium) -> Proof:
    """Every signature, and that all of them are about one query, one transcript and one result.

    Raises Tampered that says what does not hold, MessageError for bytes of another version of the protocol.
    """
    query, T = _query(receipt.query, roster)
    order = query.registries
    for part in PARTS:
        _check_names(part, getattr(receipt, part), order)
    admitted = {name: _admission(receipt.admissions[name], name, T, roster) for name in order}
    S = transcript_of(T, roster.digest, [receipt.admissions[name] for name in order])
    verdicts = {name: _verdict(receipt.verdicts[name], name, T, S, roster) for name in order}
    first = verdicts[order[0]]
    for name, verdict in verdicts.items():
        if (verdict.H, verdict.decisions) != (first.H, first.decisions):
            raise Tampered(f"the verdict of {name} is about another result than that of {order[0]}")
    opened = {name: _released(receipt, name, query, first, roster) for name in order}
    results = {name: one.results for name, one in opened.items()}
    for name in order:
        if not alike(results[name], results[order[0]]):
            raise Tampered(f"{name} released other numbers than {order[0]}")
    _check_decisions(opened, query, first, admitted[order[0]].software)
    return Proof(query, results, admitted[order[0]].software, {name: one.data_cut for name, one in admitted.items()},
                 strictest([roster.effective_rules, *(one.minima for one in admitted.values())]))


def check_results(proof: Proof, file: str | Path) -> dict[str, tuple[str, ...]]:
    """Whether a file of results (schemas/results.json, or a single result) holds what the registries released.

    Returns {name of the result: the registries whose digits it has}. Raises InputError for other files, Tampered naming the first
    number that differs.
    """
    return {name: _check_result(proof, name, one) for name, one in _named(Path(file))}


def plain(content: Any) -> Any:
    """Anything that is written as JSON, as it reads back: what is compared with a released content."""
    return msgspec.json.decode(msgspec.json.encode(content))


def first_difference(a: Any, b: Any, path: str = "") -> str:
    """Where two plain contents differ beyond 1e-9, as a path such as columns.0.mean; "" if nowhere."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        missing = [name for name in (*a, *b) if (name in a) != (name in b)]
        if missing:
            return f"{path}{missing[0]}"
        return next((found for name in a if (found := first_difference(a[name], b[name], f"{path}{name}."))), "")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next((found for k, (x, y) in enumerate(zip(a, b)) if (found := first_difference(x, y, f"{path}{k}."))), "")
    return "" if alike(a, b) else path.rstrip(".")


# -- parts ---------------------------------------------------------------------------------------------------------------------------


def _query(signed: bytes, roster: Consortium) -> tuple[Query, bytes]:
    """The query and T. The roster is looked at first: under another one no signature could hold."""
    try:
        query = messages.decode(msgspec.msgpack.decode(signed, type=messages.Signed).body)
    except (msgspec.DecodeError, MessageError) as error:
        raise _unreadable("the query", error) from None
    if not isinstance(query, Query):
        raise Tampered("the query is another kind of message")
    if query.roster != roster.digest:
        raise Tampered(f"this receipt was made under another roster than {roster.name}, epoch {roster.epoch}",
                       hint="give the consortium file of the epoch in which the question was asked: KEY.accepted.toml, or KEY.epochN.toml "
                            "once a later one was accepted")
    _opened(signed, f"the query of {query.analyst}", roster)
    try:
        check_query(query, roster, now=query.created)
    except FedstatsError as error:
        raise Tampered(f"this query could not have been admitted: {error.what}") from None
    return query, query_hash(messages.Parcel(query, signed))


def _check_names(part: str, found: Mapping[str, Any], order: Sequence[str]) -> None:
    lacking, unasked = [name for name in order if name not in found], [name for name in found if name not in order]
    if lacking:
        raise Tampered(f"the {part} of {', '.join(lacking)} are not in the receipt")
    if unasked:
        raise Tampered(f"the receipt has {part} of {', '.join(unasked)}, whom the query does not name")


def _admission(signed: bytes, name: str, T: bytes, roster: Consortium) -> Admission:
    message = _about(signed, Admission, name, roster)
    if message.T != T:
        raise Tampered(f"the admission of {name} belongs to another query")
    if not message.accept or message.problem is not None or message.note is not None:
        raise Tampered(f"{name} did not admit the query")
    return message


def _verdict(signed: bytes, name: str, T: bytes, S: bytes, roster: Consortium) -> Verdict:
    message = _about(signed, Verdict, name, roster)
    if message.T != T:
        raise Tampered(f"the verdict of {name} belongs to another query")
    if message.S != S:
        raise Tampered(f"the verdict of {name} does not follow from these admissions")
    if not message.release or message.problem is not None or message.note is not None:
        raise Tampered(f"{name} did not let the result out")
    return message


def _released(receipt: Receipt, name: str, query: Query, verdict: Verdict, roster: Consortium) -> Released:
    """The results that a registry released, as plain data, and the key of the decisions code."""
    message = _about(receipt.releases[name], Release, name, roster)
    if (message.T, message.S, message.roster, message.H) != (verdict.T, verdict.S, roster.digest, verdict.H):
        raise Tampered(f"the result of {name} belongs to another transcript than the verdicts")
    try:
        content = identity.open_with(receipt.openings[name], name, query.analyst, context_of(message), message.sealed)
    except Tampered:
        raise Tampered(f"the key in the receipt does not open the result of {name}") from None
    try:
        found = released(content, name)
    except FedstatsError:
        raise Tampered(f"the result of {name} cannot be read") from None
    if len(found.results) != len(query.questions) or not all(isinstance(one, dict) for one in found.results):
        raise Tampered(f"the result of {name} does not answer the questions")
    if any(one.get("query") != query.name for one in found.results):
        raise Tampered(f"the result of {name} names another query")
    return found


def _check_decisions(opened: Mapping[str, Released], query: Query, verdict: Verdict, software: str) -> None:
    """The results are those that the verdicts decided on: every whole number, text and gap of them, under the released key."""
    for name, one in opened.items():
        try:
            decided = decisions_of([read_result(content) for content in one.results])
        except FedstatsError as error:
            raise MessageError(f"the result of {name} cannot be read by this version: {error.what}", hint=f"{OLD}: {software}") from None
        if codes.decisions_code(one.decisions_key, verdict.S, decided) != verdict.decisions:
            raise Tampered(f"the result of {name} is not the one that the verdicts decided on", hint=f"{OLD}: {software}")


def _about(signed: bytes, kind: type[Any], name: str, roster: Consortium) -> Any:
    """A registry's message of a kind, its signature verified."""
    what = "result" if kind is Release else kind.__name__.lower()
    message = _opened(signed, f"the {what} of {name}", roster)
    if not isinstance(message, kind) or messages.sender_of(message) != name:
        raise Tampered(f"the {what} of {name} is another message")
    return message


def _opened(signed: bytes, what: str, roster: Consortium) -> messages.AnyMessage:
    try:
        return messages.open_signed(signed, roster.public)[0]
    except MessageError as error:
        raise _unreadable(what, error) from None
    except Tampered:
        raise Tampered(f"the signature under {what} does not hold") from None


def _unreadable(what: str, error: Exception) -> MessageError:
    version = isinstance(error, MessageError) and bool(error.hint)      # a message of another protocol says what to do
    return MessageError(f"{what} cannot be read" + (f": {error}" if version else ""), hint=OLD if version else "")


# -- files of results ------------------------------------------------------------------------------------------------------------------


def _named(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(name, content) of every result in a file."""
    try:
        found = read_json(path, "results")
        if isinstance(found, dict) and "kind" in found:
            return [(str(found["kind"]), found)]
        return [(one.name, one.result) for one in msgspec.convert(found, ResultsFile).results]
    except (msgspec.ValidationError, InputError) as error:
        if "cannot be read" in str(error):
            raise
        raise InputError(f"{path} is not a file of results", hint="fedstats ask ... --json writes one") from None


def _check_result(proof: Proof, name: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    if result.get("query") != proof.query.name:
        raise Tampered(f'"{name}" is the answer to another query than this receipt\'s')
    alikes = [one for one in proof.results[proof.registries[0]] if alike(one, dict(result))]
    if not alikes:
        kin = [one for one in proof.results[proof.registries[0]] if one.get("kind") == result.get("kind")]
        where = first_difference(dict(result), kin[0]) if len(kin) == 1 else ""
        raise Tampered(f'"{name}" is not what the registries released' + (f": {where} differs" if where else ""))
    signers = proof.signers(result)
    if not signers:
        raise Tampered(f'"{name}" is what the registries released, but its last digits are nobody\'s')
    return signers
