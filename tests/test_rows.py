"""Rows: what loading makes of a table, what it counts, and what filters keep."""

import datetime

import numpy as np
import pandas as pd
import pytest

from fedstats import Dictionary
from fedstats.data import cells
from fedstats.data.filters import DEEPEST, MOST_CONDITIONS, check_filter, filter_columns, keep, normal_filter
from fedstats.data.rows import load
from fedstats.errors import InputError, QuestionError

from . import every

WHOLE = Dictionary.from_dict(every.DICTIONARY)


def loaded(values, who="", **fields):
    """A column v of one variable."""
    return load({"v": values}, Dictionary.from_dict({"name": "one", "variables": [{"name": "v", **fields}]}), who=who)


def values(column, **fields):
    rows, report = loaded(column, **fields)
    return rows.values("v").tolist(), {rule: count for (_, rule), count in report.violations.items()}


NUMBER, HALVES = {"type": "number", "range": [0, 10]}, {"type": "number", "range": [0, 10], "step": 0.5}
nan = float("nan")


@pytest.mark.parametrize(("column", "fields", "expected", "broken"), [
    (["1", " 2.5 ", "1e1", "", "NA", "n/a", "."], NUMBER, [1, 2.5, 10, nan, nan, nan, nan], {}),
    (["3,5", "abc", "1"], NUMBER, [nan, nan, 1], {cells.COMMA: 1, cells.NOT_NUMBER: 1}),
    (["1_000", "\u0661", "4e0"], NUMBER, [nan, nan, 4], {cells.NOT_NUMBER: 2}),
    ([True, False, None], {"type": "integer", "range": [0, 1]}, [1, 0, nan], {}),
    ([True, 2], {"type": "integer", "range": [0, 10]}, [nan, 2], {cells.NOT_NUMBER: 1}),
    ([-1, 0, 10, 11], NUMBER, [nan, 0, 10, nan], {"outside 0 to 10": 2}),
    ([float("inf"), 1.0, nan], NUMBER, [nan, 1, nan], {"not a number": 1}),
    ([3.5, 3.25, 0.1 * 5], HALVES, [3.5, nan, 0.5], {"not a multiple of 0.5": 1}),
    (["1.0", "2", 3, None], {"type": "integer", "range": [0, 10]}, [1, 2, 3, nan], {}),
    ([1.5, 2.0], {"type": "integer", "range": [0, 10]}, [nan, 2], {"not a multiple of 1": 1}),
    ([2, 3, 8], {"type": "integer", "levels": [2, 4, 8]}, [2, nan, 8], {"not a level": 1}),
    ([-9, 5, "-9.0", 99], {"type": "integer", "range": [0, 10], "missing": [-9, 99]}, [nan, 5, nan, nan], {}),
    (["unknown", "5", "what"], {"type": "integer", "range": [0, 10], "missing": ["unknown"]}, [nan, 5, nan], {"not a number": 1}),
    (["F", "M", " F ", "X", "", None], {"type": "category", "levels": ["F", "M"]}, [0, 1, 0, nan, nan, nan], {"not a level": 1}),
    ([1, 1.0, "1", "1.0", 2], {"type": "category", "levels": [1, 2]}, [0, 0, 0, 0, 1], {}),
    (["F", "9", "M", "9.0"], {"type": "category", "levels": ["F", "M"], "missing": [9]}, [0, nan, 1, nan], {}),
    ([True, 0, "yes", "NO", "1.0", "T", "maybe", None], {"type": "boolean"}, [1, 0, 1, 0, 1, 1, nan, nan], {"not a level": 1}),
    (["2000-01-02", "2000-01-02T10:00", "02.01.2000", "1999-12-31", None], {"type": "date", "range": ["2000-01-01", "2001-01-01"]},
     [10958, 10958, nan, nan, nan], {cells.UNDECLARED: 1, "outside 2000-01-01 to 2001-01-01": 1}),
    (pd.to_datetime(["2000-01-02", None]), {"type": "date", "range": ["2000-01-01", "2001-01-01"]}, [10958, nan], {}),
    ([datetime.date(2000, 1, 2), datetime.datetime(2000, 1, 2, 23)], {"type": "date", "range": ["2000-01-01", "2001-01-01"]},
     [10958, 10958], {}),
],
ids=["text", "not numbers", "other digits", "0 and 1 as booleans", "booleans as numbers", "range",
     "infinite", "halves", "integers", "not whole", "listed", "codes", "coded words", "levels",
     "levels as numbers",
        "coded level", "booleans", "dates", "pandas dates", "python dates"])
def test_cells_become_values_or_missing_and_are_counted_by_rule(column, fields, expected, broken):
    """What breaks a rule of the dictionary is missing from then on; the report counts it under the rule."""
    found, counted = values(column, **fields)

    assert found == pytest.approx(expected, nan_ok=True) and counted == broken


def test_the_report_tells_rules_and_never_values():
    """A registry's own report has counts; the value that broke the rule is nowhere."""
    _, report = load({"age": ["41", "4711", "old"], "sex": ["F", "Jane", "M"], "notes": ["a", "b", "c"]}, WHOLE)
    text = " ".join(report.lines())

    assert not report.ok and report.rows == 3
    assert 'column "age": 1 values set to missing: outside 0 to 110' in text
    assert 'column "sex": 1 values set to missing: not a level' in text
    assert 'column "notes" is not in the dictionary: ignored' in text and 'column "edss" is not in the table' in text
    assert not any(word in text + repr(report) for word in ("4711", "old", "Jane"))


def test_a_column_that_a_registry_lacks_is_missing_for_everybody():
    """No error: this registry simply has nobody to count."""
    rows, report = load({"age": [40, 50]}, WHOLE)

    assert rows.complete(["edss"]).n == 0 and rows.complete(["age"]).n == 2
    assert "edss" in report.absent and not rows.present("years").any() and not rows.present("sex").any()


def test_an_empty_table_is_a_registry_without_patients():
    """Columns without rows load."""
    rows, report = load({"age": [], "sex": [], "female": [], "edss": [], "start": []}, WHOLE)

    assert rows.n == report.rows == 0 and rows.bins("age").shape == (0,)


def test_a_table_of_another_study_is_refused():
    """No common column at all is a mistake worth an error, naming the registry."""
    with pytest.raises(InputError, match="table of lyon: no column is in the dictionary"):
        load({"Age": [1], "SEX": ["F"]}, WHOLE, who="lyon")


def test_one_row_per_patient():
    """Repeated patient ids are refused, also where one is written 1 and the other 1.0."""
    for ids in (["a", "a"], [1, 1.0], ["1", 1]):
        with pytest.raises(InputError, match="repeats: one row per patient"):
            load({"patient_id": np.array(ids, dtype=object), "age": [1, 2]}, WHOLE)
    assert load({"patient_id": ["a", "b"], "age": [1, 2]}, WHOLE)[1].ignored == ()


def test_rows_print_no_patients():
    """A notebook that shows rows shows how many, nothing else."""
    assert repr(load({"age": [41, 42]}, WHOLE)[0]) == "Rows(2 rows, 1 columns)"


def test_a_value_on_an_edge_belongs_above_it():
    """Bins are [a, b): 5 belongs to [5, 10); 0.3 computed as 0.1 * 3 as well; the largest value to the last bin."""
    rows, _ = loaded([0, 4.999, 5, 10], type="number", range=[0, 10], cut_points=[5])
    assert rows.bins("v").tolist() == [0, 0, 1, 1]
    rows, _ = loaded([0.1 * 3, 0.2], type="number", range=[0, 1], step=0.1, cut_points=[0.3])
    assert rows.bins("v").tolist() == [1, 0]


# -- filters -----------------------------------------------------------------------------------------------------------------

TABLE = {"age": [17, 18, 40, None, 65], "sex": ["F", "M", None, "F", "M"], "edss": [0, 3.5, 4, 6, None],
         "female": [True, False, None, True, False],
         "start": ["2001-02-03", "2010-11-12", None, "2001-02-03", "2010-11-12"], "years": [1.0, 2.0, 3.0, None, 5.0]}
ROWS = load(TABLE, Dictionary.from_dict({**every.DICTIONARY, "variables": [
    {**one, "cut_points": [18, 40, 65]} if one["name"] == "age" else one for one in every.DICTIONARY["variables"]]}))[0]


@pytest.mark.parametrize(("where", "kept"), [
    (None, [0, 1, 2, 3, 4]), ([], [0, 1, 2, 3, 4]), ([("age", ">=", 18)], [1, 2, 4]), (("age", "<", 18), [0]), (("age", ">", 39), [2, 4]),
    (("age", "<=", 17), [0]), ([("age", ">=", 18), ("sex", "==", "M")], [1, 4]),
    ({"any": [("age", "<", 18), ("sex", "==", "M")]}, [0, 1, 4]),
    ({"not": ("sex", "==", "M")}, [0, 3]), (("sex", "!=", "M"), [0, 3]), ({"not": {"any": [("sex", "==", "M"), ("age", "<", 18)]}}, []),
    ({"not": {"not": ("sex", "==", "M")}}, [1, 4]), (("sex", "in", ["F", "M"]), [0, 1, 3, 4]), (("sex", "missing"), [2]),
    (("sex", "missing", False), [0, 1, 3, 4]),
    ({"not": ("sex", "missing")}, [0, 1, 3, 4]), (("edss", "==", 3.5), [1]), (("edss", "!=", 3.5), [0, 2, 3]),
    (("edss", "in", [0, 4]), [0, 2]),
    (("female", "==", True), [0, 3]), (("female", "==", "yes"), [0, 3]), (("start", "<", "2030-12-31"), [0, 1, 3, 4]),
    ({"all": []}, [0, 1, 2, 3, 4]),
    ({"any": []}, []), ({"variable": "age", "op": ">=", "value": 18}, [1, 2, 4]), (("years", ">=", 3), [2, 4]), (("ecog", "==", 1), []),
    (("ecog", "missing"), [0, 1, 2, 3, 4]),
    (("age", ">=", np.int64(18)), [1, 2, 4]), (("start", "<", datetime.date(2030, 12, 31)), [0, 1, 3, 4])], ids=str)
def test_filters_keep_whom_they_say(where, kept):
    """all, any, not, in, missing; an unknown value satisfies nothing but `missing`, not even a negation."""
    assert np.flatnonzero(keep(normal_filter(where), ROWS)).tolist() == kept


@pytest.mark.parametrize(("where", "words"), [
    (("shoe", "==", 1), "not a variable"), (("registry", "==", "lyon"), "reserved word"),
    ({"not": ("registry", "missing")}, "reserved word"),
    (("age", ">=", 19), "registered cut point"), (("age", "==", 40), "registered cut point"), (("years", "==", 3), "without a step"),
    (("age", "~", 1), "not a comparison"), (("age", ">=", "18"), "a number is wanted"), (("age", ">=", True), "a number is wanted"),
    (("sex", "==", "X"), "not a level"),
    (("sex", "<", "M"), "can be compared with"), (("sex", "in", []), "a list of values"), (("sex", "in", "F"), "a list of values"),
    (("start", ">=", "soon"), "YYYY-MM-DD"),
    (("age",), "a condition is"), (("age", ">="), "a condition is"), (5, "a condition is"), ({"none": []}, "a filter is"),
    ({"all": 5}, "take a list"),
    ({"all": [], "any": []}, "a filter is"), (("age", ">=", float("nan")), "compares with"), (("age", ">=", [1]), "compares with"),
    ("age >= 18", "a condition is"),
    ({"variable": "age", "op": ">=", "value": 18, "x": 1}, "a filter is")], ids=str)
def test_a_filter_that_cannot_be_asked_says_why(where, words):
    """Every refusal is a QuestionError with a sentence."""
    with pytest.raises(QuestionError, match=words):
        check_filter(normal_filter(where), ROWS.dictionary)


def test_numbers_without_cut_points_cannot_be_filtered_on():
    """No sliding of a threshold until the answer flips; the error says what to add."""
    dictionary = Dictionary.from_dict({"name": "one", "variables": [{"name": "v", "type": "number", "range": [0, 10]}]})
    with pytest.raises(QuestionError, match="cannot be filtered on") as caught:
        check_filter(normal_filter(("v", "<", 3)), dictionary)
    assert 'add "cut_points" to "v"' in caught.value.hint


def test_filters_have_a_size():
    """Nesting and number of conditions are bounded."""
    deep = ("age", ">=", 18)
    for _ in range(DEEPEST + 1):
        deep = {"not": deep}
    for tree in (deep, [("age", ">=", 18)] * (MOST_CONDITIONS + 1)):
        with pytest.raises(QuestionError, match="too large"):
            normal_filter(tree)


def test_a_filter_has_one_canonical_form():
    """Tuples, lists and named conditions come out as the same JSON-ready tree, which names its columns."""
    trees = [[("age", ">=", 18), ("sex", "in", ("F",))], {"all": [["age", ">=", 18], {"variable": "sex", "op": "in", "value": ["F"]}]}]

    assert normal_filter(trees[0]) == normal_filter(trees[1]) == {"all": [["age", ">=", 18], ["sex", "in", ["F"]]]}
    assert filter_columns(normal_filter(trees[0])) == ("age", "sex")
