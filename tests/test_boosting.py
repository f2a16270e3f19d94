"""Federated boosting grows the trees that xgboost grows on the pooled table, however patients are spread, sealed or not."""

import json

import numpy as np
import pytest

import fedstats
from fedstats import Rules
from fedstats.analyses.boosting.rules import check_leaves
from fedstats.analyses.boosting.trees import LARGEST
from fedstats.errors import QuestionError, RangeError, Refused

from .boosting_data import assert_same_trees, boosted, dictionary_of, in_bins, names_of, native, synthetic, tables, with_gaps, xgboost
from .helpers import lung, shared

ROUNDS = 12


@pytest.fixture(scope="module")
def cancer():
    """scikit-learn's breast cancer: 569 patients, 30 features cut into 16 bins, 5 % of values missing."""
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    return with_gaps(in_bins(X, 16), 0.05), y.astype(float)


def predictions_agree(model, booster, X):
    ours = model.predict(dict(zip(names_of(X), X.T)))
    return np.abs(ours - booster.predict(xgboost.DMatrix(X))).max() < 1e-6 * max(1.0, np.abs(ours).max())


# -- against xgboost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    {"rounds": 50, "max_depth": 6},
    {"reg_alpha": 0.5, "gamma": 0.2, "min_child_weight": 2.5, "learning_rate": 0.3},
    {"reg_lambda": 0.0, "max_depth": 3, "max_delta_step": 0.4},
    {"monotone": {"x0": 1, "x7": -1, "x20": -1, "x22": 1, "x27": -1}},
], ids=["deep", "penalties", "boxed", "monotone"])
def test_trees_are_those_of_xgboost_on_breast_cancer(cancer, settings):
    """Five registries: the same splits, directions and leaves as xgboost on all 569 patients."""
    X, y = cancer
    settings = {"rounds": ROUNDS, **settings}
    model = boosted(X, y, registries=5, **settings)
    booster = native(X, y, model, **settings)

    assert_same_trees(model, booster)
    assert predictions_agree(model, booster, X)


@pytest.mark.parametrize(("objective", "outcome"), [
    ("binary:logistic", lambda score, rng: (rng.random(len(score)) < 1 / (1 + np.exp(-score))).astype(float)),
    ("reg:squarederror", lambda score, rng: score),
    ("count:poisson", lambda score, rng: rng.poisson(np.exp(score / 2)).astype(float)),
], ids=["logistic", "squared error", "poisson"])
def test_trees_are_those_of_xgboost_on_made_up_registries(objective, outcome):
    """8 000 patients with gaps, 30 features, for each objective of one row per patient."""
    X, score = synthetic(8_000, 30)
    y = outcome(score, np.random.default_rng(5))
    model = boosted(X, y, rounds=ROUNDS, objective=objective)
    booster = native(X, y, model, rounds=ROUNDS, **({"max_delta_step": 0.7} if objective == "count:poisson" else {}))

    assert_same_trees(model, booster)
    assert predictions_agree(model, booster, X)


def test_trees_are_those_of_xgboost_for_real_patients():
    """273 patients with a clinically isolated syndrome, with missing values, weighted classes."""
    import pandas as pd

    frame = pd.read_csv(shared("data", "cis_mexico", "conversion_predictors_cis_ms.csv"))
    columns = [name for name in frame if frame[name].dtype.kind in "if" and name not in
               ("Unnamed: 0", "group", "Initial_EDSS", "Final_EDSS") and frame[name].min() >= 0]
    X, y = in_bins(frame[columns].to_numpy(float), 10), (frame["group"] == 1).to_numpy(float)
    model = boosted(X, y, registries=4, rounds=30, max_depth=3, scale_pos_weight=2.0)
    booster = native(X, y, model, rounds=30, max_depth=3, weight=np.where(y == 1, 2.0, 1.0))

    assert np.isnan(X).any()
    assert_same_trees(model, booster)
    assert predictions_agree(model, booster, X)


def test_weights_are_those_of_xgboost(cancer):
    """Patients who count 0 to 2 times."""
    X, y = cancer
    weight = np.round(np.random.default_rng(1).random(len(y)) * 2, 3)
    model = boosted(X, y, rounds=ROUNDS, weights="w", more={"w": ({"type": "number", "range": [0, 2]}, weight)})

    assert_same_trees(model, native(X, y, model, rounds=ROUNDS, weight=weight))


def breslow(days, event):
    """Gradient and hessian of Breslow's partial likelihood; xgboost's own depends on the order of tied rows."""
    later = days[None, :] >= days[:, None]

    def objective(margin, _):
        risk = np.exp(margin.astype(float))
        R = later @ risk
        before = (days[None, :] <= days[:, None]) * event[None, :]
        return risk * (before @ (1 / R)) - event, np.maximum(risk * (before @ (1 / R)) - risk**2 * (before @ (1 / R**2)), 1e-16)

    return objective


def lung_bins():
    frame = lung()
    X = in_bins(frame[["age", "ph.ecog", "ph.karno", "wt.loss", "meal.cal", "pat.karno"]].to_numpy(float), 8) if "meal.cal" in frame \
        else in_bins(frame[["age", "ph.ecog", "ph.karno", "wt.loss"]].to_numpy(float), 8)
    return with_gaps(X, 0.05), frame["event"].to_numpy(float), frame["time"].to_numpy(float)


def test_cox_trees_are_those_of_xgboost_with_breslow_ties():
    """Survival of 212 patients with lung cancer: xgboost given Breslow's gradients grows the same trees."""
    X, event, days = lung_bins()
    model = boosted(X, event, objective="survival:cox", time="days", rounds=30, max_depth=3,
                    more={"days": ({"type": "integer", "range": [0, 1100]}, days)})
    booster = native(X, event, model, rounds=30, max_depth=3, custom=breslow(days, event))

    assert_same_trees(model, booster)
    assert model.predict(dict(zip(names_of(X), X.T))) == pytest.approx(
        np.exp(booster.predict(xgboost.DMatrix(X), output_margin=True)), rel=1e-5)


def test_a_discrete_time_hazard_is_xgboost_on_person_periods():
    """Each patient becomes one row per 90 days at risk; absolute risks multiply up from these hazards."""
    X, event, days = lung_bins()
    ends = [90.0 * k for k in range(1, 9)]
    model = boosted(X, event, objective="hazard:logistic", time="days", intervals=ends, rounds=20, max_depth=3,
                    more={"days": ({"type": "integer", "range": [0, 1100], "cut_points": {"from": 0, "to": 1080, "step": 90}}, days)})
    last = np.clip(np.ceil(days / 90), 1, 8).astype(int)
    person = np.repeat(np.arange(len(days)), last)
    period = np.concatenate([np.arange(n) for n in last])
    happened = (event[person] == 1) & (period == last[person] - 1) & (days[person] <= 720)
    long = np.column_stack([X[person], period])
    booster = native(long, happened.astype(float), model, rounds=20, max_depth=3, objective="binary:logistic")
    for a, b in zip(model.trees, json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]):
        # period k stands for the time at its end, 90 (k + 1)
        b["split_conditions"] = [90.0 * (c + 1) if left >= 0 and f == X.shape[1] else c
                                 for c, left, f in zip(b["split_conditions"], b["left_children"], b["split_indices"])]
        assert list(a.left) == b["left_children"] and list(a.feature) == b["split_indices"]
        ours = [t if left >= 0 else v for t, v, left in zip(a.threshold, a.value, a.left)]
        assert all(abs(x - z) < 1e-5 or x == LARGEST for x, z in zip(ours, b["split_conditions"]))

    everybody = np.column_stack([np.repeat(X, 8, axis=0), np.tile(np.arange(8), len(days))])
    hazard = booster.predict(xgboost.DMatrix(everybody)).reshape(-1, 8)
    risk = model.predict(dict(zip(names_of(X), X.T)), horizon=[180.0, 720.0])

    assert risk == pytest.approx(1 - np.cumprod(1 - hazard.astype(float), axis=1)[:, [1, 7]], abs=1e-6)
    assert (risk[:, 1] >= risk[:, 0]).all()


@pytest.mark.parametrize("objective", ["count:poisson", "reg:squarederror"])
def test_many_trees_do_not_coarsen_the_gradients(objective):
    """After 300 trees with a large learning rate predictions are still those of xgboost; the bound of margins is measured on the way."""
    X, score = synthetic(2_000, 5, bins=8)
    y = np.random.default_rng(5).poisson(np.exp(score / 2)).astype(float) if objective == "count:poisson" else score
    settings = {"rounds": 300, "learning_rate": 0.5, "max_depth": 3}
    model = boosted(X, y, objective=objective, **settings)
    booster = native(X, y, model, **settings, **({"max_delta_step": 0.7} if objective == "count:poisson" else {}))

    assert model.predict(dict(zip(names_of(X), X.T))) == pytest.approx(booster.predict(xgboost.DMatrix(X)), rel=3e-6, abs=3e-6)


# -- properties ---------------------------------------------------------------------------------------------------------------------


def model_bytes(model):
    content = model.to_dict()
    return json.dumps([content[name] for name in ("trees", "columns", "base_score", "metrics")]).encode()


@pytest.mark.parametrize("options", [{}, {"subsample": 0.6, "colsample": 0.5, "seed": 3},
                                     {"validation": 0.25, "early_stopping": 3, "learning_rate": 0.8}],
                         ids=["plain", "sampled", "stopped early"])
def test_the_spread_of_patients_over_registries_does_not_change_a_byte(cancer, options):
    """One, two and five registries, and three ways of dealing patients out: the same model, to the byte."""
    X, y = cancer
    rng = np.random.default_rng(0)
    orders = [np.arange(len(y)), np.argsort(y, kind="stable"), rng.permutation(len(y))]
    found = {model_bytes(boosted(X, y, registries=k, order=order, rounds=ROUNDS, **options))
             for k, order in [(1, orders[0]), (2, orders[1]), (5, orders[0]), (5, orders[1]), (5, orders[2]), (64, orders[2])]}

    assert len(found) == 1


@pytest.mark.parametrize("objective", ["survival:cox", "hazard:logistic", "count:poisson", "reg:squarederror"])
def test_the_spread_does_not_matter_for_any_objective(objective):
    """Risk sets, person-periods, counts and numbers: one registry or seven, in another order, the same bytes."""
    X, event, days = lung_bins()
    timed = objective in ("survival:cox", "hazard:logistic")
    more = {"days": ({"type": "integer", "range": [0, 1100], "cut_points": {"from": 0, "to": 1100, "step": 20}}, days)} if timed else {}
    y = event if timed else np.floor(days / 100) if objective == "count:poisson" else days / 365.25
    found = {model_bytes(boosted(X, y, registries=k, order=order, objective=objective, rounds=8, more=more, time="days" if timed else None))
             for k, order in [(1, np.arange(len(y))), (7, np.random.default_rng(1).permutation(len(y)))]}

    assert len(found) == 1


@pytest.mark.parametrize("rules", [fedstats.disclosure.NO_RULES, Rules()], ids=["without rules", "default rules"])
def test_sealed_and_pooled_models_are_the_same_bytes(cancer, rules):
    """Under the seal nothing changes."""
    X, y = cancer
    models = [boosted(X, y, world=world, registries=3, rounds=3, rules=rules) for world in (fedstats.pooled, fedstats.simulate)]

    assert model_bytes(models[0]) == model_bytes(models[1])
    assert models[0].released == "pooled" and models[1].released == "simulated"


def test_a_subsample_is_of_patients_wherever_they_are(cancer):
    """A sampled model differs from the full one, and another seed gives another model."""
    X, y = cancer
    full, one, other = (model_bytes(boosted(X, y, rounds=4, **options)) for options in
                        ({}, {"subsample": 0.5, "seed": 1}, {"subsample": 0.5, "seed": 2}))

    assert len({full, one, other}) == 3


def test_training_stops_when_those_held_out_no_longer_gain(cancer):
    """With a large learning rate the held-out loss soon rises: fewer trees, and the held-out fit is reported beside the other."""
    X, y = cancer
    model = boosted(X, y, rounds=60, learning_rate=1.0, max_depth=6, validation=0.3, early_stopping=3)

    assert len(model.trees) < 60
    assert model.metrics["held_log_loss"] > model.metrics["log_loss"]


def test_a_monotone_risk_does_not_fall(cancer):
    """With monotone={"x0": 1} the predicted risk never falls as x0 grows."""
    X, y = cancer
    model = boosted(X, y, rounds=20, monotone={"x0": 1}, columns=["x0", "x1"])
    grid = [model.predict({"x0": np.arange(16.0), "x1": np.full(16, other)}) for other in range(16)]

    assert (np.diff(grid, axis=1) >= 0).all()


def test_own_intercepts_of_registries_take_up_their_level():
    """Registries that differ in level only: with own intercepts trees do not chase the level, and the model predicts the common one."""
    rng = np.random.default_rng(2)
    X = in_bins(rng.normal(size=(3000, 2)), 8)
    own = np.repeat([0, 1, 2], 1000)
    y = (rng.random(3000) < 1 / (1 + np.exp(-(X[:, 0] - 3.5) / 2 - np.array([-1.5, 0.0, 1.5])[own]))).astype(float)
    order = np.lexsort((np.arange(3000), np.tile(np.arange(1000), 3)))
    with_own, without = (boosted(X, y, order=order, rounds=40, max_depth=2, intercepts=flag) for flag in (True, False))
    grid = {"x0": np.arange(8.0), "x1": np.full(8, 3.0)}

    # pooled over levels a slope is attenuated; within registries it is the true one
    assert np.ptp(with_own.margins(grid)) > np.ptp(without.margins(grid))


def test_the_log_loss_and_auc_are_those_of_the_training_rows(cancer):
    """Computed from sealed sums; the AUC from a score histogram, so within its bins."""
    from sklearn.metrics import log_loss, roc_auc_score

    X, y = cancer
    model = boosted(X, y, rounds=5, max_depth=2)
    p = model.predict(dict(zip(names_of(X), X.T)))

    assert model.metrics["log_loss"] == pytest.approx(log_loss(y, p), abs=1e-6)
    assert model.metrics["auc"] == pytest.approx(roc_auc_score(y, p), abs=2e-3)


# -- rules and refusals ----------------------------------------------------------------------------------------------------------------


def test_every_leaf_of_a_default_model_holds_enough_people(cancer):
    """Under the default rules each leaf has 10 people, and none or 10 with and without the outcome; leaves have 3 digits, covers
    are multiples of 10, and there is nothing else."""
    X, y = cancer
    model = boosted(X, y, rounds=7, rules=Rules())
    matrix = model.matrix(dict(zip(names_of(X), X.T)))
    for tree in model.trees:
        node = np.zeros(len(y), dtype=int)
        for _ in range(tree.depth):
            x = matrix[np.arange(len(y)), np.array(tree.feature)[node]]
            left = np.where(np.isnan(x), np.array(tree.default_left)[node], x < np.array(tree.threshold, dtype=np.float32)[node])
            node = np.where(np.array(tree.left)[node] < 0, node, np.where(left, np.array(tree.left)[node], np.array(tree.right)[node]))
        for leaf in np.unique(node):
            cells = np.bincount(y[node == leaf].astype(int), minlength=2)
            assert cells.sum() >= 10 and ((cells == 0) | (cells >= 10)).all()
        assert all(cover % 10 == 0 and cover > 0 for cover in tree.cover)
        assert all(value == np.float32(f"{value:.3g}") for value in tree.value)
    assert {one.bins for one in model.columns} <= set(range(17)) and model.parameters["min_child_weight"] >= 2.5


@pytest.mark.parametrize(("options", "word"), [({"bins": 17}, "bins"), ({"max_depth": 5}, "max_depth"),
                                               ({"min_child_weight": 1.0}, "min_child_weight"), ({"rounds": 4_000}, "rounds")])
def test_floors_are_kept_under_rules_and_lifted_without(cancer, options, word):
    """What could single out a patient is refused with the floor and the remedy."""
    X, y = cancer
    with pytest.raises(Refused, match=word) as found:
        boosted(X, y, rules=Rules(), **{"rounds": 1, **options})

    assert "at most" in found.value.hint or "min_child_weight=" in found.value.hint
    if word != "rounds":
        assert len(boosted(X, y, **{"rounds": 1, **options}).trees) == 1


@pytest.mark.parametrize(("options", "most"), [({}, "7 trees of this depth or 14 of depth 3"), ({"max_depth": 3}, "14 trees of this depth"),
                                               ({"splits": "random"}, "7 trees of this depth")])
def test_a_model_of_more_leaves_than_one_for_every_five_patients_is_not_released(cancer, options, most):
    """569 patients: 113 leaves. More would be as many equations in the outcomes as there are bits in them; the hint says how many trees."""
    X, y = cancer
    with pytest.raises(Refused, match="one for every 5 patients") as found:
        boosted(X, y, rules=Rules(), **{"rounds": 20, **options})

    assert most in found.value.hint and "learning_rate" in found.value.hint
    assert sum(tree.leaves for tree in boosted(X, y, rules=Rules(), **{"rounds": int(most.split()[0]), **options}).trees) <= len(y) / 5


def test_the_default_model_of_ten_thousand_patients_may_be_released():
    """100 trees of depth 4 with their 1600 leaves."""
    check_leaves(Rules(), rounds=100, depth=4, n=10_000)
    with pytest.raises(Refused, match="one for every 5 patients"):
        check_leaves(Rules(), rounds=100, depth=4, n=7_999)


def test_a_rare_outcome_is_refused(cancer):
    """Nine patients with the outcome: no model, under rules."""
    X, _ = cancer
    y = (np.arange(len(X)) < 9).astype(float)

    with pytest.raises(Refused, match="with the outcome"):
        boosted(X, y, rounds=5, rules=Rules())


def test_sums_that_do_not_fit_are_refused_before_anything_is_sealed():
    """Weights up to 1e15 with 30 bits beside them cannot be carried exactly: an error before a number leaves."""
    from fedstats.analyses.boosting import sums as boosting_sums
    from fedstats.analyses.boosting.bins import Feature
    from fedstats.analyses.boosting.cases import Model, Target
    from fedstats.data.dictionary import Dictionary
    from fedstats.query import rounds

    X = np.zeros((4, 1))
    model = Model(Target("binary:logistic", "y", bits=30), (Feature("x0", "x0", None, (1.0,)),))
    ask = boosting_sums.histograms(model=model.text, trees=[], tree="//////////8AAAAAAAAAAAAAAAAA", nodes=[0], unit=2.0**-30, people=False)

    with pytest.raises(RangeError, match="cannot be carried"):
        rounds.plan([ask], Dictionary.from_dict(dictionary_of(X + 1, np.array([0.0, 1, 0, 1]))), 2**33, 3)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"objective": "multi:softmax"}, "no objective"), ({"objective": "hazard:logistic"}, "follow-up time"),
    ({"early_stopping": 3}, "held out"),
    ({"monotone": {"x99": 1}}, "no covariate"), ({"learning_rate": 0.0}, "learning_rate"), ({"covariates": ["x0", "y"]}, "outcome"),
    ({"covariates": ["free"]}, "without cut points"), ({"outcome": "x0"}, "predicts a boolean"),
])
def test_a_wrong_question_is_answered_with_a_remedy(cancer, arguments, words):
    X, y = cancer
    fed = fedstats.pooled(tables(X, y, 3), dictionary=dictionary_of(X, y, free={"type": "number", "range": [0, 1]}))
    with pytest.raises(QuestionError, match=words) as found:
        fed.cohort().boost(**{"outcome": "y", "covariates": ["x0"], **arguments})

    assert found.value.hint or words in ("learning_rate",)


def test_patients_with_several_rows_are_counted_once():
    """Landmarks: three rows per patient count as one person in bins, leaves and n, and the trees are those over all rows."""
    X, score = synthetic(900, 4, bins=8)
    y = (score > np.quantile(score, 0.6)).astype(float)
    fed = fedstats.pooled({f"r{k}": {**table, "patient_id": table["patient_id"] // 9} for k, table in tables(X, y, 3).items()},
                          dictionary=dictionary_of(X, y) | {"most_rows": 3})
    model = fed.cohort().boost("y", names_of(X), rounds=5)

    assert_same_trees(model, native(X, y, model, rounds=5))
    assert model.n == 300
    ruled = fedstats.pooled({f"r{k}": {**table, "patient_id": table["patient_id"] // 9} for k, table in tables(X, y, 3).items()},
                            dictionary=dictionary_of(X, y) | {"most_rows": 3}, rules=Rules()).cohort().boost("y", names_of(X), rounds=3)
    assert max(tree.leaves for tree in ruled.trees) > 1


def test_what_training_means_is_said_beforehand(cancer):
    """Every level of every tree is a round, and covariates are named as read, though they may be missing."""
    X, y = cancer
    fed = fedstats.simulate(tables(X, y, 3), dictionary=dictionary_of(X, y))
    explanation = fed.explain(fed.cohort().question.boost("y", ["x0", "x1"], rounds=7, max_depth=3))

    assert explanation.rounds == 1 + 1 + 7 * 3 + 1
    assert explanation.columns == ("y", "x0", "x1")
