"""How near synthetic registries come to published numbers: prevalences of EDSS, relapse rates, visit gaps, treatment. Reads tables only.

    python -m fedstats.ms.synthetic.report [patients] [seed]

Prevalence at a duration (or age): one EDSS per patient, that of the visit nearest to it and at most `WITHIN` years off; so patients with
many visits do not count more. The published tables are cross-sectional and mostly of early treatment; the generated registries are
compared with them as they are, treatments included, and again as they would be if nobody were treated.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from .course import Forced
from .generator import Synthetic, registries
from .parameters import Parameters, parameters
from .people import DAYS, EPOCH_YEAR

WITHIN = 1.0            # years
TOLERANCE = 0.06        # 6 percentage points
JUDGED = ("10", "20")   # durations whose prevalences must agree; all ages must
JUDGED_EDSS = ("3", "4", "6")
SHARES = (0.40, 0.25, 0.15, 0.10, 0.05, 0.03, 0.01, 0.01)       # of patients by registry, for the printed report


def report(found: Mapping[str, Synthetic], *, p: Parameters | None = None) -> dict[str, Any]:
    """The comparison, all registries together.

    prevalence : one row per target: scale (duration, age), at, edss, patients, published, generated, off (their difference),
    judged (whether it must agree). arr, arr_untreated, gap (quartiles of days between visits), visits (mean and SD per patient),
    follow_up (mean years), never_treated, first_class (shares), relapses_12m and edss before the first treatment by class.
    """
    p = parameters() if p is None else p
    rows = [row for scale in ("duration", "age") for row in _prevalences(found, scale, p["targets_" + scale])]
    return {"prevalence": rows, **_activity(found), **_treatment(found)}


def lines(result: Mapping[str, Any], p: Parameters | None = None) -> list[str]:
    """The report as sentences and a table."""
    p = parameters() if p is None else p
    out = ["scale     at  EDSS>=  patients  published  generated  off (points)"]
    for one in result["prevalence"]:
        mark = "" if not one["judged"] else " ok" if abs(one["off"]) <= TOLERANCE else " OUTSIDE"
        out.append(f"{one['scale']:<8} {one['at']:>3}  {one['edss']:>6}  {one['patients']:>8}  {one['published']:>9.3f}  "
                   f"{one['generated']:>9.3f}  {100 * one['off']:>+6.1f}{mark}")
    low, high = p["target_arr"]
    quarter, half, three = result["gap"]
    middle = p["target_gap"]["median"]
    arr, untreated = result["arr"], result["arr_untreated"]
    out += [f"relapses per patient and year: {arr:.3f} (stated {low:g} to {high:g}); before any treatment {untreated:.3f}",
            f"days between visits: median {half:.0f} (stated {middle[0]:g} to {middle[1]:g}), quartiles {quarter:.0f} and {three:.0f}",
            f"visits per patient: mean {result['visits'][0]:.1f}, SD {result['visits'][1]:.1f}; follow-up {result['follow_up']:.1f} years",
            f"never treated: {100 * result['never_treated']:.1f} %"]
    for name, share in result["first_class"].items():
        out.append(f"first treatment {name}: {100 * share:.1f} %, before it {result['relapses_12m'][name]:.2f} relapses in a year, "
                   f"EDSS {result['edss'][name]:.2f}")
    return out


def agrees(result: Mapping[str, Any], p: Parameters | None = None) -> bool:
    """Whether every judged number is within its range."""
    p = parameters() if p is None else p
    near = all(abs(one["off"]) <= TOLERANCE for one in result["prevalence"] if one["judged"])
    low, high = p["target_gap"]["median"]
    return near and p["target_arr"][0] <= result["arr"] <= p["target_arr"][1] and low <= result["gap"][1] <= high


def _prevalences(found: Mapping[str, Synthetic], scale: str, targets: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    places = [_visits(one, scale) for one in found.values()]
    rows = []
    for at, wanted in targets.items():
        edss = np.concatenate([_nearest(*visits, float(at)) for visits in places])
        for threshold, published in wanted.items():
            share = float((edss >= float(threshold)).mean()) if len(edss) else float("nan")
            judged = (scale == "age" or at in JUDGED) and threshold in JUDGED_EDSS
            rows.append({"scale": scale, "at": at, "edss": threshold, "patients": len(edss), "published": published, "generated": share,
                         "off": share - published, "judged": judged})
    return rows


def _numbered(one: Synthetic, table: str) -> np.ndarray:
    """The row of the table of patients that each row belongs to."""
    number = {patient: k for k, patient in enumerate(one.tables["patients"]["patient_id"].tolist())}
    return np.array([number[patient] for patient in one.tables[table]["patient_id"].tolist()], dtype=np.int64)


def _visits(one: Synthetic, scale: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patient, years since onset or birth, EDSS, of visits that have one."""
    visits, patients, who = one.tables["visits"], one.tables["patients"], _numbered(one, "visits")
    if scale == "duration":
        years = (visits["visit_date"] - patients["onset_date"][who]).astype(np.int64) / DAYS
    else:
        # born in the middle of the year
        years = EPOCH_YEAR + visits["visit_date"].astype(np.int64) / DAYS - patients["birth_year"][who] - 0.5
    known = ~np.isnan(visits["edss"])
    return who[known], years[known], visits["edss"][known]


def _nearest(who: np.ndarray, years: np.ndarray, edss: np.ndarray, at: float) -> np.ndarray:
    """One EDSS per patient."""
    near = np.abs(years - at) <= WITHIN
    order = np.lexsort((np.abs(years[near] - at), who[near]))
    patients, values = who[near][order], edss[near][order]
    return values[np.append(True, patients[1:] != patients[:-1])] if len(values) else values


def _activity(found: Mapping[str, Synthetic]) -> dict[str, Any]:
    relapses = years = untreated = without = 0.0
    gaps, counts = [], []
    for one in found.values():
        patients, who = one.tables["patients"], _numbered(one, "relapses")
        entry, end = patients["entry_date"], patients["last_contact_date"]
        day = one.tables["relapses"]["relapse_onset_date"]
        relapses += float((day >= entry[who]).sum())
        years += float((end - entry).astype(np.int64).sum() / DAYS)
        first = np.full(len(entry), np.datetime64("2262-01-01", "D"))
        np.minimum.at(first, _numbered(one, "treatments"), one.tables["treatments"]["start_date"])
        until = np.maximum(np.minimum(first, end), entry)
        untreated += float(((day >= entry[who]) & (day < until[who])).sum())
        without += float((until - entry).astype(np.int64).sum() / DAYS)
        owner, when = _numbered(one, "visits"), one.tables["visits"]["visit_date"].astype(np.int64)
        gaps.append(np.diff(when)[np.diff(owner) == 0])
        counts.append(np.bincount(owner, minlength=len(entry)))
    visits, patients_seen = np.concatenate(counts), sum(len(one.tables["patients"]["patient_id"]) for one in found.values())
    return {"arr": relapses / years, "arr_untreated": untreated / max(without, 1e-9), "follow_up": years / patients_seen,
            "gap": [float(one) for one in np.percentile(np.concatenate(gaps), (25, 50, 75))],
            "visits": [float(visits.mean()), float(visits.std())]}


def _treatment(found: Mapping[str, Synthetic]) -> dict[str, Any]:
    """Who gets which first treatment: confounding by indication, from the tables."""
    classes: dict[str, list[tuple[int, float]]] = {"low": [], "moderate": [], "high": []}
    drugs = {one["name"]: one["class"] for one in parameters()["drugs"]}
    never = patients = 0
    for one in found.values():
        treated, names = _numbered(one, "treatments"), one.tables["treatments"]["dmt_name"]
        start = one.tables["treatments"]["start_date"]
        size = len(one.tables["patients"]["patient_id"])
        patients += size
        never += size - len(np.unique(treated))
        begins = np.append(True, treated[1:] != treated[:-1]) if len(treated) else np.empty(0, bool)
        day, drug = np.full(size, np.datetime64("NaT", "D")), np.full(size, None, dtype=object)
        day[treated[begins]], drug[treated[begins]] = start[begins], names[begins]
        whose, relapse = _numbered(one, "relapses"), one.tables["relapses"]["relapse_onset_date"]
        recent = np.bincount(whose[(relapse <= day[whose]) & (relapse > day[whose] - 365)], minlength=size)
        owner, visit = _numbered(one, "visits"), one.tables["visits"]
        here = visit["visit_date"] == day[owner]
        edss = np.full(size, np.nan)
        edss[owner[here]] = visit["edss"][here]
        for k in treated[begins].tolist():
            if drug[k] in drugs:
                classes[drugs[drug[k]]].append((int(recent[k]), float(edss[k])))
    total = max(1, sum(map(len, classes.values())))
    return {"never_treated": never / patients, "first_class": {one: len(rows) / total for one, rows in classes.items()},
            "relapses_12m": {one: float(np.mean([row[0] for row in rows])) if rows else float("nan") for one, rows in classes.items()},
            "edss": {one: float(np.nanmean([row[1] for row in rows])) if rows else float("nan") for one, rows in classes.items()}}


def main(patients: int = 20_000, seed: int = 1) -> None:
    """Print the report for registries of so many patients together."""
    sizes = [max(1, round(share * patients)) for share in SHARES]
    found = registries(seed, sizes=sizes)
    print(f"{patients} synthetic patients in {len(sizes)} registries, seed {seed}, as generated (treated):")
    print("\n".join(lines(report(found))))
    print("\nthe same people if nobody were ever treated:")
    untreated = report(registries(seed, sizes=sizes, forced=Forced(0)))
    print("\n".join(lines({**untreated, "first_class": {}})))


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:3]))
