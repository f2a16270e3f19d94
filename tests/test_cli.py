"""The command line, as sessions that a reader would type."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fedstats.cli import filters
from fedstats.data import tables
from fedstats.data.draft import draft
from fedstats.errors import QuestionError

from . import flat_registries


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with four synthetic registries and their dictionary, as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dict.json").write_text(json.dumps(flat_registries.DICTIONARY))
    (tmp_path / "tables").mkdir()
    for name, columns in flat_registries.registries(5, sites=4, patients=1600).items():
        tables.write_csv(tmp_path / "tables" / f"{name}.csv", columns)
    return tmp_path


@pytest.fixture
def consortium(folder, type_):
    """A consortium file with three registries, an analyst and a coordinator; nobody has accepted it."""
    type_("consortium", "create", "ms.toml", "--name", "MS", "--dictionary", "dict.json")
    for name, role in {"aarhus": "registry", "bari": "registry", "calgary": "registry", "ana": "analyst"}.items():
        _, public, _ = type_("keys", "new", name)
        assert type_("consortium", "add", "ms.toml", "--role", role, "--public", public.strip())[0] == 0
    type_("keys", "new", "hub")
    type_("consortium", "add", "ms.toml", "--role", "coordinator", "--key", "hub.key", "--address", "http://127.0.0.1:9")
    return folder / "ms.toml"


# -- help and manners ----------------------------------------------------------------------------------------------------------

COMMANDS = ["demo", "ask", "split", "synthetic", "version", "keys new", "keys show", "consortium create", "consortium add",
            "consortium remove", "consortium accept", "consortium show", "receipt check", "risk train", "risk card", "risk predict",
            "risk check", "risk verify", "coordinator serve", "node init", "node check", "node serve", "dictionary draft",
            "dictionary check", "dictionary show"]


def test_help_lists_every_command_and_imports_nothing_heavy():
    """fedstats --help answers without numpy, scipy or pandas; node commands come from the other package."""
    code = ("import sys\nfrom fedstats.cli import main\nassert main(['--help']) == 0\n"
            "heavy = {'numpy', 'scipy', 'pandas', 'tenseal', 'httpx', 'pyarrow', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert found.returncode == 0, found.stderr
    assert all(f"  {command.split()[0]} " in found.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(type_, command):
    """Help without an example is half a help."""
    code, out, _ = type_(*command.split(), "--help")

    assert code == 0
    assert "Example" in out and f"fedstats {command}" in out


def test_help_of_ask_lists_the_analyses(type_):
    _, out, _ = type_("ask", "--help")

    assert "kaplan_meier(time=, event=, by=None" in out and "summary(columns, confidence=0.95)" in out


def test_a_wrong_command_says_where_help_is(type_):
    code, out, err = type_("sumary")

    assert (code, out) == (2, "")
    assert err == "fedstats: no such command 'sumary'\nfedstats: hint: fedstats --help\n"


def test_an_unexpected_fault_shows_no_traceback_and_no_data(type_, monkeypatch, folder):
    """Its text may carry data: only its kind is told, and how to see more."""
    def broken(*_, **__):
        raise ValueError("patient 17 has EDSS 6.5")

    monkeypatch.setattr("fedstats.query.population.load", broken)
    code, out, err = type_("dictionary", "check", "tables/bari.csv", "--dictionary", "dict.json")
    assert (code, out) == (1, "") and "ValueError" in err and "patient" not in err and "Traceback" not in err

    code, _, err = type_("--debug", "dictionary", "check", "tables/bari.csv", "--dictionary", "dict.json")
    assert code == 1 and "Traceback" in err


# -- keys and consortium ---------------------------------------------------------------------------------------------------------


def test_keys_are_made_once_and_shown(folder, type_):
    code, out, err = type_("keys", "new", "lyon", "--out", "lyon.key")
    assert code == 0 and out.startswith("fedstats-public-1 lyon ") and "fingerprint of lyon:" in err
    assert os.stat("lyon.key").st_mode & 0o077 == 0

    code, again, _ = type_("keys", "show", "lyon.key")
    assert (code, again) == (0, out)
    code, out, _ = type_("keys", "show", "lyon.key", "--json")
    assert json.loads(out)["name"] == "lyon"

    code, out, err = type_("keys", "new", "lyon", "--out", "lyon.key")
    assert (code, out) == (2, "") and "lyon.key exists already" in err


def test_a_consortium_grows_and_is_accepted(consortium, type_):
    code, out, _ = type_("consortium", "show", consortium)
    assert code == 0 and "epoch 6" in out and "calgary" in out and "still to be added" not in out
    assert json.loads(type_("consortium", "show", consortium, "--json")[1])["rules"]["min_cell"] == 10

    code, out, err = type_("consortium", "accept", consortium, "--key", "bari.key")
    assert code == 2 and "fingerprint:" in out and "nobody is at the keyboard" in err
    code, out, _ = type_("consortium", "accept", consortium, "--key", "bari.key", "--yes")
    assert code == 0 and "member: registry aarhus" in out

    type_("keys", "new", "dresden")
    type_("consortium", "add", consortium, "--role", "registry", "--key", "dresden.key")
    code, out, _ = type_("consortium", "accept", consortium, "--key", "bari.key", "--yes")
    assert code == 0 and "new: registry dresden" in out and "aarhus" not in out


def test_a_member_leaves_and_everybody_accepts_again(consortium, type_):
    """A new epoch without it; whoever accepted the old one is told who is gone, and works with neither file until then."""
    type_("consortium", "accept", consortium, "--key", "ana.key", "--yes")
    code, out, err = type_("consortium", "remove", consortium, "calgary")
    assert (code, out) == (2, "") and "nobody is at the keyboard" in err and "add --yes" in err

    code, out, err = type_("consortium", "remove", consortium, "calgary", "--yes")
    assert (code, out) == (0, "") and "calgary removed; epoch 7" in err
    assert "2 registries are left: a question needs at least 3" in err
    assert "calgary" not in type_("consortium", "show", consortium)[1]
    code, _, err = type_("ask", "summary", "age", "--consortium", consortium, "--key", "ana.key")
    assert code == 2 and "not the one that was accepted: it has changed" in err
    code, out, err = type_("consortium", "accept", consortium, "--key", "ana.key", "--yes")
    assert code == 0 and "gone: registry calgary" in out and "epoch 6 is kept as ana.key.epoch6.toml" in err
    assert "calgary" in type_("consortium", "show", "ana.key.epoch6.toml")[1]


def test_only_a_member_can_be_removed(consortium, type_):
    before = consortium.read_bytes()
    code, out, err = type_("consortium", "remove", consortium, "turin", "--yes")

    assert (code, out) == (2, "") and "turin is not a member of MS" in err and "members are: aarhus, bari" in err
    assert consortium.read_bytes() == before


def test_receipts_are_of_the_network_only(folder, type_):
    """--receipt without a consortium is refused before anything is computed."""
    code, out, err = type_("ask", "summary", "age", *LOCAL, "--receipt", "receipt.json")

    assert (code, out) == (2, "") and "--receipt goes with --consortium" in err and not (folder / "receipt.json").exists()


@pytest.mark.parametrize(("words", "says"), [
    (("--role", "boss", "--public", "x"), '"boss" is not a role'),
    (("--role", "analyst"), "give the member's --public line"),
    (("--role", "analyst", "--public", "lyon.pub"), "lyon.pub is neither a file nor a public line"),
    (("--role", "analyst", "--public", "some other line"), "this is not a public identity"),
    (("--role", "registry", "--key", "bari.key"), '"bari" is a member twice'),
    (("--role", "coordinator", "--key", "bari.key"), "a coordinator needs an --address"),
])
def test_a_wrong_member_leaves_the_file_as_it_was(consortium, type_, words, says):
    before = consortium.read_bytes()
    code, _, err = type_("consortium", "add", consortium, *words)

    assert code == 2 and says in err
    assert consortium.read_bytes() == before and not list(consortium.parent.glob("*.part"))


# -- a node ------------------------------------------------------------------------------------------------------------------------


def test_a_node_is_set_up_and_checked(consortium, type_):
    words = ("node", "init", "b", "--consortium", "ms.toml", "--key", "bari.key", "--data", "tables/bari.csv", "--data-cut", "2026-06")
    code, out, err = type_(*words)
    assert code == 0 and "rows read" in out and "no warnings" in out and "next: compare its fingerprint" in err

    code, _, err = type_("node", "check", "b/node.toml")
    assert code == 2 and "has not been accepted yet" in err and "fedstats consortium accept" in err
    type_("consortium", "accept", "ms.toml", "--key", "bari.key", "--yes")
    code, out, _ = type_("node", "check", "b/node.toml")
    assert code == 0 and out.startswith("bari, data cut 2026-06, of MS, epoch 6")
    assert json.loads(type_("node", "check", "b/node.toml", "--json")[1])["violations"] == []

    code, _, err = type_(*words)
    assert code == 2 and "exists already" in err


def test_a_node_that_cannot_work_is_not_set_up(consortium, type_):
    code, _, err = type_("node", "init", "x", "--consortium", "ms.toml", "--key", "ana.key", "--data", "tables/bari.csv", "--data-cut", "1")
    assert code == 2 and "ana, who is not a registry of MS" in err

    (consortium.parent / "other.csv").write_text("a,b\n1,2\n")
    code, _, err = type_("node", "init", "x", "--consortium", "ms.toml", "--key", "bari.key", "--data", "other.csv", "--data-cut", "1")
    assert code == 2 and "no column is in the dictionary" in err
    assert not (consortium.parent / "x").exists()


def test_parties_refuse_the_wrong_role(consortium, type_):
    for key in ("ana.key", "bari.key", "hub.key"):
        type_("consortium", "accept", consortium, "--key", key, "--yes")
    code, _, err = type_("coordinator", "serve", "--consortium", consortium, "--key", "ana.key")
    assert code == 2 and "ana, who is not a coordinator of MS" in err

    code, _, err = type_("ask", "summary", "age", "--consortium", consortium, "--key", "bari.key")
    assert code == 3 and "bari, who is not an analyst of MS" in err


def test_an_unreachable_coordinator_is_exit_code_4(consortium, type_):
    code, _, err = type_("ask", "summary", "age", "--consortium", consortium, "--key", "ana.key")
    assert code == 2 and "has not been accepted yet" in err

    type_("consortium", "accept", consortium, "--key", "ana.key", "--yes")
    code, out, err = type_("ask", "summary", "age", "--consortium", consortium, "--key", "ana.key")
    assert (code, out) == (4, "") and "no coordinator can be reached at http://127.0.0.1:9" in err


# -- ask -----------------------------------------------------------------------------------------------------------------------------


def test_a_question_to_pooled_tables(folder, type_):
    code, out, _ = type_("ask", "summary", "age", "edss", "--where", "age>=18", "--where", "sex==female", "--pooled", "tables",
                         "--dictionary", "dict.json")

    assert code == 0
    assert "patients in 4 registries" in out and "95% interval" in out and "no release rules" in out


def test_a_simulation_says_the_same_numbers(folder, type_):
    """--simulate goes through the real seal; with the same rules the JSON holds the same digits."""
    both = []
    for world in ("--pooled", "--simulate"):
        code, out, _ = type_("ask", "crosstab", "sex", "course", world, "tables", "--dictionary", "dict.json", "--rules", "--json")
        assert code == 0
        both.append(json.loads(out)["results"][0]["result"])

    assert both[0]["released"] == "pooled" and both[1]["released"] == "simulated"
    assert {name: value for name, value in both[0].items() if name not in ("released", "query")} == \
        {name: value for name, value in both[1].items() if name not in ("released", "query")}


def test_tables_may_be_named_one_by_one(folder, type_):
    code, out, _ = type_("ask", "quantiles", "age_onset", "--option", "q=0.25,0.5", "--pooled", "lyon=tables/bari.csv",
                         "turin=tables/aarhus.csv", "--dictionary", "dict.json", "--json")

    assert code == 0 and json.loads(out)["registries"] == ["lyon", "turin"]


def test_a_file_of_questions_a_report_and_a_picture(folder, type_):
    (folder / "q.toml").write_text("""
title = "First look"
purpose = "feasibility"
where = ["age>=18", ["sex", "==", "female"]]
[[question]]
name = "Ages"
analysis = "summary"
columns = ["age", "edss"]
[[question]]
analysis = "kaplan_meier"
time = "days"
event = "worsened"
""")
    code, out, err = type_("ask", "--file", "q.toml", "--pooled", "tables", "--dictionary", "dict.json", "--report", "report.html")
    assert code == 0 and "Ages" in out and "kaplan_meier, time days, event worsened" in out and "report written" in err
    page = (folder / "report.html").read_text()
    assert "First look" in page and "age &gt;= 18 and sex == female" in page and "feasibility" in page

    code, _, _ = type_("ask", "kaplan_meier", "--time", "days", "--event", "worsened", "--pooled", "tables", "--dictionary", "dict.json",
                       "--plot", "km.png")
    assert code == 0 and (folder / "km.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob("*.part"))


def test_explain_asks_nobody(folder, type_):
    code, out, _ = type_("ask", "logrank", "--time", "days", "--event", "worsened", "--by", "dmt", "--simulate", "tables", "--dictionary",
                         "dict.json", "--explain")

    assert code == 0 and "rounds:" in out and "the coordinator: sizes and times" in out and "p" not in out.split("rounds")[0].split()


LOCAL = ("--pooled", "tables", "--dictionary", "dict.json")


@pytest.mark.parametrize(("words", "code", "says", "hint"), [
    (("summary", "agee", *LOCAL), 2, '"agee" is not a variable', 'did you mean "age"?'),
    (("summary", "age", "tables/bari.csv", *LOCAL), 2, "tables/bari.csv is a file, not a column", "NAME=FILE"),
    (("sumary", "age", *LOCAL), 2, 'there is no analysis "sumary"', 'did you mean "summary"?'),
    (("summary", "age", "--by", "sex", *LOCAL), 2, 'summary takes no "by"', "summary(columns, confidence=0.95)"),
    (("logrank", "age", *LOCAL), 2, "logrank takes its columns by name", "logrank(time="),
    (("compare", *LOCAL), 2, "compare needs column and by", "compare(column, by="),
    (("kaplan_meier", "--time", "days", *LOCAL), 2, "kaplan_meier needs event", "kaplan_meier(time=, event="),
    (("compare", "edss", "age", *LOCAL), 2, "compare takes fewer columns than these 2", "compare(column, by="),
    (("crosstab", "sex", "--plot", "x.docx", *LOCAL), 2, 'not ".docx"', ""),
    (("summary", "age", *LOCAL, "--simulate", "tables"), 2, "give one of them", ""),
    (("summary", "age", "--where", "age>=17", *LOCAL), 2, "does not cut at a registered cut point", "nearest cut points: 18"),
    (("summary", "age", "--where", "age of 17", *LOCAL), 2, "is not a condition", "age>=18"),
    (("summary", "age", "--where", "sex==other", *LOCAL), 2, '"other" is not a level', "female, male"),
    (("summary", "age", "--option", "confidence", *LOCAL), 2, "is not an option", "name=value"),
    (("summary", "age", "--option", "confidence=much", *LOCAL), 2, "summary/1:", ""),
    (("summary", "age"), 2, "whom to ask?", "--pooled"),
    (("summary", "age", "--pooled", "tables"), 2, "need a --dictionary", "dictionary draft"),
    (("summary", "age", "--pooled", "nix.csv", "--dictionary", "dict.json"), 2, "there is no file nix.csv", ""),
    (("summary", "age", "--consortium", "nix.toml"), 2, "needs the analyst's --key", ""),
    (("summary", "age", "--consortium", "nix.toml", "--key", "k"), 2, "nix.toml cannot be read", ""),
    (("--file", "nix.toml", *LOCAL), 2, "nix.toml cannot be read", ""),
    ((), 2, "which analysis?", "summary"),
    (("summary", "age", "--where", "relapses>=3", "--where", "course=PPMS", *LOCAL, "--rules"), 3, "(rule min_cohort)", "widen the filter"),
])
def test_a_question_that_cannot_be_asked(folder, type_, words, code, says, hint):
    """One sentence says what is wrong, another what to do; nothing on stdout, nothing half-written."""
    found, out, err = type_("ask", *words)

    assert (found, out) == (code, "")
    assert says in err.splitlines()[0] and err.startswith("fedstats: ")
    assert hint in "".join(line for line in err.splitlines() if line.startswith("fedstats: hint: "))


def test_a_broken_table_is_named_by_file_and_line(folder, type_):
    text = (folder / "tables" / "bari.csv").read_text().splitlines()
    (folder / "tables" / "bari.csv").write_text("\n".join([*text[:6], text[6] + ",surplus", *text[7:]]))
    code, _, err = type_("ask", "summary", "age", *LOCAL)
    assert code == 2 and "tables/bari.csv, line 7: 11 cells where the first line has 10" in err and "surplus" not in err

    code, _, err = type_("split", "tables/bari.csv", "--into", "2", "--out", "parts")
    assert code == 2 and "tables/bari.csv, line 7: 11 cells where the first line has 10" in err
    assert not (folder / "parts").exists()


def test_a_report_that_cannot_be_written_is_told_before_asking(folder, type_):
    """Nothing is computed, printed or left behind."""
    code, out, err = type_("ask", "summary", "age", *LOCAL, "--report", "nowhere/report.html")

    assert (code, out) == (2, "") and "nowhere/report.html cannot be written: there is no folder nowhere" in err
    assert not (folder / "nowhere").exists()


# -- conditions and options ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "condition"), [
    ("age>=18", ("age", ">=", 18)), ("edss < 3.5", ("edss", "<", 3.5)), ("sex=F", ("sex", "==", "F")), ("x != a b", ("x", "!=", "a b")),
    ("level=='<1'", ("level", "==", "<1")), ('code="1"', ("code", "==", "1")),
    ("code==007", ("code", "==", "007")), ("t==-2e3", ("t", "==", -2000.0)),
    ("course in RRMS, SPMS", ("course", "in", ["RRMS", "SPMS"])), ("edss missing", ("edss", "missing", True)),
    ("edss known", ("edss", "missing", False)), ("start>=2020-01-01", ("start", ">=", "2020-01-01")),
])
def test_a_condition_is_read(text, condition):
    assert filters.condition(text) == condition


@pytest.mark.parametrize("text", ["", "age", ">=18", "age>=", "age=>18", "a<b<c", "__import__('os')"])
def test_what_is_not_a_condition_is_refused(text):
    with pytest.raises(QuestionError, match="is not a condition"):
        filters.condition(text)


def test_options_are_values_never_code():
    assert filters.option("q=0.1,0.5") == ("q", [0.1, 0.5]) and filters.option("missing=true") == ("missing", True)
    assert filters.option("conf_type=log-log") == ("conf_type", "log-log") and filters.option("x=__import__('os')")[1] == "__import__('os')"


# -- split and dictionary ----------------------------------------------------------------------------------------------------------------


def test_split_is_the_same_whatever_the_order_of_rows(folder, type_):
    """A patient's part follows from the id alone; every row lands in one part, cells unchanged."""
    head, *rows = (folder / "tables" / "bari.csv").read_text().splitlines()
    (folder / "back.csv").write_text("\n".join([head, *reversed(rows)]) + "\n")
    code, out, _ = type_("split", "tables/bari.csv", "--into", "3", "--out", "one", "--json")
    assert code == 0 and sum(json.loads(out)["rows"].values()) == len(rows)
    type_("split", "back.csv", "--into", "3", "--out", "two")
    type_("split", "tables/bari.csv", "--into", "3", "--out", "three", "--seed", "another")

    parts = {name: [set((folder / name / f"r{k}.csv").read_text().splitlines()[1:]) for k in (1, 2, 3)] for name in ("one", "two", "three")}
    assert parts["one"] == parts["two"] != parts["three"]
    assert {one.replace('"', "") for part in parts["one"] for one in part} == {row.replace('"', "") for row in rows}


def test_split_by_a_column_keeps_its_values_together(folder, type_):
    code, out, err = type_("split", "tables/bari.csv", "--into", "2", "--out", "parts", "--by", "dmt")
    assert code == 0 and "r1.csv" in out and "by column dmt" in err
    place = synthetic_columns(folder).index("dmt")
    seen = [{line.split(",")[place] for line in (folder / "parts" / f"r{k}.csv").read_text().splitlines()[1:]} for k in (1, 2)]
    assert not seen[0] & seen[1]

    assert type_("split", "tables/bari.csv", "--into", "2", "--out", "parts", "--by", "nix")[0] == 2


def synthetic_columns(folder):
    return (folder / "tables" / "bari.csv").read_text().splitlines()[0].replace('"', "").split(",")


def test_a_folder_is_no_table_to_draft_from(folder, type_):
    code, out, err = type_("dictionary", "draft", "tables")

    assert (code, out) == (2, "") and "tables is a folder: a dictionary is drafted from one table" in err and "--ms" in err


def test_a_drafted_dictionary_fits_its_table(folder, type_):
    code, _, err = type_("dictionary", "draft", "tables/aarhus.csv", "--out", "new.json")
    assert code == 0 and 'skipped: "patient_id": it identifies patients' in err and "check: add a \"unit\" to: age_onset" in err
    variables = {one["name"]: one for one in json.loads((folder / "new.json").read_text())["variables"]}
    assert variables["worsened"] == {"name": "worsened", "type": "boolean"}
    assert variables["edss"]["step"] == 0.5 and variables["edss"]["range"] == [0, 10]
    assert variables["dmt"]["levels"] == ["high efficacy", "moderate efficacy"] or "none" in variables["dmt"]["levels"]

    code, out, _ = type_("dictionary", "check", "tables/aarhus.csv", "--dictionary", "new.json")
    assert code == 0 and "set to missing" not in out.replace("not a level", "")
    code, out, _ = type_("dictionary", "show", "new.json")
    assert code == 0 and "variables, sha256" in out
    code, _, err = type_("dictionary", "draft", "tables/aarhus.csv", "--out", "new.json")
    assert code == 2 and "exists already" in err


def test_a_draft_gives_nobody_away():
    """Identifiers, sites and free text stay out; ranges are round; codes for missing values are found."""
    n = 60
    columns = {
        "patient_id": np.arange(n), "mrn": np.arange(n) + 71234, "serial": np.arange(1000, 1000 + n), "site": np.arange(n) % 3,
        "remark": np.array([f"fell on day {k}" for k in range(n)]), "weight": np.round(np.linspace(47.3, 101.9, n), 1),
        "edss": np.tile([0, 1, 1.5, 2, 6.5, 3], 10), "score": np.array([*[3, 7, 21, 33] * 14, 999, 999, 999, 999]),
        "smoker": np.array(["yes", "no", ""] * 20), "rare": np.array(["a"] * 55 + ["b"] * 5),
        "start": np.array(["2019-05-07", "2021-02-03"] * 30),
    }
    found = draft(columns, "d")
    variables = {one["name"]: one for one in found.source["variables"]}

    assert set(variables) == {"weight", "edss", "score", "smoker", "rare", "start"}
    assert variables["weight"]["range"] == [0, 120] and variables["weight"]["step"] == 0.1
    assert variables["edss"]["step"] == 0.5 and variables["score"]["missing"] == [999]
    assert variables["smoker"] == {"name": "smoker", "type": "boolean"}
    assert variables["start"]["range"] == ["2019-01-01", "2021-12-31"]
    assert any("rare" in line and "fewer than 10" in line for line in found.check)


def test_check_counts_by_rule_and_shows_no_value(folder, type_):
    text = (folder / "tables" / "bari.csv").read_text().replace("female", "woman", 3)
    (folder / "bad.csv").write_text(text)
    code, out, _ = type_("dictionary", "check", "bad.csv", "--dictionary", "dict.json")
    assert code == 0 and 'column "sex": 3 values set to missing: not a level' in out and "1 warning" in out and "woman" not in out
    assert json.loads(type_("dictionary", "check", "bad.csv", "--dictionary", "dict.json", "--json")[1])["violations"] == [
        {"column": "sex", "rule": "not a level", "values": 3}]

    (folder / "other.csv").write_text("a,b\n1,2\n")
    code, _, err = type_("dictionary", "check", "other.csv", "--dictionary", "dict.json")
    assert code == 2 and "no column is in the dictionary" in err
