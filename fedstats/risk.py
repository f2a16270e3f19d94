"""A folder with a risk model, and what it says about a patient, with the reasons why.

    model.json    the model as xgboost reads it          card.json, card.html    its card
    risk.json     the same with the codebook of its covariates, as `RiskModel.to_dict` writes it
    receipt.json  over the network: what it rests on; `check_folder` proves with it that nothing here was changed

How this works. Every value of a patient is checked against the dictionary before the model sees it; what is not known stays missing, which
the trees have a direction for. The percentile is read off the released risk classes. Contributions are xgboost's SHAP values, those of a
category's levels added up.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .analyses.boosting.model import RiskModel
from .analyses.boosting.objectives import COX, HAZARD, LOGISTIC
from .analyses.scores.classes import percentile
from .analyses.validation.performance import Performance
from .analysis import read_result
from .card import covariate, model_hash, read_card, write_card
from .card_form import Card
from .card_page import page, write_page
from .card_proof import ModelProof, check_export, check_model
from .dictionary import Dictionary
from .errors import InputError, Tampered
from .receipt import Receipt, read_receipt, write_receipt
from .rows import load
from .show import RESEARCH
from .study import Study
from .variable import value_text
from .wire.roster import Consortium

MODEL, RESULT, CARD, PAGE, RECEIPT = "model.json", "risk.json", "card.json", "card.html", "receipt.json"
MOST_PATIENTS = 100_000
IDS = ("patient_id", "id")


class Risk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A risk at a horizon (None: a plain yes or no). percentile : share of the reference population with a lower risk, None if the card has
    no risk classes. observed : share with the outcome in the patient's class, with its interval."""

    horizon: float | None
    risk: float
    percentile: float | None = None
    observed: float | None = None
    observed_low: float | None = None
    observed_high: float | None = None


class Contribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a covariate adds to the log-odds, compared with the mean patient of the training."""

    covariate: str
    value: str
    log_odds: float


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model says of one patient. base : mean log-odds of the training patients; base and contributions add up to the patient's.
    at : for hazards, the end of the interval that the contributions are about. missing : covariates that were not given."""

    patient: str
    risks: tuple[Risk, ...]
    contributions: tuple[Contribution, ...]
    base: float
    at: float | None
    missing: tuple[str, ...]
    unit: str = ""
    research_use: str = RESEARCH


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
    try:
        model = read_result(json.loads((folder / RESULT).read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{folder / RESULT} cannot be read: {error.strerror}", hint="fedstats risk train writes such a folder") from None
    except (ValueError, RecursionError, InputError) as error:
        raise InputError(f"{folder / RESULT} is not a risk model: {error}") from None
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


# -- patients ---------------------------------------------------------------------------------------------------------------------


def read_patients(path: str | Path) -> list[dict[str, Any]]:
    """Patients from a JSON file (one object, or a list) or a CSV file with a header. Raises InputError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = list(csv.DictReader(io.StringIO(text))) if path.suffix == ".csv" else json.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"{path} is not {'CSV' if path.suffix == '.csv' else 'JSON'}: {error}") from None
    patients = [found] if isinstance(found, dict) else found
    if not isinstance(patients, list) or not patients or not all(isinstance(one, dict) for one in patients):
        raise InputError(f"{path} holds no patients", hint='one object such as {"age": 34, "edss": 2.5}, or a list of them')
    if len(patients) > MOST_PATIENTS:
        raise InputError(f"{path} holds {len(patients)} patients: at most {MOST_PATIENTS}")
    return patients


def check_patients(patients: Sequence[Mapping[str, Any]], model: RiskModel) -> dict[str, list[Any]]:
    """The patients as columns, every value in the range of the dictionary. Raises InputError naming patient, field and what is allowed."""
    known = {one.name: one for one in model.variables}
    for k, patient in enumerate(patients):
        for name, value in patient.items():
            if name in IDS or name is None:
                continue
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                raise InputError(f'{_label(patients, k)}: "{name}" is not a covariate of this model',
                                 hint=f'did you mean "{close[0]}"?' if close else "covariates are: " + ", ".join(known))
            if isinstance(value, (list, dict)):
                raise InputError(f'{_label(patients, k)}: "{name}" is not a single value', hint="write one number or one level")
            _, report = load({name: [value]}, Dictionary(name="one covariate", variables=(known[name],)))
            if report.violations:
                rule = next(iter(report.violations))[1]
                allowed = covariate(known[name])
                raise InputError(f'{_label(patients, k)}: "{name}" is {rule}', hint=f"{name} is {_article(allowed.type)}: {allowed.values} "
                                                                                      f"{allowed.unit}".rstrip())
    return {name: [patient.get(name) for patient in patients] for name in known}


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _label(patients: Sequence[Mapping[str, Any]], k: int) -> str:
    named = next((str(patients[k][name]) for name in IDS if patients[k].get(name) not in (None, "")), "")
    return f"patient {named or k + 1}"


def predict(patients: Sequence[Mapping[str, Any]], model: RiskModel, card: Card) -> list[Prediction]:
    """What the model says of each patient. Raises InputError for values that the dictionary does not allow."""
    if model.objective not in (LOGISTIC, HAZARD):
        raise InputError(f"a model of {model.objective} gives no risk" + (", only relative hazards" if model.objective == COX else ""),
                         hint="use the model's predict in Python")
    table = check_patients(patients, model)
    horizons: tuple[float | None, ...] = card.horizons or (None,)
    if model.objective == HAZARD:
        at = [one for one in card.horizons if one in model.ends] or [model.ends[-1]]
        horizons, risks = tuple(at), model.predict(table, horizon=at)
    else:
        horizons, risks = horizons[-1:], model.predict(table)[:, None]
    end = horizons[-1] if model.objective == HAZARD else None
    shares = model.contributions(table, at=end)
    validated = {one.horizon: one for one in card.performance}
    known = _rows(table, model)
    found = []
    for k in range(len(patients)):
        given = {name: _text(model, name, known, k) for name in table}
        found.append(Prediction(
            _label(patients, k), tuple(_risk(h, float(risks[k, j]), validated.get(h)) for j, h in enumerate(horizons)),
            _contributions(model, shares[k], given), float(shares[k, -1]) + _of_time(model, shares[k]), end,
            tuple(name for name, text in given.items() if not text), card.time_unit))
    return found


def _risk(horizon: float | None, risk: float, seen: Performance | None) -> Risk:
    if seen is None or not seen.classes:
        return Risk(horizon, risk)
    own = next((one for one in seen.classes if one.risk_from <= risk < one.risk_to), seen.classes[-1])
    return Risk(horizon, risk, percentile(risk, seen.classes), own.observed, own.low, own.high)


def _contributions(model: RiskModel, shares: np.ndarray, given: Mapping[str, str]) -> tuple[Contribution, ...]:
    """Per covariate, the strongest first."""
    total = dict.fromkeys(given, 0.0)
    for column, share in zip(model.columns, shares[:-1]):
        if column.variable in total:
            total[column.variable] += float(share)
    order = sorted(total, key=lambda name: -abs(total[name]))
    return tuple(Contribution(name, given[name] or "not known", total[name]) for name in order)


def _of_time(model: RiskModel, shares: np.ndarray) -> float:
    """The part of the follow-up interval, which is no property of the patient."""
    return sum(float(share) for column, share in zip(model.columns, shares) if column.variable == model.time)


def _rows(table: dict[str, list[Any]], model: RiskModel) -> Any:
    return load(table, Dictionary(name="the model's covariates", variables=model.variables))[0]


def _text(model: RiskModel, name: str, rows: Any, k: int) -> str:
    """A value as people write it, "" where it is not known."""
    variable = rows.dictionary[name]
    if not rows.present(name)[k]:
        return ""
    value = float(rows.values(name)[k])
    if variable.labels is not None:
        return str(variable.labels[int(value)])
    return f"{value_text(variable, value)} {variable.unit}".strip()
