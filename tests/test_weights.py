"""Inverse probability weights in Cox models: computed at the registries, equal to those of the pooled table; and weights that select."""

import msgspec
import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.errors import QuestionError, Refused
from fedstats.rows import load
from fedstats.weights import Weighting, read_inverse

from .helpers import split

TREATED, PROPENSITY = "Surv(days, event) ~ treated", "treated ~ age + edss"
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


def cohort(frame, world=fedstats.pooled, **keywords):
    return world(split(frame, np.arange(len(frame)) % 4), dictionary=BOOK, **keywords).cohort()


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
    with pytest.raises(Refused, match=r"carry the model|one patient"):
        cohort(frame, rules=Rules()).cox(TREATED, weights="w")
    frame["w"] = np.where(~frame["event"] & (frame.index % 100 == 7), 1000.0, 0.5)      # and where those seven have no event
    with pytest.raises(Refused, match=r"carry the model|one patient"):
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
