"""An analyst who wants to learn of a few patients from what is released beside a cohort: its flow, its sizes, and columns whose very
presence says that something happened.

Every attack is carried out without rules first (the control), where it names the patients; under rules the question is refused, or the
numbers from which they would follow are held back.
"""

import functools
import itertools
import logging
import re

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.data.rows import Rows
from fedstats.disclosure import FLOORS, NO_RULES
from fedstats.errors import FedstatsError, Refused
from fedstats.ms import synthetic
from fedstats.query import driver, rounds
from fedstats.query.analysis import Failed, question_of
from fedstats.query.population import Codebook, load_treatments

RULES = [pytest.param(Rules(), id="default"), pytest.param(FLOORS, id="floors")]
TREE = {
    "index": {"event": "dmt_start"},
    "covariates": ["age", "sex", "edss", "relapses_12m", "days_since_relapse", "days_on_dmt"],
    "eligibility": [["age", ">=", 18], ["edss", "missing", False]],
    "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1}, {"kind": "relapse", "version": 1},
                 {"kind": "within", "outcome": "cdw24", "years": 2}, {"kind": "neda3", "years": 2}],
}


@functools.cache
def tables():
    return {name: one.tables for name, one in synthetic.registries(5, sites=4, sizes=[700, 600, 650, 550]).items()}


@functools.cache
def derived():
    """The recipe, and the rows of each registry."""
    fed = fedstats.pooled(tables(), data_cut=synthetic.DATA_CUT)
    recipe = fed.cohort(TREE).recipe
    return recipe, [house.rows(recipe) for house in fed._world.data.values()]


def keep(rows, few, what):
    """Of those for whom `what` is not so, only so many stay in each registry."""
    stay = what(rows)
    others = np.flatnonzero(~stay)
    stay[others[:few]] = True
    kept = rows.where(stay)
    return Rows(kept.dictionary, kept.n, kept.held, kept.ids, ())


def ask(questions, rules, recipe, rows):
    """One query over these rows, as every world drives it; the flow aside, which `test_the_flow...` is about."""
    from fedstats.query.population import Whole

    plain = Whole(recipe.dictionary, conditional=recipe.conditional)
    steps = driver.query(questions, plain, rules, len(rows))
    asks = next(steps)
    try:
        while True:
            asks = steps.send(rounds.pooled(asks, rows, recipe.dictionary, sum(one.n for one in rows)))
    except StopIteration as done:
        return done.value


# -- columns that only some can have ---------------------------------------------------------------------------------------------

CONDITIONAL = [("cdw24_lag_days", "cdw24_event"), ("days_since_relapse", "age"), ("days_on_dmt", "age")]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("column", "known"), CONDITIONAL[:2])
def test_that_a_value_is_there_does_not_tell_of_a_few_without_the_event(rules, column, known):
    """Days to confirmation are known of those with the event, days since a relapse of those who had one: three others follow from n."""
    recipe, rows = derived()
    few = [keep(one.complete([known]), int(k < 3), lambda r: r.present(column)) for k, one in enumerate(rows)]
    questions = [question_of("summary", [column]), question_of("summary", [known] if known == "age" else ["cdw24_days"])]
    lag, everybody = ask(questions, NO_RULES, recipe, few)

    assert everybody.n - lag.n == 3
    for order in itertools.permutations(questions):
        found = ask(list(order), rules, recipe, few)
        assert [isinstance(one, Failed) for one in found] == [column in str(question) for question in order]
        refusal = next(one for one in found if isinstance(one, Failed))
        assert refusal.problem.code == "refused" and not {"3", str(lag.n)} & set(re.findall(r"\d+", refusal.problem.what))
    with pytest.raises(Refused, match="left out"):
        ask([question_of("quantiles", [column], q=[0.5])], rules, recipe, few)


@pytest.mark.parametrize("rules", RULES)
def test_where_many_are_without_the_event_the_wait_may_be_asked(rules):
    """The rule is not in the way of an honest question."""
    recipe, rows = derived()
    (found,) = ask([question_of("summary", ["cdw24_lag_days"])], rules, recipe, rows)

    assert found.n > 100


@pytest.mark.parametrize("rules", RULES)
def test_labels_and_the_wait_do_not_single_out_by_subtraction(rules):
    """EDSS of those with the event less EDSS of those whose event was confirmed: three patients, whose mean EDSS would follow."""
    recipe, rows = derived()
    few = [keep(one.complete(["cdw24_event", "edss"]), int(k < 3), lambda r: r.present("cdw24_lag_days")) for k, one in enumerate(rows)]
    pairs = [question_of("summary", ["edss", "cdw24_lag_days"]), question_of("summary", ["edss", "cdw24_days"])]
    lag, whole = ask(pairs, NO_RULES, recipe, few)
    stolen = whole["edss"].mean * whole.n - lag["edss"].mean * lag.n
    truth = sum(one.where(~one.present("cdw24_lag_days") & one.present("edss")).values("edss").sum() for one in few)

    assert stolen == pytest.approx(truth, abs=1e-6) and whole.n - lag.n == 3
    assert any(isinstance(one, Failed) for one in ask(pairs, rules, recipe, few))
    assert any(isinstance(one, Failed) for one in ask(pairs[::-1], rules, recipe, few))


# -- the flow --------------------------------------------------------------------------------------------------------------------


def shown(results):
    """Every number of patients that a reader sees: steps of the flow, sizes, missing values, rows and events of models."""
    found = set()
    for one in results:
        if isinstance(one, Failed):
            continue
        found |= {step.n for step in one.size.flow} | {one.size.n, one.size.cohort}
        if one.size.cohort is not None:
            found |= {one.size.cohort - gap for gap in one.size.missing.values() if gap is not None}
    return sorted(found - {None})


@pytest.mark.parametrize(("rules", "seed"), [pytest.param(Rules(), 0, id="default"), pytest.param(FLOORS, 4, id="floors")])
def test_no_two_steps_from_all_patients_to_a_model_differ_by_a_few(rules, seed):
    """Registries of odd sizes, filters that a few fail: of all numbers beside the results, no two tell of fewer than the smallest cell."""
    sizes = [300 + 7 * seed, 250 - 3 * seed, 280, 260]
    data = {name: one.tables for name, one in synthetic.registries(seed, sites=4, sizes=sizes).items()}
    numbers = {}
    for name, now in (("control", NO_RULES), ("rules", rules)):
        fed = fedstats.pooled(data, data_cut=synthetic.DATA_CUT, rules=now)
        c = fed.cohort(TREE)
        numbers[name] = [shown([one]) for one in fed.ask(c.question.kaplan_meier(time="cdw24_days", event="cdw24_event"),
                                                         c.question.glm("edss ~ age + sex"))]

    def smallest(many):
        return min((b - a for one in many for a, b in itertools.pairwise(one)), default=rules.min_cell)

    assert smallest(numbers["control"]) < rules.min_cell
    assert smallest(numbers["rules"]) >= rules.min_cell


# -- several rows per patient ----------------------------------------------------------------------------------------------------

VISITS = Dictionary.from_dict({"name": "visits", "patient_id": "who", "most_rows": 50, "variables": [
    {"name": "x", "type": "number", "range": [0, 10]}, {"name": "y", "type": "number", "range": [0, 100]},
    {"name": "a", "type": "boolean"}]})


def visits():
    """300 patients with two rows each, and patient 7 with forty, who alone has large x: each of his rows has little leverage."""
    rng = np.random.default_rng(2)
    who = np.concatenate([np.repeat(np.arange(300), 2), np.full(38, 7)])
    x = np.where(who == 7, 9.0 + rng.random(len(who)), 0.5 + rng.random(len(who)) * 0.2)
    y = np.where(who == 7, 77.0, 30 + 10 * rng.random(len(who)))
    return who, x, y


@pytest.mark.parametrize("rules", RULES)
def test_a_patient_with_many_rows_does_not_carry_a_model(rules):
    """Each row has a leverage of a fortieth; together they are the slope, and his outcome is the prediction."""
    who, x, y = visits()
    rows = []
    for k in range(4):
        here = who % 4 == k
        rows.append(Rows(VISITS, int(here.sum()), {"x": x[here], "y": y[here], "a": (x[here] > 0.6).astype(np.int64)}, who[here]))
    question = question_of("glm", "y ~ x")

    def fit(rules):
        from fedstats.query.population import Whole

        steps = driver.query([question], Whole(VISITS), rules, 4)
        asks = next(steps)
        try:
            while True:
                asks = steps.send(rounds.pooled(asks, rows, VISITS, 300))
        except StopIteration as done:
            return done.value[0]

    (stolen,) = fit(NO_RULES).predict({"x": [9.5]})

    assert stolen == pytest.approx(77.0, abs=1)
    with pytest.raises(Refused, match="rule models"):
        fit(rules)


# -- nothing on the way ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [fedstats.pooled, fedstats.simulate])
def test_nothing_of_totals_is_logged_or_printed(world, caplog, capsys):
    """With every logger at its most talkative, a query that is answered and one that is refused leave no line."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"x": rng.uniform(0, 10, 400), "y": rng.uniform(0, 100, 400), "a": rng.random(400) < 0.01})
    book = Dictionary.from_dict({"name": "flat", "variables": [
        {"name": "x", "type": "number", "range": [0, 10]}, {"name": "y", "type": "number", "range": [0, 100]},
        {"name": "a", "type": "boolean"}]})
    fed = world({f"r{k}": frame[k::4].reset_index(drop=True) for k in range(4)}, dictionary=book, rules=Rules())
    with caplog.at_level(logging.DEBUG):
        c = fed.cohort()
        c.glm("y ~ x")
        with pytest.raises(FedstatsError):
            c.glm("y ~ a")

    assert not [one for one in caplog.records if one.name.startswith("fedstats")]
    assert capsys.readouterr() == ("", "")


def test_recipes_name_the_columns_that_only_some_can_have():
    """Whoever adds a covariate that is missing where nothing happened must enter it there."""
    recipe = Codebook(fedstats.pooled(tables()).codebook.dictionary, load_treatments(None)).recipe(TREE)

    assert recipe.conditional == {"cdw24_lag_days": "cdw24_event", "days_since_relapse": "", "days_on_dmt": ""}
