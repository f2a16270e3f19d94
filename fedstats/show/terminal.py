"""Results in a terminal: plain aligned text for `str()`, Rich tables for the command line."""

from __future__ import annotations

import textwrap
from typing import Any

from ..query.analysis import Failed, Result
from ..query.views import THIN
from .words import RESEARCH, Entry, Sheet, people, plain, problem_lines, provenance, sheets

WIDTH = 100         # columns of wrapped sentences
MOST_ROWS = 40      # rows shown of one table: the frame has them all
TAIL = 5
BETWEEN = 3         # signs between two columns
MOST_TURNED = 6     # rows up to which a table that is too wide is turned on its side


def text(result: Result) -> str:
    """The result as plain text: tables, what was held back, n, notes and rules."""
    if isinstance(result, Failed):
        return "\n".join(problem_lines(result))
    blocks = [_aligned(sheet) for sheet in sheets(result)]
    blocks.append("\n".join(_wrapped(line) for line in sentences(result)))
    return "\n\n".join(blocks).replace(THIN, " ")


def console(result: Result, console: Any) -> None:
    """Print the result to a `rich.console.Console`."""
    from rich.table import Table
    from rich.text import Text

    if isinstance(result, Failed):
        first, *rest = problem_lines(result)
        console.print(Text(first, style="bold red"))
        for line in rest:
            console.print(Text(line))
        return
    for sheet in sheets(result):
        heads, numeric, rows = _fitting(sheet, console.width)
        # Text objects throughout: a level named "[red]" is a name, not markup
        table = Table(title=Text(sheet.title, style="bold"), title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
        for k, head in enumerate(heads):
            table.add_column(Text(_spaced(head)), justify="right" if numeric[k] else "left", no_wrap=numeric[k] or k < sheet.index)
        for row in rows:
            table.add_row(*(Text(_spaced(entry.text), style="dim" if entry.why else "") for entry in row))
        console.print(table)
        if sheet.footnote:
            console.print(Text(_spaced(sheet.footnote), style="dim"))
        console.print()
    for line in [*sentences(result), *([plain(result.methods)] if result.methods else [])]:
        console.print(Text(_spaced(line), style="dim" if line != RESEARCH else "bold"))


def _fitting(sheet: Sheet, width: int) -> tuple[list[str], list[bool], list[tuple[Entry, ...]]]:
    """Heads broken into lines no longer than their cells need; a wide table of a few rows is turned on its side."""
    heads, numeric, rows = list(sheet.heads), list(sheet.numeric), shortened(sheet)
    sizes = [max((len(row[k].text) for row in rows), default=1) for k in range(len(heads))]
    broken = ["\n".join(textwrap.wrap(head, max(size, *map(len, (head or " ").split(" "))), break_on_hyphens=False))
              for head, size in zip(heads, sizes)]
    needed = sum(max(size, *(len(line) for line in head.split("\n"))) + BETWEEN for head, size in zip(broken, sizes))
    if needed <= width or not 1 <= len(rows) <= MOST_TURNED:
        return broken, numeric, rows
    names = [" / ".join(entry.text for entry in row[:sheet.index]) for row in rows]
    first = " / ".join(heads[:sheet.index])
    turned = [(Entry(head), *(row[k] for row in rows)) for k, head in enumerate(heads) if k >= sheet.index]
    return [first, *names], [False] + [True] * len(rows), turned


def sentences(result: Result) -> list[str]:
    """What stands under the tables of every result."""
    return [line for line in (people(result), *(plain(note) for note in result.notes), plain(provenance(result)), RESEARCH) if line]


def shortened(sheet: Sheet) -> list[tuple[Entry, ...]]:
    """The rows of a long table without its middle; a line says how many are left out."""
    rows = list(sheet.rows)
    if len(rows) <= MOST_ROWS:
        return rows
    left = len(rows) - MOST_ROWS
    gap = (Entry(f"… {left} more"), *(Entry("") for _ in sheet.heads[1:]))
    return [*rows[:MOST_ROWS - TAIL], gap, *rows[-TAIL:]]


def _aligned(sheet: Sheet) -> str:
    lines = [sheet.heads, *(tuple(entry.text for entry in row) for row in shortened(sheet))]
    width = [max(len(line[k]) for line in lines) for k in range(len(sheet.heads))]
    body = ["  ".join(cell.rjust(size) if number else cell.ljust(size)
                      for cell, size, number in zip(line, width, sheet.numeric)).rstrip() for line in lines]
    body.insert(1, "  ".join("-" * size for size in width))
    return "\n".join([*([sheet.title] if sheet.title else []), *body, *([sheet.footnote] if sheet.footnote else [])])


def _wrapped(line: str) -> str:
    return "\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _spaced(line: str) -> str:
    return line.replace(THIN, " ")
