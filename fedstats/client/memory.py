"""All parties in one process and one thread: the real conversation, the real coordinator, the real seal.

`MemoryNetwork` passes parcels between an analyst, a mailroom and registries until nobody has anything more to say. `wire` may
look at, change, drop or repeat any parcel on its way: that is what the tampering tests do.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodes.journal import MARK_BYTES, Journal

from ..coordinator.mailroom import Mailroom
from ..crypto.identity import Identity
from ..data.rows import Rows
from ..disclosure import Rules
from ..errors import FedstatsError, Unreachable
from ..query.analysis import Question, Result
from ..query.population import Codebook, Household, Recipe
from ..wire import messages
from ..wire.analyst import Analyst
from ..wire.conversation import RELEASED, Registry
from ..wire.messages import Query
from ..wire.roster import Consortium, member_of

Wire = Callable[[str, str, bytes], Sequence[bytes]]     # (from, to, parcel) -> parcels that arrive instead
START = 1_767_225_600.0         # 2026-01-01, seconds since 1970: simulated time starts here
ANALYST, COORDINATOR = "analyst", "coordinator"


def seeded(seed: int) -> Callable[[int], bytes]:
    """A deterministic byte source for simulations: SHA-256 in counter mode. Never for the network."""
    counter = itertools.count()

    def random(n: int) -> bytes:
        blocks = (hashlib.sha256(b"%d %d" % (seed, next(counter))).digest() for _ in range(-(-n // 32)))
        return b"".join(blocks)[:n]

    return random


@dataclass
class SimulatedHouse:
    """A registry's data without policy of its own."""

    codebook: Codebook
    data: Household
    minima: Rules
    data_cut: str = "simulated"

    def rows(self, recipe: Any) -> Rows:
        return self.data.rows(recipe)

    def admit(self, query: Query) -> None:
        """Everything that the protocol lets through is welcome."""

    def approve(self, query: Query, results: list[Result]) -> None:
        """Every checked result may leave."""


class RelaxedConsortium(Consortium, frozen=True, dict=True):
    """A roster for simulations: its rules may lie below the floors of the network."""

    @property
    def effective_rules(self) -> Rules:
        return self.rules


class SmallConsortium(RelaxedConsortium, frozen=True, dict=True):
    """A roster for `simulate`, where two registries will do if the rules say so: one process has
    the numbers of both anyway, which over a network either would learn from the total."""

    @property
    def fewest_registries(self) -> int:
        return max(2, self.rules.min_registries)


class MemoryNetwork:
    """A whole consortium in memory; `ask` runs one query through it."""

    def __init__(self, codebook: Codebook, data: Mapping[str, Household], rules: Rules, *, seed: int = 0,
                 wire: Wire | None = None, kind: type[RelaxedConsortium] = RelaxedConsortium) -> None:
        self.random = seeded(seed)
        self.codebook, self.rules, self.now = codebook, rules, START
        self.wire: Wire = wire or (lambda sender, receiver, raw: (raw,))
        names = tuple(data)
        self.people = {name: Identity.generate(name, self.random) for name in (*names, ANALYST, COORDINATOR)}
        roles = dict.fromkeys(names, "registry") | {ANALYST: "analyst", COORDINATOR: "coordinator"}
        patients = max(1, *(household.n for household in data.values()))
        self.roster = kind(
            name="simulation", epoch=1, dictionary="", dictionary_sha256=codebook.dictionary.digest, rules=rules,
            max_patients_per_registry=patients, members=tuple(member_of(self.people[name], role) for name, role in roles.items()))  # type: ignore[arg-type]
        self.houses = {name: SimulatedHouse(codebook, household, rules) for name, household in data.items()}
        # one mark for ever: the same seed gives the same bytes
        self.journals = {name: Journal(mark=bytes(MARK_BYTES)) for name in names}
        self.rounds = self.bytes_up = 0

    def ask(self, questions: Sequence[Question], where: Any, *, purpose: str = "", registries: Sequence[str] | None = None,
            recipe: Recipe | None = None) -> list[Result]:
        """Run one query to its end. Raises what the analyst would see."""
        analyst = self.run(questions, where, purpose=purpose, registries=registries, recipe=recipe)
        if analyst.problem is not None:
            raise analyst.problem
        if analyst.results is None:
            raise Unreachable("the conversation stopped before the end: somebody did not answer")
        return analyst.results

    def run(self, questions: Sequence[Question], where: Any, *, purpose: str = "", registries: Sequence[str] | None = None,
            recipe: Recipe | None = None) -> Analyst:
        """Run one query until nobody has anything to say; returns the analyst as it ended. `registry_states` shows the others."""
        room = self.room = Mailroom(self.people[COORDINATOR], self.roster)
        analyst = Analyst(self.people[ANALYST], self.roster, random=self.random)
        self.registries: dict[str, Registry] = {}
        cursors: dict[str, int] = {}
        first = analyst.start(questions, where, registries or tuple(self.houses), purpose=purpose, now=self.now, lifetime=600.0,
                              recipe=recipe)
        self._post(room, ANALYST, bytes(first), analyst)
        busy = True
        while busy:
            busy = False
            for box in list(room.boxes):
                name = box.partition("/")[0]
                for number, raw in room.mail(box, cursors.get(box, 0)):
                    cursors[box] = number
                    for arrived in self.wire(COORDINATOR, name, raw):
                        busy = True
                        self._deliver(room, name, arrived, analyst)
        self.now += 1.0
        self.rounds = room.counts["rounds"]
        self.bytes_up = room.counts["bytes_in"]
        return analyst

    def _deliver(self, room: Mailroom, name: str, raw: bytes, analyst: Analyst) -> None:
        try:
            parcel = messages.read(raw, self.roster.public)
        except FedstatsError as error:
            # bytes that are not a verified message of a member: whoever expects something is in an attack, and leaves
            if name == ANALYST:
                analyst.fail(error)
            else:
                self._send(room, name, self._registry(name).fail(error), analyst)
            return
        if name == ANALYST:
            analyst.receive(parcel)
            return
        registry = self._registry(name)
        self._send(room, name, registry.receive(parcel, self.now), analyst)
        self._send(room, name, registry.proceed(), analyst)
        if registry.state == RELEASED:
            registry.settled()

    def _registry(self, name: str) -> Registry:
        if name not in self.registries:
            self.registries[name] = Registry(self.people[name], self.roster, self.houses[name], self.journals[name], random=self.random)
        return self.registries[name]

    def _send(self, room: Mailroom, name: str, parcels: Sequence[Any], analyst: Analyst) -> None:
        for parcel in parcels:
            self._post(room, name, bytes(parcel), analyst)

    def _post(self, room: Mailroom, name: str, raw: bytes, analyst: Analyst) -> None:
        for arrived in self.wire(name, COORDINATOR, raw):
            try:
                room.receive(arrived, now=self.now, clock=self.now)
            except FedstatsError as error:
                if name == ANALYST:
                    analyst.fail(error)
                else:
                    self._send(room, name, self._registry(name).fail(error), analyst)
