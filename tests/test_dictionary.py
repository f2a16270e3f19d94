"""The dictionary: every mistake is named with its variable and a remedy; cuts, bins, grids and levels mean what they say."""

import json
import re

import pytest

from fedstats import Dictionary
from fedstats.data.dictionary import MOST_GROUPS
from fedstats.data.variable import level_text
from fedstats.errors import InputError, QuestionError

from . import every

WHOLE = Dictionary.from_dict(every.DICTIONARY)


def one(**fields):
    """A dictionary of one variable, v."""
    return Dictionary.from_dict({"name": "one", "variables": [{"name": "v", **fields}]})


WRONG = {
    "no type": ({}, "type"),
    "unknown type": ({"type": "text"}, "type"),
    "unknown field": ({"type": "boolean", "colour": "red"}, "colour"),
    "number without range": ({"type": "number"}, 'needs a range.*add "range"'),
    "date without range": ({"type": "date"}, "needs a range"),
    "category without levels": ({"type": "category"}, 'needs levels.*add "levels"'),
    "category of no levels": ({"type": "category", "levels": []}, "needs levels"),
    "level twice": ({"type": "category", "levels": ["a", "b", "a"]}, "level is listed twice"),
    "level twice as 1 and 1.0": ({"type": "category", "levels": [1, 1.0]}, "level is listed twice"),
    "level twice as 1 and text": ({"type": "category", "levels": [1, "1"]}, "level is listed twice"),
    "boolean with range": ({"type": "boolean", "range": [0, 1]}, "no range, step or cut points"),
    "category with cut points": ({"type": "category", "levels": ["a"], "cut_points": [1]}, "no range, step or cut points"),
    "number with levels": ({"type": "number", "range": [0, 1], "levels": [0, 1]}, 'no levels.*use type "integer"'),
    "integer with words": ({"type": "integer", "levels": ["a", "b"]}, 'not a whole number.*use type "category"'),
    "integer with halves": ({"type": "integer", "levels": [1, 1.5]}, "not a whole number"),
    "range the wrong way": ({"type": "number", "range": [10, 0]}, "must increase: 10 is followed by 0"),
    "range of a point": ({"type": "integer", "range": [3, 3]}, "must increase"),
    "range in words": ({"type": "number", "range": ["0", "1"]}, "a number is wanted.*without quotes"),
    "range of one": ({"type": "number", "range": [1]}, "range"),
    "dates as numbers": ({"type": "date", "range": [2000, 2010]}, "YYYY-MM-DD"),
    "dates the wrong way": ({"type": "date", "range": ["2010-01-01", "2000-01-01"]}, "must increase"),
    "step 0": ({"type": "number", "range": [0, 1], "step": 0}, "step must be above 0"),
    "step below 0": ({"type": "number", "range": [0, 1], "step": -0.5}, "step must be above 0"),
    "step of an integer": ({"type": "integer", "range": [0, 10], "step": 2}, 'has step 1.*use type "number"'),
    "range off the step": ({"type": "number", "range": [0, 10], "step": 0.3}, "whole number of steps of 0.3"),
    "too many steps": ({"type": "number", "range": [0, 1e9], "step": 1e-9}, "steps.*larger step"),
    "cut points the wrong way": ({"type": "number", "range": [0, 9], "cut_points": [1, 5, 3]}, "must increase: 5 is followed by 3"),
    "cut point twice": ({"type": "number", "range": [0, 9], "cut_points": [1, 1]}, "must increase"),
    "no cut point": ({"type": "number", "range": [0, 9], "cut_points": []}, "empty"),
    "cut points every 0": ({"type": "number", "range": [0, 9], "cut_points": {"from": 0, "to": 9, "step": 0}}, "step of the cut points"),
    "a million cut points": ({"type": "number", "range": [0, 9], "cut_points": {"from": 0, "to": 9, "step": 9e-6}}, "more than 20000"),
    "cut points without end": ({"type": "number", "range": [0, 9], "cut_points": {"from": 0, "step": 1}}, "to"),
    "cut points in words": ({"type": "number", "range": [0, 9], "cut_points": ["low", "high"]}, "a number is wanted"),
    "cut dates that are none": ({"type": "date", "range": ["2000-01-01", "2010-01-01"], "cut_points": ["2005"]}, "YYYY-MM-DD"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_every_mistake_is_named_with_its_variable(mistake):
    """The sentence names the variable and says what is wrong; a hint says what to do."""
    fields, words = WRONG[mistake]
    with pytest.raises(InputError) as caught:
        one(**fields)
    text = f"{caught.value} {caught.value.hint}"

    assert '"v"' in text or "variables[0]" in text
    assert re.search(words, text), text


@pytest.mark.parametrize(("variables", "words"), [
    ([{"name": "registry", "type": "boolean"}], "reserved"), ([{"name": "patient_id", "type": "boolean"}], "reserved"),
    ([{"name": "", "type": "boolean"}], "must not be empty"), ([{"name": " v", "type": "boolean"}], "space"),
    ([{"name": "v", "type": "boolean"}] * 2, "listed twice")], ids=["registry", "patient_id", "no name", "a space", "twice"])
def test_names_are_unique_and_not_reserved(variables, words):
    """Single registries are never a variable; a column is listed once."""
    with pytest.raises(InputError, match=words):
        Dictionary.from_dict({"name": "x", "variables": variables})


def test_a_dictionary_comes_back_as_itself(tmp_path):
    """Written as JSON or TOML and read: the same content and the same hash."""
    import tomli_w

    (tmp_path / "d.json").write_text(json.dumps(WHOLE.to_dict()))
    (tmp_path / "d.toml").write_text(tomli_w.dumps(WHOLE.to_dict()))

    for name in ("d.json", "d.toml"):
        assert Dictionary.load(tmp_path / name) == WHOLE
        assert Dictionary.load(tmp_path / name).digest == WHOLE.digest


def test_a_byte_order_mark_is_no_part_of_a_dictionary(tmp_path):
    """Files saved by Windows editors load alike."""
    (tmp_path / "d.json").write_text(json.dumps(WHOLE.to_dict()), encoding="utf-8-sig")

    assert Dictionary.load(tmp_path / "d.json").digest == WHOLE.digest


@pytest.mark.parametrize("content", ["", "[]", "5", "{", '{"name": "x"}', '{"variables": []}', '{"name": "x", "variables": {}}', "\ufffe"])
def test_a_file_that_is_no_dictionary_is_named(tmp_path, content):
    """The sentence begins with the file."""
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(InputError, match=r"d\.json"):
        Dictionary.load(tmp_path / "d.json")


def test_every_change_changes_the_hash():
    """Another range, level, unit or cut point is another dictionary."""
    digests = {WHOLE.digest}
    for k, variable in enumerate(every.DICTIONARY["variables"]):
        source = json.loads(json.dumps(every.DICTIONARY))
        source["variables"][k]["description"] = f"{variable['name']} changed"
        digests.add(Dictionary.from_dict(source).digest)

    assert len(digests) == 1 + len(every.DICTIONARY["variables"])


def test_an_unknown_variable_gets_a_suggestion():
    """A typing error is answered with the nearest name."""
    with pytest.raises(QuestionError, match='"aeg" is not a variable') as caught:
        WHOLE["aeg"]
    assert caught.value.hint == 'did you mean "age"?'
    with pytest.raises(QuestionError) as caught:
        WHOLE["shoe size"]
    assert "variables are: age, edss" in caught.value.hint


def test_registry_is_not_a_variable():
    """The reserved word is explained."""
    with pytest.raises(QuestionError, match="reserved word"):
        WHOLE["registry"]


@pytest.mark.parametrize(("name", "labels"), [
    ("female", ("false", "true")), ("sex", ("F", "M")), ("ecog", ("0", "1", "2", "3", "4")),
    ("edss", tuple(f"{k / 2:g}" for k in range(21)))])
def test_levels_and_steps_are_bins_of_single_values(name, labels):
    """A category, a boolean or a stepped number is cut into its values."""
    bins = WHOLE.bins(name)

    assert bins.labels == labels and bins.atoms


def test_bins_run_from_one_end_to_the_other():
    """[a, b), the last one closed, cut points outside the range left out."""
    bins = one(type="number", range=[0, 10], cut_points=[-5, 0, 2.5, 5, 10, 20]).bins("v")

    assert bins.edges == (0, 2.5, 5, 10) and bins.labels == ("[0, 2.5)", "[2.5, 5)", "[5, 10]") and not bins.atoms


def test_dates_are_cut_at_dates():
    """Bins of a date are labelled by dates."""
    bins = one(type="date", range=["2000-01-01", "2003-01-01"], cut_points=["2001-01-01", "2002-01-01"]).bins("v")

    assert bins.labels == ("[2000-01-01, 2001-01-01)", "[2001-01-01, 2002-01-01)", "[2002-01-01, 2003-01-01]")


def test_equal_distances_include_both_ends():
    """0 to 1 every 0.1 has eleven cut points, whatever binary fractions do."""
    variable = one(type="number", range=[0, 1], cut_points={"from": 0, "to": 1, "step": 0.1})["v"]

    assert len(variable.cuts) == 11 and variable.cuts[-1] == pytest.approx(1)
    assert all(variable.is_cut(k / 10) for k in range(11)) and not variable.is_cut(0.55)


def test_what_cannot_be_cut_says_what_to_add():
    """A number without cut points has no bins and no grid; a day count has too many groups for a table."""
    plain = one(type="number", range=[0, 1])
    for ask in (plain.bins, plain.grid):
        with pytest.raises(QuestionError, match='"v" is a number without cut points') as caught:
            ask("v")
        assert 'add "cut_points"' in caught.value.hint
    with pytest.raises(QuestionError, match="at most 64"):
        one(type="integer", range=[0, 1000]).bins("v", most=MOST_GROUPS)
    with pytest.raises(QuestionError, match="too many groups"):
        one(type="integer", range=[0, 10**6]).bins("v")


@pytest.mark.parametrize(("fields", "grid"), [
    ({"type": "integer", "range": [0, 5]}, (1, 2, 3, 4, 5)), ({"type": "number", "range": [0, 2], "step": 0.5}, (0.5, 1, 1.5, 2)),
    ({"type": "number", "range": [0, 90], "cut_points": {"from": 0, "to": 90, "step": 30}}, (30, 60, 90))],
    ids=["integer", "step", "cut points"])
def test_a_time_grid_starts_after_zero(fields, grid):
    """Intervals are (a, b]: the first grid time is above 0."""
    assert one(**fields).grid("v") == grid


@pytest.mark.parametrize(("fields", "words"), [
    ({"type": "category", "levels": ["a"]}, "a follow-up time is a number"),
    ({"type": "date", "range": ["2000-01-01", "2001-01-01"]}, "number"),
    ({"type": "integer", "range": [-1, 5]}, "may be negative"),
    ({"type": "number", "range": [0, 5], "cut_points": [0]}, "no cut point above 0"),
    ({"type": "integer", "range": [0, 10**6]}, "at most 20000")], ids=["category", "date", "negative", "only zero", "too fine"])
def test_what_is_no_follow_up_time_says_why(fields, words):
    """Each refusal names the variable."""
    with pytest.raises(QuestionError, match=words) as caught:
        one(**fields).grid("v")
    assert '"v"' in str(caught.value)


def test_only_numbers_have_means():
    """Levels and dates are sent to tables."""
    for name in ("sex", "start"):
        with pytest.raises(QuestionError, match="a number, integer or boolean is wanted"):
            WHOLE.numeric(name)
    for name in ("age", "edss", "female"):
        assert WHOLE.numeric(name).name == name


@pytest.mark.parametrize(("level", "text"),
                         [(1, "1"), (1.0, "1"), ("1", "1"), (" F ", "F"), (True, "true"), (False, "false"), (1.5, "1.5"), (-2.0, "-2")])
def test_a_level_is_one_level_however_it_is_written(level, text):
    """1, 1.0 and "1" are the same."""
    assert level_text(level) == text


def test_an_integer_may_have_a_list_of_values():
    """Levels of an integer set its range."""
    variable = one(type="integer", levels=[2, 4, 8])["v"]

    assert variable.ends == (2, 8) and variable.steps == 6
