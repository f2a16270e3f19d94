"""Files that people write and strangers send: whatever stands in them, one sentence and exit code
2, and never a fault of ours.

Every entry of every kind of file is replaced in turn by what parsers let through: numbers of 70
bits and of 5 000 digits, not a number, brackets without end, half a character, a megabyte of text,
another type."""

import io
import json
import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedstats import Dictionary
from fedstats.cli import main
from fedstats.cli.filters import condition, option
from fedstats.cli.questions import read_cohort, read_sheet
from fedstats.client.report import read_results
from fedstats.crypto.identity import Identity
from fedstats.data.reading import DEEPEST, checked, json_of, read_json, read_toml
from fedstats.errors import FedstatsError, InputError
from fedstats.formula import parse
from fedstats.ms.cohort.tree import read as read_tree
from fedstats.ms.tables.dmt import Treatments
from fedstats.query.analysis import Question, question_of
from fedstats.query.population import load_treatments
from fedstats.risk.study import read_study
from fedstats.wire.receipt import read_receipt
from fedstats.wire.roster import Consortium
from nodes.config import load as read_settings

from .. import every
from ..questions import calls

FAST = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
DIGITS, DEEP = "9" * 5000, "[" * 3000 + "]" * 3000
TOML = {
    "70 bits": str(2**70),
    "5000 digits": DIGITS,
    "not a number": "nan",
    "infinite": "-inf",
    "deep": DEEP,
    "deeper than allowed": "[" * 70 + "]" * 70,
    "half a character": '"\\ud800"',
    "true": "true",
    "a table": "{a = 1}",
    "a date": "2020-01-01",
    "a time": "07:30:00",
    "1e308": "1e308",
    "a list": "[1, 'a', {}]",
    "long": '"' + "x" * 1_000_000 + '"',
}
JSON = TOML | {
    "not a number": "NaN",
    "infinite": "-Infinity",
    "a table": '{"a": 1, "a": 2}',
    "a date": "null",
    "a time": "1e400",
    "a list": '[1, "a", {}]',
}
ALWAYS_WRONG = (
    "70 bits",
    "5000 digits",
    "not a number",
    "infinite",
    "deep",
    "deeper than allowed",
    "half a character",
)
QUESTION = '[[question]]\nanalysis = "summary"\n'
TOML_FILES = {
    "consortium": (
        Consortium.load,
        {
            "name": '"x"',
            "epoch": "1",
            "dictionary": '"d"',
            "dictionary_sha256": '"0"',
            "tables": '"ms"',
            "treatments": '""',
            "rules": "{min_cell = 5}",
            "max_patients_per_registry": "9",
            "members": "[]",
        },
    ),
    "node settings": (
        read_settings,
        {
            "consortium": '"c"',
            "key": '"k"',
            "data": '"d"',
            "journal": '"j"',
            "analysts": "[]",
            "minima": "{min_cell = 5}",
            "round_seconds": "9.0",
            "coordinator": '"x"',
            "data_cut": '"x"',
        },
    ),
    "questions": (
        read_sheet,
        {
            "title": '"x"',
            "purpose": '"x"',
            "where": '["age>=18"]',
            "cohort": '{index = {event = "onset"}}',
            "question": '[{analysis = "summary", columns = ["age"]}]',
        },
    ),
    "cohort": (
        read_cohort,
        {
            "index": '{event = "onset"}',
            "covariates": '["age"]',
            "outcomes": "[]",
            "eligibility": "[]",
        },
    ),
    "study": (
        read_study,
        {
            "title": '"x"',
            "where": '["age>=18"]',
            "cohort": '{index = {event = "onset"}}',
            "outcome": '"x"',
            "model": '{outcome = "a", covariates = ["b"]}',
            "validation": "{folds = 2}",
        },
    ),
    "dictionary.toml": (
        Dictionary.load,
        {"name": '"x"', "variables": '[{name = "a", type = "boolean"}]'},
    ),
}
JSON_FILES = {
    "dictionary.json": (
        Dictionary.load,
        {"name": '"x"', "variables": '[{"name": "a", "type": "boolean"}]'},
    ),
    "list of treatments": (Treatments.load, {"name": '"x"', "version": "1", "treatments": "[]"}),
    "receipt": (
        read_receipt,
        {
            "format": '"fedstats receipt"',
            "version": "1",
            "query": '"aaaa"',
            "admissions": "{}",
            "verdicts": "{}",
            "releases": "{}",
            "openings": "{}",
        },
    ),
    "results": (
        read_results,
        {"title": '"x"', "purpose": '"x"', "registries": "[]", "results": "[]", "flow": "[]"},
    ),
    "cohort.json": (
        read_cohort,
        {"index": '{"event": "onset"}', "covariates": '["age"]', "outcomes": "[]"},
    ),
}
PLACES = [(kind, place, "toml") for kind, (_, fields) in TOML_FILES.items() for place in fields]
PLACES += [(kind, place, "json") for kind, (_, fields) in JSON_FILES.items() for place in fields]


def usable(read, *args):
    """Whether reading gives something; if not it is one of our errors that ends a command with
    2. Anything else is a failure."""
    code = 0
    try:
        read(*args)
    except FedstatsError as error:
        code = error.exit_code
    assert code in (0, 2)
    return not code


@pytest.mark.parametrize(("kind", "place", "form"), PLACES, ids=lambda one: str(one))
def test_any_entry_of_any_file(tmp_path, kind, place, form):
    """One of our errors, of bounded length once shown, or a file that can be used; what no file
    may hold is always refused."""
    load, fields = (TOML_FILES if form == "toml" else JSON_FILES)[kind]
    path = tmp_path / f"file.{form}"
    for name, value in (TOML if form == "toml" else JSON).items():
        entries = fields | {place: value}
        lines = (
            [f"{key} = {entry}" for key, entry in entries.items()]
            if form == "toml"
            else [f'"{key}": {entry}' for key, entry in entries.items()]
        )
        path.write_text("\n".join(lines) if form == "toml" else "{" + ",\n".join(lines) + "}")
        assert not (usable(load, path) and name in ALWAYS_WRONG), name


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b"",
        b"a = [",
        b"[" * 200_000,
        b'{"a": 1, "a": 2}',
        b"a = 1\na = 2\n",
        b"\xef\xbb\xbf",
    ],
    ids=lambda one: repr(one[:12]),
)
def test_files_that_are_none(tmp_path, content):
    """Other bytes, an empty file, a name that stands twice: every reader says so."""
    for load, fields in (*TOML_FILES.values(), *JSON_FILES.values()):
        path = tmp_path / (
            "file.json" if any(load is one for one, _ in JSON_FILES.values()) else "file.toml"
        )
        path.write_bytes(content)
        with pytest.raises(InputError):
            load(path)
        with pytest.raises(InputError):
            load(tmp_path)  # a folder
        with pytest.raises(InputError):
            load(tmp_path / "none" / "x")
        assert fields


@FAST
@given(st.sampled_from(sorted(TOML_FILES | JSON_FILES)), st.randoms(use_true_random=False))
def test_changed_bytes_of_a_good_file(tmp_path_factory, kind, rng):
    """Bytes replaced, cut out and doubled at random."""
    load, fields = (TOML_FILES | JSON_FILES)[kind]
    toml = kind in TOML_FILES
    text = (
        "\n".join(f"{a} = {b}" for a, b in fields.items())
        if toml
        else "{" + ",".join(f'"{a}":{b}' for a, b in fields.items()) + "}"
    )
    raw = bytearray(text.encode())
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(raw))
        raw[at : at + rng.randint(0, 3)] = rng.choice(
            (
                b"",
                b"[",
                b'"',
                b"{",
                b"9",
                b"e9",
                b"\xff",
                b"\n",
                b"=",
                b"-",
                bytes(raw[at : at + 9]),
            )
        )
    path = tmp_path_factory.mktemp("f") / ("f.toml" if toml else "f.json")
    path.write_bytes(bytes(raw))
    usable(load, path)


def test_what_the_parsers_let_through_is_found_anywhere():
    """The one place that all readers share."""
    for bad in (2**63, -(2**63) - 1, float("nan"), float("inf"), "\udc80", {"\ud800": 1}):
        for content in (bad, [bad], {"a": {"b": [bad]}}):
            with pytest.raises(InputError):
                checked(content)
    deep = 1
    for _ in range(DEEPEST + 1):
        deep = [deep]
    with pytest.raises(InputError, match="deep"):
        checked(deep)
    assert checked({"a": [1, 2.5, None, True, "é", 2**63 - 1]}) and json_of("[1]") == [1]
    for text in ('{"a":1,"a":1}', "NaN", "[" * 100_000):
        with pytest.raises(InputError):
            json_of(text)


def test_a_file_that_is_far_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("fedstats.data.reading.LARGEST_FILE", 1000)
    path = tmp_path / "f"
    path.write_text("a = 1\n" * 1000)
    for read in (read_toml, lambda *args: read_json(*args, largest=1000)):
        with pytest.raises(InputError, match="larger than"):
            read(path, "file")


# -- words of the command line --------------------------------------------------------------------


WORDS = [
    "9" * 5000,
    "1e400",
    "NaN",
    "Infinity",
    "[" * 5000,
    '{"a":1}',
    '"' * 300,
    "x" * 50_000,
    "a\0b",
    "-",
    "",
    "١٢٣",
    str(2**70),
]


@pytest.mark.parametrize("word", WORDS, ids=lambda one: one[:9])
def test_any_word_in_a_condition_or_an_option(word):
    """Read, or refused with a sentence."""
    for read, text in (
        (condition, f"age>={word}"),
        (condition, f"age in {word},{word}"),
        (condition, word),
        (option, f"q={word}"),
        (option, word),
        (parse, f"y ~ age + ns(age, {word})"),
        (parse, f"y ~ I(age**{word})"),
        (parse, word),
    ):
        usable(read, text)


@FAST
@given(st.text(alphabet="ab1.9e+-~*:()[],='\"` ^sCnIlogSurv\ud800", max_size=80))
def test_any_formula(text):
    usable(parse, text)


ARGUMENTS = [
    ["ask", "summary", "x" * 5000],
    ["ask", "summary", "age", "--where", "age>=" + "9" * 5000],
    ["ask", "summary", "\udcff"],
    ["ask", "summary", "age", "--option", "confidence=" + "[" * 5000],
    ["ask", "quantiles", "age", "--option", 'q={"a": 1}'],
    ["ask", "--file", "x" * 5000],
    ["ask", "--file", "a\0b"],
    ["consortium", "show", "x" * 5000],
    ["receipt", "check", "\ud800"],
]


@pytest.mark.parametrize(
    "words", ARGUMENTS, ids=lambda one: " ".join(one)[:30].encode("ascii", "replace").decode()
)
def test_the_command_line_ends_with_one_sentence(tmp_path, monkeypatch, capsys, words):
    """Exit code 2, at most two lines, no traceback and no "internal fault"."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.json").write_text(json.dumps(every.DICTIONARY))
    (tmp_path / "a.csv").write_text("age,edss\n41,2\n")
    world = ["--pooled", "a=a.csv", "--dictionary", "d.json"] if words[0] == "ask" else []
    code = main([*words, *world])
    said = capsys.readouterr().err

    assert code == 2 and "internal" not in said and "Traceback" not in said
    assert said.startswith("fedstats: ") and len(said) < 4200


def test_bytes_that_are_no_text_as_an_argument(tmp_path):
    """A real process, as a shell would start it."""
    run = subprocess.run(
        [sys.executable, "-m", "fedstats.cli", "receipt", "check", b"\xff\xfe"],
        capture_output=True,
        cwd=tmp_path,
    )

    assert (
        run.returncode == 2
        and b"Traceback" not in run.stderr
        and b"bytes that are no text" in run.stderr
    )


# -- what comes over the wire as plain data -------------------------------------------------------


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
TREE = {
    "index": {"event": "dmt_start", "classes": ["high"], "dmts": [], "naive": True},
    "covariates": ["age", "edss"],
    "eligibility": [["age", ">=", 18]],
    "baseline": {"now_days": 100, "history_days": 100},
    "outcomes": [
        {"kind": "milestone", "level": 6.0},
        {"kind": "within", "outcome": "edss6", "years": 2},
    ],
    "follow_up": {
        "treatment": "switch",
        "grace_days": 60,
        "end_date": "2020-01-01",
        "max_days": 900,
        "confirmation": "any",
    },
}


def replaced(content, rng, by):
    """Plain data with one entry, anywhere in it, replaced."""
    if not isinstance(content, (dict, list)) or not content or rng.random() < 0.25:
        return by
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    at = rng.choice(keys)
    found = dict(content) if isinstance(content, dict) else list(content)
    found[at] = replaced(content[at], rng, by)
    return found


@settings(FAST, max_examples=400)
@given(plain, st.randoms(use_true_random=False))
def test_any_entry_of_a_cohort(content, rng):
    """A cohort from a query: a tree in its canonical form, or a sentence."""
    usable(read_tree, replaced(TREE, rng, content), ("age", "edss", "sex"), load_treatments(None))


DICTIONARY = Dictionary.from_dict(every.DICTIONARY)
CALLS = [(name, args, kwargs) for name, args, kwargs in calls()]


@settings(FAST, max_examples=600)
@given(st.sampled_from(range(len(CALLS))), plain, st.randoms(use_true_random=False))
def test_any_parameter_of_every_analysis(k, content, rng):
    """Every analysis, one parameter of a good question replaced: typed and checked, or refused,
    as a registry does it."""
    name, args, kwargs = CALLS[k]
    good = question_of(name, *args, **kwargs)
    params = replaced(good.params, rng, content)
    if isinstance(params, dict):  # what else there is, the message's own form refuses
        usable(as_a_registry_does, Question(good.analysis, params))


def as_a_registry_does(question):
    params = question.read()
    for column in params.columns():
        DICTIONARY[column]
    params.check(DICTIONARY)


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_key_file(tmp_path, seed):
    """Bytes changed in a key: an error that says what to do, never another key under the same
    name."""
    rng, path = random.Random(seed), tmp_path / "k"
    Identity.generate("lyon").save(path)
    good = path.read_bytes()
    for _ in range(60):
        raw = bytearray(good)
        raw[rng.randrange(len(raw) - 1)] = rng.choice(b" \x00\xffA=/\n-")
        path.write_bytes(bytes(raw))
        try:
            found = Identity.load(path)
        except InputError:
            continue
        assert io.BytesIO(raw).read(18) == good[:18] and found.name
