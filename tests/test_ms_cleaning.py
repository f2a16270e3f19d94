"""Cleaning: every rule does what its sentence says, counts it, and can be left out."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstats.errors import InputError
from fedstats.ms.tables import DATED, load
from fedstats.ms.tables.cleaning import RULES, clean

from .helpers import shared

CUT = "2020-12-31"
PATIENT = {"patient_id": "a", "site_id": "s", "sex": "F", "birth_year": 1970, "entry_date": "2000-06-01", "onset_date": "2000-01-01"}
KEYS = {
    "visits": {"visit_date": "2010-01-01"},
    "relapses": {"relapse_onset_date": "2010-01-01"},
    "mri": {"mri_date": "2010-01-01"},
    "treatments": {"dmt_name": "Rebif", "start_date": "2010-01-01"},
}


def registry_of(patient=None, **rows):
    """One patient ("a", with changes) and rows of other tables, given as dicts of what differs from a plain row."""
    source = {"patients": pd.DataFrame([{**PATIENT, **(patient or {})}])}
    for name, found in rows.items():
        source[name] = pd.DataFrame([{"patient_id": "a", **KEYS[name], **row} for row in found])
    return load(source)[0]


def cleaned(patient=None, *, without=(), data_cut=CUT, **rows):
    registry, report = clean(registry_of(patient, **rows), data_cut=data_cut, without=without)
    return registry, {one.rule: one.count for one in report.rules if one.count}


def dates(table, column=None):
    days = table[column or DATED[table.name]]
    return [None if np.isnan(one) else str(np.datetime64(int(one), "D")) for one in days.tolist()]


def values(registry, column="edss", table="visits"):
    return [None if one != one else one for one in registry.table(table)[column].tolist()]


# -- visits ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("edss", "rule"), [(0.5, "edss_half"), (2.25, "edss_off_grid"), (9.9, "edss_off_grid")])
def test_impossible_edss_are_missing_and_the_visit_stays(edss, rule):
    """There is no EDSS 0.5, and no quarter steps; the other measurements of the visit count."""
    registry, counts = cleaned(visits=[{"edss": edss, "sdmt": 50}])

    assert counts == {rule: 1} and values(registry) == [None] and values(registry, "sdmt") == [50]
    assert values(cleaned(visits=[{"edss": edss}], without=[rule])[0]) == [edss]


def test_the_twenty_values_of_edss_stay():
    """0, 1, 1.5, ... 9.5, 10."""
    valid = [0.0] + [k / 2 for k in range(2, 21)]
    registry, counts = cleaned(visits=[{"edss": edss, "visit_date": f"2010-01-{k + 1:02d}"} for k, edss in enumerate(valid)])

    assert len(valid) == 20 and values(registry) == valid and not counts


NEVER = {"in_future": "2021-01-01", "before_birth": "1969-12-31", "before_onset": "1999-12-31", "after_death": "2015-05-02"}
ONE = {"visits": "visit", "relapses": "relapse", "treatments": "treatment", "mri": "mri"}


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        (table, f"{one}_{what}")
        for table, one in ONE.items()
        for what in NEVER
        if (table, what) not in (("mri", "before_birth"), ("mri", "before_onset"))
    ],
)
def test_dates_that_cannot_be_are_dropped(table, rule):
    """After the data cut, before birth, before onset (images may come earlier), after death; on the day itself is fine."""
    date = NEVER[rule.split("_", 1)[1]]
    patient = {"death_date": "2015-05-01"} if rule.endswith("death") else {"onset_date": None} if rule.endswith("birth") else {}
    column = DATED[table]
    registry, counts = cleaned(patient, **{table: [{}, {column: date}]})

    # after death a treatment that goes on ends as well
    assert counts.pop(rule) == 1 and set(counts) <= {"treatment_ends_at_death"} and dates(registry.table(table)) == ["2010-01-01"]
    kept = cleaned(patient, without=[rule, "treatment_same_drug"], **{table: [{}, {column: date}]})[0].table(table)
    assert date in dates(kept)


@pytest.mark.parametrize(("date", "count"), [("2020-12-31", 0), ("2021-01-01", 1)])
def test_the_data_cut_itself_is_not_the_future(date, count):
    """Until the last day that the data can know of."""
    assert cleaned(visits=[{"visit_date": date}])[1].get("visit_in_future", 0) == count


@pytest.mark.parametrize(
    ("precision", "kept"),
    [("day", ["2000-07-10"]), ("month", ["2000-07-01", "2000-07-10"]), ("year", ["2000-01-01", "2000-07-01", "2000-07-10"])],
)
def test_an_onset_known_to_the_month_or_year_drops_nothing_within_it(precision, kept):
    """A rounded date is no reason to lose a visit."""
    found = [{"visit_date": date} for date in ("1999-12-31", "2000-01-01", "2000-07-01", "2000-07-10")]
    registry, counts = cleaned({"onset_date": "2000-07-10", "onset_date_precision": precision}, visits=found)

    assert dates(registry.visits) == kept and counts == {"visit_before_onset": 4 - len(kept)}


def test_without_a_data_cut_the_future_is_not_judged_and_the_report_says_so():
    """The rules read no clock."""
    registry, report = clean(registry_of(visits=[{"visit_date": "2090-01-01"}]), data_cut=None)

    assert registry.visits.n == 1 and report.data_cut is None
    assert {one.why for one in report.rules if one.rule.endswith("_in_future")} == {"no data cut given"}


def test_visits_of_one_day():
    """Equal: one stays. Different EDSS: none stays (De Brouwer). One EDSS and one SDMT: one visit with both."""
    rows = [
        {"edss": 2},
        {"edss": 2},
        {"visit_date": "2011-01-01", "edss": 3},
        {"visit_date": "2011-01-01", "edss": 3.5},
        {"visit_date": "2012-01-01", "edss": 4, "visit_id": "x"},
        {"visit_date": "2012-01-01", "sdmt": 50, "visit_id": "y"},
    ]
    registry, counts = cleaned(visits=rows)

    assert dates(registry.visits) == ["2010-01-01", "2012-01-01"] and values(registry) == [2, 4] and values(registry, "sdmt") == [None, 50]
    assert counts == {"visit_edss_disagrees": 2, "visit_repeated": 2} and registry.visits["visit_id"].tolist() == ["", "x"]


def test_visits_of_one_day_that_differ_in_something_else():
    """The EDSS stays, what they say differently is missing."""
    rows = [{"edss": 2, "sdmt": 40, "course_at_visit": "RRMS"}, {"edss": 2, "sdmt": 50, "course_at_visit": "RRMS"}]
    registry, counts = cleaned(visits=rows)

    assert (values(registry), values(registry, "sdmt"), registry.visits["course_at_visit"].tolist()) == ([2], [None], [1])
    assert counts == {"visit_cells_disagree": 1, "visit_repeated": 1}
    assert values(cleaned(visits=rows, without=["visit_cells_disagree"])[0], "sdmt") == [40, 50]


def test_a_contradiction_is_not_merged_away():
    """With the rule for different EDSS left out, both visits stay as they are."""
    rows = [{"edss": 2, "sdmt": 40}, {"edss": 3, "sdmt": 50}]
    registry, counts = cleaned(visits=rows, without=["visit_edss_disagrees", "visit_cells_disagree"])

    assert values(registry) == [2, 3] and values(registry, "sdmt") == [40, 50] and not counts


def test_an_impossible_edss_is_no_contradiction():
    """0.5 and 2 on one day: 0.5 is missing first."""
    registry, counts = cleaned(visits=[{"edss": 0.5}, {"edss": 2}])

    assert values(registry) == [2] and counts == {"edss_half": 1, "visit_repeated": 1}


def test_edss_ten_before_a_later_visit_is_an_error():
    """Nobody is seen after death due to MS; as the last value it stays."""
    rows = [{"edss": 10}, {"visit_date": "2011-01-01", "edss": 4}, {"visit_date": "2012-01-01", "edss": 10}]
    registry, counts = cleaned(visits=rows)

    assert values(registry) == [None, 4, 10] and counts == {"edss_ten_seen_again": 1}


def test_visits_of_unknown_patients_are_dropped():
    """Whom the table of patients does not have, nobody counts; without that table everybody is known."""
    source = {
        "patients": pd.DataFrame([PATIENT]),
        "visits": {"patient_id": ["a", "b", "b"], "visit_date": ["2010-01-01", "2010-01-01", "2011-01-01"]},
    }
    registry, report = clean(load(source)[0], data_cut=CUT)

    assert registry.ids.tolist() == ["a"] and registry.visits["patient"].tolist() == [0] and report.count("unknown_patient") == 2
    kept, _ = clean(load(source)[0], data_cut=CUT, without=["unknown_patient"])
    assert kept.ids.tolist() == ["a", "b"] and kept.visits.n == 3
    assert clean(load({"visits": source["visits"]})[0], data_cut=CUT)[0].visits.n == 3


# -- patients ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "column", "rule"),
    [
        ({"onset_date": "1969-12-31"}, "onset_date", "onset_before_birth"),
        ({"onset_date": "2021-01-01"}, "onset_date", "onset_in_future"),
        ({"death_date": "2021-01-01"}, "death_date", "death_in_future"),
        ({"death_date": "1960-01-01", "onset_date": None}, "death_date", "death_before_birth"),
        ({"death_date": "1999-12-31"}, "death_date", "death_before_onset"),
        ({"diagnosis_date": "1999-12-31"}, "diagnosis_date", "diagnosis_before_onset"),
        ({"diagnosis_date": "2021-01-01"}, "diagnosis_date", "diagnosis_in_future"),
        ({"entry_date": "2021-01-01"}, "entry_date", "entry_in_future"),
        ({"progression_onset_date": "1999-12-31"}, "progression_onset_date", "progression_onset_before_onset"),
        ({"progression_onset_date": "2021-01-01"}, "progression_onset_date", "progression_onset_in_future"),
        ({"last_contact_date": "2021-01-01"}, "last_contact_date", "last_contact_in_future"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_impossible_dates_of_patients_are_missing(changes, column, rule):
    """The patient stays."""
    registry, counts = cleaned(changes)

    assert counts == {rule: 1} and dates(registry.patients, column) == [None]
    assert dates(cleaned(changes, without=[rule])[0].patients, column) == [changes[column]]


def test_an_image_from_before_birth_is_dropped():
    """Born in 1990, imaged in 1985."""
    registry, counts = cleaned({"birth_year": 1990, "onset_date": None}, mri=[{}, {"mri_date": "1985-01-01"}])

    assert counts == {"mri_before_birth": 1} and dates(registry.mri) == ["2010-01-01"]


def test_the_month_of_birth_counts_where_it_is_known():
    """Born in July 1970: an onset in June 1970 was before; with the year alone it may have been after."""
    late = {"birth_month": "1970-07", "onset_date": "1970-06-30"}

    assert cleaned(late)[1] == {"onset_before_birth": 1} and cleaned({"onset_date": "1970-06-30"})[1] == {}


def test_an_onset_rounded_to_the_year_of_birth_or_of_the_cut_stays():
    """1970-01-01 with precision year, born 1970; and the year of the data cut."""
    assert cleaned({"onset_date": "1970-01-01", "onset_date_precision": "year", "birth_month": "1970-07"})[1] == {"onset_before_birth": 1}
    assert cleaned({"onset_date": "2020-07-01", "onset_date_precision": "year"}, data_cut="2020-03-01")[1] == {}


# -- relapses ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "kept"),
    [
        ([0, 29], [0]),
        ([0, 30], [0, 30]),
        ([0, 20, 40], [0, 40]),
        ([0, 20, 40, 60, 69, 70], [0, 40, 70]),
        ([0, 29, 58, 87], [0, 58]),
        ([0, 100, 110, 300], [0, 100, 300]),
    ],
    ids=str,
)
def test_a_new_relapse_begins_thirty_days_after_the_last_one_that_counted(days, kept):
    """An entry that does not count does not put off the next one."""
    start = np.datetime64("2010-01-01")
    registry, counts = cleaned(relapses=[{"relapse_onset_date": str(start + day)} for day in days])

    assert dates(registry.relapses) == [str(start + day) for day in kept]
    assert counts.get("relapse_within_30_days", 0) == len(days) - len(kept)


def test_one_relapse_entered_twice():
    """One relapse, filled in from both entries; what they say differently is missing."""
    registry, counts = cleaned(
        relapses=[{"severity": "mild", "steroids": True, "fs_affected": "visual"}, {"severity": "severe", "duration_days": 20}]
    )
    table = registry.relapses

    assert (table["severity"].tolist(), table["steroids"].tolist(), table["duration_days"].tolist(), table["fs_affected"].tolist()) == (
        [-1],
        [1],
        [20],
        ["visual"],
    )
    assert counts == {"relapse_cells_disagree": 1, "relapse_repeated": 1}


# -- treatments ----------------------------------------------------------------------------------------------------------------


def courses(*rows, without=(), **changes):
    """(drug, start, end) triples after cleaning, and the counts."""
    registry, counts = cleaned(
        changes, without=without, treatments=[dict(zip(("dmt_name", "start_date", "end_date"), row)) for row in rows]
    )
    names, table = registry.treatment_list.names, registry.treatments
    drugs = [names[code] if code >= 0 else code for code in table["dmt"].tolist()]
    return list(zip(drugs, dates(table), dates(table, "end_date"))), counts


def test_treatments_that_cannot_be():
    """Ending before they start, on the day they start, after the cut, after death; no treatment, or none that is known."""
    assert courses(("Rebif", "2010-01-02", "2010-01-01")) == ([], {"treatment_end_before_start": 1})
    assert courses(("Rebif", "2010-01-01", "2010-01-01")) == ([], {"treatment_of_no_days": 1})
    assert courses(("Rebif", "2010-01-01", "2030-01-01")) == ([("interferon beta-1a", "2010-01-01", None)], {"treatment_end_in_future": 1})
    for end in (None, "2016-01-01"):
        assert courses(("Rebif", "2010-01-01", end), death_date="2015-05-01") == (
            [("interferon beta-1a", "2010-01-01", "2015-05-01")],
            {"treatment_ends_at_death": 1},
        )
    assert courses(("Solu-Medrol", "2010-01-01", None), ("aspirin", "2010-01-01", None)) == ([], {"not_a_dmt": 1, "unknown_dmt": 1})
    assert courses(("aspirin", "2010-01-01", None), without=["unknown_dmt"]) == ([(-1, "2010-01-01", None)], {})


def test_a_treatment_ends_when_the_next_one_starts():
    """No two at once; the one that was never ended ends too."""
    found, counts = courses(("Rebif", "2010-01-01", None), ("Tysabri", "2012-01-01", "2014-01-01"), ("Gilenya", "2014-01-01", None))

    assert found == [
        ("interferon beta-1a", "2010-01-01", "2012-01-01"),
        ("natalizumab", "2012-01-01", "2014-01-01"),
        ("fingolimod", "2014-01-01", None),
    ]
    assert counts == {"treatment_overlap": 1}


def test_courses_of_one_treatment_that_overlap_are_one():
    """Brand and generic name, entered twice; a gap stays a gap."""
    found, counts = courses(
        ("Tysabri", "2010-01-01", "2012-01-01"),
        ("natalizumab", "2011-01-01", "2013-01-01"),
        ("natalizumab", "2011-02-01", "2011-03-01"),
        ("natalizumab", "2015-01-01", None),
    )

    assert found == [("natalizumab", "2010-01-01", "2013-01-01"), ("natalizumab", "2015-01-01", None)] and counts == {
        "treatment_same_drug": 2
    }


def test_a_switch_and_back_stays_a_switch_and_back():
    """The first course was never ended: the second of the same drug is still a course of its own."""
    found, _ = courses(("Rebif", "2010-01-01", None), ("Tysabri", "2012-01-01", "2013-01-01"), ("Rebif", "2013-01-01", None))

    assert [one[0] for one in found] == ["interferon beta-1a", "natalizumab", "interferon beta-1a"] and [one[2] for one in found] == [
        "2012-01-01",
        "2013-01-01",
        None,
    ]


def test_two_treatments_that_start_on_one_day_contradict_each_other():
    """Which one was given is not known: neither stays. One entered twice is one."""
    assert courses(("Rebif", "2010-01-01", None), ("Tysabri", "2010-01-01", None)) == ([], {"treatment_same_start": 2})
    assert courses(("Rebif", "2010-01-01", None), ("Avonex", "2010-01-01", "2011-01-01")) == (
        [("interferon beta-1a", "2010-01-01", None)],
        {"treatment_same_drug": 1},
    )


def test_images_of_one_day_and_region():
    """Brain and spine of one day are two images; two entries of the brain are one."""
    registry, counts = cleaned(
        mri=[
            {"region": "brain", "gd_lesion_count": 1},
            {"region": "spine"},
            {"region": "brain", "gd_lesion_count": 2, "t2_lesion_count": 9},
        ]
    )

    assert (
        registry.mri["region"].tolist() == [0, 1]
        and values(registry, "t2_lesion_count", "mri") == [9, None]
        and values(registry, "gd_lesion_count", "mri") == [None, None]
    )
    assert counts == {"mri_cells_disagree": 1, "mri_repeated": 1}


# -- all rules ---------------------------------------------------------------------------------------------------------------


def test_every_rule_has_a_name_a_sentence_and_a_source():
    """And is listed once."""
    assert len({rule.name for rule in RULES}) == len(RULES) and all(
        rule.sentence and rule.source and rule.name == rule.name.lower() for rule in RULES
    )


def test_every_rule_can_be_left_out():
    """All of them at once: nothing changes, and the report says that they were switched off."""
    registry = registry_of(visits=[{"edss": 0.5}, {"visit_date": "2090-01-01"}])
    same, report = clean(registry, data_cut=CUT, without=[rule.name for rule in RULES])

    assert same.visits.n == 2 and {one.why for one in report.rules} == {"switched off"} and report.before == report.after
    with pytest.raises(InputError, match="not a cleaning rule"):
        clean(registry, data_cut=CUT, without=["edss"])


@pytest.mark.parametrize("cut", ["soon", "31.12.2020", 2020, ""])
def test_a_data_cut_is_a_date(cut):
    """Not a guess."""
    with pytest.raises(InputError, match="data cut"):
        clean(registry_of(), data_cut=cut)


def test_tables_that_were_refused_are_left_alone():
    """The report says that their rules did not run; the other tables are cleaned."""
    _, report = clean(
        load({"patients": {"nobody": [1]}, "visits": {"patient_id": ["a"], "visit_date": ["2010-01-01"], "edss": [0.5]}})[0], data_cut=CUT
    )

    assert report.count("edss_half") == 1 and {one.why for one in report.rules if one.table == "patients"} == {
        "its table could not be used"
    }
    assert next(one for one in report.rules if one.rule == "visit_before_birth").count is None


def test_published_tables_are_clean():
    """MSoutcomes sample data: every EDSS is possible, no day is double; the reference results were computed on all of it."""
    seen = pd.read_csv(shared("data", "msoutcomes", "sampledata_visits_edss.csv")).rename(
        columns={"id": "patient_id", "date": "visit_date", "EDSS": "edss"}
    )
    relapses = pd.read_csv(shared("data", "msoutcomes", "sampledata_relapses_derived.csv")).rename(
        columns={"id": "patient_id", "date": "relapse_onset_date"}
    )
    registry, report = clean(load({"visits": seen, "relapses": relapses})[0], data_cut="2022-12-31")

    assert registry.visits.n == 539 and registry.relapses.n == 114 and not any(one.count for one in report.rules)


def test_the_report_has_counts_and_never_values():
    """Sentences, and JSON for the log."""
    _, report = clean(registry_of(visits=[{"edss": 2.26}]), data_cut=CUT)
    text = "\n".join(report.lines()) + json.dumps(report.to_dict())

    assert "edss_off_grid (visits): EDSS that is no multiple of 0.5 is missing: 1" in text and "2.26" not in text


DAYS = st.integers(0, 70).map(lambda day: str(np.datetime64("2010-01-01") + 9 * day))
SOME = {
    "visits": st.fixed_dictionaries(
        {"visit_date": DAYS, "edss": st.sampled_from([None, 0, 0.5, 2, 2.25, 3, 10]), "sdmt": st.sampled_from([None, 40, 50])}
    ),
    "relapses": st.fixed_dictionaries({"relapse_onset_date": DAYS, "severity": st.sampled_from([None, "mild", "severe"])}),
    "treatments": st.fixed_dictionaries(
        {"dmt_name": st.sampled_from(["Rebif", "Tysabri", "aspirin"]), "start_date": DAYS, "end_date": DAYS | st.none()}
    ),
}


def tables_of(rows, patients):
    people = pd.DataFrame(
        [
            {
                **PATIENT,
                "patient_id": one,
                "onset_date": "2010-03-01" if one == "b" else None,
                "death_date": "2011-03-01" if one == "c" else None,
            }
            for one in patients
        ]
    )
    found = {"patients": people}
    for name, some in rows.items():
        found[name] = pd.DataFrame(
            [{"patient_id": who, **row} for who, row in some if who in patients] or None,
            columns=[
                "patient_id",
                *(
                    {
                        "visits": ("visit_date", "edss", "sdmt"),
                        "relapses": ("relapse_onset_date", "severity"),
                        "treatments": ("dmt_name", "start_date", "end_date"),
                    }[name]
                ),
            ],
        )
    return found


def frame(registry, name):
    return [tuple(str(cell) for cell in row) for row in zip(*registry.columns(name).values())]


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({name: st.lists(st.tuples(st.sampled_from("abcd"), row), max_size=12) for name, row in SOME.items()}))
def test_cleaning_a_registry_is_cleaning_its_patients(rows):
    """Two halves of a registry, cleaned apart, have the same rows; cleaning what is clean changes nothing; no treatments overlap."""
    whole, report = clean(load(tables_of(rows, "abcd"))[0], data_cut="2011-06-01")
    halves = [clean(load(tables_of(rows, half))[0], data_cut="2011-06-01") for half in ("ab", "cd")]
    again, second = clean(whole, data_cut="2011-06-01")

    for name in SOME:
        assert frame(whole, name) == frame(halves[0][0], name) + frame(halves[1][0], name) == frame(again, name)
    for rule in RULES:
        assert report.count(rule.name) == sum(half.count(rule.name) for _, half in halves) and second.count(rule.name) == 0
    table = whole.treatments
    same = table["patient"][1:] == table["patient"][:-1]
    assert (table["end_date"][:-1][same] <= table["start_date"][1:][same]).all()
