"""A folder with a risk model, its card, and what proves them.

    model.json    the model as xgboost reads it          card.json, card.html    its card
    risk.json     the same with the codebook of its covariates, as `RiskModel.to_dict` writes it
    receipt.json  over the network: what it rests on; `check_folder` proves with it that nothing here was changed
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from ..analyses.boosting.model import RiskModel
from ..data.reading import read_json
from ..errors import InputError, Tampered
from ..query.analysis import read_result
from ..wire.receipt import Receipt, read_receipt, write_receipt
from ..wire.roster import Consortium
from .card import model_hash, read_card, write_card
from .card_form import Card
from .card_page import page, write_page
from .card_proof import MOST_BYTES, ModelProof, check_export, check_model
from .study import Study

MODEL, RESULT, CARD, PAGE, RECEIPT = "model.json", "risk.json", "card.json", "card.html", "receipt.json"


def write_folder(folder: str | Path, model: RiskModel, card: Card, receipt: Receipt | None = None) -> Path:
    """Write model, card, page and receipt. Returns the folder. Raises InputError if it cannot be written."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        model.save(folder / MODEL)
        (folder / RESULT).write_text(json.dumps(json.loads(msgspec.json.encode(model.to_dict())), indent=1) + "\n", encoding="utf-8")
        (folder / RECEIPT).unlink(missing_ok=True)      # that of another model
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    write_card(folder / CARD, card)
    write_page(folder / PAGE, card)
    if receipt is not None:
        write_receipt(folder / RECEIPT, receipt)
    return folder


def read_folder(folder: str | Path) -> tuple[RiskModel, Card]:
    """The model and its card. Raises InputError, also where the card belongs to another model."""
    model, card = _read(Path(folder))
    if card.provenance.model != model_hash(model):
        raise InputError(f"the card in {folder} belongs to another model: its SHA-256 differs", hint="keep a model and its card together")
    return model, card


def _read(folder: Path) -> tuple[RiskModel, Card]:
    if not (folder / RESULT).exists():
        raise InputError(f"{folder / RESULT} cannot be read: there is no such file", hint="fedstats risk train writes such a folder")
    content = read_json(folder / RESULT, "risk model", largest=MOST_BYTES)
    if not isinstance(content, dict):
        raise InputError(f"{folder / RESULT} is not a risk model")
    try:
        model = read_result(content)
    except InputError as error:
        raise InputError(f"{folder / RESULT} is not a risk model: {error.what}") from None
    if not isinstance(model, RiskModel):
        raise InputError(f"{folder / RESULT} holds a {model.kind}, not a risk model")
    return model, read_card(folder / CARD)


def check_study(model: RiskModel, study: Study) -> None:
    """Whether a study is the one that a model was trained from. Raises InputError that names what differs."""
    horizons, covariates = _several(study.validation.get("horizons", ())), _several(study.model["covariates"])
    differ = [f"its {name} is another" for name in ("outcome", "objective") if study.model.get(name, "") not in (getattr(model, name), "")]
    if set(covariates) != set(model.covariates):
        differ.append("its covariates are others")
    differ += [f"no interval of the model ends at its horizon {one:g}" for one in horizons if model.ends and one not in model.ends]
    if differ:
        raise InputError(f"the study is not the one of this model: {differ[0]}", hint="use the study file that the model was trained from")


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def check_folder(folder: str | Path, roster: Consortium) -> ModelProof:
    """That everything in the folder follows from what the registries of the roster signed: model, file for xgboost, card and page.

    Raises Tampered that names what does not hold, InputError for a folder without a receipt.
    """
    folder = Path(folder)
    model, card = _read(folder)
    if not card.provenance.signatures:
        raise InputError(f"the model in {folder} is not signed", hint="only models that were trained over the network are")
    proven = check_model(model, card, read_receipt(folder / RECEIPT), roster)
    check_export(model, folder / MODEL)
    if (folder / PAGE).is_file() and (folder / PAGE).read_text(encoding="utf-8") != page(card):
        raise Tampered(f"{folder / PAGE} is not the page of the card", hint=f"make it anew: fedstats risk card {folder} --html card.html")
    return proven
