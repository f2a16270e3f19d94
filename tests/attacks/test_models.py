"""An analyst who wants one patient's value out of released models: what is refused, and the same attack where no rules hold.

Every attack is carried out: `found` is worked out from released numbers only, and compared with the truth. The control runs it
without rules, where it must succeed; under the default rules the question must be refused, whatever the digits.
"""

import functools
import itertools
import re

import msgspec
import numpy as np
import pandas as pd
import pytest
from scipy import special

import fedstats
from fedstats import Dictionary, Rules
from fedstats.disclosure import FLOORS, NO_RULES
from fedstats.errors import FedstatsError, QuestionError, Refused
from fedstats.formula import weights as weights_module
from fedstats.formula.terms import BSpline, Variable
from fedstats.formula.weights import InverseProbability
from fedstats.query.analysis import Failed

N = 900
RULES = [pytest.param(Rules(), id="default"), pytest.param(FLOORS, id="floors")]
DICTIONARY = Dictionary.from_dict({"name": "attacked", "variables": [
    *({"name": name, "type": "boolean"} for name in ("a", "b", "c", "y", "rare", "died", "z")),
    {"name": "grade", "type": "integer", "range": [0, 5]},
    {"name": "drug", "type": "category", "levels": ["none", "old", "new"]},
    {"name": "age", "type": "integer", "range": [18, 100], "unit": "years", "cut_points": {"from": 20, "to": 100, "step": 5}},
    {"name": "score", "type": "number", "range": [0, 100]},
    {"name": "w", "type": "number", "range": [0, 10]},
    {"name": "u", "type": "number", "range": [-1, 1]}, {"name": "v", "type": "number", "range": [-1, 1]},
    {"name": "time", "type": "integer", "range": [0, 3600], "unit": "days", "cut_points": {"from": 0, "to": 3600, "step": 90}}]})


@functools.cache
def people(seed=1):
    """Patients whose covariates nobody would object to; each attack plants its victims."""
    rng = np.random.default_rng(seed)
    found = pd.DataFrame({name: rng.random(N) < 0.5 for name in ("a", "b", "c", "z")})
    found["grade"] = rng.integers(0, 5, N)
    found["drug"] = rng.choice(["none", "old"], N)
    found["age"] = rng.integers(25, 80, N)
    found["score"] = rng.uniform(10, 90, N).round(3)
    found["w"], found["u"], found["v"] = 1.0, rng.uniform(-1, 1, N).round(3), rng.uniform(-1, 1, N).round(3)
    found["y"], found["rare"] = rng.random(N) < special.expit(found["u"] - 0.3), False
    found["time"], found["died"] = rng.integers(100, 3500, N), rng.random(N) < 0.6
    return found


def planted(**columns):
    return people().assign(**columns)


def cohort(frame, rules, home=None):
    home = np.arange(len(frame)) % 4 if home is None else home
    tables = {f"r{k}": frame[home == k].reset_index(drop=True) for k in np.unique(home)}
    return fedstats.pooled(tables, dictionary=DICTIONARY, rules=rules).cohort()


def refused(ask, words=r"rule (min_cell|models|min_registries)"):
    with pytest.raises(Refused, match=words) as found:
        ask()
    return found.value


def cells_of_saturated(result, columns):
    """People and events of each combination of 0/1 factors, from a saturated logistic model: {combination: (people, events)}.

    The linear predictor of a combination is the logit of its share, and its variance is 1 / (n p (1 - p)).
    """
    b, V = np.array([one.coef for one in result.coefficients]), np.array(result.covariance)
    found = {}
    for cell in itertools.product((0, 1), repeat=len(columns)):
        value = dict(zip(columns, cell))
        x = np.array([1.0 if name == "(Intercept)" else float(all(value[part] for part in name.split(":"))) for name in result.names])
        p = special.expit(x @ b)
        n = 1 / (x @ V @ x) / (p * (1 - p))
        found[cell] = round(n), round(n * p)
    return found


# -- saturated models ------------------------------------------------------------------------------------------------------------


def test_without_rules_a_saturated_model_is_a_table():
    """The control: people and events of all eight combinations, exactly."""
    frame = people()
    truth = {tuple(int(one) for one in cell): (len(part), int(part["y"].sum())) for cell, part in frame.groupby(["a", "b", "c"])}

    assert cells_of_saturated(cohort(frame, NO_RULES).glm("y ~ a*b*c", family="binomial"), "abc") == truth


def few_events():
    """Of those with a and without b, two have the outcome: every column of a*b is large, with and without it."""
    frame = people()
    here = np.flatnonzero(frame["a"] & ~frame["b"])
    y = frame["y"].to_numpy(copy=True)
    y[here] = False
    y[here[:2]] = True
    return frame.assign(y=y)


def few_in_a_corner():
    """Three have c alone: no column of a*b*c is about them, and no pair of factors."""
    frame = people()
    here = np.flatnonzero(~frame["a"] & ~frame["b"] & frame["c"])
    c = frame["c"].to_numpy(copy=True)
    c[here[3:]] = False
    y = frame["y"].to_numpy(copy=True)
    y[here[:3]] = [True, False, False]
    return frame.assign(c=c, y=y)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("frame", "formula", "cell"), [(few_events, "y ~ a*b", (1, 0)), (few_in_a_corner, "y ~ a*b*c", (0, 0, 1))],
                         ids=["few events", "few people"])
def test_an_interaction_does_not_give_a_small_cell(rules, frame, formula, cell):
    """A combination of levels that is no column of its own: its share and its size would follow from all coefficients together."""
    frame, names = frame(), "abc"[:len(cell)]
    part = frame[np.logical_and.reduce([frame[name] == bool(one) for name, one in zip(names, cell)])]
    stolen = cells_of_saturated(cohort(frame, NO_RULES).glm(formula, family="binomial"), names)

    assert stolen[cell] == (len(part), part["y"].sum()) and 0 < min(stolen[cell][1], stolen[cell][0]) < 5
    refused(lambda: cohort(frame, rules).glm(formula, family="binomial"), "combination of levels")
    time = frame.assign(died=frame["y"])
    refused(lambda: cohort(time, rules).cox("Surv(time, died) ~ " + formula.partition("~")[2]), "combination of levels")


@pytest.mark.parametrize("rules", RULES)
def test_powers_do_not_give_a_level(rules):
    """Five powers of a grade of six levels are six indicators: the mean of two patients of grade 5 would be released."""
    frame = people()
    grade = frame["grade"].to_numpy(copy=True)
    grade[[7, 11]] = 5
    frame = frame.assign(grade=grade)
    released = cohort(frame, NO_RULES).glm("score ~ poly(grade, 5)")
    (stolen,) = released.predict({"grade": [5]})

    assert stolen == pytest.approx(frame["score"][[7, 11]].mean(), rel=1e-6)
    for formula in ("score ~ poly(grade, 5)", "score ~ grade + I(grade**2) + I(grade**3) + I(grade**4)", "score ~ ns(grade, 3)"):
        refused(lambda formula=formula: cohort(frame, rules).glm(formula))


@pytest.mark.parametrize("rules", RULES)
def test_a_piece_of_a_spline_does_not_single_out(rules):
    """Straight pieces: the constant less all other pieces is about those below the first knot, two of one age."""
    frame = people()
    age = frame["age"].to_numpy(copy=True)
    age[[3, 9]] = 18
    frame = frame.assign(age=age)
    formula = "score ~ bs(age, knots=[20, 40, 60], degree=1)"
    (stolen,) = cohort(frame, NO_RULES).glm(formula).predict({"age": [18]})

    assert stolen == pytest.approx(frame["score"][[3, 9]].mean(), rel=1e-6)
    refused(lambda: cohort(frame, rules).glm(formula), "piece of a spline")


# -- a column for one patient ----------------------------------------------------------------------------------------------------


def one_in_an_interaction():
    """Patient 5 alone has both a and the extreme drug."""
    frame = people()
    drug, a = frame["drug"].to_numpy(copy=True), frame["a"].to_numpy(copy=True)
    drug[:40], a[:40] = "new", False
    a[5] = True
    return frame.assign(drug=drug, a=a)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("formula", "frame"), [
    ("score ~ rare", lambda: planted(rare=np.arange(N) == 5)),
    ("score ~ u + C(rare)", lambda: planted(rare=np.arange(N) == 5)),
    ("score ~ a*drug", one_in_an_interaction),
    ("score ~ a:u + rare:u", lambda: planted(rare=np.arange(N) == 5)),
    ("score ~ I(w**5)", lambda: planted(w=np.where(np.arange(N) == 5, 10.0, people()["u"].abs() / 10))),
    ("score ~ scale(w, center=0, by=0.000001)", lambda: planted(w=np.where(np.arange(N) == 5, 10.0, 0.0))),
    ("score ~ log(w + 0.000000001)", lambda: planted(w=np.where(np.arange(N) == 5, 0.0, 1 + people()["u"].abs() / 1000))),
    ("score ~ bs(age, knots=[95], degree=1)", lambda: planted(age=np.where(np.arange(N) == 5, 99, people()["age"]))),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_vector_with_a_single_one_is_refused(rules, formula, frame):
    """Whatever the term it is made of: the residual of patient 5 would be 0, so his score would be his prediction."""
    frame = frame()
    victim = {name: [frame[name][5]] for name in ("a", "u", "w", "age", "rare", "drug")}
    (stolen,) = cohort(frame, NO_RULES).glm(formula).predict(victim)

    assert stolen == pytest.approx(frame["score"][5], abs=1.0)
    refused(lambda: cohort(frame, rules).glm(formula), "rule (min_cell|models)")


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("kind", ["ordinal", "multinomial", "logistic", "cox"])
def test_a_patient_far_from_all_others_does_not_tell_his_outcome(rules, kind):
    """One has w = 9, all others about 0.2: the sign of the slope is his outcome. At the fit of such a model his leverage is small, as his
    outcome is fitted nearly exactly; so leverage is looked at before the fit."""

    def slope(outcome, rules):
        grade = (np.random.default_rng(0).integers(0, 3, N)).astype(int)
        frame = planted(w=np.where(np.arange(N) == 5, 9.0, 0.2 + people()["v"] / 5), drug=np.array(["none", "old", "new"])[grade])
        frame.loc[5, "drug"], frame.loc[5, "y"] = ("new" if outcome else "none"), bool(outcome)
        frame.loc[5, "died"], frame.loc[5, "time"] = True, 110 if outcome else 3400
        c = cohort(frame, rules)
        found = {"ordinal": lambda: c.ordinal("drug ~ w"), "multinomial": lambda: c.multinomial("drug ~ w"),
                 "logistic": lambda: c.glm("y ~ w", family="binomial"), "cox": lambda: c.cox("Surv(time, died) ~ w")}[kind]()
        return [one.coef for one in found.coefficients if one.term.startswith("w")][-1]

    assert slope(0, NO_RULES) < 0 < slope(1, NO_RULES)
    told = [refused(lambda outcome=outcome: slope(outcome, rules), "leverage") for outcome in (0, 1)]
    assert str(told[0]) == str(told[1])


@pytest.mark.parametrize("few", [2, 5, 9])
def test_a_few_patients_far_from_all_others_do_not_tell_their_mean(few):
    """All of them have w = 9: what the line says there is the mean of their scores, though none of them has a leverage above a half."""
    far = np.arange(N) < few
    frame = planted(w=np.where(far, 9.0, 0.2 + people()["v"] / 5), score=np.where(far, 77.0, people()["score"]))

    found = cohort(frame, NO_RULES).glm("score ~ w")
    assert found.predict({"w": [9.0]})[0] == pytest.approx(77.0, abs=4.0)     # a guess has a standard deviation of 23
    refused(lambda: cohort(frame, Rules()).glm("score ~ w"), "mean of fewer than 10")


def test_as_many_as_a_cell_holds_may_stand_far_from_all_others():
    frame = planted(w=np.where(np.arange(N) < 12, 9.0, 0.2 + people()["v"] / 5))
    assert len(cohort(frame, Rules()).glm("score ~ w").coefficients) == 2


def reconstructed(result, n):
    """Huth et al. (2023): covariance / dispersion is (X'X)^-1, so X'X and X'y are released with a linear model."""
    X = np.linalg.inv(np.array(result.covariance) / result.dispersion)
    return X, X @ np.array([one.coef for one in result.coefficients])


def test_covariances_give_sums_of_covariates_back():
    """The control: counts of pairs of 0/1 covariates and sums of the outcome among them, exactly."""
    frame = people()
    XX, Xy = reconstructed(cohort(frame, NO_RULES).glm("score ~ a + b + c"), N)
    X = np.column_stack([np.ones(N), frame[["a", "b", "c"]].astype(float)])

    assert pytest.approx(X.T @ X, rel=1e-6) == XX and Xy == pytest.approx(X.T @ frame["score"], rel=1e-6)


@pytest.mark.parametrize("rules", RULES)
def test_covariances_hold_no_small_count(rules):
    """Four patients with both a and rare: the count, and their outcomes in sum, would follow. Where covariances are released, what follows
    from them are counts of at least the smallest cell."""
    frame = planted(rare=np.isin(np.arange(N), [*np.flatnonzero(people()["a"])[:4], *np.flatnonzero(~people()["a"])[:60]]))
    XX, _ = reconstructed(cohort(frame, NO_RULES).glm("score ~ a + rare"), N)

    assert round(XX[1, 2]) == 4
    refused(lambda: cohort(frame, rules).glm("score ~ a + rare"), "combination of levels")
    XX, _ = reconstructed(cohort(people(), rules).glm("score ~ a + b"), N)
    assert min(XX[1, 2], *(XX[0, 1:] - XX[1, 2])) >= rules.min_cell


# -- weights and offsets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", RULES)
def test_weight_zero_does_not_leave_a_few_out(rules):
    """Everybody's mean less that of those with a weight is the sum of the scores of three patients."""
    frame = planted(w=np.where(np.isin(np.arange(N), [3, 4, 5]), 0.0, 1.0))
    c = cohort(frame, NO_RULES)
    whole, weighed = c.glm("score ~ 1"), c.glm("score ~ 1 + weights(w)")
    stolen = whole["(Intercept)"].coef * whole.rows - weighed["(Intercept)"].coef * weighed.rows

    assert stolen == pytest.approx(frame["score"][[3, 4, 5]].sum(), rel=1e-6)
    refused(lambda: cohort(frame, rules).glm("score ~ 1 + weights(w)"), "weight 0")
    refused(lambda: cohort(frame, rules).cox("Surv(time, died) ~ u", weights="w"), "weight 0")


@pytest.mark.parametrize("rules", RULES)
def test_inverse_probabilities_do_not_leave_a_few_out(rules):
    """A propensity model is the analyst's to state: one without the level "new" gives its three patients no weight, one with a huge
    coefficient of a rare covariate gives its patients next to none."""
    drug = people()["drug"].to_numpy(copy=True)
    drug[[3, 4, 5]] = "new"
    frame = planted(drug=drug, rare=np.isin(np.arange(N), [3, 4, 5]))
    chosen = [InverseProbability("drug", (), (0.0,), levels=("none", "old")),
              InverseProbability("a", (Variable("rare"),), (0.0, -90.0), estimand="att"),
              InverseProbability("a", (Variable("rare"),), (0.0, 40.0))]
    for weights in chosen:
        refused(lambda weights=weights: cohort(frame, rules).glm("score ~ 1", weights=weights), "level of|weight 0")
        refused(lambda weights=weights: cohort(frame, rules).cox("Surv(time, died) ~ u", weights=weights), "level of|weight 0")
    found = cohort(frame, NO_RULES).glm("score ~ 1", weights=chosen[0])
    assert found.rows == N - 3


def test_inverse_probabilities_are_no_threshold_that_can_be_slid(monkeypatch):
    """Weights of 1 below a propensity and 2 above it, with the step just below patient 5 and just above: two means that differ by him."""
    u = np.random.default_rng(5).permutation(np.linspace(-1, 1, N)).round(4)
    frame, t = planted(u=u), float(u[5])

    def mean(step, rules):
        weights = InverseProbability("a", (Variable("u"),), (-40_000.0 * step, 40_000.0), most=2.0)
        return cohort(frame, rules).glm("score ~ 1", weights=weights)["(Intercept)"].coef

    with pytest.raises(QuestionError, match="too fast"):
        mean(t, Rules())
    monkeypatch.setattr(weights_module, "STEEPEST", np.inf)
    weight = np.where(frame["a"] == (u > t - 0.0005), 1.0, 2.0)
    own = 1.0 if frame["a"][5] else -1.0        # what the second mean adds to his weight
    stolen = own * (mean(t + 0.0005, FLOORS) * (weight.sum() + own) - mean(t - 0.0005, FLOORS) * weight.sum())

    assert stolen == pytest.approx(frame["score"][5], abs=1e-3)


def heavy():
    """Patient 5 is not treated, with the highest u of all; the next few are."""
    u, a = people()["u"].to_numpy(copy=True), people()["a"].to_numpy(copy=True)
    u[5] = 0.999
    a[np.argsort(-u)[:30]] = True
    a[5] = False
    return planted(u=u, a=a)


def towards(u, weight):
    """The untreated weigh `weight` where u is this, and next to nothing a little below; the treated 1."""
    return InverseProbability("a", (Variable("u"),), (float(np.log(weight)) - 50.0 * u, 50.0), estimand="att", most=1000.0)


@pytest.mark.parametrize("rules", RULES)
def test_weights_do_not_pick_out_one_patient(rules):
    """19.9 for him, 1 for hundreds: too little to carry the model, and yet his score follows from this mean and that of the treated."""
    frame = heavy()
    treated = frame["score"][frame["a"]]
    weighted = cohort(frame, NO_RULES).glm("score ~ 1", weights=towards(0.999, 19.9))["(Intercept)"].coef
    stolen = (weighted * (len(treated) + 19.9) - treated.sum()) / 19.9

    assert stolen == pytest.approx(frame["score"][5], abs=3)
    for weight in (0.5, 1.0, 19.9):         # as heavy as the treated, too
        refused(lambda weight=weight: cohort(frame, rules).glm("score ~ 1", weights=towards(0.999, weight)), "largest weights")
    refused(lambda: cohort(frame, rules).cox("Surv(time, died) ~ v", weights=towards(0.999, 19.9)), "largest weights")
    refused(lambda: cohort(frame, rules).piecewise("Surv(time, died) ~ v", cuts=900, weights=towards(0.999, 19.9)), "largest weights")


@pytest.mark.parametrize("rules", RULES)
def test_truncation_does_not_pick_out_one_patient(rules):
    """Two means, weights truncated at 5 and at 20, differ by his score, 15 times, if he alone weighs more than 5."""
    frame = heavy()
    few = InverseProbability("a", (Variable("u"),), (float(np.log(30)) - 0.999 * 50, 50.0), estimand="att", most=5.0)
    many = msgspec.structs.replace(few, most=20.0)
    low, high = (cohort(frame, NO_RULES).glm("score ~ 1", weights=one)["(Intercept)"].coef for one in (few, many))
    eta = np.log(30) + 50 * (frame["u"] - 0.999)
    weight = np.where(frame["a"], 1.0, np.exp(np.minimum(eta, np.log(5))))
    stolen = (high * (weight.sum() + 15) - low * weight.sum()) / 15

    assert stolen == pytest.approx(frame["score"][5], abs=1)
    for one in (few, many):
        refused(lambda one=one: cohort(frame, rules).glm("score ~ 1", weights=one), "largest weights")


@pytest.mark.parametrize("rules", RULES)
def test_a_stated_propensity_model_is_checked_like_a_fitted_one(rules):
    """A piece of a spline about one patient of 99: he weighs as much as everybody with b, and their sum is known; or nothing."""
    frame = planted(age=np.where(np.arange(N) == 5, 99, people()["age"]), **{name: people()[name] & (np.arange(N) != 5) for name in "ab"})
    terms = (Variable("b"), BSpline("age", knots=(95.0,), degree=1))
    up = InverseProbability("a", terms, (-1.0, 3.0, 0.0, 3.75))
    out = InverseProbability("a", terms, (-1.0, 0.0, 0.0, -40.0), estimand="att")
    eta = -1 + 3.75 * (frame["age"] - 95).clip(0) / 5 + 3 * frame["b"]
    weight = pd.Series(1 / np.where(frame["a"], special.expit(eta), special.expit(-eta)))
    mean = cohort(frame, NO_RULES).glm("score ~ 1", weights=up)["(Intercept)"].coef
    stolen = (mean * weight.sum() - (weight * frame["score"]).drop(5).sum()) / weight[5]

    assert stolen == pytest.approx(frame["score"][5], abs=1e-3)
    refused(lambda: cohort(frame, rules).glm("score ~ 1", weights=up), 'propensity model of the weights: column "bs')
    refused(lambda: cohort(frame, rules).glm("score ~ 1", weights=out), "far less than all others")


@pytest.mark.parametrize("rules", RULES)
def test_a_patient_far_from_all_others_is_not_told_by_a_propensity_model(rules):
    """One has w = 9, all others about 0.2: leverage is looked at in the propensity model too."""
    frame = planted(w=np.where(np.arange(N) == 5, 9.0, 0.2 + people()["v"] / 5), a=np.where(np.arange(N) == 5, False, people()["a"]))
    weights = InverseProbability("a", (Variable("w"),), (0.0, 0.15), most=1000.0)

    assert cohort(frame, NO_RULES).glm("score ~ 1", weights=weights).rows == N
    refused(lambda: cohort(frame, rules).glm("score ~ 1", weights=weights), "leverage")


@pytest.mark.parametrize("rules", RULES)
def test_weights_by_registry_do_not_show_one_registry(rules):
    """Registry 5 is small, and one of its twelve is treated: he weighs 12, and truncation at 5 instead of 20 would tell his score. Where
    all of it are treated they weigh nothing, and the rest less everybody would tell their mean."""
    home = np.where(np.arange(N) < 12, 5, HOME % 5)
    a = people()["a"].to_numpy(copy=True)
    a[:12] = False
    a[5] = True
    frame = planted(a=a)
    few, many = (InverseProbability("a", (), (), most=most, by_registry=True) for most in (5.0, 20.0))
    low, high = (cohort(frame, NO_RULES, home).glm("score ~ 1", weights=one)["(Intercept)"].coef for one in (few, many))
    share = frame["a"].groupby(home).transform("mean")
    weight = np.minimum(np.where(a, 1 / share, 1 / (1 - share)), 5)
    stolen = (high * (weight.sum() + 7) - low * weight.sum()) / 7

    assert stolen == pytest.approx(frame["score"][5], abs=1e-6)
    refused(lambda: cohort(frame, rules, home).glm("score ~ 1", weights=many), "largest weights")
    a[:12] = True
    refused(lambda: cohort(planted(a=a), rules, home).glm("score ~ 1", weights=many), "weight 0")


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("formula", ["relapses ~ 1 + offset(scale(w, center=0, by=1))", "score ~ 1 + weights(w)"])
def test_an_offset_or_weights_do_not_let_one_patient_carry_the_model(rules, formula):
    """One patient of weight 10 among weights of a thousandth: the mean would be his value."""
    frame = planted(w=np.where(np.arange(N) == 5, 10.0, 0.001))
    frame["grade"] = np.where(np.arange(N) == 5, 5, frame["grade"])
    formula, family = formula.replace("relapses", "grade"), "poisson" if "relapses" in formula else "gaussian"
    if family == "gaussian":
        (stolen,) = [one.coef for one in cohort(frame, NO_RULES).glm(formula).coefficients]
        assert stolen == pytest.approx(frame["score"][5], abs=5)
    refused(lambda: cohort(frame, rules).glm(formula, family=family))


# -- one registry alone ----------------------------------------------------------------------------------------------------------


HOME = np.arange(N) % 6


def only_the_last_compares():
    """Registries 0 to 2 gave a to all, 3 and 4 to nobody: only in registry 5 can those with and without a be compared."""
    return planted(a=np.where(HOME < 3, True, np.where(HOME < 5, False, people()["a"])))


@pytest.mark.parametrize("rules", RULES)
def test_registries_as_strata_do_not_show_one_registry_alone(rules):
    """With own intercepts, or own baselines, the effect of a is that of registry 5, to the last digit."""
    frame = only_the_last_compares()
    last = frame[HOME == 5].reset_index(drop=True)
    for ask in (lambda c: c.glm("y ~ a + strata(registry)", family="binomial"), lambda c: c.glm("score ~ a + strata(registry)"),
                lambda c: c.cox("Surv(time, died) ~ a + strata(registry)")):
        stolen = ask(cohort(frame, NO_RULES, HOME))
        alone = ask(cohort(last, NO_RULES, np.zeros(len(last))))

        assert stolen["a"].coef == pytest.approx(alone["a"].coef, rel=1e-6)
        refused(lambda ask=ask: ask(cohort(frame, rules, HOME)), "registries there is anything to compare")


@pytest.mark.parametrize("rules", RULES)
def test_an_outcome_that_varies_in_one_registry_only_is_refused(rules):
    """Each outcome is known in three registries or more, and yet only registry 5 has both."""
    frame = planted(y=np.where(HOME < 3, True, np.where(HOME < 5, False, people()["y"])))
    stolen = cohort(frame, NO_RULES, HOME).glm("y ~ u + strata(registry)", family="binomial")
    last = frame[HOME == 5].reset_index(drop=True)
    alone = cohort(last, NO_RULES, np.zeros(len(last))).glm("y ~ u", family="binomial")

    assert stolen["u"].coef == pytest.approx(alone["u"].coef, rel=1e-6)
    refused(lambda: cohort(frame, rules, HOME).glm("y ~ u + strata(registry)", family="binomial"), "registries there is anything")


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("formula", "changes"), [
    ("score ~ drug", {"drug": np.where((HOME == 5) & people()["a"], "new", people()["drug"])}),
    ("score ~ bs(age, knots=[80], degree=1)", {"age": np.where((HOME == 5) & people()["a"], 90, people()["age"])}),
    ("score ~ u + w", {"w": np.where(HOME == 5, people()["u"].abs(), 0.0)}),
    ("score ~ u + a:w", {"w": np.where(HOME == 5, people()["u"].abs(), 0.0)})], ids=lambda one: one if isinstance(one, str) else "")
def test_a_column_that_one_registry_alone_fills_is_refused(rules, formula, changes):
    """Dozens of patients, all of registry 5: a level, a piece of a spline, a number that is 0 elsewhere or there."""
    frame = planted(**changes)

    assert len(cohort(frame, NO_RULES, HOME).glm(formula).coefficients) > 1
    refused(lambda: cohort(frame, rules, HOME).glm(formula), "registries")


# -- survival --------------------------------------------------------------------------------------------------------------------


def test_without_rules_the_last_risk_set_is_told():
    """The control: the last increments of the baseline are one over those still at risk, who could be looked up."""
    frame = planted(u=np.where(np.arange(N) % 2, 0.5, -0.5))
    result = cohort(frame, NO_RULES).cox("Surv(time, died) ~ u", ties="breslow")
    (baseline,) = result.baseline
    grid = -(-frame["time"] // 90) * 90
    late = baseline.times[-1]
    d, n = int((frame["died"] & (grid == late)).sum()), int((grid >= late).sum())

    assert n < 30
    assert d / np.diff(baseline.hazard)[-1] == pytest.approx(n, rel=0.05)


@pytest.mark.parametrize("rules", RULES)
def test_the_baseline_ends_before_the_last_risk_set(rules):
    """Each shown step holds enough events, and enough are still at risk."""
    frame = planted(time=(people()["time"] * people()["u"].abs() + 60).astype(int))
    (baseline,) = cohort(frame, rules).cox("Surv(time, died) ~ u").baseline
    grid = -(-frame["time"] // 90) * 90
    ends = [0.0, *baseline.times]

    assert len(baseline.times) > 3
    for start, end in itertools.pairwise(ends):
        inside = (grid > start) & (grid <= end)
        assert (frame["died"] & inside).sum() >= rules.min_cell and (grid >= end).sum() >= rules.min_cell
        assert (~frame["died"] & inside).sum() == 0 or (~frame["died"] & inside).sum() >= rules.min_cell


def died_by(result):
    """Who had the event by each horizon, if nobody was lost: the Brier score of one risk p for everybody is p (1 - p)."""
    return [N * (0.5 + np.sqrt(0.25 - one.brier_without)) if one.brier_without is not None else None for one in result.horizons]


@pytest.mark.parametrize("rules", RULES)
def test_horizons_do_not_tell_how_many_had_the_event_between_them(rules):
    """Two patients have it between two neighbouring times of the grid, dozens between others."""
    time = np.where((people()["time"] > 2790) & (people()["time"] <= 2880), 2900, people()["time"])
    frame = planted(time=np.where(np.isin(np.arange(N), [3, 4]), 2800, time), died=True)
    lost = frame.assign(died=(frame["time"] < 3200) | people()["a"])
    formula, near, far = "Surv(time, died) ~ u", [2790, 2880], [1800, 2790]
    before, after = died_by(cohort(frame, NO_RULES).cox(formula, horizons=near))

    assert after - before == pytest.approx(2, abs=1e-3)
    assert [one.auc is None for one in cohort(lost, rules).cox(formula, horizons=near).horizons] == [False, True]
    assert [one.auc is None for one in cohort(lost, rules).cox(formula, horizons=far).horizons] == [False, False]


@pytest.mark.parametrize("rules", RULES)
def test_events_beyond_the_grid_do_not_follow(rules):
    """The number of deaths is known from a cross-tabulation; those that a Cox model does not count would be three patients."""
    source = DICTIONARY.to_dict()
    for one in source["variables"]:
        if one["name"] == "time":
            one["cut_points"] = {"from": 0, "to": 3060, "step": 90}
    frame = planted(time=np.minimum(people()["time"], 3000))
    frame.loc[[3, 4, 5], "time"], frame.loc[[3, 4, 5], "died"] = 3500, True

    def ask(rules):
        tables = {f"r{k}": frame[np.arange(N) % 4 == k].reset_index(drop=True) for k in range(4)}
        fed = fedstats.pooled(tables, dictionary=Dictionary.from_dict(source), rules=rules)
        return fed.cohort().cox("Surv(time, died) ~ u")

    assert frame["died"].sum() - ask(NO_RULES).events == 3
    refused(lambda: ask(rules), "grid")


# -- what messages say -----------------------------------------------------------------------------------------------------------


def test_an_error_does_not_say_that_all_of_a_level_have_the_outcome():
    """Where empty cells are hidden, "everybody has the event" must not be told as the reason of a separation."""
    drug = people()["drug"].to_numpy(copy=True)
    drug[:60] = "new"
    frame = planted(drug=drug, y=np.where(np.arange(N) < 60, True, people()["y"]))
    with pytest.raises(FedstatsError, match="everybody has"):
        cohort(frame, NO_RULES).glm("y ~ drug", family="binomial")

    error = refused(lambda: cohort(frame, Rules()).glm("y ~ drug", family="binomial"), 'level of "drug"')
    assert "everybody" not in str(error) + error.hint and "nobody" not in str(error) + error.hint


@pytest.mark.parametrize("few", range(1, 10))
@pytest.mark.parametrize("formula", ["score ~ rare", "score ~ 1 + weights(w)", "y ~ u"])
def test_refusals_are_the_same_words_whatever_the_count(few, formula):
    """From one to nine patients: the same sentence, so that it tells no count."""

    def told(count):
        who = np.arange(N) < count
        changes = {"score ~ rare": {"rare": who}, "y ~ u": {"y": who}}.get(formula, {"w": (~who) * 1.0})
        error = refused(lambda: cohort(planted(**changes), Rules()).glm(formula, family="binomial" if "y ~" in formula else "gaussian"))
        return str(error), error.hint

    assert told(few) == told(1)
    assert set(re.findall(r"\d+", told(few)[0])) <= {"10", "1", "0"}


# -- several questions of one query ----------------------------------------------------------------------------------------------


def means(rules, frame, *columns):
    """Mean and n of u among the complete cases of several sets of columns, asked in one query."""
    c = cohort(frame, rules)
    return c._federation.ask(*(c.question.summary(list(one)) for one in columns))


def summed(result):
    return result["u"].mean * result.n


def gaps(**who):
    frame = people()
    return frame.assign(**{name: frame[name].where(~np.isin(np.arange(N), missing)) for name, missing in who.items()})


@pytest.mark.parametrize("rules", RULES)
def test_a_column_with_few_gaps_does_not_single_out(rules):
    """With and without a covariate that one patient lacks: his value is the difference of two sums."""
    frame = gaps(v=[5])
    one, other = means(NO_RULES, frame, "u", "uv")

    assert summed(one) - summed(other) == pytest.approx(frame["u"][5], abs=1e-9)
    asked = means(rules, frame, "u", "uv")
    assert isinstance(asked[1], Failed) and asked[1].problem.code == "refused"
    c = cohort(frame, rules)
    models = c._federation.ask(c.question.glm("score ~ u"), c.question.glm("score ~ u + v"))
    assert isinstance(models[1], Failed)


@pytest.mark.parametrize("rules", RULES)
def test_four_questions_do_not_single_out_who_lacks_two_columns(rules):
    """Twenty lack v, twenty lack w, patient 5 lacks both: f(u) - f(u, v) - f(u, w) + f(u, v, w) is his value, and any two of these
    questions differ by dozens."""
    frame = gaps(v=[5, *range(100, 120)], w=[5, *range(200, 220)])
    a, b, c, d = (summed(one) for one in means(NO_RULES, frame, "u", "uv", "uw", "uvw"))

    assert a - b - c + d == pytest.approx(frame["u"][5], abs=1e-9)
    for order in itertools.permutations(["u", "uv", "uw", "uvw"]):
        asked = means(rules, frame, *order)
        assert [isinstance(one, Failed) for one in asked] == [False, False, False, True]


@pytest.mark.parametrize("rules", RULES)
def test_eight_questions_do_not_single_out_who_lacks_three_columns(rules):
    """The same with three columns; patients who lack two of them are many."""
    rest = np.arange(6, N).tolist()
    v, w, s = (set(rest[:120]) | {5}, set(rest[60:180]) | {5}, set(rest[:60]) | set(rest[120:180]) | {5})
    frame = gaps(v=list(v), w=list(w), score=list(s))
    sets = [["u", *some] for m in range(4) for some in itertools.combinations(["v", "w", "score"], m)]
    sums = [(-1) ** (len(one) - 1) * summed(found) for one, found in zip(sets, means(NO_RULES, frame, *sets))]

    assert sum(sums) == pytest.approx(frame["u"][5], abs=1e-9)
    asked = means(rules, frame, *sets)
    assert isinstance(asked[-1], Failed) and not any(isinstance(one, Failed) for one in asked[:-1])


# -- statistics of a whole model -------------------------------------------------------------------------------------------------


def events_from(result, n):
    """The number of events whose binomial null deviance this is."""
    d = np.arange(1, n // 2 + 1)
    deviance = -2 * (d * np.log(d / n) + (n - d) * np.log(1 - d / n))
    return int(d[np.abs(deviance - result.null_deviance).argmin()])


@pytest.mark.parametrize("rules", RULES)
def test_a_null_deviance_tells_no_small_number_of_events(rules):
    """It gives the events exactly; there are at least ten (or five) for each parameter, whatever else is in the model."""
    frame = planted(y=np.arange(N) < 20)
    few = planted(y=np.isin(np.arange(N), [10, 20, 30, 40]))

    assert events_from(cohort(few, NO_RULES).glm("y ~ u", family="binomial"), N) == 4
    refused(lambda: cohort(few, rules).glm("y ~ u", family="binomial"), "rule models")
    assert abs(events_from(cohort(frame, rules).glm("y ~ u", family="binomial"), N) - 20) <= 1
