"""The released model in use: the file xgboost reads, predictions, attributions, and new patients that are checked."""

import json

import numpy as np
import pytest

import fedstats
from fedstats import Rules
from fedstats.errors import InputError, QuestionError
from fedstats.query.analysis import Result

from .boosting_data import boosted, names_of, native, synthetic, xgboost

PATIENTS = {
    "name": "patients",
    "variables": [
        {"name": "worse", "type": "boolean"}, {"name": "female", "type": "boolean"},
        {"name": "age", "type": "integer", "range": [18, 80], "cut_points": {"from": 20, "to": 80, "step": 5}},
        {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5},
        {"name": "dmt", "type": "category", "levels": ["none", "platform", "high [efficacy]"]},
        {"name": "days", "type": "integer", "range": [0, 1500], "cut_points": {"from": 0, "to": 1500, "step": 125}},
    ],
}


def table(n, seed):
    rng = np.random.default_rng(seed)
    edss, age = rng.integers(0, 14, n) / 2, rng.integers(18, 80, n)
    dmt = np.array(["none", "platform", "high [efficacy]"])[rng.integers(0, 3, n)]
    score = 0.6 * (edss - 3) + 0.03 * (age - 45) - 1.0 * (dmt == "high [efficacy]")
    days = np.minimum(np.ceil(rng.exponential(900 * np.exp(-score))), 1500)
    worse = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(object)
    edss = edss.astype(object)
    edss[rng.random(n) < 0.1] = None
    return {"worse": worse, "female": rng.random(n) < 0.7, "age": age, "edss": edss, "dmt": dmt, "days": days}


TABLES = {f"r{k}": table(400, k) for k in range(3)}
COVARIATES = ["age", "edss", "female", "dmt"]


@pytest.fixture(scope="module")
def model():
    return fedstats.pooled(TABLES, dictionary=PATIENTS, rules=Rules()).cohort().boost("worse", COVARIATES, rounds=15)


@pytest.fixture(scope="module")
def hazards():
    return fedstats.pooled(TABLES, dictionary=PATIENTS, rules=Rules()).cohort().boost(
        "worse", COVARIATES, objective="hazard:logistic", time="days", intervals=[250, 500, 750, 1000], rounds=30, max_depth=3,
        learning_rate=0.2, monotone={"edss": 1})


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_xgboost_reads_the_file_and_predicts_the_same_bits(model, tmp_path, ending):
    """Margins of the loaded Booster equal those of the model, missing values included."""
    path = tmp_path / f"model.{ending}"
    model.save(path)
    booster = xgboost.Booster()
    booster.load_model(path)
    new = table(300, 9)
    data = xgboost.DMatrix(model.matrix(new), feature_names=[one.name for one in model.columns])

    assert np.array_equal(booster.predict(data, output_margin=True), model.margins(new))
    assert booster.predict(data) == pytest.approx(model.predict(new), abs=1e-7)
    assert booster.feature_names == ["age", "edss", "female", "dmt=none", "dmt=platform", "dmt=high (efficacy)"]


def test_thresholds_are_registered_cut_points(model):
    """Ages are cut at multiples of five, EDSS at half points, indicators at 1."""
    for tree in model.trees:
        for left, feature, threshold in zip(tree.left, tree.feature, tree.threshold):
            if left >= 0:
                name = model.columns[feature].name
                assert threshold % {"age": 5, "edss": 0.5}.get(name, 1) == 0 or threshold > 1e38


def test_nothing_but_the_model_is_in_the_file(model):
    """No hessians, no gains, rounded covers and leaves."""
    for tree in json.loads(bytes(model.booster().save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]:
        assert not any(tree["loss_changes"])
        assert all(cover % 10 == 0 for cover in tree["sum_hessian"])
        for k, left in enumerate(tree["left_children"]):
            if left >= 0:
                assert tree["sum_hessian"][k] == tree["sum_hessian"][left] + tree["sum_hessian"][tree["right_children"][k]]
                assert tree["base_weights"][k] == 0


def test_attributions_sum_to_the_margin_and_agree_with_those_from_true_covers():
    """SHAP values from rounded covers: within 0.05 log-odds of the native ones, on average."""
    X, score = synthetic(3_000, 8, bins=8)
    y = (np.random.default_rng(2).random(3_000) < 1 / (1 + np.exp(-score))).astype(float)
    released = boosted(X, y, rounds=30, rules=Rules())
    new = dict(zip(names_of(X), X.T))
    ours = released.contributions(new)
    theirs = native(X, y, released, rounds=30, min_child_weight=2.5).predict(xgboost.DMatrix(X), pred_contribs=True)

    assert ours.sum(axis=1) == pytest.approx(released.margins(new), abs=1e-4)
    assert np.abs(ours - theirs).mean() < 0.05


def test_one_patient_can_be_asked_about(model):
    """Single values, a missing one, and a level with brackets."""
    patient = {"age": 50, "edss": None, "female": True, "dmt": "high [efficacy]"}

    assert model.predict(patient).shape == (1,)
    assert 0 < model.predict(patient)[0] < model.predict({**patient, "edss": 6.5, "dmt": "none"})[0] < 1


@pytest.mark.parametrize(("change", "words"), [({"age": 130}, 'column "age"'), ({"dmt": "other"}, 'column "dmt"'),
                                               ({"edss": 2.3}, 'column "edss"')])
def test_values_that_the_dictionary_does_not_allow_are_refused(model, change, words):
    """A new patient is checked like a registry's rows: the column and the rule are named."""
    with pytest.raises(InputError, match=words):
        model.predict({"age": 50, "edss": 3.0, "female": True, "dmt": "none", **change})


def test_a_hazard_model_gives_absolute_risks_that_grow_with_time_and_edss(hazards):
    """Risk at four horizons increases; a monotone risk does not fall with EDSS; other times are refused."""
    new = {"age": np.full(14, 45), "edss": np.arange(14) / 2, "female": np.ones(14, dtype=bool), "dmt": np.array(["none"] * 14)}
    risk = hazards.predict(new, horizon=[250, 500, 750, 1000])

    assert (np.diff(risk, axis=1) >= 0).all() and (np.diff(risk, axis=0) >= 0).all() and risk.shape == (14, 4)
    assert np.array_equal(hazards.predict(new), risk[:, -1])
    with pytest.raises(QuestionError, match="end of an interval"):
        hazards.predict(new, horizon=300)


def test_a_hazard_model_is_calibrated_to_the_life_table(hazards):
    """The mean predicted risk at 500 and 1000 days is one minus Kaplan-Meier on the same grid, nearly."""
    cohort = fedstats.pooled(TABLES, dictionary=PATIENTS).cohort()
    curve = cohort.kaplan_meier(time="days", event="worse").groups[0]
    everybody = {name: np.concatenate([one[name] for one in TABLES.values()]) for name in COVARIATES}
    risk = hazards.predict(everybody, horizon=[500, 1000]).mean(axis=0)
    shown = [1 - curve.survival[int(np.flatnonzero(np.array(curve.times) <= t)[-1])] for t in (500, 1000)]

    assert risk == pytest.approx(shown, abs=0.05)


def test_a_model_survives_being_written_as_a_result(model):
    """to_dict and from_dict: the same model, the same predictions."""
    again = Result.from_dict(json.loads(json.dumps(model.to_dict())))

    assert again == model
    assert np.array_equal(again.margins(table(50, 3)), model.margins(table(50, 3)))


def test_a_model_shows_its_columns_and_metrics(model):
    """The frame says how often trees cut on each column."""
    frame = model.frame()

    assert list(frame.index) == [one.name for one in model.columns]
    assert frame["splits"].sum() == sum(tree.leaves - 1 for tree in model.trees)
    assert "log_loss" in str(model) and model.n == 1200


def test_a_model_is_saved_as_json_or_ubj_only(model, tmp_path):
    with pytest.raises(InputError, match="json"):
        model.save(tmp_path / "model.pkl")


def test_a_base_score_whose_logarithm_differs_in_the_last_bit_is_corrected(model):
    """The Booster starts from the model's margin whatever this machine's logarithm gives."""
    import msgspec

    for shift in (-1, 1):
        other = msgspec.structs.replace(model, base_margin=float(np.nextafter(np.float32(model.base_margin), np.float32(shift * 9))))

        data = xgboost.DMatrix(other.matrix(table(20, 1)), feature_names=[one.name for one in other.columns])

        assert np.array_equal(other.booster().predict(data, output_margin=True), other.margins(table(20, 1)))
