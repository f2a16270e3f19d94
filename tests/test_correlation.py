"""correlation against R (stats_lung.csv) and scipy, and what it gives away."""

import numpy as np
import pytest
from scipy import stats

import fedstats
from fedstats import Rules
from fedstats.analyses.rank_tables import cuts_for, merged_table, rank_correlation
from fedstats.errors import QuestionError

from . import helpers

REL = 1e-9
PAIRS = [("age", "wt.loss"), ("age", "ph.karno"), ("time", "ph.ecog")]


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_pearson_equals_R(x, y):
    """r with Fisher's interval and the t test, as cor.test prints them."""
    found = helpers.pooled_lung().cohort().correlation([x, y])[x, y].pearson

    expected = {"r": found.r, "t": found.t, "df": found.df, "p": found.p, "ci_lower": found.low, "ci_upper": found.high}

    for quantity, value in expected.items():
        assert value == pytest.approx(helpers.reference("stats_lung", "pearson", f"x={x};y={y}", quantity), rel=REL)


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_spearman_equals_R(x, y):
    """rho from counts of every pair of values, with both intervals and the t approximation."""
    found = helpers.pooled_lung().cohort().correlation([x, y])[x, y].spearman
    expected = {"rho": found.rho, "p_t": found.p, "ci_lower_fisher": found.low, "ci_upper_fisher": found.high,
                "ci_lower_bonett_wright": found.low_bonett_wright, "ci_upper_bonett_wright": found.high_bonett_wright}

    for quantity, value in expected.items():
        assert value == pytest.approx(helpers.reference("stats_lung", "spearman", f"x={x};y={y}", quantity), rel=REL)
    assert found.exact


def test_matrix_equals_pandas():
    """Whole numbers, a boolean and a number without a step in one matrix: as pandas computes it from the rows."""
    names = ["age", "wt.loss", "event", "years", "time"]
    result = helpers.pooled_lung(years={"cut_points": {"from": 0, "to": 3, "step": 0.01}}).cohort().correlation(names)
    frame = helpers.lung()[names].astype(float)

    assert result.matrix() == pytest.approx(frame.corr().to_numpy(), rel=REL)
    assert result.matrix("spearman")[:3, :3] == pytest.approx(frame.corr("spearman").to_numpy()[:3, :3], rel=REL)
    assert result["years", "time"].spearman is None
    assert any("coarser cut points" in note for note in result.notes)


def test_rank_correlation_of_random_tables_equals_scipy():
    """Mid-ranks from counts are those of the rows, however many ties."""
    random = np.random.default_rng(5)
    for _ in range(20):
        x, y = random.integers(0, 5, 60), random.integers(0, 7, 60)
        table = np.zeros((5, 7), dtype=int)
        np.add.at(table, (x, y), 1)

        assert rank_correlation(table) == pytest.approx(stats.spearmanr(x, y).statistic, rel=REL)


def test_perfect_correlation_has_no_interval_beyond_one():
    """Days and years of follow-up are the same thing in other units; complete agreement of ranks is 1."""
    result = helpers.pooled_lung().cohort().correlation(["time", "years"], method="pearson")

    assert result["time", "years"].pearson.r == pytest.approx(1, abs=1e-12)
    assert result["time", "years"].pearson.high <= 1
    assert rank_correlation(np.diag([3, 4, 5])) == pytest.approx(1)


def test_columns_are_symmetric():
    """Asking in another order gives the same coefficients."""
    cohort = helpers.pooled_lung().cohort()
    one, other = cohort.correlation(["age", "wt.loss"])["wt.loss", "age"], cohort.correlation(["wt.loss", "age"])["age", "wt.loss"]

    assert one.pearson.r == pytest.approx(other.pearson.r, rel=1e-12)
    assert one.spearman.rho == pytest.approx(other.spearman.rho, rel=1e-12)


def table_of(tables, x, y, dictionary):
    rows = [fedstats.rows.load(table, dictionary)[0] for table in tables.values()]
    table = np.zeros((len(dictionary.bins(x)), len(dictionary.bins(y))), dtype=int)
    for one in rows:
        np.add.at(table, (one.bins(x), one.bins(y)), 1)
    return table


def test_merged_tables_are_safe_and_keep_three_classes():
    """Whatever the table: after merging every cell has nobody or at least 10 people, and each axis three classes."""
    random = np.random.default_rng(7)
    kept = 0
    for n in (60, 150, 300, 1500):
        for slope in (0, 0.5, 1):
            x = random.integers(0, 30, n)
            y = np.clip(slope * x + random.integers(0, 20, n), 0, 49).astype(int)
            table = np.zeros((30, 50), dtype=int)
            np.add.at(table, (x, y), 1)
            cuts = cuts_for(table, Rules())
            if cuts is None:
                continue
            kept += 1
            small = merged_table(table, *cuts)

            assert small.sum() == n and min(small.shape) >= 3
            assert not ((small > 0) & (small < 10)).any()
    assert kept >= 6        # 60 patients never fill nine cells of 10


def test_moving_a_patient_inside_a_merged_cell_changes_nothing():
    """Spearman's rho is that of the merged table: patients may change places inside a class."""
    dictionary, names, same = helpers.lung_dictionary(), ["age", "wt.loss"], 0
    before = helpers.ruled_lung().correlation(names, method="spearman")
    assert before["age", "wt.loss"].spearman is not None and not before["age", "wt.loss"].spearman.exact
    start = table_of(helpers.lung_tables(), *names, dictionary)
    cuts = cuts_for(start, Rules())
    merged = merged_table(start, *cuts)

    for age in range(44, 80):
        if not (helpers.lung()["age"] == age).any():
            continue
        tables = helpers.edited({"age": age}, {"age": age + 1})
        table = table_of(tables, *names, dictionary)
        if cuts_for(table, Rules()) != cuts or (merged_table(table, *cuts) != merged).any():
            continue
        same += 1

        assert helpers.ruled_lung(tables).correlation(names, method="spearman").to_dict() == before.to_dict()
    assert same >= 5


def test_coefficients_that_are_small_tables_are_not_released():
    """One patient has status 3: a correlation with status would help to find that patient."""
    result = helpers.ruled_lung().correlation(["time", "ph.ecog", "age"])

    assert result["time", "ph.ecog"].pearson is None and result["age", "ph.ecog"].pearson is None
    assert result["age", "time"].pearson is not None
    assert np.isnan(result.matrix()[0, 1])
    assert any("rule min_cell" in note for note in result.notes)


def test_correlation_of_two_flags_needs_their_whole_table():
    """Two common booleans that are both true for three patients: their correlation is the small cell."""
    frame = helpers.lung()
    frame["female"] = (np.arange(len(frame)) % 2 == 0) & ~(frame["event"] & (np.arange(len(frame)) > 6))
    both = (frame["female"] & frame["event"]).sum()
    tables = helpers.split(frame, frame["inst"].to_numpy().astype(int) % 4)
    source = helpers.lung_dictionary().to_dict()
    source["variables"] = [*source["variables"], {"name": "female", "type": "boolean"}]
    ask = {rules: fedstats.pooled(tables, dictionary=source, rules=rules).cohort().correlation(["event", "female"])
           for rules in (Rules(), None)}

    assert 0 < both < 10 and frame["female"].sum() >= 10
    assert ask[Rules()].pairs[0].pearson is None and ask[Rules()].pairs[0].spearman is None
    assert ask[None].pairs[0].pearson.r == pytest.approx(frame["event"].corr(frame["female"]), rel=REL)


def test_a_flag_of_one_patient_correlates_with_nothing():
    """An indicator of a single patient would give that patient's age away: not released."""
    frame = helpers.lung()
    frame["event"] = np.arange(len(frame)) == 17
    tables = helpers.split(frame, frame["inst"].to_numpy().astype(int) % 4)
    result = fedstats.pooled(tables, dictionary=helpers.lung_dictionary(), rules=Rules()).cohort().correlation(["age", "event"])

    assert result.pairs[0].pearson is None and result.pairs[0].spearman is None


def test_questions_that_make_no_sense_say_so():
    """Two columns at least, all with a mean, and a method that exists."""
    cohort = helpers.pooled_lung().cohort()
    with pytest.raises(QuestionError, match="2 to 12"):
        cohort.correlation(["age"])
    with pytest.raises(QuestionError, match="category"):
        cohort.correlation(["age", "sex"])
    with pytest.raises(QuestionError, match="kendall"):
        cohort.correlation(["age", "time"], method="kendall")


def test_result_can_be_stored_and_drawn():
    """A result read back from its plain form is the same; the picture is the matrix."""
    result = helpers.ruled_lung().correlation(["age", "wt.loss", "ph.karno"])

    assert type(result).from_dict(result.to_dict()) == result
    assert result.picture().series[0][1][0] == 1 and len(result.tables()[0].rows) == 3
