"""Synthetic patients for risk models: a yes or no, a time to an event with censoring, and covariates with gaps."""

import numpy as np

COVARIATES = ["age", "edss", "sex", "relapses"]
SMALL = {"rounds": 8, "max_depth": 3, "learning_rate": 0.3}
HAZARD = {"objective": "hazard:logistic", "time": "days", "intervals": [180, 360, 540, 720]}
DICTIONARY = {
    "name": "risk",
    "variables": [
        {"name": "age", "type": "integer", "range": [18, 80], "unit": "years", "cut_points": {"from": 20, "to": 80, "step": 3}},
        {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5, "description": "disability at the start"},
        {"name": "sex", "type": "category", "levels": ["F", "M"]},
        {"name": "relapses", "type": "integer", "range": [0, 10], "description": "relapses in the year before"},
        {"name": "worse", "type": "boolean", "description": "worse after a year"},
        {"name": "days", "type": "integer", "range": [0, 1080], "unit": "days", "cut_points": {"from": 0, "to": 1080, "step": 90}},
        {"name": "event", "type": "boolean", "description": "confirmed worsening"},
    ],
}


def people(n, seed, shift=0.0):
    """A table of n patients. shift : of their risk on the logit scale."""
    rng = np.random.default_rng(seed)
    age, edss = rng.integers(18, 75, n), rng.integers(0, 14, n) / 2
    sex, relapses = rng.choice(["F", "M"], n, p=[0.7, 0.3]), np.minimum(rng.poisson(0.7, n), 5)
    eta = shift - 1.2 + 0.03 * (age - 40) + 0.35 * (edss - 2.5) + 0.4 * relapses + 0.3 * (sex == "M")
    event_at, seen = rng.exponential(900 / np.exp(eta)), rng.uniform(150, 1500, n)
    return {"patient_id": [f"{seed}-{k}" for k in range(n)], "age": age, "edss": np.where(rng.random(n) < 0.05, None, edss), "sex": sex,
            "relapses": relapses, "worse": rng.random(n) < 1 / (1 + np.exp(-eta)),
            "days": np.minimum(np.ceil(np.minimum(event_at, seen)), 1080).astype(int), "event": (event_at <= seen) & (event_at <= 1080)}


def registries(sizes, seed):
    """Registries with somewhat different risks."""
    return {f"r{k}": people(n, 100 * seed + k, 0.2 * (k - len(sizes) / 2)) for k, n in enumerate(sizes)}
