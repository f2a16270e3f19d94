"""Table 1 against pandas and scipy on lung and on the early multiple sclerosis data, and what it gives away."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fedstats
from fedstats.analyses.table_one import smd_of_shares
from fedstats.data.variable import level_text
from fedstats.errors import QuestionError

from . import helpers

REL = 1e-9
COLUMNS = ["age", "wt.loss", "years", "ph.karno", "event", "ph.ecog"]
CIS = {
    "name": "cis", "description": "clinically isolated syndrome, one centre; the EDSS columns give the outcome away and are not used",
    "variables": [
        {"name": "converted", "type": "boolean"}, {"name": "Age", "type": "integer", "range": [10, 90], "unit": "years"},
        {"name": "Schooling", "type": "number", "range": [0, 30], "step": 0.5, "unit": "years"}, {"name": "female", "type": "boolean"},
        {"name": "Breastfeeding", "type": "category", "levels": [1, 2, 3]}, {"name": "Varicella", "type": "category", "levels": [1, 2, 3]},
        {"name": "Oligoclonal_Bands", "type": "category", "levels": [0, 1, 2]},
        {"name": "Periventricular_MRI", "type": "boolean"}, {"name": "Infratentorial_MRI", "type": "boolean"},
    ],
}
CIS_COLUMNS = [one["name"] for one in CIS["variables"][1:]]


def cis():
    frame = pd.read_csv(helpers.shared("data", "cis_mexico", "conversion_predictors_cis_ms.csv"))
    return frame.assign(converted=frame["group"] == 1, female=frame["Gender"] == 2, **{
        name: frame[name] == 1 for name in ("Periventricular_MRI", "Infratentorial_MRI")})


def cis_tables(registries=4):
    """The patients of one centre, dealt out to several made-up registries."""
    frame = cis()
    return helpers.split(frame, np.arange(len(frame)) % registries)


def hand_smd(rows, by, column, numeric):
    """The largest standardised difference over pairs of groups, written out as in Austin (2009) and Yang & Dalton (2012)."""
    found = []
    for (_, a), (_, b) in itertools.combinations(list(rows.groupby(by)[column]), 2):
        if numeric:
            found.append(abs(a.mean() - b.mean()) / math.sqrt((a.var() + b.var()) / 2))
            continue
        levels = sorted(set(a) | set(b))[1:]
        p, q = (np.array([(part == level).mean() for level in levels]) for part in (a, b))
        spread = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
        found.append(math.sqrt((p - q) @ np.linalg.solve(spread, p - q)))
    return max(found)


def assert_equals_pandas(result, rows, by, numbers):
    """Every mean, SD, median, count, share, difference and p value."""
    parts = {"all": rows} | ({level_text(g): part for g, part in rows.groupby(by)} if by else {})
    for one in result.characteristics:
        column = one.column
        for k, name in enumerate(result.columns):
            part = parts[name]
            assert result.sizes[k] == len(part)
            if column in numbers:
                mean = one.means[k]
                assert (mean.mean, mean.sd) == pytest.approx((part[column].mean(), part[column].std()), rel=REL)
                if mean.median is not None:
                    assert mean.exact
                    assert (mean.q1, mean.median, mean.q3) == pytest.approx(tuple(part[column].quantile([0.25, 0.5, 0.75])), rel=REL)
            for level in one.levels:
                text = part[column].map(level_text)
                assert level.cells[k].count == (text == level.level).sum()
                assert level.cells[k].share == pytest.approx((text == level.level).mean(), rel=REL)
        if by:
            samples = [part for _, part in rows.groupby(by)[column]]
            assert one.smd == pytest.approx(hand_smd(rows, by, column, column in numbers), rel=REL)
            if column not in numbers:
                p = stats.chi2_contingency(pd.crosstab(rows[by], rows[column]), correction=False).pvalue
                assert one.p == pytest.approx(p, rel=REL)
            elif len(samples) == 2:
                assert one.p == pytest.approx(stats.ttest_ind(*samples, equal_var=False).pvalue, rel=REL)


@pytest.mark.parametrize("by", [None, "sex", "ecog3"])
def test_lung_equals_pandas_and_scipy(by):
    """Age, weight loss, follow-up, performance and death of lung, overall, by sex and by three stages of performance."""
    columns = [name for name in COLUMNS if by != "ecog3" or name != "ph.ecog"]
    result = helpers.pooled_lung().cohort().table_one(columns, by=by, categorical="ph.ecog" if "ph.ecog" in columns else ())

    assert_equals_pandas(result, helpers.lung(), by, {"age", "wt.loss", "years", "ph.karno"})
    assert result["years"].means[0].median is None
    assert result["age"].means[0].median == 63


@pytest.mark.parametrize("by", [None, "converted"])
def test_early_multiple_sclerosis_equals_pandas_and_scipy(by):
    """Patients with a first attack, those who converted to multiple sclerosis against those who did not; complete cases."""
    result = fedstats.pooled(cis_tables(), dictionary=CIS).cohort().table_one(CIS_COLUMNS, by=by)
    rows = cis().dropna(subset=CIS_COLUMNS)

    assert result.n == len(rows)
    assert_equals_pandas(result, rows, by, {"Age", "Schooling"})


def test_p_values_equal_R():
    """Welch's test of age by sex and by stage as R's t.test and oneway.test, chi-squared of sex by performance as chisq.test."""
    cohort = helpers.pooled_lung().cohort()
    by_sex, by_stage = cohort.table_one(["age", "ph.ecog"], by="sex", categorical=["ph.ecog"]), cohort.table_one("age", by="ecog3")

    assert by_sex["age"].p == pytest.approx(helpers.reference("stats_lung", "t_test_welch", "y=age;by=sex", "p"), rel=REL)
    assert by_sex["ph.ecog"].p == pytest.approx(helpers.reference("stats_lung", "chisq_test", "table=sex_x_ph.ecog", "p"), rel=REL)
    assert by_stage["age"].p == pytest.approx(stats.f_oneway(*[g for _, g in helpers.lung().groupby("ecog3")["age"]], equal_var=False)
                                              .pvalue, rel=REL)


def test_two_levels_differ_as_two_proportions_do():
    """The difference of shares with two levels is |p - q| over the root of the mean binomial variance."""
    p, q = 30 / 100, 45 / 90
    expected = abs(p - q) / math.sqrt((p * (1 - p) + q * (1 - q)) / 2)

    assert smd_of_shares(np.array([[70, 30], [45, 45]])) == pytest.approx(expected, rel=1e-12)
    assert smd_of_shares(np.array([[70, 30], [45, 45], [0, 0]])) == pytest.approx(expected, rel=1e-12)
    assert smd_of_shares(np.array([[10, 0], [5, 0]])) == 0.0


def test_the_printed_table_reads_as_in_a_paper():
    """Mean (SD), median [Q1, Q3], n (%), and an undefined difference is a dash."""
    result = helpers.pooled_lung().cohort().table_one(["age", "event"], by="sex")
    rows = {row[0]: row[1:] for row in result.tables()[0].rows}

    assert rows["n"] == ("212", "126", "86", "", "")
    assert rows["age, years: mean (SD)"] == ("62.5 (9.2)", "63.4 (9.3)", "61.1 (9.0)", "0.254", "0.071")
    assert rows["age, years: median [Q1, Q3]"][:2] == ("63 [56, 70]", "64 [57, 70]")
    assert rows["event = true"][:3] == ("150 (70.8%)", "101 (80.2%)", "49 (57.0%)")
    assert rows["event = false"][3:] == ("0.516", "<0.001")


# -- release rules -------------------------------------------------------------------------------------------------------------

RULES = fedstats.Rules(min_cell=5, rounding=False)


def asked(tables, rules=RULES, cols=("ph.ecog",), by="sex", **options):
    return fedstats.pooled(tables, dictionary=helpers.lung_dictionary(), rules=rules).cohort().table_one(list(cols), by=by, **options)


def test_closure_suppressed_cells_do_not_matter():
    """One man and one woman change their stages within suppressed cells, totals kept: the result stays the same to the last digit."""
    frame = helpers.lung()
    frame["registry"] = frame["inst"].astype(int) % 4
    man = frame.index[(frame["sex"] == 1) & (frame["ph.ecog"] == 3)][0]
    woman = frame.index[(frame["sex"] == 2) & (frame["ph.ecog"] == 2)][0]
    changed = frame.copy()
    changed.loc[man, "ph.ecog"], changed.loc[woman, "ph.ecog"] = 2, 3
    before, after = (asked(helpers.split(one, one["registry"].to_numpy()), categorical="ph.ecog") for one in (frame, changed))

    assert before.to_dict() == after.to_dict()
    assert before["ph.ecog"].p is None
    assert before["ph.ecog"].smd is None
    assert any(cell.count is None for level in before["ph.ecog"].levels for cell in level.cells)


@pytest.mark.parametrize("by", ["sex", "ecog3"])
def test_attack_a_suppressed_cell_does_not_follow_from_the_margins(by):
    """Row sizes, level totals and shown cells leave every suppressed cell a range of at least k, by linear programming."""
    from scipy.optimize import linprog

    columns, rules = ["ph.ecog", "sex" if by != "sex" else "ecog3"], fedstats.Rules(min_cell=5, show_zeros=True, rounding=False)
    result = asked(helpers.lung_tables(), rules, columns, by, categorical=[c for c in columns if c != "sex"])
    overall = asked(helpers.lung_tables(), rules, columns, None, categorical=[c for c in columns if c != "sex"])
    for name in columns:
        cells = [[cell.count for cell in level.cells[1:]] for level in result[name].levels]
        totals = [level.cells[0].count for level in overall[name].levels]
        equations, right = [], []
        shape = (len(cells), len(cells[0]))
        for place, value in np.ndenumerate(np.array(cells, dtype=object)):
            if value is not None:
                equations.append(np.eye(shape[0] * shape[1])[np.ravel_multi_index(place, shape)])
                right.append(value)
        for j, size in enumerate(result.sizes[1:]):
            if size is not None:
                equations.append((np.indices(shape)[1] == j).ravel().astype(float))
                right.append(size)
        for i, total in enumerate(totals):
            if total is not None:
                equations.append((np.indices(shape)[0] == i).ravel().astype(float))
                right.append(total)
        equations.append(np.ones(shape[0] * shape[1]))
        right.append(result.n)
        for place, value in np.ndenumerate(np.array(cells, dtype=object)):
            if value is None:
                goal = np.eye(shape[0] * shape[1])[np.ravel_multi_index(place, shape)]
                low, high = (sign * linprog(sign * goal, A_eq=np.array(equations), b_eq=right, bounds=(0, None)).fun for sign in (1, -1))
                assert high - low >= rules.min_cell - 1e-6, (name, place, low, high)


def test_a_small_group_is_hidden_in_every_row():
    """With one patient in a stage, that stage and another have no size, no mean and no count anywhere, and nothing is tested."""
    result = asked(helpers.lung_tables(), RULES, ["age", "sex", "event"], "ph.ecog")
    hidden = [k for k, size in enumerate(result.sizes) if size is None]

    assert len(hidden) >= 2
    for one in result.characteristics:
        assert one.smd is None
        assert one.p is None
        assert not one.means or one.means[0].mean is None
        for k in hidden:
            assert not one.means or one.means[k].mean is None
            assert all(level.cells[k].count is None for level in one.levels)


def test_the_mean_of_a_few_levels_is_a_table_in_disguise():
    """Performance has four stages, one with a single patient: its means by sex are not released, the overall one neither."""
    result = asked(helpers.lung_tables(), RULES, ["ph.ecog", "age"], "sex")

    assert all(mean.mean is None for mean in result["ph.ecog"].means)
    assert all(mean.mean is not None for mean in result["age"].means)
    assert result["ph.ecog"].smd is None
    assert any('"ph.ecog"' in note and "min_cell" in note for note in result.notes)


def test_a_median_is_not_guessed_within_a_wide_bin():
    """Where bins must be merged there is no median; elsewhere it is the one without rules."""
    exact, shown = asked(helpers.lung_tables(), None, ["age", "wt.loss"]), asked(helpers.lung_tables(), RULES, ["age", "wt.loss"])
    for name, k in itertools.product(("age", "wt.loss"), range(3)):
        truth, found = exact[name].means[k], shown[name].means[k]
        assert (found.median, found.q1, found.q3) == tuple(
            None if here is None else there for here, there in zip((found.median, found.q1, found.q3),
                                                                   (truth.median, truth.q1, truth.q3)))

    assert any(mean.median is None for mean in shown["wt.loss"].means)
    assert any("median" in note for note in shown.notes)


def test_wrong_questions_say_what_is_wanted():
    """A grouping variable is not a characteristic; levels need labels or cut points."""
    cohort = helpers.pooled_lung().cohort()
    for args, options, words in ((["age", "sex"], {"by": "sex"}, "grouping"), (["age"], {"categorical": ["sex"]}, "cols"),
                                 (["age"], {"by": "years"}, "cut points"), (["years"], {"categorical": ["years"]}, "cut points"),
                                 (["registry"], {}, "reserved")):
        with pytest.raises(QuestionError) as raised:
            cohort.table_one(args, **options)
        assert words in f"{raised.value} {raised.value.hint}"


def test_result_survives_the_wire():
    """Written as JSON-ready content and read back it is the same, rounded or not."""
    for rules in (None, RULES, fedstats.Rules()):
        result = asked(helpers.lung_tables(), rules, ["age", "event"])

        assert fedstats.query.analysis.read_result(result.to_dict()) == result
        assert len(result.tables()) == 2
        assert result.picture().labels == ("age", "event")
