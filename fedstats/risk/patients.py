"""What a risk model says about a patient, with the reasons why.

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

from ..analyses.boosting.model import RiskModel
from ..analyses.boosting.objectives import COX, HAZARD, LOGISTIC
from ..analyses.scores.classes import percentile
from ..analyses.validation.performance import Performance
from ..dictionary import Dictionary
from ..errors import InputError
from ..rows import load
from ..show import RESEARCH
from ..variable import value_text
from .card import covariate
from .card_form import Card

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
