"""Synthetic MS registries with a natural history: patients that nobody has ever been, from onset to the last visit.

How this works: `history_people` says who is there, `history_course` lets them live month by month, `history_tables` writes what a registry
would know of it, `history_truth` runs the same people under other treatments, `history_report` compares with published numbers.
`history_parameters.json` has every number with its source. Registry k of a seed is the same whatever other registries there are, and
its first patients are the same whatever its size. Pure: the same seed, the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from . import history_people
from .history_course import Course, Forced, live
from .history_parameters import Parameters, parameters
from .history_people import People, Site
from .history_tables import Columns, tables
from .synthetic import NAMES

LONGEST_RUN = 20_000        # patients at once: columns of this length stay in the processor's cache


@dataclass(frozen=True)
class Synthetic:
    """One registry. tables : {table: {column: (rows,)}} for `ms.tables.load`, dates as datetime64[D]; planted : {column: faults}.

    people, course and site are the truth behind it; days there count from onset, patients are in the order of `people`.
    """

    name: str
    tables: dict[str, Columns]
    planted: dict[str, int]
    people: People
    course: Course
    site: Site

    def __repr__(self) -> str:
        rows = ", ".join(f"{len(columns['patient_id'])} {table}" for table, columns in self.tables.items())
        return f"Synthetic({self.name}: {rows})"


def registry(seed: int, place: int = 0, patients: int | None = None, *, p: Parameters | None = None, forced: Forced | None = None,
             planted: float = 0.0) -> Synthetic:
    """Registry number `place` of a seed. patients : how many, else as the seed says; patients without a visit do not appear in the tables.

    p : see `history_parameters.parameters`. forced : a counterfactual run. planted : share of rows with a deliberate fault.
    """
    p = parameters() if p is None else p
    n = history_people.size(seed, place, p) if patients is None else patients
    if n < 1 or place < 0 or not 0 <= planted < 1:
        raise InputError(f"a registry needs a patient and a place from 0 on, and planted from 0 to 1: {n}, {place}, {planted:g}")
    house, group = history_people.site(seed, place, p), history_people.people(seed, place, n, p)
    life = _joined([live(group.where(np.arange(low, min(low + LONGEST_RUN, n))), house, p, forced) for low in range(0, n, LONGEST_RUN)])
    found, faults = tables(name(place), group, life, p, planted)
    return Synthetic(name(place), found, faults, group, life, house)


def registries(seed: int = 1, *, sites: int = 8, sizes: Sequence[int] | None = None, p: Parameters | None = None,
               forced: Forced | None = None, planted: float = 0.0) -> dict[str, Synthetic]:
    """The first registries of a seed, {name: registry}. sizes : patients of each; else on a log scale as the seed says."""
    wanted: Sequence[int | None] = [None] * sites if sizes is None else sizes
    found = [registry(seed, k, n, p=p, forced=forced, planted=planted) for k, n in enumerate(wanted)]
    return {one.name: one for one in found}


def name(place: int) -> str:
    """What registry number `place` is called."""
    again = place // len(NAMES)
    return NAMES[place % len(NAMES)] + (f"{again + 1}" if again else "")


def _joined(parts: list[Course]) -> Course:
    """Lives simulated in parts, as one."""
    if len(parts) == 1:
        return parts[0]
    before = np.concatenate([[0], np.cumsum([len(one.died) for one in parts])])
    joined = {}
    for table in ("visits", "relapses", "treatments", "mri"):
        columns = [getattr(one, table) for one in parts]
        joined[table] = {column: np.concatenate([one[column] + (shift if column == "who" else 0) for one, shift in zip(columns, before)])
                         for column in columns[0]}
    return Course(**joined, indexed=np.concatenate([one.indexed for one in parts]), died=np.concatenate([one.died for one in parts]),
                  converted=np.concatenate([one.converted for one in parts]))
