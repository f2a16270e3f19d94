"""A model card for readers: one self-contained HTML page, in the style of the reports, without scripts and without network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..analyses.validation.classes import RiskClass
from ..analyses.validation.performance import Metrics, Performance, Spread
from ..analyses.validation.seen import Covered
from ..client.report import document
from ..data.tables import write_text
from ..ms.cohort.tree import condition_text
from ..query.views import count_text
from ..show.words import HIDDEN, plain
from .card import card_text
from .card_form import Card, Covariate

SIDE, MARGIN = 300, 42      # of the calibration picture, in its own units
HOW = {"sealed": "Under seal, over the network: no registry's rows or own numbers were seen by anybody else.",
       "simulated": "A simulation: all parties in one process, with the real conversation and the real seal.",
       "pooled": "In one process, without a seal."}


def write_page(path: str | Path, card: Card) -> Path:
    """Write the page. Returns its path. Raises InputError if it cannot be written."""
    return write_text(path, page(card))


def page(card: Card) -> str:
    """The whole HTML document."""
    body = "".join((made_from(card), what_it_is(card), how_good(card), not_said(card), protection(card), origin(card), raw(card)))
    return document(card.title, f"<main>{body}</main>", lead=lead(card), note=card.research_use,
                    foot=f"Model card, format {card.version}. {card.provenance.software}.")


def lead(card: Card) -> str:
    """The card in one paragraph."""
    made = card.training
    events = f", {count_text(made.events)} with the outcome" if made.events is not None else ""
    last, how = card.last, ""
    if last is not None and last.overall.auc is not None:
        when = f" at {last.horizon:g} {card.time_unit}".rstrip() if last.horizon is not None else ""
        how = (f" For patients it had not seen, its area under the ROC curve{when} was {interval(last.overall, 'auc')} "
               f"({card.folds}-fold cross-validation by patient).")
    return (f'<p class="lead">A model of {_safe(str(card.model.get("method", card.kind)))} from {count_text(made.patients)} patients of '
            f"{made.registries} registries{events}.{_safe(how)}</p><p><strong>Intended use.</strong> {_safe(card.intended_use)}</p>")


def made_from(card: Card) -> str:
    made = card.training
    sizes = "; ".join(f"{one.registries} with {one.patients} patients" for one in made.sizes)
    facts = {"patients": made.patients, "with the outcome": made.events, "registries": f"{made.registries}{f' ({sizes})' if sizes else ''}",
             "data cut": made.data_cut or "not stated"}
    return (f'<section><h2 id="training">Patients and outcome</h2><p><strong>Cohort.</strong> {_safe(made.cohort)}</p>'
            f"<p><strong>Outcome.</strong> {_safe(made.outcome)}</p>{_facts(facts)}</section>")


def what_it_is(card: Card) -> str:
    splits = any(one.splits is not None for one in card.covariates)
    lines = {one.name: one for one in card.covariates}
    seen = {one.name: where_seen(one, lines.get(one.name)) for one in card.seen.covariates} if card.seen is not None else {}
    rows = [(one.name, f"{one.values} {one.unit}".strip(), *((seen.get(one.name, "–"),) if seen else ()), one.description,
             *((one.splits,) if splits else ())) for one in card.covariates]
    heads = ("covariate", "values", *(("seen in its patients",) if seen else ()), "meaning", *(("cuts in the trees",) if splits else ()))
    parts = [_facts(card.model), _table("Covariates", heads, rows), f"<p>{_safe(for_whom(card))}</p>"]
    if card.coefficients:
        shown = [(one.term, one.coef, one.low, one.high, "" if one.exp_coef is None else one.exp_coef, one.p) for one in card.coefficients]
        parts.append(_table("Coefficients", ("term", "coefficient", "low", "high", "ratio", "p"), shown))
    return f'<section><h2 id="model">The model</h2>{"".join(parts)}</section>'


def spans_seen(one: Covered, line: Covariate | None) -> list[str]:
    """Levels and stretches of a covariate in words. The end of a stretch belongs to it only where the range of the
    covariate ends there, too. line : the covariate's, with its range in words."""
    last = line.values.partition(" in steps of")[0].rpartition(" to ")[2] if line is not None else ""
    return list(one.levels) or [f"{low:g} to {'' if last == f'{high:.10g}' else 'below '}{high:g}" for low, high in one.spans]


def where_seen(one: Covered, line: Covariate | None = None) -> str:
    """Where a covariate's values lay in the patients that the model has seen."""
    words = " or ".join(spans_seen(one, line)) or "too few"
    return f"{words}{', or not known' if one.missing else ''}"


def for_whom(card: Card) -> str:
    """Of which patients the model says something."""
    if card.seen is None:
        return ("This card does not say which patients the model has seen: no risk of a single patient is read off it. Train it anew "
                "with a validation." if card.kind == "boosting" else "")
    conditions = "; ".join(condition_text(one) for one in card.training.eligible)
    only = f" It is for patients with {conditions}." if conditions else ""
    return (f"A risk is given only where the model has seen at least {card.seen.fewest} patients: with this value of each covariate, with "
            f"these values of every two together, and with as much not known. For others a reason is given instead.{only}")


# -- performance -----------------------------------------------------------------------------------------------------------------------


def how_good(card: Card) -> str:
    """Metrics overall and by subgroup, calibration, net benefit; one part per horizon."""
    if not card.performance:
        return '<section><h2 id="performance">How good it is</h2><p>This card has no validation.</p></section>'
    parts = "".join(_at(one, card.time_unit) for one in card.performance)
    return (f'<section><h2 id="performance">How good it is</h2><p>{card.folds}-fold cross-validation by patient over all registries: every '
            f"number is about patients whom the model used for them had not seen. {HIDDEN} marks groups that are too small to be "
            f"released.</p>{parts}{_list(card.notes)}</section>")


def _at(one: Performance, unit: str) -> str:
    title = "" if one.horizon is None else f"<h3>At {_safe(f'{one.horizon:g} {unit}'.strip())}</h3>"
    lines = [("everybody", one.overall), *((f"{g.variable}: {g.level}", g.metrics) for g in one.groups)]
    rows = [(label, m.n, m.events, interval(m, "auc"), m.pr_auc, m.brier, interval(m, "ratio"), interval(m, "slope")) for label, m in lines]
    table = _table("Overall and by group", ("patients", "n", "events", "ROC-AUC", "PR-AUC", "Brier", "observed/expected", "slope"), rows,
                   held=True)
    words = []
    if one.censored is not None:
        words.append(f"{one.censored:.1%} of the patients were censored before this time; the others were weighted by the inverse "
                     "probability of being followed so far.")
    if one.overall.intercept is not None:
        words.append(f"Logistic recalibration of everybody's risks: intercept {interval(one.overall, 'intercept')}, slope "
                     f"{interval(one.overall, 'slope')}; 0 and 1 would be perfect.")
    if one.recalibration is not None:
        words.append(f"Risks of single patients are given after recalibration: the logit x of the model's own risk becomes "
                     f"{one.recalibration.intercept:.3f} + {one.recalibration.slope:.3f} x. The file for xgboost gives the model's own.")
    if one.calibration_error is not None:
        words.append(f"The mean distance between predicted and observed share over the risk classes (ECE) is {one.calibration_error:.3f}.")
    if one.brier_reference is not None:
        words.append(f"Predicting the mean for everybody would give a Brier score of {one.brier_reference:.4f}.")
    words += [_spread(one.spread)] if one.spread is not None else []
    curve = (f"<figure>{calibration(one.classes)}<figcaption>Observed share by mean predicted risk, with intervals. On the dashed line "
             "predicted and observed agree.</figcaption></figure>") if one.classes else ""
    classes = _table("Risk classes and net benefit", ("risk from", "to", "n", "with outcome", "predicted", "observed", "net benefit",
                                                      "of treating all"),
                     [(f"{c.risk_from:.1%}", f"{c.risk_to:.1%}", c.n, c.events, f"{c.predicted:.1%}", f"{c.observed:.1%}", c.net_benefit,
                       c.net_benefit_all) for c in one.classes]) if one.classes else ""
    return f"{title}{table}<p>{_safe(' '.join(words))}</p>{curve}{classes}"


def _spread(one: Spread) -> str:
    return (f"Between the {one.registries} registries with enough patients the ROC-AUC had a mean of {one.mean:.3f} and a standard "
            f"deviation of {one.sd:.3f}, of which {one.beyond_chance:.3f} is more than chance.")


def interval(metrics: Metrics, name: str) -> str:
    """A metric with its interval: 0.72 (0.69 to 0.74)."""
    value, low, high = (getattr(metrics, name + end) for end in ("", "_low", "_high"))
    if value is None:
        return HIDDEN if metrics.n is None else "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def calibration(classes: Sequence[RiskClass]) -> str:
    """The calibration curve as an SVG element."""
    top = max(max(c.high for c in classes), max(c.predicted for c in classes))
    full = min(1.0, next((k / 10 for k in range(1, 11) if k / 10 >= top), 1.0))
    inner = SIDE - MARGIN

    def x(share: float) -> float:
        return round(MARGIN + inner * share / full, 1)

    def y(share: float) -> float:
        return round(inner - inner * share / full, 1)

    ticks = "".join(f'<text x="{x(full * k / 5)}" y="{inner + 16}" text-anchor="middle">{full * k / 5:.0%}</text>'
                    f'<text x="{MARGIN - 6}" y="{y(full * k / 5) + 4}" text-anchor="end">{full * k / 5:.0%}</text>' for k in range(6))
    points = "".join(f'<line x1="{x(c.predicted)}" x2="{x(c.predicted)}" y1="{y(c.low)}" y2="{y(c.high)}"/>'
                     f'<circle cx="{x(c.predicted)}" cy="{y(c.observed)}" r="3.2"/>' for c in classes)
    words = "; ".join(f"predicted {c.predicted:.0%}, observed {c.observed:.0%}" for c in classes)
    return (f'<svg role="img" class="picture" aria-label="Calibration: {escape(words)}" viewBox="-8 -12 {SIDE + 24} {SIDE + 12}" '
            f'style="max-width:26rem" font-size="11" fill="currentColor" stroke="none">'
            f'<g stroke="currentColor" fill="none"><path d="M{MARGIN} 0V{inner}H{SIDE}"/><path d="M{MARGIN} {inner}L{SIDE} 0" '
            f'stroke-dasharray="4 4" opacity=".6"/></g>{ticks}<g stroke="#0072b2" fill="#0072b2" stroke-width="1.4">{points}</g>'
            f'<text x="{(MARGIN + SIDE) / 2}" y="{SIDE - 6}" text-anchor="middle">predicted risk</text>'
            f'<text transform="translate(4 {inner / 2}) rotate(-90)" text-anchor="middle">observed share</text></svg>')


# -- the rest ---------------------------------------------------------------------------------------------------------------------------


def not_said(card: Card) -> str:
    return f'<section><h2 id="limits">What the number does not say</h2>{_list(card.not_said)}</section>'


def protection(card: Card) -> str:
    private = card.privacy
    return (f'<section><h2 id="privacy">How patients are protected</h2><p>{_safe(HOW.get(private.how, private.how))} Release rules: '
            f"{_safe(private.rules or 'none')}.</p>{_facts(private.settings)}{_list(private.notes)}</section>")


def origin(card: Card) -> str:
    one = card.provenance
    facts = {"software": one.software, "date": one.date or "not stated", "query": one.query or "none: not asked over a network",
             "SHA-256 of the model": one.model,
             "signed by": ", ".join(one.signatures) or "nobody: only results over the network are signed",
             "to check that": "fedstats risk verify, with receipt.json beside this card" if one.signatures else None}
    return f'<section><h2 id="origin">Where it comes from</h2>{_facts(facts)}</section>'


def raw(card: Card) -> str:
    text = "\n".join(plain(line) for line in card_text(card).split("\n"))
    inside = f"<details><summary>Show</summary><pre>{escape(text)}</pre></details>"
    return f'<section class="raw"><h2 id="raw">The card as JSON</h2>{inside}</section>'


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], *, held: bool = False) -> str:
    """held : whether a missing number means that it is not released."""
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{_safe(one)}</td>" if isinstance(one, str) and not held else
                        f'<td class="number">{_safe(_cell(one, held))}</td>' for one in rest)
        lines.append(f'<tr><th scope="row">{_safe(first)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{_safe(one)}</th>' for one in heads)
    return (f'<div class="scroll" tabindex="0"><table><caption>{_safe(title)}</caption><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>")


def _cell(value: Any, held: bool) -> str:
    if value is None:
        return HIDDEN if held else "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return count_text(value) if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(facts: dict[str, Any]) -> str:
    lines = "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(_cell(value, False))}</dd>" for name, value in facts.items() if value is not None)
    return f'<dl class="facts">{lines}</dl>'


def _list(lines: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{_safe(line)}</li>" for line in lines)}</ul>' if lines else ""


def _safe(text: Any) -> str:
    return escape(plain(str(text)))
