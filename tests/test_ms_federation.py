"""Cohorts on the tables of MS, through the federation: the same digits, one reading of the tree, a flow that tells on nobody."""

import contextlib

import msgspec
import numpy as np
import pytest

import fedstats
from fedstats import Rules
from fedstats.demo import laptop
from fedstats.disclosure import NO_RULES
from fedstats.errors import FedstatsError, InputError, QuestionError, Refused
from fedstats.ms import cohort, synthetic
from fedstats.ms import tables as ms_tables
from fedstats.ms.tables import dmt
from fedstats.ms.tables.registry import dictionary as shipped
from fedstats.query.analysis import Failed
from fedstats.query.driver import _shown_flow
from fedstats.query.population import Codebook, load_treatments, treatments_digest

CUT = "2026-06-30"
TREE = {
    "index": {"event": "dmt_start"},
    "covariates": ["age", "sex", "edss", "relapses_12m", "dmt_class"],
    "eligibility": [["age", ">=", 18], ["edss", "missing", False]],
    "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1}, {"kind": "relapse", "version": 1}],
}
RULES = Rules(min_cell=5, min_cohort=20, min_registries=3, show_zeros=True, rounding=False)
NOT_COMPARED = {"query", "released", "rules", "notes"}


@pytest.fixture(scope="module")
def tables():
    """Four synthetic registries, as a registry would export them."""
    return {name: one.tables for name, one in synthetic.registries(5, sites=4, sizes=[300, 200, 350, 250]).items()}


def asked(c):
    return [c.question.table_one(["age", "sex", "edss", "relapses_12m"]),
            c.question.kaplan_meier(time="cdw24_days", event="cdw24_event"),
            c.question.rates(events="relapse_count", time="follow_up_days")]


def content(result):
    return {name: value for name, value in result.to_dict().items() if name not in NOT_COMPARED}


def test_the_same_digits_in_one_process_and_under_the_seal(tables):
    """A cohort on visits, relapses and treatments: pooled and simulated results are equal in every digit, flow included."""
    known = [("sex", "==", "F"), ("cdw24_event", "missing", False)]        # all questions about the same patients
    found = [fed.ask(*asked(fed.cohort(TREE, where=known)))
             for fed in (fedstats.pooled(tables, data_cut=CUT, rules=RULES), fedstats.simulate(tables, data_cut=CUT, rules=RULES))]

    assert not any(isinstance(one, Failed) for one in found[0])
    assert [content(one) for one in found[0]] == [content(one) for one in found[1]]


def test_the_answer_is_that_of_one_pooled_registry(tables):
    """Rows derived registry by registry are the rows of all patients together: no patient's rows depend on another's."""
    together = {name: {column: np.concatenate([_prefixed(who, column, one[name][column]) for who, one in tables.items()])
                       for column in tables["aarhus"][name]} for name in tables["aarhus"]}

    apart, whole = (fedstats.pooled(one, data_cut=CUT) for one in (tables, {"all": together}))

    for a, b in zip(apart.ask(*asked(apart.cohort(TREE))), whole.ask(*asked(whole.cohort(TREE)))):
        assert content(a) | {"registries": 0, "methods": ""} == content(b) | {"registries": 0, "methods": ""}


def _prefixed(who, column, values):
    return np.array([f"{who}/{one}" for one in values], dtype=object) if column == "patient_id" else values


def test_the_cohort_is_that_of_the_pure_part(tables):
    """n and flow of a federated result are the sums of what `ms.cohort` says at each registry."""
    fed = fedstats.pooled(tables, data_cut=CUT)
    recipe = cohort.compile(TREE)
    derived = [recipe.derive(household.data.registry, recorded=household.data.recorded) for household in fed._world.data.values()]

    (result,) = fed.ask(fed.cohort(TREE).question.summary(["edss"]))

    sums = {step: sum(dict(one.flow)[step] for one in derived) for step, _ in derived[0].flow}
    assert {one.step: one.n for one in result.size.flow} == {one.step: sums[one.step] for one in result.size.flow}
    assert result.size.flow[0].step == "patients in the registry"
    assert "cdw24: at risk" in {one.step for one in result.size.flow}
    assert result.n == sum(one.rows.n for one in derived)
    assert recipe.describe() in result.methods


def test_a_registry_that_reads_the_tree_differently_refuses(tables, monkeypatch):
    """One registry has another list of treatments: it says so, and nothing is released."""
    fed = fedstats.simulate(tables, data_cut=CUT, rules=RULES)
    source = msgspec.to_builtins(dmt.shipped())
    source["treatments"] = source["treatments"][:-1]
    fed._world.network.houses["bari"].codebook = Codebook(shipped(), dmt.Treatments.from_dict(source))

    with pytest.raises(Refused, match="another way") as refused:
        fed.cohort(TREE).summary(["edss"])
    assert "one list of treatments" in refused.value.hint


@pytest.mark.parametrize(("tree", "words"), [
    (None, "needs an index event"),
    ({"index": {"event": "birth"}}, "cohort"),
    ({"index": {"event": "onset"}, "covariates": ["shoe_size"]}, "no covariate"),
])
def test_a_cohort_that_cannot_be_compiled_is_refused_before_anybody_is_asked(tables, tree, words):
    """The analyst's own side says what is wrong."""
    fed = fedstats.pooled(tables)
    with pytest.raises(QuestionError, match=words):
        fed.cohort(tree)


def test_a_tree_makes_no_sense_with_one_row_per_patient():
    """And the other way round: the error says what kind of data the federation holds."""
    fed = fedstats.pooled({"a": {"age": [40, 50]}}, dictionary={"name": "d", "variables": [{"name": "age", "type": "integer",
                                                                                            "range": [0, 110]}]})
    with pytest.raises(QuestionError, match="one row per patient"):
        fed.cohort(TREE)


def test_registries_hold_one_kind_of_data(tables):
    """A table of patients beside tables of MS is a mistake of the caller."""
    with pytest.raises(InputError, match="one table"):
        fedstats.pooled({"a": tables["bari"], "b": {"age": [1]}})


def test_questions_about_two_cohorts_are_asked_apart(tables):
    """One query has one cohort."""
    fed = fedstats.pooled(tables)
    other = {**TREE, "index": {"event": "first_visit"}}
    with pytest.raises(QuestionError, match="one cohort"):
        fed.ask(fed.cohort(TREE).question.summary(["edss"]), fed.cohort(other).question.summary(["edss"]))


def test_explain_says_the_cohort_in_words(tables):
    """Before asking: the methods sentence, the columns, the rounds."""
    fed = fedstats.simulate(tables, rules=RULES)
    told = str(fed.explain(fed.cohort(TREE).question.summary(["edss"])))
    assert "first start of a disease-modifying treatment" in told
    assert "rounds: 2" in told


def test_the_wait_for_confirmation_can_be_asked(tables):
    """How long after worsening the confirming visit came: within the window that the definition states, for events only."""
    fed = fedstats.pooled(tables, data_cut=CUT)
    c = fed.cohort(TREE)
    lag = c.quantiles(["cdw24_lag_days"], q=[0.5])["cdw24_lag_days", 0.5]
    events = {cell.levels: cell.count for cell in c.crosstab("cdw24_event").cells}

    assert 161 <= lag.value <= 252
    assert c.summary(["cdw24_lag_days"]).n == events[("true",)]


# -- the flow ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counts", "known", "shown"), [
    ([500, 400, 390, 300], [300], [500, 400, 390, 300]),
    ([500, 497, 400, 300], [300], [500, None, 400, 300]),       # three people fell out between the first two steps
    ([500, 304, 300, 300], [300], [500, None, 300, 300]),       # four people beside the number that the result shows
    ([500, 303, 302, 301], [300], [500, None, None, None]),
    ([7, 7, 7, 7], [7], [None, None, None, None]),
])
def test_no_two_steps_of_the_flow_differ_by_a_few(counts, known, shown):
    """A step is shown only if neither it nor its difference from any other number shown singles out fewer than ten."""
    rules = Rules(min_cell=10, min_registries=3)
    found = _shown_flow([str(k) for k in range(4)], np.array(counts), np.full(4, 5), known, rules)
    assert [one.n for one in found] == shown


def test_a_step_that_few_registries_reach_is_not_shown():
    """The count of contributing registries guards the flow as it guards every cell."""
    found = _shown_flow(["all", "few"], np.array([500, 100]), np.array([5, 2]), [300], Rules(min_cell=10, min_registries=3))
    assert [one.n for one in found] == [500, None]


def test_without_rules_the_flow_is_whole(tables):
    """For method work nothing is held back."""
    fed = fedstats.pooled(tables, rules=NO_RULES)
    (result,) = fed.ask(fed.cohort(TREE).question.summary(["edss"]))
    assert all(one.n is not None for one in result.size.flow)


# -- several rows per patient -----------------------------------------------------------------------------------------------


def test_landmark_episodes_are_refused_where_rows_would_be_counted_as_people(tables):
    """An analysis that takes one row per patient says so."""
    fed = fedstats.pooled(tables)
    tree = {"index": {"event": "every_visit", "gap_days": 360}, "covariates": ["age", "edss"], "outcomes": []}
    c = fed.cohort(tree)
    assert c.dictionary.most_rows > 1
    with pytest.raises(QuestionError, match="one row per patient"):
        c.summary(["edss"])


# -- files and processes ---------------------------------------------------------------------------------------------------


def test_over_the_network_from_folders(tables, tmp_path):
    """Nodes that read their five tables from a folder answer what pooled says."""
    with contextlib.ExitStack() as ends:
        laptop.prepare(tmp_path, tables, rules=RULES, data_cut=CUT)
        here = ends.enter_context(laptop.Laptop(tmp_path))
        fed = ends.enter_context(fedstats.connect(here.consortium, key=here.key, timeout=60))
        sealed = fed.ask(*asked(fed.cohort(TREE)))
    pooled = fedstats.pooled({name: tmp_path / name for name in tables}, data_cut=CUT, rules=RULES)

    assert [content(one) for one in sealed] == [content(one) for one in pooled.ask(*asked(pooled.cohort(TREE)))]


def test_a_node_wants_a_date_as_data_cut(tables, tmp_path):
    """Without it cleaning could not find dates in the future."""
    from fedstats.wire.roster import Consortium
    from nodes.config import load
    from nodes.house import RegistryHouse

    path = laptop.prepare(tmp_path, tables)
    with pytest.raises(InputError, match="data_cut"):
        RegistryHouse(load(tmp_path / "bari" / "node.toml"), Consortium.load(path), "bari")


def test_the_roster_pins_the_list_of_treatments(tables, tmp_path):
    """Another list, or none, is noticed before anything is read."""
    from fedstats.wire.roster import Consortium

    roster = Consortium.load(laptop.prepare(tmp_path, tables))
    assert roster.treatments_sha256 == treatments_digest(load_treatments(None))
    other = msgspec.structs.replace(roster, treatments_sha256="0" * 64)
    with pytest.raises(InputError, match="list of treatments"):
        other.load_codebook(tmp_path / "consortium.toml")


def test_a_table_that_cannot_be_used_stops_the_registry_with_a_sentence(tables, tmp_path):
    """A node whose visits have no dates does not start to answer nonsense."""
    broken = {**tables["bari"], "visits": {"patient_id": ["1"], "edss": [2.0]}}
    _, report = ms_tables.load(broken)
    assert any(one.effect == "refused" for one in report.findings)
    with pytest.raises(FedstatsError, match="bari"):
        fedstats.pooled({"bari": broken, "calgary": tables["calgary"]})
