"""One member's mail at the coordinator: parcels in order, read by cursor, by one reader at a time.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from ..errors import Refused

MAIL_BATCH_BYTES = 64 * 1024 * 1024
READER_SECONDS = 60.0  # a reader that has not asked for so long may be followed by another one


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parcel, its number, and the query that it belongs to."""

    number: int
    parcel: bytes
    T: bytes


@dataclass
class Mailbox:
    """Parcels for one member, numbered from 1; those up to the reader's cursor are dropped.

    pressing : up to which parcel its reader should be told at once. What can wait, such as the
    admissions of some while others are missing, travels with the next that cannot; a reader who has
    waited to the end of its time gets all there is.
    handed : up to which parcel somebody has been given. reader, heard : who reads here, and when it
    last asked (monotonic seconds). Parcels are put in by the thread that adds totals and read by
    the loop that listens, hence the lock.
    """

    last: int = 0
    pressing: int = 0
    handed: int = 0
    reader: str = ""
    heard: float = float("-inf")
    waiting: deque[Waiting] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, parcel: bytes, T: bytes) -> None:
        with self.lock:
            self.last += 1
            self.waiting.append(Waiting(self.last, parcel, T))

    def read(self, after: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        with self.lock:
            while self.waiting and self.waiting[0].number <= after:
                self.waiting.popleft()
            for one in self.waiting:
                size += len(one.parcel)
                if found and size > MAIL_BATCH_BYTES:
                    break
                found.append((one.number, one.parcel))
            if found:
                self.handed = max(self.handed, found[-1][0])
        return found

    def presses(self, after: int) -> bool:
        """Whether there is mail after this cursor that cannot wait."""
        with self.lock:
            return self.pressing > after and bool(self.waiting) and self.waiting[-1].number > after

    def take_over(self, reader: str, *, begins: bool, clock: float) -> None:
        """`reader` reads from now on. begins : it has just started, and follows whoever read here
        before.

        Two that read one box would each miss the other's mail and answer every query twice. Raises
        Refused for the one that was followed.
        """
        if (
            reader != self.reader
            and not begins
            and self.reader
            and clock - self.heard < READER_SECONDS
        ):
            raise Refused(
                "another process reads this mailbox",
                hint="does a second node run with this key? stop one of the two",
            )
        self.reader, self.heard = reader, clock

    def forget(self, T: bytes, *, unread: bool) -> None:
        """Drop what is left of a query that is over. unread : only if nobody has been handed even
        its beginning."""
        with self.lock:
            first = next((one.number for one in self.waiting if one.T == T), 0)
            if first and not (unread and first <= self.handed):
                self.waiting = deque(one for one in self.waiting if one.T != T)
