"""Model cards: valid, complete, honest about what is withheld, readable offline, and bound to one model."""

import base64
import json
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.crypto.identity import Identity
from fedstats.errors import InputError, Problem, Refused, Tampered
from fedstats.query.analysis import Failed, Size
from fedstats.risk import card, card_page, card_proof, patient_page
from fedstats.risk import folder as risk
from fedstats.risk.patients import Contribution, predict
from fedstats.wire import messages
from fedstats.wire.analyst import Receipt
from fedstats.wire.roster import Consortium, member_of

from .risk_data import COVARIATES, DICTIONARY, HAZARD, SMALL, registries

BOOK = Dictionary.from_dict(DICTIONARY)
SCHEMA = json.loads((Path(__file__).resolve().parents[1] / "schemas" / "model_card.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def fed():
    return fedstats.pooled(registries((400, 250, 300, 200, 350), seed=1), dictionary=BOOK, rules=Rules())


@pytest.fixture(scope="module")
def found(fed):
    """A hazard model and its validation, asked together."""
    ask = fed.cohort().question
    return fed.ask(ask.boost("event", COVARIATES, **HAZARD, **SMALL),
                   ask.validation("event", COVARIATES, folds=3, by=["sex", "relapses"], horizons=[360, 720], **HAZARD, **SMALL))


@pytest.fixture(scope="module")
def made(fed, found):
    return card.card_of(*found, title="Worsening <b>after</b> a year", cohort="Adults.", outcome="Confirmed worsening.",
                        data_cut="2026-06-30", date="2026-11-23", rules=fed.rules)


def test_the_card_validates_and_comes_back(made, tmp_path):
    path = card.write_card(tmp_path / "card.json", made)

    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text(encoding="utf-8")))
    assert card.read_card(path) == made


@pytest.mark.parametrize("limit", [np.inf, -np.inf])
def test_a_limit_without_an_end_comes_back(fed, made, tmp_path, limit):
    """As its word, not as null: of a coefficient, of a metric, and of what a model says of itself."""
    one = card.card_of(fed.cohort().glm("worse ~ age + sex", family="binomial"))
    first = msgspec.structs.replace(one.coefficients[0], high=limit, exp_coef=limit)
    last = made.performance[-1]
    overall = msgspec.structs.replace(last.overall, ratio_high=limit, slope_low=limit)
    endless = msgspec.structs.replace(one, coefficients=(first,), performance=(msgspec.structs.replace(last, overall=overall),))
    path = card.write_card(tmp_path / "card.json", endless)

    assert "null" not in json.dumps(json.loads(path.read_text())["coefficients"])
    assert card.read_card(path) == endless
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))


@pytest.mark.parametrize("part", ["horizon", "variance_intercept", "spans"])
def test_what_risks_are_computed_from_has_an_end(made, tmp_path, part):
    """The words stand for limits only: a recalibration, a horizon or a range without an end is no card."""
    content = json.loads(card.card_text(made))
    if part == "spans":
        content["seen"]["covariates"][0]["spans"] = [[0.0, "Infinity"]]
    else:
        (content["performance"][-1] if part == "horizon" else content["performance"][-1]["recalibration"])[part] = "Infinity"
    (tmp_path / "card.json").write_text(json.dumps(content))

    with pytest.raises(InputError, match="is not a model card"):
        card.read_card(tmp_path / "card.json")


@pytest.mark.parametrize(("time", "unit", "words"), [
    (728, "days", "728 days (2 years)"), (364, "days", "364 days (1 year)"), (546, "days", "546 days"), (2, "years", "2 years"),
    (12, "", "12"), (1092, "days", "1092 days (3 years)"), (1, "days", "1 days")])
def test_days_are_told_in_years_where_they_are_whole(time, unit, words):
    assert patient_page.time_text(time, unit) == words


@pytest.mark.parametrize("change", [{"version": 3}, {"kind": "horoscope"}, {"training": {}}, {"performance": [{"horizon": 1}]}], ids=str)
def test_wrong_cards_do_not_validate(made, tmp_path, change):
    content = json.loads(card.card_text(made)) | change
    (tmp_path / "card.json").write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(content)
    with pytest.raises(InputError, match="is not a model card"):
        card.read_card(tmp_path / "card.json")


def test_the_card_says_what_it_must(made, found):
    """Registries by number and bands, data cut, outcome, covariates with ranges, n, events, performance, privacy, hash."""
    model, _ = found

    assert (made.training.registries, made.training.patients, made.training.events) == (5, 1500, model.events)
    assert [(one.patients, one.registries) for one in made.training.sizes] == [("100 to 299", 2), ("300 to 999", 3)]
    assert (made.training.data_cut, made.training.outcome) == ("2026-06-30", "Confirmed worsening.")
    assert [(one.name, one.values, one.unit) for one in made.covariates][:2] == [("age", "18 to 80", "years"),
                                                                                 ("edss", "0 to 10 in steps of 0.5", "")]
    assert [one.horizon for one in made.performance] == [360, 720] == list(made.horizons)
    assert made.privacy.settings["bins per covariate, at most"] == 16 and made.privacy.settings["smallest cell"] == 10
    assert "not a medical device" in made.research_use and made.not_said
    assert len(made.provenance.model) == 64 and made.provenance.model == card.model_hash(model)


def test_no_registry_is_named_with_a_number(made):
    """Names stand beside signatures only; a pooled model has none."""
    assert not any(f'"r{k}"' in card.card_text(made) for k in range(5))


def test_the_hash_changes_with_a_leaf_and_not_with_a_note(found):
    model, _ = found
    tree = msgspec.structs.replace(model.trees[0], value=tuple(one + 0.25 if one else one for one in model.trees[0].value))

    assert card.model_hash(msgspec.structs.replace(model, trees=(tree, *model.trees[1:]))) != card.model_hash(model)
    assert card.model_hash(msgspec.structs.replace(model, notes=("other",), query="x")) == card.model_hash(model)


def test_signatures_of_all_registries_are_kept(found):
    model, validation = found
    receipt = Receipt(b"query", {}, {"lyon": b"signed by lyon", "basel": b"signed by basel"}, {})
    made = card.card_of(model, validation, receipt=receipt)

    assert list(made.provenance.signatures) == ["basel", "lyon"]
    assert base64.b64decode(made.provenance.signatures["lyon"]) == b"signed by lyon"


def signed(name, who, **changes):
    fields = {"T": bytes(32), "S": bytes(32), "registry": name, "H": bytes(32), "decisions": bytes(32), "release": True, "problem": None}
    return messages.sign(messages.Verdict(**fields | changes), who).signed


@pytest.mark.parametrize(("change", "says"), [
    ({}, ""), ({"H": b"x" * 32}, "different results"), ({"release": False}, "something else")], ids=["true", "another result", "refused"])
def test_signatures_are_checked_against_the_roster(found, change, says):
    """Every registry must have said "release" about one and the same result."""
    people = {name: Identity.generate(name) for name in ("lyon", "basel", "turin")}
    roster = Consortium(name="c", epoch=1, dictionary="d.json", dictionary_sha256=BOOK.digest, rules=Rules(),
                        members=tuple(member_of(one, "registry") for one in people.values()))
    verdicts = {name: signed(name, who, **(change if name == "basel" else {})) for name, who in people.items()}
    made = card.card_of(*found, receipt=Receipt(b"query", {}, verdicts, {}))
    if not says:
        assert card_proof.check_signatures(made, roster) == ("basel", "lyon", "turin")
        flipped = msgspec.structs.replace(made.provenance, signatures=made.provenance.signatures | {
            "lyon": base64.b64encode(verdicts["lyon"][:-1] + bytes([verdicts["lyon"][-1] ^ 1])).decode()})
        made, says = msgspec.structs.replace(made, provenance=flipped), "."
    with pytest.raises(Tampered, match=says):
        card_proof.check_signatures(made, roster)


def test_a_card_without_signatures_says_so(made):
    with pytest.raises(InputError, match="no signatures"):
        card_proof.check_signatures(made, None)


def test_a_validation_of_another_model_is_refused(fed, found):
    model, _ = found
    other = fed.cohort().validation("event", ["age"], folds=2, horizons=[360], **HAZARD, **SMALL)

    with pytest.raises(InputError, match="another model: covariates differ"):
        card.card_of(model, other)


def test_a_validation_that_was_not_answered_says_why(found):
    """Not an error about the card, but the registries' own sentence."""
    failed = Failed(size=Size(0), question="validation", problem=Problem("refused", "", "too few patients"))

    with pytest.raises(Refused, match="too few patients"):
        card.card_of(found[0], failed)


def test_regressions_have_cards_too(fed):
    """The same form for a Cox model and a logistic regression, with coefficients instead of trees."""
    cox = fed.cohort().cox(time="days", event="event", covariates=["age", "sex"])
    glm = fed.cohort().glm("worse ~ age + sex", family="binomial")
    for result, kind in ((cox, "cox"), (glm, "glm")):
        made = card.card_of(result, title="Age and sex")

        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(card.card_text(made)))
        assert made.kind == kind and [one.term for one in made.coefficients] == list(result.names)
        assert [one.name for one in made.covariates] == ["age", "sex"]
        assert card.model_hash(result) == made.provenance.model
        assert "no validation" in card_page.page(made)


def test_other_results_have_no_card(fed):
    with pytest.raises(InputError, match="is not a model"):
        card.card_of(fed.cohort().summary(["age"]))


# -- the page ------------------------------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_nothing(made):
    text = card_page.page(made)

    assert "<script" not in text and "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'" in text
    assert not any(f'{name}="http' in text for name in ("src", "href"))
    assert "<b>after</b>" not in text and "&lt;b&gt;after&lt;/b&gt;" in text


def test_the_page_shows_groups_calibration_and_limits(made):
    text = card_page.page(made)

    assert text.count("<circle") == sum(len(one.classes) for one in made.performance)
    assert "What the number does not say" in text and "not a medical device" in text
    assert "sex: F" in text and card_page.HIDDEN in text
    assert made.provenance.model in text


# -- what it says of a patient ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(found, made, tmp_path_factory):
    return risk.write_folder(tmp_path_factory.mktemp("risk") / "model", found[0], made)


def test_the_folder_comes_back(folder, found, made):
    model, read = risk.read_folder(folder)

    assert (model.trees, model.variables, model.ends) == (found[0].trees, found[0].variables, found[0].ends) and read == made
    assert {one.name for one in folder.iterdir()} == {"model.json", "risk.json", "card.json", "card.html"}


def test_the_file_for_xgboost_predicts_the_same_hazards(folder, found):
    """The model file, loaded by xgboost itself, gives the same bits."""
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(folder / "model.json")
    patients = {"age": [30, 50], "edss": [1.5, None], "sex": ["F", "M"], "relapses": [0, 3]}
    matrix = xgboost.DMatrix(found[0].matrix(patients, at=360), feature_names=[one.name for one in found[0].columns])

    assert (booster.predict(matrix, output_margin=True) == found[0].margins(patients, at=360)).all()


def test_a_card_of_another_model_is_noticed(folder, tmp_path):
    import shutil

    other = shutil.copytree(folder, tmp_path / "other")
    content = json.loads((other / "risk.json").read_text())
    content["base_margin"] += 0.5
    (other / "risk.json").write_text(json.dumps(content))

    with pytest.raises(InputError, match="belongs to another model"):
        risk.read_folder(other)


def test_a_patients_risks_are_the_models(folder):
    """Absolute risks at the card's horizons, rising with time; contributions add up to the log-odds of the last interval."""
    model, made = risk.read_folder(folder)
    patients = [{"patient_id": "ana", "age": 34, "edss": "2.5", "sex": "F", "relapses": 1}, {"age": 60, "relapses": 2, "sex": "F"}]
    ana, other = predict(patients, model, made)

    assert [one.horizon for one in ana.risks] == [360, 720] and ana.risks[0].risk < ana.risks[1].risk
    for said, performance in zip(ana.risks, made.performance):
        p, again = float(model.predict(patients[0] | {"patient_id": None}, horizon=said.horizon)[0]), performance.recalibration
        assert np.log(said.risk / (1 - said.risk)) == pytest.approx(again.intercept + again.slope * np.log(p / (1 - p)), abs=1e-9)
        assert said.low < said.risk < said.high and said.slope == again.slope
    margin = float(model.margins({name: [patients[0][name]] for name in COVARIATES}, at=720)[0])
    assert ana.base + sum(one.log_odds for one in ana.contributions) == pytest.approx(margin, abs=1e-4)
    assert (ana.patient, other.patient) == ("patient ana", "patient 2") and other.missing == ("edss",)
    assert 0 <= ana.risks[0].percentile <= other.risks[0].percentile <= 1


def test_the_page_of_a_patient_says_risks_reasons_and_limits(folder):
    """Escaped, without scripts, with one bar per covariate."""
    model, made = risk.read_folder(folder)
    said = predict([{"patient_id": "<b>ana</b>", "age": 34, "sex": "F", "relapses": 1}], model, made)
    text = patient_page.page(said, made)

    assert "<b>ana</b>" not in text and "<script" not in text and "default-src 'none'" in text
    assert text.count("<rect") == len(COVARIATES) and "taken as missing: edss" in text
    assert "Risk within 720 days" in text and "It does not say who" in text and "not a medical device" in text
    many = tuple(Contribution(f"c{k}", "1", 0.1 * k) for k in range(15))
    assert patient_page.bars(many).count("<rect") == patient_page.MOST_BARS + 1 and "5 others" in patient_page.bars(many)


@pytest.mark.parametrize(("patient", "what", "hint"), [
    ({"agee": 34}, '"agee" is not a covariate', "age"), ({"age": 340}, '"age" is outside 18 to 80', "18 to 80 years"),
    ({"edss": 2.3}, '"edss" is not a multiple of 0.5', "steps of 0.5"), ({"sex": "female"}, '"sex" is not a level', "F, M"),
    ({"age": "old"}, '"age" is not a number', "integer"), ({"age": [1]}, '"age" is not a single value', "one number")])
def test_wrong_values_are_named_with_what_is_allowed(folder, patient, what, hint):
    """Field and range; never the value itself."""
    model, made = risk.read_folder(folder)
    with pytest.raises(InputError, match=f"patient 1: {what}") as caught:
        predict([patient], model, made)

    assert hint in caught.value.hint and str(next(iter(patient.values()))) not in caught.value.what
