"""Receipts: what anybody can check of a released result, offline, and that no lie gets through."""

import dataclasses
import json
import math

import jsonschema
import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

import fedstats
from fedstats.cli.schemas import SCHEMAS
from fedstats.client.federation import Federation
from fedstats.client.receipt_check import PARTS, check_receipt, check_results, first_difference, plain
from fedstats.client.report import write_results
from fedstats.client.worlds import Simulated
from fedstats.crypto import envelopes, identity
from fedstats.errors import InputError, MessageError, Problem, Tampered
from fedstats.query.analysis import question_of, read_result
from fedstats.wire import messages
from fedstats.wire.messages import Note, hashed
from fedstats.wire.receipt import read_receipt, receipt_of, write_receipt
from fedstats.wire.release import released
from fedstats.wire.transcript import decisions_of

from . import every
from .attacks.stage import NAMES, Stage
from .questions import calls

OTHER = b"x" * 32
NOTE = Note(onetime=OTHER, box=b"box", keys=(b"key", b"key", b"key"))


@pytest.fixture(scope="module")
def asked():
    """A query of two questions, asked of three registries in memory: stage, receipt, proof."""
    with pytest.MonkeyPatch.context() as watch:
        stage = Stage(watch).ask()
    assert stage.analyst.problem is None
    receipt = receipt_of(stage.analyst)
    return stage, receipt, check_receipt(receipt, stage.network.roster)


def changed(receipt, part, name, value):
    """The receipt with one entry of one part replaced."""
    if part == "query":
        return msgspec.structs.replace(receipt, query=value)
    return msgspec.structs.replace(receipt, **{part: getattr(receipt, part) | {name: value}})


def signed_again(stage, receipt, part, name, **lies):
    """The receipt after a party has signed its message anew, with its own key, with some fields changed."""
    old = receipt.query if part == "query" else getattr(receipt, part)[name]
    message, _ = messages.open_signed(old, stage.network.roster.public)
    lie = msgspec.structs.replace(message, **lies)
    parcel = messages.sign(lie, stage.network.people[messages.sender_of(lie)])
    return changed(receipt, part, name, parcel.signed)


# -- what holds --------------------------------------------------------------------------------------------------------------------


def test_a_receipt_proves_question_registries_and_numbers(asked):
    """Who asked what, who took part, and the released content itself, the same from every registry."""
    stage, _, proof = asked

    assert proof.query == stage.analyst.query and proof.registries == NAMES
    released = json.loads(json.dumps([one.to_dict() for one in stage.analyst.results]))
    assert all(proof.results[name] == released for name in NAMES)
    assert proof.signers(stage.analyst.results[0].to_dict()) == NAMES
    assert set(proof.data_cuts) == set(NAMES) and proof.rules == stage.network.rules


def test_results_of_every_analysis_survive_the_file():
    """What the verdicts decided on is computed again from the stored result: whole numbers, texts and gaps come back as they were."""
    rng = np.random.default_rng(3)
    fed = fedstats.pooled({name: every.random_rows(60, rng) for name in NAMES}, dictionary=every.DICTIONARY)
    asked = [getattr(fed.cohort().question, name)(*args, **kwargs) for name, args, kwargs in calls()]
    for result in fed.ask(*asked):
        (stored,) = plain([result.to_dict()])

        assert decisions_of([read_result(stored)]) == decisions_of([result])


def test_a_receipt_is_a_file_of_its_schema(asked, tmp_path):
    _, receipt, _ = asked
    path = write_receipt(tmp_path / "receipt.json", receipt)

    assert read_receipt(path) == receipt
    jsonschema.Draft202012Validator(SCHEMAS["receipt.json"]()).validate(json.loads(path.read_text()))


def test_an_opening_key_opens_one_message_of_one_registry_only(asked):
    """It may be shown: it is neither the key of another registry's message nor of anything else that the two exchange."""
    stage, receipt, _ = asked
    analyst = stage.analyst

    assert len(set(receipt.openings.values())) == len(NAMES)
    for name in NAMES:
        other = identity.opening_key(analyst.me, analyst.onetime, stage.network.roster.public(name), analyst.admissions[name][0].onetime,
                                     hashed(b"release", OTHER, OTHER))
        assert other not in receipt.openings.values()


# -- tampering ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["query", *PARTS])
def test_no_byte_of_a_receipt_can_be_changed(asked, part, name):
    """Bytes all over every message: the check fails, and names whose word it was."""
    stage, receipt, _ = asked
    whole = receipt.query if part == "query" else getattr(receipt, part)[name]
    for at in range(0, len(whole), max(1, len(whole) // 23)):
        bad = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:]

        with pytest.raises((Tampered, MessageError)) as caught:
            check_receipt(changed(receipt, part, name, bad), stage.network.roster)
        assert caught.value.exit_code == 5
        assert part == "query" or name in str(caught.value)


@pytest.mark.parametrize("part", PARTS)
def test_every_registry_stands_in_every_part_once(asked, part):
    """A missing word, an unasked one, and one in another's place are found."""
    stage, receipt, _ = asked
    full = getattr(receipt, part)
    without = {name: one for name, one in full.items() if name != "beta"}
    for found, says in ((without, f"the {part} of beta are not in the receipt"), (full | {"delta": full["beta"]}, f"{part} of delta"),
                        (full | {"beta": full["gamma"]}, "of beta")):
        with pytest.raises(Tampered, match=says):
            check_receipt(msgspec.structs.replace(receipt, **{part: found}), stage.network.roster)


LIES = [
    ("admissions", {"T": OTHER}, "the admission of beta belongs to another query"),
    ("admissions", {"accept": False}, "beta did not admit the query"),
    ("admissions", {"problem": Problem("refused", "beta", "no")}, "beta did not admit the query"),
    ("admissions", {"journal": b"j" * 16}, "verdict of alpha does not follow from these admissions"),
    ("admissions", {"number": 77}, "verdict of alpha does not follow from these admissions"),
    ("admissions", {"note": NOTE}, "beta did not admit the query"),
    ("admissions", {"nonce": b"n" * 16}, "verdict of alpha does not follow from these admissions"),
    ("admissions", {"onetime": OTHER}, "verdict of alpha does not follow from these admissions"),
    ("admissions", {"data_cut": "2030"}, "verdict of alpha does not follow from these admissions"),
    ("admissions", {"software": "9"}, "verdict of alpha does not follow from these admissions"),
    ("admissions", {"registry": "gamma"}, "the admission of beta is another message"),
    ("verdicts", {"T": OTHER}, "the verdict of beta belongs to another query"),
    ("verdicts", {"S": OTHER}, "the verdict of beta does not follow from these admissions"),
    ("verdicts", {"H": OTHER}, "the verdict of beta is about another result than that of alpha"),
    ("verdicts", {"decisions": OTHER}, "the verdict of beta is about another result than that of alpha"),
    ("verdicts", {"release": False}, "beta did not let the result out"),
    ("verdicts", {"problem": Problem("refused", "beta", "no")}, "beta did not let the result out"),
    ("verdicts", {"note": NOTE}, "beta did not let the result out"),
    ("verdicts", {"registry": "gamma"}, "the verdict of beta is another message"),
    ("releases", {"T": OTHER}, "the result of beta belongs to another transcript"),
    ("releases", {"S": OTHER}, "the result of beta belongs to another transcript"),
    ("releases", {"roster": OTHER}, "the result of beta belongs to another transcript"),
    ("releases", {"H": OTHER}, "the result of beta belongs to another transcript"),
    ("releases", {"sealed": OTHER}, "the key in the receipt does not open the result of beta"),
    ("releases", {"registry": "gamma"}, "the result of beta is another message"),
    ("query", {"id": b"i" * 16}, "the admission of alpha belongs to another query"),
    ("query", {"purpose": "another"}, "the admission of alpha belongs to another query"),
    ("query", {"questions": (question_of("summary", ["age"]),)}, "the admission of alpha belongs to another query"),
    ("query", {"where": {"all": [["age", ">=", 40]]}}, "the admission of alpha belongs to another query"),
    ("query", {"onetime": OTHER}, "the admission of alpha belongs to another query"),
    ("query", {"created": 1.0}, "could not have been admitted"),
    ("query", {"expires": 1.0}, "could not have been admitted"),
    ("query", {"roster": OTHER}, "another roster than simulation, epoch 1"),
    ("query", {"analyst": "alpha"}, "could not have been admitted: alpha is not an analyst"),
    ("query", {"registries": ("alpha", "beta")}, "could not have been admitted: a query needs at least 3 registries"),
]


def test_the_lies_cover_every_field():
    """Every field of the signed messages, but for the versions, which the decoder checks, and minima and cohort, which have forms."""
    kinds = {"query": messages.Query, "admissions": messages.Admission, "verdicts": messages.Verdict, "releases": messages.Release}
    for part, kind in kinds.items():
        told = {name for where, lie, _ in LIES if where == part for name in lie}

        assert set(kind.__struct_fields__) - {"protocol", "seal", "minima", "cohort"} == told


@pytest.mark.parametrize(("part", "lie", "says"), LIES, ids=lambda one: "-".join(one) if isinstance(one, dict) else str(one)[:20])
def test_a_party_cannot_change_its_word_afterwards(asked, part, lie, says):
    """Signed anew with its own key: nothing else in the receipt goes with it."""
    stage, receipt, _ = asked

    with pytest.raises(Tampered, match=says):
        check_receipt(signed_again(stage, receipt, part, "beta", **lie), stage.network.roster)


def decisions_key(stage, receipt, name):
    """The key of the decisions code, as a registry told it."""
    release, _ = messages.open_signed(receipt.releases[name], stage.network.roster.public)
    content = identity.open_with(receipt.openings[name], name, "analyst", hashed(b"release", release.S, release.H), release.sealed)
    return released(content, name).decisions_key


def box(stage, receipt, name, content, key=b"k" * 32, opens=None):
    """The receipt after a registry has released another content than it did, under a key of its choice. opens : the decisions."""
    opens = opens or decisions_key(stage, receipt, name)
    release, _ = messages.open_signed(receipt.releases[name], stage.network.roster.public)
    data = identity._associated(hashed(b"release", release.S, release.H), name, "analyst")
    text = envelopes.padded(msgspec.json.encode({"results": content, "decisions_key": opens}), messages.RESULT_BYTES, 2**20)
    sealed = b"n" * 12 + ChaCha20Poly1305(key).encrypt(b"n" * 12, text, data)
    return changed(signed_again(stage, receipt, "releases", name, sealed=sealed), "openings", name, key)


@pytest.mark.parametrize(("change", "says"), [
    (lambda content: content, ""),
    (lambda content: content[:1], "does not answer the questions"),
    (lambda content: {"a": 1}, "cannot be read"),
    (lambda content: [1, 2], "does not answer the questions"),
    (lambda content: [content[0] | {"query": "00"}, content[1]], "names another query"),
    (lambda content: [content[0] | {"notes": ["all is well"]}, content[1]], "beta released other numbers than alpha"),
], ids=["the same", "one of two", "no list", "no results", "another query", "other words"])
def test_one_registry_cannot_release_something_else(asked, change, says):
    """Signed, and well sealed: the others' results give it away."""
    stage, receipt, proof = asked
    other = box(stage, receipt, "beta", change(proof.results["beta"]))
    if not says:
        assert check_receipt(other, stage.network.roster).results == proof.results
        return

    with pytest.raises(Tampered, match=says):
        check_receipt(other, stage.network.roster)


def test_all_registries_together_cannot_release_what_they_did_not_decide_on(asked):
    """Another count in all results is not the one of the verdicts; and a result of another version is not called a forgery."""
    stage, receipt, proof = asked
    text = json.dumps(proof.results["alpha"])
    n = proof.results["alpha"][0]["size"]["n"]
    for old, new, error in ((f'"n": {n},', f'"n": {n + 1},', Tampered), ('"kind": "summary"', '"kind": "summary/99"', MessageError)):
        assert old in text
        found = receipt
        for name in NAMES:
            found = box(stage, found, name, json.loads(text.replace(old, new)))

        with pytest.raises(error, match="result of alpha"):
            check_receipt(found, stage.network.roster)


def test_the_verdicts_code_opens_with_the_released_key_only(asked):
    """Another key in all boxes: the code in the verdicts is of nothing that it opens."""
    stage, receipt, proof = asked
    found = receipt
    for name in NAMES:
        found = box(stage, found, name, proof.results[name], opens=OTHER)

    with pytest.raises(Tampered, match="is not the one that the verdicts decided on"):
        check_receipt(found, stage.network.roster)


@pytest.mark.parametrize(("part", "says"), [("query", "the query cannot be read"), ("verdicts", "the verdict of beta cannot be read")])
def test_a_receipt_of_another_version_is_not_called_a_forgery(asked, part, says):
    """Years later: the sentence says that an older fedstats can check it."""
    stage, receipt, _ = asked

    with pytest.raises(MessageError, match=f"{says}: another version of the protocol") as caught:
        check_receipt(signed_again(stage, receipt, part, "beta", protocol="fedstats/1"), stage.network.roster)
    assert "version of fedstats that the registries ran" in caught.value.hint


def test_another_roster_is_told_before_anything_else(asked):
    """A receipt belongs to the consortium file of its epoch."""
    stage, receipt, _ = asked
    later = msgspec.structs.replace(stage.network.roster, epoch=2)

    with pytest.raises(Tampered, match="another roster than simulation, epoch 2") as caught:
        check_receipt(receipt, later)
    assert "epoch in which the question was asked" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "fedstats receipt", "version": 2}', "\xff"])
def test_other_files_are_no_receipts(tmp_path, text):
    (tmp_path / "r.json").write_text(text, encoding="latin-1")

    with pytest.raises(InputError, match="is not a receipt"):
        read_receipt(tmp_path / "r.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_receipt(tmp_path / "none.json")


# -- files of results ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def results(asked, tmp_path):
    """The results as a file, as ask --json prints them."""
    named = [("ages", asked[0].analyst.results[0]), ("sexes", asked[0].analyst.results[1])]
    return write_results(tmp_path / "results.json", title="t", results=named, purpose="", cohort="", registries=NAMES)


def test_a_file_of_results_is_the_one_that_was_signed(asked, results, tmp_path):
    """All of it, one result alone, and which registries' digits it has."""
    stage, _, proof = asked
    single = tmp_path / "single.json"
    single.write_text(json.dumps(stage.analyst.results[1].to_dict()))

    assert check_results(proof, results) == {"ages": NAMES, "sexes": NAMES}
    assert check_results(proof, single) == {"crosstab": NAMES}


def test_the_last_digits_tell_whose_result_it_is(asked, results):
    """Two registries differ in a last digit, as processors may: the file has the digits of one of them, or of nobody."""
    _, _, proof = asked
    content = json.loads(json.dumps(proof.results["beta"]))
    value = content[0]["columns"][0]["mean"]
    content[0]["columns"][0]["mean"] = math.nextafter(value, 0)
    assert check_results(dataclasses.replace(proof, results=proof.results | {"beta": content}), results)["ages"] == ("alpha", "gamma")

    text = results.read_text().replace(f"{value!r}", f"{value * (1 + 1e-12)!r}")
    results.write_text(text)
    with pytest.raises(Tampered, match=r'"ages".* last digits are nobody'):
        check_results(proof, results)


@pytest.mark.parametrize(("change", "says"), [
    (lambda one: one["columns"][0].update(mean=one["columns"][0]["mean"] * 1.01), "columns.0.mean differs"),
    (lambda one: one["columns"][0].update(n=1), "columns.0.n differs"),
    (lambda one: one["columns"].pop(), "columns differs"), (lambda one: one.pop("notes"), "notes differs"),
    (lambda one: one.update(query="00" * 16), "answer to another query"), (lambda one: one.update(kind="glm"), "not what the registries")],
    ids=["mean", "n", "a column less", "a field less", "query", "kind"])
def test_a_changed_file_of_results_is_noticed(asked, results, change, says):
    _, _, proof = asked
    content = json.loads(results.read_text())
    change(content["results"][0]["result"])
    results.write_text(json.dumps(content))

    with pytest.raises(Tampered, match=f'"ages".*{says}'):
        check_results(proof, results)


@pytest.mark.parametrize("text", ["", "[]", '{"title": 1}', "\xff"])
def test_other_files_are_no_results(asked, tmp_path, text):
    (tmp_path / "r.json").write_text(text, encoding="latin-1")

    with pytest.raises(InputError, match="is not a file of results"):
        check_results(asked[2], tmp_path / "r.json")


def test_differences_are_told_by_their_place():
    assert first_difference({"a": [1.0, {"b": 2}]}, {"a": [1.0 + 1e-15, {"b": 3}]}) == "a.1.b"
    assert first_difference({"a": 1}, {"b": 1}) == "a" and first_difference([1.0], [1.0]) == ""


# -- the command ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(asked, results, tmp_path, monkeypatch):
    """receipt.json, results.json and consortium.toml as the current folder."""
    stage, receipt, _ = asked
    monkeypatch.chdir(tmp_path)
    write_receipt("receipt.json", receipt)
    stage.network.roster.save("consortium.toml")
    return tmp_path


def test_the_command_says_what_holds(folder, type_):
    code, out, err = type_("receipt", "check", "receipt.json", "--consortium", "consortium.toml", "--result", "results.json")

    assert (code, err) == (0, "")
    assert "every signature holds: analyst asked this; alpha, beta, gamma admitted it" in out
    assert '"ages" in results.json is what they released, to the last digit of all of them' in out
    assert "names=['age', 'edss', 'years'])" in out and "fingerprint" in out

    code, out, _ = type_("receipt", "check", "receipt.json", "--consortium", "consortium.toml", "--json")
    assert code == 0 and list(json.loads(out)["data cuts"]) == list(NAMES)


def test_ask_writes_a_receipt_that_goes_with_what_it_prints(asked, folder, type_, monkeypatch):
    """The whole way of an analyst: ask over a network (here one in memory), keep result and receipt, check one with the other."""
    network = asked[0].network
    world = Simulated(network.codebook, {name: house.data for name, house in network.houses.items()}, {}, network.rules, seed=1)
    receipts = {}

    def run(questions, recipe, where, *, purpose="", **_):
        analyst = world.network.run(questions, where, purpose=purpose, recipe=recipe)
        receipts[analyst.query.id.hex()] = receipt_of(analyst)
        return analyst.results

    world.run, world.receipts = run, receipts
    monkeypatch.setattr("fedstats.connect", lambda *_, **__: Federation(world))
    world.network.roster.save("there.toml")
    code, out, err = type_("ask", "summary", "age", "--consortium", "there.toml", "--key", "k", "--json", "--receipt", "mine.json")
    assert code == 0 and "fedstats receipt check mine.json" in err
    (folder / "mine-result.json").write_text(out)

    code, out, err = type_("receipt", "check", "mine.json", "--consortium", "there.toml", "--result", "mine-result.json")
    assert (code, err) == (0, "") and '"summary age" in mine-result.json is what they released' in out
    code, _, err = type_("receipt", "check", "mine.json", "--consortium", "there.toml", "--result", "results.json")
    assert code == 5 and '"ages" is the answer to another query' in err


def test_the_command_fails_with_a_sentence(folder, type_):
    content = json.loads((folder / "receipt.json").read_text())
    content["verdicts"]["beta"] = content["verdicts"]["alpha"]
    (folder / "bad.json").write_text(json.dumps(content))
    code, out, err = type_("receipt", "check", "bad.json", "--consortium", "consortium.toml")

    assert (code, out, err) == (5, "", "fedstats: the verdict of beta is another message\n")
    code, _, err = type_("receipt", "check", "results.json", "--consortium", "consortium.toml")
    assert code == 2 and "is not a receipt" in err
