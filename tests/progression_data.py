"""Tables for the tests of disability outcomes: the published examples with MSprog's results, and random patients."""

import numpy as np
import pandas as pd

from .helpers import shared

EPOCH = pd.Timestamp("1970-01-01")
NAMES = {"visits": {"id": "patient_id", "date": "visit_date", "EDSS": "edss", "SDMT": "sdmt"},
         "relapses": {"id": "patient_id", "date": "relapse_onset_date"}}
FILES = {"toy": (("msprog_toy", "toydata_visits.csv"), ("msprog_toy", "toydata_relapses.csv")),
         "sample": (("msoutcomes", "sampledata_visits_edss.csv"), ("msoutcomes", "sampledata_relapses_derived.csv"))}

# the README beside the results: file name -> settings, everything else at its default
SETTINGS = {
    "default_12w": {}, "conf24w": {"conf_days": 168}, "conf48w": {"conf_days": 336},
    "conf24w_tol30": {"conf_days": 168, "conf_tol_days": 30},
    "sustained": {"require_sust_days": 1e9},
    "multiple_roving_rawpira_12w": {"event": "multiple", "baseline": "roving"},
    "multiple_roving_rawpira_24w": {"event": "multiple", "baseline": "roving", "conf_days": 168},
    "firstPIRA_roving_24w": {"event": "first_pira", "baseline": "roving", "conf_days": 168},
    "firstRAW_roving_12w": {"event": "first_raw", "baseline": "roving"}, "firstCDI_24w": {"event": "first_cdi", "conf_days": 168},
    "firstCDW_rovingimpr_24w": {"baseline": "roving_impr", "conf_days": 168},
    "proceed_from_event": {"event": "multiple", "baseline": "roving", "proceed_from": "event"},
    "relapse_rebl": {"event": "multiple", "baseline": "roving", "relapse_rebl": True},
}
RESULTS = ["toy__" + name for name in SETTINGS] + ["sample__" + name for name in (
    "default_12w", "conf24w", "sustained", "multiple_roving_rawpira_12w")]


def tables(name):
    """(visits, relapses) of the toy data of MSprog or the sample of MSoutcomes."""
    visits, relapses = (pd.read_csv(shared("data", *path), dtype={"id": str}) for path in FILES[name])
    return visits.rename(columns=NAMES["visits"]), relapses.rename(columns=NAMES["relapses"])


def results(file):
    """MSprog's results."""
    return pd.read_csv(shared("reference", "progression", f"{file}.csv"), dtype={"id": str, "Unnamed: 0": str})


def one(days, values, relapses=(), patient="a"):
    """(visits, relapses) of one patient, with days as whole numbers."""
    return ({"patient_id": np.full(len(days), patient), "visit_date": np.array(days), "edss": np.array(values, float)},
            {"patient_id": np.full(len(relapses), patient), "relapse_onset_date": np.array(relapses, np.int64)})


def random_tables(seed, patients=60, step=0.5):
    """(visits, relapses) as data frames: visits every one to twelve months, scores that wander, relapses now and then."""
    random = np.random.default_rng(seed)
    visits, relapses = [], []
    for k in range(patients):
        n = random.integers(1, 16)
        day = 15_000 + np.cumsum(random.integers(20, 300, n))
        edss = np.clip(random.choice([1.0, 2, 4, 5.5, 6]) + step * np.cumsum(random.choice([-2, -1, 0, 0, 0, 1, 1, 2], n)), 1, 9)
        visits.append(pd.DataFrame({"patient_id": f"p{k:03d}", "visit_date": EPOCH + pd.to_timedelta(day, "D"), "edss": edss}))
        onsets = random.integers(15_000, 17_500, random.integers(0, 5))
        relapses.append(pd.DataFrame({"patient_id": f"p{k:03d}", "relapse_onset_date": EPOCH + pd.to_timedelta(onsets, "D")}))
    return pd.concat(visits, ignore_index=True), pd.concat(relapses, ignore_index=True)
