"""The coordinator without its socket: a blind adder and mailbox. No database, nothing kept on disk; what it holds is in flight and expires.

How this works: a parcel comes in, its signature is verified against the roster before anything else, and it goes into the
mailboxes of those it is meant for. Contributions of a round are added as they arrive, so that only one running total per query
is ever held, however many registries there are; the last one completes the total, which goes to all registries of the query.
A mailbox is read by cursor: reading drops what was read before, and nobody reads another's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import seal
from ..crypto.identity import Identity
from ..errors import FedstatsError, MessageError, OutOfOrder, Refused, Unreachable, as_problem
from ..wire import messages
from ..wire.messages import LONGEST_PAYLOAD, Abort, Admission, Contribution, Keys, Parcel, Poll, Query, Release, Total, Verdict
from ..wire.roster import Consortium
from ..wire.transcript import LONGEST_QUERY_SECONDS, SKEW_SECONDS, query_hash, two_nodes

MOST_OPEN_QUERIES = 64
MOST_OPEN_PER_ANALYST = 16
MAIL_BATCH_BYTES = 64 * 1024 * 1024
ROUND_SECONDS = 300.0           # without any answer for so long in a round, the query is given up
ANSWER_SECONDS = 60.0           # how long a finished query's mail is kept
MOST_MAIL = 4096                # parcels waiting for one member
MOST_NONCES = 100_000
LONGEST_KEYS = 64 * 1024         # bytes: the secret key takes 35 kB


@dataclass
class Session:
    """One query in flight: who is in it, how far it is, and the running total of the round."""

    T: bytes
    query: Query
    deadline: float                         # monotonic seconds
    phase: str = "admission"
    round: int = 0
    answered: dict[str, bytes] = field(default_factory=dict)    # of the phase or round: signed messages by registry
    adding: Any = None
    chunks: tuple[int, ...] = ()
    admitted: set[str] = field(default_factory=set)     # who has posted an admission
    keyed: set[str] = field(default_factory=set)        # who has been sent the keys
    taken: set[bytes] = field(default_factory=set)              # digests of the messages that have been taken

    @property
    def answers(self) -> str:
        """The analyst's mailbox for this query."""
        return box_of(self.query.analyst, self.T)

    def missing(self) -> list[str]:
        return [name for name in self.query.registries if name not in self.answered]


@dataclass
class Mailbox:
    """Parcels for one member, numbered from 1; those up to the reader's cursor are dropped.

    pressing : up to which parcel its reader should be told at once. What can wait, such as the admissions of some while others are
    missing, travels with the next that cannot; a reader who has waited to the end of its time gets all there is.
    Parcels are put in by the thread that adds totals and read by the loop that listens, hence the lock.
    """

    last: int = 0
    pressing: int = 0
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, parcel: bytes) -> None:
        with self.lock:
            if len(self.waiting) >= MOST_MAIL:
                self.waiting.popleft()          # a member that has been away for long finds its queries over anyway
            self.last += 1
            self.waiting.append((self.last, parcel))

    def read(self, after: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        with self.lock:
            while self.waiting and self.waiting[0][0] <= after:
                self.waiting.popleft()
            for number, parcel in self.waiting:
                size += len(parcel)
                if found and size > MAIL_BATCH_BYTES:
                    break
                found.append((number, parcel))
        return found


class Mailroom:
    """All mailboxes and all queries in flight.

    me, roster : the coordinator's identity and the consortium. wake : called with the names that have pressing mail.
    Times are given: `now` in seconds since 1970, `clock` monotonic.
    """

    def __init__(self, me: Identity, roster: Consortium, *, wake: Callable[[str], None] = lambda name: None,
                 round_seconds: float = ROUND_SECONDS) -> None:
        self.me, self.roster, self.wake, self.round_seconds = me, roster, wake, round_seconds
        # a registry has one mailbox; an analyst has one per query, so that two notebooks do not read each other's
        self.boxes: dict[str, Mailbox] = {name: Mailbox() for name in roster.names("registry")}
        self.sessions: dict[bytes, Session] = {}
        self.ended: dict[bytes, float] = {}             # T -> when it may be forgotten
        self.stale: list[tuple[float, str]] = []        # analysts' mailboxes of ended queries, and when they go
        self.nonces: dict[bytes, float] = {}
        self.counts = {"queries": 0, "rounds": 0, "bytes_in": 0, "refused_messages": 0, "aborted": 0, "released": 0}

    # -- in ----------------------------------------------------------------------------------------------------------------------

    def receive(self, raw: bytes, *, now: float, clock: float) -> None:
        """Take one parcel. Raises MessageError, Tampered, Refused or OutOfOrder; the sender is told, nobody else."""
        self.counts["bytes_in"] += len(raw)
        try:
            parcel = messages.read(raw, self.roster.public)
            if isinstance(parcel.message, Query):
                self._query(parcel, parcel.message, now, clock)
            else:
                self._in_session(parcel, clock)
        except FedstatsError:
            self.counts["refused_messages"] += 1
            raise

    def _query(self, parcel: Parcel, query: Query, now: float, clock: float) -> None:
        T = query_hash(parcel)
        if self.roster.role(query.analyst) != "analyst":
            raise Refused(f"{query.analyst} is not an analyst of this consortium")
        if query.roster != self.roster.digest:
            raise Refused("the query was made under another roster (epoch)",
                          hint="the coordinator and all parties accept the current consortium file and are started again; then ask again")
        if any(self.roster.role(name) != "registry" for name in query.registries):
            raise MessageError("the query names somebody who is not a registry")
        if not now - LONGEST_QUERY_SECONDS <= query.created <= now + SKEW_SECONDS or query.expires < now:
            raise Refused("the query has expired or comes from the future", hint="set the clock, or ask again")
        if T in self.sessions:
            return              # a retry of the same bytes
        if T in self.ended:
            raise Refused("this query is over: a query is used once", hint="ask again under a new id")
        mine = sum(session.query.analyst == query.analyst for session in self.sessions.values())
        if len(self.sessions) >= MOST_OPEN_QUERIES or mine >= MOST_OPEN_PER_ANALYST:
            raise Refused("too many queries are open", hint="wait until one has ended")
        self.counts["queries"] += 1
        self.sessions[T] = Session(T, query, clock + min(query.expires - now, LONGEST_QUERY_SECONDS))
        self.boxes[self.sessions[T].answers] = Mailbox()
        self._put(query.registries, bytes(parcel))

    def _in_session(self, parcel: Parcel, clock: float) -> None:
        message: Any = parcel.message
        if isinstance(message, (Poll, Total)):
            raise OutOfOrder("a coordinator takes no such message")
        session = self.sessions.get(message.T)
        if session is None:
            if isinstance(message, Abort):
                return          # the query is over already
            raise Unreachable("this query is not in flight here", hint="it has ended, or the coordinator was restarted: ask again")
        sender = parcel.sender
        if sender not in session.query.registries and not (isinstance(message, Abort) and sender == session.query.analyst):
            raise Refused(f"{sender} is not part of this query")
        mark = messages.digest_of(parcel.signed)
        if mark in session.taken:
            return              # a retry of the same bytes: the answer to the first was lost on its way
        self._take(session, message, sender, parcel, clock)
        session.taken.add(mark)

    def _take(self, session: Session, message: Any, sender: str, parcel: Parcel, clock: float) -> None:
        match message:
            case Admission():
                if sender in session.admitted:      # other bytes than before, or it would have been a retry
                    if session.phase == "admission":
                        self._give_up(session, two_nodes(sender), clock)
                    raise two_nodes(sender)
                session.admitted.add(sender)
                self._once(session, "admission", sender, parcel)
                self._put_others(session, sender, bytes(parcel), pressing=not message.accept)
                if not message.accept:
                    self._close(session, clock)
                elif not session.missing():
                    self._phase(session, "rounds", clock)
                    self._press(session.query.registries[:1])       # who makes the keys, for which the others wait
            case Keys():
                others = session.query.registries[1:]
                if sender != session.query.registries[0] or message.recipient not in others or session.phase != "rounds" or session.round:
                    raise OutOfOrder("keys arrived out of order")
                if message.recipient in session.keyed or len(message.sealed) > LONGEST_KEYS:
                    raise OutOfOrder("keys were sent twice, or are too long")
                session.keyed.add(message.recipient)
                self._put((message.recipient,), bytes(parcel))
            case Contribution():
                self._contribution(session, message, parcel, clock)
            case Verdict():
                if session.phase == "rounds" and session.round and not session.answered:
                    self._phase(session, "verdict", clock)
                self._once(session, "verdict", sender, parcel)
                self._put_others(session, sender, bytes(parcel), pressing=not message.release)
                if not message.release:
                    self._close(session, clock)
                elif not session.missing():
                    self._phase(session, "release", clock)
                    self._press(session.query.registries)
            case Release():
                self._once(session, "release", sender, parcel)
                self._put((session.answers,), bytes(parcel), pressing=not session.missing())
                if not session.missing():
                    self.counts["released"] += 1
                    self._close(session, clock)
            case Abort():
                self._put_others(session, sender, bytes(parcel))
                self.counts["aborted"] += 1
                self._close(session, clock)

    def _contribution(self, session: Session, message: Contribution, parcel: Parcel, clock: float) -> None:
        if session.phase != "rounds" or message.round != session.round:
            if message.round < session.round:
                return          # a retry: it has been added
            raise OutOfOrder("a contribution arrived out of order")
        if message.registry in session.answered:
            if session.answered[message.registry] != parcel.signed:
                raise OutOfOrder(f"{message.registry} answered a round twice")
            return
        messages.check_payload(parcel)
        if len(parcel.payload) != seal.share_size(message.chunks):
            raise MessageError("a contribution has another size than it says")
        if seal.total_size(message.chunks) > LONGEST_PAYLOAD:       # what nobody could read would end the others' queries too
            self._give_up(session, Unreachable("a round of this query is too large to be added", who=self.me.name,
                                               hint="ask fewer questions at a time"), clock)
            return
        if session.adding is None:
            session.chunks, session.adding = message.chunks, seal.Adding(message.chunks)
        if message.chunks != session.chunks:
            problem = Unreachable(f"{message.registry} derived another question than the others", who=self.me.name,
                                  hint="all registries must run one version of fedstats")
            self._give_up(session, problem, clock)
            return
        try:
            session.adding.add(parcel.payload)
        except FedstatsError:
            raise
        except Exception:       # the cipher's library or the system failed half way: this total is lost, and says nothing
            self._give_up(session, Unreachable("the coordinator could not add a contribution", who=self.me.name, hint="ask again"), clock)
            raise
        session.answered[message.registry] = parcel.signed
        if session.missing():
            session.deadline = max(session.deadline, clock)     # the round's deadline stays
            return
        payload = session.adding.total()
        total = Total(T=session.T, S=message.S, coordinator=self.me.name, round=session.round, digest=messages.digest_of(payload),
                      contributions=tuple(session.answered[name] for name in session.query.registries))
        self.counts["rounds"] += 1
        self._phase(session, "rounds", clock)
        session.round += 1
        self._put(session.query.registries, bytes(messages.sign(total, self.me, payload)))

    def _once(self, session: Session, phase: str, sender: str, parcel: Parcel) -> None:
        if session.phase != phase:
            raise OutOfOrder(f"{phase} of {sender} arrived while the query was at {session.phase}")
        if sender in session.answered:
            raise OutOfOrder(f"a second {phase} of {sender}")
        session.answered[sender] = parcel.signed

    def _phase(self, session: Session, phase: str, clock: float) -> None:
        session.phase, session.answered, session.adding = phase, {}, None
        session.deadline = clock + self.round_seconds

    # -- time --------------------------------------------------------------------------------------------------------------------

    def tick(self, clock: float) -> None:
        """Give up queries whose deadline has passed, naming who was missing; forget what is long over."""
        for session in list(self.sessions.values()):
            if clock > session.deadline:
                names = ", ".join(session.missing()) or "nobody"
                where = f"round {session.round}" if session.phase == "rounds" else f"the {session.phase}"
                self._give_up(session, Unreachable(f"no answer from {names} in {where}", who=self.me.name,
                                                   hint="see that these nodes run, then ask again"), clock)
        self.ended = {T: until for T, until in self.ended.items() if until > clock}
        for until, box in [one for one in self.stale if one[0] <= clock]:
            self.boxes.pop(box, None)
            self.stale.remove((until, box))

    def _give_up(self, session: Session, error: FedstatsError, clock: float) -> None:
        abort = Abort(T=session.T, sender=self.me.name, problem=as_problem(error, self.me.name))
        self._put((*session.query.registries, session.answers), bytes(messages.sign(abort, self.me)))
        self.counts["aborted"] += 1
        self._close(session, clock)

    def _close(self, session: Session, clock: float) -> None:
        self.sessions.pop(session.T, None)
        self.ended[session.T] = clock + LONGEST_QUERY_SECONDS
        self.stale.append((clock + ANSWER_SECONDS, session.answers))

    # -- out ---------------------------------------------------------------------------------------------------------------------

    def mail(self, box: str, after: int) -> list[tuple[int, bytes]]:
        """The parcels of a mailbox after its reader's cursor; none for a mailbox that is gone."""
        return self.boxes[box].read(after) if box in self.boxes else []

    def presses(self, box: str, after: int) -> bool:
        """Whether some of these parcels cannot wait."""
        return box in self.boxes and self.boxes[box].pressing > after

    def check_poll(self, signed: bytes, path: str, *, now: float) -> str:
        """The member behind a signed GET. Raises Tampered, MessageError or Refused (replayed, late, meant for another path)."""
        message, _ = messages.open_signed(signed, self.roster.public)
        if not isinstance(message, Poll) or message.coordinator != self.me.name or message.path != path:
            raise MessageError("the signature was made for another request")
        if abs(message.time - now) > SKEW_SECONDS:
            raise Refused("the request is too old, or a clock is wrong", hint="set the clocks of both machines")
        if message.nonce in self.nonces:
            raise Refused("this request has been made before")
        if len(self.nonces) >= MOST_NONCES:
            self.nonces = {nonce: until for nonce, until in self.nonces.items() if until > now}
        self.nonces[message.nonce] = message.time + 2 * SKEW_SECONDS
        return message.member

    def progress(self, T: bytes, member: str) -> dict[str, Any]:
        """How far a query is: phase, round, who has answered. For its members only."""
        session = self.sessions.get(T)
        if session is None or member not in (*session.query.registries, session.query.analyst):
            return {"phase": "over"}
        return {"phase": session.phase, "round": session.round, "answered": len(session.answered),
                "of": len(session.query.registries), "missing": session.missing()}

    def _put(self, boxes: tuple[str, ...], raw: bytes, *, pressing: bool = True) -> None:
        for box in boxes:
            self.boxes[box].put(raw)
        if pressing:
            self._press(boxes)

    def _put_others(self, session: Session, sender: str, raw: bytes, *, pressing: bool = True) -> None:
        everybody = {name: name for name in session.query.registries} | {session.query.analyst: session.answers}
        self._put(tuple(box for name, box in everybody.items() if name != sender), raw, pressing=pressing)

    def _press(self, boxes: tuple[str, ...]) -> None:
        """What is in these mailboxes cannot wait any longer."""
        for box in boxes:
            self.boxes[box].pressing = self.boxes[box].last
            self.wake(box)


def box_of(analyst: str, T: bytes) -> str:
    """The name of an analyst's mailbox for one query."""
    return f"{analyst}/{T.hex()}"

