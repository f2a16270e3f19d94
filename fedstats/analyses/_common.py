"""What several analyses share: confidence levels, the grouping of rows by a variable, and small formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from ..dictionary import MOST_GROUPS, Bins, Dictionary, Variable
from ..errors import QuestionError
from ..rows import Rows

CONFIDENCE = 0.95
MISSING = "missing"         # the label of the extra level for unknown values, on request


def check_confidence(level: float) -> None:
    if not 0.5 <= level < 1:
        raise QuestionError(f"confidence must lie between 0.5 and 1: {level:g} was given", hint="0.95 is usual")


def z_of(confidence: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 for 0.95."""
    return float(special.ndtri(0.5 + confidence / 2))


def t_of(confidence: float, df: float) -> float:
    """The Student quantile of a two-sided interval."""
    return float(special.stdtrit(df, 0.5 + confidence / 2))


def p_normal(z: float) -> float:
    """Two-sided p value of a standard normal statistic."""
    return float(special.erfc(abs(z) / math.sqrt(2)))


def p_student(t: float, df: float) -> float:
    """Two-sided p value of a Student statistic."""
    return float(special.betainc(df / 2, 0.5, df / (df + t * t))) if math.isfinite(t) else 0.0


def p_chi2(x: float, df: float) -> float:
    return float(special.chdtrc(df, x)) if x > 0 else 1.0


def p_f(f: float, df1: float, df2: float) -> float:
    return float(special.fdtrc(df1, df2, f)) if f > 0 else 1.0


def groups(dictionary: Dictionary, name: str, missing: bool = False) -> tuple[str, ...]:
    """The labels of the groups of a variable, in the dictionary's order, with "missing" at the end on request."""
    return dictionary.bins(name, most=MOST_GROUPS).labels + ((MISSING,) if missing else ())


def group_of(rows: Rows, name: str, missing: bool = False) -> np.ndarray:
    """The group of each patient, int64, shape (n,); unknown is -1, or the last group on request."""
    found = rows.bins(name)
    return np.where(found < 0, len(rows.dictionary.bins(name)), found) if missing else found


def count_cells(shape: Sequence[int], places: Sequence[np.ndarray]) -> np.ndarray:
    """People per cell of a table. places : one array of positions per dimension, all known (>= 0)."""
    flat = np.zeros(len(places[0]), dtype=np.int64)
    for size, place in zip(shape, places):
        flat = flat * size + place
    return np.bincount(flat, minlength=int(np.prod(shape, dtype=int))).reshape(shape)


def integer_bound(variable: Variable, power: int = 1) -> float:
    """The most that one patient adds to a sum of steps (or of their squares)."""
    assert variable.steps is not None
    return float(max(variable.steps, 1) ** power)


def ordered_bins(dictionary: Dictionary, name: str) -> Bins:
    """The bins of a variable whose values have an order: numbers, integers, booleans, dates; a category by its list of levels."""
    return dictionary.bins(name)


def number_text(value: float | None, digits: int = 4) -> str:
    return "not released" if value is None else f"{value:.{digits}g}"
