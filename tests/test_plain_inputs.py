"""Inputs as people have them at hand: numpy's numbers, single values, means of whole numbers, two
registries."""

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Rules
from fedstats.data.dictionary import Dictionary
from fedstats.data.filters import normal_filter
from fedstats.errors import QuestionError, Refused

PLAIN = {
    "name": "plain",
    "variables": [
        {
            "name": "age",
            "type": "integer",
            "range": [0, 90],
            "cut_points": {"from": 0, "to": 90, "step": 10},
        },
        {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5},
        {"name": "sex", "type": "category", "levels": ["Frau", "weiß nicht"]},
        {"name": "event", "type": "boolean"},
        {"name": "months", "type": "integer", "range": [0, 60]},
        {"name": "phase", "type": "category", "levels": ["früh", "Schübe", "spät"]},
    ],
}


def frame(n=240, seed=4):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(20, 70, n),
            "edss": rng.integers(0, 15, n) / 2,
            "sex": rng.choice(["Frau", "weiß nicht"], n),
            "event": rng.random(n) < 0.5,
            "months": rng.integers(1, 60, n),
            "phase": rng.choice(["früh", "Schübe", "spät"], n),
        }
    )


def parts(registries=3):
    data = frame()
    return {f"r{k}": data.iloc[k::registries] for k in range(registries)}


@pytest.fixture(scope="module")
def cohort():
    return fedstats.pooled(parts(), dictionary=PLAIN).cohort()


def test_a_dictionary_may_hold_numpy_numbers():
    """Ranges from a frame's describe(), levels from unique(), a step from arange: the same
    codebook, to the digest."""
    numpy = {
        np.str_("name"): np.str_("plain"),
        "most_rows": np.int64(1),
        "variables": (
            {
                "name": "age",
                "type": "integer",
                "range": np.array([0, 90]),
                "cut_points": {"from": np.int64(0), "to": np.float64(90), "step": np.int32(10)},
            },
            {
                "name": "edss",
                "type": "number",
                "range": (np.float64(0), np.int8(10)),
                "step": np.float32(0.5),
            },
            {"name": "sex", "type": "category", "levels": np.array(["Frau", "weiß nicht"])},
            {"name": "event", "type": "boolean"},
            {"name": "months", "type": "integer", "range": [np.uint8(0), np.int64(60)]},
            {
                "name": "phase",
                "type": "category",
                "levels": [np.str_(one) for one in ("früh", "Schübe", "spät")],
            },
        ),
    }

    assert Dictionary.from_dict(numpy).digest == Dictionary.from_dict(PLAIN).digest


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ([("age", ">=", np.int64(30))], [["age", ">=", 30]]),
        ([(np.str_("edss"), np.str_("<"), np.float64(4.5))], [["edss", "<", 4.5]]),
        ([("event", "==", np.bool_(True))], [["event", "==", True]]),
        ([("sex", "in", np.array(["Frau"]))], [["sex", "in", ["Frau"]]]),
        ([("months", "in", pd.Series([3, 4]))], [["months", "in", [3, 4]]]),
        ([("months", "in", range(3, 5))], [["months", "in", [3, 4]]]),
        ([("age", "missing", np.bool_(False))], [["age", "missing", False]]),
        ([("day", ">=", np.datetime64("2020-01-02"))], [["day", ">=", "2020-01-02"]]),
        ([("day", ">=", pd.Timestamp("2020-01-02"))], [["day", ">=", "2020-01-02"]]),
    ],
)
def test_filters_may_hold_numpy_numbers(given, plain):
    assert repr(normal_filter(given)) == repr({"all": plain})


def test_parameters_may_be_numpy_numbers(cohort):
    """Quantiles from linspace, columns from an Index, a ridge from a grid: the question is the
    same."""
    ask = cohort.question

    assert (
        ask.quantiles(np.array(["age"]), q=np.array([0.25, 0.5])).to_dict()
        == ask.quantiles(["age"], q=[0.25, 0.5]).to_dict()
    )
    assert (
        ask.summary(pd.Index(["age", "edss"])).to_dict() == ask.summary(["age", "edss"]).to_dict()
    )
    assert (
        ask.glm("edss ~ age", ridge=np.float32(0.5), lr=np.bool_(True)).to_dict()
        == ask.glm("edss ~ age", ridge=0.5, lr=True).to_dict()
    )
    assert (
        ask.piecewise(
            "Surv(months, event) ~ age", cuts=np.int64(12), confidence=np.float64(0.9)
        ).to_dict()
        == ask.piecewise("Surv(months, event) ~ age", cuts=12, confidence=0.9).to_dict()
    )
    assert ask.cox("Surv(months, event) ~ age", horizons=np.array([12, 24])).to_dict() \
        == ask.cox("Surv(months, event) ~ age", horizons=[12, 24]).to_dict()


def test_a_prediction_takes_single_values(cohort):
    """One patient as a dict of values; a value beside a list stands for all of the list."""
    model = cohort.glm("edss ~ age + sex")
    one = model.predict({"age": 40, "sex": "weiß nicht"})
    many = model.predict({"age": np.array([30, 40]), "sex": np.str_("weiß nicht")})

    assert one.shape == (1,) and many[1] == one[0] == pytest.approx(
        model["(Intercept)"].coef + 40 * model["age"].coef + model["sex[weiß nicht]"].coef
    )
    assert model.predict({"age": [], "sex": []}).shape == (0,)
    for levelled in (cohort.ordinal("phase ~ age + sex"), cohort.multinomial("phase ~ age")):
        assert levelled.predict({"age": 40, "sex": "Frau"}).to_numpy().sum() == pytest.approx(1)
    with pytest.raises(QuestionError, match="different lengths"):
        model.predict({"age": [30, 40], "sex": ["Frau"]})


def test_a_prediction_at_the_mean_of_whole_numbers(cohort):
    """The adjusted curve at the mean age and mean EDSS, which no patient has, is the curve at the
    means of the model."""
    mean = frame()[["age", "edss"]].mean()
    model = cohort.cox("Surv(months, event) ~ age + edss")
    (curve,) = model.survival_curves(mean.to_dict())

    assert curve.cumulative_hazard == pytest.approx(model.baseline[0].hazard, rel=1e-9)
    linear = cohort.glm("edss ~ ns(age, 3) + C(sex)")
    assert np.isfinite(linear.predict({"age": mean["age"], "sex": "Frau"})).all()
    assert np.isnan(linear.predict({"age": 900.5, "sex": "Frau"})).all()
    with pytest.raises(QuestionError, match="does not allow"):
        model.survival_curves({"age": 900.5, "edss": 2})


def test_two_registries_can_be_simulated_where_the_rules_allow():
    """The real seal between two parties in one process; the network asks for three."""
    rules = Rules(min_registries=1)
    found = [
        world(parts(2), dictionary=PLAIN, rules=rules).cohort().summary(["age"])
        for world in (fedstats.pooled, fedstats.simulate)
    ]

    assert found[0]["age"] == found[1]["age"] and found[1].registries == 2
    for tables, less in ((parts(2), Rules()), (parts(1), rules)):
        with pytest.raises(Refused, match="a query needs at least"):
            fedstats.simulate(tables, dictionary=PLAIN, rules=less).cohort().summary(["age"])


def test_new_patients_come_as_one_row_records_and_arrays_without_axes(cohort):
    """A row of a frame, a list of dicts, numpy's single values with and without an array around
    them: the same predictions, of every model."""
    patient = {"age": 40, "sex": "weiß nicht"}
    same = [
        pd.DataFrame([patient]),
        pd.DataFrame([patient], index=["p7"]).iloc[0],
        [patient],
        {"age": np.int64(40), "sex": np.str_("weiß nicht")},
        {"age": np.array(40), "sex": np.array("weiß nicht")},
        {"age": np.array([40.0]), "sex": "weiß nicht"},
    ]
    linear = cohort.glm("edss ~ age + sex")
    hazard = cohort.cox("Surv(months, event) ~ age + sex")
    trees = cohort.boost("event", ["age", "sex"], rounds=2, max_depth=2, bins=4)
    levelled = [cohort.ordinal("phase ~ age + sex"), cohort.multinomial("phase ~ age + sex")]
    predictions = [
        linear.predict,
        hazard.predict_partial_hazard,
        trees.predict,
        trees.contributions,
        *(one.predict for one in levelled),
    ]
    for predict in predictions:
        expected = np.asarray(predict(same[0]))
        for one in same[1:]:
            assert np.array_equal(np.asarray(predict(one)), expected)
    several = [patient, {"sex": "Frau"}]

    assert np.isnan(linear.predict(several)).tolist() == [False, True]
    with pytest.raises(QuestionError, match="different lengths"):
        trees.predict({"age": [30, 40], "sex": ["Frau"]})


def test_rules_and_estimands_as_they_are_written(cohort):
    """A smallest cell from numpy; the estimand in capitals, as papers write it."""
    rules = Rules(min_cell=np.int64(5), show_zeros=np.bool_(True))
    propensity = cohort.glm("event ~ age", family="binomial")

    assert rules == Rules(min_cell=5, show_zeros=True) and type(rules.min_cell) is int
    assert propensity.inverse_probability(estimand="ATT") == propensity.inverse_probability(
        estimand="att"
    )


def test_a_cohort_of_nobody_says_so():
    """Without rules there is no smallest cell to name."""
    data = frame().assign(age=30)
    with pytest.raises(Refused, match="nobody is in the cohort"):
        fedstats.pooled({"a": data, "b": data}, dictionary=PLAIN).cohort(
            where=[("age", ">=", 50)]
        ).summary("age")
