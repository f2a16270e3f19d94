"""The examples run as they stand in their README."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedstats import Dictionary
from fedstats.demo import laptop
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
    """A cohort on five tables: its flow, Table 1, curves, and an adjusted model."""
    out = run(EXAMPLES / "epidemiologist.py", cwd=tmp_path)

    for part in ("first start of a disease-modifying treatment", "rounds: ", "in the cohort: ", "Table 1", "log-rank",
                 "not worsened after two years", "dmt_class[high]"):
        assert part in out
    page = (tmp_path / "worsening.html").read_text()
    assert "hazard ratio" in out and "Worsening by drug class" in page and "eligible: age" in page


def test_the_file_of_questions_can_be_asked(tmp_path):
    """Of the folders that fedstats synthetic writes; the cohort stands in the file."""
    run("-m", "fedstats.cli", "synthetic", "registries", "--registries", "4", "--patients", "2400", "--seed", "3", "--no-truth",
        cwd=tmp_path)
    out = run("-m", "fedstats.cli", "ask", "--file", EXAMPLES / "questions.toml", "--simulate", "registries", "--report", "report.html",
              cwd=tmp_path)

    assert all(name in out for name in ("Who starts which class", "Relapses after the start", "Time to worsening", "Flow of patients"))
    assert "cdw24: at risk" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.network
def test_a_consortium_by_hand_as_the_readme_says(tmp_path):
    """The lines of the README, those that serve in the background: the analyst gets an answer and a report."""
    port = laptop.free_port()       # 8443, which it is without a word, may be taken here
    text = (EXAMPLES / "README.md").read_text().partition("```sh\n")[2].partition("```")[0]
    text = text.replace("8443", str(port)).replace("coordinator serve", f"coordinator serve --port {port}")
    lines = [f"{line} & sleep 3" if " serve " in line else line for line in text.splitlines()]
    (tmp_path / "questions.toml").write_text((EXAMPLES / "questions.toml").read_text())
    script = "set -e\ntrap 'kill $(jobs -p)' EXIT\n" + "\n".join(lines).replace("fedstats ", f"{sys.executable} -m fedstats.cli ")
    found = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=240, env=laptop.environment())

    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    assert "Time to worsening" in found.stdout and (tmp_path / "report.html").exists()


def test_the_readme_does_what_it_says(tmp_path, monkeypatch, capsys):
    """The first Python of the README, on what `fedstats synthetic registries` writes."""
    synthetic.write(tmp_path / "registries", seed=1, truth=False)
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]

    exec(compile(code, "README.md", "exec"), {})

    out = capsys.readouterr().out
    assert "dmt_class[high]" in out and "columns read: age" in out and "first start of a disease-modifying treatment" in out
