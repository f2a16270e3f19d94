"""Regression on (start, stop] rows of MS registries: treatment that changes during follow-up, several rows per patient, under the seal."""

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Rules
from fedstats.ms import cohort, synthetic

TREE = {"index": {"event": "first_visit"}, "covariates": ["age", "edss", "dmt_class"],
        "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1}, {"kind": "relapse"}],
        "follow_up": {"max_days": 1825}, "rows": {"kind": "intervals", "time_varying": ["edss", "dmt_class"]}}
TERMS = "C(dmt_class, Treatment('none')) + age + edss"
WORSENING = f"Surv(interval_start_days, interval_stop_days, cdw24_event) ~ {TERMS}"
NAMES = ("dmt_class[low]", "dmt_class[moderate]", "dmt_class[high]", "age", "edss")
RULES = Rules(min_cell=2, min_cohort=20, min_registries=2, show_zeros=True, rounding=False)


@pytest.fixture(scope="module")
def tables():
    return {name: one.tables for name, one in synthetic.registries(3, sizes=[240, 200, 180]).items()}


@pytest.fixture(scope="module")
def pooled(tables):
    return fedstats.pooled(tables, data_cut=synthetic.DATA_CUT)


@pytest.fixture(scope="module")
def rows(pooled):
    """The rows of all registries in one table, as whoever had them all would make it."""
    recipe, found = cohort.compile(TREE), []
    for name, household in pooled._world.data.items():
        derived = recipe.derive(household.data.registry, recorded=household.data.recorded)
        columns = {one: derived.rows.values(one) for one in ("age", "edss", "interval_start_days", "interval_stop_days", "cdw24_event",
                                                             "relapse_event")}
        labels = np.array([*derived.rows.dictionary["dmt_class"].labels, None], dtype=object)
        kinds = labels[np.nan_to_num(derived.rows.values("dmt_class"), nan=-1).astype(int)]
        found.append(pd.DataFrame({**columns, "kind": kinds, "registry": name, "who": [f"{name}/{one}" for one in derived.patient_id]}))
    whole = pd.concat(found, ignore_index=True)
    return whole.assign(**{f"dmt_class[{kind}]": (whole["kind"] == kind) * 1.0 for kind in ("low", "moderate", "high")})


def test_time_varying_treatment_equals_lifelines(pooled, rows):
    """Worsening by the treatment of the day, registries as strata, on true days: CoxTimeVaryingFitter on the pooled rows."""
    lifelines = pytest.importorskip("lifelines")
    result = pooled.cohort(TREE).cox(WORSENING + " + strata(registry)")
    used = rows.dropna(subset=["cdw24_event", "kind", "age", "edss"])
    theirs = lifelines.CoxTimeVaryingFitter().fit(
        used[[*NAMES, "interval_start_days", "interval_stop_days", "cdw24_event", "who", "registry"]], id_col="who", strata=["registry"],
        start_col="interval_start_days", stop_col="interval_stop_days", event_col="cdw24_event", fit_options={"precision": 1e-12})

    assert (result.rows, result.n, result.events) == (len(used), used["who"].nunique(), used["cdw24_event"].sum())
    assert [result[name].coef for name in NAMES] == pytest.approx(theirs.params_[list(NAMES)].tolist(), rel=1e-7)
    assert [result[name].se for name in NAMES] == pytest.approx(theirs.standard_errors_[list(NAMES)].tolist(), rel=1e-6)
    assert result.loglik == pytest.approx(theirs.log_likelihood_, rel=1e-8)
    assert result.se_used == "robust" and "clustered by patient" in result.methods


def test_a_concordance_of_which_nothing_is_known_is_not_shown(pooled):
    """Most intervals end within a run of times with others: a note instead of a number that may be off by a half."""
    result = pooled.cohort(TREE).cox(WORSENING, transforms=[])

    assert result.concordance is None and any("no concordance" in note for note in result.notes)


def test_relapses_by_interval_equal_statsmodels(pooled, rows):
    """Whether the first relapse came in an interval, complementary log-log: errors clustered by patient as in statsmodels."""
    import statsmodels.api as sm
    found = pooled.cohort(TREE).glm(f"relapse_event ~ {TERMS}", family="binomial", link="cloglog", se="HC0")
    used = rows.dropna(subset=["relapse_event", "kind", "age", "edss"])
    theirs = sm.GLM(used["relapse_event"], sm.add_constant(used[list(NAMES)]),
                    family=sm.families.Binomial(sm.families.links.CLogLog())).fit(
        tol=1e-14, maxiter=200, cov_type="cluster", cov_kwds={"groups": pd.factorize(used["who"])[0], "use_correction": False})

    assert found.rows == len(used) and found.n == used["who"].nunique()
    for name in NAMES:
        assert found[name].coef == pytest.approx(theirs.params[name], rel=1e-6)


@pytest.mark.parametrize("strata", ["", " + strata(registry)"])
def test_intervals_give_the_same_digits_under_the_seal(tables, strata):
    """Cox on intervals, one baseline on the grid or one per registry: pooled and simulate, several rows per patient."""
    tree = {**TREE, "rows": {**TREE["rows"], "most_rows": 50}}
    found = []
    for world in (fedstats.pooled, fedstats.simulate):
        asked = world(tables, data_cut=synthetic.DATA_CUT, rules=RULES).cohort(tree)
        found.append(asked.cox(WORSENING + strata, transforms=[], concordance=bool(strata)))

    assert found[0].coefficients == found[1].coefficients and found[0].baseline == found[1].baseline
    assert found[0].rows > 2 * found[0].n


def test_logistic_regression_on_intervals_gives_the_same_digits_under_the_seal(tables):
    """The same for a generalised linear model."""
    worlds = [world(tables, data_cut=synthetic.DATA_CUT, rules=RULES) for world in (fedstats.pooled, fedstats.simulate)]
    found = [world.cohort(TREE).glm(f"relapse_event ~ {TERMS}", family="binomial", se="HC0") for world in worlds]

    assert found[0].coefficients == found[1].coefficients
