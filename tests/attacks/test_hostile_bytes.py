"""Bytes from strangers: whatever arrives, the answer is one of our errors, and memory does not grow with what a message claims."""

import contextlib
import json
import random as stdlib_random
import struct
import tracemalloc

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedstats import Dictionary
from fedstats.client.memory import seeded
from fedstats.coordinator.mailroom import Mailroom
from fedstats.crypto.identity import Identity, PublicIdentity
from fedstats.data.filters import check_filter, normal_filter
from fedstats.errors import FedstatsError, MessageError
from fedstats.query.analysis import Question, read_result
from fedstats.wire import messages
from fedstats.wire.conversation import Registry
from fedstats.wire.messages import HEAD, MAGIC, Contribution
from fedstats.wire.roster import Consortium
from nodes.journal import Journal

from .. import every
from ..parcels import NOW, PAYLOAD, PEOPLE, ROSTER, H, every_message, kind, query

EVERY = pytest.mark.parametrize("message", every_message(), ids=kind)
MORE_THAN_IT_IS = 12        # times its own length: what reading a message may take in memory
A_LITTLE = 300_000          # bytes, on top
FAST = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
DICTIONARY = Dictionary.from_dict(every.DICTIONARY)


def parcel(message, payload=b""):
    return bytes(messages.sign(message, PEOPLE[messages.sender_of(message)], payload))


def refuses(read, raw):
    """Whether reading ends in one of our errors, and does not take much memory. Anything else is a failure."""
    tracemalloc.start()
    try:
        read(raw)
        return False
    except FedstatsError:
        return True
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MORE_THAN_IT_IS * len(raw) + A_LITTLE, f"{peak} bytes of memory for a message of {len(raw)}"


def read(raw):
    return messages.read(raw, ROSTER.public)


def mailroom():
    return Mailroom(PEOPLE["hub"], ROSTER)


def receive(raw):
    mailroom().receive(raw, now=NOW, clock=0.0)


# -- parcels -----------------------------------------------------------------------------------------------------------------


@EVERY
def test_a_parcel_cut_anywhere_is_refused(message):
    """Truncated at every byte of the signed message."""
    raw = parcel(message)
    for length in range(len(raw)):
        with pytest.raises(FedstatsError):
            read(raw[:length])


@EVERY
def test_a_parcel_with_any_bit_flipped_is_refused(message):
    """One bit of every byte of head, message and signature, in turn."""
    raw = parcel(message)
    for at in range(len(raw)):
        with pytest.raises(FedstatsError):
            read(raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1:])


@EVERY
def test_a_message_with_any_byte_replaced_decodes_to_a_message_or_a_refusal(message):
    """Before the signature is looked at: the decoder answers every change with MessageError or a canonical message."""
    body = messages.encode(message)
    rng = stdlib_random.Random(kind(message))
    for at in range(len(body)):
        changed = body[:at] + bytes([rng.choice((0x00, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xC7, 0xCB, 0xDB, 0xDD, 0xDF, 0xFF))]) + body[at + 1:]
        with contextlib.suppress(MessageError):
            assert messages.encode(messages.decode(changed)) == changed


@FAST
@given(st.binary(max_size=400))
def test_noise_is_not_a_message(noise):
    """Random bytes, bare and behind a right head."""
    for raw in (noise, HEAD.pack(MAGIC, len(noise)) + noise, HEAD.pack(MAGIC, 0) + noise):
        assert refuses(read, raw)
    assert refuses(messages.decode, noise)


plain = st.recursive(st.none() | st.booleans() | st.integers(-2**63, 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
                     lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9) | st.integers(0, 9), inner,
                                                                                 max_size=4),
                     max_leaves=12)


@FAST
@given(st.sampled_from(every_message()), st.data())
def test_plain_data_of_any_shape_in_any_field(message, data):
    """Every field of every message, with content of any other type."""
    content = msgspec.msgpack.decode(messages.encode(message))
    name = data.draw(st.sampled_from(sorted(content)))
    raw = msgspec.msgpack.encode(content | {name: data.draw(plain)})

    with contextlib.suppress(MessageError):
        assert messages.encode(messages.decode(raw)) == raw


CLAIMS = {
    "a list of 67 million entries": b"\xdd\x03\xff\xff\xff", "a list of 4 billion": b"\xdd\xff\xff\xff\xff",
    "a map of 67 million": b"\xdf\x03\xff\xff\xff", "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "100 MB of text": b"\xdb\x06\x00\x00\x00", "100 MB of bytes": b"\xc6\x06\x00\x00\x00", "4 GB of bytes": b"\xc6\xff\xff\xff\xff",
    "an extension of 4 GB": b"\xc9\xff\xff\xff\xff\x01", "lists in lists of 60000": b"\xdc\xff\xff" * 400,
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_message_that_claims_to_be_large_takes_no_memory(claim):
    """A header that promises gigabytes, followed by nothing, in a filter, as a whole message and as an envelope."""
    body = messages.encode(query(where=[]))
    place = body.index(b"\xa5where") + 6

    assert refuses(messages.decode, body[:place] + CLAIMS[claim] + body[place + 1:])
    assert refuses(messages.decode, CLAIMS[claim])
    assert refuses(read, HEAD.pack(MAGIC, len(CLAIMS[claim])) + CLAIMS[claim])
    assert refuses(read, HEAD.pack(MAGIC, len(CLAIMS[claim]) + 1) + b"\x92" + CLAIMS[claim])


@pytest.mark.parametrize("filler", [b"\xc0", b"\x90", b"\x80", b"\x91", b"\x01"], ids=["nulls", "lists", "maps", "nesting", "numbers"])
def test_a_long_message_of_small_things_takes_no_memory(filler):
    """8 MB of empty lists would be half a gigabyte of objects: refused before it is decoded."""
    count = 8 * 1024 * 1024
    body = messages.encode(query(where=[]))
    place = body.index(b"\xa5where") + 6
    raw = body[:place] + b"\xdd" + struct.pack(">I", count) + filler * count + body[place + 1:]
    envelope = msgspec.msgpack.encode(messages.Signed(raw, b"s" * 64))

    assert refuses(read, HEAD.pack(MAGIC, len(envelope)) + envelope)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 2**31, 2**32 - 1])
def test_a_head_that_lies_about_the_length(length):
    """The length in the head is checked against what arrived."""
    assert refuses(read, HEAD.pack(MAGIC, length))
    assert refuses(read, b"XXXX" + struct.pack(">I", length))


# -- the coordinator ---------------------------------------------------------------------------------------------------------


@EVERY
def test_the_coordinator_survives_any_changed_parcel(message):
    """Bits flipped at sampled places, cut and doubled: refused or ignored, and the mailroom keeps working."""
    room, raw = mailroom(), parcel(message, PAYLOAD)
    room.receive(parcel(query()), now=NOW, clock=0.0)
    rng = stdlib_random.Random(1)
    for at in rng.sample(range(len(raw)), 60):
        for changed in (raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1:], raw[:at], raw[:at] + raw):
            with contextlib.suppress(FedstatsError):
                room.receive(changed, now=NOW, clock=0.0)

    assert room.counts["queries"] == 1 and len(room.sessions) == 1


def admitted():
    """A mailroom with one query in its rounds."""
    room = mailroom()
    first = messages.sign(query(), PEOPLE["ann"])
    room.receive(bytes(first), now=NOW, clock=0.0)
    (T,) = room.sessions
    for name in ("lyon", "turin", "aarhus"):
        template = next(one for one in every_message() if kind(one) == "admission")
        room.receive(parcel(msgspec.structs.replace(template, T=T, registry=name, accept=True, problem=None)), now=NOW, clock=0.0)
    assert room.sessions[T].phase == "rounds"
    return room, T


@pytest.mark.parametrize("chunks", [(1,), (4096,), (4096, 4096, 4096), (1, 2, 3)])
@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_a_contribution_that_is_not_what_it_says_takes_no_memory(chunks, size):
    """A registry's contribution of a few bytes that claims thousands of ciphertexts is refused before a total is set up."""
    room, T = admitted()
    payload = bytes(size)
    message = Contribution(T=T, S=H, registry="lyon", round=0, H=H, asks=H, chunks=chunks, digest=messages.digest_of(payload))

    assert refuses(lambda raw: room.receive(raw, now=NOW, clock=0.0), parcel(message, payload))
    assert room.sessions[T].adding is None and not room.sessions[T].answered


def test_a_member_may_not_speak_in_a_query_it_is_not_part_of():
    """A query to three registries: a fourth, or another analyst, is refused whatever it sends."""
    room, T = admitted()
    for message in every_message():
        if kind(message) in ("query", "poll", "keys"):
            continue
        with pytest.raises(FedstatsError):
            room.receive(parcel(msgspec.structs.replace(message, T=T) if kind(message) != "abort" else
                                msgspec.structs.replace(message, T=T, sender="hub")), now=NOW, clock=0.0)


# -- files -------------------------------------------------------------------------------------------------------------------


@FAST
@given(st.binary(max_size=300))
def test_noise_is_not_a_file_of_ours(tmp_path_factory, noise):
    """Random bytes as consortium file, dictionary, key and journal."""
    folder = tmp_path_factory.mktemp("noise")
    for load, name in ((Consortium.load, "c.toml"), (Dictionary.load, "d.json"), (Dictionary.load, "d.toml"), (Identity.load, "key")):
        (folder / name).write_bytes(noise)
        (folder / name).chmod(0o600)
        with pytest.raises(FedstatsError):
            load(folder / name)


@FAST
@given(st.text(max_size=200))
def test_any_text_is_no_identity(text):
    """A public identity is one exact line."""
    with pytest.raises(FedstatsError):
        PublicIdentity.from_text(text)


@FAST
@given(plain)
def test_any_json_as_dictionary(content):
    """Plain data of any shape, whole and in place of every field of a variable."""
    with pytest.raises(FedstatsError):
        Dictionary.from_dict(content if isinstance(content, dict) else {"name": "x", "variables": content if content != [] else 5})


FIELDS = ("name", "type", "range", "levels", "unit", "step", "cut_points", "description", "missing")


@FAST
@given(st.sampled_from(FIELDS), plain, st.sampled_from(every.DICTIONARY["variables"]))
def test_any_json_in_a_field_of_a_variable(field, content, variable):
    """A dictionary is refused with InputError, or can be used."""
    try:
        found = Dictionary.from_dict({"name": "x", "variables": [variable | {field: content}]})
    except FedstatsError:
        return
    (one,) = found.variables
    assert len(found.digest) == 64 and one.low <= one.high
    for use in (found.bins, found.grid):
        with contextlib.suppress(FedstatsError):
            use(one.name)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "1" + "0" * 400, "1e-320", "1" + "0" * 5000])
@pytest.mark.parametrize("place", ["range", "step", "cut", "every step", "every end", "missing", "level"])
def test_numbers_out_of_this_world_in_a_dictionary(tmp_path, number, place):
    """Infinite, not a number, or of 400 digits: one sentence, wherever it stands."""
    fields = {"range": f'"range": [0, {number}]', "step": f'"range": [0, 10], "step": {number}',
              "cut": f'"range": [0, 10], "cut_points": [1, {number}]',
              "every step": f'"range": [0, 10], "cut_points": {{"from": 0, "to": 10, "step": {number}}}',
              "every end": f'"range": [0, 10], "cut_points": {{"from": 0, "to": {number}, "step": 1}}',
              "missing": f'"range": [0, 10], "missing": [{number}]', "level": f'"levels": [1, {number}]'}
    type_ = "integer" if place == "level" else "number"
    path = tmp_path / "d.json"
    path.write_text(f'{{"name": "x", "variables": [{{"name": "v", "type": "{type_}", {fields[place]}}}]}}')
    if place == "missing" or (number == "1e-320" and place in ("range", "cut", "every end")):        # odd, and usable
        with contextlib.suppress(FedstatsError):
            Dictionary.load(path)
        return
    with pytest.raises(FedstatsError):
        Dictionary.load(path)


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deeply_nested_files(tmp_path, depth):
    """Brackets without end in JSON and TOML: refused, the stack holds."""
    json_file, toml_file, roster = tmp_path / "d.json", tmp_path / "d.toml", tmp_path / "c.toml"
    json_file.write_text('{"name":' + "[" * depth + "]" * depth + "}")
    for path in (toml_file, roster):
        path.write_text("name = " + "[" * depth + "]" * depth)
    for load, path in ((Dictionary.load, json_file), (Dictionary.load, toml_file), (Consortium.load, roster)):
        with pytest.raises(FedstatsError):
            load(path)


@pytest.mark.parametrize("noise", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_journal_is_an_input_error(tmp_path, noise):
    """A journal that is no journal is named, with a remedy."""
    path = tmp_path / "journal.sqlite"
    path.write_bytes(noise)
    with pytest.raises(FedstatsError, match="journal"):
        Journal(path)


# -- questions and filters ---------------------------------------------------------------------------------------------------


@FAST
@given(plain)
def test_any_filter_is_a_filter_or_a_refusal(tree):
    """Plain data of any shape as a cohort's filter."""
    with contextlib.suppress(FedstatsError):
        normal = normal_filter(tree)
        check_filter(normal, DICTIONARY)
        assert normal_filter(normal) == normal and json.dumps(normal)


@FAST
@given(st.sampled_from(DICTIONARY.names), st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "missing", "~"]), plain)
def test_any_value_in_a_condition(name, op, value):
    """A known variable compared with anything at all."""
    with contextlib.suppress(FedstatsError):
        check_filter(normal_filter([name, op, value]), DICTIONARY)


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e308, True, None, float("nan"), b"x", [], {}])
def test_numbers_out_of_this_world_in_a_filter(value):
    """Whatever age is compared with, the answer is a sentence."""
    with pytest.raises(FedstatsError):
        check_filter(normal_filter(["age", ">=", value]), DICTIONARY)


@FAST
@given(st.sampled_from(["summary/1", "crosstab/1", "histogram/1", "quantiles/1", "magic/1"]), st.dictionaries(
    st.sampled_from(["names", "variables", "column", "confidence", "missing", "q", "by", "x"]), plain, max_size=4))
def test_any_parameters_of_a_question(analysis, params):
    """Parameters of any shape: typed, checked, or refused."""
    with contextlib.suppress(FedstatsError):
        found = Question(analysis, params).read()
        for name in found.columns():
            DICTIONARY[name]
        found.check(DICTIONARY)


@FAST
@given(st.dictionaries(st.sampled_from(["kind", "size", "n", "notes", "columns", "rules"]), plain, max_size=5))
def test_any_content_of_a_result(content):
    """What claims to be a result is one of a known kind, or refused."""
    with contextlib.suppress(FedstatsError):
        read_result(content)


@FAST
@given(plain)
def test_any_query_from_an_analyst_gets_an_answer_or_an_abort(tree):
    """A registry answers every well-signed query, whatever its filter, and keeps nothing open."""
    with contextlib.suppress(MessageError):
        first = messages.read(parcel(query(where=tree)), ROSTER.public)
        house = HOUSE
        registry = Registry(PEOPLE["lyon"], ROSTER, house, Journal(), random=seeded(1))
        sent = registry.receive(first, NOW)
        assert len(sent) == 1 and registry.state in ("admitted", "ended")


class _House:
    """A house with an empty table."""

    from fedstats import Rules as _Rules
    from fedstats.data.rows import Rows as _Rows
    from fedstats.query.population import Codebook as _Codebook

    codebook, minima, data_cut, table = _Codebook(DICTIONARY), _Rules(), "none", _Rows(DICTIONARY, 0, {})

    def rows(self, recipe):
        return self.table

    def admit(self, query):
        pass

    def approve(self, query, results):
        pass


HOUSE = _House()
