"""How a node hears its coordinators: one line to each address, each with its cursor and its own
waiting after faults.

How this works. A consortium may have several coordinators, or one that runs at several addresses,
and any of them may be away. A node reads its mail at all of them at the same time, so it does not
matter which one an analyst asks: the answers go where the question came from. With one address
everything happens in the caller's thread; with several each line has a thread of its own, which
polls when it is told to and puts what it has heard into one queue. Two addresses that lead to one
running coordinator are noticed by its boot id: the second of them rests, and is asked now and then
whether this is still so.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Sequence

from fedstats.errors import FedstatsError, Unreachable
from fedstats.transport.http import Link, Mail

log = logging.getLogger("fedstats.node")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds between attempts to reach a coordinator, doubling
LONGEST_PAUSE_OF_SEVERAL = (
    5.0  # there is another one, so its return should not go unnoticed for long
)
LONGEST_PAUSE_REFUSED = 60.0  # somebody has to change something first
REMIND_SECONDS = 3600.0  # a fault that stays is logged once, and then every so often
REST_SECONDS = 25.0  # until a second address of one coordinator is looked at again

Heard = Mail | FedstatsError


class Line:
    """One address of one coordinator. failures : in a row; due : when it may be tried again
    (monotonic seconds)."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.cursor, self.boot = 0, ""
        self.failures, self.due = 0, 0.0
        self.told, self.told_at = "", float("-inf")
        self.resting = False

    @property
    def name(self) -> str:
        return f"{self.link.coordinator} at {self.link.addresses[0]}"

    def failed(self, error: FedstatsError, longest: float) -> None:
        """Wait longer after every fault; say each once."""
        seconds = pause(
            self.failures, longest if isinstance(error, Unreachable) else LONGEST_PAUSE_REFUSED
        )
        self.failures += 1
        now = time.monotonic()
        self.due = now + max(seconds, error.after if isinstance(error, Unreachable) else 0.0)
        if str(error) != self.told or now - self.told_at > REMIND_SECONDS:
            log.warning(
                "%s%s; trying again, less and less often",
                error,
                f" ({error.hint})" if error.hint else "",
            )
            self.told, self.told_at = str(error), now

    def worked(self) -> None:
        if self.failures and self.boot:
            log.info("%s answers again", self.name)
        self.failures, self.due, self.told = 0, 0.0, ""


def pause(failures: int, longest: float) -> float:
    """Seconds before the next attempt: doubling, never longer than `longest`, and at random, so
    that not everybody comes at once."""
    return min(longest, FIRST_PAUSE * 2.0 ** min(failures, 20)) * random.uniform(0.5, 1.0)  # noqa: S311


class Lines:
    """All lines of a node. `listen` gives what they have heard."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.all = [Line(link) for link in links]
        for link in links[1:]:
            link.reader = links[0].reader  # one process is one reader, at whatever address it reads
        self.longest = LONGEST_PAUSE if len(self.all) == 1 else LONGEST_PAUSE_OF_SEVERAL
        self.heard: queue.Queue[tuple[Line, Heard]] = queue.Queue()
        self.asked: dict[Line, queue.Queue[float]] = {}
        self.waiting: set[Line] = set()

    def close(self) -> None:
        for line in self.all:
            line.link.close()

    def listen(self, wait: float) -> list[tuple[Line, Heard]]:
        """Mail, or faults, of the lines that may be tried; within about `wait` seconds. Nothing
        where none may be."""
        if len(self.all) == 1:
            (line,) = self.all
            return [(line, _poll(line, wait))] if line.due <= time.monotonic() else []
        for line in self.all:
            if line not in self.waiting and line.due <= time.monotonic():
                self._thread_of(line).put(wait)
                self.waiting.add(line)
        try:
            found = [self.heard.get(timeout=max(0.01, min(wait, self.next_due())))]
        except queue.Empty:
            return []
        while not self.heard.empty():
            found.append(self.heard.get())
        self.waiting.difference_update(line for line, _ in found)
        return found

    def idle(self) -> float:
        """Seconds for which there is nothing to listen to."""
        return 0.0 if self.waiting else self.next_due()

    def next_due(self) -> float:
        """Seconds until a line that is at rest may be tried."""
        return min(
            (
                max(0.0, line.due - time.monotonic())
                for line in self.all
                if line not in self.waiting
            ),
            default=60.0,
        )

    def rest(self, line: Line) -> bool:
        """Whether this line leads where an earlier one leads already; it rests then."""
        before = self.all[: self.all.index(line)]
        line.resting = any(one.boot == line.boot and not one.failures for one in before)
        if line.resting:
            line.due = time.monotonic() + REST_SECONDS
        return line.resting

    def _thread_of(self, line: Line) -> queue.Queue[float]:
        if line not in self.asked:
            self.asked[line] = queue.Queue()
            threading.Thread(target=self._serve, args=(line, self.asked[line]), daemon=True).start()
        return self.asked[line]

    def _serve(self, line: Line, asked: queue.Queue[float]) -> None:
        while True:
            self.heard.put((line, _poll(line, asked.get())))


def _poll(line: Line, wait: float) -> Heard:
    """What a line hears. A resting line asks who is there and reads nothing; a new one does not
    wait, so that the log says who is there."""
    try:
        if line.resting:
            return line.link.listening()[0], []
        return line.link.mail(line.cursor, wait if line.boot else 0.0, boot=line.boot)
    except FedstatsError as error:
        return error
    except Exception as error:  # in a thread nobody would hear it
        return Unreachable(f"the line to {line.name} failed ({type(error).__name__})")
