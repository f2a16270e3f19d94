"""The file for xgboost: names as the dictionary writes them, and the same model in every version from 1.7 on."""

import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import xgboost

import fedstats
from fedstats import Dictionary
from fedstats.analyses.boosting.booster import essence, names_for_xgboost

LEVELS = ["ja", "weiß nicht", "a[1]", "a(1)", "<5", "below 5", "日本", 'q"uote\\', "émigré😀"]
BOOK = Dictionary.from_dict({"name": "Schübe", "variables": [
    {"name": "Raucher", "type": "category", "levels": LEVELS}, {"name": "Schübe [n]", "type": "integer", "range": [0, 9]},
    {"name": "age", "type": "integer", "range": [18, 90], "cut_points": {"from": 20, "to": 80, "step": 10}},
    {"name": "worse", "type": "boolean"}, {"name": "count", "type": "integer", "range": [0, 20]},
    {"name": "Zeit (d) <", "type": "integer", "range": [0, 720], "cut_points": {"from": 0, "to": 720, "step": 180}}]})
COVARIATES = ["Raucher", "Schübe [n]", "age"]
OBJECTIVES = {"binary:logistic": ("worse", {}), "reg:squarederror": ("count", {}), "count:poisson": ("count", {}),
              "survival:cox": ("worse", {"time": "Zeit (d) <"}), "hazard:logistic": ("worse", {"time": "Zeit (d) <"})}
OLD = ("1.7.6", "2.1.4")        # the last of 1.x, and one between; 3.x is what is installed here
READ = """
import json, sys
import numpy as np, xgboost
found = {"version": xgboost.__version__}
for name in sys.argv[1:]:
    booster = xgboost.Booster(); booster.load_model(name)
    data = xgboost.DMatrix(np.load(name.rsplit(".", 1)[0] + ".npy"), feature_names=booster.feature_names)
    found[name] = [booster.predict(data, output_margin=True).astype(float).tolist(), booster.feature_names,
                   booster.predict(data, pred_contribs=True).astype(float).tolist()]
print(json.dumps(found))
"""


def table(n, seed):
    rng = np.random.default_rng(seed)
    level, relapses = rng.integers(0, len(LEVELS), n), rng.integers(0, 5, n)
    risk = 1 / (1 + np.exp(1.5 - 0.4 * relapses - 0.8 * (level % 2)))
    return {"Raucher": np.array(LEVELS, dtype=object)[level], "Schübe [n]": np.where(rng.random(n) < 0.1, None, relapses),
            "age": rng.integers(18, 80, n), "worse": rng.random(n) < risk, "count": rng.poisson(3 * risk),
            "Zeit (d) <": rng.integers(1, 720, n)}


@pytest.fixture(scope="module")
def models():
    cohort = fedstats.pooled({f"r{k}": table(900, k) for k in range(3)}, dictionary=BOOK).cohort()
    return {name: cohort.boost(outcome, COVARIATES, objective=name, rounds=6, max_depth=3, **more)
            for name, (outcome, more) in OBJECTIVES.items()}


@pytest.fixture(scope="module")
def new():
    return {name: column for name, column in table(40, 9).items() if name in COVARIATES}


def test_contributions_add_up_whatever_the_levels_are_called(models, new):
    """Names outside ASCII, with brackets, quotes and spaces."""
    for model in models.values():
        assert model.contributions(new).sum(axis=1) == pytest.approx(model.margins(new), abs=1e-4)
    one = models["binary:logistic"].contributions({"Raucher": ["weiß nicht"], "Schübe [n]": [2], "age": [40]})
    assert one.shape == (1, len(LEVELS) + 3)


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_the_file_has_the_names_as_they_are_written(models, new, tmp_path, ending):
    """Those that xgboost allows are unchanged, and no two are the same."""
    model = models["hazard:logistic"]
    model.save(tmp_path / f"m.{ending}")
    booster = xgboost.Booster()
    booster.load_model(tmp_path / f"m.{ending}")

    assert booster.feature_names == [one.name for one in model.columns] and len(set(booster.feature_names)) == len(LEVELS) + 3
    assert booster.feature_names[:4] == ["Raucher=ja", "Raucher=weiß nicht", "Raucher=a(1)", "Raucher=a(1) (2)"]
    assert booster.feature_names[-3:] == ["Schübe (n)", "age", "Zeit (d) below "]
    data = xgboost.DMatrix(model.matrix(new), feature_names=booster.feature_names)
    assert np.array_equal(booster.predict(data, output_margin=True), model.margins(new))


def test_the_base_score_is_a_number_and_no_list(models, tmp_path):
    """Versions before 3.1 read a list as another number, without a word."""
    for model in models.values():
        model.save(tmp_path / "m.json")
        model.save(tmp_path / "m.ubj")
        found = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["learner"]["learner_model_param"]["base_score"]

        assert np.float32(found) == np.float32(model.base_score)
        assert b"base_scoreSL\x00\x00\x00\x00\x00\x00\x00" in (tmp_path / "m.ubj").read_bytes()
        assert b"[" not in (tmp_path / "m.ubj").read_bytes().split(b"base_score")[1][:24]


@pytest.mark.parametrize(("names", "wanted"), [
    (["a[1]", "a(1)"], ["a(1)", "a(1) (2)"]), (["<5", "below 5", "<5"], ["below 5", "below 5 (2)", "below 5 (3)"]),
    (["a b", "weiß", "x=1"], ["a b", "weiß", "x=1"]), (["a\x00b\n", ""], ["a_b_", "_"]), (["x", "x (2)", "x"], ["x", "x (2)", "x (3)"])],
    ids=str)
def test_names_are_allowed_and_different(names, wanted):
    assert names_for_xgboost(names) == wanted and names_for_xgboost(wanted) == wanted


def test_a_file_of_another_version_says_the_same(models):
    """What a proof compares: the same essence, with the base score as a list and the version of another."""
    from fedstats.analyses.boosting.booster import content_of

    content = content_of(models["binary:logistic"])
    other = json.loads(json.dumps(content))
    other["version"], param = [3, 0, 0], other["learner"]["learner_model_param"]
    other["learner"]["gradient_booster"]["model"].pop("cats", None)
    param["base_score"] = f"[{param['base_score']}]"

    assert essence(other) == essence(content) is not None
    param["base_score"] = "0.123"
    assert essence(other) != essence(content) and essence({"learner": []}) is None is essence([])


@pytest.mark.slow
@pytest.mark.parametrize("version", OLD)
def test_an_older_xgboost_reads_the_same_model(models, new, tmp_path, version):
    """In an environment of its own: margins to the last bit, contributions within 1e-5 (other versions add them up in another order)."""
    python = tmp_path / "old" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "old")], check=True)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", f"xgboost=={version}", "numpy<2", "scipy"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"xgboost {version} cannot be installed here: no package index answers, or it has none for this machine")
    names = []
    for k, (objective, model) in enumerate(models.items()):
        np.save(tmp_path / f"m{k}.npy", model.matrix(new))
        for ending in ("json", "ubj"):
            model.save(tmp_path / f"m{k}.{ending}")
            names.append((str(tmp_path / f"m{k}.{ending}"), objective))
    read = subprocess.run([str(python), "-c", READ, *(name for name, _ in names)], capture_output=True, text=True, check=True)
    found = json.loads(read.stdout)

    assert found["version"] == version
    for name, objective in names:
        margin, columns, shares = found[name]
        assert np.array_equal(np.array(margin, dtype=np.float32), models[objective].margins(new)), objective
        assert columns == [one.name for one in models[objective].columns]
        assert np.array(shares) == pytest.approx(models[objective].contributions(new), abs=1e-5)


def test_a_model_of_before_with_names_that_xgboost_refuses_is_exported(models, new):
    """Its columns carry the dictionary's names; the file carries allowed ones."""
    model = models["binary:logistic"]
    columns = tuple(msgspec.structs.replace(one, name=one.name.replace("(", "[").replace(")", "]")) for one in model.columns)
    old = msgspec.structs.replace(model, columns=columns)

    assert old.contributions(new) == pytest.approx(model.contributions(new))
