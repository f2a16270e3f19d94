"""A tap on the line: somebody between one node and the coordinator who looks at, changes, drops, delays or repeats parcels.

For the demonstration and the tests: what a line, a proxy or an attacker on it could do, done on purpose.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from ..errors import FedstatsError, InputError
from ..wire import messages
from .laptop import HOST, free_port

FORWARD_SECONDS = 60.0
Change = Callable[[str, bytes], Sequence[bytes]]        # ("up" | "down", parcel) -> parcels that travel instead


class Wire:
    """A line between one node and the coordinator that may do what lines do; `change` is looked at for every parcel."""

    def __init__(self, target: int, *, port: int | None = None) -> None:
        self.change: Change = lambda direction, parcel: (parcel,)
        self.port = port or free_port()
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, content = 204, b""
                for parcel in wire.change("up", body):
                    signature = self._signature()
                    status, content = wire._forward(target, "POST", self.path, parcel, signature)
                self._answer(status, content)

            def do_GET(self) -> None:
                status, content = wire._forward(target, "GET", self.path, None, self._signature())
                if status == 200 and self.path.startswith("/v1/mail"):
                    boot, mail = msgspec.msgpack.decode(content)
                    content = msgspec.msgpack.encode((boot, [(n, one) for n, parcel in mail for one in wire.change("down", parcel)]))
                self._answer(status, content)

            def _signature(self) -> dict[str, str]:
                signature = self.headers.get("authorization")
                return {"Authorization": signature} if signature else {}

            def _answer(self, status: int, content: bytes) -> None:
                with contextlib.suppress(OSError):      # the node may have gone meanwhile
                    self.send_response(status)
                    if status != 204:
                        self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer((HOST, self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def _forward(self, target: int, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        line = http.client.HTTPConnection(HOST, target, timeout=FORWARD_SECONDS)
        try:
            line.request(method, path, body=body, headers=dict(headers))
            answer = line.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 502, b""
        finally:
            line.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


def kind(parcel: bytes) -> str:
    """What a parcel is ("query", "admission", "total", ...), for somebody on the line: signatures are not looked at."""
    try:
        signed, _ = messages.split(parcel)
        return msgspec.msgpack.decode(msgspec.msgpack.decode(signed)[0]).get("type", "")
    except (FedstatsError, msgspec.DecodeError, LookupError, TypeError):
        return ""


def flip(parcel: bytes) -> bytes:
    """The parcel with one bit changed in the middle of its payload."""
    _, payload = messages.split(parcel)
    if not payload:
        raise InputError("this parcel carries no payload")
    place = len(parcel) - len(payload) // 2
    return parcel[:place] + bytes([parcel[place] ^ 1]) + parcel[place + 1:]
