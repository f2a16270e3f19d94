"""Synthetic registries as files: what is written loads as it was made, whole or not at all, with the truth about it."""

import functools
import json

import msgspec
import numpy as np
import pytest

from fedstats.cli import main
from fedstats.errors import InputError, QuestionError
from fedstats.ms import cohort, synthetic
from fedstats.ms.synthetic.report import TOLERANCE
from fedstats.ms.synthetic.truth import COMPARED, RUNS, TruthFile, truth
from fedstats.ms.tables import cleaning, load

SIZES = (160, 120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two registries with planted faults, and the truth about them."""
    place = tmp_path_factory.mktemp("synthetic") / "registries"
    synthetic.write(place, seed=5, sizes=SIZES, planted=0.02)
    return place


@functools.cache
def one():
    return synthetic.registry(5, 0, 1500)


# -- files ---------------------------------------------------------------------------------------------------------------------


def test_files_load_as_the_tables_in_memory(folder):
    """What a node reads from the CSV files is what the generator made: every column of every table, and every fault."""
    for name, made in synthetic.registries(5, sizes=SIZES, planted=0.02).items():
        (read, report), (held, expected) = load(folder / name), load(made.tables)

        assert report.kept == expected.kept
        for table in read.held:
            for column in read.held[table].columns:
                np.testing.assert_array_equal(read.held[table][column], held.held[table][column], err_msg=f"{table}.{column}")


def test_the_same_seed_writes_the_same_bytes(folder, tmp_path):
    """Two people who type the same command have the same files, except for the truth, which one of them does not want."""
    synthetic.write(tmp_path / "again", seed=5, sizes=SIZES, planted=0.02, truth=False)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.*") if path.is_file())

    assert not (tmp_path / "again" / "truth.json").exists()
    assert len(files) == 5 * len(SIZES) + 2
    assert all((folder / one).read_bytes() == (tmp_path / "again" / one).read_bytes() for one in files if one.name != "truth.json")


def test_the_file_of_truth_says_what_the_counterfactual_runs_say(folder):
    """Patients, planted faults, and for every pair of classes the effects that `truth` computes for these very registries."""
    found = msgspec.json.decode((folder / "truth.json").read_bytes(), type=TruthFile)
    made = synthetic.registries(5, sizes=SIZES, planted=0.02)

    assert found.registries == {name: len(one.tables["patients"]["patient_id"]) for name, one in made.items()}
    assert found.planted == {name: one.planted for name, one in made.items()}
    assert [(one.a, one.b, one.stays) for one in found.estimands] == [(*pair, stays) for stays in (True, False) for pair in COMPARED]
    again = truth(5, a="low", b="high", sizes=SIZES)
    assert found.estimands[1].horizons["5"].hazard_ratio == again["horizons"]["5"]["hazard_ratio"]
    assert found.estimands[1].sites["bari"].risk_b == again["sites"]["bari"]["risk_b"]


def test_the_report_stands_beside_the_registries(folder):
    """Who is in the folder, and how near it comes to published numbers."""
    text = (folder / "report.txt").read_text()

    assert "nobody's data" in text and "aarhus: " in text and "relapses per patient and year" in text
    assert TOLERANCE == 0.06 and "EDSS>=" in text


@pytest.mark.parametrize("stop_at", [1, 3, len(SIZES) + 2])
def test_what_is_interrupted_leaves_nothing(tmp_path, stop_at):
    """Ctrl-C among the registries, at the report, among the runs for the truth: no folder, no half of one."""
    told = []

    def interrupt(what):
        told.append(what)
        if len(told) == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic.write(tmp_path / "out", seed=5, sizes=(40, 30), told=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_steps_are_told_as_often_as_promised(tmp_path):
    """So a progress bar reaches its end."""
    told = []
    (tmp_path / "out").mkdir()      # empty: as good as new
    synthetic.write(tmp_path / "out", seed=5, sizes=(30,), told=told.append)

    assert len(told) == synthetic.steps(1) == 1 + 1 + RUNS
    assert len(set(told)) == len(told) and (tmp_path / "out" / "truth.json").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        synthetic.write(tmp_path, sizes=(10,))
    with pytest.raises(InputError, match="cannot be written"):
        synthetic.write(tmp_path / "mine.txt" / "below", sizes=(10,))
    (tmp_path / "out.part").mkdir()
    with pytest.raises(InputError, match="in the way") as caught:
        synthetic.write(tmp_path / "out", sizes=(10,))

    assert "remove it" in caught.value.hint and (tmp_path / "mine.txt").read_text() == "mine"


def test_patients_are_shared_out_on_a_log_scale():
    """So many together, registries of different size; more registries than patients make no sense."""
    sizes = [len(one.people) for one in synthetic.registries(1, sites=5, patients=600).values()]

    assert abs(sum(sizes) - 600) <= 5 and max(sizes) > 3 * min(sizes)
    with pytest.raises(InputError, match="one patient in each"):
        synthetic.registries(1, sites=5, patients=4)
    with pytest.raises(InputError, match="at least one registry"):
        synthetic.registries(1, sites=0)


# -- the command -----------------------------------------------------------------------------------------------------------------


def test_the_command_writes_and_says_what_is_there(tmp_path, capsys):
    """fedstats synthetic: a table of registries, JSON for machines, one sentence for a folder that is taken."""
    words = ["synthetic", str(tmp_path / "out"), "--registries", "3", "--patients", "90", "--no-truth"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["aarhus", "bari", "calgary", "report.txt"]
    assert list(found["patients"]) == ["aarhus", "bari", "calgary"] and found["data_cut"] == synthetic.DATA_CUT

    assert main(words) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["synthetic", str(tmp_path / "few"), "--patients", "3"]) == 2
    assert not (tmp_path / "few").exists()


# -- columns ---------------------------------------------------------------------------------------------------------------------


def test_walking_and_hands_go_with_disability():
    """Timed walk and peg test rise with EDSS; nobody walks 25 feet from EDSS 7 on but for the rater's half point; values are plausible."""
    visits = one().tables["visits"]
    edss, walk, hand = visits["edss"], visits["t25fw_s"], visits["nhpt_dom_s"]
    known = ~np.isnan(edss) & ~np.isnan(walk)
    low, high = np.nanmedian(walk[edss <= 1]), np.nanmedian(walk[(edss >= 5) & (edss <= 6)])

    assert 3.5 < low < 6 and 8 < high < 14
    assert edss[known].max() <= 7
    assert np.nanmedian(hand[edss <= 1]) < np.nanmedian(hand[edss >= 5]) < 40
    assert 0.3 < np.isnan(hand).mean() < 0.7
    assert np.nanmedian(visits["nhpt_nondom_s"] / hand) == pytest.approx(1.05, abs=0.02)


# -- levels that nobody can have -------------------------------------------------------------------------------------------------

TREE = {"index": {"event": "dmt_start"}, "covariates": ["dmt", "dmt_class", "dmt_class_before"]}


def derived(index, *, switched_off=(), tables=None):
    loaded, _ = load(tables or one().tables)
    clean, _ = cleaning.clean(loaded, data_cut=synthetic.DATA_CUT, without=switched_off)
    return cohort.compile({**TREE, "index": index}).derive(clean)


def test_at_the_start_of_a_treatment_nobody_is_without_one():
    """The dictionary of such a cohort has no level "none": an empty cell would pull another group into suppression."""
    at_start, at_visit = (cohort.compile({**TREE, "index": {"event": event}}).dictionary for event in ("dmt_start", "first_visit"))

    assert at_start["dmt_class"].levels == ("low", "moderate", "high")
    assert "none" not in at_start["dmt"].levels
    assert at_visit["dmt_class"].levels == ("none", "low", "moderate", "high") and "none" in at_visit["dmt"].levels
    assert "none" in at_start["dmt_class_before"].levels
    with pytest.raises(QuestionError, match="dmt_class"):
        cohort.compile({**TREE, "eligibility": [["dmt_class", "==", "none"]]})


def test_without_the_level_everybody_keeps_the_class():
    """The classes are those of the first treatment in the table; the same patients, the same classes."""
    found = derived({"event": "dmt_start"})
    rows = found.rows
    treated = one().tables["treatments"]
    first = dict(reversed(list(zip(treated["patient_id"].tolist(), treated["dmt_name"].tolist()))))
    labels, codes = rows.dictionary["dmt"].labels, rows.held["dmt"]

    assert [labels[code] for code in codes] == [first[who] for who in found.patient_id.tolist()]
    classes = rows.dictionary["dmt_class"].labels
    assert {classes[code] for code in rows.held["dmt_class"]} == {"low", "moderate", "high"}


def test_a_start_that_is_no_treatment_is_missing_and_counted():
    """A house that keeps treatments of no days (a rule of cleaning switched off): class not known, said in the report, no crash."""
    tables = {name: dict(columns) for name, columns in one().tables.items()}
    who = tables["treatments"]["patient_id"]
    ends = tables["treatments"]["end_date"].copy()
    place = int(np.flatnonzero((who[1:] != who[:-1]) & ~np.isnat(ends[1:]))[0]) + 1      # a first treatment that ended
    ends[place] = tables["treatments"]["start_date"][place]
    found = derived({"event": "dmt_start"}, switched_off=["treatment_of_no_days"], tables=tables | {
        "treatments": tables["treatments"] | {"end_date": ends}})

    assert found.outside == {"dmt": 1, "dmt_class": 1}
    assert found.rows.held["dmt_class"].tolist().count(-1) == 1
