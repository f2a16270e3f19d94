"""Means and squared deviations that are good to 1e-9 however wide a range is: further passes about the mean, where one is not enough.

How this works. Sums of squares above the lower end of a range lose the digits of a spread that is far smaller than the distance of the
values from that end. How many are lost follows from the totals themselves (`Pass.error`). Where it is too many, a further round sums
deviations from the mean found so far. Nobody deviates by more than the root of all squared deviations, and of these a bound is known:
so the unit of the further round is smaller, and nothing needs to be clipped. Each pass gains some seven digits; columns with a step are
exact in the first. All of it is steady arithmetic: every registry asks the same.

Chan, Golub & LeVeque (1983), Am Stat 37:242-247 (two passes).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...data.variable import Variable
from ...errors import QuestionError
from ...query.analysis import Setting
from ...sums import steady
from ...sums.statistic import Ask, Block, Sums, statistic
from .common import group_of, groups
from .moments import Moments, accurate_sums, exact_moments, unit_of

GOOD = 1e-9                     # relative error of squared deviations that one pass may have
LEAST_SD = 1e-3                 # of its range: models scale a column with a smaller SD by what is used of the range
ROUNDING = 2.0**-53             # of a double, relative; and of a sum under the seal, in its unit, per registry
MOST_PASSES = 5                 # a column that needs more has values closer together than doubles tell apart

Place = tuple[int, int]         # column, group
Around = dict[Place, tuple[float, float]]       # where a pass starts from, and its unit
Asks = Generator[list[Ask], list[Sums], dict[Place, Moments]]


# -- the local half ------------------------------------------------------------------------------------------------------------


def _layout(dictionary: Dictionary, *, columns: Sequence[str], origins: Sequence[Sequence[float]], **_: object) -> dict[str, Block]:
    blocks: dict[str, Block] = {}
    for k in range(len(columns)):
        shape = (len(origins[k]),)
        blocks |= {f"x{k}": Block(shape), f"xx{k}": Block(shape), f"differ{k}": Block(shape, integer=True)}
    return blocks


@statistic("deviations/1", layout=_layout)
def deviations(rows: Rows, columns: Sequence[str], needs: Sequence[str], origins: Sequence[Sequence[float]],
               units: Sequence[Sequence[float]], by: str | None = None, missing: bool = False) -> dict:
    """Per column and group: sum of the deviations from an origin, in a unit, sum of their squares, people who deviate at all.

    needs : columns that must be known. origins, units : per column and group, in the unit of the variable; a unit of 0: not asked.
    """
    cases = rows.complete([*needs, *([by] if by and not missing else [])])
    group = group_of(cases, by, missing) if by else np.zeros(cases.n, dtype=np.int64)
    g, sums = len(groups(rows.dictionary, by, missing)) if by else 1, dict[str, np.ndarray]()
    for k, name in enumerate(columns):
        unit = np.asarray(units[k], dtype=float)[group]
        far = np.where(unit > 0, cases.values(name) - np.asarray(origins[k], dtype=float)[group], 0.0)
        x = far / np.where(unit > 0, unit, 1.0)
        sums |= {f"x{k}": accurate_sums(group, x, g), f"xx{k}": accurate_sums(group, x * x, g),
                 f"differ{k}": np.bincount(group[far != 0], minlength=g)}
    return sums


# -- what a pass tells -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pass:
    """Sums of (value - origin) / unit and of its square over n patients of several registries."""

    n: int
    origin: float
    unit: float
    x: float
    xx: float
    registries: int

    @property
    def squares(self) -> float:
        """Squared deviations from the mean, in squared units."""
        return max(self.xx - self.x * self.x / self.n, 0.0)

    @property
    def error(self) -> float:
        """The most by which `squares` may be off: rounding of squares, of their sum, of x * x / n, and of each registry's share under
        the seal (|x / n| <= 1); then of the single deviations, by Cauchy and Schwarz."""
        return ROUNDING * ((10.0 * self.xx + 3.0 * self.registries) + 6.0 * math.sqrt(self.squares * self.xx))

    @property
    def good(self) -> bool:
        return self.error <= GOOD * self.squares

    @property
    def moments(self) -> Moments:
        far = self.unit * (self.x / self.n)
        mean = self.origin + far
        # what the addition rounds away: Moller's two-sum
        back = mean - self.origin
        rest = (self.origin - (mean - back)) + (far - back)
        return Moments(self.n, mean, self.unit * self.unit * self.squares, rest)

    def next(self, largest: float) -> tuple[float, float]:
        """Origin and unit of a further pass: nobody is further from there. largest : absolute value that the dictionary allows."""
        mean = self.origin + self.unit * (self.x / self.n)
        missed = 4.0 * ROUNDING * largest + 8.0 * ROUNDING * self.unit * (1.0 + self.registries / self.n)
        most = self.unit * math.sqrt(self.squares + self.error) + missed * math.sqrt(float(self.n))
        return mean, steady.power_of_two(2.0 * most)


def settled_moments(totals: Sums, columns: Sequence[str], setting: Setting, *, needs: Sequence[str] | None = None, by: str | None = None,
                    missing: bool = False, wanted: np.ndarray | None = None) -> Asks:
    """Moments of every column and group from the totals of `moments`, with further rounds where these have lost digits.

    needs : columns that were complete, if others than these. wanted : which may be released, boolean, shape (columns, groups).
    Returns moments by (column, group). Raises QuestionError with the remedy.
    """
    dictionary, size = setting.dictionary, totals["n"].tolist()
    found: dict[Place, Moments] = {}
    open_to: dict[Place, Pass] = {}
    for place in [(k, g) for k in range(len(columns)) for g in range(len(size))]:
        k, g = place
        variable, x, xx = dictionary[columns[k]], totals[f"x{k}"][g].item(), totals[f"xx{k}"][g].item()
        if variable.unit_step is not None or not size[g]:
            found[place] = exact_moments(size[g], x, xx, variable)
            continue
        first = Pass(size[g], variable.low, unit_of(variable), x, xx, setting.registries)
        found[place] = first.moments
        if not first.good and (wanted is None or wanted[k, g]):
            open_to[place] = first
    settled = yield from _settle(open_to, columns, size, setting,
                                 {"needs": list(columns if needs is None else needs), "by": by, "missing": missing})
    return found | {place: one.moments for place, one in settled.items()}


def _settle(open_to: dict[Place, Pass], columns: Sequence[str], size: Sequence[int], setting: Setting, keys: dict[str, Any]
            ) -> Generator[list[Ask], list[Sums], dict[Place, Pass]]:
    """Further passes until all are good. Returns the last one of each; where all have the same value it starts from there."""
    found: dict[Place, Pass] = {}
    for _ in range(MOST_PASSES - 1):
        if not open_to:
            return found
        around = {(k, g): one.next(largest(setting.dictionary[columns[k]])) for (k, g), one in open_to.items()}
        asked = sorted({k for k, _ in open_to})
        (sums,) = yield [deviations(columns=[columns[k] for k in asked], **keys, **_table(around, asked, len(size)))]
        open_to = {}
        for (k, g), (origin, unit) in around.items():
            x, xx, differ = (sums[f"{name}{asked.index(k)}"][g].item() for name in ("x", "xx", "differ"))
            here = Pass(size[g], origin, unit, x, xx, _shares(setting)) if differ else Pass(size[g], origin, unit, 0.0, 0.0, 0)
            found[k, g] = here
            if not here.good:
                open_to[k, g] = here
    if open_to:
        raise too_wide(columns[min(open_to)[0]])
    return found


def _table(around: Around, asked: Sequence[int], g: int) -> dict[str, list[list[float]]]:
    return {name: [[around.get((k, one), (0.0, 0.0))[part] for one in range(g)] for k in asked]
            for part, name in enumerate(("origins", "units"))}


# -- for models: how far values really reach --------------------------------------------------------------------------------------


def spread_of(columns: Sequence[str], needs: Sequence[str], dictionary: Dictionary) -> Ask:
    """The first pass over columns without a step, as an ask of its own."""
    starts = [_start(dictionary[name], dictionary) for name in columns]
    return deviations(columns=list(columns), needs=list(needs), origins=[[one] for one, _ in starts],
                      units=[[unit] for _, unit in starts])


def _start(variable: Variable, dictionary: Dictionary) -> tuple[float, float]:
    """Origin and unit of the first pass: the lower end of the range. With several rows per patient
    it starts below, where no value is, so that all rows deviate and are counted by that."""
    width = variable.high - variable.low
    return (variable.low - width, 2 * width) if dictionary.most_rows > 1 else (variable.low, width)


def narrower(totals: Sums, columns: Sequence[str], needs: Sequence[str], setting: Setting, least: float = LEAST_SD
             ) -> Generator[list[Ask], list[Sums], dict[str, list[float]]]:
    """Ranges that all values are proved to lie in, of the columns that lose digits when they are scaled by the range of the dictionary.

    totals : of `spread_of`. least : SD, as a share of its range, from which on a column is left as it is. Raises QuestionError with
    the remedy.
    """
    entries = [setting.dictionary[name] for name in columns]
    n = setting.size.n if setting.dictionary.most_rows == 1 else int(totals["differ0"][0])
    if not n:
        return {}
    first = {(k, 0): Pass(n, *_start(one, setting.dictionary), totals[f"x{k}"][0].item(), totals[f"xx{k}"][0].item(), _shares(setting))
             for k, one in enumerate(entries)}
    narrow = {place: one for place, one in first.items() if not one.good or one.squares < n * least * least}
    last = yield from _settle(narrow, columns, [n], setting,
                              {"needs": list(needs), "by": None, "missing": False})
    found = {}
    for (k, _), one in last.items():
        middle, reach = one.next(largest(entries[k]))
        if one.squares:
            found[columns[k]] = [max(middle - reach, entries[k].low), min(middle + reach, entries[k].high)]
    return found


def _shares(setting: Setting) -> int:
    """Registries, whose sums are rounded one by one; a sum over rows has room for all rows that its patients may have."""
    return setting.registries * setting.dictionary.most_rows


def largest(variable: Variable) -> float:
    return max(abs(variable.low), abs(variable.high))


def too_wide(name: str) -> QuestionError:
    return QuestionError(f'the values of "{name}" lie so close together that doubles hardly tell them apart: nothing that rests on their '
                         "squares can be released with right digits",
                         hint=f'give "{name}" a "step" (then sums are exact) or a narrower range in the dictionary')
