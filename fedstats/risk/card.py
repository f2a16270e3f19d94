"""Model cards: what a risk model is, what it was made from, how good it is and for whom, in one JSON file that travels with the model.

A card holds released numbers only. Its form is in `card_form`; `card_page` writes it for readers.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..analyses.boosting.model import RiskModel
from ..analyses.boosting.objectives import COX, HAZARD
from ..analyses.regression.coefficients import ModelResult
from ..analyses.validation.performance import Performance
from ..analyses.validation.result import Validation
from ..data.filters import normal_filter
from ..data.reading import checked, read_json
from ..data.tables import write_text
from ..data.variable import Variable, level_text, value_text
from ..disclosure import Rules
from ..errors import FedstatsError, InputError
from ..query.analysis import Failed, Result
from ..query.nonfinite import numbered, worded
from ..show import RESEARCH
from ..version import __version__
from .card_form import Card, Coefficient, Covariate, Privacy, Provenance, Training

INTENDED = ("Research on the course of the disease: comparing groups, planning studies, and asking what a model of this kind can and "
            "cannot tell. It is not validated for decisions about single patients.")
NOT_SAID = (
    "A risk is a share: of many patients with this risk, so many had the outcome. It does not say who.",
    "A covariate that raises the risk need not cause the outcome; changing it need not change the risk.",
    "Patients who differ from those of these registries (other country, treatment era, way of scoring) may have other risks.",
    "The outcome is the one defined above; another definition has other risks.",
)
MOST_LOGIT = 1000.0     # of a recalibration
MOST_BYTES = 20_000_000     # of a card: of 200 covariates and 8 subgroups it is less than a tenth
VERSION: Literal[2] = 2             # of the form: since 2 it says which patients the model has seen, and how its risks are recalibrated
MOST_HASHED = ("trees", "columns", "base_score", "base_margin", "objective", "outcome", "covariates", "ends", "variables")


def card_of(model: Result, validation: Validation | None = None, *, title: str = "", intended_use: str = INTENDED, cohort: str = "",
            outcome: str = "", data_cut: str = "", date: str = "", rules: Rules | None = None, receipt: Any = None,
            eligible: Sequence[Any] = ()) -> Card:
    """The card of a released model: a `RiskModel`, or the result of `glm` or `cox`.

    validation : its cross-validation. cohort, outcome : sentences (`cohort.describe()`, and what counts as the outcome). date : today,
    YYYY-MM-DD. rules : of release, for the privacy part. receipt : `fed.receipt(model)`, of a sealed result. eligible : conditions of the
    cohort, `study.eligible_of(cohort)`: the model is asked about patients who fulfil them only.
    Raises InputError for results that are no models, and for a validation of another model.
    """
    if isinstance(model, RiskModel):
        _check_same(model, validation)
        training = _training(model, validation, model.outcome, model.events, cohort, outcome, data_cut, eligible)
        return _boosted(model, validation, title, intended_use, training, date, rules, receipt)
    if isinstance(model, ModelResult):
        events = getattr(model, "events", None)
        what = str(getattr(model, "event", getattr(model, "outcome", "")))
        training = _training(model, None, what, events, cohort, outcome, data_cut, eligible)
        return _regression(model, title, intended_use, training, date, rules, receipt)
    raise InputError(f"a {model.kind} is not a model: it has no card", hint="models are the results of boost, cox and glm")


def knows_nothing(performance: Sequence[Performance]) -> bool:
    """Whether at no horizon those with the outcome had higher risks than the others, beyond chance, or the slope lies above 0."""
    return not any((one.overall.auc_low or 0.0) > 0.5 and (one.overall.slope is None or (one.overall.slope_low or 0.0) > 0)
                   for one in performance)


def model_hash(model: Result) -> str:
    """SHA-256 of what predicts: trees, columns and score, or coefficients. Not of names, notes or dates."""
    content = model.to_dict()
    names = MOST_HASHED if isinstance(model, RiskModel) else ("coefficients", "terms", "codebook", "baseline", "means", "link", "family")
    text = json.dumps({name: content[name] for name in names if name in content}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_card(path: str | Path, card: Card) -> Path:
    """Write a card as JSON (schemas/model_card.json). Raises InputError if it cannot be written."""
    return write_text(path, card_text(card))


def card_text(card: Card) -> str:
    """The card as JSON; a limit that is not finite stands as its word (`nonfinite`)."""
    return json.dumps(worded(msgspec.to_builtins(card)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_card(path: str | Path) -> Card:
    """The card in a file. Raises InputError."""
    content = read_json(path, "model card", largest=MOST_BYTES)
    try:
        card = msgspec.convert(numbered(content, Card), Card, strict=True)
        check_card(card)
    except (msgspec.ValidationError, FedstatsError) as error:
        words = error.what if isinstance(error, FedstatsError) else str(error)
        raise InputError(f"{path} is not a model card: {words}", hint="see schemas/model_card.json") from None
    return card


def check_card(card: Card) -> None:
    """What the types of a card do not say: that its numbers can be read off. Raises FedstatsError."""
    _check_finite(card)
    for one in card.training.eligible:
        normal_filter(one)
    for performance in card.performance:
        for c in performance.classes:
            if not 0 <= c.risk_from < c.risk_to <= 1 or not all(abs(value) <= 1 for value in (c.predicted, c.observed, c.low, c.high)):
                raise InputError("a class of risks is not between 0 and 1")
        again = performance.recalibration
        if again is not None and not (again.variance_intercept >= 0 <= again.variance_slope and abs(again.intercept) < MOST_LOGIT
                                      and abs(again.slope) < MOST_LOGIT):
            raise InputError("a recalibration is none")


def _check_finite(card: Card) -> None:
    """Limits of coefficients and metrics may have no end; what risks are computed from may not."""
    computed = (card.training.eligible, card.horizons, card.seen,
                [(one.horizon, one.censored, one.classes, one.recalibration) for one in card.performance])
    checked(msgspec.to_builtins(computed))


# -- parts -------------------------------------------------------------------------------------------------------------------------


def _check_same(model: RiskModel, validation: Validation | Failed | None) -> None:
    if validation is None:
        return
    if isinstance(validation, Failed):
        raise validation.error()
    own = {name: model.parameters.get(name) for name in ("covariates", "objective", "rounds", "max_depth", "learning_rate", "seed", "bins")}
    other = {name: validation.parameters.get(name) for name in own}
    differ = [name for name in own if _listed(own[name]) != _listed(other[name])]
    if validation.outcome != model.outcome or differ:
        raise InputError(f"the validation is of another model: {', '.join(differ) or 'outcome'} differ",
                         hint="ask both with the same settings")


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _training(model: Result, validation: Validation | None, what: str, events: int | None, cohort: str, outcome: str, data_cut: str,
              eligible: Sequence[Any]) -> Training:
    sizes = validation.sizes if validation is not None else ()
    if outcome:
        cohort = cohort.replace(f" {outcome}", "")      # a cohort's own words tell its outcomes too: once is enough
    return Training(model.registries, sizes, model.n, events, cohort or "all patients of the registries' tables with the outcome known",
                    outcome or f'the column "{what}"', data_cut, tuple(eligible))


def _boosted(model: RiskModel, validation: Validation | None, title: str, intended: str, training: Training, date: str, rules: Rules | None,
             receipt: Any) -> Card:
    splits: dict[str, int] = {}
    for column in model.columns:
        splits[column.variable] = splits.get(column.variable, 0) + model.splits[column.name]
    p, leaves = model.parameters, sum(tree.leaves for tree in model.trees)
    facts = {"method": "gradient boosted trees (xgboost)", "objective": model.objective, "trees": len(model.trees),
             "depth": p.get("max_depth"), "learning rate": p.get("learning_rate"), "L2 penalty": p.get("reg_lambda"),
             "smallest weight of a leaf": p.get("min_child_weight"), "seed": p.get("seed"),
             "risk scale": "hazard ratio to the cohort's mean" if model.objective == COX else "probability"}
    settings = {"bins per covariate, at most": p.get("bins"), "depth of trees": p.get("max_depth"), "trees": len(model.trees),
                "released leaves": leaves, "patients per released leaf": round(model.n / leaves, 1) if leaves else None,
                "bits of a gradient": p.get("bits"), **_floor_settings(rules)}
    horizons = tuple(one.horizon for one in validation.performance if one.horizon is not None) if validation is not None else ()
    if model.objective == HAZARD and not horizons:
        horizons = model.ends
    covariates = tuple(covariate(one, splits.get(one.name, 0)) for one in model.variables)
    return Card("fedstats model card", VERSION, title or f"Risk of {model.outcome}", "boosting", intended, RESEARCH, NOT_SAID, training,
                facts,
                covariates, _privacy(model, settings), _provenance(model, date, receipt),
                performance=validation.performance if validation is not None else (),
                folds=validation.folds if validation is not None else None, horizons=horizons,
                time_unit=validation.unit if validation is not None else "",
                notes=tuple(dict.fromkeys([*model.notes, *(validation.notes if validation is not None else ())])),
                seen=validation.seen if validation is not None else None)


def _regression(model: ModelResult, title: str, intended: str, training: Training, date: str, rules: Rules | None, receipt: Any) -> Card:
    kind: Literal["cox", "glm"] = "cox" if model.kind == "cox" else "glm"
    names = ("family", "link", "ties", "strata", "weights", "ridge", "loglik", "log_likelihood", "aic", "bic")
    facts: dict[str, Any] = {"method": "Cox proportional hazards" if kind == "cox" else "generalised linear model"}
    for name in names:
        value = getattr(model, name, None)
        if value not in (None, ()):
            facts[name] = ", ".join(value) if isinstance(value, tuple) else worded(value)
    ratio = kind == "cox" or getattr(model, "link", "") in ("log", "logit")
    coefficients = tuple(Coefficient(one.term, one.coef, one.exp_coef if ratio else None, one.lower, one.upper, one.p)
                         for one in model.coefficients)
    codebook: Sequence[Variable] = getattr(model, "codebook", ())
    settings = {"released coefficients": len(coefficients), **_floor_settings(rules)}
    return Card("fedstats model card", VERSION, title or f"{facts['method']}: {training.outcome}", kind, intended, RESEARCH, NOT_SAID,
                training, facts, tuple(covariate(one) for one in codebook), _privacy(model, settings), _provenance(model, date, receipt),
                coefficients=coefficients, notes=model.notes)


def covariate(variable: Variable, splits: int | None = None) -> Covariate:
    """A line of the dictionary in words."""
    if variable.labels is not None:
        values = ", ".join(variable.labels)
    elif variable.levels is not None:
        values = ", ".join(level_text(one) for one in variable.levels)
    else:
        step = f" in steps of {variable.step:g}" if variable.step is not None and variable.step != 1 else ""
        values = f"{value_text(variable, variable.low)} to {value_text(variable, variable.high)}{step}"
    return Covariate(variable.name, variable.type, values, variable.unit, variable.description, splits)


def _floor_settings(rules: Rules | None) -> dict[str, Any]:
    if rules is None:
        return {}
    return {"smallest cell": rules.min_cell, "smallest cohort": rules.min_cohort, "fewest registries": rules.min_registries,
            "rounded": rules.rounding, "below the floors of the network": rules.relaxed}


def _privacy(model: Result, settings: dict[str, Any]) -> Privacy:
    return Privacy(model.released or "pooled", model.rules, settings)


def _provenance(model: Result, date: str, receipt: Any) -> Provenance:
    signatures = {name: base64.b64encode(signed).decode("ascii") for name, signed in sorted(receipt.verdicts.items())} if receipt else {}
    return Provenance(f"fedstats {__version__}", date, model_hash(model), model.query, signatures)
