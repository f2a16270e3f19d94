"""The demonstration's risk model in words: a row and a sentence for the screen, a section for the report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..analyses.validation.performance import Metrics
from ..query.views import count_text
from ..risk.card_form import Card
from ..risk.card_page import calibration, interval
from ..risk.folder import PAGE
from ..risk.patient_page import bars
from ..risk.patients import Prediction
from ..show import RESEARCH
from ..show.words import HIDDEN, plain
from . import model as demo_model

SHOWN = 3           # contributions in the patient's sentence


def row(card: Card) -> tuple[str, ...]:
    """Patients, events, ROC-AUC, Brier score and calibration slope, with intervals where there are any."""
    made, overall = card.training, _overall(card)
    brier = "–" if overall.brier is None else f"{overall.brier:.4f}"
    return (count_text(made.patients), "–" if made.events is None else count_text(made.events), interval(overall, "auc"), brier,
            interval(overall, "slope"))


def meaning(card: Card) -> str:
    """What these numbers say, in plain words."""
    auc, reference = _overall(card).auc, card.performance[-1].brier_reference
    ranks = "" if auc is None else (f"Of two patients, one of whom worsens, the model gives that one the higher risk {auc:.0%} of the "
                                    "time; by chance it would be half. ")
    mean = "" if reference is None else f"Giving everybody the mean risk has a Brier score of {reference:.4f}. "
    return f"{ranks}{mean}A slope of 1 means that risks are as far apart as they should be."


def patient_line(said: Prediction) -> str:
    """The patient in two sentences: who, how high, higher than whose; and what drives it."""
    if said.reason:
        return f"A synthetic patient: no risk is given, as {said.reason}"
    drives = ", ".join(f"{one.covariate} {one.log_odds:+.2f}" for one in said.contributions[:SHOWN])
    return f"{_risk(said)}. What moves it most: {drives} (log-odds, against the mean patient)"


def stranger_line(said: Prediction) -> str:
    """The same patient, but older than nearly all: the reason why there is no number."""
    age = demo_model.STRANGER["age"]
    if not said.reason:
        return f"The same patient at the age of {age}: risk of worsening within two years {said.risks[-1].risk:.1%}"
    return f"The same patient at the age of {age}: no risk is given, as {said.reason}"


def _risk(said: Prediction) -> str:
    values = {one.covariate: one.value for one in said.contributions}
    who = ", ".join(f"{name} {values[name]}" for name in demo_model.PATIENT if name in values)
    risk = said.risks[-1]
    above = "" if risk.percentile is None else f", higher than that of {risk.percentile:.0%} of the patients"
    return (f"A synthetic patient ({who}): risk of worsening within two years {risk.risk:.1%} (95% interval "
            f"{risk.low:.1%} to {risk.high:.1%}){above}")


def section(trained: demo_model.Trained, same: bool) -> str:
    """The card in short and the patient, as a part of the report. same : whether the pooled table gives the same trees."""
    card, page = trained.card, f"{demo_model.FOLDER}/{PAGE}"
    patient = f'<p class="notes">{_safe(demo_model.INSTALL)}</p>' if trained.said is None else _explained(trained.said)
    if trained.unsaid is not None:
        patient += f"<p>{_safe(stranger_line(trained.unsaid))}.</p>"
    badge = '<span class="badge">equals the pooled computation: the same trees</span>' if same else \
        '<span class="badge off">differs from the pooled computation</span>'
    limits = "".join(f"<li>{_safe(line)}</li>" for line in card.not_said)
    return (f'<p>{badge}</p><p class="banner" role="note">{_safe(RESEARCH.capitalize())}.</p>'
            f"<p><strong>Intended use.</strong> {_safe(card.intended_use)}</p>"
            f"<p><strong>Outcome.</strong> {demo_model.WORDS}.</p>{_how_good(card)}{patient}"
            f'<h3>What the number does not say</h3><ul class="notes">{limits}</ul>'
            f'<p>The whole card, with cohort, covariates, settings and signatures: <a href="{page}">{page}</a>.</p>')


def _explained(said: Prediction) -> str:
    """The patient's risk, how many of those alike worsened, and what drives it."""
    if said.reason:
        return f'<h3>One synthetic patient</h3><p class="banner" role="note">No risk is given: {_safe(said.reason)}.</p>'
    risk = said.risks[-1]
    seen = (f" Recalibrated with the slope {risk.slope:.2f} of the cross-validation. The interval is that of the share with the "
            "outcome among patients to whom the model gives this risk; it does not say how far this patient differs from them.")
    when = "" if said.at is None else f" of worsening in the half-year up to {said.at:g} {said.unit}".rstrip()
    caption = (f"What drives it: how far each covariate moves the log-odds{when} from that of the mean patient (SHAP values). A covariate "
               "that raises the risk need not cause the worsening.")
    return (f"<h3>One synthetic patient explained</h3><p>{_safe(_risk(said))}.{_safe(seen)}</p>"
            f"<figure>{bars(said.contributions)}<figcaption>{_safe(caption)}</figcaption></figure>")


def _how_good(card: Card) -> str:
    last = card.performance[-1]
    facts = dict(zip(("patients", "with the outcome", "ROC-AUC", "Brier score", "calibration slope"), row(card)))
    listed = "".join(f"<dt>{name}</dt><dd>{_safe(value)}</dd>" for name, value in facts.items())
    lines = [(f"{one.variable}: {one.level}", one.metrics) for one in last.groups]
    cells = [(label, *(HIDDEN if number is None else count_text(number) for number in (m.n, m.events)), interval(m, "auc"),
              HIDDEN if m.brier is None else f"{m.brier:.4f}", interval(m, "ratio")) for label, m in lines]
    hidden = sum(m.n is None for _, m in lines)
    held = f"{HIDDEN}: {hidden} of {len(lines)} subgroups are too small to be released." if hidden else \
        f"All {len(lines)} subgroups were large enough to be released; smaller ones are hidden."
    picture = (f"<figure>{calibration(last.classes)}<figcaption>Observed share by mean predicted risk, with intervals. On the dashed line "
               "predicted and observed agree.</figcaption></figure>") if last.classes else ""
    table = _table(("subgroup", "n", "events", "ROC-AUC", "Brier", "observed/expected"), cells)
    return (f'<dl class="facts">{listed}</dl><p>{card.folds}-fold cross-validation by patient: the last three numbers and those below '
            f"are about patients whom the model used for them had not seen. {_safe(meaning(card))}</p>{table}"
            f'<p class="foot">n: patients whose outcome is known at {last.horizon:g} {_safe(card.time_unit)}. {_safe(held)}</p>{picture}')


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = "".join(f'<tr><th scope="row">{_safe(first)}</th>' + "".join(f'<td class="number">{_safe(one)}</td>' for one in rest) + "</tr>"
                    for first, *rest in rows)
    head = "".join(f'<th scope="col">{_safe(one)}</th>' for one in heads)
    return (f'<div class="scroll" tabindex="0"><table><caption>By subgroup</caption><thead><tr>{head}</tr></thead><tbody>{lines}</tbody>'
            "</table></div>")


def _overall(card: Card) -> Metrics:
    return card.performance[-1].overall


def _safe(text: object) -> str:
    return escape(plain(str(text)))
