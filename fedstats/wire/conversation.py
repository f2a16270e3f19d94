"""The conversation of one query as a registry holds it: no socket, no clock, no file; bytes in, bytes out.

How this works (PROTOCOL, phases 0 to 4):
0. QUERY      an analyst's signed query arrives; T is the hash of its bytes and is used once, for ever.
1. ADMITTED   the registry posts its Admission and collects the others'. All in hand: S = H(T, roster, all signed admissions).
2. KEYING     the first registry makes the outer key and the secret K, sealed to each other one. H_0 = H(S, key digest).
3. ROUNDS     derive the asks, compute, seal, post; open the total; H_r = H(H_{r-1}, r, layout, asks, every opened residue).
              Masks and tag keys come from H: whoever was shown another total masks differently, the sum of the next round is
              noise and its tag fails. Nothing has been released by then. H itself never leaves: only codes under K do (`codes`).
4. JUDGING    the joint halves have ended: post a Verdict, codes of H_final and of the decisions; collect the others'.
   RELEASED   n equal verdicts "release": the result goes, sealed, to the analyst.
   ENDED      any refusal, fault, deadline or Abort: keys are erased, nothing is released, the question may be asked again.

`NEXT` is the whole of it; `Registry` fills in what is done on the way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

import msgspec

from ..crypto import he, identity, seal
from ..crypto.identity import Identity, OneTime
from ..data.filters import keep, normal_filter
from ..data.rows import Rows
from ..disclosure import Rules, strictest
from ..errors import (
    FedstatsError,
    Internal,
    MessageError,
    NotConverged,
    OutOfOrder,
    Problem,
    QuestionError,
    RangeError,
    Refused,
    Tampered,
    as_error,
    as_problem,
)
from ..query import driver, rounds
from ..query.analysis import Result
from ..query.population import Codebook
from ..version import __version__
from . import codes, messages
from .messages import Abort, Admission, AnyMessage, Contribution, Keys, Note, Parcel, Query, Release, Total, Verdict, digest_of, hashed
from .notes import read_note, write_note
from .release import to_release
from .roster import Consortium
from .transcript import check_query, decisions_of, query_hash, refusal_of, transcript_of, two_nodes

QUERY, ADMITTED, KEYING, ROUNDS, JUDGING, RELEASED, ENDED = "query", "admitted", "keying", "rounds", "judging", "released", "ended"

NEXT: dict[str, dict[str, str]] = {     # what may happen, and where it leads; everything else is out of order
    QUERY:    {"query": ADMITTED, "refusal": ENDED},
    ADMITTED: {"admission": ADMITTED, "last admission": KEYING, "abort": ENDED, "fault": ENDED},
    KEYING:   {"keys": ROUNDS, "abort": ENDED, "fault": ENDED},
    ROUNDS:   {"total": ROUNDS, "last total": JUDGING, "abort": ENDED, "fault": ENDED},
    JUDGING:  {"verdict": JUDGING, "last verdict": RELEASED, "abort": ENDED, "fault": ENDED},
    RELEASED: {"abort": RELEASED},      # too late to take anything back
    ENDED:    {"abort": ENDED, "fault": ENDED, "admission": ENDED, "keys": ENDED, "total": ENDED, "verdict": ENDED},
}

SECRET_BYTES = 32
NOT_VERIFIED = "answer could not be verified"
LEFT = "left the query; why is told to its registries and its analyst only"
RELEASE = "release"             # the journal's key of the sealed result

Random = Callable[[int], bytes]


def advance(state: str, event: str) -> str:
    """The state after an event. Raises OutOfOrder if the event is not expected now."""
    try:
        return NEXT[state][event]
    except KeyError:
        raise OutOfOrder(f"a message arrived out of order: {event} while {state}") from None


class Journal(Protocol):
    """What a registry writes down durably. Bytes are in the outbox before they leave; nothing is ever made twice."""

    mark: bytes         # names this journal

    def claim(self, T: bytes, query_id: bytes) -> bool:
        """Note a query as used; False if it has been before."""

    def number(self, T: bytes) -> int:
        """The how manieth claimed query this is."""

    def witness(self, T: bytes, numbers: Mapping[str, tuple[bytes, int]]) -> tuple[str, ...]:
        """Note others' numbers {registry: (mark, number)} of a query; returns the registries that gave this one to another query."""

    def post(self, T: bytes, key: str, parcel: bytes) -> None:
        """Keep the bytes of a posting; an error if other bytes were posted under the key."""

    def close(self, T: bytes, outcome: str) -> None:
        """Note how a query ended."""


class House(Protocol):
    """What a registry decides on its own: its data, its minima, and whether a query is welcome."""

    codebook: Codebook
    minima: Rules
    data_cut: str

    def rows(self, recipe: Any) -> Rows:
        """The rows of a cohort; called once all admissions are in hand."""

    def admit(self, query: Query) -> None:
        """Raises Refused if this house does not take part; never looks at rows."""

    def approve(self, query: Query, results: list[Result]) -> None:
        """The house's last word on a checked result; raises Refused to keep it in."""


class Registry:
    """One query at one registry. `receive` takes each parcel in turn and returns the parcels to post; when these have left, `proceed`.

    roster, me : who takes part and who this is. house : data and policy. journal : durable notes.
    random : bytes source. A fault is posted as an Abort and raised by `problem`; it never leaves a key behind.
    """

    def __init__(self, me: Identity, roster: Consortium, house: House, journal: Journal, *, random: Random) -> None:
        self.me, self.roster, self.house, self.journal, self.random = me, roster, house, journal, random
        self.state = QUERY
        self.problem: FedstatsError | None = None
        self.round = 0
        self.driving = False  # whether the joint halves are at work, which are the same everywhere
        self.faults: list[
            str
        ] = []  # of joint halves, a line each, without data: for the log of this registry
        self.T = b""
        self.claimed = False        # whether the journal's line of this query is ours: a replay must not touch it
        self.admissions: dict[str, tuple[Admission, bytes]] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.onetime: OneTime | None = None
        self.keys: seal.SealKeys | None = None
        self.results: list[Result] | None = None
        self.outgoing: list[Parcel] = []
        self.later: Callable[[], None] | None = None

    @property
    def query_id(self) -> str:
        """The query's id, as everybody's logs and results have it; "" before there is one."""
        return self.query.name if self.T else ""

    def __repr__(self) -> str:
        return f"Registry({self.me.name}, {self.state}, round {self.round})"

    # -- what happens ----------------------------------------------------------------------------------------------------------

    def receive(self, parcel: Parcel, now: float) -> list[Parcel]:
        """Take one verified parcel. now : seconds since 1970, used at admission only. Returns what to post, oldest first."""
        return self._do(lambda: self._take(parcel, now))

    def proceed(self) -> list[Parcel]:
        """What was not to hold back the last postings, such as a first round behind keys that all others wait for. Returns what to post."""
        later, self.later = self.later, None
        return self._do(later) if later is not None else []

    def _take(self, parcel: Parcel, now: float) -> None:
        match parcel.message:
            case Query():
                self._query(parcel, parcel.message, now)
            case Admission():
                self._admission(parcel.message, parcel.signed)
            case Keys():
                self._keys(parcel.message)
            case Total():
                self._total(parcel, parcel.message)
            case Verdict():
                self._verdict(parcel.message)
            case Abort():
                self._abort(parcel.message)
            case _:
                raise OutOfOrder(f"a registry takes no {type(parcel.message).__name__.lower()}")

    def _do(self, work: Callable[[], None]) -> list[Parcel]:
        self.outgoing = []
        try:
            work()
        except FedstatsError as error:
            self.fail(error)
        except Exception as error:
            self.fail(error)
            raise
        return self.outgoing

    def fail(self, error: BaseException) -> list[Parcel]:
        """End the query with an Abort (a deadline, a fault, an operator's no). Returns what to post."""
        self.outgoing = [] if self.state in (RELEASED, ENDED) else self.outgoing
        if self.state in (RELEASED, ENDED):
            return []
        # what all registries conclude alike from totals is nobody's own fault: whoever is told puts the name of all before it
        alike = isinstance(error, (Refused, NotConverged, QuestionError)) or (
            self.driving and isinstance(error, Internal)
        )
        problem = as_problem(error, "" if alike else self.me.name)
        self.problem = as_error(problem)
        self._end("refused" if isinstance(error, Refused) else "failed")
        # one line only: what was waiting to be posted belongs to a query that is over
        self.outgoing = [self._farewell(problem)] if self.T else []
        return self.outgoing

    # -- phases 0 and 1: query, admission ---------------------------------------------------------------------------------------

    def _query(self, parcel: Parcel, query: Query, now: float) -> None:
        self.state = advance(self.state, "query")
        self.query, self.T = query, query_hash(parcel)
        if self.me.name not in query.registries:
            raise MessageError("the query does not name this registry")
        self.claimed = self.journal.claim(self.T, query.id)
        if not self.claimed:
            raise Refused("this query has been asked before: a query is used once", hint="ask again under a new id")
        problem = None
        try:
            check_query(query, self.roster, now)
            self.where = normal_filter(query.where)
            self.recipe = self.house.codebook.recipe(query.cohort.tree if query.cohort else None)
            if query.cohort and query.cohort.hash != self.recipe.hash:
                raise Refused("this registry reads the cohort in another way than the analyst",
                              hint="all need one version of fedstats, one dictionary and one list of treatments")
            driver.check_questions(query.questions, self.recipe.dictionary)
            keep(self.where, Rows(self.recipe.dictionary, 0, {}))
            self.house.admit(query)
        except FedstatsError as error:
            problem = as_problem(error, self.me.name)
        self.onetime = OneTime.generate(self.random)
        mine = Admission(T=self.T, registry=self.me.name, accept=problem is None, nonce=self.random(16), onetime=self.onetime.public,
                         data_cut=self.house.data_cut, minima=self.house.minima, software=__version__, note=self._note(problem),
                         journal=self.journal.mark, number=self.journal.number(self.T))
        posted = self._post(mine, "admission")
        if problem is not None:
            self.problem = as_error(problem)
            self._end("refused")
            return
        self.admissions[self.me.name] = (mine, posted.signed)

    def _admission(self, admission: Admission, signed: bytes) -> None:
        self._mine(admission)
        if self.state == ENDED:
            return
        if admission.registry not in self.query.registries:
            raise OutOfOrder(f"an unasked admission of {admission.registry}")
        if admission.registry in self.admissions:
            raise two_nodes(admission.registry)
        last = len(self.admissions) + 1 == len(self.query.registries)
        self.state = advance(self.state, "last admission" if last else "admission")
        if not admission.accept:
            raise refusal_of(admission.registry, self._reason(admission, admission.registry))
        if not identity.usable(admission.onetime):
            raise MessageError(f"the one-time key of {admission.registry} would keep no secret")
        if admission.software != __version__:
            raise Refused(f"{admission.registry} runs version {admission.software}, this registry {__version__}",
                          hint="all registries must run one version")
        self.admissions[admission.registry] = (admission, signed)
        if last:
            self._keying()

    def _witness(self) -> None:
        """No journal has given this query a number that it gave to another one. Raises Refused."""
        told = {name: (one.journal, one.number) for name, (one, _) in self.admissions.items() if one.number and name != self.me.name}
        if copied := self.journal.witness(self.T, told):
            raise Refused(f"the journal of {', '.join(copied)} gave this query a number that it had given to another: "
                          "an older copy of it was put back, or two nodes use copies of it",
                          hint=f"{copied[0]} stops all nodes but one and starts that with a new journal; then ask again")

    # -- phase 2: keying ------------------------------------------------------------------------------------------------------------

    def _keying(self) -> None:
        order = self.query.registries
        self._witness()
        self.S = transcript_of(self.T, self.roster.digest, [self.admissions[name][1] for name in order])
        self.rules = strictest([self.roster.effective_rules, *(self.admissions[name][0].minima for name in order)])
        if self.me.name != order[0]:
            return
        secret = self.random(SECRET_BYTES) + bytes(he.generate())
        assert self.onetime is not None
        for name in order[1:]:
            box = identity.seal_to(self.me, self.onetime, self.roster.public(name), self.admissions[name][0].onetime,
                                   hashed(b"keys", self.S), secret, self.random)
            self._post(Keys(T=self.T, S=self.S, sender=self.me.name, recipient=name, sealed=box), f"keys {name}")
        self.later = lambda: self._start(secret)

    def _keys(self, message: Keys) -> None:
        self._mine(message)
        if self.state == ENDED:
            return
        if self.state != KEYING or self.keys is not None:
            raise OutOfOrder("keys arrived out of order")
        first = self.query.registries[0]
        if message.sender != first or message.recipient != self.me.name or message.S != self.S:
            raise Tampered(NOT_VERIFIED)
        assert self.onetime is not None
        secret = identity.open_from(self.me, self.onetime, self.roster.public(first), self.admissions[first][0].onetime,
                                    hashed(b"keys", self.S), message.sealed)
        self._start(secret)

    def _start(self, secret: bytes) -> None:
        """Keys in hand: H_0, the pair keys, and the first round."""
        self.state = advance(self.state, "keys")
        order, me = self.query.registries, self.me.name
        assert self.onetime is not None
        pairs = {k: identity.pair_key(self.me, self.onetime, self.roster.public(name), self.admissions[name][0].onetime, self.S, me, name)
                 for k, name in enumerate(order) if name != me}
        K, he_keys = secret[:SECRET_BYTES], secret[SECRET_BYTES:]
        self.keys = seal.SealKeys(
            he=he.load(he_keys),
            K=K,
            pair_keys=pairs,
            index=order.index(me),
            registries=len(order),
            fewest=self.roster.fewest_registries,
        )
        self.onetime_public = self.onetime.public
        self.H = hashed(b"fedstats H0/1", self.S, digest_of(secret))
        self.patients = self.roster.max_patients_per_registry * len(order)
        table = self.house.rows(self.recipe)
        self.rows = table.where(keep(self.where, table))
        if max(self.rows.people(), *table.flow, 0) > self.roster.max_patients_per_registry:
            raise RangeError("this registry has more patients than the consortium's max_patients_per_registry",
                             hint="raise it in the consortium file, under a new epoch")
        self.steps: Generator[Any, Any, Any] = driver.query(
            self.query.questions, self.recipe, self.rules, len(order), self.faults
        )
        self.asks = next(self.steps)
        self._contribute()

    # -- phase 3: rounds ----------------------------------------------------------------------------------------------------------

    def _contribute(self) -> None:
        """Seal this registry's numbers for the round and post them, once."""
        assert self.keys is not None
        registries = len(self.query.registries)
        self.plan = rounds.plan(self.asks, self.recipe.dictionary, self.patients, registries)
        if seal.total_size(self.plan.chunks) > messages.LONGEST_PAYLOAD:
            raise RangeError("a round of these questions is too large for the seal", hint="ask fewer of them at a time")
        values = rounds.values(self.asks, self.rows)
        payload = seal.close(values, self.plan, self.keys, self._context())
        mine = Contribution(T=self.T, S=self.S, registry=self.me.name, round=self.round, H=self._transcript_code(),
                            asks=self._asks_code(), chunks=tuple(self.plan.chunks), digest=digest_of(payload))
        self.mine = self._post(mine, f"round {self.round}", payload).signed

    def _context(self) -> bytes:
        return hashed(b"round", self.H, self.round.to_bytes(4, "big"))

    def _asks_code(self) -> bytes:
        """The asks of the round as a code that only the registries can compare."""
        assert self.keys is not None
        return codes.asks_code(self.keys.K, self.H, rounds.digest(self.asks))

    def _transcript_code(self) -> bytes:
        assert self.keys is not None
        return codes.transcript_code(self.keys.K, self.S, self.round, self.H)

    def _total(self, parcel: Parcel, total: Total) -> None:
        self._mine(total)
        if self.state == ENDED:
            return
        if self.state != ROUNDS or self.keys is None:
            raise OutOfOrder("a total arrived out of order")
        if self.roster.role(total.coordinator) != "coordinator" or total.S != self.S or total.round != self.round:
            raise Tampered(NOT_VERIFIED)
        messages.check_payload(parcel)
        self._check_contributions(total)
        integers, residues = seal.open_total(parcel.payload, self.plan, self.keys, self._context())
        asks = rounds.digest(self.asks)
        self.H = hashed(b"fedstats H/1", self.H, self.round.to_bytes(4, "big"), self.plan.layout_digest(), asks, residues)
        registries = len(self.query.registries)
        found = rounds.totals(integers, self.asks, self.plan, self.recipe.dictionary, self.patients, registries)
        if self.round == 0:
            self.patients = max(1, int(found[0]["cohort"]))     # N sets the scales of the later rounds
            if self.rows.people() > self.patients:
                raise Tampered(NOT_VERIFIED)
        self.round += 1
        self.driving = True
        try:
            self.asks = self.steps.send(found)
        except StopIteration as done:
            self.driving = False
            self.state = advance(self.state, "last total")
            self._judge(done.value)
            return
        self.driving = False
        self.state = advance(self.state, "total")
        self._contribute()

    def _check_contributions(self, total: Total) -> None:
        """Every registry's signed contribution is in the total once, made from the same transcript and the same asks."""
        order = self.query.registries
        if len(total.contributions) != len(order):
            raise Tampered(NOT_VERIFIED)
        other: list[str] = []
        seen = self._transcript_code()
        for name, signed in zip(order, total.contributions):
            message, _ = messages.open_signed(signed, self.roster.public)
            if (not isinstance(message, Contribution) or message.registry != name or message.T != self.T or message.S != self.S
                    or message.round != self.round or seen != message.H):
                raise Tampered(NOT_VERIFIED)
            if message.asks != self._asks_code():
                other.append(name)
            if name == self.me.name and signed != self.mine:
                raise Tampered(NOT_VERIFIED)
        if other:
            raise Tampered(f"the next question was derived differently at {', '.join(other)}",
                           hint="all registries must run one version of fedstats and its libraries")

    # -- phase 4: verdict, release ---------------------------------------------------------------------------------------------------

    def _judge(self, results: list[Result]) -> None:
        query_id = self.query.name
        self.results = [msgspec.structs.replace(result, query=query_id, released="sealed") for result in results]
        assert self.keys is not None
        decisions = decisions_of(self.results)
        self.H = hashed(b"fedstats H final/1", self.H, decisions)
        self.final = codes.final_code(self.keys.K, self.S, self.H)
        self.decisions_key = codes.decisions_key(self.keys.K, self.S)
        problem = None
        try:
            self.house.approve(self.query, self.results)
        except Refused as error:
            problem = as_problem(error, self.me.name)
        mine = Verdict(T=self.T, S=self.S, registry=self.me.name, H=self.final, release=problem is None, note=self._note(problem),
                       decisions=codes.decisions_code(self.decisions_key, self.S, decisions))
        self.verdicts[self.me.name] = mine
        self._post(mine, "verdict")
        if problem is not None:
            self.problem = as_error(problem)
            self._end("refused")

    def _verdict(self, verdict: Verdict) -> None:
        self._mine(verdict)
        if self.state == ENDED:
            return
        if self.state != JUDGING or verdict.registry in self.verdicts or verdict.registry not in self.query.registries:
            raise OutOfOrder(f"a verdict of {verdict.registry} arrived out of order")
        if not verdict.release:
            raise refusal_of(verdict.registry, self._reason(verdict, verdict.registry))
        mine = self.verdicts[self.me.name]
        if (verdict.S, verdict.H, verdict.decisions) != (mine.S, mine.H, mine.decisions):
            raise Tampered(f"{verdict.registry} came to another result", hint="all registries must run one version of fedstats")
        self.verdicts[verdict.registry] = verdict
        last = len(self.verdicts) == len(self.query.registries)
        state = advance(self.state, "last verdict" if last else "verdict")
        if last:
            self._release()     # may fail, as on a full disk: then the others are told
        self.state = state

    def _release(self) -> None:
        assert self.results is not None and self.onetime is not None
        content = to_release(self.results, self.decisions_key)
        box = identity.seal_to(self.me, self.onetime, self.roster.public(self.query.analyst), self.query.onetime,
                               hashed(b"release", self.S, self.final), content, self.random)
        self._post(Release(T=self.T, S=self.S, roster=self.roster.digest, registry=self.me.name, H=self.final, sealed=box), RELEASE)
        self._forget()

    def settled(self) -> None:
        """The postings of a released query have left: the journal may let go of their bytes."""
        self._close_journal("released")

    def _close_journal(self, outcome: str) -> None:
        # a journal on a full disk keeps the query as open: a restarted node ends it then
        with contextlib.suppress(FedstatsError):
            self.journal.close(self.T, outcome)

    def _abort(self, abort: Abort) -> None:
        self._mine(abort)
        self.state = advance(self.state, "abort")
        if self.state == ENDED:
            # the sender of an abort speaks for itself only
            reason = self._reason(abort, abort.sender) or abort.problem
            self.problem = self.problem or as_error(Problem(reason.code, abort.sender, reason.what, reason.hint))
            self._end("aborted")

    # -- reasons, sealed --------------------------------------------------------------------------------------------------------------

    def _note(self, problem: Problem | None) -> Note | None:
        """A reason for the others' eyes only."""
        if problem is None:
            return None
        onetimes = {name: admission.onetime for name, (admission, _) in self.admissions.items()}
        return write_note(problem, self.me, self.query, self.T, self.roster, onetimes, self.random)

    def _farewell(self, problem: Problem) -> Parcel:
        """An abort that tells the coordinator nothing but that this registry leaves."""
        told = Problem("aborted", self.me.name, LEFT)
        return messages.sign(Abort(T=self.T, sender=self.me.name, problem=told, note=self._note(problem)), self.me)

    def _reason(self, message: Admission | Verdict | Abort, sender: str) -> Problem | None:
        """Why another party refuses or leaves, as far as it can be read."""
        if message.note is None:
            return message.problem
        mine = [self.onetime] if self.onetime else []
        return read_note(message.note, sender, self.me, mine, self.query, self.T, self.roster)

    # -- small things -------------------------------------------------------------------------------------------------------------

    def _mine(self, message: Any) -> None:
        if message.T != self.T or not self.T:
            raise OutOfOrder("a message belongs to another query")

    def _post(self, message: AnyMessage, key: str, payload: bytes = b"") -> Parcel:
        """Sign, write to the outbox, then let go: in this order."""
        parcel = messages.sign(message, self.me, payload)
        self.journal.post(self.T, key, bytes(parcel))
        self.outgoing.append(parcel)
        return parcel

    def _end(self, outcome: str) -> None:
        self.state = ENDED
        self._forget()
        if self.claimed:
            self._close_journal(outcome)

    def _forget(self) -> None:
        if self.keys is not None:
            self.keys.burn()
        self.keys = self.onetime = self.later = None
        for name in ("steps", "rows", "asks", "decisions_key"):
            self.__dict__.pop(name, None)
