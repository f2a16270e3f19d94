"""The one file that speaks HTTP as a client: a member's link to the coordinator. Calls out only; nothing listens.

Several coordinator addresses are tried in turn. Proxies and certificates come from the environment as everywhere (httpx).
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import msgspec

from ..crypto.identity import Identity
from ..errors import FedstatsError, InputError, MessageError, Problem, Unreachable, as_error
from ..wire import messages
from ..wire.messages import LONGEST_BODY, LONGEST_PAYLOAD, Poll

CONNECT_SECONDS, POST_SECONDS, GRACE_SECONDS = 10.0, 120.0, 10.0
LONGEST_ANSWER = 2 * (LONGEST_PAYLOAD + LONGEST_BODY)       # bytes: more than a batch of mail has
Mail = tuple[str, list[tuple[int, bytes]]]


class Link:
    """One member's connection. coordinator : its name in the roster. now, random : as everywhere, for the signed GETs."""

    def __init__(self, me: Identity, coordinator: str, addresses: Sequence[str], *, now: Callable[[], float] = time.time,
                 random: Callable[[int], bytes] = os.urandom) -> None:
        if not addresses:
            raise InputError("the consortium names no coordinator address", hint="fedstats consortium add ... --address https://...")
        self.me, self.coordinator, self.addresses, self.now, self.random = me, coordinator, list(addresses), now, random
        self._client = httpx.Client(timeout=httpx.Timeout(POST_SECONDS, connect=CONNECT_SECONDS))

    def close(self) -> None:
        self._client.close()

    def post(self, parcel: bytes) -> None:
        """Send a parcel. Raises Unreachable, or what the coordinator says."""
        self._request("POST", "/v1/parcels", content=parcel)

    def mail(self, after: int, wait: float, query: bytes | None = None, boot: str = "") -> Mail:
        """The mailbox after a cursor: (the coordinator's boot id, [(number, parcel)]). Waits up to `wait` seconds.

        boot : the id that the cursor belongs to; a coordinator that was restarted answers at once, and drops nothing.
        """
        path = f"/v1/mail?after={after}&wait={wait:g}" + (f"&query={query.hex()}" if query is not None else "")
        path += f"&boot={boot}" if boot else ""
        answer = self._request("GET", path, timeout=httpx.Timeout(wait + GRACE_SECONDS, connect=CONNECT_SECONDS))
        try:
            return msgspec.msgpack.decode(answer.content, type=Mail)
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise MessageError("the coordinator's answer is not mail", who=self.coordinator) from None

    def progress(self, T: bytes) -> dict[str, Any]:
        answer = self._request("GET", f"/v1/queries/{T.hex()}", timeout=httpx.Timeout(GRACE_SECONDS))
        try:
            return msgspec.json.decode(answer.content, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise MessageError("the coordinator's answer is not progress", who=self.coordinator) from None

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        for _ in range(len(self.addresses)):
            try:
                headers = {"Authorization": self._signature(path)} if method == "GET" else {}
                with self._client.stream(method, self.addresses[0].rstrip("/") + path, headers=headers, **options) as answer:
                    content = _limited(answer)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self.addresses.append(self.addresses.pop(0))        # the next address, now and from now on
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise Unreachable(f"the coordinator at {self.addresses[0]} did not answer ({type(error).__name__})") from None
            if answer.is_success:       # who points elsewhere has not taken what was sent
                return httpx.Response(answer.status_code, content=content)
            raise self._error(answer.status_code, content)
        raise Unreachable(f"no coordinator can be reached at {', '.join(self.addresses)}",
                          hint="is it running, and may this machine call out to it?")

    def _signature(self, path: str) -> str:
        poll = Poll(member=self.me.name, coordinator=self.coordinator, path=path, nonce=self.random(16), time=self.now())
        return "fedstats " + base64.b64encode(messages.sign(poll, self.me).signed).decode()

    def _error(self, status: int, content: bytes) -> FedstatsError:
        try:
            return as_error(msgspec.json.decode(content, type=Problem))
        except (msgspec.DecodeError, msgspec.ValidationError):
            return Unreachable(f"the coordinator's address answered with status {status}, not as a coordinator would",
                               hint="is a proxy or another server at that address?")


def _limited(answer: httpx.Response) -> bytes:
    """The body, never more than a mail batch may hold."""
    parts, size = [], 0
    for part in answer.iter_bytes():
        size += len(part)
        if size > LONGEST_ANSWER:
            raise MessageError("the coordinator's answer is too long")
        parts.append(part)
    return b"".join(parts)
