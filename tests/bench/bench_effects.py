"""Do adjusted and weighted Cox models of synthetic registries find the true effect, and crude ones not? Prints, asserts nothing.

    python -m tests.bench.bench_effects [seeds] [patients]

How this works. Per seed: registries with confounding by indication (active disease gets the stronger drug, and does worse anyway). High
against low efficacy as the first treatment, 24-week confirmed worsening, registries as strata. Three estimates, in `pooled` (the digits
of `simulate`, faster): a crude Cox model; one adjusted for what the neurologist saw; one weighted by inverse probabilities, computed at
the registries from a multinomial model of the class.

Each is held against the oracle of its own estimand: the same model fitted to the same people started on low and on high, in two
counterfactual runs of the same world, stacked. The oracle of the adjusted model is the adjusted (conditional) one, that of the crude and
the weighted model the marginal one. Oracles are averaged over the seeds, as that of one seed is a small sample too; coverage against the
oracle of the seed's own people stands beside it.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

import fedstats
from fedstats.analyses.shared.common import z_of
from fedstats.demo.study import SIZES
from fedstats.ms.synthetic import DATA_CUT, registries
from fedstats.ms.synthetic.course import Forced
from fedstats.ms.synthetic.parameters import parameters

SEEDS, PATIENTS = 20, 12_000
SINCE = "2010-01-01"          # all classes exist: earlier starters could not have had the other treatment, nor changed to it
COHORT: dict[str, Any] = {
    "index": {"event": "dmt_start"},
    "covariates": ["index_date", "age", "sex", "edss", "relapses_12m", "disease_duration", "onset_course", "dmt_class"],
    "eligibility": [["edss", "missing", False], ["index_date", ">=", SINCE]],
    "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1}],
    "follow_up": {"max_days": 1825},
}
SEEN = "age + sex + ns(edss, 3) + relapses_12m + disease_duration + onset_course"
OUTCOME = "Surv(cdw24_days, cdw24_event) ~ dmt_class + {}strata(registry)"
ARMS, EFFECT = ("low", "high"), "dmt_class[high]"
KINDS = ("crude", "adjusted", "weighted")


def estimates(fed: Any) -> dict[str, tuple[float, float]]:
    """Log hazard ratio and its standard error, crude, adjusted and weighted."""
    everybody, two = fed.cohort(COHORT), fed.cohort({**COHORT, "eligibility": [*COHORT["eligibility"], ["dmt_class", "in", list(ARMS)]]})
    weights = everybody.multinomial(f"dmt_class ~ {SEEN}").inverse_probability()
    fits = {"crude": two.cox(OUTCOME.format(""), transforms=[]), "adjusted": two.cox(OUTCOME.format(SEEN + " + "), transforms=[]),
            "weighted": two.cox(OUTCOME.format(""), weights=weights, transforms=[])}
    return {name: (one[EFFECT].coef, one[EFFECT].se_robust if one.se_used == "robust" else one[EFFECT].se) for name, one in fits.items()}


def oracle(seed: int, sizes: list[int]) -> dict[str, float]:
    """The conditional and the marginal log hazard ratio of the counterfactual runs."""
    classes = parameters()["classes"]
    runs = [registries(seed, sizes=sizes, forced=Forced(classes.index(arm), False)) for arm in ARMS]
    both = {}
    for name in runs[0]:
        tables: dict[str, Any] = {}
        for table in runs[0][name].tables:
            parts = []
            for arm, run in zip(ARMS, runs):
                columns = dict(run[name].tables[table])
                columns["patient_id"] = np.array([f"{arm}-{who}" for who in columns["patient_id"].tolist()], dtype=object)
                parts.append(columns)
            tables[table] = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
        both[name] = tables
    cohort = fedstats.pooled(both, data_cut=DATA_CUT).cohort(COHORT)
    marginal, adjusted = (cohort.cox(OUTCOME.format(terms), transforms=[])[EFFECT].coef for terms in ("", SEEN + " + "))
    return {"crude": marginal, "adjusted": adjusted, "weighted": marginal}


def main(seeds: int = SEEDS, patients: int = PATIENTS, first: int = 1) -> None:
    sizes = [round(patients * size / sum(SIZES)) for size in SIZES]
    found, truths, began = [], [], time.perf_counter()
    for seed in range(first, first + seeds):
        fed = fedstats.pooled({name: one.tables for name, one in registries(seed, sizes=sizes).items()}, data_cut=DATA_CUT)
        found.append(estimates(fed))
        truths.append(oracle(seed, sizes))
        here = [f"{kind} {found[-1][kind][0]:6.3f} ({found[-1][kind][1]:.3f}), oracle {truths[-1][kind]:6.3f}" for kind in KINDS]
        print(f"seed {seed:3d}  " + "   ".join(here), flush=True)
    z = z_of(0.95)
    print(f"{seeds} seeds of {patients} patients, {time.perf_counter() - began:.0f} s; log hazard ratios, high against low efficacy")
    for kind in KINDS:
        value, error = np.array([one[kind] for one in found]).T
        own = np.array([one[kind] for one in truths])
        covered, covered_own = (int((abs(value - true) <= z * error).sum()) for true in (own.mean(), own))
        print(f"{kind:9s} mean {value.mean():6.3f}, oracle {own.mean():6.3f} (sd over seeds {own.std(ddof=1):.3f}), bias "
              f"{value.mean() - own.mean():6.3f}, sd of estimates {value.std(ddof=1):.3f}, mean standard error {error.mean():.3f}; "
              f"95 % intervals cover {covered} of {seeds} (own people's oracle: {covered_own})")


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:4]))
