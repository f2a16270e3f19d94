"""The JSON Schemas: fresh, valid, and true of real examples."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest

import fedstats
from fedstats import Rules
from fedstats.cli import schemas
from fedstats.client.report import write_results
from fedstats.query.analysis import question_of

from . import every, helpers
from .test_report import content, results

FOLDER = Path(schemas.__file__).resolve().parents[2] / "schemas"


def validator(name):
    schema = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_the_file_is_fresh(name):
    """Whoever changes a type runs `python -m fedstats.cli.schemas schemas/`."""
    assert (FOLDER / name).read_text(encoding="utf-8") == schemas.text(name)


def test_every_file_of_the_folder_is_generated():
    assert {path.name for path in FOLDER.glob("*.json")} == set(schemas.SCHEMAS)


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_the_file_is_a_schema(name):
    jsonschema.Draft202012Validator.check_schema(json.loads(schemas.text(name)))


@pytest.mark.parametrize("source", [helpers.LUNG, every.DICTIONARY], ids=["lung", "every type"])
def test_dictionaries_validate(source):
    validator("dictionary.json").validate(json.loads(json.dumps(source)))
    validator("dictionary.json").validate(json.loads(json.dumps(fedstats.Dictionary.from_dict(source).to_dict())))


@pytest.mark.parametrize("change", [{"type": "colour"}, {"color": "red"}, {"range": [1]}], ids=["type", "field", "range"])
def test_wrong_dictionaries_do_not(change):
    wrong = {"name": "d", "variables": [{"name": "age", "type": "integer", "range": [0, 110]} | change]}

    with pytest.raises(jsonschema.ValidationError):
        validator("dictionary.json").validate(wrong)


@pytest.mark.parametrize("question", [question_of("summary", ["age"]), question_of("crosstab", "sex", "ecog", missing=True)], ids=str)
def test_questions_validate(question):
    validator("question.json").validate(json.loads(msgspec.json.encode(question)))


@pytest.mark.parametrize("wrong", [{"analysis": "summary/99", "params": {"names": ["age"]}}, {"analysis": "summary/1"},
                                   {"analysis": "summary/1", "params": {"names": ["age"], "code": "import os"}}],
                         ids=["version", "no parameters", "unknown parameter"])
def test_wrong_questions_do_not(wrong):
    with pytest.raises(jsonschema.ValidationError):
        validator("question.json").validate(wrong)


@pytest.mark.parametrize("rules", [None, Rules()], ids=["no rules", "default rules"])
def test_results_files_validate(tmp_path, rules):
    """With suppressed numbers and failed questions in them."""
    path = write_results(tmp_path / "results.json", **content(results(rules)))

    validator("results.json").validate(json.loads(path.read_text(encoding="utf-8")))


def test_a_result_of_an_unknown_kind_does_not(tmp_path):
    found = json.loads(write_results(tmp_path / "results.json", **content(results())).read_text(encoding="utf-8"))
    found["results"][0]["result"]["kind"] = "horoscope"

    with pytest.raises(jsonschema.ValidationError):
        validator("results.json").validate(found)


def test_the_command_writes_the_folder(tmp_path):
    """`python -m fedstats.cli.schemas FOLDER`"""
    subprocess.run([sys.executable, "-m", "fedstats.cli.schemas", str(tmp_path / "schemas")], check=True, cwd=FOLDER.parent,
                   capture_output=True)

    assert {path.name for path in (tmp_path / "schemas").iterdir()} == set(schemas.SCHEMAS)
