"""Inverse probability weights in Cox models: computed at the registries, equal to those of the pooled table; and weights that select."""

import msgspec
import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses.regression.weight_rules import class_counts
from fedstats.data.rows import load
from fedstats.errors import QuestionError, Refused
from fedstats.formula.weights import InverseProbability, Weighting, own_intercept, read_inverse

from .helpers import split

TREATED, PROPENSITY = "Surv(days, event) ~ treated", "treated ~ age + edss"
BY_REGISTRY = PROPENSITY + " + strata(registry)"
BOOK = Dictionary.from_dict({"name": "treated", "variables": [
    {"name": "age", "type": "integer", "range": [0, 100]}, {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5},
    {"name": "treated", "type": "boolean"}, {"name": "event", "type": "boolean"}, {"name": "w", "type": "number", "range": [0, 1000]},
    {"name": "days", "type": "integer", "range": [0, 3660], "unit": "days", "cut_points": {"from": 0, "to": 3660, "step": 30}}]})


def table(n=1200, seed=5):
    """Those who do worse are treated more often; treatment halves the hazard."""
    random = np.random.default_rng(seed)
    age, edss = random.integers(18, 70, n), random.integers(0, 14, n) / 2
    treated = random.random(n) < 1 / (1 + np.exp(2 - 0.02 * (age - 40) - 0.5 * edss))
    time = np.ceil(random.exponential(3000 / np.exp(0.02 * (age - 40) + 0.3 * edss - 0.7 * treated)))
    censor = random.integers(200, 3600, n)
    days = np.minimum(time, censor).astype(int)
    return pd.DataFrame({"age": age, "edss": edss, "treated": treated, "days": days, "event": time <= censor, "w": 1.0})


def cohort(frame, world=fedstats.pooled, home=None, **keywords):
    return world(split(frame, np.arange(len(frame)) % 4 if home is None else home), dictionary=BOOK, **keywords).cohort()


def by_hand(frame, estimand, most):
    """Stabilised weights from statsmodels."""
    import statsmodels.api as sm
    p = sm.GLM(frame["treated"].astype(float), sm.add_constant(frame[["age", "edss"]].astype(float)),
               family=sm.families.Binomial()).fit(tol=1e-14).fittedvalues.to_numpy()
    treated, share = frame["treated"].to_numpy(), frame["treated"].mean()
    w = np.where(treated, share / p, (1 - share) / (1 - p)) if estimand == "ate" else np.where(treated, 1, p / (1 - p))
    return np.minimum(w, most)


def breslow(time, event, x, w):
    """Coefficient of one covariate and its robust error (sum of squared weighted score residuals), by definition; Breslow's ties.

    Lin & Wei (1989); weights as coxph(robust=TRUE) of R.
    """
    beta, later = 0.0, time[None, :] >= time[:, None]
    for _ in range(60):
        r = w * np.exp(beta * x)
        S0 = later @ r
        mean = (later @ (r * x)) / S0
        information = (w * event * ((later @ (r * x * x)) / S0 - mean**2)).sum()
        beta += (w * event * (x - mean)).sum() / information
    hazard = w * event / S0
    residual = w * event * (x - mean) - r * ((later * hazard[:, None]).sum(axis=0) * x - (later * (hazard * mean)[:, None]).sum(axis=0))
    return beta, np.sqrt((residual**2).sum()) / information


@pytest.mark.parametrize(("estimand", "most"), [("ate", 20), ("ate", 1.5), ("att", 4)])
def test_the_weighted_model_is_that_of_the_pooled_table(estimand, most):
    """Weights of the sealed propensity model, truncated, make the coefficient and the robust error of the textbook formula."""
    frame = table()
    data = cohort(frame)
    weights = data.glm(PROPENSITY, family="binomial").inverse_probability(estimand=estimand, most=most)
    result = data.cox(TREATED, weights=weights, ties="breslow")
    w = by_hand(frame, estimand, most)
    beta, error = breslow(np.ceil(frame["days"] / 30).to_numpy(), frame["event"].to_numpy(), frame["treated"].to_numpy(float), w)

    assert result["treated"].coef == pytest.approx(beta, rel=1e-7)
    assert result.se_used == "robust" and result["treated"].se_robust == pytest.approx(error, rel=1e-7)
    assert any("inverse probability" in note for note in result.notes)


@pytest.mark.parametrize("strata", [False, True])
def test_the_weighted_model_equals_lifelines(strata):
    """Efron's ties, one baseline on the grid or one per registry on true days."""
    lifelines = pytest.importorskip("lifelines")
    frame = table()
    data = cohort(frame)
    weights = data.glm(PROPENSITY, family="binomial").inverse_probability()
    result = data.cox(TREATED + (" + strata(registry)" if strata else ""), weights=weights)
    plain = frame[["days", "event", "treated"]].astype(float).assign(weight=by_hand(frame, "ate", 20), registry=np.arange(len(frame)) % 4)
    if not strata:
        plain["days"] = np.ceil(plain["days"] / 30)
        plain = plain.drop(columns="registry")
    theirs = lifelines.CoxPHFitter().fit(plain, "days", "event", weights_col="weight", robust=True, strata=["registry"] if strata else None,
                                         fit_options={"precision": 1e-12})

    assert result["treated"].coef == pytest.approx(theirs.params_["treated"], rel=1e-7)
    assert result.log_likelihood_ == pytest.approx(theirs.log_likelihood_, rel=1e-7)


def test_several_treatments_are_weighted_by_a_multinomial_model():
    """Three classes of treatment: 1 / P(own class) of statsmodels' MNLogit, applied where the rows are."""
    import statsmodels.api as sm
    frame = table(900)
    frame["kind"] = np.where(frame["treated"], "high", np.where(frame.index % 3 == 0, "low", "moderate"))
    book = Dictionary.from_dict({**BOOK.to_dict(), "variables": [
        *BOOK.to_dict()["variables"], {"name": "kind", "type": "category", "levels": ["none", "low", "moderate", "high"]}]})
    data = fedstats.pooled(split(frame, frame.index % 3), dictionary=book).cohort()
    weights = data.multinomial("kind ~ age + edss").inverse_probability(most=15)
    X = sm.add_constant(frame[["age", "edss"]].astype(float))
    codes = pd.Categorical(frame["kind"], ["low", "moderate", "high"]).codes
    p = np.asarray(sm.MNLogit(codes, X).fit(disp=False, method="newton", maxiter=100).predict())

    found = Weighting.of(weights, book).values(load(frame, book)[0])
    assert found == pytest.approx(np.minimum(1 / p[np.arange(900), codes], 15), rel=1e-7)
    result = data.cox("Surv(days, event) ~ C(kind, Treatment('low'))", weights=weights)
    assert len(result.coefficients) == 2 and result.se_used == "robust"
    for change in ({"levels": ["low", "odd", "high"]}, {"share": 0.5}):
        with pytest.raises(QuestionError):
            data.cox("Surv(days, event) ~ C(kind, Treatment('low'))", weights={**msgspec.to_builtins(weights), **change})


def test_under_the_seal_the_weighted_model_is_the_same():
    """Two queries, propensity and outcome, in pooled and in simulate: every digit."""
    rules, found = Rules(rounding=False), []
    for world in (fedstats.pooled, fedstats.simulate):
        data = cohort(table(), world, rules=rules)
        found.append(data.cox(TREATED, weights=data.glm(PROPENSITY, family="binomial").inverse_probability(), baseline=False,
                              concordance=False))

    assert found[0].coefficients == found[1].coefficients
    assert found[0].weights == found[1].weights


def test_a_result_with_such_weights_is_read_back():
    """to_dict and from_dict keep the propensity model, in full, under rounding too."""
    data = cohort(table(), rules=Rules())
    weights = data.glm(PROPENSITY, family="binomial").inverse_probability()
    result = data.cox(TREATED, weights=msgspec.to_builtins(weights))

    assert result.weights == weights and type(result).from_dict(result.to_dict()) == result


def test_weights_that_leave_a_few_patients_are_refused():
    """Next to nothing for nearly everybody: seven patients would be the model."""
    frame = table()
    frame["w"] = np.where(frame.index % 200 == 7, 1000.0, 0.01)
    with pytest.raises(Refused, match=r"carry the model|one patient|largest weights"):
        cohort(frame, rules=Rules()).cox(TREATED, weights="w")
    frame["w"] = np.where(~frame["event"] & (frame.index % 100 == 7), 1000.0, 0.5)      # and where those seven have no event
    with pytest.raises(Refused, match=r"carry the model|one patient|largest weights"):
        cohort(frame, rules=Rules()).cox(TREATED, weights="w")


@pytest.mark.parametrize(("change", "says"), [({"coefficients": [1.0]}, "do not fit"), ({"most": 1e6}, "truncated"),
                                              ({"treatment": "edss"}, "two levels"), ({"share": 2.0}, "share"),
                                              ({"treatment": "event"}, "outcome"), ({"more": 1}, "cannot be read")])
def test_weights_that_make_no_sense_say_so(change, says):
    """Before anything is asked."""
    data = cohort(table(300))
    weights = msgspec.to_builtins(data.glm(PROPENSITY, family="binomial").inverse_probability())

    with pytest.raises(QuestionError, match=says):
        data.cox(TREATED, weights={**weights, **change})


def test_extreme_propensities_stay_within_the_truncation():
    """A coefficient that makes propensities of 0: weights end at their limit."""
    rows = load(table(50), BOOK)[0]
    made = read_inverse({"treatment": "treated", "terms": [], "coefficients": [-800.0], "most": 7.0})
    values = Weighting.of(made, BOOK).values(rows)

    assert set(np.unique(values)) <= {1.0, 7.0}
    assert (values[rows.values("treated") == 1] == 7.0).all()


def test_a_patient_with_several_rows_is_counted_once_by_the_largest_weight():
    """Classes of weight, apart for each treatment: 8 to 4, 4 to 2, 2 to 1 ..."""
    book = Dictionary.from_dict({**BOOK.to_dict(), "most_rows": 3, "patient_id": "who"})
    rows = load(pd.DataFrame({"who": ["a", "a", "a", "b", "b", "c"], "treated": [True, True, False, True, True, False], "w": 1.0}), book)[0]
    weights, made = np.array([8.0, 4.0, 1.0, 1.5, 0.1, 4.1]), InverseProbability("treated", (), (0.0,), most=8.0)
    untreated, treated = class_counts(rows, Weighting.of(made, book), weights)

    assert untreated.tolist()[:4] == [1, 0, 0, 1] and treated.tolist()[:4] == [1, 0, 1, 0]
    assert untreated.sum() == treated.sum() == 2
    assert class_counts(rows, Weighting.of("w", book), weights / 8 * 1000).sum() == 3
    assert class_counts(rows, Weighting.of("w", book), np.full(6, 5e-324))[0].tolist() == [0] * 19 + [3]


# -- a propensity model with an intercept per registry -----------------------------------------------------------------------------


def unequal(n=1600, seed=9):
    """Five registries of different sizes that treat more or less often, and whose patients do better or worse. Returns table and home."""
    random = np.random.default_rng(seed)
    frame, home = table(n, seed), random.choice(5, n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    z = -1 + 0.03 * (frame["age"] - 45) + 0.3 * (frame["edss"] - 3) + np.array([-1.0, 0.0, 0.8, 1.5, -0.5])[home]
    frame["treated"] = random.random(n) < 1 / (1 + np.exp(-z))
    frame["days"] = np.minimum(np.ceil(frame["days"] * (1.3 - 0.15 * home) * (1 + 0.5 * frame["treated"])), 3660).astype(int)
    return frame, home


def dummies(frame, home):
    """Propensities of statsmodels' logistic regression with an indicator per registry."""
    import statsmodels.api as sm
    X = np.column_stack([frame[["age", "edss"]].astype(float), np.eye(home.max() + 1)[home]])
    return np.asarray(sm.GLM(frame["treated"].astype(float), X, family=sm.families.Binomial()).fit(tol=1e-14, maxiter=100).fittedvalues)


def weighed(p, treated, estimand="ate", most=20.0, share=None):
    """Weights from propensities, by the textbook."""
    share = treated.mean() if share is None else share
    w = np.where(treated, share / p, (1 - share) / (1 - p)) if estimand == "ate" else np.where(treated, 1.0, p / (1 - p))
    return np.minimum(w, most)


@pytest.mark.parametrize(("estimand", "most"), [("ate", 20), ("ate", 2), ("att", 20)])
def test_weights_with_an_intercept_per_registry_are_those_of_indicators_of_registries(estimand, most):
    """Logistic model with an indicator per registry, then a weighted Cox model and a weighted mean difference with robust errors."""
    import statsmodels.api as sm
    frame, home = unequal()
    data = cohort(frame, home=home)
    weights = data.glm(BY_REGISTRY, family="binomial").inverse_probability(estimand=estimand, most=most)
    w = weighed(dummies(frame, home), frame["treated"].to_numpy(), estimand, most)
    cox = data.cox(TREATED, weights=weights, ties="breslow")
    beta, error = breslow(np.ceil(frame["days"] / 30).to_numpy(), frame["event"].to_numpy(), frame["treated"].to_numpy(float), w)

    assert weights.by_registry and len(weights.coefficients) == 2
    assert weights.share == (pytest.approx(frame["treated"].mean()) if estimand == "ate" else None)
    assert cox["treated"].coef == pytest.approx(beta, rel=1e-7) and cox["treated"].se_robust == pytest.approx(error, rel=1e-7)
    ours = data.glm("edss ~ treated", weights=weights, se="HC0")
    theirs = sm.WLS(frame["edss"], sm.add_constant(frame[["treated"]].astype(float)), weights=w).fit(cov_type="HC0")
    assert ours["treated"].coef == pytest.approx(theirs.params["treated"], rel=1e-7, abs=1e-9)
    assert ours["treated"].se_robust == pytest.approx(theirs.bse["treated"], rel=1e-6)
    assert any("intercept of its own in the propensity" in note for note in ours.notes)


def test_registries_where_nobody_or_everybody_is_treated_weigh_nothing():
    """Without a comparison within them they tell nothing of treatment: the answer is that of the others; with their share it is refused
    where fewer than three are such, as they would follow by subtraction."""
    frame, home = unequal()
    frame.loc[home == 3, "treated"], frame.loc[home == 4, "treated"] = True, False
    others = home < 3
    w = weighed(dummies(frame[others], home[others]), frame["treated"][others].to_numpy(), share=frame["treated"].mean())
    theirs = np.average(frame["edss"][others], weights=w * frame["treated"][others])
    data = cohort(frame, home=home)
    weights = data.glm(BY_REGISTRY, family="binomial").inverse_probability()
    found = data.glm("edss ~ treated", weights=weights, se="HC0")

    assert found["(Intercept)"].coef + found["treated"].coef == pytest.approx(theirs, rel=1e-8)
    assert found.rows == others.sum()
    with pytest.raises(Refused, match=r"weight 0 .* fewer than 3 registries"):
        cohort(frame, home=home, rules=Rules()).glm("edss ~ treated", weights=weights)


def test_a_share_of_treated_is_all_that_registries_differ_in():
    """No covariates: 1 / (the registry's own share of those treated alike)."""
    frame, home = unequal(400)
    data = cohort(frame, home=home)
    weights = data.glm("treated ~ 1 + strata(registry)", family="binomial").inverse_probability(stabilised=False)
    own = frame["treated"].groupby(home).transform("mean")
    w = np.where(frame["treated"], 1 / own, 1 / (1 - own))

    assert weights.coefficients == ()
    assert data.glm("age ~ 1", weights=weights)["(Intercept)"].coef == pytest.approx(np.average(frame["age"], weights=w), rel=1e-9)


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0, 2000.0])
def test_own_intercepts_expect_as_many_treated_as_there_are(spread):
    """Whatever the slopes, also where nearly all propensities are 0 or 1; none without a comparison."""
    random = np.random.default_rng(2)
    eta, treated = spread * random.normal(size=60), random.random(60) < 0.2
    a = own_intercept(eta, treated)

    assert (1 / (1 + np.exp(-np.clip(a + eta, -700, 700)))).sum() == pytest.approx(treated.sum(), rel=1e-9)
    assert own_intercept(eta, treated | True) is own_intercept(eta, treated & False) is own_intercept(eta[:0], treated[:0]) is None


def test_under_the_seal_weights_by_registry_are_the_same():
    """Two queries in pooled and in simulate: every digit; the result is read back."""
    found, (frame, home) = [], unequal()
    for world in (fedstats.pooled, fedstats.simulate):
        data = cohort(frame, world, home, rules=Rules(rounding=False))
        weights = data.glm(BY_REGISTRY, family="binomial").inverse_probability(most=10)
        found.append(data.cox(TREATED, weights=weights, baseline=False, concordance=False))

    assert found[0].coefficients == found[1].coefficients and found[0].weights.by_registry
    assert type(found[0]).from_dict(found[0].to_dict()) == found[0]


def test_weights_of_several_levels_have_no_intercepts_by_registry():
    with pytest.raises(QuestionError, match="by registry"):
        cohort(table(300)).glm("edss ~ 1", weights=InverseProbability("event", (), (0.0,), levels=("false", "true"), by_registry=True))
