"""Boxes of fixed sizes: what is put in comes out, and the length tells the size class only."""

import itertools

import pytest

from fedstats.client.memory import seeded
from fedstats.crypto import envelopes
from fedstats.crypto.identity import Identity, OneTime
from fedstats.errors import RangeError, Tampered

SMALL, LARGE = 4096, 32_768
random = seeded(9)
PEOPLE = {name: Identity.generate(name, random) for name in ("lyon", "turin", "ann", "hub")}
ONCE = {name: OneTime.generate(random) for name in PEOPLE}


@pytest.mark.parametrize("length", [0, 1, 999, 1000, 3063, 3064, 3065, 7160, 7161, 31_736])
def test_content_comes_back_from_its_class(length):
    """Classes double; one is `ROOM` bytes below a power of two."""
    content = bytes(k % 251 for k in range(length))
    made = envelopes.padded(content, SMALL, LARGE)
    classes = [size - envelopes.ROOM for size in (4096, 8192, 16_384, 32_768)]

    assert envelopes.unpadded(made) == content
    assert len(made) == min(one for one in classes if one >= length + 8)


def test_content_beyond_the_largest_class_is_refused():
    with pytest.raises(RangeError, match="cannot be sent"):
        envelopes.padded(bytes(LARGE - envelopes.ROOM - 7), SMALL, LARGE)


@pytest.mark.parametrize(
    "data", [b"", b"short", b"\xff" * 100, bytes(99) + b"x", (93).to_bytes(8, "little") + bytes(92)]
)
def test_other_padding_is_no_content(data):
    """Lengths that lie, and anything but zeros behind: nobody hides a second message there."""
    with pytest.raises(Tampered):
        envelopes.unpadded(data)


def letter(content=b"why", readers=(("turin", True), ("ann", False))):
    to = [
        (PEOPLE[who].public, ONCE[who].public if once else PEOPLE[who].public.agree_key)
        for who, once in readers
    ]
    return envelopes.write(PEOPLE["lyon"], ONCE["lyon"], to, b"context", content, random)


def read(who, box, key, onetimes=(), sender="lyon", context=b"context"):
    return envelopes.read(
        PEOPLE[who], onetimes, PEOPLE[sender].public, ONCE["lyon"].public, context, box, key
    )


def test_a_letter_is_read_by_those_it_is_for():
    """With the one-time key where the writer knew one, with the static one where not; the length
    is that of the content."""
    box, keys = letter()

    assert (
        read("turin", box, keys[0], [ONCE["turin"]])
        == read("ann", box, keys[1], [ONCE["ann"]])
        == read("ann", box, keys[1])
        == b"why"
    )
    assert len(letter(b"a" * 50)[0]) == len(letter(b"b" * 50)[0]) == 50 + 16


def test_nobody_else_reads_a_letter():
    """Another reader, another's key, a forgotten one-time key, another context or writer, a
    changed byte."""
    box, keys = letter()
    wrong = [{"who": "hub", "box": box, "key": key, "onetimes": [ONCE["hub"]]} for key in keys]
    wrong += [
        {"who": "turin", "box": box, "key": keys[0]},
        {"who": "turin", "box": box, "key": keys[1], "onetimes": [ONCE["turin"]]},
        {"who": "ann", "box": box, "key": keys[1], "context": b"other"},
        {"who": "ann", "box": box, "key": keys[1], "sender": "turin"},
        {"who": "ann", "box": box, "key": b""},
        {"who": "ann", "box": b"", "key": keys[1]},
    ]
    wrong += [
        {"who": "ann", "box": bytes([box[0] ^ 1]) + box[1:], "key": keys[1]},
        {"who": "ann", "box": letter()[0], "key": keys[1]},
    ]
    for one in wrong:
        with pytest.raises(Tampered):
            read(**one)


def test_letters_share_nothing():
    """The same words twice: no two boxes or keys are alike."""
    made = [letter() for _ in range(3)]

    for (box, keys), (other, others) in itertools.combinations(made, 2):
        assert box != other and not set(keys) & set(others)
