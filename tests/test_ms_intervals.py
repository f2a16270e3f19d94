"""Time-varying (start, stop] rows: they add up to the time of each outcome, and know nothing that comes after their start."""

import numpy as np
import pandas as pd
import pytest

from fedstats.errors import InputError, QuestionError
from fedstats.ms import cohort

from .cohort_data import random_registry, together
from .test_ms_cohort import CDW24, KEPT, OUTCOMES, columns_of, one, tree_of

VARYING = ["edss", "relapses_12m", "dmt_class", "days_on_dmt", "sdmt"]
ROWS = {"kind": "intervals", "time_varying": VARYING}
INDEXES = [{"event": "first_visit"}, {"event": "dmt_start"}, {"event": "date", "date": "2008-07-01"}]
FOLLOW_UP = {"treatment": "switch_or_stop", "max_days": 3_000}


def frame(derived):
    """Values, and whose."""
    return pd.DataFrame({name: derived.rows.values(name) for name in derived.rows.dictionary.names} | {"who": derived.patient_id})


def both(index, registry, **more):
    """The rows of one tree as intervals and as one row per patient."""
    tree = tree_of(index, outcomes=OUTCOMES, **more)
    return [frame(cohort.compile({**tree, **rows}).derive(registry, recorded=KEPT)) for rows in ({"rows": ROWS}, {})]


def test_intervals_by_hand():
    """Visits, a treatment that starts and ends, a relapse (no cut), and worsening seen on 1 January 2011."""
    visits = [("2009-12-01", 2), ("2010-06-01", 2), ("2011-01-01", 3), ("2011-07-01", 3), ("2012-01-01", 3)]
    tree = tree_of(outcomes=[CDW24, {"kind": "relapse"}], rows={"kind": "intervals", "time_varying": ["edss", "dmt_class", "relapses_12m"]})
    registry = one(visits=visits, relapses=["2010-09-01"], treatments=[("Tysabri", "2010-03-01", "2010-05-01")])
    derived = cohort.compile(tree).derive(registry, recorded=KEPT)
    rows, book = derived.rows, derived.rows.dictionary
    days = [0, 59, 120, 151, 243, 365, 546, 730]

    assert rows.values("interval_start_days").tolist() == days[:5] and rows.values("interval_stop_days").tolist() == days[1:6]
    assert rows.values("edss").tolist() == [2] * 5 and rows.values("age").tolist() == [39] * 5
    assert [book["dmt_class"].labels[int(k)] for k in rows.values("dmt_class")] == ["none", "high", "none", "none", "none"]
    assert rows.values("relapses_12m").tolist() == [0, 0, 0, 0, 1]
    assert rows.values("cdw24_event").tolist() == [0, 0, 0, 0, 1]
    np.testing.assert_array_equal(rows.values("relapse_event"), [0, 0, 0, 1, np.nan])


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_intervals_add_up_to_the_time_and_the_events_of_each_outcome(index):
    """For each outcome and patient: consecutive from 0, the same time, the same events, the last one at the end."""
    cut, whole = both(index, random_registry(300, seed=4), follow_up=FOLLOW_UP)
    for name in ("cdw24", "edss6", "relapse", "death"):
        own = cut[cut[f"{name}_event"].notna()]
        length = (own["interval_stop_days"] - own["interval_start_days"]).groupby(own["who"]).sum()
        risk = whole[whole[f"{name}_days"].notna()].set_index("who").sort_index()

        pd.testing.assert_series_equal(length, risk[f"{name}_days"], check_names=False)
        assert (own.groupby("who")[f"{name}_event"].sum().to_numpy() == risk[f"{name}_event"].to_numpy()).all()
        assert (own.groupby("who")[f"{name}_event"].last() == own.groupby("who")[f"{name}_event"].sum()).all()
    follows = cut["who"].eq(cut["who"].shift())
    assert (cut["interval_start_days"] == cut["interval_stop_days"].shift())[follows].all()
    assert (cut["interval_start_days"][~follows] == 0).all() and (cut["interval_stop_days"] > cut["interval_start_days"]).all()
    assert whole["cdw24_event"].sum() > 10


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_what_comes_after_the_start_of_an_interval_changes_no_covariate_of_it(index):
    """Records after a day are wiped out or made up: the covariates of all intervals that start by then stay."""
    registry = random_registry(200, seed=6)
    recipe = cohort.compile(tree_of(index, outcomes=OUTCOMES, rows=ROWS))
    day = 14_500
    other = random_registry(200, seed=99)
    changed = registry
    for name, column in (("visits", "visit_date"), ("relapses", "relapse_onset_date"), ("treatments", "start_date")):
        mine, theirs = registry.table(name), other.table(name)
        mine, theirs = mine.where(mine[column] <= day), theirs.where(theirs[column] > day)
        joined = {key: np.concatenate([mine[key], theirs[key]]) for key in mine.columns}
        changed = changed.with_table(type(mine)(name, mine.n + theirs.n, joined))
    before, after = (frame(recipe.derive(one, recorded=KEPT)) for one in (registry, changed))
    names = ["who", "interval_start_days", *VARYING, "age", "index_date"]
    kept = [rows[rows["index_date"] + rows["interval_start_days"] <= day][names] for rows in (before, after)]
    shared = kept[0].merge(kept[1], on=["who", "interval_start_days"], suffixes=("", "_after"))

    assert len(shared) > 200
    for name in (*VARYING, "age", "index_date"):
        pd.testing.assert_series_equal(shared[name], shared[f"{name}_after"], check_names=False)


def test_a_value_in_an_interval_is_that_of_a_cohort_on_its_first_day():
    """Each covariate at each start: what the covariate would be if time zero were that day."""
    registry = random_registry(40, seed=2)
    cut, _ = both({"event": "first_visit"}, registry)
    recipe = cohort.compile(tree_of({"event": "every_visit"}))
    landmarks = frame(recipe.derive(registry, recorded=KEPT))
    cut["index_date"] += cut["interval_start_days"]
    shared = cut.merge(landmarks, on=["who", "index_date"], suffixes=("", "_there"))

    assert len(shared) > 200
    for name in VARYING:
        pd.testing.assert_series_equal(shared[name], shared[f"{name}_there"], check_names=False)


def test_cox_on_intervals_with_fixed_covariates_is_cox_on_one_row_per_patient():
    """lifelines on (start, stop] rows and on one row per patient: the same coefficients of age and EDSS at time zero."""
    lifelines = pytest.importorskip("lifelines")
    tree = tree_of({"event": "first_visit"}, covariates=["age", "edss"], outcomes=[CDW24])
    registry = random_registry(400, seed=5)
    rows = {"kind": "intervals", "time_varying": []}
    cut, whole = (frame(cohort.compile({**tree, **more}).derive(registry, recorded=KEPT)) for more in ({"rows": rows}, {}))
    whole = whole.dropna(subset=["cdw24_days", "age", "edss"])
    cut = cut.dropna(subset=["cdw24_event", "age", "edss"])
    one_row = lifelines.CoxPHFitter().fit(whole[["age", "edss", "cdw24_days", "cdw24_event"]], "cdw24_days", "cdw24_event")
    many = lifelines.CoxTimeVaryingFitter().fit(cut[["who", "age", "edss", "interval_start_days", "interval_stop_days", "cdw24_event"]],
                                                id_col="who", start_col="interval_start_days", stop_col="interval_stop_days",
                                                event_col="cdw24_event")

    assert len(cut) > 2 * len(whole)
    np.testing.assert_allclose(many.params_, one_row.params_, rtol=1e-5)
    np.testing.assert_allclose(many.standard_errors_, one_row.standard_errors_, rtol=1e-4)


def test_adding_patients_changes_no_interval_and_rows_name_their_patient():
    """Three registries and one with all their patients; how many rows a patient may have is said."""
    recipe = cohort.compile(tree_of({"event": "first_visit"}, outcomes=OUTCOMES, rows={**ROWS, "most_rows": 50}))
    parts = [random_registry(60, seed=seed, prefix=name) for seed, name in enumerate("abc")]
    apart, whole = [recipe.derive(part, recorded=KEPT) for part in parts], recipe.derive(together(*parts), recorded=KEPT)

    assert recipe.episodes and recipe.dictionary.most_rows == 50
    for name, column in columns_of(whole).items():
        np.testing.assert_array_equal(np.concatenate([columns_of(part)[name] for part in apart]), column)
    assert whole.rows.people() == len(set(whole.patient_id)) < whole.rows.n
    assert dict(whole.flow)["cdw24: at risk"] == sum(dict(part.flow)["cdw24: at risk"] for part in apart)


def test_a_patient_with_too_many_intervals_is_an_error_with_a_remedy():
    """No row is dropped in silence."""
    with pytest.raises(InputError, match="more than 2 intervals") as caught:
        cohort.compile(tree_of(outcomes=[CDW24], rows={**ROWS, "most_rows": 2})).derive(random_registry(100, seed=1))
    assert "most_rows" in caught.value.hint


def test_an_empty_registry_has_no_intervals_and_the_same_flow():
    """Nobody, and the same steps."""
    recipe = cohort.compile(tree_of(outcomes=OUTCOMES, rows=ROWS))
    empty = recipe.derive(random_registry(0), recorded=KEPT)

    assert empty.rows.n == 0
    assert [step for step, _ in empty.flow] == [step for step, _ in recipe.derive(random_registry(50), recorded=KEPT).flow]


@pytest.mark.parametrize(("change", "says"), [
    ({"rows": {**ROWS, "time_varying": ["tomorrow"]}}, "rows.time_varying"),
    ({"rows": {**ROWS, "time_varying": ["edss"]}, "covariates": ["age"]}, "is not among the covariates"),
    ({"rows": {**ROWS, "most_rows": 99}}, "rows.most_rows is 99"),
    ({"rows": ROWS, "index": {"event": "every_visit"}}, "one time zero per patient"),
    ({"rows": ROWS, "outcomes": []}, "an outcome that has a time"),
    ({"rows": ROWS, "outcomes": [{"kind": "neda3", "years": 1}]}, "an outcome that has a time"),
    ({"rows": {"kind": "pieces"}}, "pieces"),
])
def test_rows_that_mean_nothing_are_refused(change, says):
    """By field, with a remedy."""
    with pytest.raises(QuestionError, match=says) as caught:
        cohort.compile({**tree_of(outcomes=OUTCOMES), **change})

    assert caught.value.hint


def test_the_cohort_says_that_its_rows_are_intervals():
    """In the methods sentence, in the columns, in the hash."""
    cut, whole = (cohort.compile(tree_of(outcomes=[CDW24], **more)) for more in ({"rows": ROWS}, {}))

    assert "Time was cut into intervals" in cut.describe() and cut.hash != whole.hash
    assert "start of the interval" in cut.explain_columns()["edss"] and "cdw24_days" not in cut.explain_columns()
    assert cohort.compile(cut.to_dict()).hash == cut.hash
