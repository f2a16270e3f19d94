"""Forms that nobody declared: decimal commas, day-first dates, other words for levels.

How this works: "1,5" is unreadable and "2" is read, so a column of decimal commas keeps its whole numbers
only. What is lost depends on the value, and no analysis can see it. So whatever could not be *read* (not
what was read and is out of range) is weighed against the values of its column; above a small share the
data is refused, with the form, the share and the line to write. Never a value.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ..errors import InputError
from . import cells as judge
from . import thousands
from .cells import Form
from .tables import RAGGED, Cells
from .variable import Variable, level_text

HINT = (
    "write these lines under [form] in node.toml; elsewhere give them one by one: --form LINE, or form={...}. "
    "A share that may be lost: undeclared = 0.01"
)
DAY_FORMS = (judge.UNDECLARED, judge.TWO_DIGITS, judge.SERIAL)
NO_IDS = (judge.SCIENCE, judge.INEXACT, judge.CONTROL)
OTHER = {".": ",", ",": "."}  # the decimal sign beside a sign between thousands
AMBIGUOUS = "three digits behind the decimal sign, beside whole numbers: decimals or thousands"
NO_LEVELS, NO_NUMBERS, NO_DATES = "words that are no levels", "not numbers", "not dates"
WORDS_NOT_KNOWN = (NO_LEVELS, NO_NUMBERS, NO_DATES)
WORDS = (judge.NOT_LEVEL, judge.NOT_NUMBER, judge.NOT_DATE)


class Undeclared(msgspec.Struct, frozen=True):
    """A form in which a column is written and which was not declared. share : of the column's values.

    line : what to write. Never a value of the file.
    """

    file: str
    column: str
    form: str
    share: float
    line: str

    def __str__(self) -> str:
        place = (
            f'{self.file}, column "{self.column}"'
            if self.column and self.file
            else f'column "{self.column}"'
            if self.column
            else self.file
        )
        return f"{place}: {self.form}: {percent(self.share)} of the {'values' if self.column else 'lines'}; {self.line}"


def percent(share: float) -> str:
    """Two digits, and never 0."""
    return "all" if share == 1 else f"{100 * share:.2g} %"


def read_form(lines: Sequence[str] | str) -> Form:
    """A form from lines of TOML, as they stand under [form] in node.toml. Raises InputError."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    try:
        return as_form(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"form: not TOML: {error}", hint="""such as: decimal = ","  or: dates = "d/m/y\""""
        ) from None


def as_form(form: Form | Mapping[str, Any] | None) -> Form:
    """A form from plain data, such as {"decimal": ",", "dates": "d/m/y"}. Raises InputError naming the field."""
    if form is None or isinstance(form, Form):
        return form or Form()
    try:
        return msgspec.convert(dict(form), Form, strict=True)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        forms = (
            "; dates are one of: " + ", ".join(judge.DATE_FORMS) if "$.dates" in str(error) else ""
        )
        raise InputError(
            f"form: {error}", hint="fields are: " + ", ".join(Form.__struct_fields__) + forms
        ) from None


def undeclared(
    file: str,
    column: str,
    variable: Variable | None,
    found: Cells,
    rules: Sequence[str],
    form: Form,
) -> list[Undeclared]:
    """The forms in a column that were not declared.

    rules : that the distinct cells break, and null, see `cells.judged`. form : what was declared.
    """
    thousand = set(_thousands(variable, found, form))
    if not any(rules) and not thousand:
        return []
    readable = np.array(
        [not judge.blank(cell) and cell is not None for cell in found.distinct] + [False]
    )
    of = int(readable[found.codes].sum())
    counts = judge.counted(found.codes, list(rules))
    out = []
    if thousand:
        marked = np.array([cell in thousand for cell in found.distinct] + [False])
        share = int(marked[found.codes].sum()) / of
        sign = form.decimal
        out.append(
            Undeclared(
                file,
                column,
                AMBIGUOUS,
                share,
                f'{_signs([sign])}; or thousands = "none", where they are decimals',
            )
        )
    for kinds, words in _kinds(form):
        count = sum(counts.get(kind, 0) for kind in kinds)
        if count:
            texts = [
                str(cell).strip() for cell, rule in zip(found.distinct, rules) if rule in kinds
            ]
            out.append(
                Undeclared(
                    file, column, words, count / of, _line(kinds[0], column, variable, texts)
                )
            )
    return out


def _thousands(variable: Variable | None, found: Cells, form: Form) -> list[Any]:
    """The cells of a column of numbers that may be thousands, see `thousands.among`."""
    if variable is None or not variable.is_numeric or form.thousands:
        return []
    texts = {
        cell: cell.strip()
        for cell in found.distinct
        if isinstance(cell, str) and not judge.blank(cell)
    }
    bad = set(
        thousands.among(list(texts.values()), form.decimal, variable.high, variable.unit_step)
    )
    return [cell for cell, text in texts.items() if text in bad]


def _signs(signs: Sequence[str]) -> str:
    """The lines that declare a sign between thousands, and the decimal sign where it has to be another one."""
    lines = [
        f'thousands = "{sign}"' + (f' and decimal = "{OTHER[sign]}"' if sign in OTHER else "")
        for sign in signs
    ]
    return "write: " + ", or ".join(lines)


def ragged(file: str, lost: int, lines: int) -> list[Undeclared]:
    """Lines with more or fewer cells than the first: what decimal commas make of a file that has commas between its cells."""
    return (
        [
            Undeclared(
                file,
                "",
                RAGGED,
                lost / lines,
                "decimal commas, or commas in texts? save the file with semicolons between its cells, or with quotation marks",
            )
        ]
        if lost
        else []
    )


def stop(found: Iterable[Undeclared], form: Form, who: str = "") -> None:
    """Raises InputError where a form that was not declared has more than the share that may be lost."""
    bad = [one for one in found if one.share > form.undeclared]
    if bad:
        name = f"{who}: " if who else ""
        raise InputError(
            f"{name}not all of the data is written in the form that is declared, and what could not be read "
            "would be missing by its value:\n  " + "\n  ".join(str(one) for one in bad),
            hint=HINT,
        )


def _kinds(form: Form) -> list[tuple[tuple[str, ...], str]]:
    """What counts as one form, in words."""
    days = (judge.NO_DAY,) if form.dates != "iso" else ()
    return [
        ((judge.COMMA,), "decimal commas"),
        ((judge.THOUSANDS,), "signs between thousands"),
        ((judge.POINT,), "decimal points, where commas are declared"),
        (
            DAY_FORMS,
            "dates in another form than YYYY-MM-DD"
            if form.dates == "iso"
            else f"dates in another form than {form.dates}",
        ),
        *([(days, f"no day of the calendar, read as {form.dates}")] if days else []),
        ((judge.ZONE,), "days with a time zone"),
        ((judge.NOT_UTF8,), "text in another encoding"),
        ((judge.NOT_LEVEL,), NO_LEVELS),
        ((judge.NOT_NUMBER,), NO_NUMBERS),
        ((judge.NOT_DATE,), NO_DATES),
        ((judge.NOT_MONTH,), "not months as YYYY-MM"),
        (NO_IDS, "identifiers that cannot be read"),
    ]


def _line(kind: str, column: str, variable: Variable | None, texts: Sequence[str]) -> str:
    if kind == judge.THOUSANDS:
        return _signs(sorted({thousands.surely(text) for text in texts}))
    if kind == judge.COMMA:
        grouped = all(thousands.perhaps(text, ",") for text in texts)
        return 'write: decimal = ","' + (', or thousands = ","' if grouped else "")
    if kind == judge.POINT and all(thousands.perhaps(text, ".") for text in texts):
        return _signs(["."])
    if kind == judge.NOT_MONTH:
        return "export the year and the month as YYYY-MM, or the year as birth_year"
    if kind in NO_IDS:
        return "a spreadsheet has changed them: export identifiers as text, with all their digits"
    if kind == judge.POINT:
        return """write: decimal = ".", or let the file write numbers in one way"""
    if kind in (*DAY_FORMS, judge.NO_DAY) or all(_is_date(text) for text in texts):
        return f"write: {date_line(texts)}"
    if kind == judge.ZONE:
        return "the day depends on where it is read: export days without a clock"
    if kind == judge.NOT_UTF8:
        return """write the encoding that the file was saved in: encoding = "cp1252\""""
    name = column if re.fullmatch(r"[A-Za-z0-9_-]+", column) else f'"{column}"'
    means = level_text(variable.labels[0]) if variable is not None and variable.labels else ""
    return f"""write for each word: levels.{name} = {{ "word of the file" = "{means}" }}""" + (
        ' ("" where nothing is known)' if means else " (nothing is known)"
    )


def date_line(texts: Sequence[str]) -> str:
    """The form that these dates can have; where it could be two, both are named: the file does not say which."""
    kinds = [
        form
        for form in judge.DATE_FORMS
        if form != "iso" and all(_fits(text, form) for text in texts)
    ]
    four = [
        form for form in kinds if not form.endswith("/yy")
    ]  # d/m/yy takes years of four digits, too
    shown = four or kinds or ["d/m/y"]
    line = " or ".join(f'dates = "{one}"' for one in shown)
    return line + (
        ", and century_ends = 2025 (the last year that they mean)"
        if shown[0].endswith("yy")
        else ""
    )


def _is_date(text: str) -> bool:
    return any(_fits(text, form) for form in judge.DATE_FORMS if form not in judge.EXCEL)


def _fits(text: str, form: str) -> bool:
    return judge.date(text, Form(dates=form, century_ends=2030))[0] is not None  # type: ignore[arg-type]
