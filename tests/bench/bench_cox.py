"""How long a sealed Cox regression takes, beside lifelines on the pooled table: prints seconds and ratios, asserts nothing.

    OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_cox [patients]

Five registries, 10 covariates, a 30-day grid over 10 years, everything that the result holds: in one process (`pooled`, `simulate`: all
parties on one core) and with a process per party on loopback (`connect`, after a first query that loads the tables). Goals: the whole query
on loopback within twice lifelines' fit; local risk sums below 50 ms per iteration and 100 000 rows on one core.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses.cox.params import call
from fedstats.analyses.cox.risk import cox_risk
from fedstats.analyses.cox.strata import cox_registry
from fedstats.laptop import Laptop, prepare
from fedstats.rows import load
from fedstats.statistic import answer

PATIENTS, REGISTRIES, COVARIATES, REPEATS = 100_000, 5, 10, 5
NAMES = [f"x{j}" for j in range(COVARIATES)]
DICTIONARY = {"name": "bench", "variables": [
    *({"name": name, "type": "integer", "range": [0, 20]} if j % 2 else {"name": name, "type": "boolean"} for j, name in enumerate(NAMES)),
    {"name": "time", "type": "integer", "range": [0, 3660], "unit": "days", "cut_points": {"from": 0, "to": 3660, "step": 30}},
    {"name": "event", "type": "boolean"}]}


def table(n: int, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    columns = {name: random.integers(0, 21, n) if j % 2 else random.random(n) < 0.4 for j, name in enumerate(NAMES)}
    eta = sum((0.03 if j % 2 else 0.3) * (-1) ** j * np.asarray(columns[name], dtype=float) for j, name in enumerate(NAMES))
    event_time, censor = random.exponential(4000 * np.exp(-np.asarray(eta))), random.integers(1, 3660, n)
    return pd.DataFrame({**columns, "time": np.minimum(np.ceil(event_time), censor).astype(int), "event": event_time <= censor})


def best(what, repeats: int = REPEATS) -> float:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        what()
        found.append(time.perf_counter() - start)
    return min(found)


@contextmanager
def laptop(tables: dict[str, Any]) -> Iterator[Any]:
    """A federation of processes on loopback that has answered once."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder) / "fed", tables, DICTIONARY, rules=Rules(), round_seconds=120.0)
        with Laptop(Path(folder) / "fed", round_seconds=120.0) as here:
            fed = fedstats.connect(here.consortium, key=here.key)
            fed.cohort().summary(["x1"])
            yield fed


def main(patients: int = PATIENTS) -> None:
    from lifelines import CoxPHFitter

    frame, dictionary = table(patients), Dictionary.from_dict(DICTIONARY)
    tables = {f"r{k}": frame.iloc[k::REGISTRIES] for k in range(REGISTRIES)}
    gridded = frame.assign(time=np.ceil(frame["time"] / 30) * 30).astype(float)
    start = time.perf_counter()
    theirs = CoxPHFitter().fit(gridded, "time", "event")
    lifelines = time.perf_counter() - start
    print(f"lifelines, {patients} patients, {int(frame['event'].sum())} events: {lifelines:.2f} s")
    start = time.perf_counter()
    fedstats.simulate(tables, dictionary=dictionary).cohort().summary(["x1"])
    print(f"a sealed mean, for comparison: {time.perf_counter() - start:.2f} s")
    for label, keywords in (("one baseline, 30-day grid", {}), ("strata(registry), true days", {"strata": "registry"})):
        for name in ("pooled", "simulate", "connect"):
            with laptop(tables) if name == "connect" else nullcontext(getattr(fedstats, name)(tables, dictionary=dictionary)) as fed:
                start = time.perf_counter()
                result = fed.cohort().cox(time="time", event="event", covariates=NAMES, **keywords)
                took = time.perf_counter() - start
            print(f"{label:30s} {name:9s} {took:6.2f} s = {took / lifelines:5.2f} of lifelines; {result.cost}", flush=True)
        if not keywords:
            gap = max(abs(result[name].coef - theirs.params_[name]) / result[name].se for name in NAMES)
            print(f"largest difference from lifelines: {gap:.1g} standard errors (released numbers are rounded)")
    rows = load(frame, dictionary)[0]
    beta, frame = [0.1] * COVARIATES, [[0.0, 1.0, -1.0, 1.0]] * COVARIATES
    kinds = (("risk sums on the grid", cox_risk, {}), ("own likelihood on true days", cox_registry, {"strata": "registry"}))
    for label, statistic, keywords in kinds:
        model = msgspec.to_builtins(call(time="time", event="event", covariates=NAMES, **keywords).model)
        ask = statistic(model=model, beta=beta, frame=frame)
        start = time.perf_counter()
        answer(ask, rows)
        first = time.perf_counter() - start
        again = best(functools.partial(answer, ask, rows))
        print(f"{label:30s} {patients} rows: {1e3 * first:.0f} ms at first, then {1e3 * again:.0f} ms")


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:2]))
