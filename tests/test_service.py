"""Nodes and analysts when the world is not as it should be: coordinators that go and return, cut
lines, full disks, wrong clocks."""

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import nodes.service
from fedstats.client import connected
from fedstats.demo.laptop import free_port
from fedstats.errors import Aborted, FedstatsError, InputError, Refused, Tampered, Unreachable
from fedstats.transport.http import Link
from fedstats.wire.roster import Consortium
from nodes import lines
from nodes.journal import Journal

from .hub import Hub, World, wait_for
from .test_link import server

pytestmark = pytest.mark.network


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Loopback without a proxy, and short long-polls, so that threads end soon."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        patch.setattr(nodes.service, "POLL_SECONDS", 2.0)
        yield


@pytest.fixture(scope="module")
def world():
    with World() as world:
        world.right = world.pooled()["age"]
        yield world


@pytest.fixture(scope="module")
def pair():
    """Two coordinators, each with its key and address."""
    with World(2) as world:
        world.right = world.pooled()["age"]
        yield world


# -- several coordinators --------------------------------------------------------------------------


def kill_and_return(world, seed, times):
    """Either coordinator goes or comes back, drawn by the seed, but never both; after each a
    question is asked at once."""
    draw = random.Random(seed)
    for _ in range(times):
        hub = draw.choice(world.hubs)
        if hub.server is None:
            hub.start(world.roster, world.round_seconds)
        else:
            for other in world.hubs:
                if other.server is None:
                    other.start(world.roster, world.round_seconds)
            if draw.random() < 0.8:
                world.settle()
            hub.stop()
        yield world.ask()["age"]


def test_whichever_coordinator_runs_the_registries_are_found(pair):
    """Seeded kills and returns of either: every question is answered, with the pooled digits."""
    for answer in kill_and_return(pair, seed=1, times=6):
        assert answer == pair.right


@pytest.mark.slow
def test_a_hundred_kills_and_returns(pair):
    assert all(answer == pair.right for answer in kill_and_return(pair, seed=2, times=100))


@pytest.mark.slow
def test_two_processes_of_one_coordinator_serve_like_two():
    """One key at two addresses: the same, as each keeps what is in flight to itself."""
    with World(2, one_key=True) as world:
        right = world.pooled()["age"]
        assert all(answer == right for answer in kill_and_return(world, seed=3, times=20))


def test_it_does_not_matter_which_coordinator_an_analyst_asks(pair):
    """Both run; one analyst knows the first only, another the second only."""
    for hub in pair.hubs:
        if hub.server is None:
            hub.start(pair.roster, pair.round_seconds)
    pair.settle()
    for hub in pair.hubs:
        assert pair.ask(links=[pair.link("ana", hub)])["age"] == pair.right


def test_a_coordinator_that_says_nothing_is_left_aside(pair):
    """Its machine takes connections and sleeps: the other one is asked."""
    with server() as (port, _):
        frozen = Hub(pair.hubs[0].me, port)
        link = pair.link("ana", frozen)
        link._client.timeout = 1.0
        quick_link = lambda: (_ for _ in ()).throw(Unreachable("did not answer"))  # noqa: E731
        link.listening = quick_link
        live = next(hub for hub in pair.hubs if hub.server)
        assert pair.ask(links=[link, pair.link("ana", live)])["age"] == pair.right


def test_two_addresses_of_one_process_are_one():
    """A coordinator with an inner and an outer address: one line rests, nothing is done twice, and
    the other takes over."""
    with World() as world:
        name = next(iter(world.tables))
        world.stop_node(name)
        hub = world.hubs[0]
        node = world.run_node(
            name,
            links=[
                world.link(name),
                Link(world.people[name], hub.me.name, (f"http://localhost:{hub.port}",)),
            ],
        )
        wait_for(lambda: all(line.boot for line in node.lines.all))
        wait_for(lambda: any(line.resting for line in node.lines.all))

        assert world.ask()["age"] == world.pooled()["age"]
        assert [line.resting for line in node.lines.all] == [False, True]


def test_a_dead_coordinator_does_not_hold_up_the_queries_of_another(pair, monkeypatch):
    """A query whose coordinator went in the middle waits for nobody: the next one goes through the
    other at once."""
    for hub in pair.hubs:
        if hub.server is None:
            hub.start(pair.roster, pair.round_seconds)
    pair.settle()
    first = pair.hubs[0]
    monkeypatch.setattr(connected, "GONE_SECONDS", 0.5)
    with ThreadPoolExecutor(1) as pool:
        hold = threading.Event()
        node = next(iter(pair.nodes.values()))
        monkeypatch.setattr(node.house, "admit", lambda query: hold.wait(10) and None)
        asking = pool.submit(pair.ask, links=[pair.link("ana", first)])
        wait_for(lambda: node.open)
        first.stop()
        hold.set()
        assert isinstance(asking.exception(20), Unreachable)
        monkeypatch.undo()
        assert pair.ask()["age"] == pair.right
    first.start(pair.roster, pair.round_seconds)


# -- retry and cancel ------------------------------------------------------------------------------


class Flaky(Link):
    """A link that loses requests or answers, drawn by a seed."""

    def __init__(self, *args, seed, share, **options):
        super().__init__(*args, **options)
        self.draw, self.share, self.cut = random.Random(seed), share, 0

    def _request(self, *args, **options):
        if self.draw.random() < self.share:
            self.cut += 1
            if self.draw.random() < 0.5:
                super()._request(*args, **options)  # it arrived, and the answer was lost
            raise Unreachable("the line was cut")
        return super()._request(*args, **options)


def test_cut_lines_cost_time_only(world):
    """Half of the analyst's requests are lost, before or after they arrived: every answer is right.
    """
    link = Flaky(world.people["ana"], "hub0", (world.hubs[0].url,), seed=1, share=0.5)
    with world.federation(links=[link]) as fed:
        for _ in range(3):
            assert fed.cohort().summary(["age"])["age"] == world.right
    assert link.cut >= 2


def test_a_posting_whose_answer_was_lost_may_be_made_again_after_the_end(world, monkeypatch):
    """The registries were quicker than the second attempt: the result lies in the mailbox."""
    link = world.link("ana")
    post, room = link.post, world.hubs[0].application.room

    def slow(parcel, *seconds):
        monkeypatch.setattr(link, "post", post)
        post(parcel, *seconds)
        wait_for(lambda: not room.sessions)
        raise Unreachable("the line was cut")

    monkeypatch.setattr(link, "post", slow)
    assert world.ask(links=[link])["age"] == world.right


def test_cut_lines_of_a_node_cost_time_only(world):
    """The same at a registry: postings and polls are repeated until they get through."""
    name = next(iter(world.tables))
    world.stop_node(name)
    link = Flaky(world.people[name], "hub0", (world.hubs[0].url,), seed=5, share=0.2)
    world.run_node(name, links=[link])
    try:
        for _ in range(3):
            assert world.ask()["age"] == world.right
        assert link.cut
    finally:
        world.stop_node(name)
        world.run_node(name)
        world.settle()


def stopped_while_asking(world, exception):
    """Leave a question by an exception in its middle; until no registry works on it any more."""
    node = next(iter(world.nodes.values()))

    def progress(label, answered, of):
        raise exception

    hold = threading.Event()
    admit, node.house.admit = node.house.admit, lambda query: hold.wait(5) and None
    try:
        with pytest.raises(type(exception)):
            world.ask(progress=progress)
    finally:
        hold.set()
        node.house.admit = admit
    wait_for(lambda: not any(one.open for one in world.nodes.values()), seconds=10)


@pytest.mark.parametrize(
    "exception", [KeyboardInterrupt(), SystemExit(), RuntimeError("x")], ids=repr
)
def test_who_gives_up_says_so_and_the_registries_stop(world, exception):
    """Ctrl-C, an exit, a fault: a signed abort ends the query everywhere, long before any deadline;
    nothing is released."""
    released = world.hubs[0].application.room.counts["released"]
    stopped_while_asking(world, exception)

    assert not world.hubs[0].application.room.sessions
    assert world.hubs[0].application.room.counts["released"] == released
    assert world.ask()["age"] == world.right


def test_an_answer_that_cannot_come_any_more_is_not_waited_for(world, monkeypatch):
    """The coordinator was restarted before the analyst had heard anything: told at the next poll.
    """
    room = world.hubs[0].application.room
    link = world.link("ana")
    mail = link.mail

    def forgetful(cursor, wait, T, *_):
        monkeypatch.setattr(link, "mail", mail)
        room.boxes.pop(f"ana/{T.hex()}", None)
        raise Unreachable("the line was cut")

    monkeypatch.setattr(link, "mail", forgetful)
    with pytest.raises(Unreachable, match="hub0: this query is not in flight here"):
        world.ask(links=[link])
    wait_for(lambda: not any(one.open for one in world.nodes.values()))


def test_an_analyst_whose_time_is_over_says_so(world):
    """The end of its own waiting, too."""
    name = next(iter(world.tables))
    world.stop_node(name)
    with pytest.raises(Unreachable, match=f"no answer from {name}"):
        world.ask(timeout=1.0)
    wait_for(lambda: not world.hubs[0].application.room.sessions, seconds=10)
    world.run_node(name)
    world.settle()


def test_an_analyst_that_vanishes_is_noticed(world, monkeypatch):
    """A killed process says nothing: the coordinator notices that nobody asks for the answer any
    more."""
    from fedstats.coordinator import mailroom

    room = world.hubs[0].application.room
    name = next(iter(world.tables))
    world.stop_node(name)
    monkeypatch.setattr(mailroom, "ANALYST_SECONDS", 1.0)
    monkeypatch.setattr(connected.Connected, "_give_up", lambda self, T: None)
    with pytest.raises(KeyboardInterrupt):
        world.ask(progress=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert room.sessions
    wait_for(lambda: not room.sessions, seconds=10)
    world.run_node(name)
    world.settle()


@pytest.mark.parametrize(
    "key", ["queries", "admission", "round 0", "round 1", "verdict", "release"]
)
def test_a_full_disk_ends_the_query_at_once_and_says_so(world, key):
    """Whatever cannot be written, wherever: the registry names its disk, and nothing is released.
    """
    name = list(world.tables)[1]
    journal = world.journals[name]
    run = journal._run

    def full(sql, values=()):
        if not sql.startswith("SELECT") and (
            full.on or (key in values if key != "queries" else key in sql)
        ):
            full.on = True  # and stays full: not even the end of the query can be noted
            raise InputError(
                "the journal cannot be read or written: database or disk is full",
                hint="is the disk full, or the file read-only?",
            )
        return run(sql, values)

    full.on = False
    journal._run = full
    begun = time.monotonic()
    try:
        with pytest.raises(
            FedstatsError,
            match=f"^{name}: the journal cannot be read or written: database or disk is full",
        ):
            world.ask()
        assert full.on and time.monotonic() - begun < world.round_seconds
    finally:
        journal._run = run
    assert world.ask()["age"] == world.right


# -- whoever can mend it is told the cause ---------------------------------------------------------


def test_an_analyst_with_a_wrong_clock_is_told_how_wrong(world):
    ahead = world.link("ana", now=lambda: time.time() + 734)
    with pytest.raises(
        Refused, match=r"the clock of ana is 12 min 1[3-5] s ahead of the coordinator's"
    ) as caught:
        world.ask(links=[ahead])
    assert "set the clock" in caught.value.hint


def test_the_analyst_is_told_of_a_registrys_wrong_clock(world):
    """At once, with its size, instead of "no answer" at the end of the time."""
    name = list(world.tables)[2]
    world.stop_node(name)
    behind = world.link(name, now=lambda: time.time() - 7 * 3600)
    node = world.run_node(name, links=[behind])
    wait_for(lambda: node.lines.all[0].failures)
    begun = time.monotonic()
    with pytest.raises(
        Unreachable,
        match=f"no answer from {name} in the admission; the clock of {name} is 7 h 0 min behind",
    ):
        world.ask()
    assert time.monotonic() - begun < 10
    world.stop_node(name)
    world.run_node(name)
    world.settle()
    assert world.ask()["age"] == world.right


class Narrow(Link):
    """A link through a proxy that lets a reason through (16 kB) and no numbers (35 kB)."""

    def _request(self, method, path, content=None, **options):
        from fedstats.transport import causes

        if content and len(content) > 24 * 1024:
            raise causes.of_status(413, "", "", len(content))
        return super()._request(method, path, content, **options)


def test_a_size_limit_on_the_way_is_told_to_the_analyst(world):
    """A registry's proxy refuses its contributions: named, with the size, at once."""
    name = list(world.tables)[2]
    world.stop_node(name)
    world.run_node(name, links=[Narrow(world.people[name], "hub0", (world.hubs[0].url,))])
    begun = time.monotonic()
    with pytest.raises(
        Unreachable, match=rf"{name}: .*status 413.*larger than it lets through \(\d+ bytes\)"
    ) as caught:
        world.ask()
    assert (
        time.monotonic() - begun < world.round_seconds
        and "client_max_body_size" in caught.value.hint
    )
    world.stop_node(name)
    world.run_node(name)
    world.settle()


# -- what a node does when nothing works -----------------------------------------------------------


def test_waits_double_up_to_a_limit_and_differ(monkeypatch):
    waits = [[lines.pause(k, 60.0) for k in range(30)] for _ in range(50)]

    for k, column in enumerate(zip(*waits)):
        middle = min(60.0, 0.2 * 2**k)
        assert all(middle / 2 <= one <= middle for one in column) and len(set(column)) > 25
    assert lines.pause(10**6, 10.0) <= 10.0


def test_a_removed_member_asks_less_and_less_often_and_says_so_once(world, caplog):
    """Its key is in no roster that counts: one line in the log, and waits of up to a minute."""
    from fedstats.crypto.identity import Identity

    name = next(iter(world.tables))
    node = world.node(
        name,
        journal=Journal(),
        links=[Link(Identity.generate("removed"), "hub0", (world.hubs[0].url,))],
    )
    (line,) = node.lines.all
    waits = []
    with caplog.at_level("INFO", logger="fedstats.node"):
        for _ in range(12):
            line.due = 0.0
            node.step(0.0)
            waits.append(line.due - time.monotonic())
    node.lines.close()

    assert waits[-1] > 29.0 and waits[0] < 1.0 and line.failures == 12
    (told,) = [one.getMessage() for one in caplog.records]
    assert "not in the roster" in told and "same consortium file" in told


def test_a_second_process_on_one_key_is_told_and_the_queries_go_on(world, caplog):
    """The one that was started last answers; the other one says once what is wrong, and does not
    spin."""
    name = next(iter(world.tables))
    with caplog.at_level("WARNING", logger="fedstats.node"):
        second = world.node(name, journal=Journal())
        thread = threading.Thread(target=second.run, daemon=True)
        thread.start()
        wait_for(lambda: world.nodes[name].lines.all[0].failures)
        for _ in range(2):
            assert world.ask()["age"] == world.right
        told = [one.getMessage() for one in caplog.records if "another process" in one.getMessage()]
        assert len(told) == 1 and "a second node" in told[0]
    second.stopping.set()
    thread.join(20)
    world.stop_node(name)
    world.run_node(name)
    world.settle()


def test_a_fault_that_stays_is_reminded_of_once_in_a_while(world, monkeypatch, caplog):
    line = lines.Line(world.link("ana"))
    clock = itertools.count(0.0, 600.0)
    monkeypatch.setattr(lines.time, "monotonic", lambda: next(clock))
    with caplog.at_level("WARNING", logger="fedstats.node"):
        for _ in range(24):
            line.failed(Tampered("x"), 10.0)
    line.link.close()

    assert len(caplog.records) == 4


def test_mail_that_is_no_mail_does_not_end_a_node(world):
    """A coordinator that puts a signed request into a mailbox: the node goes on."""
    from fedstats.wire import messages

    name = next(iter(world.tables))
    room = world.hubs[0].application.room
    poll = messages.Poll(member="ana", coordinator="hub0", path="/", nonce=bytes(16), time=1.0)
    room._put((name,), bytes(messages.sign(poll, world.people["ana"])), bytes(32))

    assert world.ask()["age"] == world.right


def test_the_environment_is_looked_at_before_anything_is_called(world, monkeypatch):
    """A proxy or a file of certificates that is none: named, without a password, before the first
    call."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(InputError, match="SSL_CERT_FILE"):
        world.link("ana")
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("https_proxy", "shoe://user:secret@proxy:1")
    with pytest.raises(InputError, match="https_proxy") as caught:
        world.link("ana")
    assert "secret" not in str(caught.value)


def test_coordinators_are_named_in_the_order_of_the_roster():
    world = World(2, nodes=False)

    assert world.roster.coordinators == tuple((hub.me.name, hub.url) for hub in world.hubs)
    assert isinstance(world.roster, Consortium) and free_port() and Aborted.final is False
