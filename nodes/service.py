"""A node: the loop between the coordinator's mailbox and the conversations of open queries. Calls out only.

What is logged: query ids, phases, codes of problems. Never a row, a key, a count or a total.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Container
from dataclasses import dataclass

from fedstats import analyses  # noqa: F401  (registers the analyses)
from fedstats.crypto import he
from fedstats.crypto.identity import Identity
from fedstats.errors import Aborted, FedstatsError, InputError, Problem, Unreachable
from fedstats.ms.rehearsal import rehearse
from fedstats.transport.http import Link
from fedstats.wire import messages
from fedstats.wire.conversation import ADMITTED, ENDED, JUDGING, RELEASE, RELEASED, Registry
from fedstats.wire.messages import Abort, Parcel, Query
from fedstats.wire.roster import Consortium, check_pin
from fedstats.wire.transcript import query_hash

from .config import Settings
from .house import RegistryHouse
from .journal import Journal

log = logging.getLogger("fedstats.node")

POLL_SECONDS = 25.0             # long-poll: below the idle limits of common proxies
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)     # waits between attempts to reach the coordinator
GRACE_SECONDS = 2.0             # the coordinator, who knows who is missing, speaks first
MOST_OPEN = 64


class Stopped(BaseException):
    """The operator stops the node while it waits for mail."""


@dataclass
class Open:
    """A conversation in flight and when it last moved (monotonic seconds)."""

    registry: Registry
    moved: float


class Node:
    """One registry's service. `run` serves until `stop`; `step` takes one batch of mail (for tests)."""

    def __init__(self, me: Identity, roster: Consortium, house: RegistryHouse, journal: Journal, link: Link, *,
                 round_seconds: float = 300.0, random: Callable[[int], bytes] = os.urandom) -> None:
        if roster.role(me.name) != "registry":
            raise InputError(f"{me.name} is not a registry of {roster.name}")
        self.me, self.roster, self.house, self.journal, self.link = me, roster, house, journal, link
        self.round_seconds, self.random = round_seconds, random
        self.open: dict[bytes, Open] = {}
        self.cursor, self.boot = 0, ""
        self.stopping = threading.Event()
        self.waiting = False

    @classmethod
    def start(cls, settings: Settings) -> Node:
        """A node from its settings. Raises InputError naming the file that is wrong and the remedy."""
        me = Identity.load(settings.key)
        roster = Consortium.load(settings.consortium)
        check_pin(roster, settings.key, settings.consortium)
        house = RegistryHouse(settings, roster, me.name)
        (coordinator,) = roster.names("coordinator")[:1] or ("",)
        addresses = (settings.coordinator,) if settings.coordinator else roster.addresses
        journal = Journal(settings.journal, settings.key)
        return cls(me, roster, house, journal, Link(me, coordinator, addresses), round_seconds=settings.round_seconds)

    def run(self) -> None:
        """Serve until stopped; coordinator failures are retried, faults of one query end that query."""
        self._abort_leftovers()
        # what is made once per process, or machine, is made before the first question
        if self.roster.tables == "ms":
            log.info("compiling kernels")
            rehearse()
        log.info("rehearsing the seal")
        he.rehearse()
        failures = 0
        while not self.stopping.is_set():
            try:
                # the first poll does not wait, so that the log says at once whether the coordinator is there
                self.step(0.0 if not self.boot else POLL_SECONDS if not self.open else min(POLL_SECONDS, 1.0 + self.round_seconds / 10))
                failures = 0
            except Stopped:
                break
            except Unreachable as error:
                wait = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                log.warning("%s; trying again in %g s", error, wait)
                failures += 1
                self._deadlines()
                self.stopping.wait(wait)
            except FedstatsError as error:
                log.error("%s (%s)", error, error.code)
                self.stopping.wait(RETRY_SECONDS[2])
        for one in list(self.open.values()):
            self._post_all(one.registry.fail(Aborted("the node was stopped")))
        self.link.close()
        self.journal.shut()

    def stop(self) -> None:
        """End `run`; from a signal handler, a long-poll that waits for mail is left at once."""
        self.stopping.set()
        if self.waiting and threading.current_thread() is threading.main_thread():
            raise Stopped

    def step(self, wait: float) -> None:
        """Read one batch of mail and do what it asks for."""
        self.waiting = True
        try:
            boot, mail = self.link.mail(self.cursor, wait, boot=self.boot)
        finally:
            self.waiting = False
        if boot != self.boot:
            log.info("connected to %s", self.link.coordinator)
            if self.boot:
                log.warning("the coordinator was restarted: open queries end here")
                for one in self.open.values():
                    one.registry.fail(Aborted("the coordinator was restarted"))
                self.open.clear()
            restarted, self.boot, self.cursor = bool(self.cursor), boot, 0
            if restarted:
                return
        for number, raw in mail:
            if number > self.cursor:        # a line may repeat what it carries
                self.cursor = number
                self._take(raw)
        self._deadlines()

    def _take(self, raw: bytes) -> None:
        try:
            parcel = messages.read(raw, self.roster.public)
        except FedstatsError as error:
            # the coordinator verifies what it passes on, so this was changed on its way: nothing in flight can be trusted
            log.error("unverifiable mail (%s): open queries end here", error.code)
            for one in list(self.open.values()):
                self._post_all(one.registry.fail(error))
            self._sweep()
            return
        T = query_hash(parcel) if isinstance(parcel.message, Query) else parcel.message.T     # type: ignore[union-attr]
        if isinstance(parcel.message, Query) and T not in self.open:
            if len(self.open) >= MOST_OPEN:
                log.warning("query %s left unanswered: %d queries are open", parcel.message.name, MOST_OPEN)
                return
            log.info("query %s from %s", parcel.message.name, parcel.message.analyst)
            self.open[T] = Open(Registry(self.me, self.roster, self.house, self.journal, random=self.random), time.monotonic())
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
        try:
            outgoing = work()
        except Exception:
            # an unexpected fault: its text may carry data, so only its kind is logged; peers learn "internal"
            log.exception("query %s: internal fault", one.registry.query_id) if log.isEnabledFor(logging.DEBUG) else log.error(
                "query %s: internal fault (run with --debug to see it)", one.registry.query_id)
            outgoing = one.registry.outgoing
        while one.registry.faults:
            log.error(
                "query %s: internal fault of one question, %s",
                T.hex()[:12],
                one.registry.faults.pop(0),
            )
        one.moved = time.monotonic()
        self._post_all(outgoing)

    def _post_all(self, parcels: list[Parcel]) -> None:
        """Send parcels in order; the same bytes again while the coordinator is away, within the round's time."""
        for parcel in parcels:
            until = time.monotonic() + self.round_seconds
            attempt = 0
            while True:
                try:
                    self.link.post(bytes(parcel))
                    break
                except Unreachable as error:
                    gone = error.who != "" or time.monotonic() > until or self.stopping.is_set()
                    if gone or isinstance(parcel.message, Abort):
                        log.warning("%s", error)
                        self._lost(parcel, error)
                        return
                    self.stopping.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                    attempt += 1
                except FedstatsError as error:
                    log.warning("the coordinator did not take a %s: %s", type(parcel.message).__name__.lower(), error)
                    self._lost(parcel, error)
                    return

    def _lost(self, parcel: Parcel, error: FedstatsError) -> None:
        """A posting could not be made: its query is over here."""
        one = self.open.get(getattr(parcel.message, "T", b""))
        if one is not None and not isinstance(parcel.message, Abort):
            for abort in one.registry.fail(error):
                try:
                    self.link.post(bytes(abort))
                except FedstatsError:
                    log.warning("the abort could not be posted either")

    def _deadlines(self) -> None:
        for one in list(self.open.values()):
            # an admission may wait for days for another registry's human; everything later moves within the round's time
            state = one.registry.state
            over = time.time() - one.registry.query.expires if state == ADMITTED else time.monotonic() - one.moved - self.round_seconds
            if over > GRACE_SECONDS:
                heard: dict[str, Container[str]] = {ADMITTED: one.registry.admissions, JUDGING: one.registry.verdicts}
                names = [name for name in one.registry.query.registries if name not in heard.get(state, one.registry.query.registries)]
                self._post_all(one.registry.fail(Unreachable(f"waited in vain for {', '.join(names) or 'the total of the others'}",
                                                             hint="see that these nodes run, then ask again")))
        self._sweep()

    def _sweep(self) -> None:
        for T, one in list(self.open.items()):
            if one.registry.state in (RELEASED, ENDED):
                if one.registry.problem is not None:
                    log.info("query %s ended: %s", one.registry.query_id, one.registry.problem.code)
                if one.registry.state == RELEASED:
                    one.registry.settled()
                del self.open[T]

    def _abort_leftovers(self) -> None:
        """Queries that were open when this node last stopped: a sealed result goes out after all; the others end, for their keys
        are gone."""
        for T in self.journal.open_queries():
            release = self.journal.posted(T, RELEASE)
            if release is not None:
                try:
                    self.link.post(release)
                    self.journal.close(T, "released")
                    continue
                except FedstatsError as error:
                    log.warning("%s", error)
            problem = Problem("aborted", self.me.name, "the node was restarted in the middle of the query", "ask again")
            try:
                self.link.post(bytes(messages.sign(Abort(T=T, sender=self.me.name, problem=problem), self.me)))
            except FedstatsError as error:
                log.warning("%s", error)
            self.journal.close(T, "restarted")
