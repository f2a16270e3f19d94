"""How long a sealed logistic regression takes, and where the time goes: `python -m tests.bench.bench_glm [patients] [covariates]`.

Goal: 20 covariates on 100 000 patients of five registries in under 3 s.

Five registries, the whole conversation and the real seal in one process, beside one round of the local half alone and, where
statsmodels is installed, its fit of the pooled table.
"""

import sys
import time

import numpy as np

import fedstats
from fedstats.analyses.regression.glm.start import glm_start
from fedstats.analyses.regression.glm.sums import glm_sums
from fedstats.analyses.regression.model_cells import model_cells
from fedstats.data.rows import load
from fedstats.disclosure import Rules
from fedstats.sums.statistic import answer

REGISTRIES = 5


def table(n, p, rng):
    """p covariates, half of them numbers, half booleans, and an outcome of about 30 %."""
    columns = {f"x{k}": rng.normal(size=n).clip(-5, 5) if k % 2 else rng.random(n) < 0.3 for k in range(p)}
    eta = -1 + sum((0.3 if k % 3 else -0.2) * columns[f"x{k}"] for k in range(p))
    return columns | {"y": rng.random(n) < 1 / (1 + np.exp(-eta))}


def dictionary(p):
    kinds = [{"type": "number", "range": [-5, 5]} if k % 2 else {"type": "boolean"} for k in range(p)]
    return fedstats.Dictionary.from_dict({"name": "bench", "variables": [{"name": "y", "type": "boolean"},
                                                                         *({"name": f"x{k}"} | kind for k, kind in enumerate(kinds))]})


def timed(call):
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def main(n=100_000, p=20):
    rng, book = np.random.default_rng(1), dictionary(p)
    names = [f"x{k}" for k in range(p)]
    tables = {f"r{k}": table(n // REGISTRIES, p, rng) for k in range(REGISTRIES)}
    rows = [load(one, book)[0] for one in tables.values()]
    model = {"columns": ["y", *names], "terms": [{"term": "variable", "name": name} for name in names], "response": "y",
             "family": "binomial", "link": "logit"}
    fit, start = glm_sums(**model, beta=[0.0] * (p + 1)), glm_start(**model)
    local, _ = timed(lambda: [answer(fit, one) for one in rows])
    first, _ = timed(lambda: [answer(start, one) for one in rows])
    print(f"{n} patients, {p} covariates, {REGISTRIES} registries, on one core:")
    cells, _ = timed(lambda: [answer(model_cells(columns=model["columns"], terms=model["terms"], outcome="y"), one) for one in rows])
    print(f"  local halves of one round {local:.3f} s, of the start {first:.3f} s, of the cells {cells:.3f} s")
    for name, world in (("pooled", fedstats.pooled), ("simulate", fedstats.simulate)):
        fed = world(tables, dictionary=book, rules=Rules())
        seconds, result = timed(lambda fed=fed: fed.cohort().glm(outcome="y", covariates=names, family="binomial"))
        cost = result.cost
        print(f"  {name:9s}{seconds:.2f} s, {cost.rounds} rounds, {cost.numbers} numbers, {cost.bytes} bytes per registry")
        mine = cells + first + (cost.rounds - 1) * local
        print(f"           local halves {mine / seconds:.0%}, everything else (rounds, seal, rules) {1 - mine / seconds:.0%}")
    try:
        import statsmodels.api as sm
    except ImportError:
        return
    whole = {name: np.concatenate([one[name] for one in tables.values()]).astype(float) for name in [*names, "y"]}
    X = sm.add_constant(np.column_stack([whole[name] for name in names]))
    seconds, found = timed(lambda: sm.GLM(whole["y"], X, family=sm.families.Binomial()).fit(tol=1e-12))
    print(f"  statsmodels on the pooled table {seconds:.2f} s, log likelihood {found.llf:.6f} (sealed {result.log_likelihood:.6g})")


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:]))
