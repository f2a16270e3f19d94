"""Risk models as a number: what training together is worth, what validating costs, and what a released model gives away.

    python -m tests.bench.bench_risk [ways] [cost] [attacks]

ways : joint, local, bagged, left out, over 5 seeds of heterogeneous synthetic registries. cost : a validation beside its model, pooled and
simulated. attacks : see attacks/test_model_inversion.
"""

import sys
import time

import numpy as np

import fedstats
from fedstats import Dictionary, Rules
from fedstats.comparison import WAYS, compare_ways
from fedstats.disclosure import NO_RULES

from ..attacks.test_model_inversion import guess_all, read_off, target
from ..risk_data import COVARIATES, DICTIONARY, people, registries

BOOK = Dictionary.from_dict(DICTIONARY)
SIZES = (900, 150, 400, 250, 600)
WINDOWS = ((18, 32, 0, 3), (26, 42, 1, 5), (38, 55, 2, 6), (45, 65, 3, 6.5), (30, 75, 0, 6.5))     # age and EDSS of its patients
SHIFTS = (-0.8, 0.6, 0.0, -0.4, 0.8)        # true effects of the registries, on the logit scale
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


def ways():
    """AUC and Brier score of four ways of training, mean and SD over seeds: registries alike but for their size, and different ones."""
    for words, make in (("alike", lambda seed: registries(SIZES, seed)), ("different", different)):
        found = {how: [] for how in WAYS}
        for seed in SEEDS:
            fed = fedstats.pooled(make(10 + seed), dictionary=BOOK)
            for one in compare_ways(fed.cohort(), "worse", COVARIATES, folds=5, seed=seed, **TRAINING):
                found[one.how].append((one.auc, one.brier))
        print(f"  {words} registries of {', '.join(map(str, SIZES))} patients, {len(SEEDS)} seeds, 5 folds: mean (SD)")
        for how, pairs in found.items():
            (auc, brier), (auc_sd, brier_sd) = np.mean(pairs, axis=0), np.std(pairs, axis=0, ddof=1)
            print(f"    {how:12} AUC {auc:.4f} ({auc_sd:.4f})   Brier {brier:.4f} ({brier_sd:.4f})")


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
    """Share of patients named by the file alone and by a registry, and outcomes guessed by who knows all features."""
    settings = {
        "floors lifted, depth 8, 64 bins": (NO_RULES, {"max_depth": 8, "min_child_weight": 0.0, "bins": 64}, 1.0),
        "floors lifted, default settings": (NO_RULES, {}, 1.0), "default": (Rules(), {}, 0.25)}
    for trees in (40, 100):
        for name, (rules, training, scale) in settings.items():
            found = target(rules, rounds=trees, **training)
            attack, model = guess_all(found)
            print(f"  {trees:3} trees, {name:32} named by the file {read_off(found, None, scale)[0]:.1%}, by a registry "
                  f"{read_off(found, 0, scale)[0]:.1%}; outcomes guessed by who knows all features {attack:.1%} (model {model:.1%})")


if __name__ == "__main__":
    for part in (ways, cost, attacks):
        if len(sys.argv) == 1 or part.__name__ in sys.argv[1:]:
            print(part.__name__)
            part()
