"""How fast synthetic registries are made, how near they come to the published numbers, and how well
it can be told who worsens: prints, asserts nothing.

    python -m tests.bench.bench_natural_history [patients] [seed]

Goal: 100 000 patients with about 1.4 million visits in under 60 s.
"""

from __future__ import annotations

import resource
import sys
import time

from fedstats.ms.synthetic import registries
from fedstats.ms.synthetic.report import SHARES, lines, report

from ..predictability import YEARS, auc, starters

PATIENTS, GOAL = 100_000, 60.0      # seconds
SEEDS, FOR_MODELS = range(1, 6), 10_000     # patients of each seed


def main(patients: int = PATIENTS, seed: int = 1) -> None:
    begin = time.perf_counter()
    found = registries(seed, sizes=[max(1, round(share * patients)) for share in SHARES])
    took = time.perf_counter() - begin
    visits = sum(len(one.tables["visits"]["patient_id"]) for one in found.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 ** 2
    print(f"{patients} patients, {visits} visits in {took:.1f} s on one core (goal {GOAL:g} s), at most {memory:.1f} GB")
    begin = time.perf_counter()
    result = report(found)
    print(f"report in {time.perf_counter() - begin:.1f} s")
    print("\n".join(lines(result)))
    for one in SEEDS:
        predictable(one)


def predictable(seed: int) -> None:
    """Prints the ROC-AUC of two plain models of confirmed worsening after the first treatment."""
    made = registries(seed, sizes=[max(1, round(share * FOR_MODELS)) for share in SHARES])
    rows = starters(made)
    for years in YEARS:
        found = {kind: auc(rows, years, kind) for kind in ("logistic", "boosting")}
        n, share, _ = found["logistic"]
        print(f"seed {seed}, {years} years: {n} patients, {share:.1%} worsen; ROC-AUC "
              + ", ".join(f"{kind} {one[2]:.3f}" for kind, one in found.items()), flush=True)


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:3]))
