"""Rows that do not find their patient: a treatment lost to a spelling makes nobody a new user."""

import pandas as pd
import pytest

import fedstats
from fedstats.errors import InputError, Refused
from fedstats.ms.tables import load
from fedstats.ms.tables.links import NOBODY, SPELLING, STRANGERS, folded

IDS = [f"P{k}" for k in range(100, 140)]
FIRST, LATER = ("Copaxone", "2010-01-01", "2011-01-01"), ("Tysabri", "2016-01-01", "")


def tables(of=lambda one: one, first=FIRST, others=()):
    """Forty patients on two drugs each. of : how the first drug's rows write them. others : people."""
    rows = [(of(one), *first) for one in IDS] + [(one, *LATER) for one in (*IDS, *others)]
    return {
        "patients": pd.DataFrame(
            {"patient_id": IDS, "sex": "F", "birth_year": 1980, "entry_date": "2009-01-01"}
        ),
        "visits": pd.DataFrame(
            [(one, f"{year}-01-01", 2.0) for one in IDS for year in (2010, 2016, 2018)],
            columns=["patient_id", "visit_date", "edss"],
        ),
        "treatments": pd.DataFrame(
            rows, columns=["patient_id", "dmt_name", "start_date", "end_date"]
        ),
    }


def new_users(source):
    world = fedstats.pooled(dict.fromkeys("abc", source), data_cut="2019-01-01")
    cohort = world.cohort({"index": {"event": "dmt_start"}, "covariates": ["dmt"]})
    levels = cohort.table_one(["dmt"]).characteristics[0].levels
    return {one.level: one.cells[-1].count for one in levels if one.cells[-1].count}


LOST = {
    "noughts": (lambda one: one.replace("P", "P0"), SPELLING),
    "capitals": (str.lower, SPELLING),
    "a spreadsheet": (lambda one: "1.23457E+12", "identifiers that cannot be read"),
    "nothing": (lambda one: "", NOBODY),
    "another encoding": (lambda one: (one + "\xfc").encode("cp1252"), "another encoding"),
}


def test_the_first_drug_is_the_one_that_counts():
    """Rows of people whom the registry does not export change nothing."""
    assert (
        new_users(tables()) == new_users(tables(others=["x1", "x2"])) == {"glatiramer acetate": 120}
    )


@pytest.mark.parametrize("lost", LOST)
def test_treatments_without_their_patient_stop_the_loading(lost):
    """Else forty people treated before would be new users of natalizumab in 2016."""
    of, words = LOST[lost]
    with pytest.raises(InputError, match=words):
        new_users(tables(of))


def test_a_table_of_strangers_stops_the_loading():
    """Every treatment under another kind of identifier: nobody would be treated."""
    source = tables()
    source["treatments"]["patient_id"] = "study-" + source["treatments"]["patient_id"]
    found = [one.form for one in load(source)[1].undeclared]

    assert found == [STRANGERS]


def test_empty_lines_of_a_form_are_no_lost_rows():
    source = tables()
    source["treatments"].loc[len(source["treatments"])] = ["", "", "", ""]

    assert load(source)[1].undeclared == ()


@pytest.mark.parametrize(
    ("one", "other"), [("0012", "12"), ("p7", "P07"), ("12.0", "12"), ("a 1", "A1")]
)
def test_spellings_of_one_identifier(one, other):
    assert folded(one) == folded(other)


def test_different_identifiers_stay_different():
    assert len({folded(one) for one in ("100", "10", "1-11", "11-1", "P1", "Q1")}) == 6


def test_a_start_in_the_future_with_an_end_in_the_past_is_no_future_start():
    """2030 for 2010, ended in 2011: treated before 2016. A planned start says nothing of the past."""
    with pytest.raises(Refused, match="nobody is in the cohort"):
        new_users(tables(first=("Copaxone", "2030-01-01", "2011-01-01")))
    assert new_users(tables(first=("Copaxone", "2030-01-01", ""))) == {"natalizumab": 120}
