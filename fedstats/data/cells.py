"""What one cell of a registry's file says: a date, a number, a level, an identifier. The one judge of all tables.

How this works: a judge takes a cell and gives (value, rule). A value without a rule is fine; a rule without a value is a
violation, and the cell is missing from then on; both together mean that something was cut off and counted; neither means empty.
Judges see the distinct cells of a column only (`judged`), so a million rows cost no more than their different cells.

What a file does not say is not guessed: 03/04/2015, 03.04.15, 3,5 and 42101 are violations unless the form of the file is
declared (`Form`). A part of a date is an interval (`span`), never a day.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from ..errors import InputError
from . import thousands
from .tables import LOST, Cells
from .variable import EPOCH, FALSE, ISO_DAY, ON_STEP, TRUE, Variable, level_text, value_text

DateForm = Literal["iso", "y/m/d", "d/m/y", "m/d/y", "d/m/yy", "m/d/yy", "yyyymmdd", "excel", "excel 1904"]
DATE_FORMS: tuple[str, ...] = ("iso", "y/m/d", "d/m/y", "m/d/y", "d/m/yy", "m/d/yy", "yyyymmdd", "excel", "excel 1904")
# Excel counts days from 1899-12-31 and believes that 1900 had a 29 February: from March 1900 on, day 0 is 1899-12-30.
EXCEL = {"excel": datetime.date(1899, 12, 30), "excel 1904": datetime.date(1904, 1, 1)}
EMPTY = ("", "na", "nan", "null", "none", "n/a", ".", "nat", "<na>")
SERIALS = (61, 80_000)          # what is taken for an Excel serial number: March 1900 to 2119
LONGEST_BLANK = max(len(text) for text in EMPTY)
EXACT = 2**53                   # a double counts no further
ROUNDED = 2.0**-46              # of the ends of a range: a number without a step may lie so far beyond them by rounding
# Share of a column's values: a slip of the keyboard now and then is no form; above it what is lost
# depends on the value ("1,5" is missing, "2" stays), and the column is worse than none. Ours.
MOST_UNDECLARED = 0.01

NOT_UTF8 = "not text in the declared encoding"
NOT_DATE, NO_DAY, ZONE = "not a date", "no such day in the calendar", "time zone: the day depends on it"
TWO_DIGITS, UNDECLARED, PART = "year of two digits", "date not as YYYY-MM-DD, and no other form declared", "day or month missing"
SERIAL, CLOCK = "Excel serial number, not declared", "time of day cut off"
NOT_NUMBER, NOT_WHOLE, NOT_LEVEL, NEEDED = "not a number", "not a whole number", "not a level", "empty, but needed"
COMMA, POINT = "decimal comma, not declared", "point in a number where commas are declared"
THOUSANDS = "thousands separator, not declared"
NOT_MONTH = "not a month as YYYY-MM"
SCIENCE, INEXACT = "identifier in scientific notation", "identifier held as an inexact number"
CONTROL = "identifier with a line break or another control character"

_CLOCK = r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?)\s*(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?"
_ISO = re.compile(ISO_DAY + _CLOCK)
_PARTS = re.compile(r"([0-9]{1,4})([./-])([0-9]{1,2})\2([0-9]{1,4})" + _CLOCK)
_PART = re.compile(r"[0-9]{4}(-[0-9]{1,2})?|[0-9]{1,2}[./-][0-9]{4}")
_NOUGHTS = re.compile(r"^(00[./-])+|(-00)+$")
_COMPACT = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")
_SCIENCE = re.compile(r"[0-9]([.,][0-9]+)?[eE]\+[0-9]+")
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")

Verdict = tuple[float | str | None, str]
Judge = Callable[[Any], Verdict]
BLANK: Verdict = (None, "")


class Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a file writes its cells; everything else is a violation.

    dates : the form of dates besides YYYY-MM-DD, which is always understood: one of `DATE_FORMS`,
        where / stands for / . or -.
    decimal : "." or ",". encoding : of CSV files.
    thousands : the sign between thousands, ".", ",", " " or "'"; "none" says that there is none, so that
        1.234 is little more than one; "" that nothing is known.
    century_ends : the last year that a year of two digits may mean.
    levels : by column, what the file writes -> what it means ("" for nothing known).
    undeclared : the share of a column's values above which a form that is not declared stops
        the loading, 0 to 1. tables : forms of single tables of MS, in place of this one.
    """

    dates: DateForm = "iso"
    decimal: Literal[".", ","] = "."
    thousands: Literal["", "none", ".", ",", " ", "'"] = ""
    encoding: str = "utf-8"
    century_ends: int | None = None
    levels: dict[str, dict[str, str | int | float | bool]] = {}
    undeclared: float = MOST_UNDECLARED
    tables: dict[str, Form] = {}

    def __post_init__(self) -> None:
        if self.dates not in DATE_FORMS:
            raise InputError(f'"{self.dates}" is not a form of dates', hint="forms are: " + ", ".join(DATE_FORMS))
        if self.decimal not in (".", ","):
            raise InputError(f'"{self.decimal}" is not a decimal sign', hint='"." or ","')
        if self.thousands not in ("", "none", *thousands.GROUPS):
            raise InputError(f'"{self.thousands}" is no sign between thousands', hint="one of . , space ' or none")
        if self.thousands == self.decimal:
            raise InputError(f'thousands and decimals are both written with "{self.decimal}"',
                             hint="""write both lines, such as: thousands = "." and decimal = ",\"""")
        if self.dates.endswith("/yy") and self.century_ends is None:
            raise InputError("years of two digits need century_ends", hint="the last year that they may mean, such as 2025")
        if not 0 <= self.undeclared <= 1:
            raise InputError(f"undeclared is {self.undeclared:g}", hint="a share of a column's values, from 0 to 1")

    def of(self, table: str) -> Form:
        """The form of one table."""
        return self.tables.get(table, self)


def judged(cells: Cells, judge: Judge, variable: Variable | None = None) -> tuple[list[float | str | None], list[str]]:
    """Values and rules of the distinct cells, and of null at the end, so that code -1 finds it.

    variable : of a judge of numbers. A column that holds numbers already is measured at once, and only what
    is out of the range or stands for "not known" is put before the judge: a million different doubles.
    """
    if variable is not None and variable.is_numeric and set(map(type, cells.distinct)) <= {int, float}:
        return _judged_numbers(cells.distinct, judge, variable)
    verdicts = [(None, NOT_UTF8) if isinstance(cell, str) and LOST in cell else judge(cell) for cell in cells.distinct]
    return [value for value, _ in verdicts] + [None], [rule for _, rule in verdicts] + [""]


def _judged_numbers(distinct: list[Any], judge: Judge, variable: Variable) -> tuple[list[float | str | None], list[str]]:
    numbers = np.array(distinct, dtype=float)
    sure = (numbers >= variable.low) & (numbers <= variable.high)
    if variable.missing:
        sure[:] = False
    values: list[float | str | None] = [*numbers.tolist(), None]
    rules = [""] * len(values)
    for k in np.flatnonzero(~sure).tolist():
        values[k], rules[k] = judge(distinct[k])
    return values, rules


def counted(codes: np.ndarray, rules: list[str]) -> dict[str, int]:
    """How many rows each rule concerns. codes : of the rows. rules : of the distinct cells and of null, see `judged`."""
    if not any(rules):
        return {}
    rows = np.bincount(np.where(codes < 0, len(rules) - 1, codes), minlength=len(rules))
    found: dict[str, int] = {}
    for rule, count in zip(rules, rows.tolist()):
        if rule and count:
            found[rule] = found.get(rule, 0) + count
    return found


def blank(cell: Any) -> bool:
    """Whether a cell stands for nothing."""
    if isinstance(cell, str):
        text = cell.strip()
        return len(text) <= LONGEST_BLANK and text.lower() in EMPTY
    return isinstance(cell, float) and cell != cell


# -- judges --------------------------------------------------------------------------------------------------------------


def identifier(cell: Any) -> Verdict:
    """A patient's or a centre's identifier as text; 1, 1.0 and "1" are one identifier."""
    if blank(cell):
        return BLANK
    if isinstance(cell, float) and abs(cell) >= EXACT:
        return None, INEXACT
    text = level_text(cell)
    if not text.isprintable():
        return None, CONTROL
    # Excel shows 1234567890123 as 1.23457E+12: the digits are gone, and two patients may look alike
    return (None, SCIENCE) if _SCIENCE.fullmatch(text) else (text, "")


def words(cell: Any) -> Verdict:
    """Free text."""
    return BLANK if blank(cell) else (cell.strip() if isinstance(cell, str) else level_text(cell), "")


def month(cell: Any) -> Verdict:
    """YYYY-MM as the first day of that month, days since 1970-01-01."""
    if blank(cell):
        return BLANK
    found = _MONTH.fullmatch(str(cell).strip())
    return _day(found[1], found[2], "1") if found else (None, NOT_MONTH)


def date_of(variable: Variable, form: Form) -> Judge:
    """Days since 1970-01-01 within the variable's range."""
    low, high, beyond = variable.low, variable.high, outside(variable)
    gap = _gap(variable)

    def judge(cell: Any) -> Verdict:
        if blank(cell) or gap(cell):
            return BLANK
        value, rule = date(cell, form)
        if isinstance(value, float) and not low <= value <= high:
            return None, beyond
        return value, rule
    return judge


def date(cell: Any, form: Form) -> Verdict:
    """A date that is written in ISO form or in the declared one, days since 1970-01-01."""
    if isinstance(cell, bool):
        return None, NOT_DATE
    text = level_text(cell)
    if form.dates not in EXCEL and span(text) is not None:
        return None, PART
    if found := _ISO.fullmatch(text):
        return _on_clock(_day(*found.group(1, 2, 3)), found[4], found[5])
    if form.dates in EXCEL:
        return _serial(text, EXCEL[form.dates])
    if found := _COMPACT.fullmatch(text):
        return _day(*found.group(1, 2, 3)) if form.dates == "yyyymmdd" else (None, UNDECLARED)
    if found := _PARTS.fullmatch(text):
        return _on_clock(_in_parts(found[1], found[3], found[4], form), found[5], found[6])
    if _NUMBER.fullmatch(text) and SERIALS[0] <= float(text) <= SERIALS[1]:
        return None, SERIAL
    return None, NOT_DATE


def number_of(variable: Variable, form: Form) -> Judge:
    """A number within the variable's range. Steps are left to the reader of the column: a value
    off its step (EDSS 2.25) was read, and is wrong for another reason."""
    low, high, beyond = variable.low, variable.high, outside(variable)
    slack = ON_STEP * variable.unit_step if variable.unit_step else ROUNDED * max(abs(low), abs(high))
    gap, yes_no = _gap(variable), (low, high) == (0.0, 1.0)

    def judge(cell: Any) -> Verdict:
        if blank(cell) or gap(cell):
            return BLANK
        value, rule = number(int(cell) if yes_no and isinstance(cell, bool) else cell, form)
        if isinstance(value, float) and not low - slack <= value <= high + slack:
            return None, beyond
        return value, rule
    return judge


def whole(judge: Judge) -> Judge:
    """The judge of numbers, for whole ones only."""
    def stricter(cell: Any) -> Verdict:
        value, rule = judge(cell)
        if not isinstance(value, float):
            return value, rule
        return (float(round(value)), "") if abs(value - round(value)) <= ON_STEP else (None, NOT_WHOLE)
    return stricter


def number(cell: Any, form: Form) -> Verdict:
    """A number as programs write it, or with the declared decimal sign."""
    if isinstance(cell, bool):
        return None, NOT_NUMBER
    if isinstance(cell, (int, float)):
        return (float(cell), "") if abs(cell) < float("inf") else (None, NOT_NUMBER)
    text = thousands.without(str(cell).strip(), form.thousands, form.decimal)
    if form.decimal == "," and "." in text and _NUMBER.fullmatch(text):
        return None, POINT          # 1.234 may be a thousand
    if _COMMA.fullmatch(text):
        if form.decimal != ",":
            return None, COMMA
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        return None, THOUSANDS if thousands.surely(text) else NOT_NUMBER
    value = float(text)
    return (value, "") if abs(value) < float("inf") else (None, NOT_NUMBER)


def level_of(variable: Variable) -> Judge:
    """The position of a level of a category, or 0 and 1 of a boolean."""
    places = {label: k for k, label in enumerate(variable.labels or ())}
    if variable.type == "boolean":
        places = dict.fromkeys(TRUE, 1) | dict.fromkeys(FALSE, 0)
    gap = _gap(variable)

    def judge(cell: Any) -> Verdict:
        text = level_text(cell)
        key = text.lower() if variable.type == "boolean" else text
        # a column of whole numbers with gaps is written "1.0", "2.0" by many programs
        key = key if key in places else key.removesuffix(".0")
        if key in places and not gap(cell):     # before blanks: "none" is a level of some columns
            return float(places[key]), ""
        return BLANK if gap(cell) or blank(cell) else (None, NOT_LEVEL)
    return judge


def translated(judge: Judge, levels: Mapping[str, Any]) -> Judge:
    """A judge of cells that the file writes in other words. levels : see `Form.levels`."""
    words = {level_text(key): value for key, value in levels.items()}
    return (lambda cell: judge(words.get(level_text(cell), cell))) if words else judge


def _gap(variable: Variable) -> Callable[[Any], bool]:
    """Whether a cell is one of the variable's codes for "not known"; 99, "99" and "99.0" are one."""
    codes = {level_text(code) for code in variable.missing}

    def gap(cell: Any) -> bool:
        text = level_text(cell)
        return text in codes or text.removesuffix(".0") in codes
    return gap if codes else lambda cell: False


# -- parts of dates --------------------------------------------------------------------------------------------------------


def span(cell: Any) -> tuple[float, float] | None:
    """First and last day that a date of partial precision (a year, a month of a year) may mean, days
    since 1970-01-01; None for any other cell."""
    text = _NOUGHTS.sub("", level_text(cell))       # 2015-05-00 and 00.05.2015 are May
    if not _PART.fullmatch(text):
        return None
    year, month = sorted(re.split(r"[./-]", text), key=len, reverse=True) if len(text) > 4 else (text, "")
    if not 1 <= int(month or 1) <= 12 or not int(year):
        return None
    start = datetime.date(int(year), int(month or 1), 1)
    months = 1 if month else 12
    carry = start.month - 1 + months
    if start.year + carry // 12 > datetime.MAXYEAR:
        return None
    end = datetime.date(start.year + carry // 12, carry % 12 + 1, 1)
    return float((start - EPOCH).days), float((end - EPOCH).days - 1)


def _day(year: str, month: str, day: str) -> Verdict:
    try:
        return float((datetime.date(int(year), int(month), int(day)) - EPOCH).days), ""
    except ValueError:
        return None, NO_DAY


def _on_clock(verdict: Verdict, clock: str | None, zone: str | None) -> Verdict:
    if zone:
        return None, ZONE
    if clock and verdict[0] is not None and clock.strip("0:.,"):
        return verdict[0], CLOCK
    return verdict


def _serial(text: str, origin: datetime.date) -> Verdict:
    if not _NUMBER.fullmatch(text) or not SERIALS[0] <= float(text) <= SERIALS[1]:
        return None, NOT_DATE
    days = float(text)
    return float(int(days) + (origin - EPOCH).days), CLOCK if days % 1 else ""


def _in_parts(first: str, second: str, third: str, form: Form) -> Verdict:
    if len(first) == 4 and len(third) <= 2:
        return _day(first, second, third) if form.dates == "y/m/d" else (None, UNDECLARED)
    if len(first) > 2 or len(third) not in (2, 4):
        return None, NOT_DATE
    if len(third) == 2 and not form.dates.endswith("/yy"):
        return None, TWO_DIGITS
    if form.dates not in ("d/m/y", "d/m/yy", "m/d/y", "m/d/yy"):
        return None, UNDECLARED
    if len(third) == 2:
        assert form.century_ends is not None
        third = str(form.century_ends - (form.century_ends - int(third)) % 100)
    return _day(third, second, first) if form.dates.startswith("d") else _day(third, first, second)


def outside(variable: Variable) -> str:
    """The rule that a value beyond the variable's range breaks."""
    return f"outside {value_text(variable, variable.low)} to {value_text(variable, variable.high)}"
