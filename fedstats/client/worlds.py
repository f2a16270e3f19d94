"""The worlds of one process: how the asks of a query become totals. See `federation`.

The world over the network is in `connected`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..data.dictionary import Dictionary
from ..data.filters import keep
from ..data.rows import Rows
from ..disclosure import Rules
from ..errors import FedstatsError, Internal
from ..query import driver, rounds
from ..query.analysis import Question, Result
from ..query.population import Codebook, Findings, Household
from ..sums.statistic import Ask, Sums


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
    from ..crypto import seal

    return seal.share_size(rounds.plan(asks, dictionary, patients, registries).chunks) if asks else 0


class Simulated:
    """All parties in one process: the real conversation over `client.memory`."""

    def __init__(self, codebook: Codebook, data: Mapping[str, Household], reports: Mapping[str, Findings], rules: Rules, *,
                 seed: int) -> None:
        from .memory import MemoryNetwork, SmallConsortium

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
