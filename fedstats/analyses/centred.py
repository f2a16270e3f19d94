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
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import steady
from ..analysis import Setting
from ..dictionary import Dictionary
from ..errors import QuestionError
from ..rows import Rows
from ..statistic import Ask, Block, Sums, statistic
from ..variable import Variable
from ._common import group_of, groups
from .moments import Moments, accurate_sums, exact_moments, unit_of

GOOD = 1e-9                     # relative error of squared deviations that one pass may have
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
    keys = {"needs": list(columns if needs is None else needs), "by": by, "missing": missing}
    for _ in range(MOST_PASSES - 1):
        if not open_to:
            return found
        around = {(k, g): one.next(largest(dictionary[columns[k]])) for (k, g), one in open_to.items()}
        asked = sorted({k for k, _ in open_to})
        (sums,) = yield [deviations(columns=[columns[k] for k in asked], **keys, **_table(around, asked, len(size)))]
        open_to = _read(sums, around, asked, size, setting.registries, found)
    if open_to:
        raise too_wide(columns[min(open_to)[0]])
    return found


def _table(around: Around, asked: Sequence[int], g: int) -> dict[str, list[list[float]]]:
    return {name: [[around.get((k, one), (0.0, 0.0))[part] for one in range(g)] for k in asked]
            for part, name in enumerate(("origins", "units"))}


def _read(sums: Mapping[str, np.ndarray], around: Around, asked: Sequence[int], size: Sequence[int], registries: int,
          found: dict[Place, Moments]) -> dict[Place, Pass]:
    """Enters what a further pass has found; returns what is not settled yet."""
    left = {}
    for (k, g), (origin, unit) in around.items():
        j = asked.index(k)
        if not int(sums[f"differ{j}"][g]):          # all have the same value, and it is the origin
            found[k, g] = Moments(size[g], origin, 0.0)
            continue
        here = Pass(size[g], origin, unit, sums[f"x{j}"][g].item(), sums[f"xx{j}"][g].item(), registries)
        found[k, g] = here.moments
        if not here.good:
            left[k, g] = here
    return left


def largest(variable: Variable) -> float:
    return max(abs(variable.low), abs(variable.high))


def too_wide(name: str) -> QuestionError:
    return QuestionError(f'the values of "{name}" lie so close together that doubles hardly tell them apart: nothing that rests on their '
                         "squares can be released with right digits",
                         hint=f'give "{name}" a "step" (then sums are exact) or a narrower range in the dictionary')
