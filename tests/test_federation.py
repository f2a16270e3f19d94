"""The analyst's side: what a notebook calls, what it gets back, and what it is told when something cannot be asked."""

import json

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.errors import FedstatsError, InputError, QuestionError, Refused
from fedstats.query.analysis import ANALYSES, Failed, Question, Result
from fedstats.query.driver import MOST_QUESTIONS

from . import every
from .questions import calls

RELAXED = Rules(min_cell=3, min_cohort=10, min_registries=2)
EACH = pytest.mark.parametrize(("name", "args", "kwargs"), calls(), ids=lambda value: str(value) if isinstance(value, str) else "")


def tables(seed=0, sizes=(120, 140, 160)):
    rng = np.random.default_rng(seed)
    return {name: every.random_rows(n, rng) for name, n in zip(("lyon", "turin", "aarhus", "basel"), sizes)}


@pytest.fixture(scope="module")
def fed():
    return fedstats.pooled(tables(), dictionary=every.DICTIONARY)


@pytest.fixture(scope="module")
def simulated():
    return fedstats.simulate(tables(), dictionary=every.DICTIONARY, rules=RELAXED)


@pytest.fixture(scope="module")
def frame():
    return pd.concat([pd.DataFrame(one) for one in tables().values()], ignore_index=True)


# -- worlds ------------------------------------------------------------------------------------------------------------------


def test_a_federation_says_what_it_is(fed, simulated):
    """Registries, variables and rules at a glance; no patient."""
    assert repr(fed) == "Federation(3 registries, 10 variables, no release rules)"
    assert fed.registries == ("lyon", "turin", "aarhus") and "rules relaxed" in repr(simulated)
    assert set(fed.reports) == set(fed.registries) and all(report.ok for report in fed.reports.values())


def test_a_dictionary_comes_as_object_dict_or_file(tmp_path):
    """All three are the same codebook."""
    path = tmp_path / "d.json"
    path.write_text(json.dumps(every.DICTIONARY))
    found = [fedstats.pooled(tables(), dictionary=one).cohort().summary("age") for one in (every.DICTIONARY,
                                                                                           Dictionary.from_dict(every.DICTIONARY), path,
                                                                                           str(path))]

    assert all(one == found[0] for one in found)


def test_tables_come_as_frames_or_files(tmp_path):
    """A data frame and the CSV it is saved as give the same answer."""
    frames = {name: pd.DataFrame(one) for name, one in tables().items()}
    files = {}
    for name, one in frames.items():
        files[name] = tmp_path / f"{name}.csv"
        one.to_csv(files[name], index=False)

    assert fedstats.pooled(frames, dictionary=every.DICTIONARY).cohort().summary(["age", "edss"]).columns == \
        fedstats.pooled(files, dictionary=every.DICTIONARY).cohort().summary(["age", "edss"]).columns


@pytest.mark.parametrize("wrong", [{}, None, 5, ["a.csv"], {"lyon": 5}, {"lyon": "nowhere.csv"}])
def test_what_is_no_set_of_tables_is_refused(wrong):
    """A dict of registry to table is wanted; a missing file is named."""
    with pytest.raises(InputError):
        fedstats.pooled(wrong, dictionary=every.DICTIONARY)


def test_a_seal_needs_three_registries():
    """With two, each would read the other's numbers: simulate refuses as the network does, unless its rules say that two are enough."""
    fed = fedstats.simulate(tables(sizes=(120, 140)), dictionary=every.DICTIONARY, rules=Rules())
    with pytest.raises(FedstatsError, match="3 registries"):
        fed.cohort().summary("age")

    two = fedstats.simulate(tables(sizes=(120, 140)), dictionary=every.DICTIONARY, rules=RELAXED).cohort().summary("age")
    assert two.registries == 2 and "rules relaxed" in two.rules


def test_relaxed_rules_are_said_on_every_result(simulated):
    """A simulation below the floors of the network says so; pooled without rules says that."""
    result = simulated.cohort().summary("age")

    assert "(rules relaxed)" in result.rules and result.released == "simulated" and len(result.query) == 32
    assert fedstats.pooled(tables(), dictionary=every.DICTIONARY).cohort().summary("age").rules == "no release rules"


def test_the_default_rules_are_those_of_the_network():
    """simulate without rules: cells of ten, cohorts of fifty, three registries."""
    result = fedstats.simulate(tables(), dictionary=every.DICTIONARY).cohort().summary("age")

    assert result.rules == Rules().sentence() and "relaxed" not in result.rules and result.registries == 3


def test_a_federation_can_be_closed(fed):
    """As a context manager, or by hand; in one process there is nothing to let go of."""
    with fedstats.pooled(tables(), dictionary=every.DICTIONARY) as inner:
        assert inner.cohort().summary("age").n
    fed.close()


# -- cohorts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "query"), [
    (None, "age == age"), ([("age", ">=", 40)], "age >= 40"), ([("age", ">=", 40), ("sex", "==", "F")], "age >= 40 and sex == 'F'"),
    ({"any": [("age", "<", 40), ("sex", "==", "F")]}, "age < 40 or sex == 'F'"), ({"not": ("sex", "==", "F")}, "sex == 'M'"),
    (("ecog", "in", [0, 4]), "ecog in [0, 4]"), ([("ecog", "missing")], "ecog != ecog"), ([("edss", "<=", 3)], "edss <= 3"),
    ([("female", "==", True), ("event", "!=", True)], "female == True and event == False"), ([("years", ">=", 2.5)], "years >= 2.5"),
    ({"all": [("age", ">=", 30), {"any": [("sex", "missing"), {"not": ("ecog", "<", 3)}]}]}, "age >= 30 and (sex != sex or ecog >= 3)"),
    ([("start", ">=", "2004-12-28")], "start == '2010-11-12'"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_cohort_is_who_the_filter_says(fed, frame, where, query):
    """Filters against pandas: the same patients, unknown values satisfying nothing but `missing`."""
    mask = frame.assign(**{name: pd.to_numeric(frame[name]) for name in ("age", "edss", "years", "ecog")}).eval(query)
    kept = pd.to_numeric(frame[mask.fillna(False).astype(bool)]["age"]).dropna()
    result = fed.cohort(where).summary("age")

    assert result.n == len(kept) and result["age"].mean == pytest.approx(kept.mean(), rel=1e-12)


@pytest.mark.parametrize(("where", "words", "hint"), [
    ([("shoe", "==", 1)], "not a variable", "variables are"), ([("aeg", ">=", 40)], "not a variable", 'did you mean "age"'),
    ([("age", ">=", 41)], "does not cut at a registered cut point", "nearest cut points: 30, 35, 40, 45"),
    ([("registry", "==", "lyon")], "reserved word", "strata"),
    ([("age", ">=", "40")], "a number is wanted", "without quotes"), ([("sex", "==", "X")], "not a level", "levels are: F, M"),
    ([("age", "=>", 40)], "not a comparison", "one of =="), ([("age", ">=", 10**400)], "a number is wanted", "")], ids=lambda value: "")
def test_a_filter_that_cannot_be_asked_is_explained_at_once(fed, where, words, hint):
    """Before anything is sent: what is wrong, and what to write instead."""
    with pytest.raises(QuestionError, match=words) as caught:
        fed.cohort(where)
    if "nearest" not in hint:
        assert hint in caught.value.hint
    else:
        assert caught.value.hint.startswith("nearest cut points") and "40" in caught.value.hint


def test_a_cohort_prints_its_filter(fed):
    """Filter and columns; nothing about patients."""
    cohort = fed.cohort([("age", ">=", 40), ("sex", "missing")])

    assert cohort.columns == ("age", "sex") and repr(cohort) == "Cohort(where={'all': [['age', '>=', 40], ['sex', 'missing', True]]})"


# -- questions ---------------------------------------------------------------------------------------------------------------


@EACH
def test_a_question_is_a_frozen_json_ready_value(fed, name, args, kwargs):
    """It can be written down, compared, hashed and read again; nothing in it can be set."""
    cohort = fed.cohort([("age", ">=", 40)])
    one, two = (getattr(cohort.question, name)(*args, **kwargs) for _ in range(2))
    written = json.loads(json.dumps(one.to_dict()))

    assert one == two and hash(one) == hash(two) and written["where"] == {"all": [["age", ">=", 40]]}
    assert Question(written["analysis"], written["params"]) == one.question
    assert one.question.read() == two.question.read() and name in repr(one)
    with pytest.raises(AttributeError):
        one.question.analysis = "other"


@EACH
def test_a_result_comes_back_as_itself(fed, name, args, kwargs):
    """Result -> dict -> JSON -> dict -> result, for every analysis; the dict names its kind."""
    result = getattr(fed.cohort(), name)(*args, **kwargs)
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))

    assert Result.from_dict(written) == result and written["kind"] == result.kind == ANALYSES[f"{name}/1"].result.kind
    assert type(Result.from_dict(written)) is type(result)


@EACH
def test_every_result_says_what_it_rests_on(fed, name, args, kwargs):
    """n, how many were left out, how many registries, rules, and a sentence for the methods section."""
    result = getattr(fed.cohort(), name)(*args, **kwargs)

    assert result.n == result.size.n > 0 and result.n + result.n_missing == result.size.cohort == 420
    assert result.registries == 3 and result.released == "pooled" and f"n = {result.n}" in result.methods
    assert any("one registry only" in note for note in result.notes)
    with pytest.raises(AttributeError):
        result.registries = 99


@EACH
def test_every_method_of_a_cohort_carries_the_words_of_its_analysis(fed, name, args, kwargs):
    """help(cohort.summary) shows the signature and what is computed."""
    import inspect

    method = getattr(type(fed.cohort()), name)

    assert method.__doc__ == ANALYSES[f"{name}/1"].joint.__doc__ and method.__doc__
    assert list(inspect.signature(method).parameters)[1:] == list(inspect.signature(ANALYSES[f"{name}/1"].call).parameters)


@EACH
def test_every_result_can_be_looked_at(fed, name, args, kwargs):
    """As text, frame and HTML, without an error and with its n."""
    result = getattr(fed.cohort(), name)(*args, **kwargs)

    assert str(result.n) in str(result).replace(" ", "").replace("\u202f", "").replace(",", "")
    assert len(result.frame()) and "<" in result._repr_html_()


BAD = [
    ("summary", (), {}), ("summary", ([],), {}), ("summary", ("sex",), {}), ("summary", ("shoe",), {}), ("summary", ("registry",), {}),
    ("summary", (["age", "age"],), {}), ("summary", (5,), {}), ("summary", ("age",), {"confidence": 95}),
    ("summary", ("age",), {"colour": "red"}),
    ("summary", ([5],), {}), ("crosstab", ("registry", "sex"), {}), ("crosstab", ("years_of_age", "sex"), {}),
    ("crosstab", ("start", "age", "years", "ecog"), {}),
    ("quantiles", ("age",), {"q": 0.123}), ("quantiles", ("sex",), {}), ("histogram", ("sex",), {}),
    ("compare", ("edss",), {"by": "registry"}), ("compare", ("age",), {"by": "age"}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), BAD, ids=lambda value: str(value))
def test_a_question_that_cannot_be_asked_is_explained_at_once(fed, name, args, kwargs):
    """A wrong argument is a QuestionError with a sentence, never a traceback of ours."""
    with pytest.raises(QuestionError) as caught:
        getattr(fed.cohort().question, name)(*args, **kwargs)

    assert len(str(caught.value)) > 10 and str(caught.value)[-1] != "."


def test_an_analysis_of_another_version_is_refused():
    """A name never changes its meaning: summary/2 is not summary/1."""
    for question in (Question("summary/2", {"names": ["age"], "confidence": 0.95}), Question("summary/1", {"names": ["age"], "extra": 1}),
                     Question("summary/1", {})):
        with pytest.raises(QuestionError):
            question.read()


def test_a_result_of_an_unknown_kind_is_refused():
    """from_dict reads what to_dict wrote, and nothing else."""
    for source in ({}, {"kind": "magic"}, {"kind": "summary"}, {"kind": "summary", "size": {"n": 1}, "columns": [], "confidence": "high"}):
        with pytest.raises(QuestionError):
            Result.from_dict(source)


# -- several questions -------------------------------------------------------------------------------------------------------


def test_several_questions_go_in_the_same_rounds(simulated):
    """Three questions in one query take as many rounds as the longest alone, and give the same numbers."""
    cohort = simulated.cohort()
    questions = [cohort.question.summary(["age", "edss"]), cohort.question.crosstab("sex", "female"), cohort.question.histogram("age")]
    together = simulated.ask(*questions)
    network = simulated._world.network
    rounds = network.rounds
    alone = [simulated.ask(one)[0] for one in questions]

    assert rounds == 2 and len({result.query for result in together}) == 1
    for one, two in zip(together, alone):
        plain = [{name: value for name, value in result.to_dict().items() if name not in ("query", "size", "notes")} for result in (one,
                                                                                                                                    two)]
        assert plain[0] == plain[1]


def test_one_refused_question_does_not_take_the_others_with_it():
    """A Failed value stands where one of several could not be answered; the others have their results."""
    found = tables()
    for table in found.values():
        table["relapses"] = np.array([None] * len(table["relapses"]), dtype=object)
    for world in (fedstats.pooled, fedstats.simulate):
        fed = world(found, dictionary=every.DICTIONARY, rules=Rules())
        cohort = fed.cohort()
        good, bad, also = fed.ask(cohort.question.summary("age"), cohort.question.summary("relapses"),
                                  cohort.question.crosstab("sex", "female"))

        assert good.n and also.n and isinstance(bad, Failed)
        assert isinstance(bad.error(), Refused) and "min_cohort" in str(bad.error()) and bad.question.startswith("summary(")
        assert Result.from_dict(json.loads(json.dumps(bad.to_dict()))) == bad
        with pytest.raises(Refused, match="min_cohort"):
            cohort.summary("relapses")


def test_what_cannot_be_asked_together_is_explained(fed):
    """No question, questions about two cohorts, or something that is no question."""
    young, old = fed.cohort([("age", "<", 40)]), fed.cohort([("age", ">=", 40)])
    with pytest.raises(QuestionError, match="at least one question"):
        fed.ask()
    with pytest.raises(QuestionError, match="one cohort"):
        fed.ask(young.question.summary("age"), old.question.summary("age"))
    for wrong in ("summary", young, young.question.summary("age").question):
        with pytest.raises(QuestionError, match="takes questions"):
            fed.ask(wrong)
    with pytest.raises(QuestionError, match=f"1 to {MOST_QUESTIONS}"):
        fed.ask(*[young.question.summary("age")] * (MOST_QUESTIONS + 1))


def test_filters_written_differently_are_one_cohort(fed):
    """A tuple and a list, a plain condition and "all": the same patients, so they may be asked together."""
    a, b = fed.cohort([("age", ">=", 40)]), fed.cohort({"all": [["age", ">=", 40]]})
    one, two = fed.ask(a.question.summary("age"), b.question.summary("age"))

    assert one == two


# -- explain -----------------------------------------------------------------------------------------------------------------


@EACH
def test_explain_says_before_asking_what_asking_means(simulated, name, args, kwargs):
    """Rounds, bytes, columns, rules and who sees what; JSON-ready; nobody is asked."""
    cohort = simulated.cohort([("age", ">=", 40)])
    before = len(simulated._world.network.journals["lyon"]._db.execute("SELECT T FROM queries").fetchall())
    found = simulated.explain(getattr(cohort.question, name)(*args, **kwargs))

    assert found.rounds >= 2 and found.values > 0 and found.up_bytes > 60_000 and "age" in found.columns
    assert {who for who, _ in found.who_sees_what} == {"each registry", "the coordinator", "you"} and found.rules == RELAXED.sentence()
    assert json.dumps(found.to_dict()) and "rounds:" in str(found)
    assert len(simulated._world.network.journals["lyon"]._db.execute("SELECT T FROM queries").fetchall()) == before


def test_explain_knows_the_size_of_a_query(simulated):
    """What is announced is what is sent, up to signatures and admissions."""
    cohort = simulated.cohort()
    question = cohort.question.crosstab("sex", "female")
    announced = simulated.explain(question)
    simulated.ask(question)
    network = simulated._world.network

    assert announced.rounds == network.rounds == 2
    assert announced.up_bytes <= network.bytes_up / 3 <= announced.up_bytes * 1.3 + 300_000
