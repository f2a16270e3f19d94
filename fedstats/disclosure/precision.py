"""How many digits of a released number are told: the last one shown is where one person's part begins.

How this works. The fields of a result say what they hold (`PValue[float]`, `Statistic[float | None]`); a float
that says nothing is a number of four significant digits. `rounded` reads these declarations and no names.
Numbers that are rounded together, an estimate with its standard error and interval, are rounded by whoever
knows the people behind them, with `mean_step`, `estimate_step` and `error_digits`, and are declared `Told`.

Steps are 1, 2 or 5 times a power of ten: never finer than what one person moves, and at most 2.5 times as coarse.
"""

from __future__ import annotations

import enum
import math
import typing
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

SMALLEST_P = 0.001                              # p values below are told as "below"
BELOW_P = math.nextafter(SMALLEST_P, 0.0)       # what stands for them: the last number that is below
P_DIGITS, STATISTIC_DIGITS, DIGITS, CURVE_DECIMALS = 2, 3, 4, 4
ERROR_DIGITS, MANY_ERROR_DIGITS, MANY = 2, 3, 1000      # of a standard error; from so many patients on
PER_ERROR = 100             # an estimate is told to this part of its standard error
COARSE = 5                  # a step above one fifth of the standard error widens the interval
STEPS = (1.0, 2.0, 5.0, 10.0)
SAME = 1 - 1e-9             # a step that is 1, 2 or 5 times a power of ten stays itself


class Precision(enum.Enum):
    """What a field of a result holds, as far as its digits go."""

    NUMBER = "number"           # four significant digits
    PUBLIC = "public"           # settings, edges, terms: as they are, with all that is inside
    TOLD = "told"               # rounded already, or computed from what is told
    P_VALUE = "p value"         # two digits, and "below .001"
    STATISTIC = "statistic"     # three digits
    ERROR = "standard error"    # two digits, three from 1 000 patients
    CURVE = "curve"             # four decimals


Public = Annotated[T, Precision.PUBLIC]
Told = Annotated[T, Precision.TOLD]
PValue = Annotated[T, Precision.P_VALUE]
Statistic = Annotated[T, Precision.STATISTIC]
StandardError = Annotated[T, Precision.ERROR]
OnCurve = Annotated[T, Precision.CURVE]


def rounded(told: S, n: int) -> S:
    """A result, or a part of it, with every float rounded as its field is declared. n : patients behind it."""
    kinds = _kinds(type(told))
    changed = {}
    for name, kind in kinds.items():
        if kind not in (Precision.PUBLIC, Precision.TOLD):
            before = getattr(told, name)
            after = _value(before, kind, n)
            if after is not before:
                changed[name] = after
    return msgspec.structs.replace(told, **changed) if changed else told


def _value(value: Any, kind: Precision, n: int) -> Any:
    if isinstance(value, msgspec.Struct):
        return rounded(value, n)
    if isinstance(value, (tuple, list)):
        return type(value)([_value(one, kind, n) for one in value])
    if isinstance(value, dict):
        return {key: _value(one, kind, n) for key, one in value.items()}
    if isinstance(value, float) and math.isfinite(value):
        return _number(value, kind, n)
    return value


def _number(value: float, kind: Precision, n: int) -> float:
    if kind is Precision.P_VALUE:
        return p_told(value)
    if kind is Precision.CURVE:
        return round(value, CURVE_DECIMALS)
    digits = {Precision.STATISTIC: STATISTIC_DIGITS, Precision.ERROR: error_digits(n)}.get(kind, DIGITS)
    return to_digits(value, digits)


@cache
def _kinds(struct: type[msgspec.Struct]) -> dict[str, Precision]:
    """What each field of a type is declared to hold."""
    hints = typing.get_type_hints(struct, include_extras=True)
    return {name: _declared(hints[name]) or Precision.NUMBER for name in struct.__struct_fields__}


def _declared(hint: Any) -> Precision | None:
    found = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Precision)]
    found += [one for one in map(_declared, typing.get_args(hint)) if one is not None]
    return found[0] if found else None


# -- digits and steps ---------------------------------------------------------------------------------------


def to_digits(value: float, digits: int) -> float:
    """A number of so many significant digits."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else value


def p_told(p: float) -> float:
    """A p value of two digits; of one below .001 only that it is."""
    if math.isnan(p):
        return p
    return BELOW_P if p < SMALLEST_P else to_digits(p, P_DIGITS)


def error_digits(n: int) -> int:
    """Digits of a standard error from n patients."""
    return MANY_ERROR_DIGITS if n >= MANY else ERROR_DIGITS


def step_above(least: float) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten that is not finer; 0 for 0."""
    if not 0 < least < math.inf:
        return 0.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(one * power for one in STEPS if one * power >= least * SAME)


def to_step(value: float, step: float) -> float:
    """The nearest multiple of a step; with a step of 0 the value itself."""
    if not step > 0 or not math.isfinite(value):
        return value
    whole = round(value / step) * step
    return round(whole, max(0, -math.floor(math.log10(step))) + 1) if step < 1 else whole


def mean_step(sd: float, n: int) -> float:
    """The step of a mean of n people: what one of them moves."""
    return step_above(sd / n) if n else 0.0


def sd_step(sd: float, n: int) -> float:
    """The step of their SD."""
    return step_above(sd / (2 * n)) if n else 0.0


def estimate_step(se: float) -> float:
    """The step of a coefficient."""
    return step_above(se / PER_ERROR)


def widening(step: float, se: float) -> float:
    """What is added on both sides of an interval around a number that is told in steps this coarse."""
    return step / 2 if step > se / COARSE else 0.0
