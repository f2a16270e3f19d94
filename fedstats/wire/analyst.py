"""The conversation of one query as the analyst holds it: ask, collect, accept only what all registries say alike.

NEXT is the specification, as in `conversation`. The analyst sees admissions, verdicts and sealed results; never a total.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..crypto import identity
from ..crypto.identity import Identity, OneTime
from ..errors import (
    FedstatsError,
    Internal,
    MessageError,
    NotConverged,
    OutOfOrder,
    Problem,
    QuestionError,
    Refused,
    Tampered,
    as_error,
)
from ..query.analysis import Question, Result, read_result
from ..query.population import Recipe
from . import messages
from .messages import Abort, Admission, CohortTree, Parcel, Query, Release, Verdict, hashed
from .notes import read_note
from .release import Released, released
from .roster import Consortium
from .transcript import query_hash, refusal_of, transcript_of

ASKED, DONE, ENDED = "asked", "done", "ended"
NEXT = {
    ASKED: {"admission": ASKED, "verdict": ASKED, "result": ASKED, "last result": DONE, "abort": ENDED, "fault": ENDED},
    DONE:  {"abort": DONE},
    ENDED: {"admission": ENDED, "verdict": ENDED, "result": ENDED, "abort": ENDED, "fault": ENDED},
}
CONCLUDED = (
    Refused.code,
    NotConverged.code,
    QuestionError.code,
    Internal.code,
)  # from totals, as every registry does
EQUAL = 1e-9        # relative: results of registries may differ by rounding of their processors, no further (PROTOCOL, phase 4)


class Receipt(msgspec.Struct, frozen=True):
    """What an accepted result rests on: the signed query, admissions, verdicts and releases, as received."""

    query: bytes
    admissions: dict[str, bytes]
    verdicts: dict[str, bytes]
    releases: dict[str, bytes]


class Analyst:
    """One query at the analyst. `start` gives the parcel to post; `receive` takes what comes back; `results` when done."""

    def __init__(self, me: Identity, roster: Consortium, *, random: Callable[[int], bytes]) -> None:
        self.me, self.roster, self.random = me, roster, random
        self.state = ASKED
        self.problem: FedstatsError | None = None
        self.admissions: dict[str, tuple[Admission, bytes]] = {}
        self.verdicts: dict[str, tuple[Verdict, bytes]] = {}
        self.releases: dict[str, tuple[Released, bytes]] = {}
        self.results: list[Result] | None = None

    def start(self, questions: Sequence[Question], where: Any, registries: Sequence[str], *, purpose: str, now: float,
              lifetime: float, recipe: Recipe | None = None) -> Parcel:
        """The signed query. now : seconds since 1970. lifetime : seconds for which it may be admitted. recipe : of the cohort."""
        self.onetime = OneTime.generate(self.random)
        cohort = CohortTree(recipe.to_dict(), recipe.hash) if recipe is not None and recipe.hash else None
        query = Query(id=self.random(16), analyst=self.me.name, questions=tuple(questions), cohort=cohort, where=where, purpose=purpose,
                      registries=tuple(registries), roster=self.roster.digest, created=now, expires=now + lifetime,
                      onetime=self.onetime.public)
        self.query, self.parcel = query, messages.sign(query, self.me)
        self.T = query_hash(self.parcel)
        return self.parcel

    def receive(self, parcel: Parcel) -> None:
        """Take one verified parcel. Faults end the query and stand in `problem`."""
        try:
            match parcel.message:
                case Admission():
                    self._admission(parcel.message, parcel.signed)
                case Verdict():
                    self._verdict(parcel.message, parcel.signed)
                case Release():
                    self._release(parcel.message, parcel.signed)
                case Abort():
                    self._abort(parcel.message)
                case _:
                    raise OutOfOrder(f"an analyst takes no {type(parcel.message).__name__.lower()}")
        except FedstatsError as error:
            self.fail(error)

    def fail(self, error: FedstatsError) -> None:
        if self.state == ASKED:
            self.problem, self.state = error, ENDED

    @property
    def receipt(self) -> Receipt:
        return Receipt(self.parcel.signed, {name: one for name, (_, one) in self.admissions.items()},
                       {name: one for name, (_, one) in self.verdicts.items()},
                       {name: one for name, (_, one) in self.releases.items()})

    def _advance(self, event: str, sender: str, T: bytes, seen: dict[str, Any] | None = None) -> None:
        if T != self.T or (seen is not None and (sender in seen or sender not in self.query.registries)):
            raise OutOfOrder(f"{event} of {sender} was not expected")
        if event not in NEXT[self.state]:
            raise OutOfOrder(f"{event} of {sender} arrived out of order")
        self.state = NEXT[self.state][event]

    def _admission(self, admission: Admission, signed: bytes) -> None:
        self._advance("admission", admission.registry, admission.T, self.admissions)
        if not admission.accept and self.state == ASKED:
            raise refusal_of(admission.registry, self._reason(admission, admission.registry))
        if not identity.usable(admission.onetime):
            raise MessageError(f"the one-time key of {admission.registry} would keep no secret")
        self.admissions[admission.registry] = (admission, signed)

    def _verdict(self, verdict: Verdict, signed: bytes) -> None:
        self._advance("verdict", verdict.registry, verdict.T, self.verdicts)
        if not verdict.release and self.state == ASKED:
            raise refusal_of(verdict.registry, self._reason(verdict, verdict.registry))
        self.verdicts[verdict.registry] = (verdict, signed)

    def _release(self, release: Release, signed: bytes) -> None:
        last = len(self.releases) + 1 == len(self.query.registries)
        self._advance("result", release.registry, release.T, self.releases)
        if self.state != ASKED:
            return
        if set(self.admissions) != set(self.query.registries):
            raise OutOfOrder("a result arrived before all admissions")
        S = transcript_of(self.T, self.roster.digest, [self.admissions[name][1] for name in self.query.registries])
        if release.S != S or release.roster != self.roster.digest:
            raise Tampered("answer could not be verified")
        sender = self.roster.public(release.registry)
        content = identity.open_from(self.me, self.onetime, sender, self.admissions[release.registry][0].onetime,
                                     hashed(b"release", S, release.H), release.sealed)
        self.releases[release.registry] = (released(content, release.registry), signed)
        self.finals = getattr(self, "finals", {}) | {release.registry: release.H}
        if last:
            self._accept(S)
            self._advance("last result", release.registry, release.T)

    def _accept(self, S: bytes) -> None:
        """All n results are in hand: n verdicts "release" on one transcript, and one content."""
        order = self.query.registries
        if set(self.verdicts) != set(order):
            raise OutOfOrder("a result arrived before all verdicts")
        first = self.verdicts[order[0]][0]
        for name in order:
            verdict = self.verdicts[name][0]
            if (verdict.S, verdict.H, verdict.decisions, self.finals[name]) != (S, first.H, first.decisions, first.H):
                raise Tampered(f"{name} signed another result than {order[0]}")
            mine, theirs = self.releases[name][0], self.releases[order[0]][0]
            if not alike(mine.results, theirs.results) or mine.decisions_key != theirs.decisions_key:
                raise Tampered(f"{name} sent other numbers than {order[0]}")
        content = self.releases[order[0]][0].results
        if len(content) != len(self.query.questions):
            raise MessageError("the result does not answer the questions")
        self.results = [read_result(one) for one in content]

    def _abort(self, abort: Abort) -> None:
        if abort.T != self.T:
            raise OutOfOrder("an abort of another query")
        if self.state == ASKED:
            self.state = NEXT[self.state]["abort"]
            problem = self._reason(abort, abort.sender) or abort.problem
            # what all registries concluded alike is told once, in the name of all; faults are told in the sender's name
            # (nobody else saw totals: a coordinator that gives no name says it of itself)
            alike = problem.code in CONCLUDED and not problem.who
            registry = abort.sender in self.query.registries
            who = "all registries" if alike and registry else abort.sender
            self.problem = as_error(Problem(problem.code, who, problem.what, problem.hint))

    def _reason(self, message: Admission | Verdict | Abort, sender: str) -> Problem | None:
        """Why another party refuses or leaves, as far as it can be read."""
        if message.note is None:
            return message.problem
        return read_note(message.note, sender, self.me, [self.onetime], self.query, self.T, self.roster)


def alike(a: Any, b: Any) -> bool:
    """Whether two plain contents are equal, floats within 1e-9 relative."""
    if (isinstance(a, float) and isinstance(b, (int, float))) or (isinstance(b, float) and isinstance(a, (int, float))):
        return math.isclose(a, b, rel_tol=EQUAL, abs_tol=1e-300)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b))
    return a == b
