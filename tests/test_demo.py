"""The demonstration and its parts: the comparison, the report, and that no process stays behind."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

import fedstats
from fedstats.client.report import read_results
from fedstats.demo import laptop
from fedstats.demo import model as demo_model
from fedstats.demo import page as demo_page
from fedstats.demo import study as demo_study
from fedstats.errors import InputError
from fedstats.ms import synthetic
from fedstats.risk.folder import check_folder, read_folder
from fedstats.risk.patients import predict, read_patients
from fedstats.wire.roster import Consortium

from . import flat_registries, helpers
from .test_network import running

# -- the comparison ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "found"), [
    (1.0, 1.0, 0.0), (2, 2.0, 0.0), (None, None, 0.0), (1.0, None, math.inf), ("x", "y", math.inf), ([1.0], [1.0, 2.0], math.inf),
    ({"a": [1.0, 4.0]}, {"a": [1.0, 5.0]}, 0.2), ({"query": "1"}, {"query": "2"}, 0.0), (True, 1, 0.0), (math.nan, math.nan, 0.0),
    ({"a": 1}, {"b": 1}, math.inf), (-1.0, 1.0, 2.0),
])
def test_difference_is_the_largest_relative_one(a, b, found):
    assert demo_study.difference(a, b) == pytest.approx(found)


# -- the demonstration ------------------------------------------------------------------------------------------------------------


def processes_of(place):
    """Processes whose command line names a place."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if str(place).encode() in file.read() and running(pid):
                    found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.mark.network
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc")
def test_the_demonstration_comes_out_and_leaves_nothing_running(tmp_path):
    """Sealed equals pooled, one changed bit is caught with exit code 5, the report stands, no process is left."""
    out, keep = tmp_path / "out", tmp_path / "keep"
    found = subprocess.run([sys.executable, "-m", "fedstats.cli", "demo", "--out", str(out), "--keep", str(keep)], capture_output=True,
                           text=True, timeout=300)

    assert found.returncode == 0, found.stdout[-2000:] + found.stderr
    for line in ("ok   compute the same from one pooled table", "ok   change one bit of a total on its way to calgary: calgary: answer "
                 "could not be verified; exit code 5, nothing released", "ok   ask again", "ok   grow the risk model from one pooled "
                 "table: the model is the one that the pooled table gives", "signed the model and its card: 5 of 5 did",
                 "ok   end every process"):
        assert line in found.stdout
    results = dict(read_results(out / "results.json"))
    content = json.loads((out / "results.json").read_text())
    page = (out / "report.html").read_text()
    assert list(results) == list(content["differences"]) and max(content["differences"].values()) <= demo_study.SAME
    assert all(result.released == "sealed" and result.registries == 5 for result in results.values())
    assert [step["n"] is not None for step in content["flow"]] == [True] * len(content["flow"]) and len(content["flow"]) > 5
    assert page.count("first start of a disease-modifying treatment") == 1 + page.partition('class="raw"')[2].count(
        "first start of a disease-modifying treatment")         # once in the text, and in the raw results
    assert [one.term for one in results[demo_study.ADJUSTED].coefficients][:2] == ["dmt_class[moderate]", "dmt_class[high]"]
    assert any(name.startswith("true hazard ratio") for name in content["facts"])
    curves = results["Time to 24-week confirmed worsening"]
    assert [group.group for group in curves.groups] == ["low", "moderate", "high"] and all(len(one.times) >= 10 for one in curves.groups)
    assert "synthetic" in page and "could not be verified" in page and "<script" not in page
    assert "coordinator" not in (keep / "calgary" / "node.toml").read_text()
    assert not processes_of(tmp_path)
    check_model(out, found.stdout, page)
    assert len(check_folder(out / "risk-model", Consortium.load(keep / "consortium.toml")).proof.registries) == 5


def check_model(out, said, page):
    """The demonstration's model is one that `fedstats risk` reads; its card stands in the report, with one patient."""
    model, card = read_folder(out / "risk-model")
    (patient,) = predict(read_patients(out / "risk-model" / "patient.json"), model, card)

    assert f"risk of worsening within two years {patient.risks[0].risk:.1%}" in " ".join(said.split())
    assert card.privacy.how == "sealed" and len(card.provenance.signatures) == 5 and card.horizons == (728.0,)
    assert 0.5 < card.last.overall.auc_low < card.last.overall.auc < card.last.overall.auc_high < 1
    stranger = predict([demo_model.STRANGER], model, card)[0]
    assert stranger.reason and "no risk is given" in said and 0.9 < card.last.overall.slope < 1.1
    assert "The same patient at the age of 78: no risk is given" in page
    for part in ("Intended use.", "One synthetic patient explained", "not a medical device", "It does not say who", "dmt_class: high",
                 "the same trees", 'href="risk-model/card.html"', "Calibration: predicted"):
        assert part in page


@pytest.fixture(scope="module")
def small():
    """Three small registries as one table, without rules."""
    made = synthetic.registries(5, sites=3, sizes=[400, 300, 300])
    return fedstats.pooled({name: one.tables for name, one in made.items()}, data_cut=synthetic.DATA_CUT)


@pytest.mark.parametrize("here", [True, False])
def test_without_xgboost_the_patient_is_left_out(tmp_path, monkeypatch, small, here):
    """The card stands all the same, and the report says how to install it."""
    def missing():
        raise InputError("xgboost is not installed here")

    if not here:
        monkeypatch.setattr("fedstats.analyses.boosting.booster.library", missing)
    trained = demo_model.train(small, synthetic.DATA_CUT, "2026-01-01")
    demo_model.write(tmp_path, trained)
    page = demo_page.section(trained, True)

    assert {one.name for one in (tmp_path / "risk-model").iterdir()} == {"card.json", "card.html"} | (
        {"model.json", "risk.json", "patient.json"} if here else set())
    assert ("One synthetic patient" in page) == here == (demo_model.INSTALL.split(":")[0] not in page)
    assert "By subgroup" in page and list(tmp_path.iterdir()) == [tmp_path / "risk-model"]
    assert demo_model.compare(trained, small)[0]


@pytest.mark.network
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_ends_its_processes(tmp_path, number):
    """Ctrl-C, and a polite kill: nothing stays behind, nothing half-written."""
    out, keep = tmp_path / "out", tmp_path / "keep"
    process = subprocess.Popen([sys.executable, "-m", "fedstats.cli", "demo", "--out", str(out), "--keep", str(keep)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=helpers.hear_interrupts)
    until = time.monotonic() + 90
    while len(processes_of(keep)) < 4 and time.monotonic() < until:     # the demonstration itself and some of its children
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130 and "fedstats: interrupted" in err and "Traceback" not in err
    assert not processes_of(tmp_path) and not list(out.glob("*"))


def test_a_party_that_does_not_start_is_named(tmp_path):
    """A broken key: the error names the party and quotes its log; the others are ended."""
    tables = flat_registries.registries(3, sites=3, patients=360)
    laptop.prepare(tmp_path, tables, flat_registries.DICTIONARY)
    (tmp_path / "bari.key").write_text("broken")
    here = laptop.Laptop(tmp_path)
    with pytest.raises(Exception, match="bari did not start") as caught:
        here.__enter__()

    assert "is not an identity" in caught.value.hint
    assert not here.alive()
