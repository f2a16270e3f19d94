"""Messages: one canonical form, signed by who sends them, and nothing else is one."""

import math

import msgspec
import pytest

from fedstats.crypto.identity import Identity
from fedstats.errors import MessageError, Tampered
from fedstats.query.analysis import Question
from fedstats.wire import messages

from .parcels import PAYLOAD, PEOPLE, ROSTER, every_message, kind, query

EVERY = pytest.mark.parametrize("message", every_message(), ids=kind)


def signed(message, payload=b""):
    return messages.sign(message, PEOPLE[messages.sender_of(message)], payload)


@EVERY
def test_a_message_comes_back_as_itself(message):
    """Written, signed, sent with a payload and read: the same message, bytes and payload."""
    parcel = messages.read(bytes(signed(message, PAYLOAD)), ROSTER.public)

    assert parcel.message == message and parcel.payload == PAYLOAD
    assert messages.encode(parcel.message) == messages.encode(message)
    assert bytes(parcel) == bytes(signed(message, PAYLOAD))


@EVERY
def test_every_field_is_signed(message):
    """A parcel whose body says anything else does not carry the signature any more."""
    parcel = signed(message)
    envelope = msgspec.msgpack.decode(parcel.signed, type=messages.Signed)
    other = msgspec.structs.replace(message, **changed(message))
    forged = msgspec.msgpack.encode(messages.Signed(messages.encode(other), envelope.signature))

    with pytest.raises(Tampered):
        messages.open_signed(forged, ROSTER.public)


def changed(message):
    for name in ("T", "id", "nonce"):
        if name in message.__struct_fields__:
            return {name: b"z" * len(getattr(message, name))}
    raise AssertionError(kind(message))


@EVERY
def test_nobody_signs_in_anothers_name(message):
    """The sender's field and the key must be one person's."""
    stranger = Identity.generate("stranger")
    with pytest.raises(MessageError):
        messages.sign(message, stranger)

    same_name = Identity.generate(messages.sender_of(message))
    with pytest.raises(Tampered):
        messages.read(bytes(messages.sign(message, same_name)), ROSTER.public)


def test_a_sender_outside_the_roster_is_not_heard():
    """A perfect signature by somebody unknown is worth nothing."""
    mallory = Identity.generate("mallory")
    with pytest.raises(Tampered):
        messages.read(bytes(messages.sign(query(analyst="mallory"), mallory)), ROSTER.public)


@EVERY
@pytest.mark.parametrize("change",
                         ["one byte short", "one byte more", "an unknown field", "a field twice", "another version", "another seal"])
def test_only_the_canonical_form_is_a_message(message, change):
    """One byte short or long, unknown or repeated fields, other versions: refused with one sentence."""
    body = messages.encode(message)
    plain = msgspec.msgpack.decode(body)
    made = {
        "one byte short": body[:-1],
        "one byte more": body + b"\0",
        "an unknown field": msgspec.msgpack.encode(plain | {"extra": 1}),
        "a field twice": bytes([body[0] + 1]) + body[1:] + msgspec.msgpack.encode("protocol") + msgspec.msgpack.encode(messages.PROTOCOL),
        "another version": msgspec.msgpack.encode(plain | {"protocol": "fedstats/1"}),
        "another seal": msgspec.msgpack.encode(plain | {"seal": "none"}),
    }[change]

    with pytest.raises(MessageError):
        messages.decode(made)


@pytest.mark.parametrize("fields", [{}, {"decisions": None}, {"something": {"new": [1, 2]}}], ids=["the same", "one less", "one more"])
@EVERY
def test_a_message_of_another_version_is_told_which(message, fields):
    """Also where its fields are others than this side knows: both versions are named, and what to do."""
    plain = msgspec.msgpack.decode(messages.encode(message)) | {"protocol": "fedstats/2"} | fields
    body = msgspec.msgpack.encode({name: value for name, value in plain.items() if value is not None})

    with pytest.raises(MessageError, match=r"is of fedstats/2 with .*, this side speaks fedstats/3") as caught:
        messages.decode(body)
    assert "one version of fedstats" in caught.value.hint


@pytest.mark.parametrize("said", ["x" * 41, "\x1b[31mred", "<script>", 3, "", "fedstats/3"])
def test_what_calls_itself_a_version_is_not_repeated(said):
    """Other texts in its place are no version: nothing of them is shown."""
    body = msgspec.msgpack.encode({"protocol": said, "seal": "s", "type": "verdict"})

    with pytest.raises(MessageError, match=r"^this is not a message of this protocol$"):
        messages.decode(body)


def test_fields_in_another_order_are_not_canonical():
    """The same content with its fields exchanged is refused: signatures are over bytes."""
    plain = msgspec.msgpack.decode(messages.encode(query()))
    with pytest.raises(MessageError, match="canonical"):
        messages.decode(msgspec.msgpack.encode(dict(reversed(plain.items()))))


@pytest.mark.parametrize("long", [b"\xce\x00\x00\x00\x12", b"\xcd\x00\x12", b"\xcc\x12"], ids=["32 bits", "16 bits", "8 bits"])
def test_a_number_written_longer_than_needed_is_not_canonical(long):
    """18 in two, three or five bytes: only the shortest form is accepted."""
    body = messages.encode(query(where=["age", ">=", 18]))
    assert body.count(b"\xa2>=\x12") == 1

    with pytest.raises(MessageError, match="canonical"):
        messages.decode(body.replace(b"\xa2>=\x12", b"\xa2>=" + long))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_not_sent_or_read(value):
    """NaN and infinities have no place in a filter, a parameter or a time."""
    for message in (query(where=["age", ">=", value]), query(created=value), query(questions=(Question("summary/1", {"a": [value]}),))):
        with pytest.raises(MessageError):
            messages.encode(message)
        with pytest.raises(MessageError):
            messages.decode(msgspec.msgpack.encode(message))


@pytest.mark.parametrize("value", [msgspec.msgpack.Ext(5, b"x"), msgspec.msgpack.Ext(-1, b"\0\0\0\0"), {"a": msgspec.msgpack.Ext(1, b"")}],
                         ids=["extension", "time", "extension inside"])
def test_extension_types_are_not_plain_data(value):
    """MessagePack's extension types and times are not part of this protocol."""
    with pytest.raises(MessageError):
        messages.decode(msgspec.msgpack.encode(query(where=value)))


@pytest.mark.parametrize("depth", [30, 300, 30_000])
def test_deep_nesting_is_refused(depth):
    """A filter of thousands of levels neither overflows the stack nor passes."""
    body = messages.encode(query(where=[]))
    place = body.index(b"\xa5where") + 6

    with pytest.raises(MessageError):
        messages.decode(body[:place] + b"\x91" * depth + body[place:])


def test_a_long_message_of_plain_data_is_refused_unread():
    """Only sealed boxes may be long; 1 MB of plain data is refused."""
    with pytest.raises(MessageError):
        messages.decode(messages.encode(query(where=["x"] * 600_000)))
    box = next(one for one in every_message() if kind(one) == "keys")
    long = msgspec.structs.replace(box, sealed=bytes(1_000_000))

    assert messages.decode(messages.encode(long)) == long


@pytest.mark.parametrize(("field", "value"),
                         [("id", b"short"), ("onetime", b"k" * 33), ("registries", ()), ("questions", ()), ("analyst", ""),
                                              ("purpose", "p" * 2001), ("roster", b""), ("registries", ("x" * 65,)), ("created", "now")])
def test_fields_have_their_sizes(field, value):
    """Keys and hashes have 32 bytes, names at most 64 characters, lists at least one entry."""
    with pytest.raises(MessageError):
        messages.decode(msgspec.msgpack.encode(msgspec.structs.replace(query(), **{field: value})))


def test_another_payload_is_noticed():
    """The message carries the digest of what is behind it."""
    message = next(one for one in every_message() if kind(one) == "contribution")
    messages.check_payload(signed(message, PAYLOAD))
    with pytest.raises(Tampered):
        messages.check_payload(signed(message, PAYLOAD[:-1]))


def test_a_parcel_prints_no_content():
    """What a log may show of a parcel: kind, sender, size."""
    assert repr(signed(query(purpose="secret"), PAYLOAD)) == "Parcel(query from ann, 1024 bytes behind it)"


def test_lists_of_parts_never_hash_alike():
    """The boundaries between hashed parts count."""
    assert len({messages.hashed(*parts) for parts in [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"", b"abc")]}) == 5
