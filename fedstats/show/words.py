"""From plain values to finished words: numbers as people read them, and why a number is not there."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..query.analysis import Failed, Result
from ..query.views import THIN, Picture, Table, count_text

RESEARCH = "research use only; not a medical device"
HIDDEN = "▒▒"               # a number that a release rule held back
ABSENT = "–"                # a number that does not apply or cannot be computed
SIGNIFICANT = 4             # digits, as in the roster's rounding rule
DECIMALS = 4                # numbers below 0.1 lose the digits behind, down to three significant ones
SMALLEST_P = 0.001          # smaller p values are printed as "<0.001"
SMALLEST_PLAIN = 1e-4       # smaller numbers are printed with an exponent

WORLDS = {
    "sealed": "computed under seal; no registry's own numbers were seen by anybody else",
    "simulated": "simulated: all parties in one process",
    "pooled": "pooled in one process, without a seal",
}


@dataclass(frozen=True)
class Entry:
    """One cell, finished. why : the rule that held the number back, "" for everything else."""

    text: str
    why: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table of finished text. index : how many leading columns name the row. numeric : per column, whether it holds numbers.

    footnote : how many numbers are not released and by which rule, "" when all are.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    index: int
    numeric: tuple[bool, ...]
    footnote: str


# -- numbers ---------------------------------------------------------------------------------------------------------------


def plain(value: Any) -> str:
    """Any text without control and direction characters: a level may carry terminal codes or turn a line around."""
    return "".join("\ufffd" if unicodedata.category(sign)[0] == "C" else sign for sign in str(value))


def p_text(value: float) -> str:
    """A p value: three decimals, "<0.001" below."""
    return f"<{SMALLEST_P:g}" if value < SMALLEST_P else f"{value:.3f}"


def decimals_of(value: float) -> int:
    """Decimals that 4 significant digits of a number need, trailing zeros not counted: 62.4717 -> 2, 3.5 -> 1, 12345 -> 0."""
    if not math.isfinite(value) or value == 0:
        return 0
    short = f"{value:.{SIGNIFICANT}g}"
    return len(short.partition("e")[0].partition(".")[2])


def number_text(value: float, decimals: int | None = None) -> str:
    """A number with 4 significant digits; whole digits are never rounded away.

    decimals : at most so many, and zeros up to there: the decimals that its column needs.
    """
    if math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if abs(value) < SMALLEST_PLAIN:
        return f"{value:.{SIGNIFICANT - 1}g}".replace("-", "−")
    places = max(0, SIGNIFICANT - 1 - math.floor(math.log10(abs(value))))
    places = min(places, max(DECIMALS, places - 1), decimals_of(value) if decimals is None else decimals)
    return f"{value:,.{places}f}".replace(",", THIN).replace("-", "−")


def values_text(values: Sequence[float | None]) -> list[str]:
    """One column of numbers: as many decimals as its most precise value needs, so that digits stand under digits."""
    known = [value for value in values if value is not None]
    decimals = max((decimals_of(value) for value in known if value == 0 or abs(value) >= SMALLEST_PLAIN), default=0)
    return [ABSENT if value is None else number_text(value, decimals) for value in values]


def interval_text(low: str, high: str) -> str:
    return f"{low} to {high}"


# -- what is said about a result ---------------------------------------------------------------------------------------------


def people(result: Result) -> str:
    """Who is behind the numbers: "n = 1 542 patients in 3 registries; 8 left out because a value was missing"."""
    where = f" in {result.registries} registries" if result.registries > 1 else " in one registry" if result.registries else ""
    if result.n_missing is None:
        left = "; how many were left out because a value was missing is not shown"
    elif result.n_missing:
        left = f"; {count_text(result.n_missing)} left out because a value was missing"
    else:
        left = "; nobody left out for a missing value"
    return f"n = {count_text(result.n)} patients{where}{left}"


def provenance(result: Result) -> str:
    """How the numbers came about, by which rules."""
    world = WORLDS.get(result.released, "")
    parts = [f"rules: {result.rules}" if result.rules else "", world, f"query {result.query}" if result.query else ""]
    return "; ".join(part for part in parts if part)


def tables_of(result: Result) -> tuple[Table, ...]:
    """The tables of a result as it describes them; none for a `Failed`."""
    describe = getattr(result, "tables", None)
    return tuple(describe()) if describe is not None else ()


def picture_of(result: Result) -> Picture | None:
    describe = getattr(result, "picture", None)
    return describe() if describe is not None else None


def problem_lines(result: Failed) -> list[str]:
    """A failed question in words: what was asked, who said no and why, what to do."""
    problem = result.problem
    lines = [f"not answered: {result.question}", f"{problem.who + ': ' if problem.who else ''}{problem.what}"]
    return [plain(line) for line in (*lines, *([f"hint: {problem.hint}"] if problem.hint else []))]


# -- sheets ----------------------------------------------------------------------------------------------------------------


def sheets(result: Result) -> tuple[Sheet, ...]:
    """The tables of a result, finished for reading; a table that people print (`wide`) comes first where a result has one."""
    found = [table for table in tables_of(result) if table.rows]
    wide = getattr(result, "wide", None)
    if wide is not None:
        table = wide()
        found.insert(0, Table(table.columns, table.rows, table.index, f"{table.title}: patients"))
    return tuple(sheet(result, table) for table in found)


def sheet(result: Result, table: Table) -> Sheet:
    """One table, finished: numbers rounded for reading, limits joined to intervals, suppressed numbers marked."""
    table = _without_empty(table)
    labels = [tuple(plain(value) for value in row[:table.index]) for row in table.rows]
    heads, columns, numeric = [], [], []
    place = 0
    while place < len(table.columns):
        values = [row[place] for row in table.rows]
        name = table.columns[place]
        if place < table.index:
            column = [Entry(_label(value)) for value in values]
            heads.append(plain(name))
        elif _is_interval(table, place):
            upper = [row[place + 1] for row in table.rows]
            column = _interval(result, labels, name, values, upper)
            heads.append(_interval_head(result, name))
            place += 1
        else:
            column = _column(result, labels, name, values)
            heads.append(plain(name).replace("_", " "))
        columns.append(column)
        numeric.append(len(columns) > table.index and all(isinstance(v, (int, float, type(None))) for v in values))
        place += 1
    rows = tuple(zip(*columns)) if columns else ()
    return Sheet(plain(table.title), tuple(heads), rows, table.index, tuple(numeric), _footnote(rows, table.index))


def _without_empty(table: Table) -> Table:
    """The table without index columns that name nothing, such as the group of a question without groups."""
    keep = [k for k in range(len(table.columns)) if k >= table.index or any(row[k] not in ("", None) for row in table.rows)]
    rows = tuple(tuple(row[k] for k in keep) for row in table.rows)
    return Table(tuple(table.columns[k] for k in keep), rows, sum(k < table.index for k in keep), table.title)


def _label(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else plain(value)


def _column(result: Result, labels: Sequence[tuple[str, ...]], name: str, values: Sequence[Any]) -> list[Entry]:
    floats = [v if isinstance(v, float) and not math.isnan(v) else None for v in values]
    texts = values_text(floats)
    found = []
    for label, value, text in zip(labels, values, texts):
        if value is None:
            found.append(_gap(result, labels, label, name))
        elif isinstance(value, bool):
            found.append(Entry("yes" if value else "no"))
        elif isinstance(value, int):
            found.append(Entry(count_text(value)))
        elif isinstance(value, float):
            found.append(Entry(ABSENT if math.isnan(value) else p_text(value) if _is_p(name) else text))
        else:
            found.append(Entry(plain(value)))
    return found


def _interval(result: Result, labels: Sequence[tuple[str, ...]], name: str, low: Sequence[float | None],
              high: Sequence[float | None]) -> list[Entry]:
    texts = values_text([*low, *high])
    lows, highs = texts[:len(low)], texts[len(low):]
    return [_gap(result, labels, label, name) if a is None and b is None else Entry(interval_text(x, y))
            for label, a, b, x, y in zip(labels, low, high, lows, highs)]


def _is_p(name: str) -> bool:
    return name in ("p", "p_value") or name.startswith("p_") or name.endswith("_p")


def _is_interval(table: Table, place: int) -> bool:
    """Whether a column and the next are the limits of an interval. Levels may be called "low" and "high": counts are whole."""
    if place + 1 >= len(table.columns) or not table.columns[place].endswith(("low", "lower")):
        return False
    name, after = table.columns[place], table.columns[place + 1]
    if after not in (name.removesuffix("low") + "high", name.removesuffix("lower") + "upper"):
        return False
    values = [row[k] for row in table.rows for k in (place, place + 1) if row[k] is not None]
    return all(isinstance(value, float) for value in values) and (bool(values) or name.startswith("ci"))


def _interval_head(result: Result, name: str) -> str:
    confidence = getattr(result, "confidence", None)
    level = f"{100 * confidence:g}% interval" if isinstance(confidence, float) else "interval"
    of = name.removesuffix("lower").removesuffix("low").strip("_ ").removesuffix("ci").strip("_ ")
    return f"{plain(of).replace('_', ' ')} {level}".strip()


def _gap(result: Result, labels: Sequence[tuple[str, ...]], label: tuple[str, ...], column: str) -> Entry:
    why = rule_of(result, labels, label, column)
    return Entry(HIDDEN, why) if why else Entry(ABSENT)


def rule_of(result: Result, labels: Sequence[tuple[str, ...]], label: tuple[str, ...], column: str) -> str:
    """The rule that held a number back, as the notes of the result name it: "rule min_cell 10"; "" if none is named.

    labels : names of all rows. label : of this row. A note that quotes the name of a row speaks of that row only; the note
    on missing values speaks of the column of that name.
    """
    named = [(note, found.group(1)) for note in result.notes if (found := re.search(r"\((rules? [^()]+)\)", note))]
    about_missing = [rule for note, rule in named if "missing values" in note]
    if "missing" in column:
        return "; ".join(dict.fromkeys(about_missing))
    others = [(note, rule) for note, rule in named if "missing values" not in note]
    row = [rule for note, rule in others if _quotes(note, label)]
    table = [rule for note, rule in others if not any(_quotes(note, one) for one in labels)]
    return "; ".join(dict.fromkeys(row or table))


def _quotes(note: str, label: Sequence[str]) -> bool:
    return any(f'"{one}"' in note for one in label if one)


def _footnote(rows: Sequence[Sequence[Entry]], index: int) -> str:
    cells = [entry for row in rows for entry in row[index:]]
    reasons = [entry.why for entry in cells if entry.why]
    if not reasons:
        return ""
    rules = "; ".join(dict.fromkeys(reasons))
    return f"{HIDDEN} {count_text(len(reasons))} of {count_text(len(cells))} entries of this table are not released ({plain(rules)})"
