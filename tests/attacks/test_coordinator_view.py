"""What the coordinator can make of the bytes that pass through its hands: not one number.

The coordinator here knows everything about a query but one number: it runs the same query in a
world of its own in which one patient less takes part, with the same keys and the same randomness,
and compares. Every attack has its control: the derivation without a key, with which it finds the
number.

Exempt, and nothing else: how many messages there are (the number of rounds), `chunks` (padded sizes
of a round), the size class of a sealed result, and whether the query ended in a release, a refusal
or an abort."""

import dataclasses
import hashlib
import itertools

import msgspec
import numpy as np
import pytest

from fedstats import Dictionary, Rules
from fedstats.client.memory import ANALYST, COORDINATOR, MemoryNetwork
from fedstats.crypto import envelopes, he
from fedstats.data.filters import normal_filter
from fedstats.data.rows import load
from fedstats.errors import Refused, Tampered
from fedstats.query import rounds
from fedstats.query.analysis import question_of
from fedstats.query.population import Codebook, Household
from fedstats.wire import codes, messages, transcript
from fedstats.wire.conversation import Registry
from fedstats.wire.messages import Abort, Admission, Contribution, Note, Query, Release, Verdict
from fedstats.wire.notes import _context, read_note
from fedstats.wire.transcript import decisions_of, query_hash

from .. import every

SIZES = {
    "alpha": 400,
    "beta": 300,
    "gamma": 300,
}  # 1 000 patients, or 999: the lengths of the results differ
OPEN, CLOSED = (
    Rules(min_cell=3, min_cohort=10, min_registries=3, show_zeros=True),
    Rules(min_cell=3, min_cohort=5000, min_registries=3),
)
APART = Rules(min_cell=500, min_cohort=600, min_registries=3, show_zeros=True)
SEALED = {"sealed", "note.box", "note.keys"}
KEYED = {"Contribution.H", "Contribution.asks", "Verdict.H", "Verdict.decisions", "Release.H"}
OF_CIPHERTEXTS = {"Contribution.digest", "Contribution.payload"}
HE_KEYS = bytes(he.generate())


@dataclasses.dataclass
class Seen:
    """What passed through the coordinator's hands, and what the registries thought meanwhile."""

    parcels: list
    secrets: set
    analyst: object
    network: MemoryNetwork

    def fields(self):
        """(place, kind, sender, field) -> value, of every field of every message."""
        found = {}
        for k, parcel in enumerate(self.parcels):
            kind = type(parcel.message).__name__
            for name, value in flat(parcel.message):
                found[k, kind, parcel.sender, name] = value
            found[k, kind, parcel.sender, "payload"] = parcel.payload
        return found


def flat(value, path=""):
    for name in value.__struct_fields__:
        one = getattr(value, name)
        if isinstance(one, Note):
            yield from flat(one, f"{path}{name}.")
        else:
            yield f"{path}{name}", one


def tables(n_less):
    rng = np.random.default_rng(5)
    dictionary = Dictionary.from_dict(every.DICTIONARY)
    made = {name: every.random_rows(n, rng) for name, n in SIZES.items()}
    made["gamma"] = {name: column[n_less:] for name, column in made["gamma"].items()}
    return dictionary, {name: Household(load(table, dictionary)[0]) for name, table in made.items()}


QUESTIONS = {
    "two": [question_of("summary", ["age"]), question_of("crosstab", "sex", "female")],
    "apart": [question_of("summary", ["age"]), question_of("summary", ["age", "edss"])],
}


def watched(monkeypatch, n_less, *, rules=OPEN, questions="two", K=None, house=None, broken=False):
    """One query through the coordinator's hands. K : another secret in place of the one that was
    drawn."""
    secrets, parcels = set(), []

    def wire(sender, receiver, raw):
        if receiver == COORDINATOR:
            parcels.append(messages.read(raw, network.roster.public))
        for registry in getattr(network, "registries", {}).values():
            secrets.update(
                one
                for one in (getattr(registry, "H", None), getattr(registry, "decisions_key", None))
                if one
            )
            if registry.results:
                secrets.add(decisions_of(registry.results))
            if registry.keys is not None and "asks" in registry.__dict__:
                secrets.update({registry.keys.K, rounds.digest(registry.asks)})
        return (raw,)

    with monkeypatch.context() as watch:
        watch.setattr(he, "generate", lambda: HE_KEYS)
        if K is not None:
            start = Registry._start
            watch.setattr(
                Registry, "_start", lambda self, secret: start(self, K + secret[len(K) :])
            )
        dictionary, data = tables(n_less)
        network = MemoryNetwork(Codebook(dictionary), data, rules, wire=wire, seed=4)
        if house:
            network.houses["beta"].approve = house
        if broken:
            values, count = rounds.values, itertools.count()
            watch.setattr(
                rounds, "values", lambda *args: 1 / 0 if next(count) == 4 else values(*args)
            )
        try:
            analyst = network.run(QUESTIONS[questions], normal_filter(None))
        except ZeroDivisionError:
            analyst = None
    return Seen(parcels, secrets, analyst, network)


def telling(query, results):
    """A house that says numbers in its refusal, as a careless plug-in might."""
    raise Refused(f"{results[0].n} patients are too few for this study", hint="x" * results[0].n)


CASES = {
    "release": {},
    "refusal by rules": {"rules": CLOSED},
    "a failed question": {"rules": APART, "questions": "apart"},
    "refusal by a house": {"house": telling},
    "a fault": {"broken": True},
}


@pytest.fixture(scope="module", params=CASES)
def worlds(request):
    """(the case, the world as it is, the same with a patient less, the same under another secret
    K)"""
    with pytest.MonkeyPatch.context() as watch:
        options = CASES[request.param]
        return request.param, *(
            watched(watch, less, K=K, **options)
            for less, K in ((0, None), (1, None), (0, b"K" * 32))
        )


def differing(a, b):
    a, b = a.fields(), b.fields()
    return {place for place in a if a[place] != b.get(place)}


def test_the_cases_end_as_they_should(worlds):
    """Otherwise the comparison would say nothing."""
    case, seen, *_ = worlds
    kinds = [type(parcel.message) for parcel in seen.parcels]
    ends = {
        "release": kinds.count(Release) == 3,
        "refusal by rules": kinds.count(Abort) == 1 or kinds.count(Abort) == 3,
        "a failed question": kinds.count(Release) == 3
        and "failed" in [one.kind for one in seen.analyst.results or ()],
        "refusal by a house": not all(
            p.message.release for p in seen.parcels if isinstance(p.message, Verdict)
        ),
        "a fault": kinds.count(Abort) >= 1 or seen.analyst is None,
    }

    assert ends[case], kinds


def test_a_patient_less_changes_no_length_and_no_open_field(worlds):
    """Same messages in the same order, every field as long; what differs is a code, a ciphertext
    or a sealed box."""
    _, there, less, _ = worlds
    here, other = there.fields(), less.fields()

    assert list(here) == list(other)
    for (_, kind, _, name), a, b in zip(here, here.values(), other.values()):
        size = [len(one) if isinstance(one, (bytes, str, tuple)) else one for one in (a, b)]
        assert size[0] == size[1], (kind, name, size)
    for _, kind, _, name in differing(there, less):
        assert f"{kind}.{name}" in KEYED | OF_CIPHERTEXTS or name in SEALED, (kind, name)


def test_whatever_depends_on_a_total_depends_on_K(worlds):
    """A field that a patient less changes is another one under another K: without K nobody
    computes it for a guessed number."""
    _, there, less, under_another = worlds
    with_numbers = {place for place in differing(there, less) if place[3] not in SEALED}

    assert with_numbers <= differing(there, under_another)


def test_nothing_that_registries_keep_travels(worlds):
    """Transcript, secret, asks, decisions and their key, as the registries hold them, are in no
    byte that the coordinator sees."""
    _, seen, *_ = worlds
    sent = b"".join(bytes(parcel) for parcel in seen.parcels)

    assert len(seen.secrets) > 3 and not [one for one in seen.secrets if one in sent]


def test_reasons_are_one_box_of_one_size(worlds):
    """No word of a registry's reason is in the clear; the analyst and the registries read it,
    the coordinator does not."""
    case, seen, *_ = worlds
    told = [parcel for parcel in seen.parcels if getattr(parcel.message, "note", None) is not None]
    query = next(parcel for parcel in seen.parcels if isinstance(parcel.message, Query))
    assert bool(told) == (case not in ("release", "a failed question", "a fault"))
    hub = seen.network.people[COORDINATOR]
    for k, parcel in enumerate(told):
        note, sender = parcel.message.note, seen.network.roster.public(parcel.sender)
        assert len(note.box) == messages.NOTE_BYTES - envelopes.ROOM + 16 and len(note.keys) == 3
        assert not (parcel.message.problem and parcel.message.problem.code == "refused")
        assert not any(
            word in bytes(parcel) for word in (b"too few", b"fewer", b"cohort", b"min_", b"refused")
        )
        problem = read_note(
            note,
            parcel.sender,
            seen.network.people[ANALYST],
            [seen.analyst.onetime],
            query.message,
            query_hash(query),
            seen.network.roster,
        )
        assert problem.code == ("refused" if not k else problem.code)
        for key in note.keys:
            with pytest.raises(Tampered):
                envelopes.read(
                    hub,
                    [],
                    sender,
                    note.onetime,
                    _context(query_hash(query), parcel.sender),
                    note.box,
                    key,
                )
    assert not told or isinstance(seen.analyst.problem, Refused)


def test_what_a_registry_says_at_admission_is_sealed_too(monkeypatch):
    """A house's no, before anything was computed: box, size and readers are the same."""
    seen = []
    dictionary, data = tables(0)
    network = MemoryNetwork(
        Codebook(dictionary),
        data,
        OPEN,
        wire=lambda s, r, raw: [seen.append((r, raw)), (raw,)][1],
        seed=4,
    )

    def admit(query):
        raise Refused("not while Dr Roux is away", hint="ask in September")

    network.houses["gamma"].admit = admit
    analyst = network.run(QUESTIONS["two"], normal_filter(None))
    sent = [
        messages.read(raw, network.roster.public)
        for receiver, raw in seen
        if receiver == COORDINATOR
    ]
    no = next(one for one in sent if isinstance(one.message, Admission) and not one.message.accept)

    assert (
        str(analyst.problem) == "gamma: not while Dr Roux is away"
        and analyst.problem.hint == "ask in September"
    )
    assert no.message.problem is None and not any(b"Roux" in bytes(one) for one in sent)
    assert all("Roux" in str(registry.problem) for registry in network.registries.values())


# -- the attack itself, and its control -----------------------------------------------------------


def guesses(seen, known_but_n):
    """Numbers n for which some code that passed by is what anybody can compute: the rest of the
    result, every n in its place,
    hashed in all the ways that the protocol has without a key."""
    query = next(parcel.message for parcel in seen.parcels if isinstance(parcel.message, Query))
    codes_seen = {
        value
        for (_, _, _, name), value in seen.fields().items()
        if isinstance(value, bytes) and len(value) == 32
    }
    known = [b"", query_hash(seen.parcels[0]), *sorted(codes_seen)]
    results = [
        msgspec.structs.replace(one, query=query.id.hex(), released="sealed") for one in known_but_n
    ]
    noted = []
    with pytest.MonkeyPatch.context() as watch:
        watch.setattr(transcript, "hashed", lambda *parts: noted.append(parts[-1]) or b"")
        decisions_of(results)
    text, n = noted[0].decode(), str(known_but_n[0].n)
    found = set()
    for guess in range(940, 1001):
        body = text.replace(n, str(guess)).encode()
        first = [
            messages.hashed(b"decisions", body),
            messages.hashed(body),
            hashlib.sha256(body).digest(),
        ]
        for one in first:
            second = {
                messages.hashed(label, value, one)
                for value in known
                for label in (b"fedstats H final/1", b"decisions")
            }
            second |= {
                codes.decisions_code(value, value, one) for value in known if len(value) == 32
            }
            second |= {codes.decisions_code(bytes(32), value, one) for value in known}
            if ({one} | second) & codes_seen:
                found.add(guess)
    return found


def plain_decisions(watch):
    """As it was: a hash of what was decided."""
    watch.setattr(codes, "decisions_code", lambda key, S, decisions: decisions)


def keyed_by_what_everybody_knows(watch):
    """A relative: a key that is public."""
    watch.setattr(codes, "decisions_key", lambda K, S: S)


@pytest.mark.parametrize(
    "control", [plain_decisions, keyed_by_what_everybody_knows], ids=lambda one: one.__name__
)
def test_the_coordinator_does_not_find_a_number_by_trying_all(monkeypatch, control):
    """The attack on what travels finds nothing; on codes without a secret it finds the number at
    once."""
    monkeypatch.setitem(QUESTIONS, "one", [question_of("summary", ["age"])])
    sealed = watched(monkeypatch, 0, questions="one")
    known = sealed.analyst.results  # all of it but n, which `guesses` tries anew
    assert guesses(sealed, known) == set()

    original = codes.decisions_code
    with monkeypatch.context() as watch:
        control(watch)
        seen = watched(watch, 0, questions="one")
    assert codes.decisions_code is original
    n = seen.analyst.results[0].n
    assert guesses(seen, known) == {n}


def test_the_comparison_would_notice_codes_without_a_key(monkeypatch):
    """Control of the comparison: a decisions code without K differs with the number and not with
    K."""
    with monkeypatch.context() as watch:
        plain_decisions(watch)
        there, less, under_another = (
            watched(watch, n, K=K) for n, K in ((0, None), (1, None), (0, b"K" * 32))
        )

    left = {place[3] for place in differing(there, less) - differing(there, under_another)} - SEALED
    assert left == {"decisions"}


def test_the_search_would_notice_a_transcript_in_the_clear(monkeypatch):
    """Control of the search: H itself in a contribution is found among what registries keep."""
    with monkeypatch.context() as watch:
        watch.setattr(codes, "transcript_code", lambda K, S, round, H: H)
        seen = watched(watch, 0)
    sent = b"".join(
        bytes(parcel) for parcel in seen.parcels if isinstance(parcel.message, Contribution)
    )

    assert [one for one in seen.secrets if one in sent]


def test_results_of_999_and_1000_patients_are_as_long(monkeypatch):
    """Control of the sizes: without padding the lengths of the boxes would tell."""
    with monkeypatch.context() as watch:
        watch.setattr(
            envelopes,
            "padded",
            lambda content, smallest, largest: envelopes.LENGTH.pack(len(content)) + content,
        )
        bare = [watched(watch, n) for n in (0, 1)]
    sizes = [
        {len(p.message.sealed) for p in seen.parcels if isinstance(p.message, Release)}
        for seen in bare
    ]

    assert sizes[0] != sizes[1]
