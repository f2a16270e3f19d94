"""What the default release rules cost: numbers shown and hidden per analysis, and whether they are true; prints, asserts nothing.

    python -m tests.bench.bench_release [patients ...]        1000 and 4000 without an argument; 20000 takes minutes

Synthetic MS patients of five registries, one row per patient. `off` : the largest difference of a shown number
from the one without rules, in steps of its rounding; 0.5 is rounding alone. Last, two-way tables: cells hidden in
all against the fewest that could be (small cells and the best complement, by integer programming).
"""

from __future__ import annotations

import re
import sys

import msgspec
import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

import fedstats
from fedstats import Rules
from fedstats.disclosure import NO_RULES
from fedstats.disclosure.suppression import _primary, show_table
from fedstats.errors import FedstatsError
from fedstats.ms.synthetic import DATA_CUT, registries
from tests.test_truth import EXCEPTIONS, SAME_PLACE, leaves, step_of

PATIENTS = (1000, 4000)
SHARES = (0.34, 0.26, 0.18, 0.13, 0.09)     # of the patients, by registry
TREE = {
    "index": {"event": "dmt_start"},
    "covariates": ["age", "sex", "edss", "relapses_12m", "dmt_class", "disease_duration", "onset_course"],
    "eligibility": [["age", ">=", 18], ["edss", "missing", False]],
    "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1}, {"kind": "relapse", "version": 1}],
}
TIME = {"time": "cdw24_days", "event": "cdw24_event"}
ASKED = (
    ("summary", (["age", "edss", "disease_duration"],), {}),
    ("table_one", (["age", "sex", "edss", "relapses_12m", "disease_duration", "onset_course"],), {"by": "dmt_class"}),
    ("crosstab", ("sex", "dmt_class"), {}),
    ("histogram", ("edss",), {"by": "sex"}),
    ("quantiles", (["age", "edss"],), {}),
    ("compare", ("edss",), {"by": "sex"}),
    ("correlation", (["age", "edss", "disease_duration"],), {"method": "spearman"}),
    ("rates", (), {"events": "relapse_count", "time": "follow_up_days", "by": "sex"}),
    ("kaplan_meier", (), TIME),
    ("kaplan_meier", (), TIME | {"by": "dmt_class"}),
    ("logrank", (), TIME | {"by": "dmt_class"}),
    ("cox", ("Surv(cdw24_days, cdw24_event) ~ age + sex + edss",), {}),
    ("severity", ("msss",), {}),
)


def numbers(cohort_of, name, args, kwargs):
    """How many numbers there are, how many are shown, and the largest difference in steps of rounding."""
    try:
        result = getattr(cohort_of(Rules()), name)(*args, **kwargs)
    except FedstatsError as refused:
        return len(leaves(msgspec.to_builtins(getattr(cohort_of(NO_RULES), name)(*args, **kwargs)))), 0, 0.0, str(refused)
    more = {"tau": result.tau} if name == "kaplan_meier" and result.tau is not None else {}
    shown, free = msgspec.to_builtins(result), msgspec.to_builtins(getattr(cohort_of(NO_RULES), name)(*args, **kwargs | more))
    there = leaves(SAME_PLACE.get(name, lambda _, one: one)(shown, free))
    off = 0.0
    for place, value in leaves(shown).items():
        if any(one.kind in ("", name) and re.fullmatch(one.place, place) for one in EXCEPTIONS):
            continue
        if abs(gap := value - there.get(place, np.inf)) > 1e-12:
            off = max(off, abs(gap) / max(step_of(name, shown, place, there.get(place, 0.0)), 1e-12))
    return len(leaves(free)), len(leaves(shown)), off, ""


def fewest_hidden(counts: np.ndarray, rules: Rules) -> int:
    """Cells of a two-way table that must be hidden at least: the small ones, and others so that no shown line has
    one hidden cell alone. Binary x per cell: per line, the hidden cells are none, or two or more.

    A lower bound of what protection by ranges needs: where it is not enough, the truth is larger.
    """
    small = _primary(counts, np.full(counts.shape, 5), rules)
    rows, columns = counts.shape
    n = counts.size
    lines = [np.isin(np.arange(n) // columns, r) for r in range(rows)] + [np.arange(n) % columns == c for c in range(columns)]
    # x, then y per line (whether it has hidden cells): 2 y <= sum x <= size y
    most = np.array([np.concatenate([line, -np.where(np.arange(len(lines)) == k, line.sum(), 0)]) for k, line in enumerate(lines)])
    least = np.array([np.concatenate([line, -np.where(np.arange(len(lines)) == k, 2, 0)]) for k, line in enumerate(lines)])
    found = milp(np.concatenate([np.ones(n), np.zeros(len(lines))]), integrality=np.ones(n + len(lines)),
                 bounds=Bounds(np.concatenate([small.ravel(), np.zeros(len(lines))]), 1),
                 constraints=[LinearConstraint(most, -np.inf, 0), LinearConstraint(least, 0, np.inf)])
    return round(found.fun)


def suppression(tables: int = 60) -> None:
    """Random two-way tables with all margins shown: cells hidden against the fewest."""
    random, rules = np.random.default_rng(1), Rules(show_zeros=True)
    hidden = least = small = 0
    for k in range(tables):
        shape = ((3, 4), (2, 5), (4, 5))[k % 3]
        counts = random.poisson(random.gamma(1.2, 30, shape))
        lines = [np.zeros(size, dtype=bool) for size in shape]
        if (counts.sum(axis=0) < rules.min_cell).any() or (counts.sum(axis=1) < rules.min_cell).any():
            continue
        hidden += int((show_table(counts, np.full(shape, 5), rules, margins_hidden=lines).cells < 0).sum())
        least += fewest_hidden(counts, rules)
        small += int(_primary(counts, np.full(shape, 5), rules).sum())
    print(f"two-way tables, margins shown: {small} small cells, {hidden} hidden in all, at least {least} needed: "
          f"{hidden / least:.2f} times")


def main(sizes: list[int]) -> None:
    for patients in sizes:
        made = registries(1, sizes=[round(share * patients) for share in SHARES])
        tables = {name: one.tables for name, one in made.items()}
        feds = {rules: fedstats.pooled(tables, data_cut=DATA_CUT, rules=rules).cohort(TREE) for rules in (Rules(), NO_RULES)}
        print(f"{patients} patients\n{'analysis':16s} {'numbers':>8s} {'shown':>8s} {'hidden':>8s} {'off':>6s}")
        for name, args, kwargs in ASKED:
            every, shown, off, why = numbers(feds.__getitem__, name, args, kwargs)
            print(f"{name:16s} {every:8d} {shown:8d} {max(every - shown, 0):8d} {off:6.2f}  {kwargs.get('by', '')} {why}", flush=True)
    suppression()


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:]] or list(PATIENTS))
