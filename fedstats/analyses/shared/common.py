"""What several analyses share: confidence levels, the grouping of rows by a variable, and small formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from ...data.dictionary import MOST_GROUPS, Bins, Dictionary
from ...data.rows import Rows
from ...data.variable import ON_STEP, Variable
from ...disclosure import Rules, may_count, may_imply
from ...errors import QuestionError

CONFIDENCE = 0.95
MISSING = "missing"         # the label of the extra level for unknown values, on request


def at_most(bound: float) -> float:
    """A bound as it is printed: two significant digits, rounded up, so that it stays a bound."""
    if not 0 < bound < math.inf:
        return bound
    unit = 10.0 ** (math.floor(math.log10(bound)) - 1)
    return float(f"{math.ceil(bound / unit * (1 - 1e-12)) * unit:.2g}")


def check_confidence(level: float) -> None:
    if not 0.5 <= level < 1:
        raise QuestionError(f"confidence must lie between 0.5 and 1: {level:g} was given", hint="0.95 is usual")


def z_of(confidence: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 for 0.95."""
    return float(special.ndtri(0.5 + confidence / 2))


def t_of(confidence: float, df: float) -> float:
    """The Student quantile of a two-sided interval; not a number without degrees of freedom."""
    return math.nan if not df > 0 else float(special.stdtrit(df, 0.5 + confidence / 2))


def p_normal(z: float) -> float:
    """Two-sided p value of a standard normal statistic."""
    return float(special.erfc(abs(z) / math.sqrt(2)))


def p_student(t: float, df: float) -> float:
    """Two-sided p value of a Student statistic."""
    if math.isnan(t) or not df > 0:
        return math.nan
    return float(special.betainc(df / 2, 0.5, df / (df + t * t))) if math.isfinite(t) else 0.0


def p_chi2(x: float, df: float) -> float:
    return _upper(x, lambda: special.chdtrc(df, x))


def p_f(f: float, df1: float, df2: float) -> float:
    return _upper(f, lambda: special.fdtrc(df1, df2, f))


def _upper(x: float, tail: Callable[[], float]) -> float:
    """The upper tail of a statistic that is not negative; not a number where the statistic is not."""
    if math.isnan(x):
        return math.nan
    return 1.0 if x <= 0 else 0.0 if math.isinf(x) else float(tail())


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


def check_ordered(dictionary: Dictionary, name: str) -> None:
    """Whether neighbouring bins of a variable may be merged, as its values have an order. Raises QuestionError."""
    if dictionary[name].type == "category":
        raise QuestionError(f'"{name}" is a category: its levels have no order', hint="use crosstab for levels")
    dictionary.bins(name)


def ends_of_bins(dictionary: Dictionary, name: str) -> tuple[tuple[float, float], ...]:
    """The smallest and the largest value that can lie in each bin; equal where a bin holds a single value.

    For a variable with a step [20, 25) ends at the last whole step below 25; without one it ends at 25.
    """
    variable, bins = dictionary[name], dictionary.bins(name)
    if bins.atoms:
        return tuple((value, value) for value in bins.values)
    assert bins.edges is not None
    step, steps = variable.unit_step, variable.steps
    if step is None or steps is None:
        return tuple(zip(bins.edges, bins.edges[1:]))
    first = [math.ceil((edge - variable.low) / step - ON_STEP) for edge in bins.edges[:-1]]
    last = [after - 1 for after in first[1:]] + [steps]
    return tuple((variable.low + a * step, variable.low + max(a, b) * step) for a, b in zip(first, last))


def range_label(bins: Bins, start: int, stop: int) -> str:
    """The label of bins start..stop-1 merged into one: "20 to 24", "[20, 30)"."""
    first, last = bins.labels[start], bins.labels[stop - 1]
    if stop == start + 1:
        return first
    return f"{first} to {last}" if bins.atoms else f"{first.split(', ')[0]}, {last.split(', ')[1]}"


def withheld(counts: np.ndarray, contributors: np.ndarray, hidden: np.ndarray, rules: Rules, *, shown: bool = False,
             nobody: np.ndarray | None = None) -> np.ndarray:
    """Groups about whose values nothing may be said: those hidden, those whose implied row of cells is not safe, and then the
    smallest others, until what is withheld is safe as a whole. (The total over all groups may be known from elsewhere.)

    counts, contributors : the implied table, shape (groups, cells). hidden : boolean, shape (groups,). shown : the cells are not
    only implied but shown, so that zeros count as small where zeros may not be shown. nobody : groups that nobody in the whole
    data-cut is in: nothing is said of anybody there, and nothing hidden by them.
    """
    nobody = np.zeros(len(counts), dtype=bool) if nobody is None else nobody & (counts.sum(axis=1) == 0)

    def may_say(row: np.ndarray, there: np.ndarray) -> bool:
        if shown:
            return all(may_count(int(count), rules, int(registries)) for count, registries in zip(row, there))
        return may_imply(row, there, rules)

    return kept_back(hidden, counts.sum(axis=1), lambda of: may_say(counts[of].sum(axis=0), contributors[of].max(axis=0)), nobody)


def kept_back(hidden: np.ndarray, sizes: np.ndarray, may_say: Callable[[np.ndarray], bool], nobody: np.ndarray | None = None
              ) -> np.ndarray:
    """Groups about which something is not said: those hidden, those of whom it may not be said, and then the smallest others, until it
    might be said of all these together.

    hidden : boolean, shape (groups,). sizes : people. may_say : whether it may be said of some groups (boolean) taken as one.
    nobody : groups that nobody in the whole data-cut is in, which neither are kept back nor hide anything.
    """
    nobody = np.zeros(len(hidden), dtype=bool) if nobody is None else nobody
    each = np.eye(len(hidden), dtype=bool)
    back = (hidden | np.array([not may_say(one) for one in each], dtype=bool)) & ~nobody
    while back.any() and not (back | nobody).all() and not may_say(back):
        back[np.argmin(np.where(back | nobody, np.iinfo(np.int64).max, sizes))] = True
    return back


def smaller_levels(rules: Rules) -> str:
    """What to do about cells that are hidden."""
    return "join small levels in the dictionary" + ("" if rules.show_zeros else ", or agree to show empty cells (rule show_zeros)")


def quoted(names: Sequence[str], marked: Sequence[bool] | np.ndarray) -> str:
    """The marked ones of some names, as notes write them: group "a", groups "a", "b"."""
    found = [f'"{name}"' for name, one in zip(names, marked) if one]
    return ("group " if len(found) == 1 else "groups ") + ", ".join(found)
