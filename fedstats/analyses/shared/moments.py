"""Sums, squares and products of columns by group: the local half that means, SDs, tests of means and correlations share.

Columns with a step are summed as whole steps above their lower end, exactly; others as (x - lo) / (hi - lo), so that every
entry is bounded. `Moments` turns totals back into means and SDs in the units of the variable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...data.variable import Variable
from ...sums.statistic import Block, statistic
from .common import group_of, groups, integer_bound
from .implied import count_blocks, counts_of


def _layout(dictionary: Dictionary, *, columns: Sequence[str], by: str | None = None, missing: bool = False) -> dict[str, Block]:
    g = len(groups(dictionary, by, missing)) if by else 1
    blocks = {"n": Block((g,), counts=True)}
    for k, name in enumerate(columns):
        variable = dictionary.numeric(name)
        if variable.unit_step is not None:
            blocks[f"x{k}"] = Block((g,), integer_bound(variable), integer=True)
            blocks[f"xx{k}"] = Block((g,), integer_bound(variable, 2), integer=True)
        else:
            blocks |= {f"x{k}": Block((g,)), f"xx{k}": Block((g,))}
        blocks |= count_blocks(variable, k, g)
    return blocks


@statistic("moments/2", layout=_layout)
def moments(rows: Rows, columns: Sequence[str], by: str | None = None, missing: bool = False) -> dict:
    """Per group: people, sum and sum of squares of each column, over complete cases.

    Columns with a step add people per value, or at the ends of a wide range, which the release rules check before mean and SD are shown.
    """
    cases = rows.complete([*columns, *([by] if by and not missing else [])])
    group = group_of(cases, by, missing) if by else np.zeros(cases.n, dtype=np.int64)
    g = len(groups(rows.dictionary, by, missing)) if by else 1
    sums: dict = {"n": np.bincount(group, minlength=g)}
    for k, name in enumerate(columns):
        variable = rows.dictionary.numeric(name)
        if variable.unit_step is not None:
            x = cases.steps(name)
            sums[f"x{k}"], sums[f"xx{k}"] = _integer_sums(group, x, g), _integer_sums(group, x * x, g)
            sums |= counts_of(cases, name, k, group, g)
        else:
            x = scaled(cases, name)
            sums[f"x{k}"], sums[f"xx{k}"] = accurate_sums(group, x, g), accurate_sums(group, x * x, g)
    return sums


def accurate_sums(group: np.ndarray, x: np.ndarray, g: int) -> np.ndarray:
    """Sums per group, rounded once: what is known of their error must not depend on how many rows there are."""
    if g == 1:
        return np.array([math.fsum(x.tolist())])
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], np.arange(1, g))
    return np.array([math.fsum(some.tolist()) for some in np.split(x[order], ends)])


def _integer_sums(group: np.ndarray, x: np.ndarray, g: int) -> np.ndarray:
    """Sums per group without passing through doubles."""
    sums = np.zeros(g, dtype=np.int64)
    np.add.at(sums, group, x)
    return sums


def scaled(rows: Rows, name: str) -> np.ndarray:
    """A number without a step as (x - lo) / (hi - lo), within 0..1."""
    variable = rows.dictionary[name]
    return (rows.values(name) - variable.low) / (variable.high - variable.low)


def unit_of(variable: Variable) -> float:
    """What one unit of the summed column is worth in the variable's own unit."""
    return variable.unit_step if variable.unit_step is not None else variable.high - variable.low


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of one column in one group, in the variable's own unit.

    rest : what was rounded off the mean, where that is known.
    """

    n: int
    mean: float
    squares: float
    rest: float = 0.0

    @property
    def variance(self) -> float | None:
        """With n - 1; None for fewer than two patients."""
        return self.squares / (self.n - 1) if self.n > 1 else None

    @property
    def sd(self) -> float | None:
        return math.sqrt(self.variance) if self.variance is not None else None

    @property
    def se(self) -> float | None:
        return self.sd / math.sqrt(self.n) if self.sd is not None else None

    def above(self, other: Moments) -> float:
        """By how much this mean is larger than another, with the digits that either has lost."""
        return (self.mean - other.mean) + (self.rest - other.rest)


def exact_moments(n: int, x: float, xx: float, variable: Variable) -> Moments:
    """Mean and squared deviations from the sums of whole steps (or of none): exact up to the last rounding."""
    if n == 0:
        return Moments(0, math.nan, 0.0)
    unit = unit_of(variable)
    # integers: n * xx - x * x is exact, so nothing cancels however far the mean lies from the lower end
    return Moments(n, variable.low + unit * (x / n), unit * unit * ((n * xx - x * x) / n))
