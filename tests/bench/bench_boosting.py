"""What boosting costs: processor seconds (all parties in one thread), rounds and bytes per tree over five registries in one process, beside
xgboost on the pooled table; and how many trees are the same as xgboost's.

python -m tests.bench.bench_boosting [patients] [trees]
"""

import sys
import time

import numpy as np
from sklearn.metrics import roc_auc_score

import fedstats
from fedstats import Rules
from fedstats.analyses.boosting import kernels as boosting_kernels
from fedstats.analyses.boosting.rules import PATIENTS_PER_LEAF
from fedstats.analyses.boosting.trees import LARGEST
from fedstats.crypto import seal
from fedstats.query import rounds
from tests.boosting_data import boosted, dictionary_of, in_bins, names_of, native, synthetic, trees_of, xgboost

REGISTRIES = 5


class Watch:
    """Counts rounds and sealed bytes of one registry, beside the run."""

    def __init__(self):
        self.rounds = self.bytes = 0
        self.plain = rounds.plan

    def __call__(self, *args):
        made = self.plain(*args)
        self.rounds, self.bytes = self.rounds + 1, self.bytes + seal.share_size(made.chunks)
        return made


def timed(call):
    """Seconds of the processor, which other work on the machine disturbs least, and what the call gave."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def kernel(n=100_000, p=30, bins=64):
    rng = np.random.default_rng(0)
    places = (rng.integers(0, bins, (n, p)) + bins * np.arange(p)).astype(np.int32)
    slot, values = np.zeros(n, dtype=np.int32), rng.integers(-2**20, 2**20, (n, 2))
    boosting_kernels.histograms(places, slot, values, 1, p * bins)
    seconds = min(timed(lambda: boosting_kernels.histograms(places, slot, values, 1, p * bins))[0] for _ in range(7))
    compiled = "numba" if boosting_kernels.compiled(boosting_kernels._walk) is not None else "numpy"
    print(f"local histogram of {n} x {p} x {bins}: {1000 * seconds:.1f} ms ({compiled})")


def watched(call):
    """Seconds of the processor, what the call gave, and the watch that looked on."""
    watch = Watch()
    rounds.plan, before = watch, rounds.plan
    try:
        return *timed(call), watch
    finally:
        rounds.plan = before


def setting(name, n, trees, bins, depth, rules):
    X, score = synthetic(n, 30, bins=bins)
    y = (np.random.default_rng(1).random(n) < 1 / (1 + np.exp(-score))).astype(float)
    options = {"registries": REGISTRIES, "rounds": trees, "bins": bins, "max_depth": depth, "rules": rules}
    plain, model = timed(lambda: boosted(X, y, **options))
    sealed, same, watch = watched(lambda: boosted(X, y, world=fedstats.simulate, **options))
    assert same.trees == model.trees
    central, _ = timed(lambda: native(X, y, model, rounds=trees, max_depth=depth))
    up = watch.bytes / REGISTRIES / trees
    print(f"{name}: sealed {sealed:.1f} s of processor ({sealed / trees:.3f} per tree), unsealed {plain:.1f} s, xgboost {central:.1f} s: "
          f"{sealed / plain:.1f} x unsealed, {sealed / central:.0f} x xgboost; {watch.rounds / REGISTRIES / trees:.1f} rounds and "
          f"{up / 2**20:.2f} MiB up per tree and registry; {model.metrics}")


def same_tree(a, b):
    theirs = zip(b["split_indices"], b["default_left"], b["split_conditions"])
    return list(a.left) == b["left_children"] and all(
        left < 0 or ((feature, to_left) == (f, bool(d)) and threshold in (c, LARGEST))
        for left, feature, to_left, threshold, (f, d, c) in zip(a.left, a.feature, a.default_left, a.threshold, theirs))


def identity(n=50_000, trees=30):
    """Trees that are the same as xgboost's on the pooled table: structure, thresholds, directions; the largest difference of a leaf."""
    for bins, depth in ((16, 6), (64, 6), (250, 8)):
        X, score = synthetic(n, 30, bins=bins)
        rng = np.random.default_rng(1)
        for objective, y, more in (("binary:logistic", (rng.random(n) < 1 / (1 + np.exp(-score))).astype(float), {}),
                                   ("reg:squarederror", score, {}),
                                   ("count:poisson", rng.poisson(np.exp(score / 2)).astype(float), {"max_delta_step": 0.7})):
            model = boosted(X, y, registries=REGISTRIES, rounds=trees, bins=bins, max_depth=depth, objective=objective)
            booster = native(X, y, model, rounds=trees, max_depth=depth, **more)
            same = sum(same_tree(a, b) for a, b in zip(model.trees, trees_of(booster)))
            ours = model.predict(dict(zip(names_of(X), X.T)))
            far = (np.abs(ours - booster.predict(xgboost.DMatrix(X))) / np.maximum(1, np.abs(ours))).max()
            print(f"{n} x 30 with missing values, {bins} bins, depth {depth}, {objective}: {same} of {trees} trees the same; "
                  f"predictions within {far:.1e}", flush=True)


def unlike_registries(seed, sizes=(1500, 900, 600, 300, 200), p=10):
    """Registries of different size, level, case mix and effects, and test patients of all of them."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, size in enumerate(sizes):
        X = rng.normal(rng.normal(0, 1, p), 1, (2 * size, p))
        effect = np.array([1.0, -0.8, 0.6, *np.zeros(p - 3)]) + rng.normal(0, 0.3, p)
        score = X @ effect + 0.8 * X[:, 0] * (X[:, 3] > 0) + rng.normal(0, 1.0)
        parts.append((X, (rng.random(2 * size) < 1 / (1 + np.exp(-score))).astype(float), np.full(2 * size, k)))
    X, y, site = (np.concatenate(one) for one in zip(*parts))
    return in_bins(X, 16), y, site, rng.random(len(y)) < 0.5


def heterogeneous(seeds=5, rounds=100):
    """Held-out AUC of the joint model beside the pooled one, the mean of local models, the best of them, and the largest registry's."""
    found = []
    for seed in range(seeds):
        X, y, site, train = unlike_registries(seed)
        order = np.flatnonzero(train)
        dictionary = dictionary_of(X, y)
        mine = {f"r{k}": {"y": y[own], **dict(zip(names_of(X), X[own].T))} for k in range(REGISTRIES) for own in [order[site[order] == k]]}
        test = dict(zip(names_of(X), X[~train].T))
        # under rules a model has one leaf for every 5 patients at most: fewer trees, of longer steps
        trees = len(order) // (PATIENTS_PER_LEAF * 2**4)
        joint, free = (fedstats.pooled(mine, dictionary=dictionary, rules=rules).cohort().boost("y", names_of(X), **steps)
                       for rules, steps in ((Rules(), {"rounds": trees, "learning_rate": 0.2}),
                                            (fedstats.disclosure.NO_RULES, {"rounds": rounds})))
        central = native(X[train], y[train], free, rounds=rounds).predict(xgboost.DMatrix(X[~train]))
        local = [native(X[own], y[own], free, rounds=rounds).predict(xgboost.DMatrix(X[~train]))
                 for k in range(REGISTRIES) for own in [order[site[order] == k]]]
        sizes = np.bincount(site[order]) / len(order)
        auc = lambda risk: roc_auc_score(y[~train], risk)      # noqa: B023, E731
        found.append([auc(central), auc(free.predict(test)), auc(joint.predict(test)), auc(sizes @ local),
                      np.mean([auc(one) for one in local]), max(auc(one) for one in local), auc(local[0])])
    names = ("central xgboost", "joint, no rules", "joint, default rules", "bagged local models", "mean of local models", "best of them",
             "largest registry alone")
    for name, mean, sd in zip(names, np.mean(found, axis=0), np.std(found, axis=0, ddof=1)):
        print(f"{name}: AUC {mean:.3f} (SD {sd:.3f} over {seeds} seeds)")
    margin = np.array(found)[:, 2] - np.array(found)[:, 3]
    print(f"joint under default rules beats bagging by {margin.mean():.3f} (SD {margin.std(ddof=1):.3f}), "
          f"in {(margin > 0).sum()} of {seeds}")


def drawn(n=20_000, seeds=3):
    """Splits that are searched in histograms beside splits drawn from a seed, of which only sums over leaves are opened: AUC on as many
    patients not seen, and the cost of all rounds, over five registries under the default rules."""
    for name, options in (("searched, 100 trees", {}), ("drawn, 100 trees", {"splits": "random"}),
                          ("drawn, 250 trees", {"splits": "random", "rounds": 250}),
                          ("drawn, 250 trees one by one", {"splits": "random", "rounds": 250, "batch": 1}),
                          ("drawn, 100 trees, noise of epsilon 3 at delta 1e-5", {"splits": "random", "rho": 0.17}),
                          ("drawn, 500 trees, noise of epsilon 3 at delta 1e-5", {"splits": "random", "rounds": 500, "rho": 0.17})):
        found = []
        for seed in range(seeds):
            X, score = synthetic(2 * n, 30, seed=seed)
            y = (np.random.default_rng(seed).random(2 * n) < 1 / (1 + np.exp(-score))).astype(float)
            asked = {"registries": REGISTRIES, "rules": Rules(), "world": fedstats.simulate, **options}
            seconds, model, watch = watched(lambda: boosted(X[:n], y[:n], **asked))        # noqa: B023
            auc = roc_auc_score(y[n:], model.predict(dict(zip(names_of(X), X[n:].T))))
            found.append((auc, seconds, watch.rounds / REGISTRIES, watch.bytes / REGISTRIES / 2**20))
        mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
        print(f"splits {name}: AUC {mean[0]:.3f} (SD {spread[0]:.3f} over {seeds} seeds), {mean[1]:.1f} s of processor, "
              f"{mean[2]:.0f} rounds, {mean[3]:.2f} MiB up per registry", flush=True)


if __name__ == "__main__":
    patients, trees = (int(one) for one in (sys.argv[1:] + ["100000", "100"][len(sys.argv) - 1:]))
    kernel()
    identity()
    heterogeneous()
    drawn()
    setting("default floors, 16 bins, depth 4", patients, trees, 16, 4, Rules())
    setting("64 bins, depth 6, floors lifted", patients, trees, 64, 6, fedstats.disclosure.NO_RULES)
