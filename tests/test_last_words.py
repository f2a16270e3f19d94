"""Who ends a query says why, however bad the moment: the coordinator is busy, a line is cut, somebody lies."""

import os
import re
from types import SimpleNamespace

import msgspec
import pytest

import nodes.service
from fedstats import Dictionary
from fedstats.client import connected
from fedstats.coordinator.mailroom import CLOCK_SECONDS, Mailroom, box_of
from fedstats.crypto.identity import Identity
from fedstats.errors import Aborted, FedstatsError, InputError, Problem, Refused, Unreachable, as_error
from fedstats.query.analysis import Question
from fedstats.transport import causes
from fedstats.transport.http import Link
from fedstats.wire import messages
from fedstats.wire.analyst import Analyst
from fedstats.wire.messages import Abort, Admission, Poll, Verdict
from fedstats.wire.roster import Consortium, member_of
from fedstats.wire.transcript import SKEW_SECONDS, check_query
from nodes.config import load

from . import flat_registries
from .hub import World

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


class Hesitant(Link):
    """A link whose first posting of a bad word does not get through: the line is cut, or the coordinator is busy."""

    def __init__(self, *args, fault, **options):
        super().__init__(*args, **options)
        self.fault, self.held = fault, 0

    def post(self, parcel, *more):
        message = messages.decode(messages._strict(messages.split(parcel)[0], messages.Signed).body)
        if is_no(message) and not self.held:
            self.held += 1
            raise self.fault()
        super().post(parcel, *more)


def is_no(message):
    if isinstance(message, (Admission, Verdict)):
        return not getattr(message, "accept", getattr(message, "release", True))
    return isinstance(message, Abort)


def no(*_):
    raise Refused("not while Dr Roux is away", hint="ask in September")


def fault(*_):
    raise Refused("the table has changed since the node was started", hint="start it again")


ENDS = {"admit": no, "rows": fault, "approve": no}
FAULTS = {"cut": lambda: Unreachable("the line was cut"), "busy": lambda: causes.busy("1")}


@pytest.mark.parametrize("moment", ENDS)
@pytest.mark.parametrize("why", FAULTS)
def test_a_refusal_that_does_not_get_through_at_once_is_said_again(world, monkeypatch, moment, why):
    """At admission, while it computes, before the release: everybody hears it long before a deadline."""
    name = list(world.tables)[1]
    world.stop_node(name)
    link = Hesitant(world.people[name], "hub0", (world.hubs[0].url,), fault=FAULTS[why])
    node = world.run_node(name, links=[link])
    world.settle()
    monkeypatch.setattr(node.house, moment, ENDS[moment])
    try:
        with pytest.raises(FedstatsError) as caught:
            world.ask(timeout=10.0)
        assert link.held and isinstance(caught.value, Refused), caught.value
    finally:
        monkeypatch.undo()
    assert world.ask()["age"] == world.right


class Narrow(Link):
    """A link through a proxy that lets nothing through that is larger than 4 kB: not even a reason."""

    def _request(self, method, path, content=None, **options):
        if content and len(content) > 4096:
            raise causes.of_status(413, "", "", len(content))
        return super()._request(method, path, content, **options)


def test_who_cannot_say_why_it_leaves_says_that_it_leaves(world):
    """The others do not wait for the end of the round."""
    name = list(world.tables)[2]
    world.stop_node(name)
    world.run_node(name, links=[Narrow(world.people[name], "hub0", (world.hubs[0].url,))])
    world.settle()
    try:
        with pytest.raises(Aborted, match=f"{name}: left the query"):
            world.ask()
    finally:
        world.stop_node(name)
        world.run_node(name)
        world.settle()
    assert world.ask()["age"] == world.right


# -- who says what: words of one party are never shown as another's -------------------------------------------------------------


@pytest.fixture
def asked():
    """A query that has just been asked, without a socket: (analyst, roster, everybody's keys)."""
    roles = {"a": "registry", "b": "registry", "c": "registry", "ana": "analyst", "hub": "coordinator"}
    people = {name: Identity.generate(name) for name in roles}
    digest = Dictionary.from_dict(flat_registries.DICTIONARY).digest
    roster = Consortium(name="room", epoch=1, dictionary="", dictionary_sha256=digest,
                        members=tuple(member_of(people[name], role) for name, role in roles.items()))
    analyst = Analyst(people["ana"], roster, random=os.urandom)
    analyst.start([Question("summary/1", {"names": ["age"]})], None, ("a", "b", "c"), purpose="", now=1000.0, lifetime=600.0)
    return analyst, roster, people


@pytest.mark.parametrize("code", ["refused", "internal", "question", "not_converged"])
@pytest.mark.parametrize(("sender", "says"), [("hub", "hub"), ("ana", "ana"), ("b", "all registries")])
def test_what_all_registries_conclude_is_said_by_a_registry_only(asked, code, sender, says):
    """A coordinator that makes up a refusal ("fewer than 10 patients") is shown as its author."""
    analyst, _, people = asked
    problem = Problem(code, "", "the cohort has fewer than 50 patients")
    analyst.receive(messages.sign(Abort(T=analyst.T, sender=sender, problem=problem), people[sender]))

    assert analyst.problem.who == says


@pytest.mark.parametrize(("query", "seconds", "words"), [
    ({}, -734, "the query comes from the future: it was made 12 min 14 s ahead of this registry's clock"),
    ({}, 600 + 734, "the query has expired: it was made 22 min 14 s behind this registry's clock"),
    ({"expires": 1000.0 + 31 * 86_400}, 0, "the query would live longer than 30 days")])
def test_a_registry_says_how_far_the_clocks_are_apart(asked, query, seconds, words):
    """The size is half of the remedy."""
    analyst, roster, _ = asked
    with pytest.raises(Refused, match=re.escape(words)) as caught:
        check_query(msgspec.structs.replace(analyst.query, **query), roster, 1000.0 + seconds)
    assert caught.value.hint


@pytest.mark.parametrize("later", [SKEW_SECONDS + 1, 7200.0])
def test_an_old_request_sent_again_does_not_end_the_queries_of_a_member_that_is_there(asked, later):
    """Somebody on the line keeps what a registry once signed; the registry itself goes on asking with a right clock."""
    analyst, roster, people = asked
    mailroom = Mailroom(people["hub"], roster)

    def ask_for_mail(time, now):
        poll = Poll(member="b", coordinator="hub", path="/v1/mail", nonce=os.urandom(16), time=time)
        signed = messages.sign(poll, people["b"]).signed
        mailroom.check_poll(signed, "/v1/mail", now=now)

    now = 1000.0 + later
    analyst.start([Question("summary/1", {"names": ["age"]})], None, ("a", "b", "c"), purpose="", now=now, lifetime=600.0)
    mailroom.receive(bytes(analyst.parcel), now=now, clock=0.0)
    ask_for_mail(now, now)  # it fetches the query, and thinks about it
    with pytest.raises(Refused, match="the clock of b is"):
        ask_for_mail(1000.0, now + 1)
    mailroom.tick(100.0)
    assert analyst.T in mailroom.sessions

    analyst.start([Question("summary/1", {"names": ["age"]})], None, ("a", "b", "c"), purpose="", now=now, lifetime=600.0)
    mailroom.receive(bytes(analyst.parcel), now=now, clock=100.0)
    with pytest.raises(Refused, match="the clock of b is"):        # this one it has not come for
        ask_for_mail(1000.0, now + 2)
    mailroom.tick(100.0 + CLOCK_SECONDS)
    assert analyst.T in mailroom.sessions
    mailroom.tick(101.0 + CLOCK_SECONDS)
    assert analyst.T not in mailroom.sessions


@pytest.mark.parametrize(("ahead", "words"), [
    ({"a": 7200.0, "b": 7260.0, "c": 7190.0}, "the coordinator's clock is 2 h 0 min behind those of all registries"),
    ({"a": -7200.0, "b": -7260.0, "c": -7190.0}, "the coordinator's clock is 2 h 0 min ahead of those of all registries"),
    ({"a": 7200.0, "b": -7200.0, "c": 7200.0}, "the clock of b is 2 h 0 min behind the coordinator's"),
    ({"b": 7200.0}, "the clock of b is 2 h 0 min ahead of the coordinator's")])
def test_where_all_clocks_differ_alike_it_is_the_coordinators_own(asked, ahead, words):
    """Three hospitals are not told to set their clocks because a fourth machine has a wrong one."""
    analyst, roster, people = asked
    mailroom = Mailroom(people["hub"], roster)
    mailroom.receive(bytes(analyst.parcel), now=1000.0, clock=0.0)
    for name, seconds in ahead.items():
        poll = Poll(member=name, coordinator="hub", path="/v1/mail", nonce=os.urandom(16), time=1000.0 + seconds)
        with pytest.raises(Refused):
            mailroom.check_poll(messages.sign(poll, people[name]).signed, "/v1/mail", now=1000.0)
    mailroom.tick(1.0 + CLOCK_SECONDS)
    (_, raw) = mailroom.mail(box_of("ana", analyst.T), 0)[-1]
    told = messages.read(raw, roster.public).message.problem

    assert words in told.what and ("coordinator's machine" in told.hint) == (words.startswith("the coordinator"))


ESCAPES = "too few\x1b[2J\x1b[1;1Hmean age 41.2\nfedstats: \u202eresult written\x07"


def test_what_others_say_is_one_line_without_control_characters(asked):
    """A coordinator's words cannot clear the analyst's screen, nor write lines of their own into a node's log."""
    analyst, _, people = asked
    problem = Problem("unreachable", "hub\r", ESCAPES, ESCAPES)
    analyst.receive(messages.sign(Abort(T=analyst.T, sender="hub", problem=problem), people["hub"]))

    assert str(analyst.problem).isprintable() and analyst.problem.hint.isprintable()
    assert str(analyst.problem).startswith("hub: too few") and as_error(problem).who == "hub "


@pytest.mark.parametrize("field", ["name", "dictionary", "dictionary_sha256", "treatments"])
def test_a_consortium_file_has_readable_texts(asked, field):
    """Everybody who looks at it shows them in a terminal."""
    with pytest.raises(InputError, match="control character"):
        msgspec.structs.replace(asked[1], **{field: "ms\x1b[2J"}).check()


@pytest.mark.parametrize(("left", "wait", "patience"), [(600.0, 10.0, 10.0), (16.0, 10.0, 6.0), (5.0, 5.0, 3.0), (-1.0, 0.0, 3.0)])
def test_a_coordinator_that_says_nothing_is_not_waited_for_longer_than_the_time_that_is_left(monkeypatch, left, wait, patience):
    """Whoever gives a question 10 seconds does not wait 30 for a machine that is frozen."""
    asked_for = []
    link = SimpleNamespace(mail=lambda cursor, wait, T, boot, patience: asked_for.append((wait, patience)) or ("", []))
    roster = SimpleNamespace(effective_rules=None)
    world = connected.Connected(None, roster, None, link, ())
    monkeypatch.setattr(connected.time, "monotonic", lambda: 1000.0)
    world._poll(bytes(32), 0, "", 1000.0 + left)

    assert asked_for == [(wait, patience)]


@pytest.mark.parametrize(("entry", "words"), [
    ('data_cut = ""', "data_cut is a name"), (f'data_cut = "{"x" * 65}"', "data_cut is a name"),
    ('data_cut = "x\\u001b[31m"', "data_cut is a name"), ("round_seconds = 0.0", "round_seconds"),
    ("round_seconds = -5.0", "round_seconds")])
def test_what_would_end_every_query_is_told_when_the_settings_are_read(tmp_path, entry, words):
    """A registry finds out before it serves, not all others at their first question."""
    settings = {"consortium": '"c"', "key": '"k"', "data": '"d"', "data_cut": '"2026-10"'}
    settings[entry.partition(" = ")[0]] = entry.partition(" = ")[2]
    path = tmp_path / "node.toml"
    path.write_text("\n".join(f"{name} = {value}" for name, value in settings.items()))

    with pytest.raises(InputError, match=words):
        load(path)


def test_a_path_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match="no path"):
        Identity.load(f"{tmp_path}/a\0b")
