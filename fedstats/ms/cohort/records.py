"""Rows of a registry's tables in one fixed order, and what was known about a patient on a day.

How this works: patient and day become one whole number, `patient * SPAN + day`, by which rows are sorted. "The last row of patient p up
to day t" and "the rows of p from t - 365 on" are then places found by bisection, for all patients at once. Nothing here can see past t.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...errors import InputError
from ..tables.dropped import NOTHING, ROW, Dropped, joined
from ..tables.registry import DATED, Registry

SPAN, SHIFT = 1 << 18, 1 << 17      # days: 1970 +- 358 years fit
DEATH = 10.0                        # EDSS: death due to MS
EDSS_STEP = 0.5


@dataclass(frozen=True)
class Dated:
    """Rows sorted by patient, day and content. key : shape (n,), increasing."""

    patient: np.ndarray
    day: np.ndarray
    key: np.ndarray

    @classmethod
    def of(cls, patient: np.ndarray, day: np.ndarray) -> Dated:
        return cls(patient, day, patient * SPAN + (day + SHIFT))

    def upto(self, patient: np.ndarray, day: np.ndarray) -> np.ndarray:
        """How many rows stand up to and including this day of this patient (those of patients before are counted too)."""
        return np.searchsorted(self.key, patient * SPAN + (day + SHIFT), side="right")

    def first(self, patients: int) -> np.ndarray:
        """The place of each patient's first row, len(rows) + 1 entries in all: rows of p are first[p]:first[p + 1]."""
        return np.searchsorted(self.patient, np.arange(patients + 1))

    def last_value(self, values: np.ndarray, patient: np.ndarray, day: np.ndarray, days: int) -> np.ndarray:
        """The last of `values` within `days` days up to and including `day`; NaN where there is none."""
        at = self.upto(patient, day) - 1
        ok = at >= 0
        at = np.where(ok, at, 0)
        if not len(values):
            return np.full(len(patient), np.nan)
        ok &= (self.patient[at] == patient) & (self.day[at] >= day - days)
        return np.where(ok, values[at], np.nan)


@dataclass
class Records:
    """The tables of one registry, sorted. recorded : tables that the registry keeps."""

    registry: Registry
    recorded: Collection[str]

    @property
    def patients(self) -> int:
        return len(self.registry.ids)

    def need(self, table: str, why: str) -> None:
        """Raises InputError where the registry does not keep a table."""
        if table not in self.recorded:
            raise InputError(f"{why}, and this registry has no table of {table}",
                             hint="give the table, or leave this registry out of the question")

    def columns(self, name: str) -> tuple[Dated, dict[str, np.ndarray]]:
        """A table by patient, day and, within a day, content: the order in which it was written does not matter."""
        table = self.registry.table(name)
        patient, day = table["patient"].astype(np.int64), table[DATED[name]].astype(np.int64)
        key = patient * SPAN + (day + SHIFT)
        if (np.diff(key) > 0).all():
            return Dated(patient, day, key), dict(table.columns)
        order = np.argsort(key, kind="stable")
        again = np.diff(key[order]) == 0
        tied = np.flatnonzero(np.append(again, False) | np.append(False, again))
        rows = order[tied]
        content = [np.nan_to_num(values[rows], nan=-np.inf) for values in table.columns.values() if values.dtype != object]
        order[tied] = rows[np.lexsort([*content, key[rows]])]
        return Dated(patient[order], day[order], key[order]), {column: values[order] for column, values in table.columns.items()}

    @cached_property
    def visits(self) -> tuple[Dated, dict[str, np.ndarray]]:
        return self.columns("visits")

    @cached_property
    def relapses(self) -> Dated:
        return self.columns("relapses")[0]

    @cached_property
    def treatments(self) -> tuple[Dated, dict[str, np.ndarray]]:
        """Courses of listed treatments; `end` is infinite where the treatment goes on."""
        dated, columns = self.columns("treatments")
        listed = columns["dmt"] >= 0
        found = {name: columns[name][listed] for name in ("dmt", "efficacy", "end_date")}
        found["end"] = np.where(np.isnan(found["end_date"]), np.inf, found["end_date"])
        return Dated(dated.patient[listed], dated.day[listed], dated.key[listed]), found

    @cached_property
    def mri(self) -> tuple[Dated, dict[str, np.ndarray]]:
        """Images of the brain, and those of an unstated region."""
        dated, columns = self.columns("mri")
        labels = self.registry.dictionary["region"].labels or ()
        brain = columns["region"] != (labels.index("spine") if "spine" in labels else -2)
        return Dated(dated.patient[brain], dated.day[brain], dated.key[brain]), {name: one[brain] for name, one in columns.items()}

    @cached_property
    def edss(self) -> tuple[Dated, np.ndarray]:
        """Scores in half steps; EDSS 10 is death and no score."""
        return self.known("edss", below=DEATH)

    def known(self, column: str, *, table: str = "visits", below: float = np.inf) -> tuple[Dated, np.ndarray]:
        """The rows of visits (or mri) on which a column is known, and its values. EDSS as whole half steps."""
        dated, columns = self.visits if table == "visits" else self.mri
        values = columns[column].astype(float)
        keep = (values >= 0) & (values < below)
        values = values[keep]
        if column == "edss":
            values = np.rint(values / EDSS_STEP).astype(np.int64)
        return Dated(dated.patient[keep], dated.day[keep], dated.key[keep]), values

    def dropped(self, table: str, *columns: str) -> Dropped:
        """What is not in a table any more although it happened: rows, and cells of these columns."""
        found = self.registry.dropped
        return joined([found.get((table, column), NOTHING) for column in (ROW, *columns)]) if found else NOTHING

    @cached_property
    def last_seen(self) -> np.ndarray:
        """Last day on which anything was recorded of each patient, -infinite without one, shape (patients,)."""
        contact = self.registry.patients["last_contact_date"]
        found = np.where(np.isnan(contact), -np.inf, contact)
        for name, column in DATED.items():
            if name in self.recorded:
                table = self.registry.table(name)
                np.maximum.at(found, table["patient"], table[column])
        return found

    @cached_property
    def may_have_died(self) -> np.ndarray:
        """The first day on which somebody may have died of whom only that is known, infinite for the others; shape (patients,)."""
        found, traces = np.full(self.patients, np.inf), self.registry.dropped.get(("patients", "death_date"), NOTHING)
        np.minimum.at(found, traces.patient, np.maximum(traces.first, self.last_seen[traces.patient]))
        return np.where(np.isinf(self.died), found, np.inf)

    @cached_property
    def died(self) -> np.ndarray:
        """Day of death or of the first EDSS 10, infinite for the living and where it is not known, shape (patients,)."""
        date = self.registry.patients["death_date"]
        found = np.where(np.isnan(date), np.inf, date)
        found[self.registry.dropped.get(("patients", "death_date"), NOTHING).patient] = np.inf
        dated, columns = self.visits
        ten = columns["edss"] >= DEATH
        np.minimum.at(found, dated.patient[ten], dated.day[ten])
        return found
