"""ordinal against MASS::polr and statsmodels, multinomial against nnet and statsmodels."""

import numpy as np
import pytest

import fedstats
from fedstats import Rules
from fedstats.errors import NotConverged, QuestionError, Refused

from . import helpers
from .test_glm import federation, plain_design, synthetic

POLR = 1e-6


def cohort():
    return helpers.pooled_lung(sex={"type": "integer", "range": [1, 2], "levels": None}).cohort()


@pytest.mark.parametrize("link", ["logit", "probit"])
@pytest.mark.parametrize(("outcome", "setting", "cuts"), [("ecog3", "ecog_0_1_2plus", ("0|1", "1|2")),
                                                          ("`ph.ecog`", "ecog_0_1_2_3", ("0|1", "1|2", "2|3"))])
def test_proportional_odds_equal_R(link, outcome, setting, cuts):
    """Coefficients, cut points, standard errors from the observed information, likelihood, AIC, the test against no covariates."""
    result = cohort().ordinal(f"{outcome} ~ age + sex", link=link)
    names = {"age": "age", "sex": "sex"} | {cut: f"cut_{cut}" for cut in cuts}

    def expected(what, term="(model)"):
        return helpers.reference("glm_lung", f"polr_{link}", f"outcome={setting}", what, term)

    assert result.names == tuple(names)
    for ours, theirs in names.items():
        assert result[ours].coef == pytest.approx(expected("coef", theirs), rel=POLR)
        assert result[ours].se == pytest.approx(expected("se", theirs), rel=POLR)
    assert result.log_likelihood == pytest.approx(expected("loglik"), rel=1e-10)
    assert result.null_log_likelihood == pytest.approx(expected("loglik_null"), rel=1e-10)
    assert (result.aic, result.bic) == (pytest.approx(expected("aic"), rel=1e-10), pytest.approx(expected("bic"), rel=1e-10))
    test = next(one for one in result.tests if one.name == "lr")
    assert (test.chi2, test.df, test.p) == (pytest.approx(expected("lr_chisq"), rel=1e-8), expected("lr_df"),
                                            pytest.approx(expected("lr_p"), rel=1e-8))


def test_multinomial_equals_R():
    """Log odds of each level against the first."""
    result = cohort().multinomial("ecog3 ~ age + sex")

    def expected(what, term="(model)"):
        return helpers.reference("glm_lung", "multinom", "outcome=ecog_0_1_2plus;ref=0", what, term)

    for level, theirs in (("1", "1_vs_0"), ("2", "2plus_vs_0")):
        for ours, name in (("(Intercept)", "intercept"), ("age", "age"), ("sex", "sex")):
            assert result[f"{ours}[{level} vs 0]"].coef == pytest.approx(expected("coef", f"{name}[{theirs}]"), rel=POLR)
            assert result[f"{ours}[{level} vs 0]"].se == pytest.approx(expected("se", f"{name}[{theirs}]"), rel=POLR)
    assert result.log_likelihood == pytest.approx(expected("loglik"), rel=1e-10)
    assert result.aic == pytest.approx(expected("aic"), rel=1e-10) and result.bic == pytest.approx(expected("bic"), rel=1e-10)


def levelled(n=1200):
    frame = synthetic(n)
    frame["level"] = np.digitize(frame["score"], [-2.5, -1, 0.5])
    return frame


DICTIONARY = {"name": "levels", "variables": [
    {"name": "level", "type": "integer", "range": [0, 4]}, {"name": "age", "type": "integer", "range": [18, 80]},
    {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5}, {"name": "female", "type": "boolean"},
    {"name": "dmt", "type": "category", "levels": ["none", "low", "high"]}]}


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_predicted_probabilities_equal_statsmodels(link):
    """Ordered model with categories: coefficients and the probability of every level."""
    from statsmodels.miscmodels.ordinal_model import OrderedModel
    frame = levelled()
    X = plain_design(frame).drop(columns="(Intercept)")
    expected = OrderedModel(frame["level"], X, distr=link).fit(method="bfgs", disp=0, maxiter=2000, gtol=1e-9)
    found = federation(frame, dictionary=DICTIONARY).cohort().ordinal("level ~ age + edss + female + dmt", link=link)

    assert [one.coef for one in found.coefficients[:5]] == pytest.approx(expected.params.iloc[:5].tolist(), rel=1e-5)
    assert found.predict(frame[:20]).to_numpy() == pytest.approx(np.asarray(expected.predict(X[:20])), abs=1e-6)
    assert found.levels == ("0", "1", "2", "3")


def test_multinomial_probabilities_equal_statsmodels():
    import statsmodels.api as sm
    frame = levelled()
    expected = sm.MNLogit(frame["level"], plain_design(frame)).fit(method="newton", disp=0, maxiter=200, tol=1e-14)
    found = federation(frame, dictionary=DICTIONARY).cohort().multinomial("level ~ age + edss + female + dmt")

    assert [one.coef for one in found.coefficients] == pytest.approx(expected.params.to_numpy().T.ravel().tolist(), rel=1e-6)
    assert [one.se for one in found.coefficients] == pytest.approx(expected.bse.to_numpy().T.ravel().tolist(), rel=1e-6)
    assert found.predict(frame[:20]).to_numpy() == pytest.approx(np.asarray(expected.predict(plain_design(frame)[:20])), abs=1e-8)


@pytest.mark.parametrize("name", ["ordinal", "multinomial"])
def test_the_sealed_fit_has_the_digits_of_the_pooled_one(name):
    frame = levelled()
    found = [getattr(federation(frame, world, dictionary=DICTIONARY, rules=Rules()).cohort(), name)("level ~ age + dmt")
             for world in (fedstats.pooled, fedstats.simulate)]
    here, there = ({key: one for key, one in result.to_dict().items() if key not in ("query", "released")} for result in found)

    assert here == there and type(found[0]).from_dict(found[0].to_dict()) == found[0]
    assert found[0].plot() is not None and "odds ratio" in str(found[0])


def test_explain_tells_the_usual_course():
    fed = federation(levelled(), dictionary=DICTIONARY)
    told = [fed.explain(getattr(fed.cohort().question, name)("level ~ age + dmt")) for name in ("ordinal", "multinomial")]

    assert all(5 <= one.rounds <= 7 for one in told)


def test_what_cannot_be_fitted_says_why():
    """Two levels; an outcome explained without error; few patients in a level; strata."""
    frame = levelled(400)
    cohort = federation(frame, dictionary=DICTIONARY).cohort()
    with pytest.raises(QuestionError, match="2 levels"):
        cohort.ordinal("female ~ age")
    with pytest.raises(QuestionError, match="neither strata"):
        cohort.ordinal("level ~ age + strata(registry)")
    perfect = frame.assign(level=np.digitize(frame["age"], [30, 40, 50]))
    with pytest.raises(NotConverged, match=r'"age\[3 vs 0\]" grows without limit'):
        federation(perfect, dictionary=DICTIONARY).cohort().multinomial("level ~ age")
    with pytest.raises(Refused, match="fewer than 360 patients"):
        federation(frame[:120], dictionary=DICTIONARY, rules=Rules()).cohort().ordinal("level ~ age + dmt")
