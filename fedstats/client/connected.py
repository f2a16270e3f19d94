"""The network as a world: one analyst's conversation with the registries of a consortium, through
whichever coordinator is there.

How this works. A query is posted once and lives at one coordinator. Until it ends, the mailbox is
read again and again: a line that is cut costs time, not the query, as long as its time is not over.
Whoever gives up says so: however `run` is left without a result (an interrupt, the end of the time,
a fault), the registries are told by a signed abort, and stop.

Where a consortium has several coordinators, each registry listens at all that it can reach, so that
any of them will do; the one is taken where most of the registries that are asked listen.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.dictionary import Dictionary
from ..errors import Aborted, FedstatsError, InputError, Problem, Refused, Unreachable
from ..query.analysis import Question, Result
from ..query.population import Codebook
from ..wire import messages
from ..wire.analyst import ASKED, DONE, Analyst
from ..wire.messages import Abort

GRACE_SECONDS = 2.0  # the coordinator, who knows who is missing, speaks first
POLL_SECONDS, POLL_SECONDS_WATCHED = 10.0, 0.5  # watched: somebody looks at a progress bar
POST_SECONDS = 20.0  # for the answer to a posting
LEAST_PATIENCE, MOST_PATIENCE = 3.0, 10.0  # for an answer that is late, at the end of the time and before
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # between attempts
GONE_SECONDS = (
    5.0  # nobody has listened there for so long: the coordinator is gone, and what it held with it
)
ABORT_SECONDS = 5.0  # for telling the others; who gives up does not wait long


class Connected:
    """A consortium over the network: the analyst's conversation over `transport.http`.

    link : to the coordinator that was asked last; others : to those that may be asked instead.
    """

    def __init__(
        self,
        me: Any,
        roster: Any,
        codebook: Codebook,
        link: Any,
        registries: Sequence[str],
        *,
        progress: Any = None,
        timeout: float = 600.0,
        others: Sequence[Any] = (),
    ) -> None:
        self.me, self.roster, self.codebook, self.link = me, roster, codebook, link
        self.links = [link, *others]
        self.registries, self.rules = tuple(registries), roster.effective_rules
        self.progress, self.timeout = progress, timeout
        self.receipts: dict[str, Any] = {}

    @classmethod
    def open(
        cls,
        consortium: str | Path,
        *,
        key: str | Path,
        dictionary: Dictionary | str | Path | None,
        registries: Sequence[str] | None,
        progress: Any,
        timeout: float,
    ) -> Connected:
        """See `federation.connect`. Raises InputError for files, Refused for a key that is not an
        analyst's."""
        from ..crypto.identity import Identity
        from ..transport.http import Link
        from ..wire.roster import Consortium, check_pin

        roster = Consortium.load(consortium)
        me = Identity.load(key)
        check_pin(roster, key, consortium)
        if roster.role(me.name) != "analyst":
            raise Refused(
                f"the key {key} belongs to {me.name}, who is not an analyst of {roster.name}"
            )
        found = roster.load_codebook(consortium, dictionary)
        known = roster.names("registry")
        unknown = [name for name in registries or () if name not in known]
        if unknown:
            raise InputError(
                f"{unknown[0]} is not a registry of {roster.name}",
                hint="registries are: " + ", ".join(known),
            )
        if not roster.coordinators:
            raise InputError(
                "the consortium names no coordinator address",
                hint="fedstats consortium add ... --address https://...",
            )
        first, *others = [Link(me, name, (address,)) for name, address in roster.coordinators]
        return cls(
            me,
            roster,
            found,
            first,
            registries or known,
            progress=progress,
            timeout=timeout,
            others=others,
        )

    def close(self) -> None:
        for link in self.links:
            link.close()

    def run(
        self, questions: Sequence[Question], recipe: Any, where: Any, *, purpose: str = "", **_: Any
    ) -> list[Result]:
        import os

        from ..wire.receipt import receipt_of

        # a little longer than the query lives: the coordinator, who knows who is missing, speaks
        # first
        until = time.monotonic() + self.timeout + GRACE_SECONDS
        analyst = Analyst(self.me, self.roster, random=os.urandom)
        self.link = self._nearest()
        first = analyst.start(
            questions,
            where,
            self.registries,
            purpose=purpose,
            now=time.time(),
            lifetime=self.timeout,
            recipe=recipe,
        )
        try:
            self._post(bytes(first), until)
            self._follow(analyst, until)
        finally:
            if analyst.state != DONE:
                self._give_up(analyst.T)
        if analyst.problem is not None:
            raise analyst.problem
        assert analyst.results is not None
        self.receipts[analyst.query.id.hex()] = receipt_of(analyst)
        return analyst.results

    def _nearest(self) -> Any:
        """The link to the coordinator where most registries listen that are asked; the first of the
        roster among equals."""
        if len(self.links) == 1:
            return self.link
        best: tuple[int, Any] | None = None
        faults: list[FedstatsError] = []
        for link in self.links:
            try:
                there = len(set(link.listening()[1]) & set(self.registries))
            except FedstatsError as error:
                faults.append(error)
                continue
            if best is None or there > best[0]:
                best = there, link
            if there == len(self.registries):
                break
        if best is None:
            raise (
                faults[0]
                if len(faults) == 1
                else Unreachable("; ".join(map(str, faults)), hint=faults[0].hint)
            )
        return best[1]

    def _post(self, query: bytes, until: float) -> None:
        """Post the query; the same bytes again where the line was cut or the coordinator is busy.
        Nobody there is told at once."""
        failures = 0
        while True:
            try:
                left = max(0.0, until - time.monotonic())
                self.link.post(query, min(POST_SECONDS, max(LEAST_PATIENCE, left)))
                return
            except Refused:
                # a first posting arrived though its answer did not, and its query may be over by now:
                # the mailbox tells
                if failures:
                    return
                raise
            except Unreachable as error:
                if not may_retry(error) or error.gone:
                    raise
                failures = self._wait(error, failures, until)

    def _follow(self, analyst: Analyst, until: float) -> None:
        """Read the mailbox until the query has ended. Raises Unreachable if it cannot be known how
        it did."""
        cursor, boot, failures, gone = 0, "", 0, 0.0
        while analyst.state == ASKED:
            try:
                here, mail = self._poll(analyst.T, cursor, boot, until)
            except Unreachable as error:
                gone = (gone or time.monotonic()) if error.gone else 0.0
                if not may_retry(error):
                    raise
                if gone and time.monotonic() - gone > GONE_SECONDS:
                    raise Unreachable(
                        f"the coordinator went away in the middle of the query ({error})",
                        hint="ask again",
                    ) from None
                failures = self._wait(error, failures, until)
                continue
            failures, gone = 0, 0.0
            if boot not in ("", here):
                raise Unreachable(
                    "the coordinator was restarted in the middle of the query", hint="ask again"
                )
            boot = here
            cursor = self._take(analyst, mail, cursor)
            if analyst.state == ASKED and time.monotonic() > until:
                raise self._late(analyst.T)
            if self.progress and analyst.state == ASKED:
                self._report(analyst.T)

    def _poll(self, T: bytes, cursor: int, boot: str, until: float) -> tuple[str, Sequence[Any]]:
        """Ask for mail once: a coordinator that says nothing is not waited for much longer than the
        time that is left."""
        left = max(0.0, until - time.monotonic())
        wait = min(POLL_SECONDS_WATCHED if self.progress else POLL_SECONDS, left)
        patience = min(MOST_PATIENCE, max(LEAST_PATIENCE, left - wait))
        mail: tuple[str, Sequence[Any]] = self.link.mail(cursor, wait, T, boot, patience)
        return mail

    def _take(self, analyst: Analyst, mail: Sequence[tuple[int, bytes]], cursor: int) -> int:
        """Give the analyst its mail; the new cursor."""
        for number, raw in mail:
            if number <= cursor:  # a line may repeat what it carries
                continue
            cursor = number
            try:
                parcel = messages.read(raw, self.roster.public)
            except FedstatsError as error:
                analyst.fail(error)
                break
            analyst.receive(parcel)
        return cursor

    def _wait(self, error: Unreachable, failures: int, until: float) -> int:
        """Wait before the next attempt, longer after every one; the number of failures. Raises the
        error once the time is over."""
        seconds = max(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures, 20)), error.after)
        if time.monotonic() + seconds > until:
            raise error
        time.sleep(seconds)
        return failures + 1

    def _give_up(self, T: bytes) -> None:
        """Tell everybody that nobody waits for this query any more. It is over already where
        somebody else has ended it."""
        problem = Problem(Aborted.code, self.me.name, "the analyst has given up the question", "")
        parcel = messages.sign(Abort(T=T, sender=self.me.name, problem=problem), self.me)
        with contextlib.suppress(FedstatsError):
            self.link.post(bytes(parcel), ABORT_SECONDS)

    def _report(self, T: bytes) -> None:
        try:
            state = self.link.progress(T)
        except Unreachable:
            return  # a progress bar is not worth a query
        if state["phase"] != "over":
            label = f"round {state['round']}" if state["phase"] == "rounds" else str(state["phase"])
            self.progress(label, int(state["answered"]), int(state["of"]))

    def _late(self, T: bytes) -> Exception:
        missing = ""
        with contextlib.suppress(FedstatsError):
            missing = ", ".join(self.link.progress(T).get("missing", ()))
        return Unreachable(
            f"no answer from {missing or 'the registries'} within {self.timeout:g} seconds",
            hint="see that these nodes run, then ask again",
        )


def may_retry(error: Unreachable) -> bool:
    """Whether waiting may mend it: what the coordinator itself says is final, and so is what
    somebody has to mend."""
    return not error.who and not error.final
