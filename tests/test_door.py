"""The coordinator under attack: by somebody without a key, who may cost nothing, and by a member,
who may not cost much."""

import base64
import json
import os
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from fedstats.coordinator import app, door, limits, mailroom
from fedstats.errors import MessageError, Refused, Tampered, Unreachable
from fedstats.transport.http import Link
from fedstats.wire import messages
from fedstats.wire.messages import Poll, Post

from .hub import World, wait_for
from .test_link import certificate

pytestmark = pytest.mark.network

HOST = "127.0.0.1"
POST_HEAD = b"POST /v1/parcels HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(autouse=True)
def near(monkeypatch):
    """Loopback is never asked of a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, HOST)


@pytest.fixture(scope="module")
def quiet():
    """A coordinator without nodes."""
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = HOST
    with World(nodes=False) as world:
        yield world


@pytest.fixture
def hub(quiet):
    """The coordinator; whatever a test has connected is gone afterwards."""
    hub = quiet.hubs[0]
    yield hub
    wait_for(lambda: not hub.application.visitors.strange, seconds=40)


@pytest.fixture(scope="module")
def world():
    """A coordinator with three nodes."""
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = HOST
    with World() as world:
        yield world


def answer(near):
    """Status and plain content of one HTTP answer."""
    with near.makefile("rb") as file:
        status = int(file.readline().split()[1])
        heads = dict(
            line.decode().lower().strip().split(": ", 1) for line in iter(file.readline, b"\r\n")
        )
        return status, heads, file.read(int(heads.get("content-length", 0)))


def problem(hub, sent):
    """How a request of this form is refused: (status, the Problem)."""
    with hub.call(sent) as near:
        status, _, content = answer(near)
        return status, json.loads(content)


def closed(near, seconds):
    """Whether the other side closes within so many seconds."""
    near.settimeout(seconds)
    try:
        while near.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


# -- somebody without a key ------------------------------------------------------------------------


ATTACKS = {
    "bodies that never come": POST_HEAD % 1000,
    "half a head": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ",
    "nothing at all": b"",
    "garbage": b"\x16\x03\x01\x02\x00\x01",
    "a signature of nobody": b"GET /v1/mail HTTP/1.1\r\nHost: x\r\n"
    b"Authorization: fedstats AAAA\r\n\r\n",
}


@pytest.mark.parametrize("sent", ATTACKS.values(), ids=ATTACKS)
def test_a_crowd_of_strangers_costs_a_member_nothing(world, sent):
    """200 connections that hold on to what they can: the next question is answered as if they were
    not there."""
    hub = world.hubs[0]
    crowd = [socket.create_connection((HOST, hub.port)) for _ in range(200)]
    try:
        for one in crowd:
            one.sendall(sent)

        assert world.ask()["age"] == world.pooled()["age"]
    finally:
        for one in crowd:
            one.close()


@pytest.mark.parametrize("size", [100, 128 << 20])
def test_a_body_of_a_stranger_is_refused_before_it_is_read(hub, size):
    """The answer is there while not one byte of the body has been sent, and no room was made for
    it."""
    with hub.call(POST_HEAD % size) as near:
        status, heads, content = answer(near)

    assert (status, json.loads(content)["code"]) == (403, "tampered")
    assert heads["connection"] == "close" and not hub.application.space.taken


def test_a_refused_sender_can_read_why_while_it_still_sends(quiet, hub):
    """A member with a wrong clock sends megabytes; it hears of its clock, not of a broken line."""
    late = quiet.link("ana", now=lambda: time.time() - 3725)
    with pytest.raises(Refused, match="the clock of ana is 1 h 2 min behind the coordinator's"):
        late.post(bytes(8 << 20))
    late.close()


def test_what_a_stranger_sends_after_the_answer_is_thrown_away_for_a_moment_only(hub):
    """An endless body ends with its connection."""
    with hub.call(POST_HEAD % (128 << 20)) as near:
        answer(near)
        with pytest.raises(OSError):
            near.sendall(bytes(64 << 20))


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", b"POST"])
def test_a_head_has_so_many_seconds(hub, monkeypatch, sent):
    """Half a head, a byte now and then: closed at the deadline, whatever is still coming."""
    monkeypatch.setattr(door, "HEAD_SECONDS", 0.5)
    with hub.call(sent) as near:

        def trickle():
            for _ in range(100):
                try:
                    near.send(b"a")
                except OSError:
                    return
                time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        assert closed(near, 10)


def test_the_head_of_a_later_request_has_so_many_seconds_too(hub, monkeypatch):
    """One good request buys no time for a bad one."""
    with hub.call(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as near:
        assert answer(near)[0] == 200
        monkeypatch.setattr(door, "HEAD_SECONDS", 0.5)
        near.sendall(b"GET /healthz HT")

        assert closed(near, 4)


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"a" * (1 << 20),
        b"Content-Length: 1\r\nContent-Length: 2",
        b"\x00: b",
        b"Transfer-Encoding: chunked",
        b"Content-Length: -1",
        b"Content-Length: 9e9",
    ],
)
def test_a_head_that_is_none_is_refused_and_closed(hub, head):
    with hub.call() as near:
        try:
            near.sendall(b"POST /v1/parcels HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        except OSError:
            return  # closed before all of it had left
        assert closed(near, 10)


def test_strangers_have_places_of_their_own_and_the_biggest_crowd_gives_way():
    """Ten places: the crowd of one address loses its oldest; another address and the members keep
    theirs."""
    gone = []

    def visitor(address):
        found = door.Visitor(address, lambda: gone.append(found))
        return found

    visitors = door.Visitors(files=40, members=2)
    assert visitors.most_strangers == 10
    member, other = visitor("192.0.2.1"), visitor("198.51.100.7")
    visitors.arrives(member)
    visitors.signed(member, "lyon")
    visitors.arrives(other)
    crowd = [visitor("192.0.2.1") for _ in range(50)]
    for one in crowd:
        visitors.arrives(one)

    assert gone == crowd[:41] and visitors.strange == 10 and visitors.turned_away == 41
    for one in (member, other, *crowd):
        visitors.leaves(one)
        visitors.leaves(one)
    assert not visitors.strange and not visitors.strangers and not visitors.members


def test_a_member_has_so_many_connections_and_takes_nobody_elses():
    gone = []
    visitors = door.Visitors(files=40, members=2)
    mine = []
    for k in range(30):
        one = door.Visitor("192.0.2.1", lambda k=k: gone.append(k))
        visitors.arrives(one)
        visitors.signed(one, "lyon" if k else "turin")
        mine.append(one)

    assert 0 not in gone and len(visitors.members["lyon"]) == visitors.most_per_member
    assert gone == list(range(1, 30 - visitors.most_per_member))


def test_the_addresses_of_one_household_count_as_one():
    assert (
        limits.network("2001:db8:1:2::7")
        == limits.network("2001:db8:1:2:ffff::1")
        != limits.network("2001:db8:1:3::7")
    )
    assert (
        limits.network("::ffff:192.0.2.1") == "192.0.2.1"
        and limits.network("fe80::1%eth0") == "fe80::"
    )
    assert limits.network("unix") == ""


def test_a_strangers_bad_requests_do_not_lock_out_a_member_of_the_same_address(quiet, hub):
    """300 bad requests: the stranger is told to wait, the member beside it is not."""
    last = None
    for _ in range(limits.STRANGE_AT_ONCE + 5):
        with hub.call(POST_HEAD % 1 + b"x") as near:
            last = answer(near)
    assert last[0] == 429 and last[1]["retry-after"] == "10"

    link = quiet.link("ana")
    for _ in range(20):
        assert link.progress(bytes(32))["phase"] == "over"
    link.close()
    hub.application.strangers.buckets.clear()


def test_health_checks_are_answered_whatever_strangers_do(hub):
    """Later, but in a second: a crowd must not make a supervisor restart the coordinator."""
    for _ in range(limits.STRANGE_AT_ONCE + 3):
        with hub.call(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", seconds=5
        ) as near:
            assert answer(near)[0] == 200
    hub.application.strangers.buckets.clear()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /", 404),
        (b"GET /v1/parcels", 405),
        (b"DELETE /v1/mail", 405),
        (b"GET /%00", 404),
        (b"GET /v1/../../etc/passwd", 404),
    ],
)
def test_what_is_not_here_is_said_in_one_form(hub, line, status):
    found = problem(hub, line + b" HTTP/1.1\r\nHost: x\r\n\r\n")

    assert found == (
        status,
        {
            "code": "message",
            "who": "hub0",
            "what": "there is nothing here for such a request",
            "hint": "",
        },
    )


@pytest.mark.slow
def test_unsigned_floods_take_no_memory(tmp_path):
    """Twelve bodies of 128 MB and 1 500 half heads at once, against a process of its own: it grows
    by less than 64 MB."""
    from fedstats.demo import laptop

    from . import flat_registries

    laptop.prepare(
        tmp_path, flat_registries.registries(3, sites=3, patients=600), flat_registries.DICTIONARY
    )
    here = laptop.Laptop(tmp_path)
    with here:
        memory = Path(f"/proc/{here.running['coordinator'].pid}/statm")

        def size():
            return int(memory.read_text().split()[1]) * 4096

        before, sizes = size(), []
        crowd = [socket.create_connection((HOST, here.port)) for _ in range(1500)]
        for one in crowd:
            one.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 8000)

        def flood():
            with socket.create_connection((HOST, here.port)) as near:
                try:
                    near.sendall(POST_HEAD % (128 << 20))
                    for _ in range(128):
                        near.sendall(bytes(1 << 20))
                except OSError:
                    pass

        floods = [threading.Thread(target=flood) for _ in range(12)]
        for one in floods:
            one.start()
        while any(one.is_alive() for one in floods):
            sizes.append(size())
            time.sleep(0.02)
        for one in crowd:
            one.close()

        assert max(sizes) - before < 64 << 20


# -- TLS -------------------------------------------------------------------------------------------


def test_tls_is_agreed_on_in_time_or_not_at_all(tmp_path, monkeypatch):
    """A silent caller is let go; a member is answered, also with its request right behind the
    handshake."""
    file = str(certificate(tmp_path / "hub.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", file)
    with World(nodes=False, tls=(file, file)) as world:
        hub = world.hubs[0]
        monkeypatch.setattr(door, "HEAD_SECONDS", 1.0)
        with hub.call() as near, hub.call(b"GET /healthz HTTP/1.1\r\n\r\n") as plain:
            assert closed(near, 10) and closed(plain, 10)
        monkeypatch.setattr(door, "HEAD_SECONDS", 10.0)
        link = world.link("ana")
        for _ in range(3):
            assert link.progress(bytes(32))["phase"] == "over"
        link.post(
            bytes(
                messages.sign(
                    messages.Abort(
                        T=bytes(32), sender="ana", problem=messages.Problem("aborted", "ana", "x")
                    ),
                    world.people["ana"],
                )
            )
        )
        context = ssl.create_default_context(cafile=file)
        with hub.call() as raw, context.wrap_socket(raw, server_hostname=HOST) as near:
            near.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert answer(near)[0] == 200
        link.close()
        wait_for(lambda: not hub.application.visitors.strange)


def test_files_that_are_no_certificate_are_named(tmp_path):
    from fedstats.errors import InputError

    (tmp_path / "no.pem").write_text("no")
    with pytest.raises(InputError, match="are not a certificate and its key"):
        app._context(str(tmp_path / "no.pem"), str(tmp_path / "no.pem"))


# -- signed heads ----------------------------------------------------------------------------------


def signed(world, name, parcel=b"x", **other):
    """The head of a POST, right but for `other`."""
    head = {
        "member": name,
        "coordinator": "hub0",
        "path": "/v1/parcels",
        "nonce": os.urandom(16),
        "time": time.time(),
        "length": len(parcel),
        "digest": messages.digest_of(parcel),
    } | other
    text = base64.b64encode(messages.sign(Post(**head), world.people[name]).signed)
    return POST_HEAD[:-4] % len(parcel) + b"\r\nAuthorization: fedstats " + text + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("other", "code"),
    [
        ({"path": "/v1/mail"}, "message"),
        ({"coordinator": "hub1"}, "message"),
        ({"length": 2}, "message"),
        ({"digest": bytes(32)}, "tampered"),
        ({"time": 0.0}, "refused"),
        ({"time": 1e12}, "refused"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_signature_for_something_else_is_refused(quiet, hub, other, code):
    """Another path, coordinator, length, digest or time than that of this request."""
    assert problem(hub, signed(quiet, "ana", **other) + b"x")[1]["code"] == code


def test_a_poll_does_not_pay_for_a_parcel(quiet, hub):
    """The signature of a GET on a POST, and the other way round."""
    poll = Poll(
        member="ana", coordinator="hub0", path="/v1/parcels", nonce=bytes(16), time=time.time()
    )
    text = base64.b64encode(messages.sign(poll, quiet.people["ana"]).signed)
    head = POST_HEAD[:-4] % 1 + b"\r\nAuthorization: fedstats " + text + b"\r\n\r\n"

    assert problem(hub, head)[1] == {
        "code": "message",
        "who": "hub0",
        "what": "the signature was made for another request",
        "hint": "",
    }


def test_the_same_head_twice_is_carried_out_once(quiet, hub):
    """A parcel that comes twice on the line is taken once, and said to be taken; one that failed is
    not tried again."""
    abort = bytes(
        messages.sign(
            messages.Abort(
                T=bytes(32), sender="ana", problem=messages.Problem("aborted", "ana", "x")
            ),
            quiet.people["ana"],
        )
    )
    head = signed(quiet, "ana", abort)
    before = hub.application.room.counts["bytes_in"]
    for _ in range(2):
        with hub.call(head + abort) as near:
            assert answer(near)[0] == 204
    assert hub.application.room.counts["bytes_in"] - before == len(abort)

    head = signed(quiet, "ana")
    assert problem(hub, head + b"x")[1]["what"].startswith("this is not a parcel")
    assert problem(hub, head + b"x")[1]["what"] == "this request has been made before"


@pytest.mark.parametrize(
    "query",
    [
        "wait=nan",
        "wait=inf",
        "wait=-1",
        "wait=1e999",
        "wait=1_0",
        "wait=",
        "wait=%D9%A3",
        "after=-1",
        "after=1.5",
        "after=nan",
        "after=%D9%A3",
        "after=" + "9" * 40,
        "after=",
        "after=1&after=2",
        "query=x",
        "query=..%2Fana",
        "query=" + "0" * 63,
        "query=" + "G" * 64,
        "boot=%00",
        "boot=" + "a" * 65,
        "reader=%0A",
        "shoe=1",
    ],
)
def test_every_hostile_parameter_is_one_clean_error(quiet, hub, query):
    """A member's own software may be broken: told at once what is wrong."""
    link = quiet.link("aarhus")
    with pytest.raises(MessageError) as caught:
        link._request("GET", f"/v1/mail?{query}", timeout=10)
    link.close()

    assert caught.value.who == "hub0" and len(str(caught.value)) > 20


@pytest.mark.parametrize("T", ["", "x", "0" * 63, "%00" * 32])
def test_a_query_is_named_by_its_digits(quiet, hub, T):
    link = quiet.link("ana")
    with pytest.raises((MessageError, Unreachable)):
        link._request("GET", f"/v1/queries/{T}", timeout=10)
    link.close()


# -- members ---------------------------------------------------------------------------------------


def test_a_member_who_asks_too_often_waits_and_nobody_else_does(quiet, hub, monkeypatch):
    """429 with the seconds to wait; another member is answered meanwhile."""
    greedy, other = quiet.link("ana"), quiet.link("bari")
    bucket = hub.application.room.account("ana").bucket
    for name, value in (("left", 0.0), ("rate", 0.5), ("at", time.monotonic() + 5.0)):
        monkeypatch.setattr(bucket, name, value)
    with pytest.raises(Unreachable, match="too much to do") as caught:
        greedy.progress(bytes(32))

    assert caught.value.after == 2.0 and not caught.value.final and not caught.value.who
    assert other.progress(bytes(32))["phase"] == "over"
    for link in (greedy, other):
        link.close()


def test_a_member_has_so_many_requests_at_a_time(quiet, hub, monkeypatch):
    account = hub.application.room.account("ana")
    monkeypatch.setattr(account, "busy", limits.MOST_AT_A_TIME)
    link = quiet.link("ana")
    with pytest.raises(Unreachable, match="too much to do"):
        link.post(b"x")
    link.close()


def test_one_longest_parcel_of_a_member_is_read_at_a_time():
    """Others find room beside it; who finds none in time is told so; small parcels need none."""
    import asyncio

    async def story():
        room = limits.Room(most=250, each=100)
        limits.SHORT = 10
        async with (
            room.for_parcel("a", 100, 1),
            room.for_parcel("b", 100, 1),
            room.for_parcel("a", 10, 1),
        ):
            for member, size in (("a", 11), ("c", 51)):
                with pytest.raises(TimeoutError):
                    async with room.for_parcel(member, size, 0.05):
                        pass
            async with room.for_parcel("c", 50, 1):
                assert sum(room.taken.values()) == 250
        assert not room.taken

    short = limits.SHORT
    try:
        asyncio.run(story())
    finally:
        limits.SHORT = short


def test_nonces_are_remembered_as_long_as_they_could_come_again_and_no_longer():
    """A year of requests: what is kept is bounded by the last twenty minutes."""
    nonces = limits.Nonces(600.0)
    for k in range(100_000):
        assert nonces.seen(k.to_bytes(16, "big"), now=k * 5.0) is None
        assert nonces.seen((max(0, k - 119)).to_bytes(16, "big"), now=k * 5.0) is False
    assert len(nonces.young) + len(nonces.old) <= 240
    nonces.settle(b"new")
    assert nonces.seen(b"new", now=5e5) is True
    nonces.seen(b"back", now=0.0)  # a clock that was set back
    assert nonces.seen(b"back", now=1.0) is False


def test_a_bucket_fills_with_time():
    bucket = limits.Bucket(rate=2.0, most=3.0)

    assert [bucket.wait(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert (
        bucket.wait(10.5) == 0.0
        and bucket.wait(10.5) == 0.5
        and bucket.wait(1e9) == 0.0
        and bucket.left == 2.0
    )


def queries(world, count, size=0):
    """Signed queries of one analyst, each opened and given up at once."""
    from fedstats.query.analysis import Question
    from fedstats.wire.analyst import Analyst

    for _ in range(count):
        analyst = Analyst(world.people["ana"], world.roster, random=os.urandom)
        yield (
            analyst,
            bytes(
                analyst.start(
                    [Question("summary/1", {"names": ["age"]})],
                    None,
                    tuple(world.tables),
                    purpose="x" * size,
                    now=1000.0,
                    lifetime=600.0,
                )
            ),
        )


def give_up(world, room, analyst, clock):
    abort = messages.Abort(
        T=analyst.T, sender="ana", problem=messages.Problem("aborted", "ana", "x")
    )
    room.receive(bytes(messages.sign(abort, world.people["ana"])), now=1000.0, clock=clock)


def test_a_flood_of_queries_is_stopped_at_its_analyst_and_drops_nobodys_mail(quiet, monkeypatch):
    """A registry that is away for long finds what is still open; the dead queries of a flood have
    gone, and a limit has stopped it."""
    monkeypatch.setattr(mailroom, "MOST_RECENT_PER_ANALYST", 10)
    room = mailroom.Mailroom(quiet.people["hub0"], quiet.roster)
    ((first, raw),) = queries(quiet, 1)
    room.receive(raw, now=1000.0, clock=0.0)
    opened = 0

    def flood(clock):
        for opened, (analyst, raw) in enumerate(queries(quiet, 20)):
            try:
                room.receive(raw, now=1000.0, clock=clock)
            except Refused:
                return opened
            give_up(quiet, room, analyst, clock)
        return 20

    for minute in range(9):
        room.tick(61.0 * minute)
        opened += flood(61.0 * minute)
    waiting = room.boxes["aarhus"].waiting

    assert opened == 9 * 9 and first.T in room.sessions
    assert waiting[0].T == first.T and len(waiting) == 1 + 2 * 9


def test_what_is_left_of_dead_queries_goes(quiet):
    """Never seen: gone with the answer's time. Seen: its end waits ten minutes. In flight: never
    dropped."""
    room = mailroom.Mailroom(quiet.people["hub0"], quiet.roster)
    (alive, raw_alive), (dead, raw_dead) = queries(quiet, 2)
    for raw in (raw_alive, raw_dead):
        room.receive(raw, now=1000.0, clock=0.0)
    assert len(room.mail("aarhus", 0)) == 2  # handed to one of three, not acknowledged
    give_up(quiet, room, dead, 1.0)
    room.tick(1.0 + mailroom.ANSWER_SECONDS)
    waiting = {name: [one.T for one in room.boxes[name].waiting] for name in quiet.tables}

    assert waiting == {"aarhus": [alive.T, dead.T, dead.T], "bari": [alive.T], "calgary": [alive.T]}
    room.sessions[alive.T].deadline = 1e9
    room.tick(1.0 + mailroom.LEFTOVER_SECONDS)
    assert [one.T for one in room.boxes["aarhus"].waiting] == [alive.T]


def test_bytes_of_queries_are_limited_per_analyst(quiet, monkeypatch):
    monkeypatch.setattr(mailroom, "MOST_RECENT_BYTES", 5000)
    room = mailroom.Mailroom(quiet.people["hub0"], quiet.roster)
    *fits, (_, too_much) = queries(quiet, 3, size=1500)
    for _, raw in fits:
        room.receive(raw, now=1000.0, clock=0.0)
    with pytest.raises(Refused, match="too many queries of this analyst"):
        room.receive(too_much, now=1000.0, clock=0.0)


def test_an_abort_that_overtakes_its_query_ends_it(quiet):
    room = mailroom.Mailroom(quiet.people["hub0"], quiet.roster)
    ((analyst, raw),) = queries(quiet, 1)
    give_up(quiet, room, analyst, 0.0)
    with pytest.raises(Refused, match="this query is over"):
        room.receive(raw, now=1000.0, clock=0.0)


def test_a_mailbox_has_one_reader_and_the_last_that_started_is_it(quiet, hub):
    """A second node on the same key: it follows the first, which is told so and does not spin."""
    old, new = quiet.link("bari"), quiet.link("bari")
    boot, _ = old.mail(0, 0.0)
    old.mail(0, 0.0, boot=boot)
    new.mail(0, 0.0)

    with pytest.raises(Refused, match="another process reads this mailbox") as caught:
        old.mail(0, 0.0, boot=boot)
    assert "second node" in caught.value.hint
    new.mail(0, 0.0, boot=boot)
    hub.application.room.boxes["bari"].heard = float("-inf")  # the new one has gone silent
    old.mail(0, 0.0, boot=boot)
    for link in (old, new):
        link.close()


def test_mail_that_was_taken_does_not_wake_its_reader_for_ever(quiet):
    """A cursor behind what is there any more: nothing presses, so a long-poll waits."""
    room = mailroom.Mailroom(quiet.people["hub0"], quiet.roster)
    ((_, raw),) = queries(quiet, 1)
    room.receive(raw, now=1000.0, clock=0.0)
    assert room.presses("bari", 0) and room.mail("bari", 0) and not room.mail("bari", 1)

    assert not room.presses("bari", 0)


def test_a_reader_that_takes_nothing_is_cut(quiet, monkeypatch):
    """A member that does not read its answer holds on to it for so many seconds only."""
    hub = quiet.hubs[0]
    monkeypatch.setattr(door, "WRITE_SECONDS", 0.5)
    hub.application.room.boxes["calgary"].put(bytes(32 << 20), bytes(32))
    link = quiet.link("calgary")
    head = link._signature("/v1/mail?after=0&wait=0", None).encode()
    with hub.call(
        b"GET /v1/mail?after=0&wait=0 HTTP/1.1\r\nHost: x\r\nAuthorization: " + head + b"\r\n\r\n"
    ) as near:
        wait_for(lambda: hub.application.visitors.members["calgary"])
        wait_for(lambda: not hub.application.visitors.members.get("calgary"))
        assert closed(near, 10)
    boot, mail = link.mail(0, 0.0)
    assert len(mail) == 1 and len(mail[0][1]) == 32 << 20
    link.mail(mail[0][0], 0.0, boot=boot)
    link.close()


def test_who_is_not_in_the_roster_is_told_what_to_look_at(quiet, hub):
    from fedstats.crypto.identity import Identity

    stranger = Link(Identity.generate("nobody"), "hub0", (hub.url,))
    with pytest.raises(Tampered, match="not in the roster") as caught:
        stranger.mail(0, 0.0)
    stranger.close()
    assert "same consortium file" in caught.value.hint
