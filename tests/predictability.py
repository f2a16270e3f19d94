"""How well the record at the start of a first treatment tells who worsens: for a test and a bench."""

import numpy as np
import pandas as pd

from fedstats.ms import cohort, synthetic
from fedstats.ms.tables import cleaning, load

NUMBERS = ["age", "disease_duration", "edss", "edss_mean", "edss_slope", "relapses_12m",
           "relapses_24m", "sdmt", "t25fw_s", "nhpt_dom_s", "t2_lesion_count", "new_t2_count",
           "gd_lesion_count"]
LEVELS = ["sex", "onset_course", "course", "dmt_class"]
YEARS = (2, 5)
TREE = {
    "index": {"event": "dmt_start"},
    "covariates": [*NUMBERS, *LEVELS],
    "eligibility": [["age", ">=", 18], ["edss", "missing", False]],
    "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1},
                 *({"kind": "within", "outcome": "cdw24", "years": years} for years in YEARS)],
}
FOLDS = 5


def starters(made):
    """One row per patient who starts a first treatment: covariates as numbers and indicators, outcomes.

    NaN: not known.
    """
    recipe = cohort.compile(TREE)
    parts = []
    for one in made.values():
        loaded, _ = load(one.tables)
        rows = recipe.derive(cleaning.clean(loaded, data_cut=synthetic.DATA_CUT)[0]).rows
        parts.append(pd.DataFrame({name: rows.values(name) for name in rows.held}))
    found = pd.concat(parts, ignore_index=True)
    levels = [pd.get_dummies(found[name], prefix=name, dtype=float) for name in LEVELS]
    return found[[*NUMBERS, *(f"cdw24_within_{years}y" for years in YEARS)]].join(levels)


def auc(found, years, kind):
    """(patients, share that worsens, ROC-AUC) by cross-validation; kind : logistic or boosting."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import KFold, cross_val_predict

    outcomes = [f"cdw24_within_{one}y" for one in YEARS]
    known = found[found[f"cdw24_within_{years}y"].notna()]
    x = known.drop(columns=outcomes).to_numpy(float)
    y = known[f"cdw24_within_{years}y"].to_numpy() > 0
    folds = KFold(FOLDS, shuffle=True, random_state=1)
    risks = cross_val_predict(model(kind), x, y, cv=folds, method="predict_proba")[:, 1]
    return len(y), float(np.mean(y)), float(roc_auc_score(y, risks))


def model(kind):
    """A plain model of either kind: missing values have indicators, or a direction."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "logistic":
        imputed = SimpleImputer(add_indicator=True)
        return make_pipeline(imputed, StandardScaler(), LogisticRegression(C=0.1))
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=60, max_depth=3, learning_rate=0.08, min_child_weight=5,
                         n_jobs=1)
