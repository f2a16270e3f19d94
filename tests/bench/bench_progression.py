"""How many visits per second confirmed worsening takes on one core: prints, asserts nothing about time.

    python -m tests.bench.bench_progression [patients]

Synthetic visits every six months or so with relapses, `worsening(event="multiple", baseline="roving")` after warm-up: with the reading of
the tables (identifiers as text, dates as dates, shuffled or not), and the kernel alone. Goal: a million visits per second and core.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from fedstats.ms.outcomes import progression
from fedstats.ms.outcomes.definitions import definition
from fedstats.ms.outcomes.progression_rules import rules
from fedstats.ms.outcomes.progression_tables import history
from fedstats.ms.outcomes.thresholds import threshold

PATIENTS, RUNS, GOAL = 100_000, 5, 1e6


def tables(patients: int, seed: int = 1) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """About 14 visits and 3 relapses per patient; EDSS as a noisy walk upwards."""
    random = np.random.default_rng(seed)
    visits, relapses = random.poisson(13, patients) + 1, random.poisson(3, patients)
    who, whose = np.repeat(np.arange(patients), visits), np.repeat(np.arange(patients), relapses)
    gap = np.maximum(1, random.lognormal(np.log(190), 0.5, len(who))).astype(int)
    first = np.concatenate([[0], np.cumsum(visits)[:-1]])
    total = np.cumsum(gap)
    day = total - total[first][who] + 12_000
    walk = np.cumsum(random.choice([-0.5, 0, 0, 0, 0.5, 0.5, 1], len(who)))
    edss = np.clip(2 + 0.5 * np.round(2 * (walk - walk[first][who]) / 2), 0, 9.5)
    ids = np.array([f"p{k:07d}" for k in range(patients)], object)
    return ({"patient_id": ids[who], "visit_date": day.astype("datetime64[D]"), "edss": np.where(edss == 0.5, 1.0, edss)},
            {"patient_id": ids[whose], "relapse_onset_date": (12_000 + random.integers(0, 5000, len(whose))).astype("datetime64[D]")})


def best(work) -> float:
    """The shortest of a few runs, in seconds."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main(patients: int) -> None:
    visits, relapses = tables(patients)
    n = len(visits["edss"])
    order = np.random.default_rng(2).permutation(n)
    shuffled = {name: column[order] for name, column in visits.items()}
    texts = {**visits, "visit_date": visits["visit_date"].astype(str).astype(object)}
    start = time.perf_counter()
    events = progression.worsening(visits, relapses, event="multiple", baseline="roving")
    print(f"{n} visits of {patients} patients; first call, with compilation or its cache: {time.perf_counter() - start:.1f} s")
    print(events)
    rule = threshold("edss")
    past, asked = history(visits, relapses, rule, death_at_ten=True), rules(rule, event="multiple", baseline="roving")
    for name, work in {
        "worsening(event=multiple, baseline=roving)": lambda: progression.worsening(visits, relapses, event="multiple", baseline="roving"),
        "the same, rows shuffled": lambda: progression.worsening(shuffled, relapses, event="multiple", baseline="roving"),
        "the same, dates as text": lambda: progression.worsening(texts, relapses, event="multiple", baseline="roving"),
        "kernel alone": lambda: progression._scan(past, asked),
        "pira24": lambda: definition("pira24").find(visits, relapses),
    }.items():
        seconds = best(work)
        print(f"{name:45s} {seconds:6.3f} s   {n / seconds / 1e6:6.2f} million visits per second   (goal {GOAL / 1e6:g})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PATIENTS)
