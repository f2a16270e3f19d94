"""The coordinator as a web application: signed parcels in, mailboxes out by long-poll. State lives
in `mailroom`.

POST /v1/parcels            one parcel (see wire/messages); 204, or a Problem as JSON. A signed
`Post` names its length and digest
GET  /v1/mail?after=&wait=  the caller's mail after its cursor; waits up to `wait` seconds for some
that presses. `query=` for analysts;
                            `boot=` is the life of the coordinator that the cursor belongs to,
                            `reader=` the process that reads
GET  /v1/queries/{T}        how far a query is, for its members
GET  /v1/listening          which registries read their mail here, for members
GET  /healthz, /metrics     for operators; no names, no numbers of anybody
The signed `Post` or `Poll` stands in the header `Authorization: fedstats <base64>`, and is verified
before a byte of a body is read. 429 and 503 carry Retry-After: the same request may be made again
then.

What anybody may cost is limited in `limits` (requests, bytes) and `door` (connections, time).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import secrets
import signal
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ..crypto import adding
from ..crypto.identity import Identity
from ..errors import (
    FedstatsError,
    InputError,
    Internal,
    MessageError,
    Problem,
    Refused,
    Unreachable,
    as_problem,
)
from ..version import __version__
from ..wire.messages import Poll, Post
from ..wire.roster import Consortium
from .door import Door, Gate, Visitor, Visitors, most_files
from .limits import Room, Strangers
from .mailroom import ROUND_SECONDS, Mailroom
from .requests import TooBusy, length_of, parcel_of, path_of, reading_of, signature_of

log = logging.getLogger("fedstats.coordinator")

ADD_IN_THREAD = 32 * 1024  # bytes of a parcel that is taken sooner than a thread is woken for it
ROOM_SECONDS = 60.0  # a parcel waits so long for room to be read into
LONGEST_WAIT = 30.0  # seconds a long-poll may hang: below the idle limits of common proxies
PIECE = 256 * 1024  # bytes of an answer that are on their way at a time
STRANGER_SECONDS = (
    0.5  # strangers who ask for too much wait for the answer; shorter than health checks do
)
STATUS = {
    "tampered": 403,
    "message": 400,
    "out_of_order": 409,
    "refused": 403,
    "unreachable": 410,
    "internal": 500,
}


class Application:
    """The mailroom with clock and sockets: one lock, because totals are added in threads while the
    loop goes on listening."""

    def __init__(
        self, me: Identity, roster: Consortium, *, round_seconds: float = ROUND_SECONDS
    ) -> None:
        self.room = Mailroom(me, roster, wake=self._wake, round_seconds=round_seconds)
        self.boot = secrets.token_hex(
            8
        )  # readers notice a restart by it and start their cursor again
        self.lock = asyncio.Lock()
        self.space, self.strangers = Room(), Strangers()
        self.visitors = Visitors(most_files(), len(roster.members))
        self.loop: asyncio.AbstractEventLoop | None = None
        self.mail: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.turns: dict[
            str, object
        ] = {}  # mailbox -> its latest long-poll: an earlier one has been given up by its reader
        self.stopping = False

    def stop(self) -> None:
        """Answer all long-polls at once: a server that stops waits for them."""
        self.stopping = True
        for box in list(self.mail):
            self._wake(box)

    def _wake(self, box: str) -> None:
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.mail[box].set)

    # -- what members ask for ----------------------------------------------------------------------

    async def parcels(self, request: Request) -> Response:
        length = length_of(request)
        post = self._opened(request, Post)
        if post.length != length:
            raise MessageError("the parcel has another length than its sender signed")
        account = self.room.account(post.member)
        before = account.nonces.seen(post.nonce, time.time())
        if before:
            return Response(
                status_code=204, headers={"connection": "close"}
            )  # the same once more: taken already
        if before is not None:
            raise Refused("this request has been made before")
        with self._answering(post.member):
            try:
                async with self.space.for_parcel(post.member, length, ROOM_SECONDS):
                    await self._receive(await parcel_of(request, post))
            except TimeoutError:
                raise TooBusy(503, 2.0, "many parcels are being read") from None
        account.nonces.settle(post.nonce)
        return Response(status_code=204)

    async def _receive(self, raw: memoryview) -> None:
        async with self.lock:
            take = functools.partial(
                self.room.receive, raw, now=time.time(), clock=time.monotonic()
            )
            if len(raw) <= ADD_IN_THREAD:
                take()
            else:
                await run_in_threadpool(take)

    async def read_mail(self, request: Request) -> Response:
        member = self._member(request)
        reading = reading_of(request)
        box = member if reading.query is None else f"{member}/{reading.query}"
        if reading.boot not in (None, self.boot):
            # the cursor counts the mail of another life: told at once, before it drops mail of this
            # one
            return Mail(self.boot, [])
        if reading.query is not None and box not in self.room.boxes:
            raise Unreachable(
                "this query is not in flight here",
                who=self.room.me.name,
                hint="it has ended, or the coordinator was restarted: ask again",
            )
        with self._answering(member):
            begins, until = reading.boot is None, time.monotonic() + min(reading.wait, LONGEST_WAIT)
            mine = self.turns[box] = object()
            self._wake(box)  # whoever waited here before
            try:
                while True:
                    self.room.heard(box, reading.reader, begins=begins, clock=time.monotonic())
                    begins = False
                    event = self.mail[box]
                    event.clear()
                    presses, found = (
                        self.room.presses(box, reading.after),
                        self.room.mail(box, reading.after),
                    )
                    left = until - time.monotonic()
                    if presses or left <= 0 or self.stopping or self.turns.get(box) is not mine:
                        break
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(event.wait(), left)
                    if self.turns.get(box) is not mine:
                        event.set()  # it was meant for the one who reads now
                        found = []
                        break
            finally:
                if self.turns.get(box) is mine:
                    del self.turns[box]
                if box not in self.room.boxes:
                    self.mail.pop(box, None)
        return Mail(self.boot, found)

    async def progress(self, request: Request) -> Response:
        member = self._member(request)
        try:
            T = bytes.fromhex(request.path_params["T"])
        except ValueError:
            raise MessageError("a query is named by 64 hexadecimal digits") from None
        with self._answering(member):
            return _json(self.room.progress(T, member) | {"boot": self.boot})

    async def listening(self, request: Request) -> Response:
        with self._answering(self._member(request)):
            return _json({"boot": self.boot, "listening": self.room.listening(time.monotonic())})

    # -- what operators ask for --------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok", "version": __version__})

    async def metrics(self, request: Request) -> Response:
        counts = self.room.counts | {"connections_turned_away": self.visitors.turned_away}
        lines = [
            f"# TYPE fedstats_{name} counter\nfedstats_{name} {value}"
            for name, value in counts.items()
        ]
        gauges = {
            "open_queries": len(self.room.sessions),
            "connections_of_strangers": self.visitors.strange,
        }
        lines += [
            f"# TYPE fedstats_{name} gauge\nfedstats_{name} {value}"
            for name, value in gauges.items()
        ]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    # -- who asks, and whether now -----------------------------------------------------------------

    def _member(self, request: Request) -> str:
        """The member who signed this GET."""
        poll = self._opened(request, Poll)
        if self.room.account(poll.member).nonces.seen(poll.nonce, time.time()) is not None:
            raise Refused("this request has been made before")
        return poll.member

    def _opened(self, request: Request, kind: type[Poll] | type[Post]) -> Any:
        """The verified head of a member's request; from now on the connection counts as that
        member's."""
        signed = signature_of(request)
        try:
            found = self.room.open_request(signed, kind, path_of(request), now=time.time())
        except Refused:  # a member's signature, at a wrong time
            request.state.member = True
            raise
        request.state.member = True
        visitor: Visitor | None = getattr(request.state, "visitor", None)
        if visitor is not None:
            self.visitors.signed(visitor, found.member)
        return found

    @contextlib.contextmanager
    def _answering(self, member: str) -> Iterator[None]:
        """Count a member's request while it is answered. Raises TooBusy for one more than a member
        may make."""
        account = self.room.account(member)
        seconds = account.bucket.wait(time.monotonic())
        if seconds:
            raise TooBusy(429, seconds, "this member makes too many requests")
        with account.answering() as allowed:
            if not allowed:
                raise TooBusy(429, 1.0, "this member makes too many requests at a time")
            yield

    # -- errors ------------------------------------------------------------------------------------

    async def limited(self, request: Request, handler: Any) -> Response:
        """An answer in any case; every error is a Problem."""
        try:
            answer = await handler(request)
        except TooBusy as error:
            problem = Problem("unreachable", self.room.me.name, error.what, "wait a little")
            answer = _json(problem, error.status, {"retry-after": str(math.ceil(error.seconds))})
        except FedstatsError as error:
            answer = self._refusal(error)
        except Exception as error:
            log.exception("internal fault")
            answer = self._refusal(error)
        if answer.status_code >= 400 and request.method == "POST":
            answer.headers["connection"] = "close"  # its body may not have been read
        return await self._strangers_last(request, answer)

    def _refusal(self, error: Exception) -> Response:
        problem = as_problem(
            error if isinstance(error, FedstatsError) else Internal("internal fault"),
            self.room.me.name,
        )
        return _json(problem, STATUS.get(problem.code, 400))

    async def _strangers_last(self, request: Request, answer: Response) -> Response:
        """Strangers who ask for too much wait, which costs nothing here; members never do, whatever
        others of their address did."""
        if getattr(request.state, "member", False):
            return answer
        if answer.status_code >= 400:
            answer.headers["connection"] = "close"
        if self.strangers.too_many(request.client.host if request.client else "", time.monotonic()):
            await asyncio.sleep(STRANGER_SECONDS)
            if answer.status_code >= 400:
                problem = as_problem(
                    Refused("too many bad requests from this address: wait a little"),
                    self.room.me.name,
                )
                return _json(problem, 429, {"retry-after": "10", "connection": "close"})
        return answer

    async def elsewhere(self, request: Request, error: Exception) -> Response:
        """Paths and methods that there are not."""
        status = error.status_code if isinstance(error, HTTPException) else 404
        problem = Problem("message", self.room.me.name, "there is nothing here for such a request")
        return await self._strangers_last(request, _json(problem, status, {"connection": "close"}))

    # -- the application ---------------------------------------------------------------------------

    async def ticking(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            async with self.lock:
                self.room.tick(time.monotonic())

    def build(self) -> Starlette:
        """The ASGI application."""

        def route(path: str, handler: Any, method: str) -> Route:
            async def endpoint(request: Request) -> Response:
                return await self.limited(request, handler)

            return Route(path, endpoint, methods=[method])

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self.loop = asyncio.get_running_loop()
            task = asyncio.create_task(self.ticking())
            yield
            task.cancel()

        return Starlette(
            lifespan=lifespan,
            exception_handlers={HTTPException: self.elsewhere},
            routes=[
                route("/v1/parcels", self.parcels, "POST"),
                route("/v1/mail", self.read_mail, "GET"),
                route("/v1/queries/{T}", self.progress, "GET"),
                route("/v1/listening", self.listening, "GET"),
                route("/healthz", self.health, "GET"),
                route("/metrics", self.metrics, "GET"),
            ],
        )


class Mail(Response):
    """Numbered parcels as MessagePack, sent piece by piece: nothing is copied as a whole, whatever
    its reader takes of it."""

    def __init__(self, boot: str, found: list[tuple[int, bytes]]) -> None:
        self.parts = [
            b"\x92" + msgspec.msgpack.encode(boot) + b"\xdd" + struct.pack(">I", len(found))
        ]
        for number, parcel in found:
            self.parts += [
                b"\x92" + msgspec.msgpack.encode(number) + b"\xc6" + struct.pack(">I", len(parcel)),
                parcel,
            ]
        super().__init__(
            media_type="application/vnd.msgpack",
            headers={"content-length": str(sum(map(len, self.parts)))},
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        small = b""  # short parts travel together
        for part in self.parts:
            for start in range(0, len(part), PIECE):
                small += part[start : start + PIECE]
                if len(small) >= PIECE:
                    await send({"type": "http.response.body", "body": small, "more_body": True})
                    small = b""
        await send({"type": "http.response.body", "body": small})


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def create(me: Identity, roster: Consortium, *, round_seconds: float = ROUND_SECONDS) -> Starlette:
    """The coordinator's ASGI application. Raises Refused if the identity is not a coordinator of
    the roster."""
    return _application(me, roster, round_seconds).build()


def _application(me: Identity, roster: Consortium, round_seconds: float) -> Application:
    if roster.role(me.name) != "coordinator":
        raise Refused(f"{me.name} is not a coordinator of {roster.name}")
    adding.prepare()
    return Application(me, roster, round_seconds=round_seconds)


def serve(
    me: Identity,
    roster: Consortium,
    *,
    host: str,
    port: int,
    round_seconds: float = ROUND_SECONDS,
    tls: tuple[str, str] | None = None,
) -> None:
    """Run until SIGINT or SIGTERM.

    tls : paths of certificate and key; without them a reverse proxy is expected to add TLS.
    """
    server = server_of(_application(me, roster, round_seconds), host=host, port=port, tls=tls)
    # the server raises the signal again when it has stopped; here that is an end like any other
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


def server_of(
    application: Application, *, host: str, port: int, tls: tuple[str, str] | None = None
) -> uvicorn.Server:
    """The server of an application, with the limits of `door`; `run` serves."""
    context = _context(*tls) if tls else None
    visitors = application.visitors

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            application.stop()
            super().handle_exit(sig, frame)

    def gate(config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> Gate:
        return Gate(
            visitors,
            context,
            lambda visitor: Door(visitors, visitor, config, server_state, app_state),
        )

    # nothing is logged about strangers: they could fill the disk
    return Server(
        uvicorn.Config(
            application.build(),
            host=host,
            port=port,
            http=gate,  # type: ignore[arg-type]
            ws="none",
            loop="asyncio",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )


def _context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS as a server speaks it. Raises InputError for files that are no certificate and key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # nobody is asked for one
    except (OSError, ValueError) as error:
        raise InputError(
            f"{certificate} and {key} are not a certificate and its key ({error})",
            hint="two PEM files that belong together; the key without a password",
        ) from None
    return context
