"""Covariates at time zero: each a named function of what was recorded up to and including that day, and a line of the dictionary.

How this works: a function gets a `View` (records, patients, days) and answers whole steps counted from 0 (years, half points of EDSS,
hundredths; a level's position) as doubles that hold integers, NaN where not known; measurements without a step as they are. So nothing
depends on the machine. Facts without a date (sex, birth, course at onset) hold from the beginning, facts that are overwritten in time
(the current course, smoking) are not used: nobody knows since when they hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.variable import Variable
from ...errors import InputError
from ..tables.dmt import EFFICACY
from ..tables.dropped import Dropped
from .limits import LONGEST_DAYS
from .records import Records
from .tree import Baseline, DmtStart, Index

QUAD = 1461                 # days in four years
HUNDREDTHS = 25 * QUAD     # a point per day is so many hundredths of a point per year
SLOPE_DAYS = 90             # a slope needs visits at least so far apart: rater noise of a point within weeks is no slope
MID_MONTH, MID_YEAR = 14, 6         # a birth known to the month was on the 15th, one known to the year on 1 July
UNTREATED = "none"          # the level of dmt and dmt_class
MONTHS = {"6m": 183, "12m": 365, "24m": 730}        # days


@dataclass(frozen=True)
class View:
    """Times zero, and what a covariate may look at. patient, day : shape (episodes,); codebook : whose levels the answers use."""

    records: Records
    patient: np.ndarray
    day: np.ndarray
    baseline: Baseline
    codebook: Dictionary


@dataclass(frozen=True)
class Covariate:
    """One covariate. table : where it comes from; says : what it is, for a methods section; step : of its values, None as in the codebook.

    like : the variable of the codebook whose range, levels and unit it has (the one of its own name if empty).
    treated : it says what the treatment of the day is, which at the start of a treatment is not "none".
    """

    name: str
    table: str
    says: str
    find: Callable[[View], np.ndarray]
    step: float | None = None
    like: str = ""
    treated: bool = False

    def variable(self, codebook: Dictionary, baseline: Baseline, index: Index | None = None) -> Variable:
        """Its line of the dictionary, at time zero by this index event: without levels that nobody can have there.

        An empty level would be one cell too few to tell, and pull another group of people along into suppression.
        """
        like = self.like or self.name
        if like not in codebook:
            raise InputError(f'the dictionary "{codebook.name}" has no variable "{like}"', hint="start from the shipped MS dictionary")
        levels = codebook[like].levels
        if levels and self.treated and isinstance(index, DmtStart):
            levels = tuple(one for one in levels if one != UNTREATED)
        return msgspec.structs.replace(codebook[like], name=self.name, description=self.describe(baseline), missing=(),
                                       step=self.step or codebook[like].step, levels=levels)

    def values(self, view: View, variable: Variable) -> np.ndarray:
        """What `find` says; levels as positions in those of its line of the dictionary, one beyond them for a level that is not there."""
        found, all_levels, levels = self.find(view), view.codebook[self.like or self.name].labels, variable.labels
        if all_levels is None or levels is None or all_levels == levels:
            return found
        place = [float(levels.index(one)) if one in levels else float(len(levels)) for one in all_levels]
        return np.array([*place, np.nan])[np.where(np.isnan(found), -1, found).astype(np.int64)]

    def describe(self, baseline: Baseline) -> str:
        return self.says.format(now=baseline.now_days, history=baseline.history_days)


# -- patients ------------------------------------------------------------------------------------------------------------------


def _birth(view: View) -> np.ndarray:
    patients = view.records.registry.patients
    month, year = patients["birth_month"], patients["birth_year"]
    known = np.where(np.isnan(year), 1970, year).astype(np.int64) - 1970
    july = (known.astype("datetime64[Y]").astype("datetime64[M]") + MID_YEAR).astype("datetime64[D]").astype(float)
    return np.where(np.isnan(month), np.where(np.isnan(year), np.nan, july), month + MID_MONTH)[view.patient]


def _year(view: View) -> np.ndarray:
    """Calendar time as models can adjust for it: a date is no number, and treatments and diagnosis changed from year to year."""
    return view.day.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970.0


def _onset(view: View) -> np.ndarray:
    """Day of onset, NaN if it lies ahead."""
    onset = view.records.registry.patients["onset_date"][view.patient]
    return np.where(onset <= view.day, onset, np.nan)


def _years(days: np.ndarray, per_year: int = 1) -> np.ndarray:
    """Completed years (or parts of a year) of 365.25 days."""
    return np.floor(4 * per_year * days / QUAD)


def _level(column: str, table: str = "patients") -> Callable[[View], np.ndarray]:
    return lambda view: _levels(view, column, view.records.registry.table(table)[column])[view.patient]


def _levels(view: View, column: str, codes: np.ndarray, skip: tuple[str, ...] = ()) -> np.ndarray:
    """Codes of the registry's dictionary as positions in the codebook's; NaN where missing or skipped."""
    labels, wanted = view.records.registry.dictionary[column].labels or (), view.codebook[column].labels or ()
    place = [float(wanted.index(one)) if one in wanted and one not in skip else np.nan for one in labels]
    return np.array([*place, np.nan])[codes]


def _unless(view: View, traces: Dropped, days: int, since: np.ndarray | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Values that are not known where something was dropped in the last `days` days, after the day `since` (NaN: none)."""
    start = view.day - days
    start = start if since is None else np.fmax(start, since + 1)
    lost = traces.begun(view.patient, start, view.day) if traces.n else np.zeros(len(view.day), dtype=bool)
    return lambda values: np.where(lost, np.nan, values)


def _course(view: View) -> np.ndarray:
    rows, columns = view.records.visits
    course = _levels(view, "course_at_visit", columns["course_at_visit"], skip=("unknown",))
    known = ~np.isnan(course)
    dated = type(rows)(rows.patient[known], rows.day[known], rows.key[known])
    since = dated.last_value(dated.day, view.patient, view.day, LONGEST_DAYS)
    kept = _unless(view, view.records.dropped("visits", "course_at_visit"), LONGEST_DAYS, since)
    return kept(dated.last_value(course[known], view.patient, view.day, LONGEST_DAYS))


# -- visits and images ---------------------------------------------------------------------------------------------------------


def _last(column: str, table: str = "visits") -> Callable[[View], np.ndarray]:
    def find(view: View) -> np.ndarray:
        rows, values = view.records.known(column, table=table) if column != "edss" else view.records.edss
        days = view.baseline.now_days
        since = rows.last_value(rows.day, view.patient, view.day, days)
        return _unless(view, view.records.dropped(table, column), days, since)(rows.last_value(values, view.patient, view.day, days))
    return find


def _scored(find: Callable[[View], np.ndarray]) -> Callable[[View], np.ndarray]:
    """Of all scores of the history window: not known where one was dropped."""
    return lambda view: _unless(view, view.records.dropped("visits", "edss"), view.baseline.history_days)(find(view))


def _window(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Scored visits of the history window: places from, to."""
    rows = view.records.edss[0]
    return rows.upto(view.patient, view.day - view.baseline.history_days - 1), rows.upto(view.patient, view.day)


def _sum(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return total[stop] - total[start]


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below rounded to the nearest whole number, halves upwards, in integers; NaN where below is 0."""
    safe = np.where(below > 0, below, 1)
    return np.where(below > 0, (2 * above + safe) // (2 * safe), np.nan)


def _mean(view: View) -> np.ndarray:
    start, stop = _window(view)
    return _over(50 * _sum(view.records.edss[1], start, stop), stop - start)        # half points in hundredths


def _extreme(pick: np.ufunc) -> Callable[[View], np.ndarray]:
    def find(view: View) -> np.ndarray:
        start, stop = _window(view)
        padded = np.append(view.records.edss[1], 0)
        found = pick.reduceat(padded, np.column_stack([start, stop]).ravel())[::2] if len(start) else np.empty(0)
        return np.where(stop > start, found, np.nan)
    return find


def _slope(view: View) -> np.ndarray:
    """Least squares: (n Sxy - Sx Sy) / (n Sxx - Sx^2), in hundredths of a point per year of 365.25 days."""
    start, stop = _window(view)
    rows, y = view.records.edss
    n, origin = stop - start, view.day
    days, squares, sy = _sum(rows.day, start, stop), _sum(rows.day**2, start, stop), _sum(y, start, stop)
    sx, sxx = days - n * origin, squares - 2 * origin * days + n * origin**2
    sxy = _sum(rows.day * y, start, stop) - origin * sy
    last = np.append(rows.day, 0)
    far = (n > 1) & (last[np.maximum(stop - 1, 0)] - last[start] >= SLOPE_DAYS)
    return _over((n * sxy - sx * sy) * HUNDREDTHS, np.where(far, 2 * (n * sxx - sx**2), 0))


def _visits(view: View) -> np.ndarray:
    rows = view.records.visits[0]
    found = (rows.upto(view.patient, view.day) - rows.upto(view.patient, view.day - view.baseline.history_days - 1)).astype(float)
    return _unless(view, view.records.dropped("visits"), view.baseline.history_days)(found)


# -- relapses and treatments -----------------------------------------------------------------------------------------------------


def _relapses(days: int) -> Callable[[View], np.ndarray]:
    def find(view: View) -> np.ndarray:
        rows = view.records.relapses
        found = (rows.upto(view.patient, view.day) - rows.upto(view.patient, view.day - days)).astype(float)
        return _unless(view, view.records.dropped("relapses"), days - 1)(found)
    return find


def _since_relapse(view: View) -> np.ndarray:
    rows = view.records.relapses
    since = rows.last_value(rows.day, view.patient, view.day, LONGEST_DAYS)
    return _unless(view, view.records.dropped("relapses"), LONGEST_DAYS, since)(view.day - since)


def _course_now(view: View) -> tuple[np.ndarray, np.ndarray]:
    """The course of treatment that has begun and not ended: its place (-1: none), and its first day."""
    rows, columns = view.records.treatments
    at = rows.upto(view.patient, view.day) - 1
    padded = np.append(rows.patient, -1), np.append(rows.day, 0), np.append(columns["end"], 0)
    on = (at >= 0) & (padded[0][at] == view.patient) & (padded[2][at] > view.day)
    return np.where(on, at, -1), padded[1][at]


def _dmt(view: View) -> np.ndarray:
    names, levels = view.records.registry.treatment_list.names, view.codebook["dmt"].labels or ()
    place = [float(levels.index(one)) if one in levels else np.nan for one in names]
    at = _course_now(view)[0]
    code = np.append(view.records.treatments[1]["dmt"], -1)[at]
    return np.where(_drug_unknown(view), np.nan, np.array([*place, float(levels.index(UNTREATED))])[code])


def _drug_unknown(view: View) -> np.ndarray:
    """Whether a treatment that was dropped may have been the one of the day.

    A treatment that began later ends it, as `cleaning` ends one where the next starts: for good where nobody says when it ended,
    else as long as the later one lasts.
    """
    rows = view.records.treatments[0]
    traces = view.records.dropped("treatments", "end_date")
    query, trace = traces.pairs(view.patient)
    day = view.day[query]
    at = _course_now(view)[0]
    begun = rows.last_value(rows.day, view.patient, view.day, LONGEST_DAYS)[query]
    ended = (traces.last[trace] < begun) & (np.isinf(traces.until[trace]) | (at >= 0)[query])
    open_ = (traces.first[trace] <= day) & (traces.until[trace] > day) & ~ended
    return traces.hit(query[open_], len(view.day))


def _before_unknown(view: View, since: np.ndarray) -> np.ndarray:
    """Whether a treatment that was dropped may have begun before time zero, and after the day `since` (NaN: ever)."""
    start = np.where(np.isnan(since), -np.inf, since)
    return view.records.dropped("treatments").begun(view.patient, start, view.day - 1)


def _class_of(view: View, at: np.ndarray) -> np.ndarray:
    levels = view.codebook["dmt_class"].labels or ()
    place = [float(levels.index(one)) for one in (*EFFICACY, UNTREATED)]
    return np.array(place)[np.append(view.records.treatments[1]["efficacy"], -1)[at]]


def _class_before(view: View) -> np.ndarray:
    rows = view.records.treatments[0]
    at = rows.upto(view.patient, view.day - 1) - 1
    mine = (at >= 0) & (np.append(rows.patient, -1)[at] == view.patient)
    since = np.where(mine, np.append(rows.day, 0)[at], np.nan)
    return np.where(_before_unknown(view, since), np.nan, _class_of(view, np.where(mine, at, -1)))


def _days_on(view: View) -> np.ndarray:
    at, start = _course_now(view)
    return np.where((at >= 0) & ~_drug_unknown(view), view.day - start, np.nan)


def _switches(view: View) -> np.ndarray:
    rows, columns = view.records.treatments
    other = np.zeros(len(rows.day), dtype=np.int64)
    other[1:] = (np.diff(rows.patient) == 0) & (np.diff(columns["dmt"]) != 0)
    found = _sum(other, np.searchsorted(rows.patient, view.patient), rows.upto(view.patient, view.day - 1)).astype(float)
    return np.where(_before_unknown(view, np.full(len(view.day), np.nan)), np.nan, found)


_HISTORY = "from {history} days before time zero to that day"
_NOW = "last known from {now} days before time zero to that day"
COVARIATES: dict[str, Covariate] = {one.name: one for one in (
    Covariate("index_date", "patients", "time zero", lambda view: view.day.astype(float)),
    Covariate("index_year", "patients", "calendar year of time zero", _year),
    Covariate("age", "patients", "completed years of age at time zero; a birth known to the month was on the 15th, to the year on 1 July",
              lambda view: _years(view.day - _birth(view))),
    Covariate("age_at_onset", "patients", "completed years of age at first symptoms", lambda view: _years(_onset(view) - _birth(view))),
    Covariate("sex", "patients", "sex", _level("sex")),
    Covariate("onset_course", "patients", "course at onset", _level("onset_course")),
    Covariate("disease_duration", "patients", "years since first symptoms at time zero, in completed tenths",
              lambda view: _years(view.day - _onset(view), 10), 0.1),
    Covariate("course", "visits", "course at the last visit up to time zero that says", _course),
    Covariate("edss", "visits", f"EDSS, {_NOW}", _last("edss")),
    Covariate("edss_mean", "visits", f"mean EDSS {_HISTORY}, in hundredths", _scored(_mean), 0.01),
    Covariate("edss_max", "visits", f"highest EDSS {_HISTORY}", _scored(_extreme(np.maximum))),
    Covariate("edss_min", "visits", f"lowest EDSS {_HISTORY}", _scored(_extreme(np.minimum))),
    Covariate("edss_slope", "visits", f"least-squares change of EDSS per year {_HISTORY}, from visits at least {SLOPE_DAYS} days apart",
              _scored(_slope), 0.01),
    Covariate("visits_in_window", "visits", f"visits {_HISTORY}", _visits),
    Covariate("sdmt", "visits", f"Symbol Digit Modalities Test, {_NOW}", _last("sdmt")),
    Covariate("t25fw_s", "visits", f"timed 25-foot walk, {_NOW}", _last("t25fw_s")),
    Covariate("nhpt_dom_s", "visits", f"nine-hole peg test of the dominant hand, {_NOW}", _last("nhpt_dom_s")),
    *(Covariate(f"relapses_{name}", "relapses", f"relapses that began in the {days} days up to and including time zero", _relapses(days))
      for name, days in MONTHS.items()),
    Covariate("days_since_relapse", "relapses", "days since the last onset of a relapse; missing where there was none", _since_relapse),
    Covariate("dmt", "treatments", "treatment at time zero, one that begins that day included", _dmt, treated=True),
    Covariate("dmt_class", "treatments", "efficacy class of the treatment at time zero",
              lambda view: np.where(_drug_unknown(view), np.nan, _class_of(view, _course_now(view)[0])), treated=True),
    Covariate("dmt_class_before", "treatments", "efficacy class of the last treatment that began before time zero", _class_before,
              like="dmt_class"),
    Covariate("days_on_dmt", "treatments", "days on the treatment of time zero; missing where there is none", _days_on),
    Covariate("dmt_switches", "treatments", "changes to another treatment that began before time zero", _switches),
    Covariate("t2_lesion_count", "mri", f"T2 lesions of the brain, {_NOW}", _last("t2_lesion_count", "mri")),
    Covariate("new_t2_count", "mri", f"new T2 lesions of the brain, {_NOW}", _last("new_t2_count", "mri")),
    Covariate("gd_lesion_count", "mri", f"gadolinium-enhancing lesions of the brain, {_NOW}", _last("gd_lesion_count", "mri")),
)}
