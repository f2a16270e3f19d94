"""The three worlds: how the asks of a query become totals. See `federation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .. import driver, rounds
from ..analysis import Question, Result
from ..dictionary import Dictionary
from ..disclosure import Rules
from ..errors import FedstatsError, Internal
from ..filters import keep
from ..population import Codebook, Findings, Household
from ..rows import Rows
from ..statistic import Ask, Sums

GRACE_SECONDS = 2.0


class Pooled:
    """One process, no seal; the same exact integers as under the seal, so the digits are the same."""

    def __init__(self, codebook: Codebook, data: Mapping[str, Household], reports: Mapping[str, Findings], rules: Rules) -> None:
        self.codebook, self.data, self.reports, self.rules = codebook, data, reports, rules
        self.registries = tuple(data)

    def run(self, questions: Sequence[Question], recipe: Any, where: Any, **_: Any) -> list[Result]:
        tables = [household.rows(recipe) for household in self.data.values()]
        cohort = [rows.where(keep(where, rows)) for rows in tables]
        # round 0 counts patients who did not come as far as the cohort; the later ones rest on the cohort, as under the seal
        patients, people = max(1, sum(household.n for household in self.data.values())), max(1, sum(rows.people() for rows in cohort))
        steps = driver.query(questions, recipe, self.rules, len(cohort))
        try:
            asks = next(steps)
            while True:
                asks = steps.send(_totals(asks, cohort, recipe.dictionary, patients))
                patients = people
        except StopIteration as done:
            return [msgspec.structs.replace(result, released="pooled") for result in done.value]


def _totals(
    asks: Sequence[Ask], cohort: Sequence[Rows], dictionary: Dictionary, patients: int
) -> list[Sums]:
    """`rounds.pooled`; a fault of the software ends the query, as in the other worlds, where a
    registry says no more than that."""
    try:
        return rounds.pooled(asks, cohort, dictionary, patients)
    except FedstatsError:
        raise
    except Exception as error:
        raise Internal("internal fault") from error


def frame_bytes(asks: Sequence[Ask], dictionary: Dictionary, registries: int, patients: int = 1_000_000) -> int:
    """Bytes that one registry sends for a round of these asks."""
    from .. import seal

    return seal.share_size(rounds.plan(asks, dictionary, patients, registries).chunks) if asks else 0


class Simulated:
    """All parties in one process: the real conversation over `transport.memory`."""

    def __init__(self, codebook: Codebook, data: Mapping[str, Household], reports: Mapping[str, Findings], rules: Rules, *,
                 seed: int) -> None:
        from ..transport.memory import MemoryNetwork, SmallConsortium

        self.codebook, self.data, self.reports, self.rules = codebook, data, reports, rules
        self.registries = tuple(data)
        self.network = MemoryNetwork(codebook, data, rules, seed=seed, kind=SmallConsortium)

    def run(self, questions: Sequence[Question], recipe: Any, where: Any, *, purpose: str = "", **_: Any) -> list[Result]:
        try:
            results = self.network.ask(questions, where, purpose=purpose, recipe=recipe)
        except FedstatsError:
            raise
        except Exception as error:  # a fault at one registry, which ends the query and tells the others no more than that
            said = [
                one.problem for one in self.network.registries.values() if one.problem is not None
            ]
            raise (said[0] if said else Internal("internal fault")) from error
        return [msgspec.structs.replace(result, released="simulated") for result in results]


class Connected:
    """A consortium over the network: the analyst's conversation over `transport.http`."""

    def __init__(self, me: Any, roster: Any, codebook: Codebook, link: Any, registries: Sequence[str], *, progress: Any = None,
                 timeout: float = 600.0) -> None:
        self.me, self.roster, self.codebook, self.link = me, roster, codebook, link
        self.registries, self.rules = tuple(registries), roster.effective_rules
        self.progress, self.timeout = progress, timeout
        self.receipts: dict[str, Any] = {}

    @classmethod
    def open(cls, consortium: str | Path, *, key: str | Path, dictionary: Dictionary | str | Path | None, registries: Sequence[str] | None,
             progress: Any, timeout: float) -> Connected:
        """See `federation.connect`. Raises InputError for files, Refused for a key that is not an analyst's."""
        from ..crypto.identity import Identity
        from ..errors import InputError, Refused
        from ..transport.http import Link
        from ..wire.roster import Consortium, check_pin

        roster = Consortium.load(consortium)
        me = Identity.load(key)
        check_pin(roster, key, consortium)
        if roster.role(me.name) != "analyst":
            raise Refused(f"the key {key} belongs to {me.name}, who is not an analyst of {roster.name}")
        found = roster.load_codebook(consortium, dictionary)
        known = roster.names("registry")
        unknown = [name for name in registries or () if name not in known]
        if unknown:
            raise InputError(f"{unknown[0]} is not a registry of {roster.name}", hint="registries are: " + ", ".join(known))
        (coordinator,) = roster.names("coordinator")[:1] or ("",)
        return cls(me, roster, found, Link(me, coordinator, roster.addresses), registries or known, progress=progress, timeout=timeout)

    def close(self) -> None:
        self.link.close()

    def run(self, questions: Sequence[Question], recipe: Any, where: Any, *, purpose: str = "", **_: Any) -> list[Result]:
        import os
        import time

        from ..errors import Unreachable
        from ..receipt import receipt_of
        from ..wire import messages
        from ..wire.analyst import ASKED, Analyst

        analyst = Analyst(self.me, self.roster, random=os.urandom)
        first = analyst.start(questions, where, self.registries, purpose=purpose, now=time.time(), lifetime=self.timeout,
                              recipe=recipe)
        self.link.post(bytes(first))
        # a little longer than the query lives: the coordinator, who knows who is missing, speaks first
        cursor, boot, until = 0, "", time.monotonic() + self.timeout + GRACE_SECONDS
        while analyst.state == ASKED:
            here, mail = self.link.mail(cursor, 0.5 if self.progress else 10.0, analyst.T, boot)
            if boot not in ("", here):
                raise Unreachable("the coordinator was restarted in the middle of the query", hint="ask again")
            boot = here
            for number, raw in mail:
                if number <= cursor:        # a line may repeat what it carries
                    continue
                cursor = number
                try:
                    parcel = messages.read(raw, self.roster.public)
                except FedstatsError as error:
                    analyst.fail(error)
                    break
                analyst.receive(parcel)
            if analyst.state == ASKED and time.monotonic() > until:
                raise self._late(analyst.T)
            if self.progress:
                self._report(analyst.T)
        if analyst.problem is not None:
            raise analyst.problem
        assert analyst.results is not None
        self.receipts[analyst.query.id.hex()] = receipt_of(analyst)
        return analyst.results

    def _report(self, T: bytes) -> None:
        state = self.link.progress(T)
        if state["phase"] != "over":
            label = f"round {state['round']}" if state["phase"] == "rounds" else str(state["phase"])
            self.progress(label, int(state["answered"]), int(state["of"]))

    def _late(self, T: bytes) -> Exception:
        from ..errors import Unreachable

        state = self.link.progress(T)
        missing = ", ".join(state.get("missing", ())) or "the registries"
        return Unreachable(f"no answer from {missing} within {self.timeout:g} seconds", hint="see that these nodes run, then ask again")
