"""piecewise against a Poisson model of split rows (statsmodels), against Cox, and under the seal."""

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Rules
from fedstats.errors import QuestionError, Refused

from .helpers import split
from .test_weights import BOOK, PROPENSITY, cohort, table

FORMULA, CUTS = "Surv(days, event) ~ treated + age + edss", [360, 720, 1440]
NAMES = ["treated", "age", "edss"]


def split_rows(frame, cuts=CUTS, high=3660, entry=None):
    """One row per patient and interval that he spends time in."""
    parts, low, entry = [], 0, np.zeros(len(frame)) if entry is None else entry
    for k, end in enumerate([*cuts, high]):
        time = np.minimum(frame["days"], end) - np.maximum(entry, low)
        here = frame[time > 0]
        parts.append(here.assign(k=k, t=time[time > 0], d=(here["event"] & (here["days"] > low) & (here["days"] <= end)) * 1.0))
        low = end
    return pd.concat(parts)


def poisson(rows, weights=None, **fit):
    import statsmodels.api as sm
    X = pd.concat([pd.get_dummies(rows["k"], prefix="k").astype(float), rows[NAMES].astype(float)], axis=1)
    return sm.GLM(rows["d"], X, family=sm.families.Poisson(), offset=np.log(rows["t"]), freq_weights=weights).fit(tol=1e-14, **fit)


@pytest.mark.parametrize("late", [False, True])
def test_it_is_the_poisson_model_of_the_split_rows(late):
    """Coefficients, errors, hazards and likelihood of statsmodels on rows split at the cuts; with late entry too."""
    frame = table()
    entry = (np.arange(len(frame)) % 4 * 90.0)
    frame = frame.assign(start=entry)[lambda one: one["days"] > one["start"]].reset_index(drop=True)
    book = fedstats.Dictionary.from_dict({**BOOK.to_dict(), "variables": [*BOOK.to_dict()["variables"],
                                                                          {"name": "start", "type": "integer", "range": [0, 3660]}]})
    data = fedstats.pooled(split(frame, frame.index % 3), dictionary=book).cohort()
    result = data.piecewise(FORMULA.replace("(days", "(start, days") if late else FORMULA, cuts=CUTS)
    rows = split_rows(frame, entry=frame["start"] if late else None)
    theirs = poisson(rows)

    assert [result[name].coef for name in NAMES] == pytest.approx(theirs.params[NAMES].tolist(), rel=1e-7)
    assert [result[name].se for name in NAMES] == pytest.approx(theirs.bse[NAMES].tolist(), rel=1e-7)
    assert result.loglik == pytest.approx(theirs.llf - np.log(rows.loc[rows["d"] == 1, "t"]).sum(), rel=1e-8)
    x = np.array([0.0] * 4 + list(result.means))
    for k, one in enumerate(result.intervals):
        x[:4] = np.arange(4) == k
        log, error = float(x @ theirs.params), float(np.sqrt(x @ theirs.cov_params() @ x))
        inside = rows[rows["k"] == k]
        assert (one.events, one.person_time) == (inside["d"].sum(), pytest.approx(inside["t"].sum()))
        assert np.log([one.hazard, one.lower, one.upper]) == pytest.approx([log, log - 1.959964 * error, log + 1.959964 * error], rel=1e-6)


def test_robust_errors_are_clustered_by_patient():
    """The sandwich of the split rows, a patient's rows together; the intercepts' part leaves the coefficients' as it is."""
    frame = table()
    rows = split_rows(frame)
    theirs = poisson(rows, cov_type="cluster", cov_kwds={"groups": rows.index.to_numpy(), "use_correction": False})
    result = cohort(frame).piecewise(FORMULA, cuts=CUTS, robust=True)

    assert [result[name].se_robust for name in NAMES] == pytest.approx(theirs.bse[NAMES].tolist(), rel=1e-7)
    assert result.se_used == "robust" and result["age"].p == pytest.approx(theirs.pvalues["age"], rel=1e-6)
    assert_hazards(result, theirs)


def assert_hazards(result, theirs):
    """Hazards at the means and their limits, from the covariance that statsmodels has for the whole model."""
    for k, one in enumerate(result.intervals):
        x = np.array([float(j == k) for j in range(len(result.intervals))] + list(result.means))
        log, error = float(x @ theirs.params), float(np.sqrt(x @ theirs.cov_params() @ x))
        assert np.log([one.hazard, one.lower, one.upper]) == pytest.approx([log, log - 1.959964 * error, log + 1.959964 * error], rel=1e-6)


def test_limits_of_hazards_follow_the_errors_that_are_used():
    """Model-based limits where model-based errors are used, robust ones where these are: never a mixture."""
    frame = table()
    rows = split_rows(frame)
    clustered = {"cov_type": "cluster", "cov_kwds": {"groups": rows.index.to_numpy(), "use_correction": False}}

    assert_hazards(cohort(frame).piecewise(FORMULA, cuts=CUTS), poisson(rows))
    assert_hazards(cohort(frame).piecewise(FORMULA, cuts=CUTS, robust=True), poisson(rows, **clustered))


def test_limits_of_weighted_hazards_are_robust():
    """With weights too: the sandwich about the weighted hazards, patient by patient, in plain arithmetic."""
    frame = table()
    data = cohort(frame)
    weights = data.glm(PROPENSITY, family="binomial").inverse_probability()
    from .test_weights import by_hand
    frame = frame.assign(w=by_hand(frame, "ate", 20))
    rows = split_rows(frame)
    theirs = poisson(rows, weights=rows["w"])
    X = np.column_stack([(rows["k"].to_numpy()[:, None] == np.arange(4)) * 1.0, rows[NAMES].to_numpy(float)])
    mu = np.exp(X @ theirs.params.to_numpy()) * rows["t"].to_numpy()
    score = pd.DataFrame(X * (rows["w"] * (rows["d"] - mu)).to_numpy()[:, None], index=rows.index).groupby(level=0).sum().to_numpy()
    bread = np.linalg.inv((X * (rows["w"].to_numpy() * mu)[:, None]).T @ X)
    covariance = bread @ score.T @ score @ bread
    result = data.piecewise(FORMULA, cuts=CUTS, weights=weights)

    for k, one in enumerate(result.intervals):
        x = np.array([float(j == k) for j in range(4)] + list(result.means))
        error = 1.959964 * np.sqrt(x @ covariance @ x)
        assert np.log(one.upper / one.lower) == pytest.approx(2 * error, rel=1e-6)


def test_inverse_probability_weights_work_here_too():
    """The weights of a sealed propensity model as frequency weights in statsmodels."""
    frame = table()
    data = cohort(frame)
    weights = data.glm(PROPENSITY, family="binomial").inverse_probability()
    from .test_weights import by_hand
    rows = split_rows(frame.assign(w=by_hand(frame, "ate", 20)))
    theirs = poisson(rows, weights=rows["w"])

    result = data.piecewise(FORMULA, cuts=CUTS, weights=weights)
    assert [result[name].coef for name in NAMES] == pytest.approx(theirs.params[NAMES].tolist(), rel=1e-7)


def test_it_is_close_to_cox_and_seals_far_less():
    """Hazard ratios within a tenth of a standard error of Cox on the 30-day grid; numbers sealed: a few in a hundred."""
    data = cohort(table(3000))
    ours, cox = data.piecewise(FORMULA, cuts=[180, 360, 540, 720, 1080, 1440, 2160]), data.cox(FORMULA)

    assert all(abs(ours[name].coef - cox[name].coef) < 0.1 * cox[name].se for name in NAMES)
    assert ours.cost.numbers < 0.1 * cox.cost.numbers


def test_under_the_seal_it_is_the_same():
    """pooled and simulate: every digit."""
    worlds = [cohort(table(), world, rules=Rules(rounding=False)) for world in (fedstats.pooled, fedstats.simulate)]
    found = [world.piecewise(FORMULA, cuts=CUTS) for world in worlds]

    assert found[0].coefficients == found[1].coefficients and found[0].intervals == found[1].intervals


def test_small_intervals_are_refused_and_wrong_cuts_named():
    """Fewer than ten events in an interval; a cut that is not registered; strata; an interval without event."""
    ruled = cohort(table(600), rules=Rules())
    with pytest.raises(Refused, match="an interval has fewer"):
        cohort(table(300), rules=Rules()).piecewise("Surv(days, event) ~ age", cuts=[30, 60, 720])
    for cuts, says in (([365], "registered"), ([720, 360], "increase"), (list(range(30, 3600, 30)), "at most")):
        with pytest.raises(QuestionError, match=says):
            ruled.piecewise(FORMULA, cuts=cuts)
    with pytest.raises(QuestionError, match="no strata"):
        ruled.piecewise(FORMULA + " + strata(registry)", cuts=CUTS)
    frame = table(600)
    frame["event"] &= frame["days"] > 360
    with pytest.raises(QuestionError, match="no event"):
        cohort(frame).piecewise(FORMULA, cuts=CUTS)
