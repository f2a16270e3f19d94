"""What a risk model says of one patient, as HTML: risks, where they lie, what drives them, and what they do not say."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..analyses.validation.seen import Covered
from ..client.report import document
from ..show.words import plain
from .card_form import Card, Covariate
from .card_page import spans_seen
from .patients import Contribution, Prediction, Risk

MOST_BARS = 10              # contributions that are drawn; the others are one line below
WIDTH, ROW, LABELS = 560, 24, 230       # of the picture, in its own units
DAYS_PER_YEAR, NEARLY = 365.25, 0.03    # grids of 91 days end a little before the year
UP, DOWN = "#d55e00", "#0072b2"         # raises, lowers: told apart with any colour vision (Okabe & Ito 2008)


def page(predictions: Sequence[Prediction], card: Card) -> str:
    """A self-contained document for one or several patients."""
    body = "".join(f"<section><h2>{_safe(one.patient)}</h2>{fragment(one, card)}</section>" for one in predictions)
    limits = "".join(f"<li>{_safe(line)}</li>" for line in card.not_said)
    limits = f'<section><h2>What the number does not say</h2><ul class="notes">{limits}</ul></section>'
    return document(card.title, f"<main>{body}{limits}</main>", note=card.research_use,
                    foot=f"Model {card.provenance.model[:16]}, {card.provenance.software}.")


def fragment(one: Prediction, card: Card) -> str:
    """One patient as a piece of a page."""
    if one.reason:
        return (f'<p class="banner" role="note"><strong>No risk is given for this patient.</strong> {_safe(_capital(one.reason))}.</p>'
                f"<p>The model says something only of patients like those that it has seen: {_safe(seen_words(card))}.</p>")
    lines = "".join(f"<li>{_safe(_sentence(risk, one.unit))}</li>" for risk in one.risks)
    missing = f'<p class="notes">Not known, and taken as missing: {_safe(", ".join(one.missing))}.</p>' if one.missing else ""
    when = "" if one.at is None else f" of the event in the interval up to {one.at:g} {one.unit}".rstrip()
    caption = (f"What drives it: how far each covariate moves the log-odds{when} from that of the mean patient (SHAP values). "
               "A covariate that raises the risk need not cause the outcome.")
    return (f"<p><strong>Outcome.</strong> {_safe(card.training.outcome)}</p><ul>{lines}</ul>"
            f"<p class=\"notes\">{_safe(_calibrated(one))}</p>{_assumed(one)}"
            f"<figure>{bars(one.contributions)}<figcaption>{_safe(caption)}</figcaption></figure>{missing}")


def seen_words(card: Card) -> str:
    """Where the covariates of the model's patients lay."""
    if card.seen is None:
        return "its card does not say which"
    lines = {one.name: one for one in card.covariates}
    return "; ".join(_where(one, lines.get(one.name)) + (", or not known" if one.missing else "") for one in card.seen.covariates)


def _where(one: Covered, line: Covariate | None) -> str:
    words = " or ".join(one.levels or [f"from {span}" for span in spans_seen(one, line)]) or "nowhere"
    return f"{one.name} {words} {line.unit if line is not None else ''}".rstrip()


def _calibrated(one: Prediction) -> str:
    slopes = ", ".join(f"{risk.slope:.2f}" for risk in one.risks)
    return (f"Recalibrated with the slope of the cross-validation ({slopes}; 1 would leave the model's own number as it is). The interval "
            "is that of the share with the outcome among patients to whom the model gives this risk; it does not say how far this "
            "patient differs from them.")


def _assumed(one: Prediction) -> str:
    words = "; ".join(one.assumed)
    return f'<p class="notes">The model is for patients with {_safe(words)}: this was not checked here.</p>' if words else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(risk: Risk, unit: str) -> str:
    when = "" if risk.horizon is None else f"within {time_text(risk.horizon, unit)}"
    text = f"Risk {when}: {risk.risk:.1%} (95% interval {risk.low:.1%} to {risk.high:.1%})".replace("  ", " ").replace("Risk :", "Risk:")
    if risk.percentile is not None:
        text += f", higher than that of {risk.percentile:.0%} of the patients of the registries"
    return text + "."


def time_text(time: float, unit: str) -> str:
    """A time with its unit; of days, also in years where these are nearly whole: 728 days (2 years)."""
    years = round(time / DAYS_PER_YEAR)
    near = unit == "days" and years and abs(time / DAYS_PER_YEAR - years) < NEARLY
    words = f" ({years} year{'s' if years > 1 else ''})" if near else ""
    return f"{time:g} {unit}".rstrip() + words


def bars(contributions: Sequence[Contribution]) -> str:
    """Contributions as bars to the right (raises) and to the left (lowers), as an SVG element; values are written beside them."""
    shown, rest = list(contributions[:MOST_BARS]), contributions[MOST_BARS:]
    if rest:
        shown.append(Contribution(f"{len(rest)} others", "", sum(one.log_odds for one in rest)))
    most = max((abs(one.log_odds) for one in shown), default=0.0) or 1.0
    middle, half = LABELS + (WIDTH - LABELS) / 2, (WIDTH - LABELS) / 2 - 48
    rows = []
    for k, one in enumerate(shown):
        length, y = half * abs(one.log_odds) / most, k * ROW
        raises = one.log_odds >= 0
        x, end = (middle, middle + length + 4) if raises else (middle - length, middle - length - 4)
        label = f"{one.covariate} = {one.value}" if one.value else one.covariate
        rows.append(f'<text x="{LABELS - 8}" y="{y + 15}" text-anchor="end">{_safe(label)}</text>'
                    f'<rect x="{x:.1f}" y="{y + 4}" width="{length:.1f}" height="{ROW - 9}" fill="{UP if raises else DOWN}"/>'
                    f'<text x="{end:.1f}" y="{y + 15}" text-anchor="{"start" if raises else "end"}">{_signed(one.log_odds)}</text>')
    height = ROW * len(shown)
    words = "; ".join(f"{one.covariate} {_signed(one.log_odds)}" for one in shown)
    return (f'<svg role="img" class="picture" aria-label="Contributions to the log-odds: {_safe(words)}" '
            f'viewBox="0 0 {WIDTH} {height + 4}" font-size="12" fill="currentColor">'
            f'<line x1="{middle}" x2="{middle}" y1="0" y2="{height}" stroke="currentColor"/>{"".join(rows)}</svg>')


def _signed(log_odds: float) -> str:
    text = f"{log_odds:+.2f}"
    return "0" if text in ("+0.00", "-0.00") else text


def _safe(text: object) -> str:
    return escape(plain(str(text)))
