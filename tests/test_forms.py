"""Files in a form that nobody declared: they stop loading, with the line to write; with the line they load right."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

import fedstats
from fedstats.data import cells
from fedstats.data.cells import Form
from fedstats.data.forms import as_form, read_form
from fedstats.data.rows import load
from fedstats.errors import InputError
from fedstats.ms.tables.registry import dictionary as shipped_book
from fedstats.query.population import Codebook, load_treatments, read, survey

BOOK = fedstats.Dictionary.from_dict(
    {
        "name": "flat",
        "variables": [
            {"name": "size", "type": "number", "range": [0, 3], "step": 0.01, "cut_points": [1, 2]},
            {"name": "start", "type": "date", "range": ["2000-01-01", "2030-12-31"]},
            {"name": "sex", "type": "category", "levels": ["F", "M"]},
            {"name": "smoker", "type": "boolean"},
        ],
    }
)
GOOD = {"size": "1", "start": "2015-03-31", "sex": "F", "smoker": "1"}


def table(of=200, bad=50, **other):
    """So many rows; in the first `bad` ones these columns have other cells."""
    return {
        name: [other.get(name, cell)] * bad + [cell] * (of - bad) for name, cell in GOOD.items()
    }


def refusal(source, book=BOOK, form=None):
    with pytest.raises(InputError) as caught:
        read(source, Codebook(book), who="lyon", form=form)
    assert caught.value.exit_code == 2 and caught.value.what.startswith("lyon: ")
    return str(caught.value)


FORMS = {
    "decimal comma": (
        {"size": "1,0"},
        'column "size": decimal commas: 25 % of the values; write: decimal = ","',
        'decimal = ","',
    ),
    "days first": ({"start": "31.03.2015"}, 'write: dates = "d/m/y"', 'dates = "d/m/y"'),
    "months first": ({"start": "03/31/2015"}, 'write: dates = "m/d/y"', 'dates = "m/d/y"'),
    "years first": ({"start": "2015/03/31"}, 'write: dates = "y/m/d"', 'dates = "y/m/d"'),
    "without signs": ({"start": "20150331"}, 'write: dates = "yyyymmdd"', 'dates = "yyyymmdd"'),
    "two digits": (
        {"start": "31.03.15"},
        'dates = "d/m/yy", and century_ends',
        'dates = "d/m/yy"\ncentury_ends = 2025',
    ),
    "Excel": ({"start": "42094"}, 'dates = "excel"', 'dates = "excel"'),
    "levels": (
        {"sex": "weiblich"},
        "write for each word: levels.sex = {",
        'levels.sex.weiblich = "F"',
    ),
    "booleans": ({"smoker": "ja"}, "levels.smoker = {", 'levels.smoker = { ja = "true" }'),
    "units": ({"size": "1.0 m"}, "levels.size = {", 'levels.size = { "1.0 m" = 1 }'),
}


@pytest.mark.parametrize(("bad", "says", "line"), FORMS.values(), ids=FORMS)
def test_a_form_that_is_not_declared_is_named_and_stops_and_its_line_mends_it(bad, says, line):
    """The form, the share, the line; never the cell. With the line the column is that of the other rows."""
    text = refusal(table(**bad))
    assert says in text and "25 %" in text and not any(cell in text for cell in bad.values())

    rows = read(table(**bad), Codebook(BOOK), form=read_form(line))[0].data
    (name,) = bad
    assert rows.present(name).all() and len(set(rows.values(name).tolist())) == 1


def test_a_slip_now_and_then_is_counted_and_does_not_stop():
    """Two cells of 200: exactly one in a hundred. Three are more; the share is a setting."""
    report = read(table(bad=2, size="1,5"), Codebook(BOOK))[1]
    assert report.violations == {("size", cells.COMMA): 2} and report.undeclared[0].share == 0.01

    assert "1.5 %" in refusal(table(bad=3, size="1,5"))
    assert read(table(bad=3, size="1,5"), Codebook(BOOK), form=Form(undeclared=0.02))[0].n == 200
    assert "0.5 %" in refusal(table(bad=1, size="1,5"), form=Form(undeclared=0))


def test_values_that_were_read_do_not_stop():
    """Out of range, off the grid, empty: missing, and no matter of form."""
    for cell in ("7", "1.555", "", "NA"):
        assert read(table(size=cell), Codebook(BOOK))[0].n == 200


def test_the_share_is_of_the_values_that_are_there():
    """Half of the few cells that are filled in, not a hundredth of all rows."""
    source = table(of=1000, bad=5, size="1,5")
    source["size"][5:] = ["1"] * 5 + [""] * 990
    assert "50 %" in refusal(source)


def test_all_ways_to_give_a_table_have_one_judge(tmp_path):
    """CSV, dict, data frame, Arrow, Parquet: the same cells, the same verdicts. No library reads a date."""
    bad = {
        "size": ["1_0", "\u0661", "1.5", "1e0"],
        "start": ["2020-01-01garbage", "2020-W01-1", "31/02/2020", "01/02/20"],
    }
    pd.DataFrame(bad).to_csv(tmp_path / "t.csv", index=False)
    pyarrow.parquet.write_table(pa.table(bad), tmp_path / "t.parquet")
    for source in (
        bad,
        pd.DataFrame(bad),
        pd.DataFrame(bad).astype("category"),
        pa.table(bad),
        tmp_path / "t.csv",
        tmp_path / "t.parquet",
    ):
        rows, report = load(source, BOOK)
        assert report.violations == {
            ("size", cells.NOT_NUMBER): 2,
            ("start", cells.NOT_DATE): 2,
            ("start", cells.UNDECLARED): 1,
            ("start", cells.TWO_DIGITS): 1,
        }
        assert rows.values("size")[2:].tolist() == [1.5, 1] and not rows.present("start").any()


def test_clocks_are_noted_and_time_zones_are_not_days():
    """Cut off and said; with a zone nobody knows which day it was."""
    rows, report = load({"start": pd.to_datetime(["2020-01-01 10:00", "2020-01-02 00:00"])}, BOOK)
    assert (
        rows.present("start").all()
        and report.noted == {("start", cells.CLOCK): 1}
        and not report.violations
    )

    rows, report = load(
        {"start": pd.to_datetime(["2020-01-01 10:00", "2020-01-02 00:00"]).tz_localize("UTC")}, BOOK
    )
    assert not rows.present("start").any() and report.violations == {("start", cells.ZONE): 2}


MS = shipped_book()
UMLAUTS = fedstats.Dictionary.from_dict(
    {
        "name": "u",
        "variables": [
            {"name": "Schübe", "type": "integer", "range": [0, 50]},
            {"name": "raucht", "type": "category", "levels": ["ja", "weiß nicht"]},
        ],
    }
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1", "utf-16"])
@pytest.mark.parametrize("written", ["Schübe", "Schu\u0308be"], ids=["composed", "decomposed"])
def test_names_and_levels_outside_ascii(tmp_path, encoding, written):
    """In headers and cells, in the encoding that was declared, composed or not; in filters and questions, too."""
    if written != "Schübe" and not encoding.startswith("utf"):
        pytest.skip("this encoding has no combining marks")
    (tmp_path / "t.csv").write_bytes(f"{written};raucht\n3;weiß nicht\n4;ja\n".encode(encoding))
    rows, report = load(tmp_path / "t.csv", UMLAUTS, form=Form(encoding=encoding))

    assert (
        report.ok
        and rows.values("Schübe").tolist() == [3, 4]
        and rows.steps("raucht").tolist() == [1, 0]
    )
    asked = fedstats.pooled(
        {"a": tmp_path / "t.csv"}, dictionary=UMLAUTS, form={"encoding": encoding}
    ).cohort([(written, ">=", 4)])
    assert asked.summary([written]).to_dict() == asked.summary(["Schübe"]).to_dict()


def test_another_encoding_is_named_and_no_character_is_lost(tmp_path):
    """A file of Windows without a word about it."""
    (tmp_path / "t.csv").write_bytes("Schübe,raucht\n3,weiß nicht\n".encode("cp1252"))
    with pytest.raises(InputError) as caught:
        load(tmp_path / "t.csv", UMLAUTS)
    assert "is not UTF-8 text" in str(caught.value) and 'encoding = "cp1252"' in caught.value.hint


# -- tables of MS --------------------------------------------------------------------------------------------------------------


def german(n=150):
    """An export as some registries make it."""
    who = [f"P{k}" for k in range(n)]
    return {
        "patients": pd.DataFrame(
            {
                "patient_id": who,
                "sex": ["w", "m", "d"] * (n // 3),
                "birth_year": ["30.10.1972"] * n,
                "entry_date": ["01.02.2010"] * n,
            }
        ),
        "visits": pd.DataFrame(
            {
                "patient_id": who,
                "visit_date": ["31.01.2012"] * n,
                "edss": ["1,5", "2", "3,5"] * (n // 3),
            }
        ),
        "relapses": pd.DataFrame(
            {"patient_id": who, "relapse_onset_date": ["13.10.2011"] * n, "steroids": ["ja"] * n}
        ),
    }


GERMAN = {
    "decimal": ",",
    "dates": "d/m/y",
    "levels": {"sex": {"w": "F", "m": "M", "d": "U"}, "steroids": {"ja": True, "nein": False}},
}


def test_an_export_in_another_form_is_refused_and_loads_when_it_is_declared():
    """ "1,5" was missing and "2" was not; now neither is, or nothing loads."""
    with pytest.raises(InputError) as caught:
        fedstats.pooled({"bonn": german()}, data_cut="2020-01-01")
    text = str(caught.value)
    for part in (
        'visits, column "edss": decimal commas: 67 %',
        'decimal = ","',
        'dates = "d/m/y"',
        "levels.sex",
        "levels.steroids",
        'column "birth_year": not numbers: all of the values; write: dates = "d/m/y"',
    ):
        assert part in text
    assert "[form] in node.toml" in caught.value.hint and "30.10" not in text

    for form in (GERMAN, {"bonn": GERMAN}, as_form(GERMAN)):
        assert fedstats.pooled({"bonn": german()}, data_cut="2020-01-01", form=form)
    held, report = read(german(), Codebook(MS, load_treatments(None)), form=as_form(GERMAN))
    registry = held.data.registry
    assert (
        not report.undeclared
        and registry.visits["edss"].tolist()[:2] == [1.5, 2]
        and (registry.relapses["steroids"] == 1).all()
    )
    assert (registry.patients["birth_year"] == 1972).all() and (registry.patients["sex"] >= 0).all()


def test_tables_may_have_forms_of_their_own():
    """Visits from one program, everything else from another."""
    source = german()
    source["visits"] = source["visits"].assign(visit_date="2012-01-31", edss=2.5)
    form = as_form({**GERMAN, "tables": {"visits": {}}})
    registry = survey(source, Codebook(MS, load_treatments(None)), form=form)[0].data.registry

    assert (registry.visits["edss"] == 2.5).all()
    with pytest.raises(InputError, match="not a table"):
        survey(source, Codebook(MS, load_treatments(None)), form=as_form({"tables": {"visit": {}}}))


def test_findings_come_first_and_rules_that_found_nothing_last():
    """A manager reads the first lines."""
    lines = survey(german(), Codebook(MS, load_treatments(None)))[1].lines()

    first = next(k for k, line in enumerate(lines) if "rows read" in line)
    assert "decimal commas" in " ".join(lines[:first]) and all(
        not line.endswith(": 0") for line in lines[:first]
    )
    zeros = [line.endswith(": 0") for line in lines]
    assert zeros == sorted(zeros) and any(zeros)


def test_commas_that_tear_lines_apart_are_named(tmp_path):
    """1,5 without quotation marks in a file with commas between its cells: the line is gone, that of "2" is not."""
    (tmp_path / "visits.csv").write_text(
        "patient_id,visit_date,edss\n" + "a,2012-01-01,1,5\n" * 2 + "a,2013-01-01,2\n" * 8
    )
    with pytest.raises(
        InputError, match="line with more or fewer cells than the first line: 20 % of the lines"
    ):
        read(tmp_path, Codebook(MS, load_treatments(None)))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('dates = "d.m.y"', "dates"),
        ("decimal = 1", "decimal"),
        ("comma = true", "unknown field"),
        ("decimal = ,", "not TOML"),
        ("undeclared = 2", "share"),
    ],
)
def test_a_form_that_is_none_is_refused(source, says):
    with pytest.raises(InputError, match=says):
        read_form(source)


@pytest.mark.parametrize(
    "relapses",
    [
        pd.DataFrame(columns=["patient_id", "relapse_onset_date"]),
        pd.DataFrame(columns=["patient_id", "relapse_onset_date"]).astype(float),
        pd.DataFrame(columns=["patient_id", "relapse_onset_date"]).astype("category"),
        {"patient_id": [], "relapse_onset_date": []},
        pa.table({"patient_id": pa.nulls(0), "relapse_onset_date": pa.nulls(0)}),
    ],
    ids=["object", "float", "category", "dict", "arrow"],
)
def test_a_table_without_rows_loads_whatever_its_types(relapses):
    """Nobody had a relapse: that is an answer, not an error."""
    from fedstats.ms.outcomes.progression import worsening

    visits = pd.DataFrame(
        {
            "patient_id": ["a"] * 3,
            "visit_date": ["2012-01-01", "2013-01-01", "2013-07-01"],
            "edss": [2.0, 3.0, 3.0],
        }
    )
    source = {
        "patients": pd.DataFrame({"patient_id": ["a"], "birth_year": [1980], "sex": ["F"]}),
        "visits": visits,
        "relapses": relapses,
    }
    federation = fedstats.pooled({"x": source}, data_cut="2020-01-01")

    found = federation.cohort(
        {"index": {"event": "first_visit"}, "covariates": ["relapses_12m"]}
    ).summary(["relapses_12m"])
    assert found.columns[0].n == 1
    nobody = {"patient_id": np.zeros(0), "relapse_onset_date": np.zeros(0)}
    assert worsening(visits, nobody).flow["events"] == 1


def test_a_draft_names_the_form_and_follows_it():
    """A dictionary drafted from decimal commas would list "1,5" as a level; from garbage as dates, dates."""
    from fedstats.data.draft import draft

    columns = {
        "size": ["1,5", "2", "1,75", "2,25"] * 10,
        "start": ["31.03.2015", "01.04.2016"] * 20,
        "age": [str(20 + k // 2) for k in range(40)],
        "odd": ["2020-01-01x", "2020-01-02x"] * 20,
        "Gr\u006f\u0308\u00dfe": ["a", "b"] * 20,
    }
    columns = {name: np.array(cells, dtype=object) for name, cells in columns.items()}
    plain = draft(columns, "t")
    assert 'decimal = ","' in " ".join(plain.skipped) and 'dates = "d/m/y"' in " ".join(plain.skipped)
    assert set(plain.dictionary.names) == {"age", "odd", "Größe"}
    assert plain.dictionary["odd"].type == "category"

    found = draft(columns, "t", form=Form(decimal=",", dates="d/m/y")).dictionary
    assert (found["size"].type, found["size"].step, found["start"].type) == ("number", 0.25, "date")
