"""The five MS tables: what loading makes of them, and of everything that hospitals' files get wrong."""

import datetime
import json

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstats import Dictionary
from fedstats.cli import schemas
from fedstats.data import cells
from fedstats.data.cells import Form
from fedstats.errors import InputError
from fedstats.ms.tables import load
from fedstats.ms.tables import loading as tables

from .helpers import shared

PATIENTS = {
    "patient_id": ["a", "b"],
    "site_id": ["s", "s"],
    "sex": ["F", "M"],
    "birth_year": [1970, 1980],
    "entry_date": ["2000-01-01", "2001-01-01"],
}
VISITS = {"patient_id": ["a", "a", "b"], "visit_date": ["2010-01-01", "2010-07-01", "2011-03-04"], "edss": [2.0, 2.5, 6.0]}
nan = float("nan")


def day(text):
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days


def visits(forms=None, **columns):
    """The visits of a registry without other tables, and (column, rule, count, effect) of each finding about them."""
    registry, report = load({"visits": {**VISITS, **columns}}, forms=forms)
    return registry, {(one.column, one.rule, one.count, one.effect) for one in report.findings if one.file == "visits"}


def csv(tmp_path, content, name="visits.csv", forms=None):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    registry, report = load({"visits": tmp_path / name}, forms=forms)
    assert accounted(report)
    return registry, [(one.file, one.column, one.rule, one.count, one.effect) for one in report.findings if one.file == name]


def accounted(report):
    """Rows read are rows kept or rows dropped, unless the table was refused."""
    refused = {one.file.split(".")[0] for one in report.findings if one.effect == "refused"}
    lost = {
        name: sum(one.count for one in report.findings if one.file.split(".")[0] == name and one.effect == "dropped")
        for name in report.read
    }
    return all(report.read[name] - report.kept[name] == lost[name] for name in report.read if name not in refused)


# -- good tables -----------------------------------------------------------------------------------------------------------


def test_published_tables_load_whole():
    """MSoutcomes sample data: 40 patients, 539 EDSS, 114 relapses, and nothing to complain about."""
    seen = pd.read_csv(shared("data", "msoutcomes", "sampledata_visits_edss.csv")).rename(
        columns={"id": "patient_id", "date": "visit_date", "EDSS": "edss"}
    )
    relapses = pd.read_csv(shared("data", "msoutcomes", "sampledata_relapses_derived.csv")).rename(
        columns={"id": "patient_id", "date": "relapse_onset_date"}
    )
    registry, report = load({"visits": seen, "relapses": relapses})

    assert (len(registry.ids), registry.visits.n, registry.relapses.n) == (40, 539, 114)
    assert {one.rule for one in report.findings} == {tables.NO_FILE}
    assert registry.visits["edss"].sum() == seen["edss"].sum() and registry.visits["visit_date"].min() == day(seen["visit_date"].min())


def test_toy_tables_load_from_a_folder(tmp_path):
    """msprog's toy data as a registry would put them: one file per table."""
    for name, date in (("visits", "visit_date"), ("relapses", "relapse_onset_date")):
        pd.read_csv(shared("data", "msprog_toy", f"toydata_{name}.csv")).rename(
            columns={"id": "patient_id", "date": date, "EDSS": "edss", "SDMT": "sdmt"}
        ).to_csv(tmp_path / f"{name}.csv", index=False)
    registry, report = load(tmp_path)

    assert repr(registry) == "Registry(7 patients, 57 visits, 5 relapses, 0 treatments, 0 mri)"
    assert ("visits.csv", "visit_day") in report.ignored and report.read == {"visits": 57, "relapses": 5}


def test_all_forms_of_a_table_load_alike(tmp_path):
    """CSV, Parquet, pandas, Arrow and plain columns; text dates and typed dates."""
    frame = pd.DataFrame(VISITS)
    typed = frame.assign(visit_date=pd.to_datetime(frame["visit_date"]))
    frame.to_csv(tmp_path / "visits.csv", index=False)
    typed.to_parquet(tmp_path / "visits.parquet")
    pa.parquet.write_table(pa.table({**VISITS, "visit_date": pa.array(frame["visit_date"]).cast(pa.date32())}), tmp_path / "d.parquet")
    forms = [
        VISITS,
        frame,
        typed,
        typed.astype({"patient_id": "category"}),
        pa.table(VISITS),
        pa.table(VISITS).to_batches()[0],
        tmp_path / "visits.csv",
        tmp_path / "visits.parquet",
        tmp_path / "d.parquet",
        {**VISITS, "visit_date": [datetime.date.fromisoformat(one) for one in VISITS["visit_date"]]},
        {**VISITS, "visit_date": np.array(VISITS["visit_date"], dtype="datetime64[ns]")},
    ]

    for form in forms:
        registry, report = load({"visits": form})
        assert registry.visits["visit_date"].tolist() == [day(one) for one in VISITS["visit_date"]]
        assert (
            registry.visits["edss"].tolist() == VISITS["edss"] and registry.ids[registry.visits["patient"]].tolist() == VISITS["patient_id"]
        )
        assert {one.rule for one in report.findings} == {tables.NO_FILE}


def test_columns_are_typed_and_rows_ordered_by_patient_and_date():
    """Own dates are whole days, other numbers doubles, levels small integers; what a file does not have is missing."""
    registry, found = visits(
        patient_id=["b", "a", "a"],
        visit_date=["2011-03-04", "2010-07-01", "2010-01-01"],
        sdmt=[None, 40, "50"],
        course_at_visit=["RRMS", "unknown", ""],
        relapse_at_visit=["yes", 0, None],
    )
    table = registry.visits

    assert found == {("visit_date", tables.UNSORTED, 1, "noted")}
    assert table["patient"].tolist() == [0, 0, 1] and table["visit_date"].dtype == np.int64
    assert table["sdmt"].tolist() == pytest.approx([50, 40, nan], nan_ok=True) and table["relapse_at_visit"].tolist() == [-1, 0, 1]
    assert table["course_at_visit"].tolist() == [-1, 6, 1] and table["course_at_visit"].dtype == np.int8
    assert np.isnan(table["t25fw_s"]).all() and table["visit_id"].tolist() == [""] * 3


def test_patients_stand_in_the_order_of_their_identifiers():
    """Row k of the patients is patient k of every other table; who is not listed has nothing but rows."""
    registry, report = load(
        {"patients": {name: column[::-1] for name, column in PATIENTS.items()}, "visits": {**VISITS, "patient_id": ["a", "b", "c"]}}
    )

    assert registry.ids.tolist() == ["a", "b", "c"] and registry.listed.tolist() == [True, True, False]
    assert registry.patients["birth_year"].tolist() == pytest.approx([1970, 1980, nan], nan_ok=True) and registry.patients[
        "sex"
    ].tolist() == [0, 1, -1]
    assert report.read == report.kept == {"patients": 2, "visits": 3}
    some = registry.only(np.array([False, True, True]))
    assert some.ids.tolist() == ["b", "c"] and some.visits["patient"].tolist() == [0, 1] and some.patients["patient"].tolist() == [0, 1]


def test_columns_for_other_programs_have_names_and_dates():
    """`columns` gives what takes a dict of columns: identifiers and numpy dates."""
    found = load({"patients": {**PATIENTS, "death_date": ["2020-02-03", None]}, "visits": VISITS})[0]

    assert found.columns("visits")["patient_id"].tolist() == ["a", "a", "b"] and found.columns("visits")["visit_date"][0] == np.datetime64(
        "2010-01-01"
    )
    assert found.columns("patients")["death_date"].astype(str).tolist() == ["2020-02-03", "NaT"]


def test_a_month_of_birth_stands_for_the_year():
    """Registries that keep the month need not write the year."""
    source = {name: column for name, column in PATIENTS.items() if name != "birth_year"}
    registry, report = load({"patients": {**source, "birth_month": ["1970-12", "1492-10"]}})

    assert registry.patients["birth_year"].tolist() == pytest.approx([1970, nan], nan_ok=True)
    assert report.count("outside 1880 to 2030", column="birth_month") == 1 and report.count(tables.NO_COLUMN) == 0


def test_names_and_codes_of_treatments_become_one_drug():
    """The name, else the code; where they contradict each other neither is believed."""
    names = ["Rebif", "", "Tysabri", "Medrol", "aspirin", None, "Gilenya"]
    codes = ["", "L04AA31", "L04AA23", "", "", None, "L04AG03"]
    registry, report = load(
        {
            "treatments": {
                "patient_id": list("abcdefg"),
                "dmt_name": names,
                "atc": codes,
                "start_date": ["2010-01-01"] * 7,
                "end_date": [None, "9999-12-31", "2011-01-01", "", "", "", ""],
            }
        }
    )
    drugs, table = registry.treatment_list.names, registry.treatments

    assert [drugs[code] if code >= 0 else code for code in table["dmt"].tolist()] == [
        "interferon beta-1a",
        "teriflunomide",
        "natalizumab",
        -2,
        -1,
        -1,
        -1,
    ]
    assert table["efficacy"].tolist() == [0, 0, 2, -1, -1, -1, -1]
    assert (report.count(tables.CONFLICT), report.count(tables.UNLISTED), report.count(cells.NEEDED)) == (1, 1, 1)
    assert np.isnan(table["end_date"]).tolist() == [True, True, False, True, True, True, True]


# -- bad cells -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("visit_date", "03.04.15", cells.TWO_DIGITS),
        ("visit_date", "3/4/2015", cells.UNDECLARED),
        ("visit_date", "2015/04/03", cells.UNDECLARED),
        ("visit_date", "20150403", cells.UNDECLARED),
        ("visit_date", 20150403, cells.UNDECLARED),
        ("visit_date", 42097, cells.SERIAL),
        ("visit_date", "42097.5", cells.SERIAL),
        ("visit_date", "2015-04", cells.PART),
        ("visit_date", "2015", cells.PART),
        ("visit_date", "2015-04-03T00:00:00Z", cells.ZONE),
        ("visit_date", "2015-04-03 01:00+02:00", cells.ZONE),
        ("visit_date", "2015-02-30", cells.NO_DAY),
        ("visit_date", "2015-04-03 25h", cells.NOT_DATE),
        ("visit_date", "soon", cells.NOT_DATE),
        ("visit_date", True, cells.NOT_DATE),
        ("visit_date", 3.5, cells.NOT_DATE),
        ("visit_date", "", cells.NEEDED),
        ("visit_date", None, cells.NEEDED),
        ("visit_date", nan, cells.NEEDED),
        ("visit_date", "1804-01-01", "outside 1940-01-01 to 2099-12-31"),
        ("visit_date", b"\xff", cells.NOT_UTF8),
        ("visit_date", "\u0662\u0660\u0661\u0665-04-03", cells.NOT_DATE),
        ("visit_date", ["2015-04-03", "x"], cells.NOT_DATE),
        ("patient_id", "", cells.NEEDED),
        ("patient_id", 1e20, cells.INEXACT),
        ("patient_id", "1.23457E+12", cells.SCIENCE),
        ("patient_id", "b\nc", cells.CONTROL),
        ("patient_id", b"Jos\xe9", cells.NOT_UTF8),
    ],
    ids=str,
)
def test_a_row_without_patient_or_date_is_dropped_and_counted(column, cell, rule):
    """Ambiguous dates are violations: nothing is guessed."""
    registry, found = visits(**{column: [*VISITS[column][:2], cell]})

    assert found == {(column, rule, 1, "dropped")} and registry.visits.n == 2


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("edss", "3,5", cells.COMMA),
        ("edss", "three", cells.NOT_NUMBER),
        ("edss", "3.May", cells.NOT_NUMBER),
        ("edss", 11, "outside 0 to 10"),
        ("edss", -1, "outside 0 to 10"),
        ("edss", float("inf"), cells.NOT_NUMBER),
        ("edss", True, cells.NOT_NUMBER),
        ("edss", "1_0", cells.NOT_NUMBER),
        ("edss", "1e400", cells.NOT_NUMBER),
        ("edss", "\u0663", cells.NOT_NUMBER),
        ("edss", b"\xff", cells.NOT_UTF8),
        ("edss", "3.5\x00", cells.NOT_NUMBER),
        ("sdmt", 50.5, cells.NOT_WHOLE),
        ("sdmt", 111, "outside 0 to 110"),
        ("course_at_visit", "RR", cells.NOT_LEVEL),
        ("course_at_visit", 3, cells.NOT_LEVEL),
        ("relapse_at_visit", "maybe", cells.NOT_LEVEL),
        ("relapse_at_visit", 2, cells.NOT_LEVEL),
        ("edss", [1, 2], cells.NOT_NUMBER),
        pytest.param("edss", 10**5000, cells.NOT_NUMBER, id="huge"),
        pytest.param("edss", -(10**400), cells.NOT_NUMBER, id="huge and negative"),
    ],
    ids=str,
)
def test_a_cell_that_says_nothing_is_missing_and_counted(column, cell, rule):
    """The row stays."""
    registry, found = visits(**{column: [None, None, cell]})
    value = registry.visits[column][2]

    assert found == {(column, rule, 1, "missing")} and (np.isnan(value) or value == -1) and registry.visits.n == 3


def test_a_time_of_day_is_cut_off_and_noted():
    """A date with a clock is that day; midnight is nothing to note."""
    registry, found = visits(visit_date=["2010-01-01T10:30", "2010-07-01 00:00:00", pd.Timestamp("2011-03-04 23:59")])

    assert found == {("visit_date", cells.CLOCK, 2, "noted")} and registry.visits["visit_date"].tolist() == [
        day(one) for one in VISITS["visit_date"]
    ]


def test_time_zones_of_typed_columns_are_violations(tmp_path):
    """Midnight in Rome is yesterday in UTC: a typed column with a zone is as ambiguous as text with one."""
    zoned = pd.to_datetime(pd.Series(VISITS["visit_date"])).dt.tz_localize("Europe/Rome")
    pd.DataFrame(VISITS).assign(visit_date=zoned).to_parquet(tmp_path / "visits.parquet")

    for form in ({**VISITS, "visit_date": zoned}, pd.DataFrame(VISITS).assign(visit_date=zoned), tmp_path / "visits.parquet"):
        registry, report = load({"visits": form})
        assert report.count(cells.ZONE) == 3 and registry.visits.n == 0 and accounted(report)


@pytest.mark.parametrize(
    ("dates", "cell", "expected"),
    [
        ("d/m/y", "3/4/2015", "2015-04-03"),
        ("d/m/y", "03.04.2015", "2015-04-03"),
        ("d/m/y", "03-04-2015 00:00", "2015-04-03"),
        ("m/d/y", "3/4/2015", "2015-03-04"),
        ("y/m/d", "2015/4/3", "2015-04-03"),
        ("yyyymmdd", 20150403, "2015-04-03"),
        ("excel", 42097, "2015-04-03"),
        ("excel", "42097", "2015-04-03"),
        ("excel 1904", 40635, "2015-04-03"),
        ("d/m/yy", "3.4.15", "2015-04-03"),
        ("d/m/yy", "3.4.26", "1926-04-03"),
        ("m/d/yy", "3/4/99", "1999-03-04"),
        ("d/m/y", "2015-04-03", "2015-04-03"),
        ("d/m/yy", "3.4.2015", "2015-04-03"),
    ],
)
def test_a_declared_form_is_read(dates, cell, expected):
    """Declared, the same cells are dates; ISO is always understood. Excel's 42097 is 3 April 2015."""
    form = Form(dates=dates, century_ends=2025 if dates.endswith("/yy") else None)

    assert cells.date(cell, form) == (float(day(expected)), "")


@pytest.mark.parametrize(
    ("dates", "cell", "rule"),
    [
        ("d/m/y", "13/13/2015", cells.NO_DAY),
        ("d/m/y", "1/2/15", cells.TWO_DIGITS),
        ("m/d/y", "31/1/2015", cells.NO_DAY),
        ("excel", "3/4/2015", cells.NOT_DATE),
        ("excel", 5, cells.NOT_DATE),
        ("d/m/y", "2015/4/3", cells.UNDECLARED),
        ("d/m/y", "1/2.2015", cells.NOT_DATE),
        ("yyyymmdd", "20151301", cells.NO_DAY),
    ],
)
def test_a_declared_form_is_the_only_one(dates, cell, rule):
    """What does not fit the declaration is a violation, not a second guess."""
    assert cells.date(cell, Form(dates=dates)) == (None, rule)


def test_forms_are_declared_by_table(tmp_path):
    """Decimal commas, day before month and an encoding, for one file and not for the other."""
    (tmp_path / "visits.csv").write_bytes(
        "patient_id;visit_date;edss\nJosé;3.4.2015;3,5\nJosé;4.4.2016;4\nJosé;4.4.2017;4.5\n".encode("latin-1")
    )
    forms = {"visits": Form(dates="d/m/y", decimal=",", encoding="latin-1")}
    registry, report = load(
        {"visits": tmp_path / "visits.csv", "relapses": {"patient_id": ["José"], "relapse_onset_date": ["3.4.2015"]}}, forms=forms
    )

    assert registry.ids.tolist() == ["José"] and registry.visits["edss"].tolist() == pytest.approx([3.5, 4, nan], nan_ok=True)
    assert report.count(cells.POINT) == 1 and report.count(cells.UNDECLARED, column="relapse_onset_date") == 1


def test_an_end_that_cannot_be_read_is_not_a_treatment_that_goes_on():
    """The row is dropped: an empty end date would say that the patient is still treated."""
    registry, report = load(
        {
            "treatments": {
                "patient_id": ["a", "b"],
                "dmt_name": ["Rebif", "Rebif"],
                "start_date": ["2010-01-01"] * 2,
                "end_date": ["2011", None],
            }
        }
    )

    assert registry.treatments.n == 1 and report.count(cells.PART, column="end_date") == 1 and accounted(report)


# -- bad files -------------------------------------------------------------------------------------------------------------

HEAD = "patient_id,visit_date,edss\n"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (b"\xff\xfe" + HEAD.encode("utf-16-le"), "is not UTF-8 text"),
        (HEAD.encode("utf-16-be"), "is not UTF-8 text"),
        (b"PK\x03\x04\x14\x00\x06\x00workbook", "is not UTF-8 text"),
        ("a,a\n1,2\n", "used twice"),
        (HEAD + 'a,"2010-01-01,2\n' * 3, None),
    ],
    ids=["empty", "blank", "utf-16", "utf-16 without mark", "workbook", "a column twice", "open quotes"],
)
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path, content, rule):
    """Refused in the report, not with a traceback; using the table is an error that points to the report."""
    registry, found = csv(tmp_path, content)

    assert found and all(one[0] == "visits.csv" for one in found)
    if rule:
        assert len(found) == 1 and rule in found[0][2] and found[0][4] == "refused"
        with pytest.raises(InputError, match="visits could not be used"):
            _ = registry.visits
        assert registry.relapses.n == 0


@pytest.mark.parametrize("content", [b"PAR1", b"", bytes(200)])
def test_a_damaged_parquet_file_is_refused(tmp_path, content):
    """Half a file."""
    _, found = csv(tmp_path, content, name="visits.parquet")

    assert [one[4] for one in found] == ["refused"]


def test_files_of_other_encodings(tmp_path):
    """One latin-1 cell costs one cell; a declared encoding costs none; a wrong declaration refuses the file."""
    text = HEAD.replace("\n", ",town\n") + "José,2010-01-01,2,Århus\nb,2010-01-01,3,Gent\n"

    registry, found = csv(tmp_path, text.encode("latin-1"))
    assert found == [("visits.csv", "patient_id", cells.NOT_UTF8, 1, "dropped")] and registry.visits.n == 1
    for encoding in ("latin-1", "utf-16", "cp1252"):
        assert csv(tmp_path, text.encode(encoding), forms=Form(encoding=encoding))[0].ids.tolist() == ["José", "b"]
    assert csv(tmp_path, text.encode("latin-1"), forms=Form(encoding="ascii"))[1][0][4] == "refused"
    assert csv(tmp_path, text, forms=Form(encoding="klingon"))[1][0][4] == "refused"


@pytest.mark.parametrize(
    ("source", "column"), [({"visit_date": ["2010-01-01"]}, "patient_id"), ({"patient_id": ["a"], "date": ["2010-01-01"]}, "visit_date")]
)
def test_a_missing_key_column_refuses_the_table(source, column):
    """Without patient or date there is no visit. Other columns are not named: a lost first line would make them patients' cells."""
    registry, report = load({"visits": source})

    assert (column, tables.NO_COLUMN, 1, "refused") in {(one.column, one.rule, one.count, one.effect) for one in report.findings}
    assert registry.refused == {"visits"} and not report.ignored and not report.absent


def test_other_capitals_are_told_from_a_column_that_is_not_there():
    """PATIENT_ID is not patient_id, and EDSS is not edss: the report says why nothing was read."""
    registry, found = visits(EDSS=[1, 2, 3])
    assert not found and registry.visits["edss"].tolist() == VISITS["edss"]
    report = load({"visits": {"PATIENT_ID": ["a"], "visit_date": ["2010-01-01"]}})[1]
    assert report.count(tables.CAPITALS, column="patient_id") == 1 and not report.ok
    report = load({"visits": {"patient_id": ["a"], "visit_date": ["2010-01-01"], "EDSS": [2]}})[1]

    assert report.count(tables.CAPITALS, column="edss") == 1 and ("visits", "EDSS") in report.ignored


def test_a_file_without_its_first_line_gives_no_patient_away(tmp_path):
    """The first patient's cells are not repeated as names of columns."""
    (tmp_path / "visits.csv").write_text("jane.doe,2010-01-01,2.5\njohn.roe,2010-01-02,3.5\n", encoding="utf-8")
    text = " ".join(load(tmp_path)[1].lines())

    assert "jane" not in text and "john" not in text and tables.NO_COLUMN in text


def test_columns_that_should_be_there_are_counted_and_others_are_said_to_be_absent():
    """A registry without sex or birth loads, and the report says what it lacks."""
    registry, report = load(
        {"patients": {"patient_id": ["a", "b"], "site_id": ["s", ""], "entry_date": ["2000-01-01"] * 2}, "visits": VISITS}
    )
    found = {(one.column, one.rule, one.count, one.effect) for one in report.findings if one.file == "patients"}

    assert found == {
        ("sex", tables.NO_COLUMN, 2, "missing"),
        ("birth_year", tables.NO_COLUMN, 2, "missing"),
        ("site_id", cells.NEEDED, 1, "missing"),
    }
    assert ("patients", "death_date") in report.absent and registry.patients["sex"].tolist() == [-1, -1]


def test_tables_not_given_have_no_rows_and_the_report_says_so():
    """No MRI is no MRI, said aloud."""
    registry, report = load({"visits": VISITS})

    assert registry.mri.n == 0 and "mri_date" in registry.mri.columns and registry.listed.all()
    assert {one.file for one in report.findings if one.rule == tables.NO_FILE} == {"patients", "relapses", "treatments", "mri"}


@pytest.mark.parametrize(
    ("line", "rule", "effect"),
    [
        ("a,2010-01-01", "line with more or fewer cells than the first line", "dropped"),
        ("a,2010-01-01,2,3", "line with more or fewer cells than the first line", "dropped"),
        ("a,01.02.10,2", cells.TWO_DIGITS, "dropped"),
        ('a,2010-01-01,"2,5"', cells.COMMA, "missing"),
        (",,", cells.NEEDED, "dropped"),
    ],
)
def test_a_million_rows_with_one_bad_one(tmp_path, line, rule, effect):
    """One line among a million is found, counted and costs nothing else."""
    n = 1_000_000
    good = "\n".join(f"p{k % 9973},20{k % 20 + 10}-{k % 12 + 1:02d}-{k % 28 + 1:02d},{k % 19 / 2}" for k in range(1000)) + "\n"
    registry, found = csv(tmp_path, HEAD + good * (n // 2000) + line + "\n" + good * (n // 2000))
    found = [one for one in found if one[2] != tables.UNSORTED]

    assert [(one[2], one[3], one[4]) for one in found] == [(rule, 1, effect)]
    assert registry.visits.n == n + (effect != "dropped")


def test_lines_that_a_stray_quotation_mark_swallows_are_counted(tmp_path):
    """A quote that is never closed in a free-text column would hide the rows after it."""
    text = HEAD.replace("\n", ",notes\n") + 'a,2010-01-01,2,"fell\nb,2010-01-02,3,ok\nc,2010-01-03,4,"\nd,2010-01-04,5,ok\n'
    registry, found = csv(tmp_path, text)

    assert registry.visits.n == 2 and ("visits.csv", "", "line break inside a quoted cell", 2, "noted") in found


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old macintosh"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_files_of_all_kinds_read_alike(tmp_path, delimiter, end):
    """Byte order marks, blank lines, line ends and delimiters do not matter."""
    text = "\ufeff" + (HEAD + "\na,2010-01-01,2\n\nb,2010-01-02,3\n").replace(",", delimiter).replace("\n", end)
    registry, found = csv(tmp_path, text)

    assert not found and registry.ids.tolist() == ["a", "b"] and registry.visits["edss"].tolist() == [2, 3]


def test_a_file_with_its_first_line_only_is_an_empty_table(tmp_path):
    """With or without a line end."""
    for text in (HEAD, HEAD.strip()):
        registry, found = csv(tmp_path, text)
        assert registry.visits.n == 0 and not found


def test_patients_listed_twice():
    """Equal rows are one patient; rows that disagree are none, and both are counted."""
    source = {name: [column[0], column[0], column[1], column[1]] for name, column in PATIENTS.items()} | {"sex": ["F", "F", "M", "F"]}
    registry, report = load({"patients": source, "visits": VISITS})

    assert registry.listed.tolist() == [True, False] and accounted(report)
    assert (report.count(tables.TWICE), report.count(tables.DISAGREE), report.kept["patients"]) == (1, 2, 1)


def test_one_identifier_however_it_is_written():
    """1, 1.0 and "1" are one patient; 01 is another."""
    registry, _ = load(
        {"visits": {**VISITS, "patient_id": [1.0, "1", "01"]}, "relapses": {"patient_id": [1], "relapse_onset_date": ["2010-01-01"]}}
    )

    assert registry.ids.tolist() == ["01", "1"] and registry.visits["patient"].tolist() == [0, 1, 1]


def test_both_files_of_a_table_are_one_too_many(tmp_path):
    """Which one is meant is not guessed."""
    pd.DataFrame(VISITS).to_csv(tmp_path / "visits.csv", index=False)
    pd.DataFrame(VISITS).to_parquet(tmp_path / "visits.parquet")
    registry, report = load(tmp_path)

    assert report.count(tables.BOTH) == 1 and registry.refused == {"visits"}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: load("/no/such/folder"), "no folder"),
        (lambda: load({"visitz": VISITS}), "not a table"),
        (lambda: load({"visits": VISITS}, forms={"v": Form()}), "not a table"),
        (lambda: load(5), "a folder or a mapping"),
        (lambda: load({}), "no table"),
        (lambda: Form(dates="d.m.y"), "not a form"),
        (lambda: Form(decimal="'"), "decimal"),
        (lambda: Form(dates="d/m/yy"), "century_ends"),
        (
            lambda: load(
                {"visits": VISITS}, codebook=Dictionary.from_dict({"name": "d", "variables": [{"name": "sex", "type": "boolean"}]})
            ),
            "no variable",
        ),
    ],
    ids=["folder", "table", "form of a table", "kind", "nothing", "dates", "decimal", "century", "dictionary"],
)
def test_a_call_that_makes_no_sense_is_an_error(call, words):
    """Bad data go into the report, bad calls do not."""
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(
    "table",
    [
        5,
        [1, 2],
        {"patient_id": 5},
        {"patient_id": ["a"], "visit_date": []},
        {"patient_id": np.zeros((2, 2)), "visit_date": [1, 2]},
        {"patient_id": "a", "visit_date": "b"},
        {},
        pd.DataFrame(),
        pd.DataFrame([[1, 2]], columns=["patient_id", "patient_id"]),
    ],
    ids=["number", "list", "scalar", "lengths", "matrix", "texts", "nothing", "empty frame", "twice"],
)
def test_what_is_no_table_is_refused_in_the_report(table):
    """In memory as on disk."""
    registry, report = load({"visits": table})

    assert registry.refused == {"visits"} and any(one.effect == "refused" for one in report.findings)


CELLS = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2),
    st.sampled_from(["2010-01-01", "1.5", "F", "a", "01/02/2010", "2010-01-01T10:00Z"]),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(tables.COLUMNS)), st.data())
def test_any_cells_at_all_give_a_report(name, data):
    """Whatever stands in the cells: no traceback, and every row is kept or counted."""
    n = data.draw(st.integers(0, 4))
    columns = {column.rstrip("*+!"): data.draw(st.lists(CELLS, min_size=n, max_size=n)) for column in tables.COLUMNS[name]}
    registry, report = load({name: columns})

    assert accounted(report) and report.read[name] == n and (name == "patients" or registry.table(name).n == report.kept[name])


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200).map(lambda tail: HEAD.encode() + tail)
    | st.binary(max_size=60)
    | st.text(max_size=80).map(lambda text: (HEAD + text).encode())
)
def test_any_bytes_at_all_give_a_report(tmp_path_factory, content):
    """Whatever stands in the file."""
    path = tmp_path_factory.mktemp("any") / "visits.csv"
    path.write_bytes(content)

    assert accounted(load({"visits": path})[1])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["a", ",", "\n", '"', "2010-01-01", '"",', "\r\n"]), max_size=30).map("".join))
def test_no_line_of_a_file_disappears(tmp_path_factory, body):
    """However quotation marks stand: a line is a row, a row that does not fit, or counted as inside a quoted cell."""
    path = tmp_path_factory.mktemp("lines") / "visits.csv"
    path.write_bytes((HEAD + body).encode())
    report = load({"visits": path})[1]
    lines = sum(bool(line.strip()) for line in body.replace("\r\n", "\n").split("\n"))

    assert accounted(report) and report.read["visits"] + report.count("line break inside a quoted cell") >= lines


def test_a_report_has_counts_and_never_values():
    """What breaks a rule is nowhere in the report, in no form of it."""
    registry, report = load({"visits": {**VISITS, "edss": ["4711", "Jane", 2], "visit_date": ["2010-01-01", "12.12.47", "x.y.zz"]}})
    text = " ".join(report.lines()) + repr(report) + json.dumps(report.to_dict()) + repr(registry) + repr(registry.visits)

    assert (
        not any(word in text for word in ("4711", "Jane", "12.12.47", "x.y.zz"))
        and 'visits, column "visit_date": year of two digits: 1 (rows dropped)' in report.lines()
    )


def test_reports_go_into_files():
    """The form is in schemas/."""
    report = load({"visits": {**VISITS, "edss": ["x", 2, 3]}})[1]

    jsonschema.Draft202012Validator(json.loads(schemas.text("ms_load_report.json"))).validate(json.loads(json.dumps(report.to_dict())))


# -- the form of the tables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "fine"),
    [
        ({}, True),
        ({"edss": 2.5, "sdmt": None, "course_at_visit": "RRMS", "relapse_at_visit": True}, True),
        ({"edss": 0.5}, False),
        ({"edss": 2.25}, False),
        ({"edss": 10.5}, False),
        ({"course_at_visit": "RR"}, False),
        ({"course_at_visit": None}, True),
        ({"visit_date": None}, False),
        ({"sdmt": 50.5}, False),
    ],
    ids=str,
)
def test_the_schema_of_the_visits_says_what_loading_says(row, fine):
    """EDSS 0.5 does not exist; empty cells are null; keys are needed."""
    checker = jsonschema.Draft202012Validator(json.loads(schemas.text("ms_visits.json")))

    assert checker.is_valid([{"patient_id": "a", "visit_date": "2010-01-01"} | row]) == fine
    assert not checker.is_valid([{"visit_date": "2010-01-01"}])


def test_the_dictionary_has_every_column_and_cuts_it():
    """Every variable can be cut into groups, none is named twice, and every column of a table is a variable or text."""
    book = tables.dictionary()

    assert all(len(book.bins(name)) > 1 for name in book.names)
    assert {column.rstrip("*+!") for columns in tables.COLUMNS.values() for column in columns} <= {*book.names, *tables.WORDS}
    jsonschema.Draft202012Validator(json.loads(schemas.text("dictionary.json"))).validate(json.loads(json.dumps(book.to_dict())))
