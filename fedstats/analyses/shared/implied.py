"""What mean and SD of a number give away: tables of people, and whether these may be known.

How this works. The local halves count people per value of every number whose values may turn out to be
few (`counts_of`), and for others those at the ends of its range. From the totals follows per group:

- whether its values are few (`disclosure.few_valued`);
- its SD, and every test that rests on it, may be told if they are not, or if the whole table could be;
- its mean alone may be told if those at the lower end and those at the upper one could be, as could the
  others: a sum of 3 events is at most three people with one. Of a yes or no, and of numbers that the
  dictionary gives few values, the mean already wants the whole table.

What is kept back is kept back as a whole too: the total over all groups may be known from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.rows import Rows
from ...data.variable import Variable
from ...disclosure import Rules, may_imply
from ...disclosure.few_valued import FEW_STEPS, few_in, few_valued
from ...disclosure.release import counted, few_levels
from ...sums.statistic import INDICATORS, Block, Sums
from .common import count_cells, kept_back, quoted

ENDS = 3                # at the lower end of the range, between, at the upper end


# -- the local half -----------------------------------------------------------------------------------------


def count_blocks(variable: Variable, k: int, g: int) -> dict[str, Block]:
    """What is counted of column k beside its sums, in g groups."""
    if variable.steps is None:
        return {}
    if counted(variable):
        return {f"levels{k}": Block((g, variable.steps + 1), counts=True)}
    return {f"ends{k}": Block((g, ENDS), counts=True)}


def counts_of(cases: Rows, name: str, k: int, group: np.ndarray, g: int) -> dict[str, np.ndarray]:
    """The same of the patients of one registry. group : of each patient."""
    variable = cases.dictionary[name]
    if variable.steps is None:
        return {}
    x = cases.steps(name)
    if counted(variable):
        return {f"levels{k}": count_cells((g, variable.steps + 1), (group, x))}
    place = np.where(x <= 0, 0, np.where(x >= variable.steps, ENDS - 1, 1))
    return {f"ends{k}": count_cells((g, ENDS), (group, place))}


# -- what may be told ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Silent:
    """Of which groups the mean, and of which SD and tests, are kept back; boolean, shape (groups,)."""

    means: np.ndarray
    spreads: np.ndarray

    def notes(self, column: str, names: Sequence[str], shown: np.ndarray, rules: Rules) -> list[str]:
        """What is not told, and why. names : of the groups; empty for everybody. shown : groups whose size is told."""
        found = []
        whose = f" in {quoted(names, self.means & shown)}" if len(names) else ""
        if (self.means & shown).any():
            found.append(f'mean of "{column}" not released{whose}: it would give away a level with fewer than {rules.min_cell} people '
                         f"(rule min_cell {rules.min_cell}); join small groups")
        alone = self.spreads & ~self.means & shown
        if alone.any():
            whose = f" in {quoted(names, alone)}" if len(names) else ""
            found.append(f'SD of "{column}"{whose}, and what rests on it, not released: where a number has few values its mean and SD are '
                         f"a table of people, and a value has fewer than {rules.min_cell} there or in what is kept back together (rule "
                         f"few values, min_cell {rules.min_cell}); ask for a larger group, or for the table of joined levels")
        return found


def silent(totals: Sums, k: int, variable: Variable, hidden: np.ndarray, rules: Rules) -> Silent:
    """What of column k, of totals with `x{k}`, `xx{k}` and `count_blocks`, is kept back. hidden : groups of which nothing is told."""
    if rules.min_cell <= 1 or variable.steps is None:
        return Silent(hidden, hidden)
    table = _Table.of(totals, k, variable, rules)
    means = kept_back(hidden, totals["n"], table.may_average)
    return Silent(means, kept_back(means, totals["n"], table.may_spread))


@dataclass(frozen=True)
class _Table:
    """The totals of one column: sums per group, and the people counted beside them."""

    variable: Variable
    rules: Rules
    sums: np.ndarray                # n, x, xx; shape (3, groups)
    people: np.ndarray              # shape (groups, values) or (groups, ENDS)
    contributors: np.ndarray

    @staticmethod
    def of(totals: Sums, k: int, variable: Variable, rules: Rules) -> _Table:
        name = f"levels{k}" if f"levels{k}" in totals else f"ends{k}"
        sums = np.array([totals["n"], totals[f"x{k}"], totals[f"xx{k}"]], dtype=object)
        return _Table(variable, rules, sums, totals[name], totals[name + INDICATORS])

    def few(self, of: np.ndarray) -> bool:
        """Whether values are few in some groups taken together."""
        n, x, xx = (sum(int(one) for one in row[of]) for row in self.sums)
        return few_valued(n, x, xx, int(self.variable.steps or 0))

    def may_average(self, of: np.ndarray) -> bool:
        if few_levels(self.variable):
            return self._safe(of)
        if not self.few(of):
            return True
        return ends_safe(*self._together(of), self.rules)

    def may_spread(self, of: np.ndarray) -> bool:
        if few_levels(self.variable) or (counted(self.variable) and self.few(of)):
            return self._safe(of)
        return not self.few(of)

    def _safe(self, of: np.ndarray) -> bool:
        return may_imply(*self._together(of), self.rules)

    def _together(self, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.people[of].sum(axis=0), self.contributors[of].max(axis=0)


def is_few(totals: Sums, k: int, variable: Variable) -> bool:
    """Whether the values of column k, of totals of one group without a dimension for it, are few."""
    if variable.steps is None:
        return False
    return few_valued(int(totals["n"]), int(totals[f"x{k}"]), int(totals[f"xx{k}"]), variable.steps)


def ends_safe(people: np.ndarray, contributors: np.ndarray, rules: Rules) -> bool:
    """Whether those at either end of a number's values, and all others, may be known. people : per value, in order, or at the ends and
    between."""
    for end in (0, -1):
        rest, others = people.sum() - people[end], np.delete(contributors, end).max()
        if not may_imply([people[end], rest], [contributors[end], others], rules):
            return False
    return True


def few_classes(people: np.ndarray, atoms: bool) -> bool:
    """Whether ranks by classes of values are a table of these classes. people : per class, in order. atoms : each is a single value;
    else only those classes count in which somebody is."""
    return few_in(people) if atoms else int(np.count_nonzero(people)) < FEW_STEPS


def may_rank(people: np.ndarray, contributors: np.ndarray, atoms: bool, rules: Rules) -> bool:
    """Whether ranks by group may be told: of groups that fall into few classes the whole table might be.

    people, contributors : shape (groups, classes).
    """
    if rules.min_cell <= 1:
        return True
    return all(not few_classes(row, atoms) or may_imply(row, there, rules) for row, there in zip(people, contributors) if row.any())
