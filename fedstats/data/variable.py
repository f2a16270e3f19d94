"""One line of the codebook: a variable, its values, its smallest unit and its registered cut points.

How values are held: a variable with levels (category, boolean) or with a smallest unit (`step`; integers have step 1, dates
one day) is held as whole steps above its lower end, so that its sums are exact integers. A number without a step is held as
a double.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from typing import Any, Literal

import msgspec
import numpy as np

from ..errors import QuestionError

EPOCH = datetime.date(1970, 1, 1)
LARGEST = 1e300                     # no value, bound or cut point is beyond it: differences and squares stay finite
ON_STEP = 1e-6                      # of a step: how far a value may lie from a whole step (decimal fractions are not exact)
TRUE, FALSE = ("true", "1", "yes", "y", "t", "1.0"), ("false", "0", "no", "n", "f", "0.0")
ISO_DAY = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"      # date.fromisoformat takes weeks (2020-W01-1) as well
Type = Literal["number", "integer", "boolean", "category", "date"]


class Every(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from", "stop": "to"}):
    """Cut points at equal distances, `{from, to, step}`, both ends included."""

    start: float | str
    stop: float | str
    step: float


class Variable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the codebook; see `Dictionary.from_dict` for the meaning of the fields."""

    name: str
    type: Type
    range: tuple[float | str, float | str] | None = None
    levels: tuple[str | int | float | bool, ...] | None = None
    unit: str = ""
    step: float | None = None
    cut_points: tuple[float | str, ...] | Every | None = None
    description: str = ""
    missing: tuple[str | int | float, ...] = ()

    @property
    def low(self) -> float:
        return self.ends[0]

    @property
    def high(self) -> float:
        return self.ends[1]

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest value allowed: codes for levels, days since 1970-01-01 for dates."""
        if self.type == "boolean":
            return 0.0, 1.0
        if self.type == "category":
            return 0.0, float(len(self.levels or ()) - 1)
        if self.range is None:
            assert self.levels is not None
            found = [float(level) for level in self.levels]
            return min(found), max(found)
        return self.number(self.range[0]), self.number(self.range[1])

    @property
    def unit_step(self) -> float | None:
        """The smallest unit of a value, or None for a number that has none."""
        return 1.0 if self.type != "number" else self.step

    @property
    def steps(self) -> int | None:
        """How many steps lie between the ends: the largest code, or None for a number without a step."""
        return None if self.unit_step is None else round((self.high - self.low) / self.unit_step)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the levels of a boolean or a category, in the dictionary's order."""
        if self.type == "boolean":
            return ("false", "true")
        return tuple(level_text(level) for level in self.levels or ()) if self.type == "category" else None

    @property
    def is_numeric(self) -> bool:
        return self.type in ("number", "integer")

    def number(self, value: Any) -> float:
        """A bound, a cut point or a filter value as the number it stands for."""
        if self.type == "date":
            return float((read_date(value, self.name) - EPOCH).days)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
            raise QuestionError(f'variable "{self.name}" is of type {self.type}: a number is wanted here',
                                hint="write the value as a number, without quotes")
        return float(value)

    def code(self, level: Any) -> int:
        """The position of a level of a boolean or a category."""
        text, labels = level_text(level), self.labels or ()
        if self.type == "boolean" and text in TRUE + FALSE:
            return int(text in TRUE)
        if text not in labels:
            raise QuestionError(f'"{text}" is not a level of "{self.name}"', hint="levels are: " + ", ".join(labels))
        return labels.index(text)

    @property
    def cuts(self) -> tuple[float, ...] | None:
        """The registered cut points as numbers, increasing, or None where the dictionary names none."""
        if self.cut_points is None:
            return None
        if isinstance(self.cut_points, Every):
            start, stop = self.number(self.cut_points.start), self.number(self.cut_points.stop)
            count = int(np.floor((stop - start) / self.cut_points.step + ON_STEP)) + 1
            return tuple(start + k * self.cut_points.step for k in range(count))
        return tuple(self.number(point) for point in self.cut_points)

    def is_cut(self, value: float) -> bool:
        """Whether the value is a registered place to cut: a cut point, an end, or any whole value where none are named."""
        if value in (self.low, self.high) or (self.unit_step and value == self.high + self.unit_step):
            return True
        if self.cuts is not None:
            return any(abs(value - cut) <= ON_STEP * max(1.0, abs(cut)) for cut in self.cuts)
        if self.unit_step is None:
            return False
        whole = (value - self.low) / self.unit_step
        return abs(whole - round(whole)) <= ON_STEP


def level_text(level: Any) -> str:
    """A level as text; 1, 1.0 and "1" are the same level, as files write them in all three ways."""
    if isinstance(level, (bool, np.bool_)):
        return "true" if level else "false"
    if isinstance(level, (float, np.floating)) and float(level).is_integer():
        return str(int(level))
    return one_form(str(level)).strip()


def one_form(text: str) -> str:
    """Text in one form of Unicode (NFC): "é" may be one character or two, and looks the same."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def value_text(variable: Variable, value: float) -> str:
    """A value of a variable as people write it."""
    if variable.type == "date":
        return (EPOCH + datetime.timedelta(days=round(value))).isoformat()
    return f"{value:.10g}"


def read_date(value: Any, name: str) -> datetime.date:
    """A date of a dictionary or a question."""
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    found = iso_date(value)
    if found is None:
        raise QuestionError(f'variable "{name}" is a date: a date as YYYY-MM-DD is wanted here')
    return found


def iso_date(value: Any) -> datetime.date | None:
    """The day of a text as YYYY-MM-DD and nothing else; None for any other text."""
    found = re.fullmatch(ISO_DAY, str(value))
    try:
        return datetime.date(*(int(part) for part in found.groups())) if found else None
    except ValueError:
        return None
