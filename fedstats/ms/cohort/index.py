"""Time zero: which patients of a registry have the index event, and when.

Only records up to the day itself decide: the first visit, the first start of a treatment. What happens later changes neither whether a
patient has a time zero nor which day it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..tables.dmt import EFFICACY
from ..tables.dropped import UNKNOWN_DRUG
from .limits import day_of
from .records import Dated, Records
from .tree import DmtStart, EveryVisit, FirstVisit, Index, OnDate, Onset

EARLIER_TREATMENTS, EARLIER_VISITS = "earlier treatments known", "earlier visits known"      # steps of the flow


@dataclass(frozen=True)
class Episodes:
    """Times zero, sorted by patient and day. patient : place in `Registry.ids`; day : since 1970-01-01; both int64, shape (n,).

    number : how many the patient had before, 0 for the first.
    """

    patient: np.ndarray
    day: np.ndarray

    @property
    def number(self) -> np.ndarray:
        return np.arange(len(self.patient)) - np.searchsorted(self.patient, self.patient)

    def where(self, keep: np.ndarray) -> Episodes:
        return Episodes(self.patient[keep], self.day[keep])


def episodes(index: Index, records: Records) -> Episodes:
    """The times zero of a registry."""
    if isinstance(index, Onset):
        onset = records.registry.patients["onset_date"]
        known = np.flatnonzero(~np.isnan(onset))
        return Episodes(known, onset[known].astype(np.int64))
    if isinstance(index, DmtStart):
        return _starts(index, records)
    visits = records.visits[0]
    if isinstance(index, EveryVisit):
        return _landmarks(visits, index.gap_days, index.most)
    first = _firsts(visits)
    if isinstance(index, FirstVisit):
        return first
    day = day_of(index.date, "index.date")
    seen = first.where(first.day <= day)
    return Episodes(seen.patient, np.full(len(seen.patient), day))


def _firsts(rows: Dated) -> Episodes:
    """The first row of each patient."""
    head = np.diff(rows.patient, prepend=-1) != 0
    return Episodes(rows.patient[head], rows.day[head])


def _starts(index: DmtStart, records: Records) -> Episodes:
    records.need("treatments", "time zero is the start of a treatment")
    rows, columns = records.treatments
    wanted = np.ones(len(rows.day), dtype=bool)
    if index.classes or index.dmts:
        names = records.registry.treatment_list.names
        wanted = np.isin(columns["efficacy"], [EFFICACY.index(one) for one in index.classes])
        wanted |= np.isin(columns["dmt"], [names.index(one) for one in index.dmts])
    found = _firsts(Dated(rows.patient[wanted], rows.day[wanted], rows.key[wanted]))
    if not index.naive:
        return found
    before = rows.upto(found.patient, found.day - 1) - np.searchsorted(rows.patient, found.patient)
    return found.where(before == 0)


def _wanted(index: DmtStart, records: Records, dmt: np.ndarray) -> np.ndarray:
    """Whether dropped treatments may be ones of the index event; a drug that nobody knows may be any."""
    treatments = records.registry.treatment_list
    some = [k for k, one in enumerate(treatments.treatments) if one.efficacy in index.classes or one.name in index.dmts]
    return (dmt == UNKNOWN_DRUG) | np.isin(dmt, some) | (not index.classes and not index.dmts)


def known(index: Index, records: Records, zero: Episodes) -> tuple[str, np.ndarray] | None:
    """Which times zero are known to be the first ones, and the step of the flow that says so; None where that does not matter.

    A visit or a treatment that was dropped may have come before: whoever had one is no new user, and no untreated patient either.
    """
    if isinstance(index, DmtStart):
        step, traces = EARLIER_TREATMENTS, records.dropped("treatments")
        traces = traces if index.naive else traces.where(_wanted(index, records, traces.dmt))
    elif isinstance(index, FirstVisit):
        step, traces = EARLIER_VISITS, records.dropped("visits")
    else:
        return None
    return step, ~traces.begun(zero.patient, np.full(len(zero.day), -np.inf), zero.day - 1)


def _landmarks(visits: Dated, gap: int, most: int) -> Episodes:
    """Visits at least `gap` days after the last one that was taken; one per day."""
    found = _firsts(visits)
    taken, last = [found], found
    ends = np.append(visits.patient, -1)
    days = np.append(visits.day, 0)
    while len(last.patient) and len(taken) < most:
        after = visits.upto(last.patient, last.day + max(gap, 1) - 1)
        there = ends[after] == last.patient
        last = Episodes(last.patient[there], days[after[there]])
        taken.append(last)
    patient, day = np.concatenate([one.patient for one in taken]), np.concatenate([one.day for one in taken])
    order = np.lexsort((day, patient))
    return Episodes(patient[order], day[order])


def describe(index: Index) -> str:
    """Time zero as a sentence."""
    match index:
        case Onset():
            return ("Time zero was the first symptom. Patients come under observation at their first visit: the time before it is known "
                    "only of those who stayed free of death until then.")
        case FirstVisit():
            return "Time zero was the first visit; patients who may have had an earlier one were left out."
        case OnDate(date=date):
            return f"Time zero was {date}, for patients seen by then."
        case EveryVisit(gap_days=gap, most=most):
            text = f" at least {gap} days after the one before it" if gap else ""
            return f"Every visit{text} was a time zero of its own (up to {most} of a patient); a patient counts once for each."
    kinds = [f"{one} efficacy" for one in index.classes] + list(index.dmts)
    of = f" ({', '.join(kinds)})" if kinds else ""
    first = ("; patients with an earlier treatment were left out, and those whose earlier treatments are not known" if index.naive
             else "; patients of whom it is not known to be the first were left out")
    return f"Time zero was the first start of a disease-modifying treatment{of}{first}."
