"""The coordinator as a web application: signed parcels in, mailboxes out by long-poll. State lives in `mailroom`.

POST /v1/parcels            one parcel (see wire/messages); 204, or a Problem as JSON
GET  /v1/mail?after=&wait=  the caller's mail after its cursor; waits up to `wait` seconds for some that presses. `query=` for analysts;
                            `boot=` is the life of the coordinator that the cursor belongs to
GET  /v1/queries/{T}        how far a query is, for its members
GET  /healthz, /metrics     for operators; no names, no numbers of anybody
GETs carry a signed Poll in the header `Authorization: fedstats <base64>`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import secrets
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .. import __version__
from ..crypto import adding
from ..crypto.identity import Identity
from ..errors import FedstatsError, Internal, MessageError, Refused, Tampered, Unreachable, as_problem
from ..wire.messages import LONGEST_BODY, LONGEST_PAYLOAD
from ..wire.roster import Consortium
from .mailroom import ROUND_SECONDS, Mailroom

MOST_READING, READ_SECONDS = 4, 120.0   # parcels read at once, so that memory does not grow with the registries that post together
SHORT = 32 * 1024               # bytes of a parcel that is taken sooner than a thread is woken for it
LONGEST_WAIT = 30.0             # seconds a long-poll may hang: below the idle limits of common proxies
KEPT_SECONDS = 60               # a connection without requests is kept while its node computes
BAD_REQUESTS, BAD_WINDOW = 60, 10.0     # refused requests per address and seconds, before the address has to wait
STATUS = {"tampered": 403, "message": 400, "out_of_order": 409, "refused": 403, "unreachable": 410, "internal": 500}


class Application:
    """The mailroom with clock and sockets: one lock, because totals are added in threads while the loop goes on listening."""

    def __init__(self, me: Identity, roster: Consortium, *, round_seconds: float = ROUND_SECONDS) -> None:
        self.room = Mailroom(me, roster, wake=self._wake, round_seconds=round_seconds)
        self.boot = secrets.token_hex(8)        # readers notice a restart by it and start their cursor again
        self.lock = asyncio.Lock()
        self.reading = asyncio.Semaphore(MOST_READING)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.mail: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.bad: dict[str, list[float]] = defaultdict(list)
        self.stopping = False

    def stop(self) -> None:
        """Answer all long-polls at once: a server that stops waits for them."""
        self.stopping = True
        for box in list(self.mail):
            self._wake(box)

    def _wake(self, box: str) -> None:
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.mail[box].set)

    async def parcels(self, request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > LONGEST_PAYLOAD + LONGEST_BODY:
            raise MessageError("the parcel's length is missing or too large")
        async with self.reading:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    raw = await request.body()
            except TimeoutError:
                raise Unreachable("the parcel did not arrive in time", hint="send it again") from None
            async with self.lock:
                if len(raw) <= SHORT:
                    self.room.receive(raw, now=time.time(), clock=time.monotonic())
                else:
                    await run_in_threadpool(self.room.receive, raw, now=time.time(), clock=time.monotonic())
        return Response(status_code=204)

    async def read_mail(self, request: Request) -> Response:
        member = self._member(request)
        try:
            after, wait = int(request.query_params.get("after", "0")), float(request.query_params.get("wait", "0"))
        except ValueError:
            raise MessageError("after and wait must be numbers") from None
        query = request.query_params.get("query")
        box = member if query is None else f"{member}/{query}"
        if request.query_params.get("boot", self.boot) != self.boot:
            # the cursor counts the mail of another life: told at once, before it drops mail of this one
            return Response(msgspec.msgpack.encode((self.boot, ())), media_type="application/vnd.msgpack")
        until = time.monotonic() + min(max(wait, 0.0), LONGEST_WAIT)
        while True:
            event = self.mail[box]
            event.clear()
            presses, found = self.room.presses(box, after), self.room.mail(box, after)
            left = until - time.monotonic()
            if presses or left <= 0 or self.stopping:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), left)
        if box not in self.room.boxes:
            self.mail.pop(box, None)
        return Response(msgspec.msgpack.encode((self.boot, found)), media_type="application/vnd.msgpack")

    async def progress(self, request: Request) -> Response:
        member = self._member(request)
        try:
            T = bytes.fromhex(request.path_params["T"])
        except ValueError:
            raise MessageError("a query is named by 64 hexadecimal digits") from None
        return Response(msgspec.json.encode(self.room.progress(T, member) | {"boot": self.boot}), media_type="application/json")

    async def health(self, request: Request) -> Response:
        return Response(msgspec.json.encode({"status": "ok", "version": __version__}), media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        lines = [f"# TYPE fedstats_{name} counter\nfedstats_{name} {value}" for name, value in self.room.counts.items()]
        lines.append(f"# TYPE fedstats_open_queries gauge\nfedstats_open_queries {len(self.room.sessions)}")
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    def _member(self, request: Request) -> str:
        """The member who signed this GET."""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme != "fedstats" or len(text) > 4096:
            raise Tampered("the request is not signed")
        try:
            signed = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise MessageError("the signature is not base64") from None
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return self.room.check_poll(signed, path, now=time.time())

    async def on_error(self, request: Request, error: Exception) -> Response:
        """Every error as a Problem; an address that makes many has to wait."""
        known = error if isinstance(error, FedstatsError) else Internal("internal fault")
        problem = as_problem(known, self.room.me.name)
        address = request.client.host if request.client and problem.code in ("tampered", "message") else ""
        self.bad[address] = [at for at in self.bad[address] if at > time.monotonic() - BAD_WINDOW] + [time.monotonic()]
        return Response(msgspec.json.encode(problem), status_code=STATUS.get(problem.code, 400), media_type="application/json")

    async def limited(self, request: Request, handler: Any) -> Response:
        address = request.client.host if request.client else ""
        recent = [] if not address else [at for at in self.bad.get(address, ()) if at > time.monotonic() - BAD_WINDOW]
        if len(recent) > BAD_REQUESTS:
            problem = as_problem(Refused("too many bad requests from this address: wait a little"), self.room.me.name)
            return Response(msgspec.json.encode(problem), status_code=429, media_type="application/json")
        try:
            return await handler(request)
        except FedstatsError as error:
            return await self.on_error(request, error)

    async def ticking(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            async with self.lock:
                self.room.tick(time.monotonic())
            self.bad = defaultdict(list, {address: ats for address, ats in self.bad.items() if ats[-1] > time.monotonic() - BAD_WINDOW})

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

        return Starlette(lifespan=lifespan, exception_handlers={Exception: self.on_error}, routes=[
            route("/v1/parcels", self.parcels, "POST"), route("/v1/mail", self.read_mail, "GET"),
            route("/v1/queries/{T}", self.progress, "GET"), route("/healthz", self.health, "GET"), route("/metrics", self.metrics, "GET")])


def create(me: Identity, roster: Consortium, *, round_seconds: float = ROUND_SECONDS) -> Starlette:
    """The coordinator's ASGI application. Raises Refused if the identity is not a coordinator of the roster."""
    return _application(me, roster, round_seconds).build()


def _application(me: Identity, roster: Consortium, round_seconds: float) -> Application:
    if roster.role(me.name) != "coordinator":
        raise Refused(f"{me.name} is not a coordinator of {roster.name}")
    adding.prepare()
    return Application(me, roster, round_seconds=round_seconds)


def serve(me: Identity, roster: Consortium, *, host: str, port: int, round_seconds: float = ROUND_SECONDS,
          tls: tuple[str, str] | None = None) -> None:
    """Run until SIGINT or SIGTERM. tls : paths of certificate and key; without them a reverse proxy is expected to add TLS."""
    import uvicorn

    application = _application(me, roster, round_seconds)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            application.stop()
            super().handle_exit(sig, frame)

    certificate, key = tls or (None, None)
    config = uvicorn.Config(application.build(), host=host, port=port, log_level="warning", access_log=False, ssl_certfile=certificate,
                            ssl_keyfile=key, server_header=False, timeout_keep_alive=KEPT_SECONDS, timeout_graceful_shutdown=2)
    # the server raises the signal again when it has stopped; here that is an end like any other
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        Server(config).run()
