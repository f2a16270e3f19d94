"""The conversation as a state machine: what may happen when, what is written down first, who is named when it fails."""

import itertools

import msgspec
import pytest

from fedstats.analyses.summary import ColumnSummary, Summary
from fedstats.client.memory import ANALYST, COORDINATOR, MemoryNetwork
from fedstats.data.filters import normal_filter
from fedstats.errors import FedstatsError, OutOfOrder, Problem, Refused, Tampered, Unreachable
from fedstats.query import rounds
from fedstats.query.analysis import Result, Size
from fedstats.query.population import Household
from fedstats.wire import analyst as analyst_side
from fedstats.wire import conversation, messages
from fedstats.wire.conversation import ADMITTED, ENDED, JUDGING, KEYING, NEXT, QUERY, RELEASED, ROUNDS, Registry, advance
from fedstats.wire.messages import Abort, Admission, Contribution, Keys, Query, Release, Total, Verdict
from fedstats.wire.transcript import decisions_of
from nodes.journal import Journal

from .attacks.stage import NAMES, Stage

EVENTS = sorted({event for table in (NEXT, analyst_side.NEXT) for events in table.values() for event in events} | {"release", "nonsense"})
T = b"T" * 32


@pytest.mark.parametrize("state", NEXT)
@pytest.mark.parametrize("event", EVENTS)
def test_only_what_the_table_names_may_happen(state, event):
    """The table of states is the specification: every other event is out of order."""
    if event in NEXT[state]:
        assert advance(state, event) in NEXT
    else:
        with pytest.raises(OutOfOrder):
            advance(state, event)


def test_every_state_can_be_reached_and_left():
    """From the query every state is reachable, and every state leads to an end."""
    for table, start, ends in ((NEXT, QUERY, {RELEASED, ENDED}),
                               (analyst_side.NEXT, analyst_side.ASKED, {analyst_side.DONE, analyst_side.ENDED})):
        reached = {start}
        for _ in table:
            reached |= {there for here in reached for there in table[here].values()}

        assert reached == set(table)
        for end in ends:
            assert set(table[end].values()) <= {end}


LOST = {        # state -> what is lost so that the conversation stops there, for beta
    ADMITTED: (Admission, "gamma"), KEYING: (Keys, "alpha"), ROUNDS: (Contribution, "gamma"), JUDGING: (Verdict, "gamma"),
    RELEASED: (None, None), ENDED: (Contribution, "alpha"),
}
EXPECTED = {QUERY: Query, ADMITTED: Admission, KEYING: Keys, ROUNDS: Total, JUDGING: Verdict}


def stopped(monkeypatch, state):
    """beta in a state of a real conversation."""
    kind, sender = LOST.get(state, (Query, ANALYST))
    stage = Stage(monkeypatch, lambda frm, to, parcel: [] if frm == sender and isinstance(parcel.message, kind or ()) else None)
    stage.analyst = stage.network.run(stage.questions, normal_filter(None))
    beta = stage.network._registry("beta")
    if state == ENDED:
        beta.fail(Unreachable("late"))
    assert beta.state == state
    return stage, beta


def one_of_each(stage, T):
    """Well-formed, well-signed messages of every kind for a query; none of them is the next one of the conversation."""
    H, problem = b"h" * 32, Problem("aborted", "gamma", "left")
    found = [
        stage.analyst.query,
        Admission(T=T, registry="gamma", accept=True, problem=None, nonce=b"n" * 16, onetime=b"k" * 32, data_cut="x",
                  minima=stage.network.rules,
                  software="0"),
        Keys(T=T, S=H, sender="gamma", recipient="beta", sealed=b"box"),
        Contribution(T=T, S=H, registry="gamma", round=0, H=H, asks=H, chunks=(1,), digest=H),
        Total(T=T, S=H, coordinator=COORDINATOR, round=0, digest=H, contributions=()),
        Verdict(T=T, S=H, registry="gamma", H=H, decisions=H, release=True, problem=None),
        Release(T=T, S=H, roster=H, registry="gamma", H=H, sealed=b"box"),
        Abort(T=T, sender="gamma", problem=problem),
    ]
    return [messages.sign(one, stage.network.people[messages.sender_of(one)]) for one in found]


@pytest.mark.parametrize("state", [QUERY, ADMITTED, KEYING, ROUNDS, JUDGING, RELEASED, ENDED])
def test_a_message_out_of_order_ends_the_query_and_burns_its_keys(monkeypatch, state):
    """Every kind of message in every state, at a real registry: what is not expected ends the query, or changes nothing after it."""
    seen, stage, beta = [], None, None
    for k in range(8):
        with monkeypatch.context() as watch:
            if beta is None or state not in (RELEASED, ENDED):      # nothing changes these two: one conversation will do
                stage, beta = stopped(watch, state)
            parcel = one_of_each(stage, beta.T or stage.analyst.T)[k]
            if state == QUERY and isinstance(parcel.message, Query):
                continue
            sent = beta.receive(parcel, stage.network.now)

        seen.append(type(parcel.message))
        assert beta.state == (RELEASED if state == RELEASED else ENDED)
        assert beta.keys is None and beta.onetime is None
        assert all(isinstance(one.message, Abort) for one in sent) and len(sent) <= 1
        assert state == RELEASED or isinstance(beta.problem, FedstatsError)
    assert len(seen) == (7 if state == QUERY else 8)


def test_what_is_posted_is_written_down_first(monkeypatch):
    """A registry's outbox holds the very bytes of every parcel before the coordinator sees them."""
    stage = Stage(monkeypatch)
    missing = []

    def wire(sender, receiver, parcel):
        if receiver == COORDINATOR and sender in NAMES:
            held = stage.network.journals[sender]._db.execute("SELECT parcel FROM outbox WHERE T = ?", (parcel.message.T,)).fetchall()
            state = stage.network.registries[sender].state
            # after the last posting the journal keeps digests only
            if bytes(parcel) not in [row[0] for row in held] and state != RELEASED:
                missing.append(parcel)
        return None

    stage.change = wire
    stage.ask().answered()

    assert not missing
    keys = {row[0] for row in stage.network.journals["alpha"]._db.execute("SELECT key FROM outbox")}
    assert keys == {"admission", "keys beta", "keys gamma", "round 0", "round 1", "verdict", "release"}


def test_the_keys_leave_before_the_first_registry_computes(monkeypatch):
    """All others wait for them; the first registry's own numbers come after the last box of keys has gone."""
    stage = Stage(monkeypatch)
    gone, compute = [], rounds.values

    def compute_and_note(asks, rows):
        gone.append(sum(isinstance(parcel.message, Keys) and receiver == COORDINATOR for _, receiver, parcel in stage.seen))
        return compute(asks, rows)

    monkeypatch.setattr(rounds, "values", compute_and_note)
    stage.ask().answered()

    assert gone[0] == len(NAMES) - 1 and stage.network.registries["alpha"].later is None


def test_nothing_is_sealed_twice_under_one_round(monkeypatch):
    """A second posting for a round is stopped by the journal, whatever a confused node tries."""
    _, beta = stopped(monkeypatch, ROUNDS)
    beta.keys.closed.clear()
    beta.rows = beta.rows.where(beta.rows.present("age"))
    with pytest.raises(FedstatsError, match="second posting"):
        beta._contribute()


def test_expiry_counts_at_admission_only(monkeypatch):
    """A query admitted in time is answered however long the rounds take: later phases do not look at the clock."""
    stage = Stage(monkeypatch)

    def wire(sender, receiver, parcel):
        if isinstance(parcel.message, Keys):
            stage.network.now += 250.0      # the coordinator's own deadline for a round is 300 s
        return None

    stage.change = wire
    stage.ask().answered()

    assert stage.network.now > stage.analyst.query.created + 500


def test_a_deadline_names_who_was_missing(monkeypatch):
    """The coordinator's abort says which registry did not answer in which round."""
    stage = Stage(monkeypatch, lambda frm, to, parcel: [] if frm == "gamma" and isinstance(parcel.message, Contribution) else None)
    problem = stage.ask().refused(Unreachable)

    assert str(problem) == f"{COORDINATOR}: no answer from gamma in round 0"


def test_the_analyst_keeps_a_receipt(monkeypatch):
    """Query, admissions, verdicts and releases as received, each verifiable with the roster alone."""
    stage = Stage(monkeypatch).ask()
    receipt = stage.analyst.receipt
    public = stage.network.roster.public

    for signed in (receipt.query, *receipt.admissions.values(), *receipt.verdicts.values(), *receipt.releases.values()):
        messages.open_signed(signed, public)
    assert set(receipt.admissions) == set(receipt.verdicts) == set(receipt.releases) == set(NAMES)


def test_the_coordinator_passes_no_number_on(monkeypatch):
    """What the analyst receives before the end are admissions and verdicts: no total, no contribution, no key."""
    stage = Stage(monkeypatch).ask()
    arrived = {type(parcel.message) for _, to, parcel in stage.seen if to == ANALYST}

    assert arrived == {Admission, Verdict, Release}


def test_asks_cross_the_wire_as_a_code_under_K(monkeypatch):
    """The digest of the asks would let the coordinator test guesses about totals: only its HMAC travels."""
    stage = Stage(monkeypatch)
    digests, real = [], rounds.digest

    def noted(asks):
        digests.append(real(asks))
        return digests[-1]

    monkeypatch.setattr(rounds, "digest", noted)
    stage.ask().answered()
    sent = b"".join(bytes(parcel) for _, _, parcel in stage.seen)

    assert digests and not any(digest in sent for digest in digests)


def test_registries_of_another_version_are_not_mixed(monkeypatch):
    """A registry that runs other software is named before any key is made."""
    def wire(frm, to, parcel):
        if frm == "gamma" and isinstance(parcel.message, Admission):
            return [stage.sign(msgspec.structs.replace(parcel.message, software="9.9.9"))]
        return None

    stage = Stage(monkeypatch, wire)
    problem = stage.ask().refused(Refused)

    assert "gamma runs version 9.9.9" in str(problem) and not stage.keys


def test_a_registry_that_derives_other_asks_is_named(monkeypatch):
    """Another next question at one registry ends the query before its total is opened."""
    stage = Stage(monkeypatch)
    code = Registry._asks_code
    monkeypatch.setattr(Registry, "_asks_code", lambda self: b"x" * 32 if self.me.name == "gamma" and self.round == 1 else code(self))
    problem = stage.ask().refused(Tampered)

    assert "gamma" in str(problem) or "alpha, beta" in str(problem)
    assert len(stage.opened) == len(NAMES)


def test_two_nodes_with_one_key_are_named(monkeypatch):
    """A clone of gamma answers the same query with another nonce and one-time key: everybody is told, whoever they are."""
    def wire(frm, to, parcel):
        if frm == "gamma" and isinstance(parcel.message, Admission):
            other = msgspec.structs.replace(parcel.message, nonce=b"of another node.", onetime=b"k" * 32)
            return [bytes(parcel), stage.sign(other)]
        return None

    stage = Stage(monkeypatch, wire)
    problem = stage.ask().refused(Refused)

    assert "two nodes answer with the key of gamma" in str(problem) and "gamma stops all but one" in problem.hint
    # whoever still waits for the others' admissions is told the same; whoever posts later finds the query over
    told = [str(stage.network.registries[name].problem) for name in ("alpha", "beta")]
    assert any("two nodes answer with the key of gamma" in one for one in told), told


@pytest.mark.parametrize("first", [True, False])
def test_a_coordinator_that_shows_each_a_different_clone_is_no_way_round(monkeypatch, first):
    """Both admissions reach beta, one after the other: beta itself sees the two."""
    def wire(frm, to, parcel):
        if frm == COORDINATOR and to == "beta" and isinstance(parcel.message, Admission) and parcel.message.registry == "alpha":
            other = stage.sign(msgspec.structs.replace(parcel.message, nonce=b"of another node."))
            return [bytes(parcel), other] if first else [other, bytes(parcel)]
        return None

    stage = Stage(monkeypatch, wire)
    stage.ask().refused(FedstatsError)

    assert "two nodes answer with the key of alpha" in str(stage.network.registries["beta"].problem)


def test_a_query_has_one_id_everywhere(monkeypatch):
    """What the log says is what stands in journal, results and receipt."""
    stage = Stage(monkeypatch).ask()
    (result, _), registry = stage.answered(), stage.network.registries["beta"]
    (kept,) = stage.network.journals["beta"]._run("SELECT id FROM queries").fetchone()

    assert registry.query_id == result.query == stage.analyst.query.name == kept.hex()


def test_a_journal_put_back_from_an_older_copy_is_named(monkeypatch):
    """gamma's journal forgets the last query; the next one gets its number, and the others have that number in theirs."""
    stage = Stage(monkeypatch)
    stage.ask().answered()
    journal = stage.network.journals["gamma"]
    assert journal._run("DELETE FROM queries").rowcount == 1
    problem = stage.ask().refused(Refused)
    assert "the journal of gamma gave this query a number that it had given to another" in str(problem)
    assert "new journal" in problem.hint and not stage.network.registries["gamma"].keys

    stage.ask().answered()      # it has a number of its own again


def test_a_new_journal_is_no_copy(monkeypatch, tmp_path):
    """A disk is lost and gamma begins a new journal, as the hint says: its numbers begin anew under another mark."""
    stage = Stage(monkeypatch)
    for name in ("first", "second"):
        stage.network.journals["gamma"] = Journal(tmp_path / name)
        stage.ask().answered()


def result(**fields):
    column = ColumnSummary("age", "", 40, None, **({"mean": 1.5, "sd": 1.0, "se": 1.0, "low": 1.0, "high": 2.0} | fields))
    return Summary(size=Size(40), columns=(column,), confidence=0.95)


def test_decisions_are_about_what_is_shown_and_not_about_the_last_digit():
    """Another last digit of a mean is the same decision; a number held back, or another count, is another one."""
    assert decisions_of([result()]) == decisions_of([result(mean=1.5 + 1e-15)])
    assert decisions_of([result()]) != decisions_of([result(mean=None)])
    assert decisions_of([result()]) != decisions_of([msgspec.structs.replace(result(), size=Size(41))])


@pytest.mark.parametrize(("a", "b", "expected"), [
    (1.0, 1.0 + 1e-12, True), (1.0, 1.0 + 1e-6, False), (1, 1.0, True), (1, 2, False), (True, 1, False), (None, 0, False),
    ("a", "b", False), ([1.0], [1.0, 2.0], False), ({"a": 1.0}, {"b": 1.0}, False), ({"a": [1.0, None]}, {"a": [1.0, None]}, True),
    (0.0, 1e-200, False)])
def test_results_are_compared_at_one_part_in_a_billion(a, b, expected):
    """Rounding of different processors passes, anything else does not."""
    assert analyst_side.alike(a, b) is expected and analyst_side.alike(b, a) is expected


def test_several_queries_follow_each_other(monkeypatch):
    """The same question asked three times under new ids is answered three times, by the same numbers."""
    stage = Stage(monkeypatch)
    found = [stage.ask().answered() for _ in range(3)]

    plain = [[{**one.to_dict(), "query": ""} for one in results] for results in found]
    assert plain[0] == plain[1] == plain[2] and len({results[0].query for results in found}) == 3


def test_conversations_with_the_same_seed_are_the_same_up_to_the_outer_seal(monkeypatch):
    """Clock and randomness are injected: two simulations agree in the query, the admissions and every released number."""
    found = []
    for _ in range(2):
        with monkeypatch.context() as watch:
            stage = Stage(watch).ask()
            found.append((stage.analyst.receipt.query, stage.analyst.receipt.admissions, [one.to_dict() for one in stage.answered()]))

    assert found[0] == found[1]


def test_a_network_of_two_registries_cannot_be_sealed(monkeypatch):
    """With two, each would read the other's numbers from the total; even relaxed rules do not allow it."""
    stage = Stage(monkeypatch)
    rows = dict(itertools.islice(stage.rows.items(), 2))
    data = {name: Household(one) for name, one in rows.items()}
    network = MemoryNetwork(stage.network.codebook, data, msgspec.structs.replace(stage.network.rules, min_registries=1))

    with pytest.raises(FedstatsError, match="at least 3 registries"):
        network.ask(stage.questions, [])


def test_results_that_are_frozen_stay_frozen():
    """A result is a value: nothing in it can be set afterwards."""
    assert issubclass(Summary, Result)
    with pytest.raises(AttributeError):
        result().registries = 7


def test_words_for_states_are_the_diagram():
    """The names of the states, in order, as the README draws them."""
    assert list(NEXT) == ["query", "admitted", "keying", "rounds", "judging", "released", "ended"]
    assert conversation.__doc__ and all(state.upper() in conversation.__doc__ for state in NEXT)
