"""Outcomes and follow-up of a cohort: for every time zero how long it was observed, what ended that, and whether the event came first.

How this works: three days are found for each time zero. The event; the natural end of observation (death if there is one, else the last
visit or, on request, the last confirmable one); and a cut (another treatment, its end, the end of the study, the longest follow-up). The
earliest decides; on one day the event goes before death, death before the cut. Patients not at risk have no outcome (missing), are
counted, and stay in the cohort: whether somebody belongs to it never depends on what happens later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..outcomes.definitions import definition
from ..outcomes.milestone import milestone
from ..tables.dropped import UNKNOWN_DRUG
from .index import Episodes
from .limits import day_of
from .records import EDSS_STEP, Records
from .tree import Baseline, Death, FollowUp, Milestone, Relapse, Timed, Worsening

ENDS = ("event", "death", "treatment switched", "treatment stopped", "end of study", "longest follow-up", "last visit",
        "last confirmable visit")
EVENT, DEATH, SWITCHED, STOPPED, STUDY, LONGEST, LAST, CONFIRMABLE = range(len(ENDS))
MILESTONE: dict[str, Any] = {"conf_days": 168, "conf_tol_days": (7, 84), "onset": "visit", "prevalent": "exclude"}      # version 1
NO_RELAPSES, NO_SCORE, SINGLE, NO_REFERENCE, THERE, NO_TIME = (
    "relapses not recorded", "no visit with a score", "a single visit with a score", "no reference with a later visit after time zero",
    "reached before time zero", "no observation after time zero")
OPEN = "dropped records leave it open"
NEAR_RELAPSE = 90           # days: how far before a score a relapse matters to some definition (`relapse_assoc`)
AFTER_RELAPSE = 30          # and how far after it (`relapse_indep`)


Doubt = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Ends:
    """Observation of each time zero, days since 1970 as doubles. cut : infinite where nothing cuts; why_cut : place in ENDS."""

    last_visit: np.ndarray
    died: np.ndarray
    cut: np.ndarray
    why_cut: np.ndarray


@dataclass(frozen=True)
class Found:
    """An outcome. days, event, end : doubles, NaN for those not at risk; not_at_risk : {why: count}; count : relapses, if it is that.

    lag : days from an event to the visit that confirmed it, NaN without one; for what is confirmed.
    """

    days: np.ndarray
    event: np.ndarray
    end: np.ndarray
    not_at_risk: dict[str, int]
    count: np.ndarray | None = None
    lag: np.ndarray | None = None

    def flow(self, outcome: Timed) -> list[tuple[str, int]]:
        """Its steps of the flow."""
        ended = [int((self.end == one).sum()) for one in (EVENT, DEATH)]
        risk = int((~np.isnan(self.days)).sum())
        lines = [(f"not at risk: {why}", self.not_at_risk.get(why, 0)) for why in reasons(outcome)]
        lines += [("at risk", risk), ("events", ended[0]), ("died first", ended[1]), ("censored", risk - sum(ended))]
        return [(f"{outcome.name}: {text}", count) for text, count in lines if not (isinstance(outcome, Death) and text == "died first")]


def ends(follow_up: FollowUp, records: Records, zero: Episodes, longest: int) -> Ends:
    """When observation ends, whatever the outcome. longest : days of follow-up, see `Recipe.longest_days`."""
    visits = records.visits[0]
    died = records.died[zero.patient]
    at = np.searchsorted(visits.patient, zero.patient, side="right") - 1
    mine = (at >= 0) & (np.append(visits.patient, -1)[at] == zero.patient)
    last = np.where(mine, np.append(visits.day, 0)[at], zero.day)
    last = np.minimum(np.maximum(last, zero.day), died)
    cuts = [(STUDY, np.full(len(zero.day), np.inf if follow_up.end_date is None else day_of(follow_up.end_date, "follow_up.end_date"))),
            (LONGEST, zero.day + float(longest))]
    if follow_up.treatment != "ignore":
        records.need("treatments", "follow-up ends with a treatment")
        switched, stopped = _treatment_ends(records, zero, follow_up.grace_days)
        cuts = [(SWITCHED, switched), *([(STOPPED, stopped)] if follow_up.treatment == "switch_or_stop" else []), *cuts]
    days = np.stack([day for _, day in cuts])
    which = np.argmin(days, axis=0)         # the first of equals: in the order of the list
    return Ends(last, died, days[which, np.arange(len(zero.day))], np.array([code for code, _ in cuts])[which])


def _treatment_ends(records: Records, zero: Episodes, grace: int) -> tuple[np.ndarray, np.ndarray]:
    """Per time zero the first start of another treatment, and the end of its own unless taken up again within the grace days."""
    rows, columns = records.treatments
    n = len(rows.day)
    if not n:
        return np.full(len(zero.day), np.inf), np.full(len(zero.day), np.inf)
    change = np.ones(n, dtype=bool)         # another patient or treatment than the row before
    change[1:] = (np.diff(rows.patient) != 0) | (np.diff(columns["dmt"]) != 0)
    begins = change.copy()                  # or the same after a pause
    begins[1:] |= rows.day[1:] - columns["end"][:-1] > grace
    last_of_run = np.append(np.flatnonzero(begins)[1:], n) - 1
    at = rows.upto(zero.patient, zero.day) - 1
    safe = np.maximum(at, 0)
    on = (at >= 0) & (rows.patient[safe] == zero.patient) & (columns["end"][safe] > zero.day)
    # without a treatment the next start is a change; with one, the next row of another treatment
    next_change = np.append(np.flatnonzero(change), n)
    after = np.where(on, next_change[np.searchsorted(next_change, safe, side="right").clip(max=len(next_change) - 1)], at + 1)
    there = np.append(rows.patient, -1)[after] == zero.patient
    switched = np.where(there, np.append(rows.day, 0)[after], np.inf)
    current = np.where(on, columns["dmt"][safe], UNKNOWN_DRUG)
    switched = np.minimum(switched, _dropped_starts(records, zero, current))
    run = np.cumsum(begins) - 1
    stopped = np.where(on, columns["end"][last_of_run[run[safe]]], np.inf)
    return switched, stopped


def _dropped_starts(records: Records, zero: Episodes, current: np.ndarray) -> np.ndarray:
    """Per time zero the first day on which a treatment may have begun that was dropped, if it is not the one of that day."""
    traces, found = records.dropped("treatments"), np.full(len(zero.day), np.inf)
    query, trace = traces.pairs(zero.patient)
    other = (traces.dmt[trace] == UNKNOWN_DRUG) | (traces.dmt[trace] != current[query])
    later = other & (traces.last[trace] > zero.day[query])
    np.minimum.at(found, query[later], np.maximum(traces.first[trace], zero.day[query])[later])
    return found


def follow_up_days(zero: Episodes, ending: Ends) -> tuple[np.ndarray, np.ndarray]:
    """Days observed, and what ended them (place in ENDS)."""
    natural = np.where(np.isfinite(ending.died), ending.died, ending.last_visit)
    until = np.minimum(natural, ending.cut)
    why = np.where(ending.cut < natural, ending.why_cut, np.where(np.isfinite(ending.died), DEATH, LAST))
    return until - zero.day, why.astype(float)


def reasons(outcome: Timed) -> tuple[str, ...]:
    """Why somebody may not be at risk of an outcome: steps of the flow, the same at every registry."""
    if isinstance(outcome, Death):
        return NO_TIME, OPEN
    if isinstance(outcome, Relapse):
        return NO_RELAPSES, NO_TIME, OPEN
    return NO_RELAPSES, NO_SCORE, THERE if isinstance(outcome, Milestone) else SINGLE, NO_REFERENCE, OPEN


def find(outcome: Timed, records: Records, zero: Episodes, ending: Ends, baseline: Baseline, follow_up: FollowUp) -> Found:
    """An outcome of every time zero."""
    natural = np.where(np.isfinite(ending.died), ending.died, ending.last_visit)
    if isinstance(outcome, Death):
        contact = records.registry.patients["last_contact_date"][zero.patient]
        alive = np.fmax(ending.last_visit, contact)
        lost = np.isfinite(records.may_have_died[zero.patient])     # dead, but since when? alive as long as a cut comes first
        return _decide(zero, ending, ending.died, np.where(np.isfinite(ending.died), np.inf, alive), LAST,
                       doubt=lambda until: lost & (until >= alive))
    if isinstance(outcome, Relapse):
        if "relapses" not in records.recorded:
            return _nobody(zero)
        rows = records.relapses
        before = rows.upto(zero.patient, zero.day)
        mine = np.append(rows.patient, -1)[before] == zero.patient
        traces, until = records.dropped("relapses"), np.minimum(natural, ending.cut)
        found = _decide(zero, ending, np.where(mine, np.append(rows.day, 0)[before], np.inf), natural, LAST,
                        doubt=lambda until: traces.begun(zero.patient, zero.day + 1, until))
        count = rows.upto(zero.patient, until.astype(np.int64)) - before
        counted = ~np.isnan(found.days) & ~traces.begun(zero.patient, zero.day + 1, until)
        return Found(found.days, found.event, found.end, found.not_at_risk, np.where(counted, count, np.nan))
    if "relapses" not in records.recorded:
        return _nobody(zero)
    return _scores(outcome, records, zero, ending, baseline, follow_up)


def _nobody(zero: Episodes) -> Found:
    """A registry that keeps no relapses cannot say which visits lie near one: nobody is at risk, rather than by another definition."""
    nothing = np.full(len(zero.day), np.nan)
    return Found(nothing, nothing, nothing, {NO_RELAPSES: len(zero.day)}, nothing)


def _decide(zero: Episodes, ending: Ends, event: np.ndarray, natural: np.ndarray, last: int, at_risk: np.ndarray | None = None,
            why: dict[str, int] | None = None, doubt: Doubt | None = None) -> Found:
    """The earliest of event, natural end and cut. event : day, infinite if there is none; natural : day of death or last sight.

    doubt : where dropped records leave open whether it was so, given the last day looked at.
    """
    until = np.minimum(np.minimum(event, natural), ending.cut)
    natural_code = np.where(natural == ending.died, DEATH, last)
    end = np.where(event <= until, EVENT, np.where(natural <= until, natural_code, ending.why_cut)).astype(float)
    risk = until > zero.day if at_risk is None else at_risk
    counted = {NO_TIME: int((~risk).sum())} if why is None else why
    if doubt is not None:
        open_ = risk & doubt(until)
        counted, risk = counted | {OPEN: int(open_.sum())}, risk & ~open_
    days, happened, end = (np.where(risk, one, np.nan) for one in (until - zero.day, event <= until, end))
    return Found(days, happened, end, counted)


def _scores(outcome: Worsening | Milestone, records: Records, zero: Episodes, ending: Ends, baseline: Baseline, follow_up: FollowUp
            ) -> Found:
    """Confirmed worsening or a milestone: the progression functions, once per episode number, as they know one time zero per patient."""
    n, reached_before, number = len(zero.day), 0, zero.number
    at_risk, event, until, scored = np.zeros(n, bool), np.full(n, np.inf), zero.day.astype(float), np.zeros(n, np.int64)
    waited = np.full(n, np.nan)
    for k in range(int(number.max()) + 1 if n else 0):
        place = np.flatnonzero(number == k)
        who, day = zero.patient[place], zero.day[place]
        start, stop = np.full(records.patients, np.inf), np.full(records.patients, -np.inf)
        # a milestone asks whether the last score, however old, is there already
        start[who] = -np.inf if isinstance(outcome, Milestone) else day - baseline.now_days
        stop[who] = ending.cut[place] if follow_up.confirmation == "within" else np.inf
        visits, relapses, died = _tables(records, start, stop)
        scored[place] = np.bincount(visits["patient_id"], minlength=records.patients)[who]
        data: dict[str, Any] = {"origin": {"patient_id": who, "origin_date": day}, "deaths": died}
        if isinstance(outcome, Milestone):
            reached = milestone(visits, outcome.level, relapses, **MILESTONE, **data)
            rows, happened = reached.columns, reached["observed"]
            reached_before += reached.flow["prevalent"]
        else:
            events = definition(outcome.definition).find(visits, relapses, censor=outcome.censor, **data)
            rows, happened = events.columns, events["nevent"] > 0
        here = place[np.searchsorted(who, rows["patient_id"].astype(np.int64))]
        then = zero.day[here] + rows["time2event"]
        at_risk[here], event[here], until[here] = rows["at_risk"], np.where(happened, then, np.inf), np.where(happened, np.inf, then)
        waited[here] = _lag(rows)
    out = ~at_risk
    single = 0 if isinstance(outcome, Milestone) else int((out & (scored == 1)).sum())
    nothing = int((scored == 0).sum())
    why = {NO_SCORE: nothing, SINGLE: single, THERE: reached_before, NO_REFERENCE: int(out.sum()) - nothing - single - reached_before}
    last = CONFIRMABLE if isinstance(outcome, Worsening) and outcome.censor == "last_confirmable" else LAST
    found = _decide(zero, ending, event, until, last, at_risk, why,
                    _scores_dropped(records, zero, baseline, waited))       # without an event, death ends it or the last visit
    return dataclasses.replace(found, lag=np.where(found.event == 1, waited, np.nan))


def _scores_dropped(records: Records, zero: Episodes, baseline: Baseline, waited: np.ndarray) -> Doubt:
    """Where a score was dropped between the reference and the day that decided, or a relapse near that time.

    waited : days from an event to its confirmation, NaN without.
    """
    scores, relapses = records.dropped("visits", "edss"), records.dropped("relapses")
    rows = records.edss[0]
    since = rows.last_value(rows.day, zero.patient, zero.day, baseline.now_days)
    since = np.where(np.isnan(since), zero.day - baseline.now_days - 1, since)

    def doubt(until: np.ndarray) -> np.ndarray:
        decided = until + np.nan_to_num(waited, nan=0.0)
        return scores.begun(zero.patient, since + 1, decided) | relapses.begun(zero.patient, since - NEAR_RELAPSE,
                                                                               decided + AFTER_RELAPSE)
    return doubt


def _lag(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Days from the event to its first confirmation, NaN where there is none (an event at the last visit may stand without)."""
    found = np.full(len(rows["date"]), np.nan)
    for name in [name for name in rows if name.startswith("conf") and name.endswith("_date")]:
        days = (rows[name] - rows["date"]).astype("timedelta64[D]")
        found = np.where(np.isnan(found) & ~np.isnat(days), days.astype(float), found)
    return found


def _tables(records: Records, start: np.ndarray, stop: np.ndarray) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Scored visits from `start` to `stop` of each patient, relapses up to `stop`, and deaths."""
    rows, score = records.edss
    keep = (rows.day >= start[rows.patient]) & (rows.day <= stop[rows.patient]) & (rows.day < records.died[rows.patient])
    visits = {"patient_id": rows.patient[keep], "visit_date": rows.day[keep], "edss": score[keep] * EDSS_STEP}
    relapse = records.relapses
    keep = relapse.day <= stop[relapse.patient]
    relapses = {"patient_id": relapse.patient[keep], "relapse_onset_date": relapse.day[keep]}
    dead = np.flatnonzero(np.isfinite(records.died))
    return visits, relapses, {"patient_id": dead, "death_date": records.died[dead].astype(np.int64)}
