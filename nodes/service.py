"""A node: the loop between the coordinators' mailboxes and the conversations of open queries. Calls
out only.

What a conversation has to say waits in its outbox until the coordinator that its query came from
has taken it: one coordinator that is away holds up no query of another.

What is logged: query ids, phases, codes of problems. Never a row, a key, a count or a total.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

import msgspec

from fedstats import analyses  # noqa: F401  (registers the analyses)
from fedstats.crypto import he
from fedstats.crypto.identity import Identity
from fedstats.errors import Aborted, FedstatsError, InputError, Problem, Refused, Unreachable
from fedstats.ms.outcomes.rehearsal import rehearse
from fedstats.transport.http import Link, Mail
from fedstats.wire import messages
from fedstats.wire.conversation import ADMITTED, ENDED, JUDGING, RELEASE, RELEASED, Registry
from fedstats.wire.messages import Abort, Parcel, Query
from fedstats.wire.roster import Consortium, check_pin
from fedstats.wire.transcript import query_hash

from .config import Settings
from .house import RegistryHouse
from .journal import Journal
from .lines import LONGEST_PAUSE, Line, Lines, pause

log = logging.getLogger("fedstats.node")

POLL_SECONDS = 25.0  # long-poll: below the idle limits of common proxies
FAULT_SECONDS = 1.0  # after a fault of this software
GRACE_SECONDS = 2.0  # the coordinator, who knows who is missing, speaks first
MOST_OPEN = 64


class Stopped(BaseException):
    """The operator stops the node while it waits for mail."""


@dataclass
class Open:
    """A conversation in flight, the line that its query came by, when it last moved (monotonic
    seconds), and what is to be posted.

    failures, due : attempts that failed to post the first of the outbox, and when the next may be
    made.
    """

    registry: Registry
    line: Line
    moved: float
    outbox: deque[Parcel] = field(default_factory=deque)
    failures: int = 0
    due: float = 0.0


class Node:
    """One registry's service. `run` serves until `stop`; `step` takes one batch of mail (for
    tests).

    link : to the coordinator, or one link to each address of each coordinator.
    """

    def __init__(
        self,
        me: Identity,
        roster: Consortium,
        house: RegistryHouse,
        journal: Journal,
        link: Link | Sequence[Link],
        *,
        round_seconds: float = 300.0,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if roster.role(me.name) != "registry":
            raise InputError(f"{me.name} is not a registry of {roster.name}")
        self.me, self.roster, self.house, self.journal = me, roster, house, journal
        self.lines = Lines([link] if isinstance(link, Link) else link)
        self.round_seconds, self.random = round_seconds, random
        self.open: dict[bytes, Open] = {}
        self.stopping = threading.Event()
        self.waiting = False

    @classmethod
    def start(cls, settings: Settings) -> Node:
        """A node from its settings. Raises InputError naming the file that is wrong and the remedy.
        """
        me = Identity.load(settings.key)
        roster = Consortium.load(settings.consortium)
        check_pin(roster, settings.key, settings.consortium)
        house = RegistryHouse(settings, roster, me.name)
        places = roster.coordinators
        if settings.coordinator:
            places = (((roster.names("coordinator")[:1] or ("",))[0], settings.coordinator),)
        if not places:
            raise InputError(
                "the consortium names no coordinator address",
                hint="fedstats consortium add ... --address https://...",
            )
        links = [Link(me, name, (address,)) for name, address in places]
        journal = Journal(settings.journal, settings.key)
        return cls(me, roster, house, journal, links, round_seconds=settings.round_seconds)

    def run(self) -> None:
        """Serve until stopped; coordinator failures are retried, faults of one query end that
        query."""
        self._abort_leftovers()
        # what is made once per process, or machine, is made before the first question
        if self.roster.tables == "ms":
            log.info("compiling kernels")
            rehearse()
        log.info("rehearsing the seal")
        he.rehearse()
        while not self.stopping.is_set():
            try:
                self.step(
                    min(POLL_SECONDS, 1.0 + self.round_seconds / 10) if self.open else POLL_SECONDS
                )
            except Stopped:
                break
            except FedstatsError as error:
                log.error("%s (%s)", error, error.code)
                self.stopping.wait(FAULT_SECONDS)
        for one in list(self.open.values()):
            one.outbox.extend(one.registry.fail(Aborted("the node was stopped")))
            self._flush(one)
        self.lines.close()
        self.journal.shut()

    def stop(self) -> None:
        """End `run`; from a signal handler, a long-poll that waits for mail is left at once."""
        self.stopping.set()
        if self.waiting and threading.current_thread() is threading.main_thread():
            raise Stopped

    def step(self, wait: float) -> None:
        """Post what is due, read one batch of mail, or wait for so long until there is something to
        try, and do what the mail asks for."""
        self._flush_all()
        wait = min(
            [
                wait,
                *(
                    max(0.05, one.due - time.monotonic())
                    for one in self.open.values()
                    if one.outbox
                ),
            ]
        )
        if idle := self.lines.idle():
            self.stopping.wait(min(idle, wait))
        self.waiting = True
        try:
            heard = [] if self.stopping.is_set() else self.lines.listen(wait)
        finally:
            self.waiting = False
        for line, found in heard:
            if isinstance(found, FedstatsError):
                self._silent(line, found)
            else:
                self._heard(line, found)
        self._deadlines()

    def _silent(self, line: Line, error: FedstatsError) -> None:
        """A line that gives no mail. Who is refused there cannot go on with the queries that came
        by it."""
        line.failed(error, self.lines.longest)
        if isinstance(error, Refused):
            self._end_of(line, Aborted(error.what, hint=error.hint))

    def _heard(self, line: Line, found: Mail) -> None:
        boot, mail = found
        line.worked()
        if boot != line.boot:
            before, known = line.boot, line.cursor
            line.boot, line.cursor = boot, 0
            log.info("connected to %s", line.name)
            if before:
                log.warning("%s was restarted: queries that came from there end here", line.name)
                self._end_of(line, Aborted("the coordinator was restarted"), tell=False)
            if known:
                return
        if self.lines.rest(line):
            return  # the same mail comes by another line
        for number, raw in mail:
            if number > line.cursor:  # a line may repeat what it carries
                line.cursor = number
                self._take(raw, line)

    def _end_of(self, line: Line, error: FedstatsError, *, tell: bool = True) -> None:
        """End the queries that came by a line. tell : whether those who are asked there may still
        hear of it."""
        for one in [one for one in self.open.values() if one.line is line]:
            said = one.registry.fail(error)
            one.outbox = deque(said if tell else ())
        self._flush_all()
        self._sweep()

    def _take(self, raw: bytes, line: Line) -> None:
        try:
            parcel = messages.read(raw, self.roster.public)
        except FedstatsError as error:
            # the coordinator verifies what it passes on, so this was changed on its way: nothing in
            # flight can be trusted
            log.error("unverifiable mail (%s): open queries end here", error.code)
            for one in list(self.open.values()):
                one.outbox = deque(one.registry.fail(error))
            self._flush_all()
            self._sweep()
            return
        T = (
            query_hash(parcel)
            if isinstance(parcel.message, Query)
            else getattr(parcel.message, "T", b"")
        )
        if isinstance(parcel.message, Query) and T not in self.open:
            if len(self.open) >= MOST_OPEN:
                log.warning(
                    "query %s left unanswered: %d queries are open", parcel.message.name, MOST_OPEN
                )
                return
            log.info("query %s from %s", parcel.message.name, parcel.message.analyst)
            registry = Registry(self.me, self.roster, self.house, self.journal, random=self.random)
            self.open[T] = Open(registry, line, time.monotonic())
        if T not in self.open:
            return
        one = self.open[T]
        before = (one.registry.state, one.registry.round)
        self._do(one, T, lambda: one.registry.receive(parcel, time.time()))
        self._do(one, T, one.registry.proceed)
        after = (one.registry.state, one.registry.round)
        if after != before:
            log.info("query %s: %s, round %d", one.registry.query_id, *after)
        self._sweep()

    def _do(self, one: Open, T: bytes, work: Callable[[], list[Parcel]]) -> None:
        """Let a conversation do something, and post what it has to say."""
        over = one.registry.state == ENDED
        try:
            outgoing = work()
        except Exception:
            # an unexpected fault: its text may carry data, so only its kind is logged; peers learn
            # "internal"
            name = one.registry.query_id
            if log.isEnabledFor(logging.DEBUG):
                log.exception("query %s: internal fault", name)
            else:
                log.error("query %s: internal fault (run with --debug to see it)", name)
            outgoing = one.registry.outgoing
        while one.registry.faults:
            log.error(
                "query %s: internal fault of one question, %s",
                one.registry.query_id,
                one.registry.faults.pop(0),
            )
        one.moved = time.monotonic()
        if one.registry.state == ENDED and not over:
            # what was waiting belongs to a query that is over; its last word stays until it is heard
            one.outbox.clear()
        one.outbox.extend(outgoing)
        self._flush(one)

    # -- posting -----------------------------------------------------------------------------------

    def _flush_all(self) -> None:
        for one in list(self.open.values()):
            self._flush(one)

    def _flush(self, one: Open) -> None:
        """Post an outbox in order; the same bytes again later while the coordinator is away, within
        the round's time."""
        while one.outbox and (one.due <= time.monotonic() or self.stopping.is_set()):
            parcel = one.outbox[0]
            try:
                one.line.link.post(bytes(parcel))
            except FedstatsError as error:
                later = (
                    isinstance(error, Unreachable)
                    and not error.who
                    and not error.final
                    and not self.stopping.is_set()
                )
                if later and time.monotonic() < one.moved + self.round_seconds:
                    one.due = time.monotonic() + max(
                        pause(one.failures, LONGEST_PAUSE), getattr(error, "after", 0.0)
                    )
                    one.failures += 1
                    return
                self._lost(one, parcel, error)
            else:
                one.outbox.popleft()
                one.failures = 0

    def _lost(self, one: Open, parcel: Parcel, error: FedstatsError) -> None:
        """A posting could not be made: its query is over here, and, if that can be posted,
        everybody is told why."""
        log.warning("a %s could not be posted: %s", type(parcel.message).__name__.lower(), error)
        message = parcel.message
        if not isinstance(message, Abort):
            one.outbox = deque(one.registry.fail(error))
        elif message.note is not None and isinstance(error, Unreachable) and error.final:
            # even the reason is larger than a proxy lets through: that we leave is short
            bare = messages.sign(msgspec.structs.replace(message, note=None), self.me)
            one.outbox = deque([bare])
        else:
            one.outbox = deque()
        one.due, one.failures = 0.0, 0

    def _deadlines(self) -> None:
        for one in list(self.open.values()):
            # an admission may wait for days for another registry's human; everything later moves
            # within the round's time
            state = one.registry.state
            over = (
                time.time() - one.registry.query.expires
                if state == ADMITTED
                else time.monotonic() - one.moved - self.round_seconds
            )
            if over > GRACE_SECONDS:
                heard: dict[str, Container[str]] = {
                    ADMITTED: one.registry.admissions,
                    JUDGING: one.registry.verdicts,
                }
                names = [
                    name
                    for name in one.registry.query.registries
                    if name not in heard.get(state, one.registry.query.registries)
                ]
                one.outbox = deque(
                    one.registry.fail(
                        Unreachable(
                            f"waited in vain for {', '.join(names) or 'the total of the others'}",
                            hint="see that these nodes run, then ask again",
                        )
                    )
                )
                self._flush(one)
        self._sweep()

    def _sweep(self) -> None:
        for T, one in list(self.open.items()):
            if one.registry.state in (RELEASED, ENDED) and not one.outbox:
                if one.registry.problem is not None:
                    log.info("query %s ended: %s", one.registry.query_id, one.registry.problem.code)
                if one.registry.state == RELEASED:
                    one.registry.settled()
                del self.open[T]

    def _abort_leftovers(self) -> None:
        """Queries that were open when this node last stopped: a sealed result goes out after all;
        the others end, for their keys
        are gone."""
        for T in self.journal.open_queries():
            release = self.journal.posted(T, RELEASE)
            if release is not None and self._posted_somewhere(release):
                self.journal.close(T, "released")
                continue
            problem = Problem(
                "aborted",
                self.me.name,
                "the node was restarted in the middle of the query",
                "ask again",
            )
            self._posted_somewhere(
                bytes(messages.sign(Abort(T=T, sender=self.me.name, problem=problem), self.me)),
                everywhere=True,
            )
            self.journal.close(T, "restarted")

    def _posted_somewhere(self, parcel: bytes, *, everywhere: bool = False) -> bool:
        """Whether a coordinator has taken this: where the query came from is not written down."""
        taken = False
        for line in self.lines.all:
            if line.failures or (taken and not everywhere):
                continue
            try:
                line.link.post(parcel)
                taken = True
            except Unreachable as error:
                if not error.who:
                    line.failed(error, self.lines.longest)  # not tried again for every query
            except FedstatsError as error:
                log.warning("%s", error)
        return taken
