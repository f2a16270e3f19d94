"""One message of every kind, and the people who sign them, for tests of the wire."""

from fedstats import Rules
from fedstats.client.memory import seeded
from fedstats.crypto.identity import Identity
from fedstats.errors import Problem
from fedstats.query.analysis import Question
from fedstats.wire.messages import (
    Abort,
    Admission,
    Contribution,
    Keys,
    Poll,
    Query,
    Release,
    Total,
    Verdict,
    digest_of,
)
from fedstats.wire.roster import Consortium, member_of

random = seeded(11)
PEOPLE = {name: Identity.generate(name, random) for name in ("lyon", "turin", "aarhus", "ann", "hub")}
ROLES = {"lyon": "registry", "turin": "registry", "aarhus": "registry", "ann": "analyst", "hub": "coordinator"}
REGISTRIES = ("lyon", "turin", "aarhus")
ROSTER = Consortium(name="three registries", epoch=1, dictionary="dictionary.json", dictionary_sha256="0" * 64,
                    members=tuple(member_of(PEOPLE[name], role) for name, role in ROLES.items()))
H = b"h" * 32
PAYLOAD = bytes(range(256)) * 4
NOW = 1_767_225_600.0


def query(**fields):
    return Query(**{"id": b"0123456789abcdef", "analyst": "ann",
                    "questions": (Question("summary/1", {"names": ["age"], "confidence": 0.95}),),
                    "where": {"all": [["age", ">=", 18], {"not": ["sex", "==", "F"]}]}, "purpose": "a study", "registries": REGISTRIES,
                    "roster": ROSTER.digest, "created": NOW, "expires": NOW + 600, "onetime": H} | fields)


def every_message():
    """One message of each kind; contributions and totals belong with PAYLOAD."""
    return [
        query(),
        Admission(T=H, registry="lyon", accept=False, problem=Problem("refused", "lyon", "no"), nonce=b"n" * 16, onetime=H,
                  data_cut="2026-01", minima=Rules(), software="0.1.0"),
        Keys(T=H, S=H, sender="lyon", recipient="turin", sealed=b"box"),
        Contribution(T=H, S=H, registry="lyon", round=1, H=H, asks=H, chunks=(1, 2), digest=digest_of(PAYLOAD)),
        Total(T=H, S=H, coordinator="hub", round=1, digest=digest_of(PAYLOAD), contributions=(b"one", b"two")),
        Verdict(T=H, S=H, registry="lyon", H=H, decisions=H, release=True, problem=None),
        Release(T=H, S=H, roster=H, registry="lyon", H=H, sealed=b"box"),
        Abort(T=H, sender="hub", problem=Problem("unreachable", "hub", "no answer from lyon")),
        Poll(member="lyon", coordinator="hub", path="/mail?after=3", nonce=b"n" * 16, time=NOW),
    ]


def kind(message):
    return type(message).__name__.lower()
