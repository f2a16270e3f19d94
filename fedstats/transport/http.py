"""The one file that speaks HTTP as a client: a member's link to the coordinator. Calls out only;
nothing listens.

Several coordinator addresses are tried in turn. Proxies and certificates come from the environment
as everywhere (httpx). Every request may be made again: a parcel is taken once however often it
comes, mail is read by cursor.
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
from ..wire.messages import LONGEST_BODY, LONGEST_PAYLOAD, Poll, Post
from . import causes

CONNECT_SECONDS, GRACE_SECONDS = 10.0, 10.0
POST_SECONDS, POST_RATE = (
    20.0,
    1 << 20,
)  # a parcel of n bytes is answered within POST_SECONDS + n / POST_RATE after it was sent
WRITE_SECONDS = 120.0  # for a piece of a parcel to leave
KEPT_SECONDS = 50.0  # an idle connection is kept while its node computes; the coordinator keeps it a little longer
BUSY = (429, 503)
PARCELS = "/v1/parcels"
LONGEST_ANSWER = 2 * (LONGEST_PAYLOAD + LONGEST_BODY)  # bytes: more than a batch of mail has
Mail = tuple[str, list[tuple[int, bytes]]]


class Link:
    """One member's connection. coordinator : its name in the roster. now, random : as everywhere,
    for the signed GETs."""

    def __init__(
        self,
        me: Identity,
        coordinator: str,
        addresses: Sequence[str],
        *,
        now: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if not addresses:
            raise InputError(
                "the consortium names no coordinator address",
                hint="fedstats consortium add ... --address https://...",
            )
        self.me, self.coordinator, self.addresses, self.now, self.random = (
            me,
            coordinator,
            list(addresses),
            now,
            random,
        )
        self.reader = random(8).hex()  # this process, as a reader of its mailbox
        self._client = _client()

    def close(self) -> None:
        self._client.close()

    def post(self, parcel: bytes, seconds: float = POST_SECONDS) -> None:
        """Send a parcel; `seconds` to wait for the answer, and more for a long one. Raises
        Unreachable, or what the coordinator says."""
        wait = seconds + len(parcel) / POST_RATE
        timeout = httpx.Timeout(wait, connect=min(seconds, CONNECT_SECONDS), write=WRITE_SECONDS)
        self._request("POST", PARCELS, content=parcel, timeout=timeout)

    def mail(
        self,
        after: int,
        wait: float,
        query: bytes | None = None,
        boot: str = "",
        patience: float = GRACE_SECONDS,
    ) -> Mail:
        """The mailbox after a cursor: (the coordinator's boot id, [(number, parcel)]). Waits up to
        `wait` seconds for mail, and `patience` more for an answer.

        boot : the id that the cursor belongs to; a coordinator that was restarted answers at once,
        and drops nothing.
        """
        path = f"/v1/mail?after={after}&wait={wait:g}" + (
            f"&query={query.hex()}" if query is not None else f"&reader={self.reader}"
        )
        path += f"&boot={boot}" if boot else ""
        answer = self._request(
            "GET",
            path,
            timeout=httpx.Timeout(wait + patience, connect=min(wait + patience, CONNECT_SECONDS)),
        )
        try:
            return msgspec.msgpack.decode(answer.content, type=Mail)
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise MessageError(
                "the coordinator's answer is not mail", who=self.coordinator
            ) from None

    def progress(self, T: bytes) -> dict[str, Any]:
        return self._facts(f"/v1/queries/{T.hex()}")

    def listening(self) -> tuple[str, tuple[str, ...]]:
        """The coordinator's boot id, and the registries that read their mail there."""
        facts = self._facts("/v1/listening")
        try:
            return msgspec.convert(
                (facts.get("boot"), facts.get("listening")), tuple[str, tuple[str, ...]]
            )
        except msgspec.ValidationError:
            raise MessageError(
                "the coordinator's answer does not say who listens", who=self.coordinator
            ) from None

    def _facts(self, path: str) -> dict[str, Any]:
        answer = self._request("GET", path, timeout=httpx.Timeout(GRACE_SECONDS))
        try:
            return msgspec.json.decode(answer.content, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise MessageError(
                "the coordinator's answer is not progress", who=self.coordinator
            ) from None

    def _request(
        self, method: str, path: str, content: bytes | None = None, **options: Any
    ) -> httpx.Response:
        faults = []
        for _ in range(len(self.addresses)):
            address = self.addresses[0]
            try:
                headers = {"Authorization": self._signature(path, content)}
                with self._client.stream(
                    method, address.rstrip("/") + path, headers=headers, content=content, **options
                ) as answer:
                    body = _limited(answer)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                self.addresses.append(
                    self.addresses.pop(0)
                )  # the next address, now and from now on
                faults.append(causes.of_fault(error, address))
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise causes.of_fault(error, address) from None
            if answer.is_success:  # who points elsewhere has not taken what was sent
                return httpx.Response(answer.status_code, content=body)
            raise self._error(answer, body, len(content or b""))
        raise self._unreachable(faults)

    def _unreachable(self, faults: list[Unreachable]) -> Unreachable:
        if len(faults) == 1:
            return faults[0]
        where = f"no coordinator can be reached at {', '.join(map(causes.without_password, self.addresses))}"
        causes_told = dict.fromkeys(one.what.rpartition(": ")[2] for one in faults)
        found = Unreachable(f"{where}: {'; '.join(causes_told)}", hint=faults[0].hint)
        found.final, found.gone = all(one.final for one in faults), all(one.gone for one in faults)
        return found

    def _signature(self, path: str, parcel: bytes | None) -> str:
        """The head of a request, signed; with a parcel also its length and digest, so that nothing
        unsigned need be read."""
        head: Any = {
            "member": self.me.name,
            "coordinator": self.coordinator,
            "path": path,
            "nonce": self.random(16),
            "time": self.now(),
        }
        signed = (
            Poll(**head)
            if parcel is None
            else Post(**head, length=len(parcel), digest=messages.digest_of(parcel))
        )
        return "fedstats " + base64.b64encode(messages.sign(signed, self.me).signed).decode()

    def _error(self, answer: httpx.Response, content: bytes, size: int) -> FedstatsError:
        after = answer.headers.get("retry-after", "")
        try:
            problem = msgspec.json.decode(content, type=Problem)
        except (msgspec.DecodeError, msgspec.ValidationError):
            return causes.of_status(
                answer.status_code, after, answer.headers.get("location", ""), size
            )
        return causes.busy(after) if answer.status_code in BUSY else as_error(problem)


def _client() -> httpx.Client:
    """Raises InputError for a proxy or a file of certificates of the environment that is none."""
    try:
        return httpx.Client(limits=httpx.Limits(keepalive_expiry=KEPT_SECONDS))
    except OSError as error:
        raise InputError(
            f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({error.strerror or error})",
            hint="correct that variable, or unset it",
        ) from None
    except (ValueError, httpx.InvalidURL) as error:
        text = causes.without_password(str(error))
        raise InputError(
            f"http_proxy, https_proxy or all_proxy cannot be used ({text})",
            hint="write it as http://proxy:3128",
        ) from None


def _limited(answer: httpx.Response) -> bytes:
    """The body, never more than a mail batch may hold."""
    parts, size = [], 0
    for part in answer.iter_bytes():
        size += len(part)
        if size > LONGEST_ANSWER:
            raise MessageError("the coordinator's answer is too long")
        parts.append(part)
    return b"".join(parts)
