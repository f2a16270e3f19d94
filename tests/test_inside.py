"""A risk only inside what the model has seen: for everybody else the reason, one patient at a time."""

import json

import jsonschema
import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses.validation import seen as seen_module
from fedstats.analyses.validation.grid import alike, distance_edges, edges_of
from fedstats.data.rows import load
from fedstats.risk import card, card_page, patient_page
from fedstats.risk.patients import predict
from fedstats.risk.study import eligible_of

from .test_card import SCHEMA

COVARIATES = ["age", "age_at_onset", "disease_duration", "edss", "sex", "lesions"]
BOOK = Dictionary.from_dict({"name": "seen", "variables": [
    {"name": "age", "type": "integer", "range": [0, 110], "unit": "years", "cut_points": [18, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70]},
    {"name": "age_at_onset", "type": "integer", "range": [0, 110], "unit": "years", "cut_points": {"from": 10, "to": 70, "step": 5}},
    {"name": "disease_duration", "type": "number", "step": 0.1, "range": [0, 90], "unit": "years", "cut_points": [1, 2, 5, 10, 15, 20, 30]},
    {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5},
    {"name": "sex", "type": "category", "levels": ["F", "M", "weiß nicht"]},
    {"name": "lesions", "type": "integer", "range": [0, 200], "cut_points": [1, 5, 10, 20, 50]}, {"name": "worse", "type": "boolean"}]})
ANA = {"age": 38, "age_at_onset": 30, "disease_duration": 8.0, "edss": 2.5, "sex": "F", "lesions": 12}


def people(n, seed):
    """Adults of 18 to 69 years with EDSS up to 6.5; lesions are not known of a tenth, everything else of everybody; a single child, and
    five of whom the sex is not known."""
    rng = np.random.default_rng(seed)
    onset = rng.integers(16, 50, n)
    duration = np.round(np.minimum(rng.gamma(1.5, 5, n), 19.9) + 2, 1)
    age = np.floor(onset + duration).astype(int)
    age[0], onset[0], duration[0] = 8, 6, 2.0
    edss, sex = rng.integers(0, 14, n) / 2, np.where(rng.random(n) < 0.7, "F", "M").astype(object)
    if seed == 0:
        sex[:5] = "weiß nicht"
    eta = -1.2 + 0.4 * (edss - 2.5) + 0.03 * (age - 40)
    return {"patient_id": [f"{seed}-{k}" for k in range(n)], "age": age, "age_at_onset": onset, "disease_duration": duration, "edss": edss,
            "sex": sex, "lesions": np.where(rng.random(n) < 0.1, None, rng.integers(0, 60, n)),
            "worse": rng.random(n) < 1 / (1 + np.exp(-eta))}


@pytest.fixture(scope="module")
def made():
    """A model, its card, and the validation that they rest on."""
    fed = fedstats.pooled({f"r{k}": people(500, k) for k in range(4)}, dictionary=BOOK, rules=Rules())
    cohort, training = fed.cohort(where=[("age", ">=", 18)]), {"rounds": 8, "max_depth": 3, "learning_rate": 0.3}
    model, validation = fed.ask(cohort.question.boost("worse", COVARIATES, **training),
                                cohort.question.validation("worse", COVARIATES, folds=3, **training))
    return model, card.card_of(model, validation, rules=fed.rules, eligible=eligible_of(cohort)), validation


def of(made, **changes):
    (said,) = predict([ANA | changes], *made[:2])
    return said


def test_an_ordinary_patient_gets_one_calibrated_number_with_its_interval(made):
    (said,) = predict([ANA], *made[:2])
    (risk,) = said.risks

    assert not said.reason and 0 < risk.low < risk.risk < risk.high < 1 and said.contributions
    assert (risk.slope, risk.intercept) == (made[1].last.recalibration.slope, made[1].last.recalibration.intercept)


@pytest.mark.parametrize(("changes", "says"), [
    (dict.fromkeys(ANA), 'disease_duration", "edss" and "sex" are not known'), ({"age": None}, '"age" is not known'),
    ({"sex": ""}, '"sex" is not known'),
    ({"age": 8, "age_at_onset": 3, "disease_duration": 5.0}, "the model is for patients with age >= 18"),
    ({"age": 16, "age_at_onset": 12, "disease_duration": 4.0}, "the model is for patients with age >= 18"),
    ({"age": 92, "age_at_onset": 84}, '"age" is where fewer than 10 patients were'), ({"edss": 9.5}, "they had 0 to 6.5"),
    ({"disease_duration": 60.0}, '"disease_duration" is where'), ({"sex": "weiß nicht"}, '"sex" is a level of fewer than 10 patients'),
    ({"age": 20, "age_at_onset": 2, "disease_duration": 18.0}, '"age_at_onset" is where'),
    ({"age": 50}, "contradict each other"), ({"age": 30, "age_at_onset": 45}, "contradict each other"),
    ({"lesions": 150}, '"lesions" is where'),
    ({"age": 66, "age_at_onset": 64, "disease_duration": 2.0}, '"age_at_onset" is where')], ids=str)
def test_a_patient_unlike_those_that_it_has_seen_gets_the_reason(made, changes, says):
    """No risk, no contributions, and no value of the patient in the sentence."""
    said = of(made, **changes)

    assert says in said.reason and said.risks == () and said.contributions == ()


def test_what_was_sometimes_missing_may_be_missing(made):
    """A tenth had no number of lesions: one without gets a risk; nobody lacked two things."""
    said = of(made, lesions=None)

    assert said.risks and said.missing == ("lesions",)
    assert made[1].seen.most_missing == 1 and [one.name for one in made[1].seen.covariates if one.missing] == ["lesions"]


def test_most_patients_like_those_that_it_has_seen_get_a_number(made):
    """Of other patients of the same kind nine of ten and more do; those at the edges do not."""
    other = {name: column for name, column in people(600, 77).items() if name != "worse"}
    many = [{name: column[k] for name, column in other.items()} for k in range(600)]
    said = predict(many, *made[:2])

    assert np.mean([bool(one.risks) for one in said]) > 0.85


def test_one_wrong_line_of_many_has_a_reason_and_the_others_their_numbers(made):
    """A value that the dictionary does not allow, and a field that the model does not know."""
    said = predict([ANA, ANA | {"edss": 99}, ANA | {"edds": 2.5}, ANA], *made[:2])

    assert [bool(one.risks) for one in said] == [True, False, False, True]
    assert '"edss" is outside 0 to 10' in said[1].reason and "99" not in said[1].reason and 'did you mean "edss"' in said[2].reason


def test_a_condition_on_another_column_is_said_and_not_decided(made):
    model, own, _ = made
    import msgspec

    other = msgspec.structs.replace(own, training=msgspec.structs.replace(own.training, eligible=(["course", "==", "RR"],)))
    (said,) = predict([ANA], model, other)

    assert said.risks and said.assumed == ("course == RR",)
    assert "course == RR: this was not checked" in patient_page.page([said], other)


def test_the_card_says_for_whom_and_holds_no_counts(made, tmp_path):
    """Ranges, levels, and pairs of groups: places where enough were, never how many."""
    _, own, _ = made
    content = json.loads(card.card_text(own))
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    covered = {one["name"]: one for one in content["seen"]["covariates"]}

    assert content["version"] == 2 and covered["sex"]["levels"] == ["F", "M"] and covered["edss"]["spans"] == [[0, 7.0]]
    assert set(covered["age"]) == {"name", "spans", "levels", "missing", "cuts"}
    text = card_page.page(own)
    assert "seen in its patients" in text and "It is for patients with age &gt;= 18" in text and "recalibration" in text


def test_an_older_card_can_be_read_and_says_why_it_gives_no_number(made, tmp_path):
    content = json.loads(card.card_text(made[1])) | {"version": 1}
    content.pop("seen")
    content["training"].pop("eligible")
    for one in content["performance"]:
        one.pop("recalibration")
    (tmp_path / "card.json").write_text(json.dumps(content))
    old = card.read_card(tmp_path / "card.json")
    (said,) = predict([ANA], made[0], old)

    assert said.risks == () and "the card is of format 1" in said.reason and "train it again" in said.reason
    assert "does not say which patients the model has seen" in card_page.page(old) and "No risk is given" in patient_page.page([said], old)


def test_a_model_without_validation_gives_no_number(made):
    (said,) = predict([ANA], made[0], card.card_of(made[0]))

    assert said.risks == () and "no validation" in said.reason


def test_a_model_whose_risks_run_backwards_gives_no_number(made):
    """With a slope below 0 a recalibrated risk would fall as the model's rises."""
    import msgspec

    last = made[1].performance[-1]
    backwards = msgspec.structs.replace(last, recalibration=msgspec.structs.replace(last.recalibration, slope=-0.2))
    (said,) = predict([ANA], made[0], msgspec.structs.replace(made[1], performance=(backwards,)))

    assert said.risks == () and "the model tells nothing" in said.reason


# -- counting --------------------------------------------------------------------------------------------------------------------------


def test_cells_go_on_beyond_the_last_cut_in_its_width():
    """"70 years and more" is no one place: cells of five years follow, to the end of the range."""
    edges = edges_of(BOOK, "age")

    assert edges[-9:] == (70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 100.0, 105.0, 110.0) and edges[:3] == (0.0, 4.0, 11.0)
    assert edges_of(BOOK, "sex") is None and edges_of(BOOK, "edss")[:3] == (0.0, 0.5, 1.0)


def test_only_numbers_in_the_same_unit_are_compared():
    assert alike(BOOK, COVARIATES) == [("age", "age_at_onset"), ("age", "disease_duration"), ("age_at_onset", "disease_duration")]
    edges = distance_edges(BOOK, "age", "disease_duration")
    assert edges[0] <= -90 and edges[-1] >= 110 and 0.0 in edges


def test_the_counts_are_those_of_a_plain_table():
    """People per cell, per pair of groups and by what they lack, against numpy on the rows."""
    rows = load(people(300, 0), BOOK)[0]
    found = seen_module.covariates_seen(covariates=COVARIATES, needs=["worse"])
    from fedstats.sums.statistic import answer

    totals = answer(found, rows)
    ages, lesions = rows.values("age"), rows.present("lesions")
    assert totals["people0"].tolist() == [*np.histogram(ages, edges_of(BOOK, "age"))[0].tolist(), 0]
    assert totals["gaps"].tolist()[:2] == [lesions.sum(), (~lesions).sum()] and totals["people5"][-1] == (~lesions).sum()
    pairs = answer(seen_module.covariate_pairs(covariates=["edss", "sex"], cuts=[[2.0, 4.0], []], needs=["worse"]), rows)["both0"]
    wanted = [[((low <= rows.values("edss")) & (rows.values("edss") < high) & (rows.values("sex") == level)).sum() for level in range(3)]
              for low, high in ((-1, 2), (2, 4), (4, 99))]
    assert pairs[:3, :3].tolist() == wanted and pairs[3].sum() == pairs[:, 3].sum() == 0


def test_a_place_counts_only_if_enough_registries_have_it():
    """Ten patients of one registry are not shown where three registries must have some."""
    tables = {f"r{k}": people(500, k) for k in range(4)}
    tables["r1"]["edss"][100:140] = 9.0
    fed = fedstats.pooled(tables, dictionary=BOOK, rules=Rules())
    found = fed.cohort().validation("worse", COVARIATES, folds=2, rounds=1, max_depth=1)

    assert {one.name: one.spans for one in found.seen.covariates}["edss"] == ((0.0, 7.0),)
