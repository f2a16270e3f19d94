"""Whether a model and its card are what the registries signed: the signatures on a card, and the whole folder against its receipt.

How this works. The signatures on a card are the registries' verdicts: each says "release" of one transcript. They do not hold the model's
bytes; the receipt does, as the result that each registry released (see `receipt`). So the model must be one of those results, to the last
digit, and the rest follows from it by computation: its hash, the file for xgboost, and every number of the card, which is made anew from
the released results and compared. What the analyst wrote in own words (title, intended use, cohort and outcome in words, dates) is nobody's
but the analyst's; the signed query says what was really asked.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..analyses.boosting.model import RiskModel
from ..analyses.validation.result import Validation
from ..client.receipt_check import Proof, check_receipt, first_difference, plain
from ..data.reading import read_json
from ..errors import InputError, MessageError, Tampered
from ..query.analysis import Result, read_result
from ..wire import messages
from ..wire.receipt import Receipt
from ..wire.roster import Consortium
from .card import card_of, model_hash
from .card_form import Card
from .study import eligible_of_query

MOST_BYTES = 200_000_000        # of a model: the largest that may be asked for is about half of it
OWN_WORDS = ("title", "intended_use")                           # of a card: the analyst's
OWN_TRAINING_WORDS = ("cohort", "outcome", "data_cut")


@dataclass(frozen=True)
class ModelProof:
    """What holds. proof : of the query. signers : registries whose digits the model has, to the last one; the others released the same
    within 1e-9, which leaves no single-precision number of a tree open."""

    proof: Proof
    signers: tuple[str, ...]
    model: str


def check_signatures(card: Card, roster: Consortium) -> tuple[str, ...]:
    """The registries whose signatures hold: each said "release" about one and the same transcript of one query.

    This alone does not bind the model's bytes, see the module. Raises InputError for a card without signatures, Tampered for one that
    does not hold.
    """
    if not card.provenance.signatures:
        raise InputError("this card has no signatures", hint="only results over the network are signed")
    words = set()
    for name, text in card.provenance.signatures.items():
        try:
            message, _ = messages.open_signed(base64.b64decode(text, validate=True), roster.public)
        except (ValueError, MessageError):
            raise Tampered(f"the signature of {name} cannot be read") from None
        except Tampered:
            raise Tampered(f"the signature of {name} does not hold", hint="is this the consortium file of that epoch?") from None
        if not isinstance(message, messages.Verdict) or message.registry != name or not message.release:
            raise Tampered(f"the signature of {name} says something else")
        words.add((message.T, message.S, message.H, message.decisions))
    if len(words) > 1:
        raise Tampered("the signatures are about different results")
    return tuple(card.provenance.signatures)


def check_model(model: Result, card: Card, receipt: Receipt, roster: Consortium) -> ModelProof:
    """That this model is what every registry of the receipt released, and that the card says of it what follows from there.

    Raises Tampered that names what does not hold.
    """
    proof = check_receipt(receipt, roster)
    one = card.provenance
    if one.query != proof.query.id.hex() or model.query != one.query:
        raise Tampered("model, card and receipt are not of one query")
    if one.signatures != {name: base64.b64encode(signed).decode("ascii") for name, signed in receipt.verdicts.items()}:
        raise Tampered("the signatures on the card are not those of the receipt")
    if one.model != model_hash(model):
        raise Tampered("the card belongs to another model: its SHA-256 differs")
    signers = proof.signers(model.to_dict())
    if not signers:
        raise Tampered(f"the model is not what the registries released{_where(model, proof)}")
    _check_card(model, card, [read_result(content) for content in proof.results[signers[0]]], receipt, roster, proof.query)
    return ModelProof(proof, signers, one.model)


def check_export(model: RiskModel, path: str | Path) -> None:
    """That a file for xgboost holds exactly this model. The file is read and compared, never loaded: what is in it may be made to
    harm. Raises InputError where xgboost is missing or there is no such file, Tampered."""
    from ..analyses.boosting.booster import content_of, essence

    if not Path(path).is_file():
        raise InputError(f"there is no file {path}")
    try:
        found = essence(read_json(path, "model for xgboost", largest=MOST_BYTES))
    except InputError:
        found = None
    if found is None:
        raise Tampered(f"{path} is not a model that xgboost reads")
    if found != essence(content_of(model)):
        raise Tampered(f"{path} is another model than the one that the registries released")


def _where(model: Result, proof: Proof) -> str:
    """The first place where the model differs from the released one, as words."""
    content = plain(model.to_dict())
    kin = [one for one in proof.results[proof.registries[0]] if one["kind"] == content["kind"]]
    there = first_difference(content, kin[0]) if len(kin) == 1 else ""
    return f": {there} differs" if there else ""


def _check_card(model: Result, card: Card, results: list[Result], receipt: Receipt, roster: Consortium, query: Any) -> None:
    """The card is made anew from the released results with the analyst's own words, and must be the same."""
    made = card.training
    validation = next((one for one in results if isinstance(one, Validation)), None) if card.folds is not None else None
    again = card_of(model, validation, **{name: getattr(card, name) for name in OWN_WORDS},
                    **{name: getattr(made, name) for name in OWN_TRAINING_WORDS}, date=card.provenance.date,
                    rules=roster.effective_rules, receipt=receipt, eligible=eligible_of_query(query))
    again = msgspec.structs.replace(again, provenance=msgspec.structs.replace(again.provenance, software=card.provenance.software))
    there = first_difference(plain(card), plain(again))
    if there or card != again:
        raise Tampered(f"the card says something else than the registries released: {there or 'a last digit'} differs",
                       hint=f"a card is checked with the version of fedstats that wrote it: {card.provenance.software}")
