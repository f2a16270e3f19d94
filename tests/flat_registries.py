"""Synthetic registries with one row per patient, for tests of flat tables. Pure: the same seed, the same rows.

How this works: every registry has its own size, case mix, DMT habits and risk (site effects). A patient has an age at onset, a
sex, a course, a duration and from them an EDSS; relapses of the previous year thin out with age; the more severe the recent
course, the stronger the drug that is given (confounding by indication). Follow-up is censored, worsening is exponential with the
true effects below, and some values are missing.

Parameters: onset and sex (Manouchehrinia 2017; Shirani 2012; MSBase, Mueller 2025), progressive onset 6.5 to 8.7 % (MSBase),
relapse rate 0.55 exp(-0.045 (age - 30)) with Gamma frailty of variance 0.6 after Schwehr 2020, EDSS by duration after the global
MSSS table, effects of drug classes on worsening from trials, pooled by class. Assumed: spread between sites, shares of missing values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NAMES = ("aarhus", "bari", "calgary", "dresden", "evora", "funchal", "graz", "haifa")
CLASSES = ("none", "moderate efficacy", "high efficacy")
EFFECT = {"none": 1.0, "moderate efficacy": 0.80, "high efficacy": 0.52}      # true hazard ratios of worsening, against no drug
SITE_SD = 0.25              # of the log hazard and of the log relapse rate between registries (assumed)
YEARLY_HAZARD = 0.055       # confirmed worsening per year at EDSS 2, age 40, no drug
DAYS = 365.25
LONGEST_DAYS = 3650         # of follow-up
MISSING = {"edss": 0.06, "relapses": 0.04, "dmt": 0.03}

DICTIONARY: dict[str, Any] = {
    "name": "synthetic MS registries",
    "description": "one row per patient at baseline; synthetic, nobody's data",
    "variables": [
        {"name": "age_onset", "type": "integer", "range": [8, 80], "unit": "years", "description": "age at first symptoms",
         "cut_points": [18, 25, 30, 35, 40, 45, 50, 60]},
        {"name": "age", "type": "integer", "range": [10, 100], "unit": "years", "description": "age at baseline",
         "cut_points": [18, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70]},
        {"name": "sex", "type": "category", "levels": ["female", "male"]},
        {"name": "course", "type": "category", "levels": ["RRMS", "SPMS", "PPMS"], "description": "course at baseline"},
        {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5, "description": "EDSS at baseline"},
        {"name": "relapses", "type": "integer", "range": [0, 12], "description": "relapses in the year before baseline",
         "cut_points": [1, 2, 3]},
        {"name": "dmt", "type": "category", "levels": list(CLASSES), "description": "class of disease-modifying treatment"},
        {"name": "days", "type": "integer", "range": [0, LONGEST_DAYS], "unit": "days", "description": "follow-up from baseline",
         "cut_points": {"from": 0, "to": LONGEST_DAYS, "step": 90}},
        {"name": "worsened", "type": "boolean", "description": "confirmed disability worsening at the end of follow-up"},
    ],
}


def registries(seed: int = 1, *, sites: int = 5, patients: int = 4000) -> dict[str, dict[str, np.ndarray]]:
    """Tables of several registries, {name: {column: values}}; patients : of all together, about. Missing cells are None.

    Columns are those of `DICTIONARY` and `patient_id`.
    """
    random = np.random.default_rng(seed)
    share = np.sort(random.lognormal(0.0, 0.6, sites))[::-1]
    sizes = np.maximum(120, np.round(patients * share / share.sum())).astype(int)
    return {name: registry(name, int(n), random) for name, n in zip(NAMES, sizes)}


def registry(name: str, n: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """One registry of n patients with effects of its own."""
    risk, activity, habit = random.normal(0, SITE_SD, 3)
    progressive = random.random(n) < 0.08
    onset = np.clip(np.round(np.where(progressive, random.normal(40, 10, n), random.normal(33, 10.5, n))), 8, 70).astype(int)
    female = random.random(n) < np.where(progressive, 0.5, 0.71)
    duration = np.minimum(random.gamma(1.4, 5.0, n), 80 - onset)
    age = np.clip(np.round(onset + duration), 10, 100).astype(int)
    edss = edss_after(duration, progressive, random)
    course = np.where(progressive, "PPMS", np.where((edss >= 4) & (random.random(n) < 0.02 * duration), "SPMS", "RRMS"))
    rate = 0.55 * np.exp(-0.045 * (age - 30) + activity) * random.gamma(1 / 0.6, 0.6, n) * np.where(course == "RRMS", 1.0, 0.4)
    relapses = np.minimum(random.poisson(rate), 12)
    dmt = drug(relapses, edss, age, habit, random)
    hazard = YEARLY_HAZARD * np.exp(risk + 0.10 * (edss - 2) + 0.015 * (age - 40) + 0.25 * relapses + 0.3 * (course != "RRMS"))
    hazard = hazard * np.array([EFFECT[one] for one in dmt.tolist()])
    until = random.exponential(1 / hazard)
    leaves = np.minimum(random.exponential(1 / 0.05, n), random.uniform(0.5, 10.0, n))
    days = np.clip(np.ceil(DAYS * np.minimum(until, leaves)), 1, LONGEST_DAYS).astype(int)
    table: dict[str, Any] = {"age_onset": onset, "age": age, "sex": np.where(female, "female", "male"), "course": course, "edss": edss,
                             "relapses": relapses, "dmt": dmt, "days": days, "worsened": until <= leaves}
    for column, portion in MISSING.items():
        gaps = random.random(n) < portion
        table[column] = np.array([None if gap else one for gap, one in zip(gaps, table[column].tolist())], dtype=object)
    return {"patient_id": np.array([f"{name}-{k:05d}" for k in range(1, n + 1)])} | table


def edss_after(duration: np.ndarray, progressive: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """EDSS in steps of 0.5, 0 to 9, never 0.5 (no such value exists); medians about 2 at 2 years and 5 at 20."""
    middle = 1.7 + 0.16 * duration + 1.5 * progressive
    found = middle * random.lognormal(0.0, 0.5, len(duration))
    steps = np.clip(np.round(2 * found), 0, 18) / 2
    return np.where(steps == 0.5, 1.0, steps)


def drug(relapses: np.ndarray, edss: np.ndarray, age: np.ndarray, habit: float, random: np.random.Generator) -> np.ndarray:
    """The class of drug: more relapses and more EDSS lead to stronger drugs, age to weaker ones; houses differ."""
    score = habit + 0.9 * relapses + 0.15 * (edss - 2) - 0.02 * (age - 40) + random.normal(0, 1, len(age))
    return np.where(score > 1.0, CLASSES[2], np.where(score > -0.4, CLASSES[1], CLASSES[0]))
