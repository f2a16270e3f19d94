"""Who is connected, and for how long: limits that hold before anybody has said who they are.

How this works. Every connection is a `Visitor` from the moment it is accepted, before TLS is agreed
on. It has so many seconds to agree on TLS and to send the head of a request; it is a stranger until
a request on it carried a member's signature. There are so many places for strangers; when they are
full, the address that holds the most of them loses its oldest one. Members' connections have places
of their own, so that no crowd of strangers can close them, and so many for each, so that no member
can take another's. What a stranger still sends after an answer that ended its request is thrown
away for a moment, so that it can read the answer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import LONGEST_PARCEL, network

HEAD_SECONDS = 10.0  # to agree on TLS, and then to send the head of a request
WRITE_SECONDS = 60.0  # to take a piece of an answer (see app.PIECE)
KEPT_SECONDS = 60  # a member's connection without requests is kept while its node computes
STRANGER_KEPT_SECONDS = 5
LINGER_SECONDS, LINGER_BYTES = (
    2.0,
    256 * 1024,
)  # what is still sent after the answer, and thrown away
MOST_STRANGERS = 1024  # connections
MOST_PER_MEMBER = 64
FILES_ELSEWHERE = 8192          # where there is no limit to ask for
SPARE_FILES = 64  # of the process, for everything that is no connection


def most_files() -> int:
    """Raise this process's limit of open files as far as it goes; the limit."""
    try:
        import resource
    except ImportError:     # not on Windows
        return FILES_ELSEWHERE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


class Visitor:
    """One connection: where it comes from, how to end it, and whose it is ("": nobody has signed
    anything on it)."""

    def __init__(self, address: str, end: Callable[[], None]) -> None:
        self.address, self.end, self.member = network(address), end, ""


class Visitors:
    """Everybody who is connected; see the module. Dicts are sets that keep their order: the oldest
    comes first."""

    def __init__(self, files: int, members: int) -> None:
        self.most_strangers = max(8, min(MOST_STRANGERS, files // 4))
        self.most_per_member = max(
            2, min(MOST_PER_MEMBER, (files - self.most_strangers - SPARE_FILES) // max(1, members))
        )
        self.strangers: dict[str, dict[Visitor, None]] = defaultdict(dict)
        self.members: dict[str, dict[Visitor, None]] = defaultdict(dict)
        self.strange = self.turned_away = 0

    def arrives(self, visitor: Visitor) -> None:
        self.strangers[visitor.address][visitor] = None
        self.strange += 1
        if self.strange > self.most_strangers:
            crowd = max(self.strangers, key=lambda address: len(self.strangers[address]))
            self._turn_away(next(iter(self.strangers[crowd])))

    def signed(self, visitor: Visitor, member: str) -> None:
        """A request on this connection carried the signature of a member."""
        if visitor.member == member:
            return
        self.leaves(visitor)
        visitor.member = member
        self.members[member][visitor] = None
        if len(self.members[member]) > self.most_per_member:
            self._turn_away(next(iter(self.members[member])))

    def leaves(self, visitor: Visitor) -> None:
        groups, key = (
            (self.members, visitor.member) if visitor.member else (self.strangers, visitor.address)
        )
        if visitor in groups.get(key, ()):
            del groups[key][visitor]
            self.strange -= not visitor.member
            if not groups[key]:
                del groups[key]

    def _turn_away(self, visitor: Visitor) -> None:
        self.turned_away += 1
        self.leaves(visitor)
        visitor.end()


class Gate(asyncio.Protocol):
    """A connection from its first moment: counted, and, where TLS is spoken, given so long to agree
    on it."""

    def __init__(
        self,
        visitors: Visitors,
        context: ssl.SSLContext | None,
        open_door: Callable[[Visitor], Door],
    ) -> None:
        self.visitors, self.context, self.open_door = visitors, context, open_door
        self.agreeing: asyncio.Task[None] | None = None
        self.early = b""  # what came in one piece with the end of the TLS handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        self.visitor = Visitor(str(peer[0]) if isinstance(peer, tuple) else "", transport.abort)
        self.visitors.arrives(self.visitor)
        if self.context is None:
            self._enter(transport)
        else:
            transport.pause_reading()
            self.agreeing = asyncio.get_running_loop().create_task(
                self._agree(transport, self.context)
            )

    def data_received(self, data: bytes) -> None:
        self.early += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.visitors.leaves(self.visitor)

    async def _agree(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            tls = await loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=HEAD_SECONDS
            )
        except OSError:  # a wrong certificate, another protocol, silence
            tls = None
        if tls is None or transport.is_closing():
            transport.abort()
            self.visitors.leaves(self.visitor)
        else:
            self._enter(tls)

    def _enter(self, transport: asyncio.Transport) -> None:
        door = self.open_door(self.visitor)
        transport.set_protocol(door)
        door.connection_made(transport)
        if self.early:
            door.data_received(self.early)


class Lingering:
    """A transport whose `close` lets the other side read the last answer, where it was still
    sending when it was given."""

    def __init__(self, transport: asyncio.Transport, door: Door) -> None:
        self._transport, self._door = transport, door

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        self._door.leave(self._transport)

    def is_closing(self) -> bool:
        return self._door.leaving or self._transport.is_closing()


class Door(H11Protocol):
    """uvicorn's HTTP connection with deadlines: for the head of every request, and for taking what
    is answered."""

    def __init__(
        self,
        visitors: Visitors,
        visitor: Visitor,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state | {"visitor": visitor})
        self.visitors, self.visitor = visitors, visitor
        self.leaving, self.thrown_away = False, 0
        self.head: asyncio.TimerHandle | None = None
        self.stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Lingering(transport, self))  # type: ignore[arg-type]
        self.head = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self.visitors.leaves(self.visitor)
        for timer in (self.head, self.stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.leaving:
            self.thrown_away += len(data)
            if self.thrown_away > (LONGEST_PARCEL if self.visitor.member else LINGER_BYTES):
                self.transport.abort()
            return
        if self.head is None and self.conn.their_state is h11.IDLE:
            self.head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        super().data_received(data)
        if self.head is not None and self.conn.their_state is not h11.IDLE:
            self.head.cancel()
            self.head = None

    def on_response_complete(self) -> None:
        self.timeout_keep_alive = KEPT_SECONDS if self.visitor.member else STRANGER_KEPT_SECONDS
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stalled = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        if self.stalled is not None:
            self.stalled.cancel()
            self.stalled = None
        super().resume_writing()

    def leave(self, transport: asyncio.Transport) -> None:
        """Close, after a moment where the other side is still sending."""
        if (
            self.leaving
            or transport.is_closing()
            or self.conn.their_state not in (h11.SEND_BODY, h11.ERROR)
        ):
            transport.close()
            return
        self.leaving = True
        transport.resume_reading()
        self.loop.call_later(LINGER_SECONDS, transport.close)
