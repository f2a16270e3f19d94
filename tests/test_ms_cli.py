"""Cohorts on the tables of MS as an analyst and a registry would type them."""

import json

import pytest

from fedstats.client.report import read_results
from fedstats.data.tables import write_csv
from fedstats.ms import synthetic

COHORT = """
covariates = ["age", "sex", "edss", "relapses_12m", "dmt_class"]
eligibility = [["age", ">=", 18], ["edss", "missing", false]]
outcomes = [{kind = "definition", definition = "cdw24", version = 1}]
index = {event = "dmt_start"}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four registries with their five tables in folders, and a cohort, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, one in synthetic.registries(5, sites=4, sizes=[300, 200, 350, 250]).items():
        (tmp_path / "parts" / name).mkdir(parents=True)
        for table, columns in one.tables.items():
            write_csv(tmp_path / "parts" / name / f"{table}.csv", columns)
    (tmp_path / "cohort.toml").write_text(COHORT)
    return tmp_path


def test_one_question_about_a_cohort(folder, type_):
    """fedstats ask --cohort: the table, the flow of patients, and the cohort in words."""
    code, out, err = type_("ask", "summary", "age", "edss", "--simulate", "parts", "--cohort", "cohort.toml", "--where", "sex=F")

    assert (code, err) == (0, "")
    assert "Flow of patients" in out and "with the index event" in out and "under the conditions asked" in out
    assert "first start of a" in out and "Definition cdw24" in " ".join(out.split())


def test_a_file_of_questions_with_its_cohort(folder, type_):
    """The cohort stands in the file; its words once, not under each of the results; the report has flow and words."""
    (folder / "study.toml").write_text('purpose = "first look"\n[cohort]\n' + COHORT + '[[question]]\nanalysis = "summary"\n'
                                       'columns = ["age"]\n[[question]]\nanalysis = "kaplan_meier"\ntime = "cdw24_days"\n'
                                       'event = "cdw24_event"\n')
    code, out, err = type_("ask", "--file", "study.toml", "--pooled", "parts", "--report", "report.html")

    assert code == 0
    assert (out + err).count("Time zero was the first start") == 1, "once, not under each result"
    page = (folder / "report.html").read_text()
    assert "alive at time zero" in page and page.count("Time zero was the first start") == 2  # words, and numbers for programs
    assert 'class="beside"' in page


def test_json_carries_the_flow(folder, type_):
    """What a program reads has the same steps."""
    code, out, _ = type_("ask", "summary", "age", "--pooled", "parts", "--cohort", "cohort.toml", "--json")
    content = json.loads(out)

    assert code == 0
    assert content["results"][0]["result"]["size"]["flow"][0]["step"] == "patients in the registry"
    (folder / "r.json").write_text(out)
    assert dict(read_results(folder / "r.json"))


@pytest.mark.parametrize(("words", "says", "remedy"), [
    (("ask", "summary", "age", "--pooled", "parts"), "needs an index event", "dmt_start"),
    (("ask", "summary", "shoe", "--pooled", "parts", "--cohort", "cohort.toml"), '"shoe" is not a variable', "cdw24_days"),
    (("ask", "summary", "age", "--pooled", "parts", "--cohort", "nowhere.toml"), "cannot be read", ""),
    (("ask", "summary", "age", "--pooled", "parts", "--cohort", "parts/bari/visits.csv"), "not TOML", ""),
    (("ask", "summary", "age", "--pooled", "nowhere"), "nowhere", ""),
    (("consortium", "create", "x.toml", "--name", "x"), "needs a --dictionary", "draft"),
    (("consortium", "create", "x.toml", "--name", "x", "--dictionary", "d.json", "--treatments", "t.json"), "goes with --ms", ""),
])
def test_mistakes_get_a_sentence_and_a_remedy(folder, type_, words, says, remedy):
    """Exit code 2, what is wrong and what to do; nothing on stdout."""
    code, out, err = type_(*words)

    assert (code, out) == (2, "")
    assert says in err and remedy in err and "Traceback" not in err


def test_a_registry_checks_its_folder(folder, type_):
    """fedstats dictionary check FOLDER: what loading and cleaning find, by rule and count."""
    with (folder / "parts" / "bari" / "visits.csv").open("a") as file:
        file.write("nobody,2031-01-01,99,,\n")
    code, out, _ = type_("dictionary", "check", "parts/bari", "--data-cut", "2026-06-30")

    assert code == 0
    assert "rows read" in out and "edss" in out and "rows before cleaning" in out


def test_a_consortium_on_tables_of_ms(folder, type_):
    """create --ms writes the dictionary beside the file; node init and check read a folder."""
    assert type_("consortium", "create", "ms.toml", "--name", "MS", "--ms")[0] == 0
    for name, role in {"aarhus": "registry", "bari": "registry", "calgary": "registry", "ana": "analyst"}.items():
        _, public, _ = type_("keys", "new", name)
        assert type_("consortium", "add", "ms.toml", "--role", role, "--public", public.strip())[0] == 0
    type_("keys", "new", "hub")
    type_("consortium", "add", "ms.toml", "--role", "coordinator", "--key", "hub.key", "--address", "http://127.0.0.1:9")
    type_("consortium", "accept", "ms.toml", "--key", "bari.key", "--yes")

    no_date = type_("node", "init", "one", "--consortium", "ms.toml", "--key", "bari.key", "--data", "parts/bari", "--data-cut", "today")
    made = type_("node", "init", "two", "--consortium", "ms.toml", "--key", "bari.key", "--data", "parts/bari", "--data-cut", "2026-06-30")

    assert json.loads((folder / "dictionary.json").read_text())["name"] == "multiple sclerosis"
    assert no_date[0] == 2 and "data_cut" in no_date[2] and not (folder / "one").exists()
    assert made[0] == 0 and "rows before cleaning" in made[1], made


def test_a_house_declares_how_its_files_are_written(folder, type_):
    """Decimal commas: init, check and serve stop with the line to write; with the line in node.toml the node loads."""
    type_("consortium", "create", "ms.toml", "--name", "MS", "--ms")
    for name, role in {"aarhus": "registry", "bari": "registry", "calgary": "registry", "ana": "analyst"}.items():
        _, public, _ = type_("keys", "new", name)
        type_("consortium", "add", "ms.toml", "--role", role, "--public", public.strip())
    type_("keys", "new", "hub")
    type_("consortium", "add", "ms.toml", "--role", "coordinator", "--key", "hub.key", "--address", "http://127.0.0.1:9")
    type_("consortium", "accept", "ms.toml", "--key", "bari.key", "--yes")
    visits = folder / "parts" / "bari" / "visits.csv"
    lines = visits.read_text().splitlines()
    visits.write_text("\n".join(line.replace(",", ";").replace(".", ",") for line in lines) + "\n")
    words = ("node", "init", "b", "--consortium", "ms.toml", "--key", "bari.key", "--data", "parts/bari", "--data-cut", "2026-06-30")

    code, _, err = type_(*words)
    assert code == 2 and 'column "edss": decimal commas' in err and 'decimal = ","' in err and not (folder / "b").exists()
    code, out, err = type_("dictionary", "check", "parts/bari", "--data-cut", "2026-06-30")
    assert code == 2 and out.startswith('visits.csv, column "edss": decimal commas') and "[form]" in err

    assert type_("dictionary", "check", "parts/bari", "--data-cut", "2026-06-30", "--form", 'decimal = ","')[0] == 0
    assert type_(*words, "--form", 'decimal = ","')[0] == 0
    assert type_("node", "check", "b/node.toml")[0] == 0
    text = (folder / "b" / "node.toml").read_text()
    assert '[form]\ndecimal = ","' in text
    (folder / "b" / "node.toml").write_text(text.replace('decimal = ","', 'dates = "d/m/y"'))
    for command in ("check", "serve"):
        code, _, err = type_("node", command, "b/node.toml")
        assert code == 2 and "decimal commas" in err
    (folder / "b" / "node.toml").write_text(text.replace('decimal = ","', 'decimal = "comma"'))
    code, _, err = type_("node", "check", "b/node.toml")
    assert code == 2 and "node.toml" in err and "decimal" in err
