"""compare against R (stats_lung.csv) and scipy, and what it gives away."""

import math

import numpy as np
import pytest
from scipy import stats

import fedstats
from fedstats.analyses.compare import hodges_lehmann, kruskal_wallis, rank_sum
from fedstats.errors import QuestionError

from . import helpers

REL = 1e-9


def R(model, setting, quantity):
    return helpers.reference("stats_lung", model, setting, quantity)


@pytest.mark.parametrize("column", ["age", "wt.loss"])
@pytest.mark.parametrize(("field", "model"), [("welch", "t_test_welch"), ("student", "t_test_pooled")])
def test_t_tests_equal_R(column, field, model):
    """Men minus women: the difference of means, its interval and the test, with and without equal variances."""
    result = helpers.pooled_lung().cohort().compare(column, by="sex")
    test, setting = getattr(result, field), f"y={column};by=sex"

    found = {"t": test.t, "df": test.df, "p": test.p, "diff_sex1_minus_sex2": test.difference, "diff_se": test.se,
             "diff_ci_lower": test.low, "diff_ci_upper": test.high, "mean_sex1": result[1].mean, "mean_sex2": result[2].mean}
    for quantity, value in found.items():
        assert value == pytest.approx(R(model, setting, quantity), rel=REL)


@pytest.mark.parametrize("by", ["ph.ecog", "ecog3"])
def test_analysis_of_variance_equals_R(by):
    """Age by performance status, also where one group is a single patient."""
    result = helpers.pooled_lung().cohort().compare("age", by=by)

    for quantity in ("f", "df1", "df2", "p", "ss_between", "ss_within", "eta_squared"):
        assert getattr(result.anova, quantity) == pytest.approx(R("anova_oneway", f"y=age;by={by}", quantity), rel=REL)
    if by == "ph.ecog":
        assert result.welch_anova is None and any("Welch" in note for note in result.notes)
    else:
        for quantity in ("f", "df1", "df2", "p"):
            assert getattr(result.welch_anova, quantity) == pytest.approx(R("anova_welch", "y=age;by=ecog3", quantity), rel=REL)


@pytest.mark.parametrize("column", ["age", "wt.loss"])
def test_rank_sum_equals_R(column):
    """Wilcoxon's test of two groups from counts: W, its variance with ties, both p values, the median difference."""
    result = helpers.pooled_lung().cohort().compare(column, by="sex")
    test, setting = result.wilcoxon, f"y={column};by=sex"

    found = {"w": test.w, "w_expected": test.expected, "var_tie_corrected": test.variance, "p_nocontinuity": test.p,
             "p_continuity": test.p_continuity, "median_of_pairwise_differences": test.hodges_lehmann}
    for quantity, value in found.items():
        assert value == pytest.approx(R("wilcoxon", setting, quantity), rel=REL)
    assert test.hodges_lehmann == pytest.approx(R("wilcoxon", setting, "hodges_lehmann_root_continuity"), rel=1e-4)
    assert result.exact_ranks


@pytest.mark.parametrize("by", ["ph.ecog", "ecog3"])
def test_kruskal_wallis_equals_R(by):
    """The rank test of several groups, corrected for ties."""
    test = helpers.pooled_lung().cohort().compare("age", by=by).kruskal
    found = {"h_tie_corrected": test.h, "p_tie_corrected": test.p, "h_uncorrected": test.h_uncorrected, "df": test.df,
             "tie_factor": test.tie_factor}

    for quantity, value in found.items():
        assert value == pytest.approx(R("kruskal", f"y=age;by={by}", quantity), rel=REL)


def test_means_of_a_number_without_step_equal_scipy():
    """Follow-up in years: t-tests and Cohen's d; no rank test without cut points, and a note that says what to add."""
    result = helpers.pooled_lung().cohort().compare("years", by="sex")
    frame = helpers.lung()
    men, women = frame["years"][frame["sex"] == 1], frame["years"][frame["sex"] == 2]
    welch = stats.ttest_ind(men, women, equal_var=False)

    assert (result.welch.t, result.welch.p) == pytest.approx((welch.statistic, welch.pvalue), rel=REL)
    pooled = math.sqrt(((len(men) - 1) * men.var() + (len(women) - 1) * women.var()) / 210)
    assert result.cohens_d == pytest.approx((men.mean() - women.mean()) / pooled, rel=REL)
    assert result.wilcoxon is None and any("cut_points" in note for note in result.notes)


def test_random_tables_equal_scipy():
    """Rank tests of random groups with many ties: as from the rows themselves."""
    random = np.random.default_rng(3)
    for _ in range(20):
        sizes = random.integers(2, 30, 3)
        samples = [random.integers(0, 6, size) for size in sizes]
        table = np.array([np.bincount(one, minlength=6) for one in samples])
        two = rank_sum(table[:2], list(range(6)))
        seen = stats.mannwhitneyu(samples[0], samples[1], method="asymptotic")

        assert two.w == seen.statistic
        assert two.p_continuity == pytest.approx(min(1, seen.pvalue), rel=REL)
        assert two.hodges_lehmann == np.median(np.subtract.outer(samples[0], samples[1]))
        many = stats.kruskal(*samples)
        assert (kruskal_wallis(table).h, kruskal_wallis(table).p) == pytest.approx((many.statistic, many.pvalue), rel=REL)


def test_swapping_two_groups_turns_the_sign():
    """The difference and its rank form change sign when the groups change places."""
    table = np.array([[3, 5, 1, 0], [1, 4, 6, 2]])

    assert hodges_lehmann(table, [0, 1, 2, 3]) == -hodges_lehmann(table[::-1], [0, 1, 2, 3])
    assert rank_sum(table, None).z == pytest.approx(-rank_sum(table[::-1], None).z)


def test_a_level_for_the_unknown():
    """On request, patients without a known group are a group of their own."""
    frame = helpers.lung()
    frame["ecog3"] = frame["ecog3"].astype(float).where(np.arange(len(frame)) % 5 > 0)
    tables = helpers.split(frame, frame["inst"].to_numpy().astype(int) % 4)
    cohort = fedstats.pooled(tables, dictionary=helpers.lung_dictionary()).cohort()

    with_unknown, without = cohort.compare("age", by="ecog3", missing=True), cohort.compare("age", by="ecog3")
    assert with_unknown["missing"].n == frame["ecog3"].isna().sum()
    assert with_unknown["missing"].mean == pytest.approx(frame["age"][frame["ecog3"].isna()].mean(), rel=REL)
    assert with_unknown.n == 212 and without.n == frame["ecog3"].notna().sum()


def test_a_small_group_takes_the_tests_with_it():
    """One patient has status 3: that group and the next smallest are hidden, the others keep their means, nothing is tested."""
    result = helpers.ruled_lung().compare("age", by="ph.ecog")

    assert [one.n for one in result.groups] == [61, 106, None, None]
    assert [one.mean is None for one in result.groups] == [False, False, True, True]
    assert (result.anova, result.welch_anova, result.kruskal, result.eta_squared) == (None,) * 4
    assert any("rule min_cell" in note for note in result.notes)


@pytest.mark.parametrize("to", [{"age": 82}, {"age": 40}, {"ph.ecog": 2, "age": 44}])
def test_nothing_about_hidden_groups_is_in_the_result(to):
    """Another age of the patient of status 3, or that patient in the other hidden group: the result is the same."""
    before = helpers.ruled_lung().compare("age", by="ph.ecog")
    after = helpers.ruled_lung(helpers.edited({"ph.ecog": 3}, to)).compare("age", by="ph.ecog")
    if "ph.ecog" in to:         # the group of one is empty now; still both are hidden
        assert [one.n for one in after.groups] == [61, 106, None, None]

    assert after.to_dict() == before.to_dict()


@pytest.mark.parametrize("column", ["age", "wt.loss"])
def test_under_rules_rank_tests_are_those_of_the_pooled_table(column):
    """Nothing is merged: W, H and their p values are those without rules, and what R says of them above."""
    exact = helpers.pooled_lung().cohort().compare(column, by="sex")
    found = fedstats.pooled(helpers.lung_tables(), dictionary=helpers.lung_dictionary(), rules=fedstats.Rules(rounding=False)
                            ).cohort().compare(column, by="sex")

    assert (found.wilcoxon, found.kruskal, found.classes) == (exact.wilcoxon, exact.kruskal, exact.classes)
    assert found.wilcoxon.hodges_lehmann is not None


def test_shares_of_rare_events_are_withheld_with_a_second_group():
    """Six patients of status 2 are alive: their share is not released, and neither is that of the next smallest group, from
    which it would follow if the share of everybody is known."""
    result = helpers.ruled_lung().compare("event", by="ecog3")

    assert [one.n for one in result.groups] == [61, 106, 45]
    assert [one.mean is None for one in result.groups] == [True, False, True]
    assert result.anova is None and result.kruskal is None

    tables = helpers.edited({"ecog3": 2, "event": False}, {"event": True})
    tables = helpers.edited({"ecog3": 0, "event": True}, {"event": False}, tables)
    assert helpers.ruled_lung(tables).compare("event", by="ecog3").to_dict() == result.to_dict()


def test_a_flag_of_one_patient_has_no_mean():
    """The mean of an indicator that is 1 for a single patient would be that patient's group."""
    frame = helpers.lung()
    frame["event"] = np.arange(len(frame)) == 17
    tables = helpers.split(frame, frame["inst"].to_numpy().astype(int) % 4)
    result = fedstats.pooled(tables, dictionary=helpers.lung_dictionary(), rules=fedstats.Rules()).cohort().compare("event", by="sex")

    assert all(one.mean is None for one in result.groups) and result.welch is None and result.wilcoxon is None


def test_questions_that_make_no_sense_say_so():
    """A category has no mean; a column is not compared with itself."""
    cohort = helpers.pooled_lung().cohort()
    with pytest.raises(QuestionError, match="category"):
        cohort.compare("sex", by="ph.ecog")
    with pytest.raises(QuestionError, match="own groups"):
        cohort.compare("ph.ecog", by="ph.ecog")


def test_result_can_be_stored_and_drawn():
    """A result read back from its plain form is the same; tables and picture name the groups."""
    result = helpers.pooled_lung().cohort().compare("age", by="sex")

    assert type(result).from_dict(result.to_dict()) == result
    assert [row[0] for row in result.tables()[0].rows] == ["1", "2"] == list(result.picture().labels)
    assert {row[0] for row in result.tables()[1].rows} >= {"Welch t", "Student t", "ANOVA F", "Kruskal-Wallis H"}
    assert [table.title for table in result.tables()[2:]] == ["Difference of means", "Effect sizes"]
