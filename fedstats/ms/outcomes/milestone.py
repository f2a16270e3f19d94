"""Disability milestones: the first visit at which a score is reached and confirmed (EDSS 3, 4, 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError
from .progression import EDSS_10, _dates
from .progression_events import Lag, frame, lag
from .progression_rules import Tolerance, choice, confirmation_days, rules
from .progression_tables import DEATH, History, history
from .thresholds import threshold

PREVALENT = ("count", "exclude")
ONSETS = ("crossing", "visit")


@dataclass(frozen=True)
class Milestones:
    """One row per patient: patient_id, date, value, time2event (days from time zero), observed (reached and confirmed), total_fu,
    conf<d>_date, conf<d>_value, prevalent (already there at time zero), at_risk (seen after time zero, not prevalent), competing.

    Without the milestone, date is the end of observation and value is NaN. flow, confirmation_lag : as in progression_events.Events.
    """

    columns: dict[str, np.ndarray]
    flow: dict[str, int]
    confirmation_lag: dict[float, Lag]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["patient_id"])

    def frame(self) -> Any:
        """The rows as a pandas data frame."""
        return frame(self.columns)


def milestone(visits: Any, level: float, relapses: Any = None, *, outcome: str = "edss", conf_days: float | Sequence[float] = 84,
              conf_tol_days: Tolerance = (7, 730.5), require_sust_days: float = 0, check_intermediate: bool = True,
              relapse_to_event: float | Sequence[float] = 0, relapse_to_conf: float | Sequence[float] = 30, impute_last_visit: float = 0,
              thresholds: Mapping[str, Any] | None = None, valid_confirmation: Any = None, origin: Any = None, prevalent: str = "count",
              onset: str = "crossing", deaths: Any = None, edss_10: str = "competing",
              columns: Mapping[str, str] | None = None) -> Milestones:
    """Time to a confirmed milestone: the first visit at `level` or beyond that the confirmation, and all visits up to it, still show.

    level : score to reach (for outcomes where lower is worse: or below).
    prevalent : what to do with patients who are there at time zero: "count" those whose milestone is confirmed as events at day 0 (as
        MSprog's value_milestone does), or "exclude" them, and those who have the score at their last visit up to time zero, counted in
        the flow (what a study of incidence wants).
    onset : "crossing" (as MSprog): only a first visit at the level, or one after a visit below it, can be the event, so that somebody who
        comes with EDSS 8 and is next seen after three years never reaches EDSS 3; "visit": any visit at the level that is confirmed.
    The other parameters are those of `progression.worsening`.
    """
    rule = threshold(outcome, thresholds=thresholds)
    dies = choice("edss_10", edss_10, EDSS_10) == 0 and outcome == "edss"
    if not rule.range[0] <= level <= rule.range[1] or (dies and level >= DEATH):
        raise InputError(f"the milestone {level:g} cannot be reached by {rule.title}",
                         hint="EDSS 10 is death: a competing event, unless edss_10='value'")
    asked = rules(rule, conf_days=conf_days, conf_tol_days=conf_tol_days, require_sust_days=require_sust_days,
                  check_intermediate=check_intermediate, relapse_to_event=relapse_to_event, relapse_to_conf=relapse_to_conf,
                  impute_last_visit=impute_last_visit)
    past = history(visits, relapses, rule, valid_confirmation=valid_confirmation, origin=origin, deaths=deaths, death_at_ten=dies,
                   columns=columns)
    days = confirmation_days(conf_days)
    crossing = choice("onset", onset, ONSETS) == 0
    rows = _rows(past, *_scan(past, float(level), crossing, asked), _there(past, float(level), rule.worse), days)
    keep = ~rows["prevalent"] if choice("prevalent", prevalent, PREVALENT) else np.ones(len(rows["prevalent"]), bool)
    flow = _flow(past, rows)
    kept = {name: values[keep] for name, values in rows.items()}
    lags = {one: lag(kept[f"conf{one:g}_date"] - kept["date"]) for one in days}
    return Milestones({name: _dates(values, past.dates) if name.endswith("date") else values for name, values in kept.items()}, flow, lags)


def _there(past: History, level: float, worse: int) -> np.ndarray:
    """Has the patient the score at the last visit up to time zero?"""
    code = np.repeat(np.arange(len(past.patients)), np.diff(past.starts))
    before = past.starts[:-1] + np.bincount(code[past.day <= past.zero[code]], minlength=len(past.patients)) - 1
    return (before >= past.starts[:-1]) & (worse * (past.value[before] - level) >= 0) if len(code) else np.zeros(len(past.patients), bool)


def _scan(past: History, level: float, crossing: bool, asked: Any) -> tuple[np.ndarray, np.ndarray]:
    """Per patient the visit that reached the level, and its confirmations (-1: none)."""
    from . import kernels

    patients = len(past.patients)
    reached, conf = np.empty(patients, np.int64), np.empty((patients, len(asked.windows)), np.int64)
    kernels.milestone_visits(kernels.room_for_marks(past.day, past.value), past.valid, past.starts, past.onsets, past.relapse_starts,
                             past.zero, level, crossing, asked, reached, conf)
    return reached, conf


def _rows(past: History, reached: np.ndarray, conf: np.ndarray, there_before: np.ndarray, days: list[float]) -> dict[str, np.ndarray]:
    """The columns of Milestones, with days as numbers (NaN: none)."""
    day, there = past.day.astype(float), reached >= 0

    def at(index: np.ndarray, of: np.ndarray) -> np.ndarray:
        return np.where(index >= 0, of[index] if len(of) else np.nan, np.nan)

    date = np.where(there, at(reached, day), past.end)
    prevalent = there & (date <= past.zero) | there_before
    rows = {"patient_id": past.patients, "date": date, "value": at(reached, past.value),
            "time2event": np.maximum(date - past.zero, 0).astype(np.int64), "observed": there, "total_fu": past.end - past.zero}
    for k, one in enumerate(days):
        rows[f"conf{one:g}_date"], rows[f"conf{one:g}_value"] = at(conf[:, k], day), at(conf[:, k], past.value)
    last = past.day[past.starts[1:] - 1] if len(past.patients) else past.zero
    return rows | {"prevalent": prevalent, "at_risk": ~prevalent & (last > past.zero), "competing": past.competing}


def _flow(past: History, rows: dict[str, np.ndarray]) -> dict[str, int]:
    """How patients came through: {step: count}."""
    risk, event = rows["at_risk"], rows["observed"] & ~rows["prevalent"]
    return past.flow | {
        "single_visit": int((np.diff(past.starts) == 1).sum()), "prevalent": int(rows["prevalent"].sum()), "at_risk": int(risk.sum()),
        "events": int(event.sum()), "competing": int((risk & ~event & past.competing).sum()),
        "censored": int((risk & ~event & ~past.competing).sum())}


