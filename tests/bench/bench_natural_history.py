"""How fast synthetic registries are made, and how near they come to the published numbers: prints, asserts nothing.

    python -m tests.bench.bench_natural_history [patients] [seed]

Goal: 100 000 patients with about 1.4 million visits in under 60 s.
"""

from __future__ import annotations

import resource
import sys
import time

from fedstats.ms.history_report import SHARES, lines, report
from fedstats.ms.synthetic import registries

PATIENTS, GOAL = 100_000, 60.0      # seconds


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


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:3]))
