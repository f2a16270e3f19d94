"""How the demonstration ends: a risk model grown over the five registries, its card, and one patient of nobody explained.

The model and its cross-validation are one sealed query; the pooled table must give the same trees. The card is written beside the report
with the model, and stands in the report in short.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .study import COHORT, difference

if TYPE_CHECKING:
    from ..analyses.boosting.model import RiskModel
    from ..analyses.validation.result import Validation
    from ..client.federation import Cohort, CohortQuestion, Federation
    from ..query.analysis import Result
    from ..risk.card_form import Card
    from ..risk.patients import Prediction
    from ..wire.receipt import Receipt

TITLE = "Risk of confirmed worsening within two years"
PURPOSE = "demonstration: a model of the risk of disability worsening within two years after the start of a first treatment"
MODEL, VALIDATION = "Risk model", "Risk model, cross-validated"      # names of the two results
WORDS = "24-week confirmed disability worsening, as defined above, within two years of the first treatment"
OUTCOME, TIME = "cdw24_event", "cdw24_days"
HORIZON = 728.0                     # days: two years on the registered grid, whose steps are 91 days
BY = ["sex", "dmt_class"]           # subgroups of the card
FOLDS = 5
# Few and shallow trees: every level of a tree is a round over the network. With fewer or shorter steps the risks lie too close
# together (ten trees of 0.2: a calibration slope of 1.3).
SETTINGS: dict[str, Any] = {"objective": "hazard:logistic", "time": TIME, "intervals": [182, 364, 546, 728], "rounds": 16, "max_depth": 2,
                            "learning_rate": 0.3}
PATIENT: dict[str, Any] = {
    "patient_id": "nobody", "age": 34, "sex": "F", "edss": 4.0, "relapses_12m": 2,
    "disease_duration": 3.0, "sdmt": 43, "t2_lesion_count": 22, "dmt_class": "moderate"}
STRANGER: dict[str, Any] = PATIENT | {"patient_id": "stranger", "age": 78}     # older than all in the registries but a few
FOLDER, ASKED = "risk-model", "patient.json"        # beside the report, and in it
INSTALL = 'the model file and the explained patient need xgboost: pip install "fedstats[models]"'


class Trained(NamedTuple):
    """The released model with its card and receipt. said, unsaid : of the patient, and of one unlike all
    that the model has seen; None where xgboost is not installed."""

    model: RiskModel
    validation: Validation
    card: Card
    said: Prediction | None
    receipt: Receipt | None
    unsaid: Prediction | None = None

    @property
    def results(self) -> dict[str, Result]:
        return {MODEL: self.model, VALIDATION: self.validation}


def questions(cohort: Cohort) -> tuple[CohortQuestion, CohortQuestion]:
    """The model, and its validation with the same settings."""
    covariates = COHORT["covariates"]
    return (cohort.question.boost(OUTCOME, covariates, **SETTINGS),
            cohort.question.validation(OUTCOME, covariates, **SETTINGS, folds=FOLDS, by=BY, horizons=[HORIZON]))


def train(fed: Federation, data_cut: str, date: str) -> Trained:
    """Ask both in one query. Raises FedstatsError where one of them was not answered."""
    from ..risk.card import card_of
    from ..risk.study import eligible_of, outcome_sentence

    cohort = fed.cohort(COHORT)
    model, validation = ask(fed)
    receipt = fed.receipt(model)
    card = card_of(model, validation, title=TITLE, cohort=cohort.describe(), outcome=outcome_sentence(cohort, OUTCOME), data_cut=data_cut,
                   date=date, rules=fed.rules, receipt=receipt, eligible=eligible_of(cohort))
    return Trained(model, validation, card, explain(model, card), receipt, explain(model, card, STRANGER))


def ask(fed: Federation) -> tuple[RiskModel, Validation]:
    """Model and validation in any world. Raises FedstatsError where one of them was not answered."""
    from ..analyses.boosting.model import RiskModel
    from ..analyses.validation.result import Validation
    from ..query.analysis import Failed

    model, validation = fed.ask(*questions(fed.cohort(COHORT)), purpose=PURPOSE)
    for one in (model, validation):
        if isinstance(one, Failed):
            raise one.error()
    assert isinstance(model, RiskModel) and isinstance(validation, Validation)
    return model, validation


def explain(model: RiskModel, card: Card, patient: dict[str, Any] = PATIENT) -> Prediction | None:
    """What the model says of the patient, and why; None where xgboost, whose contributions these are, is not installed."""
    from ..risk.patients import predict

    return predict([patient], model, card)[0] if explained() else None


def explained() -> bool:
    """Whether xgboost is installed."""
    from ..analyses.boosting.booster import library
    from ..errors import InputError

    try:
        library()
    except InputError:
        return False
    return True


def compare(trained: Trained, pooled: Federation) -> tuple[bool, dict[str, float]]:
    """Whether the pooled table gives the model with the same SHA-256, and per result the largest relative difference."""
    from ..risk.card import model_hash

    there = dict(zip(trained.results, ask(pooled)))
    return model_hash(there[MODEL]) == trained.card.provenance.model, {
        name: difference(one.to_dict(), there[name].to_dict()) for name, one in trained.results.items()}


def write(out: Path, trained: Trained) -> Path:
    """The folder with model, card and page, of which `fedstats risk predict` reads; without xgboost only card and page."""
    from ..risk.card import write_card
    from ..risk.card_page import write_page
    from ..risk.folder import CARD, PAGE, write_folder

    folder, part = out / FOLDER, out / f"{FOLDER}.part"
    if trained.said is not None:
        write_folder(part, trained.model, trained.card, trained.receipt)
        (part / ASKED).write_text(json.dumps(PATIENT, indent=1) + "\n", encoding="utf-8")
    else:
        part.mkdir(parents=True, exist_ok=True)
        write_card(part / CARD, trained.card)
        write_page(part / PAGE, trained.card)
    folder.mkdir(exist_ok=True)
    for path in sorted(part.iterdir()):
        path.replace(folder / path.name)
    part.rmdir()
    return folder
