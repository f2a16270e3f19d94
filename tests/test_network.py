"""Faults over the real network: processes on loopback that are killed, stopped, late, or talk twice."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import fedstats
from fedstats.demo import laptop, tap
from fedstats.errors import Aborted, Tampered, Unreachable

from . import flat_registries

pytestmark = pytest.mark.network

ROUND_SECONDS = 3.0
SOON = 12.0         # seconds: a dead party must be told within the round's time and a little


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Three registries, a coordinator, and a line to the first registry that tests may disturb."""
    folder = tmp_path_factory.mktemp("laptop")
    port = laptop.free_port()
    os.environ.update({name: value for name, value in laptop.environment().items() if name.lower() == "no_proxy"})
    with tap.Wire(port) as wire:
        tables = flat_registries.registries(3, sites=3, patients=600)
        first = next(iter(tables))
        laptop.prepare(folder, tables, flat_registries.DICTIONARY, port=port, round_seconds=ROUND_SECONDS, through={first: wire.port})
        with laptop.Laptop(folder, round_seconds=ROUND_SECONDS) as here:
            yield SimpleNamespace(here=here, wire=wire, first=first, other=here.registries[1])


@pytest.fixture
def line(lab):
    """The line to the first registry, undisturbed again after the test; every party runs again."""
    yield lab.wire
    lab.wire.change = lambda direction, parcel: (parcel,)
    for name in (laptop.COORDINATOR, *lab.here.registries):
        if name not in lab.here.alive():
            lab.here.start(name)


def ask(lab, timeout=30.0):
    with fedstats.connect(lab.here.consortium, key=lab.here.key, timeout=timeout) as fed:
        return fed.cohort().summary(["age"])


def held(kind, direction):
    """A change of the line that holds the first parcel of a kind: (change, it has arrived, let it go)."""
    arrived, go = threading.Event(), threading.Event()

    def change(way, parcel):
        if way == direction and tap.kind(parcel) == kind and not arrived.is_set():
            arrived.set()
            go.wait(30)
        return (parcel,)

    return change, arrived, go


def while_held(lab, kind, direction, do):
    """Ask, do something while a parcel is held on the line, and return how the asking ended and after how many seconds."""
    lab.wire.change, arrived, go = held(kind, direction)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, lab)
        try:
            assert arrived.wait(20), "the parcel never came"
            begun = time.monotonic()
            do()
            error = asking.exception(timeout=SOON)
            return error, time.monotonic() - begun
        finally:
            go.set()


def test_an_undisturbed_line_gives_the_pooled_answer(lab, line):
    """The processes answer with the digits of one pooled table."""
    tables = {name: lab.here.folder / name / "patients.csv" for name in lab.here.registries}
    pooled = fedstats.pooled(tables, dictionary=lab.here.folder / "dictionary.json", rules=fedstats.Rules())

    assert ask(lab)["age"] == pooled.cohort().summary(["age"])["age"]


def test_an_idle_node_wakes_at_once(lab, line, capsys):
    """A question reaches a node that waits for mail without a poll's delay; the time is printed."""
    came = []

    def change(way, parcel):
        if way == "down" and tap.kind(parcel) == "query":
            came.append(time.monotonic())
        return (parcel,)

    line.change = change
    time.sleep(1.0)         # everybody is in a long-poll
    begun = time.monotonic()
    ask(lab)
    with capsys.disabled():
        print(f"\n  idle long-poll: a question arrives after {1000 * (came[0] - begun):.0f} ms, "
              f"the answer after {time.monotonic() - begun:.2f} s")

    assert came[0] - begun < 2.0


def test_a_node_killed_in_mid_query_and_restarted_is_named(lab, line):
    """Power goes at one registry: the analyst is told who and what, nothing hangs, and asking again works."""
    def crash():
        lab.here.kill(lab.first)
        lab.here.start(lab.first)

    error, seconds = while_held(lab, "total", "down", crash)

    assert isinstance(error, Aborted)
    assert str(error) == f"{lab.first}: the node was restarted in the middle of the query"
    assert error.hint == "ask again" and error.exit_code == 4
    assert seconds < SOON
    assert ask(lab).n > 0


def test_a_node_that_stays_away_is_named_at_the_deadline(lab, line):
    """A registry that dies in a round is missed by name after the round's time."""
    error, seconds = while_held(lab, "total", "down", lambda: lab.here.kill(lab.first))

    assert isinstance(error, Unreachable)
    assert f"no answer from {lab.first} in round 1" in str(error)
    assert seconds < SOON


def test_a_node_that_is_down_is_named(lab, line):
    """A registry that does not run is missed by name, and its mail waits for it without harm."""
    assert lab.here.stop(lab.other) == 0
    with pytest.raises(Unreachable, match=f"no answer from {lab.other} in the admission") as caught:
        ask(lab, timeout=2)

    assert caught.value.hint == "see that these nodes run, then ask again"
    lab.here.start(lab.other)
    assert ask(lab).n > 0


def test_a_frozen_node_is_named_and_comes_back(lab, line):
    """A registry whose machine sleeps is missed; when it wakes it takes part again."""
    process = lab.here.running[lab.other]
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(Unreachable, match=f"no answer from {lab.other} in the admission"):
        ask(lab, timeout=2)
    process.send_signal(signal.SIGCONT)

    assert ask(lab).n > 0


def test_a_coordinator_killed_in_mid_query_costs_time_only(lab, line):
    """The analyst gets an error, the nodes come back by themselves, asking again works."""
    seen = {name: lab.here.log(name).count("connected to") for name in lab.here.registries}

    def crash():
        lab.here.kill(laptop.COORDINATOR)
        lab.here.start(laptop.COORDINATOR)

    error, seconds = while_held(lab, "total", "down", crash)

    assert isinstance(error, Unreachable) and error.exit_code == 4
    assert seconds < SOON
    until = time.monotonic() + SOON
    while not all(lab.here.log(name).count("connected to") > seen[name] for name in seen) and time.monotonic() < until:
        time.sleep(0.1)
    assert ask(lab).n > 0


def test_a_line_that_says_everything_twice_does_no_harm(lab, line):
    """The same bytes again, in both directions, change nothing: a retry is not a second answer."""
    line.change = lambda way, parcel: (parcel, parcel)

    assert ask(lab).n > 0


def test_a_slow_line_is_waited_for(lab, line):
    """Messages may be late within the round's time."""
    def change(way, parcel):
        time.sleep(0.2)
        return (parcel,)

    line.change = change

    assert ask(lab).n > 0


def test_a_contribution_after_the_deadline_is_too_late(lab, line):
    """The query is over by then; the late numbers go nowhere, and the next question is answered."""
    error, _ = while_held(lab, "contribution", "up", lambda: None)

    assert isinstance(error, Unreachable)
    assert f"no answer from {lab.first} in round 0" in str(error)
    assert ask(lab).n > 0


def test_an_old_message_replayed_is_not_taken(lab, line):
    """Everything one registry has said, sent once more after the end, starts nothing."""
    said = []

    def change(way, parcel):
        if way == "up":
            said.append(parcel)
        return (parcel,)

    line.change = change
    ask(lab)
    before = lab.here.metrics()
    with fedstats.connect(lab.here.consortium, key=lab.here.key) as fed:
        for parcel in said:
            with pytest.raises(Unreachable, match="not in flight"):
                fed._world.link.post(parcel)
    after = lab.here.metrics()

    assert len(said) >= 4 and after["rounds"] == before["rounds"] and after["open_queries"] == 0


def test_a_flipped_bit_is_caught(lab, line):
    """One bit of one total on its way to one registry: nobody gets an answer."""
    flipped = []

    def change(way, parcel):
        if way == "down" and tap.kind(parcel) == "total" and not flipped:
            flipped.append(True)
            return (tap.flip(parcel),)
        return (parcel,)

    line.change = change
    with pytest.raises(Tampered) as caught:
        ask(lab)

    assert flipped and str(caught.value) == f"{lab.first}: answer could not be verified" and caught.value.exit_code == 5


def test_a_dropped_message_ends_at_the_deadline(lab, line):
    """A line that swallows an answer looks like a registry that does not answer."""
    line.change = lambda way, parcel: () if way == "up" and tap.kind(parcel) == "verdict" else (parcel,)
    with pytest.raises(Unreachable, match=f"no answer from {lab.first} in the verdict"):
        ask(lab)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_party_ends_at_once_and_cleanly(lab, line, number):
    """An operator's stop does not wait for the long-poll; exit code 0 and no traceback in the log."""
    for name in (lab.other, laptop.COORDINATOR):
        process = lab.here.running[name]
        begun = time.monotonic()
        process.send_signal(number)

        assert process.wait(timeout=10) == 0
        assert time.monotonic() - begun < 4.0
        assert "Traceback" not in lab.here.log(name)


def test_logs_carry_no_numbers_of_anybody(lab, line):
    """What a node logs: query ids, phases, codes."""
    ask(lab)
    text = lab.here.log(lab.first)

    assert "released, round 2" in text
    assert "age" not in text and "httpx" not in text.lower()


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc")
def test_children_end_when_their_parent_is_killed(tmp_path):
    """Even SIGKILL leaves no process behind."""
    tables = flat_registries.registries(3, sites=3, patients=360)
    laptop.prepare(tmp_path, tables, flat_registries.DICTIONARY)
    code = ("import sys, time; from fedstats.demo.laptop import Laptop\n"
            "with Laptop(sys.argv[1]) as here:\n print(' '.join(str(p.pid) for p in here.running.values()), flush=True)\n time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    children = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    until = time.monotonic() + 10
    while any(running(pid) for pid in children) and time.monotonic() < until:
        time.sleep(0.1)

    assert len(children) == 4 and not any(running(pid) for pid in children)


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# -- the coordinator's deadlines, without a socket --------------------------------------------------------------------------------


@pytest.fixture
def room():
    """A mailroom with one query in flight, posted at second 0 of its clock and valid for 600 s: (mailroom, analyst, everybody's keys)."""
    from fedstats import Dictionary
    from fedstats.coordinator.mailroom import Mailroom
    from fedstats.crypto.identity import Identity
    from fedstats.query.analysis import Question
    from fedstats.wire.analyst import Analyst
    from fedstats.wire.roster import Consortium, member_of

    roles = {"a": "registry", "b": "registry", "c": "registry", "ana": "analyst", "hub": "coordinator"}
    people = {name: Identity.generate(name) for name in roles}
    digest = Dictionary.from_dict(flat_registries.DICTIONARY).digest
    roster = Consortium(name="room", epoch=1, dictionary="", dictionary_sha256=digest,
                        members=tuple(member_of(people[name], role) for name, role in roles.items()))
    analyst = Analyst(people["ana"], roster, random=os.urandom)
    found = Mailroom(people["hub"], roster, round_seconds=10.0)
    first = analyst.start([Question("summary/1", {"names": ["age"]})], None, ("a", "b", "c"), purpose="", now=1000.0, lifetime=600.0)
    found.receive(bytes(first), now=1000.0, clock=0.0)
    return found, analyst, people


def test_a_query_lives_until_it_expires_and_then_everybody_is_told(room):
    """Admission may take as long as the query is valid; then an abort names who was missing, in all mailboxes."""
    from fedstats.coordinator.mailroom import box_of
    from fedstats.wire import messages

    mailroom, analyst, _ = room
    mailroom.tick(599.0)
    assert analyst.T in mailroom.sessions

    mailroom.tick(601.0)
    told = [messages.read(mailroom.mail(box, 0)[-1][1], mailroom.roster.public).message
            for box in ("a", "b", "c", box_of("ana", analyst.T))]

    assert analyst.T not in mailroom.sessions
    assert {one.problem.what for one in told} == {"no answer from a, b, c in the admission"}


def test_a_query_that_is_over_cannot_be_begun_again(room):
    """The same signed bytes start nothing a second time, and the answer's mail is forgotten after its time."""
    from fedstats.coordinator.mailroom import ANSWER_SECONDS, box_of
    from fedstats.errors import Refused

    mailroom, analyst, _ = room
    mailroom.receive(bytes(analyst.parcel), now=1001.0, clock=1.0)       # a retry while it is open: nothing happens
    assert len(mailroom.mail("a", 0)) == 1

    mailroom.tick(601.0)
    with pytest.raises(Refused, match="a query is used once"):
        mailroom.receive(bytes(analyst.parcel), now=1200.0, clock=602.0)
    mailroom.tick(602.0 + ANSWER_SECONDS)

    assert mailroom.mail(box_of("ana", analyst.T), 0) == []


@pytest.mark.parametrize("refused", [False, True])
def test_admissions_are_told_when_there_is_something_to_do(room, refused):
    """A reader is woken by the admission that completes them, if it has the keys to make, or at once by one that refuses; who has waited
    to the end of its time gets what there is."""
    from fedstats.disclosure import Rules
    from fedstats.errors import Problem
    from fedstats.wire import messages
    from fedstats.wire.messages import Admission

    mailroom, analyst, people = room
    woken = []
    mailroom.wake = woken.append

    def admit(name, *, accept=True):
        mine = Admission(T=analyst.T, registry=name, accept=accept, problem=None if accept else Problem("refused", name, "no", ""),
                         nonce=bytes(16), onetime=os.urandom(32), data_cut="x", minima=Rules(), software="1")
        mailroom.receive(bytes(messages.sign(mine, people[name])), now=1001.0, clock=1.0)

    admit("b")
    assert not woken and not mailroom.presses("a", 1) and len(mailroom.mail("a", 1)) == 1
    admit("a")
    assert not woken
    admit("c", accept=not refused)

    assert set(woken) == ({"a", "b", f"ana/{analyst.T.hex()}"} if refused else {"a"})
    assert mailroom.presses("a", 1) and [number for number, _ in mailroom.mail("a", 1)] == [2, 3]
    assert len(mailroom.mail("b", 1)) == 2


def contribution(room, name):
    """A registry's share of one ciphertext, zeros, in the first round."""
    from fedstats.crypto import frames, seal
    from fedstats.wire import messages
    from fedstats.wire.messages import Contribution

    mailroom, analyst, people = room
    mailroom.sessions[analyst.T].phase = "rounds"
    share = frames.frame_of(frames.SHARE, 0, [bytes(frames.SHARE.size)])
    payload = seal.HEAD.pack(seal.MAGIC, seal.VERSION, 1) + share
    mine = Contribution(T=analyst.T, S=bytes(32), registry=name, round=0, H=bytes(32), asks=bytes(32), chunks=(1,),
                        digest=messages.digest_of(payload))
    return bytes(messages.sign(mine, people[name], payload))


def told(room):
    from fedstats.wire import messages
    return [messages.read(room[0].mail(name, 0)[-1][1], room[0].roster.public).message for name in ("a", "b", "c")]


def test_a_total_that_nobody_could_read_ends_its_query_alone(room, monkeypatch):
    """A total has twice the bytes of a share: nodes would not take it, and give up all their queries for it."""
    from fedstats.coordinator import mailroom as module

    monkeypatch.setattr(module, "LONGEST_PAYLOAD", 60_000)
    room[0].receive(contribution(room, "a"), now=1001.0, clock=1.0)

    assert {one.problem.what for one in told(room)} == {"a round of this query is too large to be added"}
    assert room[1].T not in room[0].sessions


def test_a_total_that_is_half_added_is_given_up(room, monkeypatch):
    """Whatever fails below while a contribution is added: it is not tried a second time, and everybody is told."""
    from fedstats.crypto import sealmemory

    room[0].receive(contribution(room, "a"), now=1001.0, clock=1.0)

    def fails(*args):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sealmemory, "expanded", fails)
    with pytest.raises(OSError):
        room[0].receive(contribution(room, "b"), now=1002.0, clock=2.0)

    assert {one.problem.what for one in told(room)} == {"the coordinator could not add a contribution"}
    assert room[1].T not in room[0].sessions


def test_keys_that_are_too_long_are_not_passed_on(room):
    """A box of the size that keys can have reaches its recipient, a longer one nobody."""
    from fedstats.coordinator.mailroom import LONGEST_KEYS
    from fedstats.errors import OutOfOrder
    from fedstats.wire import messages
    from fedstats.wire.messages import Keys

    mailroom, analyst, people = room
    mailroom.sessions[analyst.T].phase = "rounds"

    def post(recipient, size):
        keys = Keys(T=analyst.T, S=bytes(32), sender="a", recipient=recipient, sealed=bytes(size))
        mailroom.receive(bytes(messages.sign(keys, people["a"])), now=1001.0, clock=1.0)

    with pytest.raises(OutOfOrder, match="too long"):
        post("b", LONGEST_KEYS + 1)
    post("c", LONGEST_KEYS)

    assert (len(mailroom.mail("b", 1)), len(mailroom.mail("c", 1))) == (0, 1)
