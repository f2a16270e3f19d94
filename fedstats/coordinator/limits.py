"""What a caller may cost the coordinator. Counters without sockets; times are given.

Who has signed a request is a member and has an account of its own: nobody else can use it up.
Everybody else is a stranger: strangers share one account per address, and what it limits is
strangers' requests only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator

from ..wire.messages import LONGEST_BODY, LONGEST_PAYLOAD
from ..wire.transcript import SKEW_SECONDS

REQUESTS_PER_SECOND, REQUESTS_AT_ONCE = (
    100.0,
    500.0,
)  # of one member; a round of a query takes two requests and some 40 ms
MOST_AT_A_TIME = 64  # requests of one member that are being answered, long-polls among them
LONGEST_PARCEL = LONGEST_PAYLOAD + LONGEST_BODY  # bytes
MOST_READING = 3 * LONGEST_PARCEL  # bytes of parcels that are being read, of all members together
SHORT = 64 * 1024  # bytes of a parcel that needs no room of its own
NONCE_SECONDS = (
    2 * SKEW_SECONDS
)  # a request is taken from so long before its time to so long after it
STRANGE_AT_ONCE, STRANGE_SECONDS = (
    60,
    10.0,
)  # requests of strangers per address and seconds that are answered at once
MOST_ADDRESSES = 10_000


class Nonces:
    """The nonces of one member for as long as their requests could come again: looked up and
    forgotten in constant time.

    Two generations: the older one is let go as a whole. A member's rate bounds how many there are:
    at most 2 * 60 500.
    """

    def __init__(self, seconds: float = NONCE_SECONDS) -> None:
        self.seconds = seconds
        self.young: dict[bytes, bool] = {}
        self.old: dict[bytes, bool] = {}
        self.since = float("-inf")

    def seen(self, nonce: bytes, now: float) -> bool | None:
        """None for a new nonce, which counts as seen from now on; else whether its request has been
        `settled`."""
        if not self.since <= now < self.since + self.seconds:
            self.young, self.old, self.since = {}, self.young, now
        known = self.young.get(nonce, self.old.get(nonce))
        if known is None:
            self.young[nonce] = False
        return known

    def settle(self, nonce: bytes) -> None:
        """The request of this nonce has been carried out: whoever sends the same once more may be
        told so."""
        self.young[nonce] = True

    def forget(self, nonce: bytes) -> None:
        self.young.pop(nonce, None)


class Bucket:
    """So many requests at once, and so many a second over time."""

    def __init__(self, rate: float = REQUESTS_PER_SECOND, most: float = REQUESTS_AT_ONCE) -> None:
        self.rate, self.most, self.left, self.at = rate, most, most, 0.0

    def wait(self, clock: float) -> float:
        """Take one; the seconds until there is one where there is none (0: taken)."""
        self.left = min(self.most, self.left + self.rate * max(0.0, clock - self.at))
        self.at = clock
        if self.left < 1.0:
            return (1.0 - self.left) / self.rate
        self.left -= 1.0
        return 0.0


class Account:
    """What one member uses: requests over time, requests being answered, nonces."""

    def __init__(self) -> None:
        self.bucket, self.nonces, self.busy = Bucket(), Nonces(), 0

    @contextlib.contextmanager
    def answering(self) -> Iterator[bool]:
        """Whether one more request may be answered now; counted while it is."""
        self.busy += 1
        try:
            yield self.busy <= MOST_AT_A_TIME
        finally:
            self.busy -= 1


class Room:
    """Bytes of parcels that may be read at once: of everybody together, and one longest parcel of
    each member."""

    def __init__(self, most: int = MOST_READING, each: int = LONGEST_PARCEL) -> None:
        self.most, self.each = most, each
        self.taken: dict[str, int] = {}
        self.changed = asyncio.Condition()

    def _fits(self, member: str, size: int) -> bool:
        return (
            sum(self.taken.values()) + size <= self.most
            and self.taken.get(member, 0) + size <= self.each
        )

    @contextlib.asynccontextmanager
    async def for_parcel(self, member: str, size: int, seconds: float) -> AsyncIterator[None]:
        """Room for a parcel while it is read and worked on. Raises TimeoutError if none is free in
        time."""
        if size <= SHORT:  # as many as a member may have requests
            yield
            return
        async with self.changed:
            async with asyncio.timeout(seconds):
                await self.changed.wait_for(lambda: self._fits(member, size))
            self.taken[member] = self.taken.get(member, 0) + size
        try:
            yield
        finally:
            async with self.changed:
                self.taken[member] -= size
                if not self.taken[member]:
                    del self.taken[member]
                self.changed.notify_all()


class Strangers:
    """How many requests without a signature each address has made of late."""

    def __init__(self) -> None:
        self.buckets: OrderedDict[str, Bucket] = OrderedDict()

    def too_many(self, address: str, clock: float) -> bool:
        """Count one request; whether there have been too many."""
        where = network(address)
        bucket = self.buckets.setdefault(
            where, Bucket(STRANGE_AT_ONCE / STRANGE_SECONDS, STRANGE_AT_ONCE)
        )
        self.buckets.move_to_end(where)
        if len(self.buckets) > MOST_ADDRESSES:
            self.buckets.popitem(last=False)
        return bucket.wait(clock) > 0.0


def network(address: str) -> str:
    """Whose address this is: itself, or the /64 that one household has of IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(
        found.ipv4_mapped or ipaddress.ip_network((int(found) >> 64 << 64, 64)).network_address
    )
