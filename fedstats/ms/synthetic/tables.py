"""From lives to tables: what a registry knows of its patients, in the format of `tables`, with cells missing and faults planted."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tables.dmt import shipped
from . import draws
from .course import Course
from .parameters import Parameters
from .people import COURSES, DAYS, EPOCH_YEAR, PPMS, SPMS, People, trait

Columns = dict[str, np.ndarray]
(CENTRE, NO_DIAGNOSIS, NO_TREATMENTS, NO_EDSS, NO_SDMT, SDMT, REPORTED, NO_T2, NO_GD, NO_REASON, STEROIDS,
 PLANT_BIRTH, PLANT_EDSS, PLANT_SDMT, PLANT_DRUG, NO_SECONDS, WALKS, WALK, HANDS, HAND, OTHER_HAND,
 THINKS) = range(80, 102)
SHORT_RELAPSE, LONG_RELAPSE = 14, 60            # days that a relapse lasts, as written
MODERATE_STEP, SEVERE_STEP = 2, 4               # half steps of EDSS from which a relapse is called so
NO_BIRTH_YEAR, NO_EDSS_VALUE, NO_SDMT_VALUE, NO_DRUG = 1804, 0.5, 999.0, "a drug that does not exist"    # the planted faults


def tables(name: str, group: People, life: Course, p: Parameters, planted: float = 0.0) -> tuple[dict[str, Columns], dict[str, int]]:
    """The five tables of a registry, {table: {column: (rows,)}}, and how many faults of each kind were planted in them.

    planted : share of rows with a birth in 1804, EDSS 0.5, SDMT 999, or a drug that is none; dates are datetime64[D].
    """
    until = np.fmin(group.end, life.died)
    ids = np.array([f"{name}-{k:06d}" for k in range(1, len(group) + 1)], dtype=object)
    reasons = ["inefficacy", *p["stop_reasons"]]
    found = {"patients": _patients(name, ids, group, life, until, p), "visits": _visits(ids, group, life, until, p),
             "relapses": _relapses(ids, group, life, until, p), "treatments": _treatments(ids, group, life, until, reasons, p),
             "mri": _mri(ids, group, life, until, p)}
    # a registry has nobody without a visit
    seen = np.bincount(found["visits"]["who"], minlength=len(group)) > 0
    counts: dict[str, int] = {}
    for table, columns in found.items():
        who = columns.pop("who") if "who" in columns else np.arange(len(group))
        found[table] = {column: values[seen[who]] for column, values in columns.items()} if not seen.all() else columns
    places = np.flatnonzero(seen)
    if planted:
        counts = _plant(found, group.key[places], dict(zip(ids[places], range(len(places)))), planted)
    return found, counts


def _day(onset: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Days from onset as dates; NaN as NaT."""
    known = ~np.isnan(day)
    return np.where(known, np.where(known, onset + day, 0).astype(np.int64).astype("datetime64[D]"), np.datetime64("NaT", "D"))


def _patients(name: str, ids: np.ndarray, group: People, life: Course, until: np.ndarray, p: Parameters) -> Columns:
    n, died, lost = len(group), life.died <= until, group.left
    centres = max(1, min(p["centres_per_registry"]["most"], n // p["centres_per_registry"]["patients_each"]))
    centre = np.floor(centres * draws.uniform(group.key, CENTRE) ** 1.5).astype(int)        # some are larger than others
    diagnosed = np.where(draws.uniform(group.key, NO_DIAGNOSIS) < p["missing"]["diagnosis_date"], np.nan, group.diagnosed)
    turned = life.converted <= until
    exits = np.array(["none", *p["loss_kinds"], "death"], dtype=object)
    return {
        "patient_id": ids, "site_id": np.array([f"{name}-{k + 1}" for k in range(centres)], dtype=object)[centre],
        "sex": np.where(group.female, "F", "M").astype(object),
        "birth_year": np.floor(EPOCH_YEAR + group.onset / DAYS - group.age).astype(np.int64),
        "onset_date": _day(group.onset, np.zeros(n)), "onset_date_precision": np.full(n, "day", dtype=object),
        "diagnosis_date": _day(group.onset, diagnosed),
        "onset_course": np.where(group.progressive, "progressive", "relapsing").astype(object),
        "course_current": np.array(COURSES, dtype=object)[np.where(group.progressive, PPMS, np.where(turned, SPMS, 0))],
        "progression_onset_date": _day(group.onset, np.where(group.progressive, 0.0, np.where(turned, np.floor(life.converted), np.nan))),
        "entry_date": _day(group.onset, group.entry), "last_contact_date": _day(group.onset, until),
        "death_date": _day(group.onset, np.where(died, life.died, np.nan)), "exit_reason": exits[np.where(died, len(exits) - 1, lost)]}


def _rows(table: Columns, group: People, until: np.ndarray, entry: bool) -> tuple[Columns, np.ndarray, np.ndarray, np.ndarray]:
    """The rows until the end (and from entry on): columns, patients, days, keys."""
    who, day = table["who"], table["day"]
    keep = day <= until[who]
    if entry:
        keep &= day >= group.entry[who]
    kept = {column: values[keep] for column, values in table.items()}
    return kept, kept["who"], kept["day"], group.key[kept["who"]]


def _visits(ids: np.ndarray, group: People, life: Course, until: np.ndarray, p: Parameters) -> Columns:
    rows, who, day, key = _rows(life.visits, group, until, True)
    edss = np.where(draws.uniform(key, NO_EDSS, day) < p["missing"]["edss"], np.nan, rows["edss"])
    s = p["sdmt"]
    thinks = -trait(key, group.worsens[who], THINKS, p["frailty_shows"]["sdmt"])
    sdmt = (s["mean"] + s["per_edss"] * rows["true_edss"] + s["per_year_of_age"] * (group.age[who] + day / DAYS - 40)
            + s["patient_sd"] * thinks + s["sd"] * draws.normal(key, SDMT, day))
    sdmt = np.where(draws.uniform(key, NO_SDMT, day) < p["missing"]["sdmt"], np.nan, np.clip(np.round(sdmt), 0, 110))
    return {"who": who, "patient_id": ids[who], "visit_date": _day(group.onset[who], day), "edss": edss,
            "course_at_visit": np.array(COURSES, dtype=object)[rows["course"]], "sdmt": sdmt,
            **_seconds(rows["true_edss"], day, key, group.worsens[who], p)}


def _seconds(edss: np.ndarray, day: np.ndarray, key: np.ndarray, worsens: np.ndarray, p: Parameters
             ) -> Columns:
    """Timed 25-foot walk and nine-hole peg test: lognormal around a mean by EDSS that each patient has, known on the same visits."""
    t, n, shows = p["t25fw"], p["nhpt"], p["frailty_shows"]
    walks = trait(key, worsens, WALKS, shows["walk"])
    walk = t["patient_sd"] * walks + t["sd"] * draws.normal(key, WALK, day)
    hands = n["patient_sd"] * trait(key, worsens, HANDS, shows["hands"])
    found = {"t25fw_s": np.where(edss <= t["worst_edss"], t["seconds"] * np.exp(t["per_edss"] * edss + walk), np.nan)}
    for name, purpose, ratio in (("nhpt_dom_s", HAND, 1.0), ("nhpt_nondom_s", OTHER_HAND, n["other_hand"])):
        found[name] = ratio * n["seconds"] * np.exp(n["per_edss"] * edss + hands + n["sd"] * draws.normal(key, purpose, day))
    known = draws.uniform(key, NO_SECONDS, day) >= p["missing"]["walk_and_hands"]
    return {name: np.where(known, np.round(values, 1), np.nan) for name, values in found.items()}


def _relapses(ids: np.ndarray, group: People, life: Course, until: np.ndarray, p: Parameters) -> Columns:
    rows, who, day, key = _rows(life.relapses, group, until, False)
    told = draws.uniform(key, REPORTED, day) < p["relapse_reported"]
    who, day, key, step, lasting = who[told], day[told], key[told], rows["step"][told], rows["lasting"][told]
    severity = np.array(["mild", "moderate", "severe"], dtype=object)[(step >= MODERATE_STEP) + 1 * (step >= SEVERE_STEP)]
    recovery = np.where(lasting == 0, "complete", np.where(lasting < step, "partial", "none")).astype(object)
    steroids = draws.uniform(key, STEROIDS, day)
    days = np.floor(SHORT_RELAPSE + (LONG_RELAPSE - SHORT_RELAPSE) * steroids)
    return {"who": who, "patient_id": ids[who], "relapse_onset_date": _day(group.onset[who], day), "duration_days": days.astype(np.int64),
            "severity": severity, "steroids": steroids < 0.25 * (1 + (step >= MODERATE_STEP) + (step >= SEVERE_STEP)), "recovery": recovery}


def _treatments(ids: np.ndarray, group: People, life: Course, until: np.ndarray, reasons: list[str], p: Parameters) -> Columns:
    """One row per course; a treatment that goes on has no end."""
    rows, who, day, key = _rows(life.treatments, group, until, False)
    next_is_same = np.append(who[1:] == who[:-1], False)
    ends = np.where(next_is_same, np.append(day[1:], np.nan), np.nan) if len(day) else day
    why = np.where(next_is_same, np.append(rows["reason"][1:], -1), -1) if len(day) else rows["reason"]
    unknown = draws.uniform(key, NO_REASON, day) < p["missing"]["stop_reason"]
    told = (rows["drug"] >= 0) & (draws.uniform(key, NO_TREATMENTS) >= p["missing"]["treatments"])
    names = np.array([one["name"] for one in p["drugs"]], dtype=object)
    codes = {one.name: one.atc[0] for one in shipped().treatments if one.atc}
    atc = np.array([codes.get(one, "") for one in names], dtype=object)
    labels = np.array([*reasons, "unknown", None], dtype=object)        # the last, -1: it goes on
    why = np.where((why >= 0) & unknown, len(reasons), why)[told]
    who, drug = who[told], rows["drug"][told]
    return {"who": who, "patient_id": ids[who], "dmt_name": names[drug], "atc": atc[drug], "start_date": _day(group.onset[who], day[told]),
            "end_date": _day(group.onset[who], ends[told]), "stop_reason": labels[why]}


def _mri(ids: np.ndarray, group: People, life: Course, until: np.ndarray, p: Parameters) -> Columns:
    rows, who, day, key = _rows(life.mri, group, until, True)
    t2 = np.where(draws.uniform(key, NO_T2, day) < p["missing"]["t2_lesion_count"], np.nan, rows["t2"])
    gd = np.where(draws.uniform(key, NO_GD, day) < p["missing"]["gd_lesion_count"], np.nan, rows["gd"])
    before = np.append(False, who[1:] == who[:-1])
    return {"who": who, "patient_id": ids[who], "mri_date": _day(group.onset[who], day), "region": np.full(len(who), "brain", dtype=object),
            "t2_lesion_count": t2, "new_t2_count": np.where(before, rows["new_t2"], np.nan), "gd_lesion_count": gd}


def _plant(found: dict[str, Columns], key: np.ndarray, places: dict[Any, int], share: float) -> dict[str, int]:
    counts = {}
    kinds: tuple[tuple[str, str, int, Any], ...] = (
        ("patients", "birth_year", PLANT_BIRTH, NO_BIRTH_YEAR), ("visits", "edss", PLANT_EDSS, NO_EDSS_VALUE),
        ("visits", "sdmt", PLANT_SDMT, NO_SDMT_VALUE), ("treatments", "dmt_name", PLANT_DRUG, NO_DRUG))
    for table, column, purpose, fault in kinds:
        rows = found[table]
        owner = np.array([places[one] for one in rows["patient_id"].tolist()], dtype=np.int64)
        number = np.arange(len(owner)) - np.searchsorted(owner, owner)          # of the row within its patient
        chosen = draws.uniform(key[owner], purpose, number) < share
        rows[column] = rows[column].copy()
        rows[column][chosen] = fault
        if table == "treatments":
            rows["atc"] = rows["atc"].copy()
            rows["atc"][chosen] = None
        counts[f"{table}.{column}"] = int(chosen.sum())
    return counts
