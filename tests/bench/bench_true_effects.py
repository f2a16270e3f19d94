"""Does an adjusted analysis of synthetic registries find the true effect, and a crude one not? Prints, asserts nothing.

    python -m tests.bench.bench_true_effects [patients] [seed]

High against low efficacy as the first treatment, from 2011 on, 24-week confirmed worsening within 5 years: the crude hazard ratio, the
one weighted by the inverse probability of the class given what the neurologist saw, and the truth from counterfactual runs.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from sklearn.linear_model import LogisticRegression

from fedstats.ms.outcomes.definitions import definition
from fedstats.ms.synthetic import Synthetic, registries
from fedstats.ms.synthetic.parameters import parameters
from fedstats.ms.synthetic.truth import cohort, hazard_ratio, truth

SINCE, YEARS = "2011-01-01", 5.0        # all three classes exist from then on
SHARES = (0.35, 0.30, 0.20, 0.15)
SEEN = ["relapses", "edss", "age", "year"]


def starters(one: Synthetic) -> pd.DataFrame:
    """One row per patient of a registry who starts a first treatment: what was seen, the class, the outcome. From the tables."""
    there, start = cohort(one, since=SINCE)
    ids = np.array([f"{one.name}-{k + 1:06d}" for k in there.tolist()], dtype=object)
    rows = pd.DataFrame({"patient_id": ids, "start": start, "site": one.name})
    tables = {name: pd.DataFrame(columns) for name, columns in one.tables.items()}
    found = definition("cdw24").find(one.tables["visits"], one.tables["relapses"], origin={"patient_id": ids, "origin_date": start})
    outcome = pd.DataFrame({name: found[name] for name in ("patient_id", "time2event", "nevent", "at_risk")})
    first = tables["treatments"].merge(rows, on="patient_id").query("start_date == start")
    kinds = {drug["name"]: drug["class"] for drug in parameters()["drugs"]}
    rows["treatment"] = rows["patient_id"].map(dict(zip(first["patient_id"], first["dmt_name"].map(kinds))))
    relapses = tables["relapses"].merge(rows, on="patient_id")
    ago = (relapses["start"] - relapses["relapse_onset_date"]).dt.days
    recent = relapses[(ago >= 0) & (ago <= 365)].groupby("patient_id").size()
    rows["relapses"] = rows["patient_id"].map(recent).fillna(0).clip(upper=3)
    index = tables["visits"].merge(rows[["patient_id", "start"]], on="patient_id").query("visit_date == start")
    rows["edss"] = rows["patient_id"].map(dict(zip(index["patient_id"], index["edss"])))
    rows["year"] = 1970 + rows["start"].to_numpy().astype("datetime64[D]").astype(int) / 365.25
    rows["age"] = rows["year"] - rows["patient_id"].map(tables["patients"].set_index("patient_id")["birth_year"])
    return rows.merge(outcome[outcome["at_risk"].astype(bool)], on="patient_id").dropna(subset=["treatment", "edss"])


def main(patients: int = 120_000, seed: int = 1) -> None:
    sizes = [round(share * patients) for share in SHARES]
    rows = pd.concat([starters(one) for one in registries(seed, sizes=sizes).values()], ignore_index=True)
    rows["time"] = np.minimum(rows["time2event"], YEARS * 365.25)
    rows["event"] = (rows["nevent"] > 0) & (rows["time2event"] <= YEARS * 365.25)
    print(rows.groupby("treatment")[SEEN].mean().round(2).assign(patients=rows.groupby("treatment").size()).to_string())

    seen = pd.concat([rows[SEEN], pd.get_dummies(rows["site"]).astype(float)], axis=1)
    model = LogisticRegression(C=100, max_iter=2000).fit((seen - seen.mean()) / seen.std(), rows["treatment"])
    chances = pd.DataFrame(model.predict_proba((seen - seen.mean()) / seen.std()), columns=model.classes_)
    weight = 1 / np.array([chances.at[k, one] for k, one in enumerate(rows["treatment"])])
    rows["weight"] = np.minimum(weight, np.quantile(weight, 0.99))

    pair = rows[rows["treatment"].isin(["low", "high"]) & (rows["time"] > 0)].assign(high=lambda one: (one["treatment"] == "high") * 1.0)
    crude, error = hazard_ratio(pair["time"].to_numpy(float), pair["event"].to_numpy(), pair["high"].to_numpy())
    fit = CoxPHFitter().fit(pair[["time", "event", "high", "weight"]], "time", "event", weights_col="weight", robust=True).summary
    real = truth(seed, a="low", b="high", sizes=sizes, stays=False, since=SINCE, horizons=(YEARS,))["horizons"][f"{YEARS:g}"]
    print(f"hazard ratio, high against low: crude {crude:.3f} (standard error of its log {error:.3f}), "
          f"weighted {fit.at['high', 'exp(coef)']:.3f} ({fit.at['high', 'se(coef)']:.3f}), "
          f"true {real['hazard_ratio']:.3f} ({real['log_hazard_ratio_se']:.3f})")


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:3]))
