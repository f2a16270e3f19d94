"""What a risk model says about a patient, with the reasons why, or the reason why it says nothing.

How this works. Every value of a patient is checked against the dictionary; then whether the model has seen patients like this one
(`inside`). If not, there is no number but the reason. If so, the model's risk is recalibrated with intercept and slope of the
cross-validation, and so becomes the share that had the outcome among patients to whom it gave this risk, with its interval. The
percentile is read off the released risk classes. Contributions are xgboost's SHAP values, those of a category's levels added up.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..analyses.boosting.model import RiskModel
from ..analyses.boosting.objectives import COX, HAZARD, LOGISTIC
from ..analyses.shared.scores import risk_of
from ..analyses.validation.classes import percentile
from ..analyses.validation.performance import Performance, Recalibration
from ..data.cells import Form
from ..data.dictionary import Dictionary
from ..data.forms import WORDS_NOT_KNOWN, stop
from ..data.reading import read_bytes, read_json
from ..data.rows import Rows, load
from ..data.tables import read
from ..data.variable import LARGEST, Variable, value_text
from ..errors import InputError
from ..show import RESEARCH
from .card import covariate
from .card_form import Card
from .inside import check_seen, reasons, unchecked

MOST_PATIENTS = 100_000
MOST_PATIENT_BYTES = 100_000_000
SMALLEST_RISK = 1e-12       # of a hazard model: the logit of 0 is not finite
Z = 1.959964                # standard errors to each side of a 95 % interval
IDS = ("patient_id", "id")


class Risk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A risk at a horizon (None: a plain yes or no), recalibrated, with its 95 % interval. percentile : share of the reference population
    with a lower risk, None if the card has no risk classes. slope, intercept : of the recalibration; 1 and 0 would leave it as it is."""

    horizon: float | None
    risk: float
    low: float
    high: float
    percentile: float | None
    slope: float
    intercept: float


class Contribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a covariate adds to the log-odds, compared with the mean patient of the training."""

    covariate: str
    value: str
    log_odds: float


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model says of one patient. reason : why it gives no risk, "" where it gives one; without a risk there are no contributions.

    base : mean log-odds of the training patients; base and contributions add up to the patient's, before recalibration. at : for hazards,
    the end of the interval that the contributions are about. missing : covariates that were not given. assumed : conditions of the cohort
    that the covariates cannot tell.
    """

    patient: str
    risks: tuple[Risk, ...]
    contributions: tuple[Contribution, ...]
    base: float | None
    at: float | None
    missing: tuple[str, ...]
    unit: str = ""
    reason: str = ""
    assumed: tuple[str, ...] = ()
    research_use: str = RESEARCH


def read_patients(path: str | Path, form: Form | None = None) -> list[dict[str, Any]]:
    """Patients from a JSON file (one object, or a list) or a CSV file with a header; form : how it is written. Raises InputError."""
    path = Path(path)
    found = (_read_csv(path, form or Form()) if path.suffix == ".csv"
             else read_json(path, "patients", largest=MOST_PATIENT_BYTES))
    patients = [found] if isinstance(found, dict) else found
    if not isinstance(patients, list) or not patients or not all(isinstance(one, dict) for one in patients):
        raise InputError(f"{path} holds no patients", hint='one object such as {"age": 34, "edss": 2.5}, or a list of them')
    if len(patients) > MOST_PATIENTS:
        raise InputError(f"{path} holds {len(patients)} patients: at most {MOST_PATIENTS}")
    return patients


def _read_csv(path: Path, form: Form) -> list[dict[str, Any]]:
    """As every other table is read: separators, encodings and cells are judged in one place."""
    read_bytes(path, "patients", largest=MOST_PATIENT_BYTES)
    columns = read(path, encoding=form.encoding)
    return [dict(zip(columns, row)) for row in zip(*(column.tolist() for column in columns.values()))]


def _check_form(patients: Sequence[Mapping[str, Any]], model: RiskModel, form: Form) -> None:
    """Raises InputError where many patients are written in a form that was not declared. Words that are no levels stop nobody
    else: each patient has a reason of its own."""
    table = {one.name: [cell if isinstance(cell, (str, int, float)) else None for cell in (patient.get(one.name) for patient in patients)]
             for one in model.variables}
    found = load(table, Dictionary(name="the model's covariates", variables=model.variables), form=form)[1].undeclared
    stop((one for one in found if not one.form.startswith(WORDS_NOT_KNOWN)), form)


def _wrong(patient: Mapping[str, Any], label: str, known: Mapping[str, Variable], form: Form) -> InputError | None:
    """The first thing about a patient that the dictionary does not allow."""
    for name, value in patient.items():
        if name in IDS:
            continue
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            return InputError(f'{label}: "{name}" is not a covariate of this model',
                              hint=f'did you mean "{close[0]}"?' if close else "covariates are: " + ", ".join(known))
        if isinstance(value, (list, dict)):
            return InputError(f'{label}: "{name}" is not a single value', hint="write one number or one level")
        rule = _rule_broken(known[name], value, form)
        if rule:
            allowed = covariate(known[name])
            return InputError(f'{label}: "{name}" is {rule}',
                              hint=f"{name} is {_article(allowed.type)}: {allowed.values} {allowed.unit}".rstrip())
    return None


def _rule_broken(variable: Variable, value: Any, form: Form) -> str:
    """The rule of the dictionary that a value breaks, "" where it breaks none."""
    if isinstance(value, int) and abs(value) > LARGEST:
        return "not a number"       # one of so many digits that no number of 64 bits holds it
    _, report = load({variable.name: [value]}, Dictionary(name="one covariate", variables=(variable,)), form=form)
    return next((rule for (_, rule), count in report.violations.items() if count), "")


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _label(patients: Sequence[Mapping[str, Any]], k: int) -> str:
    named = next((str(patients[k][name]) for name in IDS if patients[k].get(name) not in (None, "")), "")
    return f"patient {named or k + 1}"


def predict(patients: Sequence[Mapping[str, Any]], model: RiskModel, card: Card, form: Form | None = None) -> list[Prediction]:
    """What the model says of each patient: a risk where it has seen patients like this one, else the reason why not.

    A value that the dictionary does not allow is a reason too; where every patient has one, it is the file that is wrong: then InputError
    is raised, naming the first patient, field and what is allowed. form : how numbers, dates and levels are written; another one that many
    patients have is an InputError with the line to write.
    """
    if model.objective not in (LOGISTIC, HAZARD):
        raise InputError(f"a model of {model.objective} gives no risk" + (", only relative hazards" if model.objective == COX else ""),
                         hint="use the model's predict in Python")
    form = form or Form()
    _check_form(patients, model, form)
    known = {one.name: one for one in model.variables}
    labels = [_label(patients, k) for k in range(len(patients))]
    wrong = [_wrong(one, label, known, form) for one, label in zip(patients, labels)]
    readable = [k for k, error in enumerate(wrong) if error is None]
    if patients and not readable:
        raise wrong[0]      # type: ignore[misc]
    said = dict(zip(readable, _predict([patients[k] for k in readable], [labels[k] for k in readable], model, card, form)))
    for k, error in enumerate(wrong):
        if error is not None:
            reason = f"{error.what.removeprefix(labels[k] + ': ')} ({error.hint})"
            said[k] = Prediction(labels[k], (), (), None, None, (), card.time_unit, reason)
    return [said[k] for k in range(len(patients))]


def _predict(patients: Sequence[Mapping[str, Any]], labels: Sequence[str], model: RiskModel, card: Card, form: Form) -> list[Prediction]:
    """Of patients whose values the dictionary allows."""
    table = {one.name: [patient.get(one.name) for patient in patients] for one in model.variables}
    rows = load(table, Dictionary(name="the model's covariates", variables=model.variables), form=form)[0]
    horizons = _horizons(model, card)
    again = [_recalibration(card, one) for one in horizons]
    why = _no_number(rows, model, card, again)
    answered = [k for k, reasons in enumerate(why) if not reasons]
    given = [{name: _text(name, rows, k) for name in table} for k in range(len(patients))]
    missing = [tuple(name for name, text in one.items() if not text) for one in given]
    found = {k: Prediction(labels[k], (), (), None, None, missing[k], card.time_unit, "; ".join(why[k])) for k in range(len(patients))}
    if not answered:
        return list(found.values())
    some = {name: [_cell(name, rows, k) for k in answered] for name in table}
    logits = _logits(some, model, horizons)
    end = horizons[-1] if model.objective == HAZARD else None
    shares, assumed = model.contributions(some, at=end), tuple(unchecked(rows, card.training.eligible))
    if not (np.isfinite(logits).all() and np.isfinite(shares).all()):
        raise InputError("this model gives a risk that is no number",
                         hint="its leaves or covers are wrong: take the folder from its source")
    validated = {one.horizon: one for one in card.performance}
    for row, k in enumerate(answered):
        risks = _risks(logits[row], horizons, [one for one in again if one is not None], validated)
        found[k] = Prediction(labels[k], risks, _contributions(model, shares[row], given[k]),
                              float(shares[row, -1]) + _of_time(model, shares[row]), end, missing[k], card.time_unit, "", assumed)
    return list(found.values())


def _horizons(model: RiskModel, card: Card) -> tuple[float | None, ...]:
    if model.objective == HAZARD:
        return tuple(one for one in card.horizons if one in model.ends) or (model.ends[-1],)
    return card.horizons[-1:] or (None,)


def _recalibration(card: Card, horizon: float | None) -> Recalibration | None:
    return next((one.recalibration for one in card.performance if one.horizon == horizon), None)


def _no_number(rows: Rows, model: RiskModel, card: Card, again: Sequence[Recalibration | None]) -> list[list[str]]:
    """Per patient, why no risk is given: what is true of the whole model first."""
    if card.version < 2:
        return [[f"the card is of format {card.version}, which does not say which patients the model has seen: train it again"]] * rows.n
    if card.seen is None or not card.performance:
        return [["the model has no validation: nobody knows how far its risks are right, nor which patients it has seen"]] * rows.n
    if any(one is None for one in again):
        return [["too few patients had the outcome for its risks to be calibrated"]] * rows.n
    if any(one is not None and one.slope <= 0 for one in again):
        return [["the model tells nothing: patients whom it gave higher risks had the outcome no more often"]] * rows.n
    check_seen(card.seen, [one.name for one in model.variables])
    return reasons(rows, card.seen, card.training.eligible)


def _logits(table: Mapping[str, Any], model: RiskModel, horizons: Sequence[float | None]) -> np.ndarray:
    """The logit of each patient's risk at each horizon, as the model gives it, shape (patients, horizons)."""
    if model.objective != HAZARD:
        return model.margins(table)[:, None].astype(float)
    risk = np.clip(model.predict(table, horizon=[float(one) for one in horizons if one is not None]), SMALLEST_RISK, 1 - SMALLEST_RISK)
    return np.log(risk / (1 - risk))


def _risks(logits: np.ndarray, horizons: Sequence[float | None], again: Sequence[Recalibration], validated: Mapping[Any, Performance]
           ) -> tuple[Risk, ...]:
    """The recalibrated risks. None is lower than that of an earlier horizon: horizons are recalibrated each by itself."""
    found: list[Risk] = []
    least = (0.0, 0.0, 0.0)
    for x, horizon, one in zip(logits.tolist(), horizons, again):
        centre = one.intercept + one.slope * x
        half = Z * math.sqrt(max(0.0, one.variance_intercept + 2 * x * one.covariance + x * x * one.variance_slope))
        three = tuple(max(before, float(risk_of(value))) for before, value in zip(least, (centre, centre - half, centre + half)))
        least = three       # type: ignore[assignment]
        place = percentile(float(risk_of(x)), validated[horizon].classes)
        found.append(Risk(horizon, three[0], three[1], three[2], place, one.slope, one.intercept))
    return tuple(found)


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


def _cell(name: str, rows: Rows, k: int) -> Any:
    """A value as the model reads it, whatever form it was written in; None where it is not known."""
    variable = rows.dictionary[name]
    if variable.labels is not None or variable.type == "date":
        return _text(name, rows, k) or None
    return float(rows.values(name)[k]) if rows.present(name)[k] else None


def _text(name: str, rows: Rows, k: int) -> str:
    """A value as people write it, "" where it is not known."""
    variable = rows.dictionary[name]
    if not rows.present(name)[k]:
        return ""
    value = float(rows.values(name)[k])
    if variable.labels is not None:
        return str(variable.labels[int(value)])
    return f"{value_text(variable, value)} {variable.unit}".strip()
