"""Time-varying rows: the time of each patient cut into consecutive (start, stop] intervals, with what was known at each start.

How this works: time is cut at every visit and at every start and end of a treatment after time zero, and where an outcome's time ends. A
covariate that may change is what it would be if its interval began at time zero: it rests on records up to and including the day of the
start, and holds to the stop, whatever becomes known in between. An event is at the end of an interval, and of the outcome's last one; the
intervals after it say nothing about that outcome (missing), so that for each outcome they add up to its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .index import Episodes
from .outcomes import EVENT, Found
from .records import SHIFT, SPAN, Records

START, STOP = "interval_start_days", "interval_stop_days"


@dataclass(frozen=True)
class Intervals:
    """place : the time zero (row of Episodes) of each interval; start, stop : days after it, (start, stop]. int64, shape (rows,)."""

    place: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def event(self, found: Found) -> np.ndarray:
        """1 where an interval ends with the outcome, 0 where it does not, NaN after its time and for those not at risk."""
        until, happened = found.days[self.place], (found.end == EVENT)[self.place]
        return np.where(self.start < until, (happened & (self.stop == until)).astype(float), np.nan)


def cut(records: Records, zero: Episodes, found: Mapping[str, Found], most: int) -> Intervals:
    """The intervals of every time zero, one time zero per patient. Those not at risk of any outcome have none.

    Raises InputError where a patient has more than `most`.
    """
    days = np.stack([one.days for one in found.values()])
    end = np.where(np.isnan(days).all(0), 0, np.nanmax(np.nan_to_num(days, nan=0.0), axis=0)).astype(np.int64)
    place = np.full(records.patients, -1)
    place[zero.patient] = np.arange(len(zero.day))
    where, when = [np.arange(len(zero.day))], [np.zeros(len(zero.day), np.int64)]
    for patient, day in _changes(records):
        mine = place[patient]
        mine, day = mine[mine >= 0], day[mine >= 0]
        where.append(mine)
        when.append(day - zero.day[mine])
    for one in found.values():
        (known,) = np.nonzero(~np.isnan(one.days))
        where.append(known)
        when.append(one.days[known].astype(np.int64))
    episode, after = np.concatenate(where), np.concatenate(when)
    inside = (after >= 0) & (after < end[episode])
    key = np.unique(episode[inside] * SPAN + after[inside] + SHIFT)
    episode, start = key // SPAN, key % SPAN - SHIFT
    last = np.append(np.diff(episode) != 0, True)[:len(episode)]
    stop = np.where(last, end[episode], np.append(start[1:], 0)[:len(start)])
    if len(episode) and np.bincount(episode).max() > most:
        raise InputError(f"a patient has more than {most} intervals", hint='raise "most_rows" of the cohort\'s rows')
    return Intervals(episode, start, stop)


def _changes(records: Records) -> list[tuple[np.ndarray, np.ndarray]]:
    """Patients and days on which something may become known: visits, starts and ends of treatments."""
    visits, (courses, columns) = records.visits[0], records.treatments
    ended = np.isfinite(columns["end"])
    ends = columns["end"][ended].astype(np.int64)
    traces = records.dropped("treatments", "end_date")      # from and until when nobody knows the treatment
    dropped = [(traces.patient[known], day[known].astype(np.int64)) for day in (traces.first, traces.until)
               if (known := np.isfinite(day)) is not None]
    return [(visits.patient, visits.day), (courses.patient, courses.day), (courses.patient[ended], ends), *dropped]


def describe(names: tuple[str, ...]) -> str:
    """The rows as a sentence."""
    return (f"Time was cut into intervals at visits and at starts and ends of treatments; {', '.join(names)} had in each the value known "
            "at its start.")
