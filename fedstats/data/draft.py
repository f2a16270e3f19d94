"""A first dictionary for a table: types, ranges, steps, levels and cut points, proposed for a person to check.

How this works: each column is looked at on its own. Identifiers, sites and free text are left out, because a dictionary is
public and its variables may be tabulated. Ranges are rounded outwards to round numbers, so that they give nobody's value away;
what cannot be known from values (units, codes, plausible ranges) is listed as things to check.
"""

from __future__ import annotations

import datetime
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from . import cells as judge
from . import thousands
from .cells import EMPTY, Form
from .dictionary import RESERVED, Dictionary
from .forms import DAY_FORMS, date_line
from .tables import cells_of
from .variable import EPOCH, FALSE, TRUE, level_text

MOST_LEVELS = 24            # distinct texts: more are free text, not levels
FEW = 10                    # people behind a level, below which it is worth merging (the default smallest cell)
FEW_CODES, LARGEST_CODE = 3, 10     # whole numbers with so few distinct values, all small, may be codes
SERIAL_DATES = (20_000, 60_000)     # days of a spreadsheet from 1954 to 2064
OFTEN_MISSING = 1 / 3       # of the rows
SMALL = 10                  # whole numbers up to here are scores or counts: their range gives nobody away
GROUPS = 20                 # about so many cut points
STEPS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001)        # smallest units that are tried, largest first
CODES_FOR_MISSING = (-9, -99, -999, 99, 999, 9999, 99999)
IDENTIFIER = re.compile(r"(^|[_. ])(id|ids|uuid|mrn|nr|number|name|surname|firstname|ssn|email|phone|address|zip|postcode)$"
                        r"|^(patient|subject)", re.IGNORECASE)
SITE = re.compile(r"(^|[_. ])(site|centre|center|hospital|clinic|inst|institution|registry|country|region)s?($|[_. ])", re.IGNORECASE)
NAMELESS = re.compile(r"\(column [0-9]+\)")        # how `tables` names a column without a name
WHOLE = re.compile(r"[+-]?[0-9]+(\.0+)?")


@dataclass(frozen=True)
class Draft:
    """source : the dictionary as plain data. skipped, check : sentences about columns left out and things to look at."""

    source: dict[str, Any]
    skipped: tuple[str, ...]
    check: tuple[str, ...]

    @property
    def dictionary(self) -> Dictionary:
        return Dictionary.from_dict(self.source)


class _Skip(Exception):
    """A column that does not belong into a dictionary, and why."""


def draft(columns: Mapping[str, np.ndarray], name: str, *, patient_id: str = "patient_id", form: Form | None = None) -> Draft:
    """Propose a dictionary for a table (see `tables.columns_of`). form : how it writes dates and numbers.

    Raises InputError if no column can be used.
    """
    form = form or Form()
    variables, skipped, check = [], [], []
    for column, cells in columns.items():
        texts = [_text(cell) for cell in cells_of(cells).array().tolist()]
        known = [text for text in texts if text.lower() not in EMPTY]
        try:
            if column == patient_id:
                raise _Skip("it identifies patients")
            variable, remarks = _variable(column, _in_plain_form(known, form))
        except _Skip as why:
            skipped.append(f'"{column}": {why}')
            continue
        variables.append({"name": column} | variable)
        often = ["often missing: complete cases leave those patients out"] if len(known) < (1 - OFTEN_MISSING) * len(texts) else []
        check += [f'"{column}": {remark}' for remark in (*remarks, *often)]
    if not variables:
        raise InputError("no column can be proposed for a dictionary", hint="; ".join(skipped[:5]))
    source: dict[str, Any] = {"name": name}
    source |= {"patient_id": patient_id} if patient_id != "patient_id" else {}
    found = Draft(source | {"variables": variables}, tuple(skipped), (*check, *_general(variables)))
    assert found.dictionary
    return found


def _general(variables: Sequence[Mapping[str, Any]]) -> list[str]:
    bare = [one["name"] for one in variables if one["type"] in ("number", "integer")]
    return [*([f'add a "unit" to: {", ".join(bare)}'] if bare else []),
            "add a description to every variable, and widen ranges to what is plausible in any registry"]


def _text(cell: Any) -> str:
    return "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else level_text(cell)


def _in_plain_form(known: Sequence[str], form: Form) -> Sequence[str]:
    """Numbers and dates as this software writes them. Raises _Skip for a form that was not declared: drafted from its
    whole numbers only, or as words, a column of decimal commas would get a wrong line."""
    distinct = list(dict.fromkeys(known))
    numbers, days = ([read(text, form) for text in distinct] for read in (judge.number, judge.date))
    if not form.thousands and thousands.among(distinct, form.decimal, math.inf, None):
        raise _Skip(f'decimals or thousands? declare it, thousands = "{form.decimal}" or thousands = "none"')
    serial = form.dates in judge.EXCEL and all(value is not None and SERIAL_DATES[0] <= value <= SERIAL_DATES[1]
                                               for value, _ in numbers if not isinstance(value, str))
    if distinct and not serial and all(value is not None for value, _ in numbers):
        plain = {text: thousands.without(text, form.thousands, form.decimal).replace(",", ".") for text in distinct}
    elif distinct and all(value is not None for value, _ in days):
        plain = {text: (EPOCH + datetime.timedelta(days=int(day))).isoformat() for text, (day, _) in zip(distinct, days)
                 if isinstance(day, float)}
    elif any(rule == judge.THOUSANDS for _, rule in numbers):
        raise _Skip("signs between thousands: declare them, such as thousands = \".\" and decimal = \",\"")
    elif any(rule == judge.COMMA for _, rule in numbers) and all(rule in ("", judge.COMMA) for _, rule in numbers):
        raise _Skip('decimal commas: declare them, decimal = ","')
    elif any(rule in DAY_FORMS for _, rule in days) and all(rule in ("", *DAY_FORMS) for _, rule in days):
        raise _Skip(f"dates in another form: declare it, {date_line(distinct)}")
    else:
        return known
    return [plain[text] for text in known]


def _variable(name: str, known: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """One line of the dictionary and remarks. Raises _Skip."""
    distinct = Counter(known)
    if name != name.strip() or not name or NAMELESS.fullmatch(name):
        raise _Skip("it has no usable name (probably row numbers)")
    if len(known) < FEW:
        raise _Skip(f"fewer than {FEW} rows have a value")
    if name == RESERVED or SITE.search(name):
        raise _Skip("it names a site: single registries are never tabulated")
    if IDENTIFIER.search(name):
        raise _Skip("by its name it identifies people")
    if len(distinct) == 1:
        raise _Skip("it has one value only")
    if {text.lower() for text in distinct} <= {*TRUE, *FALSE}:
        return {"type": "boolean"}, []
    if all(judge.date(text, Form())[0] is not None for text in distinct):
        return _date(distinct)
    if all(_is_number(text) for text in distinct):
        return _whole(name, distinct) if all(WHOLE.fullmatch(text) for text in distinct) else _number(distinct)
    return _category(distinct, len(known))


def _is_number(text: str) -> bool:
    return judge.number(text, Form())[0] is not None


def _whole(name: str, distinct: Counter[str]) -> tuple[dict[str, Any], list[str]]:
    values, missing, remarks = _without_codes(distinct)
    if len(values) <= FEW_CODES and values[0] > 0 and values[-1] < LARGEST_CODE:
        remarks.append("levels look like codes: say what they mean")
        return {"type": "category", "levels": [int(one) for one in values]} | missing, remarks
    if SERIAL_DATES[0] <= values[0] and values[-1] <= SERIAL_DATES[1] and len(values) > FEW_CODES:
        remarks.append('these may be days as a spreadsheet counts them: dates = "excel" declares them')
    rows = sum(distinct.values())
    if len(values) == rows and rows > MOST_LEVELS and values[-1] - values[0] < 2 * rows:
        raise _Skip("every row has another whole number: it looks like an identifier")
    low, high = _outwards(values[0], values[-1], 1) if values[-1] > SMALL or values[0] < 0 else (values[0], values[-1])
    cuts = _cuts(low, high, 1.0)
    return {"type": "integer", "range": [int(low), int(high)]} | cuts | missing, remarks


def _number(distinct: Counter[str]) -> tuple[dict[str, Any], list[str]]:
    values, missing, remarks = _without_codes(distinct)
    step = next((one for one in STEPS if all(abs(value / one - round(value / one)) < 1e-6 for value in values)), None)
    low, high = _outwards(values[0], values[-1], step or 0.0)
    if step is not None and (high - low) / step > 1e6:
        step = None
    if step is None:
        remarks.append("no smallest unit found: add a step if it is measured in steps")
    span: dict[str, Any] = {"type": "number", "range": [_plain(low), _plain(high)]}
    return span | ({"step": step} if step else {}) | _cuts(low, high, step or 0.0) | missing, remarks


def _without_codes(distinct: Counter[str]) -> tuple[list[float], dict[str, Any], list[str]]:
    """The values in order, without codes for "not known" that lie far from all others."""
    values = sorted({float(text) for text in distinct})
    codes = []
    for code in CODES_FOR_MISSING:
        others = [value for value in values if value != code]
        if code in values and len(others) > 1:
            gap = min(abs(code - others[0]), abs(code - others[-1]))
            if (code > others[-1] or code < others[0]) and gap > max(others[-1] - others[0], 5):
                values = others
                codes.append(code)
    if not codes:
        return values, {}, []
    return values, {"missing": codes}, [f"{', '.join(map(str, codes))} taken as a code for a missing value"]


def _date(distinct: Counter[str]) -> tuple[dict[str, Any], list[str]]:
    years = sorted({int(text[:4]) for text in distinct})
    first, last = f"{years[0]}-01-01", f"{years[-1]}-12-31"
    return {"type": "date", "range": [first, last], "cut_points": [f"{year}-01-01" for year in range(years[0], years[-1] + 1)]}, \
        ["dates of single patients identify: a year or an age is often enough"]


def _category(distinct: Counter[str], rows: int) -> tuple[dict[str, Any], list[str]]:
    numbers = sum(count for text, count in distinct.items() if _is_number(text))
    if numbers > 0.5 * rows and len(distinct) > FEW_CODES:
        raise _Skip("most cells are numbers, some are not: clean it first")
    if len(distinct) > MOST_LEVELS or len(distinct) > max(2, rows / 2):
        raise _Skip("it looks like free text or an identifier")
    if any(len(text) > 60 for text in distinct):
        raise _Skip("it looks like free text")
    remarks = ["some levels have fewer than 10 rows: merge them, or leave them out (a dictionary is public)"] \
        if min(distinct.values()) < FEW else []
    return {"type": "category", "levels": sorted(distinct)}, remarks


def _outwards(low: float, high: float, step: float) -> tuple[float, float]:
    """Round numbers around a range, whole steps apart; 0 where the values come near it."""
    width = high - low
    size = max(_round_number(width / 4), step)
    below, above = math.floor(low / size) * size, math.ceil(high / size) * size
    if low >= 0 and below < width:
        below = min(below, 0.0)
    if step:
        below, above = round(below / step) * step, round(above / step) * step
    return below, above


def _cuts(low: float, high: float, step: float) -> dict[str, Any]:
    """Cut points at a round distance, none where every step can be a group of its own."""
    if step and (high - low) / step <= GROUPS:
        return {}
    size = _round_number((high - low) / GROUPS)
    size = max(math.ceil(size / step - 1e-9) * step, step) if step else size
    count = math.floor((high - low) / size + 1e-9)
    return {"cut_points": {"from": _plain(low), "to": _plain(low + count * size), "step": _plain(size)}}


def _round_number(size: float) -> float:
    """The nearest of 1, 2, 5, 10, ... not below `size`."""
    power = 10.0 ** math.floor(math.log10(size)) if size > 0 else 1.0
    return next((m * power for m in (1, 2, 5, 10) if m * power >= size * (1 - 1e-9)), 10 * power)


def _plain(value: float) -> float | int:
    short = round(value, 9)
    return int(short) if short == int(short) else short
