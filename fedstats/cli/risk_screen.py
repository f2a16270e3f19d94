"""Risk models on the screen: a card in short, performance at each horizon, and what a model says of one patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .manners import console, machine, note, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..analyses.validation.performance import Metrics
    from ..risk.card_form import Card
    from ..risk.patients import Prediction, Risk

SHOWN = 8               # contributions of one patient on the screen


def as_json(card: Card) -> None:
    import json

    from ..risk.card import card_text

    machine(json.loads(card_text(card)))


def show(card: Card) -> None:
    """The card in short."""
    made, shown = card.training, console()
    shown.print(card.title, style="bold")
    events = f", {made.events} with the outcome" if made.events is not None else ""
    shown.print(f"{made.patients} patients of {made.registries} registries{events}. {made.outcome}", soft_wrap=True)
    tables(card)
    if card.coefficients:
        table(("term", "coefficient", "low", "high", "p"),
              [(c.term, *(f"{value:.4g}" for value in (c.coef, c.low, c.high, c.p))) for c in card.coefficients])
    shown.print("What the number does not say:", style="bold")
    for line in card.not_said:
        shown.print(f"- {line}", soft_wrap=True)
    note(card.research_use)


def tables(card: Card) -> None:
    """Performance at each horizon."""
    for one in card.performance:
        lines = [("everybody", one.overall), *((f"{g.variable}: {g.level}", g.metrics) for g in one.groups)]
        at = f"at {one.horizon:g} {card.time_unit}".rstrip() if one.horizon is not None else ""
        table(("patients", "n", "events", "ROC-AUC", "Brier", "observed/expected", "slope"), [(label, *_words(m)) for label, m in lines],
              title=at)


def _words(metrics: Metrics) -> tuple[str, ...]:
    from ..risk.card_page import interval
    from ..show.words import HIDDEN

    def number(value: float | int | None, form: str) -> str:
        return HIDDEN if value is None else format(value, form)

    return (number(metrics.n, "d"), number(metrics.events, "d"), interval(metrics, "auc"), number(metrics.brier, ".4f"),
            interval(metrics, "ratio"), "–" if metrics.slope is None and metrics.n is not None else number(metrics.slope, ".2f"))


def patients(many: Sequence[Prediction]) -> None:
    """Many patients: a line for each, then the reasons where no risk is given."""
    first = next((one for one in many if one.risks), None)
    if first is not None:
        ends = ["risk" if one.horizon is None else f"within {one.horizon:g} {first.unit}".rstrip() for one in first.risks]
        table(("patient", *ends), [(_name(one), *([_risk(risk) for risk in one.risks] or ["–"] * len(ends))) for one in many])
    for one in many:
        if one.reason:
            console().print(f"{one.patient}: no risk is given: {one.reason}", soft_wrap=True)
    note(many[0].research_use)


def sheet(many: Sequence[Prediction]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Many patients as a table: heads, and per patient the risks with their intervals, or the reason why there are none."""
    first = next((one for one in many if one.risks), None)
    horizons = [risk.horizon for risk in first.risks] if first is not None else []
    ends = ["" if one is None else f"_{one:g}" for one in horizons]
    heads = ("patient", *(f"{name}{end}" for end in ends for name in ("risk", "low", "high")), "reason")
    rows = []
    for one in many:
        numbers = [f"{value:.4f}" for risk in one.risks for value in (risk.risk, risk.low, risk.high)] or [""] * (3 * len(ends))
        rows.append((_name(one), *numbers, one.reason))
    return heads, rows


def _name(one: Prediction) -> str:
    return one.patient.removeprefix("patient ")


def _risk(risk: Risk) -> str:
    return f"{risk.risk:.1%} ({risk.low:.1%} to {risk.high:.1%})"


def patient(one: Prediction, card: Card) -> None:
    shown = console()
    shown.print(f"{one.patient}: {card.title}", style="bold")
    if one.reason:
        shown.print(f"no risk is given: {one.reason}", soft_wrap=True)
        note(one.research_use)
        return
    rows: list[tuple[Any, ...]] = []
    for risk in one.risks:
        at = "the outcome" if risk.horizon is None else f"within {risk.horizon:g} {one.unit}".rstrip()
        rows.append((at, _risk(risk), "–" if risk.percentile is None else f"{risk.percentile:.0%} of patients",
                     f"{risk.slope:.2f}"))
    table(("", "risk (95% interval)", "higher than of", "recalibrated with slope"), rows)
    when = "" if one.at is None else f" of the event in the interval up to {one.at:g} {one.unit}".rstrip()
    shown.print(f"\nWhat drives it, on the scale of the log-odds{when}, against the mean patient:", soft_wrap=True)
    table(("covariate", "value", "adds"), [(c.covariate, c.value, f"{c.log_odds:+.3f}") for c in one.contributions[:SHOWN]])
    if one.assumed:
        shown.print("the model is for patients with " + "; ".join(one.assumed) + ": this was not checked", soft_wrap=True)
    if one.missing:
        shown.print("not known, and taken as missing: " + ", ".join(one.missing), soft_wrap=True)
    shown.print(card.not_said[0] if card.not_said else "", soft_wrap=True)
    note(one.research_use)
