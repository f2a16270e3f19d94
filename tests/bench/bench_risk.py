"""Risk models as a number: what training together is worth, what validating costs, and what a released model gives away.

    python -m tests.bench.bench_risk [ways] [defaults] [cost] [attacks]

defaults : calibration slope and AUC of cross-validation and for patients of another draw, with the number of trees chosen and with 100
trees of depth 4, 5 seeds of three designs; about a minute per seed. ways : joint, local, bagged, left out, over 5 seeds of
synthetic registries of three designs, with one setting for all. cost : a
validation beside its model, pooled and simulated. attacks : see attacks/test_model_inversion.
"""

import sys
import time
from functools import cache

import numpy as np

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses.shared import scores
from fedstats.disclosure import NO_RULES
from fedstats.ms import synthetic
from fedstats.query.analysis import Failed
from fedstats.risk.comparison import JOINT, WAYS, compare_ways

from ..attacks.test_model_inversion import guess_all, read_off, target
from ..risk_data import COVARIATES, DICTIONARY, people, registries

BOOK = Dictionary.from_dict(DICTIONARY)
SIZES = (900, 150, 400, 250, 600)
WINDOWS = ((18, 32, 0, 3), (26, 42, 1, 5), (38, 55, 2, 6), (45, 65, 3, 6.5), (30, 75, 0, 6.5))     # age and EDSS of its patients
SHIFTS = (-0.8, 0.6, 0.0, -0.4, 0.8)        # true effects of the registries, on the logit scale
MS_SIZES = (300, 600, 1200, 3000, 8000)     # patients; about a third start a treatment after a known EDSS and are followed up
MS_COHORT = {
    "index": {"event": "dmt_start"},
    "covariates": ["age", "sex", "edss", "relapses_12m", "disease_duration", "sdmt", "t2_lesion_count", "dmt_class"],
    "eligibility": [["age", ">=", 18], ["edss", "missing", False]],
    "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1}, {"kind": "within", "outcome": "cdw24", "years": 2}],
}
SEEDS = range(5)
TRAINING = {"rounds": 50, "max_depth": 3, "learning_rate": 0.1}


def different(seed):
    """Registries with other patients (age, EDSS) and other risks: a children's clinic and a rehabilitation centre know different people."""
    found = {}
    for k, (size, shift, (young, old, low, high)) in enumerate(zip(SIZES, SHIFTS, WINDOWS)):
        many = people(40 * size, 100 * seed + k, shift)
        edss = np.array([np.nan if one is None else one for one in many["edss"]], dtype=float)
        keep = np.flatnonzero((many["age"] >= young) & (many["age"] < old) & ~((edss < low) | (edss > high)))[:size]
        found[f"r{k}"] = {name: np.asarray(column, dtype=object)[keep] for name, column in many.items()}
    return found


def of_one_row(make):
    """(cohort, outcome, covariates) of a seed, of registries with one row per patient."""
    return lambda seed: (fedstats.pooled(make(10 + seed), dictionary=BOOK).cohort(), "worse", COVARIATES)


def multiple_sclerosis(seed):
    """The same of synthetic registries of MS, of very unequal size: who worsens within two years of the first treatment."""
    found = synthetic.registries(10 + seed, sizes=MS_SIZES)
    fed = fedstats.pooled({one.name: one.tables for one in found.values()})
    return fed.cohort(MS_COHORT), "cdw24_within_2y", MS_COHORT["covariates"]


DESIGNS = {f"alike, {', '.join(map(str, SIZES))} patients": of_one_row(lambda seed: registries(SIZES, seed)),
           f"different, {', '.join(map(str, SIZES))} patients": of_one_row(different),
           f"synthetic registries of MS, {', '.join(map(str, MS_SIZES))} patients": multiple_sclerosis}


def ways():
    """How good ways of training are, mean and SD over seeds, and by how much training together is better: the AUC over everybody, where a
    local model gains from knowing its registry's level of risk; the mean AUC within registries, where it does not; the Brier score."""
    for words, make in DESIGNS.items():
        found = {how: [] for how in WAYS}
        for seed in SEEDS:
            cohort, outcome, covariates = make(seed)
            for one in compare_ways(cohort, outcome, covariates, folds=5, seed=seed, **TRAINING):
                found[one.how].append((one.auc, np.mean(list(one.registries.values())), one.brier))
        print(f"  {words}; {len(SEEDS)} seeds, 5 folds: mean (SD); joint better by mean (SD), in how many seeds", flush=True)
        for how, numbers in found.items():
            gains = (np.array(found[JOINT]) - np.array(numbers)) * [1, 1, -1]
            parts = [f"{name} {one.mean():.4f} ({one.std(ddof=1):.4f}), {gain.mean():+.4f} ({gain.std(ddof=1):.4f}) in {(gain > 0).sum()}"
                     for name, one, gain in zip(("AUC", "within registries", "Brier"), np.array(numbers).T, gains.T)]
            print(f"    {how:13}", "; ".join(parts), flush=True)


# What the record at the start of a treatment holds: of these covariates patients of MS differ in their risk (tests/predictability.py).
WIDE = ["age", "sex", "disease_duration", "onset_course", "course", "edss", "edss_mean", "edss_slope", "relapses_12m", "relapses_24m",
        "sdmt", "t25fw_s", "nhpt_dom_s", "t2_lesion_count", "new_t2_count", "gd_lesion_count", "dmt_class"]
SHORT = ["age", "sex", "edss", "relapses_12m", "disease_duration", "sdmt", "t2_lesion_count", "dmt_class"]      # of examples/risk.toml
SITES, PATIENTS = 5, 7_500          # about a third start a treatment after a known EDSS and are followed up; a tenth of these worsen
BEFORE = {"rounds": 100, "max_depth": 4, "learning_rate": 0.1}


@cache
def of_ms(seed):
    """Tables of two draws of synthetic registries."""
    return [{one.name: one.tables for one in synthetic.registries(1000 * draw + 10 + seed, sites=SITES, sizes=[PATIENTS // SITES] * SITES)
             .values()} for draw in (0, 1)]


def ms(covariates):
    """Synthetic patients of MS under default rules and without, as many of another draw, outcome and covariates."""
    def make(seed):
        tables, others = of_ms(seed)
        ruled, free, other = (fedstats.pooled(found, **more).cohort(MS_COHORT | {"covariates": covariates})
                              for found, more in ((tables, {"rules": Rules()}), (tables, {}), (others, {})))
        return ruled, free, other, "cdw24_within_2y", covariates
    return make


def one_row(seed):
    """The same of tables of one row per patient, 2 300 patients."""
    ruled, free, other = (fedstats.pooled(registries(SIZES, 10 + seed + 50 * draw), dictionary=BOOK, **more).cohort()
                          for draw, more in ((0, {"rules": Rules()}), (0, {}), (1, {})))
    return ruled, free, other, "worse", COVARIATES


MADE = {f"MS, {len(SHORT)} covariates": ms(SHORT), f"MS, {len(WIDE)} covariates": ms(WIDE), "one row per patient": one_row}


def rows_of(cohort):
    """All patients of a pooled cohort."""
    return [data.rows(cohort.recipe) for data in cohort._federation._world.data.values()]


def elsewhere(model, other):
    """AUC and calibration slope of a model for patients of another draw."""
    cells = np.zeros((2, scores.BINS))
    for rows in rows_of(other):
        known = rows.complete([model.outcome])
        place, y = scores.bin_of_margin(model.margins_of(known)), known.steps(model.outcome)
        for k in (0, 1):
            cells[k] += np.bincount(place[y == k], minlength=scores.BINS)
    return scores.auc(*cells), scores.recalibrate(*cells, 0.95)[1].value


def defaults():
    """Per seed: trees, AUC and slope of cross-validation and elsewhere; then mean and SD. 100 trees would be refused under the rules."""
    for words, make in MADE.items():
        found = {"chosen": [], "100 trees of depth 4": []}
        for seed in SEEDS:
            ruled, free, other, outcome, covariates = make(seed)
            for name, one, training in zip(found, (ruled, free), ({}, BEFORE)):
                begun, ask = time.perf_counter(), one.question
                answers = one._federation.ask(ask.boost(outcome, covariates, **training), ask.validation(outcome, covariates, **training))
                if isinstance(failed := answers[0], Failed):
                    print(f"  {words}, seed {seed}, {name}: {failed.problem.what}", flush=True)
                    continue
                model, made = answers
                auc, slope = elsewhere(model, other)
                found[name].append((made.overall.auc, made.overall.slope, auc, slope))
                print(f"  {words}, seed {seed}, {name}: n {model.n}, {model.events} events, {len(model.trees)} trees; cross-validated AUC "
                      f"{made.overall.auc:.3f}, slope {made.overall.slope:.2f}; elsewhere AUC {auc:.3f}, slope {slope:.2f}; "
                      f"{time.perf_counter() - begun:.1f} s", flush=True)
        for name, numbers in found.items():
            if len(numbers) > 1:
                parts = [f"{of} {mean:.3f} ({sd:.3f})" for of, mean, sd in
                         zip(("AUC", "slope", "elsewhere AUC", "slope"), np.mean(numbers, axis=0), np.std(numbers, axis=0, ddof=1))]
                print(f"  {words}, {name}, mean (SD) of {len(numbers)}: cross-validated {', '.join(parts)}", flush=True)


def cost():
    """Seconds of a model alone and with its 5-fold validation in the same rounds."""
    for world in (fedstats.pooled, fedstats.simulate):
        fed = world(registries(SIZES, 3), dictionary=BOOK, rules=Rules())
        ask, seconds = fed.cohort().question, []
        model = ask.boost("worse", COVARIATES, **TRAINING)
        both = (model, ask.validation("worse", COVARIATES, by=["sex"], **TRAINING))
        for questions in ((model,), both):
            begun = time.perf_counter()
            fed.ask(*questions)
            seconds.append(time.perf_counter() - begun)
        print(f"  {world.__name__:9} model {seconds[0]:.2f} s, with validation {seconds[1]:.2f} s: {seconds[1] / seconds[0]:.1f} times")


def attacks():
    """Share of patients named by the file alone and by a registry, and outcomes guessed by who knows all features: with the floors lifted,
    and at the default rules with as many trees as these release (one leaf for every 5 patients)."""
    small, large = (200,) * 4, (2_000,) * 4
    deep = {"max_depth": 8, "min_child_weight": 0.0, "bins": 64}
    for name, rules, sizes, training, scale in (
            ("floors lifted, 40 trees of depth 8, 64 bins", NO_RULES, small, {"rounds": 40, **deep}, 1.0),
            ("floors lifted, 100 trees, otherwise default", NO_RULES, small, {"rounds": 100}, 1.0),
            ("floors lifted, 100 drawn trees", NO_RULES, small, {"rounds": 100, "splits": "random", "batch": 1}, 1.0),
            ("default rules, 10 trees", Rules(), small, {"rounds": 10}, 0.25),
            ("default rules, 20 trees of depth 3", Rules(), small, {"rounds": 20, "max_depth": 3}, 0.25),
            ("default rules, 10 drawn trees", Rules(), small, {"rounds": 10, "splits": "random", "batch": 1}, 0.25),
            ("default rules, 100 trees", Rules(), large, {"rounds": 100}, 0.25)):
        found = target(rules, sizes, **training)
        attack, model = guess_all(found)
        leaves = sum(tree.leaves for tree in found.model.trees)
        print(f"  {sum(sizes)} patients, {name}, {leaves} leaves: named by the file {read_off(found, None, scale)[0]:.1%}, by a "
              f"registry {read_off(found, 0, scale)[0]:.1%}; outcomes guessed by who knows all features {attack:.1%} (model {model:.1%})",
              flush=True)


if __name__ == "__main__":
    for part in (ways, defaults, cost, attacks):
        if len(sys.argv) == 1 or part.__name__ in sys.argv[1:]:
            print(part.__name__)
            part()
