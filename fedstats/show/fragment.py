"""Results as HTML: the notebook view, and the pieces that the report is made of. Every text is escaped here."""

from __future__ import annotations

from html import escape

from ..query.analysis import Failed, Result
from .terminal import MOST_ROWS, shortened
from .words import RESEARCH, Entry, Sheet, people, plain, problem_lines, provenance, sheets

# Greys are translucent and ink is inherited, so that one fragment fits light and dark notebooks.
STYLE = """
.fedstats{font-size:.95em;line-height:1.45;max-width:60em}
.fedstats table{border-collapse:collapse;margin:.4em 0 .2em;font-variant-numeric:tabular-nums}
.fedstats caption{caption-side:top;text-align:left;font-weight:600;padding:.2em 0}
.fedstats th,.fedstats td{padding:.2em .7em;text-align:left;border:0;border-bottom:1px solid rgba(128,128,128,.3);background:none}
.fedstats thead th{border-bottom:2px solid rgba(128,128,128,.6);vertical-align:bottom}
.fedstats th[scope=row]{font-weight:500}
.fedstats .number{text-align:right;white-space:nowrap}
.fedstats .held{opacity:.45;cursor:help;text-decoration:none;border:0}
.fedstats .foot,.fedstats .notes{color:#757575;font-size:.88em;margin:.15em 0}
.fedstats ul.notes{padding-left:1.2em}
.fedstats .failed{border-left:4px solid #d55e00;padding:.2em .8em}
.fedstats .research{font-size:.8em;letter-spacing:.02em;border:1px solid rgba(128,128,128,.5);border-radius:3px;padding:.1em .5em;
display:inline-block;margin-top:.4em}
"""


def html(result: Result) -> str:
    """A self-contained fragment for notebooks: tables, what was held back, n, notes, rules and methods."""
    return f'<div class="fedstats"><style>{STYLE}</style>{body(result)}<p class="research">{RESEARCH}</p></div>'


def body(result: Result, *, whole: bool = False) -> str:
    """The fragment without its style. whole : whether long tables are given in full."""
    if isinstance(result, Failed):
        return failed(result)
    return "".join(table(sheet, whole=whole) for sheet in sheets(result)) + remarks(result)


def failed(result: Failed) -> str:
    first, *rest = problem_lines(result)
    return f'<div class="failed"><p><strong>{escape(first)}</strong></p>{"".join(f"<p>{escape(line)}</p>" for line in rest)}</div>'


def table(sheet: Sheet, *, whole: bool = False) -> str:
    """One table with caption and scopes; a number that was held back is a grey mark whose title names the rule."""
    heads = "".join(f'<th scope="col"{_class(sheet, k)}>{escape(head)}</th>' for k, head in enumerate(sheet.heads))
    rows = "".join("<tr>" + "".join(_cell(sheet, k, entry) for k, entry in enumerate(row)) + "</tr>"
                   for row in (sheet.rows if whole else shortened(sheet)))
    caption = f"<caption>{escape(sheet.title)}</caption>" if sheet.title else ""
    foot = f'<p class="foot">{escape(sheet.footnote)}</p>' if sheet.footnote else ""
    cut = '<p class="foot">result.frame() has all rows</p>' if not whole and len(sheet.rows) > MOST_ROWS else ""
    return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{foot}{cut}"


def remarks(result: Result, *, first: bool = True) -> str:
    """n, notes, rules and methods. first : whether n and methods are among them, or were said before."""
    notes = "".join(f"<li>{escape(plain(note))}</li>" for note in result.notes)
    n, rules, methods = (f'<p class="notes">{escape(line)}</p>' if line else ""
                         for line in (people(result), plain(provenance(result)), plain(result.methods)))
    listed = f'<ul class="notes">{notes}</ul>' if notes else ""
    return n + listed + rules + methods if first else listed + rules


def _cell(sheet: Sheet, k: int, entry: Entry) -> str:
    inside = escape(entry.text)
    if entry.why:
        why = escape(f"not released: {plain(entry.why)}")
        inside = f'<abbr class="held" title="{why}" aria-label="{why}">{inside}</abbr>'
    if k < sheet.index:
        return f'<th scope="row">{inside}</th>'
    return f"<td{_class(sheet, k)}>{inside}</td>"


def _class(sheet: Sheet, k: int) -> str:
    return ' class="number"' if sheet.numeric[k] else ""
