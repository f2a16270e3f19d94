"""How long a sealed Cox regression takes, beside lifelines on the pooled table: prints seconds and ratios, asserts nothing.

    OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_cox [patients]

What is compared. One table of 100 000 patients, 10 covariates, 10 years: for lifelines pooled, for fedstats split over five registries. Of
lifelines the time of `CoxPHFitter().fit` alone is taken, on the true days and on the same 30-day grid; what its `summary` and
`concordance_index_` take on top is printed too. Of fedstats the whole query is taken, with everything that the result holds: model-based
and robust errors, tests, proportional hazards, concordance with its error, baseline. With one baseline it is on the 30-day grid, with
strata(registry) on true days. `pooled` and `simulate` have all parties in one process on one core, `connect` a process per party on
loopback.

Warm-up. Every world has answered a mean before, so that programs are loaded and tables read; then the same model is asked twice ("first":
a registry sorts its rows for this model; "again": they are there). lifelines is imported and has fitted 1000 patients before; the better
of two fits is taken. Goals: the whole query on loopback within twice lifelines' fit; local sums below 50 ms per iteration and 100 000 rows.
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
from fedstats.analyses.regression.cox.curvature import cox_curvature
from fedstats.analyses.regression.cox.params import call
from fedstats.analyses.regression.cox.risk import cox_risk
from fedstats.analyses.regression.cox.strata import cox_registry
from fedstats.data.rows import load
from fedstats.demo.laptop import Laptop, prepare
from fedstats.sums.statistic import answer

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
    """A federation of processes on loopback."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder) / "fed", tables, DICTIONARY, rules=Rules(), round_seconds=120.0)
        with Laptop(Path(folder) / "fed", round_seconds=120.0) as here:
            yield fedstats.connect(here.consortium, key=here.key)


def lifelines_fits(frame: pd.DataFrame) -> tuple[Any, dict[str, float]]:
    """The fit on the grid, and seconds of the fit on true days and on the grid."""
    from lifelines import CoxPHFitter

    frame = frame.astype(float)
    tables = {"true days": frame, "30-day grid": frame.assign(time=np.ceil(frame["time"] / 30) * 30)}
    CoxPHFitter().fit(frame.head(1000), "time", "event")
    seconds, fits = {}, {}
    for label, one in tables.items():
        seconds[label] = best(lambda one=one, label=label: fits.__setitem__(label, CoxPHFitter().fit(one, "time", "event")), 2)
        summary, index = best(lambda label=label: fits[label].summary, 1), best(lambda label=label: fits[label].concordance_index_, 1)
        print(f"lifelines, {label:12s} fit alone {seconds[label]:6.2f} s; its summary {summary:.2f} s and concordance {index:.2f} s on top")
    return fits["30-day grid"], seconds


def main(patients: int = PATIENTS) -> None:
    frame, dictionary = table(patients), Dictionary.from_dict(DICTIONARY)
    tables = {f"r{k}": frame.iloc[k::REGISTRIES] for k in range(REGISTRIES)}
    print(f"{patients} patients, {int(frame['event'].sum())} events, {REGISTRIES} registries, {COVARIATES} covariates")
    theirs, seconds = lifelines_fits(frame)
    for label, beside, keywords in (("one baseline", "30-day grid", {}), ("strata(registry)", "true days", {"strata": "registry"})):
        for name in ("pooled", "simulate", "connect"):
            with laptop(tables) if name == "connect" else nullcontext(getattr(fedstats, name)(tables, dictionary=dictionary)) as fed:
                fed.cohort().summary(["x1"])
                took = []
                for confidence in (0.95, 0.9):      # the very same question would be answered from the ledger
                    start = time.perf_counter()
                    result = fed.cohort().cox(time="time", event="event", covariates=NAMES, confidence=confidence, **keywords)
                    took.append(time.perf_counter() - start)
            ratios = " and ".join(f"{min(took) / one:.2f} of lifelines' fit on {where}" for where, one in seconds.items())
            print(f"{label:16s} on {beside:11s} {name:8s} first {took[0]:5.2f} s, again {took[1]:5.2f} s; the better is {ratios}; "
                  f"{result.cost}", flush=True)
        if not keywords:
            gap = max(abs(result[name].coef - theirs.params_[name]) / result[name].se for name in NAMES)
            print(f"largest difference from lifelines on that grid: {gap:.1g} standard errors (released numbers are rounded)")
    rows = load(frame, dictionary)[0]
    beta, frame = [0.1] * COVARIATES, [[0.0, 1.0, -1.0, 1.0]] * COVARIATES
    hazards = {"place": list(range(1, 123)), "hazard": [0.01] * 122, "spared": [0.001] * 122, "ends": [10, 20, 30, 40, 50, 60, 80, 122]}
    kinds = (("risk sums on the grid", cox_risk, {}, {}), ("information on the grid", cox_curvature, {}, hazards),
             ("own likelihood on true days", cox_registry, {"strata": "registry"}, {}))
    for label, statistic, keywords, more in kinds:
        model = msgspec.to_builtins(call(time="time", event="event", covariates=NAMES, **keywords).model)
        ask = statistic(model=model, beta=beta, frame=frame, **more)
        start = time.perf_counter()
        answer(ask, rows)
        first = time.perf_counter() - start
        again = best(functools.partial(answer, ask, rows))
        print(f"{label:30s} {patients} rows: {1e3 * first:.0f} ms at first, then {1e3 * again:.0f} ms")


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:2]))
