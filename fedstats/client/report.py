"""A report: one HTML file that holds a whole analysis, for people without the software, and its numbers as JSON.

How this works: the page is put together from small pieces, each a function from plain data to escaped HTML. Tables and
remarks are those of the notebook view; pictures are drawn once and stand in the page as SVG. The page has no script and
forbids itself to load anything (Content-Security-Policy), so that it opens offline and years later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

import msgspec

from .. import analyses  # noqa: F401  (registers the analyses: results are read back by kind)
from ..data.reading import read_json
from ..data.tables import write_text
from ..errors import InputError
from ..query.analysis import Failed, Result, read_result
from ..query.population import AT_RISK
from ..query.views import Picture, count_text
from ..show import RESEARCH, fragment, pictures
from ..show.words import HIDDEN, people, picture_of, plain, sheets
from ..version import __version__

SAME = 1e-9             # relative difference up to which two computations of a result are the same (ARCHITECTURE, lockstep)
LONG = 40               # rows of a table that is folded away
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

Named = Sequence[tuple[str, Result]]
Pairs = Sequence[tuple[str, str]]


class NamedResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One result under the name it has in the report; `result` is what `Result.to_dict` writes."""

    name: str
    result: dict[str, Any]


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the flow of patients; None: not released."""

    label: str
    n: int | None


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of two texts: who saw what, or what was checked with which outcome."""

    who: str
    what: str


class ResultsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """results.json: released results with what a reader needs to judge them. `version` is that of this format.

    differences : per result, the largest relative difference from the pooled computation, where one was made.
    """

    format: Literal["fedstats results"]
    version: Literal[1]
    software: str
    research_use: str
    title: str
    purpose: str
    cohort: str
    registries: list[str]
    results: list[NamedResult]
    flow: list[Step] = []
    seen: list[Words] = []
    differences: dict[str, float] = {}
    checks: list[Words] = []
    facts: dict[str, str | int | float | bool | None] = {}


def write_report(path: str | Path, *, title: str, results: Named, purpose: str, cohort: str, registries: Sequence[str],
                 seen: Pairs = (), flow: Sequence[tuple[str, int | None]] = (), differences: Mapping[str, float] | None = None,
                 checks: Pairs = (), facts: Mapping[str, Any] | None = None, sections: Pairs = ()) -> Path:
    """Write the report as one self-contained HTML file. Returns its path. Raises InputError if it cannot be written.

    results : (name, result), in order. cohort : the filter in words. seen : (who, what). flow : (label, patients), None for a
    number that was not released. differences : {name: largest relative difference from pooled}. checks : (what, outcome).
    facts : rounds, bytes, seconds, versions and the like; "date" is used in the citation. sections : (title, HTML) after the questions.
    """
    content = results_file(title=title, results=results, purpose=purpose, cohort=cohort, registries=registries, seen=seen, flow=flow,
                           differences=differences, checks=checks, facts=facts)
    return write_text(path, page(content, results, sections))


def write_results(path: str | Path, **content: Any) -> Path:
    """Write the same content as JSON (schemas/results.json); arguments as in `write_report`."""
    return write_text(path, _json(results_file(**content)) + "\n")


def read_results(path: str | Path) -> list[tuple[str, Result]]:
    """The results in a file that `write_results` wrote. Raises InputError."""
    source = read_json(path, "results")
    try:
        found = msgspec.convert(source, ResultsFile, strict=True)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} is not a results file: {error}", hint="see schemas/results.json") from None
    return [(one.name, read_result(one.result)) for one in found.results]


def results_file(*, title: str, results: Named, purpose: str, cohort: str, registries: Sequence[str], seen: Pairs = (),
                 flow: Sequence[tuple[str, int | None]] = (), differences: Mapping[str, float] | None = None, checks: Pairs = (),
                 facts: Mapping[str, Any] | None = None) -> ResultsFile:
    """The content of a report as plain data; see `write_report`. Raises InputError if two results share a name."""
    names = [name for name, _ in results]
    if len(set(names)) != len(names):
        raise InputError("two results of a report have the same name")
    return ResultsFile(
        "fedstats results", 1, f"fedstats {__version__}", RESEARCH, title, purpose, cohort, list(registries),
        [NamedResult(name, result.to_dict()) for name, result in results], [Step(*line) for line in flow],
        [Words(*line) for line in seen], dict(differences or {}), [Words(*line) for line in checks],
        {key: value if isinstance(value, (str, int, float, bool, type(None))) else str(value) for key, value in (facts or {}).items()})


# -- the page --------------------------------------------------------------------------------------------------------------


def page(content: ResultsFile, results: Named, sections: Pairs = ()) -> str:
    """The whole HTML document. sections : (title, HTML) of parts that are put in as they are."""
    questions = "".join(question(k, name, result, content.differences) for k, (name, result) in enumerate(results))
    more = "".join(f'<section><h2 id="s{k}">{_safe(title)}</h2>{html}</section>' for k, (title, html) in enumerate(sections))
    links = "".join(f'<li><a href="#{name}">{_safe(title)}</a></li>' for kind, named in (("q", results), ("s", sections))
                    for name, title in ((f"{kind}{k}", title) for k, (title, _) in enumerate(named)))
    parts = [
        f'<nav aria-label="Questions"><ul class="contents">{links}</ul></nav>' if len(results) + len(sections) > 1 else "",
        f"<main>{flow(content.flow)}{questions}{more}{trust(content)}{raw(content)}</main>",
    ]
    return document(content.title, "".join(parts), lead=summary(content, results),
                    foot=f"Written by fedstats {__version__}. {RESEARCH.capitalize()}.")


def document(title: str, body: str, *, lead: str = "", note: str = RESEARCH, foot: str) -> str:
    """A document that loads nothing and runs nothing. title, note, foot : text; body, lead : HTML that is put in as it is."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{_safe(title)}</title>'
            f"<style>{style}</style></head>\n<body><header><h1>{_safe(title)}</h1>{lead}</header>"
            f'<p class="banner" role="note">{_safe(note.capitalize())}.</p>{body}<footer><p>{_safe(foot)}</p></footer></body></html>\n')


def summary(content: ResultsFile, results: Named) -> str:
    """One paragraph in plain words: what was asked, of whom, what came back."""
    answered = [result for _, result in results if not isinstance(result, Failed)]
    failed = len(results) - len(answered)
    several = len(content.registries) > 1
    who = f"{len(content.registries)} registries" if several else "One registry"
    sealed = "No registry's rows or own numbers left its house: only totals over all registries were opened. " \
        if answered and all(result.released == "sealed" for result in answered) else ""
    simulated = "All parties ran in one process: this is a simulation, with the real conversation and the real seal. " \
        if any(result.released == "simulated" for result in answered) else ""
    alone = "The numbers were computed in one process, without a seal. " if any(r.released == "pooled" for r in answered) else ""
    held = sum(entry.why != "" for result in answered for sheet in sheets(result) for row in sheet.rows for entry in row)
    outcome = f"{len(answered)} of {len(results)} questions were answered" if failed else \
        "The question was answered" if len(results) == 1 else f"All {len(results)} questions were answered"
    most = max((result.n for result in answered), default=0)
    size = f", over up to {count_text(most)} patients" if most else ""
    marks = f" {count_text(held)} entries are not released and marked {HIDDEN}; each mark names the rule." if held else ""
    return (f'<p class="lead">{who} ({_safe(", ".join(content.registries))}) {"were" if several else "was"} asked about this cohort: '
            f"{_safe(content.cohort)}. {outcome}{size}. {sealed}{simulated}{alone}{marks}</p>"
            f"<p><strong>Purpose:</strong> {_safe(content.purpose)}</p>")


def flow(steps: Sequence[Step]) -> str:
    """The flow of patients as a list of boxes, with how many were left out between two released numbers; those at risk of an outcome
    stand aside."""
    if not steps:
        return ""
    lines, before = [], None
    for step in steps:
        beside = step.label.endswith(AT_RISK)       # of one outcome: part of the cohort, and nobody comes through it
        left = f'<span class="left">{count_text(before - step.n)} left out</span>' \
            if before is not None and step.n is not None and before > step.n and not beside else ""
        n = "not released" if step.n is None else f"n = {count_text(step.n)}"
        kind = ' class="beside"' if beside else ""
        lines.append(f"<li{kind}>{left}<span>{_safe(step.label)}</span><b>{n}</b></li>")
        before = before if beside else step.n
    return f'<section><h2 id="flow">Patients</h2><ol class="flow">{"".join(lines)}</ol></section>'


def question(k: int, name: str, result: Result, differences: Mapping[str, float]) -> str:
    """One question: its tables, its picture, its remarks, and how far it is from the pooled computation."""
    head = f'<section><h2 id="q{k}">{_safe(name)}</h2>'
    if isinstance(result, Failed):
        return f"{head}{fragment.failed(result)}</section>"
    methods = f"<p>{_safe(result.methods)}</p>" if result.methods else ""
    tables = "".join(_table(fragment.table(sheet, whole=True), len(sheet.rows)) for sheet in sheets(result))
    remarks = fragment.remarks(result, first=False)
    size = f"<p><strong>{_safe(people(result))}.</strong></p>"
    return f"{head}{_badge(differences.get(name))}{size}{methods}{tables}{figure(f'q{k}', result)}{remarks}</section>"


def figure(name: str, result: Result) -> str:
    """The picture of a result as inline SVG, with words for those who do not see it; a sentence where pictures cannot be drawn."""
    picture: Picture | None = picture_of(result)
    if picture is None:
        return ""
    if not pictures.anything(picture):
        return '<p class="notes">no picture: nothing in it may be released</p>'
    try:
        drawn = pictures.svg(pictures.plot(result), alt=pictures.alt(picture), name=name)
    except InputError as error:
        return f'<p class="notes">no picture: {_safe(error.what)}; {_safe(error.hint)}</p>'
    return f"<figure>{drawn}</figure>"


def trust(content: ResultsFile) -> str:
    """What lets a reader judge the numbers: who saw what, integrity checks, facts, and how to cite."""
    parts = []
    if content.seen:
        parts.append(_words("Who saw what", ("party", "saw"), content.seen))
    if content.checks:
        parts.append(_words("Integrity checks", ("what was tried", "outcome"), content.checks))
    facts = {"software": content.software} | content.facts
    lines = "".join(f"<dt>{_safe(key)}</dt><dd>{_safe(_fact(value))}</dd>" for key, value in facts.items())
    parts.append(f'<h3>Facts</h3><dl class="facts">{lines}</dl>')
    date = f", {content.facts['date']}" if content.facts.get("date") else ""
    cite = f"{content.title}. Federated analysis over {', '.join(content.registries)}{date}. Computed with fedstats {__version__}."
    parts.append(f"<h3>How to cite</h3><p>{_safe(cite)}</p>")
    return f'<section><h2 id="trust">How far these numbers can be trusted</h2>{"".join(parts)}</section>'


def raw(content: ResultsFile) -> str:
    """Everything as JSON, folded away."""
    inside = f"<details><summary>Show as JSON</summary><pre>{_safe(_json(content), lines=True)}</pre></details>"
    return f'<section class="raw"><h2 id="raw">Raw results</h2>{inside}</section>'


# -- small parts -------------------------------------------------------------------------------------------------------------


def _badge(difference: float | None) -> str:
    if difference is None:
        return ""
    if difference <= SAME:
        exact = "no difference" if difference == 0 else f"largest relative difference {difference:.1e}"
        return f'<p><span class="badge">equals the pooled computation: {exact}</span></p>'
    return f'<p><span class="badge off">differs from the pooled computation: largest relative difference {difference:.1e}</span></p>'


def _table(html: str, rows: int) -> str:
    html = f'<div class="scroll" tabindex="0">{html}</div>'
    return f"<details><summary>Table of {count_text(rows)} rows</summary>{html}</details>" if rows > LONG else html


def _words(title: str, heads: tuple[str, str], lines: Sequence[Words]) -> str:
    rows = "".join(f'<tr><th scope="row">{_safe(line.who)}</th><td>{_safe(line.what)}</td></tr>' for line in lines)
    return (f'<table><caption>{title}</caption><thead><tr><th scope="col">{heads[0]}</th><th scope="col">{heads[1]}</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>")


def _fact(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    return count_text(value) if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value


def _safe(text: Any, *, lines: bool = False) -> str:
    """Text for a page: escaped, without control characters."""
    text = "\n".join(plain(line) for line in str(text).split("\n")) if lines else plain(text)
    return escape(text)


def _json(content: ResultsFile) -> str:
    # through msgspec first: numbers that JSON does not have (not a number, infinity) become null
    return json.dumps(json.loads(msgspec.json.encode(content)), indent=1, ensure_ascii=False)
