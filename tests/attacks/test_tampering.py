"""What a coordinator, the network and single registries can do to a query: end it. Never change its answer, never open a registry.

Every test ends with `Stage.refused`: the analyst holds no result but a plain error, all keys are burnt, no registry has released
unless all verdicts were in, and no vector that any registry opened was the numbers of one honest registry.
"""

import functools
import itertools

import msgspec
import numpy as np
import pytest

from fedstats import Dictionary
from fedstats.client.memory import ANALYST, COORDINATOR, START
from fedstats.crypto import he, identity, seal, tag
from fedstats.crypto.fixedpoint import PRIMES
from fedstats.crypto.identity import Identity
from fedstats.disclosure.engine import size
from fedstats.errors import Aborted, FedstatsError, MessageError, OutOfOrder, Problem, Refused, Tampered, Unreachable
from fedstats.query import rounds
from fedstats.query.population import Household
from fedstats.wire import messages
from fedstats.wire.conversation import ENDED, RELEASED, Registry
from fedstats.wire.messages import Abort, Admission, Contribution, Keys, Query, Release, Total, Verdict
from fedstats.wire.transcript import query_hash

from .. import every
from .forging import added, encryption, sum_of_totals
from .stage import NAMES, RULES, Stage, chunks_of, same, totals

ANY = (Tampered, MessageError, Refused, Unreachable)


def staged(monkeypatch, wire):
    """A stage whose wire needs to know the stage."""
    stage = Stage(monkeypatch)
    stage.change = wire(stage)
    return stage


def on(kind, sender=None, receiver=None):
    """A wire that changes parcels of one kind: change(stage, parcel) -> the bytes that arrive instead, or None."""

    def decorate(change):
        def wire(stage):
            def deliver(frm, to, parcel):
                if isinstance(parcel.message, kind) and sender in (None, frm) and receiver in (None, to):
                    return change(stage, parcel)
                return None

            return deliver

        return wire

    return decorate


def contributions(stage, round):
    """The sealed payloads of a round, by registry."""
    return {p.message.registry: p for s, r,
            p in stage.seen if r == COORDINATOR and isinstance(p.message, Contribution) and p.message.round == round}


def test_an_honest_query_is_answered(monkeypatch):
    """The stage itself works: without an attack there is a result, and every total opened is that of all registries."""
    stage = Stage(monkeypatch).ask()

    assert [result.kind for result in stage.answered()] == ["summary", "crosstab"]
    assert len(stage.opened) == 2 * len(NAMES)
    for _, plan, integers in stage.opened:
        names = {segment.name for segment in plan.segments}
        assert same(integers, seal.plain_total([flat for _, flat in stage.plain if set(flat) == names], plan))
    assert all(registry.state == RELEASED for registry in stage.network.registries.values())


def test_the_stage_would_notice_a_registry_opened_alone(monkeypatch):
    """The control: a registry's own numbers, noted as opened, fail the check."""
    stage = Stage(monkeypatch).ask()
    _, plan, _ = stage.opened[0]
    stage.opened.append(("beta", plan, next(iter(stage.alone(plan)))))

    with pytest.raises(AssertionError):
        stage.check()


# -- the coordinator changes a total -----------------------------------------------------------------------------------------


def doubled(stage, parcel):
    return {}, sum_of_totals(parcel.payload, parcel.payload, chunks_of(parcel))


def zeros(stage, parcel):
    return {}, seal.Adding(chunks_of(parcel)).total()


def own_encryption(stage, parcel):
    """Zeros under a key of the coordinator's own, and the tag of nothing."""
    return {}, encryption(he.load(he.generate()), [np.zeros(count * 4096, dtype=np.uint64) for count in chunks_of(parcel)])


def known_delta(stage, parcel):
    """One more patient in the first entry, added under the true key, as if a registry had lent it."""
    chunks, keys = chunks_of(parcel), stage.network.registries["gamma"].keys.he         # gamma reads its mail last
    vectors = [np.zeros(count * 4096, dtype=np.uint64) for count in chunks]
    for vector in vectors:
        vector[0] = 1
    return {}, sum_of_totals(parcel.payload, encryption(keys, vectors), chunks)


def one_left_out(stage, parcel):
    sent = contributions(stage, parcel.message.round)
    return {}, added([sent[name].payload for name in NAMES[:-1]], chunks_of(parcel))


def one_alone(stage, parcel):
    return {}, contributions(stage, parcel.message.round)["beta"].payload


def one_twice(stage, parcel):
    sent = contributions(stage, parcel.message.round)
    return {}, added([sent[name].payload for name in (*NAMES, "beta")], chunks_of(parcel))


def one_replaced_by_another(stage, parcel):
    sent = contributions(stage, parcel.message.round)
    return {}, added([sent[name].payload for name in ("alpha", "beta", "beta")], chunks_of(parcel))


PAYLOADS = [doubled, zeros, own_encryption, known_delta, one_left_out, one_alone, one_twice, one_replaced_by_another]


@pytest.mark.parametrize("round", [0, 1])
@pytest.mark.parametrize("change", PAYLOADS, ids=lambda change: change.__name__)
def test_a_changed_total_does_not_open(monkeypatch, change, round):
    """Doubled, zeroed, re-encrypted, shifted, with a registry left out, alone or twice: the total's tag fails."""
    stage = staged(monkeypatch, totals(change, round=round)).ask()

    stage.refused(Tampered)
    assert len(stage.opened) == round * len(NAMES)


def previous_total(stage, parcel):
    before = next(p for s, _, p in stage.seen if s == COORDINATOR and isinstance(p.message, Total) and p.message.round == 0)
    return {"contributions": before.message.contributions}, before.payload


def round_swapped(stage, parcel):
    return {"round": 1 - parcel.message.round}, parcel.payload


def query_swapped(stage, parcel):
    return {"T": b"T" * 32}, parcel.payload


def session_swapped(stage, parcel):
    return {"S": b"S" * 32}, parcel.payload


def a_contribution_less(stage, parcel):
    return {"contributions": parcel.message.contributions[:-1]}, parcel.payload


def contributions_exchanged(stage, parcel):
    return {"contributions": parcel.message.contributions[::-1]}, parcel.payload


def a_contribution_twice(stage, parcel):
    a, b, _ = parcel.message.contributions
    return {"contributions": (a, b, b)}, parcel.payload


def contributions_of_the_round_before(stage, parcel):
    before = contributions(stage, 0)
    return {"contributions": tuple(before[name].signed for name in NAMES)}, parcel.payload


FIELDS = [previous_total, round_swapped, query_swapped, session_swapped, a_contribution_less, contributions_exchanged,
          a_contribution_twice, contributions_of_the_round_before]


@pytest.mark.parametrize("change", FIELDS, ids=lambda change: change.__name__)
def test_a_total_of_another_round_query_or_list_is_refused(monkeypatch, change):
    """Replays and swaps in the second round, properly signed by the coordinator, end the query."""
    stage = staged(monkeypatch, totals(change, round=1)).ask()

    stage.refused((Tampered, OutOfOrder))
    assert len(stage.opened) == len(NAMES)


def test_a_total_of_another_query_is_refused(monkeypatch):
    """The total of an earlier query with the same question does not open in a later one."""
    stage = Stage(monkeypatch).ask()
    stage.answered()
    old = {p.message.round: p for s, _, p in stage.seen if s == COORDINATOR and isinstance(p.message, Total)}
    stage.opened.clear()
    stage.change = totals(lambda _, parcel: ({}, old[parcel.message.round].payload))(stage)

    stage.ask().refused(Tampered)
    assert not stage.opened


def test_a_total_by_somebody_else_than_the_coordinator_is_refused(monkeypatch):
    """A member that is not the coordinator cannot hand out totals, not even true ones."""
    @on(Total)
    def wire(stage, parcel):
        fields = {name: getattr(parcel.message, name) for name in parcel.message.__struct_fields__} | {"coordinator": ANALYST}
        return [stage.sign(Total(**fields), parcel.payload)]

    staged(monkeypatch, wire).ask().refused(Tampered)


@pytest.mark.parametrize("change", [doubled, one_left_out], ids=lambda change: change.__name__)
def test_one_registry_shown_another_total_ends_the_query(monkeypatch, change):
    """A changed total for one registry only, true ones for the others: nobody releases."""
    stage = staged(monkeypatch, totals(change, receivers=("beta",), round=0)).ask()

    stage.refused(Tampered)


# -- one registry with the coordinator ---------------------------------------------------------------------------------------


class Accomplice:
    """alpha hands its secret K and the key of the outer layer to the coordinator: together they can make totals that open."""

    def __init__(self, stage):
        self.stage, self.made = stage, {}

    def vectors(self, parcel):
        """What the accomplices read in a total: residues per prime, masks and all."""
        registry, chunks = self.stage.network.registries["alpha"], self.chunks
        return [he.decrypt(registry.keys.he, j, frame, chunks[j] * 4096)
                for j, frame in enumerate(seal._frames(seal.TOTAL, parcel, chunks))]

    def seal(self, vectors):
        """Residues of their choice with the tag that belongs to them, encrypted."""
        registry = self.stage.network.registries["alpha"]
        bound = seal._round(registry.plan, registry.keys, registry._context())
        tagged = []
        for j, vector in enumerate(vectors):
            vector = vector.copy()
            vector[registry.plan.lengths[j] - 1:] = 0
            r = tag.coefficients(registry.keys.K, bound, j, len(vector) - 1)
            offsets = [tag.offset(registry.keys.K, bound, j, place) for place in range(len(NAMES))]
            plain = tag.tag(vector[:-1], r, 0, PRIMES[j])
            vector[-1] = (int(plain) + sum(int(one) for one in offsets)) % PRIMES[j]
            tagged.append(vector)
        return encryption(registry.keys.he, tagged)

    def total_for(self, parcel, make):
        """The forged total of a round, made once, before anybody moves on."""
        if parcel.message.round not in self.made:
            self.chunks = chunks_of(parcel)
            self.made[parcel.message.round] = make(self, parcel)
        return {}, self.made[parcel.message.round]


def accomplices(monkeypatch, make, receivers, round):
    """alpha gets the true total last or first, the receivers the forged one."""
    stage = Stage(monkeypatch)
    accomplice = Accomplice(stage)
    forge = totals(lambda _, parcel: accomplice.total_for(parcel, make), receivers=receivers, round=round)(stage)

    def wire(sender, receiver, parcel):
        if sender == COORDINATOR and isinstance(parcel.message, Total) and parcel.message.round == round:
            accomplice.total_for(parcel, make)          # while alpha still stands in this round
        return forge(sender, receiver, parcel)

    stage.change = wire
    return stage, accomplice


def without_gamma(accomplice, parcel):
    sent = contributions(accomplice.stage, parcel.message.round)
    return accomplice.seal(accomplice.vectors(added([sent[name].payload for name in ("alpha", "beta")], accomplice.chunks)))


def only_beta(accomplice, parcel):
    sent = contributions(accomplice.stage, parcel.message.round)
    return accomplice.seal(accomplice.vectors(added([sent["beta"].payload], accomplice.chunks)))


PRESENT = "0/size/2/present"       # patients with a known value, per column: no ask and no scale of the next round depends on it


def one_patient_less(accomplice, parcel):
    """The true total, but for one patient fewer with a known age: plausible, and nothing but the transcript tells."""
    vectors, plan = accomplice.vectors(parcel.payload), accomplice.stage.network.registries["alpha"].plan
    before = [segment.name for segment in plan.segments].index(PRESENT)
    at = sum(segment.slots for segment in plan.segments[:before])
    vectors[0][at] -= 1
    return accomplice.seal(vectors)


@pytest.mark.parametrize("round", [0, 1])
@pytest.mark.parametrize("make", [without_gamma, only_beta], ids=lambda make: make.__name__)
def test_a_registry_and_the_coordinator_cannot_isolate_another(monkeypatch, make, round):
    """With K and the outer key they can make any total open, but without an honest registry's numbers the masks of the other
    honest one stay in it: what opens is noise, and implausible."""
    stage, _ = accomplices(monkeypatch, make, ("beta", "gamma"), round)
    stage.ask().refused(Tampered, malicious=("alpha",))


def test_registries_shown_different_totals_derive_different_rounds(monkeypatch):
    """beta is shown one patient fewer, sealed perfectly: in the next round its transcript differs, and nothing is released."""
    stage, _ = accomplices(monkeypatch, one_patient_less, ("beta",), 0)
    stage.ask().refused(Tampered, malicious=("alpha",))

    shown = {who: int(integers[PRESENT][0]) for who, _, integers in stage.opened[:3]}
    assert shown["beta"] == shown["gamma"] - 1
    assert len(stage.opened) == 3


def test_the_masks_themselves_follow_the_transcript(monkeypatch):
    """Even if nobody compared transcripts: after different totals the masks no longer cancel, the tag fails, and what the
    accomplices read with all keys is neither an honest registry's numbers nor the total."""
    monkeypatch.setattr(Registry, "_check_contributions", lambda self, total: None)
    stage, accomplice = accomplices(monkeypatch, one_patient_less, ("beta",), 0)
    read, inner = [], stage.change

    def wire(sender, receiver, parcel):
        if sender == COORDINATOR and isinstance(parcel.message, Total) and parcel.message.round == 1 and not read:
            accomplice.chunks, plan = chunks_of(parcel), stage.network.registries["alpha"].plan
            sent = [added([one.payload], accomplice.chunks) for one in contributions(stage, 1).values()]
            for payload in (*sent, parcel.payload):
                read.append((plan, accomplice.vectors(payload)))
        return inner(sender, receiver, parcel)

    stage.change = wire
    stage.ask().refused(Tampered, malicious=("alpha",))

    assert len(read) == 4 and len(stage.opened) == 3
    for plan, vectors in read:
        computed = [(who, flat) for who, flat in stage.plain if set(flat) == {segment.name for segment in plan.segments}]
        for count in range(1, len(computed) + 1):
            for some in itertools.combinations(computed, count):
                assert all(noise_beside(vectors, [flat for _, flat in some], plan))


def noise_beside(vectors, computed, plan):
    """Per prime: whether not one residue is that of the sum of what was computed."""
    for j, vector in enumerate(vectors):
        total = functools.reduce(lambda a, b: seal.fixedpoint.add(a, b, PRIMES[j]), [seal._encode(flat, plan)[j] for flat in computed])
        yield not (vector == total).any()


def test_single_contributions_are_noise_to_a_registry_and_the_coordinator(monkeypatch):
    """Whoever holds the outer key and K reads masked numbers in a contribution, and in the sum of any two: not one residue, of numbers
    or of the zeros behind them, is what was computed (by chance once in 10**12)."""
    stage, read = Stage(monkeypatch), []
    accomplice = Accomplice(stage)

    def wire(sender, receiver, parcel):
        if sender == COORDINATOR and isinstance(parcel.message, Total) and receiver == "alpha":
            accomplice.chunks, plan = chunks_of(parcel), stage.network.registries["alpha"].plan
            sent = contributions(stage, parcel.message.round)
            for names in (("beta",), ("gamma",), ("alpha", "beta"), ("alpha", "gamma"), ("beta", "gamma")):
                vectors = accomplice.vectors(added([sent[name].payload for name in names], accomplice.chunks))
                read.append((names, plan, vectors))
        return None

    stage.change = wire
    stage.ask().answered()

    assert len(read) == 10
    for names, plan, vectors in read:
        segments = {segment.name for segment in plan.segments}
        computed = [flat for who, flat in stage.plain if set(flat) == segments and who in names]
        assert all(noise_beside(vectors, computed, plan))


# -- dropped, doubled, late --------------------------------------------------------------------------------------------------


KINDS = {"query": Query, "admission": Admission, "keys": Keys, "contribution": Contribution, "total": Total, "verdict": Verdict,
         "release": Release}


def arriving(kind):
    """Where parcels of a kind end: contributions at the coordinator, all others at somebody else."""
    return {"receiver": COORDINATOR} if kind == "contribution" else {"sender": COORDINATOR}


@pytest.mark.parametrize("kind", KINDS)
def test_a_parcel_that_is_lost_ends_the_query_in_time(monkeypatch, kind):
    """One parcel of each kind, lost between coordinator and receiver: the deadline ends the query, nothing is released."""
    lost = []

    @on(KINDS[kind], **arriving(kind))
    def wire(stage, parcel):
        if lost and lost[0] != bytes(parcel):
            return None
        lost.append(bytes(parcel))
        return []

    stage = staged(monkeypatch, wire).ask()

    stage.refused((Unreachable, OutOfOrder))
    assert lost


@pytest.mark.parametrize("kind", KINDS)
def test_a_parcel_lost_on_its_way_to_the_coordinator_ends_the_query_in_time(monkeypatch, kind):
    """What a registry or the analyst sends does not arrive: a plain error names who was missing."""
    @on(KINDS[kind], sender=ANALYST if kind == "query" else "beta")
    def wire(stage, parcel):
        return []

    if kind in ("total", "keys"):
        pytest.skip("sent by the coordinator or by the first registry only")
    problem = staged(monkeypatch, wire).ask().refused(Unreachable)

    assert kind == "query" or "beta" in str(problem)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("release", "contribution")])
def test_a_parcel_that_arrives_twice_at_a_registry_ends_the_query(monkeypatch, kind):
    """A coordinator that repeats a parcel is not trusted any further."""
    @on(KINDS[kind], sender=COORDINATOR, receiver="beta")
    def wire(stage, parcel):
        return [bytes(parcel)] * 2

    staged(monkeypatch, wire).ask().refused(ANY)


def test_a_release_that_arrives_twice_counts_once(monkeypatch):
    """Repeating one registry's result cannot stand for another's."""
    @on(Release, sender=COORDINATOR)
    def wire(stage, parcel):
        return [bytes(parcel)] * 2 if parcel.message.registry == "beta" else [] if parcel.message.registry == "gamma" else None

    staged(monkeypatch, wire).ask().refused(OutOfOrder)


def test_a_contribution_retried_with_the_same_bytes_is_added_once(monkeypatch):
    """A node that resends its stored bytes disturbs nothing."""
    @on(Contribution)
    def wire(stage, parcel):
        return [bytes(parcel)] * 2

    staged(monkeypatch, wire).ask().answered()


@pytest.mark.parametrize("round", [0, 1])
def test_a_registry_that_answers_a_round_twice_ends_the_query(monkeypatch, round):
    """Other numbers under the same round are refused by the coordinator, and the journal would not have let them out."""
    @on(Contribution, sender="beta")
    def wire(stage, parcel):
        if parcel.message.round != round:
            return None
        again = parcel.payload[:-1] + bytes([parcel.payload[-1] ^ 1])
        fields = {name: getattr(parcel.message, name) for name in parcel.message.__struct_fields__}
        return [bytes(parcel), stage.sign(Contribution(**fields | {"digest": messages.digest_of(again)}), again)]

    staged(monkeypatch, wire).ask().refused(OutOfOrder)


# -- bytes changed, signatures forged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0.0, 0.45, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_one_byte_changed_in_any_message_ends_the_query(monkeypatch, kind, place):
    """A bit flipped in the head, the message, the signature or the ciphertexts: found, whoever receives it."""
    done = []

    @on(KINDS[kind], **arriving(kind))
    def wire(stage, parcel):
        if done:
            return None
        raw = bytearray(bytes(parcel))
        at = min(int(place * len(raw)), len(raw) - 1)
        raw[at] ^= 0x10
        done.append(at)
        return [bytes(raw)]

    stage = staged(monkeypatch, wire).ask()

    stage.refused(ANY)
    assert done


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_signed_by_a_key_outside_the_roster_ends_the_query(monkeypatch, kind):
    """The right name with a wrong key: the signature does not hold."""
    @on(KINDS[kind], **arriving(kind))
    def wire(stage, parcel):
        stranger = Identity.generate(parcel.sender)
        return [bytes(messages.sign(parcel.message, stranger, parcel.payload))]

    staged(monkeypatch, wire).ask().refused(ANY)


# -- admissions, aborts, verdicts --------------------------------------------------------------------------------------------


def test_different_admissions_for_different_registries_end_the_query(monkeypatch):
    """beta signs two admissions and the coordinator shows one to each side: the keys are sealed to one transcript only."""
    @on(Admission, sender=COORDINATOR, receiver="gamma")
    def wire(stage, parcel):
        if parcel.message.registry != "beta":
            return None
        fields = {name: getattr(parcel.message, name) for name in parcel.message.__struct_fields__}
        return [stage.sign(Admission(**fields | {"nonce": b"another nonce 16"}))]

    stage = staged(monkeypatch, wire).ask()

    stage.refused(Tampered)
    assert not any(who == "gamma" for who, _, _ in stage.opened)


def test_keys_meant_for_another_registry_end_the_query(monkeypatch):
    """gamma's box does not open at beta."""
    boxes = {}

    @on(Keys, receiver=COORDINATOR)
    def wire(stage, parcel):
        boxes[parcel.message.recipient] = parcel.message
        if len(boxes) < 2:
            return []
        fields = {name: getattr(boxes["beta"], name) for name in parcel.message.__struct_fields__}
        return [stage.sign(Keys(**fields | {"recipient": "gamma"})), stage.sign(boxes["beta"])]

    stage = staged(monkeypatch, wire).ask()

    stage.refused(Tampered)
    assert not stage.opened


def test_different_keys_for_different_registries_end_the_query(monkeypatch):
    """A first registry that gives each other one a secret of its own: the transcripts part before any total."""
    stage = Stage(monkeypatch)

    @on(Keys, sender="alpha")
    def wire(stage, parcel):
        if parcel.message.recipient != "gamma":
            return None
        alpha = stage.network.registries["alpha"]
        secret = b"k" * 32 + bytes(he.generate())
        box = identity.seal_to(alpha.me, alpha.onetime, stage.network.roster.public("gamma"), alpha.admissions["gamma"][0].onetime,
                               messages.hashed(b"keys", alpha.S), secret, stage.network.random)
        return [stage.sign(msgspec.structs.replace(parcel.message, sealed=box))]

    stage.change = wire(stage)
    stage.ask().refused(Tampered, malicious=("alpha",))

    assert not stage.opened


def test_a_registry_that_refuses_the_query_is_named(monkeypatch):
    """A house's no at admission ends the query in its own words."""
    stage = Stage(monkeypatch)

    def admit(query):
        raise Refused("no studies in August", hint="ask in September")

    stage.network.houses["beta"].admit = admit
    problem = stage.ask().refused(Refused)

    assert str(problem) == "beta: no studies in August" and problem.hint == "ask in September"
    assert not stage.opened


def test_a_registry_that_keeps_the_result_in_is_named(monkeypatch):
    """A house's no after the last round: nothing is released by anybody."""
    stage = Stage(monkeypatch)

    def approve(query, results):
        raise Refused("the ethics committee wants to see this first")

    stage.network.houses["gamma"].approve = approve
    problem = stage.ask().refused(Refused)

    assert str(problem) == "gamma: the ethics committee wants to see this first"
    assert all(registry.state == ENDED for registry in stage.network.registries.values())


@pytest.mark.parametrize("kind", [Admission, Contribution, Verdict])
def test_a_registry_that_leaves_is_named(monkeypatch, kind):
    """An abort in any phase ends the query for all."""
    @on(kind, sender="beta")
    def wire(stage, parcel):
        problem = Problem("aborted", "beta", "the node is shut down")
        return [stage.sign(Abort(T=parcel.message.T, sender="beta", problem=problem))]

    problem = staged(monkeypatch, wire).ask().refused(Aborted)

    assert problem.who == "beta"


def test_a_fault_at_one_registry_tells_nothing_about_its_rows(monkeypatch):
    """An unexpected error inside one registry crosses the wire without its text."""
    stage = Stage(monkeypatch)
    values = rounds.values

    def broken(asks, rows):
        if rows is stage.rows["beta"]:
            raise ZeroDivisionError("patient 4711")
        return values(asks, rows)

    monkeypatch.setattr(rounds, "values", broken)
    with pytest.raises(ZeroDivisionError):
        stage.ask()
    beta = stage.network.registries["beta"]

    assert beta.state == ENDED and beta.problem.code == "internal" and "4711" not in str(beta.problem)
    assert all(b"4711" not in bytes(parcel) for parcel in beta.outgoing)


def altered(registry, monkeypatch):
    """A registry that signs and seals other numbers than it computed."""
    release = Registry._release

    def lie(self):
        if self.me.name == registry:
            first = self.results[0]
            column = msgspec.structs.replace(first.columns[0], mean=first.columns[0].mean + 0.5)
            self.results = [msgspec.structs.replace(first, columns=(column, *first.columns[1:])), *self.results[1:]]
        release(self)

    monkeypatch.setattr(Registry, "_release", lie)


@pytest.mark.parametrize("registry", NAMES)
def test_a_registry_that_sends_other_numbers_is_named(monkeypatch, registry):
    """One changed mean: the analyst takes none of the results and says whose differ."""
    altered(registry, monkeypatch)
    problem = Stage(monkeypatch).ask().refused(Tampered)

    assert registry in str(problem) and "numbers" in str(problem)


def test_a_registry_that_votes_on_other_decisions_ends_the_query(monkeypatch):
    """Other suppressed cells at one registry: the verdicts differ and nobody releases."""
    @on(Verdict, sender="beta")
    def wire(stage, parcel):
        return [stage.sign(msgspec.structs.replace(parcel.message, decisions=b"d" * 32))]

    stage = staged(monkeypatch, wire).ask()

    stage.refused(Tampered)
    assert "beta" in str(stage.analyst.problem)


def test_a_result_of_a_registry_without_the_others_is_not_a_result(monkeypatch):
    """Two of three releases: the analyst waits, and holds nothing."""
    @on(Release, sender="gamma")
    def wire(stage, parcel):
        return []

    stage = staged(monkeypatch, wire).ask()

    stage.refused(Unreachable)
    assert len(stage.analyst.releases) == 2


def test_false_numbers_within_their_bounds_are_not_noticed(monkeypatch):
    """What the seal does not do: a registry that lies about its own rows biases the result, and is named in the receipt."""
    stage = Stage(monkeypatch)
    stage.network.houses["beta"].data = Household(stage.rows["gamma"])
    stage.ask()

    assert stage.analyst.problem is None and "beta" in stage.analyst.receipt.verdicts


@pytest.mark.parametrize("more", [300, 300 << 10, 300 << 30, 2**38], ids=["own place", "beside", "last place", "over the edge"])
def test_numbers_beyond_their_bounds_end_the_query(monkeypatch, more):
    """A registry that claims more people than there can be, in the place of a number or in those beside it: the total is implausible
    and nobody goes on. Four numbers below 160 share a residue here, ten bits each."""
    stage, residues = Stage(monkeypatch), seal._residues

    def boast(values, segment):
        found = residues(values, segment)
        if stage.plain[-1][0] == "beta" and segment.name == "0/moments/2/n":
            assert segment.scale.per_slot == 4
            found[0] = (found[0] + np.uint64(more)) % np.uint64(PRIMES[0])
        return found

    monkeypatch.setattr(seal, "_residues", boast)
    stage.ask().refused(Tampered, malicious=("beta",))


@pytest.mark.parametrize("number", [2**70, -(2**70), 2**63, -1, 161])
def test_an_implausible_total_of_any_size_is_refused(number):
    """People outside 0..N, also numbers that no machine integer holds: one error, no overflow."""
    asks = [size(populations=[{"known": ["age"]}])]
    dictionary = Dictionary.from_dict(every.DICTIONARY)
    plan = rounds.plan(asks, dictionary, 160, 3)
    integers = {segment.name: np.array([number] * segment.length, dtype=object) for segment in plan.segments}

    with pytest.raises(Tampered):
        rounds.totals(integers, asks, plan, dictionary, 160, 3)


# -- queries that must not be answered ---------------------------------------------------------------------------------------


def changed_query(stage, signer=ANALYST, **fields):
    """The query of the stage with other fields, under a new id unless one is given."""
    query = msgspec.structs.replace(stage.analyst.query, **{"id": b"another id of 16", **fields})
    return messages.sign(query, stage.network.people[signer])


@pytest.fixture
def stage(monkeypatch):
    return Stage(monkeypatch).ask()


BAD = {
    "expired": ({"created": START - 5000, "expires": START - 4000}, Refused),
    "from the future": ({"created": START + 5000, "expires": START + 6000}, Refused),
    "living too long": ({"created": START, "expires": START + 31 * 86_400}, Refused),
    "of another roster": ({"roster": b"r" * 32}, Refused),
    "to two registries": ({"registries": ("alpha", "beta")}, Refused),
    "to one registry twice": ({"registries": ("alpha", "beta", "beta")}, MessageError),
    "to somebody who is no registry": ({"registries": ("alpha", "beta", "analyst")}, MessageError),
    "to nobody we know": ({"registries": ("alpha", "beta", "delta")}, Tampered),
    "with an unknown analysis": ({"questions": (messages.Question("magic/1", {}),)}, FedstatsError),
    "with an unknown column": ({"where": ["shoe size", "==", 43]}, FedstatsError),
    "with a single registry selected": ({"where": ["registry", "==", "alpha"]}, FedstatsError),
    "with too deep a filter": ({"where": functools.reduce(lambda tree, _: {"not": tree}, range(15), ["age", ">=", 20])}, FedstatsError),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_query_is_not_admitted(stage, bad):
    """A registry answers a bad query with a refusal that says why, and touches no row."""
    fields, kind = BAD[bad]
    parcel = changed_query(stage, **fields)
    stage.plain.clear()
    beta = Registry(stage.network.people["beta"], stage.network.roster, stage.network.houses["beta"], stage.network.journals["beta"],
                    random=stage.network.random)
    sent = beta.receive(parcel, START)

    assert isinstance(beta.problem, kind) and beta.state == ENDED and not stage.plain
    assert all(not one.message.accept if isinstance(one.message, Admission) else isinstance(one.message, Abort) for one in sent)


def test_a_query_signed_by_a_registry_is_not_admitted(stage):
    """Only analysts of the roster may ask, even if a registry would like to."""
    parcel = changed_query(stage, signer="gamma", analyst="gamma")
    beta = Registry(stage.network.people["beta"], stage.network.roster, stage.network.houses["beta"], stage.network.journals["beta"],
                    random=stage.network.random)
    beta.receive(parcel, START)

    assert isinstance(beta.problem, Refused)
    with pytest.raises(Refused):
        stage.network.room.receive(bytes(parcel), now=START, clock=START)


@pytest.mark.parametrize("other", [{}, {"purpose": "something else"}], ids=["the same bytes", "the same id"])
def test_a_query_is_used_once(stage, other):
    """The bytes of an answered query again, or its id in another query: refused, and the first one's record stays."""
    parcel = changed_query(stage, id=stage.analyst.query.id, **other)
    journal = stage.network.journals["beta"]
    beta = Registry(stage.network.people["beta"], stage.network.roster, stage.network.houses["beta"], journal, random=stage.network.random)
    beta.receive(parcel, START)

    assert isinstance(beta.problem, Refused) and "once" in str(beta.problem) and beta.state == ENDED
    assert (query_hash(parcel) == stage.analyst.T) == (not other)
    (state,) = journal._db.execute("SELECT state FROM queries WHERE id = ?", (stage.analyst.query.id,)).fetchone()
    assert state == "released"


def test_a_query_that_names_others_is_none_of_this_registrys_business(stage):
    """A registry that a query does not name takes no part."""
    parcel = changed_query(stage, registries=("alpha", "gamma", "analyst"))
    beta = Registry(stage.network.people["beta"], stage.network.roster, stage.network.houses["beta"], stage.network.journals["beta"],
                    random=stage.network.random)
    beta.receive(parcel, START)

    assert beta.state == ENDED and isinstance(beta.problem, MessageError)


def test_the_rules_that_apply_are_the_strictest_of_all_houses(monkeypatch):
    """One registry asks for larger cells: they apply to everybody's result."""
    stage = Stage(monkeypatch)
    stage.network.houses["gamma"].minima = msgspec.structs.replace(RULES, min_cell=12)
    results = stage.ask().answered()

    assert all("at least 12 people" in result.rules for result in results)
