"""fedstats risk as an analyst would type it: a study trains a model, its card says how good it is, a patient asks it."""

import json
from pathlib import Path

import pytest

from fedstats.data.tables import write_csv
from fedstats.ms import synthetic
from fedstats.risk.study import read_study

from .risk_data import DICTIONARY, registries

EXAMPLE = Path(__file__).parents[1] / "examples" / "risk.toml"
STUDY = """
title = "Worsening"
purpose = "a test"
where = ["age>=20"]
[model]
outcome = "event"
time = "days"
objective = "hazard:logistic"
covariates = ["age", "edss", "sex", "relapses"]
intervals = [180, 360, 540, 720]
rounds = 4
max_depth = 2
[validation]
folds = 2
by = ["sex"]
horizons = [360, 720]
"""
PATIENT = {"age": 34, "edss": 2.5, "sex": "F", "relapses": 1}


def write(folder, tables):
    folder.mkdir()
    for name, columns in tables.items():
        write_csv(folder / f"{name}.csv", columns)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write(folder / "parts", registries((300, 250, 200, 300, 250), seed=3))
    (folder / "dict.json").write_text(json.dumps(DICTIONARY))
    (folder / "study.toml").write_text(STUDY)
    (folder / "patient.json").write_text(json.dumps(PATIENT))
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def model(folder, type_):
    """A trained model; the first who needs it has it made."""
    if not (folder / "model").exists():
        code, _, err = type_("risk", "train", "study.toml", "--pooled", "parts", "--rules", "--dictionary", "dict.json", "--out", "model")
        assert code == 0, err
    return folder / "model"


def test_a_study_becomes_a_model_with_its_card(folder, type_):
    """Under the seal: four files, and on the screen who was asked, how good it is, and what it does not say."""
    code, out, err = type_("risk", "train", "study.toml", "--simulate", "parts", "--dictionary", "dict.json", "--out", "sealed")

    assert code == 0 and "model.json (for xgboost)" in err
    assert {one.name for one in (folder / "sealed").iterdir()} == {"model.json", "risk.json", "card.json", "card.html"}
    assert "5 registries" in out and "at 720 days" in out and "sex: F" in out and "It does not say who" in out
    card = json.loads((folder / "sealed" / "card.json").read_text())
    assert card["privacy"]["how"] == "simulated" and card["training"]["outcome"] == 'The column "event": confirmed worsening.'
    assert "age" in card["training"]["cohort"]


def test_pooled_and_simulated_training_give_the_same_model(model, folder, type_):
    if not (folder / "sealed").exists():
        type_("risk", "train", "study.toml", "--simulate", "parts", "--dictionary", "dict.json", "--out", "sealed")

    assert (model / "model.json").read_bytes() == (folder / "sealed" / "model.json").read_bytes()


def test_a_card_is_shown_and_becomes_a_page(model, folder, type_):
    code, out, _ = type_("risk", "card", "model/card.json")
    assert code == 0 and "ROC-AUC" in out

    code, _, err = type_("risk", "card", "model", "--html", "page.html")
    assert code == 0 and "page.html" in err
    assert (folder / "page.html").read_text() == (model / "card.html").read_text()


def test_a_patient_is_told_risks_and_reasons(model, type_):
    code, out, err = type_("risk", "predict", "model", "--patient", "patient.json", "--html", "patient.html")

    assert "<rect" in Path("patient.html").read_text() and "page written" in err
    assert code == 0 and "within 720 days" in out and "What drives it" in out and "2.5" in out
    assert "research use only; not a medical device" in err


def test_patients_from_a_csv_file_as_json(model, folder, type_):
    """A missing cell stays missing, and is said."""
    (folder / "patients.csv").write_text("patient_id,age,edss,sex,relapses\nana,34,2.5,F,1\nben,50,,M,0\n")
    code, out, _ = type_("risk", "predict", "model", "--patient", "patients.csv", "--json")
    ana, ben = json.loads(out)

    assert code == 0 and ana["patient"] == "patient ana" and ben["missing"] == ["edss"]
    assert 0 < ana["risks"][0]["risk"] < ana["risks"][1]["risk"] < 1


def test_a_registry_checks_the_model_on_its_own_patients(model, folder, type_):
    """Only there, nothing is sent: the absolute risks of its own patients against what became of them."""
    from sklearn.metrics import roc_auc_score

    from fedstats.risk.folder import read_folder

    code, out, err = type_("risk", "check", "model", "study.toml", "--data", "parts/r1.csv", "--dictionary", "dict.json", "--json")
    own = json.loads(out)
    table = {name: column for name, column in registries((300, 250, 200, 300, 250), seed=3)["r1"].items() if name != "patient_id"}
    keep = (table["age"] >= 20) & ((table["days"] > 360) | table["event"])
    risks = read_folder(model)[0].predict({name: table[name][keep] for name in ("age", "edss", "sex", "relapses")}, horizon=360)
    y = table["event"][keep] & (table["days"][keep] <= 360)

    assert code == 0, err
    assert (own[0]["overall"]["n"], own[0]["overall"]["events"]) == (keep.sum(), y.sum())
    assert own[0]["overall"]["auc"] == pytest.approx(roc_auc_score(y, risks), abs=0.01)      # unweighted: early ones count a little less
    code, out, err = type_("risk", "check", "model", "study.toml", "--data", "parts/r1.csv", "--dictionary", "dict.json")
    assert code == 0 and "at 720 days" in out and "cross-validated" in err


@pytest.mark.parametrize(("change", "says"), [
    (("[360, 720]", "[540, 720, 900]"), "no interval of the model ends at its horizon 900"),
    (('"age", "edss"', '"edss"'), "its covariates are others"),
    (('outcome = "event"', 'outcome = "worse"'), "its outcome is another")], ids=lambda one: one[1])
def test_the_study_of_another_model_is_told_apart(model, folder, type_, change, says):
    (folder / "other.toml").write_text(STUDY.replace(*change))
    code, out, err = type_("risk", "check", "model", "other.toml", "--data", "parts/r1.csv", "--dictionary", "dict.json")

    assert (code, out) == (2, "") and "not the one of this model" in err and says in err
    code, _, err = type_("risk", "check", "model", "study.toml", "--data", "parts/nobody.csv", "--dictionary", "dict.json")
    assert code == 2 and "there is no file parts/nobody.csv" in err


@pytest.mark.parametrize(("patient", "says", "remedy"), [
    ({"age": 34, "eds": 2}, '"eds" is not a covariate of this model', 'did you mean "edss"?'),
    ({"age": 134}, '"age" is outside 18 to 80', "age is an integer: 18 to 80 years"), ([], "holds no patients", "one object such as")])
def test_a_wrong_patient_is_told_what_is_allowed(model, folder, type_, patient, says, remedy):
    (folder / "wrong.json").write_text(json.dumps(patient))
    code, out, err = type_("risk", "predict", "model", "--patient", "wrong.json")

    assert (code, out) == (2, "") and says in err and remedy in err


@pytest.mark.parametrize(("change", "says"), [
    (("[model]", "[modell]"), '"modell" is not known here'), (("rounds", "round"), 'did you mean "rounds"?'),
    (("folds", "fold"), 'did you mean "folds"?'), (('outcome = "event"', ""), '[model] needs "outcome"'),
    (("horizons = [360, 720]", "horizons = [361]"), "361 is not a time"), (("max_depth = 2", "max_depth = 9"), "max_depth"),
    (('title = "Worsening"', "title = 3"), '"title" is a text'), (("[model]", "[model"), "is not TOML")], ids=lambda one: one[1])
def test_a_wrong_study_is_told_what_is_wrong(folder, type_, change, says):
    (folder / "wrong.toml").write_text(STUDY.replace(*change))
    code, _, err = type_("risk", "train", "wrong.toml", "--pooled", "parts", "--rules", "--dictionary", "dict.json", "--out", "nothing")

    assert code in (2, 3) and says in err and not (folder / "nothing").exists()


def test_the_example_trains_on_tables_of_ms(tmp_path, monkeypatch, type_):
    """examples/risk.toml, with fewer trees, on synthetic registries with visits and treatments; the outcome in the cohort's words."""
    monkeypatch.chdir(tmp_path)
    for name, one in synthetic.registries(5, sites=3, sizes=[400, 300, 300]).items():
        (tmp_path / "parts" / name).mkdir(parents=True)
        for table, columns in one.tables.items():
            write_csv(tmp_path / "parts" / name / f"{table}.csv", columns)
    Path("risk.toml").write_text(EXAMPLE.read_text().replace("rounds = 30", "rounds = 8").replace("folds = 5", "folds = 2"))
    code, out, err = type_("risk", "train", "risk.toml", "--pooled", "parts", "--out", "model", "--release-anyway")

    assert code == 0, err
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert "confirmed 24 weeks later" in card["training"]["outcome"] and "Time zero was the first start" in card["training"]["cohort"]
    assert [one["horizon"] for one in card["performance"]] == read_study(EXAMPLE).validation["horizons"]
    assert ["age", ">=", 18] in card["training"]["eligible"]
    (tmp_path / "p.json").write_text(json.dumps({"age": 34, "sex": "F", "edss": 2.5, "relapses_12m": 2}))
    code, out, _ = type_("risk", "predict", "model", "--patient", "p.json")
    assert code == 0 and "no risk is given" in out       # treatment and duration are not known, and were of all
