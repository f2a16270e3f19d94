"""The coordinator without its socket: a blind adder and mailbox. No database, nothing kept on disk;
what it holds is in flight and expires.

How this works: a parcel comes in, its signature is verified against the roster before anything
else, and it goes into the mailboxes of those it is meant for. Contributions of a round are added as
they arrive, so that only one running total per query is ever held, however many registries there
are; the last one completes the total, which goes to all registries of the query. A mailbox is read
by cursor: reading drops what was read before, and nobody reads another's.

What a mailbox holds is bounded where it comes from: an analyst has so many queries, and bytes of
queries, open or just ended. Mail of a query in flight is never dropped; what is left of one that is
over goes a while later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..crypto import seal
from ..crypto.identity import Identity
from ..errors import (
    Aborted,
    FedstatsError,
    MessageError,
    OutOfOrder,
    Refused,
    Unreachable,
    as_problem,
)
from ..wire import messages
from ..wire.messages import (
    LONGEST_PAYLOAD,
    Abort,
    Admission,
    Contribution,
    Keys,
    Parcel,
    Poll,
    Post,
    Query,
    Release,
    Total,
    Verdict,
)
from ..wire.roster import Consortium
from ..wire.transcript import (
    LONGEST_QUERY_SECONDS,
    SKEW_SECONDS,
    clock_words,
    query_hash,
    two_nodes,
)
from .limits import Account
from .mailbox import Mailbox

MOST_OPEN_QUERIES = 64
MOST_OPEN_PER_ANALYST = 16
MOST_RECENT_PER_ANALYST = 256  # queries open, or ended less than ANSWER_SECONDS ago
MOST_RECENT_BYTES = 16 * 1024 * 1024  # of these queries, per analyst
ROUND_SECONDS = 300.0  # without any answer for so long in a round, the query is given up
ANSWER_SECONDS = 60.0  # how long a finished query's mail is kept
LEFTOVER_SECONDS = 600.0  # how long a registry that had seen the query may still read how it ended
ANALYST_SECONDS = 60.0  # an analyst who has asked for mail and then not for so long has gone
AWAY_SECONDS = 40.0  # a registry that has not polled for so long is away: longer than a long-poll
CLOCK_SECONDS = 3.0  # a registry that is there has come for a query by then
MOST_ENDED = 100_000  # queries remembered as over; nodes remember all of theirs
LONGEST_KEYS = 64 * 1024  # bytes: the secret key takes 35 kB


@dataclass
class Session:
    """One query in flight: who is in it, how far it is, and the running total of the round."""

    T: bytes
    query: Query
    deadline: float  # monotonic seconds
    size: int = 0  # bytes of the query
    opened: float = 0.0  # monotonic seconds
    heard: float | None = None  # when its analyst last asked for mail (monotonic seconds)
    phase: str = "admission"
    round: int = 0
    answered: dict[str, bytes] = field(
        default_factory=dict
    )  # of the phase or round: signed messages by registry
    adding: Any = None
    chunks: tuple[int, ...] = ()
    admitted: set[str] = field(default_factory=set)  # who has posted an admission
    there: set[str] = field(default_factory=set)  # members with a right clock since it was opened
    keyed: set[str] = field(default_factory=set)  # who has been sent the keys
    taken: set[bytes] = field(default_factory=set)  # digests of the messages that have been taken

    @property
    def answers(self) -> str:
        """The analyst's mailbox for this query."""
        return box_of(self.query.analyst, self.T)

    def missing(self) -> list[str]:
        return [name for name in self.query.registries if name not in self.answered]


class Mailroom:
    """All mailboxes and all queries in flight.

    me, roster : the coordinator's identity and the consortium. wake : called with the names that
    have pressing mail. Times are given: `now` in seconds since 1970, `clock` monotonic.
    """

    def __init__(
        self,
        me: Identity,
        roster: Consortium,
        *,
        wake: Callable[[str], None] = lambda name: None,
        round_seconds: float = ROUND_SECONDS,
    ) -> None:
        self.me, self.roster, self.wake, self.round_seconds = me, roster, wake, round_seconds
        # a registry has one mailbox; an analyst has one per query, so that two notebooks do not
        # read each other's
        self.boxes: dict[str, Mailbox] = {name: Mailbox() for name in roster.names("registry")}
        self.sessions: dict[bytes, Session] = {}
        self.ended: dict[bytes, float] = {}  # T -> when it may be forgotten
        self.stale: deque[tuple[float, Session]] = (
            deque()
        )  # queries that are over, and when their mail goes
        self.leftover: deque[tuple[float, Session]] = (
            deque()
        )  # the same, for registries that had seen the query
        self.accounts: dict[str, Account] = {}
        self.polled: dict[
            str, float
        ] = {}  # registry -> when it last asked for mail (monotonic seconds)
        self.skewed: dict[
            str, float
        ] = {}  # member whose last request came with a wrong clock -> seconds it is ahead
        self.counts = {
            "queries": 0,
            "rounds": 0,
            "bytes_in": 0,
            "refused_messages": 0,
            "aborted": 0,
            "released": 0,
        }

    # -- in ----------------------------------------------------------------------------------------

    def receive(self, raw: bytes | memoryview, *, now: float, clock: float) -> None:
        """Take one parcel. Raises MessageError, Tampered, Refused or OutOfOrder; the sender is
        told, nobody else."""
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
            raise Refused(
                "the query was made under another roster (epoch)",
                hint="the coordinator and all parties accept the current consortium file and are started again; then ask again",
            )
        if any(self.roster.role(name) != "registry" for name in query.registries):
            raise MessageError("the query names somebody who is not a registry")
        if (
            not now - LONGEST_QUERY_SECONDS <= query.created <= now + SKEW_SECONDS
            or query.expires < now
        ):
            raise Refused(
                "the query has expired or comes from the future: it was made "
                f"{clock_words(query.created - now)} this coordinator's clock",
                hint="set the clock, or ask again",
            )
        if T in self.sessions:
            return  # a retry of the same bytes
        if T in self.ended:
            raise Refused(
                "this query is over: a query is used once", hint="ask again under a new id"
            )
        raw = bytes(parcel)
        self._check_open(query.analyst, len(raw))
        self.counts["queries"] += 1
        self.sessions[T] = Session(
            T, query, clock + min(query.expires - now, LONGEST_QUERY_SECONDS), len(raw), clock
        )
        self.boxes[self.sessions[T].answers] = Mailbox()
        self._put(query.registries, raw, T)

    def _check_open(self, analyst: str, size: int) -> None:
        """Whether this analyst may have one more query of so many bytes. Raises Refused."""
        mine = [session for session in self.sessions.values() if session.query.analyst == analyst]
        if len(self.sessions) >= MOST_OPEN_QUERIES or len(mine) >= MOST_OPEN_PER_ANALYST:
            raise Refused("too many queries are open", hint="wait until one has ended")
        mine += [session for _, session in self.stale if session.query.analyst == analyst]
        if (
            len(mine) >= MOST_RECENT_PER_ANALYST
            or size + sum(session.size for session in mine) > MOST_RECENT_BYTES
        ):
            raise Refused(
                "too many queries of this analyst have been opened in the last minute",
                hint="wait a minute",
            )

    def _in_session(self, parcel: Parcel, clock: float) -> None:
        message: Any = parcel.message
        if isinstance(message, (Poll, Post, Total)):
            raise OutOfOrder("a coordinator takes no such message")
        session = self.sessions.get(message.T)
        if session is None:
            if isinstance(message, Abort):
                if self.roster.role(message.sender) == "analyst":
                    self._over(
                        message.T, clock
                    )  # it may have overtaken its query, whose sender has given up
                return  # the query is over already
            raise Unreachable(
                "this query is not in flight here",
                hint="it has ended, or the coordinator was restarted: ask again",
            )
        sender = parcel.sender
        if sender not in session.query.registries and not (
            isinstance(message, Abort) and sender == session.query.analyst
        ):
            raise Refused(f"{sender} is not part of this query")
        mark = messages.digest_of(parcel.signed)
        if mark in session.taken:
            return  # a retry of the same bytes: the answer to the first was lost on its way
        self._take(session, message, sender, parcel, clock)
        session.taken.add(mark)

    def _take(
        self, session: Session, message: Any, sender: str, parcel: Parcel, clock: float
    ) -> None:
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
                    self._press(
                        session.query.registries[:1]
                    )  # who makes the keys, for which the others wait
            case Keys():
                others = session.query.registries[1:]
                if (
                    sender != session.query.registries[0]
                    or message.recipient not in others
                    or session.phase != "rounds"
                    or session.round
                ):
                    raise OutOfOrder("keys arrived out of order")
                if message.recipient in session.keyed or len(message.sealed) > LONGEST_KEYS:
                    raise OutOfOrder("keys were sent twice, or are too long")
                session.keyed.add(message.recipient)
                self._put((message.recipient,), bytes(parcel), session.T)
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
                self._put(
                    (session.answers,), bytes(parcel), session.T, pressing=not session.missing()
                )
                if not session.missing():
                    self.counts["released"] += 1
                    self._close(session, clock)
            case Abort():
                self._put_others(session, sender, bytes(parcel))
                self.counts["aborted"] += 1
                self._close(session, clock)

    def _contribution(
        self, session: Session, message: Contribution, parcel: Parcel, clock: float
    ) -> None:
        if session.phase != "rounds" or message.round != session.round:
            if message.round < session.round:
                return  # a retry: it has been added
            raise OutOfOrder("a contribution arrived out of order")
        if message.registry in session.answered:
            if session.answered[message.registry] != parcel.signed:
                raise OutOfOrder(f"{message.registry} answered a round twice")
            return
        messages.check_payload(parcel)
        if len(parcel.payload) != seal.share_size(message.chunks):
            raise MessageError("a contribution has another size than it says")
        if (
            seal.total_size(message.chunks) > LONGEST_PAYLOAD
        ):  # what nobody could read would end the others' queries too
            self._give_up(
                session,
                Unreachable(
                    "a round of this query is too large to be added",
                    who=self.me.name,
                    hint="ask fewer questions at a time",
                ),
                clock,
            )
            return
        if session.adding is None:
            session.chunks, session.adding = message.chunks, seal.Adding(message.chunks)
        if message.chunks != session.chunks:
            problem = Unreachable(
                f"{message.registry} derived another question than the others",
                who=self.me.name,
                hint="all registries must run one version of fedstats",
            )
            self._give_up(session, problem, clock)
            return
        try:
            session.adding.add(parcel.payload)
        except FedstatsError:
            raise
        except Exception:  # the cipher's library or the system failed half way: this total is lost, and says nothing
            self._give_up(
                session,
                Unreachable(
                    "the coordinator could not add a contribution",
                    who=self.me.name,
                    hint="ask again",
                ),
                clock,
            )
            raise
        session.answered[message.registry] = parcel.signed
        if session.missing():
            session.deadline = max(session.deadline, clock)  # the round's deadline stays
            return
        payload = session.adding.total()
        total = Total(
            T=session.T,
            S=message.S,
            coordinator=self.me.name,
            round=session.round,
            digest=messages.digest_of(payload),
            contributions=tuple(session.answered[name] for name in session.query.registries),
        )
        self.counts["rounds"] += 1
        self._phase(session, "rounds", clock)
        session.round += 1
        self._put(
            session.query.registries, bytes(messages.sign(total, self.me, payload)), session.T
        )

    def _once(self, session: Session, phase: str, sender: str, parcel: Parcel) -> None:
        if session.phase != phase:
            raise OutOfOrder(f"{phase} of {sender} arrived while the query was at {session.phase}")
        if sender in session.answered:
            raise OutOfOrder(f"a second {phase} of {sender}")
        session.answered[sender] = parcel.signed

    def _phase(self, session: Session, phase: str, clock: float) -> None:
        session.phase, session.answered, session.adding = phase, {}, None
        session.deadline = clock + self.round_seconds

    # -- time --------------------------------------------------------------------------------------

    def tick(self, clock: float) -> None:
        """Give up queries whose deadline has passed, naming who was missing; forget what is long
        over."""
        for session in list(self.sessions.values()):
            if clock > session.deadline:
                self._give_up(session, self._missed(session), clock)
            elif session.heard is not None and clock - session.heard > ANALYST_SECONDS:
                self._give_up(
                    session,
                    Aborted(f"{session.query.analyst}, who asked this, has gone", who=self.me.name),
                    clock,
                )
            elif session.phase == "admission" and self._shut_out(session, clock):
                # it cannot answer before somebody sets its clock
                self._give_up(session, self._missed(session), clock)
        while self.ended and next(iter(self.ended.values())) <= clock:
            del self.ended[next(iter(self.ended))]
        while self.stale and self.stale[0][0] <= clock:
            self._forget(self.stale.popleft()[1], clock)
        while self.leftover and self.leftover[0][0] <= clock:
            _, session = self.leftover.popleft()
            for name in session.query.registries:
                self.boxes[name].forget(session.T, unread=False)

    def _shut_out(self, session: Session, clock: float) -> bool:
        """Whether a registry that has not answered comes with a wrong clock only. Old requests that
        somebody else sends again are not enough: who is there has come for the query by now."""
        waited = clock - session.opened > CLOCK_SECONDS
        return waited and any(
            name in self.skewed and name not in session.there for name in session.missing()
        )

    def _missed(self, session: Session) -> Unreachable:
        """Who has not answered, where, and what is known of why."""
        names = session.missing()
        where = f"round {session.round}" if session.phase == "rounds" else f"the {session.phase}"
        what = f"no answer from {', '.join(names) or 'nobody'} in {where}"
        clocks, hint = self._clocks(session)
        what = "; ".join((what, *clocks))
        return Unreachable(what, who=self.me.name, hint=hint)

    def _clocks(self, session: Session) -> tuple[list[str], str]:
        """What wrong clocks have to do with it, and the remedy. Who differs from all is wrong."""
        wrong = {name: self.skewed[name] for name in session.missing() if name in self.skewed}
        if not wrong:
            return [], "see that these nodes run, then ask again"
        some = next(iter(wrong.values()))
        alike = all(abs(seconds - some) < SKEW_SECONDS for seconds in wrong.values())
        if alike and set(wrong) == set(session.query.registries):
            return [
                f"the coordinator's clock is {clock_words(-some)} those of all registries"
            ], "set the clock of the coordinator's machine, and ask again a minute later"
        return [
            f"the clock of {name} is {clock_words(seconds)} the coordinator's"
            for name, seconds in wrong.items()
        ], "set the clocks of these machines, and ask again a minute later"

    def _forget(self, session: Session, clock: float) -> None:
        """The mail of a query that has been over for a while: nobody who never saw its beginning
        needs its end."""
        self.boxes.pop(session.answers, None)
        for name in session.query.registries:
            self.boxes[name].forget(session.T, unread=True)
        self.leftover.append((clock + LEFTOVER_SECONDS - ANSWER_SECONDS, session))

    def _give_up(self, session: Session, error: FedstatsError, clock: float) -> None:
        abort = Abort(T=session.T, sender=self.me.name, problem=as_problem(error, self.me.name))
        self._put(
            (*session.query.registries, session.answers),
            bytes(messages.sign(abort, self.me)),
            session.T,
        )
        self.counts["aborted"] += 1
        self._close(session, clock)

    def _close(self, session: Session, clock: float) -> None:
        self.sessions.pop(session.T, None)
        self._over(session.T, clock)
        session.adding, session.answered, session.taken = None, {}, set()
        self.stale.append((clock + ANSWER_SECONDS, session))

    def _over(self, T: bytes, clock: float) -> None:
        """A query is used once; those that are forgotten here are still known to the registries."""
        self.ended[T] = clock + LONGEST_QUERY_SECONDS
        if len(self.ended) > MOST_ENDED:
            del self.ended[next(iter(self.ended))]

    # -- out ---------------------------------------------------------------------------------------

    def mail(self, box: str, after: int) -> list[tuple[int, bytes]]:
        """The parcels of a mailbox after its reader's cursor; none for a mailbox that is gone."""
        return self.boxes[box].read(after) if box in self.boxes else []

    def presses(self, box: str, after: int) -> bool:
        """Whether some of these parcels cannot wait."""
        return box in self.boxes and self.boxes[box].presses(after)

    def heard(self, box: str, reader: str, *, begins: bool, clock: float) -> None:
        """Somebody asks for the mail of a box. Raises Refused if another process reads it, see
        `Mailbox.take_over`."""
        member, _, query = box.partition("/")
        if query:
            session = self.sessions.get(bytes.fromhex(query))
            if session is not None and session.answers == box:
                session.heard = clock
        elif box in self.boxes:
            self.boxes[box].take_over(reader, begins=begins, clock=clock)
            self.polled[member] = clock

    def listening(self, clock: float) -> list[str]:
        """The registries that read their mail here."""
        return [name for name, at in self.polled.items() if clock - at < AWAY_SECONDS]

    def check_poll(self, signed: bytes, path: str, *, now: float) -> str:
        """The member behind a signed GET. Raises Tampered, MessageError or Refused (replayed, late,
        meant for another path)."""
        request = self.open_request(signed, Poll, path, now=now)
        if self.account(request.member).nonces.seen(request.nonce, now) is not None:
            raise Refused("this request has been made before")
        return request.member

    def open_request(
        self, signed: bytes, kind: type[Poll] | type[Post], path: str, *, now: float
    ) -> Any:
        """The signed head of a request. Raises Tampered, MessageError or Refused (late, early,
        meant for another path)."""
        request: Any = messages.open_signed(signed, self.roster.public)[0]
        if (
            not isinstance(request, kind)
            or request.coordinator != self.me.name
            or request.path != path
        ):
            raise MessageError("the signature was made for another request")
        if abs(request.time - now) > SKEW_SECONDS:
            self.skewed[request.member] = request.time - now
            raise Refused(
                f"the clock of {request.member} is {clock_words(request.time - now)} the coordinator's",
                hint="set the clock of that machine, or of the coordinator; or the request was held up on its way",
            )
        self.skewed.pop(request.member, None)
        for session in self.sessions.values():
            session.there.add(request.member)
        return request

    def account(self, member: str) -> Account:
        """What a member uses here. Asked for names on verified signatures only, so there are as
        many as members."""
        return self.accounts.setdefault(member, Account())

    def progress(self, T: bytes, member: str) -> dict[str, Any]:
        """How far a query is: phase, round, who has answered. For its members only."""
        session = self.sessions.get(T)
        if session is None or member not in (*session.query.registries, session.query.analyst):
            return {"phase": "over"}
        return {
            "phase": session.phase,
            "round": session.round,
            "answered": len(session.answered),
            "of": len(session.query.registries),
            "missing": session.missing(),
        }

    def _put(self, boxes: tuple[str, ...], raw: bytes, T: bytes, *, pressing: bool = True) -> None:
        for box in boxes:
            self.boxes[box].put(raw, T)
        if pressing:
            self._press(boxes)

    def _put_others(
        self, session: Session, sender: str, raw: bytes, *, pressing: bool = True
    ) -> None:
        everybody = {name: name for name in session.query.registries} | {
            session.query.analyst: session.answers
        }
        self._put(
            tuple(box for name, box in everybody.items() if name != sender),
            raw,
            session.T,
            pressing=pressing,
        )

    def _press(self, boxes: tuple[str, ...]) -> None:
        """What is in these mailboxes cannot wait any longer."""
        for box in boxes:
            self.boxes[box].pressing = self.boxes[box].last
            self.wake(box)


def box_of(analyst: str, T: bytes) -> str:
    """The name of an analyst's mailbox for one query."""
    return f"{analyst}/{T.hex()}"
