"""Visits and relapses as arrays: sorted by patient and day, checked, counted.

Tables may be data frames, Arrow tables or dicts of columns; what is read of them are columns by name. Nothing is dropped without
being counted in the flow, and what cannot be understood is an InputError that names table, column and count, never a patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError
from .thresholds import Threshold

NAMES = {"patient_id": "patient_id", "visit_date": "visit_date", "relapse_onset_date": "relapse_onset_date",
         "origin_date": "origin_date", "death_date": "death_date"}
# what the published sample tables call them, when they are not called as above
KNOWN_AS = {"patient_id": ("id", "ID"), "visit_date": ("date",), "relapse_onset_date": ("date",)}
OLDEST, NEWEST = np.datetime64("1900-01-01", "D").astype(int), np.datetime64("2100-12-31", "D").astype(int)
NO_DAY = np.iinfo(np.int64).max         # later than everything: no date of that kind
DEATH = 10.0            # EDSS: death due to MS


@dataclass(frozen=True)
class History:
    """What the kernels read. starts, relapse_starts : array (patients + 1,); zero : day of time zero per patient.

    end : last day under observation; competing : it ended with death. dates : days are calendar dates (else numbers).
    """

    patients: np.ndarray
    starts: np.ndarray
    day: np.ndarray
    value: np.ndarray
    valid: np.ndarray
    relapse_starts: np.ndarray
    onsets: np.ndarray
    zero: np.ndarray
    end: np.ndarray
    competing: np.ndarray
    dates: bool
    flow: dict[str, int]


def history(visits: Any, relapses: Any, rule: Threshold, *, valid_confirmation: Any = None, origin: Any = None, deaths: Any = None,
            death_at_ten: bool = False, columns: Mapping[str, str] | None = None) -> History:
    """Read the tables. Patients come sorted; those without a time zero or without any value keep no row, and are counted."""
    names = _names(columns, rule.name)
    ids, day, dates = _ids(visits, names, "visits"), *_days(_column(visits, names["visit_date"], "visits"), names["visit_date"])
    value = _values(_column(visits, names["value"], "visits"), names["value"], rule)
    valid = _flags(visits, valid_confirmation, len(value))
    if not len(ids) == len(day) == len(value) == len(valid):
        raise InputError("the columns of the visits have different lengths", hint="one entry per visit in each column")
    flow = {"visits": len(ids), "visits_without_value": int(np.isnan(value).sum())}
    patients, code = _codes(ids)
    flow["patients"] = len(patients)
    keep = ~np.isnan(value)
    if not keep.all():
        code, day, value, valid = code[keep], day[keep], value[keep], valid[keep]
    code, day, value, valid = _sorted(code, day, value, valid, flow, names["value"])
    zero, known = _zeros(origin, patients, names, dates, code, day)
    died = _per_patient({} if deaths is None else deaths, patients, names["death_date"], names, dates, "deaths")
    if death_at_ten:
        np.minimum.at(died, code[value >= DEATH], day[value >= DEATH])
    flow["patients_without_value"] = len(patients) - len(np.unique(code))
    flow["patients_without_origin"] = int((~known).sum())
    alive = day < died[code]
    flow["visits_from_death_on"] = int((~alive).sum())
    keep = alive & known[code]
    code, day, value, valid = code[keep], day[keep], value[keep], valid[keep]
    here = np.bincount(code, minlength=len(patients)) > 0
    index = np.cumsum(here) - 1
    starts = np.concatenate([[0], np.cumsum(np.bincount(index[code], minlength=int(here.sum())))]).astype(np.int64)
    relapse_starts, onsets = _relapses(relapses, patients, here, names, dates, flow)
    died, zero = died[here], zero[here]
    competing = (died != NO_DAY) & (died > zero)
    end = np.where(competing, died, np.maximum(day[starts[1:] - 1], zero))
    return History(patients[here], starts, day, value, valid, relapse_starts, onsets, zero, end, competing, dates, flow)


def _names(columns: Mapping[str, str] | None, outcome: str) -> dict[str, str]:
    """What the columns are called in the user's tables."""
    unknown = sorted(set(columns or {}) - {*NAMES, outcome})
    if unknown:
        raise InputError(f'columns names "{unknown[0]}", which is no column of these tables',
                         hint="columns are " + ", ".join([*NAMES, outcome]))
    named = {**NAMES, outcome: outcome, **(columns or {})}
    return {**named, "value": named[outcome]}


def _column(table: Any, name: str, what: str) -> Any:
    for known in (name, *KNOWN_AS.get(name, ()), name.upper()):
        try:
            return table[known]
        except (KeyError, IndexError, TypeError, ValueError):
            continue
    raise InputError(f'the {what} have no column "{name}"', hint='name it so, or say columns={"visit_date": "date", ...}')


def _ids(table: Any, names: Mapping[str, str], what: str) -> np.ndarray:
    ids = np.asarray(_column(table, names["patient_id"], what))
    if not len(ids):                    # a table without rows has columns of any type
        return ids.astype(str)
    if ids.dtype.kind == "f":
        raise InputError(f'column "{names["patient_id"]}" of the {what} holds decimal numbers',
                         hint="identifiers are text or whole numbers; a missing one makes them decimal")
    return ids


def _codes(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct identifiers, sorted, and for every row the position of its identifier."""
    if not len(ids):
        return np.empty(0, str), np.empty(0, np.int64)
    head = np.concatenate([[True], _differ(ids)])       # rows mostly come patient by patient: only the heads are looked up
    runs = np.diff(np.append(np.flatnonzero(head), len(ids)))
    if ids.dtype.kind in "iu":
        found, code = np.unique(ids[head], return_inverse=True)
    else:                               # a dict is several times faster than sorting texts
        heads = ids[head].tolist()
        distinct = list(set(heads))
        found, place = np.unique(_plain(np.array(distinct, object)), return_inverse=True)
        code = np.fromiter(map(dict(zip(distinct, place.tolist())).__getitem__, heads), np.int64, len(heads))
    return found, np.repeat(code, runs)


def _differ(ids: np.ndarray) -> np.ndarray:
    """Where an identifier is not that of the row before."""
    try:
        return np.asarray(ids[1:] != ids[:-1], bool)
    except TypeError:                   # pandas' NA is neither equal nor different
        raise _nameless() from None


def _plain(ids: np.ndarray) -> np.ndarray:
    """Identifiers as whole numbers or text."""
    if ids.dtype.kind in "iuU":
        return ids
    texts = ids.astype(str)
    if np.isin(texts, ("None", "nan", "NaT", "<NA>", "")).any():
        raise _nameless()
    return texts


def _nameless() -> InputError:
    return InputError("some rows have no patient_id", hint="give every row its identifier, or leave the row out")


def _days(values: Any, name: str) -> tuple[np.ndarray, bool]:
    """Whole days, and whether they are calendar dates (since 1970-01-01) or numbers."""
    found = np.asarray(values)
    if found.dtype.kind in "iu":
        return found.astype(np.int64), False
    if found.dtype.kind == "f" and len(found):
        if not (np.isfinite(found) & (found == np.floor(found))).all():
            bad = int((~(found == np.floor(found))).sum())
            raise InputError(f'column "{name}": {bad} entries are not whole days', hint="dates, or days as whole numbers")
        return found.astype(np.int64), False
    if found.dtype.kind in "OU":
        found = _texts(found, name)
    try:
        stamps = found.astype("datetime64[D]")
    except (ValueError, TypeError):
        raise InputError(f'column "{name}" holds entries that are not dates', hint="write dates as 2024-01-31") from None
    if np.isnat(stamps).any():
        missing = int(np.isnat(stamps).sum())
        raise InputError(f'column "{name}": {missing} dates are missing', hint="leave these rows out, or complete them")
    days = stamps.astype(np.int64)
    strange = int(((days < OLDEST) | (days > NEWEST)).sum())
    if strange:
        raise InputError(f'column "{name}": {strange} dates are before 1900 or after 2100',
                         hint="two-digit years are read as they are written: write 2024-01-31")
    return days, True


def _texts(found: np.ndarray, name: str) -> np.ndarray:
    """Dates as text or objects, where nothing would be guessed: no time zone, no date without a day."""
    zones = sum(getattr(one, "tzinfo", None) is not None for one in found.tolist())
    if zones:
        raise InputError(f'column "{name}": {zones} dates have a time zone', hint="a day is a day at the registry: write 2024-01-31")
    if not any(isinstance(one, str) for one in found.tolist()):
        return found
    texts = found.astype(str)
    unclear = int((np.char.str_len(texts) != len("2024-01-31")).sum())
    if unclear:
        raise InputError(f'column "{name}": {unclear} dates are missing or not written as 2024-01-31',
                         hint="leave these rows out, or complete them")
    return texts


def _values(values: Any, name: str, rule: Threshold) -> np.ndarray:
    try:
        found = np.asarray(values, dtype=float)
    except (ValueError, TypeError):
        raise InputError(f'column "{name}" holds entries that are not numbers',
                         hint="write 3.5 with a point; leave missing values empty") from None
    low, high = rule.range
    outside = int(((found < low) | (found > high)).sum())
    if outside:
        raise InputError(f'column "{name}": {outside} values are not between {low:g} and {high:g}',
                         hint="mark codes for missing values as missing")
    if rule.step is not None:
        off = found / rule.step % 1
        if (off[~np.isnan(off)] > 0).any():
            raise InputError(f'column "{name}": {int((off > 0).sum())} values are not whole steps of {rule.step:g}',
                             hint="round or correct them before")
    return found


def _flags(visits: Any, valid: Any, n: int) -> np.ndarray:
    if valid is None:
        return np.ones(n, bool)
    flags = np.asarray(_column(visits, valid, "visits") if isinstance(valid, str) else valid)
    if flags.dtype.kind not in "biu" or not np.isin(flags, (0, 1)).all():
        raise InputError("valid_confirmation must say yes or no for every visit", hint="a column of true and false, or of 1 and 0")
    return flags.astype(bool)


def _sorted(code: np.ndarray, day: np.ndarray, value: np.ndarray, valid: np.ndarray, flow: dict[str, int],
            name: str) -> tuple[np.ndarray, ...]:
    """By patient and day. Visits of one day with one value are one visit; with two values nobody knows which is right."""
    step = (np.diff(code) > 0) | ((np.diff(code) == 0) & (np.diff(day) > 0))
    if not step.all():
        order = np.argsort(code * (day.max() - day.min() + 1) + day - day.min(), kind="stable")
        code, day, value, valid = code[order], day[order], value[order], valid[order]
    again = np.concatenate([[False], (np.diff(code) == 0) & (np.diff(day) == 0)]) if len(code) else np.zeros(0, bool)
    conflict = int((again[1:] & (np.diff(value) != 0)).sum())
    if conflict:
        raise InputError(f'column "{name}": {conflict} visits have another value on the same day of the same patient',
                         hint="keep one of them, or neither: the cleaning rules of the tables do that")
    flow["same_day_repeats"] = int(again.sum())
    if not again.any():
        return code, day, value, valid
    at = np.flatnonzero(~again)
    return code[at], day[at], value[at], np.logical_or.reduceat(valid, at)


def _zeros(origin: Any, patients: np.ndarray, names: Mapping[str, str], dates: bool, code: np.ndarray,
           day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Time zero per patient and whether there is one: the first visit, or what `origin` says."""
    if origin is None:
        first, head = np.zeros(len(patients), np.int64), np.flatnonzero(np.diff(code, prepend=-1))
        first[code[head]] = day[head]
        return first, np.ones(len(patients), bool)
    if isinstance(origin, Mapping) or hasattr(origin, "columns") or hasattr(origin, "column_names"):
        zero = _per_patient(origin, patients, names["origin_date"], names, dates, "origin")
    else:
        zero = np.full(len(patients), _same_kind(*_days(np.asarray([origin]), "origin"), dates, "origin")[0])
    return zero, zero != NO_DAY


def _per_patient(source: Any, patients: np.ndarray, name: str, names: Mapping[str, str], dates: bool, what: str) -> np.ndarray:
    """One day per patient, NO_DAY where `source` ({patient: date}, or a table) says nothing."""
    is_table = not isinstance(source, Mapping) or names["patient_id"] in source
    ids = _ids(source, names, what) if is_table else np.asarray(list(source))
    values = _column(source, name, what) if is_table else list(source.values())
    answer = np.full(len(patients), NO_DAY)
    given = np.array([not (one is None or one != one) for one in values], bool)         # None, NaN and NaT: no date
    if given.any():
        day = _same_kind(*_days(np.asarray(values)[given], name), dates, name)
        position, known = _positions(ids[given], patients, what)
        if len(np.unique(position[known])) < known.sum():
            raise InputError(f"the {what} name a patient twice", hint="one date per patient")
        answer[position[known]] = day[known]
    return answer


def _same_kind(day: np.ndarray, dates: bool, wanted: bool, name: str) -> np.ndarray:
    if dates != wanted and len(day):
        here, there = ("dates" if one else "numbers" for one in (dates, wanted))
        raise InputError(f'column "{name}" holds {here}, the visits {there}', hint="use the same for both")
    return day


def _positions(ids: np.ndarray, patients: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the identifiers are among the patients, and whether they are there at all."""
    ids = _plain(ids)
    if len(ids) and len(patients) and (ids.dtype.kind == "U") != (patients.dtype.kind == "U"):
        raise InputError(f'"patient_id" is text in one table and a number in the other ({what} and visits)',
                         hint="use the same type in both")
    if not len(ids) or not len(patients):
        return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
    position = np.minimum(np.searchsorted(patients, ids), len(patients) - 1)
    return position, patients[position] == ids


def _relapses(relapses: Any, patients: np.ndarray, here: np.ndarray, names: Mapping[str, str], dates: bool,
              flow: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where each kept patient's relapses begin, and their onsets by patient and day."""
    if relapses is None:
        flow |= {"relapses": 0, "relapses_of_others": 0}
        return np.zeros(int(here.sum()) + 1, np.int64), np.empty(0, np.int64)
    ids, name = _ids(relapses, names, "relapses"), names["relapse_onset_date"]
    day = _same_kind(*_days(_column(relapses, name, "relapses"), name), dates, name)
    if len(ids) != len(day):
        raise InputError("the columns of the relapses have different lengths", hint="one entry per relapse in each column")
    position, known = _positions(ids, patients, "relapses")
    flow |= {"relapses": len(ids), "relapses_of_others": int((~known).sum())}
    known &= here[position] if len(patients) else known
    code, day = (np.cumsum(here) - 1)[position[known]], day[known]
    order = np.lexsort((day, code))
    counts = np.bincount(code, minlength=int(here.sum()))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), day[order]
