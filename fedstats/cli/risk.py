"""fedstats risk: train a risk model from a study file, look at its card, ask it about a patient."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import filters
from . import risk_screen as screen
from .manners import FormLines, Json, machine, note, plain_group, progress, write_text
from .worlds import AnalystKey, ConsortiumFile, DictionaryFile, Forms, Pooled, RulesOrNot, Simulated, Timeout, Whom

if TYPE_CHECKING:
    from ..analyses.boosting.model import RiskModel
    from ..client.federation import Federation
    from ..risk.card_form import Card
    from ..risk.study import Study
    from ..wire.receipt import Receipt

app = plain_group("""Risk models: train, read the card, ask about a patient.

    Trained over all registries without anyone's rows moving, with a card that says how good they are.

    \b
    fedstats risk train study.toml --simulate registries --out model
    fedstats risk card model/card.json
    fedstats risk predict model --patient patient.json
    fedstats risk verify model --consortium ms.toml
    """)


@app.command()
def train(study: Annotated[Path, typer.Argument(help="The study: a TOML file with [model], [validation] and, on tables of MS, [cohort].")],
          out: Annotated[Path, typer.Option(help="Folder for model.json, card.json, card.html, risk.json and, over the network, "
                                            "receipt.json.")] = Path("risk-model"),
          consortium: ConsortiumFile = None,
          key: AnalystKey = None,
          timeout: Timeout = 3600.0,
          pooled: Pooled = None,
          simulate: Simulated = None,
          dictionary: DictionaryFile = None,
          rules: RulesOrNot = None,
          form: Forms = None,
          release_anyway: Annotated[bool, typer.Option(help="Also a model that the cross-validation cannot tell from one that knows "
                                                       "nothing.")] = False,
          json: Json = False) -> None:
    """Train a model, validate it, and write it with its card.

    Training and cross-validation are one query, which also chooses the number of trees if [model] names no rounds.
    Over the network a receipt is written beside the card, for fedstats risk verify.

    \b
    Examples:
      fedstats risk train study.toml --consortium ms.toml --key ana.key --out model
      fedstats risk train study.toml --simulate registries --out model

    \b
    A study:
      title = "Confirmed worsening within two years"
      purpose = "risk of worsening after a first treatment"
      [cohort]
      index = {event = "dmt_start"}
      covariates = ["age", "sex", "edss", "relapses_12m", "dmt_class"]
      outcomes = [{kind = "definition", definition = "cdw24", version = 1}]
      [model]
      outcome = "cdw24_event"
      time = "cdw24_days"
      objective = "hazard:logistic"
      covariates = ["age", "sex", "edss", "relapses_12m", "dmt_class"]
      intervals = [182, 364, 546, 728]
      [validation]
      by = ["sex"]
      horizons = [364, 728]
    """
    from ..risk.folder import RECEIPT, write_folder
    from ..risk.study import read_study

    read = read_study(study)
    whom = Whom(consortium, key, timeout, pooled, simulate, dictionary, rules, form)
    with progress("training") as moved, whom.federation(moved) as fed:
        model, made, receipt = _train(read, fed, release_anyway)
    write_folder(out, model, made, receipt)
    if json:
        screen.as_json(made)
    else:
        screen.show(made)
    note(f"written to {out}: model.json (for xgboost), card.json, card.html, risk.json{f', {RECEIPT}' if receipt else ''}")
    if receipt:
        note(f"anybody can check that the registries signed it: fedstats risk verify {out} --consortium {consortium}")


def _train(read: Study, fed: Federation, release_anyway: bool) -> tuple[RiskModel, Card, Receipt | None]:
    """The model of a study with its card and, over the network, its receipt. Raises the error of what was not answered."""
    from ..analyses.boosting.model import RiskModel
    from ..analyses.validation.result import Validation
    from ..errors import Refused
    from ..query.analysis import Failed
    from ..risk.card import INTENDED, card_of, knows_nothing
    from ..risk.study import eligible_of, outcome_sentence

    cohort = fed.cohort(read.cohort, where=filters.conditions(read.where))
    anyway = release_anyway or bool(read.model.get("release_anyway"))
    model, validation = fed.ask(*read.questions(cohort, release_anyway=anyway), purpose=read.purpose)
    for one in (model, validation):
        if isinstance(one, Failed):
            raise one.error()
    assert isinstance(model, RiskModel) and isinstance(validation, Validation)
    if knows_nothing(validation.performance) and not anyway:
        raise Refused("the model is not written: the cross-validation cannot tell it from one that knows nothing, by its area under the "
                      "ROC curve or its calibration slope", hint="take other covariates, or widen the cohort; --release-anyway writes it")
    words = " ".join(filter(None, (cohort.describe(), filters.words(cohort.where) if cohort.where != {"all": []} else "")))
    receipt = fed.receipt(model)
    made = card_of(model, validation, eligible=eligible_of(cohort), title=read.title,
                   intended_use=read.intended_use or INTENDED, cohort=words,
                   outcome=read.outcome or outcome_sentence(cohort, read.model["outcome"]), data_cut=read.data_cut,
                   date=time.strftime("%Y-%m-%d"), rules=fed.rules, receipt=receipt)
    return model, made, receipt


@app.command()
def card(file: Annotated[Path, typer.Argument(help="card.json, or the folder that holds it.")],
         html: Annotated[Path | None, typer.Option(help="Write the card as a page.")] = None,
         consortium: Annotated[Path | None, typer.Option(help="Check the registries' signatures with the keys of this file.")] = None,
         json: Json = False) -> None:
    """Show a model card, write it as a page, or check its signatures.

    \b
    Examples:
      fedstats risk card model/card.json --html card.html
      fedstats risk card model/card.json --consortium ms.toml
    """
    from ..risk.card import read_card
    from ..risk.card_page import page
    from ..risk.folder import CARD

    found = read_card(file / CARD if file.is_dir() else file)
    if consortium:
        from ..risk.card_proof import check_signatures
        from ..wire.roster import Consortium

        note(f"the signatures hold: {', '.join(check_signatures(found, Consortium.load(consortium)))}; that they are about this model and "
             "these numbers: fedstats risk verify")
    if html:
        write_text(html, page(found))
        note(f"card written to {html}")
    elif json:
        screen.as_json(found)
    else:
        screen.show(found)


@app.command()
def predict(folder: Annotated[Path, typer.Argument(help="The folder that risk train wrote.")],
            patient: Annotated[Path, typer.Option(help="Patients: a JSON object or list, or a CSV file with a header.")],
            html: Annotated[Path | None, typer.Option(help="Write it as a page.")] = None,
            csv: Annotated[Path | None, typer.Option(help="Write a CSV file: a line for each patient, with the column reason.")] = None,
            form: FormLines = None,
            json: Json = False) -> None:
    """What a model says of a patient, and why.

    Risks, where they lie among the patients of the registries, and what drives them. Of a patient unlike those that the model has seen, or
    of whom too much is not known, it gives no risk but the reason. Several patients are a line each.

    \b
    Example:  fedstats risk predict model --patient patient.json --html patient.html
    with      {"age": 34, "sex": "F", "edss": 2.5, "relapses_12m": 2, "disease_duration": 3, "dmt_class": "high"}
    """
    import msgspec

    from ..data.forms import read_form
    from ..risk.folder import read_folder
    from ..risk.patient_page import page
    from ..risk.patients import predict as ask_model
    from ..risk.patients import read_patients

    model, found = read_folder(folder)
    declared = read_form(form or [])
    said = ask_model(read_patients(patient, declared), model, found, declared)
    if html:
        write_text(html, page(said, found))
        note(f"page written to {html}")
    if csv:
        import numpy as np

        from ..data.tables import write_csv

        heads, rows = screen.sheet(said)
        write_csv(csv, {name: np.array([row[k] for row in rows], dtype=object) for k, name in enumerate(heads)})
        note(f"{len(rows)} patients written to {csv}")
    if json:
        machine(msgspec.to_builtins(said))
    elif len(said) == 1:
        screen.patient(said[0], found)
    elif not csv:
        screen.patients(said)


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="The folder that risk train wrote, or a copy of it.")],
          study: Annotated[Path, typer.Argument(help="The study that it was trained from.")],
          data: Annotated[Path, typer.Option("--data", help="This registry's own table, or its folder of tables.")],
          dictionary: Annotated[Path | None, typer.Option(help="The dictionary of a table with one row per patient.")] = None,
          form: FormLines = None,
          json: Json = False) -> None:
    """For a registry: how good a model is for its own patients.

    Nothing is sent, and nobody else sees it.

    \b
    Example:  fedstats risk check model study.toml --data lyon.csv --dictionary dict.json
    """
    import msgspec

    from ..client.federation import load_tables
    from ..data.filters import check_filter, keep, normal_filter
    from ..data.forms import read_form
    from ..errors import InputError
    from ..risk.folder import check_study, read_folder
    from ..risk.study import read_study

    if not data.exists():
        raise InputError(f"there is no file {data}")
    model, found = read_folder(folder)
    read = read_study(study)
    check_study(model, read)
    codebook, houses, _ = load_tables({"own": data}, dictionary, read.data_cut or None, read_form(form or []))
    recipe = codebook.recipe(read.cohort)
    where = normal_filter(filters.conditions(read.where))
    check_filter(where, recipe.dictionary)
    rows = houses["own"].rows(recipe)
    own = msgspec.structs.replace(found, performance=read.performance_here(rows.where(keep(where, rows)), model))
    if json:
        machine(msgspec.json.decode(msgspec.json.encode(own.performance)))
    else:
        screen.tables(own)
        note("these patients may be among those that the model was trained on: the card has the cross-validated numbers")


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="The folder that risk train wrote over the network, or a copy of it.")],
           consortium: Annotated[Path, typer.Option(help="The consortium file of the epoch in which the model was trained.")],
           json: Json = False) -> None:
    """Prove, offline, that a model is what its registries signed.

    The model, its file for xgboost, and every number of its card follow from what each registry signed and released. Exit code 0 only if
    all of it holds, 5 if something does not. The words of the card (title, cohort, outcome, intended use) are the analyst's: compare them
    with the signed question, fedstats receipt check.

    \b
    Example:  fedstats risk verify model --consortium ms.toml
    """
    from ..risk.folder import RECEIPT, check_folder
    from ..wire.roster import Consortium

    roster = Consortium.load(consortium)
    found = check_folder(folder, roster)
    proof = found.proof
    if json:
        machine({"model": found.model, "query": proof.query.id.hex(), "registries": list(proof.registries), "digits": list(found.signers),
                 "roster": roster.digest.hex()})
        return
    print(f"the model in {folder} is the one that {', '.join(proof.registries)} signed and released\n"
          f"SHA-256 of the model: {found.model}\nquery: {proof.query.id.hex()}, asked by {proof.query.analyst}\n"
          f"roster: {roster.name}, epoch {roster.epoch}, fingerprint {roster.fingerprint}")
    note(f"the file for xgboost and every number of the card follow from it; who asked what: fedstats receipt check {folder / RECEIPT} "
         f"--consortium {consortium}")
