"""Boosting with random splits: nothing but sums over leaves is opened, and the leaves are those xgboost gives the same trees."""

import numpy as np
import pytest

import fedstats
from fedstats import Rules
from fedstats.analyses.boosting import noise as boosting_noise
from fedstats.errors import QuestionError
from fedstats.query import rounds

from .boosting_data import assert_same_trees, boosted, dictionary_of, names_of, synthetic, tables, trees_of, xgboost

RANDOM = {"splits": "random", "rounds": 12, "max_depth": 3}


@pytest.fixture(scope="module")
def patients():
    """3 000 patients in bins, with gaps, and a yes or no."""
    X, score = synthetic(3_000, 8, bins=8)
    return X, (np.random.default_rng(5).random(3_000) < 1 / (1 + np.exp(-score))).astype(float), score


def leaves_of(tree, matrix):
    """The leaf of each row, walked plainly."""
    node = np.zeros(len(matrix), dtype=int)
    for _ in range(tree.depth):
        x = matrix[np.arange(len(matrix)), np.array(tree.feature)[node]]
        left = np.where(np.isnan(x), np.array(tree.default_left)[node], x < np.array(tree.threshold, dtype=np.float32)[node])
        node = np.where(np.array(tree.left)[node] < 0, node, np.where(left, np.array(tree.left)[node], np.array(tree.right)[node]))
    return node


def asked(call):
    """The statistics of all rounds of a run, in order, and what it gave."""
    found, plain = [], rounds.plan

    def watch(asks, *more):
        found.extend(asks)
        return plain(asks, *more)

    rounds.plan = watch
    try:
        return found, call()
    finally:
        rounds.plan = plain


# -- against other software --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "outcome"), [
    ("binary:logistic", lambda y, score: y), ("reg:squarederror", lambda y, score: score),
    ("count:poisson", lambda y, score: np.random.default_rng(5).poisson(np.exp(score / 2)).astype(float)),
], ids=["logistic", "squared error", "poisson"])
def test_leaves_are_those_that_xgboost_gives_the_same_trees(patients, objective, outcome):
    """Tree by tree, xgboost's own "refresh" on the pooled rows computes the same leaves for the splits that were drawn."""
    X, y, score = patients
    model = boosted(X, outcome(y, score), objective=objective, batch=1, learning_rate=0.3, **RANDOM)
    booster = model.booster()
    settings = {"process_type": "update", "updater": "refresh", "refresh_leaf": True, "eta": 0.3, "lambda": 1.0, "min_child_weight": 1.0,
                **({"max_delta_step": 0.7} if objective == "count:poisson" else {})}
    data = xgboost.DMatrix(X, outcome(y, score), feature_names=names_of(X))
    refreshed = xgboost.train(settings, data, len(model.trees), xgb_model=booster)

    assert_same_trees(model, refreshed)
    assert len({tuple(tree["split_conditions"]) for tree in trees_of(refreshed)}) == RANDOM["rounds"]


def test_trees_of_a_batch_share_their_margins(patients):
    """Batches of four trees, computed anew in plain numpy from the pooled rows."""
    X, y, _ = patients
    model = boosted(X, y, batch=4, **RANDOM)
    matrix = model.matrix(dict(zip(names_of(X), X.T)))
    margin = np.full(len(y), model.base_margin)
    for start in range(0, 12, 4):
        p, step = 1 / (1 + np.exp(-margin)), 0.0
        for tree in model.trees[start:start + 4]:
            node = leaves_of(tree, matrix)
            G, H = (np.bincount(node, one, minlength=len(tree.left)) for one in (p - y, p * (1 - p)))
            for leaf in np.flatnonzero(np.array(tree.left) < 0):
                assert tree.value[leaf] == pytest.approx(-0.1 * G[leaf] / (H[leaf] + 1) if H[leaf] >= 1 else 0.0, abs=1e-6)
            step = step + np.array(tree.value)[node]
        margin = margin + step

    assert model.parameters["batch"] == 4


def test_random_splits_predict_nearly_as_well_with_more_trees(patients):
    """On patients not seen: within 0.03 of the AUC of searched splits."""
    from sklearn.metrics import roc_auc_score

    X, y, _ = patients
    train = np.arange(len(y)) % 2 == 0
    test = dict(zip(names_of(X), X[~train].T))
    best, random = (boosted(X[train], y[train], **options) for options in
                    ({"rounds": 40, "max_depth": 3}, {"rounds": 300, "max_depth": 4, "splits": "random"}))
    aucs = [roc_auc_score(y[~train], model.predict(test)) for model in (best, random)]

    assert aucs[1] > aucs[0] - 0.03


# -- what is opened -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [fedstats.disclosure.NO_RULES, Rules()], ids=["without rules", "default rules"])
def test_no_histogram_is_asked_for(patients, rules):
    """The start counts nobody per bin; then people per leaf (under rules) and sums per leaf, one round for each batch."""
    X, y, _ = patients
    found, _ = asked(lambda: boosted(X, y, rules=rules, batch=4, **RANDOM))
    names = [one.statistic for one in found]

    people = ["boosting_leaves/1"] if rules.min_cell > 1 else []
    assert names == ["size/2", "levels/1", "boosting_start/1", *people, *["boosting_leaf_sums/1"] * 3, "boosting_scores/1"]
    assert found[2].params["covariates"] == []


def test_gradients_are_asked_only_for_leaves_that_hold_enough(patients):
    """Under the default rules every leaf whose gradients are summed holds 10 people, and none or 10 with and without the outcome."""
    X, y, _ = patients
    y = np.where(np.random.default_rng(1).random(len(y)) < 0.08, y, 0.0)
    model = boosted(X, y, rules=Rules(), splits="random", rounds=20)
    matrix = model.matrix(dict(zip(names_of(X), X.T)))
    for tree in model.trees:
        node = leaves_of(tree, matrix)
        for leaf in np.flatnonzero(np.array(tree.left) < 0):
            cells = np.bincount(y[node == leaf].astype(int), minlength=2)
            assert cells.sum() >= 10 and ((cells == 0) | (cells >= 10)).all()

    assert "taken back" in model.notes[0] and max(tree.leaves for tree in model.trees) > 4


def test_splits_do_not_depend_on_the_patients(patients):
    """Another outcome, and other rows: the same splits. Another seed: others."""
    X, y, _ = patients
    shapes = [[(tree.feature, tree.default_left, tuple(t for t, left in zip(tree.threshold, tree.left) if left >= 0)) for tree in
               boosted(*rows, seed=seed, **RANDOM).trees] for rows, seed in (((X, y), 1), ((X[::-1], 1 - y), 1), ((X, y), 2))]

    assert shapes[0] == shapes[1] != shapes[2]


# -- properties --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"subsample": 0.6, "colsample": 0.5, "batch": 3},
                                     {"validation": 0.25, "early_stopping": 4, "rounds": 22, "batch": 2, "learning_rate": 0.5}],
                         ids=["plain", "sampled", "stopped early"])
@pytest.mark.parametrize("rules", [fedstats.disclosure.NO_RULES, Rules()], ids=["without rules", "default rules"])
def test_the_spread_of_patients_and_the_seal_do_not_change_the_model(patients, options, rules):
    """Three or seven registries, another order, sealed or not: the same trees and the same fit."""
    X, y, _ = patients
    X, y = X[:900], y[:900]
    order = np.random.default_rng(0).permutation(900)
    models = [boosted(X, y, registries=k, order=order if k == 7 else None, world=world, rules=rules, **(RANDOM | options))
              for k, world in ((3, fedstats.pooled), (7, fedstats.pooled), (3, fedstats.simulate))]

    assert models[0].trees == models[1].trees == models[2].trees
    assert models[0].metrics == models[1].metrics == models[2].metrics


def test_training_with_drawn_splits_stops_when_those_held_out_no_longer_gain(patients):
    """Judged once per batch: whole batches stay."""
    X, y, _ = patients
    model = boosted(X[:600], y[:600], splits="random", rounds=400, max_depth=6, learning_rate=0.5, batch=2, validation=0.3,
                    early_stopping=10)

    assert len(model.trees) < 400 and len(model.trees) % 2 == 0
    assert model.metrics["held_log_loss"] > model.metrics["log_loss"]


@pytest.mark.parametrize("objective", ["survival:cox", "hazard:logistic"])
def test_drawn_splits_learn_survival(patients, objective):
    """Risks from drawn splits follow the true score."""
    X, _, score = patients
    days = np.minimum(np.ceil(np.random.default_rng(3).exponential(400 * np.exp(-score))), 1000)
    more = {"days": ({"type": "integer", "range": [0, 1000], "cut_points": {"from": 0, "to": 1000, "step": 50}}, days)}
    model = boosted(X, (days < 1000).astype(float), objective=objective, time="days", more=more, splits="random", rounds=150)
    risk = model.predict(dict(zip(names_of(X), X.T)))

    assert np.corrcoef(np.argsort(np.argsort(risk)), np.argsort(np.argsort(score)))[0, 1] > 0.7


def test_usual_batches_take_at_most_one_full_step(patients):
    """Ten trees at a learning rate of 0.1, three at 0.3, one where splits are searched."""
    X, y, _ = patients
    found = [boosted(X[:300], y[:300], rounds=20, max_depth=1, **options).parameters["batch"] for options in
             ({"splits": "random"}, {"splits": "random", "learning_rate": 0.3}, {})]

    assert found == [10, 3, 1]


@pytest.mark.parametrize(("arguments", "words"), [
    ({"splits": "worst"}, "splits"), ({"batch": 5}, "batches only"), ({"splits": "random", "batch": 20}, "full step"),
    ({"splits": "random", "monotone": {"x0": 1}}, "no monotone"), ({"splits": "random", "gamma": 0.5}, "no gamma"),
    ({"rho": 1.0}, "noise"), ({"splits": "random", "rho": 1.0, "intercepts": True}, "intercept"),
    ({"splits": "random", "rho": 1.0, "scale_pos_weight": 2.0}, "count once"),
    ({"splits": "random", "rho": 1.0, "validation": 0.3, "early_stopping": 5}, "fixed beforehand"),
])
def test_a_wrong_question_about_drawn_splits_is_answered(patients, arguments, words):
    X, y, _ = patients
    with pytest.raises(QuestionError, match=words):
        boosted(X[:100], y[:100], **arguments)


def test_what_drawn_splits_mean_is_said_beforehand(patients):
    """Sizes, the start, a round per batch, and the fit."""
    X, y, _ = patients
    fed = fedstats.simulate(tables(X, y, 3), dictionary=dictionary_of(X, y))
    explanation = fed.explain(fed.cohort().question.boost("y", ["x0", "x1"], rounds=20, splits="random"))

    assert explanation.rounds == 1 + 1 + 2 + 1


# -- noise ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library():
    """OpenDP, whose own accounting is compared with ours."""
    return pytest.importorskip("opendp.prelude")


@pytest.mark.parametrize(("rho", "trees", "registries"), [(0.17, 100, 5), (1.0, 30, 3), (0.02, 500, 12)])
def test_the_budget_is_that_of_opendp(library, rho, trees, registries):
    """What all registries but one add is one Gaussian measurement per tree, whose zCDP by OpenDP adds up to rho; its epsilon, by a
    tighter conversion, is at most ours."""
    unit = 2.0**-19
    share = boosting_noise.share_of_registry(boosting_noise.noise_sd(rho, trees), registries)
    others = share * (registries - 1) ** 0.5 / unit
    library.enable_features("contrib")
    space = library.vector_domain(library.atom_domain(T="i64")), library.l2_distance(T="f64")
    measurement = library.m.make_gaussian(*space, scale=others)
    patient = (np.rint(1 / unit) ** 2 + np.rint(0.25 / unit) ** 2) ** 0.5       # one in one leaf of each tree, most gradients

    assert rho * 0.99 < trees * measurement.map(patient) <= rho
    whole = library.c.make_zCDP_to_approxDP(library.m.make_gaussian(*space, scale=others / trees**0.5))
    assert 0.5 * boosting_noise.epsilon(rho) < whole.map(patient).epsilon(boosting_noise.DELTA) <= boosting_noise.epsilon(rho)


def test_noise_is_drawn_anew_with_the_scale_asked_for(library):
    """Mean 0, the standard deviation, whole numbers, two draws unlike; scale 0 changes nothing."""
    sums = np.arange(6_000).reshape(3_000, 2)
    drawn = [boosting_noise.noisy(sums, 2.0**20) - sums for _ in range(2)]

    assert drawn[0].dtype == np.int64 and (drawn[0] != drawn[1]).mean() > 0.99
    assert abs(drawn[0].mean()) < 5 * 2.0**20 / 6_000**0.5 and drawn[0].std() == pytest.approx(2.0**20, rel=0.05)
    assert boosting_noise.noisy(sums, 0.0) is sums


def test_a_noisy_model_opens_noisy_sums_only_and_still_predicts(library, patients):
    """Sealed: no sum over leaves without noise is asked for, two runs differ, and the risk still follows the score."""
    X, y, score = patients
    found, model = asked(lambda: boosted(X, y, rules=Rules(), world=fedstats.simulate, splits="random", rounds=40, rho=2.0))
    again = boosted(X, y, rules=Rules(), splits="random", rounds=40, rho=2.0)
    names = {one.statistic for one in found}

    assert "boosting_noisy_leaf_sums/1" in names and "boosting_leaf_sums/1" not in names
    assert [tree.threshold for tree in model.trees] == [tree.threshold for tree in again.trees]
    assert [tree.value for tree in model.trees] != [tree.value for tree in again.trees]
    assert "zCDP" in " ".join(model.notes)
    risk = model.predict(dict(zip(names_of(X), X.T)))
    assert np.corrcoef(np.argsort(np.argsort(risk)), np.argsort(np.argsort(score)))[0, 1] > 0.5
