"""Cohorts: what was known at time zero, what came after, and nothing of the one in the other."""

import datetime
import json
import re

import msgspec
import numpy as np
import pandas as pd
import pytest

from fedstats import Dictionary
from fedstats.analyses import rates, table_one  # noqa: F401  (registers them)
from fedstats.analyses.survival import kaplan_meier  # noqa: F401  (registers them)
from fedstats.client.worlds import Pooled
from fedstats.disclosure import NO_RULES
from fedstats.errors import InputError, QuestionError
from fedstats.ms.cohort import recipe as cohort
from fedstats.ms.cohort.covariates import COVARIATES
from fedstats.ms.cohort.tree import OnDate
from fedstats.ms.outcomes.definitions import definition, names
from fedstats.ms.tables import load
from fedstats.ms.tables.dmt import Treatments, shipped
from fedstats.ms.tables.registry import DATED
from fedstats.ms.tables.registry import dictionary as shipped_book
from fedstats.query.analysis import question_of
from fedstats.query.population import Codebook, Household, Whole

from .cohort_data import moved, random_registry, shuffled, together

ALL = list(COVARIATES)
CDW24 = {"kind": "definition", "definition": "cdw24", "version": 1}
OUTCOMES = [CDW24, {"kind": "milestone", "level": 6}, {"kind": "relapse"}, {"kind": "death"}]
PATIENT = {"patient_id": "a", "site_id": "s", "sex": "M", "birth_year": 1970, "entry_date": "2008-01-01", "onset_date": "2005-01-01",
           "onset_course": "relapsing"}
KEPT = ("visits", "relapses", "treatments", "mri")
INDEXES = [{"event": "onset"}, {"event": "first_visit"}, {"event": "dmt_start"},
           {"event": "dmt_start", "classes": ["high"], "naive": False},
           {"event": "date", "date": "2008-07-01"}, {"event": "every_visit", "gap_days": 300, "most": 5}]


def tree_of(index=None, **more):
    return {"index": index or {"event": "date", "date": "2010-01-01"}, "covariates": ALL, **more}


def one(patient=None, **tables):
    """A registry of one patient; tables as lists of tuples: visits (date, EDSS), relapses dates, treatments (name, start, end)."""
    source = {"patients": pd.DataFrame([{**PATIENT, **(patient or {})}])}
    names = {"visits": ("visit_date", "edss"), "relapses": ("relapse_onset_date",), "treatments": ("dmt_name", "start_date", "end_date"),
             "mri": ("mri_date", "region", "t2_lesion_count", "new_t2_count", "gd_lesion_count")}
    for name, rows in tables.items():
        rows = [row if isinstance(row, dict) else dict(zip(names[name], [row] if isinstance(row, str) else row)) for row in rows]
        source[name] = pd.DataFrame([{"patient_id": "a", **row} for row in rows])
    return load(source)[0]


def row_of(tree, registry, k=0):
    """The k-th derived row as people read it: labels, numbers, dates, None where missing."""
    rows = cohort.compile(tree).derive(registry, recorded=KEPT).rows
    found = {}
    for variable in rows.dictionary.variables:
        value = rows.values(variable.name)[k]
        if np.isnan(value):
            found[variable.name] = None
        elif variable.labels is not None:
            found[variable.name] = variable.labels[int(value)]
        else:
            found[variable.name] = str(np.datetime64(int(value), "D")) if variable.type == "date" else round(value, 6)
    return found


def columns_of(derived):
    return {name: derived.rows.held[name] for name in derived.rows.dictionary.names}


def assert_same(here, there, but=()):
    assert set(here) == set(there)
    for name in set(here) - set(but):
        np.testing.assert_array_equal(here[name], there[name], err_msg=name)


# -- covariates, computed by hand ----------------------------------------------------------------------------------------------

HISTORY = one(
    {"birth_year": 1970},
    visits=[{"visit_date": "2007-12-01", "edss": 6.0, "course_at_visit": "CIS"},            # before the windows
            {"visit_date": "2008-07-01", "edss": 2.0, "course_at_visit": "RRMS", "sdmt": 50, "t25fw_s": 4.25},
            {"visit_date": "2009-01-01", "edss": 3.5, "sdmt": 48, "course_at_visit": "unknown"},
            {"visit_date": "2009-07-01", "edss": 2.5, "nhpt_dom_s": 21.5},
            {"visit_date": "2009-12-01", "edss": None},
            {"visit_date": "2010-01-02", "edss": 7.0, "course_at_visit": "SPMS", "sdmt": 10}],       # after time zero
    relapses=["2008-01-02", "2009-01-01", "2009-01-02", "2009-07-10", "2010-01-01", "2010-01-02"],
    treatments=[("Rebif", "2006-01-01", "2007-01-01"), ("Copaxone", "2007-02-01", "2008-01-01"), ("Tysabri", "2009-06-01", "2011-01-01"),
                ("Gilenya", "2011-01-01", None)],
    mri=[("2009-05-01", "brain", 12, 3, 1), ("2009-06-01", "spine", 2, 0, 0), ("2009-08-01", "brain", None, 0, 2),
         ("2010-01-02", "brain", 40, 9, 9)])
BY_HAND = {
    "index_date": "2010-01-01", "index_year": 2010, "age": 39, "age_at_onset": 34, "sex": "M", "onset_course": "relapsing",
    "disease_duration": 4.9,            # 1826 days of 365.25: 4.9993 years, completed tenths
    "course": "RRMS", "edss": 2.5, "edss_mean": 2.67, "edss_max": 3.5, "edss_min": 2.0,
    # 2008-07-01, 2009-01-01, 2009-07-01: days 0, 184, 365; slope (b) by hand: see test_a_slope_is_least_squares
    "edss_slope": 0.51, "visits_in_window": 4, "sdmt": 48, "t25fw_s": 4.25, "nhpt_dom_s": 21.5,
    "relapses_6m": 2, "relapses_12m": 3, "relapses_24m": 4, "days_since_relapse": 0, "dmt": "natalizumab", "dmt_class": "high",
    "dmt_class_before": "high", "days_on_dmt": 214, "dmt_switches": 2, "t2_lesion_count": 12, "new_t2_count": 0, "gd_lesion_count": 2,
}


@pytest.mark.parametrize("name", ALL)
def test_a_covariate_is_what_a_person_would_write_down(name):
    """Of one patient on 1 January 2010, each covariate by hand."""
    assert row_of(tree_of(), HISTORY)[name] == BY_HAND[name]


def test_a_slope_is_least_squares():
    """Points per year of 365.25 days."""
    days, scores = np.array([0, 184, 365]), np.array([2.0, 3.5, 2.5])

    assert BY_HAND["edss_slope"] == round(np.polyfit(days / 365.25, scores, 1)[0], 2)


@pytest.mark.parametrize(("day", "year"), [("1969-12-31", 1969), ("1970-01-01", 1970), ("2000-02-29", 2000), ("2023-12-31", 2023)])
def test_the_calendar_year_of_time_zero_ends_on_new_years_eve(day, year):
    """A model adjusts for it as a number; a date is none."""
    assert row_of(tree_of({"event": "first_visit"}), one({"onset_date": None}, visits=[(day, 2)]))["index_year"] == year


def test_nothing_known_is_missing_and_no_treatment_is_none():
    """A patient with one visit without a score; the registry keeps all tables."""
    unknown = {"onset_date": None, "birth_year": None, "sex": None, "onset_course": None}
    found = row_of(tree_of(), one(unknown, visits=[("2009-01-01", None)]))
    expected = dict.fromkeys(ALL) | {"index_date": "2010-01-01", "index_year": 2010, "visits_in_window": 1, "relapses_6m": 0,
                                     "relapses_12m": 0, "relapses_24m": 0, "dmt": "none", "dmt_class": "none", "dmt_class_before": "none",
                                     "dmt_switches": 0}

    assert {name: found[name] for name in ALL} == expected


def test_a_table_that_the_registry_does_not_keep_says_nothing():
    """No table of relapses and treatments is not "no relapse, no treatment"."""
    rows = cohort.compile(tree_of(outcomes=[{"kind": "relapse"}, CDW24])).derive(one(visits=[("2009-01-01", 2), ("2011-01-01", 2)])).rows

    for name in ("relapses_12m", "dmt", "dmt_class", "dmt_switches", "relapse_days", "relapse_count", "cdw24_days"):
        assert not rows.present(name).any(), name


def test_edss_ten_is_no_score_but_death():
    """A patient with EDSS 10 at time zero is not in the cohort; before, he is, and dies."""
    ill = one(visits=[("2009-06-01", 6), ("2009-12-01", 10)])
    assert cohort.compile(tree_of()).derive(ill).rows.n == 0
    found = row_of(tree_of({"event": "date", "date": "2009-10-01"}, outcomes=OUTCOMES), ill)

    assert (found["death_days"], found["death_event"], found["relapse_end"], found["follow_up_end"]) == (61, "true", "death", "death")
    assert found["edss"] == 6


def test_an_onset_that_lies_ahead_is_not_known_yet():
    """First symptoms in 2011: in 2010 there is neither a duration nor an age at onset."""
    found = row_of(tree_of(), one({"onset_date": "2011-01-01"}, visits=[("2009-01-01", 2)]))

    assert (found["disease_duration"], found["age_at_onset"]) == (None, None)


def test_a_treatment_that_ends_on_the_day_has_ended():
    """Stopped on 1 January 2010: none on that day; one that begins on it is on."""
    stops, starts = ("Rebif", "2009-01-01", "2010-01-01"), ("Tysabri", "2010-01-01", "")

    assert row_of(tree_of(), one(visits=WORSENS, treatments=[stops]))["dmt"] == "none"
    assert row_of(tree_of(), one(visits=WORSENS, treatments=[stops, starts]))["dmt"] == "natalizumab"


def test_covariates_of_many_patients_are_those_of_one_after_the_other():
    """A plain loop over patients and their landmarks says the same as the arrays."""
    registry = random_registry(60, seed=11)
    derived = cohort.compile(tree_of({"event": "every_visit"})).derive(registry)
    rows, visits, relapses, treatments = derived.rows, registry.visits, registry.relapses, registry.treatments
    values = {name: rows.values(name) for name in ALL}
    labels = rows.dictionary["dmt_class"].labels
    for k, (who, zero) in enumerate(zip(np.searchsorted(registry.ids.astype(str), derived.patient_id.astype(str)), values["index_date"])):
        mine = (visits["patient"] == who) & (visits["visit_date"] <= zero) & (visits["visit_date"] >= zero - 730)
        scores = pd.Series(visits["edss"][mine], index=visits["visit_date"][mine]).dropna()
        expected = {"visits_in_window": mine.sum(), "edss": np.nan, "edss_mean": np.nan, "edss_max": np.nan, "edss_min": np.nan,
                    "edss_slope": np.nan}
        if len(scores):
            expected |= {"edss": scores.iloc[-1], "edss_mean": np.floor(scores.mean() * 100 + 0.5 + 1e-9) / 100,
                         "edss_max": scores.max(), "edss_min": scores.min()}
            if scores.index[-1] - scores.index[0] >= 90:
                slope = np.polyfit((scores.index - zero) / 365.25, scores, 1)[0]
                expected["edss_slope"] = slope if abs(slope) <= 10 else np.nan
        onsets = relapses["relapse_onset_date"][(relapses["patient"] == who) & (relapses["relapse_onset_date"] <= zero)]
        expected |= {f"relapses_{name}": (onsets > zero - days).sum() for name, days in (("6m", 183), ("12m", 365), ("24m", 730))}
        expected["days_since_relapse"] = zero - onsets.max() if len(onsets) else np.nan
        begun = treatments.where((treatments["patient"] == who) & (treatments["start_date"] <= zero))
        on = np.flatnonzero(~(begun["end_date"] <= zero))
        level = labels.index("none") if not len(on) else labels.index(("low", "moderate", "high")[begun["efficacy"][on[-1]]])
        expected |= {"dmt_class": level, "days_on_dmt": zero - begun["start_date"][on[-1]] if len(on) else np.nan,
                     "dmt_switches": (np.diff(begun["dmt"][begun["start_date"] < zero]) != 0).sum()}

        for name, value in expected.items():
            assert values[name][k] == pytest.approx(value, abs=0.00501 if name == "edss_slope" else 1e-9, nan_ok=True), (name, k)


def test_birth_by_month_and_by_year():
    """15 January 1970 has had its 40th birthday on 1 April 2010; 1 July not."""
    by_month = {"birth_year": None, "birth_month": "1970-01"}
    day = {"event": "date", "date": "2010-04-01"}

    assert row_of(tree_of(day), one(by_month, visits=[("2009-01-01", 2)]))["age"] == 40
    assert row_of(tree_of(day), one(visits=[("2009-01-01", 2)]))["age"] == 39


def test_what_is_out_of_the_dictionary_is_missing_and_counted():
    """A birth after time zero."""
    derived = cohort.compile(tree_of()).derive(one({"birth_year": 2020}, visits=[("2009-01-01", 2)]))

    assert derived.outside == {"age": 1, "age_at_onset": 1} and not derived.rows.present("age").any()


# -- time zero -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "days"), [
    ({"event": "onset"}, ["2005-01-01"]),
    ({"event": "first_visit"}, ["2007-12-01"]),
    ({"event": "dmt_start"}, ["2006-01-01"]),
    ({"event": "dmt_start", "classes": ["high"]}, []),
    ({"event": "dmt_start", "classes": ["high"], "naive": False}, ["2009-06-01"]),
    ({"event": "dmt_start", "dmts": ["Copaxone", "Gilenya"], "naive": False}, ["2007-02-01"]),
    ({"event": "date", "date": "2007-10-01"}, []),
    ({"event": "every_visit"}, ["2007-12-01", "2008-07-01", "2009-01-01", "2009-07-01", "2009-12-01", "2010-01-02"]),
    ({"event": "every_visit", "gap_days": 210}, ["2007-12-01", "2008-07-01", "2009-07-01"]),
    ({"event": "every_visit", "gap_days": 183, "most": 2}, ["2007-12-01", "2008-07-01"]),
], ids=str)
def test_time_zero(index, days):
    """Of the patient above."""
    rows = cohort.compile(tree_of(index)).derive(HISTORY).rows

    assert [str(np.datetime64(int(day), "D")) for day in rows.values("index_date")] == days


def test_a_treatment_that_begins_at_time_zero_is_the_treatment_of_time_zero():
    """And the one before it is the one before it."""
    found = row_of(tree_of({"event": "dmt_start", "classes": ["high"], "naive": False}), HISTORY)

    assert (found["dmt_class"], found["dmt_class_before"], found["days_on_dmt"], found["dmt_switches"]) == ("high", "low", 0, 1)


# -- follow-up and outcomes, by hand ---------------------------------------------------------------------------------------------

WORSENS = [("2009-12-01", 2), ("2010-06-01", 2), ("2011-01-01", 3), ("2011-07-01", 3), ("2012-01-01", 3)]
ZERO = datetime.date(2010, 1, 1)


def days_to(text):
    return (datetime.date.fromisoformat(text) - ZERO).days


def ended(follow_up=None, patient=None, outcome=CDW24, visits=WORSENS, **tables):
    """(days, event, what ended it) of one outcome from 1 January 2010."""
    name = cohort.compile(tree_of(outcomes=[outcome])).tree.outcomes[0].name
    found = row_of(tree_of(outcomes=[outcome], follow_up=follow_up or {}), one(patient, visits=visits, **tables))
    return found[f"{name}_days"], found[f"{name}_event"], found[f"{name}_end"]


SHORT = [*WORSENS[:-1], ("2012-01-01", 2)]
PIRA24 = {"kind": "definition", "definition": "pira24", "version": 1}
REBIF = ("Rebif", "2009-06-01", "2010-10-01")


@pytest.mark.parametrize(("expected", "case"), [
    (("2011-01-01", "true", "event"), {}),
    (("2010-09-01", "false", "death"), {"patient": {"death_date": "2010-09-01"}, "visits": WORSENS[:2]}),
    (("2010-10-01", "false", "end of study"), {"follow_up": {"end_date": "2010-10-01"}}),
    (("2011-01-01", "true", "event"), {"follow_up": {"end_date": "2011-01-01"}}),
    # the event is within the study, its confirmation is not
    (("2011-01-01", "true", "event"), {"follow_up": {"end_date": "2011-04-01"}}),
    (("2011-01-01", "false", "last visit"), {"follow_up": {"end_date": "2011-04-01", "confirmation": "within"}}),
    (("2010-05-01", "false", "longest follow-up"), {"follow_up": {"max_days": 120}}),
    (("2011-01-01", "true", "event"), {"treatments": [REBIF, ("Tysabri", "2010-11-01", None)]}),
    (("2010-11-01", "false", "treatment switched"),
     {"follow_up": {"treatment": "switch"}, "treatments": [REBIF, ("Tysabri", "2010-11-01", "")]}),
    (("2010-10-01", "false", "treatment stopped"),
     {"follow_up": {"treatment": "switch_or_stop"}, "treatments": [REBIF, ("Tysabri", "2010-11-01", "")]}),
    (("2010-10-01", "false", "treatment switched"),
     {"follow_up": {"treatment": "switch_or_stop"}, "treatments": [REBIF, ("Tysabri", "2010-10-01", "")]}),
    (("2011-01-01", "true", "event"),
     {"follow_up": {"treatment": "switch_or_stop"}, "treatments": [REBIF, ("Rebif", "2010-11-30", "")]}),           # a pause of 60 days
    (("2010-10-01", "false", "treatment stopped"),
     {"follow_up": {"treatment": "switch_or_stop"}, "treatments": [REBIF, ("Rebif", "2010-12-01", "")]}),           # of 61
    (("2011-01-01", "true", "event"), {"follow_up": {"treatment": "switch"}, "treatments": [REBIF]}),
    (("2010-03-01", "false", "treatment switched"), {"follow_up": {"treatment": "switch"}, "treatments": [("Tysabri", "2010-03-01", "")]}),
    (("2010-06-01", "false", "last visit"), {"visits": WORSENS[:2]}),
    (("2012-01-01", "false", "last visit"), {"visits": [(day, 2) for day, _ in WORSENS]}),
    (("2011-07-01", "false", "last confirmable visit"),
     {"visits": [(day, 2) for day, _ in WORSENS], "outcome": {**CDW24, "censor": "last_confirmable"}}),
    # a relapse 14 days after the confirmation forbids PIRA, unless nothing after the end of the study counts
    (("2012-01-01", "false", "last visit"), {"outcome": PIRA24, "relapses": ["2011-07-15"]}),
    (("2011-01-01", "true", "event"),
     {"outcome": PIRA24, "relapses": ["2011-07-15"], "follow_up": {"end_date": "2011-07-01", "confirmation": "within"}}),
    (("2011-01-01", "true", "event"), {"outcome": {"kind": "milestone", "level": 3}}),
    (("2012-01-01", "false", "last visit"), {"outcome": {"kind": "milestone", "level": 6}}),
    # at the only visit that could confirm it a relapse began 16 days before
    (("2012-01-01", "false", "last visit"), {"outcome": {"kind": "milestone", "level": 3}, "relapses": ["2011-06-15"], "visits": SHORT}),
    (("2011-01-01", "true", "event"), {"outcome": {"kind": "milestone", "level": 3}, "visits": SHORT}),
    (("2010-02-01", "true", "event"), {"outcome": {"kind": "relapse"}, "relapses": ["2010-01-01", "2010-02-01", "2010-05-01"]}),
    (("2012-01-01", "false", "last visit"), {"outcome": {"kind": "relapse"}, "relapses": ["2010-01-01", "2012-02-01"]}),
    (("2012-02-01", "true", "event"), {"outcome": {"kind": "death"}, "patient": {"death_date": "2012-02-01"}}),
    (("2012-03-01", "false", "last visit"), {"outcome": {"kind": "death"}, "patient": {"last_contact_date": "2012-03-01"}}),
])
def test_what_ends_the_time_to_an_event(expected, case):
    """EDSS 2, then 3 from 2011 on; each rule by hand."""
    day, event, end = expected

    assert ended(**case) == (days_to(day), event, end)


@pytest.mark.parametrize("censor", ["last_visit", "last_confirmable"])
@pytest.mark.parametrize("name", names())
def test_an_outcome_is_what_its_definition_finds(name, censor):
    """Nothing cut, the whole past as baseline: event and time are those of the progression function with the same time zero."""
    registry = random_registry(300, seed=12)
    outcome = {"kind": "definition", "definition": name, "version": 1, "censor": censor}
    derived = cohort.compile(tree_of({"event": "first_visit"}, outcomes=[outcome], baseline={"now_days": 36_500})).derive(registry)
    zero = {"patient_id": derived.patient_id, "origin_date": derived.rows.values("index_date").astype(int).astype("datetime64[D]")}
    deaths = {"patient_id": registry.ids, "death_date": registry.columns("patients")["death_date"]}
    events = definition(name).find(registry.columns("visits"), registry.columns("relapses"), origin=zero, deaths=deaths, censor=censor)
    place = np.searchsorted(derived.patient_id.astype(str), events["patient_id"].astype(str))
    risk = events["at_risk"]

    assert risk.sum() > 200 and (events["nevent"][risk] > 0).any()
    np.testing.assert_array_equal(derived.rows.values(f"{name}_days")[place[risk]], events["time2event"][risk])
    np.testing.assert_array_equal(derived.rows.values(f"{name}_event")[place[risk]], events["nevent"][risk] > 0)
    assert not derived.rows.present(f"{name}_days")[place[~risk]].any()


@pytest.mark.parametrize(("now_days", "event"), [(730, "true"), (60, "true"), (30, "false"), (0, "false")])
def test_a_reference_is_no_older_than_the_baseline_window(now_days, event):
    """EDSS 2 on 1 December 2009, 31 days before time zero, then 3: without the 2 there is nothing to compare with."""
    visits = [("2009-12-01", 2), ("2010-06-01", 3), ("2010-12-01", 3), ("2011-06-01", 3)]
    found = row_of(tree_of(outcomes=[CDW24], baseline={"now_days": now_days}), one(visits=visits))

    assert (found["cdw24_event"], found["edss"]) == (event, 2 if event == "true" else None)


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_follow_up_ends_with_the_time_grid(index):
    """A codebook whose grid ends at 910 days, in a range of 1000: whoever is watched longer is censored there, and no time is lost for
    being long. Nothing happens on the day of time zero."""
    source = shipped_book().to_dict()
    for line in source["variables"]:
        if line["name"] == "follow_up_days":
            line |= {"range": [0, 1000], "cut_points": {"from": 0, "to": 1000, "step": 91}}
    registry, tree = random_registry(150, seed=21), tree_of(index, outcomes=OUTCOMES)
    whole = cohort.compile(tree).derive(registry).rows
    recipe = cohort.compile(tree, codebook=Dictionary.from_dict(source))
    derived = recipe.derive(registry)
    cut = derived.rows
    for name in ("follow_up", "cdw24", "edss6", "relapse", "death"):
        days, before = cut.values(f"{name}_days"), whole.values(f"{name}_days")
        np.testing.assert_array_equal(days, np.minimum(before, 910))
        late, label = before > 910, cut.dictionary[f"{name}_end"].labels.index("longest follow-up")
        assert late.any() and (cut.steps(f"{name}_end")[late] == label).all()
        if name != "follow_up":
            event = cut.steps(f"{name}_event") == 1
            np.testing.assert_array_equal(event, (whole.steps(f"{name}_event") == 1) & ~late)
            assert (days[event] > 0).all()
    assert not derived.outside and "910 days after time zero" in recipe.describe()


def test_relapses_are_counted_while_observed():
    """Two after time zero and before the last visit; one before, one on the day itself, one after."""
    found = row_of(tree_of(outcomes=[{"kind": "relapse"}]),
                   one(visits=WORSENS, relapses=["2009-01-01", "2010-01-01", "2010-02-01", "2010-05-01", "2012-02-01"]))

    assert (found["relapse_count"], found["follow_up_days"]) == (2, days_to("2012-01-01"))


@pytest.mark.parametrize(("visits", "why"), [
    ([], "no visit with a score"), ([("2009-06-01", 3)], "a single visit with a score"),
    ([("2009-06-01", 3), ("2009-12-01", 3)], "no reference with a later visit after time zero")])
def test_who_is_not_at_risk_is_counted_and_stays(visits, why):
    """The outcome is missing; the patient remains in the cohort, because that may not depend on what comes later."""
    derived = cohort.compile(tree_of(outcomes=[CDW24])).derive(one(visits=[*visits, ("2007-01-01", None)]), recorded=KEPT)
    flow = dict(derived.flow)

    assert flow[f"cdw24: not at risk: {why}"] == 1 and flow["cdw24: at risk"] == 0
    assert derived.rows.n == 1 and not derived.rows.present("cdw24_days").any()


def test_a_milestone_reached_before_is_no_event():
    """Somebody with EDSS 6 at time zero is not at risk of EDSS 6."""
    derived = cohort.compile(tree_of(outcomes=OUTCOMES)).derive(one(visits=[(day, 6) for day, _ in WORSENS]), recorded=KEPT)

    assert dict(derived.flow)["edss6: not at risk: reached before time zero"] == 1
    assert not derived.rows.present("edss6_event").any()


def test_eligibility_is_counted_condition_by_condition():
    """Of 500 patients; the flow never rises."""
    either = {"any": [["sex", "==", "F"], ["relapses_12m", ">=", 1]]}
    tree = tree_of({"event": "dmt_start"}, eligibility=[["age", ">=", 30], ["edss", "missing", False], either])
    derived = cohort.compile(tree).derive(random_registry(500))
    steps = [text for text, _ in derived.flow]
    counts = [count for _, count in derived.flow]

    assert steps == ["patients in the registry", "with the index event", "earlier treatments known", "alive at time zero",
                     "eligible: age >= 30", "eligible: edss known", "eligible: sex == F or relapses_12m >= 1", "in the cohort"]
    assert counts == sorted(counts, reverse=True) and counts[-1] == derived.rows.n == len(derived.patient_id) > 50


def test_the_flow_of_an_outcome_adds_up():
    """At risk and not at risk make the cohort; events, deaths and censored make those at risk."""
    derived = cohort.compile(tree_of({"event": "dmt_start"}, outcomes=OUTCOMES)).derive(random_registry(800, visits=5))
    flow = dict(derived.flow)
    for name in ("cdw24", "edss6", "relapse", "death"):
        out = sum(count for text, count in flow.items() if text.startswith(f"{name}: not at risk"))
        assert out + flow[f"{name}: at risk"] == flow["in the cohort"]

        assert flow[f"{name}: events"] + flow.get(f"{name}: died first", 0) + flow[f"{name}: censored"] == flow[f"{name}: at risk"]
    assert flow["cdw24: events"] > 20 and flow["edss6: not at risk: reached before time zero"] > 2


# -- properties ----------------------------------------------------------------------------------------------------------------


def scrambled_after(registry, derived, seed):
    """Every record after time zero changed: some gone, the others on other days with other contents; deaths and contacts too."""
    random = np.random.default_rng(seed)
    zero = np.full(len(registry.ids), 1 << 40)
    places = np.searchsorted(registry.ids.astype(str), derived.patient_id.astype(str))
    zero[places] = derived.rows.values("index_date").astype(int)
    for name in DATED:
        table = registry.table(name)
        day, start = table[DATED[name]], zero[table["patient"]]
        later = day > start
        columns = {DATED[name]: np.where(later, start + random.integers(1, 3000, table.n), day)}
        for column, values in table.columns.items():
            if column not in ("patient", DATED[name]) and values.dtype != object:
                columns[column] = np.where(later, random.permutation(values), values).astype(values.dtype)
        if name == "treatments":        # a course that goes on after time zero may end on any later day, or never
            end = table["end_date"]
            columns["end_date"] = np.where(np.isnan(end) | (end > start), np.where(random.random(table.n) < 0.3, np.nan,
                                           np.maximum(start, day) + random.integers(1, 2000, table.n)), end)
        keep = ~later | (random.random(table.n) < 0.8)
        registry = registry.with_table(table.changed(**columns).where(keep))
    patients = registry.patients
    onset = np.where(patients["onset_date"] > zero, zero + random.integers(1, 999, len(zero)), patients["onset_date"])
    death = np.where(patients["death_date"] > zero, np.where(random.random(len(zero)) < 0.5, np.nan, zero + 50.0), patients["death_date"])
    death = np.where((zero < 1 << 39) & np.isnan(death) & (random.random(len(zero)) < 0.1), zero + 77.0, death)
    course = random.permutation(patients["course_current"])
    return registry.with_table(patients.changed(death_date=death, onset_date=onset, course_current=course))


@pytest.mark.parametrize("index", INDEXES[:5], ids=str)
def test_no_covariate_and_no_eligibility_looks_ahead(index):
    """Whatever happens after time zero: the same patients, the same covariates."""
    registry = random_registry(400, seed=5)
    recipe = cohort.compile(tree_of(index, eligibility=[["age", ">=", 18], {"any": [["edss", "<=", 5], ["age", "<", 40]]}]))
    before = recipe.derive(registry, recorded=KEPT)
    everybody = cohort.compile(tree_of(index)).derive(registry, recorded=KEPT)
    for seed in range(5):
        after = recipe.derive(scrambled_after(registry, everybody, seed), recorded=KEPT)

        assert before.rows.n > 50 and (before.patient_id == after.patient_id).all()
        assert_same(columns_of(before), columns_of(after), but=("follow_up_days", "follow_up_end"))


@pytest.mark.parametrize("place", [0, 3, 6])
def test_no_landmark_looks_ahead(place):
    """Records after the k-th landmark of a patient change neither its covariates nor those before it."""
    registry = random_registry(200, seed=6)
    recipe = cohort.compile(tree_of({"event": "every_visit"}))
    before = recipe.derive(registry, recorded=KEPT)
    number = np.arange(before.rows.n) - np.searchsorted(before.patient_id.astype(str), before.patient_id.astype(str))
    here = before._replace(rows=before.rows.where(number == place), patient_id=before.patient_id[number == place])
    after = recipe.derive(scrambled_after(registry, here, 1), recorded=KEPT)
    keys = {(who, day): k for k, (who, day) in enumerate(zip(after.patient_id, after.rows.values("index_date")))}
    found = [keys[key] for key in zip(here.patient_id, here.rows.values("index_date"))]

    assert len(found) > 100
    for name in ALL:
        np.testing.assert_array_equal(here.rows.held[name], after.rows.held[name][found], err_msg=name)


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_outcomes_do_not_know_what_is_older_than_the_baseline_window(index):
    """Scores before the window, and relapses long before time zero, change no worsening; the milestone asks for the last score."""
    registry = random_registry(300, seed=7)
    recipe = cohort.compile(tree_of(index, outcomes=[CDW24, {"kind": "relapse"}], baseline={"now_days": 90}))
    before = recipe.derive(registry, recorded=KEPT)
    first = np.full(len(registry.ids), 1 << 40)
    np.minimum.at(first, np.searchsorted(registry.ids.astype(str), before.patient_id.astype(str)),
                  before.rows.values("index_date").astype(int))
    visits = registry.visits
    old = visits["visit_date"] < first[visits["patient"]] - 90
    after = recipe.derive(registry.with_table(visits.changed(edss=np.where(old, 9.0, visits["edss"]))), recorded=KEPT)

    assert_same({name: column for name, column in columns_of(before).items() if name.startswith(("cdw24", "relapse_"))},
                {name: column for name, column in columns_of(after).items() if name.startswith(("cdw24", "relapse_"))})


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_adding_patients_changes_nobody_else(index):
    """A registry with new patients before and after: the old ones have the rows they had; counts add up."""
    recipe = cohort.compile(tree_of(index, outcomes=OUTCOMES, follow_up={"treatment": "switch_or_stop"}))
    parts = [random_registry(150, seed=seed, prefix=prefix) for seed, prefix in enumerate("abc")]
    apart, whole = [recipe.derive(part) for part in parts], recipe.derive(together(*parts))

    assert whole.patient_id.tolist() == [who for part in apart for who in part.patient_id]
    assert_same(columns_of(whole), {name: np.concatenate([part.rows.held[name] for part in apart]) for name in recipe.dictionary.names})
    assert whole.flow == [(text, sum(dict(part.flow)[text] for part in apart)) for text, _ in whole.flow]


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_the_order_of_rows_does_not_matter(index):
    """Tables shuffled: the same rows."""
    registry = random_registry(300, seed=3)
    recipe = cohort.compile(tree_of(index, outcomes=OUTCOMES, follow_up={"treatment": "switch_or_stop"}))
    here, there = recipe.derive(registry), recipe.derive(shuffled(registry))

    assert here.flow == there.flow
    assert_same(columns_of(here), columns_of(there))


def test_the_order_of_images_of_one_day_does_not_matter():
    """Two that disagree, not cleaned: whichever was written first, the same count."""
    images = [("2009-05-01", "brain", 12, 3, 1), ("2009-05-01", "brain", 12, 3, 4), ("2009-05-01", "brain", 12, 2, 9)]
    found = [row_of(tree_of(), one(visits=WORSENS, mri=order)) for order in (images, images[::-1], images[1:] + images[:1])]

    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_shifting_all_dates_changes_nothing(index):
    """Four years later, calendar parameters with them: all but the date itself is the same."""
    registry = random_registry(300, seed=4)
    days = 1461
    later = {**index, "date": str(np.datetime64(index["date"]) + days)} if "date" in index else index
    here, there = ({"treatment": "switch_or_stop", "end_date": str(np.datetime64("2011-01-01") + shift)} for shift in (0, days))
    first = cohort.compile(tree_of(index, outcomes=OUTCOMES, follow_up=here)).derive(registry)
    second = cohort.compile(tree_of(later, outcomes=OUTCOMES, follow_up=there)).derive(moved(registry, days))

    assert first.flow == second.flow and (first.patient_id == second.patient_id).all() and first.rows.n > 50
    assert_same(columns_of(first), columns_of(second), but=("index_date", "index_year"))


def test_landmarks_are_what_each_landmark_would_be_alone():
    """An episode has the row that a cohort on its calendar date gives the patient."""
    registry = random_registry(30, seed=8)
    more = {"outcomes": OUTCOMES, "follow_up": {"treatment": "switch_or_stop"}}
    episodes = cohort.compile(tree_of({"event": "every_visit"}, **more)).derive(registry)
    for k in range(0, episodes.rows.n, 7):
        date = str(np.datetime64(int(episodes.rows.values("index_date")[k]), "D"))
        recipe = cohort.compile(tree_of(**more))
        on_date = msgspec.structs.replace(recipe.tree, index=OnDate(date))      # any day, which a question may not ask for
        alone = cohort.Recipe(on_date, recipe.codebook, recipe.treatment_list).derive(registry)
        (place,) = np.flatnonzero(alone.patient_id == episodes.patient_id[k])

        assert_same({name: column[k] for name, column in columns_of(episodes).items()},
                    {name: column[place] for name, column in columns_of(alone).items()})


# -- the tree ------------------------------------------------------------------------------------------------------------------


def test_trees_that_mean_the_same_have_one_hash():
    """Order, defaults written out, 18 and 18.0, brand and generic name."""
    here = cohort.compile({"index": {"event": "dmt_start", "dmts": ["Tysabri", "Rebif"]}, "covariates": ["age", "sex"],
                           "eligibility": [["age", ">=", 18]], "outcomes": [CDW24, {"kind": "death"}]})
    there = cohort.compile({"index": {"event": "dmt_start", "dmts": ["interferon beta-1a", "natalizumab"], "naive": True, "classes": []},
                            "covariates": ["sex", "age"], "eligibility": {"all": [{"variable": "age", "op": ">=", "value": 18.0}]},
                            "outcomes": [{"kind": "death"}, CDW24], "baseline": {"now_days": 730}, "follow_up": {}})

    assert here.hash == there.hash and here.to_dict() == there.to_dict()


def test_a_tree_survives_json():
    """The canonical tree, written and read, compiles to itself."""
    for index in INDEXES:
        recipe = cohort.compile(tree_of(index, outcomes=OUTCOMES, eligibility=[["sex", "in", ["F", "M"]]]))

        assert json.loads(json.dumps(recipe.to_dict())) == recipe.to_dict()
        assert cohort.compile(json.loads(json.dumps(recipe.to_dict()))).hash == recipe.hash
        assert cohort.compile(recipe.tree).hash == recipe.hash


def test_whatever_decides_the_rows_changes_the_hash():
    """Any part of the tree, the list of treatments, the dictionary."""
    base = tree_of(outcomes=OUTCOMES)
    changes = [{"index": {"event": "onset"}}, {"covariates": ["age"]}, {"eligibility": [["age", ">=", 18]]}, {"baseline": {"now_days": 30}},
               {"outcomes": [CDW24]}, {"follow_up": {"grace_days": 30}}]
    hashes = {cohort.compile({**base, **change}).hash for change in [{}, *changes]}
    codebook = cohort.shipped_dictionary()
    hashes.add(cohort.compile(base, codebook=msgspec.structs.replace(codebook, description="another")).hash)
    hashes.add(cohort.compile(base, treatment_list=msgspec.structs.replace(shipped(), version="another")).hash)

    assert len(hashes) == len(changes) + 3


@pytest.mark.parametrize(("change", "says"), [
    ({"index": {"event": "moon"}}, "moon"),
    ({"index": {"event": "date", "date": "1.1.2010"}}, "index.date"),
    ({"index": {"event": "dmt_start", "dmts": ["water"]}}, "water"),
    ({"index": {"event": "every_visit", "most": 0}}, "index.most"),
    # steps of one day would single out a patient: see cohort.limits
    ({"index": {"event": "date", "date": "2010-01-02"}}, "index.date: 2010-01-02 does not begin a quarter"),
    ({"index": {"event": "date", "date": "2010-02-01"}}, "does not begin a quarter"),
    ({"follow_up": {"end_date": "2019-12-31"}}, "follow_up.end_date: 2019-12-31 does not begin a quarter"),
    ({"follow_up": {"max_days": 731}}, "follow_up.max_days is 731"),
    ({"follow_up": {"grace_days": 61}}, "follow_up.grace_days is 61"),
    ({"baseline": {"now_days": 182}}, "baseline.now_days is 182"),
    ({"baseline": {"history_days": 400}}, "baseline.history_days is 400"),
    ({"index": {"event": "every_visit", "gap_days": 7}}, "index.gap_days is 7"),
    ({"index": {"event": "every_visit", "most": 99}}, "index.most is 99"),
    ({"index": {"event": "onset", "extra": 1}}, "extra"),
    ({"covariates": ["edss_tomorrow"]}, "edss_tomorrow"),
    ({"covariates": "age"}, "covariates"),
    ({"eligibility": [["wealth", ">=", 1]]}, "eligibility"),
    ({"eligibility": [["age", ">=", 19]]}, "eligibility"),
    ({"eligibility": [["cdw24_days", ">=", 19]]}, "eligibility"),
    ({"baseline": {"now_days": -1}}, "baseline.now_days"),
    ({"baseline": {"after_days": 30}}, "after_days"),
    ({"outcomes": [{"kind": "definition", "definition": "cdw25", "version": 1}]}, "cdw25"),
    ({"outcomes": [{"kind": "definition", "definition": "cdw24", "version": 2}]}, "version"),
    ({"outcomes": [CDW24, CDW24]}, "twice"),
    ({"outcomes": [{"kind": "milestone", "level": 10}]}, "milestone"),
    ({"outcomes": [{"kind": "milestone", "level": 3.3}]}, "milestone"),
    ({"follow_up": {"end_date": "soon"}}, "follow_up.end_date"),
    ({"follow_up": {"end_date": "2009-01-01"}}, "follow_up.end_date"),
    ({"follow_up": {"max_days": 0}}, "follow_up.max_days"),
    ({"follow_up": {"treatment": "maybe"}}, "treatment"),
    ({"cohort": 1}, "cohort"),
], ids=str)
def test_a_tree_that_means_nothing_is_refused_by_field(change, says):
    """The error names the field, and what to do."""
    with pytest.raises(QuestionError, match=says) as caught:
        cohort.compile({**tree_of(), **change})

    assert caught.value.hint


@pytest.mark.parametrize("tree", [None, 3, "onset", [], {}], ids=str)
def test_what_is_no_tree_is_refused(tree):
    """Not a traceback."""
    with pytest.raises(QuestionError):
        cohort.compile(tree)


def test_a_registry_that_cannot_answer_says_so():
    """Another list of treatments; no table of treatments where one is needed; a table that was refused."""
    registry = one(visits=WORSENS)
    other = Treatments.from_dict({"name": "short", "treatments": [{"name": "natalizumab", "efficacy": "high"}]})
    with pytest.raises(InputError, match="another list of treatments"):
        cohort.compile(tree_of(), treatment_list=other).derive(registry)
    for tree in (tree_of({"event": "dmt_start"}), tree_of(follow_up={"treatment": "switch"})):
        with pytest.raises(InputError, match="no table of treatments"):
            cohort.compile(tree).derive(registry)

    refused = load({"patients": pd.DataFrame([PATIENT]), "visits": pd.DataFrame([{"patient_id": "a", "edss": 1}])})[0]
    with pytest.raises(InputError, match="visits could not be used"):
        cohort.compile(tree_of()).derive(refused)


def test_an_empty_registry_has_no_rows_and_the_same_flow():
    """The same steps, all zero: they are summed under the seal."""
    for index in INDEXES:
        recipe = cohort.compile(tree_of(index, outcomes=OUTCOMES, follow_up={"treatment": "switch"}))
        empty = recipe.derive(random_registry(0), recorded=KEPT)
        full = recipe.derive(random_registry(20))

        assert empty.rows.n == 0 and {count for _, count in empty.flow} == {0}
        assert [text for text, _ in empty.flow] == [text for text, _ in full.flow]


def test_a_cohort_describes_itself():
    """Time zero, eligibility, outcome, follow-up; and every column."""
    recipe = cohort.compile(tree_of({"event": "dmt_start", "classes": ["high"]}, outcomes=OUTCOMES, eligibility=[["age", ">=", 18]],
                                    follow_up={"treatment": "switch_or_stop", "end_date": "2020-01-01"}))
    text = recipe.describe()
    for part in ("first start of a disease-modifying treatment (high efficacy)", "age >= 18", "24 weeks later", "EDSS of at least 6",
                 "start of another treatment", "within 60 days", "end of the study (2020-01-01)", recipe.hash[:12]):
        assert part in text
    columns = recipe.explain_columns()

    assert list(columns) == list(recipe.dictionary.names) and all(columns.values())


# -- analyses ------------------------------------------------------------------------------------------------------------------


TABLE = ["age", "age_at_onset", "sex", "onset_course", "disease_duration", "visits_in_window", "relapses_6m", "relapses_12m",
         "relapses_24m", "dmt_class_before", "dmt_switches"]


def plain(result):
    """A result without what names the query and the registries."""
    found = result.to_dict()
    text = json.dumps({name: value for name, value in found.items() if name not in ("registries", "query")}, sort_keys=True, default=str)
    return re.sub(r"over \d registries", "over registries", text)


def test_an_episode_names_its_patient_and_is_no_patient():
    """Rows of landmark cohorts say whose they are and how many one patient may have; what counts rows as patients cannot be asked."""
    recipe = cohort.compile(tree_of({"event": "every_visit", "gap_days": 180, "most": 5}))
    derived = recipe.derive(random_registry(40, seed=3))
    _, person = np.unique(derived.patient_id.astype(str), return_inverse=True)

    assert recipe.dictionary.most_rows == 5 and np.bincount(person).max() <= 5
    assert derived.rows.person.shape == (derived.rows.n,) and derived.rows.people() == len(np.unique(person))
    assert len(set(zip(person, derived.rows.person))) == derived.rows.people()
    with pytest.raises(QuestionError, match="takes one row per patient"):
        Pooled(Codebook(recipe.dictionary), {"a": Household(derived.rows)}, {}, NO_RULES).run(
            [question_of("summary", ["age"])], Whole(recipe.dictionary), {"all": []})


@pytest.mark.parametrize("index", INDEXES[:5], ids=str)
def test_three_registries_answer_as_one(index):
    """Kaplan-Meier by treatment class, Table 1, relapse rates: three registries equal one with all patients, to the digit."""
    recipe = cohort.compile(tree_of(index, outcomes=OUTCOMES, eligibility=[["age", ">=", 18]]))
    parts = {name: random_registry(300, seed=seed, prefix=name) for seed, name in enumerate("abc")}
    apart = {name: recipe.derive(part).rows for name, part in parts.items()}
    whole = {"all": recipe.derive(together(*parts.values())).rows}
    questions = [question_of("kaplan_meier", time="cdw24_days", event="cdw24_event", by="dmt_class"),
                 question_of("table_one", TABLE, by="dmt_class"),
                 question_of("rates", events="relapse_count", time="follow_up_days", by="sex")]
    where = {"all": [["sex", "==", "F"]]}
    here, there = (Pooled(Codebook(recipe.dictionary), {name: Household(one) for name, one in rows.items()}, {}, NO_RULES)
                   .run(questions, Whole(recipe.dictionary), where) for rows in (apart, whole))

    for one_result, other in zip(here, there):
        assert type(one_result).__name__ != "Failed", one_result
        assert plain(one_result) == plain(other)
    assert here[0].n > 100
