"""The three worlds: how the asks of a query become totals. See `federation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .. import driver, rounds
from ..analysis import Question, Result
from ..dictionary import Dictionary
from ..disclosure import Rules
from ..rows import LoadReport, Rows, keep
from ..statistic import Ask


class Pooled:
    """One process, no seal; the same exact integers as under the seal, so the digits are the same."""

    def __init__(self, dictionary: Dictionary, rows: Mapping[str, Rows], reports: Mapping[str, LoadReport], rules: Rules) -> None:
        self.dictionary, self.rows, self.reports, self.rules = dictionary, rows, reports, rules
        self.registries = tuple(rows)

    def run(self, questions: Sequence[Question], where: Any, **_: Any) -> list[Result]:
        cohort = [rows.where(keep(where, rows)) for rows in self.rows.values()]
        patients = max(1, sum(rows.n for rows in cohort))
        steps = driver.query(questions, self.dictionary, self.rules, len(cohort))
        try:
            asks = next(steps)
            while True:
                asks = steps.send(rounds.pooled(asks, cohort, self.dictionary, patients))
        except StopIteration as done:
            return [msgspec.structs.replace(result, released="pooled") for result in done.value]


def frame_bytes(asks: Sequence[Ask], dictionary: Dictionary, registries: int, patients: int = 1_000_000) -> int:
    """Bytes that one registry sends for a round of these asks."""
    from .. import seal

    return seal.frame_size(rounds.plan(asks, dictionary, patients, registries)) if asks else 0


class Simulated:
    """All parties in one process: the real conversation over `transport.memory`."""

    def __init__(self, dictionary: Dictionary, rows: Mapping[str, Rows], reports: Mapping[str, LoadReport], rules: Rules, *,
                 seed: int) -> None:
        from ..transport.memory import MemoryNetwork

        self.dictionary, self.rows, self.reports, self.rules = dictionary, rows, reports, rules
        self.registries = tuple(rows)
        self.network = MemoryNetwork(dictionary, rows, rules, seed=seed)

    def run(self, questions: Sequence[Question], where: Any, *, purpose: str = "", **_: Any) -> list[Result]:
        results = self.network.ask(questions, where, purpose=purpose)
        return [msgspec.structs.replace(result, released="simulated") for result in results]
