"""The examples run as they stand in their README."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedstats import Dictionary, tables
from fedstats.ms import synthetic

from .helpers import shared

EXAMPLES = Path(__file__).parents[1] / "examples"
CIS = ("data", "cis_mexico", "conversion_predictors_cis_ms.csv")
LUNG = ("data", "survival_multicentre", "lung.csv")
CGD = ("data", "survival_multicentre", "cgd0_wide.csv")


def run(*words, cwd):
    """Run a Python file or module; returns what it printed."""
    found = subprocess.run([sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=120,
                           env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    assert found.returncode == 0, found.stderr
    return found.stdout


def any_csvs(folder, file, split, *words):
    run("-m", "fedstats.cli", "split", file, "--into", "4", "--out", "parts", *split, cwd=folder)
    parts = [f"r{k}=parts/r{k}.csv" for k in (1, 2, 3, 4)]
    return run(EXAMPLES / "any_csvs.py", *parts, *words, cwd=folder)


@pytest.mark.parametrize("name", ["cis_mexico", "lung", "cgd"])
def test_the_dictionaries_are_sound(name):
    book = Dictionary.load(EXAMPLES / f"{name}.json")

    assert all(variable.description or variable.unit or variable.type == "boolean" for variable in book.variables)
    assert not any("EDSS" in variable for variable in book.names)


def test_clinically_isolated_syndrome_in_four_registries(tmp_path):
    """273 real patients; with and without the seal the same page comes out."""
    words = ["--dictionary", EXAMPLES / "cis_mexico.json", "--columns",
             "Age", "Gender", "Schooling", "Periventricular_MRI", "--by", "group"]
    sealed = any_csvs(tmp_path, shared(*CIS), ["--patient-id", "ID"], *words)
    pooled = any_csvs(tmp_path, shared(*CIS), ["--patient-id", "ID"], *words, "--pooled")

    def numbers(page):
        return [line for line in page.splitlines() if "pooled" not in line and "simulated" not in line and "query" not in line]

    assert "in 4 registries" in sealed and "not answered" not in sealed and "Periventricular_MRI = true" in sealed
    assert numbers(sealed) == numbers(pooled)


@pytest.mark.parametrize(("file", "split", "words", "says"), [
    (LUNG, ["--by", "inst"], ["--dictionary", "lung.json", "--yes", "died=status:2", "--columns", "age", "ph.karno", "--by", "sex",
                              "--time", "time", "--event", "died"], "log-rank"),
    (CGD, ["--by", "center"], ["--dictionary", "cgd.json", "--yes", "infected=etime1:*", "--first", "days=etime1,futime", "--columns",
                               "age", "weight", "inherit", "--by", "treat", "--time", "days", "--event", "infected"], "Kaplan-Meier"),
])
def test_real_multicentre_data(tmp_path, file, split, words, says):
    words = [EXAMPLES / word if str(word).endswith(".json") else word for word in words]

    out = any_csvs(tmp_path, shared(*file), split, *words)

    assert says in out and "not answered" not in out


def test_a_wrong_column_is_said_in_one_sentence(tmp_path):
    (tmp_path / "a.csv").write_text("Age\n40\n")
    found = subprocess.run([sys.executable, str(EXAMPLES / "any_csvs.py"), "a.csv", "--dictionary", str(EXAMPLES / "cis_mexico.json"),
                            "--columns", "Agee"], cwd=tmp_path, capture_output=True, text=True)

    assert found.returncode == 1 and '"Agee" is not a variable' in found.stderr and "Traceback" not in found.stderr


def test_an_epidemiologist_gets_a_report(tmp_path):
    out = run(EXAMPLES / "epidemiologist.py", cwd=tmp_path)

    assert "who sees what" not in out and "not worsened after a year" in out
    assert "Worsening by drug class" in (tmp_path / "worsening.html").read_text()


def test_the_file_of_questions_can_be_asked(tmp_path):
    (tmp_path / "dict.json").write_text(json.dumps(synthetic.DICTIONARY))
    (tmp_path / "parts").mkdir()
    for name, columns in synthetic.registries(8, sites=3, patients=900).items():
        tables.write_csv(tmp_path / "parts" / f"{name}.csv", columns)
    out = run("-m", "fedstats.cli", "ask", "--file", EXAMPLES / "questions.toml", "--simulate", "parts", "--dictionary", "dict.json",
              cwd=tmp_path)

    assert all(name in out for name in ("Ages and EDSS", "Course by sex", "Time to worsening"))
