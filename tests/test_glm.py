"""glm against R (models/*.csv), statsmodels and scikit-learn; what it refuses; what it says when a model cannot be fitted."""

import contextlib
import functools

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.errors import FedstatsError, NotConverged, QuestionError, Refused

from . import helpers

COEF, LOGLIK = 1e-7, 1e-8

CIS = Dictionary.from_dict({"name": "cis", "variables": [
    {"name": "converted", "type": "boolean"},
    {"name": "Age", "type": "integer", "range": [0, 100]},
    {"name": "female", "type": "boolean"},
    {"name": "OB", "type": "category", "levels": ["0", "1", "2"]},
    {"name": "PV", "type": "boolean"}, {"name": "IT", "type": "boolean"},
    {"name": "BF", "type": "category", "levels": ["1", "2", "3"]},
]})
CGD = Dictionary.from_dict({"name": "cgd", "variables": [
    {"name": "count", "type": "integer", "range": [0, 20]},
    {"name": "pt", "type": "integer", "range": [1, 1000]},
    {"name": "treat", "type": "boolean"}, {"name": "inherit", "type": "boolean"}, {"name": "steroids", "type": "boolean"},
    {"name": "age", "type": "number", "range": [0, 60]},
]})


@functools.cache
def cis_frame():
    raw = pd.read_csv(helpers.shared("data", "cis_mexico", "conversion_predictors_cis_ms.csv"))
    return pd.DataFrame({"converted": raw["group"] == 1, "Age": raw["Age"], "female": raw["Gender"] == 2,
                         "OB": raw["Oligoclonal_Bands"].astype(int).astype(str), "PV": raw["Periventricular_MRI"] == 1,
                         "IT": raw["Infratentorial_MRI"] == 1, "BF": raw["Breastfeeding"].astype(int).astype(str)})


@functools.cache
def cgd_frame():
    raw = pd.read_csv(helpers.shared("data", "survival_multicentre", "cgd_counting_process.csv"))
    found = raw.drop_duplicates("id").set_index("id")[["center", "treat", "inherit", "steroids", "age"]]
    found["count"] = raw.groupby("id")["status"].sum()
    found["pt"] = (raw["tstop"] - raw["tstart"]).groupby(raw["id"]).sum()
    return found.reset_index(drop=True)


def split(frame, parts=4):
    return helpers.split(frame, np.arange(len(frame)) % parts)


def cis(where=("OB", "!=", "2"), world=fedstats.pooled, parts=4, **options):
    return world(split(cis_frame(), parts), dictionary=CIS, **options).cohort([where] if where else None)


def cgd(parts=4):
    return fedstats.pooled(split(cgd_frame(), parts), dictionary=CGD).cohort()


def lung_gamma():
    return helpers.pooled_lung(time={"range": [1, 1100]}, sex={"type": "integer", "range": [1, 2], "levels": None}).cohort()


def check(result, file, model, setting, names, quantities=("coef", "se", "p")):
    for ours, theirs in names.items():
        found = result[ours]
        have = {"coef": found.coef, "se": found.se, "p": found.p, "stat": found.z, "se_hc0": found.se_robust}
        for quantity in quantities:
            expected = helpers.reference(file, model, setting, quantity, theirs)
            assert have[quantity] == pytest.approx(expected, rel=COEF * (10 if quantity == "p" else 1)), (ours, quantity)


def check_model(result, file, model, setting, quantities):
    have = {"loglik": result.log_likelihood, "deviance": result.deviance, "null_deviance": result.null_deviance, "aic": result.aic,
            "bic": result.bic, "n": result.rows, "df_residual": result.df_residual, "pearson_chisq": result.pearson,
            "dispersion": result.dispersion}
    for quantity in quantities:
        assert have[quantity] == pytest.approx(helpers.reference(file, model, setting, quantity), rel=LOGLIK), quantity


CIS_NAMES = {"(Intercept)": "intercept", "Age": "Age", "female": "female", "OB[1]": "OB1", "PV": "PV", "IT": "IT"}
WHOLE = ("loglik", "deviance", "null_deviance", "aic", "bic", "n", "df_residual", "pearson_chisq")


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_binomial_equals_R(link):
    """Conversion to MS after a first attack: coefficients, both standard errors, likelihood, as R's glm and sandwich print them."""
    result = cis().glm("converted ~ Age + female + OB + PV + IT", family="binomial", link=link)

    check(result, "glm_cis_mexico", f"binomial_{link}", "ob=known_only", CIS_NAMES, ("coef", "se", "stat", "p", "se_hc0"))
    check_model(result, "glm_cis_mexico", f"binomial_{link}", "ob=known_only", WHOLE)
    assert result.dropped == ("OB[2]",)
    assert result.cost.rounds <= 7


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_joint_tests_equal_R(link):
    """Three levels of breastfeeding: joint Wald test and likelihood-ratio test."""
    setting = "ob=known_only;bf=three_levels"
    result = cis().glm("converted ~ Age + female + OB + PV + IT + BF", family="binomial", link=link, lr=True, se="HC1")
    tests = {(one.name, one.term): one for one in result.tests}

    def expected(quantity):
        every = helpers._reference(helpers.shared("reference", "models", "glm_cis_mexico.csv"))
        found = [value for (model, where, _, what), value in every.items()
                 if (model, where, what) == (f"binomial_{link}", setting, quantity)]
        assert len(found) == 1
        return found[0]

    assert tests["lr", "BF"].chi2 == pytest.approx(expected("lr_chisq"), rel=COEF)
    assert tests["lr", "BF"].p == pytest.approx(expected("lr_p"), rel=COEF * 10)
    assert tests["wald", "BF"].chi2 == pytest.approx(expected("wald_chisq_hc1"), rel=COEF)
    plain = cis().glm("converted ~ Age + female + OB + PV + IT + BF", family="binomial", link=link)
    assert {one.term: one for one in plain.tests if one.name == "wald"}["BF"].chi2 == pytest.approx(expected("wald_chisq"), rel=COEF)
    for ours, theirs in {**CIS_NAMES, "BF[2]": "BF2", "BF[3]": "BF3"}.items():
        robust = helpers.reference("glm_cis_mexico", f"binomial_{link}", setting, "se_hc1", theirs)
        assert result[ours].se_robust == pytest.approx(robust, rel=COEF)


POISSON = "count ~ treat + inherit + steroids + age + offset(log(pt))"
CGD_NAMES = {"(Intercept)": "intercept", "treat": "treat", "inherit": "inherit", "steroids": "steroids", "age": "age"}


def test_poisson_equals_R():
    """Infections per day under treatment, with the logarithm of person-days as offset."""
    result = cgd().glm(POISSON, family="poisson")

    check(result, "glm_cgd_counts", "poisson_log", "offset=log(days)", CGD_NAMES)
    check_model(result, "glm_cgd_counts", "poisson_log", "offset=log(days)", WHOLE)


def test_quasipoisson_equals_R():
    """The same coefficients, standard errors widened by the Pearson dispersion, Student's t."""
    result = cgd().glm(POISSON, family="quasipoisson")

    check(result, "glm_cgd_counts", "quasipoisson_log", "offset=log(days)", CGD_NAMES)
    check_model(result, "glm_cgd_counts", "quasipoisson_log", "offset=log(days)", ("dispersion", "df_residual", "deviance"))
    assert result.log_likelihood is None


def test_negative_binomial_equals_MASS():
    """glm.nb: coefficients, theta and its standard error, likelihood; the coefficients' errors hold theta fixed."""
    result = cgd().glm(POISSON, family="negativebinomial", lr=True)

    def expected(what):
        return helpers.reference("glm_cgd_counts", "negbin_log", "offset=log(days)", what)

    for ours, theirs in CGD_NAMES.items():
        for quantity, value in (("coef", result[ours].coef), ("se", result[ours].se)):
            assert value == pytest.approx(helpers.reference("glm_cgd_counts", "negbin_log", "offset=log(days)", quantity, theirs), rel=1e-6)
    assert result.theta == pytest.approx(expected("theta"), rel=1e-6)
    # MASS takes the information before its last step of theta, of up to 1e-4
    assert result.theta_se == pytest.approx(expected("theta_se"), rel=1e-4)
    assert result.log_likelihood == pytest.approx(expected("loglik"), rel=LOGLIK)
    assert result.aic == pytest.approx(expected("aic"), rel=LOGLIK) and result.bic == pytest.approx(expected("bic"), rel=LOGLIK)
    assert result.deviance == pytest.approx(expected("deviance"), rel=1e-6)
    assert result.null_deviance == pytest.approx(expected("null_deviance"), rel=1e-6)


@pytest.mark.parametrize(("model", "formula"), [("gaussian_wtloss", "`wt.loss` ~ age + sex + ph.ecog"),
                                                ("gaussian_age", "age ~ sex + ph.ecog + wt.loss")])
def test_gaussian_equals_R(model, formula):
    """Linear regression with its t tests; sigma counts in the AIC."""
    result = lung_gamma().glm(formula)
    names = {one.term: "intercept" if one.term == "(Intercept)" else one.term for one in result.coefficients}

    check(result, "glm_lung", model, "link=identity", names, ("coef", "se", "stat", "p", "se_hc0"))
    check_model(result, "glm_lung", model, "link=identity", (*WHOLE, "dispersion"))
    assert result.cost.rounds == 2


def test_gamma_equals_R():
    """Gamma regression with the log link; R's likelihood takes deviance / n as dispersion."""
    result = lung_gamma().glm("time ~ age + sex + ph.ecog", family="gamma")

    check(result, "glm_lung", "gamma_time", "link=log", {"(Intercept)": "intercept", "age": "age", "sex": "sex", "ph.ecog": "ph.ecog"},
          ("coef", "se", "stat", "p", "se_hc0"))
    check_model(result, "glm_lung", "gamma_time", "link=log", (*WHOLE, "dispersion"))


# -- against statsmodels and scikit-learn ------------------------------------------------------------------------------------------

SYNTHETIC = {"name": "synthetic", "variables": [
    {"name": "event", "type": "boolean"}, {"name": "relapses", "type": "integer", "range": [0, 40]},
    {"name": "score", "type": "number", "range": [-20, 20]}, {"name": "cost", "type": "number", "range": [0.5, 200]},
    {"name": "age", "type": "integer", "range": [18, 80], "cut_points": {"from": 18, "to": 78, "step": 5}},
    {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5}, {"name": "female", "type": "boolean"},
    {"name": "dmt", "type": "category", "levels": ["none", "low", "high"]}, {"name": "years", "type": "number", "range": [0.1, 10]},
    {"name": "weight", "type": "number", "range": [0, 4]},
]}
DESIGN = "age + edss + female + dmt"


def synthetic(n=1500, seed=1, parts=4, shift=0.0):
    """Registries with a different base level each; `shift` times their number is added to the linear predictor."""
    rng = np.random.default_rng(seed)
    f = pd.DataFrame({"age": rng.integers(20, 70, n), "edss": rng.integers(0, 14, n) / 2, "female": rng.random(n) < 0.7,
                      "dmt": rng.choice(["none", "low", "high"], n), "years": rng.uniform(0.2, 8, n), "weight": rng.uniform(0.2, 3, n),
                      "registry": rng.integers(0, parts, n)})
    eta = -1 + 0.02 * (f["age"] - 40) + 0.15 * f["edss"] - 0.3 * f["female"] + 0.4 * (f["dmt"] == "none") + shift * f["registry"]
    eta = eta.to_numpy()
    f["event"] = rng.random(n) < 1 / (1 + np.exp(-eta))
    f["relapses"] = np.minimum(rng.negative_binomial(2, 2 / (2 + np.exp(eta - 0.5) * f["years"])), 40)
    f["score"] = (2 * eta + rng.normal(size=n)).clip(-20, 20)
    f["cost"] = (np.exp(eta + 2) * rng.gamma(3, 1 / 3, n)).clip(0.5, 200)
    return f


def federation(frame, world=fedstats.pooled, **options):
    tables = {f"r{k}": part.drop(columns="registry").reset_index(drop=True) for k, part in frame.groupby("registry")}
    return world(tables, dictionary=options.pop("dictionary", SYNTHETIC), **options)


def plain_design(frame, *more):
    columns = {"(Intercept)": np.ones(len(frame)), "age": frame["age"], "edss": frame["edss"], "female": frame["female"].astype(float),
               "dmt[low]": (frame["dmt"] == "low").astype(float), "dmt[high]": (frame["dmt"] == "high").astype(float)}
    for name in more:
        columns[f"@{name}"] = (frame["registry"] == name).astype(float)
    return pd.DataFrame(columns)


FAMILIES = [("score", "gaussian", "Gaussian"), ("event", "binomial", "Binomial"), ("relapses", "poisson", "Poisson"),
            ("cost", "gamma", "Gamma")]


def statsmodels_fit(frame, outcome, family, design, **options):
    import statsmodels.api as sm

    kind = getattr(sm.families, family)
    made = kind(sm.families.links.Log()) if family == "Gamma" else kind()
    return sm.GLM(frame[outcome].astype(float), design, family=made, **options).fit(tol=1e-14, maxiter=200)


def sandwich(frame, outcome, family, fitted, weights=1.0):
    """HC0 as R's sandwich: expected information as bread (statsmodels takes the observed one, which differs for gamma with log link)."""
    mu, X = fitted.fittedvalues.to_numpy(), np.asarray(fitted.model.exog)
    weights = np.asarray(weights, dtype=float) * np.ones(len(X))
    slope, variance = {"gaussian": (mu * 0 + 1, mu * 0 + 1), "binomial": (mu * (1 - mu),) * 2, "poisson": (mu, mu),
                       "gamma": (mu, mu**2)}[family]
    bread = np.linalg.inv((X.T * (weights * slope**2 / variance)) @ X)
    scores = X * (weights * (frame[outcome].to_numpy(dtype=float) - mu) * slope / variance)[:, None]
    return np.sqrt(np.diag(bread @ scores.T @ scores @ bread)).tolist()


@pytest.mark.parametrize(("outcome", "family", "theirs"), FAMILIES)
def test_weights_and_offset_equal_statsmodels(outcome, family, theirs):
    """Case weights, an offset, and robust standard errors."""
    frame = synthetic()
    offset = np.log(frame["years"])
    expected = statsmodels_fit(frame, outcome, theirs, plain_design(frame), var_weights=frame["weight"], offset=offset)
    found = federation(frame).cohort().glm(f"{outcome} ~ {DESIGN} + offset(log(years)) + weights(weight)", family=family)

    assert [one.coef for one in found.coefficients] == pytest.approx(expected.params.tolist(), rel=COEF)
    assert [one.se for one in found.coefficients] == pytest.approx(expected.bse.tolist(), rel=COEF)
    assert found.deviance == pytest.approx(expected.deviance, rel=1e-8)
    robust = sandwich(frame, outcome, family, expected, frame["weight"])
    assert [one.se_robust for one in found.coefficients] == pytest.approx(robust, rel=COEF)


@pytest.mark.parametrize(("outcome", "family", "theirs"), FAMILIES)
def test_registry_intercepts_equal_indicators_of_registries(outcome, family, theirs):
    """strata(registry): the fit with one indicator per registry, whose coefficients never leave; sandwich included."""
    frame = synthetic(shift=0.4)
    design = plain_design(frame, 1, 2, 3)
    expected = statsmodels_fit(frame, outcome, theirs, design)
    found = federation(frame).cohort().glm(f"{outcome} ~ {DESIGN} + strata(registry)", family=family)
    names = [one.term for one in found.coefficients]

    assert names == ["age", "edss", "female", "dmt[low]", "dmt[high]"]
    assert [one.coef for one in found.coefficients] == pytest.approx(expected.params[names].tolist(), rel=COEF)
    assert [one.se for one in found.coefficients] == pytest.approx(expected.bse[names].tolist(), rel=COEF)
    assert (found.parameters, found.df_residual) == (9, len(frame) - 9)
    assert found.deviance == pytest.approx(expected.deviance, rel=1e-9)
    assert [one.se_robust for one in found.coefficients] == pytest.approx(sandwich(frame, outcome, family, expected)[1:6], rel=COEF)


def test_registry_intercepts_of_probit_cloglog_and_negative_binomial_equal_indicators():
    """The links whose observed and expected information differ, and theta beside registry intercepts."""
    import statsmodels.api as sm
    frame = synthetic(shift=0.4)
    design = plain_design(frame, 1, 2, 3)
    for link, theirs in (("probit", sm.families.links.Probit()), ("cloglog", sm.families.links.CLogLog())):
        expected = sm.GLM(frame["event"].astype(float), design, family=sm.families.Binomial(theirs)).fit(tol=1e-14, maxiter=200)
        found = federation(frame).cohort().glm(f"event ~ {DESIGN} + strata(registry)", family="binomial", link=link)
        assert [one.coef for one in found.coefficients] == pytest.approx(expected.params[list(found.names)].tolist(), rel=COEF)
        assert [one.se for one in found.coefficients] == pytest.approx(expected.bse[list(found.names)].tolist(), rel=COEF)
    expected = sm.NegativeBinomial(frame["relapses"], design).fit(disp=0, method="newton", maxiter=200, tol=1e-12)
    found = federation(frame).cohort().glm(f"relapses ~ {DESIGN} + strata(registry)", family="negativebinomial")
    assert [one.coef for one in found.coefficients] == pytest.approx(expected.params[list(found.names)].tolist(), rel=1e-6)
    assert found.theta == pytest.approx(1 / expected.params["alpha"], rel=1e-5)
    assert found.log_likelihood == pytest.approx(expected.llf, rel=1e-9)


def test_splines_interactions_and_no_intercept_equal_statsmodels():
    """Through R's basis of natural splines or any other: the same fitted means; and coefficients without an intercept."""
    import statsmodels.api as sm
    frame = synthetic()
    found = federation(frame).cohort().glm("score ~ ns(age, knots=[33, 48]) + edss*female")
    x = np.column_stack([np.ones(len(frame)), frame["edss"], frame["female"], frame["edss"] * frame["female"]])
    from patsy import dmatrix
    spline = np.asarray(dmatrix("cr(x, knots=[33, 48], lower_bound=18, upper_bound=80) - 1", {"x": frame["age"]}))
    expected = sm.OLS(frame["score"], np.column_stack([x[:, 1:], spline])).fit()
    bare = federation(frame).cohort().glm("score ~ age + edss - 1")

    assert found.predict(frame.drop(columns="registry")) == pytest.approx(expected.fittedvalues.to_numpy(), rel=1e-7)
    assert found["edss:female"].coef == pytest.approx(expected.params.iloc[2], rel=1e-7)
    expected = sm.OLS(frame["score"], frame[["age", "edss"]]).fit().params.tolist()
    assert [one.coef for one in bare.coefficients] == pytest.approx(expected, rel=1e-9)


def test_prediction_intervals_equal_statsmodels():
    """Means and 95 % intervals for new patients; a gap gives NaN."""
    frame = synthetic()
    expected = statsmodels_fit(frame, "event", "Binomial", plain_design(frame))
    theirs = expected.get_prediction(plain_design(frame)[:5]).summary_frame()
    result = federation(frame).cohort().glm(f"event ~ {DESIGN}", family="binomial")
    found = result.predict(frame.drop(columns="registry")[:5], interval=True)

    assert found.to_numpy() == pytest.approx(theirs[["mean", "mean_ci_lower", "mean_ci_upper"]].to_numpy(), rel=1e-6)
    gap = frame.drop(columns="registry")[:2].astype({"age": float})
    gap.loc[0, "age"] = np.nan
    assert np.isnan(result.predict(gap)[0]) and not np.isnan(result.predict(gap)[1])


def test_ridge_equals_scikit_learn():
    """Penalty 0.5 * ridge * coef^2 on columns as they are, none on the intercept: C = 1 / ridge."""
    from sklearn.linear_model import LogisticRegression
    frame = synthetic()
    X = plain_design(frame).drop(columns="(Intercept)")
    expected = LogisticRegression(C=1 / 5.0, tol=1e-12, max_iter=100_000, solver="newton-cholesky").fit(X, frame["event"])
    found = federation(frame).cohort().glm(outcome="event", covariates=["age", "edss", "female", "dmt"], family="binomial", ridge=5)

    assert [one.coef for one in found.coefficients[1:]] == pytest.approx(expected.coef_[0].tolist(), rel=1e-6)


def test_rows_of_one_patient_are_clustered():
    """Several rows per patient: the sandwich sums each patient's scores first, as statsmodels' cluster without correction."""
    import statsmodels.api as sm
    frame = synthetic(600)
    rng = np.random.default_rng(5)
    frame["patient_id"] = [f"p{k}" for k in rng.integers(0, 200, len(frame))]
    frame["registry"] = frame["patient_id"].str[-1].astype(int) % 4
    found = federation(frame, dictionary=SYNTHETIC | {"most_rows": 20}).cohort().glm(f"event ~ {DESIGN}", family="binomial", se="HC0")
    expected = sm.GLM(frame["event"].astype(float), plain_design(frame), family=sm.families.Binomial()).fit(
        tol=1e-14, cov_type="cluster", cov_kwds={"groups": pd.factorize(frame["patient_id"])[0], "use_correction": False})

    assert [one.se_robust for one in found.coefficients] == pytest.approx(expected.bse.tolist(), rel=1e-7)
    assert found.rows == 600 and found.n == frame["patient_id"].nunique()


def test_inverse_probability_weights_equal_statsmodels():
    """A treatment that follows age and EDSS: weights from the sealed propensity model, computed at the registries, sandwich errors."""
    import statsmodels.api as sm
    frame = synthetic(3000)
    rng = np.random.default_rng(8)
    frame["female"] = rng.random(len(frame)) < 1 / (1 + np.exp(-(-1 + 0.03 * (frame["age"] - 40) + 0.3 * frame["edss"])))
    cohort = federation(frame).cohort()
    propensity = cohort.glm("female ~ age + edss", family="binomial")
    X = sm.add_constant(frame[["age", "edss"]].astype(float))
    p = sm.GLM(frame["female"].astype(float), X, family=sm.families.Binomial()).fit(tol=1e-14).fittedvalues
    treated, share = frame["female"].to_numpy(), frame["female"].mean()
    weights = {"ate": np.where(treated, share / p, (1 - share) / (1 - p)), "att": np.where(treated, 1, p / (1 - p)),
               "plain": np.where(treated, 1 / p, 1 / (1 - p))}
    D = sm.add_constant(frame[["female"]].astype(float))
    for name, w in weights.items():
        options = {"ate": {}, "att": {"estimand": "att"}, "plain": {"stabilised": False}}[name]
        made = propensity.inverse_probability(**options, most=3)
        w = np.minimum(w, 3)
        expected = sm.GLM(frame["score"], D, var_weights=w).fit(tol=1e-14)
        found = cohort.glm("score ~ female", weights=made, se="HC0")

        assert found["female"].coef == pytest.approx(expected.params["female"], rel=1e-7)
        assert found["female"].se_robust == pytest.approx(sandwich(frame, "score", "gaussian", expected, w)[1], rel=1e-6)
    with pytest.raises(QuestionError, match="logistic model"):
        cohort.glm("score ~ age").inverse_probability()
    with pytest.raises(QuestionError, match="do not fit"):
        cohort.glm("score ~ age", weights={"treatment": "female", "terms": [], "coefficients": [1.0, 2.0]})


# -- properties -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", [f"event ~ {DESIGN}", f"event ~ {DESIGN} + strata(registry)"])
def test_the_sealed_fit_has_the_digits_of_the_pooled_one(formula):
    """Under the real seal and the default rules, rounded or not: the same result to the last digit."""
    frame = synthetic()
    for rules in (Rules(), Rules(rounding=False)):
        found = [federation(frame, world, rules=rules).cohort().glm(formula, family="binomial", lr=True)
                 for world in (fedstats.pooled, fedstats.simulate)]
        here, there = ({key: one for key, one in result.to_dict().items() if key not in ("query", "released")} for result in found)

        assert here == there
    assert type(found[0]).from_dict(found[0].to_dict()) == found[0]


def test_registries_without_rows_or_events_change_nothing():
    """An empty registry, one that lacks a column, one in which nobody had the event: with an intercept each, as if they were not there."""
    frame = synthetic()
    lacking = frame.copy()
    extra = frame[:60].copy()
    extra["event"], extra["registry"] = False, 9
    cohort = federation(frame).cohort()
    tables = {f"r{k}": part.drop(columns="registry") for k, part in pd.concat([frame, extra]).groupby("registry")}
    tables |= {"empty": frame[:0].drop(columns="registry"), "lacks": lacking[:50].drop(columns=["registry", "edss"])}
    more = fedstats.pooled(tables, dictionary=SYNTHETIC).cohort()
    formula = f"event ~ {DESIGN} + strata(registry)"
    here, there = cohort.glm(formula, family="binomial"), more.glm(formula, family="binomial")

    assert [one.coef for one in there.coefficients] == pytest.approx([one.coef for one in here.coefficients], rel=1e-9)
    assert [one.se for one in there.coefficients] == pytest.approx([one.se for one in here.coefficients], rel=1e-9)


def test_a_start_from_the_registries_saves_rounds():
    """Large registries: cells and start, then three or four Newton rounds."""
    found = federation(synthetic(6000, shift=0.2)).cohort().glm(f"event ~ {DESIGN}", family="binomial")

    assert found.cost.rounds <= 5 and found.cost.numbers > 0 and found.cost.bytes > 0
    assert "logit" in found.methods and found.cost == fedstats.query.analysis.read_result(found.to_dict()).cost


def test_attributes_are_those_of_lifelines_and_statsmodels():
    """Series by coefficient, confidence intervals as DataFrames, a LaTeX table."""
    result = federation(synthetic()).cohort().glm(f"event ~ {DESIGN}", family="binomial")

    assert result.params["age"] == result.params_["age"] == result["age"].coef == result.summary.loc["age", "coef"]
    assert list(result.summary.columns) == ["coef", "exp(coef)", "se(coef)", "coef lower 95%", "coef upper 95%", "exp(coef) lower 95%",
                                            "exp(coef) upper 95%", "cmp to", "z", "p", "-log2(p)"]
    assert result.conf_int().loc["age"].tolist() == pytest.approx([result["age"].lower, result["age"].upper])
    assert result.conf_int(0.5).loc["age", 0] > result["age"].lower
    assert result.bse["age"] == np.sqrt(result.variance_matrix_.loc["age", "age"])
    assert "dmt[high]" in result.to_latex() and "<table" in result.to_html()
    assert result.odds_ratios_["age"] == pytest.approx(np.exp(result["age"].coef))
    assert result.frame().loc["age", "coef"] == result["age"].coef
    assert result.plot() is not None


def test_variance_inflation_equals_statsmodels():
    from statsmodels.stats.outliers_influence import variance_inflation_factor
    frame = synthetic()
    result = federation(frame).cohort().glm(f"score ~ {DESIGN}")

    X = plain_design(frame).to_numpy(dtype=float)
    expected = [variance_inflation_factor(X, k) for k in range(1, X.shape[1])]
    assert [one.vif for one in result.coefficients[1:]] == pytest.approx(expected, rel=1e-6)


# -- what cannot be fitted says why --------------------------------------------------------------------------------------------------


def test_a_level_without_events_is_named():
    """Nobody with unknown bands converted: R prints a coefficient of -18 and a standard error of 2000."""
    with pytest.raises(QuestionError, match=r'level "2" of "OB" nobody has the event.*separation') as caught:
        cis(where=None).glm("converted ~ Age + female + OB + PV + IT", family="binomial")
    held = cis(where=None).glm("converted ~ Age + female + OB + PV + IT", family="binomial", ridge=1)

    assert "ridge" in caught.value.hint and held["OB[2]"].coef < 0


def test_separation_by_a_number_is_named():
    """An age above which everybody has the event: the coefficient grows without limit."""
    frame = synthetic(400)
    frame["event"] = frame["age"] > 40
    with pytest.raises(NotConverged, match='"age" grows without limit'):
        federation(frame).cohort().glm("event ~ age + edss", family="binomial")


def test_columns_without_information_are_named():
    """The same for everybody; a sum of others; zero for everybody."""
    frame = synthetic(400)
    same = frame.assign(female=True)
    with pytest.raises(QuestionError, match='"female" carries no information'):
        federation(same).cohort().glm("score ~ age + female")
    with pytest.raises(QuestionError, match='"female" is 0 for everybody'):
        federation(frame.assign(female=False)).cohort().glm("score ~ age + female")
    with pytest.raises(QuestionError, match=r'"scale\(age\)" carries no information'):
        federation(frame).cohort().glm("score ~ age + scale(age)")


def test_poisson_counts_have_no_theta():
    """Counts without overdispersion: the negative binomial says so."""
    frame = synthetic(800)
    frame["relapses"] = np.random.default_rng(3).binomial(6, 0.4, len(frame))
    with pytest.raises(NotConverged, match=r"[Pp]oisson"):
        federation(frame).cohort().glm("relapses ~ age", family="negativebinomial")


@pytest.mark.parametrize(("arguments", "text"), [
    ({"formula": "dmt ~ age", "family": "binomial"}, "two levels"), ({"formula": "event ~ event", "family": "binomial"}, "own model"),
    ({"formula": "event ~ age", "family": "logistic"}, "no family"),
    ({"formula": "event ~ age", "family": "binomial", "link": "log"}, "no link"),
    ({"formula": "edss ~ age", "family": "poisson"}, "not a count"), ({"formula": "edss ~ age", "family": "gamma"}, "above 0"),
    ({"formula": "event ~ registry", "family": "binomial"}, "reserved"), ({"formula": "event ~ age + strata(dmt)"}, "strata"),
    ({"formula": "Surv(years, event) ~ age"}, "one outcome"), ({"formula": "score ~ age + weights(score)"}, "may be negative"),
    ({"outcome": "event", "formula": "event ~ age"}, "not both"), ({}, "needs a formula"), ({"formula": "score ~ 0"}, "no terms"),
    ({"formula": "score ~ age", "ridge": -1}, "ridge"), ({"formula": "score ~ age", "se": "HC3"}, "no se"),
])
def test_questions_that_make_no_sense_say_so(arguments, text):
    with pytest.raises(QuestionError, match=text):
        federation(synthetic(200)).cohort().glm(**arguments)


# -- release rules --------------------------------------------------------------------------------------------------------------------


def test_too_few_events_per_parameter_are_refused():
    frame = synthetic(300)
    frame["event"] = np.arange(300) % 15 == 0
    with pytest.raises(Refused, match="fewer than 10 events"):
        federation(frame, rules=Rules()).cohort().glm("event ~ age + edss + female", family="binomial")


def test_a_level_of_few_patients_is_refused():
    """Three patients on a drug: their coefficient would be about them."""
    frame = synthetic()
    frame.loc[frame["dmt"] == "high", "dmt"] = "low"
    frame.loc[[3, 4, 7], "dmt"] = "high"
    with pytest.raises(Refused, match='a level of "dmt"'):
        federation(frame, rules=Rules()).cohort().glm(f"score ~ {DESIGN}")
    frame.loc[frame.index < 150, "dmt"] = "high"
    frame.loc[frame["dmt"] == "high", "female"] = True
    frame.loc[:2, "female"] = False
    with pytest.raises(Refused, match='a combination of levels of "female" and "dmt"'):
        federation(frame, rules=Rules()).cohort().glm(f"score ~ {DESIGN}")


def test_one_patient_with_all_the_leverage_is_refused():
    """A number that only one patient has: its coefficient is that patient."""
    frame = synthetic(400)
    frame["weight"] = np.where(np.arange(len(frame)) == 5, 4.0, 0.001)
    with pytest.raises(Refused, match=r"leverage|singles out"):
        federation(frame, rules=Rules()).cohort().glm("score ~ age + weight")


def test_weights_and_offsets_select_nobody():
    """Three patients of weight 1 among zeros, or a tenth of a thousandth: their mean would come out. An offset can do the same."""
    frame = synthetic()
    rare = np.isin(np.arange(len(frame)), [3, 4, 5])
    extreme = {"a": np.where(rare, 1.0, 0.0), "b": np.where(rare, 1.0, 1e-3), "c": np.where(rare, 10.0, 0.11)}
    dictionary = SYNTHETIC | {"variables": [*SYNTHETIC["variables"], {"name": "flag", "type": "boolean"}]}
    for formula, values in (("score ~ age + weights(weight)", extreme["a"]), ("score ~ age + weights(weight)", extreme["b"])):
        with pytest.raises(Refused, match=r"rule models|rule min_cell"):
            federation(frame.assign(weight=values), rules=Rules()).cohort().glm(formula)
    with pytest.raises(Refused, match=r"rule models|rule min_cell"):
        federation(frame.assign(flag=rare), rules=Rules(), dictionary=dictionary).cohort().glm("score ~ age + weights(flag)")
    with pytest.raises(Refused, match=r"rule models"):
        federation(frame.assign(years=extreme["c"]), rules=Rules()).cohort().glm("relapses ~ 1 + offset(poly(years, 1))", family="poisson")


def test_ranges_of_the_dictionary_far_beyond_the_data_cost_no_digits():
    """A covariate that may reach a hundred times further than it does: the bounds of exponential sums follow the patients."""
    frame = synthetic()
    wide = {**SYNTHETIC, "variables": [{**one, "range": [0, 2000]} if one["name"] == "age" else
                                       {**one, "range": [0, 300]} if one["name"] == "edss" else one for one in SYNTHETIC["variables"]]}
    for outcome, family, link in (("relapses", "poisson", None), ("event", "binomial", "cloglog"), ("cost", "gamma", None)):
        formula = f"{outcome} ~ {DESIGN} + strata(registry)" if family == "gamma" else f"{outcome} ~ {DESIGN}"
        here, there = (federation(frame, dictionary=one).cohort().glm(formula, family=family, link=link) for one in (SYNTHETIC, wide))

        assert [one.coef for one in there.coefficients] == pytest.approx([one.coef for one in here.coefficients], rel=1e-7)
        assert [one.se for one in there.coefficients] == pytest.approx([one.se for one in here.coefficients], rel=1e-7)


def test_rules_keep_the_covariance_of_small_cohorts():
    """More numbers than a tenth of the patients: coefficients yes, their covariance no."""
    result = federation(synthetic(700), rules=Rules()).cohort().glm(f"score ~ {DESIGN} + female:edss")

    assert result.covariance is None and any("rule models" in note for note in result.notes)
    with pytest.raises(QuestionError, match="not released"):
        _ = result.variance_matrix_


def test_explain_tells_the_usual_course():
    """What is known before anybody has answered: the columns, the usual number of rounds, what is sent."""
    fed = federation(synthetic(6000), rules=Rules())
    told = fed.explain(fed.cohort().question.glm(f"event ~ {DESIGN}", family="binomial"))
    found = fed.cohort().glm(f"event ~ {DESIGN}", family="binomial")

    assert "age" in told.columns and abs(told.rounds - 1 - found.cost.rounds) <= 1


def test_errors_are_all_of_the_house():
    """Ten random wrong models: always a sentence, never a traceback of numpy."""
    rng = np.random.default_rng(11)
    frame = synthetic(120)
    for _ in range(10):
        frame["event"] = rng.random(len(frame)) < rng.choice([0.0, 0.02, 0.5, 1.0])
        frame["female"] = frame["event"] if rng.random() < 0.5 else frame["female"]
        with contextlib.suppress(FedstatsError):
            federation(frame).cohort().glm(f"event ~ {DESIGN}", family="binomial")


@pytest.mark.parametrize("terms", ["dmt", "age + dmt", "age*dmt", "age + age:dmt"])
def test_a_reference_that_nobody_has_names_one_that_somebody_has(terms):
    """In every model, as formula and as list; what is written then works, and so does a ridge penalty."""
    frame = synthetic(400)
    frame["dmt"], frame["class"] = np.where(frame["dmt"] == "none", "high", frame["dmt"]), frame.index % 3
    frame["days"] = (365 * frame["years"]).astype(int)
    book = {**SYNTHETIC, "variables": [*SYNTHETIC["variables"], {"name": "class", "type": "integer", "range": [0, 2]}, {
        "name": "days", "type": "integer", "range": [0, 3000], "cut_points": {"from": 0, "to": 3000, "step": 300}}]}
    data = federation(frame, dictionary=book).cohort()
    asks = {"glm": lambda terms, **more: data.glm(f"score ~ {terms}", **more),
            "list": lambda terms: data.glm(outcome="score", covariates=[terms]),
            "own": lambda terms: data.glm(f"score ~ {terms} + strata(registry)"),
            "ordinal": lambda terms: data.ordinal(f"class ~ {terms}"), "multinomial": lambda terms: data.multinomial(f"class ~ {terms}"),
            "piecewise": lambda terms: data.piecewise(f"Surv(days, event) ~ {terms}", cuts=1500),
            "cox": lambda terms: data.cox(f"Surv(days, event) ~ {terms}")}
    for ask in asks.values():
        with pytest.raises(QuestionError, match='nobody has the level "none" of "dmt"') as found:
            ask(terms)
        assert found.value.hint.endswith("write C(dmt, Treatment('low'))")
    better = terms.replace("dmt", "C(dmt, Treatment('low'))")
    assert "dmt[high]" in asks["glm"](better).names[-1] and "dmt[high]" in asks["cox"](better).names[-1]
    assert asks["glm"](terms, ridge=1.0).coefficients
    frame["dmt"] = "low"
    with pytest.raises(QuestionError, match='everybody has the level "low" of "dmt"'):
        federation(frame).cohort().glm(f"score ~ {terms}")
