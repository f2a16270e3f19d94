"""How long a cohort of 100 000 patients takes to compile into rows: prints seconds and memory, asserts nothing.

    python -m tests.bench.bench_cohort

About 1.4 million visits, 20 covariates, four outcomes, time zero at the first treatment; then five landmarks per patient with one outcome.
The tables are random and in memory: reading them is not counted.
"""

from __future__ import annotations

import resource
import time

from fedstats.ms import cohort
from tests.cohort_data import random_registry

PATIENTS = 100_000
COVARIATES = ["age", "sex", "disease_duration", "onset_course", "course", "edss", "edss_mean", "edss_max", "edss_min", "edss_slope",
              "visits_in_window", "relapses_6m", "relapses_12m", "relapses_24m", "days_since_relapse", "dmt_class", "days_on_dmt",
              "dmt_switches", "t2_lesion_count", "sdmt"]
OUTCOMES = [{"kind": "definition", "definition": "cdw24", "version": 1}, {"kind": "milestone", "level": 6}, {"kind": "relapse"},
            {"kind": "death"}]
TREES = {
    "first treatment, 20 covariates, 4 outcomes": {
        "index": {"event": "dmt_start"}, "covariates": COVARIATES, "eligibility": [["age", ">=", 18]], "outcomes": OUTCOMES,
        "follow_up": {"treatment": "switch_or_stop"}},
    "first visit, 20 covariates, no outcome": {"index": {"event": "first_visit"}, "covariates": COVARIATES},
    "5 landmarks of each, 20 covariates, cdw24": {
        "index": {"event": "every_visit", "gap_days": 360, "most": 5}, "covariates": COVARIATES, "outcomes": OUTCOMES[:1]},
}


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    start = time.perf_counter()
    small, registry = random_registry(200, seed=1), random_registry(PATIENTS, seed=1)
    print(f"{registry}: made in {time.perf_counter() - start:.1f} s, {megabytes():.0f} MB")
    for name, tree in TREES.items():
        recipe = cohort.compile(tree)
        recipe.derive(small)            # the kernels are compiled once
        start = time.perf_counter()
        rows = recipe.derive(registry).rows
        print(f"{name:45s} {rows.n:8d} rows {time.perf_counter() - start:6.2f} s, highest memory {megabytes():.0f} MB")
