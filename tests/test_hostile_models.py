"""Folders and files that somebody made to harm: one clean error each, and nothing that hangs, ends the process or takes the memory."""

import copy
import json
import math
import os
import random

import msgspec
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.cli import risk_screen as screen
from fedstats.data import reading
from fedstats.data.forms import as_form
from fedstats.errors import FedstatsError, InputError, Tampered
from fedstats.query.analysis import read_result
from fedstats.risk import card, card_page, card_proof, folder, patient_page
from fedstats.risk.patients import predict, read_patients

from .risk_data import COVARIATES, DICTIONARY, HAZARD, SMALL, registries

BOOK = Dictionary.from_dict(DICTIONARY)
PATIENT = {"age": 34, "edss": 2.5, "sex": "F", "relapses": 1}
HUGE = 10**400
CASES = 400             # of the seeded fuzzing, per file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    fed = fedstats.pooled(registries((400, 250, 300, 200, 350), seed=1), dictionary=BOOK, rules=Rules())
    ask = fed.cohort().question
    found = fed.ask(ask.boost("event", COVARIATES, **HAZARD, **SMALL), ask.validation("event", COVARIATES, folds=3, horizons=[360, 720],
                                                                                        **HAZARD, **SMALL))
    return folder.write_folder(tmp_path_factory.mktemp("hostile") / "model", found[0], card.card_of(*found, rules=fed.rules))


@pytest.fixture(scope="module")
def risk(made):
    return json.loads((made / "risk.json").read_text())


@pytest.fixture
def hostile(made, tmp_path):
    """A copy of the folder with another model; its card goes with it where the model can be read at all."""
    def write(content):
        (tmp_path / "risk.json").write_text(content if isinstance(content, str) else json.dumps(content))
        (tmp_path / "card.json").write_bytes((made / "card.json").read_bytes())
        return tmp_path
    return write


def tree(**changes):
    """A change of the first tree: {field: (place, value)}, or a whole field."""
    def change(content):
        for name, one in changes.items():
            if isinstance(one, tuple):
                content["trees"][0][name][one[0]] = one[1]
            else:
                content["trees"][0][name] = one
    return change


def deep(content):
    n, left, right = 2 * 30 + 1, [], []
    for k in range(n):      # even nodes split into the next two
        left.append(k + 1 if k % 2 == 0 and k + 2 < n else -1)
        right.append(k + 2 if k % 2 == 0 and k + 2 < n else -1)
    content["trees"][0] = {"left": left, "right": right, "feature": [0] * n, "threshold": [0.0] * n, "default_left": [False] * n,
                           "value": [0.0] * n, "cover": [1.0] * n}


def top(**changes):
    return lambda content: content.update(changes)


def column(**changes):
    return lambda content: content["columns"][2].update(changes)


HOSTILE = {
    "one child only": tree(right=(0, -1)), "a leaf's other child": tree(left=(-1, 1)), "back to the root": tree(left=(0, 0), right=(0, 0)),
    "twins": tree(left=(0, 2), right=(0, 2)), "a child beyond the end": tree(right=(0, 99_999)), "a child far below": tree(left=(0, -7)),
    "a child of 400 digits": tree(left=(0, HUGE)), "a child that is a text": tree(left=(0, "1")),
    "a child that is half": tree(left=(0, 1.5)),
    "a cycle below the root": tree(left=(1, 0)), "a column beyond the end": tree(feature=(0, 999)), "a column before the first":
    tree(feature=(0, -1)), "a threshold that is no number": tree(threshold=(0, math.nan)), "an infinite threshold":
    tree(threshold=(0, math.inf)), "a threshold beyond 32 bits": tree(threshold=(0, 1e300)), "a leaf that is no number":
    tree(value=(-1, math.nan)), "a leaf beyond 32 bits": tree(value=(-1, -1e39)), "covers are missing": tree(cover=[]),
    "a cover is missing":
    tree(cover=[1.0]), "a negative cover": tree(cover=(0, -1.0)), "no nodes": tree(
        **{name: [] for name in ("left", "right", "feature", "threshold", "default_left", "value", "cover")}), "too deep": deep,
    "trees that are a text": top(trees="[]"), "a tree too many": lambda content: content.update(trees=content["trees"] * 700),
    "an objective of its own": top(objective="reg:absurd"), "a start beyond 1": top(base_score=1.5), "a start that is infinite":
    top(base_margin=1e39), "ends that fall": top(ends=[360.0, 180.0]), "no ends": top(ends=[]), "no time": top(time=None),
    "a level beyond the last": column(level=99), "a level before the first": column(level=-1), "a level of a number":
    lambda content: content["columns"][0].update(level=0), "a column of no variable": column(variable="shoe size"),
    "no variables of its own":
    lambda content: content["variables"].pop(), "a variable twice": lambda content: content["variables"].append(content["variables"][0]),
    "a billion cut points": lambda content: content["variables"][0].update(cut_points={"from": 0, "to": 1e9, "step": 1e-3}),
    "a range of a text": lambda content: content["variables"][0].update(range=["a", "b"]), "another kind": top(kind="summary"),
    "no kind": lambda content: content.pop("kind"), "a field too many": top(extra=1), "a list": lambda content: [],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_one_clean_error(hostile, risk, name):
    """The reader says that this is no risk model, before anything walks a tree and before xgboost sees it."""
    content = copy.deepcopy(risk)
    changed = HOSTILE[name](content)

    with pytest.raises(InputError, match=r"is not a risk model|holds a summary|^risk model .*(18 digits|no number|is not JSON)"):
        folder.read_folder(hostile(content if changed is None else changed))


@pytest.mark.parametrize(("text", "says"), [
    ("", "is not JSON"), ("[" * 100_000, "nested too deeply"), ("null", "is not a risk model"), ("{", "is not JSON"),
    ('{"kind": "boost", "n": 1' + "0" * 5000 + "}", "thousands of digits"), ('{"x": 1e999}', "no number to work with"),
    ('{"x": 1, "x": 2}', "stands in it twice"), ("\udcff", "not UTF-8")])
def test_what_is_not_even_json_is_one_clean_error(hostile, text, says):
    where = hostile("{}")
    (where / "risk.json").write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(InputError, match=says):
        folder.read_folder(where)


def test_what_is_larger_than_any_model_is_not_read_to_the_end(hostile, monkeypatch):
    monkeypatch.setattr(folder, "MOST_BYTES", 1000)

    with pytest.raises(InputError, match="larger than 1000 bytes"):
        folder.read_folder(hostile(" " * 2000))


def test_a_pipe_or_a_folder_is_no_file(tmp_path):
    """A pipe would wait for somebody to write into it."""
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path, tmp_path / "pipe.json", tmp_path / "nothing.json"):
        with pytest.raises(InputError, match=r"is no file|cannot be read"):
            reading.read_json(path, "model card", largest=10)


@pytest.mark.parametrize("name", ["one child only", "back to the root", "a column beyond the end"])
def test_a_hostile_file_for_xgboost_is_compared_and_not_loaded(made, tmp_path, name):
    """fedstats risk verify looks at model.json too: xgboost itself would end the process."""
    model, _ = folder.read_folder(made)
    content = json.loads((made / "model.json").read_text())
    first = content["learner"]["gradient_booster"]["model"]["trees"][0]
    first["left_children"][0], first["right_children"][0], first["split_indices"][0] = {
        "one child only": (1, -1, 0), "back to the root": (0, 0, 0), "a column beyond the end": (1, 2, 10**6)}[name]
    (tmp_path / "model.json").write_text(json.dumps(content))

    with pytest.raises(Tampered, match="another model"):
        card_proof.check_export(model, tmp_path / "model.json")
    card_proof.check_export(model, made / "model.json")


def test_a_model_without_covers_gives_no_number(risk, made):
    """Attributions divide by covers: with zeros they are no numbers, and are not shown as such."""
    content = copy.deepcopy(risk)
    for one in content["trees"]:
        one["cover"] = [0.0] * len(one["cover"])
    model = read_result(content)
    read = card.read_card(made / "card.json")

    with pytest.raises(InputError, match="no number"):
        predict([PATIENT], model, read)


# -- fuzzing: bounded, and the same every time -----------------------------------------------------------------------------------------

WILD = [None, True, -1, 0, 1, 2, 10**9, HUGE, -0.0, 1e308, -1e39, 5e-324, "", "nan", "F", "\u0000",
        "<b>", "é" * 50, [], {}, [[]], [1, 2], {"a": 1}]


def places(content, at=()):
    """Every place of a JSON value."""
    yield at
    for key, one in content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ():
        yield from places(one, (*at, key))


def changed(content, rng):
    """A copy with one to three places changed: another value, a value gone, or one twice."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        where = rng.choice(list(places(content))[1:] or [None])
        if where is None:
            return rng.choice(WILD)
        parent = content
        for key in where[:-1]:
            parent = parent[key]
        how = rng.random()
        if how < 0.7:
            parent[where[-1]] = rng.choice(WILD)
        elif how < 0.85:
            del parent[where[-1]]
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[where[-1]]))
    return content


def slim(content):
    """The same with two trees, so that changes fall on other parts too."""
    return content | {"trees": content["trees"][:2]}


def test_fuzzed_models_are_read_or_refused(risk):
    """Whatever is changed: a model that predicts, or a clean error. Nothing else."""
    rng, read = random.Random(1), 0
    for _ in range(CASES):
        content = changed(slim(risk), rng)
        try:
            model = read_result(content) if isinstance(content, dict) else None
            if model is not None and model.kind == "boost":
                model.predict({name: [value] for name, value in PATIENT.items() if name in model.covariates})
                read += 1
        except FedstatsError:
            pass
    assert 0 < read < CASES


def test_fuzzed_cards_are_read_or_refused(made, tmp_path):
    """A card that is read can be shown, and says something of a patient or why not."""
    rng, base, read = random.Random(2), json.loads((made / "card.json").read_text()), 0
    model, _ = folder.read_folder(made)
    for _ in range(CASES):
        (tmp_path / "card.json").write_text(json.dumps(changed(base, rng)))
        try:
            found = card.read_card(tmp_path / "card.json")
            card_page.page(found)
            patient_page.page(predict([PATIENT], model, found), found)
            read += 1
        except FedstatsError:
            pass
    assert 0 < read < CASES


def test_fuzzed_patients_are_answered_or_refused(made, tmp_path):
    """As JSON: objects and lists with anything in them."""
    rng, base, answered = random.Random(3), [PATIENT, {"patient_id": "b", "age": 50, "edss": None, "sex": "M", "relapses": 0}], 0
    model, read = folder.read_folder(made)
    for _ in range(CASES // 2):
        (tmp_path / "patient.json").write_text(json.dumps(changed(base, rng)))
        try:
            said = predict(read_patients(tmp_path / "patient.json"), model, read)
            answered += len(said) > 0
            assert all(bool(one.risks) != bool(one.reason) for one in said)
        except FedstatsError:
            pass
    assert answered > 0


def test_fuzzed_csv_files_of_patients_are_answered_or_refused(made, tmp_path):
    """Cells, quotes, separators, line ends and bytes that are no text."""
    rng, base, answered = random.Random(4), b"patient_id,age,edss,sex,relapses\nana,34,2.5,F,1\nben,50,,M,0\n", 0
    model, read = folder.read_folder(made)
    for _ in range(CASES // 2):
        content = bytearray(base)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(content))
            content[at:at + rng.randint(0, 3)] = rng.choice([b"", b'"', b",", b"\n", b"\r", b"\x00", b"\xff", b"1e999", b"nan", b"inf",
                                                             b"-",
                                                             "é".encode(), b"9" * 500])
        (tmp_path / "patients.csv").write_bytes(bytes(content))
        try:
            said = predict(read_patients(tmp_path / "patients.csv"), model, read)
            answered += len(said) > 0
            assert all(bool(one.risks) != bool(one.reason) for one in said)
        except FedstatsError:
            pass
    assert answered > 0


# -- files of patients as hospitals have them --------------------------------------------------------------------------


def test_patients_in_a_form_that_was_declared_get_the_same_risks(made, tmp_path):
    """Semicolons, decimal commas, other words and cp1252: with the lines the same answer as in plain form, without them none."""
    model, read = folder.read_folder(made)
    (tmp_path / "plain.csv").write_text("patient_id,age,edss,sex,relapses\nJ,34,2.5,F,1\nK,50,2,M,0\n")
    written = "patient_id;age;edss;sex;relapses\nJürgen;34;2,5;weiblich;1\nK;50;2;männlich;0\n"
    (tmp_path / "german.csv").write_text(written, encoding="cp1252")
    form = as_form({"decimal": ",", "encoding": "cp1252", "levels": {"sex": {"weiblich": "F", "männlich": "M"}}})
    plain = predict(read_patients(tmp_path / "plain.csv"), model, read)
    german = predict(read_patients(tmp_path / "german.csv", form), model, read, form)

    assert [one.risks for one in german] == [one.risks for one in plain] and all(one.risks for one in plain)
    assert german[0].contributions == plain[0].contributions and german[0].patient == "patient Jürgen"
    with pytest.raises(FedstatsError, match="UTF-8"):
        read_patients(tmp_path / "german.csv")
    with pytest.raises(FedstatsError, match='decimal = ","'):
        predict(read_patients(tmp_path / "german.csv", as_form({"encoding": "cp1252"})), model, read)


def test_a_patient_with_an_unknown_word_stops_nobody_else(made):
    """The others get their risks; this one the reason."""
    model, read = folder.read_folder(made)
    first, second = predict([PATIENT, PATIENT | {"sex": "weiblich"}], model, read)

    assert first.risks and not second.risks and "not a level" in second.reason


def test_a_page_does_not_promise_what_the_model_refuses(made):
    """The end of a stretch that the model has seen is outside of it, unless the range ends there; the page says below."""
    model, read = folder.read_folder(made)
    refused = 0
    for one in read.seen.covariates:
        line = next(line for line in read.covariates if line.name == one.name)
        for (_, high), words in zip(one.spans, card_page.spans_seen(one, line)):
            (said,) = predict([PATIENT | {one.name: high}], model, read)
            refused += f'"{one.name}" is where' in said.reason
            assert (f'"{one.name}" is where' in said.reason) == ("below" in words)
    assert refused


def test_what_a_model_says_of_itself_does_not_steer_a_terminal(made, capsys):
    """Titles, reasons and names with control characters; many patients show their reasons in full."""
    model, read = folder.read_folder(made)
    said = predict([PATIENT | {"id": "a\x1b[31m"}, PATIENT | {"id": "b", "edss": "\x1b[2Jx"}], model, read)
    screen.patients(said)
    screen.patient(said[0], msgspec.structs.replace(read, title="\x1b]0;title\x07"))
    shown = capsys.readouterr().out

    assert "\x1b" not in shown and "\x07" not in shown
    assert "patient b: no risk is given: " + said[1].reason in shown
