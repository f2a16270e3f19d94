"""How long a sealed question takes over real processes on loopback: prints seconds, asserts nothing about time.

    python -m tests.bench.bench_network

Five registries of 20 000 patients each; Kaplan-Meier by group on a 30-day grid over ten years, warm (the first query is not counted),
beside the same question pooled in one process. Then the idle round trip of a signed request, a long-poll's wake-up, and start times.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import fedstats
from fedstats import Rules
from fedstats.demo.laptop import Laptop, prepare

DICTIONARY = {"name": "bench", "variables": [
    {"name": "days", "type": "integer", "range": [0, 3650], "unit": "days", "cut_points": {"from": 0, "to": 3650, "step": 30}},
    {"name": "event", "type": "boolean"}, {"name": "arm", "type": "category", "levels": ["a", "b", "c"]},
    {"name": "age", "type": "integer", "range": [18, 90], "unit": "years"}]}
PATIENTS, REGISTRIES, RUNS = 20_000, 5, 7


def tables() -> dict:
    random = np.random.default_rng(1)
    return {f"r{k}": {"days": random.integers(1, 3650, PATIENTS), "event": random.random(PATIENTS) < 0.4,
                      "arm": random.choice(["a", "b", "c"], PATIENTS), "age": random.integers(18, 91, PATIENTS)} for k in range(REGISTRIES)}


def timed(work) -> list[float]:
    found = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return found


def line(name: str, seconds: list[float], unit: str = "s", factor: float = 1.0) -> None:
    low, middle, high = (factor * f(seconds) for f in (min, statistics.median, max))
    print(f"{name:58s} min {low:8.3f}  median {middle:8.3f}  max {high:8.3f} {unit}")


def wake_up(fed: fedstats.Federation) -> float:
    """Seconds from the posting of a query until the admission of the first registry lies in the analyst's mailbox.

    Asked for again and again, as an admission alone does not wake its reader.
    """
    from fedstats.wire.analyst import Analyst

    world = fed._world
    analyst = Analyst(world.me, world.roster, random=__import__("os").urandom)
    question = fed.cohort().question.summary(["age"]).question
    first = analyst.start([question], {"all": []}, world.registries, purpose="", now=time.time(), lifetime=60.0)
    world.link.post(bytes(first))
    start = time.perf_counter()
    while not world.link.mail(0, 0.0, analyst.T):
        pass
    seconds = time.perf_counter() - start
    time.sleep(0.5)             # until this query is over, which the next one would wait for
    return seconds


def main() -> None:
    data = tables()
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder, data, DICTIONARY, rules=Rules())
        with Laptop(folder) as here, fedstats.connect(here.consortium, key=here.key) as fed:
            cohort = fed.cohort()
            cohort.summary(["age"])                                 # warm
            ask = {"time": "days", "event": "event", "by": "arm"}
            cohort.kaplan_meier(**ask)
            sealed = timed(lambda: cohort.kaplan_meier(**ask))
            pooled = fedstats.pooled(data, dictionary=DICTIONARY, rules=Rules()).cohort()
            plain = timed(lambda: pooled.kaplan_meier(**ask))
            line(f"Kaplan-Meier by arm, sealed, {REGISTRIES} x {PATIENTS} patients", sealed)
            line("  the same, pooled in one process", plain)
            print(f"  ratio of medians {statistics.median(sealed) / statistics.median(plain):.1f}")
            line("summary of one column, sealed", timed(lambda: cohort.summary(["age"])))
            line("idle signed round trip", timed(lambda: fed._world.link.progress(bytes(32))), "ms", 1e3)
            line("query posted -> first admission in the mailbox", [wake_up(fed) for _ in range(RUNS)], "ms", 1e3)
    for name, program in (("import fedstats and its analyses", "import fedstats; fedstats.pooled"),
                          ("import of a node", "import nodes.service"), ("fedstats --help", "import fedstats.cli")):
        line(name, timed(lambda program=program: subprocess.run([sys.executable, "-c", program], check=True)))


if __name__ == "__main__":
    main()
