"""Why a coordinator cannot be reached, in words for whoever can mend it: the line, a proxy, a
certificate, a clock, a limit.

Pure: from exceptions and status codes to errors.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..errors import Unreachable

EXPIRED, NOT_YET, OTHER_NAME = 10, 9, (62, 64)  # of OpenSSL's X509_V_ERR_...
NOBODY = (errno.ECONNREFUSED,)
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
LATER = {408, 425, 429, 502, 503, 504}
LONGEST_AFTER = 60.0  # seconds: nobody is made to wait longer by a Retry-After
STATUS = {
    301: "it sends callers elsewhere",
    401: "it wants a password",
    403: "it does not let this through",
    404: "there is no coordinator at this path",
    407: "the proxy wants a password",
    408: "it waited in vain for the request",
    413: "what was sent is larger than it lets through",
    414: "the address is longer than it lets through",
    429: "too many requests come from here",
    431: "the head of the request is larger than it lets through",
    502: "the coordinator behind it does not answer",
    503: "it is overloaded, or stopped for a while",
    504: "the coordinator behind it does not answer in time",
}
HINTS = {
    301: "use the address that it names, if it is the right one",
    407: "put user and password into the proxy's address: https_proxy=http://user:password@proxy:port",
    413: "whoever runs that proxy raises its limit, such as client_max_body_size of nginx, to 130m",
    502: "whoever runs the coordinator sees that it runs",
    503: "try again later",
    504: "whoever runs that proxy lets requests wait for a minute, such as proxy_read_timeout of nginx",
}


def proxy_for(address: str) -> str:
    """The proxy that the environment names for an address, without user and password; "" for none.
    """
    parts = urlsplit(address)
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not found or not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return without_password(found)


def without_password(address: str) -> str:
    head, sign, rest = address.rpartition("@")
    return f"{head.partition('://')[0]}://{rest}" if sign and "://" in head else rest


def of_fault(error: BaseException, address: str) -> Unreachable:
    """The error of a request that got no answer."""
    address = without_password(address)
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, ssl.SSLError):
            return _tls(one, address)
    proxy = proxy_for(address)
    for one in chain:
        if isinstance(one, socket.gaierror):
            return _name(address, proxy)
    where = f"the proxy {proxy}" if proxy else address
    code = next((one.errno for one in chain if isinstance(one, OSError) and one.errno), None)
    kind = type(error).__name__
    if kind == "ProxyError":
        return _final(
            f"no coordinator can be reached at {address}: the proxy {proxy} refuses ({str(error)[:80]})",
            HINTS[407]
            if "407" in str(error)
            else "is it the right proxy, and does it let this address through?",
        )
    if code in NOBODY:
        found = Unreachable(
            f"no coordinator can be reached at {address}: nobody listens at {where}",
            hint="is it running, and may this machine call out to it?"
            if not proxy
            else "set http_proxy and https_proxy to the right proxy, or add the address to no_proxy",
        )
        found.gone = True
        return found
    if code in NO_WAY or kind == "ConnectTimeout":
        return Unreachable(
            f"no coordinator can be reached at {address}: there is no way to {where}",
            hint="is this machine connected, and does its firewall let it call out there?",
        )
    if kind == "ConnectError":
        return Unreachable(
            f"no coordinator can be reached at {address}",
            hint="is it running, and may this machine call out to it?",
        )
    hint = "the line was cut, or another server than a coordinator is there"
    if kind == "ReadTimeout":
        hint = "it, or a proxy on the way, is overloaded or stopped"
    elif kind == "RemoteProtocolError" and address.startswith("http://"):
        hint += " (one with TLS has an address with https://)"
    return Unreachable(f"the coordinator at {address} did not answer ({kind})", hint=hint)


def of_status(status: int, after: str, place: str, size: int) -> Unreachable:
    """The error of an answer that is not a coordinator's. after, place : of Retry-After and
    Location. size : bytes that were sent."""
    code = 301 if 300 <= status < 400 else status
    why = STATUS.get(code, "is a proxy or another server at that address?")
    if code == 301 and place:
        why += f": {without_password(place)[:100]}"
    if code == 413:
        why += f" ({size} bytes)"
    found = Unreachable(
        f"the coordinator's address answered with status {status}, not as a coordinator would: {why}",
        hint=HINTS.get(code, "is a proxy or another server at that address?"),
    )
    found.final, found.after = status not in LATER, seconds_of(after)
    return found


def busy(after: str) -> Unreachable:
    """A coordinator that has too much to do just now."""
    found = Unreachable("the coordinator has too much to do", hint="try again a little later")
    found.after = max(0.1, seconds_of(after))
    return found


def seconds_of(after: str) -> float:
    """The seconds of a Retry-After; a date, which no coordinator sends, counts as none."""
    return (
        min(float(after), LONGEST_AFTER)
        if after.isascii() and after.isdigit() and len(after) < 10
        else 0.0
    )


def _tls(error: ssl.SSLError, address: str) -> Unreachable:
    text = f"no coordinator can be reached at {address}: "
    if not isinstance(error, ssl.SSLCertVerificationError):
        if error.reason in (
            "WRONG_VERSION_NUMBER",
            "RECORD_LAYER_FAILURE",
            "UNEXPECTED_MESSAGE",
            "HTTP_REQUEST",
        ):
            return _final(
                text + "it does not speak TLS",
                "is it the right port? an address without TLS begins with http://",
            )
        return Unreachable(
            text
            + f"TLS could not be agreed on ({(error.reason or 'cut short').lower().replace('_', ' ')})",
            hint="does a firewall on the way break TLS open, or is one side very old?",
        )
    why, hint = (
        error.verify_message,
        "if it is the right one, name its file: SSL_CERT_FILE=/path/of/hub.pem; is there a proxy that opens TLS?",
    )
    if error.verify_code in (EXPIRED, NOT_YET):
        hint = "whoever runs the coordinator renews it; or is the clock of this machine wrong?"
    elif error.verify_code in OTHER_NAME:
        hint = "is the address right? it must be one that the certificate names"
    return _final(text + f"its certificate is not trusted ({why})", hint)


def _name(address: str, proxy: str) -> Unreachable:
    host = urlsplit(proxy or address).hostname or ""
    return Unreachable(
        f'no coordinator can be reached at {address}: the name "{host}" is not known here (DNS)',
        hint="is it spelt right, and does this machine reach its name server? behind a proxy set https_proxy",
    )


def _final(what: str, hint: str) -> Unreachable:
    found = Unreachable(what, hint=hint)
    found.final = True
    return found


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
