"""Confirmed disability worsening (CDW) and improvement (CDI), relapse-associated (RAW) or independent of relapses (PIRA).

How this works: `progression_tables` reads visits and relapses into arrays, `progression_rules` turns the words of the definition into
numbers, `kernels` walks the visits of each patient once, and this file puts the rows together. Named study definitions, with their
citations, are in `definitions`; disability milestones in `milestone`.

The parameters and their defaults are those of MSprog (Montobbio et al., Mult Scler 2024;30:1185), whose results the tests compare with.
Two things differ on purpose: EDSS 10 is death and ends observation (`edss_10="value"` makes it a score like others), and nothing is random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from .progression_events import Events, lag
from .progression_rules import RELAPSE_INDEP, Tolerance, choice, confirmation_days
from .progression_rules import rules as read_rules
from .progression_tables import History, history
from .thresholds import threshold

CDW_TYPES = np.array(["", "RAW", "PIRA", "undefined"])                                              # in the order of the kernel's codes
EVENT_TYPES = np.array(["none", "CDW", "CDI"])                                                      # 0, +1, -1
REASONS = np.array(["confirmed", "no confirmation visit", "not confirmed", "not sustained"])
CENSOR = ("last_visit", "last_confirmable")
EDSS_10 = ("competing", "value")
NOT_SETTINGS = ("visits", "relapses", "valid_confirmation", "origin", "deaths", "columns")      # data, not definition
RULES = ("event", "baseline", "conf_days", "conf_tol_days", "require_sust_days", "check_intermediate", "relapse_to_bl", "relapse_to_event",
         "relapse_to_conf", "relapse_assoc", "relapse_indep", "proceed_from", "relapse_rebl", "bl_geq", "sub_threshold_rebl",
         "skip_local_extrema", "impute_last_visit", "return_unconfirmed")


def worsening(visits: Any, relapses: Any = None, *, outcome: str = "edss", event: str = "first_cdw", baseline: str = "fixed",
              conf_days: float | Sequence[float] = 84, conf_tol_days: Tolerance = (7, 730.5), require_sust_days: float = 0,
              check_intermediate: bool = True, relapse_to_bl: float | Sequence[float] = 30, relapse_to_event: float | Sequence[float] = 0,
              relapse_to_conf: float | Sequence[float] = 30, relapse_assoc: float | Sequence[float] = 90,
              relapse_indep: Mapping[str, Any] | None = RELAPSE_INDEP, proceed_from: str = "firstconf", relapse_rebl: bool = False,
              bl_geq: bool = False, sub_threshold_rebl: str = "none", skip_local_extrema: str = "none", impute_last_visit: float = 0,
              thresholds: Mapping[str, Any] | None = None, half_step_from: float = 5.5, valid_confirmation: Any = None, origin: Any = None,
              return_unconfirmed: bool = False, deaths: Any = None, edss_10: str = "competing", censor: str = "last_visit",
              columns: Mapping[str, str] | None = None) -> Events:
    """Events of confirmed worsening or improvement, one row per patient and event; patients without one have a row with nevent 0.

    visits : table with patient_id, visit_date and the outcome (`edss`); relapses : table with patient_id and relapse_onset_date.
    columns : {name here: name in the tables} where they are called otherwise. Days are whole; order of rows does not matter.

    event : first_cdw, first_cdi, first_pira, first_raw, first (of either direction) or multiple (all of both).
    baseline : fixed, or moved by confirmed events: roving (all), roving_impr (improvements), roving_wors (worsenings).
    conf_days, conf_tol_days : a visit from conf_days - left to conf_days + right after the event must still show the change, and with
        check_intermediate all visits up to it, without it the first visit that may confirm; several conf_days (their whole days count):
        one of them is enough, each has its columns.
    require_sust_days : the change must be seen at all visits within so many days, or to the end of follow-up (inf: always to the end);
        without check_intermediate at the first visit after them. A change that was confirmed and did not last moves a roving reference.
    relapse_to_bl, relapse_to_event, relapse_to_conf : days since the last relapse, or (since the last, until the next); 0 asks nothing.
        A reference too near to a relapse moves to the next visit. Relapses so long before the first visit that they do not keep it from
        being the reference are not looked at: for nothing, RAW included.
    relapse_assoc : a worsening so soon after a relapse onset is RAW. relapse_indep : relapse-free days (before, after) around the visit
        before ("prec", which of them: "prec_type" baseline, last or last_delta), the event and its confirmation make it PIRA; both days
        included, (0, 0) asks nothing, None reaches to the neighbouring checkpoint. RAW goes before PIRA; neither is "undefined".
    proceed_from : the search goes on, and a roving reference moves to, the first confirmation ("firstconf") or the event ("event").
    relapse_rebl : after a relapse the first visit that may be one becomes the reference, as soon as there is a change (or the visit after
        one) more than relapse_assoc days after the relapse; changes up to then are compared with the old reference.
    bl_geq : with relapse_rebl, a new reference is never a lower number than the old one. sub_threshold_rebl : change, improvement or
        worsening below the threshold, if confirmed, moves a roving reference. skip_local_extrema : a value above (or below) both
        neighbours is no reference ("strict": by at least the threshold; never if it is the value of the visit before the last).
    impute_last_visit : 1: an unconfirmed worsening at the last visit counts; N > 1: if within N days of time zero.
    thresholds, half_step_from : see `thresholds`. valid_confirmation : a column of visits (or flags) that may confirm.
    origin : time zero per patient, {patient: date}, a table with origin_date, or one date for all: events lie after it; the last fitting
        visit up to it is the reference. Without it: the first visit.
    return_unconfirmed : changes that came to nothing, and why, in `.unconfirmed`.
    deaths : {patient: date} or a table with death_date. Death ends observation, as a competing event; EDSS 10 too, unless edss_10="value".
    censor : last_visit, or last_confirmable: without an event, time ends at the last visit at which one could have been confirmed (0 if
        there is none); death stays where it is.

    Raises InputError for tables and arguments that cannot be understood.
    """
    settings = {name: value for name, value in locals().items() if name not in NOT_SETTINGS}
    rule = threshold(outcome, half_step_from=half_step_from, thresholds=thresholds)
    asked = read_rules(rule, **{name: settings[name] for name in RULES})
    dies = choice("edss_10", edss_10, EDSS_10) == 0 and outcome == "edss"
    until = choice("censor", censor, CENSOR)
    if relapses is None and event in ("first_pira", "first_raw"):
        raise InputError(f"{event} needs to know about relapses", hint="give the table of relapses; an empty one says that nobody had any")
    past = history(visits, relapses, rule, valid_confirmation=valid_confirmation, origin=origin, deaths=deaths, death_at_ten=dies,
                   columns=columns)
    found, reference, confirmable = _scan(past, asked)
    days, confirmed = confirmation_days(conf_days), found.outcome == 0
    rows = _rows(past, _only(found, confirmed), reference, confirmable if until else None, days)
    if relapses is None:
        # no table says nothing about relapses; an empty one says that there were none
        unknown = [name for name in rows if name.startswith("pira_")]
        rows |= {"cdw_type": np.full_like(rows["cdw_type"], "")} | dict.fromkeys(unknown, np.full(len(rows["date"]), np.nan))
    lags = {one: lag(rows[f"conf{one:g}_date"] - rows["date"]) for one in days}
    dated = {name: _dates(values, past.dates) if name.endswith("date") else values for name, values in rows.items()}
    unconfirmed = _unconfirmed(past, _only(found, ~confirmed)) if return_unconfirmed else None
    return Events(dated, _flow(past, rows, confirmable), lags, unconfirmed, settings)


def _scan(past: History, asked: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """Run the kernel: the changes found, and per patient the first reference and the last confirmable visit (-1: none)."""
    from . import kernels

    n, patients = len(past.day), len(past.patients)
    seen, found = kernels.room_for_marks(past.day, past.value.copy()), kernels.room_for(n, len(asked.windows))
    reference, confirmable = np.empty(patients, np.int64), np.empty(patients, np.int64)
    rows = kernels.worsening_events(seen, past.valid, past.starts, past.onsets, past.relapse_starts, past.zero, asked, found, reference,
                                    confirmable)
    return kernels.Found(*(column[:rows + 1] for column in found)), reference, confirmable


def _only(found: Any, outcomes: np.ndarray) -> Any:
    """The rows with these outcomes, and the row of nothing at the end."""
    keep = np.append(outcomes[:-1], True)
    return found if keep.all() else type(found)(*(column[keep] for column in found))


def _rows(past: History, found: Any, reference: np.ndarray, confirmable: np.ndarray | None, days: list[float]) -> dict[str, np.ndarray]:
    """The columns of Events, with days as numbers (NaN: none)."""
    patients, day = len(past.patients), past.day.astype(float)
    eventless = np.flatnonzero(np.bincount(found.patient[:-1], minlength=patients) == 0)
    patient = np.concatenate([found.patient[:-1], eventless])
    source = np.concatenate([np.arange(len(found.patient) - 1), np.full(len(eventless), -1)])     # -1: the row of nothing
    order = np.lexsort((found.visit[source], patient))
    patient, source = patient[order], source[order]
    found = type(found)(*(column[source] for column in found))
    has, date, bl_date = source >= 0, _at(found.visit, day), _at(found.reference, day)
    zero, last = past.zero[patient], past.starts[1:] - 1
    until = np.where(has, date, _censored(past, confirmable)[patient])
    rows = {
        "patient_id": past.patients[patient], "nevent": np.where(has, np.arange(len(patient)) - np.searchsorted(patient, patient) + 1, 0),
        "event_type": EVENT_TYPES[found.direction], "cdw_type": CDW_TYPES[found.kind],
        "date": date, "value": _at(found.visit, past.value), "bl_date": bl_date, "bl_value": found.reference_value,
        "last_delta_date": _at(found.last_delta, day), "last_delta_value": found.last_delta_value,
        "time2event": until.astype(np.int64) - zero, "bl2event": date - bl_date, "total_fu": past.end[patient] - zero}
    for k, one in enumerate(days):
        rows |= {f"conf{one:g}_date": _at(found.conf[:, k], day), f"conf{one:g}_value": _at(found.conf[:, k], past.value),
                 f"pira_conf{one:g}_date": _at(found.pira_conf[:, k], day),
                 f"pira_conf{one:g}_value": _at(found.pira_conf[:, k], past.value)}
    seen_after = (reference >= 0) & (past.day[last] > np.maximum(past.day[reference], past.zero))
    return rows | {
        "sust_days": _at(found.sustained, day) - date, "sust_last": has & (found.sustained == last[patient]),
        "imputed": has & (found.conf < 0).all(1), "at_risk": seen_after[patient], "competing": past.competing[patient]}


def _at(visit: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The entries of some visits; NaN for visit -1."""
    return np.where(visit >= 0, column[visit], np.nan)


def _censored(past: History, confirmable: np.ndarray | None) -> np.ndarray:
    """The last day of each patient without an event; confirmable : the last visit that could have been confirmed, if that counts."""
    if confirmable is None:
        return past.end
    return np.where(past.competing, past.end, np.where(confirmable >= 0, past.day[confirmable], past.zero))


def _dates(values: np.ndarray, dates: bool) -> np.ndarray:
    """Days since 1970 as dates, NaN as NaT; numbers stay numbers."""
    if not dates:
        return values
    whole = np.where(np.isnan(values), 0, values).astype(np.int64).astype("datetime64[D]")
    return np.where(np.isnan(values), np.datetime64("NaT", "D"), whole)


def _unconfirmed(past: History, found: Any) -> dict[str, np.ndarray]:
    """Changes of at least the threshold that are no event, and why."""
    day, found = past.day.astype(float), type(found)(*(column[:-1] for column in found))
    return {"patient_id": past.patients[found.patient], "event_type": EVENT_TYPES[found.direction],
            "date": _dates(day[found.visit], past.dates), "value": past.value[found.visit],
            "bl_date": _dates(day[found.reference], past.dates), "bl_value": found.reference_value,
            "time2event": past.day[found.visit] - past.zero[found.patient], "reason": REASONS[found.outcome]}


def _flow(past: History, rows: dict[str, np.ndarray], confirmable: np.ndarray) -> dict[str, int]:
    """How patients came through: {step: count}."""
    first = rows["nevent"] <= 1
    single, risk, event = np.diff(past.starts) == 1, rows["at_risk"][first], rows["nevent"][first] > 0
    return past.flow | {
        "single_visit": int(single.sum()), "without_reference": int((~risk & ~single).sum()), "at_risk": int(risk.sum()),
        "with_event": int(event.sum()), "events": int((rows["nevent"] > 0).sum()), "competing": int((~event & risk & past.competing).sum()),
        "censored": int((~event & risk & ~past.competing).sum()), "never_confirmable": int((risk & (confirmable < 0)).sum())}

