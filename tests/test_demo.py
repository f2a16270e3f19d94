"""The demonstration and its parts: the generator, the comparison, the report, and that no process stays behind."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fedstats import Dictionary, demo, laptop
from fedstats.ms import synthetic
from fedstats.report import read_results
from fedstats.rows import load

from .test_network import running

# -- the generator -------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_patients():
    """Synthetic registries depend on their seed and on nothing else."""
    one, two, other = synthetic.registries(4), synthetic.registries(4), synthetic.registries(5)

    assert all((one[name][column] == two[name][column]).all() for name in one for column in one[name])
    assert [len(table["age"]) for table in one.values()] != [len(table["age"]) for table in other.values()]


def test_synthetic_patients_fit_the_dictionary():
    """No value breaks a rule; EDSS has no 0.5; some values are missing."""
    book = Dictionary.from_dict(synthetic.DICTIONARY)
    for table in synthetic.registries(6).values():
        _, report = load(table, book)
        edss = {value for value in table["edss"].tolist() if value is not None}

        assert report.ok and not report.ignored
        assert 0.5 not in edss and edss <= {k / 2 for k in range(20)}
        assert 0 < report.missing["edss"] < 0.15 * report.rows


def test_synthetic_patients_look_like_a_registry():
    """Shares and means near the published ones, sites that differ, and treatment confounded by severity."""
    tables = synthetic.registries(7, patients=20_000)
    whole = {column: np.concatenate([table[column] for table in tables.values()]) for column in synthetic.registries(7)["aarhus"]}
    relapses = np.array([np.nan if one is None else one for one in whole["relapses"]], dtype=float)
    by_drug = [np.nanmean(relapses[whole["dmt"] == drug]) for drug in synthetic.CLASSES]
    sizes = [len(table["age"]) for table in tables.values()]

    assert 31 < whole["age_onset"].mean() < 36 and 0.66 < (whole["sex"] == "female").mean() < 0.74
    assert 0.06 < (whole["course"] == "PPMS").mean() < 0.10 and 0.15 < whole["worsened"].mean() < 0.40
    assert by_drug[0] < by_drug[1] < by_drug[2]
    assert max(sizes) > 1.5 * min(sizes)


# -- the comparison ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "found"), [
    (1.0, 1.0, 0.0), (2, 2.0, 0.0), (None, None, 0.0), (1.0, None, math.inf), ("x", "y", math.inf), ([1.0], [1.0, 2.0], math.inf),
    ({"a": [1.0, 4.0]}, {"a": [1.0, 5.0]}, 0.2), ({"query": "1"}, {"query": "2"}, 0.0), (True, 1, 0.0), (math.nan, math.nan, 0.0),
    ({"a": 1}, {"b": 1}, math.inf), (-1.0, 1.0, 2.0),
])
def test_difference_is_the_largest_relative_one(a, b, found):
    assert demo.difference(a, b) == pytest.approx(found)


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
                           text=True, timeout=120)

    assert found.returncode == 0, found.stdout[-2000:] + found.stderr
    for line in ("ok   compute the same from one pooled table", "ok   change one bit of a total on its way to calgary: calgary: answer "
                 "could not be verified; exit code 5, nothing released", "ok   ask again", "ok   end every process"):
        assert line in found.stdout
    results = dict(read_results(out / "results.json"))
    content = json.loads((out / "results.json").read_text())
    page = (out / "report.html").read_text()
    assert list(results) == list(content["differences"]) and max(content["differences"].values()) <= demo.SAME
    assert all(result.released == "sealed" and result.registries == 5 for result in results.values())
    assert "synthetic" in page and "could not be verified" in page and "<script" not in page
    assert "coordinator" not in (keep / "calgary" / "node.toml").read_text()
    assert not processes_of(tmp_path)


@pytest.mark.network
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_ends_its_processes(tmp_path, number):
    """Ctrl-C, and a polite kill: nothing stays behind, nothing half-written."""
    out, keep = tmp_path / "out", tmp_path / "keep"
    process = subprocess.Popen([sys.executable, "-m", "fedstats.cli", "demo", "--out", str(out), "--keep", str(keep)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while len(processes_of(keep)) < 4 and time.monotonic() < until:     # the demonstration itself and some of its children
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)

    assert process.returncode == 130 and "fedstats: interrupted" in err and "Traceback" not in err
    assert not processes_of(tmp_path) and not list(out.glob("*"))


def test_a_party_that_does_not_start_is_named(tmp_path):
    """A broken key: the error names the party and quotes its log; the others are ended."""
    tables = synthetic.registries(3, sites=3, patients=360)
    laptop.prepare(tmp_path, tables, synthetic.DICTIONARY)
    (tmp_path / "bari.key").write_text("broken")
    here = laptop.Laptop(tmp_path)
    with pytest.raises(Exception, match="bari did not start") as caught:
        here.__enter__()

    assert "is not an identity" in caught.value.hint
    assert not here.alive()
