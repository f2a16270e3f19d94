"""The log-rank test against R (km_lung.csv) and lifelines, and what it gives away."""

import numpy as np
import pytest
from lifelines.statistics import multivariate_logrank_test

import fedstats
from fedstats.analyses.survival.life_table import scores
from fedstats.errors import QuestionError

from . import helpers
from .test_kaplan_meier import MONTHS, RULES, SCALES, patients

REL = 1e-9
R_NAMES = {"var_o_minus_e": "variance"}


def by_institution(**changes):
    """lung with one registry per institution."""
    frame = helpers.lung()
    return fedstats.pooled(helpers.split(frame, frame["inst"].to_numpy().astype(int)), dictionary=helpers.lung_dictionary(**changes))


@pytest.mark.parametrize(("model", "by", "strata"), [("logrank_sex", "sex", None), ("logrank_ecog", "ph.ecog", None),
                                                     ("logrank_sex_strat_ecog", "sex", "ph.ecog"),
                                                     ("logrank_sex_strat_inst", "sex", "registry")])
@pytest.mark.parametrize("rho", [0, 1])
@pytest.mark.parametrize("scale", SCALES)
def test_logrank_equals_R(scale, rho, model, by, strata):
    """Observed and expected deaths, their variance, chi-squared and p as R's survdiff, plain, weighted and stratified."""
    result = by_institution(**SCALES[scale]).cohort().logrank(time="time", event="event", by=by, strata=strata, rho=rho)
    setting = f"scale={scale};rho={rho}"
    for name, quantity in (("chi2", "chisq"), ("df", "df"), ("p", "p")):
        assert getattr(result, name) == pytest.approx(helpers.reference("km_lung", model, setting, quantity), rel=REL)
    for group in result.groups:
        for quantity in ("n", "observed", "expected", "var_o_minus_e"):
            expected = helpers.reference("km_lung", model, setting, quantity, f"{by}={group.group}")

            assert getattr(group, R_NAMES.get(quantity, quantity)) == pytest.approx(expected, rel=REL)


def test_logrank_equals_lifelines():
    """Four stages of performance: chi-squared and p of another program."""
    result = helpers.pooled_lung().cohort().logrank(time="time", event="event", by="ph.ecog")
    frame = helpers.lung()
    other = multivariate_logrank_test(frame["time"], frame["ph.ecog"], frame["event"])

    assert (result.chi2, result.p) == pytest.approx((other.test_statistic, other.p_value), rel=1e-8)


def test_observed_and_expected_deaths_add_up_alike():
    """Over all groups, as many deaths are expected as are seen, and the differences have a covariance that sums to zero."""
    random = np.random.default_rng(1)
    events, censored = random.integers(0, 4, (3, 20)), random.integers(0, 4, (3, 20))
    for rho in (0, 1):
        observed, expected, variance = scores(events, censored, rho)

        assert observed.sum() == pytest.approx(expected.sum())
        assert np.abs(variance.sum(axis=0)).max() < 1e-12
        assert np.linalg.eigvalsh(variance).min() > -1e-12


def test_groups_without_patients_take_no_degree_of_freedom():
    """A level of the dictionary in which there is nobody changes neither chi-squared nor its degrees of freedom."""
    wider = helpers.lung_dictionary(**{"ph.ecog": {"range": [0, 5]}})
    ask = {"time": "time", "event": "event", "by": "ph.ecog"}
    one = fedstats.pooled(helpers.lung_tables(), dictionary=wider).cohort().logrank(**ask)
    other = helpers.pooled_lung().cohort().logrank(**ask)

    assert (one.chi2, one.df) == (pytest.approx(other.chi2), other.df)


# -- release rules -------------------------------------------------------------------------------------------------------------


def asked(tables, rules, **options):
    return fedstats.pooled(tables, dictionary=helpers.lung_dictionary(**MONTHS), rules=rules).cohort().logrank(
        time="time", event="event", **options)


@pytest.mark.parametrize("rules", RULES, ids=lambda r: f"k{r.min_cell}m{r.min_registries}")
@pytest.mark.parametrize("rho", [0, 1])
@pytest.mark.parametrize(("by", "strata"), [("sex", None), ("ph.ecog", None), ("sex", "ph.ecog"), ("sex", "registry")])
def test_under_rules_it_is_the_test_of_the_pooled_table_or_none(by, strata, rho, rules):
    """Never a test of fewer events than there are: every number is the one without rules, to the last digit, or hidden."""
    tables = patients()
    exact, found = (asked(tables, one, by=by, strata=strata, rho=rho) for one in (None, rules))

    if found.chi2 is None:
        assert found.compared == () and all(group.n is None and group.observed is None for group in found.groups) and found.notes
    else:
        assert (found.chi2, found.df, found.p, found.groups) == (exact.chi2, exact.df, exact.p, exact.groups)
    assert by != "sex" or found.chi2 is not None        # two large groups: there is nothing to hide


def test_digits_are_all_that_rules_take():
    """Rounded, chi-squared and p are those of the pooled table to the digits that are shown."""
    tables = patients()
    exact = asked(tables, None, by="sex")
    found = asked(tables, fedstats.Rules(), by="sex")

    assert found.chi2 == pytest.approx(exact.chi2, rel=5.1e-3)      # three digits
    assert found.p == pytest.approx(exact.p, rel=5.1e-2)            # two
    assert sum(group.observed for group in found.groups) == sum(table["event"].sum() for table in tables.values())


def rare_stage(tables):
    """Stage 3 has four patients."""
    for k, table in enumerate(tables.values()):
        table.loc[table["ph.ecog"] == 3, "ph.ecog"] = 0
        if k < 4:
            table.loc[table.index[0], "ph.ecog"] = 3
    return tables


def test_a_rare_group_hides_the_test_and_is_named():
    """A stage with 4 patients: expected events of the others count it, so none is shown; without it there is a test."""
    result = asked(rare_stage(patients()), RULES[1], by="ph.ecog")

    assert result.chi2 is None and all(group.observed is None for group in result.groups)
    assert any('"3"' in note and "filter" in note for note in result.notes)


def test_strata_by_registry_need_enough_events_in_every_group():
    """Ten deaths and ten survivors per group over all registries; otherwise nothing is released, also for the other group."""
    tables = patients()
    result = asked(tables, RULES[2], by="sex", strata="registry")
    assert result.chi2 is not None

    for table in tables.values():
        table.loc[table["sex"] == 2, "event"] = False
    tables["r0"].loc[tables["r0"].index[tables["r0"]["sex"] == 2][:5], "event"] = True
    result = asked(tables, RULES[2], by="sex", strata="registry")

    assert result.chi2 is None
    assert all(group.observed is None for group in result.groups)


def test_wrong_questions_say_what_is_wanted():
    """Registries are strata only, never groups; rho is 0 or 1."""
    cohort = helpers.pooled_lung().cohort()
    for options, words in (({"by": "registry"}, "reserved"), ({"by": "sex", "rho": 2}, "rho"),
                           ({"by": "sex", "strata": "sex"}, "different")):
        with pytest.raises(QuestionError, match=words):
            cohort.logrank(time="time", event="event", **options)


def test_result_survives_the_wire():
    """Written as JSON-ready content and read back it is the same."""
    result = helpers.pooled_lung().cohort().logrank(time="time", event="event", by="sex", strata="registry")

    assert fedstats.query.analysis.read_result(result.to_dict()) == result
    assert result.tables()[1].rows[0][1:] == (result.chi2, 1, result.p)
    assert result.picture().labels == ("1", "2")
