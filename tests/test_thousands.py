"""Signs between thousands: never read as decimals in some rows of a column only."""

import pytest

import fedstats
from fedstats.data.draft import draft
from fedstats.data.forms import as_form
from fedstats.data.rows import load
from fedstats.errors import InputError

BOOK = fedstats.Dictionary.from_dict(
    {"name": "cells", "variables": [{"name": "lymphocytes", "type": "number", "range": [0, 9000]}]}
)
SCORE = fedstats.Dictionary.from_dict(
    {"name": "score", "variables": [{"name": "lymphocytes", "type": "number", "range": [0, 90]}]}
)
WHOLE = fedstats.Dictionary.from_dict(
    {"name": "whole", "variables": [{"name": "lymphocytes", "type": "integer", "range": [0, 9000]}]}
)
WRITTEN = {
    "points": (("1.234", "567"), {"thousands": ".", "decimal": ","}),
    "commas": (("1,234", "567"), {"thousands": ","}),
    "blanks": (("1 234", "567"), {"thousands": " "}),
    "narrow blanks": (("1\u202f234", "567"), {"thousands": " "}),
    "apostrophes": (("1'234", "567"), {"thousands": "'"}),
    "points and decimals": (("1.234,0", "567,0"), {"thousands": ".", "decimal": ","}),
    "commas and decimals": (("1,234.0", "567.0"), {"thousands": ","}),
}


def read(cells, form=None, book=BOOK):
    rows, report = load({"lymphocytes": list(cells)}, book, form=as_form(form))
    return rows.values("lymphocytes").tolist(), report.undeclared


@pytest.mark.parametrize("written", WRITTEN)
def test_thousands_stop_loading_until_they_are_declared(written):
    """A count of 1 234 is never loaded as 1.234; with the line to write it is 1 234."""
    cells, form = WRITTEN[written]
    _, undeclared = read(cells * 30)

    assert any(f'thousands = "{form["thousands"]}"' in one.line for one in undeclared)
    with pytest.raises(InputError, match="thousands"):
        fedstats.pooled({k: {"lymphocytes": list(cells) * 30} for k in "abc"}, dictionary=BOOK)
    assert read(cells, form) == ([1234.0, 567.0], ())


def test_a_decimal_comma_declared_for_thousands_is_found_out():
    """Whoever writes decimal = "," for 1,234 beside 567 is asked again."""
    assert any('thousands = ","' in one.line for one in read(["1,234", "567"], {"decimal": ","})[1])


@pytest.mark.parametrize(
    "cells", [["1.25", "567"], ["1.234", "0.567", "2"], ["1.234", "1200"], ["1.234", "2.345"]]
)
def test_decimals_are_not_taken_for_thousands(cells):
    """Other numbers of decimals, a leading nought, whole numbers beyond a thousand, all decimals."""
    assert read(cells) == ([float(cell) for cell in cells], ())


def test_thousands_are_asked_for_only_where_the_range_has_them():
    """A score up to 90 has none; whole numbers can be nothing else; "none" answers for decimals."""
    assert read(["1.234", "67"], book=SCORE)[1] == ()
    assert read(["1.234", "2.345"], book=WHOLE)[1]
    assert read(["1.234", "567"], {"thousands": "none"}) == ([1.234, 567.0], ())


def test_one_sign_is_not_both():
    with pytest.raises(InputError, match="both"):
        as_form({"thousands": ".", "decimal": "."})


def test_a_draft_does_not_guess_thousands():
    """With the line the range is that of the counts."""
    cells = ["1.234", "567", "891", "2.345"] * 5
    with pytest.raises(InputError) as caught:
        draft({"lymphocytes": cells}, "cells")
    assert "decimals or thousands?" in caught.value.hint
    made = draft({"lymphocytes": cells}, "cells", form=as_form({"thousands": ".", "decimal": ","}))
    assert made.source["variables"][0]["range"][1] >= 2345


def test_a_file_with_another_separator_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("patient_id|lymphocytes\n1|2\n")
    with pytest.raises(InputError, match="one column only"):
        load(tmp_path / "a.csv", BOOK)
