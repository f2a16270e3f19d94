"""fedstats risk: train a risk model from a study file, look at its card, ask it about a patient."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import filters
from .ask import world
from .manners import Json, console, machine, note, plain_group, progress, table, write_text

if TYPE_CHECKING:
    from ..analyses.validation.performance import Metrics
    from ..card_form import Card
    from ..risk import Prediction

app = plain_group("""Risk models: trained over all registries without anyone's rows moving, with a card that says how good they are.

    \b
    fedstats risk train study.toml --simulate registries --out model
    fedstats risk card model/card.json
    fedstats risk predict model --patient patient.json
    """)
SHOWN = 8               # contributions of one patient on the screen


@app.command()
def train(study: Annotated[Path, typer.Argument(help="The study: a TOML file with [model], [validation] and, on tables of MS, [cohort].")],
          out: Annotated[Path, typer.Option(help="Folder for model.json, card.json, card.html and risk.json.")] = Path("risk-model"),
          consortium: Annotated[Path | None, typer.Option(help="Train over the network: the consortium file.")] = None,
          key: Annotated[Path | None, typer.Option(help="The analyst's key.")] = None,
          timeout: Annotated[float, typer.Option(help="Seconds to wait for the registries.", min=1)] = 3600.0,
          pooled: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="On this machine, without a seal: name=file.csv, or a "
                                                           "folder of tables. No release rules unless --rules.")] = None,
          simulate: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="All parties in this process, with the real seal. "
                                                             "The default release rules unless --no-rules.")] = None,
          dictionary: Annotated[Path | None, typer.Option(help="The dictionary, for --pooled and --simulate.")] = None,
          rules: Annotated[bool | None, typer.Option("--rules/--no-rules", help="Apply the default release rules, or none (on this machine "
                                                     "only).")] = None,
          json: Json = False) -> None:
    """Train a model and validate it, in one query, and write it with its card.

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
    from ..analyses.boosting.model import RiskModel
    from ..analyses.validation.result import Validation
    from ..analysis import Failed
    from ..card import INTENDED, card_of
    from ..risk import write_folder
    from ..study import outcome_sentence, read_study

    read = read_study(study)
    with progress("training") as moved, world(consortium, key, timeout, pooled, simulate, [], dictionary, rules, moved) as fed:
        cohort = fed.cohort(read.cohort, where=filters.conditions(read.where) if isinstance(read.where, (list, tuple)) else read.where)
        model, validation = fed.ask(*read.questions(cohort), purpose=read.purpose)
        for one in (model, validation):
            if isinstance(one, Failed):
                raise one.error()
        assert isinstance(model, RiskModel) and isinstance(validation, Validation)
        words = " ".join(filter(None, (cohort.describe(), filters.words(cohort.where) if cohort.where != {"all": []} else "")))
        card = card_of(model, validation, title=read.title, intended_use=read.intended_use or INTENDED, cohort=words,
                       outcome=read.outcome or outcome_sentence(cohort, read.model["outcome"]), data_cut=read.data_cut,
                       date=time.strftime("%Y-%m-%d"), rules=fed.rules, receipt=fed.receipt(model))
    write_folder(out, model, card)
    if json:
        _json(card)
    else:
        _show(card)
    note(f"written to {out}: model.json (for xgboost), card.json, card.html, risk.json")


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
    from ..card import check_signatures, read_card
    from ..card_page import page
    from ..risk import CARD

    found = read_card(file / CARD if file.is_dir() else file)
    if consortium:
        from ..wire.roster import Consortium

        note(f"the signatures hold: {', '.join(check_signatures(found, Consortium.load(consortium)))}")
    if html:
        write_text(html, page(found))
        note(f"card written to {html}")
    elif json:
        _json(found)
    else:
        _show(found)


@app.command()
def predict(folder: Annotated[Path, typer.Argument(help="The folder that risk train wrote.")],
            patient: Annotated[Path, typer.Option(help="Patients: a JSON object or list, or a CSV file with a header.")],
            html: Annotated[Path | None, typer.Option(help="Write it as a page.")] = None, json: Json = False) -> None:
    """What a model says of a patient: risks, where they lie among the patients of the registries, and what drives them.

    \b
    Example:  fedstats risk predict model --patient patient.json --html patient.html
    with      {"age": 34, "sex": "F", "edss": 2.5}
    """
    import msgspec

    from ..patient_page import page
    from ..risk import predict as ask_model
    from ..risk import read_folder, read_patients

    model, found = read_folder(folder)
    said = ask_model(read_patients(patient), model, found)
    if html:
        write_text(html, page(said, found))
        note(f"page written to {html}")
    if json:
        machine(msgspec.to_builtins(said))
        return
    for one in said:
        _patient(one, found)


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="The folder that risk train wrote, or a copy of it.")],
          study: Annotated[Path, typer.Argument(help="The study that it was trained from.")],
          data: Annotated[Path, typer.Option("--data", help="This registry's own table, or its folder of tables.")],
          dictionary: Annotated[Path | None, typer.Option(help="The dictionary of a table with one row per patient.")] = None,
          json: Json = False) -> None:
    """For a registry: how good a released model is for its own patients. Nothing is sent, and nobody else sees it.

    \b
    Example:  fedstats risk check model study.toml --data lyon.csv --dictionary dict.json
    """
    import msgspec

    from ..client.federation import load_tables
    from ..filters import check_filter, keep, normal_filter
    from ..risk import read_folder
    from ..study import read_study

    model, found = read_folder(folder)
    read = read_study(study)
    codebook, houses, _ = load_tables({"own": data}, dictionary, read.data_cut or None)
    recipe = codebook.recipe(read.cohort)
    where = normal_filter(filters.conditions(read.where) if isinstance(read.where, (list, tuple)) else read.where)
    check_filter(where, recipe.dictionary)
    rows = houses["own"].rows(recipe)
    own = msgspec.structs.replace(found, performance=read.performance_here(rows.where(keep(where, rows)), model))
    if json:
        machine(msgspec.json.decode(msgspec.json.encode(own.performance)))
    else:
        _tables(own)
        note("these patients may be among those that the model was trained on: the card has the cross-validated numbers")


# -- on the screen ------------------------------------------------------------------------------------------------------------


def _json(card: Card) -> None:
    import msgspec

    machine(msgspec.json.decode(msgspec.json.encode(card)))


def _show(card: Card) -> None:
    """The card in short."""
    made, shown = card.training, console()
    shown.print(card.title, style="bold")
    events = f", {made.events} with the outcome" if made.events is not None else ""
    shown.print(f"{made.patients} patients of {made.registries} registries{events}. {made.outcome}", soft_wrap=True)
    _tables(card)
    if card.coefficients:
        table(("term", "coefficient", "low", "high", "p"),
              [(c.term, *(f"{value:.4g}" for value in (c.coef, c.low, c.high, c.p))) for c in card.coefficients])
    shown.print("What the number does not say:", style="bold")
    for line in card.not_said:
        shown.print(f"- {line}", soft_wrap=True)
    note(card.research_use)


def _tables(card: Card) -> None:
    """Performance at each horizon."""
    for one in card.performance:
        lines = [("everybody", one.overall), *((f"{g.variable}: {g.level}", g.metrics) for g in one.groups)]
        at = f"at {one.horizon:g} {card.time_unit}".rstrip() if one.horizon is not None else ""
        table(("patients", "n", "events", "ROC-AUC", "Brier", "observed/expected", "slope"), [(label, *_words(m)) for label, m in lines],
              title=at)


def _words(metrics: Metrics) -> tuple[str, ...]:
    from ..card_page import interval
    from ..show.words import HIDDEN

    def number(value: float | int | None, form: str) -> str:
        return HIDDEN if value is None else format(value, form)

    return (number(metrics.n, "d"), number(metrics.events, "d"), interval(metrics, "auc"), number(metrics.brier, ".4f"),
            interval(metrics, "ratio"), "–" if metrics.slope is None and metrics.n is not None else number(metrics.slope, ".2f"))


def _patient(one: Prediction, card: Card) -> None:
    shown = console()
    shown.print(f"{one.patient}: {card.title}", style="bold")
    rows: list[tuple[Any, ...]] = []
    for risk in one.risks:
        at = "the outcome" if risk.horizon is None else f"within {risk.horizon:g} {one.unit}".rstrip()
        seen = "–" if risk.observed is None else f"{risk.observed:.1%} ({risk.observed_low:.1%} to {risk.observed_high:.1%})"
        rows.append((at, f"{risk.risk:.1%}", "–" if risk.percentile is None else f"{risk.percentile:.0%} of patients", seen))
    table(("", "risk", "higher than of", "had the outcome, of patients with such a risk"), rows)
    when = "" if one.at is None else f" of the event in the interval up to {one.at:g} {one.unit}".rstrip()
    shown.print(f"\nWhat drives it, on the scale of the log-odds{when}, against the mean patient:", soft_wrap=True)
    table(("covariate", "value", "adds"), [(c.covariate, c.value, f"{c.log_odds:+.3f}") for c in one.contributions[:SHOWN]])
    if one.missing:
        shown.print("not known, and taken as missing: " + ", ".join(one.missing), soft_wrap=True)
    shown.print(card.not_said[0] if card.not_said else "", soft_wrap=True)
    note(one.research_use)


