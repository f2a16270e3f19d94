"""Keys that keep no secret: points of small order, and keys in a second spelling.

With an X25519 point of small order every shared secret is zero; under an Ed25519 point of small
order anybody's signature holds. Both lists are all points of order 1, 2, 4 and 8 on curve and twist
(RFC 7748, section 7; Bernstein, Curve25519: "which public keys")."""

import msgspec
import pytest

from fedstats.client.memory import START, seeded
from fedstats.crypto import identity
from fedstats.crypto.identity import FIELD, Identity, PublicIdentity, usable, usable_to_sign
from fedstats.errors import FedstatsError, InputError, MessageError, Tampered
from fedstats.wire import messages
from fedstats.wire.conversation import ENDED, Registry
from fedstats.wire.messages import Admission, Query
from fedstats.wire.roster import Member

from .. import parcels
from .stage import NAMES, Stage

EIGHT = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
MONTGOMERY = [n.to_bytes(32, "little") for n in (0, 1, *EIGHT, FIELD - 1)]
SECOND_SPELLING = [
    n.to_bytes(32, "little") for n in (FIELD, FIELD + 1, 9 + FIELD, 2**255 - 1, 9 + 2**255)
]
Y_EIGHT = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
EDWARDS = [
    (y | sign << 255).to_bytes(32, "little")
    for y in (0, 1, FIELD - 1, Y_EIGHT, FIELD - Y_EIGHT)
    for sign in (0, 1)
]


@pytest.mark.parametrize(
    "key", MONTGOMERY + SECOND_SPELLING + [b"", b"x" * 31], ids=lambda key: key.hex()[:8] or "empty"
)
def test_a_key_to_agree_with_keeps_a_secret(key):
    assert not usable(key)
    assert usable(Identity.generate("a").public.agree_key) and usable((9).to_bytes(32, "little"))


@pytest.mark.parametrize(
    "key",
    [*EDWARDS, FIELD.to_bytes(32, "little"), (FIELD + 3).to_bytes(32, "little"), b""],
    ids=lambda key: key.hex()[:8] or "empty",
)
def test_a_key_to_sign_with_is_its_owners(key):
    assert not usable_to_sign(key)
    assert all(usable_to_sign(Identity.generate("a").public.sign_key) for _ in range(20))


def anybodys_signature(key):
    """A signature that holds under a key of small order, made without any secret: R = the
    neutral point, s = 0, for a lucky message."""
    return (1).to_bytes(32, "little") + bytes(32)


def test_the_library_would_take_anybodys_signature():
    """Control: under the neutral point the signature of nobody holds for every message, so it
    must not stand in a roster."""
    neutral = PublicIdentity(
        "mallory",
        (1).to_bytes(32, "little"),
        parcels.PEOPLE["ann"].public.agree_key,
        anybodys_signature(b""),
    )
    neutral.verify(
        anybodys_signature(b""), b"whatever it says", b"any domain"
    )  # raises if it did not hold

    with pytest.raises(Tampered, match="small order"):
        neutral.check()


def vouched(name, agree_key):
    """An identity whose owner vouches for an agreement key of their choice."""
    mine = Identity.generate(name)
    bare = PublicIdentity(name, mine.public.sign_key, agree_key, b"")
    return PublicIdentity(
        name, bare.sign_key, agree_key, mine.sign_secret.sign(identity._vouched(bare))
    )


@pytest.mark.parametrize(
    "key",
    [MONTGOMERY[0], MONTGOMERY[1], MONTGOMERY[2], SECOND_SPELLING[2]],
    ids=["zero", "one", "eight", "twice"],
)
def test_a_roster_takes_no_such_member(key):
    """Whatever the role: the sentence names the member and the remedy."""
    bad = Member("registry", vouched("mallory", key).to_text())
    roster = msgspec.structs.replace(parcels.ROSTER, members=(*parcels.ROSTER.members, bad))

    with pytest.raises(InputError, match="mallory") as caught:
        roster.check()
    assert "small order" in str(caught.value)


@pytest.mark.parametrize("key", MONTGOMERY, ids=lambda key: key.hex()[:8])
def test_an_analysts_one_time_key_keeps_a_secret(monkeypatch, key):
    """The query is not admitted, whoever's key it is, and nothing is computed."""
    stage = Stage(monkeypatch).ask()
    query = msgspec.structs.replace(stage.analyst.query, id=b"another id of 16", onetime=key)
    stage.plain.clear()
    beta = Registry(
        stage.network.people["beta"],
        stage.network.roster,
        stage.network.houses["beta"],
        stage.network.journals["beta"],
        random=seeded(3),
    )
    sent = beta.receive(messages.sign(query, stage.network.people["analyst"]), START)

    assert beta.state == ENDED and isinstance(beta.problem, MessageError) and not stage.plain
    assert (
        [type(one.message) for one in sent] == [Admission]
        and not sent[0].message.accept
        and sent[0].message.note is not None
    )


@pytest.mark.parametrize("key", MONTGOMERY[:3], ids=lambda key: key.hex()[:8])
def test_a_registrys_one_time_key_keeps_a_secret(monkeypatch, key):
    """gamma shows a key of small order: nobody seals anything to it, and gamma is named."""

    def wire(frm, to, parcel):
        if frm == "gamma" and isinstance(parcel.message, Admission):
            return [stage.sign(msgspec.structs.replace(parcel.message, onetime=key))]
        return None

    stage = Stage(monkeypatch, wire)
    problem = stage.ask().refused(FedstatsError)

    assert "gamma" in str(problem) and not stage.keys and len(NAMES) == 3
    assert not any(
        isinstance(parcel.message, Query) and to == "analyst" for _, to, parcel in stage.seen
    )
