"""Confirmed worsening and improvement, PIRA and RAW: MSprog's results on published data, then what must hold for any patient."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from fedstats.errors import InputError
from fedstats.ms.outcomes.progression import worsening
from fedstats.ms.outcomes.thresholds import threshold

from .progression_data import RESULTS, SETTINGS, one, random_tables, results, tables

MANY = {"event": "multiple", "baseline": "roving"}
EVERYTHING = [
    {}, MANY, {"event": "first_pira", "baseline": "roving"}, {"event": "first_raw", "baseline": "roving"}, {"event": "first_cdi"},
    {**MANY, "relapse_rebl": True, "bl_geq": True}, {**MANY, "sub_threshold_rebl": "change", "skip_local_extrema": "all"},
    {**MANY, "conf_days": (84, 168), "conf_tol_days": 40, "check_intermediate": False, "return_unconfirmed": True},
    {**MANY, "proceed_from": "event", "relapse_to_bl": (30, 30), "relapse_to_event": (10, 5), "relapse_to_conf": (20, 20),
     "impute_last_visit": 1},
    {"event": "multiple", "require_sust_days": 300, "relapse_indep": {"prec": (0, None), "event": (None, None), "conf": (None, 0)}},
]


def assert_same(events, wanted):
    """Two results agree in every column."""
    pd.testing.assert_frame_equal(events.frame(), wanted.frame())


def dates_of(column):
    return pd.to_datetime(column).to_numpy("datetime64[D]")


@pytest.mark.parametrize("file", RESULTS)
def test_events_equal_those_of_msprog(file):
    """Same patients, events, types, dates, references, confirmations and durations as MSprog 1.0.7, in every column that it writes."""
    name, setting = file.split("__")
    wanted, found = results(file), worsening(*tables(name), **SETTINGS[setting])

    assert list(found["patient_id"]) == list(wanted["id"])
    event = wanted["nevent"].to_numpy() > 0
    for column in wanted.columns.drop("id"):
        ours, theirs = found[column.lower()], wanted[column]
        if column.endswith("date"):
            np.testing.assert_array_equal(ours, dates_of(theirs), column)
        elif column == "event_type":
            assert list(ours) == list(theirs.fillna("none"))
        elif column == "CDW_type":
            assert list(ours) == list(theirs.fillna(""))
        elif column == "sust_last":
            assert list(ours[event]) == [str(one) == "True" for one in theirs[event]]
        else:
            np.testing.assert_array_equal(ours.astype(float), theirs.to_numpy(float), column)


def test_first_sustained_worsening_finds_the_patients_of_msoutcomes():
    """With MSBase's threshold and months of 30.25 days, sustained worsening is found in 24 of 40 patients, as by MSoutcomes 0.2.1."""
    found = worsening(*tables("sample"), conf_days=90.75, conf_tol_days=(0, np.inf), require_sust_days=np.inf,
                      half_step_from=6.0)

    assert found.flow["with_event"] == 24


def test_twelve_weeks_with_the_default_window_are_confirmed_after_most_of_a_year():
    """On the sample the 28 events of "12-week confirmed" worsening are confirmed at 336 days in the middle: the result says so."""
    found = worsening(*tables("sample"))

    assert found.flow["events"] == 28
    assert found.confirmation_lag[84].median == pytest.approx(336, abs=1)
    assert "336.5 days" in str(found)


@pytest.mark.parametrize("settings", EVERYTHING, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_shifting_all_dates_changes_nothing(settings, seed):
    """A patient seen 1000 days later has the same history, 1000 days later."""
    visits, relapses = random_tables(seed)
    later = pd.Timedelta(1000, "D")
    shifted = worsening(visits.assign(visit_date=visits["visit_date"] + later),
                        relapses.assign(relapse_onset_date=relapses["relapse_onset_date"] + later), **settings).frame()
    dates = [name for name in shifted if name.endswith("date")]
    shifted[dates] -= later

    pd.testing.assert_frame_equal(shifted, worsening(visits, relapses, **settings).frame())


@pytest.mark.parametrize("settings", EVERYTHING, ids=str)
def test_a_new_patient_changes_nobody_else(settings):
    """What is found in a patient depends on that patient alone."""
    visits, relapses = random_tables(3)
    all_rows = worsening(visits, relapses, **settings).frame()
    some = visits["patient_id"] < "p030"
    fewer = worsening(visits[some], relapses[relapses["patient_id"] < "p030"], **settings).frame()

    pd.testing.assert_frame_equal(all_rows[all_rows["patient_id"] < "p030"].reset_index(drop=True), fewer)


@pytest.mark.parametrize("settings", EVERYTHING, ids=str)
def test_the_order_of_rows_is_irrelevant(settings):
    """Tables may come in any order, and identifiers as text or numbers."""
    visits, relapses = random_tables(4)

    assert_same(worsening(visits.sample(frac=1, random_state=1), relapses.sample(frac=1, random_state=2), **settings),
                worsening(visits, relapses, **settings))


@pytest.mark.parametrize("settings", [
    MANY, {"event": "multiple"}, {**MANY, "sub_threshold_rebl": "change"}, {**MANY, "conf_tol_days": 60}], ids=str)
def test_worsening_mirrored_is_improvement_when_the_threshold_is_constant(settings):
    """Turn every score upside down, and every worsening is an improvement on the same day."""
    visits, relapses = random_tables(5)
    same = {"thresholds": {"changes": [{"points": 1.0}]}}
    up = worsening(visits, relapses, **settings, **same).frame()
    down = worsening(visits.assign(edss=10 - visits["edss"]), relapses, **settings, **same).frame()
    turned = up["event_type"].map({"CDW": "CDI", "CDI": "CDW", "none": "none"})

    assert list(turned) == list(down["event_type"])
    assert up["date"].equals(down["date"]) and up["bl_date"].equals(down["bl_date"]) and up["sust_days"].equals(down["sust_days"])


@pytest.mark.parametrize("seed", range(5))
def test_a_confirmed_event_is_what_its_definition_says(seed):
    """Large enough against its reference, confirmed inside the window by a visit clear of relapses, and shown at all visits between."""
    visits, relapses = random_tables(seed)
    rule = threshold("edss")
    rows = worsening(visits, relapses, **MANY, conf_tol_days=(7, 84)).frame()
    for row in rows[rows["nevent"] > 0].itertuples():
        own = visits[visits["patient_id"] == row.patient_id].set_index("visit_date")["edss"]
        onsets = relapses.loc[relapses["patient_id"] == row.patient_id, "relapse_onset_date"]
        between = own[(own.index >= row.date) & (own.index <= row.conf84_date)]
        sign = 1 if row.event_type == "CDW" else -1

        assert (sign * (between - row.bl_value) >= rule.smallest_change(row.bl_value)).all()
        assert 77 <= (row.conf84_date - row.date).days <= 168
        for visit in (row.conf84_date, row.bl_date):
            since = (visit - onsets[onsets <= visit]).dt.days
            assert (since >= 30).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_first_worsening_is_overlooked(seed):
    """Every patient read visit by visit, the slow way: the same first worsening against the first visit clear of relapses."""
    visits, relapses = random_tables(seed)
    rule, found = threshold("edss"), worsening(visits, relapses, conf_tol_days=(7, 200))
    for patient, date in zip(found["patient_id"], found["date"]):
        own = visits[visits["patient_id"] == patient]
        day, edss = own["visit_date"].to_numpy("datetime64[D]"), own["edss"].to_numpy()
        onsets = relapses.loc[relapses["patient_id"] == patient, "relapse_onset_date"].to_numpy("datetime64[D]")
        clear = [not ((visit - onsets >= np.timedelta64(0)) & (visit - onsets < np.timedelta64(30, "D"))).any() for visit in day]
        worse = edss - edss[clear.index(True)] >= rule.smallest_change(edss[clear.index(True)]) if any(clear) else clear
        lags = (day[None, :] - day[:, None]).astype(int)
        starts = [k for k in range(clear.index(True), len(day)) if any(
            clear[c] and 77 <= lags[k, c] <= 284 and worse[k:c + 1].all() for c in range(k + 1, len(day)))] if any(clear) else []

        assert (day[starts[0]] == date) if starts else np.isnat(date)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weeks", [12, 24, 48])
def test_longer_confirmation_with_an_open_window_never_finds_more_first_events(seed, weeks):
    """Whoever is still worse after 48 weeks or later, at all visits until then, was so after 24 weeks or later."""
    visits, relapses = random_tables(seed)
    counts = [worsening(visits, relapses, conf_days=7 * w, conf_tol_days=(0, np.inf)).flow["events"] for w in (weeks, 2 * weeks)]

    assert counts[0] >= counts[1]


@pytest.mark.parametrize("seed", range(3))
def test_asking_for_more_persistence_never_finds_more_first_events(seed):
    """Worsening that lasts a year is a part of worsening that lasts half a year."""
    visits, relapses = random_tables(seed)
    counts = [worsening(visits, relapses, require_sust_days=days).flow["events"] for days in (0, 182, 365, np.inf)]

    assert counts == sorted(counts, reverse=True)


def test_without_numba_the_same_results():
    """The compiled functions and the same functions as plain Python agree on the toy data."""
    tables("toy")
    code = ("from tests.progression_data import tables\nfrom fedstats.ms.outcomes.progression import worsening\n"
            "print(worsening(*tables('toy'), event='multiple', baseline='roving', relapse_rebl=True).frame().to_csv())")
    blocked = "import sys\nsys.modules['numba'] = None\n" + code
    first, second = (subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
                     for text in (code, blocked))

    assert first == second and "PIRA" in first


# ------------------------------------------------------------------ one patient at a time

def test_edss_5_5_is_the_only_reference_on_which_the_conventions_differ():
    """From 5.5, half a point counts in trials (and MSprog), a whole point in MSBase."""
    trial, msbase = threshold("edss"), threshold("edss", half_step_from=6.0)
    levels = [0, *np.arange(1, 10, 0.5)]

    assert [level for level in levels if trial.smallest_change(level) != msbase.smallest_change(level)] == [5.5]
    assert [trial.smallest_change(level) for level in (0, 1, 5, 5.5, 6)] == [1.5, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize(("outcome", "reference", "change"), [
    ("sdmt", 60, 4), ("sdmt", 15, 3), ("t25fw", 5, 1), ("nhpt", 25.5, 5.1)])
def test_other_outcomes_change_by_their_share(outcome, reference, change):
    """SDMT: 4 points, or a fifth of a low score; timed tests: a fifth."""
    rule = threshold(outcome)
    worse = reference + rule.worse * change
    visits = {"patient_id": ["a"] * 3, "visit_date": [0, 100, 200], outcome: [reference, worse, worse]}
    less = {**visits, outcome: [reference, worse - rule.worse * 0.2, worse]}

    assert rule.smallest_change(reference) == pytest.approx(change)
    assert worsening(visits, outcome=outcome).flow["events"] == 1
    assert worsening(less, outcome=outcome).flow["events"] == 0


def test_a_timed_test_that_takes_a_fifth_longer_counts_in_spite_of_rounding():
    """25.5 to 30.6 seconds is a fifth, and 8.1 to 9.72, whatever binary fractions say."""
    for reference, later in ((25.5, 30.6), (8.1, 9.72), (5.7, 6.84)):
        visits = {"patient_id": ["a"] * 3, "visit_date": [0, 100, 200], "t25fw": [reference, later, later]}

        assert worsening(visits, outcome="t25fw").flow["events"] == 1


def test_a_reference_near_a_relapse_moves_to_the_next_visit():
    """A first visit 10 days after a relapse is not what later visits are compared with."""
    found = worsening(*one([0, 100, 200, 300], [4, 3, 4, 4], [-10]))

    assert found["bl_date"][0] == 100 and found["date"][0] == 200


def test_distances_to_the_next_relapse_are_kept_when_asked_for():
    """A confirmation 20 days before a relapse counts by default, and not with (30, 30)."""
    case = one([0, 100, 200], [2, 3, 3], [220])

    assert worsening(*case).flow["events"] == 1
    assert worsening(*case, relapse_to_conf=(30, 30)).flow["events"] == 0


def test_an_event_too_near_to_a_relapse_is_not_sought_there():
    """With 30 days asked between relapse and event, the worsening starts at the next visit."""
    case = one([0, 100, 200, 300], [2, 3, 3, 3], [90])

    assert worsening(*case)["date"][0] == 100
    assert worsening(*case, relapse_to_event=30)["date"][0] == 200


def test_a_lapse_between_event_and_confirmation_undoes_it_unless_told_otherwise():
    """Worse at 100, well at 150, worse at 200: confirmed only if visits in between are not looked at."""
    case = one([0, 100, 150, 200], [2, 3, 2, 3])

    assert worsening(*case).flow["events"] == 0
    assert worsening(*case, check_intermediate=False)["conf84_date"][0] == 200


def test_several_periods_each_have_their_confirmation():
    """Confirmed at 12 weeks, back to normal at 24: an event, with the first date only."""
    found = worsening(*one([0, 100, 190, 270], [2, 3, 3, 2]), conf_days=(84, 168), conf_tol_days=30)

    assert found["conf84_date"][0] == 190 and np.isnan(found["conf168_date"][0])


@pytest.mark.parametrize(("onset", "kind"), [
    (9, "PIRA"), (10, "RAW"), (99, "RAW"), (100, "RAW"), (101, "undefined"), (130, "undefined"), (131, "PIRA"), (209, "PIRA"),
    (210, "undefined"), (330, "undefined"), (331, "PIRA")])
def test_relapses_decide_between_raw_pira_and_undefined(onset, kind):
    """Event on day 100, confirmation on day 300. RAW: a relapse in the 90 days before; PIRA: none near event or confirmation."""
    assert worsening(*one([0, 100, 300], [2, 3, 3], [onset]), event="multiple", relapse_to_bl=5)["cdw_type"][0] == kind


def test_intervals_without_end_reach_to_the_next_checkpoint():
    """No relapse from reference to confirmation, the strict form of PIRA: one relapse between them spoils it."""
    strict = {"prec": (0, None), "event": (None, None), "conf": (None, 0)}
    case = one([0, 300, 700], [2, 3, 3], [150])

    assert worsening(*case, event="multiple")["cdw_type"][0] == "PIRA"
    assert worsening(*case, event="multiple", relapse_indep=strict)["cdw_type"][0] == "undefined"


def test_the_visit_before_can_be_the_last_one():
    """A relapse 40 days after the reference does not matter when the interval is about the last visit before the event."""
    case = one([0, 300, 500, 700], [2, 2, 3, 3], [40])
    around = {"prec": (0, 90), "event": (90, 30), "conf": (90, 30)}

    assert worsening(*case, relapse_indep=around)["cdw_type"][0] == "undefined"
    for last in ("last", "last_delta"):
        assert worsening(*case, relapse_indep={**around, "prec_type": last})["cdw_type"][0] == "PIRA"


@pytest.mark.parametrize(("onset", "found"), [(110, 1), (109, 0)])
def test_after_a_relapse_the_reference_is_set_anew_when_asked_for(onset, found):
    """A loss at day 200 that a relapse can still explain (90 days) is an event; from day 91 after it on, it is the new reference."""
    case = one([0, 100, 200, 300, 400], [2, 2, 3, 3, 3], [onset])

    assert worsening(*case)["date"][0] == 200
    assert worsening(*case, relapse_rebl=True).flow["events"] == found


def test_a_new_reference_is_never_better_when_asked_for():
    """2, relapse, 1.0, then 2.0: a worsening against the better value, none if the reference stays at 2."""
    case = one([0, 100, 200, 300, 400], [2, 2, 1, 2, 2], [150])

    assert worsening(*case, relapse_rebl=True).flow["events"] == 1
    assert worsening(*case, relapse_rebl=True, bl_geq=True).flow["events"] == 0


def test_a_confirmed_change_below_the_threshold_moves_a_roving_reference_when_asked_for():
    """2.0, 2.5, 2.5, 3.0, 3.0: one point against 2.0, half a point against 2.5."""
    case = one([0, 100, 200, 300, 400], [2, 2.5, 2.5, 3, 3])

    assert worsening(*case, baseline="roving").flow["events"] == 1
    assert worsening(*case, baseline="roving", sub_threshold_rebl="change").flow["events"] == 0
    assert worsening(*case, baseline="roving", sub_threshold_rebl="improvement").flow["events"] == 1
    assert worsening(*case, baseline="fixed", sub_threshold_rebl="change").flow["events"] == 1


def test_a_peak_is_no_reference_when_asked_for():
    """After an improvement confirmed at a visit that is a trough, the next visit becomes the reference."""
    case = one([0, 100, 200, 300, 400, 500], [4, 3, 2.5, 3, 4, 4])

    assert worsening(*case, **MANY)["bl_value"][1] == 2.5
    assert worsening(*case, **MANY, skip_local_extrema="all")["bl_value"][1] == 3
    assert worsening(*case, **MANY, skip_local_extrema="strict")["bl_value"][1] == 2.5      # half a point is below the threshold


@pytest.mark.parametrize(("impute", "events"), [(0, 0), (1, 1), (100, 1), (99, 0)])
def test_a_worsening_at_the_last_visit_counts_only_when_asked_for(impute, events):
    """Nobody could confirm it: never, always, or within so many days of time zero."""
    found = worsening(*one([0, 100], [2, 3]), impute_last_visit=impute)

    assert found.flow["events"] == events and found["imputed"][0] == bool(events)


def test_tolerances_may_differ_between_periods():
    """30 days after 12 weeks, 100 after 24; a period without one is refused."""
    case = one([0, 100, 215, 360], [2, 3, 3, 3])
    found = worsening(*case, conf_days=(84, 168), conf_tol_days={84: 30, 168: (7, 100)})

    assert np.isnan(found["pira_conf84_date"][0]) == np.isnan(found["conf84_date"][0])
    assert (found["conf84_date"][0], found["conf168_date"][0]) == (pytest.approx(np.nan, nan_ok=True), 360)
    with pytest.raises(InputError, match="conf_tol_days is None"):
        worsening(*case, conf_days=(84, 168), conf_tol_days={84: 30})


def test_whole_days_of_a_period_count():
    """90.75 days (three months of 30.25) less a tolerance of 30 is day 60."""
    case = one([0, 100, 160, 300], [2, 3, 3, 2])

    assert worsening(*case, conf_days=90.75, conf_tol_days=30)["conf90.75_date"][0] == 160


def test_a_relapse_long_before_the_first_visit_is_not_looked_at():
    """45 days after day 0 a worsening; a relapse 30 days before day 0 makes it RAW, one 31 days before does not."""
    days, edss = [0, 45, 150, 260], [2, 3, 3, 3]

    assert worsening(*one(days, edss, [-30]), event="multiple")["cdw_type"][0] == "RAW"
    assert worsening(*one(days, edss, [-31]), event="multiple")["cdw_type"][0] == "PIRA"


def test_an_event_found_again_after_a_relapse_takes_the_place_of_the_first():
    """Relapse on day 170, worse on day 240, within 90 days of it: the event is told once, against the new reference of day 200."""
    found = worsening(*one([0, 100, 200, 240, 330, 430, 530], [2, 2, 2, 4, 4, 4, 4], [170]), event="multiple", relapse_rebl=True)

    assert found["date"].tolist() == [240, 430] and found["bl_date"].tolist() == [200, 200]
    assert found["cdw_type"].tolist() == ["RAW", "PIRA"] and found["nevent"].tolist() == [1, 2]


def test_only_marked_visits_confirm_when_asked_for():
    """An unscheduled visit shows the change but does not confirm it."""
    visits, relapses = one([0, 100, 200, 300], [2, 3, 3, 3])
    found = worsening({**visits, "scheduled": [True, True, False, True]}, relapses, valid_confirmation="scheduled")

    assert found["conf84_date"][0] == 300


@pytest.mark.parametrize("origin", [{"a": 150}, {"patient_id": ["a"], "origin_date": [150]}, 150], ids=["dict", "table", "one day"])
def test_time_starts_at_the_origin_and_earlier_visits_are_reference_only(origin):
    """Worse on day 100, treated from day 150: that worsening is the reference, and days count from treatment."""
    case = one([0, 100, 200, 300, 400], [2, 3, 3, 4, 4])
    found = worsening(*case, origin=origin)

    assert (found["date"][0], found["bl_date"][0], found["time2event"][0], found["total_fu"][0]) == (300, 100, 150, 250)
    assert worsening(*case)["date"][0] == 100


def test_patients_without_an_origin_are_left_out_and_counted():
    """Never treated: no row, one patient in the flow."""
    found = worsening(*one([0, 100, 200], [2, 3, 3]), origin={})

    assert len(found) == 0 and found.flow["patients_without_origin"] == 1


def test_edss_10_and_death_end_observation_without_being_worsening():
    """EDSS 10 is death: a competing event on that day; a death date likewise."""
    case = one([0, 100, 200], [9, 10, 10])
    found = worsening(*case)

    assert found.flow["events"] == 0 and found["competing"][0] and found["time2event"][0] == 100
    assert worsening(*case, edss_10="value").flow["events"] == 1
    dead = worsening(*one([0, 100, 200], [2, 3, 3]), deaths={"a": 150})
    assert dead.flow["events"] == 0 and dead["competing"][0] and dead["time2event"][0] == 150


def test_a_single_visit_is_no_time_at_risk():
    """Seen once: a row without an event, not at risk, counted."""
    found = worsening(*one([0], [2]))

    assert not found["at_risk"][0] and found.flow["single_visit"] == 1 and found.flow["at_risk"] == 0


def test_time_can_end_at_the_last_visit_that_could_have_been_confirmed():
    """Visits on days 0, 100, 200, 250: what starts after day 100 could not be confirmed by 12 weeks later."""
    case = one([0, 100, 200, 250], [2, 2, 2, 2])

    assert worsening(*case)["time2event"][0] == 250
    assert worsening(*case, censor="last_confirmable")["time2event"][0] == 100
    assert worsening(*one([0, 100], [2, 2]), censor="last_confirmable")["time2event"][0] == 0


def test_changes_that_came_to_nothing_are_listed_with_the_reason():
    """Unconfirmed at the last visit; not held; not sustained."""
    last = worsening(*one([0, 100], [2, 3]), return_unconfirmed=True).unconfirmed
    held = worsening(*one([0, 100, 200], [2, 3, 2]), return_unconfirmed=True).unconfirmed
    kept = worsening(*one([0, 100, 200, 300], [2, 3, 3, 2]), require_sust_days=np.inf, return_unconfirmed=True).unconfirmed

    assert last["reason"][0] == "no confirmation visit" and held["reason"][0] == "not confirmed" and kept["reason"][0] == "not sustained"
    assert worsening(*one([0, 100], [2, 3])).unconfirmed is None


def test_without_a_table_of_relapses_nothing_is_called_pira():
    """No table says nothing about relapses; an empty one says that there were none."""
    visits, nobody = one([0, 100, 200], [2, 3, 3])

    assert worsening(visits)["cdw_type"][0] == ""
    assert worsening(visits, nobody)["cdw_type"][0] == "PIRA"
    with pytest.raises(InputError, match="first_pira needs to know"):
        worsening(visits, event="first_pira")


def test_missing_scores_and_repeated_rows_are_counted_not_hidden():
    """A visit without EDSS is no visit for this purpose; the same visit twice is one."""
    found = worsening(*one([0, 100, 100, 200, 300], [2, 3, 3, np.nan, 3]))

    assert found.flow["visits_without_value"] == 1 and found.flow["same_day_repeats"] == 1 and found.flow["events"] == 1


def test_no_rows_give_no_rows():
    """An empty registry answers with an empty table."""
    assert len(worsening(*one([], []))) == 0


VISITS, RELAPSES = one([0, 100, 200], [2, 3, 3], [50])


@pytest.mark.parametrize(("visits", "relapses", "settings", "says"), [
    ({"patient_id": ["a"], "edss": [1.0]}, None, {}, 'the visits have no column "visit_date"'),
    ({**VISITS, "edss": [2, 3, 10.5]}, None, {}, 'column "edss": 1 values are not between 0 and 10'),
    ({**VISITS, "edss": [2, 3, 3.2]}, None, {}, 'column "edss": 1 values are not whole steps of 0.5'),
    ({**VISITS, "edss": ["2", "3,5", "3"]}, None, {}, 'column "edss" holds entries that are not numbers'),
    ({**VISITS, "visit_date": ["2020-01-01", "01/02/2020", "2020-05-01"]}, None, {},
     'column "visit_date" holds entries that are not dates'),
    ({**VISITS, "visit_date": ["20-01-01", "20-02-01", "2020-03-01"]}, None, {}, "2 dates are missing or not written as 2024-01-31"),
    ({**VISITS, "visit_date": ["2020-01-01", "2020-02", "2020-05-01"]}, None, {}, "1 dates are missing or not written"),
    ({**VISITS, "visit_date": ["2020-01-01", None, "2020-05-01"]}, None, {}, "1 dates are missing"),
    ({**VISITS, "visit_date": ["0202-01-01", "2020-02-01", "2020-05-01"]}, None, {}, "1 dates are before 1900"),
    ({**VISITS, "visit_date": pd.to_datetime(["2020-01-01"] * 3).tz_localize("Europe/Rome")}, None, {}, "3 dates have a time zone"),
    ({**VISITS, "patient_id": ["a", None, "a"]}, None, {}, "no patient_id"),
    ({**VISITS, "patient_id": pd.Series(["a", pd.NA, "a"], dtype="string")}, None, {}, "no patient_id"),
    ({**VISITS, "patient_id": [1.0, 2.0, np.nan]}, None, {}, "decimal numbers"),
    ({**VISITS, "visit_date": [0, 100, 100], "edss": [2, 3, 4]}, None, {}, "1 visits have another value on the same day"),
    (VISITS, {"patient_id": ["a"], "when": [50]}, {}, 'the relapses have no column "relapse_onset_date"'),
    (VISITS, {"patient_id": ["a"], "relapse_onset_date": ["2020-01-01"]}, {}, "holds dates, the visits numbers"),
    (VISITS, {"patient_id": [1], "relapse_onset_date": [50]}, {}, "text in one table and a number in the other"),
    (VISITS, RELAPSES, {"columns": {"date": "visit_date"}}, 'columns names "date"'),
    (VISITS, RELAPSES, {"outcome": "msfc"}, 'no thresholds for the outcome "msfc"'),
    (VISITS, RELAPSES, {"event": "firstCDW"}, "event is 'firstCDW'"),
    (VISITS, RELAPSES, {"baseline": "moving"}, "baseline is 'moving'"),
    (VISITS, RELAPSES, {"conf_days": []}, "conf_days is"),
    (VISITS, RELAPSES, {"conf_tol_days": (7, -1)}, "conf_tol_days is -1"),
    (VISITS, RELAPSES, {"relapse_to_bl": (30, 30, 30)}, "relapse_to_bl is"),
    (VISITS, RELAPSES, {"relapse_indep": {"before": (0, 0)}}, "relapse_indep has the key 'before'"),
    (VISITS, RELAPSES, {"relapse_indep": {"conf": (90, None)}}, "open at its outer end"),
    (VISITS, RELAPSES, {"impute_last_visit": 0.5}, "impute_last_visit is 0.5"),
    (VISITS, RELAPSES, {"half_step_from": 5}, "half_step_from is 5"),
    (VISITS, RELAPSES, {"thresholds": {"changes": [{"percent": 20}]}}, "is not a rule"),
    (VISITS, RELAPSES, {"valid_confirmation": [0, 1, 2]}, "valid_confirmation must say yes or no"),
    (VISITS, RELAPSES, {"origin": {"patient_id": ["a", "a"], "origin_date": [1, 2]}}, "name a patient twice"),
])
def test_bad_input_is_refused_with_its_place_and_a_remedy(visits, relapses, settings, says):
    """The text names table, column and count; the hint says what to do."""
    with pytest.raises(InputError) as caught:
        worsening(visits, relapses, **settings)

    assert says in str(caught.value) and (caught.value.hint or "increasing" in says)


def test_missing_scores_may_be_written_in_any_way():
    """None, NaN or pandas' NA: no score."""
    for values in ([2, None, 3], [2, np.nan, 3], pd.Series([2, pd.NA, 3], dtype="Float64")):
        assert worsening({**VISITS, "edss": values}).flow["visits_without_value"] == 1


def test_any_kind_of_table_is_read_alike():
    """Data frame, Arrow table or dict of lists; dates as text, dates or time stamps."""
    import pyarrow as pa

    visits, relapses = random_tables(6)
    wanted = worsening(visits, relapses, **MANY)
    lists = [{name: column.dt.strftime("%Y-%m-%d").tolist() if "date" in name else column.tolist() for name, column in table.items()}
             for table in (visits, relapses)]

    assert_same(worsening(*lists, **MANY), wanted)
    assert_same(worsening(*(pa.Table.from_pandas(table) for table in (visits, relapses)), **MANY), wanted)
    assert_same(worsening(visits.assign(visit_date=visits["visit_date"].dt.date), relapses, **MANY), wanted)
    renamed = visits.rename(columns={"edss": "EDSS", "visit_date": "when"})
    assert_same(worsening(renamed, relapses, **MANY, columns={"edss": "EDSS", "visit_date": "when"}), wanted)


def test_published_tables_need_no_renaming():
    """The sample files call their columns id, date and EDSS; they are read as they are."""
    import pandas as pd

    from . import helpers

    visits = pd.read_csv(helpers.shared("data", "msoutcomes", "sampledata_visits_edss.csv"))
    relapses = pd.read_csv(helpers.shared("data", "msoutcomes", "sampledata_relapses_derived.csv"))
    named = {"id": "patient_id", "date": "visit_date", "EDSS": "edss"}

    assert worsening(visits, relapses).frame().equals(
        worsening(visits.rename(columns=named), relapses.rename(columns={"id": "patient_id", "date": "relapse_onset_date"})).frame())
