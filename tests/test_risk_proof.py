"""A model that was trained over the network proves, offline, that it is what every registry signed; no changed byte gets through."""

import dataclasses
import json
import math
import shutil

import msgspec
import pytest

import fedstats
from fedstats.errors import InputError, Tampered
from fedstats.query.analysis import Size, read_result
from fedstats.risk import folder as risk
from fedstats.risk.card import card_of, card_text, model_hash
from fedstats.risk.card_page import page
from fedstats.risk.card_proof import check_model
from fedstats.wire.receipt import receipt_of

from .risk_data import DICTIONARY, HAZARD, registries

SETTINGS = HAZARD | {"rounds": 3, "max_depth": 2, "learning_rate": 0.3}


@pytest.fixture(scope="module")
def signed():
    """Two queries of one consortium in memory: (network, [(model, validation, receipt), ...])."""
    fed = fedstats.simulate(registries((300, 250, 350), seed=2), dictionary=DICTIONARY, seed=1)
    network, ask = fed._world.network, fed.cohort().question
    found = []
    for covariates in (["age", "edss"], ["age", "sex"]):
        questions = (ask.boost("event", covariates, **SETTINGS),
                     ask.validation("event", covariates, folds=2, horizons=[720], **SETTINGS))
        analyst = network.run([one.question for one in questions], {"all": []}, purpose="a test")
        assert analyst.problem is None
        found.append((*analyst.results, receipt_of(analyst)))
    return network, found


def carded(signed, k=0):
    """Model, card and receipt of a query."""
    network, found = signed
    model, validation, receipt = found[k]
    made = card_of(model, validation, title="Worsening", cohort="All.", outcome="Worse.", data_cut="2026-06-30", date="2026-11-23",
                   rules=network.roster.effective_rules, receipt=receipt)
    return model, made, receipt


@pytest.fixture(scope="module")
def original(signed, tmp_path_factory):
    folder = risk.write_folder(tmp_path_factory.mktemp("signed") / "model", *carded(signed))
    signed[0].roster.save(folder.parent / "consortium.toml")
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


def edit(path, *place, by):
    """Change one entry of a JSON file."""
    content = json.loads(path.read_text())
    inner = content
    for one in place[:-1]:
        inner = inner[one]
    inner[place[-1]] = by(inner[place[-1]])
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def test_the_folder_proves_that_every_registry_signed_the_model(signed, folder):
    """Model, file for xgboost, card and page follow from what was signed."""
    network, ((model, _, _), _) = signed
    found = risk.check_folder(folder, network.roster)

    assert found.signers == found.proof.registries == ("r0", "r1", "r2") and found.model == model_hash(model)
    assert {one.name for one in folder.iterdir()} == {"model.json", "risk.json", "card.json", "card.html", "receipt.json"}


def test_a_copy_of_the_model_with_other_trees_is_found(signed, folder):
    """The file for xgboost is compared tree by tree; one changed leaf is enough."""
    network, _ = signed
    edit(folder / "model.json", "learner", "gradient_booster", "model", "trees", 0, "split_conditions", -1, by=lambda one: one + 0.25)

    with pytest.raises(Tampered, match=r"model\.json is another model"):
        risk.check_folder(folder, network.roster)
    (folder / "model.json").write_text("{}")
    with pytest.raises(Tampered, match="is not a model that xgboost reads"):
        risk.check_folder(folder, network.roster)
    (folder / "model.json").unlink()
    with pytest.raises(InputError, match="there is no file"):
        risk.check_folder(folder, network.roster)


def test_a_forged_model_with_a_card_that_fits_is_found(signed, folder):
    """Whoever changes a leaf, the hash on the card and the file for xgboost still lacks the registries' signatures."""
    network, _ = signed
    model, card, receipt = carded(signed)
    tree = msgspec.structs.replace(model.trees[0], value=tuple(one * 1.5 for one in model.trees[0].value))
    forged = msgspec.structs.replace(model, trees=(tree, *model.trees[1:]))
    risk.write_folder(folder, forged, msgspec.structs.replace(card, provenance=msgspec.structs.replace(
        card.provenance, model=model_hash(forged))), receipt)

    with pytest.raises(Tampered, match=r"not what the registries released: trees\.0\.value\.\d+ differs"):
        risk.check_folder(folder, network.roster)


CHANGES = {
    "model hash": (("provenance", "model"), lambda one: "0" * 64),
    "query": (("provenance", "query"), lambda one: "0" * 32),
    "signature": (("provenance", "signatures", "r1"), lambda one: one[:-8] + "AAAAAAA="),
    "no base 64": (("provenance", "signatures", "r1"), lambda one: "?"),
    "patients": (("training", "patients"), lambda one: one + 1),
    "registries": (("training", "registries"), lambda one: one + 1),
    "auc": (("performance", 0, "overall", "auc"), lambda one: one + 0.05),
    "last digit": (("performance", 0, "overall", "auc"), lambda one: math.nextafter(one, 1)),
    "classes": (("performance", 0, "classes"), lambda one: one[:-1]),
    "folds": (("folds",), lambda one: 10),
    "horizons": (("horizons",), lambda one: [360.0]),
    "a covariate": (("covariates", 0, "values"), lambda one: "0 to 200"),
    "depth": (("model", "depth"), lambda one: one + 1),
    "a floor": (("privacy", "settings", "smallest cell"), lambda one: 100),
    "how": (("privacy", "how"), lambda one: "pooled"),
    "research use": (("research_use",), lambda one: "cleared for use"),
    "limits": (("not_said",), lambda one: []),
    "notes": (("notes",), lambda one: [*one, "excellent"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_that_the_card_says_can_be_changed(signed, folder, change):
    """Every number, setting and caution of the card is made anew from the released results and compared."""
    network, _ = signed
    place, by = CHANGES[change]
    edit(folder / "card.json", *place, by=by)

    with pytest.raises(Tampered, match="card"):
        risk.check_folder(folder, network.roster)


def test_the_analysts_own_words_are_the_analysts(signed, folder):
    """Title, intended use, cohort and outcome in words are not signed; the page must show the same ones."""
    network, _ = signed
    edit(folder / "card.json", "title", by=lambda one: "Another title")
    with pytest.raises(Tampered, match=r"card\.html is not the page of the card"):
        risk.check_folder(folder, network.roster)

    (folder / "card.html").write_text(page(risk.read_folder(folder)[1]), encoding="utf-8")
    assert risk.check_folder(folder, network.roster).signers


def test_the_receipt_of_another_query_proves_nothing(signed, folder):
    """Neither with this model and card, nor with a card to which it was fitted."""
    network, _ = signed
    model, card, _ = carded(signed)
    other_model, other_card, other = carded(signed, 1)
    with pytest.raises(Tampered, match="not of one query"):
        check_model(model, card, other, network.roster)
    fitted = msgspec.structs.replace(other_card, provenance=msgspec.structs.replace(other_card.provenance, model=model_hash(model)))
    with pytest.raises(Tampered, match="not what the registries released"):
        check_model(msgspec.structs.replace(model, query=other_model.query), fitted, other, network.roster)

    risk.write_folder(folder, model, card, other)
    with pytest.raises(Tampered, match="not of one query"):
        risk.check_folder(folder, network.roster)


def test_a_card_with_signatures_of_another_query_is_noticed(signed):
    network, _ = signed
    model, card, receipt = carded(signed)
    _, other, _ = carded(signed, 1)
    mixed = msgspec.structs.replace(card, provenance=msgspec.structs.replace(card.provenance, signatures=other.provenance.signatures))

    with pytest.raises(Tampered, match="signatures on the card are not those of the receipt"):
        check_model(model, mixed, receipt, network.roster)


def test_registries_that_differ_in_a_last_digit_leave_the_trees_alone(signed):
    """A model with the digits of two of three registries is proven, and says whose; the third's agree within 1e-9."""
    from fedstats.risk import card_proof

    network, _ = signed
    model, card, receipt = carded(signed)
    with pytest.MonkeyPatch.context() as watch:
        check = card_proof.check_receipt

        def nudged(*args):
            proof = check(*args)
            content = json.loads(json.dumps(proof.results["r1"]))
            content[0]["base_margin"] = math.nextafter(content[0]["base_margin"], 1)
            return dataclasses.replace(proof, results=proof.results | {"r1": content})

        watch.setattr(card_proof, "check_receipt", nudged)
        assert check_model(model, card, receipt, network.roster).signers == ("r0", "r2")


def test_an_unsigned_model_says_so(signed, tmp_path):
    """A model of a simulation has no receipt; and one that is written over a signed one leaves no old receipt behind."""
    network, _ = signed
    model, card, receipt = carded(signed)
    plain = msgspec.structs.replace(card, provenance=msgspec.structs.replace(card.provenance, signatures={}))
    risk.write_folder(tmp_path, model, card, receipt)
    risk.write_folder(tmp_path, model, plain)

    assert not (tmp_path / "receipt.json").exists()
    with pytest.raises(InputError, match="is not signed"):
        risk.check_folder(tmp_path, network.roster)
    (tmp_path / "card.json").write_text(card_text(card))
    with pytest.raises(InputError, match=r"receipt\.json cannot be read"):
        risk.check_folder(tmp_path, network.roster)


def test_the_command_says_what_is_proven(original, folder, type_, monkeypatch):
    monkeypatch.chdir(folder.parent)
    shutil.copy(original.parent / "consortium.toml", "consortium.toml")
    code, out, err = type_("risk", "verify", "model", "--consortium", "consortium.toml")
    assert code == 0 and "the one that r0, r1, r2 signed and released" in out and "follow from it" in err
    assert json.loads(type_("risk", "verify", "model", "--consortium", "consortium.toml", "--json")[1])["digits"] == ["r0", "r1", "r2"]

    code, out, err = type_("receipt", "check", "model/receipt.json", "--consortium", "consortium.toml", "--result", "model/risk.json")
    assert code == 0 and '"boost" in model/risk.json is what they released' in out
    code, out, err = type_("risk", "card", "model", "--consortium", "consortium.toml")
    assert code == 0 and "the signatures hold: r0, r1, r2" in err

    edit(folder / "risk.json", "notes", by=lambda one: ["changed"])
    code, out, err = type_("risk", "verify", "model", "--consortium", "consortium.toml")
    assert (code, out) == (5, "") and "not what the registries released: notes" in err


def test_an_unreadable_result_of_the_model_is_no_model(signed):
    """A released result that is no model cannot be passed off as one."""
    network, _ = signed
    model, card, receipt = carded(signed)
    other = read_result({"kind": "failed", "question": "q", "problem": {"code": "x", "who": "", "what": "", "hint": ""},
                         "size": msgspec.to_builtins(Size(0)), "query": model.query})

    with pytest.raises(Tampered, match="SHA-256 differs"):
        check_model(other, card, receipt, network.roster)
